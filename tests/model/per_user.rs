//! How many seats one user may have, and for how many client_users one session may hold checkouts.

use super::server::{
    MINUTE, ROOM, Server, lease, license, name, of_database, reservation, session, want,
};
use crate::core::ledger::acts::admission::Answer;
use crate::core::ledger::acts::checkout::{Claimed, SeatRequest};
use crate::core::ledger::denial::{Cause, Denial, Remark};
use crate::core::ledger::license::License;
use crate::core::ledger::numbers::Slot;
use crate::core::ledger::reservation::Reservation;
use crate::core::ledger::session::Session;
use crate::core::ledger::words::{ClaimedAt, CountedBy, Enforcement};

const ANNA: u32 = 11;
const BERT: u32 = 12;

fn pc(n: usize) -> String {
    format!("10.0.0.{n}")
}

fn at_most(max_per_user: i32, seats: impl Into<Option<i32>>) -> License {
    License {
        max_per_user: Some(max_per_user),
        ..license("crm", seats)
    }
}

fn module(max_per_user: i32, seats: i32) -> License {
    License {
        claimed_at: ClaimedAt::Checkout,
        ..at_most(max_per_user, seats)
    }
}

fn full(in_use: i64, limit: i64) -> Cause {
    Cause::UserFull { in_use, limit }
}

fn denied(server: &mut Server, session: Session) -> Cause {
    match server.log_in(session).1 {
        Answer::Denied(Denial { cause, .. }) => cause,
        other => panic!("{other:?}"),
    }
}

