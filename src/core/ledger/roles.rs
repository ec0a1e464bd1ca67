//! The roles that reservations name. Their numbers apply to the whole server.

use crate::core::ledger::identity::Name;
use crate::core::ledger::numbers::{DatabaseOid, RoleOid};

/// A role, and the database in which it takes or took a seat: which roles it is a member of may depend on the database.
pub type RoleIn = (RoleOid, DatabaseOid);

/// The most different roles that the reservations of all databases can name. Of those beyond, the latest have no
/// effect.
pub const ROLES_MAX: usize = 64;

/// Some of the reserved roles.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Roles(u64);

impl Roles {
    /// None of them.
    pub const NONE: Roles = Roles(0);

    pub(super) fn add(&mut self, number: u8) {
        self.0 |= 1 << number;
    }

    /// Tells whether the role of this number is one of them.
    pub fn contain(self, number: u8) -> bool {
        self.0 >> number & 1 == 1
    }

    /// Returns their numbers.
    fn numbers(self) -> impl Iterator<Item = u8> {
        (0..ROLES_MAX as u8).filter(move |&number| self.contain(number))
    }
}

/// The roles that reservations name. A role's index is its number.
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

    /// Returns the number of roles.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Tells whether no role is named.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns each role with its number.
    pub fn each(&self) -> impl Iterator<Item = (u8, Name)> {
        let names = if self.is_empty() {
            &[][..]
        } else {
            &self.names
        };
        let numbered = (0..).zip(names.iter().copied());
        numbered.filter(|(_, name)| !name.is_empty())
    }

    /// Returns a role's number.
    pub fn number(&self, role: &Name) -> Option<u8> {
        self.each()
            .find(|(_, name)| name == role)
            .map(|(number, _)| number)
    }

    /// Returns the role with this number.
    pub fn name(&self, number: u8) -> Option<Name> {
        self.each()
            .find(|(other, _)| *other == number)
            .map(|(_, name)| name)
    }

    pub(super) fn retain(&mut self, needed: Roles) {
        self.len = 0;
        for (number, name) in (0..).zip(&mut self.names) {
            if !needed.contain(number) {
                *name = Name::EMPTY;
            }
            self.len += usize::from(!name.is_empty());
        }
    }

    /// Gives a role a number, if one is free.
    pub(super) fn add(&mut self, role: Name) {
        if let Some(free) = self.names.iter_mut().find(|name| name.is_empty()) {
            *free = role;
            self.len += 1;
        }
    }
}

/// The number of seats of a tally that count for each of the reserved roles.
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
