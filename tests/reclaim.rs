//! Reclaim on demand: the longest idle seat gives way to somebody who would be denied, and no other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::leases::{beats, lease, lease_for};
use crate::util::*;

/// A license whose idle seats give way, and the administrator who looks.
struct Office {
    admin: Session,
    cluster: Cluster,
}

impl Office {
    /// So many seats, which give way when they are idle for this long.
    async fn open(seats: u32, idle_after: &str) -> Self {
        let values = format!("{seats}, '{idle_after}'");
        Self::of(Cluster::builder().licensed("seats, reclaim_idle_after", &values)).await
    }

    /// The same for seats that only applications claim.
    async fn with_checkouts(seats: u32, idle_after: &str) -> Self {
        let values = format!("{seats}, '{idle_after}', 'checkout'");
        let columns = "seats, reclaim_idle_after, claimed_at";
        let office = Self::of(Cluster::builder().licensed(columns, &values)).await;
        office
            .admin
            .run("GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO lena")
            .await;
        office
    }

    async fn of(cluster: Cluster) -> Self {
        let admin = cluster.login("postgres").open_ok().await;
        Self { admin, cluster }
    }

    fn login(&self, user: &str) -> Login {
        let number = STAFF.iter().position(|name| *name == user).unwrap() + 1;
        self.cluster.login(user).from(&format!("127.0.1.{number}"))
    }

    async fn user(&self, user: &str) -> Session {
        self.login(user).open_ok().await
    }

    async fn in_use(&self) -> i32 {
        self.admin
            .val("SELECT in_use FROM license_usage WHERE product = 'TOM'")
            .await
    }

