//! Seats that are taken away from their holders: stopped, with bars that keep their users out, or given
//! way to somebody who would be denied.

use super::bars::store_bars;
use super::server::{
    MINUTE, ROOM, Server, TTL, dice, id, lease, license, name, of_database, reservation, session,
    superuser, want, with_workstation,
};
use crate::core::ledger::acts::admission::Answer;
use crate::core::ledger::acts::bars::BarRequest;
use crate::core::ledger::acts::checkout::Claimed;
use crate::core::ledger::acts::ending::{Prospect, Stop, Stopping};
use crate::core::ledger::bar::{BarBy, Barred, StoredBar};
use crate::core::ledger::denial::{Cause, Denial, Reclaim, Remark};
use crate::core::ledger::event::{Happened, Leaving};
use crate::core::ledger::identity::{Label, Name, Text};
use crate::core::ledger::license::License;
use crate::core::ledger::numbers::{DatabaseOid, RoleOid, SessionNumber, Slot};
use crate::core::ledger::seat::Seat;
use crate::core::ledger::session::Session;
use crate::core::ledger::table::Table;
use crate::core::ledger::time::Timestamp;
use crate::core::ledger::words::{ClaimedAt, CountedBy, Enforcement};

pub const HOUR: Timestamp = 60 * MINUTE;

/// Who is denied unless an idle seat gives way: a place that nobody else has.
const NEWCOMER: Slot = Slot(19);

pub fn pc(n: usize) -> String {
    format!("10.0.0.{n}")
}

pub fn module(seats: i32) -> License {
    License {
        claimed_at: ClaimedAt::Checkout,
        ..license("payroll", seats)
    }
}

/// Makes the seats of a license give way when they are idle for a minute.
fn reclaimed(license: License) -> License {
    License {
        reclaim_idle_after: Some(MINUTE),
        ..license
    }
}

/// Returns the seat of the login at this place.
pub fn seat_at(server: &mut Server, at: Slot) -> Seat {
    let key = server.ledger.sessions[at.0].seat.expect("a seat");
    server.ledger.with(|l| *l.seats.get(&key).unwrap())
}

/// Returns the seat with this id.
pub fn seat_named(server: &mut Server, id: Option<[u8; 16]>) -> Seat {
    let number = server.ledger.head.seat_ids.number_of(id.unwrap()).unwrap();
    server.ledger.with(|l| {
        let key = l.key_of_seat(number).unwrap();
        *l.seats.get(&key).unwrap()
    })
}

pub fn stop_of(server: &Server, seat: &Seat, barred_for: Timestamp) -> Stop {
    Stop {
        seat: seat.number,
        database: DatabaseOid(1),
        by: RoleOid(99),
        reason: Text::EMPTY,
        bar: (barred_for > 0).then(|| BarRequest {
            by: BarBy::UserHost,
            until: server.now + barred_for,
            barred_by: name("lena"),
        }),
        patient_until: server.now + 10_000_000,
    }
}

/// Begins to stop a seat as an administrator.
pub fn stops(server: &mut Server, seat: &Seat, barred_for: Timestamp) -> Stopping {
    let stop = stop_of(server, seat, barred_for);
    begins(server, &stop)
}

/// Begins the same, with room for three who are to be barred at first.
pub fn begins(server: &mut Server, stop: &Stop) -> Stopping {
    let now = server.now;
    let mut whom = Vec::with_capacity(3);
    loop {
        match server.ledger.with(|l| l.begin_to_end(stop, &mut whom, now)) {
            Stopping::Needs(room) => {
                assert!(room > whom.capacity());
                whom.reserve(room);
            }
            stopping => return stopping,
        }
    }
}

pub fn leaves(server: &mut Server, at: Slot, leaving: Leaving) {
    let now = server.now;
    server.ledger.with(|l| l.release(at, leaving, now));
}

/// Asserts that the login that would be denied is told that idle seats may give way.
fn may_ask(server: &mut Server, at: Slot, session: Session) -> Reclaim {
    match server.log_in_at(at, session, false) {
        Answer::MayReclaim(reclaim) => reclaim,
        other => panic!("{other:?}"),
    }
}

fn asks(server: &mut Server, at: Slot, seat: &Seat) -> Prospect {
    let now = server.now;
    server
        .ledger
        .with(|l| l.ask_to_give_way(&seat.key, seat.number, at, now))
}

fn hope(server: &mut Server, at: Slot, seat: &Seat) -> Prospect {
    server.ledger.with(|l| l.hope(&seat.key, seat.number, at))
}

fn asks_no_longer(server: &mut Server, at: Slot) {
    server.ledger.with(|l| l.ask_no_longer(at));
}

fn gives_up(server: &mut Server, at: Slot) {
    let now = server.now;
    server.ledger.with(|l| l.drop_promise(at, now));
}

fn in_use_and_promised(server: &mut Server, product: &str) -> (i64, i64) {
    let tally = server.tally(product);
    (tally.in_use, tally.promised)
}

fn is_full(answer: Answer) -> bool {
    matches!(
        answer,
        Answer::Denied(Denial {
            cause: Cause::Full { .. },
            ..
        })
    )
}

pub fn barred(answer: Answer) -> Option<Option<Timestamp>> {
    match answer {
        Answer::Denied(Denial {
            cause: Cause::Barred { until },
            ..
        }) => Some(until),
        _ => None,
    }
}

