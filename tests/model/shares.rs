//! How databases share the room for rules.

use std::collections::BTreeMap;

use super::ending::{HOUR, leaves, pc, seat_at, stops};
use super::reservations::kept;
use super::server::{ROOM, Server, dice, exempt_role, license, name, of_database, session};
use crate::core::ledger::acts::admission::Answer;
use crate::core::ledger::acts::ending::Stopping;
use crate::core::ledger::acts::publish::Published;
use crate::core::ledger::denial::Remark;
use crate::core::ledger::event::Leaving;
use crate::core::ledger::map::Capacity;
use crate::core::ledger::numbers::{DatabaseOid, Generation};
use crate::core::ledger::roles::ROLES_MAX;
use crate::core::ledger::rules::Exemption;
use crate::core::ledger::table::Table;

const IN_FORCE: Published = Published::InForce { disagreement: None };

fn server(rules: usize) -> Server {
    Server::new(Capacity {
        databases: 40,
        licenses: 200,
        exemptions: 200,
        reservations: 200,
        rules,
        ..ROOM
    })
}

fn exemptions(many: usize) -> Vec<Exemption> {
    (1..=many).map(|n| exempt_role(&format!("e{n}"))).collect()
}

/// Licenses a database with so many exemptions, and tries to put its rules in force.
fn sets(server: &mut Server, database: u32, many: usize) -> Published {
    server.change(database, |rows| {
        rows.licenses = vec![license("crm", 1)];
        rows.exemptions = exemptions(many);
    });
    server.load(database)
}

/// Tells how many exemptions of a database are in force, and how many rows of it are not.
fn fits(server: &mut Server, database: u32) -> (usize, u32) {
    server.ledger.with(|l| {
        let known = l.databases.get(&DatabaseOid(database)).unwrap();
        (
            l.rows_of(DatabaseOid(database)).exemptions,
            known.rows.left_out,
        )
    })
}

/// Reads every database that is to be read, as database workers do.
fn settle(server: &mut Server) {
    for _ in 0..5 {
        for database in server.unread_untold() {
            server.load(database);
        }
    }
    assert!(server.unread_untold().is_empty());
}

#[test]
fn who_has_most_rules_gives_way_to_who_has_no_more_than_its_part() {
    let mut server = server(60);
    assert_eq!(sets(&mut server, 1, 70), IN_FORCE);
    assert_eq!(fits(&mut server, 1), (59, 11));
    // Its part is thirty.
    assert_eq!(sets(&mut server, 2, 29), IN_FORCE);
    assert_eq!(fits(&mut server, 2), (29, 0));
    assert_eq!(fits(&mut server, 1), (29, 41));
    assert_eq!(sets(&mut server, 2, 40), IN_FORCE);
    assert_eq!(fits(&mut server, 2), (29, 11));
    settle(&mut server);
    assert_eq!(
        [fits(&mut server, 1), fits(&mut server, 2)],
        [(29, 41), (29, 11)]
    );
    // Whoever has few takes of those who have most.
    assert_eq!(sets(&mut server, 3, 9), IN_FORCE);
    settle(&mut server);
    assert_eq!(fits(&mut server, 3), (9, 0));
    assert_eq!([fits(&mut server, 1).0, fits(&mut server, 2).0], [24, 24]);
    // The oldest stay, and who was exempt by a newer one is so no longer.
    let newest = |n| name(&format!("e{n}"));
    server.catalog.granted.insert((7, "e24"));
    server.catalog.granted.insert((8, "e25"));
    let exempt = |server: &mut Server, role| server.judge(&session(role, &pc(1))).standing.exempt;
    assert!(exempt(&mut server, 7).is_some());
    assert!(exempt(&mut server, 8).is_none());
    assert_ne!(newest(24), newest(25));
    // What others no longer need is had again.
    server.change(2, |rows| rows.exemptions.clear());
    assert_eq!(server.load(2), IN_FORCE);
    settle(&mut server);
    assert_eq!(fits(&mut server, 1), (48, 22));
    let now = server.now;
    server.ledger.with(|l| l.forget(DatabaseOid(3), now));
    settle(&mut server);
    assert_eq!(fits(&mut server, 1), (58, 12));
    sets(&mut server, 1, 10);
    settle(&mut server);
    assert_eq!(fits(&mut server, 1), (10, 0));
}

/// It is told once of each change.
#[test]
fn whose_rows_do_not_fit_is_told_once() {
    let mut server = server(30);
    let told = |server: &mut Server| {
        let mut told = BTreeMap::new();
        while let Some((database, rows, _)) = server.ledger.with(|l| l.log_left_out()) {
            told.insert(database.0, rows);
        }
        told
    };
    sets(&mut server, 1, 29);
    assert!(told(&mut server).is_empty());
    sets(&mut server, 1, 30);
    assert_eq!(told(&mut server), BTreeMap::from([(1, 1)]));
    sets(&mut server, 1, 30);
    assert!(told(&mut server).is_empty());
    sets(&mut server, 2, 4);
    assert_eq!(told(&mut server), BTreeMap::from([(1, 6)]));
    sets(&mut server, 1, 3);
    assert_eq!(told(&mut server), BTreeMap::from([(1, 0)]));
}

