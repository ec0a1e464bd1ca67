//! A server in miniature: tables that transactions change, and logins that do with the ledger what
//! the server's logins do.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::core::ledger::acts::admission::{Answer, Judged};
use crate::core::ledger::acts::checkout::{Claimed, NewLease, Receipt, SeatRequest};
use crate::core::ledger::acts::leases::MayUse;
use crate::core::ledger::acts::publish::{Judgement, Published};
use crate::core::ledger::bar::StoredBar;
use crate::core::ledger::database::Viewpoint;
use crate::core::ledger::denial::Remark;
use crate::core::ledger::event::{Event, Leaving};
use crate::core::ledger::hold::Hold;
use crate::core::ledger::identity::{Host, Label, LeaseId, Name, Text, Who};
use crate::core::ledger::license::{Level, License, RowKey};
use crate::core::ledger::map::{Capacity, MapLedger};
use crate::core::ledger::numbers::{DatabaseOid, RoleOid, SessionNumber, Slot, TallyId, Ticket};
use crate::core::ledger::reservation::Reservation;
use crate::core::ledger::roles::RoleIn;
use crate::core::ledger::rules::{Exemption, Facts, Hosts, RuleCounts, Rules, StoredLease};
use crate::core::ledger::seat::Standing;
use crate::core::ledger::session::Session;
use crate::core::ledger::table::Table;
use crate::core::ledger::tally::Tally;
use crate::core::ledger::time::Timestamp;
use crate::core::ledger::visit::{Due, Outcome, Stage, Unsettled};
use crate::core::ledger::words::{ClaimedAt, CountedBy, Enforcement};

pub const MINUTE: Timestamp = 60_000_000;

/// How long the tests' leases last.
pub const TTL: Timestamp = 5 * MINUTE;

/// The rows of one database's tables.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    pub licenses: Vec<License>,
    pub exemptions: Vec<Exemption>,
    pub reservations: Vec<Reservation>,
    /// The OID of the table of leases, 0 where there is none.
    pub leases_of: u32,
    pub leases: Vec<StoredLease>,
    pub bars: Vec<StoredBar>,
}

pub struct Server {
    pub ledger: MapLedger,
    pub tables: BTreeMap<u32, Rows>,
    pub now: Timestamp,
    pub enforcement: Enforcement,
    pub exempt_superusers: bool,
    pub in_recovery: bool,
    pub catalog: Catalog,
    logins: u64,
    /// The session that took each lease.
    takers: BTreeMap<LeaseId, SessionNumber>,
}

pub const ROOM: Capacity = Capacity {
    sessions: 20,
    max_seats: 100,
    databases: 8,
    licenses: 30,
    exemptions: 30,
    events: 100,
    reservations: 70,
    rules: 100,
};

impl Server {
    pub fn new(room: Capacity) -> Server {
        Server {
            ledger: MapLedger::new(room),
            tables: BTreeMap::new(),
            now: 1_000 * MINUTE,
            enforcement: Enforcement::On,
            exempt_superusers: true,
            in_recovery: false,
            catalog: Catalog::default(),
            logins: 0,
            takers: BTreeMap::new(),
        }
    }

    /// Returns a server with this license in database 1.
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

    /// Returns the databases that a database worker should see.
    pub fn unread(&mut self) -> Vec<u32> {
        self.tell_all();
        self.unread_untold()
    }

    /// Returns the same where not all has been told.
    pub fn unread_untold(&mut self) -> Vec<u32> {
        let view = self.view();
        self.ledger.with(|l| {
            let mut oids = vec![];
            // A database worker that has read them has looked at what is signed, too.
            l.databases.each_mut(|known| {
                if known.is_loaded() {
                    known.visits.observed = known.generation;
                }
            });
            l.each_to_visit(view, |due| oids.push(due.database.0));
            oids
        })
    }