pub fn is_barred(claimed: Claimed) -> bool {
    matches!(
        claimed,
        Claimed::Denied(Denial {
            cause: Cause::Barred { .. },
            ..
        })
    )
}

// Giving way.

#[test]
fn the_seat_that_gives_way_is_kept_for_whom_it_was_asked() {
    let mut server = Server::with_license(reclaimed(license("crm", 1)));
    let idle = server.enters(session(2, &pc(1)));
    let reclaim = may_ask(&mut server, NEWCOMER, session(3, &pc(2)));
    assert_eq!(reclaim.idle_after, MINUTE);
    let seat = seat_at(&mut server, idle);
    assert_eq!(asks(&mut server, NEWCOMER, &seat), Prospect::Open);
    assert_eq!(hope(&mut server, NEWCOMER, &seat), Prospect::Open);
    leaves(&mut server, idle, Leaving::Reclaim);
    assert_eq!(in_use_and_promised(&mut server, "crm"), (0, 1));
    assert_eq!(hope(&mut server, NEWCOMER, &seat), Prospect::Fulfilled);
    // It is nobody else's, not even theirs who gave way.
    for other in [session(4, &pc(3)), session(2, &pc(1))] {
        let answer = server.log_in_at(Slot(5), other, true);
        let Answer::Denied(Denial {
            cause: Cause::Full { in_use, limit, .. },
            ..
        }) = answer
        else {
            panic!("{answer:?}");
        };
        assert_eq!((in_use, limit), (1, 1));
    }
    let answer = server.log_in_at(NEWCOMER, session(3, &pc(2)), true);
    assert_eq!(answer, Answer::Admitted(Remark::None));
    assert_eq!(in_use_and_promised(&mut server, "crm"), (1, 0));
    let causes: Vec<Happened> = server.tell_all().into_iter().map(|e| e.happened).collect();
    assert!(causes.contains(&Happened::Reclaimed));
    server.log_out(NEWCOMER);
    server.assert_empty();
}

#[test]
fn a_seat_is_kept_also_when_its_holder_leaves_by_itself_but_not_when_it_lingers() {
    for linger in [0, MINUTE] {
        let mut server = Server::with_license(reclaimed(License {
            linger,
            ..license("crm", 1)
        }));
        let idle = server.enters(session(2, &pc(1)));
        may_ask(&mut server, NEWCOMER, session(3, &pc(2)));
        let seat = seat_at(&mut server, idle);
        assert_eq!(asks(&mut server, NEWCOMER, &seat), Prospect::Open);
        server.log_out(idle);
        let (hope, answer) = (
            hope(&mut server, NEWCOMER, &seat),
            server.log_in_at(NEWCOMER, session(3, &pc(2)), true),
        );
        if linger == 0 {
            assert_eq!(hope, Prospect::Fulfilled);
            assert_eq!(answer, Answer::Admitted(Remark::None));
        } else {
            assert_eq!(hope, Prospect::Gone);
            assert!(is_full(answer));
        }
    }
}

#[test]
fn what_is_kept_for_a_newcomer_that_dies_is_anybodys() {
    let mut server = Server::with_license(reclaimed(license("crm", 1)));
    let idle = server.enters(session(2, &pc(1)));
    may_ask(&mut server, NEWCOMER, session(3, &pc(2)));
    let seat = seat_at(&mut server, idle);
    asks(&mut server, NEWCOMER, &seat);
    leaves(&mut server, idle, Leaving::Reclaim);
    // It never came to be registered.
    leaves(&mut server, NEWCOMER, Leaving::Logout);
    assert_eq!(in_use_and_promised(&mut server, "crm"), (0, 0));
    server.enters(session(4, &pc(3)));
}

#[test]
fn what_is_kept_for_a_newcomer_that_dies_goes_to_the_first_in_the_queue() {
    for dies in [true, false] {
        let mut server = Server::with_license(reclaimed(module(1)));
        let at: [Slot; 4] = std::array::from_fn(|n| server.enters(session(2, &pc(n))));
        let held = server.checks_out(at[0], "payroll", "");
        let seat = seat_named(&mut server, held.seat);
        let asked = server.claim(at[1], "payroll", want(""), false);
        assert!(matches!(asked, Claimed::MayReclaim(_)));
        // Others came to the queue meanwhile.
        let judged = crate::core::ledger::acts::admission::Judged {
            asked: true,
            ..server.judged_for(at[2], "payroll")
        };
        let waits = server
            .ledger
            .with(|l| l.claim(at[2], &judged, &want(""), true));
        let Claimed::Waits(ticket) = waits else {
            panic!("{waits:?}");
        };
        assert_eq!(asks(&mut server, at[1], &seat), Prospect::Open);
        leaves(&mut server, at[0], Leaving::Reclaim);
        assert_eq!(server.collect(ticket), None, "it is kept");
        if dies {
            server.log_out(at[1]);
        } else {
            gives_up(&mut server, at[1]);
        }
        assert_eq!(server.woken(), [at[2]]);
        assert!(server.collect(ticket).is_some());
        assert_eq!(in_use_and_promised(&mut server, "payroll"), (1, 0));
    }
}

