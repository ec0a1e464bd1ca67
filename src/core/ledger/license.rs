//! A license: how many seats of a product a database may use at once, and by which rules. It is one row of the table
//! `licenses` as the ledger keeps it.

use crate::core::ledger::identity::{Name, Text};
use crate::core::ledger::numbers::{DatabaseOid, TallyId};
use crate::core::ledger::table::entry;
use crate::core::ledger::time::{DAY, LEEWAY, Timestamp};
use crate::core::ledger::words::{ClaimedAt, CountedBy, Enforcement};

/// The number of licenses whose new levels of use are noted at a time.
pub(super) const LEVELS: usize = 256;

/// How much of a license is in use, from the least to the most.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Level {
    /// Too little to worry anybody.
    #[default]
    Normal,
    /// `warn_at_percent` or more.
    Warning,
    /// All of `seats`.
    Full,
    /// More than `seats`, as `overdraft` allows.
    Overdraft,
    /// More than is allowed, as after a reduction.
    Over,
}

impl Level {
    /// Returns the word for it in the audit trail.
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

/// What claims more than was signed: tampered columns of `licenses`, or missing rows.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tampered(u32);

/// The name of each bit of [`Tampered`], from the lowest bit on.
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

impl Tampered {
    /// The row claims more seats.
    pub const SEATS: Tampered = Tampered(1 << 0);
    /// The row claims more purchased seats.
    pub const PURCHASED: Tampered = Tampered(1 << 1);
    /// The row of `licenses` is gone.
    pub const ROW: Tampered = Tampered(1 << 11);
    /// The row of `license_keys` is gone, or has another token.
    pub const TOKEN: Tampered = Tampered(1 << 12);

    /// Tells whether nothing claims more than was signed.
    pub fn is_empty(self) -> bool {
        self == Tampered::default()
    }

    /// Tells whether it has all claims of the other one.
    pub fn contains(self, other: Tampered) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns the claims of both.
    pub fn and(self, other: Tampered) -> Tampered {
        Tampered(self.0 | other.0)
    }

    /// Returns its claims without those of the other one.
    pub fn without(self, other: Tampered) -> Tampered {
        Tampered(self.0 & !other.0)
    }

    /// Returns the names of the columns or rows.
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
    /// The database, and the license's index among that database's licenses.
    pub key: RowKey,
    /// The tally in which its seats are counted.
    pub tally: TallyId,
    /// The product's name.
    pub product: Name,
    /// The pool: databases with the same pool and product count together. Empty for this database alone.
    pub pool: Name,
    /// The LIKE pattern of the application names that claim it; empty for any name.
    pub application_name: Text<128>,
    /// The number of seats that may be taken at once; `None` for any number.
    pub seats: Option<i32>,
    /// The number of seats owned; `None` for no cap.
    pub purchased: Option<i32>,
    /// The number of seats admitted beyond `seats`.
    pub overdraft: i32,
    /// The percentage of `seats` in use from which the status is 'warning'.
    pub warn_at_percent: i32,
    /// What makes two connections the same user.
    pub counted_by: CountedBy,
    /// Who claims it.
    pub claimed_at: ClaimedAt,
    /// What happens when no seat is free.
    pub enforcement: Enforcement,
    /// The first moment of its validity.
    pub valid_from: Option<Timestamp>,
    /// The end of its validity.
    pub valid_until: Option<Timestamp>,
    /// The end of the grace that follows `valid_until`: from then on the license is expired.
    pub admits_until: Option<Timestamp>,
    /// How long a seat stays taken after its last holder left, in microseconds.
    pub linger: Timestamp,
    /// The inactivity after which a seat is logged off, in microseconds; `None` for never.
    pub idle_timeout: Option<Timestamp>,
    /// The inactivity after which a seat gives way to somebody who would be denied, in microseconds; `None` for never.
    pub reclaim_idle_after: Option<Timestamp>,
    /// The most seats that one user may have at once; `None` for no limit.
    pub max_per_user: Option<i32>,
    /// The number of requests that were denied, or would have been but for 'warn'.
    pub denied: u64,
    /// When that count began.
    pub counted_since: Timestamp,
    /// The level of use that was last noted.
    pub level: Level,
    /// The coming end that a standby has last reported.
    pub warned_ending: Option<Ending>,
    /// Whether somebody has attached something to the tables of its database.
    pub interfered: bool,
    /// What its vendor's signature makes of it; `None` if nobody has signed it.
    pub signed: Option<Signed>,
}

/// What applies to signed licenses only.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Signed {
    /// What the tables claim beyond what was signed.
    pub tampered: Tampered,
    /// Until when the terms that were verified last are believed, if the signature can't be verified now.
    pub believed_until: Option<Timestamp>,
    /// The number of identities that may be exempt at once, superusers aside; `None` for any number.
    pub exempt: Option<u32>,
    /// The latest moment that this server has known, so that setting its clock back gains no time.
    pub not_before: Timestamp,
}

