//! A server in miniature: tables that transactions change, and logins that do with the ledger what
//! the server's logins do.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::ledger::identity::{Host, Name, Text, Who};
use crate::ledger::license::{ClaimedAt, CountedBy, Enforcement, License, RowKey, Timestamp};
use crate::ledger::map::{MapLedger, Room};
use crate::ledger::rules::{Exemption, Facts, Hosts, Rules};
use crate::ledger::session::{Session, Standing};
use crate::ledger::table::Table;
use crate::ledger::{Answer, Judged, Published, Remark, Viewpoint};

pub const MINUTE: Timestamp = 60_000_000;

/// The rows of one database's tables.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    pub licenses: Vec<License>,
    pub exemptions: Vec<Exemption>,
}

pub struct Server {
    pub ledger: MapLedger,
    pub tables: BTreeMap<u32, Rows>,
    pub now: Timestamp,
    pub enforcement: Enforcement,
    pub exempt_superusers: bool,
    pub in_recovery: bool,
    logins: u64,
}

pub const ROOM: Room = Room {
    sessions: 20,
    max_seats: 100,
    databases: 8,
    licenses: 30,
    exemptions: 30,
};

impl Server {
    pub fn new(room: Room) -> Server {
        Server {
            ledger: MapLedger::new(room),
            tables: BTreeMap::new(),
            now: 1_000 * MINUTE,
            enforcement: Enforcement::On,
            exempt_superusers: true,
            in_recovery: false,
            logins: 0,
        }
    }

    /// A server with this license in database 1.
    pub fn with_license(license: License) -> Server {
        let mut server = Server::new(ROOM);
        server.tables.entry(1).or_default().licenses = vec![license];
        server
    }

    pub fn view(&self) -> Viewpoint {
        Viewpoint {
            now: self.now,
            in_recovery: self.in_recovery,
            exempt_superusers: self.exempt_superusers,
        }
    }

    pub fn is_current(&mut self, database: u32) -> bool {
        let view = self.view();
        self.ledger.with(|l| l.is_current(database, view))
    }

    /// Commits a change of a database's tables.
    pub fn change(&mut self, database: u32, change: impl FnOnce(&mut Rows)) {
        self.ledger.with(|l| l.change_begins(database));
        change(self.tables.entry(database).or_default());
        self.ledger.with(|l| l.change_ends(database));
    }

    /// Reads a database's tables.
    pub fn read(&mut self, database: u32) -> Rules {
        let generation = self.ledger.with(|l| l.generation(database)).unwrap();
        let rows = self.tables.get(&database).cloned().unwrap_or_default();
        Rules {
            generation,
            outdated: false,
            watched: true,
            in_recovery: self.in_recovery,
            exempt_superusers: self.exempt_superusers,
            read_at: self.now,
            licenses: placed(database, rows.licenses, |row, key| row.key = key),
            exemptions: placed(database, rows.exemptions, |row, key| row.key = key),
        }
    }

    /// What rules make of every session, for `publish`.
    pub fn judge_all(&self, rules: &Rules) -> Vec<(u64, Standing)> {
        let judge = |s: &Session| (s.number, rules.judge(s, &mut Catalog));
        self.ledger.sessions.iter().map(judge).collect()
    }

    pub fn publish(&mut self, database: u32, rules: &mut Rules) -> Published {
        let standings = self.judge_all(rules);
        self.ledger.with(|l| l.publish(database, rules, &standings))
    }

    pub fn load(&mut self, database: u32) -> Published {
        let mut rules = self.read(database);
        self.publish(database, &mut rules)
    }

    /// What the rules in force make of a session.
    pub fn judge(&mut self, session: &Session) -> Judged {
        let (licenses, exemptions) = self.ledger.with(|l| l.rows(session.database));
        let mut rules = Rules {
            licenses: Vec::with_capacity(licenses),
            exemptions: Vec::with_capacity(exemptions),
            ..Rules::default()
        };
        let copied = self
            .ledger
            .with(|l| l.copy_rules(session.database, &mut rules));
        assert_eq!(
            copied,
            Some(()),
            "no rules of database {}",
            session.database
        );
        Judged {
            generation: rules.generation,
            outdated: rules.outdated,
            exempt_superusers: rules.exempt_superusers,
            standing: rules.judge(session, &mut Catalog),
            enforcement: self.enforcement,
            now: self.now,
        }
    }

    /// A login; also gives the place where it is or would be.
    pub fn log_in(&mut self, mut session: Session) -> (usize, Answer) {
        if !self.is_current(session.database) {
            let published = self.load(session.database);
            assert!(matches!(published, Published::InForce { .. }));
        }
        self.stamp(&mut session);
        let judged = self.judge(&session);
        let place = self.ledger.free_place().expect("a free place");
        (place, self.ledger.with(|l| l.admit(place, session, judged)))
    }

