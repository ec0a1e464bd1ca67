//! What applications hold: a session's checkouts, and leases, which outlive any session.

use crate::core::ledger::identity::{Label, LeaseId, Name, Text, Who};
use crate::core::ledger::numbers::{DatabaseOid, RoleOid, SeatNumber, SessionNumber, TallyId};
use crate::core::ledger::roles::Roles;
use crate::core::ledger::seat::{Claimant, Kind};
use crate::core::ledger::table::{Table, Tables, entry};
use crate::core::ledger::time::Timestamp;
use crate::core::ledger::words::CountedBy;

/// The key of a hold: a lease's id, or the session's number and the checkout's index within the session.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct HoldKey([u8; 16]);

impl HoldKey {
    /// Returns the key of a session's checkout. No lease can have the same one: a random UUID has its variant bits set
    /// where a small index has none.
    pub fn checkout(session: SessionNumber, place: u32) -> HoldKey {
        HoldKey((u128::from(session.0) << 64 | u128::from(place)).to_be_bytes())
    }

    /// Returns the key of a lease.
    pub fn lease(id: LeaseId) -> HoldKey {
        HoldKey(id)
    }

    /// Returns the lease's id. It means nothing if this is the key of a checkout.
    pub fn lease_id(self) -> LeaseId {
        self.0
    }

    /// Returns the checkout's index within its session.
    pub(super) fn place(self) -> u32 {
        u128::from_be_bytes(self.0) as u32
    }
}

/// A hold that an application has on a seat.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Hold {
    /// The hold's key.
    pub key: HoldKey,
    /// The number of the session whose checkout it is, or the lease's own.
    pub number: SessionNumber,
    /// The database in which it was taken.
    pub database: DatabaseOid,
    /// How many times it was checked out.
    pub times: u32,
    /// The tally of its product. It stays while the hold lasts, even if the license is gone.
    pub tally: TallyId,
    /// The user that it is for. A lease has no workstation; if its host is not an address, that field has the host's
    /// name.
    pub who: Who,
    /// Whether it is a lease whose transaction has not ended.
    pub pending: bool,
    /// Whether it was given to a session in the queue that has not collected it yet. Until then its time does not run.
    pub(super) unseen: bool,
    /// Whether its product is licensed.
    pub(super) licensed: bool,
    /// Whether it is the checkout of an exempt session, and takes no seat.
    pub(super) exempt: bool,
    /// Whether the lease has ended. Its row, if its transaction commits one, is yet to be deleted.
    pub ended: bool,
    /// The reserved roles that the role in `who` is a member of.
    pub(super) roles: Roles,
    /// Whether it is the first of its session's checkouts for its client_user.
    pub(super) first_of_user: bool,
    /// The counting rule by which it has its seat; `None` if it has no seat.
    pub(super) seated: Option<CountedBy>,
    /// The role that took the lease. Members of this role may see it.
    pub taken_by: RoleOid,
    /// The number of that seat, so that going through all holders takes no lookup of their seats.
    pub(super) seat: SeatNumber,
    /// How long the lease lasts after each heartbeat, in microseconds; 0 for a checkout.
    pub ttl: Timestamp,
    /// When the lease ends; for a checkout, when it was taken.
    pub expires_at: Timestamp,
}

entry!(Hold, key: HoldKey);

impl Hold {
    /// Returns which kind of hold it is.
    pub fn kind(&self) -> Kind {
        if self.ttl == 0 {
            Kind::Checkout
        } else {
            Kind::Lease
        }
    }

    /// Returns the claim that it makes on a seat. One that takes no seat claims it of [`TallyId::NONE`].
    pub fn claimant(&self) -> Claimant {
        Claimant {
            tally: if self.licensed && !self.exempt && !self.ended {
                self.tally
            } else {
                TallyId::NONE
            },
            who: self.whose(),
            number: self.number,
            roles: self.roles,
            database: self.database,
            by_lease: self.kind() == Kind::Lease,
        }
    }

    /// Tells whether it would take a seat of this tally if its session were not exempt.
    pub(super) fn is_exempt_in(&self, tally: TallyId) -> bool {
        self.licensed && self.exempt && self.tally == tally
    }

    /// Returns the user whose seat it claims: without the name of a lease's host, which is no workstation.
    pub(super) fn whose(&self) -> Who {
        match self.kind() {
            Kind::Lease => Who {
                workstation: Name::EMPTY,
                ..self.who
            },
            _ => self.who,
        }
    }

    /// Returns the name of a lease's host if it is not an address; else an empty text.
    pub fn host_name(&self) -> &str {
        match self.kind() {
            Kind::Lease => self.who.workstation.as_str(),
            _ => "",
        }
    }

    /// Returns when it was taken or, for a lease, last extended.
    pub fn since(&self) -> Timestamp {
        self.expires_at.saturating_sub(self.ttl)
    }

    /// Returns the number of its seat, if it has one.
    pub fn seat(&self) -> Option<SeatNumber> {
        self.seated.map(|_| self.seat)
    }

    /// Tells whether it is a lease whose time runs: it does from the answer on, whatever becomes of the transaction.
    pub fn will_end(&self) -> bool {
        self.kind() == Kind::Lease && !self.ended && !self.unseen
    }

    /// Tells whether it is a lease whose time is up at this moment.
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.will_end() && self.expires_at <= now
    }
}

/// Where to find a session's checkout of a product for a user, so that nobody has to walk through all checkouts of a
/// session that has many.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Spot {
    /// A digest of the session, the product and the user, made with a secret so that nobody can predict it.
    pub(super) key: u64,
    /// The checkout's index within its session.
    pub(super) place: u32,
}

entry!(Spot, key: u64);

/// A text that is too long for a label: the name of an application's user, kept while somebody holds or awaits a seat
/// under it, or a text of an event.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct LongName {
    /// The label that stands for it.
    pub label: Label,
    /// The whole text.
    pub text: Text<512>,
    /// The number of entries that need it.
    pub users: u32,
}

entry!(LongName, label: Label);

/// Notes that one entry fewer needs the text of this label, and forgets it with the last.
pub(super) fn drop_long_name<T: Tables>(names: &mut T::Of<LongName>, label: &Label) {
    if label.is_digest()
        && let Some(name) = names.get_mut(label)
    {
        name.users -= 1;
        if name.users == 0 {
            names.remove(label);
        }
    }
}
