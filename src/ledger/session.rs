//! A session as the ledger knows it, and the seat that it may hold.

use super::identity::{Host, Identity, Name, Who};
use super::license::Timestamp;
use super::table::Entry;

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
    /// Why it takes no seat, if it is exempt.
    pub exempt: Option<Exempt>,
    /// The tally of the license that it claims, or would claim were it not exempt; 0: none.
    pub tally: u64,
    /// The seat that it holds.
    pub seat: Option<SeatKey>,
}

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
        },
        address: Host::NONE,
        usename: Name::EMPTY,
        application_name: Name::EMPTY,
        since: 0,
        superuser: false,
        replication: false,
        exempt: None,
        tally: 0,
        seat: None,
    };
}

/// Why a session is not counted (counting rule 6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exempt {
    /// Its role is a superuser.
    Superuser,
    /// It replicates, or its role may.
    Replication,
    /// Its role is a member of an exempt role.
    Role,
    /// Its host is exempt.
    Host,
}

impl Exempt {
    /// The reason as `license_exempt_sessions` shows it.
    pub fn reason(self) -> &'static str {
        match self {
            Exempt::Superuser => "superuser",
            Exempt::Replication => "replication",
            Exempt::Role => "exempt role",
            Exempt::Host => "exempt host",
        }
    }
}

/// What the rules of a session's database make of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Standing {
    /// Why it takes no seat, if it is exempt.
    pub exempt: Option<Exempt>,
    /// The place of the license that it claims among its database's.
    pub license: Option<u32>,
}

/// A seat's key: what it is counted in, and whose it is.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SeatKey {
    /// The tally's number.
    pub tally: u64,
    /// Who holds it.
    pub identity: Identity,
}

/// A seat that is taken.
#[derive(Clone, Copy, Debug)]
pub struct Seat {
    /// What it is counted in, and whose it is.
    pub key: SeatKey,
    /// Its name to people and programs: a UUID.
    pub id: [u8; 16],
    /// When it was taken.
    pub opened_at: Timestamp,
    /// How many sessions hold it.
    pub sessions: u32,
}

impl Entry for Seat {
    type Key = SeatKey;
    fn key(&self) -> &SeatKey {
        &self.key
    }
}
