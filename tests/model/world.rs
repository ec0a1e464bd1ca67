//! The ledger and the naive model side by side: each step is done to both, and then everything that
//! people can see must be the same, and the promises must hold.

use std::collections::{BTreeMap, BTreeSet};

use super::history::Wish;
use super::history::{History, Step};
use super::naive::{
    Claim, Company, Groups, Holder, InForce, Minutes, Naive, Person, Row, Seat, Sharing, TallyName,
    User, Verdict, Wait, is_in, is_in_group, tally_name, timestamp,
};
use super::server::{
    MINUTE, Rows, Server, exempt_hosts, exempt_role, id, lease, license, name, of_database,
    reservation, session, want, with_application, with_workstation,
};
use crate::core::ledger::Ledger;
use crate::core::ledger::acts::admission::Answer;
use crate::core::ledger::acts::checkout::{Claimed, NewLease, Receipt, SeatRequest};
use crate::core::ledger::acts::publish::Published;
use crate::core::ledger::denial::{Cause, Denial, Remark};
use crate::core::ledger::hold::{Hold, HoldKey};
use crate::core::ledger::identity::{Label, Name, Text};
use crate::core::ledger::license::{License, OutOfDates, Signed};
use crate::core::ledger::map::{Capacity, MapLedger, Maps};
use crate::core::ledger::numbers::{DatabaseOid, SeatNumber, SessionNumber, Slot, TallyId, Ticket};
use crate::core::ledger::reservation::Reservation;
use crate::core::ledger::roles::ReservedRoles;
use crate::core::ledger::rules::Hosts;
use crate::core::ledger::seat::{Kind, SeatKey};
use crate::core::ledger::session::{LENT_MAX, Session};
use crate::core::ledger::table::Table;
use crate::core::ledger::taker::TakerKey;
use crate::core::ledger::visit::Unsettled;
use crate::core::ledger::words::{ClaimedAt, CountedBy, Enforcement};

pub const PLACES: usize = 14;

pub const PRODUCTS: [&str; 3] = ["Books", "Crm", "Pay"];

/// Users of applications; the last two have names that no label has room for, and differ at the end.
pub const USERS: [&str; 5] = [
    "",
    "",
    "ann",
    "a name of more than sixty-three bytes, which are as many as a name in PostgreSQL has, 1",
    "a name of more than sixty-three bytes, which are as many as a name in PostgreSQL has, 2",
];

pub struct World {
    pub server: Server,
    naive: Naive,
    tables: BTreeMap<u32, Company>,
    /// Databases with a change that has not been read.
    unread: BTreeSet<u32>,
    minute: Minutes,
    high_water: BTreeMap<TallyName, usize>,
    denied: BTreeMap<(u32, &'static str), u64>,
    /// What was seen of each session's seat: the session's number, its seat and the seat's id.
    seen: BTreeMap<SessionNumber, (SeatKey, SeatNumber)>,
    /// The rows of leases: claim and time to live, committed.
    leases: BTreeMap<u8, Claim>,
    /// The number of the last lease.
    last_lease: u8,
    /// Databases whose leases were read since the start.
    leases_read: BTreeSet<u32>,
    /// Places of those who were woken and have not looked yet.
    awake: BTreeSet<usize>,
}

impl World {
    pub fn new(history: &History) -> World {
        let mut world = World {
            server: Server::new(room(history.max_seats)),
            naive: Naive {
                max_seats: history.max_seats,
                ..Naive::default()
            },
            tables: BTreeMap::new(),
            unread: BTreeSet::new(),
            minute: 0,
            high_water: BTreeMap::new(),
            denied: BTreeMap::new(),
            seen: BTreeMap::new(),
            leases: BTreeMap::new(),
            last_lease: 0,
            leases_read: BTreeSet::new(),
            awake: BTreeSet::new(),
        };
        world.server.now = timestamp(0);
        for (database, company) in (1..).zip(&history.first) {
            world.commit(database, company);
        }
        world
    }

    pub fn step(&mut self, step: &Step) {
        match step {
            Step::Login(person) => {
                if self.naive.people.len() < PLACES {
                    self.log_in(person);
                }
            }
            Step::BlindLogin(person) => {
                if self.naive.people.len() < PLACES {
                    let place = self.server.log_in_blindly(session_of(person)).0;
                    self.naive.people.insert(place, person.clone());
                    self.naive.came.push(place);
                    self.naive.groups.insert(place, 0);
                    self.naive.unjudged.insert(place);
                    self.serve();
                }
            }
            Step::Logout(index) => {
                if !self.naive.people.is_empty() {
                    let at = index.index(self.naive.people.len());
                    let place = *self.naive.people.keys().nth(at).unwrap();
                    self.log_out(place);
                }
            }
            Step::Change(database, company) => {
                self.commit(*database, company);
            }
            Step::ChangeReadTooSoon(database, company) => {
                self.server
                    .ledger
                    .with(|l| l.change_begins(DatabaseOid(*database), Unsettled::Pools));
                self.load(*database);
                assert!(!self.server.is_current(*database));
                self.check();
                self.server
                    .ledger
                    .with(|l| l.change_ends(DatabaseOid(*database), Unsettled::Pools));
                self.commit(*database, company);
            }
            Step::Rollback(database) => self.server.change(*database, |_| ()),
            Step::Read(database) => self.load(*database),
            Step::Drop(database) => {
                self.leases.retain(|_, claim| claim.database != *database);
                let people = self.naive.people.clone();
                for (place, _) in people.iter().filter(|(_, p)| p.database == *database) {
                    self.log_out(*place);
                }
                self.check();
                self.tables.remove(database);
                self.server.tables.remove(database);
                let now = self.server.now;
                self.server
                    .ledger
                    .with(|l| l.forget(DatabaseOid(*database), now));
                self.naive.in_force.remove(database);
                self.naive
                    .holds
                    .retain(|hold| hold.claim.database != *database);
                self.leases_read.remove(database);
                self.naive.seats = self.observed();
                self.serve();
                self.denied.retain(|(d, _), _| d != database);
            }
            Step::Crash => {
                self.server.ledger = MapLedger::new(room(self.naive.max_seats));
                self.naive = Naive {
                    max_seats: self.naive.max_seats,
                    granted: std::mem::take(&mut self.naive.granted),
                    ..Naive::default()
                };
                self.denied.clear();
                self.high_water.clear();
                self.seen.clear();
                self.leases_read.clear();
                self.awake.clear();
                // As database workers do.
                for database in 1..=3 {
                    self.load(database);
                }
            }
            Step::ExemptSuperusers(exempt) => self.server.exempt_superusers = *exempt,
            Step::Enforcement(word) => {
                self.server.enforcement = Enforcement::from_word(word).unwrap();
            }
            Step::Grant(role, group, is_member) => {
                for granted in [&mut self.server.catalog.granted, &mut self.naive.granted] {
                    granted.remove(&(*role, *group));
                    if *is_member {
                        granted.insert((*role, group));
                    }
                }
            }
            Step::TimePasses(minutes) => {
                self.minute += minutes;
                self.server.now = timestamp(self.minute);
            }
            call => self.call(call),
        }
        if let Step::Rollback(database) = step {
            self.unread.insert(*database);
        }
        self.check();
        self.look();
        self.check_use();
    }