fn refused(server: &mut Server, at: Slot, want: SeatRequest) -> Cause {
    match server.claim(at, "crm", want, false) {
        Claimed::Denied(Denial { cause, .. }) => cause,
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_role_has_so_many_seats_wherever_it_works_and_whatever_it_calls_itself() {
    let mut server = Server::with_license(at_most(2, 9));
    let anna = server.enters(session(ANNA, &pc(1)));
    server.enters(session(ANNA, &pc(2)));
    // Who joins a seat needs none.
    server.enters(session(ANNA, &pc(2)));
    assert_eq!(denied(&mut server, session(ANNA, &pc(3))), full(2, 2));
    let named = super::server::with_workstation(session(ANNA, &pc(1)), "LAPTOP");
    assert_eq!(denied(&mut server, named), full(2, 2));
    assert_eq!(refused(&mut server, anna, want("zoe")), full(2, 2));
    // Others may, and so may she again.
    server.enters(session(BERT, &pc(3)));
    server.log_out(anna);
    server.enters(session(ANNA, &pc(3)));
}

#[test]
fn it_comes_before_that_all_seats_are_taken_and_who_is_in_stays() {
    let mut server = Server::with_license(license("crm", 3));
    let ats = [1, 2, 3].map(|n| server.enters(session(ANNA, &pc(n))));
    server.change(1, |rows| rows.licenses[0].max_per_user = Some(1));
    assert_eq!(denied(&mut server, session(ANNA, &pc(4))), full(3, 1));
    assert!(matches!(
        denied(&mut server, session(BERT, &pc(4))),
        Cause::Full { .. }
    ));
    assert_eq!(server.in_use("crm"), 3);
    for at in ats {
        assert_eq!(denied(&mut server, session(ANNA, &pc(4))).clone(), {
            full(server.in_use("crm"), 1)
        });
        server.log_out(at);
    }
    server.enters(session(ANNA, &pc(4)));
}

#[test]
fn leases_count_for_their_users_and_not_for_the_role() {
    let mut server = Server::with_license(module(1, 9));
    let at = server.enters(session(ANNA, &pc(1)));
    server.leases(at, "crm", lease(1, "ann", &pc(1)));
    server.leases(at, "crm", lease(2, "bob", &pc(1)));
    assert_eq!(
        refused(&mut server, at, lease(3, "ann", &pc(2))),
        full(1, 1)
    );
    // Also by another role: it is the same person.
    let other = server.enters(session(BERT, &pc(1)));
    assert_eq!(
        refused(&mut server, other, lease(3, "ann", &pc(2))),
        full(1, 1)
    );
    // Her own checkout is the first seat of the role.
    server.checks_out(at, "crm", "");
    assert_eq!(refused(&mut server, at, want("cid")), full(1, 1));
    server.drop_lease(super::server::id(1));
    server.leases(other, "crm", lease(4, "ann", &pc(2)));
}

#[test]
fn roles_that_several_people_share_are_not_bound() {
    let mut server = Server::with_license(at_most(1, 9));
    server.catalog.granted.insert((ANNA, "staff room"));
    let shared = Reservation {
        shared: true,
        ..reservation("crm", "staff room", 0, None)
    };
    server.change(1, |rows| rows.reservations = vec![shared]);
    let at = server.enters(session(ANNA, &pc(1)));
    server.enters(session(ANNA, &pc(2)));
    server.checks_out(at, "crm", "zoe");
    server.enters(session(BERT, &pc(1)));
    assert_eq!(denied(&mut server, session(BERT, &pc(2))), full(1, 1));
    // Of a lease it is known whose it is.
    server.leases(at, "crm", lease(1, "ann", &pc(1)));
    assert_eq!(
        refused(&mut server, at, lease(2, "ann", &pc(2))),
        full(1, 1)
    );
    // Another product's reservation says nothing of this one.
    server.change(1, |rows| rows.reservations[0].product = name("books"));
    assert_eq!(denied(&mut server, session(ANNA, &pc(3))), full(3, 1));
}

#[test]
fn in_a_pool_all_seats_count_and_each_database_goes_by_its_own_row() {
    let mut server = Server::new(ROOM);
    for (database, max_per_user) in [(1, Some(1)), (2, Some(2)), (3, None)] {
        let row = License {
            pool: name("firm"),
            max_per_user,
            ..license("crm", 9)
        };
        server.change(database, |rows| rows.licenses.push(row));
        server.load(database);
    }
    let of = |database, n| of_database(session(ANNA, &pc(n)), database);
    server.enters(of(3, 1));
    assert_eq!(denied(&mut server, of(1, 2)), full(1, 1));
    server.enters(of(2, 2));
    assert_eq!(denied(&mut server, of(2, 3)), full(2, 2));
    server.enters(of(3, 3));
    // The same seat in another database.
    server.enters(of(1, 3));
    // Where nobody limits it any more nothing is counted.
    for database in [1, 2] {
        server.change(database, |rows| rows.licenses[0].max_per_user = None);
        server.load(database);
    }
    assert_eq!(
        server
            .ledger
            .with(|l| crate::core::ledger::table::Table::len(&l.takers)),
        0
    );
    server.enters(of(1, 4));
    server.change(1, |rows| rows.licenses[0].max_per_user = Some(5));
    server.enters(of(1, 5));
    assert_eq!(denied(&mut server, of(1, 6)), full(5, 5));
}

#[test]
fn who_has_all_it_may_waits_and_lets_those_pass_who_may_have_one() {
    let mut server = Server::with_license(module(1, 1));
    let [anna, bert, twin] =
        [(ANNA, 1), (BERT, 2), (ANNA, 3)].map(|(role, n)| server.enters(session(role, &pc(n))));
    server.checks_out(anna, "crm", "");
    let first = server.waits(twin, "crm", want(""));
    let second = server.waits(bert, "crm", want(""));
    server.change(1, |rows| rows.licenses[0].seats = Some(2));
    server.load(1);
    assert!(server.collect(second).is_some());
    assert_eq!(server.collect(first), None);
    server.check_in(anna, "crm", "");
    assert!(server.collect(first).is_some());
    // More for one user call it, too.
    let third = server.waits(anna, "crm", want(""));
    server.change(1, |rows| rows.licenses[0].seats = Some(9));
    server.load(1);
    assert_eq!(server.collect(third), None);
    server.change(1, |rows| rows.licenses[0].max_per_user = Some(2));
    server.load(1);
    assert!(server.collect(third).is_some());
}

#[test]
fn softened_it_is_remarked_and_superusers_are_spared() {
    let soft = License {
        enforcement: Enforcement::Warn,
        ..at_most(1, 9)
    };
    let mut server = Server::with_license(soft);
    server.enters(session(ANNA, &pc(1)));
    match server.log_in(session(ANNA, &pc(2))).1 {
        Answer::Admitted(Remark::WouldBeDenied(denial)) => assert_eq!(denial.cause, full(1, 1)),
        other => panic!("{other:?}"),
    }
    server.change(1, |rows| rows.licenses[0].enforcement = Enforcement::On);
    server.exempt_superusers = false;
    for n in 1..4 {
        server.enters(super::server::superuser(1, &pc(n)));
    }
    assert_eq!(server.in_use("crm"), 5);
}

#[test]
fn nobody_gives_way_to_who_has_all_it_may_and_it_asks_nobody() {
    let idle = License {
        reclaim_idle_after: Some(MINUTE),
        ..at_most(1, 2)
    };
    let mut server = Server::with_license(idle);
    server.enters(session(ANNA, &pc(1)));
    server.enters(session(BERT, &pc(2)));
    assert_eq!(denied(&mut server, session(ANNA, &pc(3))), full(1, 1));
    assert!(matches!(
        server.log_in(session(13, &pc(3))).1,
        Answer::MayReclaim(_)
    ));
    // Nor does it keep those behind it in the queue from asking.
    server.change(1, |rows| rows.licenses[0].claimed_at = ClaimedAt::Checkout);
    let [anna, twin, carl] =
        [(ANNA, 1), (ANNA, 4), (13, 5)].map(|(role, n)| server.enters(session(role, &pc(n))));
    let bert = server.enters(session(BERT, &pc(2)));
    server.checks_out(anna, "crm", "");
    server.checks_out(bert, "crm", "");
    let first = server.waits(twin, "crm", want(""));
    let now = server.now;
    let claimed = server.claim(carl, "crm", want(""), true);
    assert!(matches!(claimed, Claimed::MayReclaim(_)), "{claimed:?}");
    server.ledger.with(|l| l.drop_promise(carl, now));
    assert!(!server.begins_to_ask(first));
}

#[test]
fn a_seat_that_lingers_counts_for_its_user() {
    let mut server = Server::with_license(License {
        linger: MINUTE,
        counted_by: CountedBy::UserHost,
        ..at_most(1, 9)
    });
    let at = server.enters(session(ANNA, &pc(1)));
    server.log_out(at);
    assert_eq!(denied(&mut server, session(ANNA, &pc(2))), full(1, 1));
    server.now += MINUTE;
    server.end_due_leases();
    server.enters(session(ANNA, &pc(2)));
}

#[test]
fn one_session_checks_out_for_so_many_users() {
    let mut server = Server::with_license(License {
        enforcement: Enforcement::Off,
        ..module(9, 9)
    });
    server.change(1, |rows| {
        rows.licenses.push(License {
            claimed_at: ClaimedAt::Checkout,
            ..license("books", None)
        });
    });
    let at = server.enters(session(ANNA, &pc(1)));
    let of = |user: &str| SeatRequest {
        users_max: Some(2),
        ..want(user)
    };
    let claims = |server: &mut Server, product, user: &str| match server.claim(
        at,
        product,
        of(user),
        true,
    ) {
        Claimed::Held(_) => true,
        Claimed::Denied(Denial {
            cause: Cause::TooManyUsers { most: 2 },
            ..
        }) => false,
        other => panic!("{other:?}"),
    };
    for (product, user, may) in [
        ("crm", "ann", true),
        ("crm", "bob", true),
        ("crm", "cid", false),
        ("crm", "", true),
        ("books", "ann", true),
        ("books", "cid", false),
        ("crm", "ann", true),
    ] {
        assert_eq!(claims(&mut server, product, user), may, "{product} {user}");
    }
    // Ann is left while she has a checkout of any product.
    server.check_in(at, "crm", "ann");
    server.check_in(at, "crm", "ann");
    assert!(!claims(&mut server, "crm", "cid"));
    server.check_in(at, "books", "ann");
    assert!(claims(&mut server, "crm", "cid"));
    assert!(!claims(&mut server, "crm", "ann"));
    server.check_in_all(at);
    assert!(claims(&mut server, "books", "dan") && claims(&mut server, "books", "eve"));
    assert!(!claims(&mut server, "books", "fay"));
    server.log_out(at);
    server.assert_empty();
}
