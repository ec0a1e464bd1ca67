//! Idle log-off: a seat whose every session has been inactive for too long is free again, and no query
//! that has begun is ever ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use tokio::time::timeout;

use crate::util::*;

/// Two seconds, and what a launcher and a slow machine may add.
const SOON: Duration = Duration::from_secs(6);

/// Opens a desk with nine seats, whose idle holders are logged off after two seconds.
async fn desk() -> Desk {
    Desk::licensed("seats, idle_timeout", "9, '2s'").await
}

impl Desk {
    /// Waits until nobody is in, within [`SOON`].
    async fn empties_soon(&self) {
        eventually("no seat is in use", SOON, async || self.in_use().await == 0).await;
    }
}

/// Lets so many seconds pass, which are what the test is about.
async fn pass(seconds: f64) {
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
}

/// Works until then.
async fn keeps_busy(session: &Session, until: Instant) {
    while Instant::now() < until {
        session.run("SELECT pg_sleep(0.05)").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_inactive_is_logged_off_and_reads_why() {
    let desk = desk().await;
    let idle = desk.user("anna").await;
    let busy = desk.user("bert").await;
    let start = Instant::now();
    let (ended, ()) = tokio::join!(
        idle.ended(),
        keeps_busy(&busy, start + Duration::from_secs(5))
    );
    ended.assert("57P05", "license_idle");
    assert_eq!(
        [&*ended.severity, &ended.message, &ended.detail, &ended.hint],
        [
            "FATAL",
            "logged off for inactivity",
            "Nobody was active at this seat of \"TOM\" for 2 seconds.",
            "Log in again to go on."
        ]
    );
    assert_eq!(desk.in_use().await, 1);
    busy.run("SELECT 1").await;
    let trail = "SELECT usename, client_host, detail ->> 'kind' FROM license_events
                  WHERE event = 'idle log-off'";
    eventually("the audit trail tells", PATIENCE, async || {
        desk.admin.texts(trail).await == ["anna|127.0.1.1|login"]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_happens_in_time_and_not_before() {
    let desk = desk().await;
    for _ in 0..3 {
        let anna = desk.user("anna").await;
        let start = Instant::now();
        anna.run("SELECT 1").await;
        anna.ended().await.assert("57P05", "license_idle");
        let idle = start.elapsed();
        assert!(idle > Duration::from_millis(1_900), "{idle:?}");
        assert!(idle < Duration::from_millis(3_500), "{idle:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_shows_why() {
    let desk = desk().await;
    let mut psql = desk.cluster.login("anna").from("127.0.0.1").process();
    psql.backend_pid();
    desk.empties_soon().await;
    psql.send("SELECT 1;");
    let complaint = psql.finish().stderr;
    let words = "FATAL:  logged off for inactivity\nDETAIL:  Nobody was active at this seat of \
                 \"TOM\" for 2 seconds.\nHINT:  Log in again to go on.\n";
    assert!(complaint.contains(words), "{complaint}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_transaction_is_inactive_and_leaves_nothing() {
    let desk = desk().await;
    desk.admin
        .run("CREATE TABLE t (n int); GRANT ALL ON t TO anna, bert")
        .await;
    let anna = desk.user("anna").await;
    anna.run("BEGIN; INSERT INTO t VALUES (1)").await;
    let bert = desk.user("bert").await;
    bert.run("BEGIN").await;
    bert.fails("SELECT 1/0").await.assert("22012", "");
    for session in [anna, bert] {
        session.ended().await.assert("57P05", "license_idle");
    }
    desk.empties_soon().await;
    assert_eq!(desk.admin.text("SELECT count(*) FROM t").await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_outlasts_the_timeout_goes_on() {
    let desk = desk().await;
    desk.admin
        .run("CREATE TABLE t (n int); GRANT ALL ON t TO carl; CREATE TABLE locked (n int)")
        .await;
    let [anna, bert, dora] = [
        desk.user("anna").await,
        desk.user("bert").await,
        desk.user("dora").await,
    ];
    desk.admin.run("GRANT ALL ON locked TO dora").await;
    let locker = desk.cluster.login("postgres").open_ok().await;
    locker.run("BEGIN; LOCK TABLE locked").await;
    let mut copy = desk.cluster.login("carl").from("127.0.0.1").process();
    copy.backend_pid();
    copy.send("COPY t FROM STDIN;\n1");
    let unlock = async {
        pass(4.0).await;
        locker.run("COMMIT").await;
    };
    tokio::join!(
        anna.run("SELECT pg_sleep(4)"),
        bert.run("BEGIN; SELECT pg_sleep(4); COMMIT"),
        dora.run("SELECT count(*) FROM locked"),
        unlock,
    );
    copy.send("2\n\\.");
    assert_eq!(copy.ask("SELECT count(*) FROM t;"), "2");
    // And then their time begins.
    for session in [anna, bert, dora] {
        session.ended().await.assert("57P05", "license_idle");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seat_is_judged_by_all_its_sessions() {
    let desk = desk().await;
    let idle = desk.user("anna").await;
    let busy = desk.user("anna").await;
    keeps_busy(&busy, Instant::now() + Duration::from_secs(5)).await;
    assert!(!idle.is_ended());
    idle.run("SELECT 1").await;
    for session in [idle, busy] {
        session.ended().await.assert("57P05", "license_idle");
    }
    desk.empties_soon().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_known_to_be_inactive_stays() {
    let cluster = Cluster::builder()
        .conf("pg_seats.exempt_superusers", "off")
        .licensed("seats, idle_timeout", "9, '1s'");
    let desk = Desk::of(cluster).await;
    desk.admin
        .run(
            "ALTER ROLE anna SET track_activities = off;
             INSERT INTO license_exemptions VALUES ('role', 'bert')",
        )
        .await;
    let stay = [
        desk.user("anna").await,
        desk.user("bert").await,
        desk.at("postgres", "127.0.3.1").open_ok().await,
    ];
    let carl = desk.user("carl").await;
    carl.ended().await.assert("57P05", "license_idle");
    pass(2.5).await;
    for session in stay {
        assert!(!session.is_ended());
        session.run("SELECT 1").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_timeout_is_in_force_for_those_who_are_in() {
    let desk = Desk::of(Cluster::with_seats(9)).await;
    let anna = desk.user("anna").await;
    pass(1.5).await;
    assert!(!anna.is_ended());
    desk.admin
        .run("UPDATE licenses SET idle_timeout = '1s'")
        .await;
    anna.ended().await.assert("57P05", "license_idle");
    let bert = desk.user("bert").await;
    desk.admin
        .run("UPDATE licenses SET idle_timeout = NULL")
        .await;
    pass(3.0).await;
    assert!(!bert.is_ended());
    desk.admin
        .run("UPDATE licenses SET idle_timeout = '1 hour'")
        .await;
    pass(1.0).await;
    desk.admin
        .run("UPDATE licenses SET idle_timeout = '1s'")
        .await;
    bert.ended().await.assert("57P05", "license_idle");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_on_after_restart_and_crash_and_without_the_launcher_for_a_moment() {
    let desk = desk().await;
    let cluster = &desk.cluster;
    let logged_off = async |when: &str| {
        let anna = desk.user("anna").await;
        let ended = anna.ended().await;
        assert_eq!(ended.reason, "license_idle", "{when}: {ended:?}");
    };
    logged_off("at first").await;
    cluster.restart(Stop::Fast);
    logged_off("after a restart").await;
    let bert = desk.user("bert").await;
    cluster.crash_backend(bert.pid().await);
    logged_off("after a crash").await;
    let launcher = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                     WHERE backend_type = 'pg_seats launcher'";
    assert_eq!(cluster.sql(launcher), "t");
    logged_off("after the launcher's end").await;
}

/// Whoever locks an audit trail has the launcher try again and again: there is always a database to be
/// visited.
#[tokio::test(flavor = "multi_thread")]
async fn it_happens_in_time_though_other_databases_keep_the_launcher_busy() {
    let desk = desk().await;
    let cluster = &desk.cluster;
    let mut lockers = Vec::new();
    for other in ["one", "two", "three"] {
        cluster.sql(&format!("CREATE DATABASE {other}"));
        cluster.license(other, "seats", "9");
        let locker = cluster.login("postgres").db(other).open_ok().await;
        locker.run("BEGIN; LOCK TABLE license_events").await;
        cluster.login("bert").db(other).open_ok().await;
        lockers.push(locker);
    }
    for other in ["one", "two", "three"] {
        let complaint = format!("could not write license_events of database \"{other}\"");
        cluster.wait_log(&complaint, PATIENCE);
    }
    let anna = desk.user("anna").await;
    let ended = timeout(SOON, anna.ended()).await.expect("a log-off");
    ended.assert("57P05", "license_idle");
    drop(lockers);
}

#[tokio::test(flavor = "multi_thread")]
async fn checkouts_are_judged_and_leases_too() {
    let desk = Desk::licensed("seats, claimed_at, idle_timeout", "9, 'checkout', '2s'").await;
    desk.admin
        .run("GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO dora")
        .await;
    // Who holds no seat may be as idle as they like.
    let without = desk.user("bert").await;
    let anna = desk.user("anna").await;
    anna.checkout().await;
    anna.ended().await.assert("57P05", "license_idle");
    without.run("SELECT 1").await;
    let app = desk.user("dora").await;
    let [beating, silent] = [
        lease_for(&app, "zoe", "1 hour").await,
        lease_for(&app, "yan", "1 hour").await,
    ];
    let until = Instant::now() + Duration::from_secs(6);
    while Instant::now() < until {
        assert!(beats(&app, &beating).await);
        app.run("SELECT pg_sleep(0.2)").await;
    }
    assert!(!beats(&app, &silent).await);
    assert_eq!(desk.in_use().await, 1);
    // A lease that is lent to a transaction is not idle.
    app.run(&format!("BEGIN; SELECT license_heartbeat('{beating}')"))
        .await;
    keeps_busy(&app, Instant::now() + Duration::from_secs(4)).await;
    assert_eq!(app.text("SELECT license_held('TOM')").await, "t");
    app.run("COMMIT").await;
    desk.empties_soon().await;
    assert!(!app.is_ended());
    settles(&desk.cluster, "no row is left", "0|0|0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_pool_the_longest_timeout_of_those_who_hold_the_seat_holds() {
    let cluster = Cluster::builder().licensed("seats, pool, idle_timeout", "9, 'firm', '1s'");
    for (other, timeout) in [("slow", "'4s'"), ("never", "NULL")] {
        cluster.sql(&format!("CREATE DATABASE {other}"));
        let values = format!("9, 'firm', {timeout}");
        cluster.license(other, "seats, pool, idle_timeout", &values);
    }
    let desk = Desk::of(cluster).await;
    let one = desk.user("anna").await;
    one.ended().await.assert("57P05", "license_idle");
    let here = desk.user("anna").await;
    let slow = desk.login("anna").db("slow").open_ok().await;
    let start = Instant::now();
    slow.ended().await.assert("57P05", "license_idle");
    assert!(start.elapsed() > Duration::from_millis(3_500));
    here.ended().await.assert("57P05", "license_idle");
    let here = desk.user("bert").await;
    let never = desk.login("bert").db("never").open_ok().await;
    pass(3.0).await;
    assert!(!here.is_ended() && !never.is_ended());
    never.close().await;
    here.ended().await.assert("57P05", "license_idle");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_users_own_timeouts_keep_their_words() {
    let desk = Desk::of(Cluster::with_seats(9)).await;
    let anna = desk.login("anna").options("-c idle_session_timeout=300ms");
    let ended = anna.open_ok().await.ended().await;
    ended.assert("57P05", "");
    assert_eq!(
        ended.message,
        "terminating connection due to idle-session timeout"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_logs_off_by_itself() {
    let primary = Cluster::builder().licensed("seats, idle_timeout", "9, '2s'");
    let standby = primary.standby();
    let anna = standby.login("anna").from("127.0.1.1").open_ok().await;
    anna.ended().await.assert("57P05", "license_idle");
}

/// A seat that was logged off is somebody's at once, without a reclaim.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_in_the_queue_gets_the_seat() {
    let desk = Desk::licensed("seats, claimed_at, idle_timeout", "1, 'checkout', '2s'").await;
    let anna = desk.user("anna").await;
    anna.checkout().await;
    let bert = desk.user("bert").await;
    bert.run("SELECT license_checkout(wait => '1min')").await;
    anna.ended().await.assert("57P05", "license_idle");
}

/// A client that sends its next statement in just the moment of its log-off, again and again: either all of
/// it is done, or none of it has begun.
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_in_that_very_moment_is_done_or_has_not_begun() {
    let desk = Desk::licensed("seats, idle_timeout", "99, '1s'").await;
    let told = Arc::new(Told::with_table(&desk.admin).await);
    let stop = Arc::new(AtomicBool::new(false));
    let start = Instant::now();
    let clients: Vec<_> = (0..24)
        .map(|client: usize| {
            // Some share a seat.
            let computer = if client < 16 { client } else { client / 2 + 8 };
            let login = desk.at("anna", &format!("127.0.2.{}", computer + 1));
            let (told, stop) = (Arc::clone(&told), Arc::clone(&stop));
            tokio::spawn(async move {
                // Each learns how long it must wait to be too late half the time.
                let mut pause = Duration::from_millis(1_000 + 20 * client as u64);
                let step = Duration::from_millis(7);
                for round in 0.. {
                    if stop.load(SeqCst) {
                        break;
                    }
                    let session = login.open_ok().await;
                    if !Told::runs(&session, "SELECT 1").await {
                        // Too late already: the machine is busy.
                        continue;
                    }
                    tokio::time::sleep(pause).await;
                    let who = format!("{client}/{round}");
                    let insert = format!("INSERT INTO done VALUES ('{who}')");
                    let insert = match round % 3 {
                        0 => insert,
                        1 => format!("{insert}; SELECT pg_sleep(0.02)"),
                        _ => format!("BEGIN; {insert}; SELECT pg_sleep(0.02); COMMIT"),
                    };
                    if told.is_done(&session, who, &insert).await {
                        pause += step;
                    } else {
                        pause = pause.saturating_sub(step);
                    }
                    session.abort().await;
                }
            })
        })
        .collect();
    eventually("it was tried often enough", 3 * PATIENCE, async || {
        told.done() > 100 && told.ended() > 100 && start.elapsed() > Duration::from_secs(15)
    })
    .await;
    stop.store(true, SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    told.assert_true(&desk.admin).await;
}