    /// Does what applications do.
    fn call(&mut self, step: &Step) {
        let nth = |len: usize, index: &proptest::sample::Index| (len > 0).then(|| index.index(len));
        // Who wait in the queue does nothing else.
        let in_queue: BTreeSet<usize> = self.naive.queue.iter().map(|w| w.claim.place).collect();
        let people: Vec<usize> = self.naive.people.keys().copied().collect();
        let free: Vec<usize> = people
            .into_iter()
            .filter(|p| !in_queue.contains(p))
            .collect();
        let person = |index| Some(free[nth(free.len(), index)?]);
        let waits = |index| Some(self.naive.queue[nth(self.naive.queue.len(), index)?].clone());
        let lease = |index, pending: Option<bool>| {
            let leases = self.naive.holds.iter().filter(|hold| {
                hold.claim.lease.is_some() && pending.is_none_or(|pending| hold.pending == pending)
            });
            // A lease that was not collected yet is known to nobody.
            let leases: Vec<_> = leases
                .filter(|hold| !in_queue.contains(&hold.claim.place) || !hold.pending)
                .collect();
            Some(leases[nth(leases.len(), index)?].clone())
        };
        match step {
            Step::Claim(index, wish) => {
                if let Some(place) = person(index) {
                    self.wish(place, wish);
                }
            }
            Step::CheckIn(index, product, client_user) => {
                if let Some(place) = person(index) {
                    self.check_in(place, product, client_user);
                }
            }
            Step::Discard(index) => {
                if let Some(place) = person(index) {
                    while self.server.check_in_some(Slot(place)) {
                        self.forget_checkouts(place);
                    }
                    self.forget_checkouts(place);
                    assert!(self.naive.checkouts_of(place).is_empty());
                }
            }
            Step::Collect(index) => {
                if let Some(wait) = waits(index) {
                    self.collect(&wait);
                }
            }
            Step::GiveUp(index) => {
                if let Some(wait) = waits(index) {
                    self.give_up(&wait);
                }
            }
            Step::EndTransaction(index, commits) => {
                if let Some(hold) = lease(index, Some(true)) {
                    self.end_transaction(&hold.claim, *commits);
                }
            }
            Step::Heartbeat(index, of) => {
                if let (Some(place), Some(hold)) = (person(index), lease(of, None)) {
                    self.heartbeat(place, hold.claim.lease.unwrap().0);
                }
            }
            Step::EndLent(index) => {
                if let Some(place) = person(index) {
                    self.server.ledger.with(|l| l.take_back_lent(Slot(place)));
                    self.naive.lent.retain(|(at, _)| *at != place);
                }
            }
            Step::ReleaseLease(index) => {
                if let Some(hold) = lease(index, Some(false)) {
                    self.drop_lease(hold.claim.lease.unwrap().0);
                }
            }
            Step::EndDueLeases => self.end_due_leases(),
            Step::Bury(database) => {
                let buried = self.server.bury(*database).len();
                let before = self.naive.holds.len();
                self.naive
                    .holds
                    .retain(|hold| !hold.ended || hold.pending || hold.claim.database != *database);
                assert_eq!(before - self.naive.holds.len(), buried);
                self.leases.retain(|number, _| {
                    self.server
                        .tables
                        .values()
                        .any(|rows| rows.leases.iter().any(|lease| lease.id == id(*number)))
                });
            }
            other => panic!("{other:?}"),
        }
    }

    fn wish(&mut self, place: usize, wish: &Wish) {
        let Person { database, user, .. } = self.naive.people[&place];
        let client_user = wish.client_user;
        let (lease, user) = match wish.lease {
            None => (
                None,
                User {
                    client_user,
                    ..user
                },
            ),
            Some((host, ttl)) => {
                self.last_lease += 1;
                let user = User {
                    host,
                    workstation: "",
                    client_user,
                    ..user
                };
                (Some((self.last_lease, ttl)), user)
            }
        };
        let claim = Claim {
            place,
            database,
            product: wish.product,
            user,
            lease,
            tally: (database, "", wish.product),
            groups: 0,
        };
        self.claim(claim, wish.patient);
    }

    /// Loads the rules of a database unless they are current.
    fn end_due_leases(&mut self) {
        let mut ended = self.server.end_due_leases();
        ended.sort();
        let mut due = vec![];
        for hold in &mut self.naive.holds {
            if let Some((number, _)) = hold.claim.lease
                && !hold.ended
                && !hold.unseen
                && hold.expires <= self.minute
            {
                hold.ended = true;
                due.push(id(number));
            }
        }
        due.sort();
        assert_eq!(ended, due);
        self.serve();
    }

    fn load_if_need_be(&mut self, database: u32) {
        let force = self.naive.in_force.get(&database);
        let current = force.is_some_and(|f| f.exempt_superusers == self.server.exempt_superusers)
            && !self.unread.contains(&database);
        assert_eq!(self.server.is_current(database), current);
        if !current {
            self.load(database);
            self.check();
        }
    }

