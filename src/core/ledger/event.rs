//! An event: something that the audit trail reports.

use crate::core::ledger::denial::Cause;
use crate::core::ledger::hold::Hold;
use crate::core::ledger::identity::{Host, Label, Name, Who};
use crate::core::ledger::license::{Level, Tampered};
use crate::core::ledger::numbers::{DatabaseOid, RoleOid, SeatNumber};
use crate::core::ledger::seat::{Exempt, Kind};
use crate::core::ledger::session::Session;
use crate::core::ledger::table::entry;
use crate::core::ledger::time::Timestamp;

/// What has happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Happened {
    /// A seat that nobody held was taken.
    Taken,
    /// A seat was left by its last holder.
    Left(Leaving),
    /// A seat was denied.
    Denied(Cause),
    /// A seat would have been denied, but enforcement is 'warn'.
    WouldBeDenied(Cause),
    /// A seat beyond `seats` was taken.
    Overdraft(Cause),
    /// An exempt session logged in.
    ExemptLogin(Exempt),
    /// A lease's time was up.
    LeaseExpired,
    /// An administrator stopped the holders of the seat.
    Terminated,
    /// The holder of the seat was logged off for inactivity.
    LoggedOff,
    /// The seat was idle and gave way to somebody else.
    Reclaimed,
    /// So many seats are in use that somebody should know about it.
    Reached {
        /// The level of use.
        level: Level,
        /// The seats that the license has.
        seats: i32,
    },
    /// The tables claim more than was signed.
    Tampered(Tampered),
    /// The clock was set, or nothing ran for a while, so that times began anew.
    ClockJump {
        /// How far the wall clock was set, in microseconds; 0 if it was not.
        moved: i64,
        /// The least time for which nothing ran, in microseconds.
        late: i64,
    },
}

/// Why a seat was left by its last holder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Leaving {
    /// The session ended.
    Logout,
    /// The connection to the client was lost.
    Abandoned,
    /// An error, or a timeout of the server, ended the session.
    Fatal,
    /// An operator, or the stop of the server, ended the session.
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
    /// Returns the word for it in the audit trail. Ways in which sessions end have the words of `pg_stat_database`.
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

/// An event that is yet to be written.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// The event's number. Events are in the order of their numbers.
    pub number: u64,
    /// When it happened.
    pub at: Timestamp,
    /// The OID of the database whose audit trail it belongs to.
    pub database: DatabaseOid,
    /// What happened.
    pub happened: Happened,
    /// The product.
    pub product: Name,
    /// What held the seat, or asked for it; `None` if nothing did.
    pub kind: Option<Kind>,
    /// Whom it happened to. If a lease's host is not an address, its name is in the field of the workstation.
    pub who: Who,
    /// The role's name at login; empty if only the OID is known.
    pub usename: Name,
    /// The number of the seat; 0 if there is none.
    pub seat: SeatNumber,
    /// Seats in use at that time.
    pub in_use: i64,
    /// When the seat stops lingering, or the bar against its holders ends; 0 for neither.
    pub until: Timestamp,
    /// The OID of the role that did it, if that is another one; else 0.
    pub by: RoleOid,
    /// The reason that this role gave, or empty.
    pub reason: Label,
    /// How many times it happened, if several occurrences share the event, of which `at` is the last; else 0.
    pub count: u32,
    /// When it happened first.
    pub since: Timestamp,
    /// How long the seats were held before they were left, in microseconds.
    pub held: Timestamp,
    /// How many of the seats that were taken were beyond `seats`.
    pub overdrafts: u32,
    /// The number of the next event of its database; 0 if there is none yet.
    pub(super) next: u64,
}

entry!(Event, number: u64);

/// Nobody in particular.
pub(super) const NOBODY: Who = Who {
    role: RoleOid::NONE,
    host: Host::NONE,
    workstation: Name::EMPTY,
    client_user: Label::EMPTY,
};

impl Event {
    /// Returns an event that concerns a product.
    pub(super) fn of_product(happened: Happened, database: DatabaseOid, product: Name) -> Event {
        Event {
            number: 0,
            at: 0,
            database,
            happened,
            product,
            kind: None,
            who: NOBODY,
            usename: Name::EMPTY,
            seat: SeatNumber::NONE,
            in_use: 0,
            until: 0,
            by: RoleOid::NONE,
            reason: Label::EMPTY,
            count: 0,
            since: 0,
            held: 0,
            overdrafts: 0,
            next: 0,
        }
    }

    /// Returns an event that concerns a session's login.
    pub(super) fn of_login(happened: Happened, session: &Session, product: Name) -> Event {
        Event {
            kind: Some(Kind::Login),
            who: session.who,
            usename: session.usename,
            ..Event::of_product(happened, session.database, product)
        }
    }

    /// Returns an event that concerns a hold. `usename` is the name of the role that took it, or empty.
    pub(super) fn of_hold(happened: Happened, hold: &Hold, usename: Name, product: Name) -> Event {
        Event {
            kind: Some(hold.kind()),
            who: hold.who,
            usename,
            ..Event::of_product(happened, hold.database, product)
        }
    }
}
