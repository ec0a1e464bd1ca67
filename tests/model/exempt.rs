//! How many may be exempt at once, where a license's signature limits it.

use super::server::{
    MINUTE, ROOM, Rows, Server, exempt_hosts, exempt_role, license, of_database, session,
    superuser, want, with_application,
};
use crate::core::ledger::acts::admission::Answer;
use crate::core::ledger::acts::checkout::Claimed;
use crate::core::ledger::acts::publish::Published;
use crate::core::ledger::denial::{Cause, Denial};
use crate::core::ledger::event::{Event, Happened};
use crate::core::ledger::identity::{Name, Text};
use crate::core::ledger::license::{License, Signed};
use crate::core::ledger::numbers::Slot;
use crate::core::ledger::rules::Hosts;
use crate::core::ledger::seat::Exempt;
use crate::core::ledger::session::Session;
use crate::core::ledger::words::{ClaimedAt, CountedBy};

/// Returns "crm" with so many seats, of which so many identities may be exempt.
fn limited(seats: i32, exempt: u32) -> License {
    License {
        signed: Some(Signed {
            exempt: Some(exempt),
            ..Signed::default()
        }),
        ..license("crm", seats)
    }
}

fn at_checkout(license: License) -> License {
    License {
        claimed_at: ClaimedAt::Checkout,
        ..license
    }
}

/// Returns a server with these licenses in database 1, where roles 2, 4 and 5 are exempt, and all at the server's own
/// computer.
fn server(licenses: &[License]) -> Server {
    let mut server = Server::new(ROOM);
    server.change(1, |rows| *rows = rows_of(licenses));
    server
}

fn rows_of(licenses: &[License]) -> Rows {
    let mut exemptions = vec![exempt_hosts(Hosts::LOCAL)];
    exemptions.extend(["r2", "r4", "r5"].map(exempt_role));
    Rows {
        licenses: licenses.to_vec(),
        exemptions,
        ..Rows::default()
    }
}

fn pc(n: usize) -> String {
    format!("10.0.0.{n}")
}

fn at(role: u32, n: usize) -> Session {
    session(role, &pc(n))
}

fn exempt(server: &Server, place: Slot) -> Option<Exempt> {
    server.ledger.sessions[place.0].exempt
}

/// Logs in, and is exempt or not.
fn enters(server: &mut Server, session: Session, reason: Option<Exempt>) -> Slot {
    let place = server.enters(session);
    assert_eq!(exempt(server, place), reason);
    assert_eq!(
        server.ledger.sessions[place.0].seat.is_some(),
        reason.is_none()
    );
    place
}

fn is_full(server: &mut Server, session: Session) {
    let (_, answer) = server.log_in(session);
    let full = matches!(
        answer,
        Answer::Denied(Denial {
            cause: Cause::Full { .. },
            ..
        })
    );
    assert!(full, "{answer:?}");
}

/// Checks out a seat of "crm", which takes one or is exempt.
fn checks_out(server: &mut Server, place: Slot, client_user: &str, takes_seat: bool) {
    let receipt = server.checks_out(place, "crm", client_user);
    assert_eq!(receipt.seat.is_some(), takes_seat);
}

const ROLE: Option<Exempt> = Some(Exempt::Role);
const HOST: Option<Exempt> = Some(Exempt::Host);

#[test]
fn whoever_comes_beyond_the_limit_counts_and_may_be_denied() {
    let mut server = server(&[limited(1, 1)]);
    enters(&mut server, at(2, 1), ROLE);
    enters(&mut server, at(4, 2), None);
    assert_eq!(server.in_use("crm"), 1);
    is_full(&mut server, at(5, 3));
    is_full(&mut server, session(3, "local"));
}

#[test]
fn sessions_of_one_identity_are_exempt_together() {
    let mut server = server(&[limited(0, 1)]);
    let first = enters(&mut server, at(2, 1), ROLE);
    let second = enters(&mut server, at(2, 1), ROLE);
    is_full(&mut server, at(2, 2));
    server.log_out(first);
    is_full(&mut server, at(2, 2));
    server.log_out(second);
    enters(&mut server, at(2, 2), ROLE);
}

#[test]
fn roles_and_hosts_are_exempt_by_one_limit() {
    let mut server = server(&[limited(1, 2)]);
    enters(&mut server, session(3, "local"), HOST);
    enters(&mut server, at(2, 1), ROLE);
    enters(&mut server, session(6, "local"), None);
    is_full(&mut server, at(4, 1));
}

