//! Gives every holder the seat that it should have: a session for its login, an application for its checkouts and
//! leases.

use crate::core::ledger::event::Leaving;
use crate::core::ledger::hold::{Hold, HoldKey};
use crate::core::ledger::identity::Identity;
use crate::core::ledger::license::{License, RowKey};
use crate::core::ledger::numbers::{DatabaseOid, SeatNumber, Slot, TallyId};
use crate::core::ledger::seat::{Claimant, Kind, Seat, SeatIds, SeatKey, Standing};
use crate::core::ledger::table::{Table, Tables};
use crate::core::ledger::taker::{Taker, left_by, taken_by};
use crate::core::ledger::tally::Tally;
use crate::core::ledger::time::Timestamp;
use crate::core::ledger::words::CountedBy;
use crate::core::ledger::{Head, Ledger};

impl<T: Tables> Ledger<'_, T> {
    /// Returns the license that somebody was judged to claim.
    pub(crate) fn claimed_license(
        &self,
        database: DatabaseOid,
        standing: Standing,
    ) -> Option<&License> {
        let key = standing.license.map(|place| RowKey { database, place })?;
        self.licenses.get(&key)
    }

    /// Returns the tally of that license.
    pub(crate) fn claimed_tally(&self, database: DatabaseOid, standing: Standing) -> TallyId {
        self.claimed_license(database, standing)
            .map_or(TallyId::NONE, |license| license.tally)
    }

    /// Returns the key of the seat that a claimant should have.
    pub(crate) fn seat_key(&self, claimant: &Claimant) -> Option<SeatKey> {
        let tally = self.tallies.get(&claimant.tally)?;
        Some(tally.key_of(self.head.seat_ids, claimant))
    }

    /// Gives every holder the seat that it should have, and those in the queue what is free then, after rules have
    /// changed.
    pub(crate) fn settle_all(&mut self, now: Timestamp) {
        self.reseat_all();
        self.recount_takers();
        self.end_lingering(now);
        self.serve_all(now);
    }

    /// Gives every holder the seat that it should have.
    fn reseat_all(&mut self) {
        for slot in self.sessions.slots() {
            self.reseat(slot);
        }
        let (mut counter, holds) = self.counter_and_holds();
        holds.each_mut(|hold| {
            counter.reseat_hold(hold);
        });
    }

    /// Gives a session's login the seat that it should have, and returns the seat's number if nobody held it.
    pub(crate) fn reseat(&mut self, slot: Slot) -> Option<SeatNumber> {
        let session = self.sessions.get(slot)?;
        let (claimant, since) = (session.claimant(), session.since);
        let key = self.seat_key(&claimant);
        if key == session.seat {
            return None;
        }
        self.unseat(slot, Linger::NOT);
        self.sessions.get_mut(slot)?.seat = key;
        let mut counter = self.counter();
        let taken = counter.take(key?, &claimant, Kind::Login, since);
        taken.number_if_free()
    }

    /// Takes its seat from a session's login, and returns the seat if nobody holds it any more.
    pub(crate) fn unseat(&mut self, slot: Slot, linger: Linger) -> Option<Seat> {
        let key = self.sessions.get_mut(slot)?.seat.take()?;
        self.counter().give_back(&key, Kind::Login, linger)
    }

    /// Returns how long a seat lingers that a holder in this database leaves now, for this reason.
    pub(crate) fn linger_after(
        &self,
        leaving: Leaving,
        database: DatabaseOid,
        tally: TallyId,
        now: Timestamp,
    ) -> Linger {
        use Leaving::{IdleLogOff, Reclaim, Termination};
        if matches!(leaving, IdleLogOff | Reclaim | Termination) {
            // The seat was taken away from its holder.
            return Linger::NOT;
        }
        let license = self.license_in(database, tally);
        Linger {
            now,
            until: Some(license.map_or(0, |license| now.saturating_add(license.linger))),
        }
    }

    /// Puts a hold in, with the seat that it should have, and returns the seat's number if nobody held it. There must
    /// be room for the hold.
    pub(crate) fn put_hold(&mut self, hold: Hold) -> Option<SeatNumber> {
        let (mut counter, holds) = self.counter_and_holds();
        if let Some(tally) = counter.tallies.get_mut(&hold.tally) {
            tally.users += 1;
        }
        if hold.will_end() {
            counter.head.next_due = counter.head.next_due.min(hold.expires_at);
        }
        counter.reseat_hold(holds.put(hold)?)?.number_if_free()
    }

    /// Takes a hold out, gives back its seat, and returns the seat if nobody holds it any more.
    pub(crate) fn remove_hold(&mut self, key: &HoldKey, linger: Linger) -> Option<Seat> {
        let (mut counter, holds) = self.counter_and_holds();
        let hold = holds.get_mut(key)?;
        let left = counter.unseat_hold(hold, linger);
        drop_user::<T>(counter.tallies, hold.tally);
        let Hold {
            ended,
            pending,
            database,
            who,
            ..
        } = *hold;
        self.holds.remove(key);
        self.drop_name(&who.client_user);
        if ended
            && !pending
            && let Some(known) = self.databases.get_mut(&database)
        {
            known.leases.ended -= 1;
        }
        left
    }

    /// Changes a hold, and gives it the seat that it should have afterwards.
    pub(crate) fn change_hold(&mut self, key: &HoldKey, change: impl FnOnce(&mut Hold)) {
        let (mut counter, holds) = self.counter_and_holds();
        if let Some(hold) = holds.get_mut(key) {
            change(hold);
            counter.reseat_hold(hold);
        }
    }

    /// Lends the seats and what counts them.
    pub(crate) fn counter(&mut self) -> Counter<'_, T> {
        self.counter_and_holds().0
    }

    /// Lends the seats and what counts them, and what applications hold.
    pub(crate) fn counter_and_holds(&mut self) -> (Counter<'_, T>, &mut T::Of<Hold>) {
        let Ledger {
            head,
            tallies,
            seats,
            takers,
            holds,
            ..
        } = self;
        let counter = Counter {
            head,
            seats,
            tallies,
            takers,
        };
        (counter, holds)
    }

    /// Returns the number of seats that are still taken though nobody holds them any more.
    pub fn lingering(&self) -> usize {
        lingering::<T>(&self.tallies)
    }

    /// Frees the seats that have lingered as long as the present licenses allow, and those whose identities were made
    /// by a former counting rule.
    pub(crate) fn end_lingering(&mut self, now: Timestamp) {
        let mut next_due = self.head.next_due;
        self.counter().free_lingering(|seat, tally| {
            let longest = now.saturating_add(tally.linger);
            seat.lingers_until = seat.lingers_until.min(longest);
            let ends = seat.lingers_until <= now || seat.rule != tally.counted_by;
            if !ends {
                next_due = next_due.min(seat.lingers_until);
            }
            ends
        });
        self.head.next_due = next_due;
    }
}

