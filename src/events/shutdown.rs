//! Saves what happens in the last moment before the server stops, when all sessions end: database workers no longer
//! write it, so it goes from the ledger into a file, which the next start reads. After a crash or an immediate shutdown
//! there is no such file.

use super::left::{self, Left, Trail, left};
use super::row;
use super::unwritten::Unwritten;
use crate::core::ledger::Ledger;
use crate::core::ledger::numbers::DatabaseOid;
use crate::core::ledger::rules::Counts;
use crate::core::ledger::table::Table;
use crate::memory::{self, Shared};
use crate::pg::exit;

/// Reads what the last stop has left, and prepares for the next one. Only the postmaster calls it, at the start and
/// after a crash.
pub fn watch() {
    left::take();
    exit::at_stop(keep);
}

/// Saves the ledger's content when every other process has ended. Nothing here may fail.
fn keep(in_order: bool) {
    if in_order {
        left::leave(&memory::read_last(all).unwrap_or(Left::NOTHING));
    }
}

/// Returns what must be saved at the end.
fn all(ledger: &Ledger<'static, Shared>) -> Left {
    Left {
        counts: counts_of(ledger),
        trails: trails_of(ledger),
    }
}

fn counts_of(ledger: &Ledger<'static, Shared>) -> Vec<(DatabaseOid, Counts)> {
    let is_counted = |database| {
        ledger
            .databases
            .get(&database)
            .is_some_and(|d| d.counts.added)
    };
    let mut counts = left().counts.clone();
    // For a database that was not counted since the start, the former counts still hold.
    counts.retain(|(database, _)| !is_counted(*database));
    ledger.licenses.each(|license| {
        let database = license.key.database;
        let tally = ledger.tallies.get(&license.tally);
        if let Some(tally) = tally.filter(|_| is_counted(database)) {
            let of_license = Counts {
                product: license.product,
                high_water: tally.high_water,
                high_water_at: tally.high_water_at,
                denied: license.denied,
                counted_since: license.counted_since,
            };
            counts.push((database, of_license));
        }
    });
    counts
}

fn trails_of(ledger: &Ledger<'static, Shared>) -> Vec<(DatabaseOid, Trail)> {
    let mut databases: Vec<DatabaseOid> = left()
        .trails
        .iter()
        .map(|(database, _)| *database)
        .collect();
    ledger.databases.each(|known| databases.push(known.oid));
    databases.sort_unstable();
    databases.dedup();
    databases
        .into_iter()
        .map(|database| (database, row::trail(&Unwritten::at_last(ledger, database))))
        .filter(|(_, trail)| !trail.rows.is_empty() || trail.lost > 0)
        .collect()
}