    /// Returns what a database worker would be sent for into a database.
    pub fn due(&mut self, database: u32) -> Option<Due> {
        let view = self.view();
        self.ledger.with(|l| {
            let mut found = None;
            l.each_to_visit(view, |due| {
                if due.database == DatabaseOid(database) {
                    found = Some(due);
                }
            });
            found
        })
    }

    /// Sends a database worker into a database, which comes so far, and ends its process.
    pub fn visit(&mut self, database: u32, stages: &[Stage]) -> Outcome {
        let due = self.due(database).expect("a database that is due");
        let view = self.view();
        self.ledger.with(|l| {
            let number = l.send_database_worker(DatabaseOid(database)).unwrap();
            for stage in stages {
                l.visit_reached(DatabaseOid(database), number, *stage);
            }
            l.visit_ended(due, number, view)
        })
    }

    /// Sends one that can't connect.
    pub fn lose_database_worker(&mut self, database: u32) {
        assert_eq!(self.visit(database, &[Stage::Begun]), Outcome::Lost);
    }

    pub fn is_current(&mut self, database: u32) -> bool {
        let view = self.view();
        self.ledger
            .with(|l| l.is_current(DatabaseOid(database), view))
    }

    /// Commits a change of a database's tables.
    pub fn change(&mut self, database: u32, change: impl FnOnce(&mut Rows)) {
        self.ledger
            .with(|l| l.change_begins(DatabaseOid(database), Unsettled::Pools));
        change(self.tables.entry(database).or_default());
        self.ledger
            .with(|l| l.change_ends(DatabaseOid(database), Unsettled::Pools));
    }

    /// Reads a database's tables.
    pub fn read(&mut self, database: u32) -> Rules {
        let generation = self
            .ledger
            .with(|l| l.generation(DatabaseOid(database)))
            .unwrap();
        let mut rows = self.tables.get(&database).cloned().unwrap_or_default();
        rows.leases.sort_by_key(|lease| lease.product);
        if self.ledger.with(|l| l.leases_of(DatabaseOid(database))) == rows.leases_of {
            rows.leases.clear();
        }
        let mut rules = Rules {
            generation,
            outdated: false,
            watched: true,
            in_recovery: self.in_recovery,
            exempt_superusers: self.exempt_superusers,
            change_at: None,
            read_at: self.now,
            licenses: placed(database, rows.licenses, |row, key| row.key = key),
            exemptions: placed(database, rows.exemptions, |row, key| row.key = key),
            counts: Some(vec![]),
            bars: rows.bars,
            reservations: placed(database, rows.reservations, |row, key| row.key = key),
            left_out: RuleCounts::default(),
            reserved_roles: vec![],
            roles_edition: 0,
            leases_of: rows.leases_of,
            leases: rows.leases,
        };
        rules.sort();
        rules
    }

    /// Returns what rules make of everybody, for `publish`.
    pub fn judge_all(&mut self, database: u32, rules: &mut Rules) -> Judgement {
        let room = self
            .ledger
            .with(|l| l.room_for(DatabaseOid(database), rules.wanted()));
        if let Some(room) = room {
            rules.fit(room);
        }
        let taker = |lease: &StoredLease| (lease.who.role, DatabaseOid(database));
        let mut roles: Vec<RoleIn> = rules.leases.iter().map(taker).collect();
        let planned = self.ledger.with(|l| {
            l.each_role(|taker, _| roles.push(taker));
            assert!(roles.len() <= l.holders() + rules.leases.len());
            l.plan_roles(DatabaseOid(database), &rules.reservations)
        });
        rules.reserved_roles = planned.each().collect();
        let catalog = &mut self.catalog;
        let judge = |s: &Session| (s.number, rules.judge(s, catalog));
        Judgement {
            standings: self.ledger.sessions.iter().map(judge).collect(),
            by_login: rules.by_login(&self.ledger.sessions),
            members: rules.members(roles, catalog),
        }
    }

    pub fn publish(&mut self, database: u32, rules: &mut Rules) -> Published {
        let judgement = self.judge_all(database, rules);
        let now = self.now;
        self.ledger
            .with(|l| l.publish(DatabaseOid(database), rules, &judgement, now))
    }

