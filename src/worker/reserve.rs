//! The database worker in reserve. Parallel queries, which anybody can run as often and as long as they like, can take
//! all of `max_worker_processes`, and then no worker can be started; a process that started with the server keeps its
//! slot. It waits for an errand, makes that one visit, because a process belongs to one database, and is started again.
//!
//! It and the launcher wake the postmaster while the other one is missing: before PostgreSQL 16 a signal that arrives
//! just before the postmaster's `select()` does not end that call, and the postmaster may sleep for a minute unless
//! somebody connects.
#![allow(
    unsafe_code,
    reason = "background workers are PostgreSQL's C interface"
)]

use std::ffi::c_int;

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::database::{self, Errand};
use super::process::{RETRY, attach_signal_handlers};
use crate::memory::{self, reserve};
use crate::pg::{backend, unguarded};

/// Runs the worker in reserve: its main function.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn pg_seats_reserve(_argument: pg_sys::Datum) {
    attach_signal_handlers();
    // SAFETY: the callback is a function of the library that lives for ever, and takes no argument.
    unsafe { unguarded::before_shmem_exit(Some(on_exit), pg_sys::Datum::from(0)) };
    reserve::enter();
    let errand = loop {
        if let Some(errand) = reserve::take() {
            break Errand::of_argument(errand);
        }
        let is_alone = !memory::has_launcher();
        if is_alone {
            backend::wake_postmaster();
        }
        backend::wait_in_worker(is_alone.then_some(RETRY));
    };
    database::go(errand);
    // SAFETY: ends this process, which holds nothing. With status 1 the postmaster starts it again unless the server
    // stops.
    unsafe { pg_sys::proc_exit(1) };
}

#[pg_guard]
unsafe extern "C-unwind" fn on_exit(_code: c_int, _argument: pg_sys::Datum) {
    reserve::leave();
}
