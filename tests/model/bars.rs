//! Whom a bar binds: whatever workstation or user a client calls itself, in the whole pool.

use super::ending::{
    HOUR, barred, begins, is_barred, leaves, module, pc, seat_at, seat_named, stop_of, stops,
};
use super::server::{
    MINUTE, ROOM, Server, exempt_role, id, lease, license, name, of_database, session, superuser,
    want, with_workstation,
};
use crate::core::ledger::acts::admission::Answer;
use crate::core::ledger::acts::bars::{BarRequest, Unbarrable};
use crate::core::ledger::acts::checkout::SeatRequest;
use crate::core::ledger::acts::ending::Stopping;
use crate::core::ledger::bar::{Bar, BarBy, StoredBar};
use crate::core::ledger::denial::Remark;
use crate::core::ledger::event::Leaving;
use crate::core::ledger::identity::Host;
use crate::core::ledger::license::License;
use crate::core::ledger::map::Capacity;
use crate::core::ledger::numbers::{DatabaseOid, RoleOid, Slot};
use crate::core::ledger::seat::Seat;
use crate::core::ledger::table::Table;
use crate::core::ledger::time::Timestamp;
use crate::core::ledger::words::{CountedBy, Enforcement};

fn unstored(server: &mut Server, database: u32) -> Vec<Bar> {
    let mut bars = vec![];
    server
        .ledger
        .with(|l| l.each_unstored_bar(DatabaseOid(database), |bar| bars.push(*bar)));
    bars.sort_by_key(|bar| bar.id);
    bars
}

/// Does what a database worker does, and then whoever reads the tables again.
pub fn store_bars(server: &mut Server) {
    let bars = unstored(server, 1);
    let product = |server: &mut Server, tally| {
        server
            .ledger
            .with(|l| l.tallies.get(&tally).unwrap().product())
    };
    let lifted: Vec<i64> = bars
        .iter()
        .filter(|bar| bar.lifted)
        .map(|bar| bar.id)
        .collect();
    let rows: Vec<StoredBar> = bars
        .iter()
        .filter(|bar| !bar.lifted)
        .map(|bar| StoredBar {
            id: bar.id,
            product: product(server, bar.tally()),
            whom: bar.whom,
            since: bar.since,
            until: bar.until,
            barred_by: bar.barred_by,
            reason: bar.reason,
        })
        .collect();
    server.change(1, |held| {
        held.bars.extend(rows);
        held.bars.retain(|row| !lifted.contains(&row.id));
    });
    let ids: Vec<i64> = bars.iter().map(|bar| bar.id).collect();
    server
        .ledger
        .with(|l| l.bars_stored(DatabaseOid(1), &ids, &lifted));
    assert!(server.ledger.with(|l| l.bars_are_stored(DatabaseOid(1))));
    server.load(1);
}

/// Begins to stop a seat as an administrator, and bars by this.
fn stops_by(server: &mut Server, seat: &Seat, by: BarBy) -> Stopping {
    let mut stop = stop_of(server, seat, HOUR);
    stop.bar = stop.bar.map(|wish| BarRequest { by, ..wish });
    begins(server, &stop)
}

/// Whatever the license counts by, and whatever workstations there are.
#[test]
fn each_word_bars_whom_it_names() {
    for counted_by in [
        CountedBy::UserHost,
        CountedBy::User,
        CountedBy::Host,
        CountedBy::Session,
        CountedBy::UserWorkstation,
    ] {
        // The same, elsewhere, another at that computer, another elsewhere.
        for (by, expected) in [
            (BarBy::UserHost, [true, false, false, false]),
            (BarBy::User, [true, true, false, false]),
            (BarBy::Host, [true, false, true, false]),
        ] {
            let mut server = Server::with_license(License {
                counted_by,
                ..license("crm", 9)
            });
            let at = server.enters(with_workstation(session(2, &pc(1)), "PC-1"));
            let seat = seat_at(&mut server, at);
            let until = server.now + HOUR;
            stops_by(&mut server, &seat, by);
            leaves(&mut server, at, Leaving::Termination);
            for read_again in [false, true] {
                if read_again {
                    store_bars(&mut server);
                }
                let others = [(2, 1), (2, 2), (4, 1), (4, 2)];
                for ((role, n), expected) in others.into_iter().zip(expected) {
                    for workstation in ["", "PC-1", "PC-2"] {
                        let other = with_workstation(session(role, &pc(n)), workstation);
                        let (place, answer) = server.log_in(other);
                        let told = barred(answer);
                        assert_eq!(
                            told,
                            expected.then_some(Some(until)),
                            "{counted_by:?} {by:?}"
                        );
                        if !expected {
                            server.log_out(place);
                        }
                    }
                }
            }
            server.now = until - 1;
            assert!(barred(server.log_in(session(2, &pc(1))).1).is_some());
            server.now = until;
            server.enters(session(2, &pc(1)));
        }
    }
}

