//! How many seats one user has taken, where a license limits that (`licenses.max_per_user`).
//!
//! A seat counts for who took it, until it is free: for the database role, whatever hosts, workstations
//! and client_users it names, which are the client's own words; a lease's for the application's user.
//! The seats of each are counted in a table of their own, so that nobody passes over all seats, and
//! only in tallies of which some license says how many one may have: elsewhere it costs nothing.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::Ledger;
use super::admission::Cause;
use super::identity::Label;
use super::license::License;
use super::reservation::Roles;
use super::session::{Claimant, Seat, SeatIds};
use super::table::{Table, Tables, entry};
use super::tally::Tally;

/// Whom a seat counts for, in 64 bits, which cost each seat little: made with a number of this server, so that
/// nobody can choose a name that stands for somebody else. The last bit says that it is an application's user.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct User(u64);

impl User {
    fn of(ids: SeatIds, by_lease: bool, role: u32, client_user: &Label) -> User {
        let mut hasher = DefaultHasher::new();
        ids.salt.hash(&mut hasher);
        if by_lease {
            client_user.hash(&mut hasher);
        } else {
            role.hash(&mut hasher);
        }
        User(hasher.finish() & !1 | u64::from(by_lease))
    }

    /// Whom a seat of this claimant would count for.
    pub(super) fn of_claimant(ids: SeatIds, claimant: &Claimant) -> User {
        let who = &claimant.who;
        User::of(ids, claimant.by_lease, who.role, &who.client_user)
    }

    /// Whom a seat counts for.
    pub(super) fn of_seat(ids: SeatIds, seat: &Seat) -> User {
        User::of(ids, seat.by_lease, seat.role, &seat.client_user)
    }

    fn is_of_lease(self) -> bool {
        self.0 & 1 == 1
    }
}

/// A user in a tally.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TakerKey(u64);

impl TakerKey {
    fn new(ids: SeatIds, tally: u64, user: User) -> TakerKey {
        let mut hasher = DefaultHasher::new();
        (ids.salt, tally, user).hash(&mut hasher);
        TakerKey(hasher.finish())
    }

    /// Whom a seat counts for, and where.
    pub(super) fn of(ids: SeatIds, seat: &Seat) -> TakerKey {
        TakerKey::new(ids, seat.key.tally, User::of_seat(ids, seat))
    }
}

/// A user who has taken seats of a tally in which that is limited.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Taker {
    /// Who, and in which tally.
    pub key: TakerKey,
    /// How many.
    pub seats: u32,
}

entry!(Taker, key: TakerKey);

/// A seat is taken: one more for its user. Whoever has taken seats finds room: there is as much as
/// for seats.
pub(super) fn taken_by<T: Tables>(ids: SeatIds, takers: &mut T::Of<Taker>, seat: &Seat) {
    let key = TakerKey::of(ids, seat);
    if let Some(taker) = takers.get_mut(&key) {
        taker.seats += 1;
    } else {
        takers.put(Taker { key, seats: 1 });
    }
}

/// A seat is free: one less for its user.
pub(super) fn left_by<T: Tables>(ids: SeatIds, takers: &mut T::Of<Taker>, seat: &Seat) {
    let key = TakerKey::of(ids, seat);
    if let Some(taker) = takers.get_mut(&key) {
        taker.seats -= 1;
        if taker.seats == 0 {
            takers.remove(&key);
        }
    }
}

impl<T: Tables> Ledger<'_, T> {
    /// Counts anew where it is limited how many seats one user may have.
    pub(super) fn recount_takers(&mut self) {
        let ids = self.head.seat_ids;
        let Ledger {
            tallies,
            seats,
            takers,
            ..
        } = self;
        takers.retain(|_| false);
        let mut is_limited = false;
        tallies.each(|tally| is_limited |= tally.limits_users);
        if !is_limited {
            return;
        }
        seats.each(|seat| {
            let tally = tallies.get(&seat.key.tally);
            if tally.is_some_and(|tally| tally.limits_users) {
                taken_by::<T>(ids, takers, seat);
            }
        });
    }

    /// Why a user of these roles may have no more seats of a license, if it may not; with one seat less
    /// for the user who has `left` one. Seats that gave way to others than whoever is at this place
    /// count for them already.
    pub(super) fn user_full(
        &self,
        license: &License,
        tally: &Tally,
        at: usize,
        (user, roles): (User, Roles),
        left: Option<&Seat>,
    ) -> Option<Cause> {
        let limit = i64::from(license.max_per_user?);
        if !user.is_of_lease() && self.is_shared(license, roles) {
            return None;
        }
        let ids = self.head.seat_ids;
        let key = TakerKey::new(ids, tally.number, user);
        let taken = self.takers.get(&key).map_or(0, |taker| taker.seats);
        let left = left.is_some_and(|seat| User::of_seat(ids, seat) == user);
        let in_use = i64::from(taken) + self.promised_to_user(tally, user, at) - i64::from(left);
        (in_use >= limit).then_some(Cause::UserFull { in_use, limit })
    }

    /// How many seats of a tally are kept for a user at other places than this one.
    fn promised_to_user(&self, tally: &Tally, user: User, at: usize) -> i64 {
        if tally.promised == 0 {
            return 0;
        }
        let promises = (0..).zip(self.sessions.iter());
        let promises = promises.filter(|&(place, _)| place != at);
        let of_user = promises
            .filter_map(|(_, session)| session.promise)
            .filter(|promise| {
                promise.kept && promise.tally == tally.number && promise.user == user
            });
        of_user.count() as i64
    }

    /// One of these roles is shared by several people, by the reservations of a license's database.
    fn is_shared(&self, license: &License, roles: Roles) -> bool {
        roles != Roles::NONE
            && self
                .reservations_of(license)
                .any(|row| row.shared && roles.contain(row.number))
    }
}
