//! A license: how many seats of a product a database may use at once, and the rules. One row of the
//! table `licenses` as the ledger keeps it.

use crate::core::ledger::identity::{Name, Text};
use crate::core::ledger::table::entry;
use crate::core::ledger::time::{LEEWAY, Timestamp};
use crate::core::ledger::words::{ClaimedAt, CountedBy, Enforcement};

/// Of so many licenses at a time it is noted that another level is reached.
pub(super) const LEVELS: usize = 256;

/// How much of a license is in use, from the least to the most.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Level {
    /// Less than would worry anybody.
    #[default]
    Normal,
    /// `warn_at_percent` or more.
    Warning,
    /// Every seat.
    Full,
    /// More than that, as `overdraft` allows.
    Overdraft,
    /// More than is allowed, after a reduction.
    Over,
}

impl Level {
    /// The word for it in the audit trail.
    pub fn word(self) -> &'static str {
        match self {
            Level::Normal => "ok",
            Level::Warning => "warning",
            Level::Full => "full",
            Level::Overdraft => "overdraft",
            Level::Over => "over",
        }
    }
}

/// What claims more than was signed: columns of `licenses`, or all of a row.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Excess(u32);

/// Each by its place in the bits of [`Excess`].
pub(super) const CLAIMS: [&str; 14] = [
    "seats",
    "purchased",
    "valid_from",
    "valid_until",
    "grace",
    "overdraft",
    "enforcement",
    "counted_by",
    "claimed_at",
    "application_name",
    "pool",
    "the missing row of licenses",
    "the missing row of license_keys",
    "max_per_user",
];

impl Excess {
    /// More seats.
    pub const SEATS: Excess = Excess(1 << 0);
    /// More that are purchased.
    pub const PURCHASED: Excess = Excess(1 << 1);
    /// The row of `licenses` is gone.
    pub const ROW: Excess = Excess(1 << 11);
    /// The row of `license_keys` is gone, or has another token.
    pub const TOKEN: Excess = Excess(1 << 12);

    /// Nothing does.
    pub fn is_empty(self) -> bool {
        self == Excess::default()
    }

    /// Whether all of this is part of it.
    pub fn contains(self, other: Excess) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both.
    pub fn and(self, other: Excess) -> Excess {
        Excess(self.0 | other.0)
    }

    /// Without this.
    pub fn without(self, other: Excess) -> Excess {
        Excess(self.0 & !other.0)
    }

    /// The names of the columns, or rows.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let claims = CLAIMS.into_iter().enumerate();
        claims.filter_map(move |(at, name)| (self.0 & 1 << at != 0).then_some(name))
    }

    pub(super) fn push(&mut self, column: &str) {
        let at = CLAIMS.iter().position(|claim| *claim == column);
        self.0 |= at.map_or(0, |at| 1 << at);
    }
}

/// A license of one database.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct License {
    /// The database, and the license's place among that database's.
    pub key: RowKey,
    /// Seats taken of it are counted in this tally.
    pub tally: u64,
    /// The product's name.
    pub product: Name,
    /// Databases with the same pool and product count together; empty: this database alone.
    pub pool: Name,
    /// LIKE pattern of the application names that claim it; empty: any.
    pub application_name: Text<128>,
    /// Seats that may be taken at once; `None` is unlimited.
    pub seats: Option<i32>,
    /// Seats owned; `None` is no cap.
    pub purchased: Option<i32>,
    /// Seats admitted beyond `seats`.
    pub overdraft: i32,
    /// Percent of `seats` in use from which the status is 'warning'.
    pub warn_at_percent: i32,
    /// What makes two connections the same user.
    pub counted_by: CountedBy,
    /// Who claims it.
    pub claimed_at: ClaimedAt,
    /// What happens without a free seat.
    pub enforcement: Enforcement,
    /// The first moment of its validity.
    pub valid_from: Option<Timestamp>,
    /// The end of its validity.
    pub valid_until: Option<Timestamp>,
    /// `valid_until` and the grace after it: from here on it is expired.
    pub admits_until: Option<Timestamp>,
    /// How long a seat stays taken after its last holder left, in microseconds.
    pub linger: Timestamp,
    /// Inactivity after which a seat is logged off, in microseconds; `None`: never.
    pub idle_timeout: Option<Timestamp>,
    /// Inactivity after which a seat gives way to somebody who would be denied; `None`: never.
    pub reclaim_idle_after: Option<Timestamp>,
    /// Seats that one user may have at once; `None` is no limit.
    pub max_per_user: Option<i32>,
    /// Logins that were denied, or would have been under 'warn'.
    pub denied: u64,
    /// Since when that is counted.
    pub counted_since: Timestamp,
    /// How much of it was in use when that was last noted.
    pub level: Level,
    /// Its end, where a standby has told of it.
    pub told_ending: Option<Ending>,
    /// Somebody has hung something on the tables of its database.
    pub interfered: bool,
    /// What its vendor's signature makes of it; `None`: nobody has signed it.
    pub signed: Option<Signed>,
}

