//! Seats that sessions check out.

use super::server::{
    ROOM, Server, held, id, lease, license, name, session, superuser, want, with_workstation,
};
use crate::core::ledger::acts::checkout::Claimed;
use crate::core::ledger::denial::{Cause, Denial, Remark};
use crate::core::ledger::identity::Label;
use crate::core::ledger::license::License;
use crate::core::ledger::map::Capacity;
use crate::core::ledger::numbers::{SessionNumber, Slot};
use crate::core::ledger::seat::Seat;
use crate::core::ledger::table::Table;
use crate::core::ledger::words::{ClaimedAt, CountedBy, Enforcement};

const PC1: &str = "10.0.0.1";
const PC2: &str = "10.0.0.2";
const PC3: &str = "10.0.0.3";

/// Returns a product that applications alone claim.
fn module(product: &str, seats: impl Into<Option<i32>>) -> License {
    License {
        claimed_at: ClaimedAt::Checkout,
        ..license(product, seats)
    }
}

fn payroll(seats: i32) -> Server {
    Server::with_license(module("payroll", seats))
}

fn full(in_use: i64, limit: i64) -> Cause {
    Cause::Full {
        in_use,
        limit,
        kept: 0,
    }
}

/// Returns the cause of the denial of a checkout.
fn denied(server: &mut Server, at: Slot, product: &str, client_user: &str) -> Cause {
    match server.claim(at, product, want(client_user), false) {
        Claimed::Denied(Denial {
            product: denied,
            cause,
            ..
        }) => {
            assert_eq!(denied, name(product));
            cause
        }
        other => panic!("{other:?}"),
    }
}

fn only_seat(server: &mut Server) -> Seat {
    server.ledger.with(|l| {
        let mut only = None;
        l.seats.each(|s| assert!(only.replace(*s).is_none()));
        only.unwrap()
    })
}

fn seat_id(server: &Server, seat: &Seat) -> [u8; 16] {
    server.ledger.head.seat_ids.of(seat.number)
}

fn checkouts(server: &Server, at: Slot) -> u32 {
    server.ledger.sessions[at.0].checkouts
}

#[test]
fn a_product_claimed_by_applications_takes_a_seat_at_checkout_alone() {
    let mut server = payroll(1);
    let at = server.enters(session(2, PC1));
    assert_eq!(server.in_use("payroll"), 0);
    let receipt = server.checks_out(at, "payroll", "");
    let seat = only_seat(&mut server);
    assert_eq!(
        (receipt.seat, receipt.in_use),
        (Some(seat_id(&server, &seat)), 1)
    );
    assert_eq!((seat.logins, seat.checkouts, seat.leases), (0, 1, 0));
    assert!(server.check_in(at, "payroll", ""));
    server.log_out(at);
    server.assert_empty();
}

#[test]
fn a_checkout_joins_the_seat_of_the_login() {
    let mut server = Server::with_license(license("crm", 1));
    let at = server.enters(session(2, PC1));
    let before = only_seat(&mut server);
    let receipt = server.checks_out(at, "crm", "");
    assert_eq!(
        (receipt.seat, receipt.in_use),
        (Some(seat_id(&server, &before)), 1)
    );
    assert!(server.check_in(at, "crm", ""));
    let after = only_seat(&mut server);
    assert_eq!(
        (after.number, after.logins, after.checkouts),
        (before.number, 1, 0)
    );
}

#[test]
fn as_many_checkins_as_checkouts_free_the_seat() {
    let mut server = payroll(1);
    let at = server.enters(session(2, PC1));
    for _ in 0..3 {
        server.checks_out(at, "payroll", "");
    }
    assert_eq!(checkouts(&server, at), 1);
    for in_use in [1, 1, 0] {
        assert!(server.check_in(at, "payroll", ""));
        assert_eq!(server.in_use("payroll"), in_use);
    }
    assert!(!server.check_in(at, "payroll", ""));
}

