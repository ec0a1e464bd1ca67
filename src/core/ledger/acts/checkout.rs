//! Answers applications that ask for a seat: for a session, or for a user whose connection is shared.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::core::ledger::Ledger;
use crate::core::ledger::acts::admission::{Asking, Judged, Way};
use crate::core::ledger::acts::seats::Linger;
use crate::core::ledger::denial::{Cause, Denial, Reclaim, Remark};
use crate::core::ledger::event::{Event, Happened, Leaving};
use crate::core::ledger::hold::{Hold, HoldKey, LongName, Spot, drop_long_name};
use crate::core::ledger::identity::{Host, Label, LeaseId, Name, Text, Who};
use crate::core::ledger::license::License;
use crate::core::ledger::numbers::{RoleOid, SeatNumber, SessionNumber, Slot, TallyId, Ticket};
use crate::core::ledger::seat::Kind;
use crate::core::ledger::session::Session;
use crate::core::ledger::table::{Table, Tables};
use crate::core::ledger::time::Timestamp;
use crate::core::ledger::words::Enforcement;

/// What an application asks for.
#[derive(Clone, Copy, Debug)]
pub struct SeatRequest {
    /// The application's user, or empty.
    pub client_user: Label,
    /// The user's name, if the label has no room for it.
    pub long_name: Option<Text<512>>,
    /// The lease to be granted; `None` for a checkout of the session's own.
    pub lease: Option<NewLease>,
    /// The most client_users for whom the session may hold checkouts; `None` for any number.
    pub users_max: Option<u32>,
}

/// A lease to be granted.
#[derive(Clone, Copy, Debug)]
pub struct NewLease {
    /// The lease's id.
    pub id: LeaseId,
    /// The host on which the application's user works.
    pub host: Host,
    /// The host's name if it is not an address; else empty.
    pub host_name: Name,
    /// How long it lasts after each heartbeat, in microseconds.
    pub ttl: Timestamp,
    /// The role that takes it, which need not be the session's own.
    pub taken_by: RoleOid,
}

/// The answer to an application.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Claimed {
    /// It has the seat.
    Held(Receipt),
    /// It waits in the queue, with this ticket.
    Waits(Ticket),
    /// It is denied a seat.
    Denied(Denial),
    /// The rules that judged it are no longer in force: judge it again.
    Outdated,
    /// No seat is free, but the time of some is up: end them, and ask again.
    TimesUp,
    /// No seat is free, but idle ones may give way: ask them to, then ask again.
    MayReclaim(Reclaim),
}

/// What an application is told about its seat.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Receipt {
    /// The seat's id; `None` if it takes no seat, as in an exempt session.
    pub seat: Option<[u8; 16]>,
    /// Seats of the product that are taken now.
    pub in_use: i64,
    /// The seats that the license has; `None` for any number.
    pub seats: Option<i32>,
    /// When the lease ends; 0 for a checkout.
    pub expires_at: Timestamp,
    /// What the server log should say about it.
    pub remark: Remark,
}