/// A seat that several hold: one row for each, and each once.
#[test]
fn every_holder_of_a_seat_is_barred() {
    let mut server = Server::with_license(License {
        counted_by: CountedBy::Host,
        ..license("crm", 9)
    });
    let at: Vec<Slot> = [2, 3, 4, 5, 2]
        .map(|role| server.enters(session(role, &pc(1))))
        .to_vec();
    let seat = seat_at(&mut server, at[0]);
    assert!(matches!(
        stops(&mut server, &seat, HOUR),
        Stopping::Begun(_)
    ));
    let roles: Vec<u32> = unstored(&mut server, 1)
        .iter()
        .map(|bar| bar.whom.role.0)
        .collect();
    assert_eq!(roles, [2, 3, 4, 5]);
    for at in at {
        leaves(&mut server, at, Leaving::Termination);
    }
    for role in [2, 3, 4, 5] {
        assert!(barred(server.log_in(session(role, &pc(1))).1).is_some());
        server.enters(session(role, &pc(2)));
    }
    server.enters(session(6, &pc(1)));
}

#[test]
fn nobody_bars_the_servers_own_computer() {
    let mut server = Server::with_license(license("crm", 9));
    let at = server.enters(session(2, "local"));
    let seat = seat_at(&mut server, at);
    let refused = stops_by(&mut server, &seat, BarBy::Host);
    assert_eq!(refused, Stopping::Unbarrable(Unbarrable::Local));
    assert!(unstored(&mut server, 1).is_empty());
    assert!(matches!(
        stops_by(&mut server, &seat, BarBy::User),
        Stopping::Begun(_)
    ));
}

#[test]
fn superusers_and_exempt_sessions_are_not_barred() {
    let mut server = Server::with_license(license("crm", 9));
    server.exempt_superusers = false;
    let boss = server.enters(superuser(1, &pc(1)));
    let seat = seat_at(&mut server, boss);
    stops(&mut server, &seat, HOUR);
    assert!(unstored(&mut server, 1).is_empty());
    let (_, answer) = server.log_in(superuser(1, &pc(1)));
    assert_eq!(answer, Answer::Admitted(Remark::None));
    let at = server.enters(session(3, &pc(2)));
    let seat = seat_at(&mut server, at);
    stops(&mut server, &seat, HOUR);
    leaves(&mut server, at, Leaving::Termination);
    server.enforcement = Enforcement::Off;
    assert!(barred(server.log_in(session(3, &pc(2))).1).is_some());
    store_bars(&mut server);
    server.change(1, |rows| rows.exemptions.push(exempt_role("batch")));
    server.enters(session(3, &pc(2)));
}

/// Returns a lease at a host that is no address.
fn named(number: u8, user: &str, host: &str) -> SeatRequest {
    let mut wanted = lease(number, user, "local");
    let lease = wanted.lease.as_mut().unwrap();
    (lease.host, lease.host_name) = (Host::named(host), name(host));
    wanted
}

/// Of a host's name nothing is left but its digest.
#[test]
fn who_left_a_seat_at_a_named_host_is_not_known_whole() {
    let mut server = Server::with_license(License {
        linger: HOUR,
        ..module(9)
    });
    let at = server.enters(superuser(1, "local"));
    let receipt = server.leases(at, "payroll", named(1, "ann", "pc-7"));
    let seat = seat_named(&mut server, receipt.seat);
    server.commit_lease(id(1));
    server.drop_lease(id(1));
    assert_eq!(server.in_use("payroll"), 1);
    let refused = stops(&mut server, &seat, HOUR);
    assert_eq!(refused, Stopping::Unbarrable(Unbarrable::Unknown));
    assert_eq!(server.in_use("payroll"), 1);
    assert_eq!(stops_by(&mut server, &seat, BarBy::User), Stopping::Gone);
    let again = server.claim(at, "payroll", named(2, "ann", "pc-8"), true);
    assert!(is_barred(again), "{again:?}");
    server.leases(at, "payroll", named(3, "bob", "pc-7"));
}

