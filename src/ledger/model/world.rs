//! The ledger and the naive model side by side: each step is done to both, and then everything that
//! people can see must be the same, and the promises must hold.

use std::collections::{BTreeMap, BTreeSet};

use super::history::{History, Step};
use super::naive::{
    Company, InForce, Minutes, Naive, Person, Row, Sharing, TallyName, Verdict, tally_name,
    timestamp,
};
use super::server::{
    Rows, Server, exempt_hosts, exempt_role, license, name, of_database, session, with_application,
    with_workstation,
};
use crate::ledger::identity::Text;
use crate::ledger::license::{ClaimedAt, CountedBy, Enforcement, License, OutOfDates};
use crate::ledger::map::{MapLedger, Room};
use crate::ledger::rules::Hosts;
use crate::ledger::session::{SeatKey, Session};
use crate::ledger::table::Table;
use crate::ledger::{Answer, Cause, Denial, Published, Remark};

pub const PLACES: usize = 14;

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
    seen: BTreeMap<u64, (SeatKey, [u8; 16])>,
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
                    let place = self.server.log_in_blindly(session_of(person));
                    self.naive.people.insert(place, person.clone());
                    self.naive.unjudged.insert(place);
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
                self.server.ledger.with(|l| l.change_begins(*database));
                self.load(*database);
                assert!(!self.server.is_current(*database));
                self.check();
                self.server.ledger.with(|l| l.change_ends(*database));
                self.commit(*database, company);
            }
            Step::Rollback(database) => self.server.change(*database, |_| ()),
            Step::Read(database) => self.load(*database),
            Step::Drop(database) => {
                let people = self.naive.people.clone();
                for (place, _) in people.iter().filter(|(_, p)| p.database == *database) {
                    self.log_out(*place);
                }
                self.check();
                self.tables.remove(database);
                self.server.tables.remove(database);
                self.server.ledger.with(|l| l.forget(*database));
                self.naive.in_force.remove(database);
                self.denied.retain(|(d, _), _| d != database);
            }
            Step::Crash => {
                self.server.ledger = MapLedger::new(room(self.naive.max_seats));
                self.naive = Naive {
                    max_seats: self.naive.max_seats,
                    ..Naive::default()
                };
                self.denied.clear();
                self.high_water.clear();
                self.seen.clear();
            }
            Step::ExemptSuperusers(exempt) => self.server.exempt_superusers = *exempt,
            Step::Enforcement(word) => {
                self.server.enforcement = Enforcement::from_word(word).unwrap();
            }
            Step::Wait(minutes) => {
                self.minute += minutes;
                self.server.now = timestamp(self.minute);
            }
        }
        if let Step::Rollback(database) = step {
            self.unread.insert(*database);
        }
        self.check();
    }

    fn commit(&mut self, database: u32, company: &Company) {
        self.tables.insert(database, company.clone());
        self.server
            .change(database, |rows| *rows = rows_of(company));
        self.unread.insert(database);
    }

    /// Reads a database's tables and puts them in force.
    fn load(&mut self, database: u32) {
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
    }

    fn log_in(&mut self, person: &Person) {
        let force = self.naive.in_force.get(&person.database);
        let current = force.is_some_and(|f| f.exempt_superusers == self.server.exempt_superusers)
            && !self.unread.contains(&person.database);
        assert_eq!(self.server.is_current(person.database), current);
        if !current {
            self.load(person.database);
            self.check();
        }
        let verdicts = self.naive.verdicts(person, self.minute);
        let row = self.naive.claimed(person).cloned();
        let tally = row.as_ref().map(|row| tally_name(person.database, row));
        let before = tally.map_or(0, |tally| self.naive.in_use(tally));
        let number = tally.map_or(0, |tally| self.numbers()[&tally]);
        let enforcement = row.as_ref().map_or(Enforcement::Off, |row| {
            let own = Enforcement::from_word(row.enforcement).unwrap();
            own.max(self.server.enforcement)
        });
        let expected: Vec<Answer> = verdicts
            .iter()
            .map(|verdict| {
                answer(
                    verdict,
                    row.as_ref(),
                    number,
                    enforcement,
                    person.superuser(),
                )
            })
            .collect();

        let (place, answer) = self.server.log_in(session_of(person));
        assert!(
            expected.contains(&answer),
            "{answer:?}, expected {expected:?} for {person:?}"
        );
        let would_be_denied = matches!(answer, Answer::Admitted(Remark::WouldBeDenied(_)));
        if would_be_denied || matches!(answer, Answer::Denied(_)) {
            let row = row.as_ref().unwrap();
            *self
                .denied
                .entry((person.database, row.product))
                .or_default() += 1;
        }
        if let Answer::Admitted(_) = answer {
            self.naive.people.insert(place, person.clone());
        }
        // Promises 1 and 2, once more in their own words.
        if let (Some(row), Some(tally)) = (row, tally)
            && enforcement == Enforcement::On
            && !person.superuser()
            && let Some(seats) = row.seats
        {
            let limit = (seats + row.overdraft) as usize;
            let after = self.naive.in_use(tally);
            match answer {
                Answer::Admitted(_) => assert!(after <= before.max(limit), "over-admitted"),
                Answer::Denied(Denial {
                    cause: Cause::Full { .. },
                    ..
                }) => assert!(before >= limit, "denied while a seat is free"),
                _ => {}
            }
        }
    }

    pub fn log_out(&mut self, place: usize) {
        self.server.log_out(place);
        self.naive.people.remove(&place);
        self.naive.unjudged.remove(&place);
    }

    /// The numbers of the ledger's tallies.
    fn numbers(&mut self) -> BTreeMap<TallyName, u64> {
        let naive = self.naive.tallies();
        self.server.ledger.with(|l| {
            let mut numbers = BTreeMap::new();
            l.tallies.each(|t| {
                let is =
                    |n: &&TallyName| (t.database, t.pool, t.product) == (n.0, name(n.1), name(n.2));
                let known = naive.keys().find(is);
                numbers.insert(*known.expect("a tally without a license"), t.number);
            });
            assert_eq!(numbers.len(), naive.len(), "a license without a tally");
            numbers
        })
    }

    pub fn check(&mut self) {
        let numbers = self.numbers();
        self.high_water
            .retain(|tally, _| numbers.contains_key(tally));
        let (naive, high_water) = (&self.naive, &mut self.high_water);
        let mut seats_in_all = 0;
        self.server.ledger.with(|l| {
            for (tally, number) in numbers {
                let in_use = naive.in_use(tally);
                seats_in_all += in_use;
                let mut holders: BTreeMap<_, BTreeSet<usize>> = BTreeMap::new();
                for (place, session) in l.sessions.iter().enumerate() {
                    if let Some(key) = session.seat.filter(|key| key.tally == number) {
                        let held = holders.entry(format!("{key:?}")).or_default();
                        held.insert(place);
                        let seat = l.seats.get(&key).expect("a seat that a session holds");
                        assert!(seat.opened_at <= session.since);
                    }
                }
                let sharing: Sharing = holders.into_values().collect();
                let allowed = naive.sharings(tally, None);
                assert!(
                    allowed.contains(&sharing) || sharing.is_empty() && in_use == 0,
                    "{tally:?}: seats {sharing:?}, expected {allowed:?}"
                );
                let counted = l.tallies.get(&number).unwrap();
                assert_eq!(counted.in_use, in_use as i64, "{tally:?}: in use");
                let most = high_water.entry(tally).or_default();
                *most = in_use.max(*most);
                assert_eq!(counted.high_water, *most as i64, "{tally:?}: high water");
            }
            assert_eq!(l.seats.len(), seats_in_all, "seats in all");
            let (mut ids, mut held) = (BTreeSet::new(), 0);
            l.seats.each(|seat| {
                assert!(ids.insert(seat.id), "two seats with one id");
                assert!(seat.sessions > 0);
                held += seat.sessions as usize;
            });
            let holding = l.sessions.iter().filter(|s| s.seat.is_some()).count();
            assert_eq!(held, holding, "holders of seats");
            for (place, person) in &naive.people {
                let judged = !naive.unjudged.contains(place);
                let exempt = judged && naive.is_exempt(person);
                assert_eq!(l.sessions[*place].exempt.is_some(), exempt, "{person:?}");
            }
            l.licenses.each(|row| {
                let key = (row.key.database, row.product.to_string());
                let denied = self
                    .denied
                    .iter()
                    .find(|((d, p), _)| (*d, *p) == (key.0, &*key.1));
                assert_eq!(row.denied, denied.map_or(0, |(_, n)| *n), "denied: {key:?}");
            });
        });
        self.check_ids();
    }

    /// A seat keeps its id as long as somebody keeps holding it.
    fn check_ids(&mut self) {
        let seen = &mut self.seen;
        let now: BTreeMap<u64, (SeatKey, [u8; 16])> = self.server.ledger.with(|l| {
            let holds = |s: &Session| {
                let seat = l.seats.get(&s.seat?)?;
                Some((s.number, (seat.key, seat.id)))
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

fn room(max_seats: usize) -> Room {
    Room {
        sessions: PLACES,
        max_seats,
        databases: 3,
        licenses: 9,
        exemptions: 9,
    }
}

fn session_of(person: &Person) -> Session {
    let session = session(person.role, person.host);
    let session = with_workstation(session, person.workstation);
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
        valid_from: row.from.map(timestamp),
        valid_until: row.until.map(timestamp),
        admits_until: row.until.map(|until| timestamp(until + row.grace)),
        ..license(row.product, row.seats)
    }
}

/// The ledger's answer to a login with this verdict.
fn answer(
    verdict: &Verdict,
    row: Option<&Row>,
    tally: u64,
    enforcement: Enforcement,
    superuser: bool,
) -> Answer {
    let denial = |cause| Denial {
        product: name(row.map_or("", |row| row.product)),
        tally,
        cause,
    };
    let cause = match *verdict {
        Verdict::In => return Answer::Admitted(Remark::None),
        Verdict::Overdraft { in_use, limit } => {
            let denial = denial(Cause::Full { in_use, limit });
            return Answer::Admitted(Remark::Overdraft(denial));
        }
        Verdict::Full { in_use, limit } => Cause::Full { in_use, limit },
        Verdict::NotYetValid(at) => Cause::OutOfDates(OutOfDates::NotYetValid(timestamp(at))),
        Verdict::Expired(at) => Cause::OutOfDates(OutOfDates::Expired(timestamp(at))),
        Verdict::TableFull => Cause::TableFull,
    };
    match enforcement {
        _ if superuser => Answer::Admitted(Remark::None),
        Enforcement::On => Answer::Denied(denial(cause)),
        Enforcement::Warn => Answer::Admitted(Remark::WouldBeDenied(denial(cause))),
        Enforcement::Off => Answer::Admitted(Remark::None),
    }
}
