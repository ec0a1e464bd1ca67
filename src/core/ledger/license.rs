//! A license: how many seats of a product a database may use at once, and the rules. One row of the
//! table `licenses` as the ledger keeps it.

use super::event::Level;
use super::identity::{Name, Text};
use super::narrow::Excess;
use super::table::entry;

/// A moment in microseconds, as PostgreSQL's `timestamptz` counts them.
pub type Timestamp = i64;

/// How far the clocks of two servers may be apart. What begins may begin that much before its time, and what is passed
/// on comes back that much after it; no end is put off, or a seat would be used twice.
pub const LEEWAY: Timestamp = 120_000_000;

/// The columns whose values are words: each word once, for the table's text and back.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$word_doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[repr(u8)]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum $name { $($(#[$word_doc])* $variant),+ }

        impl $name {
            /// The value that this word of the table stands for.
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

words! {
    /// `licenses.counted_by`: what makes two connections the same user.
    CountedBy {
        /// Every connection counts.
        Session = "session",
        /// Role and host.
        UserHost = "user_host",
        /// Role and workstation; host where no workstation is given.
        UserWorkstation = "user_workstation",
        /// Role, wherever it works.
        User = "user",
        /// Host, whoever works there.
        Host = "host",
    }
}

words! {
    /// `licenses.claimed_at`: who claims the license.
    ClaimedAt {
        /// Every login that its application name admits.
        Login = "login",
        /// Only applications, by a call.
        Checkout = "checkout",
    }
}

words! {
    /// `licenses.enforcement` and `pg_seats.enforcement`, from the strictest to the softest.
    Enforcement {
        /// A login without a free seat is denied.
        On = "on",
        /// It is admitted, logged, and counted as denied.
        Warn = "warn",
        /// It is admitted.
        Off = "off",
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
const DAYS: [i64; 4] = [1, 7, 14, 30];

const DAY: Timestamp = 86_400_000_000;

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
