//! Waiting in the queue for a seat.

use super::server::{
    MINUTE, ROOM, Server, TTL, exempt_role, held, id, lease, license, name, of_database, session,
    superuser, want,
};
use crate::core::ledger::acts::admission::Answer;
use crate::core::ledger::acts::checkout::Claimed;
use crate::core::ledger::acts::leases::MayUse;
use crate::core::ledger::acts::publish::Published;
use crate::core::ledger::denial::{Cause, Denial, Remark};
use crate::core::ledger::license::License;
use crate::core::ledger::map::Capacity;
use crate::core::ledger::numbers::{SessionNumber, Slot, Ticket};
use crate::core::ledger::table::Table;
use crate::core::ledger::time::Timestamp;
use crate::core::ledger::words::{ClaimedAt, Enforcement};

fn pc(n: usize) -> String {
    format!("10.0.0.{n}")
}

fn module(seats: i32) -> License {
    License {
        claimed_at: ClaimedAt::Checkout,
        ..license("payroll", seats)
    }
}

/// Returns a server with this license, and so many sessions from as many computers.
fn server<const N: usize>(license: License) -> (Server, [Slot; N]) {
    let mut server = Server::with_license(license);
    let places = std::array::from_fn(|n| server.enters(session(2, &pc(n))));
    (server, places)
}

fn waits(server: &mut Server, at: Slot) -> Ticket {
    server.waits(at, "payroll", want(""))
}

fn waiting(server: &mut Server) -> u32 {
    server.tally("payroll").waiting
}

#[test]
fn a_free_seat_goes_to_the_first_in_the_queue() {
    let (mut server, at) = server::<4>(module(1));
    server.checks_out(at[0], "payroll", "");
    // Not by place, nor by ticket's hash.
    let tickets = [3, 1, 2].map(|n| (n, waits(&mut server, at[n])));
    assert_eq!(waiting(&mut server), 3);
    let mut holder = 0;
    for (left, (n, ticket)) in [2, 1, 0].into_iter().zip(tickets) {
        assert_eq!(server.collect(ticket), None);
        assert!(server.check_in(at[holder], "payroll", ""));
        assert_eq!(server.woken(), [at[n]]);
        assert_eq!((server.in_use("payroll"), waiting(&mut server)), (1, left));
        let receipt = server.collect(ticket).unwrap();
        assert!(receipt.seat.is_some());
        assert_eq!((receipt.in_use, receipt.remark), (1, Remark::None));
        assert_eq!(server.ledger.sessions[at[n].0].ticket, Ticket::NONE);
        holder = n;
    }
    server.log_out(at[holder]);
    server.assert_empty();
}

#[test]
fn nobody_overtakes_by_trying_at_the_right_moment() {
    let (mut server, at) = server::<3>(module(1));
    server.checks_out(at[0], "payroll", "");
    let ticket = waits(&mut server, at[1]);
    assert!(server.check_in(at[0], "payroll", ""));
    // Called, though it has not looked yet.
    assert!(matches!(
        server.claim(at[2], "payroll", want(""), false),
        Claimed::Denied(_)
    ));
    assert!(server.collect(ticket).is_some());
}

#[test]
fn a_login_does_not_overtake_either() {
    let (mut server, at) = server::<1>(license("crm", 2));
    server.checks_out(at[0], "crm", "ann");
    let ticket = server.waits(at[0], "crm", want("bob"));
    assert!(matches!(
        server.log_in(session(4, &pc(9))).1,
        Answer::Denied(_)
    ));
    server.change(1, |rows| rows.licenses[0].seats = Some(3));
    assert!(matches!(
        server.log_in(session(4, &pc(9))).1,
        Answer::Denied(_)
    ));
    assert!(server.collect(ticket).is_some());
}

