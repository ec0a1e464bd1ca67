//! Gives every holder the seat that it asks for: a session by its login, an application by its
//! checkouts and leases.

use super::event::Leaving;
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
        Some(tally.key_of(claimant))
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
        holds.each_mut(|hold| {
            reseat_hold::<T>(head, seats, tallies, hold);
        });
    }

    /// Gives a session's login the seat that it should have; its number, if nobody held it.
    pub(super) fn reseat(&mut self, at: usize) -> Option<u64> {
        let session = self.sessions.get(at)?;
        let (claimant, since) = (session.claimant(), session.since);
        let key = self.seat_key(&claimant);
        if key == session.seat {
            return None;
        }
        self.unseat(at, Linger::NOT);
        self.sessions.get_mut(at)?.seat = key;
        let taken = take::<T>(
            self.head,
            &mut self.seats,
            &mut self.tallies,
            key?,
            &claimant,
            Kind::Login,
            since,
        );
        taken.number_if_free()
    }

    /// Takes its seat from a session's login; the seat, if nobody holds it any more.
    pub(super) fn unseat(&mut self, at: usize, linger: Linger) -> Option<Seat> {
        let key = self.sessions.get_mut(at)?.seat.take()?;
        let Ledger {
            head,
            tallies,
            seats,
            ..
        } = self;
        give_back::<T>(head, seats, tallies, &key, Kind::Login, linger)
    }

    /// How long a seat lingers that is left now, for this reason, by a holder from this database.
    pub(super) fn linger_after(
        &self,
        leaving: Leaving,
        database: u32,
        tally: u64,
        now: Timestamp,
    ) -> Linger {
        use Leaving::{IdleLogOff, Reclaim, Termination};
        if matches!(leaving, IdleLogOff | Reclaim | Termination) {
            // It was taken away from its holder.
            return Linger::NOT;
        }
        let license = self
            .licenses_of(database)
            .find(|license| license.tally == tally);
        Linger {
            now,
            until: Some(license.map_or(0, |license| now.saturating_add(license.linger))),
        }
    }

    /// Puts a hold in, with the seat that it should have: its number, if nobody held it. There must be
    /// room for it.
    pub(super) fn put_hold(&mut self, hold: Hold) -> Option<u64> {
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
        reseat_hold::<T>(head, seats, tallies, holds.put(hold)?)?.number_if_free()
    }

    /// Takes a hold out, and gives back its seat: what is left of it, if nobody holds it any more.
    pub(super) fn remove_hold(&mut self, key: &HoldKey, linger: Linger) -> Option<Seat> {
        let Ledger {
            head,
            tallies,
            seats,
            holds,
            ..
        } = self;
        let hold = holds.get_mut(key)?;
        let left = unseat_hold::<T>(head, seats, tallies, hold, linger);
        drop_user::<T>(tallies, hold.tally);
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
        left
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

    /// How many seats nobody holds any more that are taken still.
    pub fn lingering(&self) -> usize {
        lingering::<T>(&self.tallies)
    }

    /// Frees the seats that have lingered as long as they may by the licenses of now, and those whose
    /// identities are made by another rule since.
    pub(super) fn end_lingering(&mut self, now: Timestamp) {
        let head = &mut *self.head;
        free_lingering::<T>(&mut self.seats, &mut self.tallies, |seat, tally| {
            let longest = now.saturating_add(tally.linger);
            seat.lingers_until = seat.lingers_until.min(longest);
            let ends = seat.lingers_until <= now || seat.rule != tally.counted_by;
            if !ends {
                head.next_due = head.next_due.min(seat.lingers_until);
            }
            ends
        });
    }

    /// Where two rules of counting rival and neither always gives more seats, the one that gives
    /// more to those who are in, and to a newcomer, rules. Rare: it costs a pass over all holders.
    pub(super) fn settle_rival(&mut self, number: u64, newcomer: Option<Claimant>) {
        let Some(tally) = self.tallies.get(&number) else {
            return;
        };
        let held = tally.in_use - tally.lingering;
        let Some(rival) = tally.rival else { return };
        let new = newcomer
            .and_then(|claimant| self.seat_key(&claimant))
            .is_some_and(|key| self.seats.get(&key).is_none_or(|seat| !seat.is_held()));
        if self.seats_given(number, rival, newcomer) > held + i64::from(new) {
            if let Some(tally) = self.tallies.get_mut(&number) {
                tally.swap_rival();
            }
            self.reseat_all();
            // Nobody comes back under the identities of the other rule.
            free_lingering::<T>(&mut self.seats, &mut self.tallies, |seat, tally| {
                seat.rule != tally.counted_by
            });
        }
    }

    /// Two rules are compared in the table of seats itself. Where it has no room for that, nobody
    /// knows how many seats are in use, and there are no more.
    pub(super) fn can_settle(&self, tally: &Tally) -> bool {
        let holders = tally.users as usize + self.sessions.len() + 1;
        tally.rival.is_none() || self.seats.len() + holders <= self.seats.capacity()
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

impl Tally {
    /// The seat that a claimant of one of its seats should have.
    pub(super) fn key_of(&self, claimant: &Claimant) -> SeatKey {
        key_under(self.counted_by, claimant)
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
) -> Option<Taken> {
    let claimant = hold.claimant();
    let rule = tallies.get(&claimant.tally).map(|tally| tally.counted_by);
    if rule == hold.seated {
        return None;
    }
    unseat_hold::<T>(head, seats, tallies, hold, Linger::NOT);
    hold.seated = rule;
    let key = key_under(rule?, &claimant);
    let (kind, since) = (hold.kind(), hold.since());
    let taken = take::<T>(head, seats, tallies, key, &claimant, kind, since);
    hold.seat = taken.number;
    Some(taken)
}

pub(super) fn unseat_hold<T: Tables>(
    head: &mut Head,
    seats: &mut T::Of<Seat>,
    tallies: &mut T::Of<Tally>,
    hold: &mut Hold,
    linger: Linger,
) -> Option<Seat> {
    let key = hold.seat_key()?;
    hold.seated = None;
    give_back::<T>(head, seats, tallies, &key, hold.kind(), linger)
}

/// Whether a seat stays taken that its last holder leaves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Linger {
    /// The moment at which it is left.
    now: Timestamp,
    /// The end of that; `None`: as if the one who leaves had not been there.
    until: Option<Timestamp>,
}

impl Linger {
    /// It is free at once, also where it would have lingered before somebody joined it.
    pub(super) const NOT: Linger = Linger {
        now: Timestamp::MAX,
        until: None,
    };

    /// It lingers as it would have without the one who leaves.
    pub(super) fn as_before(now: Timestamp) -> Linger {
        Linger { now, until: None }
    }
}

impl Hold {
    /// The key of the seat that it has.
    pub(super) fn seat_key(&self) -> Option<SeatKey> {
        let claimant = Claimant {
            tally: self.tally,
            who: self.whose(),
            number: self.number,
            roles: self.roles,
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

/// A seat that somebody has taken.
struct Taken {
    number: u64,
    /// Others hold it, too.
    shared: bool,
}

impl Taken {
    /// Its number, unless somebody held it already.
    fn number_if_free(self) -> Option<u64> {
        (!self.shared).then_some(self.number)
    }
}

/// One more holder has a seat, which is taken if it was free.
fn take<T: Tables>(
    head: &mut Head,
    seats: &mut T::Of<Seat>,
    tallies: &mut T::Of<Tally>,
    key: SeatKey,
    claimant: &Claimant,
    kind: Kind,
    since: Timestamp,
) -> Taken {
    if let Some(seat) = seats.get_mut(&key) {
        let shared = seat.is_held();
        if !shared && let Some(tally) = tallies.get_mut(&key.tally) {
            tally.lingering -= 1;
        }
        *seat.holders(kind) += 1;
        seat.opened_at = seat.opened_at.min(since);
        let number = seat.number;
        return Taken { number, shared };
    }
    if seats.len() >= seats.capacity() {
        // There is room for all who hold seats, but not for as many that linger.
        free_lingering::<T>(seats, tallies, |_, _| true);
    }
    head.numbers += 1;
    let number = head.numbers;
    let mut seat = Seat::new(key, number, since);
    *seat.holders(kind) = 1;
    seat.role = claimant.who.role;
    seat.roles = claimant.roles;
    if let Some(tally) = tallies.get_mut(&key.tally) {
        tally.in_use += 1;
        tally.used_by.add(seat.roles);
        seat.rule = tally.counted_by;
    }
    seats.put(seat);
    Taken {
        number,
        shared: false,
    }
}

fn lingering<T: Tables>(tallies: &T::Of<Tally>) -> usize {
    let mut lingering = 0;
    tallies.each(|tally| lingering += tally.lingering);
    usize::try_from(lingering).unwrap_or(0)
}

/// Frees the lingering seats that `ends` says are to be free.
fn free_lingering<T: Tables>(
    seats: &mut T::Of<Seat>,
    tallies: &mut T::Of<Tally>,
    mut ends: impl FnMut(&mut Seat, &Tally) -> bool,
) {
    if lingering::<T>(tallies) == 0 {
        return;
    }
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
        }
        !free
    });
}

/// One holder less has a seat. If that was the last, what is left of it is returned: it is free, or
/// lingers, as long as there is room for that.
fn give_back<T: Tables>(
    head: &mut Head,
    seats: &mut T::Of<Seat>,
    tallies: &mut T::Of<Tally>,
    key: &SeatKey,
    kind: Kind,
    linger: Linger,
) -> Option<Seat> {
    let has_room = seats.len() <= head.max_seats;
    let seat = seats.get_mut(key)?;
    *seat.holders(kind) -= 1;
    if let Some(until) = linger.until.filter(|_| !seat.ending) {
        seat.lingers_until = until;
    }
    if seat.is_held() {
        return None;
    }
    let tally = tallies.get_mut(&key.tally);
    let longest = tally.as_ref().map_or(0, |tally| tally.linger);
    seat.lingers_until = seat.lingers_until.min(linger.now.saturating_add(longest));
    // Whoever is stopped may also leave by itself.
    let lingers = !seat.ending && seat.lingers_until > linger.now && has_room;
    if !lingers {
        seat.lingers_until = 0;
    }
    let left = *seat;
    if lingers {
        head.next_due = head.next_due.min(left.lingers_until);
        tally.into_iter().for_each(|tally| tally.lingering += 1);
    } else {
        seats.remove(key);
        tally.into_iter().for_each(|tally| tally.left(left.roles));
    }
    Some(left)
}
