//! Has the longest idle seat give way to somebody who would be denied. One seat at a time is asked;
//! the next only when the one before won't be free.

use std::time::{Duration, Instant};

use super::{Ender, Inactivity, bid, leases_of};
use crate::ledger::Reclaim;
use crate::ledger::ending::Hope;
use crate::ledger::event::Leaving;
use crate::ledger::license::Timestamp;
use crate::ledger::session::SeatKey;
use crate::memory;
use crate::memory::farewell::{self, Why};
use crate::pg::{backend, status};

/// How long somebody who would be denied waits for those who are asked, in all.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long one seat's holders have to leave.
const TO_LEAVE: Duration = Duration::from_secs(2);

/// How often is looked whether they have.
const LOOK: Duration = Duration::from_millis(2);

/// A seat that may give way.
struct Candidate {
    number: u64,
    since: Timestamp,
    sessions: Vec<Ender>,
    leases: Vec<[u8; 16]>,
}

/// Asks idle seats to give way to this backend, which the ledger has told that they may. When it returns,
/// the ledger keeps a seat for it, or none would give way.
pub fn ask(reclaim: Reclaim) {
    let deadline = Instant::now() + PATIENCE;
    let mut asked: Vec<u64> = Vec::new();
    while Instant::now() < deadline {
        let mut candidates = candidates(reclaim);
        candidates.retain(|candidate| !asked.contains(&candidate.number));
        let Some(candidate) = candidates.first() else {
            return;
        };
        asked.push(candidate.number);
        if has_given_way(candidate, deadline) {
            return;
        }
    }
}

/// The idle seats, the one that has been so longest first.
fn candidates(reclaim: Reclaim) -> Vec<Candidate> {
    let look = Inactivity::of(|tally| tally == reclaim.tally, status::activities_now());
    let latest = look.now.saturating_sub(reclaim.idle_after);
    let mut candidates: Vec<Candidate> = look
        .holders
        .seats()
        .filter_map(|seat| {
            let inactive = look.of_seat(seat)?;
            let may = inactive.since <= latest && !inactive.in_transaction;
            may.then(|| Candidate {
                number: seat.number,
                since: inactive.since,
                sessions: Ender::all_of(seat, &look.activities),
                leases: leases_of(seat),
            })
        })
        .collect();
    candidates.sort_by_key(|candidate| (candidate.since, candidate.number));
    candidates
}

fn has_given_way(candidate: &Candidate, deadline: Instant) -> bool {
    let (at, number) = (backend::place(), candidate.number);
    let Some(key) = key_of(number) else {
        return false;
    };
    let asks = memory::write(|ledger| ledger.ask_to_give_way(&key, number, at, backend::now()));
    if asks != Some(true) {
        return false;
    }
    let asking = Asking { key, number, at };
    bid(
        &candidate.sessions,
        Why::Reclaimed,
        "Every seat was in use, and this one had been inactive longest.",
    );
    memory::write(|ledger| {
        let now = backend::now();
        ledger.end_leases(&candidate.leases, Leaving::Reclaim, candidate.since, now);
    });
    let deadline = deadline.min(Instant::now() + TO_LEAVE);
    loop {
        match memory::read(|ledger| ledger.hope(&key, number, at)) {
            Some(Hope::Fulfilled) => return true,
            Some(Hope::Open) if Instant::now() < deadline => {}
            _ => break,
        }
        let refused = |ender: &Ender| farewell::has_refused(ender.place, ender.pid);
        if candidate.sessions.iter().any(refused) {
            break;
        }
        backend::wait_for_wake(LOOK);
    }
    drop(asking);
    // It may have been left in the last moment.
    memory::read(|ledger| ledger.hope(&key, number, at)) == Some(Hope::Fulfilled)
}

/// A seat is asked to give way, until this is dropped: also by a cancel.
struct Asking {
    key: SeatKey,
    number: u64,
    at: usize,
}

impl Drop for Asking {
    fn drop(&mut self) {
        memory::write(|ledger| ledger.ask_no_longer(&self.key, self.number, self.at));
    }
}

fn key_of(number: u64) -> Option<SeatKey> {
    memory::read(|ledger| ledger.key_of_seat(number)).flatten()
}