#[test]
fn every_way_of_freeing_a_seat_calls_the_next() {
    type Free = fn(&mut Server, Slot);
    let ways: [(&str, Free); 5] = [
        ("checkin", |server, at| {
            assert!(server.check_in(at, "payroll", ""));
        }),
        ("discard", |server, at| server.check_in_all(at)),
        ("end of the session", |server, at| server.log_out(at)),
        ("more seats", |server, _| {
            server.change(1, |rows| rows.licenses[0].seats = Some(2));
            server.load(1);
        }),
        ("unlimited", |server, _| {
            server.change(1, |rows| rows.licenses[0].seats = None);
            server.load(1);
        }),
    ];
    for (way, free) in ways {
        let (mut server, at) = server::<3>(module(1));
        server.checks_out(at[0], "payroll", "");
        let ticket = waits(&mut server, at[1]);
        free(&mut server, at[0]);
        assert!(server.woken().contains(&at[1]), "{way}");
        assert!(server.collect(ticket).is_some(), "{way}");
    }
    // And those of a lease.
    let ways: [(&str, Free); 3] = [
        ("rollback", |server, _| server.drop_lease(id(1))),
        ("release", |server, _| {
            server.commit_lease(id(1));
            server.drop_lease(id(1));
        }),
        ("expiry", |server, _| {
            server.commit_lease(id(1));
            server.now += TTL;
            assert_eq!(server.end_due_leases(), [id(1)]);
        }),
    ];
    for (way, free) in ways {
        let (mut server, at) = server::<3>(module(1));
        server.leases(at[0], "payroll", lease(1, "ann", &pc(9)));
        let ticket = waits(&mut server, at[1]);
        free(&mut server, at[0]);
        assert_eq!(server.woken(), [at[1]], "{way}");
        assert!(server.collect(ticket).is_some(), "{way}");
    }
}

#[test]
fn who_works_under_an_identity_that_gets_a_seat_joins_it_out_of_turn() {
    let (mut server, at) = server::<4>(module(1));
    let again = server.enters(session(2, &pc(2)));
    server.checks_out(at[0], "payroll", "");
    let first = waits(&mut server, at[1]);
    let second = waits(&mut server, at[2]);
    let seconds_other = waits(&mut server, again);
    server.leave(first);
    assert_eq!(server.collect(second), None);
    server.log_out(at[0]);
    let seats = [second, seconds_other].map(|ticket| server.collect(ticket).unwrap().seat);
    assert_eq!(seats[0], seats[1]);
    assert_eq!(server.in_use("payroll"), 1);
}

#[test]
fn a_seat_that_somebody_takes_beyond_the_limit_is_shared_with_its_identity_in_the_queue() {
    // A superuser that counts is never denied, and its other session in the queue joins it.
    let (mut server, at) = server::<2>(module(1));
    server.exempt_superusers = false;
    let waiter = server.enters(session(1, &pc(7)));
    let twin = server.enters(superuser(1, &pc(7)));
    server.checks_out(at[0], "payroll", "");
    let ticket = waits(&mut server, waiter);
    server.checks_out(twin, "payroll", "");
    assert!(server.collect(ticket).is_some());
}

#[test]
fn a_login_under_the_identity_of_somebody_in_the_queue_calls_it() {
    let mut server = Server::with_license(license("crm", 1));
    server.exempt_superusers = false;
    server.change(1, |rows| {
        rows.licenses.push(License {
            application_name: crate::core::ledger::identity::Text::new("other").unwrap(),
            ..license("other", 9)
        });
    });
    server.enters(session(2, &pc(1)));
    let other = super::server::with_application(session(1, &pc(2)), "other");
    let waiter = server.enters(other);
    let ticket = server.waits(waiter, "crm", want(""));
    server.enters(superuser(1, &pc(2)));
    assert_eq!(server.woken(), [waiter]);
    assert!(server.collect(ticket).is_some());
    assert_eq!(server.in_use("crm"), 2);
}

#[test]
fn in_a_pool_the_first_whose_own_limit_admits_it_is_called() {
    let pooled = |seats| License {
        pool: name("group"),
        ..module(seats)
    };
    let mut server = Server::new(ROOM);
    for (database, seats) in [(1, 1), (2, 3)] {
        server.change(database, |rows| rows.licenses.push(pooled(seats)));
        server.load(database);
    }
    let at: [Slot; 6] = std::array::from_fn(|n| {
        let database = if n == 3 { 1 } else { 2 };
        server.enters(of_database(session(2, &pc(n)), database))
    });
    for &at in at.iter().take(3) {
        server.checks_out(at, "payroll", "");
    }
    let narrow = waits(&mut server, at[3]);
    let wide = waits(&mut server, at[4]);
    assert!(server.check_in(at[0], "payroll", ""));
    assert_eq!(
        server.collect(narrow),
        None,
        "two are in use, and it may be the first"
    );
    assert!(server.collect(wide).is_some());
    // It does not keep others from a seat that it may not have.
    assert!(server.check_in(at[1], "payroll", ""));
    server.checks_out(at[5], "payroll", "");
    for n in [2, 4, 5] {
        assert_eq!(server.collect(narrow), None);
        server.log_out(at[n]);
    }
    assert!(server.collect(narrow).is_some());
}

