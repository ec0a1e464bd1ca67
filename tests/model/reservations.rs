//! Seats that are kept for members of a role, and how many they may use.

use super::server::{
    MINUTE, ROOM, Server, TTL, id, lease, license, name, of_database, reservation, session,
    superuser, want,
};
use crate::core::ledger::acts::admission::Answer;
use crate::core::ledger::acts::checkout::Claimed;
use crate::core::ledger::acts::publish::Published;
use crate::core::ledger::denial::{Cause, Denial, Remark};
use crate::core::ledger::license::License;
use crate::core::ledger::map::MapLedger;
use crate::core::ledger::numbers::{DatabaseOid, Slot};
use crate::core::ledger::reservation::Reservation;
use crate::core::ledger::session::Session;
use crate::core::ledger::table::Table;
use crate::core::ledger::words::{ClaimedAt, CountedBy, Enforcement};

/// Anna and Bert are accountants, Bert is an intern, too; Carl and Dora are neither.
const ANNA: u32 = 11;
const BERT: u32 = 12;
const CARL: u32 = 13;
const DORA: u32 = 14;

const IN_FORCE: Published = Published::InForce { disagreement: None };

fn pc(n: usize) -> String {
    format!("10.0.0.{n}")
}

/// Returns a server with this license of "crm" and these reservations in database 1.
fn server(license: License, reservations: &[Reservation]) -> Server {
    let mut server = Server::with_license(license);
    reserve(&mut server, 1, reservations);
    let granted = [
        (ANNA, "accounting"),
        (BERT, "accounting"),
        (BERT, "interns"),
    ];
    server.catalog.granted.extend(granted);
    server
}

fn crm(seats: impl Into<Option<i32>>, reservations: &[Reservation]) -> Server {
    server(license("crm", seats), reservations)
}

fn reserve(server: &mut Server, database: u32, reservations: &[Reservation]) {
    server.change(database, |rows| rows.reservations = reservations.to_vec());
}

pub fn kept(role: &str, reserved: i32) -> Reservation {
    reservation("crm", role, reserved, None)
}

fn at_most(role: &str, max_seats: i32) -> Reservation {
    reservation("crm", role, 0, max_seats)
}

fn full(in_use: i64, limit: i64, kept: i64) -> Cause {
    Cause::Full {
        in_use,
        limit,
        kept,
    }
}

fn role_full(server: &Server, role: &str, in_use: i64, limit: i64) -> Cause {
    let roles = server.ledger.head.reserved_roles;
    Cause::RoleFull {
        number: roles.number(&name(role)).unwrap(),
        in_use,
        limit,
    }
}

/// Returns the cause of a login's denial.
fn denied(server: &mut Server, session: Session) -> Cause {
    match server.log_in(session).1 {
        Answer::Denied(Denial { cause, .. }) => cause,
        other => panic!("{other:?}"),
    }
}

/// Returns seats of "crm" that members of a role have taken, by the row of database 1.
fn used_by(server: &mut Server, role: &str) -> i64 {
    server.ledger.with(|l| {
        let number = l.head.reserved_roles.number(&name(role)).unwrap();
        let mut used = None;
        l.tallies
            .each(|tally| used = Some(tally.used_by.of(number)));
        used.unwrap()
    })
}

/// Returns the names of the reserved roles, in the order of their numbers.
fn reserved_roles(server: &mut Server) -> Vec<String> {
    server.ledger.with(|l| {
        let roles = l.head.reserved_roles.each();
        roles.map(|(_, role)| role.to_string()).collect()
    })
}

#[test]
fn the_denied_accountant_gets_in_by_a_reservation() {
    let mut server = crm(3, &[kept("accounting", 1)]);
    server.enters(session(CARL, &pc(1)));
    server.enters(session(DORA, &pc(2)));
    assert_eq!(denied(&mut server, session(CARL, &pc(3))), full(2, 3, 1));
    server.enters(session(ANNA, &pc(4)));
    assert_eq!(used_by(&mut server, "accounting"), 1);
    // A reservation is no seat more.
    assert_eq!(denied(&mut server, session(BERT, &pc(5))), full(3, 3, 0));
    assert_eq!(denied(&mut server, session(CARL, &pc(3))), full(3, 3, 0));
}

