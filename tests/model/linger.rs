//! Seats that linger: they stay taken for their identity after their last holder left.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::Config;

use super::server::{
    MINUTE, ROOM, Server, TTL, exempt_role, id, lease, license, name, of_database, session,
    superuser, want,
};
use crate::core::ledger::acts::admission::Answer;
use crate::core::ledger::acts::checkout::{Claimed, NewLease, SeatRequest};
use crate::core::ledger::denial::Cause;
use crate::core::ledger::event::{Happened, Leaving};
use crate::core::ledger::license::License;
use crate::core::ledger::map::Capacity;
use crate::core::ledger::numbers::{DatabaseOid, Slot};
use crate::core::ledger::session::Session;
use crate::core::ledger::table::Table;
use crate::core::ledger::time::Timestamp;
use crate::core::ledger::words::{ClaimedAt, CountedBy};

const PC1: &str = "10.0.0.1";
const PC2: &str = "10.0.0.2";

const LINGER: Timestamp = 10 * MINUTE;

/// Returns a license whose seats linger for ten minutes.
fn lingering(seats: impl Into<Option<i32>>) -> License {
    License {
        linger: LINGER,
        ..license("tom", seats)
    }
}

fn web(seats: i32) -> License {
    License {
        claimed_at: ClaimedAt::Checkout,
        ..lingering(seats)
    }
}

/// Returns what a login is denied for, which must be.
fn denied(server: &mut Server, session: Session) -> Cause {
    let mut answer = server.log_in(session).1;
    if answer == Answer::TimesUp {
        server.end_due_leases();
        answer = server.log_in(session).1;
    }
    match answer {
        Answer::Denied(denial) => denial.cause,
        other => panic!("{other:?}"),
    }
}

fn full(in_use: i64, limit: i64) -> Cause {
    Cause::Full {
        in_use,
        limit,
        kept: 0,
    }
}

/// Comes in and leaves.
fn visits(server: &mut Server, session: Session) {
    let at = server.enters(session);
    server.log_out(at);
}

/// Logs a session in after it is known whose time is up.
fn enters_in_time(server: &mut Server, session: Session) -> Slot {
    let (at, answer) = server.log_in(session);
    if answer == Answer::TimesUp {
        server.end_due_leases();
        return server.enters(session);
    }
    assert!(matches!(answer, Answer::Admitted(_)));
    at
}

/// Returns seats that nobody holds.
fn left(server: &mut Server) -> i64 {
    server.ledger.with(|l| {
        let (mut lingering, mut unheld) = (0, 0);
        l.tallies.each(|tally| lingering += tally.lingering);
        l.seats.each(|seat| unheld += i64::from(!seat.is_held()));
        assert_eq!(lingering, unheld);
        lingering
    })
}

#[test]
fn a_seat_stays_taken_for_its_identity_and_is_cut_short_for_nobody() {
    let mut server = Server::with_license(lingering(1));
    visits(&mut server, session(2, PC1));
    assert_eq!((server.in_use("tom"), left(&mut server)), (1, 1));
    for _ in 0..3 {
        server.now += 3 * MINUTE;
        assert_eq!(denied(&mut server, session(3, PC1)), full(1, 1));
        assert_eq!(denied(&mut server, session(2, PC2)), full(1, 1));
    }
    let at = server.enters(session(2, PC1));
    assert_eq!((server.in_use("tom"), left(&mut server)), (1, 0));
    // From its last leave on.
    server.now += LINGER;
    server.log_out(at);
    server.now += LINGER - 1;
    assert_eq!(denied(&mut server, session(3, PC1)), full(1, 1));
    server.now += 1;
    enters_in_time(&mut server, session(3, PC1));
    assert_eq!((server.in_use("tom"), left(&mut server)), (1, 0));
}