#[test]
fn one_newcomer_never_gets_two_seats() {
    let mut server = Server::with_license(reclaimed(license("crm", 2)));
    let idle = [1, 2].map(|n| server.enters(session(2, &pc(n))));
    may_ask(&mut server, NEWCOMER, session(3, &pc(3)));
    let seats = idle.map(|at| seat_at(&mut server, at));
    for seat in &seats {
        assert_eq!(asks(&mut server, NEWCOMER, seat), Prospect::Open);
    }
    for at in idle {
        leaves(&mut server, at, Leaving::Reclaim);
    }
    assert_eq!(in_use_and_promised(&mut server, "crm"), (0, 1));
    server.enters(session(4, &pc(4)));
    assert!(is_full(server.log_in_at(Slot(6), session(5, &pc(5)), true)));
    let answer = server.log_in_at(NEWCOMER, session(3, &pc(3)), true);
    assert_eq!(answer, Answer::Admitted(Remark::None));
    assert_eq!(in_use_and_promised(&mut server, "crm"), (2, 0));
}

#[test]
fn one_seat_never_gives_way_to_two() {
    let mut server = Server::with_license(reclaimed(license("crm", 1)));
    let idle = server.enters(session(2, &pc(1)));
    let seat = seat_at(&mut server, idle);
    may_ask(&mut server, Slot(10), session(3, &pc(2)));
    may_ask(&mut server, Slot(11), session(4, &pc(3)));
    assert_eq!(asks(&mut server, Slot(10), &seat), Prospect::Open);
    assert_eq!(asks(&mut server, Slot(11), &seat), Prospect::Taken);
    assert_eq!(hope(&mut server, Slot(11), &seat), Prospect::Gone);
    // Somebody else's ending does not take the wish back.
    asks_no_longer(&mut server, Slot(11));
    assert_eq!(hope(&mut server, Slot(10), &seat), Prospect::Open);
    // Once the first needs it no longer, or is gone without a word, the second may ask.
    leaves(&mut server, Slot(10), Leaving::Logout);
    assert_eq!(asks(&mut server, Slot(11), &seat), Prospect::Open);
    leaves(&mut server, idle, Leaving::Reclaim);
    assert_eq!(hope(&mut server, Slot(11), &seat), Prospect::Fulfilled);
    assert!(is_full(server.log_in_at(
        Slot(10),
        session(3, &pc(2)),
        true
    )));
}

#[test]
fn nobody_is_asked_while_a_seat_is_free() {
    let mut server = Server::with_license(reclaimed(license("crm", 2)));
    let at = [1, 2].map(|n| server.enters(session(2, &pc(n))));
    may_ask(&mut server, NEWCOMER, session(3, &pc(3)));
    let seats = at.map(|at| seat_at(&mut server, at));
    assert_eq!(asks(&mut server, NEWCOMER, &seats[0]), Prospect::Open);
    // Somebody else leaves while the first makes up its mind.
    server.log_out(at[1]);
    assert_eq!(hope(&mut server, NEWCOMER, &seats[0]), Prospect::Free);
    asks_no_longer(&mut server, NEWCOMER);
    assert_eq!(asks(&mut server, NEWCOMER, &seats[0]), Prospect::Free);
    // Whoever is quicker has it; then others are asked again.
    let quick = server.enters(session(4, &pc(4)));
    assert_eq!(asks(&mut server, NEWCOMER, &seats[0]), Prospect::Open);
    server.log_out(quick);
    let answer = server.log_in_at(NEWCOMER, session(3, &pc(3)), false);
    assert_eq!(answer, Answer::Admitted(Remark::None));
    assert_eq!(in_use_and_promised(&mut server, "crm"), (2, 0));
}

#[test]
fn where_more_seats_are_in_use_than_there_are_none_gives_way_in_vain() {
    let mut server = Server::with_license(reclaimed(module(3)));
    let at: [Slot; 4] = std::array::from_fn(|n| server.enters(session(2, &pc(n))));
    let seats = [0, 1, 2].map(|n| server.checks_out(at[n], "payroll", "").seat);
    let seats = seats.map(|seat| seat_named(&mut server, seat));
    server.change(1, |rows| rows.licenses[0].seats = Some(2));
    let claimed = server.claim(at[3], "payroll", want(""), false);
    assert!(matches!(claimed, Claimed::MayReclaim(_)), "{claimed:?}");
    for seat in &seats {
        assert_eq!(asks(&mut server, at[3], seat), Prospect::Gone);
    }
    server.check_in(at[0], "payroll", "");
    assert_eq!(asks(&mut server, at[3], &seats[1]), Prospect::Open);
}

#[test]
fn only_where_somebody_would_be_denied_does_a_seat_give_way() {
    for (row, server_wide, asked) in [
        (Enforcement::On, Enforcement::On, true),
        (Enforcement::Warn, Enforcement::On, false),
        (Enforcement::Off, Enforcement::On, false),
        (Enforcement::On, Enforcement::Warn, false),
        (Enforcement::On, Enforcement::Off, false),
    ] {
        let mut server = Server::with_license(reclaimed(License {
            enforcement: row,
            ..license("crm", 1)
        }));
        server.exempt_superusers = false;
        server.enters(session(2, &pc(1)));
        server.enforcement = server_wide;
        let answer = server.log_in(session(3, &pc(2))).1;
        assert_eq!(matches!(answer, Answer::MayReclaim(_)), asked, "{answer:?}");
        // A superuser is not denied.
        let answer = server.log_in_at(Slot(12), superuser(1, &pc(3)), false);
        assert!(matches!(answer, Answer::Admitted(_)), "{answer:?}");
        // Nor is anybody while a seat is free, or who has one.
        server.change(1, |rows| rows.licenses[0].seats = Some(9));
        server.enters(session(4, &pc(4)));
        server.change(1, |rows| rows.licenses[0].seats = Some(1));
        server.enters(session(4, &pc(4)));
    }
    let mut server = Server::with_license(license("crm", 1));
    server.enters(session(2, &pc(1)));
    assert!(is_full(server.log_in(session(3, &pc(2))).1));
}

