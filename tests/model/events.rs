//! What the audit trail is told, and how much of it there is room for.

use super::server::{
    MINUTE, ROOM, Server, TTL, exempt_role, id, lease, license, name, of_database, session,
    superuser, want, with_application,
};
use crate::core::ledger::acts::admission::Answer;
use crate::core::ledger::acts::checkout::Claimed;
use crate::core::ledger::acts::publish::Published;
use crate::core::ledger::database::Database;
use crate::core::ledger::denial::Cause;
use crate::core::ledger::event::{Event, Happened};
use crate::core::ledger::identity::{Label, Name, Text};
use crate::core::ledger::license::{Ending, Level, License};
use crate::core::ledger::map::Capacity;
use crate::core::ledger::numbers::{DatabaseOid, RoleOid, SeatNumber, Slot};
use crate::core::ledger::rules::Counts;
use crate::core::ledger::seat::{Kind, SeatIds};
use crate::core::ledger::table::Table;
use crate::core::ledger::time::Timestamp;
use crate::core::ledger::visit::Stage;
use crate::core::ledger::words::{ClaimedAt, Enforcement};

const PC1: &str = "10.0.0.1";
const PC2: &str = "10.0.0.2";

/// Within so long an event is to be written.
const SOON: Timestamp = 1_000_000;

/// Returns an event in few words.
fn words(event: &Event) -> String {
    let kind = event.kind.map_or("", Kind::word);
    let in_use = event.in_use;
    match event.happened {
        Happened::Taken => format!("{kind} {in_use}"),
        Happened::Left(leaving) => format!("{kind} left: {} {in_use}", leaving.word()),
        Happened::Denied(cause) => format!("{kind} denied {} {in_use}", reason(cause)),
        Happened::WouldBeDenied(cause) => {
            format!("{kind} would be denied {} {in_use}", reason(cause))
        }
        Happened::Overdraft(_) => format!("{kind} overdraft {in_use}"),
        Happened::ExemptLogin(exempt) => format!("exempt {}", exempt.reason()),
        Happened::LeaseExpired => "expired".to_owned(),
        Happened::Tampered(_) => "tampered".to_owned(),
        Happened::Reached { level, seats } => format!("{} {in_use}/{seats}", level.word()),
        other => format!("{other:?}"),
    }
}

fn reason(cause: Cause) -> &'static str {
    match cause {
        Cause::Full { .. } | Cause::RoleFull { .. } => "full",
        Cause::UserFull { .. } => "user full",
        Cause::OutOfDates(_) => "out of dates",
        Cause::Barred { .. } => "barred",
        Cause::TableFull => "table full",
        Cause::TooManyUsers { .. } => "too many users",
    }
}

/// Returns what is told beside warnings, in few words.
fn told(server: &mut Server) -> Vec<String> {
    let events = server.tell_all();
    let is_warning = |event: &&Event| matches!(event.happened, Happened::Reached { .. });
    events
        .iter()
        .filter(|e| !is_warning(e))
        .map(words)
        .collect()
}

/// Returns the warnings alone.
fn warnings(server: &mut Server) -> Vec<String> {
    let events = server.tell_all();
    let is_warning = |event: &&Event| matches!(event.happened, Happened::Reached { .. });
    events.iter().filter(is_warning).map(words).collect()
}

/// Returns a server whose license nobody has been told of yet.
fn server(license: License) -> Server {
    let mut server = Server::with_license(license);
    server.load(1);
    server.tell_all();
    server
}

fn web(seats: i32) -> License {
    License {
        claimed_at: ClaimedAt::Checkout,
        ..license("web", seats)
    }
}

fn known(server: &mut Server, database: u32) -> Database {
    server
        .ledger
        .with(|l| *l.databases.get(&DatabaseOid(database)).unwrap())
}

#[test]
fn a_login_that_took_a_seat_is_told_and_its_last_holders_leave() {
    let mut server = server(license("tom", 2));
    let first = server.enters(session(2, PC1));
    let again = server.enters(session(2, PC1));
    let other = server.enters(session(3, PC1));
    assert_eq!(told(&mut server), ["login 1", "login 2"]);
    server.log_out(first);
    assert!(told(&mut server).is_empty());
    server.now += MINUTE;
    server.log_out(other);
    server.log_out(again);
    let [left, last] = server.tell_all().try_into().unwrap();
    assert_eq!(words(&left), "login left: logout 1");
    assert_eq!(words(&last), "login left: logout 0");
    assert_eq!((left.usename, left.product), (name("r3"), name("tom")));
    assert_eq!((left.who.role.0, left.at), (3, server.now));
    assert_eq!(left.who.host.to_string(), PC1);
}

#[test]
fn the_seat_of_an_event_has_the_id_that_people_see() {
    let mut server = server(license("tom", 2));
    let at = server.enters(session(2, PC1));
    let key = server.ledger.sessions[at.0].seat.unwrap();
    let number = server.ledger.with(|l| l.seats.get(&key).unwrap().number);
    server.log_out(at);
    let seats: Vec<_> = server.tell_all().iter().map(|event| event.seat).collect();
    assert_eq!(seats, [number, number]);
    let ids = SeatIds {
        first: 7,
        ..SeatIds::default()
    };
    assert_ne!(ids.of(number), ids.of(SeatNumber(number.0 + 1)));
}