#[test]
fn a_seat_keeps_its_id_while_it_lingers() {
    let mut server = Server::with_license(lingering(1));
    let mut seat = || {
        let at = server.enters(session(2, PC1));
        let key = server.ledger.sessions[at.0].seat.unwrap();
        let number = server.ledger.with(|l| l.seats.get(&key).unwrap().number);
        server.log_out(at);
        server.now += MINUTE;
        number
    };
    assert_eq!(seat(), seat());
}

#[test]
fn the_end_of_its_time_frees_the_seat_and_wakes_for_that() {
    let mut server = Server::with_license(lingering(1));
    visits(&mut server, session(2, PC1));
    assert_eq!(server.ledger.head.next_due, server.now + LINGER);
    server.now += LINGER;
    server.end_due_leases();
    assert_eq!((server.in_use("tom"), left(&mut server)), (0, 0));
    assert_eq!(server.ledger.head.next_due, Timestamp::MAX);
    server.assert_empty();
}

#[test]
fn the_end_of_its_time_serves_the_queue() {
    let mut server = Server::with_license(web(1));
    let [ann, bob] = [2, 3].map(|role| server.enters(session(role, PC1)));
    server.checks_out(ann, "tom", "");
    let ticket = server.waits(bob, "tom", want(""));
    server.check_in(ann, "tom", "");
    assert!(server.collect(ticket).is_none());
    // Who left it takes it again before those in the queue.
    server.checks_out(ann, "tom", "");
    server.check_in(ann, "tom", "");
    server.now += LINGER;
    server.end_due_leases();
    assert_eq!(server.collect(ticket).unwrap().in_use, 1);
}

#[test]
fn the_trail_says_until_when() {
    let mut server = Server::with_license(lingering(1));
    visits(&mut server, session(2, PC1));
    let release = |server: &mut Server| {
        let events = server.tell_all();
        let left = events
            .iter()
            .find(|event| matches!(event.happened, Happened::Left(_)));
        left.map(|event| (event.in_use, event.until))
    };
    let until = server.now + LINGER;
    assert_eq!(release(&mut server), Some((1, until)));
    // Who comes back takes it again; who joins does not.
    let at = server.enters(session(2, PC1));
    let events = server.tell_all();
    let [back] = events.as_slice() else {
        panic!("{events:?}");
    };
    assert_eq!((back.happened, back.in_use), (Happened::Taken, 1));
    visits(&mut server, session(2, PC1));
    assert!(server.tell_all().is_empty());
    server.change(1, |rows| rows.licenses[0].linger = 0);
    server.load(1);
    server.log_out(at);
    assert_eq!(release(&mut server), Some((0, 0)));
}

#[test]
fn a_checkin_and_the_end_of_a_lease_let_the_seat_linger() {
    let mut server = Server::with_license(web(2));
    server.change(1, |rows| rows.leases_of = 7);
    let at = server.enters(session(2, PC1));
    server.leases(at, "tom", lease(1, "ann", PC2));
    server.commit_lease(id(1));
    server.checks_out(at, "tom", "");
    server.check_in(at, "tom", "");
    assert_eq!((server.in_use("tom"), left(&mut server)), (2, 1));
    server.now += TTL;
    assert_eq!(server.end_due_leases(), [id(1)]);
    server.bury(1);
    assert_eq!((server.in_use("tom"), left(&mut server)), (2, 2));
    // What is kept of it is the lease's identity.
    server.leases(at, "tom", lease(2, "ann", PC2));
    assert_eq!((server.in_use("tom"), left(&mut server)), (2, 1));
}

#[test]
fn who_gave_a_seat_back_that_lingers_may_use_the_product_no_longer() {
    let mut server = Server::with_license(web(1));
    let at = server.enters(session(2, PC1));
    server.checks_out(at, "tom", "");
    assert!(server.may_use(at, "tom"));
    server.check_in(at, "tom", "");
    assert_eq!((server.in_use("tom"), left(&mut server)), (1, 1));
    assert!(!server.may_use(at, "tom"));
}