#[test]
fn checkouts_leases_and_those_in_the_queue_may_ask() {
    let mut server = Server::with_license(reclaimed(module(1)));
    let at: [Slot; 3] = std::array::from_fn(|n| server.enters(session(2, &pc(n))));
    for want in [want(""), lease(1, "ann", &pc(9))] {
        let held = server.checks_out(at[0], "payroll", "");
        let seat = seat_named(&mut server, held.seat);
        let claimed = server.claim(at[1], "payroll", want, true);
        assert!(matches!(claimed, Claimed::MayReclaim(_)), "{claimed:?}");
        assert_eq!(asks(&mut server, at[1], &seat), Prospect::Open);
        assert!(server.check_in(at[0], "payroll", ""));
        assert_eq!(in_use_and_promised(&mut server, "payroll"), (0, 1));
        let claimed = server.claim(at[2], "payroll", super::server::want("x"), false);
        assert!(matches!(claimed, Claimed::MayReclaim(_)));
        gives_up(&mut server, at[2]);
        super::server::held(server.claim(at[1], "payroll", want, false));
        assert_eq!(in_use_and_promised(&mut server, "payroll"), (1, 0));
        server.check_in(at[1], "payroll", "");
        server.drop_lease(id(1));
    }
    // In the queue.
    let held = server.checks_out(at[0], "payroll", "");
    let seat = seat_named(&mut server, held.seat);
    server.change(1, |rows| rows.licenses[0].reclaim_idle_after = None);
    let ticket = server.waits(at[1], "payroll", want(""));
    assert_eq!(server.ledger.with(|l| l.reclaim_in_queue(ticket)), None);
    server.change(1, |rows| rows.licenses[0].reclaim_idle_after = Some(0));
    server.load(1);
    let reclaim = server.ledger.with(|l| l.reclaim_in_queue(ticket));
    assert_eq!(reclaim.unwrap().idle_after, 0);
    assert!(server.begins_to_ask(ticket));
    assert_eq!(asks(&mut server, at[1], &seat), Prospect::Open);
    leaves(&mut server, at[0], Leaving::Reclaim);
    assert_eq!(hope(&mut server, at[1], &seat), Prospect::Fulfilled);
    assert!(server.collect(ticket).is_some());
    assert_eq!(in_use_and_promised(&mut server, "payroll"), (1, 0));
    assert_eq!(server.ledger.with(|l| l.reclaim_in_queue(ticket)), None);
    assert!(!server.begins_to_ask(ticket));
}

#[test]
fn of_those_in_the_queue_the_first_asks_and_gets_the_seat() {
    let mut server = Server::with_license(reclaimed(module(2)));
    let at: [Slot; 4] = std::array::from_fn(|n| server.enters(session(2, &pc(n))));
    let seats = [0, 1].map(|n| server.checks_out(at[n], "payroll", "").seat);
    let seats = seats.map(|seat| seat_named(&mut server, seat));
    server.change(1, |rows| rows.licenses[0].reclaim_idle_after = None);
    let tickets = [2, 3].map(|n| server.waits(at[n], "payroll", want("")));
    server.change(1, |rows| rows.licenses[0].reclaim_idle_after = Some(0));
    server.load(1);
    for (n, seat) in seats.iter().enumerate() {
        let asking = tickets.map(|ticket| server.begins_to_ask(ticket));
        assert_eq!(asking, [n == 0, n == 1]);
        assert_eq!(asks(&mut server, at[2 + n], seat), Prospect::Open);
        leaves(&mut server, at[n], Leaving::Reclaim);
        assert_eq!(hope(&mut server, at[2 + n], seat), Prospect::Fulfilled);
        assert!(server.collect(tickets[n]).is_some());
        assert_eq!(in_use_and_promised(&mut server, "payroll"), (2, 0));
    }
}

#[test]
fn whoever_is_first_in_the_queue_asks_of_those_who_may() {
    let mut server = Server::with_license(reclaimed(module(1)));
    let at: [Slot; 3] = std::array::from_fn(|n| server.enters(session(2 + n as u32, &pc(n))));
    server.checks_out(at[0], "payroll", "");
    server.change(1, |rows| rows.licenses[0].reclaim_idle_after = None);
    let tickets = [1, 2].map(|n| server.waits(at[n], "payroll", want("")));
    assert!(!server.begins_to_ask(tickets[1]));
    // The first is barred, or leaves: the next is first.
    let bar = StoredBar {
        product: name("payroll"),
        id: 1,
        since: server.now,
        until: server.now + HOUR,
        barred_by: name("lena"),
        reason: Text::EMPTY,
        whom: Barred {
            by: BarBy::UserHost,
            role: RoleOid(3),
            host: session(3, &pc(1)).who.host,
            host_name: Name::EMPTY,
            client_user: Text::EMPTY,
        },
    };
    server.change(1, |rows| rows.bars.push(bar));
    server.load(1);
    assert_eq!(
        tickets.map(|ticket| server.begins_to_ask(ticket)),
        [false, true]
    );
    server.change(1, |rows| rows.bars.clear());
    server.load(1);
    assert!(!server.begins_to_ask(tickets[1]));
    server.log_out(at[1]);
    assert!(server.begins_to_ask(tickets[1]));
}