#[test]
fn checkouts_and_leases_are_told_with_their_ends() {
    let mut server = server(web(9));
    let at = server.enters(session(2, PC1));
    server.checks_out(at, "web", "");
    server.checks_out(at, "web", "");
    server.checks_out(at, "web", "ann");
    server.leases(at, "web", lease(1, "bob", PC2));
    server.commit_lease(id(1));
    server.leases(at, "web", lease(2, "cid", PC2));
    server.commit_lease(id(2));
    assert_eq!(
        told(&mut server),
        ["checkout 1", "checkout 2", "lease 3", "lease 4"]
    );
    server.check_in(at, "web", "");
    assert!(told(&mut server).is_empty());
    server.check_in(at, "web", "");
    server.drop_lease(id(1));
    server.now += TTL;
    server.end_due_leases();
    server.log_out(at);
    assert_eq!(
        told(&mut server),
        [
            "checkout left: given back 3",
            "lease left: given back 2",
            "expired",
            "lease left: lease expiry 1",
            "checkout left: logout 0",
        ]
    );
    server.bury(1);
    assert!(told(&mut server).is_empty());
    server.assert_empty();
}

#[test]
fn a_seat_from_the_queue_is_told_when_it_is_given() {
    let mut server = server(web(1));
    let [ann, bob] = [2, 3].map(|role| server.enters(session(role, PC1)));
    server.checks_out(ann, "web", "");
    let ticket = server.waits(bob, "web", want(""));
    assert_eq!(told(&mut server), ["checkout 1"]);
    server.check_in(ann, "web", "");
    let [left, taken] = server.tell_all().try_into().unwrap();
    assert_eq!(words(&left), "checkout left: given back 0");
    assert_eq!(
        (words(&taken), taken.usename),
        ("checkout 1".into(), name("r3"))
    );
    server.collect(ticket).unwrap();
    assert!(told(&mut server).is_empty());
}

#[test]
fn denials_are_told_with_what_was_in_use() {
    let mut server = server(license("tom", 1));
    server.enters(session(2, PC1));
    let (_, answer) = server.log_in(session(3, PC1));
    assert!(matches!(answer, Answer::Denied(_)));
    assert_eq!(told(&mut server), ["login 1", "login denied full 1"]);
    for (enforcement, told_of) in [
        (
            Enforcement::Warn,
            vec!["login would be denied full 1", "login 2"],
        ),
        (Enforcement::Off, vec!["login 3"]),
    ] {
        server.enforcement = enforcement;
        let role = if told_of.len() == 2 { 3 } else { 4 };
        server.log_in(session(role, PC1));
        assert_eq!(told(&mut server), told_of);
    }
    server.enforcement = Enforcement::On;
    let now = server.now;
    server.change(1, |rows| rows.licenses[0].admits_until = Some(now));
    server.log_in(session(5, PC1));
    assert_eq!(told(&mut server), ["login denied out of dates 3"]);
}

#[test]
fn denials_for_want_of_room_are_told() {
    let mut server = Server::new(Capacity {
        max_seats: 1,
        ..ROOM
    });
    server.change(1, |rows| rows.licenses = vec![license("tom", None), web(9)]);
    let at = server.enters(session(2, PC1));
    server.leases(at, "web", lease(1, "ann", PC1));
    server.enters(session(3, PC1));
    assert_eq!(told(&mut server), ["login 1", "lease 1", "login 2"]);
    let claimed = server.claim(at, "web", lease(2, "ann", PC2), false);
    assert!(matches!(claimed, Claimed::Denied(_)));
    assert_eq!(told(&mut server), ["lease denied table full 1"]);
}

#[test]
fn denied_calls_are_told_with_the_applications_user() {
    let mut server = server(web(0));
    let at = server.enters(session(2, PC1));
    for (user, wanted) in [("ann", want("ann")), ("bob", lease(1, "bob", PC2))] {
        let claimed = server.claim(at, "web", wanted, false);
        assert!(matches!(claimed, Claimed::Denied(_)));
        let [denied] = server.tell_all().try_into().unwrap();
        assert_eq!(denied.who.client_user.text(), Some(user));
        assert_eq!(denied.usename, name("r2"));
    }
}

#[test]
fn a_superuser_who_would_be_denied_is_no_denial() {
    let mut server = server(license("tom", 0));
    server.exempt_superusers = false;
    server.log_in(superuser(1, PC1));
    assert_eq!(told(&mut server), ["login 1"]);
}

#[test]
fn an_overdraft_is_told_beside_the_seat() {
    let mut server = server(License {
        overdraft: 1,
        ..license("tom", 1)
    });
    server.enters(session(2, PC1));
    server.log_in(session(3, PC1));
    assert_eq!(
        told(&mut server),
        ["login 1", "login 2", "login overdraft 2"]
    );
}

#[test]
fn an_exempt_login_is_told_once() {
    let mut server = server(license("tom", 2));
    server.change(1, |rows| rows.exemptions.push(exempt_role("r2")));
    server.enters(session(2, PC1));
    server.enters(superuser(1, PC1));
    assert_eq!(
        told(&mut server),
        ["exempt exempt role", "exempt superuser"]
    );
    // Who is in is judged again, and has not logged in again.
    server.change(1, |rows| rows.licenses[0].seats = Some(7));
    server.load(1);
    assert!(told(&mut server).is_empty());
}

#[test]
fn an_exempt_login_before_the_rules_are_known_is_told_once_they_are() {
    let mut server = Server::with_license(license("tom", 2));
    server.ledger.with(|l| l.generation(DatabaseOid(1)));
    let at = server.log_in_blindly(superuser(1, PC1));
    let since = server.now;
    assert!(told(&mut server).is_empty());
    server.now += 9;
    server.load(1);
    let [exempt] = server.tell_all().try_into().unwrap();
    assert_eq!(
        (words(&exempt), exempt.at),
        ("exempt superuser".into(), since)
    );
    server.load(1);
    server.log_out(at);
    assert!(told(&mut server).is_empty());
}

#[test]
fn an_exempt_login_that_is_gone_before_the_rules_are_known_is_told() {
    let mut server = Server::with_license(license("tom", 2));
    server.ledger.with(|l| l.generation(DatabaseOid(1)));
    let blind = |server: &mut Server| {
        let mut session = superuser(1, PC1);
        session.exempt = Some(crate::core::ledger::seat::Exempt::Superuser);
        let at = server.log_in_blindly(session);
        server.log_out(at);
    };
    blind(&mut server);
    assert_eq!(told(&mut server), ["exempt superuser"]);
    // Where it is known that nothing is licensed, that is nobody's business.
    server.change(1, |rows| rows.licenses.clear());
    server.load(1);
    blind(&mut server);
    assert!(told(&mut server).is_empty());
}