#[test]
fn two_sessions_of_one_identity_share_a_seat_until_the_last_gives_it_back() {
    for order in [[0, 1], [1, 0]] {
        let mut server = payroll(1);
        let places = [(); 2].map(|()| server.enters(session(2, PC1)));
        let ids = places.map(|at| server.checks_out(at, "payroll", "").seat);
        assert_eq!(ids[0], ids[1]);
        let other = server.enters(session(4, PC1));
        assert!(server.check_in(places[order[0]], "payroll", ""));
        assert_eq!(denied(&mut server, other, "payroll", ""), full(1, 1));
        assert!(server.check_in(places[order[1]], "payroll", ""));
        server.checks_out(other, "payroll", "");
    }
}

#[test]
fn a_denied_checkout_takes_nothing_and_counts_as_denied() {
    let mut server = payroll(1);
    let places = [PC1, PC2].map(|pc| server.enters(session(2, pc)));
    server.checks_out(places[0], "payroll", "");
    assert_eq!(denied(&mut server, places[1], "payroll", ""), full(1, 1));
    assert_eq!(checkouts(&server, places[1]), 0);
    assert!(!server.check_in(places[1], "payroll", ""));
    let mut count = 0;
    server
        .ledger
        .with(|l| l.licenses.each(|row| count += row.denied));
    assert_eq!(count, 1);
}

#[test]
fn a_client_user_splits_the_seat_of_one_role_and_host() {
    for rule in [
        CountedBy::UserHost,
        CountedBy::User,
        CountedBy::Host,
        CountedBy::Session,
        CountedBy::UserWorkstation,
    ] {
        let mut server = Server::with_license(License {
            counted_by: rule,
            ..module("payroll", 2)
        });
        let at = server.enters(with_workstation(session(2, PC1), "A"));
        let ann = server.checks_out(at, "payroll", "ann");
        let bob = server.checks_out(at, "payroll", "bob");
        assert_ne!(ann.seat, bob.seat, "{rule:?}");
        assert_eq!(server.checks_out(at, "payroll", "ann").seat, ann.seat);
        assert_eq!(denied(&mut server, at, "payroll", "cid"), full(2, 2));
        assert!(!server.check_in(at, "payroll", ""), "nobody's own");
        assert!(server.check_in(at, "payroll", "bob"));
        server.checks_out(at, "payroll", "cid");
    }
}

#[test]
fn names_that_differ_in_their_last_byte_are_two_users_and_are_kept_whole() {
    let mut server = payroll(2);
    let at = server.enters(session(2, PC1));
    let names = ["a", "b"].map(|end| "x".repeat(299) + end);
    let seats = names
        .clone()
        .map(|name| server.checks_out(at, "payroll", &name).seat);
    assert_ne!(seats[0], seats[1]);
    for name in &names {
        server.checks_out(at, "payroll", name);
        let text = server.ledger.with(|l| l.long_name(&Label::of(name)));
        assert_eq!(text.unwrap().as_str(), name);
    }
    for name in &names {
        assert!(server.check_in(at, "payroll", name));
        assert!(server.check_in(at, "payroll", name));
    }
    server.assert_empty();
}

#[test]
fn a_long_name_is_kept_as_long_as_somebody_needs_it() {
    let mut server = payroll(1);
    let long = "x".repeat(300);
    let places = [PC1, PC2].map(|pc| server.enters(session(2, pc)));
    server.checks_out(places[0], "payroll", &long);
    let ticket = server.waits(places[1], "payroll", want(&long));
    let kept = |server: &mut Server| server.ledger.with(|l| l.long_names.len());
    // Called, it stays the name of what it holds.
    server.log_out(places[0]);
    assert_eq!(kept(&mut server), 1);
    assert!(server.collect(ticket).is_some());
    assert_eq!(kept(&mut server), 1);
    server.log_out(places[1]);
    server.assert_empty();
}

