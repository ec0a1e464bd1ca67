//! A session as the ledger knows it, and the seat that it may hold.

use std::ops::{Deref, DerefMut};

use crate::core::ledger::identity::{Host, Label, LeaseId, Name, Who};
use crate::core::ledger::numbers::{
    DatabaseOid, RoleOid, SeatNumber, SessionNumber, Slot, TallyId, Ticket,
};
use crate::core::ledger::recents::Recents;
use crate::core::ledger::roles::Roles;
use crate::core::ledger::seat::{Claimant, Exempt, SeatKey};
use crate::core::ledger::taker::User;
use crate::core::ledger::time::Timestamp;

/// A client backend. Every one is registered, licensed or not, so that a new or changed license counts those that are
/// already in.
#[derive(Clone, Copy, Debug)]
pub struct Session {
    /// The session's number, never used again; 0 marks a free slot.
    pub number: SessionNumber,
    /// The backend's process id.
    pub pid: i32,
    /// Its database's OID; 0 for a replication connection without one.
    pub database: DatabaseOid,
    /// Who uses it.
    pub who: Who,
    /// The peer's address, even if the host is `local`; none for a Unix socket.
    pub address: Host,
    /// The authenticated role's name at login.
    pub usename: Name,
    /// The application name of the startup packet, as far as PostgreSQL shows it.
    pub application_name: Name,
    /// When it logged in.
    pub since: Timestamp,
    /// Whether its role is a superuser.
    pub superuser: bool,
    /// Whether it is a replication connection, or its role has REPLICATION.
    pub replication: bool,
    /// Whether the rules of its database have judged it.
    pub judged: bool,
    /// Why it takes no seat, if it is exempt.
    pub exempt: Option<Exempt>,
    /// The reserved roles that it is a member of.
    pub roles: Roles,
    /// The tally of the license that it claims, or would claim if it were not exempt; 0 if none.
    pub tally: TallyId,
    /// The seat that its login holds.
    pub seat: Option<SeatKey>,
    /// The number of its checkouts.
    pub checkouts: u32,
    /// The number of client_users that they are for.
    pub users: u32,
    /// Its ticket in the queue for a seat; 0 if it does not wait.
    pub ticket: Ticket,
    /// The leases that are lent to its transaction.
    pub lent: [Option<LeaseId>; LENT_MAX],
    /// How many times it has taken and left seats lately.
    pub recent: Recents<8>,
    /// The promise that idle seats may give way to it. It may be set before the session is registered.
    pub promise: Option<Promise>,
}

/// A promise that an idle seat gives way to somebody.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Promise {
    /// The tally of the seat.
    pub tally: TallyId,
    /// The database whose license it is wanted by.
    pub(super) database: DatabaseOid,
    /// The reserved roles of the one who wants it.
    pub roles: Roles,
    /// The user that it would count for.
    pub(super) user: User,
    /// When it was first wanted, as a number: whoever is in the queue with a lower ticket came earlier.
    pub(super) came: Ticket,
    /// The number of the seat that is being asked to give way.
    pub asks: Option<SeatNumber>,
    /// Whether a seat has given way and is kept.
    pub kept: bool,
}

/// The most leases that can be lent to one transaction. Further ones are only extended.
pub const LENT_MAX: usize = 8;

impl Session {
    /// A slot that has no session.
    pub const FREE: Session = Session {
        number: SessionNumber::NONE,
        pid: 0,
        database: DatabaseOid::NONE,
        who: Who {
            role: RoleOid::NONE,
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
        tally: TallyId::NONE,
        seat: None,
        checkouts: 0,
        users: 0,
        ticket: Ticket::NONE,
        lent: [None; LENT_MAX],
        recent: Recents::NONE,
        promise: None,
    };

    /// Returns the claim of its login: whose seat it asks for, and of what.
    pub fn claimant(&self) -> Claimant {
        let counted = self.number != SessionNumber::NONE && self.exempt.is_none();
        Claimant {
            tally: if counted { self.tally } else { TallyId::NONE },
            who: self.who,
            number: self.number,
            roles: self.roles,
            database: self.database,
            by_lease: false,
        }
    }
}

/// The slots for all sessions that the server has room for.
#[derive(Debug)]
pub struct Sessions<'a>(pub &'a mut [Session]);

impl Sessions<'_> {
    /// Returns the session in a slot, or the free slot; `None` beyond the last one.
    pub fn get(&self, slot: Slot) -> Option<&Session> {
        self.0.get(slot.0)
    }

    /// Returns the number of every slot.
    pub fn slots(&self) -> impl Iterator<Item = Slot> + use<> {
        (0..self.0.len()).map(Slot)
    }

    /// Returns every slot with its number.
    pub fn each(&self) -> impl Iterator<Item = (Slot, &Session)> {
        self.slots().zip(self.0.iter())
    }

    /// Returns the session in a slot, to be changed.
    pub fn get_mut(&mut self, slot: Slot) -> Option<&mut Session> {
        self.0.get_mut(slot.0)
    }
}

impl Deref for Sessions<'_> {
    type Target = [Session];

    fn deref(&self) -> &[Session] {
        self.0
    }
}

impl DerefMut for Sessions<'_> {
    fn deref_mut(&mut self) -> &mut [Session] {
        self.0
    }
}
