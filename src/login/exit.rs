//! Gives back what a backend holds, whatever its end is, and before all else that takes time.
//!
//! PostgreSQL calls those who want to know of a process's end in turn, the last registered first. We register
//! at login; the one that drops temporary tables registers when the transaction commits that has made the first,
//! and thousands of tables take it seconds. So we register once more after it. Others that come later (LISTEN,
//! prepared transactions, online backups) only change some shared memory.
//!
//! What is given back twice is given back once: the second time the place is free. From then on this process
//! belongs to no session, though it may yet drop tables in transactions of its own.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::ending::session;
use crate::memory;
use crate::pg::{backend, exit};

/// So many checkouts of a session that ends are given back under one hold of the ledger's lock.
const BATCH: usize = 64;

/// This backend gives back what it holds when it ends.
static REGISTERED: AtomicBool = AtomicBool::new(false);

/// It does so before temporary tables are dropped.
static COMES_FIRST: AtomicBool = AtomicBool::new(false);

/// Has this backend give back what it will hold. To be called before it takes anything.
pub fn prepare() {
    REGISTERED.store(true, Relaxed);
    register();
}

fn register() {
    exit::before(on_exit);
}

/// Called when any transaction is about to commit: if it is the one after which temporary tables are dropped at
/// the end, we register once more as soon as that is settled. Nobody else is called so late in a commit as those who
/// wait for the transaction's memory to be freed.
pub fn at_pre_commit() {
    if COMES_FIRST.load(Relaxed) || !REGISTERED.load(Relaxed) || !backend::has_temporary_tables() {
        return;
    }
    exit::when_transaction_is_freed(on_transaction_freed);
}

fn on_transaction_freed() {
    // Where the commit has failed, no table is left, and its end is settled by another one.
    if backend::has_temporary_tables() && !COMES_FIRST.swap(true, Relaxed) {
        register();
    }
}

/// Gives back what this backend holds, whatever its end is.
fn on_exit() {
    let (place, leaving) = (backend::place(), session::leaving());
    let some =
        || memory::write(|ledger| ledger.release_some(place, BATCH, leaving, backend::now()));
    // Others come in between.
    while some() == Some(false) {}
    memory::write(|_| session::end(place));
}