#[test]
fn a_newcomer_does_not_overtake_those_in_the_queue() {
    // How long seats must have been idle for the one in the queue, and whether it asks another seat itself.
    for (its, asks_itself) in [
        (Some(MINUTE), false),
        (Some(2 * MINUTE), false),
        (None, false),
        (Some(MINUTE), true),
    ] {
        let overtakes = its.is_none();
        let mut server = Server::new(ROOM);
        for database in [1, 2] {
            let license = License {
                pool: name("firm"),
                ..reclaimed(module(2))
            };
            server.change(database, |rows| rows.licenses.push(license));
        }
        let at: [Slot; 4] = std::array::from_fn(|n| {
            let database = if n == 2 { 2 } else { 1 };
            server.enters(of_database(session(2, &pc(n)), database))
        });
        let seats = [0, 1].map(|n| server.checks_out(at[n], "payroll", "").seat);
        let seats = seats.map(|seat| seat_named(&mut server, seat));
        server.change(2, |rows| rows.licenses[0].reclaim_idle_after = None);
        let ticket = server.waits(at[2], "payroll", want(""));
        server.change(2, |rows| rows.licenses[0].reclaim_idle_after = its);
        server.load(2);
        if asks_itself {
            assert!(server.begins_to_ask(ticket));
            assert_eq!(asks(&mut server, at[2], &seats[1]), Prospect::Open);
        }
        let newcomer = server.claim(at[3], "payroll", want(""), true);
        assert!(matches!(newcomer, Claimed::MayReclaim(_)), "{newcomer:?}");
        assert_eq!(asks(&mut server, at[3], &seats[0]), Prospect::Open);
        leaves(&mut server, at[0], Leaving::Reclaim);
        let (hoped, called) = if overtakes {
            (Prospect::Fulfilled, false)
        } else {
            (Prospect::Gone, true)
        };
        assert_eq!(hope(&mut server, at[3], &seats[0]), hoped);
        assert_eq!(server.collect(ticket).is_some(), called);
        // Then another seat may give way to the newcomer: that which the other has asked, if it has.
        if !overtakes {
            let asked = asks_itself.then_some(seats[1].number);
            assert_eq!(server.ledger.with(|l| l.asked_by(at[3])), asked);
            assert_eq!(asks(&mut server, at[3], &seats[1]), Prospect::Open);
            leaves(&mut server, at[1], Leaving::Reclaim);
        }
        super::server::held(server.claim(at[3], "payroll", want(""), true));
        assert_eq!(in_use_and_promised(&mut server, "payroll"), (2, 0));
        asks_no_longer(&mut server, at[2]);
        assert_eq!(server.ledger.head.asking, 0, "{its:?} {asks_itself}");
    }
}

#[test]
fn a_seat_that_is_kept_counts_for_the_roles_of_whom_it_is_kept_for() {
    const MEMBER: u32 = 11;
    let member = |n| session(MEMBER, &pc(n));
    // Where one is reserved for the role, what is kept for its member is that one.
    let mut server = Server::with_license(reclaimed(license("crm", 3)));
    server.catalog.granted.extend([(MEMBER, "accounting")]);
    let rows = [reservation("crm", "accounting", 1, None)];
    server.change(1, |tables| tables.reservations = rows.to_vec());
    let idle = server.enters(member(1));
    let others = [2, 3].map(|n| server.enters(session(2, &pc(n))));
    may_ask(&mut server, NEWCOMER, member(4));
    let seat = seat_at(&mut server, idle);
    assert_eq!(asks(&mut server, NEWCOMER, &seat), Prospect::Open);
    leaves(&mut server, idle, Leaving::Reclaim);
    server.log_out(others[0]);
    server.enters(session(2, &pc(5)));
    assert!(is_full(server.log_in_at(Slot(6), session(2, &pc(6)), true)));
    let answer = server.log_in_at(NEWCOMER, member(4), true);
    assert_eq!(answer, Answer::Admitted(Remark::None));
    // Where the role may have one at most, nobody else of it takes it.
    let mut server = Server::with_license(reclaimed(license("crm", 2)));
    server.catalog.granted.extend([(MEMBER, "interns")]);
    let rows = [reservation("crm", "interns", 0, Some(1))];
    server.change(1, |tables| tables.reservations = rows.to_vec());
    let idle = server.enters(member(1));
    may_ask(&mut server, NEWCOMER, member(2));
    let seat = seat_at(&mut server, idle);
    assert_eq!(asks(&mut server, NEWCOMER, &seat), Prospect::Open);
    leaves(&mut server, idle, Leaving::Reclaim);
    let denied = server.log_in_at(Slot(6), member(3), true);
    assert!(
        matches!(
            denied,
            Answer::Denied(Denial {
                cause: Cause::RoleFull { in_use: 1, .. },
                ..
            })
        ),
        "{denied:?}"
    );
    let answer = server.log_in_at(NEWCOMER, member(2), true);
    assert_eq!(answer, Answer::Admitted(Remark::None));
}

