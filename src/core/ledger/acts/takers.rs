//! How many seats one user has taken, where a license limits that (`licenses.max_per_user`).
//!
//! A seat counts for whoever took it until it is free: for the database role, whatever hosts, workstations and
//! client_users it names, because those are the client's own words. The seat of a lease counts for the application's
//! user. The seats of each user are counted in a table of their own, so that nobody has to go through all seats, and
//! only in tallies where some license limits the seats of a user: elsewhere it costs nothing.

use crate::core::ledger::Ledger;
use crate::core::ledger::denial::Cause;
use crate::core::ledger::license::License;
use crate::core::ledger::numbers::Slot;
use crate::core::ledger::roles::Roles;
use crate::core::ledger::seat::Seat;
use crate::core::ledger::table::{Table, Tables};
use crate::core::ledger::taker::{TakerKey, User, taken_by};
use crate::core::ledger::tally::Tally;

impl<T: Tables> Ledger<'_, T> {
    /// Counts the seats of each user again, where they are limited.
    pub(crate) fn recount_takers(&mut self) {
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

    /// Tells why a user with these roles may have no more seats of a license, if that is so. If the seat `left` counts
    /// for the user, it counts as free. Seats that gave way to others than the session in `slot` already count for
    /// those.
    pub(crate) fn user_full(
        &self,
        license: &License,
        tally: &Tally,
        slot: Slot,
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
        let in_use = i64::from(taken) + self.promised_to_user(tally, user, slot) - i64::from(left);
        (in_use >= limit).then_some(Cause::UserFull { in_use, limit })
    }

    /// Returns how many seats of a tally are kept for a user in other slots than this one.
    fn promised_to_user(&self, tally: &Tally, user: User, slot: Slot) -> i64 {
        if tally.promised == 0 {
            return 0;
        }
        let promises = self.sessions.each().filter(|&(other, _)| other != slot);
        let of_user = promises
            .filter_map(|(_, session)| session.promise)
            .filter(|promise| {
                promise.kept && promise.tally == tally.number && promise.user == user
            });
        of_user.count() as i64
    }

    /// Tells whether one of these roles is shared by several people, by the reservations of a license's database.
    fn is_shared(&self, license: &License, roles: Roles) -> bool {
        roles != Roles::NONE
            && self
                .reservations_of(license)
                .any(|row| row.shared && roles.contain(row.number))
    }
}
