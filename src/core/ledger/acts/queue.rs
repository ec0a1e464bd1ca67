//! The queue for seats: a seat that is given back goes to the first in the queue who may have it. So nobody overtakes,
//! and there is never both a free seat and somebody who waits for it.

use crate::core::ledger::Ledger;
use crate::core::ledger::acts::checkout::{Receipt, SeatRequest};
use crate::core::ledger::denial::{Reclaim, Remark};
use crate::core::ledger::event::{Event, Happened, Leaving};
use crate::core::ledger::hold::Hold;
use crate::core::ledger::identity::Name;
use crate::core::ledger::license::License;
use crate::core::ledger::numbers::{Slot, TallyId, Ticket};
use crate::core::ledger::seat::Kind;
use crate::core::ledger::session::Session;
use crate::core::ledger::table::{Table, Tables};
use crate::core::ledger::taker::User;
use crate::core::ledger::time::Timestamp;
use crate::core::ledger::wait::Wait;
use crate::core::ledger::words::Enforcement;

impl<T: Tables> Ledger<'_, T> {
    pub(crate) fn enqueue(&mut self, slot: Slot, hold: Hold, want: &SeatRequest) -> Ticket {
        let ticket = Ticket(self.head.next_number());
        self.keep_name(want);
        self.waits.put(Wait {
            ticket,
            slot,
            hold,
            in_vain: false,
            server: Enforcement::On,
            called: false,
            remark: Remark::None,
        });
        if let Some(session) = self.sessions.get_mut(slot) {
            session.ticket = ticket;
        }
        if let Some(tally) = self.tallies.get_mut(&hold.tally) {
            tally.users += 1;
            tally.waiting += 1;
        }
        ticket
    }

    /// Gives free seats of a tally to those who wait for them, in the order of the queue.
    pub(crate) fn serve(&mut self, tally: TallyId, now: Timestamp) {
        if self.tallies.get(&tally).is_some_and(|t| t.waiting > 0) {
            self.serve_queue(Some(tally), now);
        }
        if self.head.made_room {
            // Seats of any product may have given way.
            self.serve_all(now);
        }
        // Only now, because a seat that goes to the next in the queue was never free.
        self.note_usage(tally, now);
    }

    /// Gives free seats of all tallies to those who wait for them, in the order of the queue.
    pub(crate) fn serve_all(&mut self, now: Timestamp) {
        loop {
            self.head.made_room = false;
            self.serve_queue(None, now);
            if !self.head.made_room {
                break;
            }
        }
        self.note_levels(now);
    }

    fn serve_queue(&mut self, tally: Option<TallyId>, now: Timestamp) {
        let mut after = Ticket::NONE;
        while !self.waits.is_empty()
            && let Some(wait) = self.next_in_queue(tally, after, now)
        {
            if let Some(remark) = self.remark_if_called(&wait, now) {
                self.call(&wait, remark, now);
            } else {
                after = wait.ticket;
            }
        }
    }

    /// Returns the first in the queue after this ticket who may have a seat now.
    pub(crate) fn next_in_queue(
        &self,
        tally: Option<TallyId>,
        after: Ticket,
        now: Timestamp,
    ) -> Option<Wait> {
        let mut next: Option<Wait> = None;
        self.waits.each(|wait| {
            if tally.is_none_or(|tally| wait.hold.tally == tally)
                && wait.ticket > after
                && next.is_none_or(|next| wait.ticket < next.ticket)
                && self.remark_if_called(wait, now).is_some()
            {
                next = Some(*wait);
            }
        });
        next
    }

    /// Returns what the server log should say if somebody in the queue is called now. `None` if there is no seat, or
    /// that session waits no longer.
    fn remark_if_called(&self, wait: &Wait, now: Timestamp) -> Option<Remark> {
        if wait.called || wait.in_vain {
            return None;
        }
        let license = self.license_of(&wait.hold)?;
        self.refusal(&license, &wait.hold.claimant(), wait.slot, now)
            .ok()
    }

    /// Returns the license that a hold counts under in its own database.
    pub(crate) fn license_of(&self, hold: &Hold) -> Option<License> {
        self.license_in(hold.database, hold.tally).copied()
    }

    fn call(&mut self, wait: &Wait, remark: Remark, now: Timestamp) {
        let hold = Hold {
            expires_at: now.saturating_add(wait.hold.ttl),
            unseen: true,
            ..wait.hold
        };
        let taken = self.take(wait.slot, hold);
        self.take_promise(wait.slot);
        if let Some(wait) = self.waits.get_mut(&wait.ticket) {
            wait.called = true;
            wait.remark = remark;
        }
        if let Some(tally) = self.tallies.get_mut(&hold.tally) {
            tally.users -= 1;
            tally.waiting -= 1;
            let product = tally.product;
            let session = self.sessions.get(wait.slot);
            let usename = session.map_or(Name::EMPTY, |session| session.usename);
            if let Some(seat) = taken {
                let mut event = Event::of_hold(Happened::Taken, &hold, usename, product);
                event.seat = seat;
                self.note_taken(wait.slot, event, hold.tally, remark, now);
            }
        }
        self.note_usage(hold.tally, now);
        self.head.ring = true;
    }

    /// Takes a session that was called out of the queue, and returns what it has got.
    pub fn collect(&mut self, ticket: Ticket, now: Timestamp) -> Option<Receipt> {
        let wait = self
            .waits
            .get(&ticket)
            .filter(|wait| wait.called)
            .copied()?;
        self.remove_wait(&wait);
        if let Some(hold) = self.holds.get_mut(&wait.hold.key) {
            hold.unseen = false;
            if hold.will_end() {
                hold.expires_at = now.saturating_add(hold.ttl);
                self.head.next_due = self.head.next_due.min(hold.expires_at);
            }
        }
        Some(self.receipt(&wait.hold, wait.remark))
    }

    /// Takes the session in a slot out of the queue, if it waits there.
    pub(crate) fn leave_queue(&mut self, slot: Slot, now: Timestamp) {
        let waits = |session: &&Session| session.ticket != Ticket::NONE;
        if let Some(session) = self.sessions.get(slot).filter(waits) {
            self.leave(session.ticket, now);
        }
    }

    /// Takes a session out of the queue. What it was given meanwhile goes to the next.
    pub fn leave(&mut self, ticket: Ticket, now: Timestamp) {
        if let Some(tally) = self.step_out(ticket, now) {
            self.serve(tally, now);
        }
    }

    /// Takes a session out of the queue with what it was given meanwhile, and returns the tally to be served.
    pub(crate) fn step_out(&mut self, ticket: Ticket, now: Timestamp) -> Option<TallyId> {
        let wait = self.waits.get(&ticket).copied()?;
        self.remove_wait(&wait);
        let Wait { hold, .. } = wait;
        if !wait.called {
            self.drop_name(&hold.who.client_user);
            if let Some(tally) = self.tallies.get_mut(&hold.tally) {
                tally.users -= 1;
                tally.waiting -= 1;
            }
            return Some(hold.tally);
        }
        // The hold may count elsewhere by now.
        let tally = self.holds.get(&hold.key).unwrap_or(&hold).tally;
        match hold.kind() {
            Kind::Lease => {
                let slot = Some(wait.slot);
                self.end_hold(slot, &hold.key, Name::EMPTY, Leaving::GivenBack, now);
            }
            _ => self.remove_checkout(wait.slot, &hold.key, Leaving::GivenBack, now),
        }
        Some(tally)
    }

    fn remove_wait(&mut self, wait: &Wait) {
        self.waits.remove(&wait.ticket);
        if let Some(session) = self.sessions.get_mut(wait.slot) {
            session.ticket = Ticket::NONE;
        }
    }

    /// Returns until when a session in the queue can be called, as things are. It fails if the session waits in vain:
    /// it is exempt or barred, or its product is no longer licensed, not enforced, or not valid at this moment. Then
    /// the session should ask again, under the returned enforcement of the server.
    pub fn may_wait_until(&self, ticket: Ticket, now: Timestamp) -> Result<Timestamp, Enforcement> {
        let Some(wait) = self.waits.get(&ticket) else {
            return Err(Enforcement::On);
        };
        self.license_of(&wait.hold)
            .filter(|license| license.out_of_dates(now).is_none())
            .filter(|_| !wait.in_vain && wait.server == Enforcement::On)
            .filter(|_| self.barred_until(&wait.hold.claimant(), now).is_none())
            .map(|license| license.admits_until.unwrap_or(Timestamp::MAX))
            .ok_or(wait.server)
    }

    /// Returns what may give way to a session in the queue.
    pub fn reclaim_in_queue(&self, ticket: Ticket) -> Option<Reclaim> {
        let wait = self.waits.get(&ticket).filter(|wait| !wait.called)?;
        let license = self.license_of(&wait.hold)?;
        Some(Reclaim {
            tally: license.tally,
            idle_after: license.reclaim_idle_after?,
        })
    }

    /// Tells whether this session in the queue may ask seats to give way now, and if so promises it one. Of those to
    /// whom the same seats are of equal use, only the first may ask, because it is the one that gets what it asks for.
    pub fn begin_to_ask(&mut self, ticket: Ticket, now: Timestamp) -> bool {
        let wait = self.waits.get(&ticket).copied();
        let Some(wait) = wait.filter(|wait| self.may_be_called(wait, now)) else {
            return false;
        };
        let mut is_first = true;
        self.waits.each(|other| {
            is_first &= other.ticket >= ticket
                || other.hold.tally != wait.hold.tally
                || other.hold.database != wait.hold.database
                || other.hold.roles != wait.hold.roles
                || !self.may_be_called(other, now);
        });
        if is_first && let Some(license) = self.license_of(&wait.hold) {
            self.promise(wait.slot, &license, &wait.hold.claimant());
        }
        is_first
    }

    fn may_be_called(&self, wait: &Wait, now: Timestamp) -> bool {
        let claimant = wait.hold.claimant();
        let is_barred = || self.barred_until(&claimant, now).is_some();
        !wait.called && !wait.in_vain && !is_barred() && !self.has_all_it_may(wait)
    }

    /// Tells whether somebody in the queue has as many seats as one user may have, so that what others leave is of no
    /// use to them.
    fn has_all_it_may(&self, wait: &Wait) -> bool {
        let license = self.license_of(&wait.hold);
        let tally = self.tallies.get(&wait.hold.tally);
        license.zip(tally).is_some_and(|(license, tally)| {
            let user = User::of_claimant(self.head.seat_ids, &wait.hold.claimant());
            let whom = (user, wait.hold.roles);
            self.user_full(&license, tally, wait.slot, whom, None)
                .is_some()
        })
    }

    /// Notes that the server's own enforcement has changed, so that those in the queue may no longer have to wait.
    pub fn enforce_queue(&mut self, server: Enforcement) {
        self.waits.each_mut(|wait| wait.server = server);
        self.head.ring = true;
    }

    /// Shows the slots of those in the queue who should look: they were called, wait in vain or are barred, the
    /// server's enforcement has changed, or their database's rules are outdated, which only a reader can mend.
    pub fn each_to_wake(&self, mut see: impl FnMut(Slot)) {
        self.waits.each(|wait| {
            let outdated = self
                .databases
                .get(&wait.hold.database)
                .is_none_or(|known| !known.is_loaded());
            let barred = || self.barred_until(&wait.hold.claimant(), 0).is_some();
            if wait.called || wait.in_vain || wait.server != Enforcement::On || outdated || barred()
            {
                see(wait.slot);
            }
        });
    }
}