    /// A superuser's login while the rules can't be read.
    pub fn log_in_blindly(&mut self, mut session: Session) -> usize {
        self.stamp(&mut session);
        let place = self.ledger.free_place().expect("a free place");
        self.ledger.with(|l| l.register(place, session));
        place
    }

    /// A login that must get in without a remark; gives its place.
    pub fn enters(&mut self, session: Session) -> usize {
        let (place, answer) = self.log_in(session);
        assert_eq!(answer, Answer::Admitted(Remark::None));
        place
    }

    pub fn log_out(&mut self, place: usize) {
        self.ledger.with(|l| l.release(place));
    }

    fn stamp(&mut self, session: &mut Session) {
        self.logins += 1;
        session.since = self.now;
    }

    /// Seats taken of a product, in whatever database or pool.
    pub fn in_use(&mut self, product: &str) -> i64 {
        let product = Name::new(product).unwrap();
        self.ledger.with(|l| {
            let mut in_use = 0;
            l.tallies.each(|t| {
                if t.product == product {
                    in_use += t.in_use;
                }
            });
            in_use
        })
    }

    pub fn seats_taken(&mut self) -> usize {
        self.ledger.with(|l| l.seats.len())
    }
}

fn placed<R>(database: u32, mut rows: Vec<R>, set: impl Fn(&mut R, RowKey)) -> Vec<R> {
    for (place, row) in (0..).zip(&mut rows) {
        set(row, RowKey { database, place });
    }
    rows
}

/// The server's catalogs: roles 1 and 2 are members of "staff", role 3 of "batch".
pub struct Catalog;

impl Facts for Catalog {
    fn is_member(&mut self, session: &Session, role: &Name) -> bool {
        *role == session.usename || is_member(session.who.role, &role.to_string())
    }

    fn is_like(&mut self, session: &Session, pattern: &str) -> bool {
        is_like(session.application_name.as_bytes(), pattern.as_bytes())
    }
}

pub fn is_member(role: u32, group: &str) -> bool {
    match group {
        "staff" => matches!(role, 1 | 2),
        "batch" => role == 3,
        _ => false,
    }
}

/// LIKE without escapes.
pub fn is_like(text: &[u8], pattern: &[u8]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        ([b'%', rest @ ..], _) => (0..=text.len()).any(|at| is_like(&text[at..], rest)),
        ([b'_', rest @ ..], [_, text @ ..]) => is_like(text, rest),
        ([c, rest @ ..], [t, text @ ..]) => c == t && is_like(text, rest),
        _ => false,
    }
}

pub fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub fn license(product: &str, seats: impl Into<Option<i32>>) -> License {
    License {
        key: RowKey {
            database: 0,
            place: 0,
        },
        tally: 0,
        product: name(product),
        pool: Name::EMPTY,
        application_name: Text::EMPTY,
        seats: seats.into(),
        purchased: None,
        overdraft: 0,
        warn_at_percent: 90,
        counted_by: CountedBy::UserHost,
        claimed_at: ClaimedAt::Login,
        enforcement: Enforcement::On,
        valid_from: None,
        valid_until: None,
        admits_until: None,
        denied: 0,
    }
}

pub fn exempt_role(role: &str) -> Exemption {
    Exemption {
        key: RowKey {
            database: 0,
            place: 0,
        },
        role: name(role),
        hosts: Hosts::NONE,
    }
}

pub fn exempt_hosts(hosts: Hosts) -> Exemption {
    Exemption {
        hosts,
        ..exempt_role("")
    }
}

/// A session of database 1, of a role from a computer: "local" or an address.
pub fn session(role: u32, host: &str) -> Session {
    let address: Option<IpAddr> = host.parse().ok();
    Session {
        database: 1,
        who: Who {
            role,
            host: Host::of_peer(address.map(|a| (a, 0)), None),
            workstation: Name::EMPTY,
        },
        address: address.map_or(Host::NONE, |a| Host::of_address(a, 0)),
        usename: name(&format!("r{role}")),
        ..Session::FREE
    }
}

pub fn superuser(role: u32, host: &str) -> Session {
    Session {
        superuser: true,
        ..session(role, host)
    }
}

pub fn with_workstation(mut session: Session, workstation: &str) -> Session {
    session.who.workstation = name(workstation);
    session
}

pub fn with_application(mut session: Session, application_name: &str) -> Session {
    session.application_name = name(application_name);
    session
}

pub fn of_database(mut session: Session, database: u32) -> Session {
    session.database = database;
    session
}
