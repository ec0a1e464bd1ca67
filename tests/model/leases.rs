//! Leases: how they last, and end.

use super::server::{
    MINUTE, ROOM, Server, TTL, exempt_role, id, lease, license, name, of_database, session,
    superuser, want,
};
use crate::core::ledger::Ledger;
use crate::core::ledger::acts::admission::Answer;
use crate::core::ledger::acts::checkout::Claimed;
use crate::core::ledger::acts::leases::MayUse;
use crate::core::ledger::acts::publish::Published;
use crate::core::ledger::denial::{Cause, Denial};
use crate::core::ledger::license::License;
use crate::core::ledger::map::{Capacity, Maps};
use crate::core::ledger::numbers::{DatabaseOid, Slot};
use crate::core::ledger::rules::StoredLease;
use crate::core::ledger::session::LENT_MAX;
use crate::core::ledger::table::Table;
use crate::core::ledger::words::{ClaimedAt, CountedBy, Enforcement};

const PC1: &str = "10.0.0.1";
const PC2: &str = "10.0.0.2";

fn web(seats: i32) -> License {
    License {
        claimed_at: ClaimedAt::Checkout,
        ..license("web", seats)
    }
}

/// Returns a server with this license and a session of the application in database 1.
fn server(license: License) -> (Server, Slot) {
    let mut server = Server::new(ROOM);
    server.change(1, |rows| {
        rows.licenses = vec![license];
        rows.leases_of = 7;
    });
    let at = server.enters(session(2, "local"));
    (server, at)
}

/// Takes a lease for the user of this name, and commits it.
fn leases(server: &mut Server, at: Slot, number: u8, user: &str) {
    server.leases(at, "web", lease(number, user, PC1));
    server.commit_lease(id(number));
}

/// Leaves what a crash leaves: the tables.
fn crash(server: &mut Server) {
    server.ledger = crate::core::ledger::map::MapLedger::new(ROOM);
}

#[test]
fn a_lease_takes_the_seat_of_the_applications_user_and_outlives_the_session() {
    let (mut server, at) = server(web(2));
    let receipt = server.leases(at, "web", lease(1, "ann", PC1));
    assert_eq!((receipt.in_use, receipt.expires_at), (1, server.now + TTL));
    // Once more under one identity: the same seat.
    assert_eq!(
        server.leases(at, "web", lease(2, "ann", PC1)).seat,
        receipt.seat
    );
    assert_ne!(
        server.leases(at, "web", lease(3, "ann", PC2)).seat,
        receipt.seat
    );
    assert!(matches!(
        server.claim(at, "web", lease(4, "bob", PC1), false),
        Claimed::Denied(_)
    ));
    for number in [1, 2, 3] {
        server.commit_lease(id(number));
    }
    server.log_out(at);
    assert_eq!(server.in_use("web"), 2);
    for (number, in_use) in [(1, 2), (2, 1), (3, 0)] {
        server.drop_lease(id(number));
        assert_eq!(server.in_use("web"), in_use);
    }
    server.assert_empty();
}

#[test]
fn every_lease_counts_by_session() {
    let (mut server, at) = server(License {
        counted_by: CountedBy::Session,
        ..web(2)
    });
    leases(&mut server, at, 1, "ann");
    leases(&mut server, at, 2, "ann");
    assert_eq!(server.in_use("web"), 2);
}

#[test]
fn leases_count_whoever_asks() {
    let (mut server, _) = server(web(1));
    let superuser = server.enters(superuser(1, PC1));
    leases(&mut server, superuser, 1, "ann");
    assert_eq!(server.in_use("web"), 1);
    assert!(matches!(
        server.claim(superuser, "web", lease(2, "bob", PC1), false),
        Claimed::Denied(_)
    ));
    // An exempt session has none, but its leases keep theirs.
    server.change(1, |rows| rows.exemptions.push(exempt_role("r2")));
    server.load(1);
    assert_eq!(server.in_use("web"), 1);
}

