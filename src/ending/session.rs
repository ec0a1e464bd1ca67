//! How a session ends that holds a seat: it decides itself.
//!
//! Whoever wants it to end writes why into its request (see [`crate::memory::termination`]) and sends
//! SIGUSR2, which PostgreSQL ignores in client backends. The handler of that signal ends a session that
//! an administrator stops as SIGTERM does. For inactivity it ends the session only when its own status
//! says that it has been inactive since it was looked at: a query that has begun is never ended, and one
//! that arrives in that instant is refused before it starts, as with PostgreSQL's own idle timeouts.
//!
//! What the client reads is put in while PostgreSQL makes its last report: as well as can be, since no
//! other way is open to an extension. SQLSTATEs are PostgreSQL's own.
#![allow(
    unsafe_code,
    reason = "a signal handler and a hook of PostgreSQL's reports"
)]

use std::ffi::{CString, c_int};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::core::ledger::event::Leaving;
use crate::memory::termination::{self, Answer, TerminationRequest, Why};
use crate::pg::encoding::{is_the_same_for_client, is_the_same_in_utf8};
use crate::pg::{backend, unguarded};

/// The number of this session; 0: the ledger does not know it yet, or any more.
static OWN_NUMBER: AtomicU64 = AtomicU64::new(0);

/// Why this session ends, if one of us has ended it.
static ENDS: AtomicU8 = AtomicU8::new(0);

/// From now on this backend listens to who wants it to end.
pub fn listen() {
    // SAFETY: client backends ignore this signal; the handler does what handlers may.
    unsafe { unguarded::set_signal_handler(pg_sys::SIGUSR2 as c_int, on_signal) };
}

/// Begins to hear what is said to the session with this number, which has just got a place. Only under the
/// ledger's exclusive lock, so that nobody says anything before.
pub fn begin(place: usize, number: u64) {
    termination::clear(place);
    OWN_NUMBER.store(number, Relaxed);
}

/// Hears nothing any more: the session has left its place. Under the same lock.
pub fn end(place: usize) {
    OWN_NUMBER.store(0, Relaxed);
    termination::clear(place);
}

/// Why this session leaves its seats.
pub fn leaving() -> Leaving {
    match ENDS.load(Relaxed) {
        ends if ends == Why::Stopped as u8 => Leaving::Termination,
        ends if ends == Why::Idle as u8 => Leaving::IdleLogOff,
        ends if ends == Why::Reclaimed as u8 => Leaving::Reclaim,
        _ => by_itself(),
    }
}

/// The same where none of us has ended it, as PostgreSQL's statistics have it.
fn by_itself() -> Leaving {
    use pg_sys::SessionEndType::{DISCONNECT_CLIENT_EOF, DISCONNECT_FATAL, DISCONNECT_KILLED};
    // SAFETY: plain globals of this process.
    unsafe {
        match pg_sys::pgStatSessionEndCause {
            _ if pg_sys::ClientConnectionLost != 0 => Leaving::Abandoned,
            DISCONNECT_CLIENT_EOF => Leaving::Abandoned,
            DISCONNECT_FATAL => Leaving::Fatal,
            DISCONNECT_KILLED => Leaving::Killed,
            _ => Leaving::Logout,
        }
    }
}

fn own_request() -> Option<(&'static TerminationRequest, Why)> {
    let request = termination::at(backend::place_if_any()?)?;
    let why = request.why(OWN_NUMBER.load(Relaxed))?;
    Some((request, why))
}

unsafe extern "C-unwind" {
    /// PostgreSQL's handler that ends a process at its next safe moment.
    fn die(signal: c_int);
}

/// Runs at any moment: only atomics, this process's own status, and what PostgreSQL's own handlers do.
unsafe extern "C-unwind" fn on_signal(_signal: c_int) {
    let Some((request, why)) = own_request() else {
        return;
    };
    if why == Why::Stopped {
        ENDS.store(why as u8, Relaxed);
        // SAFETY: as the handler of SIGTERM.
        unsafe { die(pg_sys::SIGTERM as c_int) };
        return;
    }
    if !is_inactive_since(request.inactive_since(), why == Why::Idle) {
        request.answer(Answer::Stays);
        return;
    }
    if request.answer(Answer::Ends) != Answer::Ends {
        // Nobody wants it any more.
        return;
    }
    ENDS.store(why as u8, Relaxed);
    // SAFETY: as PostgreSQL's handler of its own idle timeout, which is in force from now on.
    unsafe {
        pg_sys::IdleSessionTimeout = pg_sys::IdleSessionTimeout.max(1);
        pg_sys::IdleSessionTimeoutPending = 1;
        pg_sys::InterruptPending = 1;
        unguarded::SetLatch(pg_sys::MyLatch);
    }
}

/// Whether this session has been inactive ever since, as its own status says.
fn is_inactive_since(since: i64, also_in_transaction: bool) -> bool {
    use pg_sys::BackendState::{
        STATE_IDLE, STATE_IDLEINTRANSACTION, STATE_IDLEINTRANSACTION_ABORTED,
    };
    // SAFETY: this process's own status, which it may be just changing: then the count is odd.
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

/// An SQLSTATE as PostgreSQL packs it.
fn sqlstate(code: [u8; 5]) -> c_int {
    let packed =
        |sum: c_int, letter: &u8| (sum << 6) + c_int::from(letter.wrapping_sub(b'0') & 0x3f);
    code.iter().rev().fold(0, packed)
}

/// Tells a session that one of us ends why it ends. All else is left as it is.
///
/// # Safety
///
/// The report is the one that is being made.
pub unsafe fn put_in_why(report: &mut pg_sys::ErrorData) {
    if report.elevel != PgLogLevel::FATAL as c_int {
        return;
    }
    // Only where it ends for that, and not for what it was asked once and refused.
    let Some((request, why)) = own_request().filter(|(_, why)| *why as u8 == ENDS.load(Relaxed))
    else {
        return;
    };
    let code = match why {
        Why::Stopped => sqlstate(*b"57P01"),
        Why::Idle | Why::Reclaimed => sqlstate(*b"57P05"),
    };
    if report.sqlerrcode != code {
        return;
    }
    let (message, hint, reason) = match why {
        Why::Stopped => (
            c"session was stopped by an administrator",
            c"Ask the administrator; log in again when you may.",
            c"license_stopped",
        ),
        Why::Idle => (
            c"logged off for inactivity",
            c"Log in again to go on.",
            c"license_idle",
        ),
        Why::Reclaimed => (
            c"logged off for inactivity",
            c"Log in again as soon as a seat is free.",
            c"license_reclaimed",
        ),
    };
    // Outside a transaction no encoding can be converted, and a letter that the client's encoding lacks
    // would have this report fail.
    let mut detail = request.text();
    if !is_the_same_in_utf8(detail.as_bytes()) || !is_the_same_for_client(detail.as_bytes()) {
        detail = detail.replace(|letter: char| !letter.is_ascii(), "?");
    }
    let detail = CString::new(detail).unwrap_or_default();
    // SAFETY: copies in the report's own memory, which lasts as long as it.
    unsafe {
        let copy = |text: &std::ffi::CStr| {
            pg_sys::MemoryContextStrdup(report.assoc_context, text.as_ptr())
        };
        report.message = copy(message);
        if !detail.is_empty() {
            report.detail = copy(&detail);
        }
        report.hint = copy(hint);
        report.constraint_name = copy(reason);
    }
}