    fn claim(&mut self, claim: Claim, patient: bool) {
        let Claim {
            place, database, ..
        } = claim;
        self.load_if_need_be(database);
        if self.naive.unjudged.contains(&place) {
            // Rules that were in force already: others will judge it.
            return;
        }
        let Some(row) = self.naive.row(database, claim.product).cloned() else {
            return;
        };
        let claim = Claim {
            tally: tally_name(database, &row),
            groups: self.naive.groups[&place],
            ..claim
        };
        let tally = self.numbers()[&claim.tally];
        self.naive.tidy();
        let has = |hold: &super::naive::Hold| hold.claim.holder() == claim.holder();
        if !self.naive.holds.iter().any(has) && self.naive.is_claim_beyond(&claim) {
            self.naive.beyond.insert(claim.holder());
        }
        let seeker = self.naive.counted(&claim);
        let verdict = self.naive.verdict(&row, seeker.as_ref(), self.minute);
        let former = self
            .naive
            .holds
            .iter()
            .position(|hold| claim.lease.is_none() && hold.claim.holder() == claim.holder());
        let has_room = self.naive.has_room();
        let lacks_room = seeker.is_some() && former.is_none() && !has_room;
        let spared = self.naive.people[&place].superuser() && claim.lease.is_none();
        let own = Enforcement::from_word(row.enforcement).unwrap();
        let enforcement = own.max(self.server.enforcement);
        let roles = self.server.ledger.head.reserved_roles;
        let verdict = if is_in(&verdict) && lacks_room {
            Verdict::TableFull
        } else {
            verdict
        };
        let waits = patient && !spared && enforcement == Enforcement::On && has_room;
        let expected = if waits && verdict.lasts_until_somebody_leaves() {
            Expected::Waits
        } else {
            match answer(&verdict, Some(&row), tally, &roles, enforcement, spared) {
                // A lease that the ledger does not know could never end.
                Answer::Admitted(_) if lacks_room && claim.lease.is_some() => {
                    let denial = denial(&Verdict::TableFull, row.product, tally, &roles);
                    Expected::Denied(denial.unwrap())
                }
                Answer::Admitted(remark) => Expected::Held(remark),
                Answer::Denied(denial) => Expected::Denied(denial),
                other => panic!("{other:?}"),
            }
        };

        let claimed = self
            .server
            .claim(Slot(place), claim.product, want_of(&claim), patient);
        let got = match claimed {
            Claimed::Held(receipt) => Expected::Held(receipt.remark),
            Claimed::Waits(_) => Expected::Waits,
            Claimed::Denied(denial) => Expected::Denied(denial),
            Claimed::MayReclaim(_) => panic!("no license of these histories says so"),
            Claimed::TimesUp => {
                self.end_due_leases();
                return self.claim(claim, patient);
            }
            Claimed::Outdated => panic!("outdated"),
        };
        assert_eq!(got, expected, "{claim:?}");
        let complained = match got {
            Expected::Held(remark) => matches!(remark, Remark::WouldBeDenied(_)),
            Expected::Denied(_) => enforcement != Enforcement::Off,
            Expected::Waits => false,
        };
        if complained {
            *self.denied.entry((database, row.product)).or_default() += 1;
        }
        match claimed {
            Claimed::Held(receipt) => {
                match former {
                    Some(former) => self.naive.holds[former].times += 1,
                    None if has_room => self.naive.hold(claim, self.minute),
                    None => {}
                }
                self.serve();
                self.check_receipt(&claim, receipt);
            }
            Claimed::Waits(ticket) => {
                self.naive.queue.push(Wait {
                    claim,
                    ticket,
                    called: None,
                });
            }
            _ => {}
        }
        self.check();
    }

    fn check_receipt(&mut self, claim: &Claim, receipt: Receipt) {
        let naive = &self.naive;
        let mut holds = naive.holds.iter();
        let hold = holds.find(|hold| hold.claim.holder() == claim.holder());
        let seated = hold.is_some() && naive.counted(claim).is_some();
        assert_eq!(receipt.seat.is_some(), seated, "{claim:?}");
        assert_eq!(
            receipt.in_use,
            naive.in_use(claim.tally) as i64,
            "{claim:?}"
        );
        let expires = hold.filter(|hold| hold.claim.lease.is_some());
        assert_eq!(
            receipt.expires_at,
            expires.map_or(0, |hold| timestamp(hold.expires))
        );
    }

    /// Forgets some of a session's checkouts, and gives free seats to those in the queue.
    fn forget_checkouts(&mut self, place: usize) {
        for claim in self.naive.checkouts_of(place) {
            let user = Label::of(claim.user.client_user);
            let is_held = self.server.ledger.with(|l| {
                let is_it = |hold: &Hold| {
                    let product = l.tallies.get(&hold.tally).unwrap().product;
                    hold.who.client_user == user && product == name(claim.product)
                };
                let session = &l.sessions[place];
                l.checkouts(session).any(is_it)
            });
            if !is_held {
                let holder = claim.holder();
                self.naive
                    .holds
                    .retain(|hold| hold.claim.holder() != holder);
            }
        }
        self.serve();
    }

    fn check_in(&mut self, place: usize, product: &'static str, client_user: &'static str) {
        let holder = Holder::Checkout(place, product, client_user);
        let at = self
            .naive
            .holds
            .iter()
            .position(|hold| hold.claim.holder() == holder);
        assert_eq!(
            self.server.check_in(Slot(place), product, client_user),
            at.is_some()
        );
        if let Some(at) = at {
            let hold = &mut self.naive.holds[at];
            hold.times -= 1;
            if hold.times == 0 {
                self.naive.holds.remove(at);
            }
        }
        self.serve();
    }

    fn collect(&mut self, wait: &Wait) {
        let receipt = self.server.collect(wait.ticket);
        assert_eq!(receipt.is_some(), wait.called.is_some());
        if let (Some(receipt), Some(verdict)) = (receipt, &wait.called) {
            self.awake.remove(&wait.claim.place);
            self.naive.queue.retain(|w| w.ticket != wait.ticket);
            let claim = wait.claim;
            let overdraft = matches!(receipt.remark, Remark::Overdraft(_));
            assert_eq!(overdraft, matches!(verdict, Verdict::Overdraft { .. }));
            let holder = claim.holder();
            let mut holds = self.naive.holds.iter_mut();
            let hold = holds.find(|h| h.claim.holder() == holder).unwrap();
            hold.unseen = false;
            hold.expires = self.minute + claim.lease.map_or(0, |(_, ttl)| ttl);
            let tally = hold.claim.tally;
            self.check_receipt(&Claim { tally, ..claim }, receipt);
        }
    }

    fn give_up(&mut self, wait: &Wait) {
        self.server.leave(wait.ticket);
        self.awake.remove(&wait.claim.place);
        self.naive.step_out(wait.claim.place);
        self.serve();
        self.check();
    }

