//! Why a seat is denied, and what an admitted user is warned about.

use crate::core::ledger::identity::Name;
use crate::core::ledger::license::{License, OutOfDates};
use crate::core::ledger::numbers::TallyId;
use crate::core::ledger::time::Timestamp;

/// Seats that may give way to somebody who would be denied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reclaim {
    /// The tally of these seats.
    pub tally: TallyId,
    /// How long they must have been inactive, in microseconds.
    pub idle_after: Timestamp,
}

/// What the server log should say about somebody who got a seat.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Remark {
    /// Nothing.
    #[default]
    None,
    /// The seat is one beyond `seats`.
    Overdraft(Denial),
    /// The seat would have been denied, but enforcement is 'warn'.
    WouldBeDenied(Denial),
}

/// Why somebody gets no seat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Denial {
    /// The product of the license that was claimed.
    pub product: Name,
    /// The tally of that license.
    pub tally: TallyId,
    /// The reason.
    pub cause: Cause,
}

impl Denial {
    pub(super) fn of(license: &License, cause: Cause) -> Denial {
        Denial {
            product: license.product,
            tally: license.tally,
            cause,
        }
    }

    /// Tells whether it lasts only until somebody gives a seat back.
    pub fn is_full(&self) -> bool {
        matches!(
            self.cause,
            Cause::Full { .. } | Cause::RoleFull { .. } | Cause::UserFull { .. }
        )
    }
}

/// The cause of a denial.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// Every seat is taken, or kept for members of other roles.
    Full {
        /// Seats taken, or promised to others.
        in_use: i64,
        /// Seats that may be taken.
        limit: i64,
        /// How many of the free seats are kept for others.
        kept: i64,
    },
    /// The members of a role use as many seats as they may.
    RoleFull {
        /// The role's number.
        number: u8,
        /// Seats that they use.
        in_use: i64,
        /// Seats that they may use.
        limit: i64,
    },
    /// The user has as many seats as one user may have.
    UserFull {
        /// Seats that count for the user.
        in_use: i64,
        /// The most seats that may count for the user.
        limit: i64,
    },
    /// An administrator has barred the claimant.
    Barred {
        /// When the bar ends; `None` if it lasts until the sessions that were stopped have ended.
        until: Option<Timestamp>,
    },
    /// The license's dates admit nobody.
    OutOfDates(OutOfDates),
    /// The ledger itself has no room for one more checkout or lease.
    TableFull,
    /// The session holds checkouts for as many client_users as it may have.
    TooManyUsers {
        /// The most client_users that it may have.
        most: u32,
    },
}

/// Why no rules could be put in force.
#[derive(Clone, Debug)]
pub enum LoadError {
    /// The tables can't be read now: somebody holds a lock on them, or they are damaged.
    Unreadable(String),
    /// They change faster than they can be read.
    Changing,
    /// The ledger has no room for their leases.
    NoRoom,
    /// The ledger has no room for their licenses beside the rules of other databases.
    TooManyRules,
}

impl LoadError {
    /// Returns the cause in words.
    pub fn cause(&self) -> String {
        match self {
            LoadError::Unreadable(cause) => cause.clone(),
            LoadError::Changing => "they change too fast".to_owned(),
            LoadError::NoRoom => "the leases of all databases exceed pg_seats.max_seats".to_owned(),
            LoadError::TooManyRules => {
                "the rows of all databases exceed pg_seats.max_rules".to_owned()
            }
        }
    }
}
