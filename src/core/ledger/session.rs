//! A session as the ledger knows it, and the seat that it may hold.

use super::hold::LeaseId;
use super::identity::{Host, Identity, Label, Name, Who};
use super::license::{CountedBy, Timestamp};
use super::merge::Recents;
use super::reservation::Roles;
use super::table::entry;
use super::taker::User;

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

/// The number of no tally.
pub const NO_TALLY: u64 = 0;

/// Who asks for a seat, and of what.
#[derive(Clone, Copy, Debug)]
pub struct Claimant {
    /// The tally of what is asked for; 0: it takes no seat.
    pub tally: u64,
    /// For whom.
    pub who: Who,
    /// The session's own number, or the lease's.
    pub number: u64,
    /// The reserved roles that it is a member of.
    pub roles: Roles,
    /// The database in which it is asked for.
    pub database: u32,
    /// It asks for a lease, which counts for the application's user.
    pub by_lease: bool,
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

/// Makes ids of the numbers of seats: UUIDs, counted from a random one, so that no two seats ever
/// have the same.
#[derive(Clone, Copy, Default, Debug)]
pub struct SeatIds {
    /// The id of the seat with number 0. Whoever knows a seat's id nearly knows it.
    pub first: u128,
    /// What makes identities, which nobody outside knows.
    pub salt: u128,
}

impl SeatIds {
    /// The number of the seat with this name, which may be gone, or never have been.
    pub fn number_of(self, id: [u8; 16]) -> Option<u64> {
        u64::try_from(u128::from_be_bytes(id).wrapping_sub(self.first)).ok()
    }

    /// A seat's name to people and programs.
    pub fn of(self, number: u64) -> [u8; 16] {
        self.first.wrapping_add(number.into()).to_be_bytes()
    }
}

/// A seat that is taken.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Seat {
    /// What it is counted in, and whose it is.
    pub key: SeatKey,
    /// Its own number, never used again.
    pub number: u64,
    /// When it was taken.
    pub opened_at: Timestamp,
    /// How many logins hold it.
    pub logins: u32,
    /// How many sessions' checkouts hold it.
    pub checkouts: u32,
    /// How many leases hold it.
    pub leases: u32,
    /// The role that took it; who joins it does not change for whom it counts.
    pub(super) role: u32,
    /// The database in which it was.
    pub(super) database: u32,
    /// The host from which it was taken.
    pub(super) host: Host,
    /// The application's user for whom it was, or empty.
    pub(super) client_user: Label,
    /// The reserved roles that one is a member of.
    pub roles: Roles,
    /// A lease took it.
    pub(super) by_lease: bool,
    /// It was taken from a computer that said its name.
    pub(super) of_workstation: bool,
    /// The rule that made its identity.
    pub rule: CountedBy,
    /// Its holders are being ended, and until then nobody joins them.
    pub(super) ending: bool,
    /// Until when it stays taken once nobody holds it any more; where it is ending, until when it is.
    pub lingers_until: Timestamp,
}

/// What holds a seat, from the strongest to the weakest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// A login.
    Login,
    /// A session's checkout.
    Checkout,
    /// A lease.
    Lease,
}

impl Kind {
    /// The word for it in `license_active_seats`.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Login => "login",
            Kind::Checkout => "checkout",
            Kind::Lease => "lease",
        }
    }
}

impl Seat {
    pub(super) fn new(key: SeatKey, number: u64, opened_at: Timestamp) -> Seat {
        Seat {
            key,
            number,
            opened_at,
            logins: 0,
            checkouts: 0,
            leases: 0,
            role: 0,
            database: 0,
            host: Host::NONE,
            client_user: Label::EMPTY,
            roles: Roles::NONE,
            by_lease: false,
            of_workstation: false,
            rule: CountedBy::UserHost,
            ending: false,
            lingers_until: 0,
        }
    }

    pub(super) fn holders(&mut self, kind: Kind) -> &mut u32 {
        match kind {
            Kind::Login => &mut self.logins,
            Kind::Checkout => &mut self.checkouts,
            Kind::Lease => &mut self.leases,
        }
    }

    /// Its holders are being ended at this moment, and nobody joins them.
    pub(super) fn is_ending(&self, now: Timestamp) -> bool {
        self.ending && self.lingers_until > now
    }

    /// The role's OID and the host of those who may have it, as far as they matter: 0 and none where they don't.
    pub fn role_and_host(&self) -> (u32, Host) {
        let Seat { role, host, .. } = *self;
        self.rule.role_and_host(role, host, self.of_workstation)
    }

    /// How many hold it.
    pub fn count(&self) -> u64 {
        u64::from(self.logins) + u64::from(self.checkouts) + u64::from(self.leases)
    }

    /// Somebody holds it; else it lingers.
    pub fn is_held(&self) -> bool {
        self.logins != 0 || self.checkouts != 0 || self.leases != 0
    }
}

entry!(Seat, key: SeatKey);