    fn end_transaction(&mut self, claim: &Claim, commits: bool) {
        let (number, _) = claim.lease.unwrap();
        if commits {
            self.server.commit_lease(id(number));
            self.leases.insert(number, *claim);
            let mut holds = self.naive.holds.iter_mut();
            let hold = holds.find(|hold| hold.claim.holder() == claim.holder());
            hold.unwrap().pending = false;
        } else {
            self.drop_lease(number);
        }
    }

    fn drop_lease(&mut self, number: u8) {
        self.server.drop_lease(id(number));
        self.leases.remove(&number);
        self.naive
            .holds
            .retain(|hold| hold.claim.holder() != Holder::Lease(number));
        self.serve();
    }

    fn heartbeat(&mut self, place: usize, number: u8) {
        let database = self.naive.people[&place].database;
        let mut holds = self.naive.holds.iter_mut();
        let hold = holds
            .find(|hold| hold.claim.holder() == Holder::Lease(number))
            .unwrap();
        let theirs = (!hold.pending || hold.claim.place == place) && hold.expires > self.minute;
        let is_there = hold.claim.database == database && !hold.ended && theirs;
        let lent = self
            .naive
            .lent
            .iter()
            .filter(|(at, _)| *at == place)
            .count();
        let answer = self.server.heartbeat(Slot(place), id(number));
        if !is_there {
            assert_eq!(answer, None);
        } else {
            hold.expires = self.minute + hold.claim.lease.unwrap().1;
            assert_eq!(answer, Some(timestamp(hold.expires)));
            if lent < LENT_MAX {
                self.naive.lent.insert((place, number));
            }
        }
    }

    /// Asks anew for those in the queue who can't be called.
    fn look(&mut self) {
        while let Some(wait) = self
            .naive
            .queue
            .iter()
            .find(|wait| wait.called.is_none() && self.naive.waits_in_vain(wait, self.minute))
        {
            let wait = wait.clone();
            self.give_up(&wait);
            self.claim(wait.claim, true);
        }
    }

    /// Makes the naive model serve the queue, too, after the ledger has.
    fn serve(&mut self) {
        let woken = self.server.woken();
        self.awake.extend(woken.into_iter().map(|slot| slot.0));
        let called: BTreeSet<Ticket> = self.server.ledger.with(|l| {
            let mut called = BTreeSet::new();
            l.waits.each(|wait| {
                if wait.called {
                    called.insert(wait.ticket);
                }
            });
            called
        });
        self.naive.serve(self.minute);
        for wait in &self.naive.queue {
            assert_eq!(
                wait.called.is_some(),
                called.contains(&wait.ticket),
                "called: {wait:?}"
            );
            let awake = self.awake.contains(&wait.claim.place);
            assert!(wait.called.is_none() || awake, "asleep: {wait:?}");
        }
    }

    pub fn everybody_leaves(&mut self) {
        for place in 0..PLACES {
            self.log_out(place);
            self.check();
        }
        self.server.now += 1_000 * MINUTE;
        self.server.end_due_leases();
        for database in 1..=3 {
            self.server.bury(database);
        }
        self.server.assert_empty();
    }

    fn commit(&mut self, database: u32, company: &Company) {
        self.tables.insert(database, company.clone());
        self.server.change(database, |rows| {
            let leases = std::mem::take(&mut rows.leases);
            *rows = Rows {
                leases,
                ..rows_of(company)
            }
        });
        let woken = self.server.woken();
        self.awake.extend(woken.into_iter().map(|slot| slot.0));
        self.unread.insert(database);
    }

    /// Reads a database's tables and puts them in force.
    fn load(&mut self, database: u32) {
        // What counted in the others is forgotten.
        let needed = self.needed();
        self.high_water.retain(|tally, _| needed.contains(tally));
        // Rules that are in force judge nobody anew, unless somebody came unjudged.
        let are_new = !self.server.is_current(database) || self.naive.has_unjudged(database);
        self.order_checkouts();
        let published = self.server.load(database);
        self.unread.remove(&database);
        let company = self.tables.get(&database).cloned().unwrap_or_default();
        let former = self.naive.in_force.insert(
            database,
            InForce {
                company: company.clone(),
                exempt_superusers: self.server.exempt_superusers,
            },
        );
        let has = |company: &Company, product| company.rows.iter().any(|r| r.product == product);
        self.denied.retain(|(d, product), _| {
            *d != database
                || has(&company, *product)
                    && former.as_ref().is_some_and(|f| has(&f.company, *product))
        });
        let people = &self.naive.people;
        self.naive
            .unjudged
            .retain(|place| people[place].database != database);
        let disagreeing: Vec<_> = self
            .naive
            .tallies()
            .into_iter()
            .filter(|(tally, rules)| {
                let counts_in = |row| tally_name(database, row) == *tally;
                rules.len() > 1 && company.rows.iter().any(counts_in)
            })
            .map(|((_, _, product), _)| name(product))
            .collect();
        match published {
            Published::InForce { disagreement } => {
                assert_eq!(disagreement.is_some(), !disagreeing.is_empty());
                assert!(disagreement.is_none_or(|product| disagreeing.contains(&product)));
            }
            other => panic!("{other:?}"),
        }
        if self.leases_read.insert(database) {
            let leases = self.leases.values().filter(|l| l.database == database);
            for claim in leases.copied().collect::<Vec<_>>() {
                let tally = (database, "", claim.product);
                self.naive.hold(Claim { tally, ..claim }, self.minute);
                self.naive.holds.last_mut().unwrap().pending = false;
            }
        }
        let holds = self.naive.holds.iter_mut().map(|hold| &mut hold.claim);
        let waits = self.naive.queue.iter_mut().filter(|w| w.called.is_none());
        for claim in holds.chain(waits.map(|wait| &mut wait.claim)) {
            let row = company.rows.iter().find(|r| r.product == claim.product);
            if let Some(row) = row.filter(|_| claim.database == database) {
                claim.tally = tally_name(database, row);
            }
        }
        self.naive.tidy();
        if are_new {
            self.naive.judge_exempt(database);
        }
        self.naive.regroup();
        self.naive.seats = self.observed();
        self.serve();
        for wait in &self.naive.queue {
            let looks = wait.called.is_some() || !self.naive.waits_in_vain(wait, self.minute);
            assert!(
                looks || self.awake.contains(&wait.claim.place),
                "asleep: {wait:?}"
            );
        }
    }

