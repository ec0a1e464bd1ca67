//! `license_held`, for policies and CHECK constraints.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use pgrx::prelude::*;

use super::require_preloaded;
use crate::core::ledger::acts::leases::MayUse;
use crate::core::ledger::identity::Name;
use crate::core::ledger::time::Timestamp;
use crate::pg::backend;
use crate::pg::text::TextArgument;
use crate::{checkout, memory, rules, settings};

/// Tells whether this session's identity, or a lease that is lent to this transaction, holds a seat of the product. It
/// is also true for exempt sessions and superusers, and if enforcement is off or warn. If a signed license limits how
/// many are exempt, an exempt session must have logged in to the product or checked it out. Raises 42704 for an unknown
/// product, 55000 if pg_seats is not preloaded.
#[pg_extern(sql = false)]
fn license_held(product: Option<TextArgument>) -> Option<bool> {
    require_preloaded();
    let product = product?;
    let product = product.as_str();
    // A text that is longer than a name is no product's.
    let name = Name::new(product).unwrap_or(Name::EMPTY);
    // A parallel worker answers for the session that it works for.
    let at = backend::leader_slot();
    let ask =
        |view| memory::read(|ledger| ledger.may_use(at, &name, view, settings::enforcement()));
    let answer = match ask(Some(memory::rules::viewpoint())) {
        MayUse::Outdated => {
            bring_up_to_date();
            ask(None)
        }
        answer => answer,
    };
    match answer {
        MayUse::Unlicensed => checkout::unlicensed(product),
        answer => Some(answer == MayUse::Yes),
    }
}

/// When this process last read rules for a policy in vain.
static READ_AT: AtomicI64 = AtomicI64::new(Timestamp::MIN);

/// How long the last rules then answer if they can't be read, or their changes go unnoticed, in microseconds: a policy
/// asks for every row.
const RULES_LAST: Timestamp = 1_000_000;

/// Reads the rules, unless that was in vain a moment ago. Nothing can be read during a parallel query.
fn bring_up_to_date() {
    let now = backend::now();
    if !backend::is_in_parallel_mode()
        && now.abs_diff(READ_AT.load(Relaxed)) > RULES_LAST.unsigned_abs()
    {
        rules::refresh();
        if !memory::rules::are_current(backend::database()) {
            READ_AT.store(now, Relaxed);
        }
    }
}