#[test]
fn who_was_sent_away_leaves_no_seat_behind() {
    for leaving in [Leaving::Termination, Leaving::IdleLogOff, Leaving::Reclaim] {
        let mut server = Server::with_license(lingering(1));
        let at = server.enters(session(2, PC1));
        let now = server.now;
        server.ledger.with(|l| l.release(at, leaving, now));
        assert_eq!(server.in_use("tom"), 0, "{leaving:?}");
        server.assert_empty();
    }
}

#[test]
fn a_lease_that_is_rolled_back_leaves_the_seat_as_it_was() {
    for lingers in [false, true] {
        let mut server = Server::with_license(web(1));
        let at = server.enters(session(2, PC1));
        if lingers {
            server.leases(at, "tom", lease(1, "ann", PC2));
            server.commit_lease(id(1));
            server.drop_lease(id(1));
        }
        server.ledger.with(|l| l.note_next_due());
        let due = server.ledger.head.next_due;
        server.now += MINUTE;
        server.leases(at, "tom", lease(2, "ann", PC2));
        server.drop_lease(id(2));
        assert_eq!(server.in_use("tom"), i64::from(lingers));
        server.ledger.with(|l| l.note_next_due());
        assert_eq!(server.ledger.head.next_due, due);
        server.now += LINGER - MINUTE;
        server.end_due_leases();
        server.assert_empty();
    }
}

#[test]
fn a_lease_that_is_rolled_back_takes_nothing_from_who_left_meanwhile() {
    let mut server = Server::with_license(web(1));
    let at = server.enters(session(2, PC1));
    server.leases(at, "tom", lease(1, "ann", PC2));
    server.commit_lease(id(1));
    server.leases(at, "tom", lease(2, "ann", PC2));
    server.drop_lease(id(1));
    server.now += MINUTE;
    server.drop_lease(id(2));
    assert_eq!(left(&mut server), 1);
    server.now += LINGER - MINUTE - 1;
    server.end_due_leases();
    assert_eq!(server.in_use("tom"), 1);
    server.now += 1;
    server.end_due_leases();
    assert_eq!(server.in_use("tom"), 0);
}

#[test]
fn the_last_leave_counts_and_not_a_former_one() {
    let mut server = Server::with_license(lingering(1));
    visits(&mut server, session(2, PC1));
    let at = server.enters(session(2, PC1));
    server.change(1, |rows| rows.licenses[0].linger = MINUTE);
    server.load(1);
    server.log_out(at);
    server.now += MINUTE;
    server.end_due_leases();
    assert_eq!(server.in_use("tom"), 0);
}

#[test]
fn a_seat_lingers_no_longer_than_the_license_says_now() {
    let mut server = Server::with_license(lingering(2));
    visits(&mut server, session(2, PC1));
    let until = server.now + LINGER;
    // Longer: for those who leave from now on.
    server.change(1, |rows| rows.licenses[0].linger = 2 * LINGER);
    server.load(1);
    assert_eq!(server.ledger.head.next_due, until);
    server.change(1, |rows| rows.licenses[0].linger = MINUTE);
    server.load(1);
    assert_eq!(server.ledger.head.next_due, server.now + MINUTE);
    assert_eq!(server.in_use("tom"), 1);
    server.change(1, |rows| rows.licenses[0].linger = 0);
    server.load(1);
    server.assert_empty();
}

#[test]
fn nothing_lingers_of_what_is_not_licensed() {
    for gone in [false, true] {
        let mut server = Server::with_license(lingering(1));
        visits(&mut server, session(2, PC1));
        if gone {
            let now = server.now;
            server.ledger.with(|l| l.forget(DatabaseOid(1), now));
            server.tables.clear();
        } else {
            server.change(1, |rows| rows.licenses.clear());
            server.load(1);
        }
        server.assert_empty();
        server.ledger.with(|l| assert_eq!(l.tallies.len(), 0));
        visits(&mut server, session(2, PC1));
        server.assert_empty();
    }
}