#[test]
fn a_lease_whose_transaction_rolls_back_is_gone() {
    let (mut server, at) = server(web(1));
    server.leases(at, "web", lease(1, &"x".repeat(300), PC1));
    server.drop_lease(id(1));
    server.drop_lease(id(1));
    server.log_out(at);
    server.assert_empty();
}

#[test]
fn the_time_of_a_lease_runs_out_while_its_transaction_goes_on() {
    for commits in [true, false] {
        let (mut server, at) = server(web(1));
        server.leases(at, "web", lease(1, "ann", PC1));
        assert_eq!(server.ledger.head.next_due, server.now + TTL);
        server.now += TTL - 1;
        assert!(server.end_due_leases().is_empty());
        assert!(server.heartbeat(at, id(1)).is_some());
        server.now += TTL;
        // Nobody has looked yet, and it is gone all the same.
        assert_eq!(server.heartbeat(at, id(1)), None);
        assert_eq!(server.end_due_leases(), [id(1)]);
        assert_eq!(server.in_use("web"), 0);
        assert!(server.lease(id(1)).is_none());
        // There is no row yet that could be deleted.
        assert_eq!(server.unread(), Vec::<u32>::new());
        if commits {
            server.commit_lease(id(1));
            assert_eq!(server.unread(), [1]);
            assert_eq!(server.bury(1), [id(1)]);
        } else {
            server.drop_lease(id(1));
        }
        assert_eq!(server.unread(), Vec::<u32>::new());
        server.log_out(at);
        server.assert_empty();
    }
}

#[test]
fn a_lease_ends_when_its_time_is_up_and_its_row_is_buried() {
    let (mut server, at) = server(web(2));
    leases(&mut server, at, 1, "ann");
    server.now += MINUTE;
    leases(&mut server, at, 2, "bob");
    server.now += TTL - MINUTE - 1;
    assert!(server.end_due_leases().is_empty());
    server.now += 1;
    assert_eq!(server.end_due_leases(), [id(1)]);
    assert_eq!(server.in_use("web"), 1);
    assert!(server.lease(id(1)).is_none());
    assert_eq!(server.heartbeat(at, id(1)), None);
    // Its row is there until a database worker comes, who is told.
    assert_eq!(server.unread(), [1]);
    assert_eq!(server.bury(2), Vec::<[u8; 16]>::new());
    assert_eq!(server.bury(1), [id(1)]);
    assert_eq!(server.unread(), Vec::<u32>::new());
    assert_eq!(server.tables[&1].leases.len(), 1);
    // The next one is not forgotten.
    server.now += MINUTE;
    assert_eq!(server.end_due_leases(), [id(2)]);
    server.bury(1);
    server.log_out(at);
    server.assert_empty();
}

#[test]
fn where_no_database_worker_can_connect_rows_stay_until_one_can() {
    let (mut server, at) = server(web(2));
    leases(&mut server, at, 1, "ann");
    server.now += TTL;
    server.end_due_leases();
    for _ in 0..5 {
        assert_eq!(server.unread(), [1]);
        server.lose_database_worker(1);
    }
    assert_eq!(server.unread(), [1]);
    assert_eq!(server.bury(1).len(), 1);
    assert_eq!(server.unread(), Vec::<u32>::new());
}

#[test]
fn what_has_not_ended_is_not_buried() {
    let (mut server, at) = server(web(1));
    leases(&mut server, at, 1, "ann");
    server.ledger.with(|l| l.bury(&[id(1), id(2)]));
    assert!(server.lease(id(1)).is_some());
    // Nor does it end before its time.
    let now = server.now;
    server.ledger.with(|l| l.expire(&[id(1), id(2)], now));
    assert!(server.lease(id(1)).is_some());
}

#[test]
fn a_lease_that_ends_while_it_is_released_leaves_nothing_to_bury() {
    let (mut server, at) = server(web(1));
    leases(&mut server, at, 1, "ann");
    server.now += TTL;
    server.end_due_leases();
    server.drop_lease(id(1));
    server.log_out(at);
    server.assert_empty();
}