#[test]
fn what_a_session_frees_at_once_is_given_away_by_the_order_of_the_queue() {
    let pooled = |seats| License {
        pool: name("group"),
        ..module(seats)
    };
    for discards in [true, false] {
        let mut server = Server::new(ROOM);
        for (database, seats) in [(1, 2), (2, 3)] {
            server.change(database, |rows| rows.licenses.push(pooled(seats)));
            server.load(database);
        }
        let busy = server.enters(of_database(session(2, &pc(1)), 2));
        let narrow = server.enters(session(2, &pc(2)));
        let wide = server.enters(of_database(session(2, &pc(3)), 2));
        for user in ["a", "b", "c"] {
            server.checks_out(busy, "payroll", user);
        }
        let first = waits(&mut server, narrow);
        let second = waits(&mut server, wide);
        if discards {
            server.check_in_all(busy);
        } else {
            server.log_out(busy);
        }
        assert!(server.collect(first).is_some());
        assert!(server.collect(second).is_some());
    }
}

#[test]
fn who_leaves_the_queue_uncalled_leaves_nothing() {
    let (mut server, at) = server::<3>(module(1));
    server.checks_out(at[0], "payroll", "");
    let long = "x".repeat(300);
    let gone = server.waits(at[1], "payroll", want(&long));
    let stays = waits(&mut server, at[2]);
    server.leave(gone);
    server.leave(gone);
    assert_eq!(waiting(&mut server), 1);
    assert_eq!(server.ledger.sessions[at[1].0].ticket, Ticket::NONE);
    assert!(server.waits_in_vain(gone));
    server.log_out(at[0]);
    assert!(server.collect(stays).is_some());
    server.log_out(at[2]);
    server.assert_empty();
}

#[test]
fn what_is_given_to_somebody_who_leaves_goes_to_the_next() {
    // Cancelled, or killed: in both cases after it was called.
    for killed in [false, true] {
        let (mut server, at) = server::<3>(module(1));
        server.checks_out(at[0], "payroll", "");
        let tickets = [1, 2].map(|n| waits(&mut server, at[n]));
        server.log_out(at[0]);
        assert_eq!(server.woken(), [at[1]]);
        if killed {
            server.log_out(at[1]);
        } else {
            server.leave(tickets[0]);
        }
        assert_eq!(server.woken(), [at[2]]);
        assert!(server.collect(tickets[1]).is_some());
        server.log_out(at[2]);
        server.assert_empty();
    }
}

#[test]
fn a_lease_from_the_queue_is_the_lease_that_was_asked_for() {
    let (mut server, at) = server::<3>(module(1));
    server.checks_out(at[0], "payroll", "");
    let ticket = server.waits(at[1], "payroll", lease(1, "ann", &pc(9)));
    server.now += MINUTE;
    server.log_out(at[0]);
    let lasts_until = server.now + TTL;
    assert_eq!(server.collect(ticket).unwrap().expires_at, lasts_until);
    assert_eq!(server.ledger.sessions[at[1].0].checkouts, 0);
    assert_eq!(server.lease(id(1)).unwrap().since(), server.now);
    server.commit_lease(id(1));
    server.log_out(at[1]);
    assert_eq!(server.heartbeat(at[2], id(1)), Some(lasts_until));
    server.now = lasts_until;
    assert_eq!(server.end_due_leases(), [id(1)]);
    server.bury(1);
    server.assert_empty();
}

#[test]
fn a_lease_called_for_somebody_who_leaves_is_gone() {
    for killed in [false, true] {
        let (mut server, at) = server::<3>(module(1));
        server.checks_out(at[0], "payroll", "");
        let ticket = server.waits(at[1], "payroll", lease(1, "ann", &pc(9)));
        let next = waits(&mut server, at[2]);
        server.log_out(at[0]);
        assert!(server.lease(id(1)).is_some());
        if killed {
            server.log_out(at[1]);
        } else {
            server.leave(ticket);
        }
        assert!(server.hold(id(1)).is_none());
        assert!(server.collect(next).is_some());
    }
}

