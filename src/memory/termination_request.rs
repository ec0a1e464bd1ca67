//! A request that a session end: one for each session that there can be, beside the ledger.
//!
//! It is written under the ledger's exclusive lock, before the session is sent a signal. Only that session reads it, in
//! a signal handler and while it writes its last report, where it can't wait for anything: so all of it is atomic. It
//! names its session by the session's number, which is never used again, unlike slots and process ids.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64};

use crate::core::ledger::numbers::SessionNumber;
use crate::core::ledger::time::Timestamp;

/// Why a session is to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Why {
    /// An administrator stopped it.
    Stopped = 1,
    /// It has been inactive for too long.
    Idle = 2,
    /// It is inactive, and its seat gives way to somebody else.
    Reclaimed = 3,
}

/// What becomes of a request. The first to answer decides: the session, or the one who requested it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Response {
    /// The session has not looked yet.
    None = 0,
    /// The session ends.
    Ends = 1,
    /// The session is no longer inactive, and does not end.
    Stays = 2,
    /// The session no longer needs to end.
    Withdrawn = 3,
}

/// The size of the text, in bytes, with a byte to end it.
pub(super) const TEXT_MAX: usize = 272;

/// A request to one session.
pub struct TerminationRequest {
    /// The session's number; 0: no session.
    pub(super) session: AtomicU64,
    pub(super) why: AtomicU8,
    pub(super) answer: AtomicU8,
    /// The time since which the session was seen to be inactive.
    pub(super) inactive_since: AtomicI64,
    pub(super) text: [AtomicU8; TEXT_MAX],
}

impl TerminationRequest {
    /// Returns a request to no session.
    pub(super) const fn none() -> TerminationRequest {
        TerminationRequest {
            session: AtomicU64::new(0),
            why: AtomicU8::new(0),
            answer: AtomicU8::new(0),
            inactive_since: AtomicI64::new(0),
            text: [const { AtomicU8::new(0) }; TEXT_MAX],
        }
    }

    /// Returns why the session with this number is to end, if it is.
    pub fn why(&self, session: SessionNumber) -> Option<Why> {
        if session == SessionNumber::NONE || self.session.load(Acquire) != session.0 {
            return None;
        }
        [Why::Stopped, Why::Idle, Why::Reclaimed]
            .into_iter()
            .find(|why| *why as u8 == self.why.load(Relaxed))
    }

    /// Returns the time since which the session was seen to be inactive.
    pub fn inactive_since(&self) -> Timestamp {
        self.inactive_since.load(Relaxed)
    }

    /// Gives an answer, unless there is one already, and returns the answer that holds.
    pub fn answer(&self, answer: Response) -> Response {
        let former =
            self.answer
                .compare_exchange(Response::None as u8, answer as u8, AcqRel, Acquire);
        match former {
            Ok(_) => answer,
            Err(former) => [Response::Ends, Response::Stays, Response::Withdrawn]
                .into_iter()
                .find(|answer| *answer as u8 == former)
                .unwrap_or(Response::None),
        }
    }

    /// Returns what the session's client is told, in UTF-8.
    pub fn text(&self) -> String {
        let bytes = self.text.iter().map(|byte| byte.load(Relaxed));
        let bytes: Vec<u8> = bytes.take_while(|&byte| byte != 0).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}
