//! Gives every session the seat that its standing asks for.

use super::Ledger;
use super::identity::Identity;
use super::license::{CountedBy, RowKey};
use super::session::{Seat, SeatKey, Session, Standing};
use super::table::{Table, Tables};

impl<T: Tables> Ledger<'_, T> {
    pub(super) fn claimed_tally(&self, database: u32, standing: Standing) -> u64 {
        standing
            .license
            .and_then(|place| self.licenses.get(&RowKey { database, place }))
            .map_or(0, |license| license.tally)
    }

    /// The seat that a session should hold.
    pub(super) fn seat_key(&self, session: &Session) -> Option<SeatKey> {
        if session.number == 0 || session.exempt.is_some() {
            return None;
        }
        let tally = self.tallies.get(&session.tally)?;
        Some(SeatKey {
            tally: tally.number,
            identity: Identity::of(tally.counted_by, &session.who, session.number),
        })
    }

    /// Gives every session the seat that it should hold by the rules as they are now.
    pub(super) fn recount_seats(&mut self) {
        self.reseat_all();
        let mut after = 0;
        while let Some(number) = self.next_rivalry(after) {
            after = number;
            self.settle_rival(number, None);
        }
    }

    /// Gives every session the seat that it should hold.
    pub(super) fn reseat_all(&mut self) {
        for at in 0..self.sessions.len() {
            self.reseat(at);
        }
    }

    pub(super) fn reseat(&mut self, at: usize) {
        let Some(session) = self.sessions.get(at).copied() else {
            return;
        };
        let key = self.seat_key(&session);
        if key == session.seat {
            return;
        }
        self.unseat(at);
        let Some(key) = key else { return };
        if let Some(seat) = self.seats.get_mut(&key) {
            seat.sessions += 1;
            seat.opened_at = seat.opened_at.min(session.since);
        } else {
            self.head.last_seat_id = self.head.last_seat_id.wrapping_add(1);
            self.seats.put(Seat {
                key,
                id: self.head.last_seat_id.to_be_bytes(),
                opened_at: session.since,
                sessions: 1,
            });
            if let Some(tally) = self.tallies.get_mut(&key.tally) {
                tally.in_use += 1;
            }
        }
        if let Some(session) = self.sessions.get_mut(at) {
            session.seat = Some(key);
        }
    }

    pub(super) fn unseat(&mut self, at: usize) {
        let Some(key) = self
            .sessions
            .get_mut(at)
            .and_then(|session| session.seat.take())
        else {
            return;
        };
        let Some(seat) = self.seats.get_mut(&key) else {
            return;
        };
        seat.sessions -= 1;
        if seat.sessions == 0 {
            self.seats.remove(&key);
            if let Some(tally) = self.tallies.get_mut(&key.tally) {
                tally.in_use -= 1;
            }
        }
    }

    /// Where two rules of counting rival and neither always gives more seats, the one that gives
    /// more to those who are in, and to a newcomer, rules. Rare: it costs a pass over all sessions.
    pub(super) fn settle_rival(&mut self, number: u64, newcomer: Option<&Session>) {
        let Some(tally) = self.tallies.get(&number).copied() else {
            return;
        };
        let Some(rival) = tally.rival else { return };
        let new = newcomer
            .and_then(|session| self.seat_key(session))
            .is_some_and(|key| self.seats.get(&key).is_none());
        if self.seats_given(number, rival, newcomer) > tally.in_use + i64::from(new) {
            if let Some(tally) = self.tallies.get_mut(&number) {
                tally.swap_rival();
            }
            self.reseat_all();
        }
    }

    fn next_rivalry(&self, after: u64) -> Option<u64> {
        let mut next: Option<u64> = None;
        self.tallies.each(|tally| {
            if tally.rival.is_some()
                && tally.number > after
                && next.is_none_or(|next| tally.number < next)
            {
                next = Some(tally.number);
            }
        });
        next
    }

    /// The seats that a rule would give to a tally's sessions and a newcomer: counted in the table
    /// of seats, under the number of no tally, and taken out again.
    fn seats_given(&mut self, tally: u64, rule: CountedBy, newcomer: Option<&Session>) -> i64 {
        let key = |session: &Session| {
            let counted = session.number != 0 && session.exempt.is_none() && session.tally == tally;
            counted.then(|| SeatKey {
                tally: NO_TALLY,
                identity: Identity::of(rule, &session.who, session.number),
            })
        };
        let Ledger {
            sessions, seats, ..
        } = self;
        let former = seats.len();
        for key in sessions.iter().chain(newcomer).filter_map(key) {
            seats.put(Seat {
                key,
                id: [0; 16],
                opened_at: 0,
                sessions: 0,
            });
        }
        let given = seats.len().saturating_sub(former) as i64;
        for key in sessions.iter().chain(newcomer).filter_map(key) {
            seats.remove(&key);
        }
        given
    }
}

/// The number of no tally.
const NO_TALLY: u64 = 0;
