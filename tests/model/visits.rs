//! Which databases are visited, what becomes of that, and who waits for them.

use std::time::{Duration, Instant};

use super::server::{ROOM, Server, license, name, of_database, session, superuser};
use crate::core::ledger::acts::publish::Published;
use crate::core::ledger::acts::visits::RememberedPools;
use crate::core::ledger::license::License;
use crate::core::ledger::numbers::{DatabaseOid, Generation};
use crate::core::ledger::pauses::Pauses;
use crate::core::ledger::session::Session;
use crate::core::ledger::visit::{Due, Outcome, Stage, Unread, Unsettled};

const PC1: &str = "10.0.0.1";
const PC2: &str = "10.0.0.2";

const IN_FORCE: Published = Published::InForce { disagreement: None };

/// A visit of database 1.
const DUE: Due = Due {
    database: DatabaseOid(1),
    generation: Generation(7),
    last: 0,
    wanted: false,
    writes: false,
};

/// Returns a license of a pool.
fn pooled(product: &str, pool: &str) -> License {
    License {
        pool: name(pool),
        ..license(product, 9)
    }
}

/// What was remembered over a restart.
#[derive(Default)]
struct Memory<'a> {
    pooled: &'a [u32],
    without_leases: &'a [u32],
}

impl RememberedPools for Memory<'_> {
    fn may_have_pool(&self, database: DatabaseOid) -> bool {
        self.pooled.contains(&database.0)
    }

    fn is_without_leases(&self, database: DatabaseOid) -> bool {
        self.without_leases.contains(&database.0)
    }
}

/// Database 4 was in the pool, and had no leases.
const WITHOUT_LEASES: Memory = Memory {
    pooled: &[4],
    without_leases: &[4],
};

/// Returns the database that a login to the pool of this product waits for, in database 1; those of the last list may
/// have been in it when last known.
fn awaited(server: &mut Server, product: &str, pooled: &[u32]) -> Option<u32> {
    let without_leases = &[];
    let memory = Memory {
        pooled,
        without_leases,
    };
    awaited_by(server, product, &memory)
}

fn awaited_by(server: &mut Server, product: &str, memory: &Memory) -> Option<u32> {
    let tally = server.tally(product).number;
    let view = server.view();
    let awaited = server.ledger.with(|l| {
        l.note_settled(view.in_recovery);
        l.awaited(tally, DatabaseOid(1), view, memory)
    });
    awaited.map(|known| known.oid.0)
}

/// Returns databases 1 and 2 of a pool, and 3 without one, all read.
fn server() -> Server {
    let mut server = Server::new(ROOM);
    for database in [1, 2] {
        server.change(database, |rows| rows.licenses = vec![pooled("crm", "firm")]);
    }
    server.change(3, |rows| rows.licenses = vec![license("tom", 9)]);
    server.ledger.with(|l| l.set_visited(true, false));
    for database in 1..=3 {
        server.load(database);
    }
    server
}

#[test]
fn of_what_was_never_read_only_those_are_awaited_that_may_be_in_the_pool() {
    let mut server = Server::new(ROOM);
    server.ledger.with(|l| l.set_visited(true, false));
    server.tables.entry(1).or_default().licenses = vec![pooled("crm", "firm")];
    server.load(1);
    for database in [2, 3] {
        server.ledger.with(|l| l.generation(DatabaseOid(database)));
    }
    assert_eq!(awaited(&mut server, "crm", &[2]), Some(2));
    assert_eq!(awaited(&mut server, "crm", &[3]), Some(3));
    assert_eq!(awaited(&mut server, "crm", &[]), None);
    // Where it could not be read, there is nothing that could stay in force.
    server.visit(2, &[Stage::Begun, Stage::Arrived]);
    assert_eq!(awaited(&mut server, "crm", &[2]), Some(2));
    // Whatever is remembered: it may have joined.
    server
        .ledger
        .with(|l| l.unsettle(DatabaseOid(3), Unsettled::Pools));
    assert_eq!(awaited(&mut server, "crm", &[]), Some(3));
    server.load(2);
    server.load(3);
    assert_eq!(awaited(&mut server, "crm", &[2, 3]), None);
}

