//! Requests sessions to end, and withdraws such requests.
#![allow(unsafe_code, reason = "shared memory is raw memory")]

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::segment::if_attached;
use super::termination_request::TEXT_MAX;
pub use super::termination_request::{Response, TerminationRequest, Why};
use crate::core::ledger::numbers::{SessionNumber, Slot};
use crate::core::ledger::time::Timestamp;

/// Returns the request of the backend in a slot. `None` if there is no such slot, or no ledger yet, as when the
/// postmaster writes to the log at its start.
pub fn at(slot: Slot) -> Option<&'static TerminationRequest> {
    let attached = if_attached().filter(|attached| slot.0 < attached.places)?;
    // SAFETY: there are as many requests as slots; they were created with the ledger and exist as long as it does.
    Some(unsafe { &*attached.requests.add(slot.0) })
}

/// Requests the session in a slot to end, unless it is already ending. The caller must hold the ledger's lock
/// exclusively.
pub fn bid(slot: Slot, session: SessionNumber, why: Why, inactive_since: Timestamp, text: &str) {
    let Some(request) = at(slot) else { return };
    let answer = request.answer.load(Acquire);
    if request
        .why(session)
        .is_some_and(|why| why == Why::Stopped || answer == Response::Ends as u8)
    {
        return;
    }
    request.session.store(0, Release);
    request.why.store(why as u8, Relaxed);
    request.answer.store(Response::None as u8, Relaxed);
    request.inactive_since.store(inactive_since, Relaxed);
    let end = text.floor_char_boundary(TEXT_MAX - 1);
    let bytes = text.bytes().take(end).chain(std::iter::repeat(0));
    for (to, from) in request.text.iter().zip(bytes) {
        to.store(from, Relaxed);
    }
    request.session.store(session.0, Release);
}

/// Clears the request of a slot, whose session has just arrived or has left. The caller must hold the ledger's lock
/// exclusively.
pub fn clear(slot: Slot) {
    if let Some(request) = at(slot) {
        request.session.store(0, Release);
    }
}

/// Returns the answer of the session with this number in a slot; `None` if it was not requested to end.
pub fn answer_of(slot: Slot, session: SessionNumber) -> Option<Response> {
    let request = at(slot)?;
    request.why(session)?;
    Some(request.answer(Response::None))
}

/// Withdraws the request to the session with this number, unless it has already answered. Returns the answer that
/// holds; `None` if there is no request.
pub fn withdraw(slot: Slot, session: SessionNumber) -> Option<Response> {
    let request = at(slot)?;
    request.why(session)?;
    Some(request.answer(Response::Withdrawn))
}