#[test]
fn whoever_counts_goes_on_counting_when_a_place_is_free() {
    let mut server = server(&[limited(2, 1)]);
    let first = enters(&mut server, at(2, 1), ROLE);
    let second = enters(&mut server, at(4, 2), None);
    server.log_out(first);
    assert_eq!(exempt(&server, second), None);
    let third = enters(&mut server, at(5, 3), ROLE);
    // Its identity counts: another session of it is exempt as soon as there is a place.
    server.log_out(third);
    enters(&mut server, at(4, 2), ROLE);
    assert_eq!(server.in_use("crm"), 1);
}

#[test]
fn where_none_may_be_exempt_everybody_counts_but_superusers_and_replication() {
    let mut server = server(&[limited(1, 0)]);
    enters(&mut server, at(2, 1), None);
    enters(&mut server, superuser(1, "local"), Some(Exempt::Superuser));
    let standby = Session {
        replication: true,
        ..at(2, 2)
    };
    enters(&mut server, standby, Some(Exempt::Replication));
    is_full(&mut server, at(4, 1));
}

#[test]
fn superusers_and_replication_leave_the_places_to_others() {
    let mut server = server(&[limited(0, 1)]);
    enters(&mut server, superuser(1, &pc(1)), Some(Exempt::Superuser));
    let standby = Session {
        replication: true,
        ..at(2, 2)
    };
    let standby = enters(&mut server, standby, Some(Exempt::Replication));
    server.checks_out(standby, "crm", "ann");
    enters(&mut server, at(2, 3), ROLE);
    is_full(&mut server, at(4, 4));
}

#[test]
fn identities_are_those_of_the_rule_of_counting() {
    let by = |counted_by| {
        server(&[License {
            counted_by,
            ..limited(0, 1)
        }])
    };
    let mut by_user = by(CountedBy::User);
    enters(&mut by_user, at(2, 1), ROLE);
    enters(&mut by_user, at(2, 2), ROLE);
    is_full(&mut by_user, at(4, 1));
    let mut by_host = by(CountedBy::Host);
    enters(&mut by_host, at(2, 1), ROLE);
    enters(&mut by_host, at(4, 1), ROLE);
    is_full(&mut by_host, at(2, 2));
    let mut by_session = by(CountedBy::Session);
    enters(&mut by_session, at(2, 1), ROLE);
    is_full(&mut by_session, at(2, 1));
}

#[test]
fn a_login_that_claims_another_license_or_none_takes_no_place() {
    let books = License {
        application_name: Text::new("Books%").unwrap(),
        ..license("books", 0)
    };
    let crm = License {
        application_name: Text::new("Crm%").unwrap(),
        ..limited(0, 1)
    };
    let mut server = server(&[books, crm]);
    for application in ["Books", "psql", "Books", "Crm"] {
        let place = server.enters(with_application(at(2, 1), application));
        assert_eq!(exempt(&server, place), ROLE);
    }
    is_full(&mut server, with_application(at(4, 2), "Crm"));
    server.enters(with_application(at(4, 2), "Books"));
}

#[test]
fn databases_that_count_together_have_one_limit() {
    let license = License {
        pool: Name::new("group").unwrap(),
        ..limited(0, 1)
    };
    let mut server = server(&[license]);
    server.change(2, |rows| *rows = rows_of(&[license]));
    server.load(1);
    server.load(2);
    let first = enters(&mut server, at(2, 1), ROLE);
    let second = enters(&mut server, of_database(at(2, 1), 2), ROLE);
    is_full(&mut server, of_database(at(4, 1), 2));
    server.log_out(first);
    is_full(&mut server, at(4, 1));
    server.log_out(second);
    enters(&mut server, at(4, 1), ROLE);
}

#[test]
fn a_database_that_joins_a_pool_finds_the_places_taken() {
    let license = License {
        pool: Name::new("group").unwrap(),
        ..limited(5, 2)
    };
    let mut server = server(&[license]);
    server.change(2, |rows| *rows = rows_of(&[]));
    let before = [at(2, 1), at(4, 2), at(5, 3)];
    let before = before.map(|session| server.enters(of_database(session, 2)));
    enters(&mut server, at(4, 2), ROLE);
    server.change(2, |rows| *rows = rows_of(&[license]));
    server.load(2);
    // The first, and whoever is exempt in the other database already.
    let reasons = before.map(|place| exempt(&server, place));
    assert_eq!(reasons, [ROLE, ROLE, None]);
    assert_eq!(server.in_use("crm"), 1);
}

