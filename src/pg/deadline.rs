//! A time after which what runs on our tables is cancelled: what somebody has hung on them, also where the planner
//! computes it, would otherwise last as long as he likes.
//!
//! It is cancelled as `statement_timeout` cancels. Who catches that is cancelled again as soon as the part of
//! the transaction in which he did is rolled back: so it ends with the outermost.
#![allow(
    unsafe_code,
    reason = "sets one of PostgreSQL's timers, and the flags of a cancelled statement"
)]

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::Relaxed};
use std::time::Duration;

use pgrx::{pg_guard, pg_sys};

use super::unguarded;

/// This process's timer among PostgreSQL's; none is registered yet.
static TIMER: AtomicI32 = AtomicI32::new(NONE);
const NONE: c_int = -1;

/// A deadline is set.
static IS_SET: AtomicBool = AtomicBool::new(false);

/// It is over.
static IS_OVER: AtomicBool = AtomicBool::new(false);

/// A deadline, until it is dropped. What begins within another has that one.
pub struct Deadline {
    is_outermost: bool,
}

impl Deadline {
    /// So long from now on. Within a transaction.
    pub fn after(limit: Duration) -> Deadline {
        let is_outermost = !IS_SET.swap(true, Relaxed);
        if is_outermost {
            IS_OVER.store(false, Relaxed);
            let milliseconds = c_int::try_from(limit.as_millis()).unwrap_or(c_int::MAX);
            // SAFETY: a timer of this process.
            unsafe { unguarded::enable_timeout_after(timer(), milliseconds.max(1)) };
        }
        Deadline { is_outermost }
    }

    /// Whether what was cancelled meanwhile was so by this deadline.
    pub fn is_over(&self) -> bool {
        self.is_outermost && IS_OVER.load(Relaxed)
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        if !self.is_outermost {
            return;
        }
        // SAFETY: a timer of this process, and the flag that it sets.
        unsafe {
            unguarded::disable_timeout(timer(), false);
            if IS_OVER.swap(false, Relaxed) {
                // Whatever comes next was not meant.
                pg_sys::QueryCancelPending = 0;
            }
        }
        IS_SET.store(false, Relaxed);
    }
}

/// Registers it at the first use.
fn timer() -> c_int {
    if TIMER.load(Relaxed) == NONE {
        // SAFETY: once in this process, whose timers PostgreSQL has set up; a server without any extension
        // that has timers has ten to give away.
        unsafe {
            let timer = unguarded::RegisterTimeout(unguarded::USER_TIMEOUT, Some(on_time));
            TIMER.store(timer, Relaxed);
            pg_sys::RegisterSubXactCallback(Some(on_part_end), std::ptr::null_mut());
        }
    }
    TIMER.load(Relaxed)
}

/// In a signal handler.
unsafe extern "C-unwind" fn on_time() {
    IS_OVER.store(true, Relaxed);
    cancel();
}

fn cancel() {
    // SAFETY: what PostgreSQL's own handler of a cancelled statement does.
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
