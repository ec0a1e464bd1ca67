//! The visitor in reserve: a process that waits for an errand of the launcher's where the server has none to spare.
#![allow(unsafe_code, reason = "shared memory is raw memory")]

use std::ptr;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgrx::pg_sys;

use super::segment::{Attached, Held, Reserve, attached};

/// Does something with it under the lock.
fn with<R>(act: impl FnOnce(&mut Reserve, &Attached) -> R) -> Option<R> {
    let attached = attached()?;
    let _held = Held::acquire(attached.lock, pg_sys::LWLockMode::LW_EXCLUSIVE);
    // SAFETY: in shared memory, and lent to one caller at a time by the lock.
    Some(act(unsafe { &mut (*attached.control).reserve }, attached))
}

/// This process waits for errands.
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

/// This process ends: its errand is done, or will never be.
pub fn leave() {
    with(|reserve, attached| {
        *reserve = Reserve::NONE;
        attached.wake_launcher();
    });
}

/// What this process was given; from then on it waits no longer.
pub fn take() -> Option<i64> {
    with(|reserve, _| {
        let errand = (reserve.errand != 0).then_some(reserve.errand)?;
        reserve.latch = ptr::null_mut();
        Some(errand)
    })?
}

/// Gives an errand to whoever waits. False where nobody does.
pub fn give(errand: i64) -> bool {
    let given = with(|reserve, _| {
        if reserve.latch.is_null() || reserve.errand != 0 {
            return false;
        }
        reserve.errand = errand;
        reserve.wake();
        true
    });
    given == Some(true)
}

/// Returns whether there is one, whether it waits or has an errand.
pub fn is_there() -> bool {
    with(|reserve, _| reserve.pid != 0) == Some(true)
}

/// Whether an errand is under way.
pub fn has(errand: i64) -> bool {
    with(|reserve, _| reserve.errand == errand) == Some(true)
}

/// Ends whoever has this errand.
pub fn end(errand: i64) {
    with(|reserve, _| {
        if reserve.errand == errand && reserve.pid != 0 {
            // One that is about to leave is as good as gone.
            let _ = kill(Pid::from_raw(reserve.pid), Signal::SIGTERM);
        }
    });
}
