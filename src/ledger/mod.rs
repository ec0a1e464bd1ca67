//! Who holds which seat, and who may have one: every decision of pg_seats, without PostgreSQL.
//!
//! The ledger decides over a small storage trait ([`table`]), so that the same code counts in the
//! server's shared memory and in tests. Its calls never wait and never fail half-way: the caller
//! holds the lock, and what could fail (rows that don't fit, rules that moved on) is checked before
//! anything is written.
//!
//! * [`identity`]: what makes two connections the same user
//! * [`license`]: how many seats, and the rules
//! * [`rules`]: a database's licenses and exemptions, and what they make of a session
//! * [`session`]: sessions and the seats they hold
//! * [`table`]: the storage
//!
//! **Sessions** are registered one by one, licensed or not; seats are what their database's rules
//! make of them. When rules change, the sessions that are in are judged again and nobody is thrown
//! out.
//!
//! A **tally** counts the seats of one product: in one database, or in all databases of one pool.
//!
//! A **generation** numbers the changes of a database's tables. Rules carry the generation that was
//! noted before they were read, and are current only while it is: a change in between is never lost.

pub mod identity;
pub mod license;
pub mod map;
#[cfg(test)]
mod model;
pub mod rules;
pub mod session;
pub mod table;

use identity::{Identity, Name};
use license::{CountedBy, Enforcement, License, OutOfDates, RowKey, Timestamp};
use rules::{Exemption, Rules};
use session::{Exempt, Seat, SeatKey, Session, Standing};
use table::{Entry, Table, Tables};

/// What the ledger keeps beside its tables.
#[derive(Debug, Default)]
pub struct Head {
    /// The last generation given to a change, of whatever database.
    clock: u64,
    /// The last number given to a session or tally.
    numbers: u64,
    /// Seats that logins may take in all (`pg_seats.max_seats`). The table of seats has room for as
    /// many and one more for each session, so that those already in always find theirs.
    pub max_seats: usize,
    /// When counting began.
    pub counted_since: Timestamp,
    /// Every database of the server has been visited once.
    pub visited: bool,
}

/// What is known of a database's tables.
#[derive(Clone, Copy, Debug)]
pub struct Database {
    /// The database's OID.
    pub oid: u32,
    /// Transactions that are just committing a change.
    changing: u32,
    /// The number of the last change.
    pub generation: u64,
    /// The generation of the rules in force; 0: none were ever read.
    pub loaded: u64,
    /// The generation at which a visitor could not read them.
    unreadable: u64,
    /// Visitors that came to read them.
    pub visitors: u32,
    /// Visitors in a row that could not even connect.
    lost_visitors: u32,
    watched: bool,
    /// The rules in force were read on a standby.
    pub in_recovery: bool,
    exempt_superusers: bool,
    /// When the rules in force were read.
    pub read_at: Timestamp,
    licenses: u32,
    exemptions: u32,
}

impl Database {
    fn is_read(&self, in_recovery: bool) -> bool {
        self.loaded == self.generation && (in_recovery || !self.in_recovery)
    }
}

impl Entry for Database {
    type Key = u32;
    fn key(&self) -> &u32 {
        &self.oid
    }
}

/// The count of one product's seats, in one database or one pool.
#[derive(Clone, Copy, Debug)]
pub struct Tally {
    /// Its own number, never used again.
    pub number: u64,
    /// The database's OID; 0 for a pool.
    database: u32,
    /// The pool's name; empty for one database.
    pool: Name,
    product: Name,
    /// How many licenses count in it.
    licenses: u32,
    /// The rule that makes identities of sessions.
    counted_by: CountedBy,
    /// The second of two rules of which neither always gives more seats.
    rival: Option<CountedBy>,
    /// Seats taken.
    pub in_use: i64,
    /// The most seats that were ever taken.
    pub high_water: i64,
    /// When they were.
    pub high_water_at: Timestamp,
}

impl Entry for Tally {
    type Key = u64;
    fn key(&self) -> &u64 {
        &self.number
    }
}

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

/// The outcome of publishing rules.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Published {
    /// They are in force. `disagreement` names a product whose pool does not agree on `counted_by`.
    InForce {
        /// The product, if there is one.
        disagreement: Option<Name>,
    },
    /// A change came after they were read: read them again.
    Outdated,
    /// A session came that was not judged: judge again.
    Unjudged,
    /// They don't fit into the ledger; the former ones stay in force.
    NoRoom,
}

