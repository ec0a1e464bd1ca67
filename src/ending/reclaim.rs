//! Asks the seat that has been idle longest to give way to somebody who would be denied. One seat is asked at a time,
//! and the next only once it is clear that the one before won't be free.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use super::{Ender, Inactivity, bid, leases_of, still_there};
use crate::core::ledger::acts::ending::Prospect;
use crate::core::ledger::denial::Reclaim;
use crate::core::ledger::event::Leaving;
use crate::core::ledger::numbers::{SeatNumber, SessionNumber, Slot, TallyId};
use crate::core::ledger::seat::SeatKey;
use crate::core::ledger::table::Table;
use crate::core::ledger::time::Timestamp;
use crate::holders::Holders;
use crate::memory::termination::{self, Response, Why};
use crate::memory::{self};
use crate::pg::{backend, status};

/// How long somebody who would be denied waits for the seats that are asked, in all.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the holders of one seat have to leave.
const TO_LEAVE: Duration = Duration::from_secs(2);

/// How often to check whether others still ask for the seats that remain.
const WHILE_ASKED: Duration = Duration::from_millis(20);

/// How often to check whether the holders have left.
const LOOK: Duration = Duration::from_millis(2);

/// A seat that may give way.
struct Candidate {
    number: SeatNumber,
    since: Timestamp,
    sessions: Vec<Ender>,
    leases: Vec<[u8; 16]>,
}

/// Asks idle seats to give way to this backend, once the ledger has said that they may, but not beyond `deadline`.
/// Returns true if the ledger keeps a seat for it or none would give way, false if a seat became free in another way.
pub fn ask(reclaim: Reclaim, deadline: Instant) -> bool {
    let deadline = deadline.min(latest_answer());
    let mut asked: Vec<SeatNumber> = Vec::new();
    while Instant::now() < deadline {
        let (mut candidates, may_be_more) = candidates(reclaim);
        candidates.retain(|candidate| !asked.contains(&candidate.number));
        if candidates.is_empty() && !may_be_more {
            return true;
        }
        let first = candidates
            .iter()
            .find_map(|candidate| Some((candidate.number, ask_one(candidate, deadline)?)));
        match first {
            Some((number, Asked::Stays)) => asked.push(number),
            Some((_, Asked::GaveWay | Asked::StillEnding)) => return true,
            Some((_, Asked::IsFree)) => return false,
            // Others ask for all of them, but may need none in the end.
            None => backend::wait_for_wake(WHILE_ASKED),
        }
    }
    true
}

/// Returns the latest time at which somebody who begins to ask now is told.
pub fn latest_answer() -> Instant {
    Instant::now() + PATIENCE
}

/// What came of asking a seat to give way.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// It is kept for this backend.
    GaveWay,
    /// Its holders keep it, or it gives way to somebody else.
    Stays,
    /// There is a free seat, and none needs to give way.
    IsFree,
    /// Some of its holders are ending but have not ended: no other seat may be asked.
    StillEnding,
}

/// Returns the idle seats, the longest idle first, and whether more may have become idle since they were looked at.
fn candidates(reclaim: Reclaim) -> (Vec<Candidate>, bool) {
    let newest = memory::read(|ledger| SeatNumber(ledger.head.numbers));
    // Seats of other products, too, because a session gives up all that it holds.
    let look = Inactivity::of(|_| true, status::activities_now());
    let latest = look.now.saturating_sub(reclaim.idle_after);
    let latest_now = backend::now().saturating_sub(reclaim.idle_after);
    let mut may_be_more =
        latest_now >= look.now && has_unseen(reclaim.tally, newest, &look.holders);
    let mut seats_of: HashMap<SessionNumber, usize> = HashMap::new();
    for seat in look.holders.seats() {
        for ender in Ender::all_of(seat, &look.activities) {
            *seats_of.entry(ender.number).or_default() += 1;
        }
    }
    let mut candidates: Vec<Candidate> = look
        .holders
        .seats()
        .filter(|seat| seat.tally == reclaim.tally)
        .filter_map(|seat| {
            let inactive = look.of_seat(seat)?;
            may_be_more |= inactive.since > latest && inactive.since <= latest_now;
            let may = inactive.since <= latest && !inactive.in_transaction;
            let sessions = Ender::all_of(seat, &look.activities);
            // If a session has several seats, all of them would go for one newcomer.
            let single = |ender: &Ender| seats_of.get(&ender.number) == Some(&1);
            (may && sessions.iter().all(single)).then(|| Candidate {
                number: seat.number,
                since: inactive.since,
                leases: leases_of(seat),
                sessions,
            })
        })
        .collect();
    // A seat that somebody else had asked, and that was handed over to this backend, comes first.
    let asked = memory::read(|ledger| ledger.asked_by(backend::slot()));
    candidates.sort_by_key(|candidate| {
        let is_asked = Some(candidate.number) == asked;
        (!is_asked, candidate.since, candidate.number)
    });
    (candidates, may_be_more)
}

