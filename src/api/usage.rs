//! `license_usage`: how much of each license is in use.

use std::collections::HashMap;

use pgrx::prelude::*;

use super::require_preloaded;
use super::times::{days_left, timestamp};
use crate::core::ledger::identity::Name;
use crate::core::ledger::license::License;
use crate::core::ledger::rules::Rules;
use crate::core::ledger::table::Table;
use crate::core::ledger::tally::Tally;
use crate::pg::backend;
use crate::pg::table::{read_committed, schema};
use crate::pg::text::ServerText;
use crate::signed::evaluation::SignedLicense;
use crate::signed::refusal::failed;
use crate::signed::signed_licenses::SignedLicenses;
use crate::{memory, rules, settings};

/// Returns the use of each license of the current database, for the view `license_usage`. Raises 55000 if pg_seats is
/// not preloaded.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity, reason = "the columns of a view")]
fn license_usage() -> TableIterator<
    'static,
    (
        name!(product, ServerText),
        name!(seats, Option<i32>),
        name!(purchased, Option<i32>),
        name!(in_use, i32),
        name!(available, Option<i32>),
        name!(waiting, i32),
        name!(exempt, i32),
        name!(high_water, i32),
        name!(high_water_at, Option<TimestampWithTimeZone>),
        name!(denied, i64),
        name!(counted_since, Option<TimestampWithTimeZone>),
        name!(valid_until, Option<TimestampWithTimeZone>),
        name!(days_left, Option<i32>),
        name!(status, &'static str),
        name!(license_id, Option<ServerText>),
    ),
> {
    require_preloaded();
    rules::refresh();
    let now = backend::now();
    let counts = counts();
    let ids = ids(&counts);
    let rows = counts.into_iter().map(move |count| {
        let License {
            seats, valid_until, ..
        } = count.license;
        let left = |seats: i32| (i64::from(seats) - count.tally.in_use).max(0) as i32;
        (
            count.license.product.to_string().into(),
            seats,
            count.license.purchased,
            count.tally.in_use as i32,
            seats.map(left),
            count.tally.waiting as i32,
            count.exempt,
            count.tally.high_water as i32,
            (count.tally.high_water > 0)
                .then(|| timestamp(count.tally.high_water_at))
                .flatten(),
            count.license.denied as i64,
            timestamp(count.license.counted_since),
            valid_until.and_then(timestamp),
            days_left(valid_until, now),
            count
                .license
                .status(count.tally.in_use, settings::enforcement(), now),
            count
                .license
                .signed
                .and_then(|_| ids.get(&count.license.pool).cloned())
                .map(ServerText::from),
        )
    });
    TableIterator::new(rows)
}

struct Count {
    license: License,
    tally: Tally,
    exempt: i32,
}

fn counts() -> Vec<Count> {
    let Some(Rules { licenses, .. }) = memory::rules::last_in_force(backend::database()) else {
        return Vec::new();
    };
    let mut counts = Vec::with_capacity(licenses.len());
    memory::read(|ledger| {
        for license in licenses {
            // The license may have gone since, and is no longer counted then.
            let Some(tally) = ledger.tallies.get(&license.tally).copied() else {
                continue;
            };
            let exempt = ledger
                .sessions
                .iter()
                .filter(|session| session.exempt.is_some() && session.tally == tally.number)
                .count() as i32;
            counts.push(Count {
                license,
                tally,
                exempt,
            });
        }
    });
    counts
}

/// Returns the ids of the signed licenses in force here, by their pools.
fn ids(counts: &[Count]) -> HashMap<Name, String> {
    if counts.iter().all(|count| count.license.signed.is_none()) {
        return HashMap::new();
    }
    let signed_licenses = read_committed(backend::lock_timeout(), |reader| {
        SignedLicenses::read(reader, &schema()?)
    });
    let licenses = signed_licenses
        .unwrap_or_else(|error| failed(error))
        .licenses;
    let id = |license: SignedLicense| (license.pool(), license.claims.jti);
    licenses.into_iter().map(id).collect()
}
