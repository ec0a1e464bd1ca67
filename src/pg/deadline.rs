//! A deadline after which statements on the extension's tables are cancelled: what somebody has attached to the tables,
//! even where the planner computes it, could otherwise run for ever.
//!
//! It cancels as `statement_timeout` does. If the error is caught, the statement is cancelled again as soon as the
//! subtransaction that caught it is rolled back: so it ends with the outermost one.
#![allow(
    unsafe_code,
    reason = "sets one of PostgreSQL's timers, and the flags of a cancelled statement"
)]

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::Relaxed};
use std::time::Duration;

use pgrx::{pg_guard, pg_sys};

use super::unguarded;

/// This process's timer among PostgreSQL's; `NONE`: it is not registered yet.
static TIMER: AtomicI32 = AtomicI32::new(NONE);
const NONE: c_int = -1;

/// Whether a deadline is set.
static IS_SET: AtomicBool = AtomicBool::new(false);

/// Whether it has passed.
static IS_OVER: AtomicBool = AtomicBool::new(false);

/// A deadline, until it is dropped. One that begins within another has the other's.
pub struct Deadline {
    is_outermost: bool,
}

impl Deadline {
    /// Sets a deadline from now on. It must be called in a transaction.
    pub fn after(limit: Duration) -> Deadline {
        let is_outermost = !IS_SET.swap(true, Relaxed);
        if is_outermost {
            IS_OVER.store(false, Relaxed);
            let milliseconds = c_int::try_from(limit.as_millis()).unwrap_or(c_int::MAX);
            // SAFETY: a timer that this process has registered.
            unsafe { unguarded::enable_timeout_after(timer(), milliseconds.max(1)) };
        }
        Deadline { is_outermost }
    }

    /// Tells whether a cancel in the meantime came from this deadline.
    pub fn is_over(&self) -> bool {
        self.is_outermost && IS_OVER.load(Relaxed)
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        if !self.is_outermost {
            return;
        }
        // SAFETY: a timer that this process has registered, and the flag that it sets.
        unsafe {
            unguarded::disable_timeout(timer(), false);
            if IS_OVER.swap(false, Relaxed) {
                // The cancel was not meant for whatever comes next.
                pg_sys::QueryCancelPending = 0;
            }
        }
        IS_SET.store(false, Relaxed);
    }
}

/// Returns the timer, which it registers at the first use.
fn timer() -> c_int {
    if TIMER.load(Relaxed) == NONE {
        // SAFETY: called once in this process, whose timers PostgreSQL has set up; a server without other extensions
        // that use timers has ten of them to give away.
        unsafe {
            let timer = unguarded::RegisterTimeout(unguarded::USER_TIMEOUT, Some(on_time));
            TIMER.store(timer, Relaxed);
            pg_sys::RegisterSubXactCallback(Some(on_part_end), std::ptr::null_mut());
        }
    }
    TIMER.load(Relaxed)
}

/// Cancels the statement, in a signal handler.
unsafe extern "C-unwind" fn on_time() {
    IS_OVER.store(true, Relaxed);
    cancel();
}

fn cancel() {
    // SAFETY: does what PostgreSQL's own handler of a cancel does, which a signal handler may.
    unsafe {
        pg_sys::InterruptPending = 1;
        pg_sys::QueryCancelPending = 1;
        unguarded::SetLatch(pg_sys::MyLatch);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_part_end(
    event: pg_sys::SubXactEvent::Type,
    _part: pg_sys::SubTransactionId,
    _around: pg_sys::SubTransactionId,
    _argument: *mut c_void,
) {
    if event == pg_sys::SubXactEvent::SUBXACT_EVENT_ABORT_SUB && IS_OVER.load(Relaxed) {
        cancel();
    }
}