    pub fn load(&mut self, database: u32) -> Published {
        let mut rules = self.read(database);
        self.publish(database, &mut rules)
    }

    /// Returns what the rules in force make of a session.
    pub fn judge(&mut self, session: &Session) -> Judged {
        let (licenses, exemptions, roles) = self.ledger.with(|l| l.rows(session.database));
        let mut rules = Rules {
            licenses: Vec::with_capacity(licenses),
            exemptions: Vec::with_capacity(exemptions),
            reserved_roles: Vec::with_capacity(roles),
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
            standing: rules.judge(session, &mut self.catalog),
            roles: rules.roles_of((session.who.role, session.database), &mut self.catalog),
            roles_edition: rules.roles_edition,
            enforcement: self.enforcement,
            now: self.now,
            asked: false,
        }
    }

    /// Logs a session in, and returns the place where it is or would be.
    pub fn log_in(&mut self, session: Session) -> (Slot, Answer) {
        let place = self.ledger.free_slot().expect("a free slot");
        (place, self.log_in_at(place, session, false))
    }

    /// Logs a session in at this place, which has asked idle seats to give way or not.
    pub fn log_in_at(&mut self, place: Slot, mut session: Session, asked: bool) -> Answer {
        if !self.is_current(session.database.0) {
            let published = self.load(session.database.0);
            assert!(matches!(published, Published::InForce { .. }));
        }
        self.stamp(&mut session);
        let judged = Judged {
            asked,
            ..self.judge(&session)
        };
        self.ledger.with(|l| l.admit(place, session, judged))
    }

    /// Logs a superuser in while the rules can't be read.
    pub fn log_in_blindly(&mut self, mut session: Session) -> Slot {
        self.stamp(&mut session);
        let place = self.ledger.free_slot().expect("a free slot");
        let now = self.now;
        self.ledger.with(|l| l.register(place, session, now));
        place
    }

    /// Logs a session in that must get in without a remark, and returns its place.
    pub fn enters(&mut self, session: Session) -> Slot {
        let (place, answer) = self.log_in(session);
        assert_eq!(answer, Answer::Admitted(Remark::None));
        place
    }

    pub fn log_out(&mut self, place: Slot) {
        while !self.log_out_some(place) {}
    }

    /// Does one step of it. Returns true when it was the last.
    pub fn log_out_some(&mut self, place: Slot) -> bool {
        let now = self.now;
        self.ledger
            .with(|l| l.release_some(place, 2, Leaving::Logout, now))
    }

    fn stamp(&mut self, session: &mut Session) {
        self.logins += 1;
        session.since = self.now;
    }

    /// Returns seats taken of a product, in whatever database or pool.
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

    /// Returns the tally of a product that counts in one.
    pub fn tally(&mut self, product: &str) -> Tally {
        self.ledger.with(|l| {
            let mut found = None;
            l.tallies.each(|t| {
                if t.product == name(product) {
                    assert!(found.replace(*t).is_none());
                }
            });
            found.unwrap()
        })
    }

    /// Asks for a seat as the session at this place, as the server's functions do.
    pub fn claim(&mut self, at: Slot, product: &str, want: SeatRequest, patient: bool) -> Claimed {
        let session = self.ledger.sessions[at.0];
        if !self.is_current(session.database.0) {
            let published = self.load(session.database.0);
            assert!(matches!(published, Published::InForce { .. }));
        }
        let judged = self.judged_for(at, product);
        if let Some(lease) = want.lease {
            self.takers.insert(lease.id, session.number);
        }
        self.ledger.with(|l| l.claim(at, &judged, &want, patient))
    }

    /// Returns what the session at this place brings along when it asks for a product.
    pub fn judged_for(&mut self, at: Slot, product: &str) -> Judged {
        let session = self.ledger.sessions[at.0];
        let license = self.ledger.with(|l| {
            let mut license = None;
            l.licenses.each(|row| {
                if row.key.database == session.database && row.product == name(product) {
                    license = Some(row.key.place);
                }
            });
            license
        });
        Judged {
            standing: Standing {
                exempt: session.exempt,
                license,
            },
            ..self.judge(&session)
        }
    }

