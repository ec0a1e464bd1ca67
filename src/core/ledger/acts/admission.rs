//! Answers logins.

use crate::core::ledger::Ledger;
use crate::core::ledger::denial::{Cause, Denial, Reclaim, Remark};
use crate::core::ledger::event::{Event, Happened, Leaving};
use crate::core::ledger::identity::Name;
use crate::core::ledger::license::License;
use crate::core::ledger::numbers::{
    DatabaseOid, Generation, SeatNumber, SessionNumber, Slot, TallyId, Ticket,
};
use crate::core::ledger::roles::Roles;
use crate::core::ledger::seat::{Claimant, Standing};
use crate::core::ledger::session::Session;
use crate::core::ledger::table::{Table, Tables};
use crate::core::ledger::taker::User;
use crate::core::ledger::time::Timestamp;
use crate::core::ledger::words::Enforcement;

/// The answer to a login.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It is admitted.
    Admitted(Remark),
    /// It is denied, and nothing was registered.
    Denied(Denial),
    /// The rules that judged it are no longer in force: judge it again.
    Outdated,
    /// No seat is free, but the time of some is up: end them, and ask again.
    TimesUp,
    /// No seat is free, but idle ones may give way: ask them to, then ask again.
    MayReclaim(Reclaim),
}

/// How a session was judged.
#[derive(Clone, Copy, Debug)]
pub struct Judged {
    /// The generation of the rules that judged it.
    pub generation: Generation,
    /// Whether it does not matter that a change has come since: the rules were read for this session, or there are no
    /// others.
    pub outdated: bool,
    /// Whether superusers were exempt by them.
    pub exempt_superusers: bool,
    /// What they made of it.
    pub standing: Standing,
    /// The reserved roles that it is a member of.
    pub roles: Roles,
    /// How many times the reserved roles had changed.
    pub roles_edition: u64,
    /// The server's own `pg_seats.enforcement`, which can only soften the license's.
    pub enforcement: Enforcement,
    /// The moment of the login.
    pub now: Timestamp,
    /// Whether idle seats have been asked to give way already.
    pub asked: bool,
}

/// Somebody who asks for a seat.
pub(crate) struct Asking<'a> {
    /// The slot of the session that asks.
    pub(crate) slot: Slot,
    /// The license.
    pub(crate) license: &'a License,
    /// The claim on a seat.
    pub(crate) claimant: &'a Claimant,
    /// Whether nothing is denied, because a superuser asks.
    pub(crate) spared: bool,
    /// How it was judged.
    pub(crate) judged: &'a Judged,
}

/// A way to a seat for somebody who would be denied.
pub(crate) enum Way {
    /// Seats whose time is up must be freed first.
    TimesUp,
    /// Idle seats may give way.
    MayReclaim(Reclaim),
    /// There is no way.
    None(Denial),
}

