//! Changes of the tables, and the rules read before, while and after.

use super::server::{ROOM, Server, exempt_role, license, name, of_database, session, superuser};
use crate::core::ledger::acts::admission::Answer;
use crate::core::ledger::acts::publish::Published;
use crate::core::ledger::denial::Remark;
use crate::core::ledger::map::Capacity;
use crate::core::ledger::numbers::{DatabaseOid, Generation, Slot, TallyId};
use crate::core::ledger::table::Table;
use crate::core::ledger::visit::Unsettled;

const PC1: &str = "10.0.0.1";
const PC2: &str = "10.0.0.2";
const IN_FORCE: Published = Published::InForce { disagreement: None };

fn seats(server: &mut Server, seats: i32) {
    server.change(1, |rows| rows.licenses = vec![license("crm", seats)]);
}

#[test]
fn rules_never_read_are_not_current() {
    let mut server = Server::with_license(license("crm", 1));
    assert!(!server.is_current(1));
    assert_eq!(server.load(1), IN_FORCE);
    assert!(server.is_current(1));
    assert!(!server.is_current(2));
}

#[test]
fn a_change_takes_effect_for_the_next_login_and_only_in_its_database() {
    let mut server = Server::new(ROOM);
    server.load(1);
    server.load(2);
    seats(&mut server, 0);
    assert!(!server.is_current(1) && server.is_current(2));
    assert!(matches!(
        server.log_in(session(2, PC1)).1,
        Answer::Denied(_)
    ));
    server.enters(of_database(session(2, PC1), 2));
}

#[test]
fn what_was_read_before_a_change_is_in_force_until_somebody_reads_the_change() {
    let mut server = Server::with_license(license("crm", 1));
    let mut read = server.read(1);
    seats(&mut server, 2);
    let mut newer = server.read(1);
    assert_eq!(server.publish(1, &mut read), IN_FORCE);
    assert!(!server.is_current(1));
    // Who has read them is judged by them, and nobody else who came since.
    let view = server.view();
    let as_new_as = |server: &mut Server, generation| {
        server
            .ledger
            .with(|l| l.is_as_new_as(DatabaseOid(1), generation, view))
    };
    assert!(as_new_as(&mut server, read.generation));
    assert!(!as_new_as(&mut server, newer.generation));
    assert_eq!(server.publish(1, &mut newer), IN_FORCE);
    assert!(server.is_current(1) && as_new_as(&mut server, read.generation));
}

#[test]
fn nothing_that_is_older_takes_the_place_of_what_is_in_force() {
    let mut server = Server::with_license(license("crm", 1));
    let mut read = server.read(1);
    seats(&mut server, 2);
    assert_eq!(server.load(1), IN_FORCE);
    assert_eq!(server.publish(1, &mut read), Published::Superseded);
    assert!(server.is_current(1));
    server.enters(session(2, PC1));
    server.enters(session(2, PC2));
}

#[test]
fn what_was_read_before_seats_went_elsewhere_is_never_in_force() {
    let mut server = Server::with_license(license("crm", 9));
    server.load(1);
    seats(&mut server, 8);
    let mut read = server.read(1);
    let tally = server.tally("crm").number;
    server.ledger.with(|l| l.withdraw(tally, 1));
    assert_eq!(server.publish(1, &mut read), Published::Outdated);
    let view = server.view();
    assert!(
        !server
            .ledger
            .with(|l| l.is_as_new_as(DatabaseOid(1), Generation::NONE, view))
    );
    // So after a reload, and a promotion.
    server.load(1);
    let mut read = server.read(1);
    server.ledger.with(|l| l.revisit_all(Unsettled::Nothing));
    assert_eq!(server.publish(1, &mut read), Published::Outdated);
}

/// Or a busy server would never come to an end with it.
#[test]
fn who_came_since_was_judged_by_what_is_in_force_hinders_nobody() {
    let mut server = Server::with_license(license("crm", 9));
    let mut rules = server.read(1);
    let judgement = server.judge_all(1, &mut rules);
    assert!(
        !server
            .ledger
            .with(|l| l.was_quicker(DatabaseOid(1), Generation::NONE, &rules))
    );
    server.enters(session(2, PC1));
    assert!(
        server
            .ledger
            .with(|l| l.was_quicker(DatabaseOid(1), Generation::NONE, &rules))
    );
    assert!(
        !server
            .ledger
            .with(|l| l.was_quicker(DatabaseOid(1), rules.generation, &rules))
    );
    let now = server.now;
    let publish = |server: &mut Server, rules: &mut _| {
        server
            .ledger
            .with(|l| l.publish(DatabaseOid(1), rules, &judgement, now))
    };
    assert_eq!(publish(&mut server, &mut rules), IN_FORCE);
    assert_eq!(server.in_use("crm"), 1);
    // Somebody whom nobody has judged does.
    server.exempt_superusers = false;
    let mut rules = server.read(1);
    server.log_in_blindly(superuser(1, PC2));
    assert_eq!(publish(&mut server, &mut rules), Published::Unjudged);
}