#[test]
fn the_license_of_who_asks_is_the_same_wherever_its_row_stands() {
    let mut server = Server::with_license(reclaimed(license("crm", 1)));
    let other = License {
        application_name: Text::new("other").unwrap(),
        ..license("other", 1)
    };
    server.change(1, |rows| rows.licenses.push(other));
    let idle = server.enters(session(2, &pc(1)));
    may_ask(&mut server, NEWCOMER, session(3, &pc(2)));
    let seat = seat_at(&mut server, idle);
    assert_eq!(asks(&mut server, NEWCOMER, &seat), Prospect::Open);
    // The rows change places, and there are more seats.
    server.change(1, |rows| {
        rows.licenses.swap(0, 1);
        rows.licenses[1].seats = Some(2);
    });
    server.load(1);
    assert_eq!(hope(&mut server, NEWCOMER, &seat), Prospect::Free);
}

#[test]
fn a_seat_that_is_kept_belongs_to_its_product_alone() {
    let mut server = Server::with_license(reclaimed(license("crm", 1)));
    server.change(1, |rows| rows.licenses.push(module(1)));
    let idle = server.enters(session(2, &pc(1)));
    may_ask(&mut server, NEWCOMER, session(3, &pc(2)));
    let seat = seat_at(&mut server, idle);
    assert_eq!(asks(&mut server, NEWCOMER, &seat), Prospect::Open);
    leaves(&mut server, idle, Leaving::Reclaim);
    // The newcomer logs in to something else by now.
    server.change(1, |rows| {
        rows.licenses[0].application_name = Text::new("other").unwrap();
    });
    let answer = server.log_in_at(NEWCOMER, session(3, &pc(2)), true);
    assert_eq!(answer, Answer::Admitted(Remark::None));
    assert_eq!(in_use_and_promised(&mut server, "crm"), (0, 0));
    server.log_out(NEWCOMER);
    server.assert_empty();
}

#[test]
fn leases_give_way_unless_they_were_extended() {
    let mut server = Server::with_license(reclaimed(module(1)));
    let at = server.enters(session(2, &pc(1)));
    let receipt = server.leases(at, "payroll", lease(1, "ann", &pc(9)));
    server.commit_lease(id(1));
    let seat = seat_named(&mut server, receipt.seat);
    let seen = server.now;
    server.now += MINUTE;
    server.heartbeat(at, id(1)).unwrap();
    let now = server.now;
    let ended = |server: &mut Server, by: Timestamp| {
        let ends = |l: &mut crate::core::ledger::Ledger<'_, crate::core::ledger::map::Maps>| {
            l.end_leases(&[id(1)], Leaving::Reclaim, by, now)
        };
        server.ledger.with(ends)
    };
    assert_eq!(ended(&mut server, seen), 0);
    let claimed = server.claim(at, "payroll", want("bob"), false);
    assert!(matches!(claimed, Claimed::MayReclaim(_)));
    assert_eq!(asks(&mut server, at, &seat), Prospect::Open);
    assert_eq!(ended(&mut server, now), 1);
    assert_eq!(hope(&mut server, at, &seat), Prospect::Fulfilled);
    assert_eq!(ended(&mut server, now), 0, "it has ended");
    server.checks_out(at, "payroll", "bob");
    assert_eq!(server.bury(1), [id(1)]);
    server.log_out(at);
    server.assert_empty();
}

// Stopping.

#[test]
fn nobody_joins_a_seat_that_is_stopped() {
    let mut server = Server::with_license(license("crm", 5));
    let at = server.enters(session(2, &pc(1)));
    let app = server.enters(session(3, &pc(1)));
    let seat = seat_at(&mut server, at);
    assert_eq!(stops(&mut server, &seat, 0), Stopping::Begun(seat.key));
    assert_eq!(barred(server.log_in(session(2, &pc(1))).1), Some(None));
    assert!(is_barred(server.claim(at, "crm", want(""), true)));
    // Others may come, and join others.
    server.enters(session(2, &pc(2)));
    server.enters(session(3, &pc(1)));
    server.checks_out(app, "crm", "");
    // Those of an application's users likewise.
    let zoe = server.checks_out(app, "crm", "zoe");
    let zoe = seat_named(&mut server, zoe.seat);
    stops(&mut server, &zoe, 0);
    assert!(is_barred(server.claim(app, "crm", want("zoe"), false)));
    assert!(is_barred(server.claim(app, "crm", want("zoe"), true)));
    let lease = |server: &mut Server| {
        let mut wanted = lease(1, "zoe", &pc(1));
        wanted.lease.as_mut().unwrap().host = server.ledger.sessions[app.0].who.host;
        server.claim(app, "crm", wanted, true)
    };
    assert!(is_barred(lease(&mut server)));
    // Once it is free they may.
    leaves(&mut server, at, Leaving::Termination);
    leaves(&mut server, app, Leaving::Termination);
    server.enters(session(2, &pc(1)));
}

