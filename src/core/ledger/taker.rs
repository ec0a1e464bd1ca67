//! The number of seats that a user has taken, where a license limits it.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::core::ledger::identity::Label;
use crate::core::ledger::numbers::{RoleOid, TallyId};
use crate::core::ledger::seat::{Claimant, Seat, SeatIds};
use crate::core::ledger::table::{Table, Tables, entry};

/// The user whom a seat counts for, in only 64 bits, because there may be one for each seat. It is hashed with a secret
/// of this server, so that nobody can choose a name that stands for somebody else. The lowest bit marks an
/// application's user.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct User(u64);

impl User {
    fn of(ids: SeatIds, by_lease: bool, role: RoleOid, client_user: &Label) -> User {
        let mut hasher = DefaultHasher::new();
        ids.salt.hash(&mut hasher);
        if by_lease {
            client_user.hash(&mut hasher);
        } else {
            role.hash(&mut hasher);
        }
        User(hasher.finish() & !1 | u64::from(by_lease))
    }

    /// Returns the user whom a seat of this claimant would count for.
    pub(super) fn of_claimant(ids: SeatIds, claimant: &Claimant) -> User {
        let who = &claimant.who;
        User::of(ids, claimant.by_lease, who.role, &who.client_user)
    }

    /// Returns the user whom a seat counts for.
    pub(super) fn of_seat(ids: SeatIds, seat: &Seat) -> User {
        User::of(ids, seat.by_lease, seat.role, &seat.client_user)
    }

    pub(super) fn is_of_lease(self) -> bool {
        self.0 & 1 == 1
    }
}

/// The key of a user in a tally.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TakerKey(u64);

impl TakerKey {
    pub(super) fn new(ids: SeatIds, tally: TallyId, user: User) -> TakerKey {
        let mut hasher = DefaultHasher::new();
        (ids.salt, tally, user).hash(&mut hasher);
        TakerKey(hasher.finish())
    }

    /// Returns the key of the user whom a seat counts for, in the seat's tally.
    pub(super) fn of(ids: SeatIds, seat: &Seat) -> TakerKey {
        TakerKey::new(ids, seat.key.tally, User::of_seat(ids, seat))
    }
}

/// A user who has taken seats of a tally that limits seats for each user.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Taker {
    /// The user and the tally.
    pub key: TakerKey,
    /// The number of seats taken.
    pub seats: u32,
}

entry!(Taker, key: TakerKey);

/// Counts a seat that its user has taken. There is always room, because this table is as large as the table of seats.
pub(super) fn taken_by<T: Tables>(ids: SeatIds, takers: &mut T::Of<Taker>, seat: &Seat) {
    let key = TakerKey::of(ids, seat);
    if let Some(taker) = takers.get_mut(&key) {
        taker.seats += 1;
    } else {
        takers.put(Taker { key, seats: 1 });
    }
}

/// Takes a freed seat off its user's count.
pub(super) fn left_by<T: Tables>(ids: SeatIds, takers: &mut T::Of<Taker>, seat: &Seat) {
    let key = TakerKey::of(ids, seat);
    if let Some(taker) = takers.get_mut(&key) {
        taker.seats -= 1;
        if taker.seats == 0 {
            takers.remove(&key);
        }
    }
}
