//! Who takes a seat, who is denied, and what is counted.

use super::server::{
    MINUTE, ROOM, Server, exempt_role, license, name, session, superuser, with_application,
    with_workstation,
};
use crate::core::ledger::acts::admission::Answer;
use crate::core::ledger::denial::{Cause, Denial, Remark};
use crate::core::ledger::license::{License, OutOfDates};
use crate::core::ledger::map::Capacity;
use crate::core::ledger::session::Session;
use crate::core::ledger::table::Table;
use crate::core::ledger::tally::Tally;
use crate::core::ledger::words::{ClaimedAt, CountedBy, Enforcement};

const PC1: &str = "10.0.0.1";
const PC2: &str = "10.0.0.2";
const PC3: &str = "10.0.0.3";

fn crm(seats: impl Into<Option<i32>>) -> Server {
    Server::with_license(license("crm", seats))
}

fn full(in_use: i64, limit: i64) -> Cause {
    Cause::Full {
        in_use,
        limit,
        kept: 0,
    }
}

/// Returns the cause of a login's denial.
fn denied(server: &mut Server, session: Session) -> Cause {
    match server.log_in(session).1 {
        Answer::Denied(Denial { product, cause, .. }) => {
            assert_eq!(product, name("crm"));
            cause
        }
        other => panic!("{other:?}"),
    }
}

fn tally(server: &mut Server) -> Tally {
    server.ledger.with(|l| {
        let mut only = None;
        l.tallies.each(|t| assert!(only.replace(*t).is_none()));
        only.unwrap()
    })
}

/// Denials counted in the only license.
fn denials(server: &mut Server) -> u64 {
    server.ledger.with(|l| {
        let mut denied = 0;
        l.licenses.each(|row| denied += row.denied);
        denied
    })
}

#[test]
fn same_role_from_two_computers_takes_two_seats() {
    let mut server = crm(5);
    server.enters(session(2, PC1));
    server.enters(session(2, PC2));
    assert_eq!(server.in_use("crm"), 2);
}

#[test]
fn same_role_twice_from_one_computer_takes_one_seat() {
    let mut server = crm(1);
    server.enters(session(2, PC1));
    server.enters(session(2, PC1));
    assert_eq!(server.in_use("crm"), 1);
}

#[test]
fn two_roles_on_one_computer_take_two_seats() {
    let mut server = crm(5);
    server.enters(session(2, PC1));
    server.enters(session(4, PC1));
    assert_eq!(server.in_use("crm"), 2);
}

#[test]
fn closing_the_first_of_two_connections_does_not_free_the_seat() {
    let mut server = crm(1);
    let first = server.enters(session(2, PC1));
    let second = server.enters(session(2, PC1));
    server.log_out(first);
    assert_eq!(denied(&mut server, session(4, PC1)), full(1, 1));
    server.log_out(second);
    assert_eq!(server.seats_taken(), 0);
    server.enters(session(4, PC1));
}

#[test]
fn the_eleventh_of_ten_is_denied_and_registers_nothing() {
    let mut server = crm(10);
    for n in 1..=10 {
        server.enters(session(2, &format!("127.0.1.{n}")));
    }
    let place = server.ledger.free_slot().unwrap();
    assert_eq!(denied(&mut server, session(2, PC1)), full(10, 10));
    assert_eq!(server.ledger.free_slot(), Some(place));
    assert_eq!((server.in_use("crm"), denials(&mut server)), (10, 1));
}

#[test]
fn a_license_without_seats_admits_nobody_and_one_without_a_number_everybody() {
    assert_eq!(denied(&mut crm(0), session(2, PC1)), full(0, 0));
    let mut server = crm(None);
    for n in 1..=15 {
        server.enters(session(2, &format!("127.0.1.{n}")));
    }
    assert_eq!(server.in_use("crm"), 15);
}

#[test]
fn workstations_split_the_seat_of_one_role_and_host() {
    let mut server = crm(2);
    server.enters(with_workstation(session(2, PC1), "A"));
    server.enters(with_workstation(session(2, PC1), "B"));
    assert_eq!(denied(&mut server, session(2, PC1)), full(2, 2));
}

#[test]
fn a_workstation_keeps_its_seat_when_its_address_changes() {
    let mut server = Server::with_license(License {
        counted_by: CountedBy::UserWorkstation,
        ..license("crm", 1)
    });
    server.enters(with_workstation(session(2, PC1), "LAPTOP"));
    server.enters(with_workstation(session(2, PC2), "LAPTOP"));
    assert_eq!(server.in_use("crm"), 1);
}