#[test]
fn a_checkin_in_the_middle_leaves_the_others_their_seats() {
    let users = ["a", "b", "c", "d"];
    for gone in users {
        let mut server = payroll(4);
        let at = server.enters(session(2, PC1));
        let seats = users.map(|user| server.checks_out(at, "payroll", user).seat);
        assert!(server.check_in(at, "payroll", gone));
        assert_eq!((server.in_use("payroll"), checkouts(&server, at)), (3, 3));
        for (user, seat) in users.iter().zip(seats).filter(|(user, _)| **user != gone) {
            assert_eq!(server.checks_out(at, "payroll", user).seat, seat);
            assert!(server.check_in(at, "payroll", user));
            assert!(server.check_in(at, "payroll", user), "{user} after {gone}");
        }
        server.assert_empty();
    }
}

#[test]
fn discard_gives_back_checkouts_and_keeps_the_seat_of_the_login() {
    let mut server = Server::with_license(license("crm", 5));
    server.change(1, |rows| rows.licenses.push(module("payroll", 5)));
    let at = server.enters(session(2, PC1));
    for user in ["", "ann", "bob"] {
        server.checks_out(at, "crm", user);
        server.checks_out(at, "payroll", user);
        server.checks_out(at, "payroll", user);
    }
    assert_eq!((server.in_use("crm"), server.in_use("payroll")), (3, 3));
    server.check_in_all(at);
    assert_eq!((server.in_use("crm"), server.in_use("payroll")), (1, 0));
    assert_eq!(only_seat(&mut server).logins, 1);
    assert!(!server.check_in(at, "crm", ""));
}

#[test]
fn whoever_leaves_leaves_all_its_seats() {
    let mut server = Server::with_license(license("crm", 5));
    server.change(1, |rows| rows.licenses.push(module("payroll", 5)));
    let at = server.enters(session(2, PC1));
    for user in ["", "ann", &"x".repeat(300)] {
        server.checks_out(at, "crm", user);
        server.checks_out(at, "payroll", user);
    }
    server.log_out(at);
    server.assert_empty();
}

#[test]
fn an_exempt_session_checks_out_without_a_seat_however_full_it_is() {
    let mut server = payroll(0);
    let at = server.enters(superuser(1, PC1));
    let receipt = server.checks_out(at, "payroll", "");
    assert_eq!((receipt.seat, receipt.in_use), (None, 0));
    assert_eq!(checkouts(&server, at), 1);
    assert!(server.may_use(at, "payroll"));
    assert!(server.check_in(at, "payroll", ""));
    assert!(!server.check_in(at, "payroll", ""));
}

#[test]
fn a_superuser_that_counts_is_never_denied_a_checkout() {
    let mut server = payroll(1);
    server.exempt_superusers = false;
    let at = [PC1, PC2].map(|pc| server.enters(superuser(1, pc)));
    for at in at {
        server.checks_out(at, "payroll", "");
    }
    assert_eq!(server.in_use("payroll"), 2);
    // Not even the queue is for it.
    let third = server.enters(superuser(1, PC3));
    held(server.claim(third, "payroll", want(""), true));
}

#[test]
fn an_overdraft_is_remarked_at_checkout_too() {
    let mut server = Server::with_license(License {
        overdraft: 1,
        ..module("payroll", 0)
    });
    let at = server.enters(session(2, PC1));
    match server.claim(at, "payroll", want(""), false) {
        Claimed::Held(receipt) => {
            assert!(matches!(receipt.remark, Remark::Overdraft(d) if d.cause == full(0, 0)));
        }
        other => panic!("{other:?}"),
    }
    // Once more takes no seat.
    server.checks_out(at, "payroll", "");
}

#[test]
fn a_softer_enforcement_admits_checkouts_and_nobody_waits() {
    for (enforcement, remark) in [(Enforcement::Warn, true), (Enforcement::Off, false)] {
        let mut server = payroll(0);
        server.enforcement = enforcement;
        let at = server.enters(session(2, PC1));
        match server.claim(at, "payroll", want(""), true) {
            Claimed::Held(receipt) => assert_eq!(
                matches!(receipt.remark, Remark::WouldBeDenied(d) if d.cause == full(0, 0)),
                remark
            ),
            other => panic!("{other:?}"),
        }
        assert_eq!(server.in_use("payroll"), 1);
    }
}