#[test]
fn of_a_change_those_learn_whom_it_may_concern() {
    let mut server = server();
    assert_eq!(awaited(&mut server, "crm", &[2, 3]), None);
    for (database, unsettled, waits) in [
        (2, Unsettled::Counts, true),
        (2, Unsettled::Pools, true),
        (3, Unsettled::Counts, false),
        (3, Unsettled::Pools, true),
    ] {
        commit(&mut server, database, unsettled);
        let expected = waits.then_some(database);
        assert_eq!(awaited(&mut server, "crm", &[]), expected, "{unsettled:?}");
        // Where it can't be read the last rules stay in force.
        server.visit(database, &[Stage::Begun, Stage::Arrived]);
        assert_eq!(awaited(&mut server, "crm", &[]), None);
        commit(&mut server, database, unsettled);
        server.load(database);
        assert_eq!(awaited(&mut server, "crm", &[]), None);
    }
    // One that is verified again, or seats that went elsewhere, add nothing.
    server.ledger.with(|l| l.outdate_signed());
    server.ledger.with(|l| l.outdate_all());
    assert_eq!(awaited(&mut server, "crm", &[2, 3]), None);
    // Another setting counts others, and what was read on a standby may be old.
    server.ledger.with(|l| l.revisit_all(Unsettled::Counts));
    assert_eq!(awaited(&mut server, "crm", &[]), Some(2));
    server.load(2);
    assert_eq!(awaited(&mut server, "crm", &[]), None);
    server.ledger.with(|l| l.revisit_all(Unsettled::Pools));
    server.load(2);
    assert_eq!(awaited(&mut server, "crm", &[]), Some(3));
}

#[test]
fn who_can_not_be_reached_is_awaited_until_somebody_can_unless_it_adds_nothing() {
    for (stages, outcome, is_tried) in [
        (&[][..], Outcome::NotBegun, false),
        (&[Stage::Begun, Stage::KeptOut], Outcome::KeptOut, true),
        (&[Stage::Begun, Stage::Arrived], Outcome::Died, true),
        (&[Stage::Begun], Outcome::Lost, true),
    ] {
        let mut server = server();
        server.ledger.with(|l| l.generation(DatabaseOid(4)));
        for _ in 0..10 {
            // It may have leases, however often nobody could see them.
            assert_eq!(awaited(&mut server, "crm", &[4]), Some(4));
            assert_eq!(server.visit(4, stages), outcome);
            let expected = (!is_tried).then_some(4);
            assert_eq!(awaited_by(&mut server, "crm", &WITHOUT_LEASES), expected);
        }
        // It is visited all the same.
        assert_eq!(server.unread(), [4], "{outcome:?}");
        assert!(!server.is_current(4));
        server.load(4);
        assert_eq!(awaited(&mut server, "crm", &[4]), None);
    }
}

#[test]
fn an_unreachable_database_is_awaited_as_long_as_somebody_is_in() {
    let mut server = server();
    server.ledger.with(|l| l.generation(DatabaseOid(4)));
    let place = server.log_in_blindly(of_database(session(2, PC1), 4));
    (0..5).for_each(|_| server.lose_database_worker(4));
    assert_eq!(awaited_by(&mut server, "crm", &WITHOUT_LEASES), Some(4));
    server.log_out(place);
    assert_eq!(awaited_by(&mut server, "crm", &WITHOUT_LEASES), None);
}

/// Notes that a database worker could not read a database's tables.
fn fail_to_read(server: &mut Server, database: u32, found: Unread) {
    server.ledger.with(|l| {
        let generation = l.generation(DatabaseOid(database)).unwrap();
        l.visit_failed(DatabaseOid(database), generation, 1, found)
    });
}

/// Commits a transaction that has changed a database's tables.
fn commit(server: &mut Server, database: u32, unsettled: Unsettled) {
    server.ledger.with(|l| {
        l.change_begins(DatabaseOid(database), unsettled);
        l.change_ends(DatabaseOid(database), unsettled);
    });
}

