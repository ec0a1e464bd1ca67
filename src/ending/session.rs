//! Ends a session that holds a seat: the session itself decides.
//!
//! Whoever wants it to end writes a request (see [`crate::memory::termination`]) and sends SIGUSR2, which PostgreSQL
//! ignores in client backends. If an administrator stops the session, the signal's handler ends it as SIGTERM does. For
//! inactivity it ends the session only if the session's own status says that it has been inactive since it was looked
//! at: a query that has begun is never ended, and one that arrives at that very moment is refused before it starts, as
//! with PostgreSQL's own idle timeouts.
//!
//! The message for the client is put in while PostgreSQL makes its last report, because an extension has no other way.
//! The SQLSTATEs are PostgreSQL's own.

use std::ffi::CString;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

use pgrx::pg_sys;

use crate::core::ledger::event::Leaving;
use crate::core::ledger::numbers::{SessionNumber, Slot};
use crate::memory::termination::{self, Response, TerminationRequest, Why};
use crate::pg::backend;
use crate::pg::encoding::{is_the_same_for_client, is_the_same_in_utf8};
use crate::pg::ends::{self, LastReport};

/// The number of this session; 0 if the ledger does not know it yet, or no longer does.
static OWN_NUMBER: AtomicU64 = AtomicU64::new(0);

/// Why the extension has ended this session, if it has.
static ENDS: AtomicU8 = AtomicU8::new(0);

/// Makes this backend listen to requests to end.
pub fn listen() {
    ends::on_user_signal(on_signal);
}

/// Begins to listen to requests to the session with this number, which has just got a slot. The caller must hold the
/// ledger's lock exclusively, so that nobody makes a request before.
pub fn begin(slot: Slot, number: SessionNumber) {
    termination::clear(slot);
    OWN_NUMBER.store(number.0, Relaxed);
}

/// Stops listening, because the session has left its slot. The caller must hold the ledger's lock exclusively.
pub fn end(slot: Slot) {
    OWN_NUMBER.store(0, Relaxed);
    termination::clear(slot);
}

/// Returns why this session leaves its seats.
pub fn leaving() -> Leaving {
    match ENDS.load(Relaxed) {
        ends if ends == Why::Stopped as u8 => Leaving::Termination,
        ends if ends == Why::Idle as u8 => Leaving::IdleLogOff,
        ends if ends == Why::Reclaimed as u8 => Leaving::Reclaim,
        _ => by_itself(),
    }
}

/// Returns why a session that the extension did not end leaves its seats, according to PostgreSQL's statistics.
fn by_itself() -> Leaving {
    use pg_sys::SessionEndType::{DISCONNECT_CLIENT_EOF, DISCONNECT_FATAL, DISCONNECT_KILLED};
    match ends::end_cause() {
        DISCONNECT_CLIENT_EOF => Leaving::Abandoned,
        DISCONNECT_FATAL => Leaving::Fatal,
        DISCONNECT_KILLED => Leaving::Killed,
        _ => Leaving::Logout,
    }
}

fn own_request() -> Option<(&'static TerminationRequest, Why)> {
    let request = termination::at(backend::slot_if_any()?)?;
    let why = request.why(SessionNumber(OWN_NUMBER.load(Relaxed)))?;
    Some((request, why))
}

/// Handles the signal, at any moment: it uses only atomics, this process's own status, and what PostgreSQL's own
/// handlers do.
fn on_signal() {
    let Some((request, why)) = own_request() else {
        return;
    };
    if why == Why::Stopped {
        ENDS.store(why as u8, Relaxed);
        ends::as_by_sigterm();
        return;
    }
    if !ends::is_inactive_since(request.inactive_since(), why == Why::Idle) {
        request.answer(Response::Stays);
        return;
    }
    if request.answer(Response::Ends) != Response::Ends {
        // The request was withdrawn.
        return;
    }
    ENDS.store(why as u8, Relaxed);
    ends::as_by_idle_timeout();
}

/// Puts the reason into the last report of a session that the extension ends. Any other report is left as it is.
pub fn put_in_why(report: &mut LastReport) {
    if !report.is_fatal() {
        return;
    }
    // Only if it ends for this reason, not if it refused such a request earlier.
    let Some((request, why)) = own_request().filter(|(_, why)| *why as u8 == ENDS.load(Relaxed))
    else {
        return;
    };
    let code = match why {
        Why::Stopped => *b"57P01",
        Why::Idle | Why::Reclaimed => *b"57P05",
    };
    if !report.has_sqlstate(code) {
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
    // Outside a transaction no encoding can be converted, and a character that the client's encoding lacks would make
    // this report fail.
    let mut detail = request.text();
    if !is_the_same_in_utf8(detail.as_bytes()) || !is_the_same_for_client(detail.as_bytes()) {
        detail = detail.replace(|letter: char| !letter.is_ascii(), "?");
    }
    let detail = CString::new(detail).unwrap_or_default();
    report.replace(message, &detail, hint, reason);
}