impl Tally {
    /// Returns the key of the seat that a claimant in this tally should have.
    pub(crate) fn key_of(&self, ids: SeatIds, claimant: &Claimant) -> SeatKey {
        key_under(ids, self.counted_by, claimant)
    }
}

fn key_under(ids: SeatIds, rule: CountedBy, claimant: &Claimant) -> SeatKey {
    SeatKey {
        tally: claimant.tally,
        identity: Identity::of(ids.salt, rule, &claimant.who, claimant.number),
    }
}

/// How long a seat stays taken after its last holder has left.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Linger {
    /// The moment at which it is left.
    now: Timestamp,
    /// When the lingering ends; `None` to let it end as if the one who leaves had not been there.
    until: Option<Timestamp>,
}

impl Linger {
    /// The seat is free at once, even if it would have lingered before somebody joined it.
    pub(crate) const NOT: Linger = Linger {
        now: Timestamp::MAX,
        until: None,
    };

    /// Lets the seat linger as it would have without the one who leaves.
    pub(crate) fn as_before(now: Timestamp) -> Linger {
        Linger { now, until: None }
    }
}

impl Hold {
    /// Returns the key of the seat that it has.
    pub(crate) fn seat_key(&self, ids: SeatIds) -> Option<SeatKey> {
        let claimant = Claimant {
            tally: self.tally,
            who: self.whose(),
            number: self.number,
            roles: self.roles,
            database: self.database,
            by_lease: self.kind() == Kind::Lease,
        };
        self.seated.map(|rule| key_under(ids, rule, &claimant))
    }
}

/// Notes that one hold or wait fewer counts in a tally.
pub(crate) fn drop_user<T: Tables>(tallies: &mut T::Of<Tally>, tally: TallyId) {
    if let Some(tally) = tallies.get_mut(&tally) {
        tally.users -= 1;
    }
}

/// The seats and what counts them, lent apart from those who hold seats.
pub(crate) struct Counter<'a, T: Tables> {
    pub(crate) head: &'a mut Head,
    pub(crate) seats: &'a mut T::Of<Seat>,
    pub(crate) tallies: &'a mut T::Of<Tally>,
    pub(crate) takers: &'a mut T::Of<Taker>,
}

/// A seat that somebody has taken.
struct Taken {
    number: SeatNumber,
    /// Whether others hold it, too.
    shared: bool,
}

impl Taken {
    /// Returns the seat's number, unless somebody held it already.
    fn number_if_free(self) -> Option<SeatNumber> {
        (!self.shared).then_some(self.number)
    }
}

