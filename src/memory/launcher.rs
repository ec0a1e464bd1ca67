//! The launcher, and who waits for what it has read.
#![allow(unsafe_code, reason = "shared memory is raw memory")]

use std::ptr;
use std::time::Duration;

use pgrx::pg_sys;

use super::access::write;
use super::segment::{Held, attached};
use crate::core::ledger::time::Pause;
use crate::pg::{backend, clock};

/// Has the ledger know that the launcher looks: whether it is expected to do so again soon, and the last pause.
pub fn launcher_looks() -> (bool, Option<Pause>) {
    let looked = write(|ledger| {
        let watches = ledger.launcher_looks(clock::look_closely());
        if let Some(attached) = attached() {
            attached.keep_time();
        }
        (watches, ledger.head.time.last)
    });
    looked.unwrap_or((false, None))
}

/// Tells those who wait for a database's rules that some have been read.
pub fn announce_rules_read() {
    if let Some(attached) = attached() {
        // SAFETY: initialised by `create`.
        unsafe { pg_sys::ConditionVariableBroadcast(&raw mut (*attached.control).rules_read) };
    }
}

/// Waits until some rules have been read, at most this long.
pub fn await_rules_read(patience: Duration) {
    if let Some(attached) = attached() {
        let milliseconds = backend::milliseconds(patience);
        // SAFETY: initialised by `create`; may end with an error when the session is cancelled.
        unsafe {
            pg_sys::ConditionVariableTimedSleep(
                &raw mut (*attached.control).rules_read,
                milliseconds.max(1),
                pg_sys::PG_WAIT_EXTENSION,
            );
        }
    }
}

/// Ends a wait that was begun by [`await_rules_read`].
pub fn stop_awaiting() {
    // SAFETY: does nothing when nothing is awaited.
    unsafe { pg_sys::ConditionVariableCancelSleep() };
}

/// Returns whether there is a launcher.
pub fn has_launcher() -> bool {
    attached().is_some_and(|attached| {
        let _held = Held::acquire(attached.lock, pg_sys::LWLockMode::LW_SHARED);
        // SAFETY: the lock is held.
        unsafe { !(*attached.control).launcher.is_null() }
    })
}

/// Makes this process the launcher, or no longer: then the visitor in reserve sees to it that there is one again.
pub fn set_launcher(present: bool) {
    if let Some(attached) = attached() {
        let _held = Held::acquire(attached.lock, pg_sys::LWLockMode::LW_EXCLUSIVE);
        // SAFETY: the lock is held; the latch is this process's own, in shared memory.
        unsafe {
            if present {
                (*attached.control).launcher = pg_sys::MyLatch;
            } else {
                (*attached.control).launcher = ptr::null_mut();
                (*attached.control).reserve.wake();
            }
        }
    }
}

/// Wakes the launcher, if there is one.
pub fn wake_launcher() {
    if let Some(attached) = attached() {
        let _held = Held::acquire(attached.lock, pg_sys::LWLockMode::LW_SHARED);
        attached.wake_launcher();
    }
}
