//! The count of one product's seats, in one database or one pool.

use crate::core::ledger::identity::Name;
use crate::core::ledger::license::License;
use crate::core::ledger::numbers::{DatabaseOid, TallyId};
use crate::core::ledger::roles::{RoleCounts, Roles};
use crate::core::ledger::table::entry;
use crate::core::ledger::time::Timestamp;
use crate::core::ledger::words::CountedBy;

/// The count of one product's seats, in one database or one pool.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Tally {
    /// The tally's number, never used again.
    pub number: TallyId,
    /// The database's OID; 0 for a pool.
    pub(super) database: DatabaseOid,
    /// The pool's name; empty for one database.
    pub(super) pool: Name,
    pub(super) product: Name,
    /// The number of licenses that count in it.
    pub(super) licenses: u32,
    /// The number of checkouts, leases and waiting sessions that count in it, or would if its product were still
    /// licensed.
    pub(super) users: u32,
    /// The number of sessions that wait for one of its seats.
    pub waiting: u32,
    /// The counting rule that makes identities of connections.
    pub(super) counted_by: CountedBy,
    /// Whether its licenses disagree on that rule.
    pub(super) disagreed: bool,
    /// The longest time that one of its seats may linger, in microseconds.
    pub(super) linger: Timestamp,
    /// Whether one of its licenses limits how many seats one user may have, so that the seats of each user are counted.
    pub(super) limits_users: bool,
    /// The number of seats that are taken.
    pub in_use: i64,
    /// The number of those that linger.
    pub lingering: i64,
    /// The number of free seats that are kept for those to whom they gave way.
    pub promised: i64,
    /// The numbers of seats taken by members of each reserved role.
    pub(super) used_by: RoleCounts,
    /// The most seats that were ever taken.
    pub high_water: i64,
    /// When that was.
    pub high_water_at: Timestamp,
    /// The numbers of seats in use among which none of its licenses reaches another level of use.
    pub(super) steady: Steady,
    /// How far the noting of its licenses' levels of use has come.
    pub(super) noting: Noting,
}

/// How far the noting of a tally's licenses' levels of use has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Noting {
    /// They have been noted, or nobody has begun.
    No,
    /// They are being noted.
    Begun,
    /// Some could not be noted yet, for want of room.
    Left,
}

/// A range of numbers of seats in use among which no license reaches another level of use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Steady {
    from: i64,
    below: i64,
}

impl Steady {
    /// The empty range: nothing is known.
    pub(super) const NEVER: Steady = Steady { from: 0, below: 0 };

    /// The range of all numbers, as long as no license says otherwise.
    pub(super) const ALWAYS: Steady = Steady {
        from: i64::MIN,
        below: i64::MAX,
    };

    /// Leaves the part of the range around this number in which this license, too, keeps its level.
    pub(super) fn narrow(&mut self, license: &License, in_use: i64) {
        for begin in license.levels_begin() {
            if begin <= in_use {
                self.from = self.from.max(begin);
            } else {
                self.below = self.below.min(begin);
            }
        }
    }
}

entry!(Tally, number: TallyId);

impl Tally {
    /// Notes that one of its seats is free, which counted for these roles.
    pub(super) fn left(&mut self, roles: Roles) {
        self.in_use -= 1;
        self.used_by.subtract(roles);
    }

    /// Tells whether it is certain that none of its licenses has reached another level of use.
    pub(super) fn is_steady(&self) -> bool {
        (self.steady.from..self.steady.below).contains(&self.in_use)
    }

    /// Returns the product.
    pub fn product(&self) -> Name {
        self.product
    }

    /// Notes how many seats are taken if that is the most ever. It must not be called before the seats are settled:
    /// while they move from one rule to another, `in_use` is right for neither.
    pub(super) fn note_high_water(&mut self, now: Timestamp) {
        if self.in_use > self.high_water {
            self.high_water = self.in_use;
            self.high_water_at = now;
        }
    }

    /// Takes one more license's rule into account. Where rules differ, `session` applies if one of them is that, else
    /// `user_host`, which is finer than all the others (counting rule 5).
    pub(super) fn admit_rule(&mut self, rule: CountedBy) {
        if rule != self.counted_by {
            self.disagreed = true;
            self.counted_by = rule.min(self.counted_by).min(CountedBy::UserHost);
        }
    }
}
