//! Seats that are taken away from their holders: an administrator stops them, they are inactive for too long, or they
//! give way to somebody who would be denied.
//!
//! The ledger decides who is to end, and what becomes of the seat. A session decides for itself whether it really ends;
//! a lease is ended here.

use crate::core::ledger::Ledger;
use crate::core::ledger::acts::bars::{BarRequest, Unbarrable};
use crate::core::ledger::bar::Barred;
use crate::core::ledger::event::{Event, Happened, Leaving};
use crate::core::ledger::hold::drop_long_name;
use crate::core::ledger::identity::{Label, LeaseId, Name, Text};
use crate::core::ledger::license::License;
use crate::core::ledger::numbers::{DatabaseOid, RoleOid, SeatNumber, Slot, TallyId, Ticket};
use crate::core::ledger::roles::Roles;
use crate::core::ledger::seat::{Claimant, Seat, SeatKey};
use crate::core::ledger::session::{Promise, Session};
use crate::core::ledger::table::{Table, Tables};
use crate::core::ledger::taker::User;
use crate::core::ledger::tally::Tally;
use crate::core::ledger::time::Timestamp;

/// An administrator's request to end everything that holds a seat.
#[derive(Clone, Copy, Debug)]
pub struct Stop {
    /// The seat's number.
    pub seat: SeatNumber,
    /// The database in which it was requested.
    pub database: DatabaseOid,
    /// The OID of the role that requested it.
    pub by: RoleOid,
    /// Why, or empty.
    pub reason: Text<256>,
    /// How the holders are kept from coming back; `None` if they can come back at once.
    pub bar: Option<BarRequest>,
    /// Until when the end is waited for, if nobody says earlier that it is not: whoever stops the seat may be ended,
    /// too.
    pub patient_until: Timestamp,
}

/// The outcome of a request to stop a seat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stopping {
    /// It has begun: from now on nobody joins the seat.
    Begun(SeatKey),
    /// It is free.
    Gone,
    /// There must be room for this many who are to be barred. Nothing has happened yet.
    Needs(usize),
    /// Its holders can't be barred. Nothing has happened.
    Unbarrable(Unbarrable),
}

/// What a newcomer may hope for from a seat that was asked to give way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Prospect {
    /// There is a seat for the newcomer.
    Fulfilled,
    /// There is a seat for the newcomer without this one.
    Free,
    /// Its holders have not left yet.
    Open,
    /// Somebody else has asked it to give way.
    Taken,
    /// It will not be free.
    Gone,
}