#[test]
fn when_a_limit_comes_those_who_came_first_are_exempt_and_all_stay_in() {
    let mut server = server(&[license("crm", 1)]);
    let mut places = vec![];
    for (role, computer) in [(2, 1), (4, 2), (2, 1), (5, 3)] {
        server.now += MINUTE;
        places.push(enters(&mut server, at(role, computer), ROLE));
    }
    // The places of sessions say nothing of who came first.
    server.log_out(places[0]);
    server.now += MINUTE;
    places[0] = enters(&mut server, at(5, 3), ROLE);
    server.now += MINUTE;
    server.change(1, |rows| rows.licenses = vec![limited(1, 1)]);
    server.load(1);
    let reasons: Vec<_> = places.iter().map(|place| exempt(&server, *place)).collect();
    assert_eq!(reasons, [None, ROLE, None, None]);
    assert_eq!(server.in_use("crm"), 2);
    server.change(1, |rows| rows.licenses = vec![limited(1, 2)]);
    server.load(1);
    let reasons: Vec<_> = places.iter().map(|place| exempt(&server, *place)).collect();
    assert_eq!(reasons, [None, ROLE, ROLE, None]);
    server.change(1, |rows| rows.licenses = vec![license("crm", 1)]);
    server.load(1);
    assert_eq!(server.in_use("crm"), 0);
}

#[test]
fn rules_that_are_in_force_judge_nobody_anew() {
    let mut server = server(&[limited(2, 1)]);
    let first = enters(&mut server, at(2, 1), ROLE);
    let second = enters(&mut server, at(4, 2), None);
    server.log_out(first);
    let published = server.ledger.head.published;
    assert_eq!(server.load(1), Published::InForce { disagreement: None });
    assert_eq!(server.ledger.head.published, published);
    assert_eq!(exempt(&server, second), None);
}

#[test]
fn an_exempt_login_that_counts_is_told_as_any_other() {
    let mut server = server(&[limited(1, 1)]);
    enters(&mut server, at(2, 1), ROLE);
    let counted = enters(&mut server, at(4, 2), None);
    is_full(&mut server, at(5, 3));
    server.log_out(counted);
    let is_warning = |event: &Event| matches!(event.happened, Happened::Reached { .. });
    let mut events = server.tell_all();
    events.retain(|event| !is_warning(event));
    let [exempt, taken, denied, left] = events.try_into().unwrap();
    assert_eq!(exempt.happened, Happened::ExemptLogin(Exempt::Role));
    assert_eq!((taken.happened, taken.in_use), (Happened::Taken, 1));
    assert!(matches!(denied.happened, Happened::Denied(_)));
    assert!(matches!(left.happened, Happened::Left(_)));
}

#[test]
fn who_was_in_before_the_rules_is_told_to_be_exempt_only_if_it_is() {
    let mut server = server(&[limited(5, 1)]);
    let [first, second] = [2, 4].map(|role| server.log_in_blindly(at(role, 1)));
    server.load(1);
    assert_eq!(
        (exempt(&server, first), exempt(&server, second)),
        (ROLE, None)
    );
    let [event] = server.tell_all().try_into().unwrap();
    assert_eq!(event.happened, Happened::ExemptLogin(Exempt::Role));
    assert_eq!(event.who, server.ledger.sessions[first.0].who);
}

#[test]
fn checkouts_of_exempt_sessions_take_seats_beyond_the_limit() {
    let mut server = server(&[at_checkout(limited(1, 1))]);
    let [first, second, third] =
        [(2, 1), (4, 2), (5, 3)].map(|(role, computer)| server.enters(at(role, computer)));
    for place in [first, second, third] {
        assert_eq!(exempt(&server, place), ROLE);
        assert!(!server.may_use(place, "crm"));
    }
    checks_out(&mut server, first, "", false);
    checks_out(&mut server, second, "", true);
    let denied = server.claim(third, "crm", want(""), false);
    assert!(matches!(denied, Claimed::Denied(_)), "{denied:?}");
    let may_use = [first, second, third].map(|place| server.may_use(place, "crm"));
    assert_eq!(may_use, [true, true, false]);
    // Once more takes neither a seat nor a place, nor does another session of the identity.
    checks_out(&mut server, first, "", false);
    checks_out(&mut server, second, "", true);
    let again = server.enters(at(2, 1));
    assert!(server.may_use(again, "crm"));
    checks_out(&mut server, again, "", false);
    assert!(server.check_in(first, "crm", ""));
    server.log_out(first);
    assert!(matches!(
        server.claim(third, "crm", want(""), false),
        Claimed::Denied(_)
    ));
    server.log_out(again);
    // Whoever has a seat keeps it, and takes no place.
    checks_out(&mut server, third, "", false);
    assert_eq!(server.in_use("crm"), 1);
    for place in [second, third] {
        server.log_out(place);
    }
    server.assert_empty();
}