impl<T: Tables> Counter<'_, T> {
    /// Gives a hold the seat that it should have, and returns that seat if the hold did not have it before.
    fn reseat_hold(&mut self, hold: &mut Hold) -> Option<Taken> {
        let claimant = hold.claimant();
        let tally = self.tallies.get(&claimant.tally);
        let rule = tally.map(|tally| tally.counted_by);
        if rule == hold.seated {
            return None;
        }
        self.unseat_hold(hold, Linger::NOT);
        hold.seated = rule;
        let key = key_under(self.head.seat_ids, rule?, &claimant);
        let taken = self.take(key, &claimant, hold.kind(), hold.since());
        hold.seat = taken.number;
        Some(taken)
    }

    /// Takes its seat from a hold, and returns the seat if nobody holds it any more.
    pub(crate) fn unseat_hold(&mut self, hold: &mut Hold, linger: Linger) -> Option<Seat> {
        let key = hold.seat_key(self.head.seat_ids)?;
        hold.seated = None;
        self.give_back(&key, hold.kind(), linger)
    }

    /// Adds a holder to a seat, which is taken if it was free.
    fn take(&mut self, key: SeatKey, claimant: &Claimant, kind: Kind, since: Timestamp) -> Taken {
        if let Some(seat) = self.seats.get_mut(&key) {
            let shared = seat.is_held();
            if !shared && let Some(tally) = self.tallies.get_mut(&key.tally) {
                tally.lingering -= 1;
            }
            *seat.holders(kind) += 1;
            seat.opened_at = seat.opened_at.min(since);
            let number = seat.number;
            return Taken { number, shared };
        }
        if self.seats.len() >= self.seats.capacity() {
            // There is room for all who hold seats, but not for as many lingering seats.
            self.give_way();
        }
        let number = SeatNumber(self.head.next_number());
        let mut seat = Seat::new(key, number, since);
        *seat.holders(kind) = 1;
        seat.role = claimant.who.role;
        seat.database = claimant.database;
        seat.host = claimant.who.host;
        seat.client_user = claimant.who.client_user;
        seat.of_workstation = !claimant.who.workstation.is_empty();
        seat.roles = claimant.roles;
        seat.by_lease = claimant.by_lease;
        if let Some(tally) = self.tallies.get_mut(&key.tally) {
            tally.in_use += 1;
            tally.used_by.add(seat.roles);
            seat.rule = tally.counted_by;
            if tally.limits_users {
                taken_by::<T>(self.head.seat_ids, self.takers, &seat);
            }
        }
        self.seats.put(seat);
        Taken {
            number,
            shared: false,
        }
    }

    /// Counts a seat that is free now.
    pub(crate) fn left(&mut self, seat: &Seat) {
        if let Some(tally) = self.tallies.get_mut(&seat.key.tally) {
            tally.left(seat.roles);
            if tally.limits_users {
                left_by::<T>(self.head.seat_ids, self.takers, seat);
            }
        }
    }

    /// Frees lingering seats to make room: those of the tally that has most, so that nobody's lingering seats go
    /// because of what others let linger. Returns `false` if no seat lingers.
    pub(crate) fn give_way(&mut self) -> bool {
        let (mut most, mut whose) = (0, TallyId::NONE);
        self.tallies.each(|tally| {
            if tally.lingering > most {
                (most, whose) = (tally.lingering, tally.number);
            }
        });
        self.free_lingering(|seat, _| seat.key.tally == whose);
        self.head.made_room |= most > 0;
        most > 0
    }

    /// Frees the lingering seats for which `ends` returns `true`.
    fn free_lingering(&mut self, mut ends: impl FnMut(&mut Seat, &Tally) -> bool) {
        if lingering::<T>(self.tallies) == 0 {
            return;
        }
        let ids = self.head.seat_ids;
        let Counter {
            seats,
            tallies,
            takers,
            ..
        } = self;
        seats.retain(|seat| {
            if seat.is_held() {
                return true;
            }
            let Some(tally) = tallies.get_mut(&seat.key.tally) else {
                return false;
            };
            let free = ends(seat, tally);
            if free {
                tally.left(seat.roles);
                tally.lingering -= 1;
                if tally.limits_users {
                    left_by::<T>(ids, takers, seat);
                }
            }
            !free
        });
    }

    /// Takes a holder off a seat. If it was the last, returns the seat, which is free now or lingers.
    fn give_back(&mut self, key: &SeatKey, kind: Kind, linger: Linger) -> Option<Seat> {
        let seat = self.seats.get_mut(key)?;
        *seat.holders(kind) -= 1;
        if let Some(until) = linger.until.filter(|_| !seat.ending) {
            seat.lingers_until = until;
        }
        if seat.is_held() {
            return None;
        }
        let tally = self.tallies.get_mut(&key.tally);
        let longest = tally.as_ref().map_or(0, |tally| tally.linger);
        seat.lingers_until = seat.lingers_until.min(linger.now.saturating_add(longest));
        // Somebody who is being stopped may also leave on their own.
        let lingers = !seat.ending && seat.lingers_until > linger.now;
        if !lingers {
            seat.lingers_until = 0;
        }
        let left = *seat;
        if lingers {
            self.head.next_due = self.head.next_due.min(left.lingers_until);
            tally.into_iter().for_each(|tally| tally.lingering += 1);
        } else {
            self.seats.remove(key);
            self.left(&left);
        }
        Some(left)
    }
}

fn lingering<T: Tables>(tallies: &T::Of<Tally>) -> usize {
    let mut lingering = 0;
    tallies.each(|tally| lingering += tally.lingering);
    usize::try_from(lingering).unwrap_or(0)
}