impl<T: Tables> Ledger<'_, T> {
    /// Returns the key of the seat with this number. It takes a pass over all seats.
    pub fn key_of_seat(&self, number: SeatNumber) -> Option<SeatKey> {
        let mut found = None;
        self.seats.each(|seat| {
            if seat.number == number {
                found = Some(seat.key);
            }
        });
        found
    }

    /// Tells whether the session in `slot` holds the seat, by its login or by a checkout.
    pub fn holds(&self, slot: Slot, key: &SeatKey, number: SeatNumber) -> bool {
        self.sessions.get(slot).is_some_and(|session| {
            let mut checkouts = self.checkouts(session);
            session.seat == Some(*key) || checkouts.any(|hold| hold.seat() == Some(number))
        })
    }

    /// Tells whether the session in `slot` holds a seat of this tally.
    pub fn holds_any(&self, slot: Slot, tally: TallyId) -> bool {
        self.sessions.get(slot).is_some_and(|session| {
            let mut checkouts = self.checkouts(session);
            session.seat.is_some_and(|seat| seat.tally == tally)
                || checkouts.any(|hold| hold.seat().is_some() && hold.tally == tally)
        })
    }

    /// Begins to end a seat: nobody joins it until it is free, or [`Ledger::stop_ending`] is called. `whom` must have
    /// room for all who are to be barred.
    pub fn begin_to_end(
        &mut self,
        stop: &Stop,
        whom: &mut Vec<Barred>,
        now: Timestamp,
    ) -> Stopping {
        let key = self.key_of_seat(stop.seat);
        let Some(seat) = key.and_then(|key| self.seats.get(&key).copied()) else {
            return Stopping::Gone;
        };
        let mut holder = self.event_of_holder(&seat.key, seat.number, stop.database);
        if !seat.is_held() {
            // Nothing more is known about whoever left it.
            (holder.who.role, holder.who.host) = seat.role_and_host();
            holder.who.client_user = seat.client_user;
        }
        if let Some(wish) = stop.bar.filter(|wish| wish.until > now) {
            whom.clear();
            match self.whom_to_bar(&seat, wish.by, whom) {
                Err(unbarrable) => return Stopping::Unbarrable(unbarrable),
                Ok(found) if found > whom.len() => return Stopping::Needs(found),
                Ok(_) => {}
            }
            let (database, tally) = (stop.database, seat.key.tally);
            if !self.bar_all(database, tally, whom, wish, stop.reason, now) {
                return Stopping::Unbarrable(Unbarrable::NoRoom);
            }
            self.write_now(database, now);
            // Somebody in the queue may be barred now.
            self.head.ring |= !self.waits.is_empty();
        }
        if !seat.is_held() {
            // It lingered, and that ends with it.
            self.seats.remove(&seat.key);
            if let Some(tally) = self.tallies.get_mut(&seat.key.tally) {
                tally.lingering -= 1;
            }
            self.counter().left(&seat);
        } else if let Some(seat) = self.seats.get_mut(&seat.key) {
            seat.lingers_until = if seat.ending {
                seat.lingers_until.max(stop.patient_until)
            } else {
                stop.patient_until
            };
            seat.ending = true;
        }
        let reason = stop.reason.as_str();
        let event = Event {
            happened: Happened::Terminated,
            database: stop.database,
            in_use: self.in_use(seat.key.tally),
            until: stop.bar.map_or(0, |wish| wish.until),
            by: stop.by,
            reason: Label::of(reason),
            ..holder
        };
        self.keep_text(&event.reason, Text::new(reason));
        self.note(&event, now);
        drop_long_name::<T>(&mut self.texts, &event.reason);
        if seat.is_held() {
            return Stopping::Begun(seat.key);
        }
        self.serve(seat.key.tally, now);
        Stopping::Gone
    }

    /// Lets holders that have not ended by now keep the seat, unless somebody else waits for its end, too.
    pub fn stop_ending(&mut self, key: &SeatKey, stop: &Stop) {
        if let Some(seat) = self.seats.get_mut(key).filter(|s| s.number == stop.seat)
            && seat.ending
            && seat.lingers_until == stop.patient_until
        {
            seat.ending = false;
            seat.lingers_until = 0;
        }
    }

    /// Tells whether somebody holds this seat.
    pub fn is_held(&self, key: &SeatKey, number: SeatNumber) -> bool {
        let seat = self.seats.get(key).filter(|seat| seat.number == number);
        seat.is_some_and(|seat| seat.is_held())
    }

    /// Returns an event about one of those who hold a seat, or about nobody if nobody holds it.
    fn event_of_holder(&self, key: &SeatKey, number: SeatNumber, database: DatabaseOid) -> Event {
        let product = self.tallies.get(&key.tally).map(|tally| tally.product);
        let product = product.unwrap_or(Name::EMPTY);
        let mut event = Event::of_product(Happened::Terminated, database, product);
        event.seat = number;
        self.holds.each(|hold| {
            if hold.seat() == Some(number) {
                event.who = hold.who;
                event.kind = Some(hold.kind());
            }
        });
        let mut logins = self.sessions.iter();
        if let Some(login) = logins.find(|session| session.seat == Some(*key)) {
            event = Event::of_login(Happened::Terminated, login, product);
            event.seat = number;
        }
        event
    }

    /// Ends leases whose seat is taken away, and returns how many it has ended. A lease that was extended after
    /// `extended_by` stays.
    pub fn end_leases(
        &mut self,
        leases: &[LeaseId],
        leaving: Leaving,
        extended_by: Timestamp,
        now: Timestamp,
    ) -> usize {
        let mut ended = 0;
        for &id in leases {
            let lease = self.lease(id).copied();
            if let Some(lease) = lease.filter(|lease| lease.since() <= extended_by) {
                self.end_lease(&lease, leaving, now);
                ended += 1;
            }
        }
        self.serve_all(now);
        ended
    }

    /// Asks a seat to give way to the session in `slot`, which was told that idle seats may. There is no hope for a
    /// seat that nobody holds.
    pub fn ask_to_give_way(
        &mut self,
        key: &SeatKey,
        number: SeatNumber,
        slot: Slot,
        now: Timestamp,
    ) -> Prospect {
        if let Some(hope) = self.has_seat(slot) {
            return hope;
        }
        let Some(seat) = self.seats.get(key).filter(|s| s.number == number) else {
            return Prospect::Gone;
        };
        if self.asker_of(number).is_some_and(|asker| asker != slot) {
            return Prospect::Taken;
        }
        if seat.is_ending(now) || !seat.is_held() {
            return Prospect::Gone;
        }
        let promise = self.sessions.get(slot).and_then(|session| session.promise);
        if !promise.is_some_and(|promise| self.has_room_once_left(&promise, slot, Some(seat))) {
            return Prospect::Gone;
        }
        self.ask_no_longer(slot);
        if let Some(session) = self.sessions.get_mut(slot)
            && let Some(promise) = &mut session.promise
        {
            promise.asks = Some(number);
            self.head.asking += 1;
        }
        Prospect::Open
    }

    /// Returns the number of the seat that the session in `slot` asks to give way.
    pub fn asked_by(&self, slot: Slot) -> Option<SeatNumber> {
        self.sessions.get(slot)?.promise?.asks
    }

    /// Returns the slot of the session that asks the seat with this number to give way.
    pub fn asker_of(&self, number: SeatNumber) -> Option<Slot> {
        if self.head.asking == 0 {
            return None;
        }
        let is_asker = |session: &Session| session.promise.is_some_and(|p| p.asks == Some(number));
        self.sessions.iter().position(is_asker).map(Slot)
    }

    /// Returns the hope of the session in `slot` if there is a seat for it without any that it asks to give way.
    fn has_seat(&self, slot: Slot) -> Option<Prospect> {
        let promise = self.sessions.get(slot).and_then(|session| session.promise);
        let Some(promise) = promise.filter(|promise| !promise.kept) else {
            return Some(Prospect::Fulfilled);
        };
        self.has_room_once_left(&promise, slot, None)
            .then_some(Prospect::Free)
    }

    /// Tells whether the one with this promise could have a seat if the seat `left` were left. Reservations may keep
    /// that seat for others.
    fn has_room_once_left(&self, promise: &Promise, slot: Slot, left: Option<&Seat>) -> bool {
        let license = self.license_in(promise.database, promise.tally);
        let (Some(license), Some(tally)) = (license, self.tallies.get(&promise.tally)) else {
            return false;
        };
        let in_use = tally.in_use + self.promised_to_others(tally, slot);
        let roles = left.map_or(Roles::NONE, |seat| seat.roles);
        let (kept, role_full) = self.reserved(license, tally, slot, promise.roles, roles);
        let whom = (promise.user, promise.roles);
        let user_full = self.user_full(license, tally, slot, whom, left);
        let limit = license.limit();
        let in_use = in_use - i64::from(left.is_some());
        user_full.is_none()
            && role_full.is_none()
            && limit.is_none_or(|limit| in_use + kept < limit)
    }

    /// Returns what the session in `slot` may hope for from the seat that was asked to give way.
    pub fn hope(&self, key: &SeatKey, number: SeatNumber, slot: Slot) -> Prospect {
        if let Some(hope) = self.has_seat(slot) {
            return hope;
        }
        let seat = self.seats.get(key).filter(|seat| seat.number == number);
        if seat.is_some_and(|seat| seat.is_held()) && self.asker_of(number) == Some(slot) {
            Prospect::Open
        } else {
            Prospect::Gone
        }
    }

    /// Notes that no seat need give way to the session in `slot` any more.
    pub fn ask_no_longer(&mut self, slot: Slot) {
        if let Some(session) = self.sessions.get_mut(slot)
            && let Some(promise) = &mut session.promise
            && promise.asks.take().is_some()
        {
            self.head.asking -= 1;
        }
    }

    /// Promises the session in `slot`, which makes this claim, that idle seats of this license may give way to it.
    pub(crate) fn promise(&mut self, slot: Slot, license: &License, claimant: &Claimant) {
        let user = User::of_claimant(self.head.seat_ids, claimant);
        let former = self.sessions.get(slot).and_then(|session| session.promise);
        if former.is_some_and(|former| former.kept) {
            return;
        }
        let again = former.filter(|former| former.tally == license.tally);
        if again.is_none() {
            self.ask_no_longer(slot);
        }
        let came = match again {
            Some(former) => former.came,
            None => Ticket(self.head.next_number()),
        };
        if let Some(session) = self.sessions.get_mut(slot) {
            session.promise = Some(Promise {
                tally: license.tally,
                database: license.key.database,
                roles: claimant.roles,
                user,
                came,
                asks: again.and_then(|former| former.asks),
                kept: false,
            });
        }
    }

    /// Keeps a seat that was left for whoever asked it to give way. It is not kept for a session in the queue, where
    /// the first gets it, nor for one that came after somebody in the queue.
    pub(crate) fn keep_promise(&mut self, left: &Seat, now: Timestamp) {
        let Some(slot) = self.asker_of(left.number) else {
            return;
        };
        let Some(session) = self.sessions.get(slot).filter(|s| s.ticket == Ticket::NONE) else {
            return;
        };
        let Some(mut promise) = session.promise.filter(|promise| !promise.kept) else {
            return;
        };
        if promise.tally != left.key.tally {
            return;
        }
        if let Some(first) = self.whom_it_would_overtake(&promise, now) {
            // The seat that the first in the queue asks, if any, is asked by this session from now on: one seat for
            // each.
            promise.asks = self.asked_by(first);
            self.ask_no_longer(first);
            self.head.asking -= u32::from(promise.asks.is_none());
        } else if let Some(tally) = self.tallies.get_mut(&promise.tally) {
            promise.kept = true;
            tally.promised += 1;
        }
        if let Some(session) = self.sessions.get_mut(slot) {
            session.promise = Some(promise);
        }
    }

    /// Returns the slot of the first in the queue who may have a seat, if that session came earlier and may have idle
    /// seats give way itself. It looks for them once a second.
    fn whom_it_would_overtake(&self, promise: &Promise, now: Timestamp) -> Option<Slot> {
        let first = self.next_in_queue(Some(promise.tally), Ticket::NONE, now)?;
        let may_ask = self.license_of(&first.hold)?.reclaim_idle_after.is_some();
        (may_ask && first.ticket < promise.came).then_some(first.slot)
    }

    /// Ends the promise to the session in `slot`, which has a seat or needs none any more. Returns the tally in
    /// which a seat is free now, if one was kept.
    pub(crate) fn take_promise(&mut self, slot: Slot) -> Option<TallyId> {
        self.ask_no_longer(slot);
        let promise = self.sessions.get_mut(slot)?.promise.take()?;
        if !promise.kept {
            return None;
        }
        let tally = self.tallies.get_mut(&promise.tally)?;
        tally.promised -= 1;
        Some(promise.tally)
    }

    /// Ends the promise to the session in `slot`. A seat that was kept goes to somebody else.
    pub fn drop_promise(&mut self, slot: Slot, now: Timestamp) {
        if let Some(tally) = self.take_promise(slot) {
            self.serve(tally, now);
        }
    }

    /// Returns how many seats of a tally are kept for members of this role, other than the session in `slot`.
    pub(crate) fn promised_to(&self, tally: &Tally, role: u8, slot: Slot) -> i64 {
        if tally.promised == 0 {
            return 0;
        }
        let promises = self.sessions.each().filter(|&(other, _)| other != slot);
        let of_role = promises
            .filter_map(|(_, session)| session.promise)
            .filter(|promise| {
                promise.kept && promise.tally == tally.number && promise.roles.contain(role)
            });
        of_role.count() as i64
    }

    /// Returns how many seats of a tally are kept for others than the session in `slot`.
    pub(crate) fn promised_to_others(&self, tally: &Tally, slot: Slot) -> i64 {
        let promise = self.sessions.get(slot).and_then(|session| session.promise);
        let own = promise.is_some_and(|promise| promise.kept && promise.tally == tally.number);
        tally.promised - i64::from(own)
    }
}