#[test]
fn a_seat_of_the_overdraft_is_remarked_when_collected() {
    let (mut server, at) = server::<3>(License {
        overdraft: 1,
        ..module(1)
    });
    server.checks_out(at[0], "payroll", "");
    server.claim(at[1], "payroll", want(""), false);
    let ticket = waits(&mut server, at[2]);
    server.log_out(at[0]);
    let cause = Cause::Full {
        in_use: 1,
        limit: 1,
        kept: 0,
    };
    assert!(matches!(
        server.collect(ticket).unwrap().remark,
        Remark::Overdraft(denial) if denial.cause == cause
    ));
}

#[test]
fn who_can_not_be_called_any_more_waits_in_vain_and_is_woken() {
    type Change = fn(&mut Server);
    let changes: [(&str, Change); 5] = [
        ("the product is licensed no longer", |server| {
            server.change(1, |rows| rows.licenses.clear());
        }),
        ("its session is exempt", |server| {
            server.change(1, |rows| rows.exemptions.push(exempt_role("r2")));
        }),
        ("the license has expired", |server| {
            server.change(1, |rows| rows.licenses[0].admits_until = Some(0));
        }),
        ("the license is not yet valid", |server| {
            server.change(1, |rows| rows.licenses[0].valid_from = Some(i64::MAX));
        }),
        ("nobody is denied", |server| {
            server.change(1, |rows| rows.licenses[0].enforcement = Enforcement::Warn);
        }),
    ];
    for (why, change) in changes {
        let (mut server, at) = server::<2>(module(1));
        server.checks_out(at[0], "payroll", "");
        let ticket = waits(&mut server, at[1]);
        assert!(!server.waits_in_vain(ticket));
        change(&mut server);
        assert_eq!(server.woken(), [at[1]], "{why}: the rules are to be read");
        assert!(!server.waits_in_vain(ticket), "{why}: not before they are");
        server.load(1);
        assert_eq!(server.woken(), [at[1]], "{why}: they were read");
        assert!(server.waits_in_vain(ticket), "{why}");
        // A free seat is not for it as long as that lasts.
        server.log_out(at[0]);
        assert_eq!(server.collect(ticket), None, "{why}");
        server.change(1, |rows| {
            rows.licenses = vec![module(1)];
            rows.exemptions.clear();
        });
        server.load(1);
        assert!(server.collect(ticket).is_some(), "{why}: no longer");
    }
}

#[test]
fn who_waits_for_a_lease_waits_on_though_its_session_is_exempt() {
    let (mut server, at) = server::<2>(module(1));
    server.checks_out(at[0], "payroll", "");
    let ticket = server.waits(at[1], "payroll", lease(1, "ann", &pc(9)));
    server.change(1, |rows| rows.exemptions.push(exempt_role("r2")));
    server.load(1);
    // The other's checkout does not count any more.
    assert!(server.collect(ticket).is_some());
}

#[test]
fn a_license_that_expires_meanwhile_has_nobody_called() {
    let (mut server, at) = server::<2>(module(1));
    let until = server.now + MINUTE;
    server.change(1, |rows| {
        rows.licenses[0].valid_until = Some(until);
        rows.licenses[0].admits_until = Some(until);
    });
    server.checks_out(at[0], "payroll", "");
    let ticket = waits(&mut server, at[1]);
    server.now = until;
    assert!(server.waits_in_vain(ticket));
    server.log_out(at[0]);
    assert_eq!(server.collect(ticket), None);
}

#[test]
fn a_change_wakes_those_in_the_queue_of_its_database_alone() {
    let mut server = Server::new(ROOM);
    for database in [1, 2] {
        server.change(database, |rows| rows.licenses.push(module(0)));
    }
    let at = [1, 2].map(|database| server.enters(of_database(session(2, &pc(1)), database)));
    for at in at {
        waits(&mut server, at);
    }
    assert!(server.woken().is_empty());
    server.change(2, |_| ());
    assert_eq!(server.woken(), [at[1]]);
}