#[test]
fn every_connection_counts_by_session() {
    let mut server = Server::with_license(License {
        counted_by: CountedBy::Session,
        ..license("crm", 2)
    });
    server.enters(session(2, PC1));
    let second = server.enters(session(2, PC1));
    assert_eq!(denied(&mut server, session(2, PC1)), full(2, 2));
    server.log_out(second);
    server.enters(session(2, PC1));
}

#[test]
fn an_overdraft_admits_beyond_the_seats_with_a_remark() {
    let mut server = Server::with_license(License {
        overdraft: 1,
        ..license("crm", 1)
    });
    server.enters(session(2, PC1));
    match server.log_in(session(2, PC2)).1 {
        Answer::Admitted(Remark::Overdraft(denial)) => assert_eq!(denial.cause, full(1, 1)),
        other => panic!("{other:?}"),
    }
    // Who joins a seat takes none.
    server.enters(session(2, PC2));
    assert_eq!(denied(&mut server, session(2, PC3)), full(2, 2));
}

#[test]
fn warn_admits_and_counts_what_would_have_been_denied() {
    let mut server = Server::with_license(License {
        enforcement: Enforcement::Warn,
        ..license("crm", 0)
    });
    match server.log_in(session(2, PC1)).1 {
        Answer::Admitted(Remark::WouldBeDenied(denial)) => assert_eq!(denial.cause, full(0, 0)),
        other => panic!("{other:?}"),
    }
    assert_eq!((server.in_use("crm"), denials(&mut server)), (1, 1));
}

#[test]
fn off_admits_and_counts_seats_but_no_denials() {
    let mut server = Server::with_license(License {
        enforcement: Enforcement::Off,
        ..license("crm", 0)
    });
    server.enters(session(2, PC1));
    assert_eq!((server.in_use("crm"), denials(&mut server)), (1, 0));
}

#[test]
fn the_servers_enforcement_only_softens_the_licenses() {
    use Enforcement::{Off, On, Warn};
    for (own, server_wide, admits) in [
        (On, On, false),
        (On, Warn, true),
        (On, Off, true),
        (Warn, On, true),
        (Off, On, true),
    ] {
        let mut server = Server::with_license(License {
            enforcement: own,
            ..license("crm", 0)
        });
        server.enforcement = server_wide;
        let (_, answer) = server.log_in(session(2, PC1));
        assert_eq!(
            matches!(answer, Answer::Admitted(_)),
            admits,
            "{own:?} under {server_wide:?}: {answer:?}"
        );
    }
}

#[test]
fn dates_admit_from_the_first_moment_until_grace_is_over() {
    let mut server = crm(5);
    let (from, until) = (server.now + MINUTE, server.now + 3 * MINUTE);
    server.change(1, |rows| {
        rows.licenses[0].valid_from = Some(from);
        rows.licenses[0].valid_until = Some(until);
        rows.licenses[0].admits_until = Some(until + MINUTE);
    });
    let early = Cause::OutOfDates(OutOfDates::NotYetValid(from));
    let late = Cause::OutOfDates(OutOfDates::Expired(until));
    server.now = from - 1;
    assert_eq!(denied(&mut server, session(2, PC1)), early);
    server.now = from;
    server.enters(session(2, PC1));
    server.now = until + MINUTE - 1;
    server.enters(session(2, PC2));
    server.now = until + MINUTE;
    assert_eq!(denied(&mut server, session(2, PC3)), late);
    // Nobody is thrown out, and who is in may not connect once more either.
    assert_eq!(server.in_use("crm"), 2);
    assert_eq!(denied(&mut server, session(2, PC1)), late);
}

#[test]
fn superusers_are_exempt_and_take_no_seat() {
    let mut server = crm(1);
    let place = server.enters(superuser(1, PC1));
    assert_eq!(
        server.ledger.sessions[place.0].exempt.map(|e| e.reason()),
        Some("superuser")
    );
    assert_eq!(server.in_use("crm"), 0);
}

#[test]
fn superusers_that_count_are_never_denied() {
    let mut server = crm(1);
    server.exempt_superusers = false;
    // Exemptions are not theirs: superusers are members of every role.
    server.change(1, |rows| rows.exemptions.push(exempt_role("staff")));
    server.enters(session(4, PC1));
    server.enters(superuser(1, PC2));
    assert_eq!((server.in_use("crm"), denials(&mut server)), (2, 0));
    assert_eq!(denied(&mut server, session(5, PC3)), full(2, 1));
    server.change(1, |rows| rows.licenses[0].admits_until = Some(0));
    server.enters(superuser(1, PC3));
}