    /// Sorts a session's checkouts as the ledger has them: they are in no order but its.
    fn order_checkouts(&mut self) {
        let place_of = |l: &Ledger<'_, Maps>, claim: &Claim| {
            let label = Label::of(claim.user.client_user);
            let product = |tally| l.tallies.get(&tally).unwrap().product;
            l.checkouts(&l.sessions[claim.place]).position(|hold| {
                hold.who.client_user == label && product(hold.tally) == name(claim.product)
            })
        };
        let mut holds = std::mem::take(&mut self.naive.holds);
        self.server.ledger.with(|l| {
            holds.sort_by_key(|hold| match hold.claim.lease {
                None => (hold.claim.place, place_of(l, &hold.claim)),
                Some(_) => (usize::MAX, None),
            });
        });
        self.naive.holds = holds;
    }

    fn log_in(&mut self, person: &Person) {
        self.load_if_need_be(person.database);
        self.naive.tidy();
        let row = self.naive.claimed(person).cloned();
        let is_beyond = self.naive.is_login_beyond(usize::MAX, person);
        if is_beyond {
            self.naive.beyond.insert(Holder::Login(usize::MAX));
        }
        let login = self.naive.login(usize::MAX, person);
        let verdict = match &row {
            Some(row) => self.naive.verdict(row, login.as_ref(), self.minute),
            None => Verdict::In,
        };
        let tally = row.as_ref().map(|row| tally_name(person.database, row));
        let before = tally.map_or(0, |tally| self.naive.in_use(tally));
        let number = tally.map_or(TallyId::NONE, |tally| self.numbers()[&tally]);
        let enforcement = row.as_ref().map_or(Enforcement::Off, |row| {
            let own = Enforcement::from_word(row.enforcement).unwrap();
            own.max(self.server.enforcement)
        });
        let roles = self.server.ledger.head.reserved_roles;
        let expected = answer(
            &verdict,
            row.as_ref(),
            number,
            &roles,
            enforcement,
            person.superuser(),
        );

        let (Slot(place), answer) = self.server.log_in(session_of(person));
        if answer == Answer::TimesUp {
            self.end_due_leases();
            return self.log_in(person);
        }
        assert_eq!(answer, expected, "{person:?}");
        let would_be_denied = matches!(answer, Answer::Admitted(Remark::WouldBeDenied(_)));
        if would_be_denied || matches!(answer, Answer::Denied(_)) {
            let row = row.as_ref().unwrap();
            *self
                .denied
                .entry((person.database, row.product))
                .or_default() += 1;
        }
        if let Answer::Admitted(_) = answer {
            if is_beyond {
                self.naive.beyond.insert(Holder::Login(place));
            }
            self.naive.came.push(place);
            self.naive.people.insert(place, person.clone());
            let groups = self.naive.groups_of(person.user.role);
            self.naive.groups.insert(place, groups);
        }
        // Whoever takes a kept seat may make room for others in the queue, by the rows of their databases.
        let after = tally.map_or(0, |tally| self.naive.in_use(tally));
        if let Answer::Admitted(_) = answer {
            self.serve();
        }
        // Promises 1 and 2, once more in their own words.
        if let (Some(row), Some(_)) = (row, tally)
            && enforcement == Enforcement::On
            && !person.superuser()
            && let Some(seats) = row.seats
        {
            let limit = (seats + row.overdraft) as usize;
            match answer {
                Answer::Admitted(_) => assert!(after <= before.max(limit), "over-admitted"),
                Answer::Denied(Denial {
                    cause: Cause::Full { kept, .. },
                    ..
                }) => {
                    let kept = kept as usize;
                    assert!(before + kept >= limit, "denied while a seat is free");
                }
                _ => {}
            }
        }
    }

    pub fn log_out(&mut self, place: usize) {
        // Its transaction ends first.
        let collected = |claim: &Claim| {
            let mut queue = self.naive.queue.iter();
            claim.place == place && queue.all(|w| w.claim.holder() != claim.holder())
        };
        let pending: Vec<Claim> = self
            .naive
            .holds
            .iter()
            .filter(|hold| hold.pending && collected(&hold.claim))
            .map(|hold| hold.claim)
            .collect();
        for claim in pending {
            self.end_transaction(&claim, false);
            // Somebody in the queue may have taken a seat by it, the one who leaves among them.
            self.check();
        }
        self.naive.step_out(place);
        while !self.server.log_out_some(Slot(place)) {
            self.forget_checkouts(place);
            self.check();
        }
        self.naive
            .holds
            .retain(|hold| hold.claim.lease.is_some() || hold.claim.place != place);
        self.naive.lent.retain(|(at, _)| *at != place);
        self.naive.people.remove(&place);
        self.naive.groups.remove(&place);
        self.naive.unjudged.remove(&place);
        self.awake.remove(&place);
        self.serve();
    }

    /// Returns the tallies that something counts in, or would if its product were still licensed.
    fn needed(&self) -> BTreeSet<TallyName> {
        let mut needed: BTreeSet<TallyName> = self.naive.tallies().into_keys().collect();
        needed.extend(self.naive.holds.iter().map(|hold| hold.claim.tally));
        let waits = self.naive.queue.iter().filter(|w| w.called.is_none());
        needed.extend(waits.map(|wait| wait.claim.tally));
        needed
    }

    /// Returns the numbers of the ledger's tallies.
    fn numbers(&mut self) -> BTreeMap<TallyName, TallyId> {
        let needed = self.needed();
        let names = PRODUCTS.iter().flat_map(|product| {
            let own = (1..=3).map(|database| (database, "", *product));
            own.chain([(0, "group", *product)])
        });
        let names: Vec<TallyName> = names.collect();
        self.server.ledger.with(|l| {
            let mut numbers = BTreeMap::new();
            l.tallies.each(|t| {
                let is = |n: &&TallyName| {
                    (t.database.0, t.pool, t.product) == (n.0, name(n.1), name(n.2))
                };
                let known = names.iter().find(is);
                let former = numbers.insert(*known.expect("a known product"), t.number);
                assert_eq!(former, None, "two tallies of one product");
            });
            for name in needed {
                assert!(numbers.contains_key(&name), "{name:?} has no tally");
            }
            numbers
        })
    }

