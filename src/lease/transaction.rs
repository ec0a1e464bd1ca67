//! Settles leases when a transaction, or a subtransaction, ends.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::BATCH;
use crate::core::ledger::identity::LeaseId;
use crate::memory;
use crate::pg::backend;
use crate::pg::error::{PgSqlErrorCode, Report};
use crate::rules::pools;

/// A lease that this transaction has taken or released.
#[derive(Clone, Copy)]
struct Change {
    id: LeaseId,
    released: bool,
    /// The subtransaction in which that happened.
    part: u32,
}

/// Whether this transaction has taken, released or borrowed leases.
static CONCERNED: AtomicBool = AtomicBool::new(false);
/// The leases that it has taken or released.
static CHANGES: Mutex<Vec<Change>> = Mutex::new(Vec::new());

fn changes() -> MutexGuard<'static, Vec<Change>> {
    CHANGES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes that this transaction has taken a lease in the ledger, which is dropped if it rolls back.
pub fn note_taken(id: LeaseId) {
    note(id, false);
}

/// Notes that this transaction has deleted a lease's row: the lease is dropped if it commits.
pub fn note_released(id: LeaseId) {
    note(id, true);
}

/// Notes that a lease is lent to this transaction, and is taken back at its end.
pub fn note_borrowed() {
    CONCERNED.store(true, Relaxed);
}

fn note(id: LeaseId, released: bool) {
    CONCERNED.store(true, Relaxed);
    changes().push(Change {
        id,
        released,
        part: backend::subtransaction(),
    });
}

/// Tells whether this transaction has released a lease.
pub fn has_released(id: LeaseId) -> bool {
    CONCERNED.load(Relaxed) && changes().iter().any(|c| c.released && c.id == id)
}

/// Tells whether this transaction has taken a lease.
pub fn has_taken(id: LeaseId) -> bool {
    CONCERNED.load(Relaxed) && changes().iter().any(|c| !c.released && c.id == id)
}

/// Refuses to prepare a transaction that has taken or released leases: COMMIT PREPARED would call no callback of the
/// extension.
pub fn at_pre_prepare() {
    if CONCERNED.load(Relaxed) && !changes().is_empty() {
        Report::new(
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            "cannot PREPARE a transaction that has taken or released leases",
        )
        .hint("Commit it without PREPARE TRANSACTION.")
        .raise();
    }
}

/// Notes that the database has leases before the transaction commits some, and warns of those that have already ended:
/// what else the transaction did is kept.
pub fn at_pre_commit() {
    if !CONCERNED.load(Relaxed) {
        return;
    }
    let taken: Vec<LeaseId> = {
        let changes = changes();
        let released = |id| changes.iter().any(|c| c.released && c.id == id);
        let taken = changes.iter().filter(|c| !c.released && !released(c.id));
        taken.map(|change| change.id).collect()
    };
    if !taken.is_empty() {
        pools::note_lease(backend::database());
    }
    let gone = memory::read(|ledger| {
        let now = backend::now();
        let lasts = |id: &&LeaseId| ledger.lease(**id).is_some_and(|lease| !lease.is_due(now));
        taken.len() - taken.iter().filter(lasts).count()
    });
    let (gone, took) = match gone {
        0 => return,
        1 => ("a lease has".to_owned(), "took it"),
        gone => (format!("{gone} leases have"), "took them"),
    };
    Report::new(
        PgSqlErrorCode::ERRCODE_WARNING,
        format!("{gone} ended before the transaction that {took} committed"),
    )
    .detail("The time to live was up, or the seat was taken away. What else the transaction did is kept.")
    .hint("Call license_heartbeat() in long transactions, or take leases in transactions of their own.")
    .log(pgrx::PgLogLevel::WARNING);
}

/// Settles the leases of a transaction that has ended.
pub fn at_end(committed: bool) {
    if !CONCERNED.swap(false, Relaxed) {
        return;
    }
    let ended = std::mem::take(&mut *changes());
    let now = backend::now();
    memory::write(|ledger| ledger.take_back_lent(backend::slot()));
    let mut is_to_be_buried = false;
    for batch in ended.chunks(BATCH) {
        memory::write(|ledger| {
            for change in batch {
                match (committed, change.released) {
                    (true, false) => is_to_be_buried |= ledger.commit_lease(change.id),
                    (true, true) | (false, false) => {
                        ledger.drop_lease(backend::slot(), change.id, now);
                    }
                    (false, true) => {}
                }
            }
        });
    }
    if is_to_be_buried {
        memory::wake_launcher();
    }
}

/// Settles the leases of a subtransaction that has ended: it was rolled back, or has become part of the transaction
/// around it.
pub fn at_part_end(committed: bool, part: u32, around: u32) {
    if !CONCERNED.load(Relaxed) {
        return;
    }
    let mut changes = changes();
    let mut undone = Vec::new();
    changes.retain_mut(|change| {
        if change.part != part {
            return true;
        }
        change.part = around;
        if !committed && !change.released {
            undone.push(change.id);
        }
        committed
    });
    drop(changes);
    let now = backend::now();
    for batch in undone.chunks(BATCH) {
        memory::write(|ledger| {
            for id in batch {
                ledger.drop_lease(backend::slot(), *id, now);
            }
        });
    }
}