impl<T: Tables> Ledger<'_, T> {
    /// Answers an application that asks for a seat of the license that it was judged to claim. Its session is in slot
    /// `slot`. With `patient`, it waits in the queue if no seat is free.
    pub fn claim(
        &mut self,
        slot: Slot,
        judged: &Judged,
        want: &SeatRequest,
        patient: bool,
    ) -> Claimed {
        // Whoever asks again waits no longer, and has left the queue without saying so.
        self.leave_queue(slot, judged.now);
        let Some(session) = self.sessions.get(slot).copied() else {
            return Claimed::Outdated;
        };
        if self.is_outdated(session.database, judged) {
            return Claimed::Outdated;
        }
        let license = self.claimed_license(session.database, judged.standing);
        let Some(license) = license.copied() else {
            return Claimed::Outdated;
        };
        let former = match want.lease {
            None => self.find_checkout(&session, &license.product, &want.client_user),
            Some(_) => None,
        };
        if former.is_none()
            && let Some(cause) = self.too_many_users(&session, want)
        {
            return Claimed::Denied(Denial::of(&license, cause));
        }
        let hold = self.new_hold(&session, &license, want, former, judged.now);
        let event = |happened| Event::of_hold(happened, &hold, session.usename, license.product);
        // Leases are for an application's users, whoever asks for them.
        let spared = session.superuser && want.lease.is_none();
        let claimant = hold.claimant();
        let asking = Asking {
            slot,
            license: &license,
            claimant: &claimant,
            spared,
            judged,
        };
        let refused = self.may_hold(&license, &hold, slot, former.is_some(), judged.now);
        let remark = match refused.map_err(|denial| self.look_for_a_way(&asking, denial)) {
            Ok(remark) => remark,
            Err(Way::TimesUp) => return Claimed::TimesUp,
            Err(Way::MayReclaim(reclaim)) => return Claimed::MayReclaim(reclaim),
            Err(Way::None(denial)) if patient && self.may_wait(&asking, &denial) => {
                return Claimed::Waits(self.enqueue(slot, hold, want));
            }
            Err(Way::None(denial)) => {
                let event = event(Happened::Denied(denial.cause));
                match self.soften_request(&asking, denial, event, want) {
                    Ok(remark) => remark,
                    Err(denial) => return Claimed::Denied(denial),
                }
            }
        };
        let mut taken = None;
        if let Some(key) = former {
            self.change_hold(&key, |hold| hold.times += 1);
        } else if self.keep_name(want) {
            taken = self.take(slot, hold);
        } else if want.lease.is_some() {
            // A lease that the ledger does not know could neither be extended nor end.
            return Claimed::Denied(Denial::of(&license, Cause::TableFull));
        }
        let kept = self.take_promise(slot);
        if let Some(seat) = taken {
            let mut event = event(Happened::Taken);
            event.seat = seat;
            self.note_taken(slot, event, license.tally, remark, judged.now);
        }
        // Somebody in the queue may work under the identity that has a seat now.
        self.serve(license.tally, judged.now);
        if let Some(tally) = kept.filter(|&tally| tally != license.tally) {
            self.serve(tally, judged.now);
        }
        Claimed::Held(self.receipt(&hold, remark))
    }

    /// Admits somebody whose license or server denies softly, and notes the denial. Maybe no holder keeps the user's
    /// name, but the event needs it.
    fn soften_request(
        &mut self,
        asking: &Asking,
        denial: Denial,
        event: Event,
        want: &SeatRequest,
    ) -> Result<Remark, Denial> {
        self.keep_text(&want.client_user, want.long_name);
        let softened = self.soften(asking, denial, event);
        drop_long_name::<T>(&mut self.texts, &want.client_user);
        softened
    }

    /// Tells why a session may not check out for one more user. This applies however softly seats are counted, because
    /// the room for checkouts is everybody's.
    fn too_many_users(&self, session: &Session, want: &SeatRequest) -> Option<Cause> {
        let most = want.users_max?;
        let is_too_many = want.lease.is_none()
            && session.users >= most
            && !self.has_checkout_for(session, &want.client_user);
        is_too_many.then_some(Cause::TooManyUsers { most })
    }

    /// Tells whether somebody who would be denied may wait in the queue.
    fn may_wait(&self, asking: &Asking, denial: &Denial) -> bool {
        denial.is_full()
            && !asking.spared
            && asking.license.enforcement.max(asking.judged.enforcement) == Enforcement::On
            && self.has_room()
    }

    /// Gives back one of a session's checkouts of a product. Returns `false` if there is none.
    pub fn check_in(
        &mut self,
        slot: Slot,
        product: &Name,
        client_user: &Label,
        now: Timestamp,
    ) -> bool {
        let Some(session) = self.sessions.get(slot).copied() else {
            return false;
        };
        let key = self.find_checkout(&session, product, client_user);
        let Some(hold) = key.and_then(|key| self.holds.get(&key).copied()) else {
            return false;
        };
        if hold.times > 1 {
            self.change_hold(&hold.key, |hold| hold.times -= 1);
        } else {
            self.remove_checkout(slot, &hold.key, Leaving::GivenBack, now);
            self.serve(hold.tally, now);
        }
        true
    }

    /// Gives back a session's checkouts, at most `at_most`. Returns whether there are more.
    pub fn check_in_some(&mut self, slot: Slot, at_most: usize, now: Timestamp) -> bool {
        self.remove_checkouts(slot, at_most, Leaving::GivenBack, now)
    }

    /// Takes a session's checkouts out, at most `at_most`, and gives their seats to those in the queue. Returns whether
    /// there are more.
    pub(crate) fn remove_checkouts(
        &mut self,
        slot: Slot,
        at_most: usize,
        leaving: Leaving,
        now: Timestamp,
    ) -> bool {
        // Usually all of them are of one product.
        let mut tally = None;
        let mut several = false;
        for _ in 0..at_most {
            let Some(removed) = self.remove_last_checkout(slot, leaving, now) else {
                break;
            };
            several |= tally.is_some_and(|former| former != removed);
            tally = Some(removed);
        }
        // Only when all are free, because who is the first in the queue to have one depends on them all.
        if several {
            self.serve_all(now);
        } else if let Some(tally) = tally {
            self.serve(tally, now);
        }
        self.sessions
            .get(slot)
            .is_some_and(|session| session.checkouts > 0)
    }

    /// Takes the last of a session's checkouts out, and returns its tally. Its seat is still to be offered to those in
    /// the queue.
    pub(crate) fn remove_last_checkout(
        &mut self,
        slot: Slot,
        leaving: Leaving,
        now: Timestamp,
    ) -> Option<TallyId> {
        let session = self.sessions.get(slot)?;
        let key = HoldKey::checkout(session.number, session.checkouts.checked_sub(1)?);
        let tally = self
            .holds
            .get(&key)
            .map_or(TallyId::NONE, |hold| hold.tally);
        self.remove_checkout(slot, &key, leaving, now);
        Some(tally)
    }

    /// Returns a session's checkouts.
    pub fn checkouts(&self, session: &Session) -> impl Iterator<Item = &Hold> {
        let number = session.number;
        (0..session.checkouts)
            .filter_map(move |place| self.holds.get(&HoldKey::checkout(number, place)))
    }

    /// Returns the text of a label that is a digest, if somebody holds or awaits a seat under it.
    pub fn long_name(&self, label: &Label) -> Option<Text<512>> {
        self.long_names.get(label).map(|name| name.text)
    }

    fn find_checkout(
        &self,
        session: &Session,
        product: &Name,
        client_user: &Label,
    ) -> Option<HoldKey> {
        let spot = self.spot_key(session.number, product, client_user);
        let key = HoldKey::checkout(session.number, self.spots.get(&spot)?.place);
        let hold = self.holds.get(&key)?;
        let tally = self.tallies.get(&hold.tally)?;
        (hold.who.client_user == *client_user && tally.product == *product).then_some(key)
    }

    /// Returns the key under which the index of a session's checkout is found. It is made with a secret of this server,
    /// so that nobody can make two checkouts share one.
    fn spot_key(&self, session: SessionNumber, product: &Name, client_user: &Label) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.head.seat_ids.salt, session, product, client_user).hash(&mut hasher);
        hasher.finish()
    }

    /// Returns the key under which a checkout's index is found; `None` for a lease.
    fn spot_of(&self, hold: &Hold) -> Option<u64> {
        let product = self.tallies.get(&hold.tally)?.product;
        (hold.kind() == Kind::Checkout)
            .then(|| self.spot_key(hold.number, &product, &hold.who.client_user))
    }

    /// Notes the index of a checkout within its session.
    fn put_spot(&mut self, hold: &Hold) {
        if let Some(key) = self.spot_of(hold) {
            let place = hold.key.place();
            self.spots.put(Spot { key, place });
        }
    }

    /// Returns a session's checkouts for a client_user, of all licensed products. This takes one lookup for each
    /// license, however many checkouts there are.
    fn checkouts_for(
        &self,
        session: &Session,
        client_user: &Label,
    ) -> impl Iterator<Item = HoldKey> {
        let (session, client_user) = (*session, *client_user);
        self.licenses_of(session.database)
            .filter_map(move |row| self.find_checkout(&session, &row.product, &client_user))
    }

    /// Tells whether the session has a checkout for this client_user, or the client_user is empty.
    fn has_checkout_for(&self, session: &Session, client_user: &Label) -> bool {
        client_user.is_empty() || self.checkouts_for(session, client_user).next().is_some()
    }

    /// Returns what a session asks for, as it will be put in. A session in the queue takes nothing else meanwhile, so
    /// that the checkout's index stays free.
    fn new_hold(
        &mut self,
        session: &Session,
        license: &License,
        want: &SeatRequest,
        former: Option<HoldKey>,
        now: Timestamp,
    ) -> Hold {
        let new = HoldKey::checkout(session.number, session.checkouts);
        let mut hold = Hold {
            key: former.unwrap_or(new),
            number: session.number,
            pending: false,
            unseen: false,
            database: session.database,
            times: 1,
            tally: license.tally,
            who: Who {
                client_user: want.client_user,
                ..session.who
            },
            roles: session.roles,
            licensed: true,
            exempt: session.exempt.is_some() && want.lease.is_none(),
            first_of_user: false,
            seated: None,
            seat: SeatNumber::NONE,
            taken_by: RoleOid::NONE,
            ended: false,
            ttl: 0,
            expires_at: now,
        };
        if let Some(lease) = want.lease {
            hold.key = HoldKey::lease(lease.id);
            hold.number = SessionNumber(self.head.next_number());
            hold.pending = true;
            hold.who.host = lease.host;
            hold.who.workstation = lease.host_name;
            hold.ttl = lease.ttl;
            hold.taken_by = lease.taken_by;
            hold.expires_at = now.saturating_add(lease.ttl);
        } else if let Some(reason) = session.exempt {
            hold.exempt = match former.and_then(|key| self.holds.get(&key)) {
                Some(former) => former.exempt,
                None => self.may_be_exempt(license, reason, &hold.claimant()),
            };
        }
        hold
    }

    /// Tells whether a hold may be taken. With `again`, the session has this checkout already, and no room is needed.
    fn may_hold(
        &mut self,
        license: &License,
        hold: &Hold,
        slot: Slot,
        again: bool,
        now: Timestamp,
    ) -> Result<Remark, Denial> {
        if hold.exempt {
            return Ok(Remark::None);
        }
        let claimant = hold.claimant();
        let remark = self.refusal(license, &claimant, slot, now)?;
        if again || self.has_room() {
            Ok(remark)
        } else {
            Err(Denial::of(license, Cause::TableFull))
        }
    }

    /// Puts in what a session has taken, and returns the seat's number if nobody held it. There must be room.
    pub(crate) fn take(&mut self, slot: Slot, mut hold: Hold) -> Option<SeatNumber> {
        if hold.kind() == Kind::Checkout
            && let Some(session) = self.sessions.get(slot)
        {
            hold.first_of_user = !self.has_checkout_for(session, &hold.who.client_user);
        }
        if hold.kind() == Kind::Checkout
            && let Some(session) = self.sessions.get_mut(slot)
        {
            session.checkouts += 1;
            session.users += u32::from(hold.first_of_user);
        }
        self.put_spot(&hold);
        self.put_hold(hold)
    }

    pub(crate) fn receipt(&self, wanted: &Hold, remark: Remark) -> Receipt {
        let hold = self.holds.get(&wanted.key);
        // What was called may count elsewhere by now.
        let now = hold.unwrap_or(wanted);
        let tally = self.tallies.get(&now.tally);
        Receipt {
            seat: hold
                .and_then(Hold::seat)
                .map(|number| self.head.seat_ids.of(number)),
            in_use: tally.map_or(0, |tally| tally.in_use),
            seats: self.license_of(now).and_then(|license| license.seats),
            expires_at: hold
                .filter(|hold| hold.kind() == Kind::Lease)
                .map_or(0, |hold| hold.expires_at),
            remark,
        }
    }

    /// Takes a checkout out. The session's last one moves to its index.
    pub(crate) fn remove_checkout(
        &mut self,
        slot: Slot,
        key: &HoldKey,
        leaving: Leaving,
        now: Timestamp,
    ) {
        let Some(session) = self.sessions.get_mut(slot) else {
            return;
        };
        session.checkouts -= 1;
        let last = HoldKey::checkout(session.number, session.checkouts);
        let usename = session.usename;
        let is_counted = session.users > 0;
        let removed = self.holds.get(key).copied();
        if let Some(spot) = removed.and_then(|hold| self.spot_of(&hold)) {
            self.spots.remove(&spot);
        }
        let of_user = removed.filter(|hold| is_counted && hold.first_of_user);
        self.end_hold(Some(slot), key, usename, leaving, now);
        if last != *key
            && let Some(moved) = self.holds.get(&last).copied()
        {
            // Its seat, and what counts it, stay as they are.
            self.holds.remove(&last);
            let moved = Hold { key: *key, ..moved };
            self.put_spot(&moved);
            self.holds.put(moved);
        }
        if let Some(hold) = of_user {
            self.count_user_no_more(slot, &hold.who.client_user);
        }
    }

    /// Notes that the first checkout for a client_user is gone: another one is the first now, or the user no longer
    /// counts.
    fn count_user_no_more(&mut self, slot: Slot, user: &Label) {
        let Some(session) = self.sessions.get(slot).copied() else {
            return;
        };
        let is_second = |key: &HoldKey| self.holds.get(key).is_some_and(|hold| !hold.first_of_user);
        let second = self.checkouts_for(&session, user).find(is_second);
        if let Some(hold) = second.and_then(|key| self.holds.get_mut(&key)) {
            hold.first_of_user = true;
        } else if let Some(session) = self.sessions.get_mut(slot) {
            session.users -= 1;
        }
    }

    /// Takes a hold out, and notes that if its seat is left. The session in `slot` has done it, if a session has.
    /// `usename` is the name of the role that took the hold, or empty.
    pub(crate) fn end_hold(
        &mut self,
        slot: Option<Slot>,
        key: &HoldKey,
        usename: Name,
        leaving: Leaving,
        now: Timestamp,
    ) {
        let Some(hold) = self.holds.get(key).copied() else {
            return;
        };
        let linger = if hold.pending {
            // As if it had never been taken.
            Linger::as_before(now)
        } else {
            self.linger_after(leaving, hold.database, hold.tally, now)
        };
        // The name goes with the hold, but the event still needs it.
        self.keep_text(&hold.who.client_user, None);
        if let Some(left) = self.remove_hold(key, linger) {
            let event = Event::of_hold(Happened::Left(leaving), &hold, usename, Name::EMPTY);
            self.note_left(slot, event, &left, now);
        }
        drop_long_name::<T>(&mut self.texts, &hold.who.client_user);
    }

    /// Tells whether there is room for one more hold.
    pub(crate) fn has_room(&self) -> bool {
        // Everyone in the queue must find room when called.
        self.holds.len() + self.waits.len() < self.holds.capacity()
    }

    /// Keeps the name of the user of a new hold or wait. Returns `false` if there is no room for the hold.
    pub(crate) fn keep_name(&mut self, want: &SeatRequest) -> bool {
        if !self.has_room() {
            return false;
        }
        self.keep_long_name(&want.client_user, want.long_name);
        true
    }

    /// Keeps a text that is too long for its label. If there is no room for it, people see how it begins; nobody is
    /// refused because of that.
    pub(crate) fn keep_long_name(&mut self, label: &Label, text: Option<Text<512>>) {
        let Some(text) = text else { return };
        if let Some(name) = self.long_names.get_mut(label) {
            name.users += 1;
        } else {
            self.long_names.put(LongName {
                label: *label,
                text,
                users: 1,
            });
        }
    }

    /// Notes that a hold or wait no longer needs the name of its user.
    pub(crate) fn drop_name(&mut self, label: &Label) {
        drop_long_name::<T>(&mut self.long_names, label);
    }
}