#[test]
fn the_users_of_an_application_are_identities_of_their_own() {
    let mut server = server(&[limited(1, 2)]);
    let place = enters(&mut server, at(2, 1), ROLE);
    checks_out(&mut server, place, "", false);
    checks_out(&mut server, place, "ann", false);
    checks_out(&mut server, place, "bob", true);
    let denied = server.claim(place, "crm", want("carl"), false);
    assert!(matches!(denied, Claimed::Denied(_)), "{denied:?}");
    is_full(&mut server, at(4, 1));
    assert!(server.check_in(place, "crm", "ann"));
    checks_out(&mut server, place, "carl", false);
}

#[test]
fn a_session_beyond_the_limit_counts_in_whatever_it_checks_out() {
    let mut server = server(&[limited(1, 0), at_checkout(license("books", 1))]);
    let place = enters(&mut server, at(2, 1), None);
    assert!(!server.may_use(place, "books"));
    assert!(server.checks_out(place, "books", "").seat.is_some());
}

#[test]
fn an_exempt_session_that_takes_no_place_holds_other_licenses_alone() {
    let mut server = server(&[license("books", 0), at_checkout(limited(0, 1))]);
    let place = server.enters(at(2, 1));
    assert!(server.may_use(place, "books"));
    assert!(!server.may_use(place, "crm"));
    checks_out(&mut server, place, "", false);
    assert!(server.may_use(place, "crm"));
}

#[test]
fn when_a_limit_comes_the_checkouts_of_those_who_came_first_are_exempt() {
    let mut server = server(&[at_checkout(license("crm", 5))]);
    let [first, second] = [2, 4].map(|role| server.enters(at(role, 1)));
    for (place, user) in [(second, ""), (first, ""), (first, "ann"), (first, "bob")] {
        checks_out(&mut server, place, user, false);
    }
    for (limit, in_use) in [(3, 1), (0, 4), (1, 3), (9, 0)] {
        server.change(1, |rows| {
            rows.licenses = vec![at_checkout(limited(5, limit))]
        });
        server.load(1);
        assert_eq!(server.in_use("crm"), in_use, "{limit}");
        let holds = server.ledger.sessions[second.0];
        let takes_seat = server
            .ledger
            .with(|l| l.checkouts(&holds).any(|h| h.seat().is_some()));
        assert_eq!(takes_seat, limit <= 3, "{limit}");
    }
}

#[test]
fn another_databases_rules_leave_checkouts_as_they_are() {
    let mut server = server(&[at_checkout(limited(5, 0))]);
    let place = server.enters(at(2, 1));
    checks_out(&mut server, place, "", true);
    server.change(2, |rows| *rows = rows_of(&[license("books", 1)]));
    server.load(2);
    assert_eq!(server.in_use("crm"), 1);
}

#[test]
fn an_exempt_session_beyond_the_limit_waits_in_the_queue_for_a_seat() {
    let mut server = server(&[at_checkout(limited(1, 0))]);
    let [first, second] = [2, 4].map(|role| server.enters(at(role, 1)));
    checks_out(&mut server, first, "", true);
    let ticket = server.waits(second, "crm", want(""));
    // Also by rules that are read again.
    server.change(1, |_| ());
    server.load(1);
    assert!(!server.waits_in_vain(ticket));
    assert!(server.check_in(first, "crm", ""));
    assert!(server.collect(ticket).unwrap().seat.is_some());
    // Where there is no limit any more, nobody need wait.
    let ticket = server.waits(first, "crm", want(""));
    server.change(1, |rows| {
        rows.licenses = vec![at_checkout(license("crm", 1))]
    });
    server.load(1);
    assert!(server.waits_in_vain(ticket));
}

#[test]
fn leases_count_whoever_asks() {
    let mut server = server(&[limited(1, 1)]);
    let place = enters(&mut server, at(2, 1), ROLE);
    let lease = super::server::lease(1, "ann", "local");
    assert!(server.leases(place, "crm", lease).seat.is_some());
    is_full(&mut server, at(4, 1));
}