#[test]
fn who_reads_what_is_in_force_already_has_it_as_it_is() {
    let mut server = Server::with_license(license("crm", 1));
    let (mut first, mut second) = (server.read(1), server.read(1));
    assert_eq!(server.publish(1, &mut first), IN_FORCE);
    assert_eq!(server.publish(1, &mut second), IN_FORCE);
    assert_ne!(second.licenses[0].tally, TallyId::NONE);
    assert_eq!(second.licenses[0].tally, first.licenses[0].tally);
}

#[test]
fn nobody_relies_on_rules_while_a_change_commits() {
    let mut server = Server::with_license(license("crm", 1));
    server.load(1);
    server
        .ledger
        .with(|l| l.change_begins(DatabaseOid(1), Unsettled::Counts));
    assert!(!server.is_current(1));
    // What is read meanwhile may lack the change.
    assert_eq!(server.load(1), IN_FORCE);
    assert!(!server.is_current(1));
    server
        .ledger
        .with(|l| l.change_ends(DatabaseOid(1), Unsettled::Counts));
    assert!(!server.is_current(1));
    server.load(1);
    assert!(server.is_current(1));
}

#[test]
fn of_two_overlapping_changes_the_last_counts() {
    let mut server = Server::with_license(license("crm", 1));
    server.load(1);
    server.ledger.with(|l| {
        l.change_begins(DatabaseOid(1), Unsettled::Counts);
        l.change_begins(DatabaseOid(1), Unsettled::Counts);
        l.change_ends(DatabaseOid(1), Unsettled::Counts);
    });
    server.load(1);
    assert!(!server.is_current(1), "the second is still committing");
    server
        .ledger
        .with(|l| l.change_ends(DatabaseOid(1), Unsettled::Counts));
    assert!(!server.is_current(1), "the second has not been read");
    server.load(1);
    assert!(server.is_current(1));
}

#[test]
fn a_login_judged_by_former_rules_is_outdated() {
    let mut server = Server::with_license(license("crm", 1));
    server.load(1);
    let session = session(2, PC1);
    let judged = server.judge(&session);
    seats(&mut server, 0);
    server.load(1);
    let answer = server.ledger.with(|l| l.admit(Slot(0), session, judged));
    assert_eq!(answer, Answer::Outdated);
    assert_eq!(server.ledger.free_slot(), Some(Slot(0)));
}

#[test]
fn a_session_that_came_unjudged_hinders_publishing_until_it_is_judged() {
    let mut server = Server::with_license(license("crm", 1));
    server.exempt_superusers = false;
    let mut rules = server.read(1);
    let judgement = server.judge_all(1, &mut rules);
    server.log_in_blindly(of_database(superuser(1, PC1), 2));
    let place = server.log_in_blindly(superuser(1, PC1));
    let now = server.now;
    let publish = server
        .ledger
        .with(|l| l.publish(DatabaseOid(1), &mut rules, &judgement, now));
    assert_eq!(publish, Published::Unjudged);
    assert!(!server.is_current(1));
    assert_eq!(server.publish(1, &mut rules), IN_FORCE);
    assert_eq!(server.in_use("crm"), 1);
    // Another one at the same place was not judged either.
    let mut rules = server.read(1);
    let judgement = server.judge_all(1, &mut rules);
    server.log_out(place);
    assert_eq!(server.log_in_blindly(superuser(1, PC2)), place);
    let now = server.now;
    let publish = server
        .ledger
        .with(|l| l.publish(DatabaseOid(1), &mut rules, &judgement, now));
    assert_eq!(publish, Published::Unjudged);
}

#[test]
fn who_left_between_judging_and_publishing_is_no_hindrance() {
    let mut server = Server::with_license(license("crm", 1));
    let place = server.enters(session(2, PC1));
    let mut rules = server.read(1);
    let judgement = server.judge_all(1, &mut rules);
    server.log_out(place);
    let now = server.now;
    let publish = server
        .ledger
        .with(|l| l.publish(DatabaseOid(1), &mut rules, &judgement, now));
    assert_eq!(publish, IN_FORCE);
    assert_eq!(server.seats_taken(), 0);
}

#[test]
fn rules_without_room_leave_the_former_ones_in_force() {
    let mut server = Server::new(Capacity { rules: 2, ..ROOM });
    server.change(1, |rows| rows.licenses = vec![license("crm", 1)]);
    server.enters(session(2, PC1));
    let three = ["a", "b", "crm"].map(|product| license(product, 9));
    server.change(1, |rows| rows.licenses = three.to_vec());
    assert_eq!(server.load(1), Published::TooManyRules);
    server.change(1, |_| ());
    assert_eq!(server.load(1), Published::TooManyRules);
    assert!(!server.is_current(1));
    assert_eq!(server.in_use("crm"), 1);
    let newcomer = session(4, PC2);
    let judged = server.judge(&newcomer);
    let answer = server.ledger.with(|l| l.admit(Slot(1), newcomer, judged));
    assert!(matches!(answer, Answer::Denied(_)), "{answer:?}");
    // A database's own former rows are room for its new ones.
    server.change(1, |rows| {
        rows.exemptions.truncate(1);
        rows.licenses = ["x", "y"].map(|product| license(product, 9)).to_vec();
    });
    assert_eq!(server.load(1), IN_FORCE);
    assert_eq!((server.in_use("x"), server.in_use("crm")), (1, 0));
}

