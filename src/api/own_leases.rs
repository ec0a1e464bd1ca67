//! `license_own_leases`: the leases that the caller's roles took.

use pgrx::Uuid;
use pgrx::prelude::*;

use super::require_preloaded;
use super::times::timestamp;
use crate::core::ledger::Ledger;
use crate::core::ledger::hold::Hold;
use crate::core::ledger::identity::Text;
use crate::core::ledger::seat::Kind;
use crate::core::ledger::table::Table;
use crate::lease::transaction;
use crate::memory::{self, Shared};
use crate::pg::text::ServerText;
use crate::pg::{backend, catalog};

/// Returns the leases of the current database that have not ended and were taken by a role of which the current one is
/// a member, for the view `license_own_leases`. Raises 55000 if pg_seats is not preloaded.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity, reason = "the columns of a view")]
fn license_own_leases() -> TableIterator<
    'static,
    (
        name!(lease_id, Uuid),
        name!(product, ServerText),
        name!(client_user, ServerText),
        name!(client_host, ServerText),
        name!(ttl_seconds, f64),
        name!(expires_at, Option<TimestampWithTimeZone>),
        name!(taken_by, ServerText),
    ),
> {
    require_preloaded();
    // Each role that took leases is looked up once, outside the lock.
    let mut roles = leases_of(|_| true, |_, hold| hold.taken_by);
    roles.sort_unstable();
    roles.dedup();
    let is_own_role = catalog::own_roles();
    roles.retain(|role| is_own_role(*role));
    let is_own = |hold: &Hold| roles.binary_search(&hold.taken_by).is_ok();
    let mut leases = leases_of(is_own, |ledger, hold| {
        let tally = ledger.tallies.get(&hold.tally);
        let product = tally.map(|tally| tally.product());
        (*hold, product, ledger.long_name(&hold.who.client_user))
    });
    // Nobody knows others' leases before they are committed.
    leases.retain(|(hold, ..)| !hold.pending || transaction::has_taken(hold.key.lease_id()));
    leases.sort_by_key(|(hold, ..)| hold.number);
    let rows: Vec<_> = leases
        .into_iter()
        .map(|(hold, product, long_name): (Hold, _, Option<Text<512>>)| {
            let client_user = hold.who.client_user.shown(long_name.as_ref()).into_owned();
            let client_host = match hold.host_name() {
                "" => hold.who.host.to_string(),
                name => name.to_owned(),
            };
            (
                Uuid::from_bytes(hold.key.lease_id()),
                product
                    .map_or(String::new(), |product| product.to_string())
                    .into(),
                client_user.into(),
                client_host.into(),
                hold.ttl as f64 / 1_000_000.0,
                timestamp(hold.expires_at),
                catalog::role_name(hold.taken_by).into(),
            )
        })
        .collect();
    TableIterator::new(rows)
}

/// Returns what `part` makes of those leases of this database that have not ended.
fn leases_of<P>(
    are: impl Fn(&Hold) -> bool,
    part: impl Fn(&Ledger<'static, Shared>, &Hold) -> P,
) -> Vec<P> {
    let (database, now) = (backend::database(), backend::now());
    let lasts = |hold: &Hold| {
        hold.database == database
            && hold.kind() == Kind::Lease
            && !hold.ended
            && !hold.is_due(now)
            && are(hold)
    };
    memory::collect(
        |ledger| {
            let mut count = 0;
            ledger.holds.each(|hold| count += usize::from(lasts(hold)));
            count
        },
        |ledger, find| {
            ledger.holds.each(|hold| {
                if lasts(hold) {
                    find(part(ledger, hold));
                }
            });
        },
    )
}
