//! Leases: how they are extended, and how they end.

use crate::core::ledger::Ledger;
use crate::core::ledger::acts::seats::Linger;
use crate::core::ledger::database::Viewpoint;
use crate::core::ledger::event::{Event, Happened, Leaving};
use crate::core::ledger::hold::{Hold, HoldKey};
use crate::core::ledger::identity::{LeaseId, Name};
use crate::core::ledger::numbers::{DatabaseOid, SessionNumber, Slot};
use crate::core::ledger::seat::{Claimant, Kind, Seat};
use crate::core::ledger::table::{Table, Tables};
use crate::core::ledger::time::Timestamp;
use crate::core::ledger::words::Enforcement;

impl<T: Tables> Ledger<'_, T> {
    /// Returns the OID of the table whose leases the ledger has; 0 if they have not been read since the start.
    pub fn leases_of(&self, database: DatabaseOid) -> u32 {
        self.databases
            .get(&database)
            .map_or(0, |known| known.leases.table)
    }

    /// Returns a lease that has not ended.
    pub fn lease(&self, id: LeaseId) -> Option<&Hold> {
        self.holds
            .get(&HoldKey::lease(id))
            .filter(|hold| hold.kind() == Kind::Lease && !hold.ended)
    }

    /// Notes that the transaction that took the lease has committed its row. Returns whether the lease has ended
    /// already, so that the row is to be deleted at once.
    pub fn commit_lease(&mut self, id: LeaseId) -> bool {
        let hold = self.holds.get_mut(&HoldKey::lease(id));
        let Some(hold) = hold.filter(|hold| hold.pending) else {
            return false;
        };
        hold.pending = false;
        let has_ended = hold.ended;
        if has_ended && let Some(known) = self.databases.get_mut(&hold.database) {
            known.leases.ended += 1;
        }
        has_ended
    }

    /// Drops a lease whose row is gone, because the session in `slot` has released it or its transaction was rolled
    /// back.
    pub fn drop_lease(&mut self, slot: Slot, id: LeaseId, now: Timestamp) {
        let key = HoldKey::lease(id);
        if let Some(hold) = self.holds.get(&key).copied() {
            self.end_hold(Some(slot), &key, Name::EMPTY, Leaving::GivenBack, now);
            self.serve(hold.tally, now);
        }
    }

    /// Extends a lease by its time to live, and lends it to the transaction of the session in `slot` as long as that
    /// has room for leases. With `own`, that transaction has taken the lease, which may not have been committed yet.
    /// Returns the new end; `None` if there is no such lease there, or its time is up.
    pub fn heartbeat(
        &mut self,
        slot: Slot,
        id: LeaseId,
        own: bool,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let session = self.sessions.get_mut(slot)?;
        let hold = self.holds.get_mut(&HoldKey::lease(id)).filter(|hold| {
            hold.database == session.database
                && hold.kind() == Kind::Lease
                && !hold.ended
                && (own || !hold.pending)
                && hold.expires_at > now
        })?;
        if !session.lent.contains(&Some(id))
            && let Some(free) = session.lent.iter_mut().find(|lent| lent.is_none())
        {
            *free = Some(id);
        }
        hold.expires_at = now.saturating_add(hold.ttl);
        Some(hold.expires_at)
    }

    /// Takes back the leases that were lent to a transaction, which has ended.
    pub fn take_back_lent(&mut self, slot: Slot) {
        if let Some(session) = self.sessions.get_mut(slot) {
            session.lent.fill(None);
        }
    }

    /// Tells whether the session in `slot` may use a product of its database: it is exempt there, the license is not
    /// enforced, or its identity, one of its checkouts or a lease lent to its transaction holds a seat. Superusers
    /// always may, because they are never denied, and restore dumps before there is a license; so may replication
    /// connections. `view` is from where the rules must be current, if they must.
    pub fn may_use(
        &self,
        slot: Slot,
        product: &Name,
        view: Option<Viewpoint>,
        server: Enforcement,
    ) -> MayUse {
        let session = self
            .sessions
            .get(slot)
            .filter(|session| session.number != SessionNumber::NONE);
        let Some(session) = session.filter(|s| !s.superuser && !s.replication) else {
            return MayUse::Yes;
        };
        if view.is_some_and(|view| !self.is_current(session.database, view)) {
            return MayUse::Outdated;
        }
        let Some(license) = self.in_force(session.database, product) else {
            return match session.exempt {
                Some(_) => MayUse::Yes,
                None => MayUse::Unlicensed,
            };
        };
        if self.is_exempt_in(license, session) {
            return MayUse::Yes;
        }
        let tally = license.tally;
        let lent = |id: &LeaseId| {
            self.lease(*id)
                .is_some_and(|hold| hold.tally == tally && hold.seat().is_some())
        };
        let shared = || {
            let claimant = Claimant {
                tally,
                ..session.claimant()
            };
            let key = self.seat_key(&claimant);
            let seat = key.and_then(|key| self.seats.get(&key));
            // Nobody holds a seat that lingers.
            seat.is_some_and(Seat::is_held)
        };
        let may = license.enforcement.max(server) != Enforcement::On
            || session.seat.is_some_and(|seat| seat.tally == tally)
            || self
                .checkouts(session)
                .any(|hold| hold.tally == tally && hold.seat().is_some())
            || session.lent.iter().flatten().any(lent)
            || shared();
        if may { MayUse::Yes } else { MayUse::No }
    }

    /// Notes when the next lease or lingering seat is due.
    pub fn note_next_due(&mut self) {
        let mut next = Timestamp::MAX;
        if self.lingering() > 0 {
            self.seats.each(|seat| {
                if !seat.is_held() {
                    next = next.min(seat.lingers_until);
                }
            });
        }
        self.holds.each(|hold| {
            if hold.will_end() {
                next = next.min(hold.expires_at);
            }
        });
        self.head.next_due = next;
    }

    /// Shows every lease whose time is up.
    pub fn each_due(&self, now: Timestamp, mut see: impl FnMut(LeaseId)) {
        self.holds.each(|hold| {
            if hold.is_due(now) {
                see(hold.key.lease_id());
            }
        });
    }

    /// Ends what is due: these leases, whose rows are yet to be deleted, and the seats that have lingered as long as
    /// they may.
    pub fn expire(&mut self, due: &[LeaseId], now: Timestamp) {
        for &id in due {
            let key = HoldKey::lease(id);
            let Some(hold) = self
                .holds
                .get(&key)
                .filter(|hold| hold.is_due(now))
                .copied()
            else {
                continue;
            };
            self.end_lease(&hold, Leaving::Expiry, now);
        }
        self.end_lingering(now);
        self.serve_all(now);
    }

    /// Ends a lease: its seat is left, and its row is yet to be deleted.
    pub(crate) fn end_lease(&mut self, lease: &Hold, leaving: Leaving, now: Timestamp) {
        let linger = self.linger_after(leaving, lease.database, lease.tally, now);
        let (mut counter, holds) = self.counter_and_holds();
        let Some(hold) = holds.get_mut(&lease.key) else {
            return;
        };
        hold.ended = true;
        let left = counter.unseat_hold(hold, linger);
        let Ledger {
            tallies, databases, ..
        } = self;
        if let Some(known) = databases.get_mut(&lease.database) {
            // The row of a pending lease is not there yet, and may never be.
            known.leases.ended += u32::from(!lease.pending);
            // Whoever took it could connect.
            known.visits.lost = 0;
        }
        let product = tallies.get(&lease.tally).map(|tally| tally.product);
        let of_lease = |happened| {
            let product = product.unwrap_or(Name::EMPTY);
            Event::of_hold(happened, lease, Name::EMPTY, product)
        };
        if leaving == Leaving::Expiry {
            self.note(&of_lease(Happened::LeaseExpired), now);
        }
        if let Some(left) = left {
            self.note_left(None, of_lease(Happened::Left(leaving)), &left, now);
        }
    }

    /// Shows the ended leases of a database whose rows are yet to be deleted.
    pub fn each_ended(&self, database: DatabaseOid, mut see: impl FnMut(LeaseId)) {
        self.holds.each(|hold| {
            if hold.ended && !hold.pending && hold.database == database {
                see(hold.key.lease_id());
            }
        });
    }

    /// Forgets ended leases whose rows have been deleted.
    pub fn bury(&mut self, ids: &[LeaseId]) {
        for &id in ids {
            let key = HoldKey::lease(id);
            if self.holds.get(&key).is_some_and(|hold| hold.ended) {
                self.remove_hold(&key, Linger::NOT);
            }
        }
    }
}

/// Whether a session may use a product.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MayUse {
    /// It may.
    Yes,
    /// It has no seat.
    No,
    /// The product is not licensed in its database.
    Unlicensed,
    /// The rules must be read first.
    Outdated,
}