#[test]
fn a_line_moves_with_its_product_into_a_pool_and_back() {
    let (mut server, at) = server::<2>(module(0));
    let ticket = waits(&mut server, at[0]);
    server.change(2, |rows| {
        rows.licenses.push(License {
            pool: name("group"),
            ..module(5)
        });
    });
    server.load(2);
    for pool in ["group", "", "group"] {
        server.change(1, |rows| rows.licenses[0].pool = name(pool));
        server.load(1);
        let mut waiting = 0;
        server.ledger.with(|l| {
            l.tallies.each(|t| {
                assert_eq!(t.waiting, t.users);
                assert_eq!(t.waiting == 1, t.pool == name(pool), "{t:?}");
                waiting += t.waiting;
            });
        });
        assert_eq!(waiting, 1);
    }
    server.change(1, |rows| rows.licenses[0].seats = Some(1));
    server.load(1);
    assert!(server.collect(ticket).is_some());
}

#[test]
fn who_asks_again_has_left_the_queue() {
    let (mut server, at) = server::<3>(module(1));
    server.checks_out(at[0], "payroll", "");
    waits(&mut server, at[1]);
    let again = waits(&mut server, at[1]);
    assert_eq!(server.tally("payroll").waiting, 1);
    // Also where it was called meanwhile.
    let next = waits(&mut server, at[2]);
    server.log_out(at[0]);
    let last = waits(&mut server, at[1]);
    assert!(server.collect(again).is_none());
    assert!(server.collect(next).is_some());
    server.log_out(at[2]);
    assert!(server.collect(last).is_some());
    server.log_out(at[1]);
    server.assert_empty();
}

#[test]
fn who_was_called_follows_its_product_as_a_holder() {
    let (mut server, at) = server::<2>(module(1));
    server.checks_out(at[0], "payroll", "");
    let ticket = waits(&mut server, at[1]);
    server.log_out(at[0]);
    server.change(1, |rows| rows.licenses[0].pool = name("group"));
    server.load(1);
    let tally = server.tally("payroll");
    assert_eq!((tally.in_use, tally.users, tally.waiting), (1, 1, 0));
    assert_eq!(server.collect(ticket).unwrap().in_use, 1);
    server.log_out(at[1]);
    server.assert_empty();
}

#[test]
fn who_was_called_and_leaves_makes_way_where_the_product_counts_now() {
    let (mut server, at) = server::<3>(module(1));
    server.checks_out(at[0], "payroll", "");
    let called = waits(&mut server, at[1]);
    let next = waits(&mut server, at[2]);
    server.log_out(at[0]);
    server.change(1, |rows| rows.licenses[0].pool = name("group"));
    server.load(1);
    let now = server.now;
    server.ledger.with(|l| l.leave(called, now));
    assert!(server.collect(next).is_some());
}

#[test]
fn everyone_in_the_queue_finds_room_when_called() {
    let mut server = Server::new(Capacity {
        max_seats: 3,
        ..ROOM
    });
    server.change(1, |rows| rows.licenses = vec![module(2)]);
    let at: [Slot; 5] = std::array::from_fn(|n| server.enters(session(2, &pc(n))));
    server.checks_out(at[0], "payroll", "");
    server.checks_out(at[1], "payroll", "");
    let ticket = waits(&mut server, at[2]);
    // Neither the queue nor a nested user takes the room that it will need.
    assert!(matches!(
        server.claim(at[3], "payroll", want(""), true),
        Claimed::Denied(Denial {
            cause: Cause::Full { .. },
            ..
        })
    ));
    let twin = server.enters(session(2, &pc(0)));
    assert!(matches!(
        server.claim(twin, "payroll", want(""), false),
        Claimed::Denied(Denial {
            cause: Cause::TableFull,
            ..
        })
    ));
    server.log_out(at[0]);
    assert!(server.collect(ticket).is_some());
    assert_eq!(server.in_use("payroll"), 2);
}

