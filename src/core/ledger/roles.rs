//! The roles that reservations name: their numbers hold for the whole server.

use crate::core::ledger::identity::Name;

/// A role, and the database in which it took or takes a seat: of which roles it is a member may depend on
/// that.
pub type RoleIn = (u32, u32);

/// How many different roles the reservations of all databases can name. Who comes last has none of
/// those that are too many.
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