#[test]
fn a_heartbeat_extends_a_lease_by_its_time() {
    let (mut server, at) = server(web(1));
    leases(&mut server, at, 1, "ann");
    server.now += TTL - 1;
    let until = server.now + TTL;
    assert_eq!(server.heartbeat(at, id(1)), Some(until));
    server.now = until - 1;
    assert!(server.end_due_leases().is_empty());
    server.now = until;
    // Its time is up, also before somebody has noticed.
    assert_eq!(server.heartbeat(at, id(1)), None);
    assert_eq!(server.end_due_leases(), [id(1)]);
    // What has ended stays so, also when the clock is set back.
    server.now -= MINUTE;
    assert_eq!(server.heartbeat(at, id(1)), None);
}

#[test]
fn a_heartbeat_finds_the_leases_of_its_own_database() {
    let (mut server, at) = server(web(2));
    leases(&mut server, at, 1, "ann");
    let stranger = server.enters(of_database(session(2, PC1), 2));
    assert_eq!(server.heartbeat(stranger, id(1)), None);
    assert_eq!(server.heartbeat(at, id(2)), None);
    // A checkout is no lease, whatever its key.
    server.checks_out(at, "web", "ann");
    let number = server.ledger.sessions[at.0].number;
    let key = (u128::from(number.0) << 64).to_be_bytes();
    assert!(server.hold(key).is_none_or(|hold| hold.ttl == 0));
    assert_eq!(server.heartbeat(at, key), None);
    assert!(server.lease(key).is_none());
}

#[test]
fn a_lease_of_a_transaction_that_goes_on_is_its_own_alone() {
    let (mut server, at) = server(web(1));
    let other = server.enters(session(2, "local"));
    server.leases(at, "web", lease(1, "ann", PC1));
    assert_eq!(server.heartbeat(other, id(1)), None);
    assert!(server.heartbeat(at, id(1)).is_some());
    server.commit_lease(id(1));
    assert!(server.heartbeat(other, id(1)).is_some());
}

#[test]
fn a_lease_is_lent_until_the_transaction_ends() {
    let (mut server, at) = server(web(1));
    leases(&mut server, at, 1, "ann");
    assert!(!server.may_use(at, "web"));
    server.heartbeat(at, id(1)).unwrap();
    assert!(server.may_use(at, "web"));
    server.ledger.with(|l| l.take_back_lent(at));
    assert!(!server.may_use(at, "web"));
    // What has ended is not lent any more.
    server.heartbeat(at, id(1)).unwrap();
    server.now += TTL;
    server.end_due_leases();
    assert!(!server.may_use(at, "web"));
}

#[test]
fn a_lease_lent_for_one_product_does_not_serve_another() {
    let (mut server, at) = server(web(1));
    server.change(1, |rows| {
        rows.licenses.push(License {
            product: name("api"),
            ..web(1)
        });
    });
    server.load(1);
    leases(&mut server, at, 1, "ann");
    server.heartbeat(at, id(1)).unwrap();
    assert!(server.may_use(at, "web"));
    assert!(!server.may_use(at, "api"));
}

#[test]
fn so_many_leases_are_lent_to_a_transaction_and_more_are_extended_alone() {
    let (mut server, at) = server(web(50));
    let last = LENT_MAX as u8 + 1;
    for number in 1..=last {
        leases(&mut server, at, number, &format!("user {number}"));
    }
    server.now += MINUTE;
    for number in 1..last {
        assert!(server.heartbeat(at, id(number)).is_some());
    }
    // One of those that it has already is not one more.
    assert!(server.heartbeat(at, id(1)).is_some());
    let until = Some(server.now + TTL);
    assert_eq!(server.heartbeat(at, id(last)), until);
    let lent = server.ledger.sessions[at.0].lent;
    assert!(!lent.contains(&Some(id(last))));
    server.ledger.with(|l| l.take_back_lent(at));
    server.heartbeat(at, id(last));
    let lent = server.ledger.sessions[at.0].lent;
    assert!(lent.contains(&Some(id(last))));
}