#[test]
fn who_becomes_exempt_leaves_no_seat_behind() {
    let mut server = Server::with_license(lingering(1));
    let at = server.enters(session(2, PC1));
    server.change(1, |rows| rows.exemptions.push(exempt_role("r2")));
    server.load(1);
    assert_eq!(server.in_use("tom"), 0);
    server.log_out(at);
    visits(&mut server, superuser(1, PC1));
    server.assert_empty();
}

#[test]
fn an_overdraft_lingers_too() {
    let mut server = Server::with_license(License {
        overdraft: 1,
        ..lingering(1)
    });
    visits(&mut server, session(2, PC1));
    let (at, _) = server.log_in(session(3, PC1));
    server.log_out(at);
    assert_eq!(server.in_use("tom"), 2);
    assert_eq!(denied(&mut server, session(4, PC1)), full(2, 2));
}

#[test]
fn when_the_seats_are_reduced_those_that_linger_still_count() {
    let mut server = Server::with_license(lingering(3));
    for role in 2..5 {
        visits(&mut server, session(role, PC1));
    }
    server.change(1, |rows| rows.licenses[0].seats = Some(1));
    assert_eq!(denied(&mut server, session(5, PC1)), full(3, 1));
    // Nobody who comes back is denied.
    server.enters(session(2, PC1));
}

#[test]
fn what_lingers_makes_room_and_first_where_most_does() {
    // Room for two seats, and twice for each of four sessions.
    let mut server = Server::new(Capacity {
        sessions: 4,
        max_seats: 2,
        ..ROOM
    });
    let web = |product| License {
        claimed_at: ClaimedAt::Checkout,
        linger: LINGER,
        ..license(product, None)
    };
    server.change(1, |rows| rows.licenses = vec![web("web"), web("app")]);
    let at = server.enters(session(2, PC1));
    server.checks_out(at, "app", "ann");
    server.check_in(at, "app", "ann");
    for n in 0..9 {
        let user = n.to_string();
        server.checks_out(at, "web", &user);
        server.check_in(at, "web", &user);
    }
    assert_eq!((server.in_use("app"), server.in_use("web")), (1, 9));
    // One more, and it is the product with most that makes room.
    server.checks_out(at, "web", "zoe");
    assert_eq!((server.in_use("app"), server.in_use("web")), (1, 1));
}

#[test]
fn who_waits_gets_the_seat_that_lingered_and_had_to_make_room() {
    let mut server = Server::new(Capacity {
        sessions: 4,
        max_seats: 2,
        ..ROOM
    });
    let web = |product, seats| License {
        claimed_at: ClaimedAt::Checkout,
        linger: LINGER,
        ..license(product, seats)
    };
    server.change(1, |rows| {
        rows.licenses = vec![license("crm", None), web("web", 9), web("app", 9)];
    });
    let [at, other] = [2, 3].map(|role| server.enters(session(role, PC1)));
    for n in 0..8 {
        let user = n.to_string();
        server.checks_out(at, "web", &user);
        server.check_in(at, "web", &user);
    }
    server.change(1, |rows| rows.licenses[1].seats = Some(8));
    let ticket = server.waits(other, "web", want("zoe"));
    assert_eq!(server.collect(ticket), None);
    server.checks_out(at, "app", "ann");
    assert!(server.collect(ticket).is_some());
    assert_eq!((server.in_use("app"), server.in_use("web")), (1, 1));
}

#[test]
fn whoever_holds_a_seat_has_one_however_many_linger() {
    // Room for two seats, and twice for each of four sessions.
    let mut server = Server::new(Capacity {
        sessions: 4,
        max_seats: 8,
        ..ROOM
    });
    server.change(1, |rows| {
        rows.licenses = vec![
            lingering(None),
            License {
                claimed_at: ClaimedAt::Checkout,
                counted_by: CountedBy::Host,
                ..license("web", None)
            },
        ];
    });
    server.load(1);
    let at = server.enters(session(2, PC1));
    // All at one seat, for now.
    for user in 1..=8 {
        server.leases(at, "web", lease(user, "", PC1));
        server.commit_lease(id(user));
    }
    server.log_out(at);
    for role in 3..9 {
        visits(&mut server, session(role, PC1));
    }
    assert_eq!((server.in_use("tom"), server.in_use("web")), (7, 1));
    let ats: Vec<Slot> = (12..16)
        .map(|role| server.enters(superuser(role, PC1)))
        .collect();
    server.exempt_superusers = false;
    server.change(1, |rows| {
        rows.licenses[1].counted_by = CountedBy::Session;
    });
    server.load(1);
    assert_eq!((server.in_use("web"), left(&mut server)), (8, 0));
    assert_eq!(server.in_use("tom"), 4);
    for at in ats {
        server.log_out(at);
    }
    for user in 1..=8 {
        server.drop_lease(id(user));
    }
    server.now += LINGER;
    server.end_due_leases();
    server.assert_empty();
}