#[test]
fn what_can_not_be_read_is_passed_over_while_nobody_counts_there() {
    let mut server = server();
    server.ledger.with(|l| l.generation(DatabaseOid(4)));
    for (found, expected) in [
        (Unread::MayHaveLeases, Some(4)),
        (Unread::HasNoLeases, None),
    ] {
        fail_to_read(&mut server, 4, found);
        assert_eq!(awaited(&mut server, "crm", &[4]), expected);
    }
    // Who may count is waited for, and whom no rule there could count is not.
    let replicating = Session {
        replication: true,
        ..session(3, PC1)
    };
    for (inside, expected) in [
        (session(2, PC1), Some(4)),
        (superuser(1, PC1), None),
        (replicating, None),
    ] {
        let place = server.log_in_blindly(of_database(inside, 4));
        assert_eq!(awaited(&mut server, "crm", &[4]), expected);
        server.log_out(place);
        assert_eq!(awaited(&mut server, "crm", &[4]), None);
    }
    let place = server.log_in_blindly(of_database(superuser(1, PC1), 4));
    server.exempt_superusers = false;
    assert_eq!(awaited(&mut server, "crm", &[4]), Some(4));
    server.log_out(place);
    // After a change it is to be read anew, and after a promotion others' leases may be in its table.
    commit(&mut server, 4, Unsettled::Counts);
    assert_eq!(awaited(&mut server, "crm", &[4]), Some(4));
    fail_to_read(&mut server, 4, Unread::HasNoLeases);
    assert_eq!(awaited(&mut server, "crm", &[4]), None);
    server.ledger.with(|l| l.revisit_all(Unsettled::Pools));
    server.ledger.head.visited = true;
    for database in [1, 2, 3] {
        server.load(database);
    }
    server.visit(4, &[Stage::Begun, Stage::KeptOut]);
    assert_eq!(awaited(&mut server, "crm", &[4]), Some(4));
}

/// Returns the databases of which it is remembered that they have no leases; nobody had any before the start.
fn without_leases(server: &mut Server) -> Vec<u32> {
    let mut databases = vec![];
    server
        .ledger
        .with(|l| l.each_without_leases(|_| false, |database| databases.push(database.0)));
    databases.sort_unstable();
    databases
}

#[test]
fn that_there_are_no_leases_is_remembered_until_one_comes() {
    let mut server = server();
    server.ledger.with(|l| {
        l.generation(DatabaseOid(4));
        l.note_created(DatabaseOid(5));
    });
    assert_eq!(without_leases(&mut server), [1, 2, 3, 4, 5]);
    let edition = server.ledger.head.pools_edition;
    assert!(server.ledger.with(|l| l.lease_comes(DatabaseOid(2))));
    assert_ne!(server.ledger.head.pools_edition, edition);
    assert_eq!(without_leases(&mut server), [1, 3, 4, 5]);
    // Until somebody has seen to it, everybody must.
    assert!(server.ledger.with(|l| l.lease_comes(DatabaseOid(2))));
    server.ledger.with(|l| l.lease_is_noted(DatabaseOid(2)));
    assert!(!server.ledger.with(|l| l.lease_comes(DatabaseOid(2))));
    assert_eq!(without_leases(&mut server), [1, 3, 4, 5]);
}

#[test]
fn nobody_waits_for_a_database_that_was_created_until_somebody_counts_there() {
    let mut server = server();
    server.ledger.with(|l| l.note_created(DatabaseOid(4)));
    assert_eq!(awaited(&mut server, "crm", &[4]), None);
    server.visit(4, &[Stage::Begun, Stage::KeptOut]);
    assert_eq!(awaited(&mut server, "crm", &[4]), None);
    let place = server.log_in_blindly(of_database(session(2, PC1), 4));
    assert_eq!(awaited(&mut server, "crm", &[4]), Some(4));
    server.log_out(place);
    assert_eq!(awaited(&mut server, "crm", &[4]), None);
    // Once somebody has changed it, it may be in another pool than its template.
    commit(&mut server, 4, Unsettled::Pools);
    assert_eq!(awaited(&mut server, "crm", &[]), Some(4));
    server.load(4);
    assert_eq!(awaited(&mut server, "crm", &[4]), None);
    // Who has changed it before it was noted has been quicker.
    server.ledger.with(|l| {
        l.generation(DatabaseOid(5));
        l.change_begins(DatabaseOid(5), Unsettled::Pools);
        l.note_created(DatabaseOid(5));
    });
    assert_eq!(awaited(&mut server, "crm", &[]), Some(5));
}

