//! An event: what the audit trail is told.

use crate::core::ledger::denial::Cause;
use crate::core::ledger::hold::Hold;
use crate::core::ledger::identity::{Host, Label, Name, Who};
use crate::core::ledger::license::{Excess, Level};
use crate::core::ledger::seat::{Exempt, Kind};
use crate::core::ledger::session::Session;
use crate::core::ledger::table::entry;
use crate::core::ledger::time::Timestamp;

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Happened {
    /// A seat was taken that nobody held.
    Taken,
    /// A seat was left by its last holder.
    Left(Leaving),
    /// No seat was to be had.
    Denied(Cause),
    /// No seat was to be had, and 'warn' admitted.
    WouldBeDenied(Cause),
    /// A seat beyond `seats` was taken.
    Overdraft(Cause),
    /// A session logged in that is exempt.
    ExemptLogin(Exempt),
    /// The time of a lease was up.
    LeaseExpired,
    /// An administrator stopped who held the seat.
    Terminated,
    /// Whoever held the seat was logged off for inactivity.
    LoggedOff,
    /// The seat was idle, and gave way to somebody else.
    Reclaimed,
    /// So many seats are in use that somebody should know.
    Reached {
        /// How many.
        level: Level,
        /// The seats that the license has.
        seats: i32,
    },
    /// The tables claim more than was signed.
    Tampered(Excess),
    /// The clock was set, or nothing ran for a while: times began anew.
    ClockJump {
        /// By how much the wall clock was set, in microseconds; 0: it was not.
        moved: i64,
        /// For how long nothing ran at least, in microseconds.
        late: i64,
    },
}

/// Why a seat was left by its last holder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Leaving {
    /// The session ended.
    Logout,
    /// The client was gone without a word.
    Abandoned,
    /// An error, or a timeout of the server's, ended the session.
    Fatal,
    /// An operator, or the server's stop, ended the session.
    Killed,
    /// The application gave it back.
    GivenBack,
    /// The lease's time was up.
    Expiry,
    /// An administrator stopped it.
    Termination,
    /// It was inactive for too long.
    IdleLogOff,
    /// It was inactive, and gave way to somebody else.
    Reclaim,
}

impl Leaving {
    /// The word for it in the audit trail; of how sessions end, that of `pg_stat_database`.
    pub fn word(self) -> &'static str {
        match self {
            Leaving::Logout => "logout",
            Leaving::Abandoned => "abandoned",
            Leaving::Fatal => "fatal",
            Leaving::Killed => "killed",
            Leaving::GivenBack => "given back",
            Leaving::Expiry => "lease expiry",
            Leaving::Termination => "termination",
            Leaving::IdleLogOff => "idle log-off",
            Leaving::Reclaim => "reclaim",
        }
    }
}

/// An event, until it is written.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// Its own number: events are in the order of their numbers.
    pub number: u64,
    /// When it happened.
    pub at: Timestamp,
    /// The OID of the database in whose trail it belongs.
    pub database: u32,
    /// What happened.
    pub happened: Happened,
    /// The product.
    pub product: Name,
    /// What held the seat, or asked for it; none where nobody did.
    pub kind: Option<Kind>,
    /// Who; the name of a lease's host that is no address stands in the place of a workstation.
    pub who: Who,
    /// The role's name at its login; empty where only the OID is known.
    pub usename: Name,
    /// The number of the seat; 0 for none.
    pub seat: u64,
    /// Seats in use then.
    pub in_use: i64,
    /// Until when the seat lingers; 0: it does not.
    pub until: Timestamp,
    /// The OID of the role that did it, where that is another one; 0: none.
    pub by: u32,
    /// Why that role did it, or empty.
    pub reason: Label,
    /// How often it happened, where it is told together, `at` the last time; else 0.
    pub count: u32,
    /// When it happened first.
    pub since: Timestamp,
    /// How long the seats were held that were left, in microseconds.
    pub held: Timestamp,
    /// How many seats beyond `seats` were among those that were taken.
    pub overdrafts: u32,
    /// The number of the next event of its database; 0: none yet.
    pub(super) next: u64,
}

entry!(Event, number: u64);

/// Nobody in particular.
pub(super) const NOBODY: Who = Who {
    role: 0,
    host: Host::NONE,
    workstation: Name::EMPTY,
    client_user: Label::EMPTY,
};

impl Event {
    /// What happened to a product.
    pub(super) fn of_product(happened: Happened, database: u32, product: Name) -> Event {
        Event {
            number: 0,
            at: 0,
            database,
            happened,
            product,
            kind: None,
            who: NOBODY,
            usename: Name::EMPTY,
            seat: 0,
            in_use: 0,
            until: 0,
            by: 0,
            reason: Label::EMPTY,
            count: 0,
            since: 0,
            held: 0,
            overdrafts: 0,
            next: 0,
        }
    }

    /// What happened to a session's login.
    pub(super) fn of_login(happened: Happened, session: &Session, product: Name) -> Event {
        Event {
            kind: Some(Kind::Login),
            who: session.who,
            usename: session.usename,
            ..Event::of_product(happened, session.database, product)
        }
    }

    /// What happened to a hold, which the session at this name took.
    pub(super) fn of_hold(happened: Happened, hold: &Hold, usename: Name, product: Name) -> Event {
        Event {
            kind: Some(hold.kind()),
            who: hold.who,
            usename,
            ..Event::of_product(happened, hold.database, product)
        }
    }
}