    pub fn check(&mut self) {
        let numbers = self.numbers();
        self.high_water
            .retain(|tally, _| numbers.contains_key(tally));
        let (naive, high_water) = (&self.naive, &mut self.high_water);
        let unlooked = |tally: &TallyName| {
            let waits = naive.queue.iter().filter(|w| w.called.is_none());
            waits.filter(|w| w.claim.tally == *tally).count() as u32
        };
        self.server.ledger.with(|l| {
            // Whose each hold is.
            let mut holders: BTreeMap<String, (Holder, Hold)> = BTreeMap::new();
            for hold in &naive.holds {
                let key = match hold.claim.lease {
                    Some((number, _)) => Some(HoldKey::lease(id(number))),
                    None => {
                        let session = &l.sessions[hold.claim.place];
                        let label = Label::of(hold.claim.user.client_user);
                        let product = |tally| l.tallies.get(&tally).unwrap().product;
                        l.checkouts(session)
                            .find(|found| {
                                found.who.client_user == label
                                    && product(found.tally) == name(hold.claim.product)
                            })
                            .map(|found| found.key)
                    }
                };
                let found = *l.holds.get(&key.expect("a hold")).expect("a hold");
                assert_eq!(found.times, hold.times, "{hold:?}");
                assert_eq!(found.ended, hold.ended, "{hold:?}");
                assert_eq!(found.pending, hold.pending, "{hold:?}");
                assert_eq!(found.tally, numbers[&hold.claim.tally], "{hold:?}");
                let seated = !hold.ended && naive.counted(&hold.claim).is_some();
                assert_eq!(found.seat().is_some(), seated, "{hold:?}");
                if found.kind() == Kind::Lease {
                    assert_eq!(found.expires_at, timestamp(hold.expires), "{hold:?}");
                }
                holders.insert(format!("{:?}", found.key), (hold.claim.holder(), found));
            }
            assert_eq!(l.holds.len(), naive.holds.len(), "holds");
            let mut seats_in_all = 0;
            for (tally, number) in numbers {
                let in_use = naive.in_use(tally);
                seats_in_all += in_use;
                let mut seats: BTreeMap<String, (SeatKey, BTreeSet<Holder>)> = BTreeMap::new();
                let mut holds = |key: SeatKey, holder, since| {
                    let seat = seats.entry(format!("{key:?}"));
                    let (_, held) = seat.or_insert_with(|| (key, BTreeSet::new()));
                    held.insert(holder);
                    let seat = l.seats.get(&key).expect("a seat that somebody holds");
                    assert!(seat.opened_at <= since);
                };
                for (place, session) in l.sessions.iter().enumerate() {
                    if let Some(key) = session.seat.filter(|key| key.tally == number) {
                        holds(key, Holder::Login(place), session.since);
                    }
                }
                for (holder, hold) in holders.values() {
                    if let Some(key) = hold
                        .seat_key(l.head.seat_ids)
                        .filter(|key| key.tally == number)
                    {
                        let seat = l.seats.get(&key).map(|seat| seat.number);
                        assert_eq!(hold.seat(), seat);
                        holds(key, *holder, hold.since());
                    }
                }
                for (key, held) in seats.values() {
                    let seat = l.seats.get(key).unwrap();
                    let count = |is: fn(&Holder) -> bool| held.iter().filter(|h| is(h)).count();
                    assert_eq!(
                        (
                            seat.logins as usize,
                            seat.checkouts as usize,
                            seat.leases as usize
                        ),
                        (
                            count(|h| matches!(h, Holder::Login(_))),
                            count(|h| matches!(h, Holder::Checkout(..))),
                            count(|h| matches!(h, Holder::Lease(_))),
                        ),
                        "{held:?}"
                    );
                }
                let sharing: Sharing = seats.into_values().map(|(_, held)| held).collect();
                assert_eq!(sharing, naive.sharing(tally, None), "{tally:?}: seats");
                let counted = l.tallies.get(&number).unwrap();
                assert_eq!(counted.in_use, in_use as i64, "{tally:?}: in use");
                let most = high_water.entry(tally).or_default();
                *most = in_use.max(*most);
                assert_eq!(counted.high_water, *most as i64, "{tally:?}: high water");
                assert_eq!(counted.waiting, unlooked(&tally), "{tally:?}: waiting");
                let holds = naive
                    .holds
                    .iter()
                    .filter(|h| h.claim.tally == tally)
                    .count();
                let users = holds as u32 + unlooked(&tally);
                assert_eq!(counted.users, users, "{tally:?}: users");
            }
            assert_eq!(l.seats.len(), seats_in_all, "seats in all");
            let mut ids = BTreeSet::new();
            l.seats
                .each(|seat| assert!(ids.insert(seat.number), "two seats with one id"));

            // The queue.
            assert_eq!(l.waits.len(), naive.queue.len(), "the queue");
            for wait in &naive.queue {
                let found = l.waits.get(&wait.ticket).expect("a place in the queue");
                assert_eq!(found.slot, Slot(wait.claim.place));
                assert_eq!(l.sessions[found.slot.0].ticket, wait.ticket);
            }
            let tickets: Vec<_> = naive.queue.iter().map(|wait| wait.ticket).collect();
            assert!(tickets.is_sorted(), "who came first stands first");

            // What is kept of sessions.
            for (place, session) in l.sessions.iter().enumerate() {
                let own = |hold: &&super::naive::Hold| {
                    hold.claim.lease.is_none() && hold.claim.place == place
                };
                let checkouts = naive.holds.iter().filter(own).count();
                assert_eq!(
                    session.checkouts as usize, checkouts,
                    "checkouts of {place}"
                );
                let waits = naive.queue.iter().any(|wait| wait.claim.place == place);
                assert_eq!(
                    session.ticket != Ticket::NONE,
                    waits,
                    "{place} in the queue"
                );
            }
            for (place, person) in &naive.people {
                let judged = !naive.unjudged.contains(place);
                let exempt = judged && naive.is_exempt(*place, person);
                assert_eq!(l.sessions[*place].exempt.is_some(), exempt, "{person:?}");
            }
            for user in USERS {
                let label = Label::of(user);
                let holds = naive.holds.iter().map(|hold| &hold.claim);
                let waits = naive.queue.iter().filter(|w| w.called.is_none());
                let claims = holds.chain(waits.map(|wait| &wait.claim));
                let users = claims.filter(|c| c.user.client_user == user).count();
                let kept = l
                    .long_names
                    .get(&label)
                    .map_or(0, |name| name.users as usize);
                assert_eq!(kept, if label.is_digest() { users } else { 0 }, "{user}");
            }
            for database in 1..=3 {
                let of = |hold: &&super::naive::Hold| {
                    hold.claim.database == database && hold.ended && !hold.pending
                };
                let ended = naive.holds.iter().filter(of).count();
                let known = l.databases.get(&DatabaseOid(database));
                let known = known.map_or(0, |d| d.leases.ended as usize);
                assert_eq!(known, ended, "ended leases");
            }
            l.licenses.each(|row| {
                let key = (row.key.database.0, row.product.to_string());
                let denied = self
                    .denied
                    .iter()
                    .find(|((d, p), _)| (*d, *p) == (key.0, &*key.1));
                assert_eq!(row.denied, denied.map_or(0, |(_, n)| *n), "denied: {key:?}");
            });
        });
        self.check_ids();
        self.check_groups();
    }

