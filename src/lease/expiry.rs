//! Ends leases whose time is up.

use std::time::Duration;

use super::BATCH;
use crate::core::ledger::identity::LeaseId;
use crate::core::ledger::numbers::DatabaseOid;
use crate::core::ledger::table::Table;
use crate::memory;
use crate::pg::backend;
use crate::pg::table::{ReadError, transaction};
use crate::tables::leases;

/// The most rows that are deleted in a transaction.
const ROWS: usize = 1_000;

/// Ends every lease whose time is up, and every seat that has lingered for its full time: their seats become free, or
/// go to those who waited.
pub fn end_due_leases() {
    let now = backend::now();
    if memory::read(|ledger| ledger.head.next_due > now) {
        return;
    }
    let due = memory::collect(
        |ledger| ledger.holds.len(),
        |ledger, find| ledger.each_due(now, find),
    );
    if due.is_empty() {
        memory::write(|ledger| ledger.expire(&[], backend::now()));
    }
    for batch in due.chunks(BATCH) {
        // By the current time: a pause may have made them seem due.
        memory::write(|ledger| ledger.expire(batch, backend::now()));
    }
    // Only now, so that nobody is denied because of what is yet to end; and by another look at all of them, since more
    // may have been granted meanwhile.
    memory::write(|ledger| ledger.note_next_due());
}

/// Returns the time until the next lease or lingering seat may be due; `None` if there is none.
pub fn next_due_in() -> Option<Duration> {
    backend::time_until(memory::read(|ledger| ledger.head.next_due))
}

/// Deletes the rows of leases of this database that have ended, waiting for a lock on the table at most `patience`.
/// Rows that somebody has locked, or that can't be deleted now, are left for the next time. Only a worker may call it,
/// outside a transaction.
///
/// # Errors
///
/// If the rows can't be deleted.
pub fn delete_ended(database: DatabaseOid, patience: Duration) -> Result<(), ReadError> {
    let ended = memory::collect(
        |ledger| {
            ledger
                .databases
                .get(&database)
                .map_or(0, |known| known.leases.ended as usize)
        },
        |ledger, find| ledger.each_ended(database, find),
    );
    for batch in ended.chunks(ROWS) {
        let left = transaction(|| leases::delete_ended(batch, patience))?;
        let gone: Vec<LeaseId> = batch
            .iter()
            .copied()
            .filter(|id| !left.contains(id))
            .collect();
        memory::write(|ledger| ledger.bury(&gone));
    }
    Ok(())
}
