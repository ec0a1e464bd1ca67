//! A user's seats, where a license limits how many one may have.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::core::ledger::identity::Label;
use crate::core::ledger::seat::{Claimant, Seat, SeatIds};
use crate::core::ledger::table::{Table, Tables, entry};

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

    pub(super) fn is_of_lease(self) -> bool {
        self.0 & 1 == 1
    }
}

/// A user in a tally.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TakerKey(u64);

impl TakerKey {
    pub(super) fn new(ids: SeatIds, tally: u64, user: User) -> TakerKey {
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