#[test]
fn nobody_is_denied_for_leases_whose_time_is_up() {
    for patient in [false, true] {
        let (mut server, at) = server(web(1));
        leases(&mut server, at, 1, "ann");
        server.now += TTL;
        let asks = |server: &mut Server| server.claim(at, "web", lease(2, "bob", PC1), patient);
        assert_eq!(asks(&mut server), Claimed::TimesUp);
        assert_eq!(server.end_due_leases(), [id(1)]);
        assert!(matches!(asks(&mut server), Claimed::Held(_)));
        assert_eq!(server.in_use("web"), 1);
    }
    let (mut server, at) = server(License {
        claimed_at: ClaimedAt::Login,
        ..web(2)
    });
    leases(&mut server, at, 1, "ann");
    server.now += TTL;
    assert_eq!(server.log_in(session(3, PC2)).1, Answer::TimesUp);
    server.end_due_leases();
    server.enters(session(3, PC2));
}

#[test]
fn nobody_is_denied_while_leases_whose_time_is_up_are_being_ended() {
    let (mut server, at) = server(web(2));
    leases(&mut server, at, 1, "ann");
    leases(&mut server, at, 2, "bob");
    server.now += TTL;
    let now = server.now;
    server.ledger.with(|l| l.expire(&[id(1)], now));
    leases(&mut server, at, 3, "cid");
    let last = server.claim(at, "web", lease(4, "dan", PC1), false);
    assert_eq!(last, Claimed::TimesUp);
    server.end_due_leases();
    leases(&mut server, at, 4, "dan");
}

#[test]
fn after_a_crash_leases_hold_their_seats_for_their_whole_time_once() {
    let (mut server, at) = server(web(3));
    let long = "x".repeat(300);
    leases(&mut server, at, 1, "ann");
    leases(&mut server, at, 2, "ann");
    leases(&mut server, at, 3, &long);
    server.leases(at, "web", lease(4, "bob", PC1));
    server.now += TTL - 1;
    crash(&mut server);
    assert_eq!(server.ledger.with(|l| l.leases_of(DatabaseOid(1))), 0);
    server.load(1);
    assert_eq!(server.ledger.with(|l| l.leases_of(DatabaseOid(1))), 7);
    assert_eq!(server.in_use("web"), 2);
    let tally = server.tally("web");
    assert_eq!((tally.users, tally.high_water), (3, 2));
    let until = server.now + TTL;
    let hold = server.lease(id(3)).unwrap();
    assert_eq!((hold.expires_at, hold.since()), (until, server.now));
    let text = server.ledger.with(|l| l.long_name(&hold.who.client_user));
    assert_eq!(text.unwrap().as_str(), long);
    // Read once more, they are not put in once more.
    server.now += MINUTE;
    server.load(1);
    assert_eq!(server.lease(id(1)).unwrap().expires_at, until);
    server.now = until;
    assert_eq!(server.end_due_leases().len(), 3);
    server.bury(1);
    server.assert_empty();
}

#[test]
fn leases_of_a_new_table_take_the_place_of_the_former_ones() {
    let (mut server, at) = server(web(5));
    leases(&mut server, at, 1, &"x".repeat(300));
    leases(&mut server, at, 2, "bob");
    server.now += TTL;
    let now = server.now;
    server.ledger.with(|l| l.expire(&[id(2)], now));
    let other = server.enters(of_database(session(2, PC1), 2));
    server.change(2, |rows| rows.licenses = vec![web(1)]);
    server.leases(other, "web", lease(9, "zoe", PC1));
    server.checks_out(at, "web", "");
    // DROP EXTENSION, CREATE EXTENSION, and a lease by somebody who is quick.
    server.change(1, |rows| {
        rows.leases_of = 8;
        let former = rows.leases.remove(0);
        rows.leases = vec![StoredLease {
            id: id(3),
            long_name: None,
            who: crate::core::ledger::identity::Who {
                client_user: crate::core::ledger::identity::Label::of("cid"),
                ..former.who
            },
            ..former
        }];
    });
    server.load(1);
    assert!(server.hold(id(1)).is_none() && server.hold(id(2)).is_none());
    assert!(server.lease(id(3)).is_some(), "the new one");
    assert!(server.lease(id(9)).is_some(), "another database's");
    assert_eq!(server.ledger.with(|l| l.long_names.len()), 0);
    assert_eq!(
        server
            .ledger
            .with(|l| l.databases.get(&DatabaseOid(1)).unwrap().leases.ended),
        0
    );
    server.drop_lease(id(3));
    server.drop_lease(id(9));
    assert!(server.check_in(at, "web", ""), "no lease");
    server.assert_empty();
}

