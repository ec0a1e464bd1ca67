//! Answers applications: a seat for a session, or for a user whose connection is shared.

use super::Ledger;
use super::admission::{Cause, Denial, Judged, Reclaim, Remark};
use super::event::{Event, Happened, Leaving};
use super::hold::{Hold, HoldKey, LeaseId, LongName, drop_long_name};
use super::identity::{Host, Label, Name, Text, Who};
use super::license::{Enforcement, License, RowKey, Timestamp};
use super::seats::Linger;
use super::session::{Kind, Session};
use super::table::{Table, Tables};

/// What an application asks for.
#[derive(Clone, Copy, Debug)]
pub struct Want {
    /// The application's own user, or empty.
    pub client_user: Label,
    /// The user's name, where the label has no room for it.
    pub long_name: Option<Text<512>>,
    /// The lease that it is to be, if it is not the session's own.
    pub lease: Option<NewLease>,
}

/// A lease to be granted.
#[derive(Clone, Copy, Debug)]
pub struct NewLease {
    /// Its id.
    pub id: LeaseId,
    /// Where the application's user works.
    pub host: Host,
    /// The host's name, where it is no address; else empty.
    pub host_name: Name,
    /// How long it lasts after each heartbeat, in microseconds.
    pub ttl: Timestamp,
}

/// The answer to an application.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Claimed {
    /// It has the seat.
    Held(Receipt),
    /// It stands in line, with this ticket.
    Waits(u64),
    /// It has no seat.
    Denied(Denial),
    /// The rules that it was judged by are no longer in force: judge it again.
    Outdated,
    /// No seat is free, but the time of some is up: end them, and ask again.
    TimesUp,
    /// No seat is free, but idle ones may give way: ask them, and then again.
    MayReclaim(Reclaim),
}

/// What an application is told of its seat.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Receipt {
    /// The seat's id; none for an exempt session.
    pub seat: Option<[u8; 16]>,
    /// Seats of the product that are taken now.
    pub in_use: i64,
    /// Seats that the license has; none: any number.
    pub seats: Option<i32>,
    /// When the lease ends.
    pub expires_at: Timestamp,
    /// What the server log should say of it.
    pub remark: Remark,
}