#[test]
fn a_checkout_judged_by_former_rules_is_outdated() {
    let mut server = payroll(1);
    let at = server.enters(session(2, PC1));
    let judged = server.judged_for(at, "payroll");
    server.change(1, |rows| rows.licenses[0].seats = Some(0));
    let claim = |l: &mut crate::core::ledger::Ledger<'_, crate::core::ledger::map::Maps>| {
        l.claim(at, &judged, &want(""), false)
    };
    assert_eq!(server.ledger.with(claim), Claimed::Outdated);
    server.load(1);
    assert_eq!(server.ledger.with(claim), Claimed::Outdated);
    server.assert_empty();
}

#[test]
fn a_ledger_without_room_denies_checkouts_but_not_nested_ones() {
    let mut server = Server::new(Capacity {
        max_seats: 2,
        ..ROOM
    });
    server.change(1, |rows| rows.licenses = vec![module("payroll", 9)]);
    let at = server.enters(session(2, PC1));
    server.checks_out(at, "payroll", "a");
    server.checks_out(at, "payroll", "b");
    assert_eq!(denied(&mut server, at, "payroll", "c"), Cause::TableFull);
    server.checks_out(at, "payroll", "a");
    // Softly: it is admitted, though the ledger can't know it.
    server.enforcement = Enforcement::Warn;
    assert!(matches!(
        server.claim(at, "payroll", want("c"), false),
        Claimed::Held(receipt) if receipt.seat.is_none()
    ));
    assert!(!server.check_in(at, "payroll", "c"));
    // A lease that the ledger does not know could never end.
    assert!(matches!(
        server.claim(at, "payroll", lease(1, "c", PC1), false),
        Claimed::Denied(Denial {
            cause: Cause::TableFull,
            ..
        })
    ));
    assert!(server.hold(id(1)).is_none());
}

#[test]
fn holds_without_room_are_denied_although_their_seat_is_there() {
    let mut server = Server::new(Capacity {
        max_seats: 2,
        ..ROOM
    });
    server.change(1, |rows| rows.licenses = vec![module("payroll", 9)]);
    let at = [(); 3].map(|()| server.enters(session(2, PC1)));
    server.checks_out(at[0], "payroll", "");
    server.checks_out(at[1], "payroll", "");
    assert_eq!(server.in_use("payroll"), 1);
    assert_eq!(denied(&mut server, at[2], "payroll", ""), Cause::TableFull);
    server.log_out(at[0]);
    server.checks_out(at[2], "payroll", "");
}

#[test]
fn a_long_name_without_room_is_shown_by_its_beginning() {
    let mut server = Server::new(Capacity {
        max_seats: 3,
        ..ROOM
    });
    server.change(1, |rows| rows.licenses = vec![module("payroll", 9)]);
    let at = server.enters(session(2, PC1));
    let long = |n: u32| format!("{n}{}", "x".repeat(300));
    // Every name has room for the ledger's seats, so others must be in the way.
    server.ledger.with(|l| {
        for n in 1..=2 {
            l.long_names.put(crate::core::ledger::hold::LongName {
                label: Label::of(&long(n)),
                text: crate::core::ledger::identity::Text::new(long(n)).unwrap(),
                users: 1,
            });
        }
    });
    let shown = |server: &mut Server, n| {
        let label = Label::of(&long(n));
        let name = server.ledger.with(|l| l.long_name(&label));
        label.shown(name.as_ref()).into_owned()
    };
    for n in [3, 4, 5] {
        server.checks_out(at, "payroll", &long(n));
    }
    assert_eq!(server.in_use("payroll"), 3);
    let beginning = |n| format!("{n}{}...", "x".repeat(22));
    assert_eq!(
        [3, 4, 5].map(|n| shown(&mut server, n)),
        [long(3), beginning(4), beginning(5)]
    );
    // Each is told from the others all the same, and known as soon as there is room.
    for n in [3, 4, 5] {
        assert!(server.check_in(at, "payroll", &long(n)), "{n}");
    }
    assert_eq!(server.in_use("payroll"), 0);
    server.checks_out(at, "payroll", &long(4));
    assert_eq!(shown(&mut server, 4), long(4));
}

