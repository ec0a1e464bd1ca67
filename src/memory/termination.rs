//! Asks sessions to end, and takes that back.
#![allow(unsafe_code, reason = "shared memory is raw memory")]

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::segment::attached;
use super::termination_request::TEXT_MAX;
pub use super::termination_request::{Answer, TerminationRequest, Why};
use crate::core::ledger::time::Timestamp;

/// Returns the request of the backend in a slot.
pub fn at(place: usize) -> Option<&'static TerminationRequest> {
    let attached = attached().filter(|attached| place < attached.places)?;
    // SAFETY: as many as there are places, made with the ledger and there as long as it is.
    Some(unsafe { &*attached.requests.add(place) })
}

/// Notes why the session at a place is to end, unless it does already. Only under the ledger's exclusive
/// lock.
pub fn bid(place: usize, session: u64, why: Why, inactive_since: Timestamp, text: &str) {
    let Some(request) = at(place) else { return };
    let answer = request.answer.load(Acquire);
    if request
        .why(session)
        .is_some_and(|why| why == Why::Stopped || answer == Answer::Ends as u8)
    {
        return;
    }
    request.session.store(0, Release);
    request.why.store(why as u8, Relaxed);
    request.answer.store(Answer::None as u8, Relaxed);
    request.inactive_since.store(inactive_since, Relaxed);
    let end = text.floor_char_boundary(TEXT_MAX - 1);
    let bytes = text.bytes().take(end).chain(std::iter::repeat(0));
    for (to, from) in request.text.iter().zip(bytes) {
        to.store(from, Relaxed);
    }
    request.session.store(session, Release);
}

/// Takes back what somebody was told who was at a place before, or is no longer there. Only under the
/// ledger's exclusive lock.
pub fn clear(place: usize) {
    if let Some(request) = at(place) {
        request.session.store(0, Release);
    }
}

/// What the session with this number at a place says; `None` when it was told nothing.
pub fn answer_of(place: usize, session: u64) -> Option<Answer> {
    let request = at(place)?;
    request.why(session)?;
    Some(request.answer(Answer::None))
}

/// The session with this number need not end any more, unless it does already: its answer.
pub fn withdraw(place: usize, session: u64) -> Option<Answer> {
    let request = at(place)?;
    request.why(session)?;
    Some(request.answer(Answer::Withdrawn))
}