#[test]
fn who_claims_no_license_is_not_told() {
    let mut server = server(License {
        application_name: Text::new("Crm%").unwrap(),
        ..license("tom", 2)
    });
    let [user, boss] = [session(2, PC1), superuser(1, PC1)].map(|s| server.enters(s));
    server.log_out(user);
    server.log_out(boss);
    server.enters(of_database(session(2, PC1), 2));
    assert!(told(&mut server).is_empty());
    server.enters(with_application(superuser(1, PC1), "Crm"));
    assert_eq!(told(&mut server), ["exempt superuser"]);
}

#[test]
fn no_level_begins_elsewhere_than_levels_begin() {
    let all = [(0, 0), (1, 0), (3, 0), (3, 2), (10, 0), (10, 4)];
    for (seats, overdraft) in all {
        for warn_at_percent in [0, 1, 50, 67, 90, 100] {
            let license = License {
                overdraft,
                warn_at_percent,
                ..license("crm", seats)
            };
            for n in 1..20 {
                assert!(
                    license.level_of(n) == license.level_of(n - 1)
                        || license.levels_begin().any(|begin| begin == n),
                    "{n} of {seats} + {overdraft}, {warn_at_percent} percent"
                );
            }
        }
    }
}

#[test]
fn each_level_is_warned_of_once_when_it_is_crossed_upwards() {
    let mut server = server(License {
        overdraft: 1,
        warn_at_percent: 50,
        ..license("tom", 4)
    });
    let mut inside = vec![];
    let expected = ["", "warning 2/4", "", "full 4/4", "overdraft 5/4"];
    for (role, warned) in (2..).zip(expected) {
        inside.push(server.log_in(session(role, PC1)).0);
        let warned: Vec<_> = [warned].into_iter().filter(|w| !w.is_empty()).collect();
        assert_eq!(warnings(&mut server), warned, "role {role}");
    }
    // Down to full, and up again: crossed anew.
    for _ in 0..3 {
        server.log_out(inside.pop().unwrap());
        assert!(warnings(&mut server).is_empty());
        inside.push(server.log_in(session(6, PC1)).0);
        assert_eq!(warnings(&mut server), ["overdraft 5/4"]);
    }
    for at in inside.drain(..) {
        server.log_out(at);
    }
    assert!(warnings(&mut server).is_empty());
}

#[test]
fn a_change_of_the_license_can_cross_a_level() {
    let mut server = server(license("tom", 10));
    for role in 2..4 {
        server.enters(session(role, PC1));
    }
    assert!(warnings(&mut server).is_empty());
    for (seats, warned) in [
        (Some(2), vec!["full 2/2"]),
        (Some(1), vec!["over 2/1"]),
        (Some(1), vec![]),
        (None, vec![]),
        (Some(2), vec!["full 2/2"]),
    ] {
        server.change(1, |rows| rows.licenses[0].seats = seats);
        server.load(1);
        assert_eq!(warnings(&mut server), warned, "{seats:?}");
    }
    server.change(1, |rows| rows.licenses[0].enforcement = Enforcement::Off);
    server.load(1);
    server.change(1, |rows| rows.licenses[0].enforcement = Enforcement::On);
    server.load(1);
    assert_eq!(warnings(&mut server), ["full 2/2"]);
}

#[test]
fn no_seats_at_all_are_nothing_to_be_warned_of() {
    let mut server = server(license("tom", 0));
    server.log_in(session(2, PC1));
    assert!(warnings(&mut server).is_empty());
}

#[test]
fn each_database_of_a_pool_warns_by_its_own_seats() {
    let mut server = Server::new(ROOM);
    let pooled = |seats| License {
        pool: name("group"),
        ..license("tom", seats)
    };
    for (database, seats) in [(1, 1), (2, 2), (3, 9)] {
        server.change(database, |rows| rows.licenses = vec![pooled(seats)]);
        server.load(database);
    }
    server.tell_all();
    let warned = |server: &mut Server| -> Vec<(u32, String)> {
        let events = server.tell_all();
        let warnings = events
            .iter()
            .filter(|e| matches!(e.happened, Happened::Reached { .. }));
        let mut warnings: Vec<_> = warnings.map(|e| (e.database.0, words(e))).collect();
        warnings.sort();
        warnings
    };
    server.enters(session(2, PC1));
    assert_eq!(warned(&mut server), [(1, "full 1/1".into())]);
    server.enters(of_database(session(3, PC1), 3));
    assert_eq!(
        warned(&mut server),
        [(1, "over 2/1".into()), (2, "full 2/2".into())]
    );
    // Who is there already crosses nothing.
    server.enters(of_database(session(3, PC1), 2));
    assert!(warned(&mut server).is_empty());
}

#[test]
fn what_there_is_no_room_for_is_counted() {
    let mut server = server(license("tom", 9));
    let mut noted = 0;
    for _ in 0..200 {
        let at = server.enters(session(2, PC1));
        server.log_out(at);
        noted += 2;
    }
    let known = known(&mut server, 1);
    assert_eq!(u64::from(known.trail.events) + known.trail.lost, noted);
    // Alone it has two thirds of what is for takes and leaves.
    assert_eq!(known.trail.events as usize, ROOM.events / 2);
    // They are the first, in their order.
    let events = server.tell_all();
    assert_eq!(events.len(), ROOM.events / 2);
    assert!(events.is_sorted_by_key(|event| event.number));
    assert_eq!(words(&events[0]), "login 1");
}