    /// Who has seats, by name.
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
    let office = Office::open(3, "0").await;
    let anna = office.user("anna").await;
    let bert = office.user("bert").await;
    let carl = office.user("carl").await;
    // Not who came first, but who was active least lately.
    for session in [&anna, &carl] {
        session.run("SELECT 1").await;
    }
    let dora = office.user("dora").await;
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
    assert_eq!(office.holders().await, "anna carl dora");
    let _emil = office.user("emil").await;
    anna.ended().await.assert("57P05", "license_reclaimed");
    assert_eq!(office.holders().await, "carl dora emil");
    for session in [&carl, &dora] {
        session.run("SELECT 1").await;
    }
    let usage = "SELECT in_use, high_water, denied FROM license_usage";
    assert_eq!(office.admin.text(usage).await, "3|3|0");
    let trail = "SELECT string_agg(usename, ' ' ORDER BY at) FROM license_events
                  WHERE event = 'reclaim'";
    eventually("the audit trail tells", PATIENCE, async || {
        office.admin.text(trail).await == "bert anna"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_seat_is_free_none_gives_way() {
    let office = Office::open(2, "0").await;
    let anna = office.user("anna").await;
    let bert = office.user("bert").await;
    // Nor for who has one already.
    let again = office.user("bert").await;
    assert!(!anna.is_ended() && !bert.is_ended());
    for session in [anna, bert, again] {
        session.run("SELECT 1").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seat_gives_way_only_when_it_has_been_idle_long_enough() {
    let office = Office::open(1, "2s").await;
    let anna = office.user("anna").await;
    anna.run("SELECT 1").await;
    let active = Instant::now();
    let bert = office.login("bert");
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
    let office = Office::of(Cluster::with_seats(1)).await;
    let _anna = office.user("anna").await;
    is_full(&office.login("bert").denied().await);
    office
        .admin
        .run("UPDATE licenses SET reclaim_idle_after = '0'")
        .await;
    let bert = office.user("bert").await;
    office
        .admin
        .run("UPDATE licenses SET reclaim_idle_after = NULL")
        .await;
    is_full(&office.login("carl").denied().await);
    bert.run("SELECT 1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_active_or_in_a_transaction_keeps_the_seat() {
    let office = Office::open(4, "0").await;
    office
        .admin
        .run("ALTER ROLE dora SET track_activities = off")
        .await;
    let anna = office.user("anna").await;
    anna.run("BEGIN").await;
    let bert = office.user("bert").await;
    bert.run("BEGIN").await;
    bert.fails("SELECT 1/0").await.assert("22012", "");
    let carl = office.user("carl").await;
    let twin = office.user("carl").await;
    carl.send("SELECT pg_sleep(600)").await;
    let dora = office.user("dora").await;
    for _ in 0..3 {
        is_full(&office.login("emil").denied().await);
    }
    for session in [&anna, &bert, &twin, &dora] {
        assert!(!session.is_ended());
        session.run("ROLLBACK").await;
    }
    let active =
        "SELECT count(*) FROM pg_stat_activity WHERE usename = 'carl' AND state = 'active'";
    assert_eq!(office.admin.text(active).await, "1");
    let _emil = office.user("emil").await;
    assert_eq!(office.in_use().await, 4);
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
    let office = Office::open(1, "0").await;
    let anna = office.user("anna").await;
    office
        .admin
        .run("UPDATE licenses SET enforcement = 'warn'")
        .await;
    let bert = office.user("bert").await;
    office
        .admin
        .run("UPDATE licenses SET enforcement = 'on', overdraft = 2")
        .await;
    let carl = office.user("carl").await;
    office
        .admin
        .run("UPDATE licenses SET valid_until = now() - interval '1 day'")
        .await;
    let expired = office.login("dora").denied().await;
    expired.assert("28000", "license_expired");
    for session in [anna, bert, carl] {
        assert!(!session.is_ended());
        session.run("SELECT 1").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reduction_gives_newcomers_no_seat_of_others() {
    let office = Office::open(3, "0").await;
    let sessions = [
        office.user("anna").await,
        office.user("bert").await,
        office.user("carl").await,
    ];
    office.admin.run("UPDATE licenses SET seats = 1").await;
    // One seat for one newcomer would leave too many in use still: so none gives way in vain.
    is_full(&office.login("dora").denied().await);
    for session in &sessions {
        assert!(!session.is_ended());
        session.run("SELECT 1").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_sessions_of_the_seat_end_and_only_those() {
    let office = Office::open(2, "0").await;
    let annas = [
        office.user("anna").await,
        office.user("anna").await,
        office.user("anna").await,
    ];
    let bert = office.user("bert").await;
    bert.run("SELECT 1").await;
    let _carl = office.user("carl").await;
    for anna in annas {
        anna.ended().await.assert("57P05", "license_reclaimed");
    }
    bert.run("SELECT 1").await;
    assert_eq!(office.holders().await, "bert carl");
}

#[tokio::test(flavor = "multi_thread")]
async fn checkouts_give_way_to_every_kind_of_newcomer() {
    let office = Office::with_checkouts(1, "0").await;
    for statement in [
        "SELECT seat_id FROM license_checkout()",
        "SELECT seat_id FROM license_try_checkout()",
        "SELECT seat_id FROM license_checkout(wait => '1min')",
        "SELECT seat_id FROM license_lease('zoe', '10.0.0.1')",
        "SELECT seat_id FROM license_lease('zoe', '10.0.0.1', wait => '1min')",
    ] {
        let anna = office.user("anna").await;
        anna.checkout().await;
        let lena = office.user("lena").await;
        let start = Instant::now();
        assert_eq!(lena.texts(statement).await.len(), 1, "{statement}");
        assert!(start.elapsed() < Duration::from_secs(10), "{statement}");
        anna.ended().await.assert("57P05", "license_reclaimed");
        assert_eq!(office.in_use().await, 1);
        lena.close().await;
        office.admin.run("UPDATE licenses SET seats = 9").await;
        let lena = office.user("lena").await;
        lena.run("SELECT license_release(lease_id) FROM license_lease('zoe', '10.0.0.1')")
            .await;
        office
            .cluster
            .sql("UPDATE licenses SET reclaim_idle_after = '0', seats = 1");
        // The lease of a round gives way to the next, too.
        assert!(office.in_use().await <= 1);
        drop(lena);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_give_way_when_no_heartbeat_came() {
    let office = Office::with_checkouts(2, "1s").await;
    let app = office.user("lena").await;
    let [zoe, yan] = [lease(&app, "zoe").await, lease(&app, "yan").await];
    app.run("SELECT pg_sleep(1.2)").await;
    assert!(beats(&app, &zoe).await);
    let row = "SELECT client_user FROM license_lease('xia', '10.0.0.1')";
    assert_eq!(app.text(row).await, "xia");
    assert_eq!(office.holders().await, "xia zoe");
    assert!(!beats(&app, &yan).await);
    assert!(beats(&app, &zoe).await);
    is_full(&app.fails("SELECT license_lease('una', '10.0.0.1')").await);
    // One that is lent to a transaction is in use.
    app.run("SELECT pg_sleep(1.2)").await;
    let other = office.login("lena").open_ok().await;
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
    assert_eq!(office.holders().await, "una zoe");
    assert_eq!(other.text("SELECT license_held('TOM')").await, "t");
    other.run("COMMIT").await;
}

/// What an application's connection holds for many users does not all go for one.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_holds_several_seats_does_not_lose_them_all_to_one_newcomer() {
    let office = Office::with_checkouts(3, "0").await;
    let app = office.user("anna").await;
    for user in ["zoe", "yan"] {
        app.run(&format!("SELECT license_checkout(client_user => '{user}')"))
            .await;
    }
    let bert = office.user("bert").await;
    bert.checkout().await;
    let carl = office.user("carl").await;
    assert!(carl.try_checkout().await);
    bert.ended().await.assert("57P05", "license_reclaimed");
    carl.run("BEGIN").await;
    let dora = office.user("dora").await;
    assert!(!dora.try_checkout().await);
    assert!(!app.is_ended());
    assert_eq!(office.holders().await, "carl yan zoe");
    app.run("SELECT license_checkin(client_user => 'zoe')")
        .await;
    assert!(dora.try_checkout().await);
    assert_eq!(office.holders().await, "carl dora yan");
}

/// Nor do seats of two products go for one.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_with_a_seat_of_another_product_too_does_not_give_way() {
    let office = Office::with_checkouts(2, "0").await;
    let main = "INSERT INTO licenses (product, seats, claimed_at, application_name)
                VALUES ('MAIN', 9, 'login', 'main')";
    office.admin.run(main).await;
    let takes = async |session: &Session| -> bool {
        let seats = "SELECT product FROM license_try_checkout('TOM')";
        !session.texts(seats).await.is_empty()
    };
    let anna = office.login("anna").app("main").open_ok().await;
    let bert = office.user("bert").await;
    assert!(takes(&anna).await && takes(&bert).await);
    let carl = office.user("carl").await;
    assert!(takes(&carl).await);
    bert.ended().await.assert("57P05", "license_reclaimed");
    carl.run("BEGIN").await;
    assert!(!takes(&office.user("dora").await).await);
    assert!(!anna.is_ended());
    assert_eq!(office.holders().await, "anna carl");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_in_line_gets_a_seat_as_soon_as_one_has_been_idle_long_enough() {
    let office = Office::with_checkouts(1, "3s").await;
    let anna = office.user("anna").await;
    anna.checkout().await;
    let bert = office.user("bert").await;
    let start = Instant::now();
    bert.run("SELECT license_checkout(wait => '1min')").await;
    let waited = start.elapsed();
    assert!(waited > Duration::from_millis(2_500), "{waited:?}");
    assert!(waited < Duration::from_secs(8), "{waited:?}");
    anna.ended().await.assert("57P05", "license_reclaimed");
    assert_eq!(office.holders().await, "bert");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_several_newcomers_gets_a_seat_of_its_own_and_nobody_else_loses_one() {
    let office = Office::open(12, "0").await;
    for round in 0..5 {
        let mut idle = Vec::new();
        for i in 0..12 {
            let login = office
                .cluster
                .login("anna")
                .from(&format!("127.0.2.{}", i + 1));
            idle.push(login.open_ok().await);
        }
        let newcomers = race(7, |i| {
            office
                .cluster
                .login("bert")
                .from(&format!("127.0.3.{}", i + 1))
        })
        .await;
        let newcomers: Vec<_> = newcomers.into_iter().map(Result::unwrap).collect();
        assert_eq!(office.in_use().await, 12, "round {round}");
        let annas = "SELECT count(*) FROM license_active_seats WHERE usename = 'anna'";
        assert_eq!(office.admin.text(annas).await, "5", "round {round}");
        let mut left = 0;
        for session in idle {
            if session.try_texts("SELECT 1").await.is_ok() {
                left += 1;
            }
        }
        assert_eq!(left, 5);
        drop(newcomers);
        eventually("nobody is in", PATIENCE, async || {
            office.in_use().await == 0
        })
        .await;
    }
    let usage = "SELECT high_water, denied FROM license_usage";
    assert_eq!(office.admin.text(usage).await, "12|0");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_newcomers_than_idle_seats_get_as_many_as_there_are() {
    let office = Office::open(4, "0").await;
    let busy = [office.user("anna").await, office.user("bert").await];
    for session in &busy {
        session.run("BEGIN").await;
    }
    let _idle = [office.user("carl").await, office.user("dora").await];
    // Those who have just come are idle themselves: they work at once.
    let newcomers = race(10, |i| {
        let login = office.cluster.login("emil");
        login.from(&format!("127.0.3.{}", i + 1))
    })
    .await;
    for denied in newcomers.iter().filter_map(|result| result.as_ref().err()) {
        is_full(denied);
    }
    assert_eq!(office.in_use().await, 4);
    for session in busy {
        assert!(!session.is_ended());
        session.run("ROLLBACK").await;
    }
}

/// A process that does not answer is waited for, then the next idle seat is asked; the first keeps its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_does_not_answer_is_not_waited_for_forever() {
    let office = Office::open(2, "0").await;
    let stuck = office.user("anna").await;
    let next = office.user("bert").await;
    next.run("SELECT 1").await;
    let pid = stuck.pid().await;
    next.run("SELECT 1").await;
    office.cluster.signal(pid, Signal::SIGSTOP);
    let start = Instant::now();
    let carl = office.user("carl").await;
    assert!(
        start.elapsed() < Duration::from_secs(6),
        "{:?}",
        start.elapsed()
    );
    next.ended().await.assert("57P05", "license_reclaimed");
    assert_eq!(office.holders().await, "anna carl");
    carl.run("BEGIN").await;
    // With none left that answers, the newcomer is denied in time.
    let start = Instant::now();
    is_full(&office.login("dora").denied().await);
    assert!(
        start.elapsed() < Duration::from_secs(8),
        "{:?}",
        start.elapsed()
    );
    office.cluster.signal(pid, Signal::SIGCONT);
    // Nobody wants its seat any more.
    stuck.run("SELECT pg_sleep(0.5)").await;
    assert!(!stuck.is_ended());
    assert_eq!(office.holders().await, "anna carl");
    let _emil = office.user("emil").await;
    stuck.ended().await.assert("57P05", "license_reclaimed");
}

/// Somebody else logs out while a newcomer waits for an idle seat that does not answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_seat_that_becomes_free_meanwhile_is_taken_at_once() {
    let office = Office::open(3, "0").await;
    let stuck = office.user("anna").await;
    let idle = office.user("carl").await;
    let leaves = office.user("bert").await;
    let pid = stuck.pid().await;
    for session in [&idle, &leaves] {
        session.run("SELECT 1").await;
    }
    leaves.run("BEGIN").await;
    office.cluster.signal(pid, Signal::SIGSTOP);
    let login = office.login("dora");
    let newcomer = tokio::spawn(async move { login.open_ok().await });
    is_asked(&office).await;
    leaves.close().await;
    let dora = newcomer.await.unwrap();
    office.cluster.signal(pid, Signal::SIGCONT);
    for session in [&stuck, &idle, &dora] {
        session.run("SELECT pg_sleep(0.2)").await;
        assert!(!session.is_ended());
    }
    assert_eq!(office.holders().await, "anna carl dora");
}

/// Waits until a login waits for somebody to give way.
async fn is_asked(office: &Office) {
    let waits = "SELECT count(*) FROM pg_stat_activity
                  WHERE wait_event IN ('Extension', 'LicenseSeat')
                    AND backend_type = 'client backend'";
    eventually("an idle seat is asked", PATIENCE, async || {
        office.admin.val::<i64>(waits).await == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_for_a_newcomer_that_is_ended_is_free() {
    let office = Office::open(1, "0").await;
    for end in ["pg_terminate_backend", "pg_cancel_backend"] {
        let stuck = office.user("anna").await;
        let pid = stuck.pid().await;
        office.cluster.signal(pid, Signal::SIGSTOP);
        let login = office.login("bert");
        let newcomer: JoinHandle<Result<Session, Denied>> =
            tokio::spawn(async move { login.open().await });
        is_asked(&office).await;
        let waits = format!(
            "SELECT {end}(pid) FROM pg_stat_activity
              WHERE wait_event IN ('Extension', 'LicenseSeat')
                AND backend_type = 'client backend'"
        );
        // Between two looks it does not wait for a moment.
        eventually("the newcomer is ended", PATIENCE, async || {
            office.admin.texts(&waits).await.len() == 1
        })
        .await;
        let denied = newcomer.await.unwrap().expect_err(end);
        assert!(
            ["57P01", "57014"].contains(&&*denied.sqlstate),
            "{denied:?}"
        );
        office.cluster.signal(pid, Signal::SIGCONT);
        // Whether it gave way in that moment or not, nothing is kept for who is gone.
        let carl = office.user("carl").await;
        assert_eq!(office.holders().await, "carl");
        assert_eq!(office.in_use().await, 1);
        carl.close().await;
        drop(stuck);
        eventually("nobody is in", PATIENCE, async || {
            office.in_use().await == 0
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_crash_of_a_newcomer_leaves_nothing() {
    let office = Office::open(1, "0").await;
    let stuck = office.user("anna").await;
    let pid = stuck.pid().await;
    office.cluster.signal(pid, Signal::SIGSTOP);
    let login = office.login("bert");
    let newcomer = tokio::spawn(async move { login.open().await });
    is_asked(&office).await;
    // Between two looks it does not wait for a moment.
    let mut waits = vec![];
    eventually("the newcomer waits", PATIENCE, async || {
        let statement = "SELECT pid::text FROM pg_stat_activity
              WHERE wait_event IN ('Extension', 'LicenseSeat')
                AND backend_type = 'client backend'";
        waits = office.admin.texts(statement).await;
        waits.len() == 1
    })
    .await;
    let waits = waits[0].parse().unwrap();
    office.cluster.crash_backend(waits);
    assert!(newcomer.await.unwrap().is_err());
    assert_eq!(office.cluster.in_use(), 0);
    let carl = office.user("carl").await;
    let dora = office.user("dora").await;
    carl.ended().await.assert("57P05", "license_reclaimed");
    dora.run("SELECT 1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seat_that_lingers_does_not_give_way() {
    let cluster =
        Cluster::builder().licensed("seats, reclaim_idle_after, linger", "1, '0', '1 hour'");
    let office = Office::of(cluster).await;
    let anna = office.user("anna").await;
    // Whoever gives way does not linger.
    let bert = office.user("bert").await;
    anna.ended().await.assert("57P05", "license_reclaimed");
    bert.close().await;
    eventually("bert is out", PATIENCE, async || {
        let sessions = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'bert'";
        office.admin.text(sessions).await == "0"
    })
    .await;
    is_full(&office.login("carl").denied().await);
    let _bert = office.user("bert").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pools_seats_give_way_across_databases() {
    let cluster = Cluster::builder().licensed("seats, pool, reclaim_idle_after", "1, 'firm', '0'");
    cluster.sql("CREATE DATABASE second");
    cluster.license("second", "seats, pool", "1, 'firm'");
    let office = Office::of(cluster).await;
    let anna = office.login("anna").db("second").open_ok().await;
    let bert = office.user("bert").await;
    anna.ended().await.assert("57P05", "license_reclaimed");
    // The newcomer's own row says whether seats give way.
    is_full(&office.login("carl").db("second").denied().await);
    bert.run("SELECT 1").await;
}

/// Holders that work again in just the moment in which somebody wants their seat, again and again: either the
/// statement is done and they keep it, or it has not begun and they are out.
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_in_that_very_moment_is_done_or_has_not_begun() {
    let office = Office::open(6, "0").await;
    office
        .admin
        .run("CREATE TABLE done (who text); GRANT INSERT ON done TO PUBLIC")
        .await;
    let stop = Arc::new(AtomicBool::new(false));
    let [done, ended, held] = [0; 3].map(|none| Arc::new(AtomicI64::new(none)));
    let start = Instant::now();
    let clients: Vec<_> = (0..14)
        .map(|client: usize| {
            let login = office
                .cluster
                .login("anna")
                .from(&format!("127.0.2.{}", client + 1));
            let [done, ended, held] = [&done, &ended, &held].map(Arc::clone);
            let stop = Arc::clone(&stop);
            tokio::spawn(async move {
                let mut told = Vec::new();
                let mut number = 0;
                while !stop.load(SeqCst) {
                    let session = match login.open().await {
                        Ok(session) => session,
                        Err(denied) => {
                            is_full(&denied);
                            continue;
                        }
                    };
                    loop {
                        number += 1;
                        let who = format!("{client}/{number}");
                        let insert = format!("INSERT INTO done VALUES ('{who}')");
                        let insert = match number % 3 {
                            0 => insert,
                            1 => format!("{insert}; SELECT pg_sleep(0.001)"),
                            _ => format!("BEGIN; {insert}; SELECT pg_sleep(0.001); COMMIT"),
                        };
                        match session.try_texts(&insert).await {
                            Ok(_) => {
                                done.fetch_add(1, SeqCst);
                                told.push((who, true));
                            }
                            Err(denied) => {
                                let sqlstate = &*denied.sqlstate;
                                assert!(["57P05", ""].contains(&sqlstate), "{denied:?}");
                                ended.fetch_add(1, SeqCst);
                                told.push((who, false));
                                break;
                            }
                        }
                        if number % 17 == 0 {
                            held.fetch_add(1, SeqCst);
                            tokio::time::sleep(Duration::from_millis(3)).await;
                        }
                        if stop.load(SeqCst) {
                            break;
                        }
                    }
                }
                told
            })
        })
        .collect();
    while start.elapsed() < Duration::from_secs(12) || ended.load(SeqCst) < 50 {
        assert!(office.in_use().await <= 6);
        assert!(start.elapsed() < 4 * PATIENCE, "{ended:?} of {done:?}");
    }
    stop.store(true, SeqCst);
    let (mut yes, mut no) = (Vec::new(), Vec::new());
    for client in clients {
        for (who, is_done) in client.await.unwrap() {
            if is_done { &mut yes } else { &mut no }.push(who);
        }
    }
    let count = async |who: &[String]| -> String {
        let rows = format!(
            "SELECT count(*), count(DISTINCT who) FROM done
              WHERE who = ANY (string_to_array('{}', ','))",
            who.join(",")
        );
        office.admin.text(&rows).await
    };
    assert_eq!(count(&yes).await, format!("{0}|{0}", yes.len()));
    assert_eq!(count(&no).await, "0|0", "of {}", no.len());
    let high_water: i32 = office
        .admin
        .val("SELECT high_water FROM license_usage")
        .await;
    assert!(high_water <= 6);
    eventually("nobody is in", PATIENCE, async || {
        office.in_use().await == 0
    })
    .await;
    // Nothing is kept for anybody: all seats are to be had.
    for i in 0..6 {
        let login = office
            .cluster
            .login("bert")
            .from(&format!("127.0.3.{}", i + 1));
        std::mem::forget(login.open_ok().await);
    }
    assert_eq!(office.in_use().await, 6);
}

/// Whoever asks is never denied while there is an idle seat.
#[tokio::test(flavor = "multi_thread")]
async fn applications_that_ask_for_more_than_there_is_share_what_there_is() {
    // Some are just being taken, or asked by others: there are enough beside these.
    let office = Office::with_checkouts(9, "0").await;
    let apps: Vec<_> = (0..4)
        .map(|i| {
            let login = office
                .cluster
                .login("lena")
                .from(&format!("127.0.2.{}", i + 1));
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
    assert_eq!(office.admin.text(usage).await, "9|9|0");
    eventually("rows of ended leases are gone", PATIENCE, async || {
        office
            .admin
            .text("SELECT count(*) FROM license_leases")
            .await
            == "9"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_those_in_line_the_first_gets_the_seat() {
    let office = Office::with_checkouts(1, "2s").await;
    let anna = office.user("anna").await;
    anna.checkout().await;
    anna.run("BEGIN").await;
    let mut waiters = Vec::new();
    for user in ["bert", "carl", "dora", "emil"] {
        let session = office.user(user).await;
        waiters.push(tokio::spawn(async move {
            session.run("SELECT license_checkout(wait => '1min')").await;
            session
        }));
        let standing = waiters.len() as i32;
        eventually("one more waits", PATIENCE, async || {
            let waiting = "SELECT waiting FROM license_usage";
            office.admin.val::<i32>(waiting).await == standing
        })
        .await;
    }
    // From now on she is idle, and each of them asks when it next looks.
    anna.run("COMMIT").await;
    anna.ended().await.assert("57P05", "license_reclaimed");
    for (user, waiter) in ["bert", "carl", "dora", "emil"].into_iter().zip(waiters) {
        let session = waiter.await.unwrap();
        let name: String = session.val("SELECT current_user::text").await;
        assert_eq!(name, user);
        session.close().await;
    }
    eventually("nobody is in", PATIENCE, async || {
        office.in_use().await == 0
    })
    .await;
}