impl<T: Tables> Ledger<'_, T> {
    /// Answers an application that asks for a seat of the license of this standing: its session
    /// is at this place. `patient`: it waits in line where no seat is free.
    pub fn claim(&mut self, at: usize, judged: &Judged, want: &Want, patient: bool) -> Claimed {
        if let Some(session) = self.sessions.get(at)
            && session.ticket != 0
        {
            // Who asks waits no longer, and has left the line without a word.
            self.leave(session.ticket, judged.now);
        }
        let Some(session) = self.sessions.get(at).copied() else {
            return Claimed::Outdated;
        };
        if self.is_outdated(session.database, judged) {
            return Claimed::Outdated;
        }
        let license = judged.standing.license.and_then(|place| {
            self.licenses.get(&RowKey {
                database: session.database,
                place,
            })
        });
        let Some(license) = license.copied() else {
            return Claimed::Outdated;
        };
        let mut hold = self.new_hold(&session, &license, want, judged.now);
        let former = match want.lease {
            None => self.find_checkout(&session, license.tally, &want.client_user),
            Some(_) => None,
        };
        if let Some(reason) = session.exempt.filter(|_| want.lease.is_none()) {
            hold.exempt = match former.and_then(|key| self.holds.get(&key)) {
                Some(former) => former.exempt,
                None => self.may_be_exempt(&license, reason, &hold.claimant()),
            };
        }
        let usename = session.usename;
        let asked = hold;
        let event = |happened| Event::of_hold(happened, &asked, usename, license.product);
        // Leases are for an application's users, whoever asks.
        let spared = session.superuser && want.lease.is_none();
        let remark = match self.may_hold(&license, &hold, at, former.is_some(), want, judged.now) {
            Ok(remark) => remark,
            Err(denial) if self.times_are_up(&denial, judged.now) => return Claimed::TimesUp,
            Err(denial)
                if let Some(reclaim) = self.may_reclaim(&license, &denial, judged)
                    && !spared =>
            {
                self.promise(at, &license, hold.roles);
                return Claimed::MayReclaim(reclaim);
            }
            Err(denial)
                if patient
                    && denial.is_full()
                    && !spared
                    && license.enforcement.max(judged.enforcement) == Enforcement::On
                    && self.has_room_for(want) =>
            {
                return Claimed::Waits(self.line_up(at, hold, want));
            }
            Err(denial) => {
                let event = event(Happened::Denied(denial.cause));
                // Nobody who has a seat may have the name.
                self.keep_text(&want.client_user, want.long_name);
                let softened = self.soften(&license, denial, spared, judged, event);
                drop_long_name::<T>(&mut self.texts, &want.client_user);
                match softened {
                    Ok(remark) => remark,
                    Err(denial) => return Claimed::Denied(denial),
                }
            }
        };
        let mut taken = None;
        if let Some(key) = former {
            self.change_hold(&key, |hold| hold.times += 1);
            hold.key = key;
        } else if self.keep_name(want) {
            taken = self.take(at, hold);
        } else if want.lease.is_some() {
            // A lease that the ledger does not know could neither be extended nor end.
            return Claimed::Denied(self.no_room_for(&license, want));
        }
        let kept = self.take_promise(at);
        if let Some(seat) = taken {
            let mut event = event(Happened::Taken);
            event.seat = seat;
            self.note_taken(event, license.tally, remark, judged.now);
        }
        // Somebody in line may work under the identity that has a seat now.
        self.serve(license.tally, judged.now);
        if let Some(tally) = kept.filter(|&tally| tally != license.tally) {
            self.serve(tally, judged.now);
        }
        Claimed::Held(self.receipt(&hold, remark))
    }

    /// Gives back one of a session's checkouts of a product. False when there is none.
    pub fn check_in(
        &mut self,
        at: usize,
        product: &Name,
        client_user: &Label,
        now: Timestamp,
    ) -> bool {
        let Some(session) = self.sessions.get(at).copied() else {
            return false;
        };
        let of_product = |hold: &&Hold| {
            hold.who.client_user == *client_user
                && self
                    .tallies
                    .get(&hold.tally)
                    .is_some_and(|tally| tally.product == *product)
        };
        let Some(hold) = self.checkouts(&session).find(of_product).copied() else {
            return false;
        };
        if hold.times > 1 {
            self.change_hold(&hold.key, |hold| hold.times -= 1);
        } else {
            self.remove_checkout(at, &hold.key, Leaving::GivenBack, now);
            self.serve(hold.tally, now);
        }
        true
    }

    /// Gives back all of a session's checkouts.
    pub fn check_in_all(&mut self, at: usize, now: Timestamp) {
        if self.remove_checkouts(at, Leaving::GivenBack, now) {
            self.serve_all(now);
        }
    }

    /// Takes a session's checkouts out; the line is yet to be served. False when there is none.
    pub(super) fn remove_checkouts(&mut self, at: usize, leaving: Leaving, now: Timestamp) -> bool {
        let mut some = false;
        while let Some(session) = self.sessions.get(at)
            && let Some(last) = session.checkouts.checked_sub(1)
        {
            let key = HoldKey::checkout(session.number, last);
            self.remove_checkout(at, &key, leaving, now);
            some = true;
        }
        some
    }

    /// A session's checkouts.
    pub fn checkouts(&self, session: &Session) -> impl Iterator<Item = &Hold> {
        let number = session.number;
        (0..session.checkouts)
            .filter_map(move |place| self.holds.get(&HoldKey::checkout(number, place)))
    }

    /// The text of a label that is too long for it, if it is one.
    pub fn long_name(&self, label: &Label) -> Option<Text<512>> {
        self.long_names.get(label).map(|name| name.text)
    }

    fn find_checkout(&self, session: &Session, tally: u64, client_user: &Label) -> Option<HoldKey> {
        self.checkouts(session)
            .find(|hold| hold.tally == tally && hold.who.client_user == *client_user)
            .map(|hold| hold.key)
    }

    /// What a session asks for, as it will be put in: who waits in line takes nothing else meanwhile,
    /// so that a checkout's place stays free.
    fn new_hold(
        &mut self,
        session: &Session,
        license: &License,
        want: &Want,
        now: Timestamp,
    ) -> Hold {
        let mut hold = Hold {
            key: HoldKey::checkout(session.number, session.checkouts),
            number: session.number,
            pending: false,
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
            seated: None,
            seat: 0,
            ended: false,
            ttl: 0,
            expires_at: now,
        };
        if let Some(lease) = want.lease {
            self.head.numbers += 1;
            hold.key = HoldKey::lease(lease.id);
            hold.number = self.head.numbers;
            hold.pending = true;
            hold.who.host = lease.host;
            hold.who.workstation = lease.host_name;
            hold.ttl = lease.ttl;
            hold.expires_at = now.saturating_add(lease.ttl);
        }
        hold
    }

    /// Whether a hold may be taken, for which there may be one of the same session already.
    fn may_hold(
        &mut self,
        license: &License,
        hold: &Hold,
        at: usize,
        again: bool,
        want: &Want,
        now: Timestamp,
    ) -> Result<Remark, Denial> {
        if hold.exempt {
            return Ok(Remark::None);
        }
        let claimant = hold.claimant();
        self.settle_rival(claimant.tally, Some(claimant));
        let remark = self.refusal(license, &claimant, at, now)?;
        if again || self.has_room_for(want) {
            Ok(remark)
        } else {
            Err(self.no_room_for(license, want))
        }
    }

    /// Puts in what a session has taken; the seat's number, if nobody held it. There must be room.
    pub(super) fn take(&mut self, at: usize, hold: Hold) -> Option<u64> {
        if hold.kind() == Kind::Checkout
            && let Some(session) = self.sessions.get_mut(at)
        {
            session.checkouts += 1;
        }
        self.put_hold(hold)
    }

    pub(super) fn receipt(&self, wanted: &Hold, remark: Remark) -> Receipt {
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

    /// Takes a checkout out; the session's last one moves into its place.
    pub(super) fn remove_checkout(
        &mut self,
        at: usize,
        key: &HoldKey,
        leaving: Leaving,
        now: Timestamp,
    ) {
        let Some(session) = self.sessions.get_mut(at) else {
            return;
        };
        session.checkouts -= 1;
        let last = HoldKey::checkout(session.number, session.checkouts);
        let usename = session.usename;
        self.end_hold(key, usename, leaving, now);
        if last != *key
            && let Some(moved) = self.holds.get(&last).copied()
        {
            // Its seat, and what counts it, stay as they are.
            self.holds.remove(&last);
            self.holds.put(Hold { key: *key, ..moved });
        }
    }

    /// Takes a hold out, and notes it where its seat is left. The session at this name took it.
    pub(super) fn end_hold(
        &mut self,
        key: &HoldKey,
        usename: Name,
        leaving: Leaving,
        now: Timestamp,
    ) {
        let Some(hold) = self.holds.get(key).copied() else {
            return;
        };
        let linger = if hold.pending {
            // As if it had never been.
            Linger::as_before(now)
        } else {
            self.linger_after(leaving, hold.database, hold.tally, now)
        };
        // Its name goes with it, but is yet to be told.
        self.keep_text(&hold.who.client_user, None);
        if let Some(left) = self.remove_hold(key, linger) {
            let event = Event::of_hold(Happened::Left(leaving), &hold, usename, Name::EMPTY);
            self.note_left(event, &left, now);
        }
        drop_long_name::<T>(&mut self.texts, &hold.who.client_user);
    }

    fn has_room_for(&self, want: &Want) -> bool {
        // Everyone in line finds room when called.
        self.has_room_for_name(want) && self.holds.len() + self.waits.len() < self.holds.capacity()
    }

    fn has_room_for_name(&self, want: &Want) -> bool {
        want.long_name.is_none()
            || self.long_names.get(&want.client_user).is_some()
            || self.long_names.len() < self.long_names.capacity()
    }

    fn no_room_for(&self, license: &License, want: &Want) -> Denial {
        let cause = if self.has_room_for_name(want) {
            Cause::TableFull
        } else {
            let room = self.long_names.capacity();
            Cause::NamesFull { room }
        };
        Denial::of(license, cause)
    }

    /// Keeps the name of a new hold's or wait's user. False when there is no room for the hold.
    pub(super) fn keep_name(&mut self, want: &Want) -> bool {
        if !self.has_room_for(want) {
            return false;
        }
        self.keep_long_name(&want.client_user, want.long_name);
        true
    }

    pub(super) fn keep_long_name(&mut self, label: &Label, text: Option<Text<512>>) {
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

    /// A hold or wait needs the name of its user no longer.
    pub(super) fn drop_name(&mut self, label: &Label) {
        drop_long_name::<T>(&mut self.long_names, label);
    }
}