#[test]
fn a_kept_seat_that_a_member_uses_is_kept_no_longer_and_kept_again_once_it_is_free() {
    let mut server = crm(3, &[kept("accounting", 1)]);
    let anna = server.enters(session(ANNA, &pc(1)));
    server.enters(session(CARL, &pc(2)));
    let dora = server.enters(session(DORA, &pc(3)));
    server.log_out(dora);
    server.log_out(anna);
    server.enters(session(DORA, &pc(3)));
    assert_eq!(denied(&mut server, session(DORA, &pc(4))), full(2, 3, 1));
}

#[test]
fn members_may_take_more_seats_than_are_kept_for_them() {
    let mut server = crm(2, &[kept("accounting", 1)]);
    server.enters(session(ANNA, &pc(1)));
    server.enters(session(ANNA, &pc(2)));
    assert_eq!(denied(&mut server, session(CARL, &pc(3))), full(2, 2, 0));
}

#[test]
fn no_more_is_said_to_be_kept_than_is_free() {
    let mut server = crm(2, &[]);
    server.enters(session(CARL, &pc(1)));
    reserve(&mut server, 1, &[kept("accounting", 5)]);
    assert_eq!(denied(&mut server, session(DORA, &pc(2))), full(1, 2, 1));
    server.enters(session(ANNA, &pc(3)));
    assert_eq!(denied(&mut server, session(DORA, &pc(2))), full(2, 2, 0));
}

#[test]
fn members_use_at_most_so_many_seats() {
    let mut server = crm(9, &[at_most("interns", 1)]);
    let bert = server.enters(session(BERT, &pc(1)));
    let cause = role_full(&server, "interns", 1, 1);
    assert_eq!(denied(&mut server, session(BERT, &pc(2))), cause);
    server.enters(session(CARL, &pc(2)));
    server.log_out(bert);
    server.enters(session(BERT, &pc(2)));
    // Where nobody gets in, the role is not to blame.
    server.change(1, |rows| rows.licenses[0].seats = Some(2));
    assert_eq!(denied(&mut server, session(BERT, &pc(3))), full(2, 2, 0));
}

#[test]
fn a_member_of_several_roles_needs_a_seat_of_each_that_is_limited() {
    let mut server = crm(None, &[at_most("accounting", 2), at_most("interns", 1)]);
    server.enters(session(BERT, &pc(1)));
    let cause = role_full(&server, "interns", 1, 1);
    assert_eq!(denied(&mut server, session(BERT, &pc(2))), cause);
    server.enters(session(ANNA, &pc(2)));
    let cause = role_full(&server, "accounting", 2, 2);
    assert_eq!(denied(&mut server, session(BERT, &pc(3))), cause);
    server.enters(session(CARL, &pc(3)));
}

#[test]
fn the_role_that_is_named_is_a_member() {
    let mut server = crm(1, &[kept(&format!("r{ANNA}"), 1)]);
    assert_eq!(denied(&mut server, session(BERT, &pc(1))), full(0, 1, 1));
    server.enters(session(ANNA, &pc(1)));
}

#[test]
fn who_joins_a_seat_needs_neither() {
    let mut server = crm(2, &[at_most("interns", 1)]);
    server.enters(session(BERT, &pc(1)));
    server.enters(session(BERT, &pc(1)));
    server.enters(session(CARL, &pc(2)));
    reserve(
        &mut server,
        1,
        &[kept("accounting", 2), at_most("interns", 0)],
    );
    server.enters(session(CARL, &pc(2)));
    server.enters(session(BERT, &pc(1)));
    assert_eq!(server.in_use("crm"), 2);
}

#[test]
fn a_seat_counts_for_who_took_it_until_it_is_free() {
    let by_host = License {
        counted_by: CountedBy::Host,
        ..license("crm", 3)
    };
    let mut server = server(by_host, &[kept("accounting", 1)]);
    let anna = server.enters(session(ANNA, &pc(1)));
    let carl = server.enters(session(CARL, &pc(1)));
    server.log_out(anna);
    assert_eq!(used_by(&mut server, "accounting"), 1);
    // Also when rules are read anew.
    reserve(&mut server, 1, &[kept("accounting", 1), kept("interns", 0)]);
    server.load(1);
    assert_eq!(used_by(&mut server, "accounting"), 1);
    server.log_out(carl);
    assert_eq!(used_by(&mut server, "accounting"), 0);
    server.enters(session(CARL, &pc(1)));
    server.enters(session(ANNA, &pc(1)));
    assert_eq!(used_by(&mut server, "accounting"), 0);
}