/// Tells when the trail of any database is to be written, from now on.
fn next_write(server: &Server) -> Timestamp {
    server.ledger.head.next_write.saturating_sub(server.now)
}

#[test]
fn an_event_is_written_within_a_second_and_nobody_is_woken_for_the_next() {
    let mut server = server(license("tom", 9));
    // Rows grow old also where nothing happens.
    assert!((30 * MINUTE..=90 * MINUTE).contains(&next_write(&server)));
    let at = server.enters(session(2, PC1));
    let due = server.ledger.head.next_write;
    assert!((1..SOON).contains(&next_write(&server)));
    server.now += 100;
    server.log_out(at);
    assert_eq!(server.ledger.head.next_write, due);
    assert!(server.unread_untold().is_empty());
    server.now = due;
    assert_eq!(server.unread_untold(), [1]);
    server.tell_all();
    assert!(server.unread_untold().is_empty());
}

#[test]
fn an_eighth_full_is_written_at_once() {
    let mut server = server(license("tom", 9));
    while known(&mut server, 1).trail.events as usize * 8 < ROOM.events {
        assert!(next_write(&server) > 0);
        let at = server.enters(session(2, PC1));
        server.log_out(at);
    }
    server.enters(session(2, PC1));
    assert_eq!(next_write(&server), 0);
}

#[test]
fn what_is_not_licensed_is_visited_no_more() {
    let mut server = server(license("tom", 9));
    server.change(1, |rows| rows.licenses.clear());
    server.load(1);
    server.tell_all();
    assert_eq!(server.ledger.head.next_write, Timestamp::MAX);
}

#[test]
fn a_database_that_is_gone_awaits_nothing() {
    let mut server = server(license("tom", 9));
    server.change(2, |rows| rows.licenses = vec![license("tom", 9)]);
    server.load(2);
    server.tell_all();
    server.enters(session(2, PC1));
    let at = server.enters(of_database(session(2, PC1), 2));
    server.log_out(at);
    let now = server.now;
    server.ledger.with(|l| l.forget(DatabaseOid(2), now));
    server.tell_all();
    assert!(next_write(&server) > MINUTE);
    assert_eq!(server.ledger.with(|l| l.events.len()), 0);
}

/// Returns a server of two databases, of which the second can't be written.
fn with_unwritable() -> Server {
    let mut server = Server::new(ROOM);
    for database in [1, 2] {
        server.change(database, |rows| rows.licenses = vec![license("tom", 9)]);
        server.load(database);
    }
    server.tell_all();
    server
}

/// Notes two events in a database, so often.
fn events_in(server: &mut Server, database: u32, times: usize) {
    for _ in 0..times {
        let at = server.enters(of_database(session(2, PC1), database));
        server.log_out(at);
    }
}

fn fail(server: &mut Server, database: u32) -> bool {
    let now = server.now;
    server
        .ledger
        .with(|l| l.could_not_write(DatabaseOid(database), now))
}

#[test]
fn a_database_that_can_not_be_written_is_news_once_and_tried_every_second() {
    let mut server = with_unwritable();
    events_in(&mut server, 2, 1);
    assert!(fail(&mut server, 2));
    assert_eq!(next_write(&server), SOON);
    server.now += SOON;
    assert_eq!(server.unread_untold(), [2]);
    assert!(!fail(&mut server, 2));
    // What happens there meanwhile hurries nobody.
    events_in(&mut server, 2, 20);
    assert_eq!(next_write(&server), SOON);
    // It can be written again, and then not: news.
    server.tell_all();
    assert!(fail(&mut server, 2));
}

#[test]
fn a_database_that_can_not_be_written_keeps_its_share_alone() {
    let mut server = with_unwritable();
    fail(&mut server, 2);
    events_in(&mut server, 2, 100);
    let lost = known(&mut server, 2);
    assert_eq!(lost.trail.events as usize, ROOM.events / 4);
    assert_eq!(u64::from(lost.trail.events) + lost.trail.lost, 200);
    // Two thirds of what is left.
    events_in(&mut server, 1, 20);
    let fine = known(&mut server, 1);
    assert_eq!((fine.trail.events, fine.trail.lost), (34, 6));
}

#[test]
fn a_database_that_filled_the_room_before_it_could_not_be_written_gives_way() {
    let mut server = with_unwritable();
    events_in(&mut server, 2, 60);
    let former = known(&mut server, 2);
    assert_eq!((former.trail.events, former.trail.lost), (50, 70));
    fail(&mut server, 2);
    // As long as nobody needs the room it keeps them.
    events_in(&mut server, 1, 8);
    assert_eq!(known(&mut server, 2).trail.events, 50);
    events_in(&mut server, 1, 8);
    let (fine, lost) = (known(&mut server, 1), known(&mut server, 2));
    assert_eq!((fine.trail.events, fine.trail.lost), (32, 0));
    assert_eq!((lost.trail.events, lost.trail.lost), (25, 95));
    let events = server.tell_all();
    let kept: Vec<u64> = events
        .iter()
        .filter(|event| event.database == DatabaseOid(2))
        .map(|event| event.number)
        .collect();
    assert_eq!(kept.len(), 25);
    // The oldest.
    let first = events.iter().map(|event| event.number).min().unwrap();
    assert_eq!(kept[0], first);
    assert!(
        events
            .iter()
            .all(|e| e.database == DatabaseOid(2) || e.number > kept[24])
    );
}

#[test]
fn what_is_written_after_it_made_room_is_not_lost() {
    let mut server = with_unwritable();
    events_in(&mut server, 2, 25);
    fail(&mut server, 2);
    // Somebody writes them all, at last; meanwhile some make room for another database's.
    let copied = take(&mut server, 2);
    events_in(&mut server, 1, 15);
    let known_then = known(&mut server, 2);
    assert_eq!((known_then.trail.events, known_then.trail.lost), (25, 25));
    // One more, which is really lost.
    server.ledger.with(|l| l.lose_event(DatabaseOid(2), 0));
    tell(&mut server, 2, &copied);
    let told = known(&mut server, 2);
    assert_eq!((told.trail.events, told.trail.lost), (0, 1));
}