    /// Returns the seat that each holder has in the ledger.
    fn seats_of_holders(&mut self) -> BTreeMap<Holder, crate::core::ledger::seat::Seat> {
        let naive = &self.naive;
        self.server.ledger.with(|l| {
            let mut seats = BTreeMap::new();
            let mut sits = |holder, key: Option<SeatKey>| {
                if let Some(seat) = key.and_then(|key| l.seats.get(&key)) {
                    seats.insert(holder, *seat);
                }
            };
            for place in naive.people.keys() {
                sits(Holder::Login(*place), l.sessions[*place].seat);
            }
            for hold in &naive.holds {
                let user = Label::of(hold.claim.user.client_user);
                let is_it = |found: &&Hold| {
                    let product = l.tallies.get(&found.tally).unwrap().product;
                    found.who.client_user == user && product == name(hold.claim.product)
                };
                let found = match hold.claim.lease {
                    Some((number, _)) => l.holds.get(&HoldKey::lease(id(number))),
                    None => l.checkouts(&l.sessions[hold.claim.place]).find(is_it),
                };
                sits(
                    hold.claim.holder(),
                    found.and_then(|hold| hold.seat_key(l.head.seat_ids)),
                );
            }
            seats
        })
    }

    /// Returns the seats after rules changed: where several have come to share one, any of them may be the one that
    /// took it.
    fn observed(&mut self) -> Vec<Seat> {
        let found = self.seats_of_holders();
        let reserved = |l: &mut Ledger<'_, Maps>| l.head.reserved_roles.each().collect();
        let reserved: Vec<(u8, Name)> = self.server.ledger.with(reserved);
        let naive = &self.naive;
        let taker = |holder: &Holder| match holder {
            Holder::Login(at) => (naive.people[at].user.role, naive.groups[at], None),
            holder => {
                let mut holds = naive.holds.iter().map(|hold| &hold.claim);
                let claim = holds.find(|claim| claim.holder() == *holder).unwrap();
                let leased_to = claim.lease.map(|_| claim.user.client_user);
                (claim.user.role, claim.groups, leased_to)
            }
        };
        let mut seats = naive.settled();
        for seat in &mut seats {
            let found = found[seat.holders.first().unwrap()];
            let counts = |(role, groups, leased_to): &(u32, Groups, Option<&'static str>)| {
                let is_right = |(number, group): &(u8, Name)| {
                    found.roles.contain(*number) == is_in_group(*groups, group.as_str())
                };
                *role == found.role.0
                    && leased_to.is_some() == found.by_lease
                    && reserved.iter().all(is_right)
            };
            let takers: Vec<_> = match naive.seats.iter().find(|s| s.number == found.number) {
                Some(former) => vec![(former.role, former.groups, former.leased_to)],
                None => seat.holders.iter().map(taker).collect(),
            };
            let taker = takers.into_iter().find(counts);
            (seat.role, seat.groups, seat.leased_to) =
                taker.unwrap_or_else(|| panic!("{seat:?}: {found:?}"));
            seat.number = found.number;
        }
        seats
    }

    /// Asserts whom each seat counts for, and how many seats count for each group.
    fn check_groups(&mut self) {
        let found = self.seats_of_holders();
        let mut seats = self.naive.settled();
        for seat in &mut seats {
            seat.number = found[seat.holders.first().unwrap()].number;
        }
        let naive = &self.naive;
        self.server.ledger.with(|l| {
            let reserved: Vec<_> = l.head.reserved_roles.each().collect();
            for seat in &seats {
                for holder in &seat.holders {
                    let found = found[holder];
                    assert_eq!(
                        (found.number, found.role.0, found.by_lease),
                        (seat.number, seat.role, seat.leased_to.is_some()),
                        "{seat:?}"
                    );
                    for (number, group) in &reserved {
                        let counts = is_in_group(seat.groups, group.as_str());
                        assert_eq!(found.roles.contain(*number), counts, "{seat:?} for {group}");
                    }
                }
            }
            for (place, groups) in &naive.groups {
                for (number, group) in &reserved {
                    let is_in = is_in_group(*groups, group.as_str());
                    let roles = l.sessions[*place].roles;
                    assert_eq!(roles.contain(*number), is_in, "{place} in {group}");
                }
            }
            let mut rows = 0;
            for (database, force) in &naive.in_force {
                for row in &force.company.reservations {
                    rows += 1;
                    let mut found = None;
                    l.reservations.each(|r| {
                        let names = (r.product, r.role) == (name(row.product), name(row.group));
                        if r.key.database.0 == *database && names {
                            found = Some(*r);
                        }
                    });
                    let found = found.expect("a reservation");
                    assert!(reserved.contains(&(found.number, found.role)));
                    let Some(license) = naive.row(*database, row.product) else {
                        assert_eq!(found.tally, TallyId::NONE);
                        continue;
                    };
                    let tally = tally_name(*database, license);
                    let used = l.tallies.get(&found.tally).unwrap().used_by;
                    let of = |s: &&Seat| s.tally == tally && is_in_group(s.groups, row.group);
                    let expected = seats.iter().filter(of).count() as i64;
                    assert_eq!(used.of(found.number), expected, "{tally:?}: {row:?}");
                }
            }
            assert_eq!(l.reservations.len(), rows, "reservations");
        });
        self.naive.seats = seats;
        let takers = self.naive.takers();
        self.server.ledger.with(|l| {
            assert_eq!(l.takers.len(), takers.len(), "takers: {takers:?}");
            for (_, seat, seats) in takers {
                let found = found[seat.holders.first().unwrap()];
                let taker = l
                    .takers
                    .get(&TakerKey::of(l.head.seat_ids, &found))
                    .expect("a taker");
                assert_eq!(i64::from(taker.seats), seats, "{seat:?}");
            }
        });
    }