#[test]
fn leases_without_room_are_over_and_keep_nobody_out() {
    let (mut server, at) = server(web(9));
    for number in 1..=3 {
        leases(&mut server, at, number, &format!("user {number}"));
    }
    let left = |server: &mut Server| {
        server
            .ledger
            .with(|l| l.databases.get(&DatabaseOid(1)).unwrap().leases.left_out)
    };
    for max_seats in [3, 2] {
        server.ledger = crate::core::ledger::map::MapLedger::new(Capacity { max_seats, ..ROOM });
        server.enters(session(2, PC1));
        assert_eq!(server.in_use("web"), max_seats as i64);
        assert_eq!(left(&mut server), 3 - max_seats as u32);
    }
    // A long name without a place is no reason.
    server.ledger = crate::core::ledger::map::MapLedger::new(ROOM);
    let long = "x".repeat(99);
    server.ledger.with(|l| {
        for n in 0..l.long_names.capacity() {
            l.long_names.put(crate::core::ledger::hold::LongName {
                label: crate::core::ledger::identity::Label::of(&format!("{n}{long}")),
                text: crate::core::ledger::identity::Text::EMPTY,
                users: 1,
            });
        }
    });
    server.change(1, |rows| {
        rows.leases[0].who.client_user = crate::core::ledger::identity::Label::of(&long);
        rows.leases[0].long_name = crate::core::ledger::identity::Text::new(&long);
    });
    server.enters(session(2, PC1));
    assert_eq!((server.in_use("web"), left(&mut server)), (3, 0));
}

#[test]
fn leases_of_a_new_table_need_the_room_of_the_former_ones_and_leave_that_of_the_queue() {
    let room = Capacity {
        max_seats: 3,
        ..ROOM
    };
    let mut server = Server::new(room);
    server.change(1, |rows| {
        rows.licenses = vec![web(9)];
        rows.leases_of = 7;
    });
    let at = server.enters(session(2, "local"));
    for number in 1..=3 {
        leases(&mut server, at, number, &format!("user {number}"));
    }
    server.change(1, |rows| rows.leases_of = 8);
    assert!(matches!(server.load(1), Published::InForce { .. }));
    // Somebody of another database waits.
    for (stored, left) in [(3, 1), (2, 0)] {
        server.ledger = crate::core::ledger::map::MapLedger::new(room);
        server.change(2, |rows| rows.licenses = vec![web(0)]);
        let other = server.enters(of_database(session(2, PC1), 2));
        server.waits(other, "web", want(""));
        server.change(1, |rows| rows.leases.truncate(stored));
        server.load(1);
        let known = server
            .ledger
            .with(|l| *l.databases.get(&DatabaseOid(1)).unwrap());
        assert_eq!(known.leases.left_out, left, "{stored}");
    }
}