/// Whoever asks; and no user of the application is a role.
#[test]
fn leases_are_barred_by_user_and_host() {
    // The same, elsewhere, another there.
    for (by, expected) in [
        (BarBy::UserHost, [true, false, false]),
        (BarBy::User, [true, true, false]),
        (BarBy::Host, [true, false, true]),
    ] {
        for user in ["ann".to_owned(), "a".repeat(300)] {
            let mut server = Server::with_license(module(9));
            let at = server.enters(session(2, &pc(1)));
            let other = server.enters(session(3, &pc(1)));
            let receipt = server.leases(at, "payroll", named(1, &user, "pc-7"));
            let seat = seat_named(&mut server, receipt.seat);
            stops_by(&mut server, &seat, by);
            let now = server.now;
            server
                .ledger
                .with(|l| l.end_leases(&[id(1)], Leaving::Termination, Timestamp::MAX, now));
            let bar = unstored(&mut server, 1)[0];
            let is = (
                bar.whom.role,
                bar.whom.client_user.as_str(),
                bar.whom.client_host(),
            );
            let host = (by != BarBy::User).then(|| "pc-7".to_owned());
            assert_eq!(
                is,
                (
                    RoleOid::NONE,
                    if by == BarBy::Host { "" } else { &*user },
                    host
                )
            );
            for read_again in [false, true] {
                if read_again {
                    store_bars(&mut server);
                }
                let wanted = [(&*user, "pc-7"), (&*user, "pc-8"), ("bob", "pc-7")];
                for (n, ((user, host), expected)) in (2..).zip(wanted.into_iter().zip(expected)) {
                    for at in [at, other] {
                        let claimed = server.claim(at, "payroll", named(n, user, host), true);
                        assert_eq!(is_barred(claimed), expected, "{by:?} {user} {host}");
                        if !expected {
                            server.drop_lease(id(n));
                        }
                    }
                }
                server.checks_out(at, "payroll", "");
                server.check_in(at, "payroll", "");
            }
        }
    }
}

#[test]
fn rows_lift_bars_and_what_is_no_row_yet_stays() {
    let mut server = Server::with_license(license("crm", 9));
    let at = [1, 2].map(|n| server.enters(session(2, &pc(n))));
    let seats = at.map(|at| seat_at(&mut server, at));
    stops(&mut server, &seats[0], HOUR);
    store_bars(&mut server);
    stops(&mut server, &seats[1], HOUR);
    for at in at {
        leaves(&mut server, at, Leaving::Termination);
    }
    server.change(1, |rows| rows.bars.clear());
    server.enters(session(2, &pc(1)));
    assert!(barred(server.log_in(session(2, &pc(2))).1).is_some());
    store_bars(&mut server);
    // What is no longer licensed bars nobody, and does again when it is.
    server.change(1, |rows| rows.licenses[0].product = name("other"));
    server.enters(session(2, &pc(2)));
    server.change(1, |rows| rows.licenses[0].product = name("crm"));
    assert!(barred(server.log_in(session(2, &pc(2))).1).is_some());
    // Another database's are its own.
    server.change(2, |rows| rows.licenses = vec![license("crm", 9)]);
    server.enters(of_database(session(2, &pc(2)), 2));
    let now = server.now;
    server.ledger.with(|l| l.forget(DatabaseOid(1), now));
    assert_eq!(server.ledger.with(|l| l.bars.len()), 0);
}

/// From any database of the pool, before it is a row and after; and others stay barred.
#[test]
fn a_bar_that_is_lifted_is_gone_at_once_and_wakes_those_in_the_queue() {
    for is_row in [false, true] {
        let mut server = Server::with_license(License {
            counted_by: CountedBy::Session,
            ..module(1)
        });
        let at = [1, 2, 3].map(|n| server.enters(session(2, &pc(n))));
        for n in [0, 1] {
            let seat = server.checks_out(at[n], "payroll", "").seat;
            let seat = seat_named(&mut server, seat);
            stops(&mut server, &seat, HOUR);
            server.check_in(at[n], "payroll", "");
        }
        if is_row {
            store_bars(&mut server);
        }
        let mut bars = vec![];
        let now = server.now;
        server
            .ledger
            .with(|l| l.each_bar(|_| true, now, |bar| bars.push(*bar)));
        bars.sort_by_key(|bar| bar.id);
        let [first, second] = [0, 1].map(|n: usize| bars[n].id);
        assert!(first < second);
        let lift = |server: &mut Server, id, wanted: bool| {
            server.ledger.with(|l| l.lift_bar(id, |_| wanted, now))
        };
        assert_eq!(lift(&mut server, first, false), 0);
        assert_eq!(lift(&mut server, second + 1, true), 0);
        assert!(is_barred(server.claim(at[0], "payroll", want(""), true)));
        assert_eq!(lift(&mut server, first, true), 1);
        assert_eq!(lift(&mut server, first, true), 0);
        // Whoever reads the rules before its row is deleted does not bring it back.
        server.change(1, |_| ());
        server.load(1);
        server.checks_out(at[0], "payroll", "");
        assert!(is_barred(server.claim(at[1], "payroll", want(""), true)));
        assert!(!server.ledger.with(|l| l.is_bar_gone(first)));
        store_bars(&mut server);
        assert!(server.ledger.with(|l| l.is_bar_gone(first)));
        assert_eq!(server.tables[&1].bars.len(), 1);
        assert!(is_barred(server.claim(at[1], "payroll", want(""), true)));
    }
}

