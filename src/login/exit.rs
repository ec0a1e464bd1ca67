//! Gives back what a backend holds, however it ends, before anything that takes time.
//!
//! PostgreSQL runs the callbacks of a process's exit in reverse order of registration. The extension registers its own
//! at login. PostgreSQL registers the callback that drops temporary tables when the transaction that created the first
//! of them commits, and dropping thousands of tables takes seconds. So the extension registers once more after that.
//! Callbacks that are registered later (LISTEN, prepared transactions, online backups) only change some shared memory.
//!
//! Giving back twice is harmless: by the second time the slot is free. From then on the process belongs to no session,
//! though it may still drop tables in transactions of its own.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::ending::session;
use crate::memory;
use crate::pg::{backend, exit};

/// The most checkouts of an ending session that are given back under one hold of the ledger's lock.
const BATCH: usize = 64;

/// Whether this backend gives back what it holds when it ends.
static REGISTERED: AtomicBool = AtomicBool::new(false);

/// Whether it does so before temporary tables are dropped.
static COMES_FIRST: AtomicBool = AtomicBool::new(false);

/// Registers this backend to give back whatever it will hold. It must be called before the backend takes anything.
pub fn prepare() {
    REGISTERED.store(true, Relaxed);
    register();
}

fn register() {
    exit::before(on_exit);
}

/// Registers the callback once more if temporary tables will be dropped at the session's end. It runs whenever a
/// transaction is about to commit, and defers the registration until the transaction's memory is freed: nothing else
/// runs so late in a commit.
pub fn at_pre_commit() {
    if COMES_FIRST.load(Relaxed) || !REGISTERED.load(Relaxed) || !backend::has_temporary_tables() {
        return;
    }
    exit::when_transaction_is_freed(on_transaction_freed);
}

fn on_transaction_freed() {
    // If the commit failed there are no temporary tables, and the commit of a later transaction decides.
    if backend::has_temporary_tables() && !COMES_FIRST.swap(true, Relaxed) {
        register();
    }
}

/// Gives back what this backend holds, however it ends.
fn on_exit() {
    let (slot, leaving) = (backend::slot(), session::leaving());
    let some = || memory::write(|ledger| ledger.release_some(slot, BATCH, leaving, backend::now()));
    // Others can take the lock between two batches.
    while !some() {}
    memory::write(|_| session::end(slot));
}