#[test]
fn another_rule_of_counting_knows_no_former_identities() {
    let mut server = Server::with_license(lingering(1));
    visits(&mut server, session(2, PC1));
    server.change(1, |rows| rows.licenses[0].counted_by = CountedBy::User);
    server.load(1);
    server.assert_empty();
    visits(&mut server, session(2, PC1));
    // The same rule again: the same identity.
    server.change(1, |rows| rows.licenses[0].seats = Some(7));
    server.load(1);
    assert_eq!((server.in_use("tom"), left(&mut server)), (1, 1));
    server.enters(session(2, PC2));
    assert_eq!((server.in_use("tom"), left(&mut server)), (1, 0));
}

fn pooled(counted_by: CountedBy, linger: Timestamp) -> License {
    License {
        pool: name("group"),
        counted_by,
        linger,
        ..license("tom", 1)
    }
}

fn pool(licenses: [License; 2]) -> Server {
    let mut server = Server::new(ROOM);
    for (database, license) in (1..).zip(licenses) {
        server.change(database, |rows| rows.licenses = vec![license]);
        server.load(database);
    }
    server
}

#[test]
fn a_seat_of_a_pool_lingers_as_the_database_says_that_was_left_last() {
    for (first, last, lingers) in [(1, 2, false), (2, 1, true)] {
        let mut server = pool([
            pooled(CountedBy::UserHost, LINGER),
            pooled(CountedBy::UserHost, 0),
        ]);
        let there = server.enters(of_database(session(2, PC1), last));
        let here = server.enters(of_database(session(2, PC1), first));
        server.log_out(here);
        server.log_out(there);
        assert_eq!(server.in_use("tom"), i64::from(lingers));
        if lingers {
            // And is kept for its identity in all of them.
            assert_eq!(
                denied(&mut server, of_database(session(3, PC1), 2)),
                full(1, 1)
            );
            server.enters(of_database(session(2, PC1), 2));
        }
    }
}

#[test]
fn a_seat_of_a_pool_lingers_on_while_any_database_lets_it() {
    let mut server = pool([
        pooled(CountedBy::UserHost, LINGER),
        pooled(CountedBy::UserHost, MINUTE),
    ]);
    visits(&mut server, session(2, PC1));
    server.change(2, |rows| rows.licenses[0].linger = 0);
    server.load(2);
    assert_eq!(server.in_use("tom"), 1);
    server.change(1, |rows| rows.licenses.clear());
    server.load(1);
    server.assert_empty();
}

#[test]
fn where_every_session_counts_nobody_comes_back_to_a_seat() {
    let mut server = Server::with_license(License {
        counted_by: CountedBy::Session,
        ..lingering(2)
    });
    visits(&mut server, session(2, PC1));
    visits(&mut server, session(2, PC1));
    assert_eq!(denied(&mut server, session(2, PC1)), full(2, 2));
    server.now += LINGER;
    enters_in_time(&mut server, session(2, PC1));
}

#[test]
fn a_call_of_who_left_a_seat_joins_it() {
    let mut server = Server::with_license(web(1));
    let [ann, again, other] =
        [(2, PC1), (2, PC1), (3, PC1)].map(|(role, host)| server.enters(session(role, host)));
    server.checks_out(ann, "tom", "");
    server.log_out(ann);
    assert!(matches!(
        server.claim(other, "tom", want(""), false),
        Claimed::Denied(_)
    ));
    server.checks_out(again, "tom", "");
    assert!(server.may_use(again, "tom"));
}