#[test]
fn many_databases_that_can_not_be_written_share_one_share() {
    let mut server = Server::new(ROOM);
    for database in 1..=5 {
        server.change(database, |rows| rows.licenses = vec![license("tom", 9)]);
        server.load(database);
    }
    server.tell_all();
    for database in 2..=5 {
        events_in(&mut server, database, 20);
    }
    for database in 2..=5 {
        fail(&mut server, database);
    }
    events_in(&mut server, 1, 16);
    let fine = known(&mut server, 1);
    assert_eq!((fine.trail.events, fine.trail.lost), (32, 0));
    for database in 2..=5 {
        let known = known(&mut server, database);
        assert_eq!(u64::from(known.trail.events) + known.trail.lost, 40);
    }
}

#[test]
fn a_database_that_nobody_can_connect_to_is_tried_seldom_until_somebody_can() {
    let mut server = with_unwritable();
    events_in(&mut server, 2, 1);
    for _ in 0..3 {
        fail(&mut server, 2);
        assert_eq!(next_write(&server), SOON);
        server.now += SOON;
        server.lose_database_worker(2);
    }
    fail(&mut server, 2);
    assert_eq!(next_write(&server), MINUTE);
    server.now += MINUTE;
    server.visit(2, &[Stage::Begun, Stage::Arrived]);
    fail(&mut server, 2);
    assert_eq!(next_write(&server), SOON);
}

#[test]
fn what_is_told_again_leaves_others_alone() {
    let mut server = server(web(9));
    let at = server.enters(session(2, PC1));
    let long = "x".repeat(511);
    server.checks_out(at, "web", &long);
    let copy = take(&mut server, 1);
    tell(&mut server, 1, &copy);
    server.check_in(at, "web", &long);
    // A second database worker with the same copy.
    tell(&mut server, 1, &copy);
    assert_eq!(known(&mut server, 1).trail.events, 1);
    assert_eq!(texts(&mut server), [(long, 1)]);
}

/// Takes what a writer takes of a database.
fn take(server: &mut Server, database: u32) -> Vec<Event> {
    let mut taken: Vec<Event> = vec![];
    loop {
        let (after, before) = (taken.last().map_or(0, |e| e.number), taken.len());
        server.ledger.with(|l| {
            l.take_events(DatabaseOid(database), after, 7, |event, _| {
                taken.push(*event)
            })
        });
        if taken.len() < before + 7 {
            return taken;
        }
    }
}

/// Notes that what the writer has taken is written.
fn tell(server: &mut Server, database: u32, taken: &[Event]) {
    let (last, now) = (taken.last().map_or(0, |e| e.number), server.now);
    server.ledger.with(|l| {
        let mut forgotten = 0;
        loop {
            let slice = l.forget_written(DatabaseOid(database), last, 7);
            forgotten += slice;
            if slice < 7 {
                break;
            }
        }
        l.note_written(
            DatabaseOid(database),
            0,
            (taken.len() - forgotten) as u64,
            now,
        );
    });
}

/// Returns the texts of events that are too long for a label, and how many events need each.
fn texts(server: &mut Server) -> Vec<(String, u32)> {
    server.ledger.with(|l| {
        let mut texts = vec![];
        l.texts
            .each(|text| texts.push((text.text.to_string(), text.users)));
        texts
    })
}

#[test]
fn long_names_of_users_are_kept_as_long_as_an_event_needs_them() {
    let long = "x".repeat(511);
    let mut server = server(web(1));
    let at = server.enters(session(2, PC1));
    server.checks_out(at, "web", &long);
    assert_eq!(texts(&mut server), [(long.clone(), 1)]);
    // Each event is told by itself: nobody holds a seat under the name any more.
    server.tell_all();
    server.check_in(at, "web", &long);
    assert_eq!(texts(&mut server), [(long.clone(), 1)]);
    server.tell_all();
    server.checks_out(at, "web", "ann");
    let claimed = server.claim(at, "web", want(&long), false);
    assert!(matches!(claimed, Claimed::Denied(_)));
    assert_eq!(texts(&mut server), [(long.clone(), 1)]);
    server.check_in(at, "web", "ann");
    server.leases(at, "web", lease(1, &long, PC1));
    server.commit_lease(id(1));
    server.tell_all();
    server.now += TTL;
    server.end_due_leases();
    server.bury(1);
    assert_eq!(texts(&mut server), [(long.clone(), 2)]);
    server.tell_all();
    server.leases(at, "web", lease(2, &long, PC1));
    server.tell_all();
    server.drop_lease(id(2));
    assert_eq!(texts(&mut server), [(long.clone(), 1)]);
    server.tell_all();
    let other = server.enters(session(3, PC1));
    server.checks_out(at, "web", "ann");
    let ticket = server.waits(other, "web", want(&long));
    server.check_in(at, "web", "ann");
    server.collect(ticket).unwrap();
    server.tell_all();
    server.log_out(other);
    assert_eq!(texts(&mut server), [(long, 1)]);
    server.tell_all();
    server.log_out(at);
    server.assert_empty();
}

#[test]
fn texts_take_room_as_events_do() {
    let mut server = server(web(1000));
    let at = server.enters(session(2, PC1));
    let names: Vec<String> = (0..30).map(|n| format!("{n:0100}")).collect();
    for name in &names {
        server.checks_out(at, "web", name);
        // Each has a row of its own.
        server.now += 100_000;
    }
    let known = known(&mut server, 1);
    // A text takes the room of two events more.
    assert_eq!((known.trail.events, known.trail.lost), (17, 13));
    // No text is kept for an event that is not.
    let users: u32 = texts(&mut server).iter().map(|(_, users)| users).sum();
    assert_eq!(users, 17);
    server.tell_all();
    server.log_out(at);
    server.assert_empty();
}