    /// Checks out a seat that must be got without a remark.
    pub fn checks_out(&mut self, at: Slot, product: &str, client_user: &str) -> Receipt {
        held(self.claim(at, product, want(client_user), false))
    }

    pub fn check_in(&mut self, at: Slot, product: &str, client_user: &str) -> bool {
        let now = self.now;
        self.ledger
            .with(|l| l.check_in(at, &name(product), &Label::of(client_user), now))
    }

    pub fn check_in_all(&mut self, at: Slot) {
        while self.check_in_some(at) {}
    }

    /// Does one step of it. Returns true when there are more.
    pub fn check_in_some(&mut self, at: Slot) -> bool {
        let now = self.now;
        self.ledger.with(|l| l.check_in_some(at, 2, now))
    }

    /// Makes a claim that must wait in the queue, and returns its ticket.
    pub fn waits(&mut self, at: Slot, product: &str, want: SeatRequest) -> Ticket {
        match self.claim(at, product, want, true) {
            Claimed::Waits(ticket) => ticket,
            other => panic!("{other:?}"),
        }
    }

    /// Tells whether it is for this one in the queue to ask idle seats.
    pub fn begins_to_ask(&mut self, ticket: Ticket) -> bool {
        let now = self.now;
        self.ledger.with(|l| l.begin_to_ask(ticket, now))
    }

    pub fn collect(&mut self, ticket: Ticket) -> Option<Receipt> {
        let now = self.now;
        self.ledger.with(|l| l.collect(ticket, now))
    }

    pub fn leave(&mut self, ticket: Ticket) {
        let now = self.now;
        self.ledger.with(|l| l.leave(ticket, now));
    }

    pub fn waits_in_vain(&mut self, ticket: Ticket) -> bool {
        let now = self.now;
        self.ledger.with(|l| l.may_wait_until(ticket, now).is_err())
    }

    /// Returns the places of those whom the last changes wake.
    pub fn woken(&mut self) -> Vec<Slot> {
        let mut woken = vec![];
        self.ledger.with(|l| {
            if std::mem::take(&mut l.head.ring) {
                l.each_to_wake(|at| woken.push(at));
            }
        });
        woken.sort();
        woken
    }

    /// Takes a lease that must get its seat without a remark, in a transaction that goes on.
    pub fn leases(&mut self, at: Slot, product: &str, want: SeatRequest) -> Receipt {
        held(self.claim(at, product, want, false))
    }

    /// Commits the transaction that took a lease.
    pub fn commit_lease(&mut self, id: LeaseId) {
        let hold = self.hold(id).expect("a lease");
        let text = self.ledger.with(|l| l.long_name(&hold.who.client_user));
        let product = self
            .ledger
            .with(|l| l.tallies.get(&hold.tally).unwrap().product);
        let rows = self.tables.entry(hold.database.0).or_default();
        rows.leases.push(StoredLease {
            id,
            product,
            who: hold.who,
            long_name: text,
            ttl: hold.ttl,
            taken_by: hold.taken_by,
        });
        self.ledger.with(|l| l.commit_lease(id));
    }

    /// Rolls back the transaction that took a lease, or commits one that released it.
    pub fn drop_lease(&mut self, id: LeaseId) {
        for rows in self.tables.values_mut() {
            rows.leases.retain(|lease| lease.id != id);
        }
        let now = self.now;
        self.ledger
            .with(|l| l.drop_lease(Slot(usize::MAX), id, now));
    }

    pub fn heartbeat(&mut self, at: Slot, id: LeaseId) -> Option<Timestamp> {
        let now = self.now;
        let own = self.takers.get(&id) == Some(&self.ledger.sessions[at.0].number);
        self.ledger.with(|l| l.heartbeat(at, id, own, now))
    }

