//! The launcher, and waiting for the rules that database workers read.
#![allow(unsafe_code, reason = "shared memory is raw memory")]

use std::ptr;
use std::time::Duration;

use pgrx::pg_sys;

use super::access::write;
use super::segment::{Held, attached};
use crate::core::ledger::time::Pause;
use crate::pg::{backend, clock};

/// Tells the ledger that the launcher is looking. Returns whether it is expected to look again soon, and the last
/// pause.
pub fn launcher_looks() -> (bool, Option<Pause>) {
    write(|ledger| {
        let watches = ledger.launcher_looks(clock::look_closely());
        attached().keep_time();
        (watches, ledger.head.time.last)
    })
}

/// Wakes those who wait for a database's rules, because some have been read.
pub fn announce_rules_read() {
    // SAFETY: `create` has initialised the condition variable, in shared memory.
    unsafe { pg_sys::ConditionVariableBroadcast(&raw mut (*attached().control).rules_read) };
}

/// Waits until some rules have been read, at most for `patience`.
pub fn await_rules_read(patience: Duration) {
    let milliseconds = backend::milliseconds(patience);
    // SAFETY: `create` has initialised the condition variable. If the session is cancelled the call raises an error,
    // which pgrx turns into a panic.
    unsafe {
        pg_sys::ConditionVariableTimedSleep(
            &raw mut (*attached().control).rules_read,
            milliseconds.max(1),
            pg_sys::PG_WAIT_EXTENSION,
        );
    }
}

/// Ends a wait that [`await_rules_read`] began.
pub fn stop_awaiting() {
    // SAFETY: the call does nothing if there is no wait.
    unsafe { pg_sys::ConditionVariableCancelSleep() };
}

/// Tells whether there is a launcher.
pub fn has_launcher() -> bool {
    let attached = attached();
    let _held = Held::acquire(attached.lock, pg_sys::LWLockMode::LW_SHARED);
    // SAFETY: the lock is held, so that the launcher can't change meanwhile.
    unsafe { !(*attached.control).launcher.is_null() }
}

/// Registers this process as the launcher, or removes it. In the latter case it wakes the worker in reserve, which sees
/// to it that a launcher starts again.
pub fn set_launcher(present: bool) {
    let attached = attached();
    let _held = Held::acquire(attached.lock, pg_sys::LWLockMode::LW_EXCLUSIVE);
    // SAFETY: the lock is held exclusively, and this process's latch is in shared memory.
    unsafe {
        if present {
            (*attached.control).launcher = pg_sys::MyLatch;
        } else {
            (*attached.control).launcher = ptr::null_mut();
            (*attached.control).reserve.wake();
        }
    }
}

/// Wakes the launcher, if there is one.
pub fn wake_launcher() {
    let attached = attached();
    let _held = Held::acquire(attached.lock, pg_sys::LWLockMode::LW_SHARED);
    attached.wake_launcher();
}