impl<T: Tables> Ledger<'_, T> {
    /// Answers a login that was judged by the rules of this generation, and registers the session in `slot` if it is
    /// admitted.
    pub fn admit(&mut self, slot: Slot, session: Session, judged: Judged) -> Answer {
        if self.is_outdated(session.database, &judged) {
            return Answer::Outdated;
        }
        let license = self
            .claimed_license(session.database, judged.standing)
            .copied();
        let mut session = Session {
            judged: true,
            exempt: judged.standing.exempt,
            roles: judged.roles,
            tally: license.map_or(TallyId::NONE, |license| license.tally),
            ..session
        };
        let Some(license) = license else {
            self.register(slot, session, judged.now);
            return Answer::Admitted(Remark::None);
        };
        self.number(&mut session);
        session.exempt = session
            .exempt
            .filter(|reason| self.may_be_exempt(&license, *reason, &session.claimant()));
        let event = |happened| Event::of_login(happened, &session, license.product);
        let mut remark = Remark::None;
        if session.exempt.is_none() {
            let claimant = session.claimant();
            let asking = Asking {
                slot,
                license: &license,
                claimant: &claimant,
                spared: session.superuser,
                judged: &judged,
            };
            let refused = self.refusal(&license, &claimant, slot, judged.now);
            remark = match refused.map_err(|denial| self.look_for_a_way(&asking, denial)) {
                Ok(remark) => remark,
                Err(Way::TimesUp) => return Answer::TimesUp,
                Err(Way::MayReclaim(reclaim)) => return Answer::MayReclaim(reclaim),
                Err(Way::None(denial)) => {
                    let event = event(Happened::Denied(denial.cause));
                    match self.soften(&asking, denial, event) {
                        Ok(remark) => remark,
                        Err(denial) => return Answer::Denied(denial),
                    }
                }
            };
        }
        let taken = self.register(slot, session, judged.now);
        if let Some(exempt) = session.exempt {
            self.note(&event(Happened::ExemptLogin(exempt)), judged.now);
        } else if let Some(seat) = taken {
            let mut event = event(Happened::Taken);
            event.seat = seat;
            self.note_taken(slot, event, license.tally, remark, judged.now);
        }
        Answer::Admitted(remark)
    }

    /// Looks for a way to a seat for somebody who would be denied. What may give way is promised to whoever asks.
    pub(crate) fn look_for_a_way(&mut self, asking: &Asking, denial: Denial) -> Way {
        if self.times_are_up(&denial, asking.judged.now) {
            return Way::TimesUp;
        }
        match self.may_reclaim(asking.license, &denial, asking.judged) {
            Some(reclaim) if !asking.spared => {
                self.promise(asking.slot, asking.license, asking.claimant);
                Way::MayReclaim(reclaim)
            }
            _ => Way::None(denial),
        }
    }

    /// Tells whether a denial may be wrong, because seats are taken by leases whose time is up, or have lingered as
    /// long as they may.
    fn times_are_up(&self, denial: &Denial, now: Timestamp) -> bool {
        (denial.is_full() || denial.cause == Cause::TableFull) && self.head.next_due <= now
    }

    /// Returns what may give way to somebody who would be denied.
    fn may_reclaim(&self, license: &License, denial: &Denial, judged: &Judged) -> Option<Reclaim> {
        // A user who has as many seats as one may have gets no more of them when others give way.
        let is_of_user = matches!(denial.cause, Cause::UserFull { .. });
        let may = !judged.asked
            && denial.is_full()
            && !is_of_user
            && license.enforcement.max(judged.enforcement) == Enforcement::On;
        Some(Reclaim {
            tally: license.tally,
            idle_after: license.reclaim_idle_after.filter(|_| may)?,
        })
    }

    /// Tells whether the rules that judged are no longer those in force in the database.
    pub(crate) fn is_outdated(&self, database: DatabaseOid, judged: &Judged) -> bool {
        self.databases.get(&database).is_none_or(|known| {
            known.in_force.loaded != judged.generation
                || self.head.roles_edition != judged.roles_edition
                || known.in_force.exempt_superusers != judged.exempt_superusers
                || known.generation != judged.generation && !judged.outdated
        })
    }

    /// Softens a denial as enforcement says, counts it and notes it. Somebody who is spared is never denied.
    pub(crate) fn soften(
        &mut self,
        asking: &Asking,
        denial: Denial,
        mut event: Event,
    ) -> Result<Remark, Denial> {
        if asking.spared {
            return Ok(Remark::None);
        }
        let Asking {
            license, judged, ..
        } = asking;
        let enforcement = match denial.cause {
            // However softly seats are counted, an administrator has said no.
            Cause::Barred { .. } => Enforcement::On,
            _ => license.enforcement.max(judged.enforcement),
        };
        if enforcement != Enforcement::Off
            && let Some(license) = self.licenses.get_mut(&license.key)
        {
            license.denied += 1;
        }
        event.in_use = self.in_use(license.tally);
        match enforcement {
            Enforcement::On => {
                self.note_denial(&event, judged.now);
                Err(denial)
            }
            Enforcement::Warn => {
                event.happened = Happened::WouldBeDenied(denial.cause);
                self.note_denial(&event, judged.now);
                Ok(Remark::WouldBeDenied(denial))
            }
            Enforcement::Off => Ok(Remark::None),
        }
    }

    /// Registers a session, and returns the number of the seat that its login took, if nobody held it. It is called
    /// without [`Ledger::admit`] for a session that gets in though the rules of its database are not known, such as a
    /// superuser's. That session is judged when rules are published.
    pub fn register(
        &mut self,
        slot: Slot,
        mut session: Session,
        now: Timestamp,
    ) -> Option<SeatNumber> {
        // What was kept for it is taken before anybody else can have it.
        let promise = self.sessions.get_mut(slot).and_then(|s| s.promise.take());
        self.release(slot, Leaving::Logout, now);
        session.promise = promise;
        self.number(&mut session);
        *self.sessions.get_mut(slot)? = session;
        let taken = self.reseat(slot);
        let kept = self.take_promise(slot);
        // Somebody in the queue may work under the identity that has a seat now.
        self.serve(session.tally, now);
        if let Some(tally) = kept.filter(|&tally| tally != session.tally) {
            self.serve(tally, now);
        }
        taken
    }

    /// Takes a session out, with all that it holds and awaits; its seats are free if it was the last to hold them. If
    /// it has more than `at_most` checkouts, it only leaves the queue and gives up that many of them, and `false` is
    /// returned: it must be released again.
    pub fn release_some(
        &mut self,
        slot: Slot,
        at_most: usize,
        leaving: Leaving,
        now: Timestamp,
    ) -> bool {
        let has_more = |session: &Session| session.checkouts as usize > at_most;
        if self.sessions.get(slot).is_some_and(has_more) {
            // A session that ends waits for nothing any more.
            self.drop_promise(slot, now);
            if let Some(session) = self.sessions.get(slot) {
                self.leave(session.ticket, now);
            }
            self.remove_checkouts(slot, at_most, leaving, now);
            return false;
        }
        self.release(slot, leaving, now);
        true
    }

    /// Takes a session out, however many checkouts it has.
    pub fn release(&mut self, slot: Slot, leaving: Leaving, now: Timestamp) {
        self.drop_promise(slot, now);
        let Some(session) = self
            .sessions
            .get(slot)
            .filter(|s| s.number != SessionNumber::NONE)
            .copied()
        else {
            return;
        };
        if let Some(exempt) = session.exempt.filter(|_| !session.judged) {
            // It leaves before it was known what it would have claimed.
            let known = self.databases.get(&session.database);
            if known.is_some_and(|known| {
                known.in_force.loaded == Generation::NONE || known.rows.licenses > 0
            }) {
                let happened = Happened::ExemptLogin(exempt);
                let event = Event::of_login(happened, &session, Name::EMPTY);
                self.note(&event, session.since);
            }
        }
        self.step_out(session.ticket, now);
        while self.remove_last_checkout(slot, leaving, now).is_some() {}
        let linger = self.linger_after(leaving, session.database, session.tally, now);
        if let Some(left) = self.unseat(slot, linger) {
            let event = Event::of_login(Happened::Left(leaving), &session, Name::EMPTY);
            self.note_left(Some(slot), event, &left, now);
        }
        if let Some(place) = self.sessions.get_mut(slot) {
            *place = Session::FREE;
        }
        if session.checkouts == 0 && session.ticket == Ticket::NONE {
            self.serve(session.tally, now);
        } else {
            self.serve_all(now);
        }
    }

    pub(crate) fn number(&mut self, session: &mut Session) {
        if session.number == SessionNumber::NONE {
            session.number = SessionNumber(self.head.next_number());
        }
    }

    /// Tells whether a claimant that is counted, and is or will be in `slot`, may have a seat of the license.
    pub(crate) fn refusal(
        &self,
        license: &License,
        claimant: &Claimant,
        slot: Slot,
        now: Timestamp,
    ) -> Result<Remark, Denial> {
        let denial = |cause| Denial::of(license, cause);
        if let Some(until) = self.barred_until(claimant, now) {
            let until = Some(until);
            return Err(denial(Cause::Barred { until }));
        }
        if let Some(dates) = license.out_of_dates(now) {
            return Err(denial(Cause::OutOfDates(dates)));
        }
        let Some(tally) = self.tallies.get(&claimant.tally) else {
            return Ok(Remark::None);
        };
        let ids = self.head.seat_ids;
        let key = tally.key_of(ids, claimant);
        if let Some(seat) = self.seats.get(&key) {
            return if seat.is_ending(now) {
                Err(denial(Cause::Barred { until: None }))
            } else {
                Ok(Remark::None)
            };
        }
        let whom = (User::of_claimant(ids, claimant), claimant.roles);
        if let Some(cause) = self.user_full(license, tally, slot, whom, None) {
            return Err(denial(cause));
        }
        let in_use = tally.in_use + self.promised_to_others(tally, slot);
        let (kept, role_full) = self.reserved(license, tally, slot, claimant.roles, Roles::NONE);
        if let Some(limit) = license.limit().filter(|&limit| in_use + kept >= limit) {
            return Err(denial(Cause::Full {
                in_use,
                limit,
                kept: kept.min(limit - in_use).max(0),
            }));
        }
        if let Some(cause) = role_full {
            return Err(denial(cause));
        }
        Ok(match license.seats.map(i64::from) {
            Some(limit) if in_use >= limit => Remark::Overdraft(denial(Cause::Full {
                in_use,
                limit,
                kept: 0,
            })),
            _ => Remark::None,
        })
    }
}