#[test]
fn who_may_use_a_product_has_a_seat_of_its_own_or_of_its_identity() {
    let mut server = Server::with_license(license("crm", 5));
    server.change(1, |rows| rows.licenses.push(module("payroll", 5)));
    let anna = server.enters(session(2, PC1));
    let annas_other = server.enters(session(2, PC1));
    let bert = server.enters(session(4, PC1));
    let may = |server: &mut Server, product| {
        [anna, annas_other, bert].map(|at| server.may_use(at, product))
    };
    assert_eq!(may(&mut server, "crm"), [true; 3]);
    assert_eq!(may(&mut server, "payroll"), [false; 3]);
    server.checks_out(anna, "payroll", "");
    assert_eq!(may(&mut server, "payroll"), [true, true, false]);
    assert!(server.check_in(anna, "payroll", ""));
    // An application's user is an identity of its own.
    server.checks_out(anna, "payroll", "ann");
    assert_eq!(may(&mut server, "payroll"), [true, false, false]);
    server.log_out(anna);
    server.enforcement = Enforcement::Warn;
    assert!(server.may_use(bert, "payroll"));
    server.enforcement = Enforcement::On;
    server.change(1, |rows| rows.licenses[1].enforcement = Enforcement::Off);
    server.load(1);
    assert!(server.may_use(bert, "payroll"));
}

#[test]
fn who_ends_with_many_checkouts_gives_them_back_in_batches() {
    let mut server = payroll(40);
    let [at, other] = [2, 3].map(|role| server.enters(session(role, PC1)));
    for user in 0..30 {
        server.checks_out(at, "payroll", &format!("u{user}"));
    }
    for user in 30..40 {
        server.checks_out(other, "payroll", &format!("u{user}"));
    }
    let late = server.enters(session(4, PC1));
    let ticket = server.waits(late, "payroll", want("zoe"));
    let now = server.now;
    let mut left = vec![];
    loop {
        let done = server
            .ledger
            .with(|l| l.release_some(at, 12, crate::core::ledger::event::Leaving::Logout, now));
        left.push(server.in_use("payroll"));
        // Whoever waits gets the first that is free, and nobody waits beside a free seat.
        if left.len() == 1 {
            assert!(server.collect(ticket).is_some());
        }
        if done {
            break;
        }
    }
    assert_eq!(left, [29, 17, 11]);
    assert_eq!(server.ledger.sessions[at.0].number, SessionNumber::NONE);
    for at in [other, late] {
        server.log_out(at);
    }
    server.assert_empty();
}

#[test]
fn each_of_many_checkouts_is_found_wherever_it_has_moved() {
    let mut server = payroll(40);
    let at = server.enters(session(2, PC1));
    let user = |n: usize| format!("u{n}");
    for n in 0..30 {
        server.checks_out(at, "payroll", &user(n));
    }
    // The last one moves into the place of each.
    for n in (0..30).step_by(3) {
        assert!(server.check_in(at, "payroll", &user(n)));
        assert!(!server.check_in(at, "payroll", &user(n)));
    }
    assert_eq!(checkouts(&server, at), 20);
    for n in (0..30).filter(|n| n % 3 != 0) {
        server.checks_out(at, "payroll", &user(n));
    }
    assert_eq!(checkouts(&server, at), 20);
    for n in (0..30).rev().filter(|n| n % 3 != 0) {
        assert!(server.check_in(at, "payroll", &user(n)));
        assert!(server.check_in(at, "payroll", &user(n)));
    }
    server.log_out(at);
    server.assert_empty();
}