/// The coming end of a license.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ending {
    /// The end of its validity.
    pub until: Timestamp,
    /// The number of days within which it comes.
    pub days: i64,
}

/// The numbers of days before a license's end at which users are warned.
pub(super) const DAYS: [i64; 4] = [1, 7, 14, 30];

/// The key of a row of a database.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RowKey {
    /// The database's OID.
    pub database: DatabaseOid,
    /// The row's index among the database's rows of the same table, from 0.
    pub place: u32,
}

entry!(License, key: RowKey);

impl License {
    /// Returns why its dates admit nobody now; `None` if they do.
    pub fn out_of_dates(&self, now: Timestamp) -> Option<OutOfDates> {
        let now = self.time(now);
        let believed_until = self.signed.and_then(|signed| signed.believed_until);
        if let Some(until) = believed_until.filter(|&until| now >= until) {
            return Some(OutOfDates::NotVerified(until));
        }
        // The vendor's clock may differ from this server's.
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

    /// Returns the moment by which its dates are judged.
    fn time(&self, now: Timestamp) -> Timestamp {
        self.signed.map_or(now, |signed| now.max(signed.not_before))
    }

    /// Returns the coming end that should be warned about, if it is near.
    pub fn ending(&self, now: Timestamp) -> Option<Ending> {
        let now = self.time(now);
        let until = self.valid_until.filter(|&until| until > now)?;
        let left = until.saturating_sub(now);
        let days = DAYS.into_iter().find(|days| left <= days * DAY)?;
        (self.enforcement != Enforcement::Off).then_some(Ending { until, days })
    }

    /// Returns the number of seats that may be taken in all, overdraft included; `None` for any number.
    pub fn limit(&self) -> Option<i64> {
        self.seats
            .map(|seats| i64::from(seats) + i64::from(self.overdraft))
    }

    /// Returns how much of it is in use. That is always normal while nobody is in, or the license is not enforced.
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

    /// Returns the numbers of seats in use at which another level may begin.
    pub(super) fn levels_begin(&self) -> impl Iterator<Item = i64> {
        let seats = self.seats.map(i64::from);
        let limit = self.limit();
        let begin = seats.zip(limit).map(|(seats, limit)| {
            let warning = (seats * i64::from(self.warn_at_percent) + 99) / 100;
            [1, warning, seats, seats + 1, limit + 1]
        });
        begin.into_iter().flatten()
    }

    /// Returns the word for its state in `license_usage`: the first that applies.
    pub fn status(&self, in_use: i64, server: Enforcement, now: Timestamp) -> &'static str {
        let seats = self.seats.map(i64::from);
        let over = |limit: Option<i64>| limit.is_some_and(|limit| in_use > limit);
        let dates = self.out_of_dates(now);
        if self
            .signed
            .is_some_and(|signed| !signed.tampered.is_empty())
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
    /// Its validity ended at this moment, and its grace is over.
    Expired(Timestamp),
    /// Its validity begins at this moment.
    NotYetValid(Timestamp),
    /// It was believed until this moment, and its signature still could not be verified.
    NotVerified(Timestamp),
}