/// What holds of a signed license alone.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Signed {
    /// What the tables claim beyond what was signed.
    pub excess: Excess,
    /// The signature can't be verified now: until then what was verified last is believed.
    pub believed_until: Option<Timestamp>,
    /// How many identities may be exempt at once, superusers aside; `None`: any number.
    pub exempt: Option<u32>,
    /// The latest moment that this server has known: who sets its clock back gains no time.
    pub not_before: Timestamp,
}

/// That a license comes to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ending {
    /// The end of its validity.
    pub until: Timestamp,
    /// It comes within so many days.
    pub days: i64,
}

/// The days before its end at which a license is warned of.
pub(super) const DAYS: [i64; 4] = [1, 7, 14, 30];

pub(super) const DAY: Timestamp = 86_400_000_000;

/// A row of a database: the database's OID, and the row's place.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RowKey {
    /// The database's OID.
    pub database: u32,
    /// The row's place among the database's rows of the same table, from 0.
    pub place: u32,
}

entry!(License, key: RowKey);

impl License {
    /// Why its dates admit nobody now, if they don't.
    pub fn out_of_dates(&self, now: Timestamp) -> Option<OutOfDates> {
        let now = self.time(now);
        let believed_until = self.signed.and_then(|signed| signed.believed_until);
        if let Some(until) = believed_until.filter(|&until| now >= until) {
            return Some(OutOfDates::NotVerified(until));
        }
        // Whoever has signed it may have another clock.
        let ahead = self.signed.map_or(0, |_| LEEWAY);
        if let Some(from) = self.valid_from
            && now.saturating_add(ahead) < from
        {
            return Some(OutOfDates::NotYetValid(from));
        }
        self.admits_until
            .filter(|&until| now >= until)
            .map(|until| OutOfDates::Expired(self.valid_until.unwrap_or(until)))
    }

    /// The moment by which its dates are judged.
    fn time(&self, now: Timestamp) -> Timestamp {
        self.signed.map_or(now, |signed| now.max(signed.not_before))
    }

    /// The end that it should be warned of, if that is near.
    pub fn ending(&self, now: Timestamp) -> Option<Ending> {
        let now = self.time(now);
        let until = self.valid_until.filter(|&until| until > now)?;
        let left = until.saturating_sub(now);
        let days = DAYS.into_iter().find(|days| left <= days * DAY)?;
        (self.enforcement != Enforcement::Off).then_some(Ending { until, days })
    }

    /// Seats that may be taken in all, overdraft included; `None` is unlimited.
    pub fn limit(&self) -> Option<i64> {
        self.seats
            .map(|seats| i64::from(seats) + i64::from(self.overdraft))
    }

    /// How much of it is in use. Where nobody is in, and where it is not enforced, that worries nobody.
    pub(super) fn level_of(&self, in_use: i64) -> Level {
        let Some(seats) = self.seats.map(i64::from) else {
            return Level::Normal;
        };
        if in_use == 0 || self.enforcement == Enforcement::Off {
            Level::Normal
        } else if self.limit().is_some_and(|limit| in_use > limit) {
            Level::Over
        } else if in_use > seats {
            Level::Overdraft
        } else if in_use == seats {
            Level::Full
        } else if in_use * 100 >= seats * i64::from(self.warn_at_percent) {
            Level::Warning
        } else {
            Level::Normal
        }
    }

    /// The numbers of seats in use from which on it may have another level than below.
    pub(super) fn levels_begin(&self) -> impl Iterator<Item = i64> {
        let seats = self.seats.map(i64::from);
        let limit = self.limit();
        let begin = seats.zip(limit).map(|(seats, limit)| {
            let warning = (seats * i64::from(self.warn_at_percent) + 99) / 100;
            [1, warning, seats, seats + 1, limit + 1]
        });
        begin.into_iter().flatten()
    }

    /// The word for its state in `license_usage`: the first that holds.
    pub fn status(&self, in_use: i64, server: Enforcement, now: Timestamp) -> &'static str {
        let seats = self.seats.map(i64::from);
        let over = |limit: Option<i64>| limit.is_some_and(|limit| in_use > limit);
        let dates = self.out_of_dates(now);
        if self.signed.is_some_and(|signed| !signed.excess.is_empty())
            || matches!(dates, Some(OutOfDates::NotVerified(_)))
        {
            "tampered"
        } else if self.interfered {
            "interfered with"
        } else if self.enforcement.max(server) != Enforcement::On {
            "not enforced"
        } else if matches!(dates, Some(OutOfDates::Expired(_))) {
            "expired"
        } else if dates.is_some() {
            "not yet valid"
        } else if over(self.limit()) {
            "over"
        } else if over(seats) {
            "overdraft"
        } else if seats.is_some_and(|seats| in_use >= seats) {
            "full"
        } else if self
            .valid_until
            .is_some_and(|until| self.time(now) >= until)
        {
            "grace"
        } else if seats.is_some_and(|s| in_use * 100 >= s * i64::from(self.warn_at_percent)) {
            "warning"
        } else if seats.is_none() {
            "unlimited"
        } else {
            "ok"
        }
    }
}

/// Why a license's dates admit nobody.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OutOfDates {
    /// Its validity ended then, and its grace is over.
    Expired(Timestamp),
    /// Its validity begins then.
    NotYetValid(Timestamp),
    /// It was believed until then, but its signature could not be verified.
    NotVerified(Timestamp),
}