#[test]
fn events_of_a_database_that_is_not_known_are_nobodys() {
    let mut server = Server::new(ROOM);
    server.log_in_blindly(superuser(1, PC1));
    server.log_out(Slot(0));
    assert!(server.tell_all().is_empty());
    server.ledger.with(|l| l.lose_event(DatabaseOid(9), 0));
    assert_eq!(server.ledger.head.next_write, Timestamp::MAX);
}

/// Counts of "tom" as they are kept in the table.
fn counts(high_water: i64, denied: u64) -> Option<Vec<Counts>> {
    Some(vec![Counts {
        product: name("tom"),
        high_water,
        high_water_at: 5,
        denied,
        counted_since: 3,
    }])
}

/// Returns the high water and when it was, the denied, and since when is counted.
fn counted(server: &mut Server) -> (i64, Timestamp, u64, Timestamp) {
    let tally = server.tally("tom");
    let license = server.ledger.with(|l| {
        let mut found = None;
        l.licenses.each(|row| found = Some(*row));
        found.unwrap()
    });
    let (high, at) = (tally.high_water, tally.high_water_at);
    (high, at, license.denied, license.counted_since)
}

#[test]
fn what_was_counted_before_the_start_is_added_once() {
    let mut server = Server::with_license(license("tom", 1));
    // Somebody is in, and somebody denied, before the counts can be read.
    let mut rules = server.read(1);
    rules.counts = None;
    server.publish(1, &mut rules);
    server.enters(session(2, PC1));
    server.log_in(session(3, PC1));
    let now = server.now;
    assert_eq!(counted(&mut server), (1, now, 1, now));
    assert!(!known(&mut server, 1).counts.added);
    for _ in 0..3 {
        let mut rules = server.read(1);
        rules.counts = counts(7, 10);
        let published = server.publish(1, &mut rules);
        assert!(matches!(published, Published::InForce { .. }));
        assert_eq!(counted(&mut server), (7, 5, 11, 3));
        server.change(1, |_| ());
    }
    assert!(known(&mut server, 1).counts.added);
    // They stay where they can't be read another time.
    let mut rules = server.read(1);
    rules.counts = None;
    server.publish(1, &mut rules);
    assert_eq!(counted(&mut server), (7, 5, 11, 3));
    assert!(known(&mut server, 1).counts.added);
}

#[test]
fn what_was_counted_is_added_also_where_rules_did_not_change() {
    let mut server = Server::with_license(license("tom", 1));
    let mut rules = server.read(1);
    rules.counts = None;
    server.publish(1, &mut rules);
    rules.counts = counts(7, 10);
    server.publish(1, &mut rules);
    assert_eq!(counted(&mut server), (7, 5, 10, 3));
}

#[test]
fn a_higher_water_than_before_the_start_stays() {
    let mut server = Server::with_license(license("tom", 9));
    let mut rules = server.read(1);
    rules.counts = None;
    server.publish(1, &mut rules);
    for role in 2..5 {
        server.enters(session(role, PC1));
    }
    rules = server.read(1);
    rules.counts = counts(2, 0);
    server.publish(1, &mut rules);
    let now = server.now;
    assert_eq!(counted(&mut server), (3, now, 0, 3));
}

#[test]
fn a_product_that_comes_back_goes_on_counting() {
    let mut server = Server::with_license(license("tom", 9));
    let mut rules = server.read(1);
    rules.counts = Some(vec![]);
    server.publish(1, &mut rules);
    for (licensed, counts) in [(false, counts(4, 6)), (true, counts(4, 6))] {
        server.change(1, |rows| {
            rows.licenses = if licensed {
                vec![license("tom", 9)]
            } else {
                vec![]
            };
        });
        let mut rules = server.read(1);
        rules.counts = counts;
        server.publish(1, &mut rules);
    }
    assert_eq!(counted(&mut server), (4, 5, 6, 3));
}

#[test]
fn what_can_not_be_counted_is_news_once() {
    let mut server = server(license("tom", 9));
    let written = [Some(7), None, None, Some(7), None];
    let now = server.now;
    let news = written.map(|digest| {
        server
            .ledger
            .with(|l| l.counts_written(DatabaseOid(1), digest, now))
    });
    assert_eq!(news, [false, true, false, false, true]);
    assert_eq!(known(&mut server, 1).counts.written, 0);
    // It is tried again though nothing happens.
    assert_eq!(known(&mut server, 1).trail.write_at, now + MINUTE);
    assert_eq!(server.ledger.head.next_write, now + MINUTE);
}

#[test]
fn a_name_without_text_is_no_name() {
    assert!(Label::of(&"x".repeat(40)).is_digest());
    assert!(!Label::of(&"x".repeat(39)).is_digest());
    assert_eq!(Name::EMPTY.as_str(), "");
    assert!(Level::Full < Level::Overdraft && Level::Overdraft < Level::Over);
}

#[test]
fn an_end_is_told_once_for_each_number_of_days() {
    const DAY: Timestamp = 24 * 60 * MINUTE;
    let mut server = Server::with_license(License {
        valid_until: Some(1_000 * MINUTE + 40 * DAY),
        ..license("crm", 9)
    });
    let mut told = vec![];
    for _ in 0..41 {
        server.load(1);
        for _ in 0..2 {
            let now = server.now;
            let tell = |product: &Name, ending: Ending| {
                assert_eq!(
                    (*product, ending.until),
                    (name("crm"), 1_000 * MINUTE + 40 * DAY)
                );
                told.push(((now - 1_000 * MINUTE) / DAY, ending.days));
            };
            server.ledger.with(|l| l.warn_of_endings(now, tell));
        }
        server.now += DAY;
        server.change(1, |rows| rows.licenses[0].overdraft += 1);
    }
    assert_eq!(told, [(10, 30), (26, 14), (33, 7), (39, 1)]);
    // Another end is told anew, and none where it is not enforced.
    for (enforcement, days) in [(Enforcement::Off, None), (Enforcement::Warn, Some(7))] {
        let until = server.now + 3 * DAY;
        server.change(1, |rows| {
            rows.licenses[0].valid_until = Some(until);
            rows.licenses[0].enforcement = enforcement;
        });
        server.load(1);
        let (mut told, now) = (None, server.now);
        let tell = |_: &Name, ending: Ending| told = Some(ending.days);
        server.ledger.with(|l| l.warn_of_endings(now, tell));
        assert_eq!(told, days);
    }
}