#[test]
fn logins_find_room_whatever_applications_hold() {
    let mut server = Server::new(Capacity {
        max_seats: 2,
        ..ROOM
    });
    server.change(1, |rows| {
        rows.licenses = vec![
            license("crm", None),
            License {
                claimed_at: ClaimedAt::Checkout,
                enforcement: Enforcement::Off,
                ..license("web", None)
            },
        ];
    });
    let at = server.enters(session(2, PC1));
    for user in ["ann", "bob"] {
        server.checks_out(at, "web", user);
    }
    for n in 1..=19 {
        server.enters(session(3, &format!("10.1.0.{n}")));
    }
    assert_eq!((server.in_use("crm"), server.in_use("web")), (20, 2));
}

#[test]
fn those_already_in_find_a_seat_however_full_the_ledger_is() {
    let mut server = Server::new(Capacity {
        max_seats: 2,
        ..ROOM
    });
    server.change(1, |_| ());
    for n in 1..=5 {
        server.enters(session(2, &format!("127.0.1.{n}")));
    }
    server.exempt_superusers = false;
    server.enters(superuser(1, PC1));
    assert_eq!(server.seats_taken(), 0);
    server.change(1, |rows| rows.licenses.push(license("crm", 1)));
    server.load(1);
    assert_eq!((server.in_use("crm"), server.seats_taken()), (6, 6));
}

#[test]
fn a_new_license_counts_those_already_in_and_throws_nobody_out() {
    let mut server = Server::new(ROOM);
    let places = [PC1, PC2, PC3].map(|pc| server.enters(session(2, pc)));
    server.change(1, |rows| rows.licenses.push(license("crm", 2)));
    assert_eq!(denied(&mut server, session(4, PC1)), full(3, 2));
    // Two must leave before the next may come.
    server.log_out(places[0]);
    assert_eq!(denied(&mut server, session(4, PC1)), full(2, 2));
    server.log_out(places[1]);
    server.enters(session(4, PC1));
}

#[test]
fn denials_and_high_water_stay_with_the_product_when_its_row_changes() {
    let mut server = crm(1);
    let place = server.enters(session(2, PC1));
    denied(&mut server, session(2, PC2));
    server.log_out(place);
    server.change(1, |rows| rows.licenses.insert(0, license("a", 0)));
    server.change(1, |rows| rows.licenses[1].seats = Some(3));
    server.load(1);
    assert_eq!(denials(&mut server), 1);
    let mut high_water = vec![];
    server.ledger.with(|l| {
        l.tallies
            .each(|t| high_water.push((t.product.to_string(), t.high_water)))
    });
    high_water.sort();
    assert_eq!(high_water, [("a".into(), 0), ("crm".into(), 1)]);
}

#[test]
fn the_high_water_is_the_most_seats_at_once_and_when() {
    let mut server = crm(5);
    server.enters(session(2, PC1));
    server.now += MINUTE;
    let at = server.now;
    let place = server.enters(session(2, PC2));
    server.log_out(place);
    server.now += MINUTE;
    server.enters(session(2, PC2));
    let tally = tally(&mut server);
    assert_eq!((tally.high_water, tally.high_water_at), (2, at));
}

#[test]
fn another_rule_of_counting_does_not_raise_the_high_water_on_its_way() {
    let mut server = Server::with_license(License {
        counted_by: CountedBy::User,
        ..license("crm", 5)
    });
    // One seat by user, one by user and host, and never two.
    server.enters(session(2, PC1));
    server.enters(session(2, PC1));
    server.change(1, |rows| rows.licenses[0].counted_by = CountedBy::UserHost);
    server.load(1);
    let tally = tally(&mut server);
    assert_eq!((tally.in_use, tally.high_water), (1, 1));
}

#[test]
fn no_two_seats_have_one_id() {
    let mut server = crm(5);
    server.enters(with_application(session(2, PC1), "Crm Mobile"));
    server.enters(session(2, PC1));
    // The one who opened the seat now claims another license, and the other keeps the seat.
    server.change(1, |rows| {
        rows.licenses.push(License {
            application_name: crate::core::ledger::identity::Text::new("%Mobile").unwrap(),
            ..license("mobile", 5)
        });
    });
    server.load(1);
    let mut ids = vec![];
    server
        .ledger
        .with(|l| l.seats.each(|seat| ids.push(seat.number)));
    assert_eq!(ids.len(), 2);
    assert_ne!(ids[0], ids[1]);
}
