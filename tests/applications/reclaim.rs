//! Reclaim on demand: the longest idle seat gives way to somebody who would be denied, and no other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::util::*;

/// Opens a desk with so many seats, which give way when they are idle for this long.
async fn desk(seats: u32, idle_after: &str) -> Desk {
    let values = format!("{seats}, '{idle_after}'");
    Desk::licensed("seats, reclaim_idle_after", &values).await
}

/// Opens the same for seats that only applications claim; Lena's may take leases.
async fn desk_of_checkouts(seats: u32, idle_after: &str) -> Desk {
    let values = format!("{seats}, '{idle_after}', 'checkout'");
    let desk = Desk::licensed("seats, reclaim_idle_after, claimed_at", &values).await;
    desk.admin
        .run("GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO lena")
        .await;
    desk
}

impl Desk {
    /// Tells who has seats, by name.
    async fn holders(&self) -> String {
        let holders = "SELECT string_agg(coalesce(nullif(client_user, ''), usename), ' '
                                         ORDER BY coalesce(nullif(client_user, ''), usename))
                         FROM license_active_seats WHERE product = 'TOM'";
        self.admin.text(holders).await
    }
}

fn is_full(denied: &Denied) {
    assert_eq!(denied.reason, "license_full", "{denied:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_idle_seat_gives_way_to_a_login() {
    let desk = desk(3, "0").await;
    let anna = desk.user("anna").await;
    let bert = desk.user("bert").await;
    let carl = desk.user("carl").await;
    // Not who came first, but who was active least lately.
    for session in [&anna, &carl] {
        session.run("SELECT 1").await;
    }
    let dora = desk.user("dora").await;
    let ended = bert.ended().await;
    ended.assert("57P05", "license_reclaimed");
    assert_eq!(
        [&*ended.severity, &ended.message, &ended.detail, &ended.hint],
        [
            "FATAL",
            "logged off for inactivity",
            "Every seat was in use, and this one had been inactive longest.",
            "Log in again as soon as a seat is free."
        ]
    );
    assert_eq!(desk.holders().await, "anna carl dora");
    let _emil = desk.user("emil").await;
    anna.ended().await.assert("57P05", "license_reclaimed");
    assert_eq!(desk.holders().await, "carl dora emil");
    for session in [&carl, &dora] {
        session.run("SELECT 1").await;
    }
    let usage = "SELECT in_use, high_water, denied FROM license_usage";
    assert_eq!(desk.admin.text(usage).await, "3|3|0");
    let trail = "SELECT string_agg(usename, ' ' ORDER BY at) FROM license_events
                  WHERE event = 'reclaim'";
    eventually("the audit trail tells", PATIENCE, async || {
        desk.admin.text(trail).await == "bert anna"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_seat_is_free_none_gives_way() {
    let desk = desk(2, "0").await;
    let anna = desk.user("anna").await;
    let bert = desk.user("bert").await;
    // Nor for who has one already.
    let again = desk.user("bert").await;
    assert!(!anna.is_ended() && !bert.is_ended());
    for session in [anna, bert, again] {
        session.run("SELECT 1").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seat_gives_way_only_when_it_has_been_idle_long_enough() {
    let desk = desk(1, "2s").await;
    let anna = desk.user("anna").await;
    let active = Instant::now();
    anna.run("SELECT 1").await;
    let bert = desk.login("bert");
    let mut denials = 0;
    let bert = loop {
        match bert.open().await {
            Ok(session) => break session,
            Err(denied) => is_full(&denied),
        }
        denials += 1;
    };
    let waited = active.elapsed();
    assert!(
        denials > 0 && waited > Duration::from_millis(1_900),
        "{waited:?}"
    );
    assert!(waited < Duration::from_secs(5), "{waited:?}");
    anna.ended().await.assert("57P05", "license_reclaimed");
    bert.run("SELECT 1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_column_nobody_gives_way() {
    let desk = Desk::of(Cluster::with_seats(1)).await;
    let _anna = desk.user("anna").await;
    is_full(&desk.login("bert").denied().await);
    desk.admin
        .run("UPDATE licenses SET reclaim_idle_after = '0'")
        .await;
    let bert = desk.user("bert").await;
    desk.admin
        .run("UPDATE licenses SET reclaim_idle_after = NULL")
        .await;
    is_full(&desk.login("carl").denied().await);
    bert.run("SELECT 1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_active_or_in_a_transaction_keeps_the_seat() {
    let desk = desk(4, "0").await;
    desk.admin
        .run("ALTER ROLE dora SET track_activities = off")
        .await;
    let anna = desk.user("anna").await;
    anna.run("BEGIN").await;
    let bert = desk.user("bert").await;
    bert.run("BEGIN").await;
    bert.fails("SELECT 1/0").await.assert("22012", "");
    let carl = desk.user("carl").await;
    let twin = desk.user("carl").await;
    carl.send("SELECT pg_sleep(600)").await;
    let active =
        "SELECT count(*) FROM pg_stat_activity WHERE usename = 'carl' AND state = 'active'";
    eventually("carl's statement has arrived", PATIENCE, async || {
        desk.admin.text(active).await == "1"
    })
    .await;
    let dora = desk.user("dora").await;
    for _ in 0..3 {
        is_full(&desk.login("emil").denied().await);
    }
    for session in [&anna, &bert, &twin, &dora] {
        assert!(!session.is_ended());
        session.run("ROLLBACK").await;
    }
    assert_eq!(desk.admin.text(active).await, "1");
    let _emil = desk.user("emil").await;
    assert_eq!(desk.in_use().await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn superusers_seats_do_not_give_way() {
    let cluster = Cluster::builder()
        .conf("pg_seats.exempt_superusers", "off")
        .licensed("seats, reclaim_idle_after", "1, '0'");
    let boss = cluster.login("postgres").from("127.0.3.1").open_ok().await;
    for _ in 0..3 {
        is_full(&cluster.login("anna").from("127.0.1.1").denied().await);
    }
    // And a superuser needs nobody's.
    let other = cluster.login("postgres").from("127.0.3.2").open_ok().await;
    for session in [boss, other] {
        session.run("SELECT 1").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_would_be_denied_nobody_gives_way() {
    let desk = desk(1, "0").await;
    let anna = desk.user("anna").await;
    desk.admin
        .run("UPDATE licenses SET enforcement = 'warn'")
        .await;
    let bert = desk.user("bert").await;
    desk.admin
        .run("UPDATE licenses SET enforcement = 'on', overdraft = 2")
        .await;
    let carl = desk.user("carl").await;
    desk.admin
        .run("UPDATE licenses SET valid_until = now() - interval '1 day'")
        .await;
    let expired = desk.login("dora").denied().await;
    expired.assert("28000", "license_expired");
    for session in [anna, bert, carl] {
        assert!(!session.is_ended());
        session.run("SELECT 1").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reduction_gives_newcomers_no_seat_of_others() {
    let desk = desk(3, "0").await;
    let sessions = [
        desk.user("anna").await,
        desk.user("bert").await,
        desk.user("carl").await,
    ];
    desk.admin.run("UPDATE licenses SET seats = 1").await;
    // One seat for one newcomer would leave too many in use still: so none gives way in vain.
    is_full(&desk.login("dora").denied().await);
    for session in &sessions {
        assert!(!session.is_ended());
        session.run("SELECT 1").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_sessions_of_the_seat_end_and_only_those() {
    let desk = desk(2, "0").await;
    let annas = [
        desk.user("anna").await,
        desk.user("anna").await,
        desk.user("anna").await,
    ];
    let bert = desk.user("bert").await;
    bert.run("SELECT 1").await;
    let _carl = desk.user("carl").await;
    for anna in annas {
        anna.ended().await.assert("57P05", "license_reclaimed");
    }
    bert.run("SELECT 1").await;
    assert_eq!(desk.holders().await, "bert carl");
}

#[tokio::test(flavor = "multi_thread")]
async fn checkouts_give_way_to_every_kind_of_newcomer() {
    let desk = desk_of_checkouts(1, "0").await;
    for statement in [
        "SELECT seat_id FROM license_checkout()",
        "SELECT seat_id FROM license_try_checkout()",
        "SELECT seat_id FROM license_checkout(wait => '1min')",
        "SELECT seat_id FROM license_lease('zoe', '10.0.0.1')",
        "SELECT seat_id FROM license_lease('zoe', '10.0.0.1', wait => '1min')",
    ] {
        let anna = desk.user("anna").await;
        anna.checkout().await;
        let lena = desk.user("lena").await;
        let start = Instant::now();
        assert_eq!(lena.texts(statement).await.len(), 1, "{statement}");
        assert!(start.elapsed() < Duration::from_secs(10), "{statement}");
        anna.ended().await.assert("57P05", "license_reclaimed");
        assert_eq!(desk.in_use().await, 1);
        lena.close().await;
        desk.admin.run("UPDATE licenses SET seats = 9").await;
        let lena = desk.user("lena").await;
        lena.run("SELECT license_release(lease_id) FROM license_lease('zoe', '10.0.0.1')")
            .await;
        desk.cluster
            .sql("UPDATE licenses SET reclaim_idle_after = '0', seats = 1");
        // The lease of a round gives way to the next, too.
        assert!(desk.in_use().await <= 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_give_way_when_no_heartbeat_came() {
    let desk = desk_of_checkouts(2, "1s").await;
    let app = desk.user("lena").await;
    let [zoe, yan] = [lease(&app, "zoe").await, lease(&app, "yan").await];
    app.run("SELECT pg_sleep(1.2)").await;
    assert!(beats(&app, &zoe).await);
    let row = "SELECT client_user FROM license_lease('xia', '10.0.0.1')";
    assert_eq!(app.text(row).await, "xia");
    assert_eq!(desk.holders().await, "xia zoe");
    assert!(!beats(&app, &yan).await);
    assert!(beats(&app, &zoe).await);
    is_full(&app.fails("SELECT license_lease('una', '10.0.0.1')").await);
    // One that is lent to a transaction is in use.
    app.run("SELECT pg_sleep(1.2)").await;
    let other = desk.user("lena").await;
    other
        .run(&format!(
            "BEGIN; SELECT license_heartbeat('{zoe}'); SELECT pg_sleep(1.2)"
        ))
        .await;
    assert_eq!(
        app.text("SELECT client_user FROM license_lease('una', '10.0.0.1')")
            .await,
        "una"
    );
    assert_eq!(desk.holders().await, "una zoe");
    assert_eq!(other.text("SELECT license_held('TOM')").await, "t");
    other.run("COMMIT").await;
}

/// What an application's connection holds for many users does not all go for one.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_holds_several_seats_does_not_lose_them_all_to_one_newcomer() {
    let desk = desk_of_checkouts(3, "0").await;
    let app = desk.user("anna").await;
    for user in ["zoe", "yan"] {
        app.run(&format!("SELECT license_checkout(client_user => '{user}')"))
            .await;
    }
    let bert = desk.user("bert").await;
    bert.checkout().await;
    let carl = desk.user("carl").await;
    assert!(carl.try_checkout().await);
    bert.ended().await.assert("57P05", "license_reclaimed");
    carl.run("BEGIN").await;
    let dora = desk.user("dora").await;
    assert!(!dora.try_checkout().await);
    assert!(!app.is_ended());
    assert_eq!(desk.holders().await, "carl yan zoe");
    app.run("SELECT license_checkin(client_user => 'zoe')")
        .await;
    assert!(dora.try_checkout().await);
    assert_eq!(desk.holders().await, "carl dora yan");
}

/// Nor do seats of two products go for one.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_with_a_seat_of_another_product_too_does_not_give_way() {
    let desk = desk_of_checkouts(2, "0").await;
    let main = "INSERT INTO licenses (product, seats, claimed_at, application_name)
                VALUES ('MAIN', 9, 'login', 'main')";
    desk.admin.run(main).await;
    let takes = async |session: &Session| -> bool {
        let seats = "SELECT product FROM license_try_checkout('TOM')";
        !session.texts(seats).await.is_empty()
    };
    let anna = desk.login("anna").app("main").open_ok().await;
    let bert = desk.user("bert").await;
    assert!(takes(&anna).await && takes(&bert).await);
    let carl = desk.user("carl").await;
    assert!(takes(&carl).await);
    bert.ended().await.assert("57P05", "license_reclaimed");
    carl.run("BEGIN").await;
    assert!(!takes(&desk.user("dora").await).await);
    assert!(!anna.is_ended());
    assert_eq!(desk.holders().await, "anna carl");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_in_the_queue_gets_a_seat_as_soon_as_one_has_been_idle_long_enough() {
    let desk = desk_of_checkouts(1, "3s").await;
    let anna = desk.user("anna").await;
    anna.checkout().await;
    let bert = desk.user("bert").await;
    let start = Instant::now();
    bert.run("SELECT license_checkout(wait => '1min')").await;
    let waited = start.elapsed();
    assert!(waited > Duration::from_millis(2_500), "{waited:?}");
    assert!(waited < Duration::from_secs(8), "{waited:?}");
    anna.ended().await.assert("57P05", "license_reclaimed");
    assert_eq!(desk.holders().await, "bert");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_several_newcomers_gets_a_seat_of_its_own_and_nobody_else_loses_one() {
    let desk = desk(12, "0").await;
    for round in 0..5 {
        let mut idle = Vec::new();
        for i in 0..12 {
            let login = desk.at("anna", &format!("127.0.2.{}", i + 1));
            idle.push(login.open_ok().await);
        }
        let newcomers = race(7, |i| desk.at("bert", &format!("127.0.3.{}", i + 1))).await;
        let newcomers: Vec<_> = newcomers.into_iter().map(Result::unwrap).collect();
        assert_eq!(desk.in_use().await, 12, "round {round}");
        let annas = "SELECT count(*) FROM license_active_seats WHERE usename = 'anna'";
        assert_eq!(desk.admin.text(annas).await, "5", "round {round}");
        let mut left = 0;
        for session in idle {
            if session.try_texts("SELECT 1").await.is_ok() {
                left += 1;
            }
        }
        assert_eq!(left, 5);
        drop(newcomers);
        desk.in_use_becomes(0).await;
    }
    let usage = "SELECT high_water, denied FROM license_usage";
    assert_eq!(desk.admin.text(usage).await, "12|0");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_newcomers_than_idle_seats_get_as_many_as_there_are() {
    let desk = desk(4, "0").await;
    let busy = [desk.user("anna").await, desk.user("bert").await];
    for session in &busy {
        session.run("BEGIN").await;
    }
    let _idle = [desk.user("carl").await, desk.user("dora").await];
    // Those who have just come are idle themselves: they work at once.
    let newcomers = race(10, |i| desk.at("emil", &format!("127.0.3.{}", i + 1))).await;
    for denied in newcomers.iter().filter_map(|result| result.as_ref().err()) {
        is_full(denied);
    }
    assert_eq!(desk.in_use().await, 4);
    for session in busy {
        assert!(!session.is_ended());
        session.run("ROLLBACK").await;
    }
}

/// A process that does not answer is waited for, then the next idle seat is asked; the first keeps its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_does_not_answer_is_not_waited_for_forever() {
    let desk = desk(2, "0").await;
    let stuck = desk.user("anna").await;
    let next = desk.user("bert").await;
    next.run("SELECT 1").await;
    let pid = stuck.pid().await;
    next.run("SELECT 1").await;
    desk.cluster.signal(pid, Signal::SIGSTOP);
    let start = Instant::now();
    let carl = desk.user("carl").await;
    assert!(
        start.elapsed() < Duration::from_secs(6),
        "{:?}",
        start.elapsed()
    );
    next.ended().await.assert("57P05", "license_reclaimed");
    assert_eq!(desk.holders().await, "anna carl");
    carl.run("BEGIN").await;
    // With none left that answers, the newcomer is denied in time.
    let start = Instant::now();
    is_full(&desk.login("dora").denied().await);
    assert!(
        start.elapsed() < Duration::from_secs(8),
        "{:?}",
        start.elapsed()
    );
    desk.cluster.signal(pid, Signal::SIGCONT);
    // Nobody wants its seat any more.
    stuck.run("SELECT pg_sleep(0.5)").await;
    assert!(!stuck.is_ended());
    assert_eq!(desk.holders().await, "anna carl");
    let _emil = desk.user("emil").await;
    stuck.ended().await.assert("57P05", "license_reclaimed");
}

/// Somebody else logs out while a newcomer waits for an idle seat that does not answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_seat_that_becomes_free_meanwhile_is_taken_at_once() {
    let desk = desk(3, "0").await;
    let stuck = desk.user("anna").await;
    let idle = desk.user("carl").await;
    let leaves = desk.user("bert").await;
    let pid = stuck.pid().await;
    for session in [&idle, &leaves] {
        session.run("SELECT 1").await;
    }
    leaves.run("BEGIN").await;
    desk.cluster.signal(pid, Signal::SIGSTOP);
    let login = desk.login("dora");
    let newcomer = tokio::spawn(async move { login.open_ok().await });
    is_asked(&desk).await;
    leaves.close().await;
    let dora = newcomer.await.unwrap();
    desk.cluster.signal(pid, Signal::SIGCONT);
    for session in [&stuck, &idle, &dora] {
        session.run("SELECT pg_sleep(0.2)").await;
        assert!(!session.is_ended());
    }
    assert_eq!(desk.holders().await, "anna carl dora");
}

/// Waits until a login waits for somebody to give way; the newcomer's process.
async fn is_asked(desk: &Desk) -> i32 {
    let waits = "SELECT pid FROM pg_stat_activity
                  WHERE wait_event IN ('Extension', 'LicenseSeat')
                    AND backend_type = 'client backend'";
    let mut pids = vec![];
    eventually("an idle seat is asked", PATIENCE, async || {
        pids = desk.admin.texts(waits).await;
        pids.len() == 1
    })
    .await;
    pids[0].parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_for_a_newcomer_that_is_ended_is_free() {
    let desk = desk(1, "0").await;
    for end in ["pg_terminate_backend", "pg_cancel_backend"] {
        let stuck = desk.user("anna").await;
        let pid = stuck.pid().await;
        desk.cluster.signal(pid, Signal::SIGSTOP);
        let login = desk.login("bert");
        let newcomer: JoinHandle<Result<Session, Denied>> =
            tokio::spawn(async move { login.open().await });
        let asks = is_asked(&desk).await;
        desk.admin.run(&format!("SELECT {end}({asks})")).await;
        let denied = newcomer.await.unwrap().expect_err(end);
        assert!(
            ["57P01", "57014"].contains(&&*denied.sqlstate),
            "{denied:?}"
        );
        // It is told before it ends.
        let asks = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {asks}");
        eventually("the newcomer is gone", PATIENCE, async || {
            desk.admin.val::<i64>(&asks).await == 0
        })
        .await;
        desk.cluster.signal(pid, Signal::SIGCONT);
        // Whether it gave way in that moment or not, nothing is kept for who is gone.
        let carl = desk.user("carl").await;
        assert_eq!(desk.holders().await, "carl");
        assert_eq!(desk.in_use().await, 1);
        carl.close().await;
        drop(stuck);
        desk.in_use_becomes(0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_crash_of_a_newcomer_leaves_nothing() {
    let desk = desk(1, "0").await;
    let stuck = desk.user("anna").await;
    let pid = stuck.pid().await;
    desk.cluster.signal(pid, Signal::SIGSTOP);
    let login = desk.login("bert");
    let newcomer = tokio::spawn(async move { login.open().await });
    let asks = is_asked(&desk).await;
    desk.cluster.crash_backend(asks);
    assert!(newcomer.await.unwrap().is_err());
    assert_eq!(desk.cluster.in_use(), 0);
    let carl = desk.user("carl").await;
    let dora = desk.user("dora").await;
    carl.ended().await.assert("57P05", "license_reclaimed");
    dora.run("SELECT 1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seat_that_lingers_does_not_give_way() {
    let desk = Desk::licensed("seats, reclaim_idle_after, linger", "1, '0', '1 hour'").await;
    let anna = desk.user("anna").await;
    // Whoever gives way does not linger.
    let bert = desk.user("bert").await;
    anna.ended().await.assert("57P05", "license_reclaimed");
    bert.close().await;
    eventually("bert is out", PATIENCE, async || {
        let sessions = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'bert'";
        desk.admin.text(sessions).await == "0"
    })
    .await;
    is_full(&desk.login("carl").denied().await);
    let _bert = desk.user("bert").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pools_seats_give_way_across_databases() {
    let cluster = Cluster::builder().licensed("seats, pool, reclaim_idle_after", "1, 'firm', '0'");
    cluster.sql("CREATE DATABASE second");
    cluster.license("second", "seats, pool", "1, 'firm'");
    let desk = Desk::of(cluster).await;
    let anna = desk.login("anna").db("second").open_ok().await;
    let bert = desk.user("bert").await;
    anna.ended().await.assert("57P05", "license_reclaimed");
    // The newcomer's own row says whether seats give way.
    is_full(&desk.login("carl").db("second").denied().await);
    bert.run("SELECT 1").await;
}

/// Holders that work again in just the moment in which somebody wants their seat, again and again: either the
/// statement is done and they keep it, or it has not begun and they are out.
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_in_that_very_moment_is_done_or_has_not_begun() {
    let desk = desk(6, "0").await;
    let told = Arc::new(Told::with_table(&desk.admin).await);
    let stop = Arc::new(AtomicBool::new(false));
    let start = Instant::now();
    let clients: Vec<_> = (0..14)
        .map(|client: usize| {
            let login = desk.at("anna", &format!("127.0.2.{}", client + 1));
            let (told, stop) = (Arc::clone(&told), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut number = 0;
                while !stop.load(SeqCst) {
                    let session = match login.open().await {
                        Ok(session) => session,
                        Err(denied) => {
                            is_full(&denied);
                            continue;
                        }
                    };
                    while !stop.load(SeqCst) {
                        number += 1;
                        let who = format!("{client}/{number}");
                        let insert = format!("INSERT INTO done VALUES ('{who}')");
                        let insert = match number % 3 {
                            0 => insert,
                            1 => format!("{insert}; SELECT pg_sleep(0.001)"),
                            _ => format!("BEGIN; {insert}; SELECT pg_sleep(0.001); COMMIT"),
                        };
                        if !told.is_done(&session, who, &insert).await {
                            break;
                        }
                        if number % 17 == 0 {
                            tokio::time::sleep(Duration::from_millis(3)).await;
                        }
                    }
                }
            })
        })
        .collect();
    while start.elapsed() < Duration::from_secs(12) || told.ended() < 50 {
        assert!(desk.in_use().await <= 6);
        let (ended, done) = (told.ended(), told.done());
        assert!(start.elapsed() < 4 * PATIENCE, "{ended} of {done}");
    }
    stop.store(true, SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    told.assert_true(&desk.admin).await;
    let high_water: i32 = desk.admin.val("SELECT high_water FROM license_usage").await;
    assert!(high_water <= 6);
    desk.in_use_becomes(0).await;
    // Nothing is kept for anybody: all seats are to be had.
    let mut inside = Vec::new();
    for i in 0..6 {
        let login = desk.at("bert", &format!("127.0.3.{}", i + 1));
        inside.push(login.open_ok().await);
    }
    assert_eq!(desk.in_use().await, 6);
}

/// Whoever asks is never denied while there is an idle seat.
#[tokio::test(flavor = "multi_thread")]
async fn applications_that_ask_for_more_than_there_is_share_what_there_is() {
    // Some are just being taken, or asked by others: there are enough beside these.
    let desk = desk_of_checkouts(9, "0").await;
    let apps: Vec<_> = (0..4)
        .map(|i| {
            let login = desk.at("lena", &format!("127.0.2.{}", i + 1));
            tokio::spawn(async move {
                let app = login.open_ok().await;
                for n in 0..60 {
                    // Every lease is idle as soon as it is taken: somebody gives way at once.
                    lease_for(&app, &format!("user {i} {n}"), "1 minute").await;
                }
            })
        })
        .collect();
    for app in apps {
        app.await.unwrap();
    }
    let usage = "SELECT in_use, high_water, denied FROM license_usage";
    assert_eq!(desk.admin.text(usage).await, "9|9|0");
    settles(&desk.cluster, "rows of ended leases are gone", "9|9|9").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_those_in_the_queue_the_first_gets_the_seat() {
    let desk = desk_of_checkouts(1, "2s").await;
    let anna = desk.user("anna").await;
    anna.checkout().await;
    anna.run("BEGIN").await;
    let mut waiters = Vec::new();
    for user in ["bert", "carl", "dora", "emil"] {
        let waiter = desk.enqueue(desk.user(user).await).await;
        waiters.push((user, waiter));
    }
    // From now on she is idle, and each of them asks when it next looks.
    anna.run("COMMIT").await;
    anna.ended().await.assert("57P05", "license_reclaimed");
    for (user, waiter) in waiters {
        let session = waiter.seated().await;
        let name: String = session.val("SELECT current_user::text").await;
        assert_eq!(name, user);
        session.close().await;
    }
    desk.in_use_becomes(0).await;
}

/// Who waits in the queue looks once a second; a newcomer that asks without a pause is quicker.
#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_does_not_overtake_who_waits_in_the_queue() {
    let desk = desk_of_checkouts(1, "2s").await;
    let anna = desk.user("anna").await;
    anna.checkout().await;
    anna.run("BEGIN").await;
    let bert = desk.enqueue(desk.user("bert").await).await;
    let carl = desk.user("carl").await;
    anna.run("COMMIT").await;
    while bert.waits() {
        assert!(!carl.try_checkout().await, "Carl came later than Bert");
    }
    anna.ended().await.assert("57P05", "license_reclaimed");
    let _bert = bert.seated().await;
    assert_eq!(desk.holders().await, "bert");
}

/// Who waits in the queue asks idle seats once a second, and once more when its time is up.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_denied_at_the_end_of_a_wait_while_a_seat_would_give_way() {
    let desk = desk_of_checkouts(1, "2s").await;
    let anna = desk.user("anna").await;
    let bert = desk.user("bert").await;
    anna.checkout().await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    // It is over before a second is, and she is idle long enough then.
    let seat = "SELECT usename FROM license_checkout(wait => '800ms')";
    assert_eq!(bert.text(seat).await, "bert");
    anna.ended().await.assert("57P05", "license_reclaimed");
}