/// What may happen to seats that linger.
#[derive(Clone, Debug)]
enum Step {
    Login(u32),
    Logout(Index),
    /// A lease for one of two users.
    Lease(u32),
    /// Of one of those whose transactions go on.
    EndTransaction(Index, bool),
    Release(Index),
    Pass(Timestamp),
    EndDue,
    Linger(Timestamp),
    Seats(i32),
    Rule(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (2..6u32).prop_map(Step::Login),
        5 => any::<Index>().prop_map(Step::Logout),
        3 => (0..2u32).prop_map(Step::Lease),
        3 => (any::<Index>(), any::<bool>()).prop_map(|(i, c)| Step::EndTransaction(i, c)),
        2 => any::<Index>().prop_map(Step::Release),
        6 => (0..12i64).prop_map(Step::Pass),
        2 => Just(Step::EndDue),
        2 => select(vec![0, 3, 10]).prop_map(Step::Linger),
        1 => (0..5i32).prop_map(Step::Seats),
        1 => any::<bool>().prop_map(Step::Rule),
    ]
}

/// The promise by brute force: who holds a seat how often, and until when it is kept after the last
/// leave. Roles 2 to 5 are users, 10 and 11 those of leases.
struct Kept {
    server: Server,
    application: Slot,
    sessions: Vec<(Slot, u32)>,
    pending: Vec<(u8, u32)>,
    committed: Vec<(u8, u32)>,
    last_lease: u8,
    holders: BTreeMap<u32, u32>,
    until: BTreeMap<u32, Timestamp>,
    license: License,
}

impl Kept {
    fn new() -> Kept {
        let license = License {
            seats: Some(2),
            ..lingering(2)
        };
        let mut server = Server::new(Capacity {
            events: 10_000,
            ..ROOM
        });
        server.change(1, |rows| {
            rows.licenses = vec![license];
            rows.leases_of = 7;
        });
        let application = server.enters(superuser(1, PC2));
        Kept {
            server,
            application,
            sessions: vec![],
            pending: vec![],
            committed: vec![],
            last_lease: 0,
            holders: BTreeMap::new(),
            until: BTreeMap::new(),
            license,
        }
    }

    fn in_use(&self) -> usize {
        let lingers = |user: &&u32| !self.holders.contains_key(user);
        self.holders.len() + self.until.keys().filter(lingers).count()
    }

    fn end_lingering(&mut self) {
        let mut users: Vec<u32> = self.until.keys().copied().collect();
        users.retain(|user| !self.holders.contains_key(user));
        for user in users {
            self.end_lingering_of(user);
        }
    }

    /// Ends lingering seats by what the license says now.
    fn end_lingering_of(&mut self, user: u32) {
        let (now, longest) = (self.server.now, self.server.now + self.license.linger);
        self.until.retain(|of, until| {
            if *of == user {
                *until = longest.min(*until);
            }
            *of != user || *until > now
        });
    }

    fn end_due(&mut self) {
        self.server.end_due_leases();
        self.end_lingering();
    }

    fn may_have(&mut self, user: u32) -> bool {
        let knows =
            |kept: &Kept| kept.holders.contains_key(&user) || kept.until.contains_key(&user);
        let free = |kept: &Kept| kept.in_use() < kept.license.seats.unwrap_or(0) as usize;
        if !knows(self) && !free(self) {
            // Nobody is denied for what is over.
            self.end_lingering();
        }
        let may = knows(self) || free(self);
        if may {
            *self.holders.entry(user).or_default() += 1;
        }
        may
    }

    fn leaves(&mut self, user: u32, kept: bool) {
        let holders = self.holders.get_mut(&user).unwrap();
        *holders -= 1;
        let free = *holders == 0;
        if kept {
            let until = self.server.now + self.license.linger;
            self.until.insert(user, until);
        }
        if free {
            self.holders.remove(&user);
            self.end_lingering_of(user);
        }
    }