#[test]
fn what_is_signed_is_looked_at_whoever_has_read_it() {
    let mut server = Server::with_license(license("crm", 9));
    server.enters(session(2, PC1));
    server.tell_all();
    let due = server.due(1).expect("a visit");
    assert!(server.is_current(1));
    server
        .ledger
        .with(|l| l.observed(DatabaseOid(1), due.generation));
    assert_eq!(server.due(1), None);
    // Also at the moment when it may be another, and after each change.
    let mut rules = server.read(1);
    rules.change_at = Some(server.now + 5);
    server.publish(1, &mut rules);
    assert_eq!(server.due(1), None);
    assert_eq!(server.ledger.head.next_write, server.now + 5);
    server.now += 5;
    assert!(server.due(1).is_some());
    server
        .ledger
        .with(|l| l.observed(DatabaseOid(1), due.generation));
    server.tell_all();
    assert_eq!(server.due(1), None);
    server.ledger.with(|l| l.outdate_all());
    server.enters(session(4, PC2));
    assert!(server.is_current(1) && server.due(1).is_some());
}

#[test]
fn who_was_looking_while_keys_changed_has_not_seen_them() {
    let mut server = Server::with_license(license("crm", 9));
    server.ledger.with(|l| l.generation(DatabaseOid(1)));
    let due = server.due(1).expect("a visit");
    // The database worker has looked, and read, and is yet to say so when it is said that keys are others.
    let mut rules = server.read(1);
    server.ledger.with(|l| l.outdate_signed());
    server
        .ledger
        .with(|l| l.observed(DatabaseOid(1), due.generation));
    assert_ne!(server.publish(1, &mut rules), IN_FORCE);
    server.load(1);
    assert!(server.due(1).is_some());
    // What was looked at, and is not signed, stays as it is.
    let due = server.due(1).expect("another visit");
    server
        .ledger
        .with(|l| l.observed(DatabaseOid(1), due.generation));
    server.ledger.with(|l| l.outdate_signed());
    assert!(server.is_current(1));
}

#[test]
fn a_visit_that_changes_nothing_is_in_vain_and_a_change_meanwhile_is_none() {
    let mut server = server();
    server.change(1, |_| ());
    let stages = [Stage::Begun, Stage::Arrived, Stage::Ended];
    assert_eq!(server.visit(1, &stages), Outcome::InVain);
    let due = server.due(1).unwrap();
    let number = server
        .ledger
        .with(|l| l.send_database_worker(DatabaseOid(1)))
        .unwrap();
    server
        .ledger
        .with(|l| l.visit_reached(DatabaseOid(1), number, Stage::Ended));
    server.change(1, |_| ());
    let view = server.view();
    let ended =
        |server: &mut Server, number| server.ledger.with(|l| l.visit_ended(due, number, view));
    assert_eq!(ended(&mut server, number), Outcome::Made);
    // A database worker of a launcher that is gone says nothing of another's.
    let next = server
        .ledger
        .with(|l| l.send_database_worker(DatabaseOid(1)))
        .unwrap();
    server
        .ledger
        .with(|l| l.visit_reached(DatabaseOid(1), number, Stage::Ended));
    assert_eq!(ended(&mut server, next), Outcome::NotBegun);
}

#[test]
fn a_complaint_is_news_once_and_ever_more_seldom_until_its_cause_is_another() {
    let mut server = server();
    let generation = server.due(1).unwrap().generation;
    let unread = Unread::MayHaveLeases;
    let mut news = |cause| {
        server
            .ledger
            .with(|l| l.visit_failed(DatabaseOid(1), generation, cause, unread))
    };
    let said: Vec<bool> = (0..9).map(|_| news(1)).collect();
    assert_eq!(said.iter().filter(|&&said| said).count(), 4);
    assert!(said[0] && said[1] && said[3] && said[7]);
    assert!(news(2) && news(1));
    server
        .ledger
        .with(|l| l.nothing_to_complain(DatabaseOid(1)));
    let generation = server.due(1).unwrap().generation;
    assert!(
        server
            .ledger
            .with(|l| l.visit_failed(DatabaseOid(1), generation, 1, unread))
    );
}

