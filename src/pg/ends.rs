//! The end of this session: by a signal, and with which last report.
#![allow(unsafe_code, reason = "signal handlers, and PostgreSQL's reports")]

use std::ffi::{CStr, c_int};
use std::mem::transmute;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::{compat, unguarded};

/// The function to call on SIGUSR2; 0: none.
static ON_USER_SIGNAL: AtomicUsize = AtomicUsize::new(0);

/// Sets the function to call on SIGUSR2, which PostgreSQL ignores in client backends. It is called at any moment, so it
/// must only do what signal handlers may.
pub fn on_user_signal(act: fn()) {
    ON_USER_SIGNAL.store(act as usize, Relaxed);
    // SAFETY: the handler only does what signal handlers may.
    unsafe { compat::set_signal_handler(pg_sys::SIGUSR2 as c_int, on_signal) };
}

unsafe extern "C-unwind" fn on_signal(_signal: c_int) {
    let act = ON_USER_SIGNAL.load(Relaxed);
    if act != 0 {
        // SAFETY: the number is the function that `on_user_signal` was given.
        unsafe { transmute::<usize, fn()>(act)() };
    }
}

/// Ends this session as SIGTERM does. A signal handler may call it.
pub fn as_by_sigterm() {
    // SAFETY: does what the handler of SIGTERM does.
    unsafe { unguarded::die(pg_sys::SIGTERM as c_int) };
}

/// Ends this session as PostgreSQL's idle timeout does. A signal handler may call it.
pub fn as_by_idle_timeout() {
    // SAFETY: does what PostgreSQL's handler of its own idle timeout does, and puts that timeout in force.
    unsafe {
        pg_sys::IdleSessionTimeout = pg_sys::IdleSessionTimeout.max(1);
        pg_sys::IdleSessionTimeoutPending = 1;
        pg_sys::InterruptPending = 1;
        unguarded::SetLatch(pg_sys::MyLatch);
    }
}

/// Returns why this session ends, according to PostgreSQL's statistics.
pub fn end_cause() -> pg_sys::SessionEndType::Type {
    // SAFETY: plain globals of this process.
    unsafe {
        if pg_sys::ClientConnectionLost != 0 {
            return pg_sys::SessionEndType::DISCONNECT_CLIENT_EOF;
        }
        pg_sys::pgStatSessionEndCause
    }
}

/// Tells whether this session has been inactive ever since, according to its own status.
pub fn is_inactive_since(since: i64, also_in_transaction: bool) -> bool {
    use pg_sys::BackendState::{
        STATE_IDLE, STATE_IDLEINTRANSACTION, STATE_IDLEINTRANSACTION_ABORTED,
    };
    // SAFETY: this process's own status. If it is just being changed, the count is odd.
    unsafe {
        let Some(status) = pg_sys::MyBEEntry.as_ref() else {
            return false;
        };
        let state = status.st_state;
        status.st_changecount % 2 == 0
            && status.st_state_start_timestamp == since
            && (state == STATE_IDLE
                || also_in_transaction
                    && (state == STATE_IDLEINTRANSACTION
                        || state == STATE_IDLEINTRANSACTION_ABORTED))
    }
}

/// The report that PostgreSQL is making.
pub struct LastReport<'a>(&'a mut pg_sys::ErrorData);

impl LastReport<'_> {
    /// Wraps the report that the hook was given.
    ///
    /// # Safety
    ///
    /// It must be the report that is being made.
    pub unsafe fn of<'a>(report: *mut pg_sys::ErrorData) -> LastReport<'a> {
        // SAFETY: the caller passes the report that is being made.
        LastReport(unsafe { &mut *report })
    }

    /// Tells whether the session ends with it.
    pub fn is_fatal(&self) -> bool {
        self.0.elevel == PgLogLevel::FATAL as c_int
    }

    /// Tells whether this is its SQLSTATE.
    pub fn has_sqlstate(&self, code: [u8; 5]) -> bool {
        self.0.sqlerrcode == sqlstate(code)
    }

    /// Replaces its texts; an empty detail leaves the report's own.
    pub fn replace(&mut self, message: &CStr, detail: &CStr, hint: &CStr, reason: &CStr) {
        let report = &mut *self.0;
        // SAFETY: the copies are in the report's own memory context, which lasts as long as the report.
        unsafe {
            let copy =
                |text: &CStr| pg_sys::MemoryContextStrdup(report.assoc_context, text.as_ptr());
            report.message = copy(message);
            if !detail.is_empty() {
                report.detail = copy(detail);
            }
            report.hint = copy(hint);
            report.constraint_name = copy(reason);
        }
    }
}

/// Returns an SQLSTATE as PostgreSQL packs it.
fn sqlstate(code: [u8; 5]) -> c_int {
    let packed =
        |sum: c_int, letter: &u8| (sum << 6) + c_int::from(letter.wrapping_sub(b'0') & 0x3f);
    code.iter().rev().fold(0, packed)
}