    fn change(&mut self) {
        let license = self.license;
        self.server.change(1, |rows| rows.licenses = vec![license]);
        self.server.load(1);
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Login(role) => {
                let mut login = self.server.log_in(session(*role, PC1));
                if login.1 == Answer::TimesUp {
                    self.end_due();
                    login = self.server.log_in(session(*role, PC1));
                }
                let admitted = matches!(login.1, Answer::Admitted(_));
                assert_eq!(admitted, self.may_have(*role), "{step:?}");
                if admitted {
                    self.sessions.push((login.0, *role));
                }
            }
            Step::Logout(index) if !self.sessions.is_empty() => {
                let at = index.index(self.sessions.len());
                let (place, role) = self.sessions.swap_remove(at);
                self.server.log_out(place);
                self.leaves(role, true);
            }
            Step::Lease(user) => {
                self.last_lease += 1;
                let wanted = lease(self.last_lease, ["ann", "bob"][*user as usize], PC2);
                let wanted = SeatRequest {
                    lease: wanted.lease.map(|lease| NewLease {
                        ttl: 1_000_000 * MINUTE,
                        ..lease
                    }),
                    ..wanted
                };
                let mut claim = || self.server.claim(self.application, "tom", wanted, false);
                let mut claimed = claim();
                if claimed == Claimed::TimesUp {
                    self.end_due();
                    claimed = self.server.claim(self.application, "tom", wanted, false);
                }
                let held = matches!(claimed, Claimed::Held(_));
                assert_eq!(held, self.may_have(10 + user), "{step:?}");
                if held {
                    self.pending.push((self.last_lease, 10 + user));
                }
            }
            Step::EndTransaction(index, commits) if !self.pending.is_empty() => {
                let at = index.index(self.pending.len());
                let (number, user) = self.pending.swap_remove(at);
                if *commits {
                    self.server.commit_lease(id(number));
                    self.committed.push((number, user));
                } else {
                    self.server.drop_lease(id(number));
                    self.leaves(user, false);
                }
            }
            Step::Release(index) if !self.committed.is_empty() => {
                let at = index.index(self.committed.len());
                let (number, user) = self.committed.swap_remove(at);
                self.server.drop_lease(id(number));
                self.leaves(user, true);
            }
            Step::Pass(minutes) => self.server.now += minutes * MINUTE,
            Step::EndDue => self.end_due(),
            Step::Linger(minutes) => {
                self.license.linger = minutes * MINUTE;
                self.change();
                self.end_lingering();
            }
            Step::Seats(seats) => {
                self.license.seats = Some(*seats);
                self.change();
                self.end_lingering();
            }
            Step::Rule(by_user) => {
                let rule = match by_user {
                    true => CountedBy::User,
                    false => CountedBy::UserHost,
                };
                if std::mem::replace(&mut self.license.counted_by, rule) != rule {
                    self.until.clear();
                }
                self.change();
                self.end_lingering();
            }
            _ => {}
        }
        assert_eq!(self.server.in_use("tom"), self.in_use() as i64, "{step:?}");
        let lingering = self.in_use() - self.holders.len();
        assert_eq!(left(&mut self.server), lingering as i64, "{step:?}");
        // Whoever should look in time is told when.
        let ends = self
            .until
            .iter()
            .filter(|(user, _)| !self.holders.contains_key(user));
        let first = ends.map(|(_, until)| *until).min();
        assert!(first.is_none_or(|first| self.server.ledger.head.next_due <= first));
    }
}

proptest! {
    #![proptest_config(Config {
        cases: 400,
        failure_persistence: None,
        ..Config::default()
    })]

    #[test]
    fn seats_are_kept_as_long_as_promised_whatever_happens(steps in vec(step(), 1..80)) {
        let mut kept = Kept::new();
        for step in &steps {
            kept.step(step);
        }
    }
}
