//! Databases of one server that count a product together (counting rule 5).

use super::server::{ROOM, Server, license, name, of_database, session};
use crate::core::ledger::acts::admission::Answer;
use crate::core::ledger::acts::publish::Published;
use crate::core::ledger::denial::{Cause, Denial, Remark};
use crate::core::ledger::license::License;
use crate::core::ledger::numbers::DatabaseOid;
use crate::core::ledger::words::CountedBy;

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

/// Returns a server with a license of one pool in each of databases 1, 2, …
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
    server.ledger.with(|l| l.forget(DatabaseOid(2), 0));
    assert_eq!((server.in_use("crm"), server.seats_taken()), (1, 1));
    server.enters(session(2, PC3));
    assert_eq!(server.in_use("crm"), 1);
}

#[test]
fn where_no_row_says_session_by_role_and_host_is_the_finest() {
    use CountedBy::{Host, Session, User, UserHost, UserWorkstation};
    for (rules, seats) in [
        ([User, Host], 3),
        ([Host, User], 3),
        ([User, UserWorkstation], 3),
        ([UserWorkstation, Host], 3),
        ([UserHost, Host], 3),
        ([Session, Host], 4),
        ([User, Session], 4),
        ([User, User], 2),
        ([Host, Host], 2),
    ] {
        let mut server = pool(&rules.map(|rule| pooled(rule, 9)));
        // One user at two hosts, twice at one of them, and another there.
        server.enters(session(2, PC1));
        server.enters(session(2, PC2));
        server.enters(of_database(session(2, PC2), 2));
        server.enters(of_database(session(4, PC2), 2));
        assert_eq!(server.in_use("crm"), seats, "{rules:?}");
    }
}

#[test]
fn a_login_to_one_database_of_a_pool_never_reads_anothers_seats() {
    let mut server = pool(&[pooled(CountedBy::UserHost, 1), license("crm", 1)]);
    server.enters(session(2, PC1));
    let (_, answer) = server.log_in(of_database(session(4, PC1), 2));
    assert_eq!(answer, Answer::Admitted(Remark::None));
}