/// Returns what a loop of checkouts leaves, in few words: how often what was last came together.
fn together(server: &mut Server) -> Vec<String> {
    let events = server.tell_all();
    let is_warning = |event: &&Event| matches!(event.happened, Happened::Reached { .. });
    let moves = events.iter().filter(|e| !is_warning(e));
    moves
        .map(|event| match event.count {
            0 => words(event),
            count => format!("{count} {}", words(event)),
        })
        .collect()
}

fn loops(server: &mut Server, at: Slot, product: &str, times: usize) {
    for _ in 0..times {
        server.checks_out(at, product, "");
        server.check_in(at, product, "");
    }
}

#[test]
fn from_the_eleventh_within_a_second_takes_and_leaves_are_told_together() {
    let mut server = server(web(9));
    let at = server.enters(session(2, PC1));
    let begun = server.now;
    loops(&mut server, at, "web", 5);
    server.now += SOON / 2;
    server.checks_out(at, "web", "");
    server.now += 7_000;
    server.check_in(at, "web", "");
    server.checks_out(at, "web", "ann");
    server.now += 5_000;
    server.check_in(at, "web", "ann");
    let events = server.tell_all();
    assert_eq!(events.len(), 11);
    assert!(events.iter().take(10).all(|event| event.count == 0));
    let last = events[10];
    assert_eq!((last.count, last.held), (4, 12_000));
    assert_eq!((last.since, last.at), (begun + SOON / 2, server.now));
    assert_eq!(words(&last), "checkout left: given back 0");
    // What they have not in common is not told, what they have is.
    assert_eq!(
        (last.seat, last.who.client_user),
        (SeatNumber::NONE, Label::EMPTY)
    );
    assert_eq!(
        (last.who.role.0, last.who.host.to_string()),
        (2, PC1.into())
    );
    // The next second begins anew.
    server.now = begun + SOON;
    loops(&mut server, at, "web", 6);
    let rows = together(&mut server);
    assert_eq!(
        (rows.len(), &*rows[10]),
        (11, "2 checkout left: given back 0")
    );
}

#[test]
fn who_does_something_alone_is_told_alone() {
    let mut server = Server::new(ROOM);
    server.change(1, |rows| {
        rows.licenses = vec![
            web(9),
            License {
                product: name("b"),
                ..web(9)
            },
        ]
    });
    let [ann, bob] = [2, 3].map(|role| server.enters(session(role, PC1)));
    server.tell_all();
    for _ in 0..5 {
        loops(&mut server, ann, "web", 1);
        loops(&mut server, ann, "b", 1);
        loops(&mut server, bob, "web", 1);
    }
    assert!(server.tell_all().iter().all(|event| event.count == 0));
    loops(&mut server, ann, "web", 1);
    loops(&mut server, bob, "b", 1);
    assert_eq!(
        together(&mut server),
        [
            "2 checkout left: given back 0",
            "checkout 1",
            "checkout left: given back 0"
        ]
    );
}

#[test]
fn nothing_is_added_to_what_a_writer_has_taken() {
    let mut server = server(web(9));
    let at = server.enters(session(2, PC1));
    loops(&mut server, at, "web", 6);
    let taken = take(&mut server, 1);
    assert_eq!((taken.len(), taken[10].count), (11, 2));
    loops(&mut server, at, "web", 2);
    // Whether it could be written or not.
    assert_eq!(take(&mut server, 1).len(), 12);
    tell(&mut server, 1, &taken);
    assert_eq!(together(&mut server), ["4 checkout left: given back 0"]);
    loops(&mut server, at, "web", 1);
    assert_eq!(together(&mut server), ["2 checkout left: given back 0"]);
}

#[test]
fn a_level_that_is_crossed_again_and_again_is_told_together() {
    let mut server = server(web(1));
    let at = server.enters(session(2, PC1));
    loops(&mut server, at, "web", 25);
    let events = server.tell_all();
    let counts: Vec<u32> = events
        .iter()
        .filter(|e| matches!(e.happened, Happened::Reached { .. }))
        .map(|event| event.count)
        .collect();
    assert_eq!(counts, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 15]);
}

#[test]
fn one_loop_leaves_room_for_what_others_must_know() {
    let mut server = Server::new(ROOM);
    for database in [1, 2] {
        server.change(database, |rows| {
            rows.licenses = vec![
                License {
                    seats: Some(0),
                    ..license("tom", 0)
                },
                web(9),
            ];
        });
        server.load(database);
    }
    server.change(1, |rows| rows.licenses[0].seats = Some(9));
    server.load(1);
    server.tell_all();
    // As many connections as there are, each of which comes and goes.
    events_in(&mut server, 1, 10_000);
    assert!(known(&mut server, 1).trail.lost > 0);
    for role in 2..20 {
        server.log_in(of_database(session(role, PC1), 2));
    }
    let other = known(&mut server, 2);
    assert_eq!((other.trail.events, other.trail.lost), (18, 0));
    // Others' takes find room, too.
    server.enters(of_database(superuser(1, PC2), 2));
    assert_eq!(known(&mut server, 2).trail.events, 19);
}

