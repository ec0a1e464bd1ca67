//! What applications hold: a session's checkout, or a lease that outlives any session.

use crate::core::ledger::identity::{Label, LeaseId, Name, Text, Who};
use crate::core::ledger::roles::Roles;
use crate::core::ledger::seat::{Claimant, Kind, NO_TALLY};
use crate::core::ledger::table::{Table, Tables, entry};
use crate::core::ledger::time::Timestamp;
use crate::core::ledger::words::CountedBy;

/// What finds a hold: a lease's id, or the session's number and the checkout's place among the
/// session's.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct HoldKey([u8; 16]);

impl HoldKey {
    /// The key of a session's checkout. No lease has it: the bits that mark a random UUID are not
    /// set in a place that is small.
    pub fn checkout(session: u64, place: u32) -> HoldKey {
        HoldKey((u128::from(session) << 64 | u128::from(place)).to_be_bytes())
    }

    /// The key of a lease.
    pub fn lease(id: LeaseId) -> HoldKey {
        HoldKey(id)
    }

    /// The lease's id, if it is a lease's.
    pub fn lease_id(self) -> LeaseId {
        self.0
    }

    /// The checkout's place among its session's.
    pub(super) fn place(self) -> u32 {
        u128::from_be_bytes(self.0) as u32
    }
}

/// A hold on a seat that an application has taken.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Hold {
    /// What finds it.
    pub key: HoldKey,
    /// The number of the session whose checkout it is, or the lease's own.
    pub number: u64,
    /// The database that it was taken in.
    pub database: u32,
    /// How often it was checked out.
    pub times: u32,
    /// The tally of its product; kept while it lasts, also where the license is gone.
    pub tally: u64,
    /// For whom it was taken. The name of a lease's host that is no address stands in the place of
    /// a workstation, which a lease has not.
    pub who: Who,
    /// It is a lease whose transaction has not ended.
    pub pending: bool,
    /// It was given to somebody in line who has not seen it yet: until then its time does not run.
    pub(super) unseen: bool,
    /// Its product is licensed.
    pub(super) licensed: bool,
    /// It is the checkout of an exempt session, and takes no seat.
    pub(super) exempt: bool,
    /// The lease's time is up; its row, if its transaction commits one, is yet to be deleted.
    pub ended: bool,
    /// The reserved roles that who took it is a member of.
    pub(super) roles: Roles,
    /// It is the first of its session's checkouts for its client_user.
    pub(super) first_of_user: bool,
    /// The rule by which it has its seat, if it has one.
    pub(super) seated: Option<CountedBy>,
    /// The role that took the lease: whose members may see it.
    pub taken_by: u32,
    /// The number of that seat: who looks at all holders need not search for as many seats.
    pub(super) seat: u64,
    /// How long the lease lasts after each heartbeat, in microseconds; 0: it is a checkout.
    pub ttl: Timestamp,
    /// When the lease ends; of a checkout, when it was taken.
    pub expires_at: Timestamp,
}

entry!(Hold, key: HoldKey);

impl Hold {
    /// What it is.
    pub fn kind(&self) -> Kind {
        if self.ttl == 0 {
            Kind::Checkout
        } else {
            Kind::Lease
        }
    }

    /// Whose seat it asks for, and of what.
    pub fn claimant(&self) -> Claimant {
        Claimant {
            tally: if self.licensed && !self.exempt && !self.ended {
                self.tally
            } else {
                NO_TALLY
            },
            who: self.whose(),
            number: self.number,
            roles: self.roles,
            database: self.database,
            by_lease: self.kind() == Kind::Lease,
        }
    }

    /// It would take a seat of this tally were its session not exempt.
    pub(super) fn saves(&self, tally: u64) -> bool {
        self.licensed && self.exempt && self.tally == tally
    }

    /// Whose seat it asks for.
    pub(super) fn whose(&self) -> Who {
        match self.kind() {
            Kind::Lease => Who {
                workstation: Name::EMPTY,
                ..self.who
            },
            _ => self.who,
        }
    }

    /// The name of a lease's host that is no address, or empty.
    pub fn host_name(&self) -> &str {
        match self.kind() {
            Kind::Lease => self.who.workstation.as_str(),
            _ => "",
        }
    }

    /// When it was taken, or last extended.
    pub fn since(&self) -> Timestamp {
        self.expires_at.saturating_sub(self.ttl)
    }

    /// The number of the seat that it has.
    pub fn seat(&self) -> Option<u64> {
        self.seated.map(|_| self.seat)
    }

    /// A lease that has not ended: its time runs from the answer on, whatever becomes of the transaction.
    pub fn will_end(&self) -> bool {
        self.kind() == Kind::Lease && !self.ended && !self.unseen
    }

    /// The same, whose time is up at this moment.
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.will_end() && self.expires_at <= now
    }
}

/// Where a session's checkout of a product for a user is among the session's: so nobody who has many walks all of
/// them.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Spot {
    /// A digest of the session, the product and the user, which nobody can foresee.
    pub(super) key: u64,
    /// Its place.
    pub(super) place: u32,
}

entry!(Spot, key: u64);

/// The name of an application's user that is too long for a label, kept while somebody holds or
/// awaits a seat under it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct LongName {
    /// The label that stands for it.
    pub label: Label,
    /// The name, whole.
    pub text: Text<512>,
    /// How many need it.
    pub users: u32,
}

entry!(LongName, label: Label);

/// One less needs the name that this label stands for.
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
