//! Calls functions when this process ends, or when a transaction's memory is freed.
#![allow(unsafe_code, reason = "callbacks are PostgreSQL's C interface")]

use std::ffi::{c_int, c_void};
use std::mem::transmute;
use std::ptr;

use pgrx::{pg_guard, pg_sys};

use super::unguarded;

/// Registers a function to be called before the process leaves shared memory, once for each registration.
pub fn before(act: fn()) {
    // SAFETY: the callback is a function that lives for ever, and its argument is the function that it calls.
    unsafe { unguarded::before_shmem_exit(Some(call), pg_sys::Datum::from(act as usize)) };
}

/// Registers a function to be called once every other process has ended, with whether the server stops in order.
/// Processes that are forked from this one do not inherit it. Only the postmaster registers it.
pub fn at_stop(act: fn(bool)) {
    // SAFETY: registered in the postmaster, as by every module that saves something at a stop.
    unsafe {
        if !pg_sys::IsUnderPostmaster {
            pg_sys::on_shmem_exit(Some(call_with_outcome), pg_sys::Datum::from(act as usize));
        }
    }
}

/// Registers a function to be called when the memory of the present transaction is freed: nothing else is called so
/// late in a commit.
pub fn when_transaction_is_freed(act: fn()) {
    // SAFETY: called in a transaction; the callback is allocated in the memory whose end it is called at.
    unsafe {
        let size = size_of::<pg_sys::MemoryContextCallback>();
        let callback = pg_sys::MemoryContextAlloc(pg_sys::TopTransactionContext, size)
            .cast::<pg_sys::MemoryContextCallback>();
        callback.write(pg_sys::MemoryContextCallback {
            func: Some(call_freed),
            arg: act as *mut c_void,
            next: ptr::null_mut(),
        });
        pg_sys::MemoryContextRegisterResetCallback(pg_sys::TopTransactionContext, callback);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn call(_code: c_int, argument: pg_sys::Datum) {
    // SAFETY: the argument is the function that `before` was given.
    unsafe { transmute::<usize, fn()>(argument.value())() };
}

unsafe extern "C-unwind" fn call_with_outcome(code: c_int, argument: pg_sys::Datum) {
    // SAFETY: the argument is the function that `at_stop` was given.
    unsafe { transmute::<usize, fn(bool)>(argument.value())(code == 0) };
}

unsafe extern "C-unwind" fn call_freed(argument: *mut c_void) {
    // SAFETY: the argument is the function that `when_transaction_is_freed` was given.
    unsafe { transmute::<*mut c_void, fn()>(argument)() };
}