#[test]
fn somebody_who_was_called_and_has_not_looked_does_not_hinder_new_rules() {
    let mut server = Server::new(Capacity {
        max_seats: 2,
        ..ROOM
    });
    server.change(1, |rows| rows.licenses = vec![module(1)]);
    let at: [Slot; 2] = std::array::from_fn(|n| server.enters(session(2, &pc(n))));
    server.checks_out(at[0], "payroll", "");
    let ticket = waits(&mut server, at[1]);
    server.log_out(at[0]);
    assert_eq!(server.ledger.with(|l| l.holds.len()), 1);
    // A called one counts as a hold and in the queue; another hold makes three of two.
    server.ledger.with(|l| {
        let mut hold = None;
        l.holds.each(|h| hold = Some(*h));
        let key = crate::core::ledger::hold::HoldKey::checkout(SessionNumber(9_999), 0);
        l.put_hold(crate::core::ledger::hold::Hold {
            key,
            ..hold.unwrap()
        });
    });
    server.change(1, |_| ());
    assert!(matches!(server.load(1), Published::InForce { .. }));
    assert!(server.collect(ticket).is_some());
}

#[test]
fn a_superuser_waits_for_the_lease_of_an_applications_user() {
    let (mut server, at) = server::<2>(module(1));
    let superuser = server.enters(superuser(1, &pc(9)));
    server.checks_out(at[0], "payroll", "");
    assert!(matches!(
        server.claim(superuser, "payroll", lease(1, "ann", &pc(9)), false),
        Claimed::Denied(_)
    ));
    let ticket = server.waits(superuser, "payroll", lease(2, "ann", &pc(9)));
    server.log_out(at[0]);
    assert!(server.collect(ticket).is_some());
    held(server.claim(superuser, "payroll", want(""), true));
    assert_eq!(server.in_use("payroll"), 1);
}

#[test]
fn whoever_is_exempt_by_the_rules_may_use_a_product_while_they_are_in_force() {
    let mut server = Server::with_license(module(0));
    server.change(1, |rows| rows.exemptions = vec![exempt_role("staff")]);
    let (exempt, counted) = (
        server.enters(session(1, "10.0.0.1")),
        server.enters(session(3, "10.0.0.3")),
    );
    server.exempt_superusers = false;
    let boss = server.enters(superuser(9, "local"));
    let may_use = |server: &mut Server| {
        let view = Some(server.view());
        [exempt, counted, boss].map(|place| {
            server
                .ledger
                .with(|l| l.may_use(place, &name("payroll"), view, Enforcement::On))
        })
    };
    let answers = [MayUse::Yes, MayUse::No, MayUse::Yes];
    assert_eq!(may_use(&mut server), answers);
    server.change(1, |rows| rows.exemptions.clear());
    // Superusers restore dumps: they wait for nothing.
    let answers = [MayUse::Outdated, MayUse::Outdated, MayUse::Yes];
    assert_eq!(may_use(&mut server), answers);
    server.load(1);
    let answers = [MayUse::No, MayUse::No, MayUse::Yes];
    assert_eq!(may_use(&mut server), answers);
}

#[test]
fn who_waits_may_do_so_until_the_license_ends() {
    let (mut server, at) = server::<1>(License {
        admits_until: Some(2_000 * MINUTE),
        ..module(0)
    });
    let ticket = waits(&mut server, at[0]);
    let mut until = |now| server.ledger.with(|l| l.may_wait_until(ticket, now));
    assert_eq!(until(1_000 * MINUTE), Ok(2_000 * MINUTE));
    assert_eq!(until(2_000 * MINUTE), Err(Enforcement::On));
    assert_eq!(
        server
            .ledger
            .with(|l| l.may_wait_until(Ticket(ticket.0 + 1), 0)),
        Err(Enforcement::On)
    );
}

#[test]
fn who_waits_asks_anew_when_the_server_becomes_softer() {
    let (mut server, at) = server::<1>(module(0));
    let ticket = waits(&mut server, at[0]);
    let mut rung = |to| {
        let mut rung = Vec::new();
        server.ledger.with(|l| {
            l.enforce_queue(to);
            l.each_to_wake(|at| rung.push(at));
            (rung, l.may_wait_until(ticket, 0))
        })
    };
    assert_eq!(rung(Enforcement::On), (vec![], Ok(Timestamp::MAX)));
    let softer = Enforcement::Warn;
    assert_eq!(rung(softer), (vec![at[0]], Err(softer)));
    assert_eq!(rung(Enforcement::On), (vec![], Ok(Timestamp::MAX)));
}
