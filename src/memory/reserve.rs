//! The database worker in reserve: a process that waits for an errand from the launcher, for a server with no worker
//! slot to spare.
#![allow(unsafe_code, reason = "shared memory is raw memory")]

use std::ptr;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgrx::pg_sys;

use super::segment::{Attached, Held, Reserve, attached};

/// Calls `act` with the reserve under the exclusive lock.
fn with<R>(act: impl FnOnce(&mut Reserve, &Attached) -> R) -> R {
    let attached = attached();
    let _held = Held::acquire(attached.lock, pg_sys::LWLockMode::LW_EXCLUSIVE);
    // SAFETY: the reserve is in shared memory, and the exclusive lock makes this the only reference.
    act(unsafe { &mut (*attached.control).reserve }, attached)
}

/// Registers this process as the one that waits for errands.
pub fn enter() {
    with(|reserve, _| {
        // SAFETY: plain globals of this process; its latch is in shared memory.
        let (latch, pid) = unsafe { (pg_sys::MyLatch, pg_sys::MyProcPid) };
        *reserve = Reserve {
            latch,
            pid,
            errand: 0,
        };
    });
}

/// Removes this process, which ends: its errand is done, or never will be.
pub fn leave() {
    with(|reserve, attached| {
        *reserve = Reserve::NONE;
        attached.wake_launcher();
    });
}

/// Takes the errand that this process was given, if any; from then on it no longer waits.
pub fn take() -> Option<i64> {
    with(|reserve, _| {
        let errand = (reserve.errand != 0).then_some(reserve.errand)?;
        reserve.latch = ptr::null_mut();
        Some(errand)
    })
}

/// Gives an errand to the process that waits; false if there is none.
pub fn give(errand: i64) -> bool {
    with(|reserve, _| {
        if reserve.latch.is_null() || reserve.errand != 0 {
            return false;
        }
        reserve.errand = errand;
        reserve.wake();
        true
    })
}

/// Tells whether there is a process in reserve, waiting or with an errand.
pub fn is_there() -> bool {
    with(|reserve, _| reserve.pid != 0)
}

/// Tells whether an errand is under way.
pub fn has(errand: i64) -> bool {
    with(|reserve, _| reserve.errand == errand)
}

/// Ends the process that has this errand.
pub fn end(errand: i64) {
    with(|reserve, _| {
        if reserve.errand == errand && reserve.pid != 0 {
            // If it is already gone, or about to leave, nothing has to be done.
            let _ = kill(Pid::from_raw(reserve.pid), Signal::SIGTERM);
        }
    });
}
