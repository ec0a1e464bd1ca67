//! Databases of one server that count a product together (counting rule 5).

use super::server::{ROOM, Server, license, name, of_database, session};
use crate::ledger::license::{CountedBy, License};
use crate::ledger::table::Table;
use crate::ledger::{Answer, Cause, Denial, Published, Remark};

const PC1: &str = "10.0.0.1";
const PC2: &str = "10.0.0.2";
const PC3: &str = "10.0.0.3";

fn pooled(counted_by: CountedBy, seats: i32) -> License {
    License {
        pool: name("group"),
        counted_by,
        ..license("crm", seats)
    }
}

/// A server with a license of one pool in each of databases 1, 2, …
fn pool(licenses: &[License]) -> Server {
    let mut server = Server::new(ROOM);
    for (database, license) in (1..).zip(licenses) {
        server.change(database, |rows| rows.licenses.push(*license));
        server.load(database);
    }
    server
}

#[test]
fn one_identity_in_several_databases_of_a_pool_holds_one_seat() {
    let mut server = pool(&[pooled(CountedBy::UserHost, 1); 2]);
    let first = server.enters(session(2, PC1));
    server.enters(of_database(session(2, PC1), 2));
    assert_eq!((server.in_use("crm"), server.seats_taken()), (1, 1));
    server.log_out(first);
    assert_eq!(server.in_use("crm"), 1);
}

#[test]
fn databases_without_a_pool_count_by_themselves() {
    let mut server = pool(&[license("crm", 1), license("crm", 1)]);
    server.enters(session(2, PC1));
    server.enters(of_database(session(2, PC1), 2));
    assert_eq!(server.seats_taken(), 2);
}

#[test]
fn one_products_seats_never_serve_another_in_a_pool() {
    let other = License {
        product: name("books"),
        ..pooled(CountedBy::UserHost, 1)
    };
    let mut server = pool(&[pooled(CountedBy::UserHost, 1), other]);
    server.enters(session(2, PC1));
    server.enters(of_database(session(2, PC1), 2));
    assert_eq!((server.in_use("crm"), server.in_use("books")), (1, 1));
}

#[test]
fn each_database_checks_the_pools_count_against_its_own_seats() {
    let mut server = pool(&[
        pooled(CountedBy::UserHost, 3),
        pooled(CountedBy::UserHost, 1),
    ]);
    server.enters(session(2, PC1));
    let (_, answer) = server.log_in(of_database(session(2, PC2), 2));
    match answer {
        Answer::Denied(Denial { cause, .. }) => assert_eq!(
            cause,
            Cause::Full {
                in_use: 1,
                limit: 1,
                kept: 0
            }
        ),
        other => panic!("{other:?}"),
    }
    server.enters(session(2, PC2));
}

#[test]
fn where_a_pool_disagrees_the_finer_rule_rules_and_is_reported() {
    let mut server = pool(&[pooled(CountedBy::User, 9)]);
    server.enters(session(2, PC1));
    server.enters(session(2, PC2));
    assert_eq!(server.in_use("crm"), 1);
    server.change(2, |rows| rows.licenses.push(pooled(CountedBy::UserHost, 9)));
    assert_eq!(
        server.load(2),
        Published::InForce {
            disagreement: Some(name("crm"))
        }
    );
    assert_eq!(server.in_use("crm"), 2);
    server.change(2, |rows| rows.licenses.clear());
    assert_eq!(server.load(2), Published::InForce { disagreement: None });
    assert_eq!(server.in_use("crm"), 1);
}

#[test]
fn the_rule_of_a_dropped_database_rules_no_longer() {
    let mut server = pool(&[pooled(CountedBy::User, 9), pooled(CountedBy::UserHost, 9)]);
    server.enters(session(2, PC1));
    server.enters(session(2, PC2));
    assert_eq!(server.in_use("crm"), 2);
    server.ledger.with(|l| l.forget(2, 0));
    assert_eq!((server.in_use("crm"), server.seats_taken()), (1, 1));
    server.enters(session(2, PC3));
    assert_eq!(server.in_use("crm"), 1);
}

#[test]
fn between_host_and_user_the_rule_that_gives_more_seats_rules() {
    let mut server = pool(&[pooled(CountedBy::User, 2), pooled(CountedBy::Host, 2)]);
    let first = server.enters(session(2, PC1));
    // One user on two hosts: two seats by host.
    server.enters(session(2, PC2));
    assert_eq!(server.in_use("crm"), 2);
    let (_, answer) = server.log_in(session(2, PC3));
    assert!(matches!(answer, Answer::Denied(_)), "{answer:?}");
    // Two users on one host: two seats by user.
    server.log_out(first);
    assert_eq!(server.in_use("crm"), 1);
    server.enters(session(4, PC2));
    assert_eq!(server.in_use("crm"), 2);
    let (_, answer) = server.log_in(session(5, PC2));
    assert!(matches!(answer, Answer::Denied(_)), "{answer:?}");
}

#[test]
fn a_logout_can_make_the_other_rule_the_one_that_gives_more_seats() {
    let mut server = pool(&[pooled(CountedBy::User, 9), pooled(CountedBy::Host, 9)]);
    server.enters(session(2, PC1));
    server.enters(session(2, PC2));
    let others = [4, 5, 6].map(|role| server.enters(session(role, PC1)));
    assert_eq!(server.in_use("crm"), 4);
    for place in others {
        server.log_out(place);
    }
    // One user on two hosts is left.
    assert_eq!(server.in_use("crm"), 2);
}

#[test]
fn comparing_two_rules_leaves_seats_and_high_water_alone() {
    let mut server = pool(&[pooled(CountedBy::User, 9), pooled(CountedBy::Host, 9)]);
    let first = server.enters(session(2, PC1));
    server.enters(session(2, PC1));
    server.log_out(first);
    let seat = |server: &mut Server| {
        server.ledger.with(|l| {
            let key = l.sessions[1].seat.unwrap();
            let high_water = l.tallies.get(&key.tally).unwrap().high_water;
            (l.seats.get(&key).unwrap().number, high_water)
        })
    };
    let before = seat(&mut server);
    assert_eq!(before.1, 1);
    let place = server.enters(session(2, PC1));
    server.log_out(place);
    assert_eq!(seat(&mut server), before);
    // Nor does a change in a database that has nothing to do with it.
    server.change(3, |rows| rows.licenses.push(license("crm", 9)));
    server.load(3);
    assert_eq!(seat(&mut server), before);
}

#[test]
fn a_login_to_one_database_of_a_pool_never_reads_anothers_seats() {
    let mut server = pool(&[pooled(CountedBy::UserHost, 1), license("crm", 1)]);
    server.enters(session(2, PC1));
    let (_, answer) = server.log_in(of_database(session(4, PC1), 2));
    assert_eq!(answer, Answer::Admitted(Remark::None));
}
