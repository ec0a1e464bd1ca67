//! Stops a session: ends every session and lease of a seat as one act.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::{Ender, bars, bid, leases_of, still_there};
use crate::core::ledger::acts::bars::Unbarrable;
use crate::core::ledger::acts::ending::{Stop, Stopping};
use crate::core::ledger::event::Leaving;
use crate::core::ledger::identity::Text;
use crate::core::ledger::numbers::{SeatNumber, SessionNumber, TallyId};
use crate::core::ledger::seat::SeatKey;
use crate::core::ledger::time::Timestamp;
use crate::holders::Holders;
use crate::memory;
use crate::memory::termination::Why;
use crate::pg::backend;

/// How long an administrator waits for those who are stopped.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// How often to check whether they have ended.
const LOOK: Duration = Duration::from_millis(2);

/// What came of a stop.
pub struct Stopped {
    /// How many sessions and leases have ended.
    pub ended: usize,
    /// Whether some have not, and keep the seat.
    pub left: bool,
    /// Whether the bar has no row yet.
    pub bar_unstored: bool,
}

/// Why a seat can't be stopped.
pub enum Refusal {
    /// The session that asks holds it.
    Own,
    /// Its holders can't be barred as requested.
    Unbarrable(Unbarrable),
}

/// Ends the holders of a seat of these tallies, and waits for them. `text` is what they are told.
pub fn stop(
    stop: &Stop,
    text: &str,
    is_wanted: impl Fn(TallyId) -> bool,
) -> Result<Stopped, Refusal> {
    let deadline = Instant::now() + PATIENCE;
    let mut stopped = Stopped {
        ended: 0,
        left: false,
        bar_unstored: false,
    };
    let known = memory::read(|ledger| {
        let key = ledger.key_of_seat(stop.seat)?;
        let is_own = ledger.holds(backend::slot(), &key, stop.seat);
        is_wanted(key.tally).then_some(is_own)
    });
    match known {
        None => return Ok(stopped),
        Some(true) => return Err(Refusal::Own),
        Some(false) => {}
    }
    match begin_to_end(stop) {
        Stopping::Begun(key) => {
            let ending = Ending { key, stop };
            let (sessions, leases) = end_holders(stop.seat, text, &is_wanted);
            let left = sessions_left(&sessions, deadline);
            stopped.ended = sessions.len() - left + leases;
            stopped.left = left > 0 || memory::read(|ledger| ledger.is_held(&key, stop.seat));
            drop(ending);
        }
        Stopping::Unbarrable(why) => return Err(Refusal::Unbarrable(why)),
        Stopping::Gone | Stopping::Needs(_) => {}
    }
    if stop.bar.is_some() {
        stopped.bar_unstored = !bars::await_stored(stop.database, deadline);
    }
    Ok(stopped)
}

/// Begins to end a seat. Nothing may be allocated under the lock, so room for those who are to be barred is made
/// before, until it is enough.
fn begin_to_end(stop: &Stop) -> Stopping {
    let mut whom = Vec::with_capacity(if stop.bar.is_some() { 8 } else { 0 });
    loop {
        match memory::write(|ledger| ledger.begin_to_end(stop, &mut whom, backend::now())) {
            Stopping::Needs(room) => {
                whom.clear();
                whom.reserve(room);
            }
            begun => return begun,
        }
    }
}

/// Ends all holders of a tally's seats in the name of this session, and waits for them at most `patience`.
pub fn stop_all(tally: TallyId, text: &str, patience: Duration) {
    let deadline = Instant::now() + patience;
    let is_wanted = |other| other == tally;
    let wish = Stop {
        seat: SeatNumber::NONE,
        database: backend::database(),
        by: backend::role(),
        reason: Text::EMPTY,
        bar: None,
        patient_until: backend::now().saturating_add(patience.as_micros() as i64),
    };
    let seats = Holders::of(is_wanted);
    let wishes: Vec<Stop> = seats
        .seats()
        .map(|seat| Stop {
            seat: seat.number,
            ..wish
        })
        .collect();
    let mut endings = Vec::with_capacity(wishes.len());
    let mut sessions = Vec::new();
    for stop in &wishes {
        if let Stopping::Begun(key) = begin_to_end(stop) {
            endings.push(Ending { key, stop });
            sessions.extend(end_holders(stop.seat, text, &is_wanted).0);
        }
    }
    sessions_left(&sessions, deadline);
}

/// A seat that is being ended until this is dropped, also by a cancel.
struct Ending<'a> {
    key: SeatKey,
    stop: &'a Stop,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        memory::write(|ledger| ledger.stop_ending(&self.key, self.stop));
    }
}

/// Requests the sessions that hold the seat to end, and ends its leases. Returns those sessions, and how many leases
/// there were. Nobody joins the seat meanwhile. Superusers are never ended.
fn end_holders(
    number: SeatNumber,
    text: &str,
    is_wanted: &impl Fn(TallyId) -> bool,
) -> (Vec<Ender>, usize) {
    let holders = Holders::of(is_wanted);
    let Some(seat) = holders.seats().find(|seat| seat.number == number) else {
        return (Vec::new(), 0);
    };
    let superusers: Vec<SessionNumber> = seat
        .holders()
        .filter_map(|holder| holder.session)
        .filter(|session| session.superuser)
        .map(|session| session.number)
        .collect();
    let mut sessions = Ender::all_of(seat, &HashMap::new());
    sessions.retain(|ender| !superusers.contains(&ender.number));
    bid(&sessions, Why::Stopped, text);
    let leases = leases_of(seat);
    let ended = memory::write(|ledger| {
        ledger.end_leases(
            &leases,
            Leaving::Termination,
            Timestamp::MAX,
            backend::now(),
        )
    });
    (sessions, ended)
}

/// Waits until all of these sessions have ended; returns how many have not by the deadline.
fn sessions_left(sessions: &[Ender], deadline: Instant) -> usize {
    loop {
        let left = still_there(sessions).len();
        if left == 0 || Instant::now() >= deadline {
            return left;
        }
        backend::wait_for_wake(LOOK);
    }
}