/// Tells whether a tally has a seat with a higher number than this that is not among those seen.
fn has_unseen(tally: TallyId, number: SeatNumber, seen: &Holders) -> bool {
    let seen: HashSet<SeatNumber> = seen.seats().map(|seat| seat.number).collect();
    memory::read(|ledger| {
        let mut found = false;
        ledger.seats.each(|seat| {
            let is_newer = seat.key.tally == tally && seat.number > number;
            found |= is_newer && !seen.contains(&seat.number);
        });
        found
    })
}

/// Asks one seat to give way. `None` if somebody else has asked it, to whom it may give way.
fn ask_one(candidate: &Candidate, deadline: Instant) -> Option<Asked> {
    let number = candidate.number;
    let Some(key) = key_of(number) else {
        return Some(Asked::Stays);
    };
    let slot = backend::slot();
    match memory::write(|ledger| ledger.ask_to_give_way(&key, number, slot, backend::now())) {
        Prospect::Open => Some(await_answer(candidate, &key, deadline)),
        Prospect::Fulfilled => Some(Asked::GaveWay),
        Prospect::Free => Some(Asked::IsFree),
        Prospect::Taken => None,
        Prospect::Gone => Some(Asked::Stays),
    }
}

/// Requests the holders of a seat to end, and waits for the outcome.
fn await_answer(candidate: &Candidate, key: &SeatKey, deadline: Instant) -> Asked {
    let (slot, number) = (backend::slot(), candidate.number);
    let mut asking = Asking {
        slot,
        seat: number,
        sessions: candidate.sessions.clone(),
    };
    bid(
        &asking.sessions,
        Why::Reclaimed,
        "Every seat was in use, and this one had been inactive longest.",
    );
    // A session that ended before this may have answered an earlier request.
    asking.sessions = still_there(&candidate.sessions);
    let mut leases = candidate.leases.as_slice();
    let to_leave = deadline.min(Instant::now() + TO_LEAVE);
    let mut must_leave = false;
    loop {
        let sessions_gone = still_there(&asking.sessions).is_empty();
        if sessions_gone && !leases.is_empty() {
            // Only now: if a session stays, so do the leases.
            memory::write(|ledger| {
                let now = backend::now();
                ledger.end_leases(leases, Leaving::Reclaim, candidate.since, now);
            });
            leases = &[];
        }
        match memory::read(|ledger| ledger.hope(key, number, slot)) {
            Prospect::Fulfilled => return Asked::GaveWay,
            Prospect::Free => return Asked::IsFree,
            // A lease was extended meanwhile.
            Prospect::Open if sessions_gone => return Asked::Stays,
            Prospect::Open => {}
            Prospect::Taken | Prospect::Gone => return Asked::Stays,
        }
        if asking.hears(Response::Stays, termination::answer_of) {
            return Asked::Stays;
        }
        let now = Instant::now();
        if now >= deadline {
            return Asked::StillEnding;
        }
        if now >= to_leave && !must_leave {
            // A session that has begun to end can't be called back.
            if !asking.hears(Response::Ends, termination::withdraw) {
                return Asked::Stays;
            }
            must_leave = true;
        }
        backend::wait_for_wake(LOOK);
    }
}

/// A seat that is asked to give way until this is dropped, also by a cancel.
struct Asking {
    slot: Slot,
    /// The seat's number.
    seat: SeatNumber,
    sessions: Vec<Ender>,
}

impl Asking {
    /// Tells whether one of the sessions gives this answer. It asks each of them.
    fn hears(&self, answer: Response, ask: fn(Slot, SessionNumber) -> Option<Response>) -> bool {
        let mut heard = false;
        for ender in &self.sessions {
            heard |= ask(ender.slot, ender.number) == Some(answer);
        }
        heard
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        memory::write(|ledger| {
            let asker = ledger.asker_of(self.seat);
            if asker == Some(self.slot) {
                ledger.ask_no_longer(self.slot);
            }
            // Somebody else may ask the seat by now.
            if asker.is_none_or(|asker| asker == self.slot) {
                // A session that has not begun to end no longer needs to.
                self.hears(Response::Withdrawn, termination::withdraw);
            }
        });
    }
}

fn key_of(number: SeatNumber) -> Option<SeatKey> {
    memory::read(|ledger| ledger.key_of_seat(number))
}