/// Several bars of one: each is lifted by itself, and the longest holds.
#[test]
fn of_bars_of_one_user_the_longest_holds() {
    let mut server = Server::with_license(License {
        counted_by: CountedBy::UserWorkstation,
        ..license("crm", 9)
    });
    let at = ["A", "B"].map(|w| server.enters(with_workstation(session(2, &pc(1)), w)));
    for (at, time) in at.into_iter().zip([HOUR, MINUTE]) {
        let seat = seat_at(&mut server, at);
        stops(&mut server, &seat, time);
    }
    for at in at {
        leaves(&mut server, at, Leaving::Termination);
    }
    store_bars(&mut server);
    let until = server.now + HOUR;
    let is = |server: &mut Server| barred(server.log_in(session(2, &pc(1))).1);
    assert_eq!(is(&mut server), Some(Some(until)));
    let first = server.tables[&1].bars[0].id;
    let now = server.now;
    assert_eq!(server.ledger.with(|l| l.lift_bar(first, |_| true, now)), 1);
    assert_eq!(is(&mut server), Some(Some(server.now + MINUTE)));
    server.now += MINUTE;
    server.enters(session(2, &pc(1)));
}

#[test]
fn a_pool_bars_in_every_database() {
    let pooled = || License {
        pool: name("firm"),
        ..license("crm", 9)
    };
    let mut server = Server::new(ROOM);
    for database in [1, 2] {
        server.change(database, |rows| rows.licenses.push(pooled()));
        server.load(database);
    }
    let at = server.enters(session(2, &pc(1)));
    let there = server.enters(of_database(session(2, &pc(1)), 2));
    let seat = seat_at(&mut server, at);
    stops(&mut server, &seat, HOUR);
    for read_again in [false, true] {
        if read_again {
            store_bars(&mut server);
        }
        let (_, answer) = server.log_in(of_database(session(2, &pc(1)), 2));
        assert!(barred(answer).is_some());
    }
    leaves(&mut server, at, Leaving::Termination);
    assert_eq!(server.in_use("crm"), 1);
    leaves(&mut server, there, Leaving::Termination);
    assert_eq!(server.in_use("crm"), 0);
}

#[test]
fn where_nobody_more_can_be_barred_nothing_is_stopped() {
    let mut server = Server::new(Capacity { rules: 3, ..ROOM });
    server.change(1, |rows| rows.licenses = vec![license("crm", 9)]);
    let at = [1, 2, 3].map(|n| server.enters(session(2, &pc(n))));
    let seats = at.map(|at| seat_at(&mut server, at));
    for seat in &seats[..2] {
        assert!(matches!(
            stops(&mut server, seat, MINUTE),
            Stopping::Begun(_)
        ));
    }
    let refused = stops(&mut server, &seats[2], HOUR);
    assert_eq!(refused, Stopping::Unbarrable(Unbarrable::NoRoom));
    server.enters(session(2, &pc(3)));
    // There is room again when the others' time is over.
    server.now += MINUTE;
    assert!(matches!(
        stops(&mut server, &seats[2], HOUR),
        Stopping::Begun(_)
    ));
}

/// What can't be written is news once, and no longer tried when it is over.
#[test]
fn of_a_bar_that_cannot_be_stored_is_complained_once() {
    let mut server = Server::with_license(license("crm", 9));
    let mut ids = vec![];
    for n in [1, 2] {
        let at = server.enters(session(2, &pc(n)));
        let seat = seat_at(&mut server, at);
        stops(&mut server, &seat, MINUTE);
        leaves(&mut server, at, Leaving::Termination);
        ids = unstored(&mut server, 1).iter().map(|bar| bar.id).collect();
        assert_eq!(ids.len(), n);
        for news in [true, false] {
            let told = server
                .ledger
                .with(|l| l.could_not_store_bars(DatabaseOid(1), &ids));
            assert_eq!(told, news);
        }
    }
    server.now += MINUTE;
    let now = server.now;
    server.ledger.with(|l| l.end_bars(now));
    assert!(server.ledger.with(|l| l.bars_are_stored(DatabaseOid(1))));
    let told = server
        .ledger
        .with(|l| l.could_not_store_bars(DatabaseOid(1), &ids));
    assert!(!told);
}
