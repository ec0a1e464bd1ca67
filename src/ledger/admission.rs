//! Answers logins.

use super::Ledger;
use super::database::Database;
use super::identity::Name;
use super::license::{Enforcement, License, OutOfDates, RowKey, Timestamp};
use super::session::{Session, Standing};
use super::table::{Table, Tables};

/// The answer to a login.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It is in.
    Admitted(Remark),
    /// It is not in, and nothing was registered.
    Denied(Denial),
    /// The rules that it was judged by are no longer in force: judge it again.
    Outdated,
}

/// What the server log should say of an admitted login.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Remark {
    /// Nothing.
    None,
    /// It took a seat beyond `seats`.
    Overdraft(Denial),
    /// Under 'warn' it would have been denied.
    WouldBeDenied(Denial),
}

/// Why a login gets no seat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Denial {
    /// The product of the license that it claimed.
    pub product: Name,
    /// The tally of that license.
    pub tally: u64,
    /// The reason.
    pub cause: Cause,
}

/// The reasons of denials.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// Every seat is taken.
    Full {
        /// Seats taken.
        in_use: i64,
        /// Seats that may be taken.
        limit: i64,
    },
    /// The license's dates admit nobody.
    OutOfDates(OutOfDates),
    /// The ledger itself has no room for one more seat.
    TableFull,
}

/// How a session was judged.
#[derive(Clone, Copy, Debug)]
pub struct Judged {
    /// The generation of the rules that judged it.
    pub generation: u64,
    /// They were known to be outdated, and are all there is.
    pub outdated: bool,
    /// Superusers were exempt by them.
    pub exempt_superusers: bool,
    /// What they made of it.
    pub standing: Standing,
    /// The server's own `pg_seats.enforcement`, which can only soften the license's.
    pub enforcement: Enforcement,
    /// The moment of the login.
    pub now: Timestamp,
}

impl<T: Tables> Ledger<'_, T> {
    /// Answers a login that was judged by the rules of this generation, and registers the session
    /// at its place unless it is denied.
    pub fn admit(&mut self, at: usize, session: Session, judged: Judged) -> Answer {
        let outdated = |known: &Database| {
            known.loaded != judged.generation
                || known.exempt_superusers != judged.exempt_superusers
                || known.generation != judged.generation && !judged.outdated
        };
        if self.databases.get(&session.database).is_none_or(outdated) {
            return Answer::Outdated;
        }
        let key = judged.standing.license.map(|place| RowKey {
            database: session.database,
            place,
        });
        let license = key.and_then(|key| self.licenses.get(&key).copied());
        let mut session = Session {
            exempt: judged.standing.exempt,
            tally: license.map_or(0, |license| license.tally),
            ..session
        };
        let mut remark = Remark::None;
        if let Some(license) = license
            && session.exempt.is_none()
        {
            self.number(&mut session);
            self.settle_rival(session.tally, Some(&session));
            remark = match self.refusal(&license, &session, judged.now) {
                Ok(remark) => remark,
                Err(_) if session.superuser => Remark::None,
                Err(denial) => {
                    let enforcement = license.enforcement.max(judged.enforcement);
                    if enforcement != Enforcement::Off
                        && let Some(license) = self.licenses.get_mut(&license.key)
                    {
                        license.denied += 1;
                    }
                    match enforcement {
                        Enforcement::On => return Answer::Denied(denial),
                        Enforcement::Warn => Remark::WouldBeDenied(denial),
                        Enforcement::Off => Remark::None,
                    }
                }
            };
        }
        self.register(at, session);
        Answer::Admitted(remark)
    }

    /// Registers a session whose database's rules are not known: a superuser's, or one of a
    /// replication connection. It is judged when rules are published.
    pub fn register(&mut self, at: usize, mut session: Session) {
        self.release(at);
        self.number(&mut session);
        if let Some(place) = self.sessions.get_mut(at) {
            *place = session;
            self.reseat(at);
            if let Some(tally) = self.tallies.get_mut(&session.tally) {
                tally.note_high_water(session.since);
            }
        }
    }

    /// Takes a session out; its seat is free if it was the last to hold it.
    pub fn release(&mut self, at: usize) {
        self.unseat(at);
        if let Some(place) = self.sessions.get_mut(at) {
            let tally = place.tally;
            *place = Session::FREE;
            self.settle_rival(tally, None);
        }
    }

    pub(super) fn number(&mut self, session: &mut Session) {
        if session.number == 0 {
            self.head.numbers += 1;
            session.number = self.head.numbers;
        }
    }

    /// Whether a counted session may have a seat of the license.
    fn refusal(
        &self,
        license: &License,
        session: &Session,
        now: Timestamp,
    ) -> Result<Remark, Denial> {
        let denial = |cause| Denial {
            product: license.product,
            tally: license.tally,
            cause,
        };
        if let Some(dates) = license.out_of_dates(now) {
            return Err(denial(Cause::OutOfDates(dates)));
        }
        let Some(key) = self.seat_key(session) else {
            return Ok(Remark::None);
        };
        if self.seats.get(&key).is_some() {
            return Ok(Remark::None);
        }
        let in_use = self
            .tallies
            .get(&license.tally)
            .map_or(0, |tally| tally.in_use);
        if let Some(limit) = license.limit().filter(|&limit| in_use >= limit) {
            return Err(denial(Cause::Full { in_use, limit }));
        }
        if self.seats.len() >= self.head.max_seats {
            return Err(denial(Cause::TableFull));
        }
        Ok(match license.seats.map(i64::from) {
            Some(limit) if in_use >= limit => {
                Remark::Overdraft(denial(Cause::Full { in_use, limit }))
            }
            _ => Remark::None,
        })
    }
}