/// Returns the denials of role 3 that are told, with how many each row has.
fn denials(server: &mut Server) -> Vec<(u32, Timestamp, Timestamp)> {
    let events = server.tell_all();
    let denied = |e: &&Event| matches!(e.happened, Happened::Denied(_)) && e.who.role == RoleOid(3);
    let begun = 1_000 * MINUTE;
    events
        .iter()
        .filter(denied)
        .map(|e| (e.count, (e.since - begun).max(0), e.at - begun))
        .collect()
}

#[test]
fn denials_of_one_user_are_told_once_a_minute() {
    const SECOND: Timestamp = 1_000_000;
    let mut server = server(license("tom", 0));
    let begun = server.now;
    let denied = |server: &mut Server, second| {
        server.now = begun + second * SECOND;
        // Whatever host.
        let host = [PC1, PC2][second as usize % 2];
        server.log_in(session(3, host));
        denials(server)
    };
    let at = |second| second * SECOND;
    assert_eq!(denied(&mut server, 0), [(0, 0, 0)]);
    for second in [1, 2, 59] {
        assert!(denied(&mut server, second).is_empty());
    }
    // The minute is over: somebody should look.
    assert_eq!(known(&mut server, 1).trail.write_at, begun + MINUTE);
    server.now = begun + MINUTE;
    assert_eq!(server.unread_untold(), [1]);
    assert_eq!(denials(&mut server), [(3, at(1), at(59))]);
    assert!(denied(&mut server, 61).is_empty());
    assert_eq!(denied(&mut server, 125), [(1, at(61), at(61))]);
    // Alone in its minute, but of the same spell.
    server.now = begun + 200 * SECOND;
    assert_eq!(denials(&mut server), [(1, at(125), at(125))]);
    assert_eq!(denied(&mut server, 300), [(0, 0, at(300))]);
    // Another spell.
    assert!(denied(&mut server, 301).is_empty());
    assert_eq!(
        denied(&mut server, 601),
        [(1, at(301), at(301)), (0, 0, at(601))]
    );
    let license = server.ledger.with(|l| {
        let mut denied = 0;
        l.licenses.each(|license| denied = license.denied);
        denied
    });
    assert_eq!(license, 9);
}

#[test]
fn no_row_of_denials_goes_beyond_a_full_hour() {
    let mut server = server(license("tom", 0));
    server.now = 1_020 * MINUTE - 30_000_000;
    server.log_in(session(3, PC1));
    server.now += 10_000_000;
    server.log_in(session(3, PC1));
    assert_eq!(denials(&mut server).len(), 1);
    assert_eq!(known(&mut server, 1).trail.write_at, 1_020 * MINUTE);
    server.now = 1_020 * MINUTE + 1;
    server.log_in(session(3, PC1));
    server.log_in(session(3, PC1));
    assert_eq!(denials(&mut server).len(), 1);
}

#[test]
fn other_users_products_and_reasons_are_other_denials() {
    let mut server = server(license("tom", 0));
    server.change(1, |rows| rows.licenses.push(web(0)));
    for role in [3, 4, 3] {
        server.log_in(session(role, PC1));
    }
    let boss = server.enters(superuser(1, PC1));
    server.ledger.sessions[boss.0].superuser = false;
    for user in ["ann", "bob", "ann"] {
        server.claim(boss, "web", lease(1, user, PC1), false);
    }
    let now = server.now;
    server.change(1, |rows| rows.licenses[0].admits_until = Some(now));
    server.log_in(session(3, PC1));
    let told = together(&mut server);
    assert_eq!(
        told,
        [
            "login denied full 0",
            "login denied full 0",
            "exempt superuser",
            "lease denied full 0",
            "lease denied full 0",
            // What was gathered is told before the other reason.
            "1 login denied full 0",
            "login denied out of dates 1",
        ]
    );
    server.now += MINUTE;
    assert_eq!(together(&mut server), ["1 lease denied full 0"]);
}

#[test]
fn who_has_been_silent_longest_is_forgotten_first() {
    let mut server = Server::new(Capacity {
        events: 8,
        sessions: 40,
        ..ROOM
    });
    server.change(1, |rows| rows.licenses = vec![license("tom", 0)]);
    server.load(1);
    let told = |server: &mut Server, role| {
        server.log_in(session(role, PC1));
        server.tell_all();
        let mut rows = vec![];
        server.now += 2 * MINUTE;
        server.log_in(session(role, PC1));
        rows.extend(server.tell_all().iter().map(|e| e.count));
        rows
    };
    for role in 10..18 {
        assert_eq!(told(&mut server, role), [0]);
        server.now -= 2 * MINUTE;
    }
    // Whoever comes next takes the place of the first of them; nobody else is forgotten.
    let spells = |server: &mut Server| server.ledger.with(|l| l.spells.len());
    assert_eq!(spells(&mut server), 8);
    server.now += 3 * MINUTE;
    server.log_in(session(11, PC1));
    server.log_in(session(30, PC1));
    server.tell_all();
    assert_eq!(spells(&mut server), 8);
    let gathered = |server: &mut Server, role| {
        server.log_in(session(role, PC1));
        server.tell_all().is_empty()
    };
    assert!(gathered(&mut server, 11) && gathered(&mut server, 30));
    assert!(!gathered(&mut server, 10), "forgotten");
}

#[test]
fn a_database_that_is_gone_leaves_no_gathered_denials() {
    let mut server = server(license("tom", 0));
    for _ in 0..3 {
        server.log_in(session(3, PC1));
    }
    let now = server.now;
    server.ledger.with(|l| l.forget(DatabaseOid(1), now));
    assert_eq!(server.ledger.with(|l| l.events.len()), 0);
    server.change(1, |_| ());
    server.load(1);
    server.log_in(session(3, PC1));
    assert_eq!(denials(&mut server), [(0, 0, 0)]);
    server.assert_empty();
}