    /// Returns a lease that has not ended.
    pub fn lease(&mut self, id: LeaseId) -> Option<Hold> {
        self.ledger.with(|l| l.lease(id).copied())
    }

    /// Returns a lease that has ended or not.
    pub fn hold(&mut self, id: LeaseId) -> Option<Hold> {
        let key = crate::core::ledger::hold::HoldKey::lease(id);
        self.ledger.with(|l| l.holds.get(&key).copied())
    }

    /// Does what the launcher does when a lease's time may be up.
    pub fn end_due_leases(&mut self) -> Vec<LeaseId> {
        let now = self.now;
        let mut due = vec![];
        self.ledger.with(|l| {
            if l.head.next_due <= now {
                l.each_due(now, |id| due.push(id));
                l.expire(&due, now);
                l.note_next_due();
            }
        });
        due
    }

    /// Does what a database worker does with the rows of leases that have ended.
    pub fn bury(&mut self, database: u32) -> Vec<LeaseId> {
        let mut ended = vec![];
        self.ledger
            .with(|l| l.each_ended(DatabaseOid(database), |id| ended.push(id)));
        if let Some(rows) = self.tables.get_mut(&database) {
            rows.leases.retain(|lease| !ended.contains(&lease.id));
        }
        self.ledger.with(|l| l.bury(&ended));
        ended
    }

    pub fn may_use(&mut self, at: Slot, product: &str) -> bool {
        let enforcement = self.enforcement;
        let answer = self
            .ledger
            .with(|l| l.may_use(at, &name(product), None, enforcement));
        assert_ne!(answer, MayUse::Unlicensed);
        answer == MayUse::Yes
    }

    /// Takes what the audit trail of every database is to be told, in the order in which it happened.
    pub fn tell_all(&mut self) -> Vec<Event> {
        let now = self.now;
        self.ledger.with(|l| {
            let mut events = vec![];
            let mut lost = vec![];
            l.databases.each(|d| lost.push((d.oid, d.trail.lost)));
            for (database, lost) in lost {
                l.release_denials(database, now);
                let before = events.len();
                l.take_events(database, 0, usize::MAX, |event, _| events.push(*event));
                let last = events.last().map_or(0, |event: &Event| event.number);
                let forgotten = l.forget_written(database, last, usize::MAX);
                assert_eq!(forgotten, events.len() - before);
                l.note_written(database, lost, 0, now);
            }
            // Denials are gathered.
            let mut gathered = 0;
            l.spells
                .each(|spell| gathered += usize::from(spell.row != 0));
            assert_eq!(l.events.len(), gathered, "events");
            assert!(gathered > 0 || l.texts.len() == 0);
            assert_eq!(l.head.next_write.min(now), now);
            events.sort_by_key(|event| event.number);
            events
        })
    }

    /// Asserts that nothing is left of anybody: neither seats, nor holds, nor waits, nor names, nor counts.
    pub fn assert_empty(&mut self) {
        self.tell_all();
        self.ledger.with(|l| {
            assert_eq!(l.seats.len(), 0, "seats");
            assert_eq!(l.holds.len(), 0, "holds");
            assert_eq!(l.spots.len(), 0, "spots");
            assert_eq!(l.waits.len(), 0, "waits");
            assert_eq!(l.long_names.len(), 0, "long names");
            l.tallies.each(|t| {
                assert_eq!((t.in_use, t.users, t.waiting), (0, 0, 0), "{t:?}");
                assert_eq!((t.lingering, t.promised), (0, 0), "{t:?}");
            });
            assert_eq!(l.takers.len(), 0, "takers");
            l.databases.each(|d| assert_eq!(d.leases.ended, 0, "{d:?}"));
        });
    }
}

/// Returns the receipt of a claim that must get its seat without a remark.
pub fn held(claimed: Claimed) -> Receipt {
    match claimed {
        Claimed::Held(receipt) => {
            assert_eq!(receipt.remark, Remark::None);
            receipt
        }
        other => panic!("{other:?}"),
    }
}

