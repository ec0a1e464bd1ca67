//! The count of one product's seats, in one database or one pool.

use super::identity::Name;
use super::license::{CountedBy, License, Timestamp};
use super::reservation::{RoleCounts, Roles};
use super::table::entry;

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
    /// The second of two rules of which neither always gives more seats.
    pub(super) rival: Option<CountedBy>,
    /// The rule that ruled before the last recount.
    pub(super) ruled: CountedBy,
    /// Its licenses don't agree on a rule.
    pub(super) disagreed: bool,
    /// How long a seat of it lingers at most, in microseconds.
    pub(super) linger: Timestamp,
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

    pub(super) fn swap_rival(&mut self) {
        if let Some(rival) = self.rival.replace(self.counted_by) {
            self.counted_by = rival;
        }
    }

    /// Only once the seats are settled: while they move from one rule to another, `in_use` is
    /// neither's.
    pub(super) fn note_high_water(&mut self, now: Timestamp) {
        if self.in_use > self.high_water {
            self.high_water = self.in_use;
            self.high_water_at = now;
        }
    }

    /// Takes one more license's rule into account. A rule rules over those that never give more
    /// seats than it; 'host' and the rules by user can't be ranked.
    pub(super) fn admit_rule(&mut self, rule: CountedBy) {
        use CountedBy::{Host, Session, UserHost};
        let rules = [Some(self.counted_by), self.rival, Some(rule)];
        let finest = rules.into_iter().flatten().min().unwrap_or(rule);
        if matches!(finest, Session | UserHost) {
            self.counted_by = finest;
            self.rival = None;
            return;
        }
        let by_user = rules
            .into_iter()
            .flatten()
            .filter(|&rule| rule != Host)
            .min();
        let by_host = rules.into_iter().flatten().find(|&rule| rule == Host);
        self.counted_by = by_user.or(by_host).unwrap_or(rule);
        self.rival = by_user.and(by_host);
    }
}
