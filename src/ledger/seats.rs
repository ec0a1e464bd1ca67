//! Gives every holder the seat that it asks for: a session by its login, an application by its
//! checkouts and leases.

use super::hold::{Hold, HoldKey};
use super::identity::Identity;
use super::license::{CountedBy, RowKey, Timestamp};
use super::session::{Claimant, Kind, NO_TALLY, Seat, SeatKey, Session, Standing};
use super::table::{Table, Tables};
use super::tally::Tally;
use super::{Head, Ledger};

impl<T: Tables> Ledger<'_, T> {
    pub(super) fn claimed_tally(&self, database: u32, standing: Standing) -> u64 {
        standing
            .license
            .and_then(|place| self.licenses.get(&RowKey { database, place }))
            .map_or(NO_TALLY, |license| license.tally)
    }

    /// The seat that a claimant should have.
    pub(super) fn seat_key(&self, claimant: &Claimant) -> Option<SeatKey> {
        let tally = self.tallies.get(&claimant.tally)?;
        Some(key_under(tally.counted_by, claimant))
    }

    /// Has that rule rule in every tally which gives most seats.
    pub(super) fn settle_rivals(&mut self) {
        let mut after = 0;
        while let Some(number) = self.next_rivalry(after) {
            after = number;
            self.settle_rival(number, None);
        }
    }

    /// Gives every holder the seat that it should have.
    pub(super) fn reseat_all(&mut self) {
        for at in 0..self.sessions.len() {
            self.reseat(at);
        }
        let Ledger {
            head,
            tallies,
            seats,
            holds,
            ..
        } = self;
        holds.each_mut(|hold| reseat_hold::<T>(head, seats, tallies, hold));
    }

    /// Gives a session's login the seat that it should have.
    pub(super) fn reseat(&mut self, at: usize) {
        let Some(session) = self.sessions.get(at).copied() else {
            return;
        };
        let key = self.seat_key(&session.claimant());
        if key == session.seat {
            return;
        }
        self.unseat(at);
        if let Some(key) = key {
            take::<T>(
                self.head,
                &mut self.seats,
                &mut self.tallies,
                key,
                Kind::Login,
                session.since,
            );
        }
        if let Some(session) = self.sessions.get_mut(at) {
            session.seat = key;
        }
    }

    /// Takes its seat from a session's login.
    pub(super) fn unseat(&mut self, at: usize) {
        let session: Option<&mut Session> = self.sessions.get_mut(at);
        if let Some(key) = session.and_then(|session| session.seat.take()) {
            give_back::<T>(&mut self.seats, &mut self.tallies, &key, Kind::Login);
        }
    }

    /// Puts a hold in, with the seat that it should have. There must be room for it.
    pub(super) fn put_hold(&mut self, hold: Hold) {
        let Ledger {
            head,
            tallies,
            seats,
            holds,
            ..
        } = self;
        if let Some(tally) = tallies.get_mut(&hold.tally) {
            tally.users += 1;
        }
        if let Some(hold) = holds.put(hold) {
            reseat_hold::<T>(head, seats, tallies, hold);
        }
    }

    /// Takes a hold out, and gives back its seat.
    pub(super) fn remove_hold(&mut self, key: &HoldKey) {
        let Some(hold) = self.holds.get_mut(key) else {
            return;
        };
        unseat_hold::<T>(&mut self.seats, &mut self.tallies, hold);
        drop_user::<T>(&mut self.tallies, hold.tally);
        let Hold {
            ended,
            database,
            who,
            ..
        } = *hold;
        self.holds.remove(key);
        self.drop_name(&who.client_user);
        if ended && let Some(known) = self.databases.get_mut(&database) {
            known.ended -= 1;
        }
    }

    /// Gives a hold the seat that it should have after this change of it.
    pub(super) fn change_hold(&mut self, key: &HoldKey, change: impl FnOnce(&mut Hold)) {
        let Ledger {
            head,
            tallies,
            seats,
            holds,
            ..
        } = self;
        if let Some(hold) = holds.get_mut(key) {
            change(hold);
            reseat_hold::<T>(head, seats, tallies, hold);
        }
    }

    /// Where two rules of counting rival and neither always gives more seats, the one that gives
    /// more to those who are in, and to a newcomer, rules. Rare: it costs a pass over all holders.
    pub(super) fn settle_rival(&mut self, number: u64, newcomer: Option<Claimant>) {
        let Some(tally) = self.tallies.get(&number).copied() else {
            return;
        };
        let Some(rival) = tally.rival else { return };
        let new = newcomer
            .and_then(|claimant| self.seat_key(&claimant))
            .is_some_and(|key| self.seats.get(&key).is_none());
        if self.seats_given(number, rival, newcomer) > tally.in_use + i64::from(new) {
            if let Some(tally) = self.tallies.get_mut(&number) {
                tally.swap_rival();
            }
            self.reseat_all();
        }
    }

    /// Two rules are compared in the table of seats itself. Where it has no room for that, nobody
    /// knows how many seats are in use, and there are no more.
    pub(super) fn can_settle(&self, number: u64) -> bool {
        self.tallies.get(&number).is_none_or(|tally| {
            let holders = tally.users as usize + self.sessions.len() + 1;
            tally.rival.is_none() || self.seats.len() + holders <= self.seats.capacity()
        })
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

    /// The seats that a rule would give to a tally's holders and a newcomer: counted in the table
    /// of seats, under the number of no tally, and taken out again.
    fn seats_given(&mut self, tally: u64, rule: CountedBy, newcomer: Option<Claimant>) -> i64 {
        let key = |claimant: Claimant| {
            (claimant.tally == tally).then(|| SeatKey {
                tally: NO_TALLY,
                ..key_under(rule, &claimant)
            })
        };
        let Ledger {
            sessions,
            seats,
            holds,
            ..
        } = self;
        let former = seats.len();
        let each = |see: &mut dyn FnMut(SeatKey)| {
            let logins = sessions.iter().map(Session::claimant).chain(newcomer);
            logins.filter_map(key).for_each(&mut *see);
            holds.each(|hold| {
                if let Some(key) = key(hold.claimant()) {
                    see(key);
                }
            });
        };
        each(&mut |key| {
            seats.put(Seat::new(key, 0, 0));
        });
        let given = seats.len().saturating_sub(former) as i64;
        each(&mut |key| seats.remove(&key));
        given
    }
}

