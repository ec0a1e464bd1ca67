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

use std::ffi::CString;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

use pgrx::pg_sys;

use crate::core::ledger::event::Leaving;
use crate::memory::termination::{self, Answer, TerminationRequest, Why};
use crate::pg::backend;
use crate::pg::encoding::{is_the_same_for_client, is_the_same_in_utf8};
use crate::pg::ends::{self, LastReport};

/// The number of this session; 0: the ledger does not know it yet, or any more.
static OWN_NUMBER: AtomicU64 = AtomicU64::new(0);

/// Why this session ends, if one of us has ended it.
static ENDS: AtomicU8 = AtomicU8::new(0);

/// From now on this backend listens to who wants it to end.
pub fn listen() {
    ends::on_user_signal(on_signal);
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
    match ends::end_cause() {
        DISCONNECT_CLIENT_EOF => Leaving::Abandoned,
        DISCONNECT_FATAL => Leaving::Fatal,
        DISCONNECT_KILLED => Leaving::Killed,
        _ => Leaving::Logout,
    }
}

fn own_request() -> Option<(&'static TerminationRequest, Why)> {
    let request = termination::at(backend::place_if_any()?)?;
    let why = request.why(OWN_NUMBER.load(Relaxed))?;
    Some((request, why))
}

/// Runs at any moment: only atomics, this process's own status, and what PostgreSQL's own handlers do.
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
        request.answer(Answer::Stays);
        return;
    }
    if request.answer(Answer::Ends) != Answer::Ends {
        // Nobody wants it any more.
        return;
    }
    ENDS.store(why as u8, Relaxed);
    ends::as_by_idle_timeout();
}

/// Tells a session that one of us ends why it ends. All else is left as it is.
pub fn put_in_why(report: &mut LastReport) {
    if !report.is_fatal() {
        return;
    }
    // Only where it ends for that, and not for what it was asked once and refused.
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
    // Outside a transaction no encoding can be converted, and a letter that the client's encoding lacks
    // would have this report fail.
    let mut detail = request.text();
    if !is_the_same_in_utf8(detail.as_bytes()) || !is_the_same_for_client(detail.as_bytes()) {
        detail = detail.replace(|letter: char| !letter.is_ascii(), "?");
    }
    let detail = CString::new(detail).unwrap_or_default();
    report.replace(message, &detail, hint, reason);
}
