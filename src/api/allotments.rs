//! `license_allot`, `license_give_back` and `license_accept_return`: seats of a signed license that other installations
//! have.
//!
//! A token, once signed, exists whatever becomes of the transaction. So each function first notes in the installation's
//! record what it will sign, which no ROLLBACK undoes.

use pgrx::JsonB;
use pgrx::prelude::*;

use super::arguments::{self, refuse};
use super::{require_preloaded, require_writable};
use crate::core::ledger::time::Timestamp;
use crate::core::tokens::allotment::Returned;
use crate::core::tokens::claims::LAST_SECOND;
use crate::core::tokens::keys::PublicKey;
use crate::core::tokens::unix;
use crate::denial::Denied;
use crate::pg::backend;
use crate::pg::table::write_as_part;
use crate::pg::text::{ServerText, TextArgument};
use crate::signed::acts::accept_return::{accept, unacceptable};
use crate::signed::acts::allot::{Request, allot};
use crate::signed::acts::give_back::give_back;
use crate::signed::own::own_key;
use crate::signed::refusal::answer;
use crate::{rules, settings};

/// Allots seats of a signed license to another installation, by the key that `license_installation()` returns there,
/// and returns the token that is to be installed there. This database has as many fewer until they are given back or
/// `valid_until` has come. Not undone by ROLLBACK. Raises 42704 for an unknown product, 22023 for a bad argument or if
/// fewer are left, 53400 if not as many are free, 55000 if the license is not made for this installation alone, 28000
/// if it can't be verified, 25006 if nothing can be written.
#[pg_extern(sql = false)]
fn license_allot(
    product: Option<TextArgument>,
    installation: Option<JsonB>,
    seats: Option<i32>,
    valid_until: Option<TimestampWithTimeZone>,
) -> ServerText {
    require_preloaded();
    let product = arguments::required("product", product);
    let installation = installation.and_then(|JsonB(key)| serde_json::from_value(key).ok());
    let Some(installation) = installation.filter(|key: &PublicKey| key.verifier().is_some()) else {
        refuse(
            "installation is no installation's key",
            "Give what license_installation() returns on the other server.",
        )
    };
    let Some(seats) = seats.filter(|&seats| seats > 0) else {
        refuse("seats is out of range", "Give a number from 1 on.")
    };
    let valid_until = valid_until.map(Timestamp::from);
    let is_to_come =
        |until: Timestamp| (unix(backend::now()) + 1..=LAST_SECOND).contains(&unix(until));
    if valid_until.is_some_and(|until| !is_to_come(until)) {
        refuse(
            "valid_until is out of range",
            "Give a moment to come, or null for seats that don't come back by themselves.",
        )
    }
    require_writable("license_allot()");
    let request = Request {
        product,
        seats,
        installation: installation.id(),
        valid_until,
        pair: own_key(),
    };
    if request.installation == request.pair.public().id() {
        refuse(
            "installation is this server itself",
            "Give what license_installation() returns on the other server.",
        )
    }
    load();
    answer(write_as_part(backend::lock_timeout(), |writer| {
        allot(writer, &request)
    }))
    .into()
}

/// Brings the rules of this database up to date.
fn load() {
    if let Err(error) = rules::in_force(settings::load_timeout()) {
        Denied::Call.not_loaded(backend::database(), error).raise()
    }
}

/// Gives back the seats of a product that another installation has allotted to this one: ends the sessions and leases
/// that hold them, waiting at most 10 seconds, and returns a receipt for `license_accept_return()` there. Called again,
/// it returns the same receipt. Not undone by ROLLBACK. Raises 42704 for an unknown product, 55000 if its seats were
/// not allotted, 22023 if the caller uses one of them, 55006 if not all have ended: then call it again.
#[pg_extern(sql = false)]
fn license_give_back(product: Option<TextArgument>) -> ServerText {
    require_preloaded();
    let product = arguments::required("product", product);
    require_writable("license_give_back()");
    let pair = own_key();
    load();
    answer(write_as_part(backend::lock_timeout(), |writer| {
        give_back(writer, &product, &pair)
    }))
    .into()
}

/// Takes back seats by the receipt that `license_give_back()` has returned on the installation that had them, once, and
/// returns how many. Not undone by ROLLBACK. Raises 28000 for a receipt that can't be verified, is not for seats that
/// were allotted from this database, or was accepted before.
#[pg_extern(sql = false)]
fn license_accept_return(receipt: Option<TextArgument>) -> i32 {
    require_preloaded();
    let Some(receipt) = receipt else {
        refuse(
            "receipt must not be null",
            "Give what license_give_back() has returned on the other server.",
        )
    };
    require_writable("license_accept_return()");
    let returned = match Returned::verify(receipt.as_str().trim()) {
        Ok(returned) => returned,
        Err(refused) => unacceptable(refused.to_string()).raise(),
    };
    let pair = own_key();
    answer(write_as_part(backend::lock_timeout(), |writer| {
        accept(writer, &returned, &pair)
    }))
}