#[test]
fn ever_so_many_leases_of_a_product_need_one_tally() {
    let room = Capacity {
        licenses: 2,
        ..ROOM
    };
    let mut server = Server::new(room);
    server.change(1, |rows| {
        rows.licenses = vec![web(50)];
        rows.leases_of = 7;
    });
    let at = server.enters(session(2, "local"));
    for number in 1..=9 {
        leases(&mut server, at, number, &format!("user {number}"));
    }
    server.ledger = crate::core::ledger::map::MapLedger::new(room);
    assert!(matches!(server.load(1), Published::InForce { .. }));
    assert_eq!(server.in_use("web"), 9);
    // As many products as there is no room for are another matter.
    server.ledger = crate::core::ledger::map::MapLedger::new(room);
    server.change(1, |rows| {
        for (n, lease) in rows.leases.iter_mut().enumerate() {
            lease.product = name(&format!("product {n}"));
        }
    });
    assert_eq!(server.load(1), Published::NoRoom);
}

#[test]
fn a_dropped_database_takes_its_leases_along() {
    let pooled = License {
        pool: name("group"),
        ..web(1)
    };
    let (mut server, at) = server(pooled);
    server.change(2, |rows| rows.licenses = vec![pooled]);
    server.load(2);
    leases(&mut server, at, 1, "ann");
    server.log_out(at);
    let other = server.enters(of_database(session(2, PC1), 2));
    let ticket = server.waits(other, "web", want(""));
    server.woken();
    server.tables.remove(&1);
    let now = server.now;
    server.ledger.with(|l| l.forget(DatabaseOid(1), now));
    assert_eq!(server.woken(), [other]);
    assert!(server.collect(ticket).is_some());
    server.log_out(other);
    server.assert_empty();
}

#[test]
fn a_product_that_is_licensed_no_longer_takes_no_seats_and_does_when_it_is_back() {
    for pool in ["", "group"] {
        let (mut server, at) = server(web(5));
        leases(&mut server, at, 1, "ann");
        leases(&mut server, at, 2, "bob");
        server.checks_out(at, "web", "");
        server.checks_out(at, "web", "");
        assert_eq!(server.in_use("web"), 3);
        server.change(1, |rows| rows.licenses.clear());
        server.load(1);
        assert_eq!(server.in_use("web"), 0);
        assert_eq!(server.tally("web").users, 3);
        // Heartbeats and checkins go on.
        assert!(server.heartbeat(at, id(1)).is_some());
        assert!(server.check_in(at, "web", ""));
        server.drop_lease(id(2));
        server.change(1, |rows| {
            rows.licenses.push(License {
                pool: name(pool),
                ..web(1)
            });
        });
        server.load(1);
        // Those who were in count, and nobody is thrown out.
        assert_eq!(server.in_use("web"), 2);
        assert!(server.may_use(at, "web"));
        assert!(server.check_in(at, "web", ""));
        assert!(!server.check_in(at, "web", ""));
        assert_eq!(server.tally("web").users, 1);
        server.drop_lease(id(1));
        server.log_out(at);
        server.assert_empty();
    }
}

#[test]
fn nobody_has_the_use_of_a_product_that_is_gone() {
    let (mut server, at) = server(web(5));
    let other = server.enters(session(2, PC2));
    server.checks_out(at, "web", "");
    leases(&mut server, at, 1, "ann");
    server.heartbeat(other, id(1)).unwrap();
    for (gone, may) in [(false, MayUse::Yes), (true, MayUse::Unlicensed)] {
        if gone {
            server.change(1, |rows| rows.licenses.clear());
            server.load(1);
        }
        for at in [at, other] {
            let ask = |l: &mut Ledger<'_, Maps>| l.may_use(at, &name("web"), None, Enforcement::On);
            assert_eq!(server.ledger.with(ask), may);
        }
    }
}

#[test]
fn of_a_product_that_is_gone_and_held_by_nobody_nothing_is_kept() {
    let (mut server, at) = server(web(5));
    server.checks_out(at, "web", "");
    server.change(1, |rows| rows.licenses.clear());
    server.load(1);
    assert!(server.check_in(at, "web", ""));
    server.change(2, |_| ());
    server.load(2);
    assert_eq!(server.ledger.with(|l| l.tallies.len()), 0);
}