fn key_under(rule: CountedBy, claimant: &Claimant) -> SeatKey {
    SeatKey {
        tally: claimant.tally,
        identity: Identity::of(rule, &claimant.who, claimant.number),
    }
}

fn reseat_hold<T: Tables>(
    head: &mut Head,
    seats: &mut T::Of<Seat>,
    tallies: &mut T::Of<Tally>,
    hold: &mut Hold,
) {
    let claimant = hold.claimant();
    let rule = tallies.get(&claimant.tally).map(|tally| tally.counted_by);
    if rule == hold.seated {
        return;
    }
    unseat_hold::<T>(seats, tallies, hold);
    if let Some(rule) = rule {
        let key = key_under(rule, &claimant);
        hold.seat = take::<T>(head, seats, tallies, key, hold.kind(), hold.since());
    }
    hold.seated = rule;
}

pub(super) fn unseat_hold<T: Tables>(
    seats: &mut T::Of<Seat>,
    tallies: &mut T::Of<Tally>,
    hold: &mut Hold,
) {
    if let Some(key) = hold.seat_key() {
        hold.seated = None;
        give_back::<T>(seats, tallies, &key, hold.kind());
    }
}

impl Hold {
    /// The key of the seat that it has.
    pub(super) fn seat_key(&self) -> Option<SeatKey> {
        let claimant = Claimant {
            tally: self.tally,
            who: self.whose(),
            number: self.number,
        };
        self.seated.map(|rule| key_under(rule, &claimant))
    }
}

/// A hold or wait less counts in a tally.
pub(super) fn drop_user<T: Tables>(tallies: &mut T::Of<Tally>, number: u64) {
    if let Some(tally) = tallies.get_mut(&number) {
        tally.users -= 1;
    }
}

/// One more holder has a seat, which is taken if it was free; its number.
fn take<T: Tables>(
    head: &mut Head,
    seats: &mut T::Of<Seat>,
    tallies: &mut T::Of<Tally>,
    key: SeatKey,
    kind: Kind,
    since: Timestamp,
) -> u64 {
    if let Some(seat) = seats.get_mut(&key) {
        *seat.holders(kind) += 1;
        seat.opened_at = seat.opened_at.min(since);
        return seat.number;
    }
    head.numbers += 1;
    let number = head.numbers;
    let mut seat = Seat::new(key, number, since);
    *seat.holders(kind) = 1;
    seats.put(seat);
    if let Some(tally) = tallies.get_mut(&key.tally) {
        tally.in_use += 1;
    }
    number
}

/// One holder less has a seat, which is free if that was the last.
fn give_back<T: Tables>(
    seats: &mut T::Of<Seat>,
    tallies: &mut T::Of<Tally>,
    key: &SeatKey,
    kind: Kind,
) {
    let Some(seat) = seats.get_mut(key) else {
        return;
    };
    *seat.holders(kind) -= 1;
    if seat.is_free() {
        seats.remove(key);
        if let Some(tally) = tallies.get_mut(&key.tally) {
            tally.in_use -= 1;
        }
    }
}