/// The ledger, while the caller holds its lock.
pub struct Ledger<'a, T: Tables> {
    /// What it keeps beside the tables.
    pub head: &'a mut Head,
    /// A place for each backend that the server can have.
    pub sessions: &'a mut [Session],
    /// What is known of each database's tables.
    pub databases: T::Of<Database>,
    /// The licenses of all databases.
    pub licenses: T::Of<License>,
    /// The exemptions of all databases.
    pub exemptions: T::Of<Exemption>,
    /// The counts.
    pub tallies: T::Of<Tally>,
    /// The seats that are taken.
    pub seats: T::Of<Seat>,
}

impl<T: Tables> Ledger<'_, T> {
    // ---- changes of the tables -------------------------------------------------------------

    /// The database's generation, to be noted before its tables are read. `None` when there is no
    /// room to note one.
    pub fn generation(&mut self, database: u32) -> Option<u64> {
        if let Some(known) = self.databases.get(&database) {
            return Some(known.generation);
        }
        self.head.clock += 1;
        let generation = self.head.clock;
        self.databases.put(Database {
            oid: database,
            changing: 0,
            generation,
            loaded: 0,
            unreadable: 0,
            visitors: 0,
            lost_visitors: 0,
            watched: false,
            in_recovery: false,
            exempt_superusers: true,
            read_at: 0,
            licenses: 0,
            exemptions: 0,
        })?;
        Some(generation)
    }

    /// A transaction that changed the database's tables is about to commit: until it has, its change
    /// may be visible already, so nobody relies on the rules in force.
    pub fn change_begins(&mut self, database: u32) {
        if self.generation(database).is_some()
            && let Some(known) = self.databases.get_mut(&database)
        {
            known.changing += 1;
        }
    }

    /// That transaction has ended.
    pub fn change_ends(&mut self, database: u32) {
        self.head.clock += 1;
        if let Some(known) = self.databases.get_mut(&database) {
            known.changing = known.changing.saturating_sub(1);
            known.generation = self.head.clock;
        }
    }

    /// The database is gone, or its OID was given to another one.
    pub fn forget(&mut self, database: u32) {
        self.remove_rows(database);
        self.databases.remove(&database);
        self.recount_tallies();
        self.drop_unused_tallies();
    }

    /// Every database must be visited again, as after a start: what was read on a standby may be old.
    pub fn revisit_all(&mut self) {
        self.head.visited = false;
        self.databases.each_mut(|known| {
            self.head.clock += 1;
            known.generation = self.head.clock;
        });
    }

    /// True when the rules in force are those of the database's tables, as `now`, in recovery or
    /// not, with this setting of `pg_seats.exempt_superusers`.
    pub fn is_current(&self, database: u32, view: Viewpoint) -> bool {
        self.databases.get(&database).is_some_and(|known| {
            known.loaded == known.generation
                && known.changing == 0
                && known.exempt_superusers == view.exempt_superusers
                && known.in_recovery == view.in_recovery
                && if view.in_recovery {
                    // A standby's tables change unnoticed.
                    view.now.abs_diff(known.read_at) < STANDBY_RULES_LAST
                } else {
                    known.watched
                }
        })
    }

    /// Shows every database that a visitor should read: its last change has not been read, or its
    /// rules were read on a standby, which has been promoted, or where changes arrive unnoticed.
    pub fn each_unread(&self, view: Viewpoint, mut see: impl FnMut(&Database)) {
        self.databases.each(|known| {
            let old = view.now.abs_diff(known.read_at) > STANDBY_POOLS_LAST;
            if !known.is_read(view.in_recovery) || view.in_recovery && known.licenses > 0 && old {
                see(known);
            }
        });
    }

    /// A database other than this one that a visitor is about to read, if there is one.
    pub fn awaited(&self, besides: u32, in_recovery: bool) -> Option<Database> {
        let mut awaited = None;
        self.databases.each(|known| {
            let tried = known.loaded != 0 && known.unreadable == known.generation;
            if known.oid != besides && !known.is_read(in_recovery) && !tried {
                awaited = Some(*known);
            }
        });
        awaited
    }

    /// A visitor has connected to the database, to read its tables.
    pub fn visitor_arrived(&mut self, database: u32) {
        if let Some(known) = self.databases.get_mut(&database) {
            known.visitors += 1;
            known.lost_visitors = 0;
        }
    }

    /// A visitor could not read the database's tables: the rules in force stay for now.
    pub fn visit_failed(&mut self, database: u32) {
        if let Some(known) = self.databases.get_mut(&database) {
            known.unreadable = known.generation;
        }
    }

    /// A visitor could not connect to the database. After several it is taken to be out of order:
    /// where nobody is in, and nobody can come in, it adds nothing to a pool.
    pub fn visitor_lost(&mut self, database: u32) {
        self.visit_failed(database);
        let empty = self
            .sessions
            .iter()
            .all(|s| s.number == 0 || s.database != database);
        if let Some(known) = self.databases.get_mut(&database) {
            known.lost_visitors += 1;
            if known.lost_visitors >= VISITORS_LOST && known.loaded == 0 && empty {
                known.loaded = known.generation;
            }
        }
    }

    // ---- rules -----------------------------------------------------------------------------

    /// How many rows the database's rules have, to make room for a copy of them.
    pub fn rows(&self, database: u32) -> (usize, usize) {
        self.databases.get(&database).map_or((0, 0), |known| {
            (known.licenses as usize, known.exemptions as usize)
        })
    }

    /// Copies the database's rules out, into `rules` with room for its rows. `None` when none were
    /// ever read, or there is not enough room.
    pub fn copy_rules(&self, database: u32, rules: &mut Rules) -> Option<()> {
        let known = self
            .databases
            .get(&database)
            .filter(|known| known.loaded != 0)?;
        if rules.licenses.capacity() < known.licenses as usize
            || rules.exemptions.capacity() < known.exemptions as usize
        {
            return None;
        }
        rules.generation = known.loaded;
        rules.watched = known.watched;
        rules.in_recovery = known.in_recovery;
        rules.exempt_superusers = known.exempt_superusers;
        rules.read_at = known.read_at;
        rules.licenses.clear();
        rules.exemptions.clear();
        for place in 0..known.licenses {
            rules
                .licenses
                .push(*self.licenses.get(&RowKey { database, place })?);
        }
        for place in 0..known.exemptions {
            rules
                .exemptions
                .push(*self.exemptions.get(&RowKey { database, place })?);
        }
        Some(())
    }

    /// Puts the rules that were read in force, and judges the database's sessions by them.
    /// `standings` has a place for each session's, with the number of the session judged.
    pub fn publish(
        &mut self,
        database: u32,
        rules: &mut Rules,
        standings: &[(u64, Standing)],
    ) -> Published {
        let Some(known) = self.databases.get(&database).copied() else {
            return Published::Outdated;
        };
        if known.generation != rules.generation {
            return Published::Outdated;
        }
        let unjudged = |(at, session): (usize, &Session)| {
            session.number != 0
                && session.database == database
                && standings
                    .get(at)
                    .is_none_or(|(number, _)| *number != session.number)
        };
        if self.sessions.iter().enumerate().any(unjudged) {
            return Published::Unjudged;
        }
        let fits = |len: usize, capacity: usize, former: u32, new: usize| {
            len.saturating_sub(former as usize) + new <= capacity
        };
        if !fits(
            self.licenses.len(),
            self.licenses.capacity(),
            known.licenses,
            rules.licenses.len(),
        ) || !fits(
            self.exemptions.len(),
            self.exemptions.capacity(),
            known.exemptions,
            rules.exemptions.len(),
        ) {
            return Published::NoRoom;
        }

        for license in &mut rules.licenses {
            // What was counted stays with the product.
            license.denied = (0..known.licenses)
                .filter_map(|place| self.licenses.get(&RowKey { database, place }))
                .find(|former| former.product == license.product)
                .map_or(0, |former| former.denied);
            license.tally = self.tally_for(database, license);
        }
        self.remove_rows(database);
        for (place, license) in (0..).zip(&rules.licenses) {
            let key = RowKey { database, place };
            self.licenses.put(License { key, ..*license });
        }
        for (place, exemption) in (0..).zip(&rules.exemptions) {
            let key = RowKey { database, place };
            self.exemptions.put(Exemption { key, ..*exemption });
        }
        if let Some(known) = self.databases.get_mut(&database) {
            known.loaded = rules.generation;
            known.watched = rules.watched;
            known.in_recovery = rules.in_recovery;
            known.exempt_superusers = rules.exempt_superusers;
            known.read_at = rules.read_at;
            known.licenses = rules.licenses.len() as u32;
            known.exemptions = rules.exemptions.len() as u32;
        }
        let disagreement = self.recount_tallies();
        for at in 0..self.sessions.len() {
            let Some((_, standing)) = standings.get(at) else {
                continue;
            };
            let tally = self.claimed_tally(database, *standing);
            if let Some(session) = self.sessions.get_mut(at)
                && session.number != 0
                && session.database == database
            {
                session.exempt = standing.exempt;
                session.tally = tally;
            }
        }
        self.reseat_all();
        self.settle_rivals(None);
        self.drop_unused_tallies();
        Published::InForce { disagreement }
    }

    /// The number of the tally that a license counts in, which begins if there is none yet.
    fn tally_for(&mut self, database: u32, license: &License) -> u64 {
        let database = if license.pool.is_empty() { database } else { 0 };
        let mut found = None;
        self.tallies.each(|tally| {
            if tally.database == database
                && tally.pool == license.pool
                && tally.product == license.product
            {
                found = Some(tally.number);
            }
        });
        found.unwrap_or_else(|| {
            self.head.numbers += 1;
            let number = self.head.numbers;
            self.tallies.put(Tally {
                number,
                database,
                pool: license.pool,
                product: license.product,
                licenses: 0,
                counted_by: license.counted_by,
                rival: None,
                in_use: 0,
                high_water: 0,
                high_water_at: self.head.counted_since,
            });
            number
        })
    }

    fn remove_rows(&mut self, database: u32) {
        if let Some(known) = self.databases.get(&database).copied() {
            for place in 0..known.licenses {
                self.licenses.remove(&RowKey { database, place });
            }
            for place in 0..known.exemptions {
                self.exemptions.remove(&RowKey { database, place });
            }
        }
    }

    /// Derives each tally's rule of counting from its licenses: where they disagree, the one that
    /// gives most seats (counting rule 5). Returns a product whose licenses disagree.
    fn recount_tallies(&mut self) -> Option<Name> {
        let Ledger {
            tallies, licenses, ..
        } = self;
        tallies.each_mut(|tally| tally.licenses = 0);
        let mut disagreement = None;
        licenses.each(|license| {
            let Some(tally) = tallies.get_mut(&license.tally) else {
                return;
            };
            let rule = license.counted_by;
            tally.licenses += 1;
            if tally.licenses == 1 {
                tally.counted_by = rule;
                tally.rival = None;
            } else if rule != tally.counted_by && tally.rival != Some(rule) {
                disagreement = Some(tally.product);
                tally.admit_rule(rule);
            }
        });
        disagreement
    }

    fn drop_unused_tallies(&mut self) {
        // One at a time: a table can't change while it shows its entries.
        loop {
            let mut unused = None;
            self.tallies.each(|tally| {
                if tally.licenses == 0 {
                    unused = Some(tally.number);
                }
            });
            let Some(number) = unused else { break };
            self.tallies.remove(&number);
        }
    }

    // ---- seats -----------------------------------------------------------------------------

    /// Answers a login that was judged by the rules of this generation, and registers the session
    /// at its place unless it is denied. Only a session that already has a tally is counted again.
    pub fn admit(&mut self, at: usize, session: Session, judged: Judged) -> Answer {
        let known = self.databases.get(&session.database);
        if known.is_none_or(|known| known.loaded != judged.generation) {
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
            self.settle_rivals(Some(&session));
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
        }
    }

    /// Takes a session out; its seat is free if it was the last to hold it.
    pub fn release(&mut self, at: usize) {
        self.unseat(at);
        if let Some(place) = self.sessions.get_mut(at) {
            *place = Session::FREE;
        }
    }

    fn number(&mut self, session: &mut Session) {
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

    fn claimed_tally(&self, database: u32, standing: Standing) -> u64 {
        standing
            .license
            .and_then(|place| self.licenses.get(&RowKey { database, place }))
            .map_or(0, |license| license.tally)
    }

    /// The seat that a session should hold.
    fn seat_key(&self, session: &Session) -> Option<SeatKey> {
        if session.number == 0 || session.exempt.is_some() {
            return None;
        }
        let tally = self.tallies.get(&session.tally)?;
        Some(SeatKey {
            tally: tally.number,
            identity: Identity::of(tally.counted_by, &session.who, session.number),
        })
    }

    /// Gives every session the seat that it should hold.
    fn reseat_all(&mut self) {
        for at in 0..self.sessions.len() {
            self.reseat(at);
        }
    }

    fn reseat(&mut self, at: usize) {
        let Some(session) = self.sessions.get(at).copied() else {
            return;
        };
        let key = self.seat_key(&session);
        if key == session.seat {
            return;
        }
        self.unseat(at);
        let Some(key) = key else { return };
        if let Some(seat) = self.seats.get_mut(&key) {
            seat.sessions += 1;
            seat.opened_at = seat.opened_at.min(session.since);
        } else {
            self.seats.put(Seat {
                key,
                id: session.seat_id,
                opened_at: session.since,
                sessions: 1,
            });
            if let Some(tally) = self.tallies.get_mut(&key.tally) {
                tally.in_use += 1;
                if tally.in_use > tally.high_water {
                    tally.high_water = tally.in_use;
                    tally.high_water_at = session.since;
                }
            }
        }
        if let Some(session) = self.sessions.get_mut(at) {
            session.seat = Some(key);
        }
    }

    fn unseat(&mut self, at: usize) {
        let Some(key) = self
            .sessions
            .get_mut(at)
            .and_then(|session| session.seat.take())
        else {
            return;
        };
        let Some(seat) = self.seats.get_mut(&key) else {
            return;
        };
        seat.sessions -= 1;
        if seat.sessions == 0 {
            self.seats.remove(&key);
            if let Some(tally) = self.tallies.get_mut(&key.tally) {
                tally.in_use -= 1;
            }
        }
    }

    /// Where two rules of counting rival and neither always gives more seats, the one that gives
    /// more to those who are in, and to a newcomer, rules. Rare: it costs a pass over all sessions.
    fn settle_rivals(&mut self, newcomer: Option<&Session>) {
        let mut after = 0;
        while let Some(number) = self.next_rivalry(after, newcomer) {
            after = number;
            let given = self.seats_given(number, newcomer);
            self.swap_rival(number);
            if self.seats_given(number, newcomer) <= given {
                self.swap_rival(number);
            }
        }
    }

    fn next_rivalry(&self, after: u64, newcomer: Option<&Session>) -> Option<u64> {
        if let Some(newcomer) = newcomer {
            let tally = self.tallies.get(&newcomer.tally)?;
            return (tally.rival.is_some() && after == 0).then_some(tally.number);
        }
        let mut next: Option<u64> = None;
        self.tallies.each(|tally| {
            if tally.rival.is_some()
                && tally.number > after
                && next.is_none_or(|next| tally.number < next)
            {
                next = Some(tally.number);
            }
        });
        next
    }

    fn seats_given(&self, tally: u64, newcomer: Option<&Session>) -> i64 {
        let new = newcomer
            .and_then(|session| self.seat_key(session))
            .is_some_and(|key| self.seats.get(&key).is_none());
        self.tallies.get(&tally).map_or(0, |tally| tally.in_use) + i64::from(new)
    }

    fn swap_rival(&mut self, tally: u64) {
        if let Some(tally) = self.tallies.get_mut(&tally)
            && let Some(rival) = tally.rival
        {
            tally.rival = Some(tally.counted_by);
            tally.counted_by = rival;
        }
        self.reseat_all();
    }
}

