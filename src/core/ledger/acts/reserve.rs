//! Seats of a license that are kept for members of a role, and the most that members may use.
//!
//! Whom a seat counts for depends on its taker's role, whatever database the role works in. So the roles that any
//! database's reservations name have numbers that apply to the whole server, every holder carries the set of those that
//! its role belongs to, and a tally counts its seats for each. The server's catalogs are consulted outside the lock: by
//! a login for its own role, and by whoever publishes rules for the roles of all who are in.

use crate::core::ledger::Ledger;
use crate::core::ledger::denial::Cause;
use crate::core::ledger::license::{License, RowKey};
use crate::core::ledger::numbers::{DatabaseOid, SessionNumber, Slot};
use crate::core::ledger::reservation::Reservation;
use crate::core::ledger::roles::{ReservedRoles, RoleCounts, RoleIn, Roles};
use crate::core::ledger::table::{Table, Tables};
use crate::core::ledger::tally::Tally;

impl<T: Tables> Ledger<'_, T> {
    /// Returns the reservations of a license.
    pub(crate) fn reservations_of(&self, license: &License) -> impl Iterator<Item = &Reservation> {
        let (database, tally) = (license.key.database, license.tally);
        let rows = self
            .databases
            .get(&database)
            .map_or(0, |known| known.rows.reservations);
        let rows =
            (0..rows).filter_map(move |place| self.reservations.get(&RowKey { database, place }));
        rows.filter(move |row| row.tally == tally)
    }

    /// Returns how many seats of a license, counted in this tally, are kept from somebody with these roles, and why
    /// these roles may have no more of them, if so. The roles in `left` count one seat less. Seats that gave way to
    /// others than the session in `slot` already count for those.
    pub(crate) fn reserved(
        &self,
        license: &License,
        tally: &Tally,
        slot: Slot,
        roles: Roles,
        left: Roles,
    ) -> (i64, Option<Cause>) {
        let (mut kept, mut full) = (0, None);
        for row in self.reservations_of(license) {
            let in_use = tally.used_by.of(row.number) + self.promised_to(tally, row.number, slot)
                - i64::from(left.contain(row.number));
            if !roles.contain(row.number) {
                kept += (i64::from(row.reserved) - in_use).max(0);
            } else if let Some(limit) = row.max_seats.map(i64::from)
                && in_use >= limit
            {
                full = full.or(Some(Cause::RoleFull {
                    number: row.number,
                    in_use,
                    limit,
                }));
            }
        }
        (kept, full)
    }

    /// Returns the reserved roles as they will be once the database has these reservations. A role that has a number
    /// keeps it; when the numbers run out, further roles have none.
    pub fn plan_roles(&self, database: DatabaseOid, rows: &[Reservation]) -> ReservedRoles {
        let mut planned = self.head.reserved_roles;
        let mut needed = Roles::NONE;
        self.reservations.each(|row| {
            if row.key.database != database {
                needed.add(row.number);
            }
        });
        for number in rows.iter().filter_map(|row| planned.number(&row.role)) {
            needed.add(number);
        }
        planned.retain(needed);
        for row in rows {
            if planned.number(&row.role).is_none() {
                planned.add(row.role);
            }
        }
        planned
    }

    /// Puts other reserved roles in force. Whoever was judged by the former ones is judged again.
    pub(crate) fn set_roles(&mut self, database: DatabaseOid, roles: ReservedRoles) {
        if self.head.reserved_roles == roles {
            return;
        }
        let freed = roles.len() < self.head.reserved_roles.len();
        self.head.reserved_roles = roles;
        self.head.roles_edition += 1;
        if freed {
            // Roles of other databases may have a number now.
            let Ledger {
                head, databases, ..
            } = self;
            databases.each_mut(|known| {
                if known.rows.unnumbered > 0 && known.oid != database {
                    known.generation = head.next_generation();
                }
            });
        }
    }

    /// Shows the role of everybody who is in, who holds a seat or who took one, with the reserved roles that it counts
    /// for. Some are shown more than once, at most [`Self::holders`] in all.
    pub fn each_role(&self, mut see: impl FnMut(RoleIn, Roles)) {
        for session in self
            .sessions
            .iter()
            .filter(|s| s.number != SessionNumber::NONE)
        {
            see((session.who.role, session.database), session.roles);
        }
        self.holds
            .each(|hold| see((hold.who.role, hold.database), hold.roles));
        self.seats
            .each(|seat| see((seat.role, seat.database), seat.roles));
    }

    /// Returns the most roles that [`Self::each_role`] can show.
    pub fn holders(&self) -> usize {
        self.sessions.len() + self.holds.len() + self.seats.len()
    }

    /// Sets the reserved roles that everybody counts for now, and counts the tallies again.
    pub(crate) fn put_roles(&mut self, roles_of: impl Fn(RoleIn) -> Roles) {
        for session in self
            .sessions
            .iter_mut()
            .filter(|s| s.number != SessionNumber::NONE)
        {
            session.roles = roles_of((session.who.role, session.database));
        }
        self.holds
            .each_mut(|hold| hold.roles = roles_of((hold.who.role, hold.database)));
        self.waits
            .each_mut(|wait| wait.hold.roles = roles_of((wait.hold.who.role, wait.hold.database)));
        let Ledger { tallies, seats, .. } = self;
        tallies.each_mut(|tally| tally.used_by = RoleCounts::NONE);
        seats.each_mut(|seat| {
            seat.roles = roles_of((seat.role, seat.database));
            if let Some(tally) = tallies.get_mut(&seat.key.tally) {
                tally.used_by.add(seat.roles);
            }
        });
    }
}
