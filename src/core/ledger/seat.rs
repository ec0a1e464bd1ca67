//! A seat: whose it is, who holds it, and what it is found by.

use crate::core::ledger::identity::{Host, Identity, Label, Who};
use crate::core::ledger::roles::Roles;
use crate::core::ledger::table::entry;
use crate::core::ledger::time::Timestamp;
use crate::core::ledger::words::CountedBy;

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