/// At a start licenses come first; and whose licenses don't fit keeps the last rules.
#[test]
fn licenses_come_before_all_else() {
    let mut server = server(60);
    let many = |n: usize| {
        let rows = (0..n).map(|n| license(&format!("p{n}"), 1));
        rows.collect::<Vec<_>>()
    };
    let mut rows = many(40);
    rows[0].product = name("crm");
    server.change(1, |held| {
        held.licenses = rows;
        held.exemptions = exemptions(25);
        held.reservations = (0..3).map(|n| kept(&format!("g{n}"), 0)).collect();
    });
    assert_eq!(server.load(1), IN_FORCE);
    assert_eq!(fits(&mut server, 1), (17, 8));
    server.ledger.with(|l| assert_eq!(l.reservations.len(), 3));
    server.change(1, |held| held.licenses = many(61));
    assert_eq!(server.load(1), Published::TooManyRules);
    server.ledger.with(|l| assert_eq!(l.licenses.len(), 40));
    server.judge(&session(2, &pc(1)));
    // Of a database with more than its part one with no more than its own takes all.
    server.change(2, |held| held.licenses = many(30));
    assert_eq!(server.load(2), IN_FORCE);
    assert_eq!(server.load(1), Published::TooManyRules);
    let known = server
        .ledger
        .with(|l| *l.databases.get(&DatabaseOid(1)).unwrap());
    assert_eq!(
        (known.in_force.loaded, known.rows.left_out),
        (Generation::NONE, 60)
    );
    server.change(1, |held| held.licenses = many(29));
    assert_eq!(server.load(1), IN_FORCE);
    assert_eq!(fits(&mut server, 1), (0, 27));
}

#[test]
fn a_new_bar_takes_the_place_of_the_newest_exemption() {
    let mut server = server(10);
    sets(&mut server, 1, 9);
    let at = server.enters(of_database(session(9, &pc(1)), 1));
    let seat = seat_at(&mut server, at);
    assert!(matches!(
        stops(&mut server, &seat, HOUR),
        Stopping::Begun(_)
    ));
    leaves(&mut server, at, Leaving::Termination);
    assert_eq!(fits(&mut server, 1), (8, 1));
    assert_eq!(server.ledger.with(|l| l.rules_in_force()), 10);
    super::bars::store_bars(&mut server);
    assert_eq!(fits(&mut server, 1), (8, 1));
    assert_eq!(server.ledger.with(|l| l.rules_in_force()), 10);
    // Bars go after exemptions, the newest first.
    sets(&mut server, 2, 4);
    assert_eq!(
        (fits(&mut server, 1), fits(&mut server, 2)),
        ((3, 6), (4, 0))
    );
}

/// Whatever rows come and go: never more than there is room for, nobody with no more than its part is
/// left out, and nobody with a license that fits is without rules.
#[test]
fn whatever_comes_who_has_no_more_than_its_part_fits() {
    for seed in 1..=300_u64 {
        let mut below = dice(seed);
        let rules = 24 + below(60);
        let mut server = server(rules);
        let mut rows: BTreeMap<u32, usize> = BTreeMap::new();
        for _ in 0..40 {
            let database = 1 + below(4) as u32;
            let now = server.now;
            match below(8) {
                0 => {
                    server.ledger.with(|l| l.forget(DatabaseOid(database), now));
                    server.tables.remove(&database);
                    rows.remove(&database);
                }
                n => {
                    let many = if n < 4 { below(rules) } else { below(8) };
                    sets(&mut server, database, many);
                    rows.insert(database, 1 + many);
                }
            }
            settle(&mut server);
            assert!(
                server.ledger.with(|l| l.rules_in_force()) <= rules,
                "seed {seed}"
            );
            let all: usize = rows.values().sum();
            let part = rules / rows.len().max(1);
            let mut in_force = 0;
            for (&database, &wanted) in &rows {
                let (fitting, left_out) = fits(&mut server, database);
                assert_eq!(fitting + 1 + left_out as usize, wanted, "seed {seed}");
                in_force += fitting + 1;
                if wanted <= part {
                    assert_eq!(left_out, 0, "seed {seed}: {database} of {rows:?}");
                }
            }
            assert_eq!(in_force, all.min(rules), "seed {seed}: {rows:?}");
        }
    }
}

#[test]
fn whose_reservations_name_too_many_roles_goes_without_those() {
    let mut server = server(200);
    let all: Vec<_> = (0..ROLES_MAX).map(|n| kept(&format!("g{n}"), 0)).collect();
    server.change(1, |rows| {
        rows.licenses = vec![license("crm", 9)];
        rows.reservations = all.clone();
        rows.reservations.push(kept("too many", 9));
    });
    assert_eq!(server.load(1), IN_FORCE);
    let (_, answer) = server.log_in(session(2, &pc(1)));
    assert_eq!(answer, Answer::Admitted(Remark::None));
    assert_eq!(
        server.ledger.with(|l| l.log_left_out()),
        Some((DatabaseOid(1), 0, 1))
    );
    // Another database is not concerned, and has what is free again.
    server.change(2, |rows| {
        rows.licenses = vec![license("crm", 1)];
        rows.reservations = vec![kept("g7", 0), kept("mine", 1)];
    });
    assert_eq!(server.load(2), IN_FORCE);
    server.enters(of_database(session(2, &pc(1)), 2));
    server.change(1, |rows| rows.reservations = all[1..].to_vec());
    assert_eq!(server.load(1), IN_FORCE);
    settle(&mut server);
    server
        .ledger
        .with(|l| assert!(l.head.reserved_roles.number(&name("mine")).is_some()));
}