/// Returns what an application asks for its user; without a name, for the session's own.
pub fn want(client_user: &str) -> SeatRequest {
    let label = Label::of(client_user);
    SeatRequest {
        client_user: label,
        long_name: label.is_digest().then(|| Text::new(client_user).unwrap()),
        lease: None,
        users_max: None,
    }
}

/// Returns the lease of this number that an application asks for its user at a computer.
pub fn lease(number: u8, client_user: &str, host: &str) -> SeatRequest {
    let address: Option<IpAddr> = host.parse().ok();
    SeatRequest {
        lease: Some(NewLease {
            id: id(number),
            host: address.map_or(Host::LOCAL, |a| Host::of_peer(Some((a, 0)), None)),
            host_name: Name::EMPTY,
            ttl: TTL,
            taken_by: RoleOid::NONE,
        }),
        ..want(client_user)
    }
}

/// Returns the id of the lease of this number.
pub fn id(number: u8) -> LeaseId {
    [
        number, 0, 0, 0, 0, 0, 0x40, 0, 0x80, 0, 0, 0, 0, 0, 0, number,
    ]
}

fn placed<R>(database: u32, mut rows: Vec<R>, set: impl Fn(&mut R, RowKey)) -> Vec<R> {
    for (place, row) in (0..).zip(&mut rows) {
        let database = DatabaseOid(database);
        set(row, RowKey { database, place });
    }
    rows
}

/// The server's catalogs: role 1 is a superuser, roles 1 and 2 are members of "staff", role 3 of
/// "batch"; and what is granted.
#[derive(Default)]
pub struct Catalog {
    /// Databases and their owners.
    pub owners: BTreeSet<(u32, u32)>,
    pub granted: BTreeSet<(u32, &'static str)>,
}

impl Facts for Catalog {
    fn is_member(&mut self, role: RoleOid, database: DatabaseOid, group: &Name) -> bool {
        let (role, database) = (role.0, database.0);
        *group == name(&format!("r{role}"))
            || *group == name("owner") && self.owners.contains(&(database, role))
            || is_member(role, group.as_str())
            || self
                .granted
                .iter()
                .any(|&grant| grant == (role, group.as_str()))
    }

    fn is_superuser(&mut self, role: RoleOid) -> bool {
        role == RoleOid(1)
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

/// Matches as LIKE does, without escapes.
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
            database: DatabaseOid::NONE,
            place: 0,
        },
        tally: TallyId::NONE,
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
        linger: 0,
        idle_timeout: None,
        reclaim_idle_after: None,
        max_per_user: None,
        denied: 0,
        counted_since: 0,
        level: Level::Normal,
        warned_ending: None,
        interfered: false,
        signed: None,
    }
}

pub fn exempt_role(role: &str) -> Exemption {
    Exemption {
        key: RowKey {
            database: DatabaseOid::NONE,
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

/// Returns seats that are kept for members of a role, and how many they may use.
pub fn reservation(
    product: &str,
    role: &str,
    reserved: i32,
    max_seats: impl Into<Option<i32>>,
) -> Reservation {
    Reservation {
        key: RowKey {
            database: DatabaseOid::NONE,
            place: 0,
        },
        tally: TallyId::NONE,
        product: name(product),
        role: name(role),
        reserved,
        max_seats: max_seats.into(),
        number: 0,
        shared: false,
    }
}

/// Returns a session of database 1, of a role from a computer: "local" or an address.
pub fn session(role: u32, host: &str) -> Session {
    let address: Option<IpAddr> = host.parse().ok();
    Session {
        database: DatabaseOid(1),
        who: Who {
            role: RoleOid(role),
            host: Host::of_peer(address.map(|a| (a, 0)), None),
            workstation: Name::EMPTY,
            client_user: Label::EMPTY,
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
    session.database = DatabaseOid(database);
    session
}

/// Returns numbers below a limit, the same for each seed.
pub fn dice(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    move |limit| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % limit as u64) as usize
    }
}