    /// Asserts who may use what, by license_held.
    fn check_use(&mut self) {
        let enforcement = std::mem::replace(&mut self.server.enforcement, Enforcement::On);
        for (place, person) in &self.naive.people {
            for product in PRODUCTS {
                let judged = !self.naive.unjudged.contains(place);
                if judged && self.naive.row(person.database, product).is_some() {
                    assert_eq!(
                        self.server.may_use(Slot(*place), product),
                        self.naive.may_use(*place, product),
                        "{place} may use {product}"
                    );
                }
            }
        }
        self.server.enforcement = enforcement;
    }

    /// Asserts that a seat keeps its id as long as somebody keeps holding it.
    fn check_ids(&mut self) {
        let seen = &mut self.seen;
        let now: BTreeMap<SessionNumber, (SeatKey, SeatNumber)> = self.server.ledger.with(|l| {
            let holds = |s: &Session| {
                let seat = l.seats.get(&s.seat?)?;
                Some((s.number, (seat.key, seat.number)))
            };
            l.sessions.iter().filter_map(holds).collect()
        });
        for (number, (key, id)) in &now {
            if let Some((former, former_id)) = seen.get(number)
                && former == key
            {
                assert_eq!(id, former_id, "a seat's id has changed");
            }
        }
        *seen = now;
    }
}

fn room(max_seats: usize) -> Capacity {
    Capacity {
        sessions: PLACES,
        max_seats,
        databases: 3,
        licenses: 9,
        exemptions: 9,
        events: 50,
        reservations: 27,
        rules: 100,
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Expected {
    Held(Remark),
    Waits,
    Denied(Denial),
}

fn want_of(claim: &Claim) -> SeatRequest {
    match claim.lease {
        None => want(claim.user.client_user),
        Some((number, ttl)) => {
            let want = lease(number, claim.user.client_user, claim.user.host);
            let lease = want.lease.map(|lease| NewLease {
                ttl: timestamp(ttl),
                ..lease
            });
            SeatRequest { lease, ..want }
        }
    }
}

fn session_of(person: &Person) -> Session {
    let session = session(person.user.role, person.user.host);
    let session = with_workstation(session, person.user.workstation);
    let session = with_application(session, person.application);
    Session {
        superuser: person.superuser(),
        replication: person.replication,
        ..of_database(session, person.database)
    }
}

fn rows_of(company: &Company) -> Rows {
    let hosts = |text: &str| match text {
        "local" => Hosts::LOCAL,
        "10.1.0.0/16" => Hosts::new("10.1.0.0".parse().unwrap(), 16),
        one => Hosts::new(one.parse().unwrap(), 32),
    };
    let roles = company.exempt_roles.iter().map(|role| exempt_role(role));
    let hosts = company.exempt_hosts.iter().map(|h| exempt_hosts(hosts(h)));
    Rows {
        licenses: company.rows.iter().map(license_of).collect(),
        exemptions: roles.chain(hosts).collect(),
        reservations: company
            .reservations
            .iter()
            .map(|r| Reservation {
                shared: r.shared,
                ..reservation(r.product, r.group, r.reserved, r.max_seats)
            })
            .collect(),
        leases_of: 1,
        leases: vec![],
        bars: vec![],
    }
}

fn license_of(row: &Row) -> License {
    License {
        pool: name(row.pool.unwrap_or_default()),
        application_name: Text::new(row.pattern.unwrap_or_default()).unwrap(),
        overdraft: row.overdraft,
        counted_by: CountedBy::from_word(row.counted_by).unwrap(),
        claimed_at: if row.at_login {
            ClaimedAt::Login
        } else {
            ClaimedAt::Checkout
        },
        enforcement: Enforcement::from_word(row.enforcement).unwrap(),
        max_per_user: row.max_per_user,
        valid_from: row.from.map(timestamp),
        valid_until: row.until.map(timestamp),
        signed: row.exempt.map(|most| Signed {
            exempt: Some(most),
            ..Signed::default()
        }),
        admits_until: row.until.map(|until| timestamp(until + row.grace)),
        ..license(row.product, row.seats)
    }
}

/// Returns the ledger's answer to a login with this verdict.
fn answer(
    verdict: &Verdict,
    row: Option<&Row>,
    tally: TallyId,
    roles: &ReservedRoles,
    enforcement: Enforcement,
    superuser: bool,
) -> Answer {
    let remark = match *verdict {
        Verdict::In => Remark::None,
        Verdict::Overdraft { in_use, limit } => Remark::Overdraft(Denial {
            product: name(row.map_or("", |row| row.product)),
            tally,
            cause: Cause::Full {
                in_use,
                limit,
                kept: 0,
            },
        }),
        _ => {
            let product = row.map_or("", |row| row.product);
            let denial = denial(verdict, product, tally, roles).unwrap();
            return match enforcement {
                _ if superuser => Answer::Admitted(Remark::None),
                Enforcement::On => Answer::Denied(denial),
                Enforcement::Warn => Answer::Admitted(Remark::WouldBeDenied(denial)),
                Enforcement::Off => Answer::Admitted(Remark::None),
            };
        }
    };
    Answer::Admitted(remark)
}

/// Returns the denial with this verdict, if it is one.
fn denial(
    verdict: &Verdict,
    product: &str,
    tally: TallyId,
    roles: &ReservedRoles,
) -> Option<Denial> {
    let cause = match *verdict {
        Verdict::In | Verdict::Overdraft { .. } => return None,
        Verdict::Full {
            in_use,
            limit,
            kept,
        } => Cause::Full {
            in_use,
            limit,
            kept,
        },
        Verdict::GroupFull {
            group,
            in_use,
            limit,
        } => Cause::RoleFull {
            number: roles.number(&name(group)).unwrap(),
            in_use,
            limit,
        },
        Verdict::UserFull { in_use, limit } => Cause::UserFull { in_use, limit },
        Verdict::NotYetValid(at) => Cause::OutOfDates(OutOfDates::NotYetValid(timestamp(at))),
        Verdict::Expired(at) => Cause::OutOfDates(OutOfDates::Expired(timestamp(at))),
        Verdict::TableFull => Cause::TableFull,
    };
    Some(Denial {
        product: name(product),
        tally,
        cause,
    })
}
