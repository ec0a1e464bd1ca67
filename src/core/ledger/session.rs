//! A session as the ledger knows it, and the seat that it may hold.

use crate::core::ledger::identity::{Host, Label, LeaseId, Name, Who};
use crate::core::ledger::recents::Recents;
use crate::core::ledger::roles::Roles;
use crate::core::ledger::seat::{Claimant, Exempt, NO_TALLY, SeatKey};
use crate::core::ledger::taker::User;
use crate::core::ledger::time::Timestamp;

/// A client backend. Every one is registered, licensed or not, so that a new or changed license
/// counts those already in.
#[derive(Clone, Copy, Debug)]
pub struct Session {
    /// Its own number, never used again; 0 marks a free place.
    pub number: u64,
    /// The backend's process id.
    pub pid: i32,
    /// Its database's OID; 0 for a replication connection without one.
    pub database: u32,
    /// Whose it is.
    pub who: Who,
    /// The peer's address also where the host is `local`; none for a Unix socket.
    pub address: Host,
    /// The authenticated role's name at login.
    pub usename: Name,
    /// The startup packet's application name, as far as PostgreSQL shows it.
    pub application_name: Name,
    /// When it logged in.
    pub since: Timestamp,
    /// The role is a superuser.
    pub superuser: bool,
    /// A replication connection, or a role with REPLICATION.
    pub replication: bool,
    /// The rules of its database have judged it.
    pub judged: bool,
    /// Why it takes no seat, if it is exempt.
    pub exempt: Option<Exempt>,
    /// The reserved roles that it is a member of.
    pub roles: Roles,
    /// The tally of the license that it claims, or would claim were it not exempt; 0: none.
    pub tally: u64,
    /// The seat that its login holds.
    pub seat: Option<SeatKey>,
    /// How many checkouts it has.
    pub checkouts: u32,
    /// For how many client_users.
    pub users: u32,
    /// Its ticket in the line for a seat; 0: it does not wait.
    pub ticket: u64,
    /// The leases that are lent to its transaction.
    pub lent: [Option<LeaseId>; LENT_MAX],
    /// How often it has taken and left seats of late.
    pub recent: Recents<8>,
    /// Idle seats may give way to it: set also before it is registered.
    pub promise: Option<Promise>,
}

/// That an idle seat gives way to somebody.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Promise {
    /// The tally of the seat.
    pub tally: u64,
    /// The database by whose license it is wanted.
    pub(super) database: u32,
    /// The reserved roles of whoever wants it.
    pub roles: Roles,
    /// For whom it would count.
    pub(super) user: User,
    /// When it was first wanted: who stands in line with a lower ticket came before.
    pub(super) came: u64,
    /// The number of the seat that is asked.
    pub asks: Option<u64>,
    /// One has, and is kept.
    pub kept: bool,
}

/// How many leases can be lent to one transaction: more are extended alone.
pub const LENT_MAX: usize = 8;

impl Session {
    /// A place where no session is.
    pub const FREE: Session = Session {
        number: 0,
        pid: 0,
        database: 0,
        who: Who {
            role: 0,
            host: Host::NONE,
            workstation: Name::EMPTY,
            client_user: Label::EMPTY,
        },
        address: Host::NONE,
        usename: Name::EMPTY,
        application_name: Name::EMPTY,
        since: 0,
        superuser: false,
        replication: false,
        judged: false,
        exempt: None,
        roles: Roles::NONE,
        tally: 0,
        seat: None,
        checkouts: 0,
        users: 0,
        ticket: 0,
        lent: [None; LENT_MAX],
        recent: Recents::NONE,
        promise: None,
    };

    /// Whose seat its login asks for, and of what.
    pub fn claimant(&self) -> Claimant {
        let counted = self.number != 0 && self.exempt.is_none();
        Claimant {
            tally: if counted { self.tally } else { NO_TALLY },
            who: self.who,
            number: self.number,
            roles: self.roles,
            database: self.database,
            by_lease: false,
        }
    }
}
