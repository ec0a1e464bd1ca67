//! The counting rules by brute force: a list of sessions and each database's rows, from which every
//! answer is worked out anew. It shares no code with the ledger beyond the words of its questions.

use std::collections::{BTreeMap, BTreeSet};

use super::server::{MINUTE, is_like, is_member};

pub type Minutes = i64;

#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub product: &'static str,
    pub pool: Option<&'static str>,
    pub pattern: Option<&'static str>,
    pub seats: Option<i32>,
    pub overdraft: i32,
    pub counted_by: &'static str,
    pub at_login: bool,
    pub enforcement: &'static str,
    pub from: Option<Minutes>,
    pub until: Option<Minutes>,
    pub grace: Minutes,
}

/// A database's tables.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Company {
    pub rows: Vec<Row>,
    pub exempt_roles: Vec<&'static str>,
    /// "local", an address, or "10.1.0.0/16".
    pub exempt_hosts: Vec<&'static str>,
}

/// A client.
#[derive(Clone, Debug)]
pub struct Person {
    pub database: u32,
    /// Role 1 is a superuser.
    pub role: u32,
    pub host: &'static str,
    pub workstation: &'static str,
    pub application: &'static str,
    pub replication: bool,
}

impl Person {
    pub fn superuser(&self) -> bool {
        self.role == 1
    }
}

/// The rows in force in a database, with the setting that they were read under.
#[derive(Clone, Debug)]
pub struct InForce {
    pub company: Company,
    pub exempt_superusers: bool,
}

/// What tells tallies apart: database (0 for a pool), pool, product.
pub type TallyName = (u32, &'static str, &'static str);

/// Who shares a seat with whom: for each seat the places of its sessions.
pub type Sharing = BTreeSet<BTreeSet<usize>>;

#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    In,
    Overdraft { in_use: i64, limit: i64 },
    Full { in_use: i64, limit: i64 },
    NotYetValid(Minutes),
    Expired(Minutes),
    TableFull,
}

/// What is in force, and who is in.
#[derive(Clone, Debug, Default)]
pub struct Naive {
    pub in_force: BTreeMap<u32, InForce>,
    pub people: BTreeMap<usize, Person>,
    /// Places of those whom no rules have judged.
    pub unjudged: BTreeSet<usize>,
    pub max_seats: usize,
}

impl Naive {
    pub fn is_exempt(&self, person: &Person) -> bool {
        let Some(force) = self.in_force.get(&person.database) else {
            return false;
        };
        if person.superuser() {
            return force.exempt_superusers || person.replication;
        }
        let role = |r: &&str| is_member(person.role, r) || **r == format!("r{}", person.role);
        let host = |h: &&str| match *h {
            "10.1.0.0/16" => person.host.starts_with("10.1."),
            one => one == person.host,
        };
        person.replication
            || force.company.exempt_roles.iter().any(role)
            || force.company.exempt_hosts.iter().any(host)
    }

    /// The row that a person claims, exempt or not.
    pub fn claimed(&self, person: &Person) -> Option<&Row> {
        let rows = &self.in_force.get(&person.database)?.company.rows;
        let mut fitting: Vec<&Row> = rows
            .iter()
            .filter(|row| row.at_login)
            .filter(|row| {
                row.pattern
                    .is_none_or(|p| is_like(person.application.as_bytes(), p.as_bytes()))
            })
            .collect();
        fitting.sort_by_key(|row| row.product);
        fitting.sort_by_key(|row| -(row.pattern.map_or(0, str::len) as i64));
        fitting.first().copied()
    }