#[test]
fn a_product_that_is_gone_takes_no_room_from_new_rules() {
    let mut server = Server::new(Capacity {
        licenses: 1,
        ..ROOM
    });
    let at = server.enters(session(2, "local"));
    let is_in_force = |server: &mut Server, product: &str| {
        server.change(1, |rows| {
            rows.licenses = vec![License {
                product: name(product),
                ..web(1)
            }];
        });
        matches!(server.load(1), Published::InForce { .. })
    };
    assert!(is_in_force(&mut server, "a"));
    server.checks_out(at, "a", "");
    assert!(is_in_force(&mut server, "b"));
    assert!(
        !is_in_force(&mut server, "c"),
        "as long as the first is held"
    );
    assert!(server.check_in(at, "a", ""));
    assert!(is_in_force(&mut server, "c"));
}

#[test]
fn leases_of_a_product_without_a_license_wait_for_it() {
    let (mut server, at) = server(web(5));
    leases(&mut server, at, 1, "ann");
    crash(&mut server);
    server.change(1, |rows| rows.licenses.clear());
    server.load(1);
    let at = server.enters(session(2, "local"));
    assert_eq!(server.in_use("web"), 0);
    assert!(server.heartbeat(at, id(1)).is_some());
    server.change(1, |rows| rows.licenses.push(web(5)));
    server.load(1);
    assert_eq!(server.in_use("web"), 1);
}

#[test]
fn holds_follow_another_rule_of_counting() {
    let (mut server, at) = server(web(5));
    server.leases(at, "web", lease(1, "", PC1));
    server.leases(at, "web", lease(2, "", PC2));
    server.checks_out(at, "web", "");
    assert_eq!(server.in_use("web"), 3);
    for (rule, in_use) in [
        (CountedBy::User, 1),
        (CountedBy::Host, 3),
        (CountedBy::Session, 3),
        (CountedBy::UserHost, 3),
    ] {
        server.change(1, |rows| rows.licenses[0].counted_by = rule);
        server.load(1);
        assert_eq!(server.in_use("web"), in_use, "{rule:?}");
    }
    server.drop_lease(id(1));
    server.drop_lease(id(2));
    server.log_out(at);
    server.assert_empty();
}

#[test]
fn a_checkout_of_a_session_that_becomes_exempt_takes_no_seat() {
    let (mut server, at) = server(web(5));
    server.checks_out(at, "web", "");
    server.change(1, |rows| rows.exemptions.push(exempt_role("r2")));
    server.load(1);
    assert_eq!(server.in_use("web"), 0);
    server.change(1, |rows| rows.exemptions.clear());
    server.load(1);
    assert_eq!(server.in_use("web"), 1);
}

#[test]
fn a_full_ledger_denies_a_lease_softly_too() {
    let mut server = Server::new(Capacity {
        max_seats: 1,
        ..ROOM
    });
    server.change(1, |rows| {
        rows.licenses = vec![web(5)];
        rows.leases_of = 7;
    });
    let at = server.enters(session(2, "local"));
    leases(&mut server, at, 1, "ann");
    assert!(matches!(
        server.claim(at, "web", lease(2, "bob", PC1), false),
        Claimed::Denied(Denial {
            cause: Cause::TableFull,
            ..
        })
    ));
    server.enforcement = Enforcement::Warn;
    assert!(matches!(
        server.claim(at, "web", lease(2, "bob", PC1), false),
        Claimed::Denied(_)
    ));
    // Nobody else is kept out by that.
    server.change(1, |rows| rows.licenses.push(license("crm", None)));
    server.enters(session(3, PC1));
}

/// Somebody may have begun to read before the promotion, and finish after somebody else.
#[test]
fn what_was_read_before_a_promotion_takes_out_no_leases() {
    let (mut server, at) = server(web(5));
    server.in_recovery = true;
    let mut earlier = server.read(1);
    earlier.leases_of = 0;
    server.in_recovery = false;
    server.load(1);
    server.leases(at, "web", lease(1, "ann", PC1));
    assert_eq!(server.publish(1, &mut earlier), Published::Outdated);
    assert_eq!(server.in_use("web"), 1);
}