#[test]
fn what_does_not_end_can_be_joined_again() {
    let mut server = Server::with_license(license("crm", 5));
    let at = server.enters(session(2, &pc(1)));
    let seat = seat_at(&mut server, at);
    let stop = stop_of(&server, &seat, 0);
    stops(&mut server, &seat, 0);
    // Another administrator waits for it a moment longer.
    server.now += 1_000;
    let second = stop_of(&server, &seat, 0);
    stops(&mut server, &seat, 0);
    server.ledger.with(|l| l.stop_ending(&seat.key, &stop));
    assert_eq!(barred(server.log_in(session(2, &pc(1))).1), Some(None));
    server.ledger.with(|l| l.stop_ending(&seat.key, &second));
    server.enters(session(2, &pc(1)));
    // Who waits may be gone without a word.
    stops(&mut server, &seat, 0);
    assert_eq!(barred(server.log_in(session(2, &pc(1))).1), Some(None));
    server.now += 10_000_000;
    server.enters(session(2, &pc(1)));
}

#[test]
fn a_stopped_seat_does_not_linger_however_it_is_left() {
    for leaving in [Leaving::Termination, Leaving::Logout] {
        let mut server = Server::with_license(License {
            linger: HOUR,
            ..license("crm", 1)
        });
        let at = server.enters(session(2, &pc(1)));
        let seat = seat_at(&mut server, at);
        stops(&mut server, &seat, 0);
        leaves(&mut server, at, leaving);
        assert_eq!(server.in_use("crm"), 0, "{leaving:?}");
        server.enters(session(3, &pc(2)));
    }
}

#[test]
fn a_lingering_seat_is_free_at_once_and_its_user_barred() {
    let long = "x".repeat(60);
    for (workstation, client_user) in [
        ("", ""),
        ("PC-1", ""),
        ("", "zoe"),
        ("PC-1", "zoe"),
        (&*long, ""),
        ("", &*long),
        ("PC-1", &*long),
    ] {
        for counted_by in [
            CountedBy::UserHost,
            CountedBy::User,
            CountedBy::Host,
            CountedBy::Session,
            CountedBy::UserWorkstation,
        ] {
            let mut server = Server::with_license(License {
                linger: HOUR,
                counted_by,
                ..module(5)
            });
            let user = with_workstation(session(2, &pc(1)), workstation);
            let at = server.enters(user);
            let receipt = server.checks_out(at, "payroll", client_user);
            let seat = seat_named(&mut server, receipt.seat);
            server.check_in(at, "payroll", client_user);
            assert_eq!(server.in_use("payroll"), 1);
            assert_eq!(stops(&mut server, &seat, HOUR), Stopping::Gone);
            assert_eq!(server.in_use("payroll"), 0);
            for read_again in [false, true] {
                if read_again {
                    store_bars(&mut server);
                }
                for name in [client_user, "", "yan"] {
                    let again = server.claim(at, "payroll", want(name), true);
                    assert!(is_barred(again), "{counted_by:?} {again:?}");
                }
                let other = server.enters(session(2, &pc(2)));
                server.checks_out(other, "payroll", client_user);
                server.log_out(other);
            }
        }
    }
}

#[test]
fn a_stopped_seat_goes_to_the_first_in_the_queue_who_is_not_barred() {
    let mut server = Server::with_license(License {
        counted_by: CountedBy::Session,
        ..module(1)
    });
    let [first, twin, other] = [1, 1, 2].map(|n| server.enters(session(2, &pc(n))));
    let receipt = server.checks_out(first, "payroll", "");
    let seat = seat_named(&mut server, receipt.seat);
    let barred = server.waits(twin, "payroll", want(""));
    let free = server.waits(other, "payroll", want(""));
    assert!(!server.waits_in_vain(barred));
    stops(&mut server, &seat, HOUR);
    // It hears of it at once, so that it does not wait for what can't come.
    assert_eq!(server.woken(), [twin]);
    assert!(server.waits_in_vain(barred));
    assert!(!server.waits_in_vain(free));
    leaves(&mut server, first, Leaving::Termination);
    assert!(server.woken().contains(&other));
    assert!(server.collect(free).is_some());
    server.leave(barred);
    assert!(is_barred(server.claim(twin, "payroll", want(""), true)));
}

#[test]
fn a_lease_that_is_stopped_is_gone_whatever_its_transaction_does() {
    for (commits, lent) in [(true, true), (true, false), (false, true), (false, false)] {
        let mut server = Server::with_license(module(5));
        let at = server.enters(session(2, &pc(1)));
        let receipt = server.leases(at, "payroll", lease(1, "ann", &pc(9)));
        if lent {
            assert!(server.heartbeat(at, id(1)).is_some());
            assert!(server.may_use(at, "payroll"));
        }
        let seat = seat_named(&mut server, receipt.seat);
        assert!(matches!(stops(&mut server, &seat, 0), Stopping::Begun(_)));
        let now = server.now;
        let ended = server
            .ledger
            .with(|l| l.end_leases(&[id(1), id(2)], Leaving::Termination, Timestamp::MAX, now));
        assert_eq!((ended, server.in_use("payroll")), (1, 0));
        assert!(!server.may_use(at, "payroll"));
        assert_eq!(server.heartbeat(at, id(1)), None);
        assert!(server.bury(1).is_empty(), "its row may yet come");
        if commits {
            server.commit_lease(id(1));
            server.end_due_leases();
            assert_eq!(server.bury(1), [id(1)]);
        } else {
            server.drop_lease(id(1));
        }
        server.log_out(at);
        server.assert_empty();
    }
}

