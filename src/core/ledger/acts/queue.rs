//! The line for seats: whoever gives a seat back gives it to the first in line who may have it,
//! so that nobody overtakes, and there is never both a free seat and somebody who waits for it.

use crate::core::ledger::Ledger;
use crate::core::ledger::acts::checkout::{Receipt, Want};
use crate::core::ledger::denial::{Reclaim, Remark};
use crate::core::ledger::event::{Event, Happened, Leaving};
use crate::core::ledger::hold::Hold;
use crate::core::ledger::identity::Name;
use crate::core::ledger::license::License;
use crate::core::ledger::seat::Kind;
use crate::core::ledger::table::{Table, Tables};
use crate::core::ledger::taker::User;
use crate::core::ledger::time::Timestamp;
use crate::core::ledger::wait::Wait;
use crate::core::ledger::words::Enforcement;

impl<T: Tables> Ledger<'_, T> {
    pub(crate) fn line_up(&mut self, at: usize, hold: Hold, want: &Want) -> u64 {
        self.head.numbers += 1;
        let ticket = self.head.numbers;
        self.keep_name(want);
        self.waits.put(Wait {
            ticket,
            at,
            hold,
            in_vain: false,
            server: Enforcement::On,
            called: false,
            remark: Remark::None,
        });
        if let Some(session) = self.sessions.get_mut(at) {
            session.ticket = ticket;
        }
        if let Some(tally) = self.tallies.get_mut(&hold.tally) {
            tally.users += 1;
            tally.waiting += 1;
        }
        ticket
    }

    /// Gives free seats of a tally to those who wait for them, the first first.
    pub(crate) fn serve(&mut self, tally: u64, now: Timestamp) {
        if self.tallies.get(&tally).is_some_and(|t| t.waiting > 0) {
            self.serve_line(Some(tally), now);
        }
        if self.head.made_room {
            // By seats of any product.
            self.serve_all(now);
        }
        // Only now: a seat that goes to the next in line was never free.
        self.note_usage(tally, now);
    }

    /// Gives free seats of all tallies to those who wait for them, the first first.
    pub(crate) fn serve_all(&mut self, now: Timestamp) {
        loop {
            self.head.made_room = false;
            self.serve_line(None, now);
            if !self.head.made_room {
                break;
            }
        }
        self.note_levels(now);
    }

    fn serve_line(&mut self, tally: Option<u64>, now: Timestamp) {
        let mut after = 0;
        while !self.waits.is_empty()
            && let Some(wait) = self.next_in_line(tally, after, now)
        {
            if let Some(remark) = self.turn(&wait, now) {
                self.call(&wait, remark, now);
            } else {
                after = wait.ticket;
            }
        }
    }

    /// The first in line after this ticket who may have a seat now.
    pub(crate) fn next_in_line(
        &self,
        tally: Option<u64>,
        after: u64,
        now: Timestamp,
    ) -> Option<Wait> {
        let mut next: Option<Wait> = None;
        self.waits.each(|wait| {
            if tally.is_none_or(|tally| wait.hold.tally == tally)
                && wait.ticket > after
                && next.is_none_or(|next| wait.ticket < next.ticket)
                && self.turn(wait, now).is_some()
            {
                next = Some(*wait);
            }
        });
        next
    }

    /// Whether it is the turn of somebody in line, and what the server log should say then.
    fn turn(&self, wait: &Wait, now: Timestamp) -> Option<Remark> {
        if wait.called || wait.in_vain {
            return None;
        }
        let license = self.license_of(&wait.hold)?;
        self.refusal(&license, &wait.hold.claimant(), wait.at, now)
            .ok()
    }

    /// The license that a hold counts under in its own database.
    pub(crate) fn license_of(&self, hold: &Hold) -> Option<License> {
        self.license_in(hold.database, hold.tally).copied()
    }

    fn call(&mut self, wait: &Wait, remark: Remark, now: Timestamp) {
        let hold = Hold {
            expires_at: now.saturating_add(wait.hold.ttl),
            unseen: true,
            ..wait.hold
        };
        let taken = self.take(wait.at, hold);
        self.take_promise(wait.at);
        if let Some(wait) = self.waits.get_mut(&wait.ticket) {
            wait.called = true;
            wait.remark = remark;
        }
        if let Some(tally) = self.tallies.get_mut(&hold.tally) {
            tally.users -= 1;
            tally.waiting -= 1;
            let product = tally.product;
            let session = self.sessions.get(wait.at);
            let usename = session.map_or(Name::EMPTY, |session| session.usename);
            if let Some(seat) = taken {
                let mut event = Event::of_hold(Happened::Taken, &hold, usename, product);
                event.seat = seat;
                self.note_taken(wait.at, event, hold.tally, remark, now);
            }
        }
        self.note_usage(hold.tally, now);
        self.head.ring = true;
    }

    /// What a session in line has got, once it is called; it then stands in line no longer.
    pub fn collect(&mut self, ticket: u64, now: Timestamp) -> Option<Receipt> {
        let wait = self
            .waits
            .get(&ticket)
            .filter(|wait| wait.called)
            .copied()?;
        self.leave_line(&wait);
        if let Some(hold) = self.holds.get_mut(&wait.hold.key) {
            hold.unseen = false;
            if hold.will_end() {
                hold.expires_at = now.saturating_add(hold.ttl);
                self.head.next_due = self.head.next_due.min(hold.expires_at);
            }
        }
        Some(self.receipt(&wait.hold, wait.remark))
    }

    /// A session goes out of line; what it was given meanwhile goes to the next.
    pub fn leave(&mut self, ticket: u64, now: Timestamp) {
        if let Some(tally) = self.step_out(ticket, now) {
            self.serve(tally, now);
        }
    }

    /// Takes a session out of line with what it was given meanwhile; the tally to be served.
    pub(crate) fn step_out(&mut self, ticket: u64, now: Timestamp) -> Option<u64> {
        let wait = self.waits.get(&ticket).copied()?;
        self.leave_line(&wait);
        let Wait { hold, .. } = wait;
        if !wait.called {
            self.drop_name(&hold.who.client_user);
            if let Some(tally) = self.tallies.get_mut(&hold.tally) {
                tally.users -= 1;
                tally.waiting -= 1;
            }
            return Some(hold.tally);
        }
        // It may count elsewhere by now.
        let tally = self.holds.get(&hold.key).unwrap_or(&hold).tally;
        match hold.kind() {
            Kind::Lease => {
                let at = Some(wait.at);
                self.end_hold(at, &hold.key, Name::EMPTY, Leaving::GivenBack, now);
            }
            _ => self.remove_checkout(wait.at, &hold.key, Leaving::GivenBack, now),
        }
        Some(tally)
    }

    fn leave_line(&mut self, wait: &Wait) {
        self.waits.remove(&wait.ticket);
        if let Some(session) = self.sessions.get_mut(wait.at) {
            session.ticket = 0;
        }
    }

    /// Until when a session in line can be called, as things are. An error when it waits in vain: it
    /// is exempt or barred, or the product is no longer licensed, not enforced, or not valid at this moment.
    /// Then it should ask anew, under this enforcement of the server's.
    pub fn may_wait_until(&self, ticket: u64, now: Timestamp) -> Result<Timestamp, Enforcement> {
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

    /// What may give way to a session in line.
    pub fn reclaim_in_line(&self, ticket: u64) -> Option<Reclaim> {
        let wait = self.waits.get(&ticket).filter(|wait| !wait.called)?;
        let license = self.license_of(&wait.hold)?;
        Some(Reclaim {
            tally: license.tally,
            idle_after: license.reclaim_idle_after?,
        })
    }

    /// Whether it is this session in line that may ask now. Of those for whom the same seats are as good
    /// the first alone does: it is the one that gets what it asks for.
    pub fn begin_to_ask(&mut self, ticket: u64, now: Timestamp) -> bool {
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
            self.promise(wait.at, &license, &wait.hold.claimant());
        }
        is_first
    }

    fn may_be_called(&self, wait: &Wait, now: Timestamp) -> bool {
        let claimant = wait.hold.claimant();
        let is_barred = || self.barred_until(&claimant, now).is_some();
        !wait.called && !wait.in_vain && !is_barred() && !self.has_all_it_may(wait)
    }

    /// What others leave is of no use to somebody in line who has as many seats as one may have.
    fn has_all_it_may(&self, wait: &Wait) -> bool {
        let license = self.license_of(&wait.hold);
        let tally = self.tallies.get(&wait.hold.tally);
        license.zip(tally).is_some_and(|(license, tally)| {
            let user = User::of_claimant(self.head.seat_ids, &wait.hold.claimant());
            let whom = (user, wait.hold.roles);
            self.user_full(&license, tally, wait.at, whom, None)
                .is_some()
        })
    }

    /// The server's own enforcement has changed: those in line may no longer have to wait.
    pub fn enforce_line(&mut self, server: Enforcement) {
        self.waits.each_mut(|wait| wait.server = server);
        self.head.ring = true;
    }

    /// Shows the places of those in line who should look: they were called, or wait in vain, or
    /// their database's rules are outdated, which only a reader can mend.
    pub fn each_to_wake(&self, mut see: impl FnMut(usize)) {
        self.waits.each(|wait| {
            let outdated = self
                .databases
                .get(&wait.hold.database)
                .is_none_or(|known| !known.is_loaded());
            let barred = || self.barred_until(&wait.hold.claimant(), 0).is_some();
            if wait.called || wait.in_vain || wait.server != Enforcement::On || outdated || barred()
            {
                see(wait.at);
            }
        });
    }
}