impl Tally {
    /// Takes one more license's rule into account. A rule rules over those that never give more
    /// seats than it; 'host' and the rules by user can't be ranked.
    fn admit_rule(&mut self, rule: CountedBy) {
        use CountedBy::{Host, Session, UserHost};
        let rules = [Some(self.counted_by), self.rival, Some(rule)];
        let finest = rules.into_iter().flatten().min().unwrap_or(rule);
        if matches!(finest, Session | UserHost) {
            self.counted_by = finest;
            self.rival = None;
            return;
        }
        let by_user = rules
            .into_iter()
            .flatten()
            .filter(|&rule| rule != Host)
            .min();
        let by_host = rules.into_iter().flatten().find(|&rule| rule == Host);
        self.counted_by = by_user.or(by_host).unwrap_or(rule);
        self.rival = by_user.and(by_host);
    }
}

/// How a session was judged.
#[derive(Clone, Copy, Debug)]
pub struct Judged {
    /// The generation of the rules that judged it.
    pub generation: u64,
    /// What they made of it.
    pub standing: Standing,
    /// The server's own `pg_seats.enforcement`, which can only soften the license's.
    pub enforcement: Enforcement,
    /// The moment of the login.
    pub now: Timestamp,
}

/// From where the rules in force are looked at.
#[derive(Clone, Copy, Debug)]
pub struct Viewpoint {
    /// The present moment.
    pub now: Timestamp,
    /// The server is a standby.
    pub in_recovery: bool,
    /// The present setting of `pg_seats.exempt_superusers`.
    pub exempt_superusers: bool,
}

/// How long rules that were read on a standby are relied on, in microseconds.
const STANDBY_RULES_LAST: u64 = 1_000_000;

/// How long what other databases add to a pool is relied on there.
const STANDBY_POOLS_LAST: u64 = 10_000_000;

/// So many visitors in a row that can't connect mean that a database is out of order.
const VISITORS_LOST: u32 = 3;

impl Exempt {
    /// The reason as `license_exempt_sessions` shows it.
    pub fn reason(self) -> &'static str {
        match self {
            Exempt::Superuser => "superuser",
            Exempt::Replication => "replication",
            Exempt::Role => "exempt role",
            Exempt::Host => "exempt host",
        }
    }
}