    /// The tallies, each with the rules of counting that its licenses have.
    pub fn tallies(&self) -> BTreeMap<TallyName, BTreeSet<&'static str>> {
        let mut tallies: BTreeMap<TallyName, BTreeSet<&str>> = BTreeMap::new();
        for (database, force) in &self.in_force {
            for row in &force.company.rows {
                let rules = tallies.entry(tally_name(*database, row)).or_default();
                rules.insert(row.counted_by);
            }
        }
        tallies
    }

    /// The sharing of a tally's seats under each rule that gives most of them; several only where
    /// rules that can't be ranked give equally many. A newcomer counts in the comparison.
    pub fn sharings(&self, tally: TallyName, newcomer: Option<&Person>) -> Vec<Sharing> {
        let mut counted: Vec<(usize, &Person)> = self
            .people
            .iter()
            .filter(|(place, _)| !self.unjudged.contains(place))
            .map(|(place, person)| (*place, person))
            .collect();
        counted.extend(newcomer.map(|person| (usize::MAX, person)));
        counted.retain(|(_, person)| {
            !self.is_exempt(person)
                && self
                    .claimed(person)
                    .is_some_and(|row| tally_name(person.database, row) == tally)
        });
        let rules = self.tallies().remove(&tally).unwrap_or_default();
        let mut sharings: Vec<Sharing> = rules
            .iter()
            .map(|rule| {
                let mut seats: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
                for (place, person) in &counted {
                    let seat = seats.entry(identity(rule, person, *place)).or_default();
                    seat.insert(*place);
                }
                seats.into_values().collect()
            })
            .collect();
        let most = sharings.iter().map(BTreeSet::len).max().unwrap_or(0);
        sharings.retain(|sharing| sharing.len() == most);
        sharings.sort();
        sharings.dedup();
        sharings
    }

    pub fn in_use(&self, tally: TallyName) -> usize {
        self.sharings(tally, None).first().map_or(0, BTreeSet::len)
    }

    /// The answers that a counted newcomer may get for the row that it claims: one, save where rules
    /// of counting that can't be ranked give equally many seats.
    pub fn verdicts(&self, person: &Person, now: Minutes) -> Vec<Verdict> {
        let Some(row) = self.claimed(person).filter(|_| !self.is_exempt(person)) else {
            return vec![Verdict::In];
        };
        if let Some(from) = row.from.filter(|from| now < *from) {
            return vec![Verdict::NotYetValid(from)];
        }
        if let Some(until) = row.until.filter(|until| now >= until + row.grace) {
            return vec![Verdict::Expired(until)];
        }
        let tally = tally_name(person.database, row);
        let others = self.tallies().into_keys().filter(|name| *name != tally);
        let seats_elsewhere: usize = others.map(|name| self.in_use(name)).sum();
        let verdict = |sharing: Sharing| {
            if !sharing.contains(&BTreeSet::from([usize::MAX])) {
                return Verdict::In;
            }
            let in_use = sharing.len() as i64 - 1;
            let Some(seats) = row.seats.map(i64::from) else {
                return if seats_elsewhere + sharing.len() > self.max_seats {
                    Verdict::TableFull
                } else {
                    Verdict::In
                };
            };
            let limit = seats + i64::from(row.overdraft);
            if in_use + 1 > limit {
                Verdict::Full { in_use, limit }
            } else if seats_elsewhere + sharing.len() > self.max_seats {
                Verdict::TableFull
            } else if in_use + 1 > seats {
                let limit = seats;
                Verdict::Overdraft { in_use, limit }
            } else {
                Verdict::In
            }
        };
        let sharings = self.sharings(tally, Some(person)).into_iter();
        sharings.map(verdict).collect()
    }
}

pub fn tally_name(database: u32, row: &Row) -> TallyName {
    match row.pool {
        Some(pool) => (0, pool, row.product),
        None => (database, "", row.product),
    }
}

/// Counting rules 1, 2 and 4 as text.
fn identity(rule: &str, person: &Person, place: usize) -> String {
    let Person {
        role,
        host,
        workstation,
        ..
    } = person;
    match rule {
        "session" => format!("session {place}"),
        "user_host" => format!("{role} on {host}, {workstation}"),
        "user" => format!("{role}, {workstation}"),
        "host" => format!("{host}, {workstation}"),
        "user_workstation" if workstation.is_empty() => format!("{role} on host {host}"),
        "user_workstation" => format!("{role} on workstation {workstation}"),
        other => panic!("{other}"),
    }
}

pub fn timestamp(minutes: Minutes) -> i64 {
    minutes * MINUTE
}