#[test]
fn no_room_for_a_database_means_no_generation() {
    let mut server = Server::new(Capacity {
        databases: 1,
        ..ROOM
    });
    // One without rules makes room for another.
    server.load(2);
    server.change(1, |rows| rows.licenses = vec![license("crm", 1)]);
    server.load(1);
    assert_eq!(server.ledger.with(|l| l.generation(DatabaseOid(2))), None);
    server
        .ledger
        .with(|l| l.change_begins(DatabaseOid(2), Unsettled::Counts));
    server
        .ledger
        .with(|l| l.change_ends(DatabaseOid(2), Unsettled::Counts));
    assert!(server.is_current(1) && !server.is_current(2));
}

#[test]
fn of_a_forgotten_database_nothing_is_left_to_the_next_with_its_oid() {
    let mut server = Server::with_license(license("crm", 1));
    server.change(1, |rows| rows.exemptions.push(exempt_role("batch")));
    let place = server.enters(session(2, PC1));
    let mut stale = server.read(1);
    server.log_out(place);
    server.ledger.with(|l| l.forget(DatabaseOid(1), 0));
    server.tables.clear();
    server.ledger.with(|l| {
        let left = l.databases.len() + l.licenses.len() + l.exemptions.len();
        assert_eq!(left + l.tallies.len() + l.seats.len(), 0);
    });
    assert_eq!(server.publish(1, &mut stale), Published::Outdated);
    assert!(!server.is_current(1));
    server.read(1);
    assert_eq!(server.publish(1, &mut stale), Published::Outdated);
    server.enters(session(2, PC1));
    server.enters(session(2, PC2));
    assert_eq!(server.seats_taken(), 0);
}

#[test]
fn rules_read_on_a_standby_last_one_second() {
    let mut server = Server::with_license(license("crm", 1));
    server.in_recovery = true;
    server.load(1);
    assert!(server.is_current(1));
    server.now += 999_999;
    assert!(server.is_current(1));
    server.now += 1;
    assert!(!server.is_current(1));
    server.load(1);
    assert!(server.is_current(1));
}

#[test]
fn after_promotion_what_a_standby_read_is_read_again() {
    let mut server = Server::with_license(license("crm", 1));
    server.in_recovery = true;
    server.load(1);
    assert!(server.unread().is_empty());
    server.in_recovery = false;
    assert!(!server.is_current(1));
    assert_eq!(server.unread(), [1]);
    server.load(1);
    assert!(server.unread().is_empty());
    assert!(server.is_current(1));
}

#[test]
fn on_a_standby_databases_with_licenses_are_read_again_after_ten_seconds() {
    let mut server = Server::with_license(license("crm", 1));
    server.in_recovery = true;
    server.load(1);
    server.load(2);
    server.now += 10_000_000;
    assert!(server.unread().is_empty());
    server.now += 1;
    assert_eq!(server.unread(), [1]);
    server.in_recovery = false;
    server.load(1);
    server.load(2);
    server.now += 60 * 10_000_000;
    assert!(
        server.unread().is_empty(),
        "a primary hears of every change"
    );
}

#[test]
fn unwatched_rules_are_never_current_on_a_primary() {
    let mut server = Server::with_license(license("crm", 1));
    let mut rules = server.read(1);
    rules.watched = false;
    server.publish(1, &mut rules);
    assert!(!server.is_current(1));
}

#[test]
fn another_setting_of_exempt_superusers_makes_rules_be_read_again() {
    let mut server = Server::with_license(license("crm", 1));
    server.enters(superuser(1, PC1));
    assert_eq!(server.in_use("crm"), 0);
    server.exempt_superusers = false;
    assert!(!server.is_current(1));
    server.load(1);
    assert_eq!(server.in_use("crm"), 1);
    // A login whose judge read under the new setting, and a reader that still has the old one.
    let judged = server.judge(&session(2, PC1));
    server.exempt_superusers = true;
    server.load(1);
    let place = server.ledger.free_slot().unwrap();
    let answer = server
        .ledger
        .with(|l| l.admit(place, session(2, PC1), judged));
    assert_eq!(answer, Answer::Outdated);
}

#[test]
fn a_login_without_licenses_is_admitted_and_registered() {
    let mut server = Server::new(ROOM);
    let (place, answer) = server.log_in(session(2, PC1));
    assert_eq!(answer, Answer::Admitted(Remark::None));
    assert_eq!(server.ledger.sessions[place.0].usename, name("r2"));
}