#[test]
fn of_a_stop_the_trail_tells_who_and_by_whom_and_why() {
    let mut server = Server::with_license(license("crm", 5));
    let at = server.enters(with_workstation(session(2, &pc(1)), "PC-1"));
    let seat = seat_at(&mut server, at);
    let long = "why ".repeat(60);
    let stop = Stop {
        reason: Text::new(&long).unwrap(),
        ..stop_of(&server, &seat, HOUR)
    };
    let now = server.now;
    begins(&mut server, &stop);
    leaves(&mut server, at, Leaving::Termination);
    let reason = Label::of(&long);
    let text = server.ledger.with(|l| l.texts.get(&reason).unwrap().text);
    assert_eq!(text.as_str(), long);
    store_bars(&mut server);
    let events = server.tell_all();
    let told = events
        .iter()
        .find(|event| event.happened == Happened::Terminated)
        .unwrap();
    assert_eq!(
        (told.by, told.until, told.seat),
        (RoleOid(99), now + HOUR, seat.number)
    );
    assert_eq!(told.who.workstation, name("PC-1"));
    assert_eq!(told.reason, Label::of(&long));
    let left = |event: &&crate::core::ledger::event::Event| {
        event.happened == Happened::Left(Leaving::Termination)
    };
    assert!(events.iter().any(|event| left(&event)));
}

#[test]
fn an_unknown_seat_is_gone() {
    let mut server = Server::with_license(license("crm", 5));
    let at = server.enters(session(2, &pc(1)));
    let seat = seat_at(&mut server, at);
    server.log_out(at);
    assert_eq!(stops(&mut server, &seat, HOUR), Stopping::Gone);
    // Its successor is another one.
    server.enters(session(2, &pc(1)));
    assert_eq!(stops(&mut server, &seat, HOUR), Stopping::Gone);
    server.enters(session(2, &pc(1)));
}

/// Histories at random: logins that have idle seats give way, or are too late, users that leave, are
/// stopped and barred, and some that die on the way. Never more seats are taken or kept than there are,
/// each is kept for one who lives, and nothing is left at the end.
#[test]
fn whatever_happens_no_seat_is_given_twice_or_lost() {
    for seed in 1..=400_u64 {
        let mut below = dice(seed);
        let limit = 1 + below(4);
        let linger = if below(3) == 0 { MINUTE } else { 0 };
        let mut server = Server::with_license(reclaimed(License {
            linger,
            ..license("crm", limit as i32)
        }));
        server.load(1);
        // Which seat each place asks.
        let mut asked: Vec<Option<Seat>> = vec![None; ROOM.sessions];
        let mut newcomers: Vec<Option<Session>> = vec![None; ROOM.sessions];
        for _ in 0..120 {
            let index = below(ROOM.sessions);
            let at = Slot(index);
            let is_in = server.ledger.sessions[index].number != SessionNumber::NONE;
            match below(8) {
                0 | 1 if !is_in => {
                    let who = newcomers[index].unwrap_or(session(2, &pc(1 + below(8))));
                    let retries = newcomers[index].is_some();
                    match server.log_in_at(at, who, retries && below(2) == 0) {
                        Answer::MayReclaim(_) => newcomers[index] = Some(who),
                        Answer::TimesUp => drop(server.end_due_leases()),
                        Answer::Denied(_) => {
                            // As on_exit does.
                            leaves(&mut server, at, Leaving::Logout);
                            (newcomers[index], asked[index]) = (None, None);
                        }
                        Answer::Admitted(_) => (newcomers[index], asked[index]) = (None, None),
                        Answer::Outdated => panic!("outdated"),
                    }
                }
                2 | 3 if newcomers[index].is_some() => {
                    let victim = Slot(below(ROOM.sessions));
                    if server.ledger.sessions[victim.0].number != SessionNumber::NONE {
                        let seat = seat_at(&mut server, victim);
                        if asks(&mut server, at, &seat) == Prospect::Open {
                            asked[index] = Some(seat);
                        }
                    }
                }
                4 => {
                    asked[index] = None;
                    asks_no_longer(&mut server, at);
                }
                5 => {
                    let ways = [Leaving::Logout, Leaving::Reclaim, Leaving::Termination];
                    leaves(&mut server, at, ways[below(3)]);
                    (newcomers[index], asked[index]) = (None, None);
                }
                6 if is_in => {
                    let seat = seat_at(&mut server, at);
                    let barred_for = [0, 0, MINUTE][below(3)];
                    stops(&mut server, &seat, barred_for);
                    if below(2) == 0 {
                        let stop = stop_of(&server, &seat, 0);
                        server.ledger.with(|l| l.stop_ending(&seat.key, &stop));
                    }
                }
                7 => server.now += below(90) as i64 * 1_000_000,
                _ => {}
            }
            let (in_use, promised) = in_use_and_promised(&mut server, "crm");
            assert!(in_use + promised <= limit as i64, "seed {seed}");
            let kept = server.ledger.sessions.iter().filter_map(|s| s.promise);
            let kept = kept.filter(|promise| promise.kept).count();
            assert_eq!(promised, kept as i64, "seed {seed}");
        }
        for index in 0..ROOM.sessions {
            leaves(&mut server, Slot(index), Leaving::Logout);
        }
        server.now += 10 * TTL;
        server.end_due_leases();
        server.assert_empty();
    }
}