#[test]
fn overdraft_is_within_what_is_kept() {
    let generous = License {
        overdraft: 1,
        ..license("crm", 1)
    };
    let mut server = server(generous, &[kept("accounting", 1)]);
    server.enters(session(CARL, &pc(1)));
    assert_eq!(denied(&mut server, session(DORA, &pc(2))), full(1, 2, 1));
    let (_, answer) = server.log_in(session(ANNA, &pc(2)));
    match answer {
        Answer::Admitted(Remark::Overdraft(denial)) => assert_eq!(denial.cause, full(1, 1, 0)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn unlimited_seats_are_limited_for_members_and_kept_for_nobody() {
    let mut server = crm(None, &[reservation("crm", "interns", 1, 1)]);
    server.enters(session(CARL, &pc(1)));
    server.enters(session(BERT, &pc(1)));
    let cause = role_full(&server, "interns", 1, 1);
    assert_eq!(denied(&mut server, session(BERT, &pc(2))), cause);
}

#[test]
fn what_is_reserved_of_one_product_is_not_of_another() {
    let mut server = crm(1, &[reservation("books", "accounting", 1, 1)]);
    server.enters(session(CARL, &pc(1)));
    server.change(1, |rows| {
        rows.licenses = vec![
            license("crm", 2),
            License {
                claimed_at: ClaimedAt::Checkout,
                ..license("books", 1)
            },
        ];
    });
    let dora = server.enters(session(DORA, &pc(2)));
    assert!(matches!(
        server.claim(dora, "books", want(""), false),
        Claimed::Denied(Denial { cause, .. }) if cause == full(0, 1, 1)
    ));
}

#[test]
fn superusers_are_members_of_no_role_and_never_denied() {
    let mut server = crm(2, &[reservation("crm", "accounting", 1, 1)]);
    server.exempt_superusers = false;
    server.catalog.granted.insert((1, "accounting"));
    for n in 1..4 {
        server.enters(superuser(1, &pc(n)));
    }
    assert_eq!(
        (used_by(&mut server, "accounting"), server.in_use("crm")),
        (0, 3)
    );
}

#[test]
fn softened_denials_are_remarked_and_counted() {
    let soft = License {
        enforcement: Enforcement::Warn,
        ..license("crm", 2)
    };
    let mut server = server(soft, &[reservation("crm", "interns", 1, 1)]);
    server.enters(session(CARL, &pc(1)));
    for (role, cause) in [
        (DORA, full(1, 2, 1)),
        // Who was let in all the same takes a seat for good.
        (BERT, full(2, 2, 0)),
    ] {
        match server.log_in(session(role, &pc(2))).1 {
            Answer::Admitted(Remark::WouldBeDenied(denial)) => assert_eq!(denial.cause, cause),
            other => panic!("{other:?}"),
        }
    }
    server.change(1, |rows| rows.licenses[0].seats = Some(9));
    match server.log_in(session(BERT, &pc(3))).1 {
        Answer::Admitted(Remark::WouldBeDenied(denial)) => {
            assert_eq!(denial.cause, role_full(&server, "interns", 1, 1));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(used_by(&mut server, "interns"), 2);
}

#[test]
fn who_was_in_before_the_reservation_counts() {
    let mut server = crm(3, &[]);
    let anna = server.enters(session(ANNA, &pc(1)));
    server.enters(session(CARL, &pc(2)));
    reserve(&mut server, 1, &[reservation("crm", "accounting", 1, 1)]);
    server.load(1);
    let cause = role_full(&server, "accounting", 1, 1);
    assert_eq!(denied(&mut server, session(BERT, &pc(3))), cause);
    server.enters(session(DORA, &pc(3)));
    server.log_out(anna);
    assert_eq!(denied(&mut server, session(DORA, &pc(4))), full(2, 3, 1));
    server.enters(session(BERT, &pc(4)));
}

#[test]
fn membership_is_that_at_login_or_when_rules_were_last_read() {
    let mut server = crm(2, &[at_most("interns", 1)]);
    let carl = server.enters(session(CARL, &pc(1)));
    server.catalog.granted.insert((CARL, "interns"));
    assert_eq!(used_by(&mut server, "interns"), 0);
    // What he holds later he holds as who logged in.
    server.checks_out(carl, "crm", "somebody else");
    assert_eq!(used_by(&mut server, "interns"), 0);
    server.change(1, |rows| rows.licenses[0].seats = Some(9));
    server.load(1);
    assert_eq!(used_by(&mut server, "interns"), 2);
    let cause = role_full(&server, "interns", 2, 1);
    assert_eq!(denied(&mut server, session(CARL, &pc(2))), cause);
    server.catalog.granted.remove(&(CARL, "interns"));
    server.enters(session(CARL, &pc(2)));
    assert_eq!(used_by(&mut server, "interns"), 2);
}

#[test]
fn memberships_that_changed_are_noticed_also_by_who_reads_what_is_in_force() {
    let mut server = crm(9, &[at_most("interns", 1)]);
    let carl = server.enters(session(CARL, &pc(1)));
    server.checks_out(carl, "crm", "somebody else");
    server.catalog.granted.insert((CARL, "interns"));
    assert!(server.is_current(1));
    assert_eq!(server.load(1), IN_FORCE);
    assert_eq!(used_by(&mut server, "interns"), 2);
}

#[test]
fn a_login_judged_before_other_roles_were_reserved_is_judged_again() {
    let mut server = crm(1, &[]);
    server.load(1);
    let anna = session(ANNA, &pc(1));
    let judged = server.judge(&anna);
    // In another database: the rules of its own are the same.
    server.change(2, |rows| rows.reservations = vec![kept("accounting", 1)]);
    server.load(2);
    let answer = server.ledger.with(|l| l.admit(Slot(0), anna, judged));
    assert_eq!(answer, Answer::Outdated);
    let place = server.enters(anna);
    let claimed = server
        .ledger
        .with(|l| l.claim(place, &judged, &want(""), false));
    assert_eq!(claimed, Claimed::Outdated);
    // Other seats for the same roles change nothing in that.
    let judged = server.judge(&session(ANNA, &pc(1)));
    server.change(2, |rows| rows.reservations = vec![kept("accounting", 2)]);
    server.load(2);
    let answer = server.ledger.with(|l| l.admit(Slot(1), anna, judged));
    assert_eq!(answer, Answer::Admitted(Remark::None));
}

#[test]
fn who_reads_the_rules_is_judged_by_them_at_once() {
    let mut server = crm(1, &[kept("accounting", 1)]);
    let (mut first, mut second) = (server.read(1), server.read(1));
    for rules in [&mut first, &mut second] {
        assert_eq!(server.publish(1, rules), IN_FORCE);
        let edition = server.judge(&session(ANNA, &pc(1))).roles_edition;
        assert_eq!((rules.roles_edition, edition), (1, 1));
    }
}

#[test]
fn a_role_that_came_unjudged_hinders_publishing_until_it_is_judged() {
    let mut server = crm(9, &[at_most("accounting", 1)]);
    let mut rules = server.read(1);
    let judgement = server.judge_all(1, &mut rules);
    // Of another database.
    server.enters(of_database(session(ANNA, &pc(1)), 2));
    let now = server.now;
    let publish = server
        .ledger
        .with(|l| l.publish(DatabaseOid(1), &mut rules, &judgement, now));
    assert_eq!(publish, Published::Unjudged);
    assert_eq!(server.publish(1, &mut rules), IN_FORCE);
    // So do roles that were reserved meanwhile.
    let mut rules = server.read(1);
    let judgement = server.judge_all(1, &mut rules);
    server.change(2, |rows| rows.reservations = vec![kept("interns", 1)]);
    server.load(2);
    let publish = server
        .ledger
        .with(|l| l.publish(DatabaseOid(1), &mut rules, &judgement, now));
    assert_eq!(publish, Published::Unjudged);
    assert_eq!(server.publish(1, &mut rules), IN_FORCE);
}

#[test]
fn a_pools_seats_count_whatever_database_they_were_taken_in() {
    let pooled = License {
        pool: name("group"),
        ..license("crm", 3)
    };
    let mut server = server(pooled, &[reservation("crm", "accounting", 1, 2)]);
    server.change(2, |rows| rows.licenses = vec![pooled]);
    server.load(1);
    server.load(2);
    server.enters(of_database(session(ANNA, &pc(1)), 2));
    assert_eq!(used_by(&mut server, "accounting"), 1);
    server.enters(session(BERT, &pc(2)));
    let cause = role_full(&server, "accounting", 2, 2);
    assert_eq!(denied(&mut server, session(BERT, &pc(3))), cause);
    // Each database goes by its own rows.
    let bert = server.enters(of_database(session(BERT, &pc(3)), 2));
    server.log_out(bert);
    server.change(2, |rows| rows.reservations = vec![kept("board", 1)]);
    let carl = of_database(session(CARL, &pc(3)), 2);
    assert_eq!(denied(&mut server, carl), full(2, 3, 1));
    server.enters(session(CARL, &pc(3)));
}

/// Also where the rules of another database of the pool are read after those of its own.
#[test]
fn whom_a_role_counts_for_is_a_fact_of_the_database_it_works_in() {
    let pooled = License {
        pool: name("group"),
        ..license("crm", 9)
    };
    let mut server = server(pooled, &[kept("owner", 1)]);
    server.catalog.owners.insert((1, ANNA));
    server.change(2, |rows| rows.licenses = vec![pooled]);
    server.load(1);
    server.load(2);
    server.enters(of_database(session(ANNA, &pc(1)), 2));
    assert_eq!(used_by(&mut server, "owner"), 0);
    let at = server.enters(session(ANNA, &pc(2)));
    assert_eq!(used_by(&mut server, "owner"), 1);
    for database in [2, 1] {
        server.change(database, |rows| rows.licenses[0].seats = Some(8));
        server.load(database);
        assert_eq!(used_by(&mut server, "owner"), 1);
    }
    server.log_out(at);
    assert_eq!(used_by(&mut server, "owner"), 0);
}

#[test]
fn one_role_has_one_number_in_all_databases_as_long_as_any_names_it() {
    let mut server = crm(9, &[kept("accounting", 1), kept("interns", 1)]);
    server.load(1);
    reserve(&mut server, 2, &[kept("interns", 1), kept("board", 1)]);
    server.load(2);
    assert_eq!(
        reserved_roles(&mut server),
        ["accounting", "interns", "board"]
    );
    reserve(&mut server, 1, &[kept("sales", 1), kept("board", 1)]);
    server.load(1);
    assert_eq!(reserved_roles(&mut server), ["sales", "interns", "board"]);
    server.ledger.with(|l| l.forget(DatabaseOid(2), 0));
    assert_eq!(reserved_roles(&mut server), ["sales", "board"]);
    server.enters(session(CARL, &pc(1)));
    reserve(&mut server, 1, &[]);
    server.load(1);
    assert!(reserved_roles(&mut server).is_empty());
    server.ledger.with(|l| assert_eq!(l.reservations.len(), 0));
}

fn module(seats: i32, reservations: &[Reservation]) -> (Server, [Slot; 4]) {
    let module = License {
        claimed_at: ClaimedAt::Checkout,
        ..license("crm", seats)
    };
    let mut server = server(module, reservations);
    let mut n = 0;
    let places = [ANNA, BERT, CARL, DORA].map(|role| {
        n += 1;
        server.enters(session(role, &pc(n)))
    });
    (server, places)
}

#[test]
fn a_seat_goes_to_the_first_in_the_queue_who_may_have_it() {
    let (mut server, [anna, bert, carl, dora]) = module(2, &[kept("accounting", 1)]);
    server.checks_out(anna, "crm", "");
    server.checks_out(dora, "crm", "");
    let carls = server.waits(carl, "crm", want(""));
    let berts = server.waits(bert, "crm", want(""));
    server.check_in(anna, "crm", "");
    assert!(server.collect(carls).is_none(), "it is kept");
    assert!(server.collect(berts).is_some());
    server.check_in(dora, "crm", "");
    assert!(server.collect(carls).is_some());
    for place in [anna, bert, carl, dora] {
        server.log_out(place);
    }
    server.assert_empty();
}

#[test]
fn members_wait_for_a_seat_of_their_role_and_let_others_pass() {
    let (mut server, [anna, bert, carl, _]) = module(9, &[at_most("accounting", 1)]);
    server.checks_out(anna, "crm", "");
    let berts = server.waits(bert, "crm", want(""));
    let annas = server.waits(anna, "crm", want("another"));
    server.checks_out(carl, "crm", "");
    server.check_in(carl, "crm", "");
    assert!(server.collect(berts).is_none());
    server.leave(annas);
    server.check_in(anna, "crm", "");
    assert!(server.collect(berts).is_some());
}

#[test]
fn a_reservation_that_goes_calls_those_in_the_queue() {
    let (mut server, [.., carl, dora]) = module(1, &[kept("accounting", 1)]);
    let tickets = [carl, dora].map(|at| server.waits(at, "crm", want("")));
    reserve(&mut server, 1, &[]);
    server.load(1);
    assert!(server.collect(tickets[0]).is_some());
    assert!(server.collect(tickets[1]).is_none());
    // And one that comes holds for those who wait.
    reserve(&mut server, 1, &[kept("accounting", 1)]);
    server.load(1);
    server.check_in(carl, "crm", "");
    assert!(server.collect(tickets[1]).is_none());
}

#[test]
fn who_takes_seats_of_two_roles_at_once_makes_room_for_one_in_the_queue() {
    let both = [kept("accounting", 1), kept("interns", 1)];
    let (mut server, [_, bert, carl, _]) = module(2, &both);
    let ticket = server.waits(carl, "crm", want(""));
    server.checks_out(bert, "crm", "");
    assert!(server.collect(ticket).is_some());
    assert_eq!(server.in_use("crm"), 2);
}

#[test]
fn a_lease_counts_for_the_role_that_took_it() {
    let (mut server, [anna, _, carl, _]) = module(2, &[kept("accounting", 1)]);
    server.change(1, |rows| rows.leases_of = 7);
    server.leases(anna, "crm", lease(1, "ann", &pc(9)));
    server.commit_lease(id(1));
    server.log_out(anna);
    assert_eq!(used_by(&mut server, "accounting"), 1);
    server.checks_out(carl, "crm", "");
    // Also after a crash, when it is read from its table.
    server.ledger = MapLedger::new(ROOM);
    server.load(1);
    assert_eq!(used_by(&mut server, "accounting"), 1);
    let dora = server.enters(session(DORA, &pc(4)));
    server.checks_out(dora, "crm", "");
    server.now += TTL;
    server.end_due_leases();
    assert_eq!(used_by(&mut server, "accounting"), 0);
    assert!(matches!(
        server.claim(dora, "crm", want("more"), false),
        Claimed::Denied(Denial { cause, .. }) if cause == full(1, 2, 1)
    ));
}

#[test]
fn a_lease_counts_again_once_its_product_is_licensed_again() {
    let (mut server, [anna, ..]) = module(2, &[kept("accounting", 1)]);
    server.change(1, |rows| rows.leases_of = 7);
    server.leases(anna, "crm", lease(1, "ann", &pc(9)));
    server.commit_lease(id(1));
    server.log_out(anna);
    let licenses = server.tables[&1].licenses.clone();
    server.change(1, |rows| rows.licenses.clear());
    server.load(1);
    assert_eq!(used_by(&mut server, "accounting"), 0);
    server.change(1, |rows| {
        rows.licenses = licenses;
        rows.reservations.push(kept("interns", 0));
    });
    server.load(1);
    assert_eq!(used_by(&mut server, "accounting"), 1);
}

#[test]
fn a_role_is_not_full_of_leases_whose_time_is_up() {
    let (mut server, [anna, bert, ..]) = module(9, &[at_most("accounting", 1)]);
    server.leases(anna, "crm", lease(1, "ann", &pc(9)));
    server.commit_lease(id(1));
    server.now += TTL + MINUTE;
    let claim = |server: &mut Server| server.claim(bert, "crm", want(""), false);
    assert_eq!(claim(&mut server), Claimed::TimesUp);
    server.end_due_leases();
    assert!(matches!(claim(&mut server), Claimed::Held(_)));
}
