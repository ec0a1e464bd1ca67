//! Seats of a license that are kept for members of a role, and the most that they may use.
//!
//! Whom a seat counts for is a fact of its taker's role, whatever database it works in. So the roles
//! that any database's reservations name have numbers that hold for the whole server, every holder
//! carries the set of those that its role belongs to, and a tally counts its seats for each. The
//! server's catalogs are asked outside the lock: by a login for its own role, by who publishes rules
//! for the roles of all who are in.

use super::Ledger;
use super::admission::Cause;
use super::identity::Name;
use super::license::{License, RowKey};
use super::table::{Table, Tables, entry};
use super::tally::Tally;

/// How many different roles the reservations of all databases can name. Who comes last has none of
/// those that are too many.
pub const ROLES_MAX: usize = 64;

/// A role, and the database in which it took or takes a seat: of which roles it is a member may depend on
/// that.
pub type RoleIn = (u32, u32);

/// A row of `license_reservations`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Reservation {
    /// The database, and the row's place among that database's.
    pub key: RowKey,
    /// The tally of its product; 0: the product is not licensed.
    pub tally: u64,
    /// The product's name.
    pub product: Name,
    /// The role's name.
    pub role: Name,
    /// Seats kept for the role's members.
    pub reserved: i32,
    /// The most seats that they may use; `None` is no limit of their own.
    pub max_seats: Option<i32>,
    /// The role's number.
    pub number: u8,
    /// Several people share the role.
    pub shared: bool,
}

entry!(Reservation, key: RowKey);

/// Some of the reserved roles.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Roles(u64);

impl Roles {
    /// None of them.
    pub const NONE: Roles = Roles(0);

    pub(super) fn add(&mut self, number: u8) {
        self.0 |= 1 << number;
    }

    /// True when the role of this number is one of them.
    pub fn contain(self, number: u8) -> bool {
        self.0 >> number & 1 == 1
    }

    /// Their numbers.
    fn numbers(self) -> impl Iterator<Item = u8> {
        (0..ROLES_MAX as u8).filter(move |&number| self.contain(number))
    }
}

/// The roles that reservations name; a role's place is its number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReservedRoles {
    names: [Name; ROLES_MAX],
    len: usize,
}

impl ReservedRoles {
    /// Nothing is reserved.
    pub const NONE: ReservedRoles = ReservedRoles {
        names: [Name::EMPTY; ROLES_MAX],
        len: 0,
    };

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when nothing is reserved.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Each with its number.
    pub fn each(&self) -> impl Iterator<Item = (u8, Name)> {
        let names = if self.is_empty() {
            &[][..]
        } else {
            &self.names
        };
        let numbered = (0..).zip(names.iter().copied());
        numbered.filter(|(_, name)| !name.is_empty())
    }

    /// A role's number.
    pub fn number(&self, role: &Name) -> Option<u8> {
        self.each()
            .find(|(_, name)| name == role)
            .map(|(number, _)| number)
    }

    /// The role of a number.
    pub fn name(&self, number: u8) -> Option<Name> {
        self.each()
            .find(|(other, _)| *other == number)
            .map(|(_, name)| name)
    }

    fn retain(&mut self, needed: Roles) {
        self.len = 0;
        for (number, name) in (0..).zip(&mut self.names) {
            if !needed.contain(number) {
                *name = Name::EMPTY;
            }
            self.len += usize::from(!name.is_empty());
        }
    }

    /// Gives a role a number, if one is free.
    fn add(&mut self, role: Name) {
        if let Some(free) = self.names.iter_mut().find(|name| name.is_empty()) {
            *free = role;
            self.len += 1;
        }
    }
}

/// How many seats of a tally count for each of the reserved roles.
#[derive(Clone, Copy, Debug)]
pub(super) struct RoleCounts([u32; ROLES_MAX]);

impl RoleCounts {
    pub(super) const NONE: RoleCounts = RoleCounts([0; ROLES_MAX]);

    pub(super) fn of(&self, number: u8) -> i64 {
        self.0.get(usize::from(number)).map_or(0, |&n| n.into())
    }

    pub(super) fn add(&mut self, roles: Roles) {
        self.change(roles, |count| *count += 1);
    }

    pub(super) fn subtract(&mut self, roles: Roles) {
        self.change(roles, |count| *count -= 1);
    }

    fn change(&mut self, roles: Roles, change: impl Fn(&mut u32)) {
        if roles != Roles::NONE {
            for number in roles.numbers() {
                self.0
                    .get_mut(usize::from(number))
                    .into_iter()
                    .for_each(&change);
            }
        }
    }
}

impl<T: Tables> Ledger<'_, T> {
    /// The reservations of a license.
    pub(super) fn reservations_of(&self, license: &License) -> impl Iterator<Item = &Reservation> {
        let (database, tally) = (license.key.database, license.tally);
        let rows = self
            .databases
            .get(&database)
            .map_or(0, |known| known.reservations);
        let rows =
            (0..rows).filter_map(move |place| self.reservations.get(&RowKey { database, place }));
        rows.filter(move |row| row.tally == tally)
    }

    /// How many seats of a license, counted in this tally, are kept from somebody of these roles, and why its roles may have
    /// no more of them, if they may not; with one seat less for the roles for which one is `left`. Seats that
    /// gave way to others than whoever is at this place count for them already.
    pub(super) fn reserved(
        &self,
        license: &License,
        tally: &Tally,
        at: usize,
        roles: Roles,
        left: Roles,
    ) -> (i64, Option<Cause>) {
        let (mut kept, mut full) = (0, None);
        for row in self.reservations_of(license) {
            let in_use = tally.used_by.of(row.number) + self.promised_to(tally, row.number, at)
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

    /// The reserved roles as they will be once the database has these reservations. A role that has
    /// a number keeps it; those that are too many have none.
    pub fn plan_roles(&self, database: u32, rows: &[Reservation]) -> ReservedRoles {
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

    /// Puts other reserved roles in force: who was judged by the former ones is judged again.
    pub(super) fn set_roles(&mut self, database: u32, roles: ReservedRoles) {
        if self.head.reserved_roles == roles {
            return;
        }
        let freed = roles.len() < self.head.reserved_roles.len();
        self.head.reserved_roles = roles;
        self.head.roles_edition += 1;
        if freed {
            // Others may have a number now.
            let Ledger {
                head, databases, ..
            } = self;
            databases.each_mut(|known| {
                if known.unnumbered > 0 && known.oid != database {
                    head.clock += 1;
                    known.generation = head.clock;
                }
            });
        }
    }

    /// Shows the role of everybody who is in, who holds or who took a seat, with the reserved roles
    /// that it counts for: some more than once, at most [`Self::holders`] times in all.
    pub fn each_role(&self, mut see: impl FnMut(RoleIn, Roles)) {
        for session in self.sessions.iter().filter(|s| s.number != 0) {
            see((session.who.role, session.database), session.roles);
        }
        self.holds
            .each(|hold| see((hold.who.role, hold.database), hold.roles));
        self.seats
            .each(|seat| see((seat.role, seat.database), seat.roles));
    }

    /// How many roles [`Self::each_role`] shows at most.
    pub fn holders(&self) -> usize {
        self.sessions.len() + self.holds.len() + self.seats.len()
    }

    /// Has everybody count for the reserved roles that it belongs to now, and counts anew.
    pub(super) fn put_roles(&mut self, roles_of: impl Fn(RoleIn) -> Roles) {
        for session in self.sessions.iter_mut().filter(|s| s.number != 0) {
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
