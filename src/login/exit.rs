//! Gives back what a backend holds, whatever its end is, and before all else that takes time.
//!
//! PostgreSQL calls those who want to know of a process's end in turn, the last registered first. We register
//! at login; the one that drops temporary tables registers when the transaction commits that has made the first,
//! and thousands of tables take it seconds. So we register once more after it. Others that come later (LISTEN,
//! prepared transactions, online backups) only change some shared memory.
//!
//! What is given back twice is given back once: the second time the place is free. From then on this process
//! belongs to no session, though it may yet drop tables in transactions of its own.
#![allow(unsafe_code, reason = "callbacks are PostgreSQL's C interface")]

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use pgrx::{pg_guard, pg_sys};

use crate::ending::session;
use crate::memory;
use crate::pg::{backend, unguarded};

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
    // SAFETY: a callback that may be called more than once.
    unsafe { unguarded::before_shmem_exit(Some(on_exit), pg_sys::Datum::from(0)) };
}

/// Called when any transaction is about to commit: if it is the one after which temporary tables are dropped at
/// the end, we register once more as soon as that is settled. Nobody else is called so late in a commit as those who
/// wait for the transaction's memory to be freed.
pub fn at_pre_commit() {
    if COMES_FIRST.load(Relaxed) || !REGISTERED.load(Relaxed) || !has_temporary_tables() {
        return;
    }
    // SAFETY: in a transaction, whose memory has room for what is called when it is freed.
    unsafe {
        let size = size_of::<pg_sys::MemoryContextCallback>();
        let callback = pg_sys::MemoryContextAlloc(pg_sys::TopTransactionContext, size)
            .cast::<pg_sys::MemoryContextCallback>();
        callback.write(pg_sys::MemoryContextCallback {
            func: Some(on_transaction_freed),
            arg: ptr::null_mut(),
            next: ptr::null_mut(),
        });
        pg_sys::MemoryContextRegisterResetCallback(pg_sys::TopTransactionContext, callback);
    }
}

unsafe extern "C-unwind" fn on_transaction_freed(_argument: *mut c_void) {
    // Where the commit has failed, no table is left, and its end is settled by another one.
    if has_temporary_tables() && !COMES_FIRST.swap(true, Relaxed) {
        register();
    }
}

/// True where this session has made temporary tables, or is about to have.
fn has_temporary_tables() -> bool {
    // SAFETY: this process's own entry, as long as it has one.
    let own = unsafe { pg_sys::MyProc.as_ref() };
    own.is_some_and(|own| own.tempNamespaceId != pg_sys::InvalidOid)
}

/// Gives back what this backend holds, whatever its end is.
#[pg_guard]
unsafe extern "C-unwind" fn on_exit(_code: c_int, _argument: pg_sys::Datum) {
    let (place, leaving) = (backend::place(), session::leaving());
    let some =
        || memory::write(|ledger| ledger.release_some(place, BATCH, leaving, backend::now()));
    // Others come in between.
    while some() == Some(false) {}
    memory::write(|_| session::end(place));
}