#[test]
fn pauses_grow_until_a_success_a_change_or_somebody_who_waits() {
    let mut pauses = Pauses::default();
    let due = DUE;
    let mut now = Instant::now();
    assert!(pauses.admit(&due, now));
    let mut news = 0;
    for seconds in [1, 2, 4, 8, 16, 32, 64, 64, 64] {
        news += usize::from(pauses.note(due, Outcome::Lost, now));
        now += Duration::from_secs(seconds) - Duration::from_millis(1);
        assert!(!pauses.admit(&due, now), "{seconds}");
        now += Duration::from_millis(1);
        assert!(pauses.admit(&due, now), "{seconds}");
    }
    assert_eq!(news, 4);
    pauses.note(due, Outcome::Died, now);
    now += Duration::from_secs(1);
    assert!(!pauses.admit(&due, now));
    assert!(pauses.admit(
        &Due {
            wanted: true,
            ..due
        },
        now
    ));
    assert!(pauses.admit(
        &Due {
            generation: Generation(8),
            ..due
        },
        now
    ));
    assert!(pauses.admit(
        &Due {
            database: DatabaseOid(2),
            ..due
        },
        now
    ));
    pauses.note(due, Outcome::Made, now);
    assert!(pauses.admit(&due, now));
    // What is in vain says itself why, and is tried again every second; a server without processes says
    // nothing of the database.
    for _ in 0..9 {
        assert!(!pauses.note(due, Outcome::InVain, now));
        assert!(!pauses.admit(&due, now));
        now += Duration::from_secs(1);
        assert!(pauses.admit(&due, now));
        assert!(!pauses.note(due, Outcome::NotBegun, now));
        assert!(pauses.admit(&due, now));
    }
}

#[test]
fn who_writes_stays_only_while_nobody_needs_a_database_worker_for_anything_else() {
    let mut server = server();
    let view = server.view();
    let may = move |server: &mut Server| server.ledger.with(|l| l.may_stay(DatabaseOid(1), view));
    server.ledger.with(|l| {
        let generation = l.generation(DatabaseOid(1)).unwrap();
        l.observed(DatabaseOid(1), generation);
    });
    assert!(may(&mut server));
    server.ledger.with(|l| l.set_crowded(true));
    assert!(!may(&mut server), "another database waits");
    server.ledger.with(|l| l.set_crowded(false));
    server.ledger.with(|l| l.want(DatabaseOid(1)));
    assert!(!may(&mut server), "somebody waits for its rules");
    server
        .ledger
        .with(|l| l.send_database_worker(DatabaseOid(1)));
    assert!(may(&mut server));
    server.change(1, |rows| rows.licenses = vec![license("tom", 3)]);
    assert!(!may(&mut server), "its rules have changed");
}

#[test]
fn who_is_promoted_relies_on_nothing_that_a_standby_had_settled() {
    let mut server = Server::new(ROOM);
    server.in_recovery = true;
    for database in [1, 2] {
        server.change(database, |rows| rows.licenses = vec![pooled("crm", "firm")]);
        server.load(database);
    }
    server.ledger.with(|l| l.set_visited(true, true));
    assert_eq!(awaited(&mut server, "crm", &[]), None);
    server.in_recovery = false;
    // Before the launcher has seen that.
    server.load(1);
    assert_eq!(awaited(&mut server, "crm", &[]), Some(2));
    assert!(!server.ledger.with(|l| l.is_visited(false)));
    server.load(2);
    server.ledger.with(|l| l.set_visited(true, false));
    assert_eq!(awaited(&mut server, "crm", &[]), None);
}

#[test]
fn who_keeps_others_waiting_rests_for_many_times_as_long() {
    let mut pauses = Pauses::default();
    let due = Due {
        writes: true,
        ..DUE
    };
    let changed = Due {
        generation: Generation(8),
        ..due
    };
    let now = Instant::now();
    let after = |seconds| now + Duration::from_secs(seconds);
    // As one that writes much.
    pauses.note(due, Outcome::Made, now);
    assert!(!pauses.note_kept(due, Duration::from_secs(2), now));
    assert!(pauses.admit(&due, now));
    assert!(pauses.note_kept(due, Duration::from_secs(10), now));
    assert!(!pauses.admit(&due, after(159)));
    assert!(pauses.admit(&due, after(160)));
    assert!(!pauses.admit(&changed, after(9)));
    assert!(pauses.admit(&changed, after(10)));
    pauses.note(due, Outcome::Made, after(161));
    assert!(pauses.admit(&due, after(161)));
}
