//! The count of one product's seats, in one database or one pool.

use crate::core::ledger::identity::Name;
use crate::core::ledger::license::License;
use crate::core::ledger::roles::{RoleCounts, Roles};
use crate::core::ledger::table::entry;
use crate::core::ledger::time::Timestamp;
use crate::core::ledger::words::CountedBy;

/// The count of one product's seats, in one database or one pool.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Tally {
    /// Its own number, never used again.
    pub number: u64,
    /// The database's OID; 0 for a pool.
    pub(super) database: u32,
    /// The pool's name; empty for one database.
    pub(super) pool: Name,
    pub(super) product: Name,
    /// How many licenses count in it.
    pub(super) licenses: u32,
    /// How many checkouts, leases and waiting sessions count in it, or would if its product were
    /// still licensed.
    pub(super) users: u32,
    /// How many sessions wait for a seat of it.
    pub waiting: u32,
    /// The rule that makes identities of sessions.
    pub(super) counted_by: CountedBy,
    /// Its licenses don't agree on a rule.
    pub(super) disagreed: bool,
    /// How long a seat of it lingers at most, in microseconds.
    pub(super) linger: Timestamp,
    /// Some license of it limits how many seats one user may have: those of each are counted.
    pub(super) limits_users: bool,
    /// Seats taken.
    pub in_use: i64,
    /// Those of them that linger.
    pub lingering: i64,
    /// Seats that are free, and kept for those to whom they gave way.
    pub promised: i64,
    /// Seats taken by members of each reserved role.
    pub(super) used_by: RoleCounts,
    /// The most seats that were ever taken.
    pub high_water: i64,
    /// When they were.
    pub high_water_at: Timestamp,
    /// While so many are taken, no license of it reaches another level of use.
    pub(super) steady: Steady,
    /// How far it is looked at which level those have reached.
    pub(super) noting: Noting,
}

/// How far the levels of use of a tally's licenses are noted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Noting {
    /// They are, or nobody has begun.
    No,
    /// They are being noted.
    Begun,
    /// Some could not be noted yet.
    Left,
}

/// Numbers of seats in use among which no license reaches another level of use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Steady {
    from: i64,
    below: i64,
}

impl Steady {
    /// No such numbers are known.
    pub(super) const NEVER: Steady = Steady { from: 0, below: 0 };

    /// All numbers are, as far as no license says otherwise.
    pub(super) const ALWAYS: Steady = Steady {
        from: i64::MIN,
        below: i64::MAX,
    };

    /// Leaves of those around this number the ones among which this license, too, keeps its level.
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

entry!(Tally, number: u64);

impl Tally {
    /// A seat of it is free that counted for these roles.
    pub(super) fn left(&mut self, roles: Roles) {
        self.in_use -= 1;
        self.used_by.subtract(roles);
    }

    /// No license of it can have reached another level of use.
    pub(super) fn is_steady(&self) -> bool {
        (self.steady.from..self.steady.below).contains(&self.in_use)
    }

    /// The product.
    pub fn product(&self) -> Name {
        self.product
    }

    /// Only once the seats are settled: while they move from one rule to another, `in_use` is
    /// neither's.
    pub(super) fn note_high_water(&mut self, now: Timestamp) {
        if self.in_use > self.high_water {
            self.high_water = self.in_use;
            self.high_water_at = now;
        }
    }

    /// Takes one more license's rule into account (counting rule 5): where rules differ, the finest
    /// rules. By role and host is within all but by session.
    pub(super) fn admit_rule(&mut self, rule: CountedBy) {
        if rule != self.counted_by {
            self.disagreed = true;
            self.counted_by = rule.min(self.counted_by).min(CountedBy::UserHost);
        }
    }
}
