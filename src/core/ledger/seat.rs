//! A seat: what it counts in, who holds it, and its key.

use crate::core::ledger::identity::{Host, Identity, Label, Who};
use crate::core::ledger::numbers::{DatabaseOid, RoleOid, SeatNumber, SessionNumber, TallyId};
use crate::core::ledger::roles::Roles;
use crate::core::ledger::table::entry;
use crate::core::ledger::time::Timestamp;
use crate::core::ledger::words::CountedBy;

/// A request for a seat: what it counts in, and whom it is for.
#[derive(Clone, Copy, Debug)]
pub struct Claimant {
    /// The tally of the requested product; 0 if no seat is taken.
    pub tally: TallyId,
    /// The user that the seat is for.
    pub who: Who,
    /// The number of the session, or of the lease.
    pub number: SessionNumber,
    /// The reserved roles that the claimant is a member of.
    pub roles: Roles,
    /// The database in which the seat is requested.
    pub database: DatabaseOid,
    /// Whether the request is for a lease, which counts for the application's user.
    pub by_lease: bool,
}

/// Why a session is not counted (counting rule 6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exempt {
    /// Its role is a superuser.
    Superuser,
    /// It is a replication connection, or its role has REPLICATION.
    Replication,
    /// Its role is a member of an exempt role.
    Role,
    /// Its host is exempt.
    Host,
}

impl Exempt {
    /// Returns the reason as `license_exempt_sessions` shows it.
    pub fn reason(self) -> &'static str {
        match self {
            Exempt::Superuser => "superuser",
            Exempt::Replication => "replication",
            Exempt::Role => "exempt role",
            Exempt::Host => "exempt host",
        }
    }
}

/// What a database's rules make of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Standing {
    /// Why it takes no seat, if it is exempt.
    pub exempt: Option<Exempt>,
    /// The license that it claims, as an index into the licenses of its database.
    pub license: Option<u32>,
}

/// A seat's key: what it is counted in, and who holds it.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SeatKey {
    /// The tally's number.
    pub tally: TallyId,
    /// The holder's identity.
    pub identity: Identity,
}

/// The source of seat ids: UUIDs counted up from a random one, so that no two seats ever share an id.
#[derive(Clone, Copy, Default, Debug)]
pub struct SeatIds {
    /// The id of seat number 0. Whoever knows one seat's id can nearly guess it.
    pub first: u128,
    /// The secret from which identities are made.
    pub salt: u128,
}

impl SeatIds {
    /// Returns the number of the seat with this id; that seat may be gone, or may never have existed. `None` if no seat
    /// can have the id.
    pub fn number_of(self, id: [u8; 16]) -> Option<SeatNumber> {
        let number = u128::from_be_bytes(id).wrapping_sub(self.first);
        u64::try_from(number).ok().map(SeatNumber)
    }

    /// Returns the seat's id, which is what people and programs see.
    pub fn of(self, number: SeatNumber) -> [u8; 16] {
        self.first.wrapping_add(number.0.into()).to_be_bytes()
    }
}

/// A seat that is taken.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Seat {
    /// What it is counted in, and who holds it.
    pub key: SeatKey,
    /// The seat's number, never used again.
    pub number: SeatNumber,
    /// When it was taken.
    pub opened_at: Timestamp,
    /// The number of logins that hold it.
    pub logins: u32,
    /// The number of sessions' checkouts that hold it.
    pub checkouts: u32,
    /// The number of leases that hold it.
    pub leases: u32,
    /// The role that took it. Later holders do not change whom it counts for.
    pub(super) role: RoleOid,
    /// The database in which it was taken.
    pub(super) database: DatabaseOid,
    /// The host from which it was taken.
    pub(super) host: Host,
    /// The application's user for whom it was taken, or empty.
    pub(super) client_user: Label,
    /// The reserved roles that its taker is a member of.
    pub roles: Roles,
    /// Whether a lease took it.
    pub(super) by_lease: bool,
    /// Whether its taker gave the name of a workstation.
    pub(super) of_workstation: bool,
    /// The counting rule that made its identity.
    pub rule: CountedBy,
    /// Whether its holders are being ended; until they are gone nobody may join them.
    pub(super) ending: bool,
    /// Until when it stays taken after its last holder has left. While `ending` is set: until when nobody may join it.
    pub lingers_until: Timestamp,
}

/// What can hold a seat, from the strongest kind to the weakest.
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
    /// Returns the word for it in `license_active_seats`.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Login => "login",
            Kind::Checkout => "checkout",
            Kind::Lease => "lease",
        }
    }
}

impl Seat {
    pub(super) fn new(key: SeatKey, number: SeatNumber, opened_at: Timestamp) -> Seat {
        Seat {
            key,
            number,
            opened_at,
            logins: 0,
            checkouts: 0,
            leases: 0,
            role: RoleOid::NONE,
            database: DatabaseOid::NONE,
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

    /// Tells whether its holders are being ended at this moment, so that nobody may join them.
    pub(super) fn is_ending(&self, now: Timestamp) -> bool {
        self.ending && self.lingers_until > now
    }

    /// Returns the role's OID and the host of those who may hold it: 0 and none where its counting rule ignores them.
    pub fn role_and_host(&self) -> (RoleOid, Host) {
        let Seat { role, host, .. } = *self;
        self.rule.role_and_host(role, host, self.of_workstation)
    }

    /// Returns the number of its holders.
    pub fn count(&self) -> u64 {
        u64::from(self.logins) + u64::from(self.checkouts) + u64::from(self.leases)
    }

    /// Tells whether anybody holds it. A seat that nobody holds lingers.
    pub fn is_held(&self) -> bool {
        self.logins != 0 || self.checkouts != 0 || self.leases != 0
    }
}

entry!(Seat, key: SeatKey);
