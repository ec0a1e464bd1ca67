//! Idle log-off: a seat whose every session has been inactive for too long is free again, and no query
//! that has begun is ever ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::leases::{beats, lease_for};
use crate::util::*;

/// Two seconds, and what a launcher and a slow machine may add.
const SOON: Duration = Duration::from_secs(6);

/// A license whose idle seats are logged off after two seconds, and the administrator who looks.
struct Office {
    admin: Session,
    cluster: Cluster,
}

impl Office {
    async fn open() -> Self {
        Self::of(Cluster::builder().licensed("seats, idle_timeout", "9, '2s'")).await
    }

    async fn of(cluster: Cluster) -> Self {
        let admin = cluster.login("postgres").open_ok().await;
        Self { admin, cluster }
    }

    fn login(&self, user: &str) -> Login {
        let number = STAFF.iter().position(|name| *name == user).unwrap() + 1;
        self.cluster.login(user).from(&format!("127.0.1.{number}"))
    }

    async fn in_use(&self) -> i32 {
        self.admin
            .val("SELECT in_use FROM license_usage WHERE product = 'TOM'")
            .await
    }

    async fn in_use_becomes(&self, seats: i32) {
        let what = format!("{seats} seats are in use");
        eventually(&what, SOON, async || self.in_use().await == seats).await;
    }

    /// Lets so many seconds pass, which are what the test is about.
    async fn pass(&self, seconds: f64) {
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    }
}

/// Works until told not to.
async fn keeps_busy(session: &Session, until: Instant) {
    while Instant::now() < until {
        session.run("SELECT pg_sleep(0.05)").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_inactive_is_logged_off_and_reads_why() {
    let office = Office::open().await;
    let idle = office.login("anna").open_ok().await;
    let busy = office.login("bert").open_ok().await;
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
    assert_eq!(office.in_use().await, 1);
    busy.run("SELECT 1").await;
    let trail = "SELECT usename, client_host, detail ->> 'kind' FROM license_events
                  WHERE event = 'idle log-off'";
    eventually("the audit trail tells", PATIENCE, async || {
        office.admin.texts(trail).await == ["anna|127.0.1.1|login"]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_happens_in_time_and_not_before() {
    let office = Office::open().await;
    for _ in 0..3 {
        let anna = office.login("anna").open_ok().await;
        anna.run("SELECT 1").await;
        let start = Instant::now();
        anna.ended().await.assert("57P05", "license_idle");
        let idle = start.elapsed();
        assert!(idle > Duration::from_millis(1_900), "{idle:?}");
        assert!(idle < Duration::from_millis(3_500), "{idle:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_shows_why() {
    let office = Office::open().await;
    let mut psql = office.cluster.login("anna").from("127.0.0.1").process();
    psql.backend_pid();
    office.in_use_becomes(0).await;
    psql.send("SELECT 1;");
    let complaint = psql.finish().stderr;
    let words = "FATAL:  logged off for inactivity\nDETAIL:  Nobody was active at this seat of \
                 \"TOM\" for 2 seconds.\nHINT:  Log in again to go on.\n";
    assert!(complaint.contains(words), "{complaint}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_transaction_is_inactive_and_leaves_nothing() {
    let office = Office::open().await;
    office
        .admin
        .run("CREATE TABLE t (n int); GRANT ALL ON t TO anna, bert")
        .await;
    let anna = office.login("anna").open_ok().await;
    anna.run("BEGIN; INSERT INTO t VALUES (1)").await;
    let bert = office.login("bert").open_ok().await;
    bert.run("BEGIN").await;
    bert.fails("SELECT 1/0").await.assert("22012", "");
    for session in [anna, bert] {
        session.ended().await.assert("57P05", "license_idle");
    }
    office.in_use_becomes(0).await;
    assert_eq!(office.admin.text("SELECT count(*) FROM t").await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_outlasts_the_timeout_goes_on() {
    let office = Office::open().await;
    office
        .admin
        .run("CREATE TABLE t (n int); GRANT ALL ON t TO carl; CREATE TABLE locked (n int)")
        .await;
    let [anna, bert, dora] = [
        office.login("anna").open_ok().await,
        office.login("bert").open_ok().await,
        office.login("dora").open_ok().await,
    ];
    office.admin.run("GRANT ALL ON locked TO dora").await;
    let locker = office.cluster.login("postgres").open_ok().await;
    locker.run("BEGIN; LOCK TABLE locked").await;
    let mut copy = office.cluster.login("carl").from("127.0.0.1").process();
    copy.backend_pid();
    copy.send("COPY t FROM STDIN;\n1");
    let unlock = async {
        office.pass(4.0).await;
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
    let office = Office::open().await;
    let idle = office.login("anna").open_ok().await;
    let busy = office.login("anna").open_ok().await;
    keeps_busy(&busy, Instant::now() + Duration::from_secs(5)).await;
    assert!(!idle.is_ended());
    idle.run("SELECT 1").await;
    for session in [idle, busy] {
        session.ended().await.assert("57P05", "license_idle");
    }
    office.in_use_becomes(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_known_to_be_inactive_stays() {
    let cluster = Cluster::builder()
        .conf("pg_seats.exempt_superusers", "off")
        .licensed("seats, idle_timeout", "9, '1s'");
    let office = Office::of(cluster).await;
    office
        .admin
        .run(
            "ALTER ROLE anna SET track_activities = off;
             INSERT INTO license_exemptions VALUES ('role', 'bert')",
        )
        .await;
    let boss = office
        .cluster
        .login("postgres")
        .from("127.0.3.1")
        .open_ok()
        .await;
    let stay = [
        office.login("anna").open_ok().await,
        office.login("bert").open_ok().await,
        boss,
    ];
    let carl = office.login("carl").open_ok().await;
    carl.ended().await.assert("57P05", "license_idle");
    office.pass(2.5).await;
    for session in stay {
        assert!(!session.is_ended());
        session.run("SELECT 1").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_timeout_is_in_force_for_those_who_are_in() {
    let office = Office::of(Cluster::with_seats(9)).await;
    let anna = office.login("anna").open_ok().await;
    office.pass(1.5).await;
    assert!(!anna.is_ended());
    office
        .admin
        .run("UPDATE licenses SET idle_timeout = '1s'")
        .await;
    anna.ended().await.assert("57P05", "license_idle");
    let bert = office.login("bert").open_ok().await;
    office
        .admin
        .run("UPDATE licenses SET idle_timeout = NULL")
        .await;
    office.pass(3.0).await;
    assert!(!bert.is_ended());
    office
        .admin
        .run("UPDATE licenses SET idle_timeout = '1 hour'")
        .await;
    office.pass(1.0).await;
    office
        .admin
        .run("UPDATE licenses SET idle_timeout = '1s'")
        .await;
    bert.ended().await.assert("57P05", "license_idle");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_on_after_restart_and_crash_and_without_the_launcher_for_a_moment() {
    let office = Office::open().await;
    let cluster = &office.cluster;
    let logged_off = async |when: &str| {
        let anna = office.login("anna").open_ok().await;
        let ended = anna.ended().await;
        assert_eq!(ended.reason, "license_idle", "{when}: {ended:?}");
    };
    logged_off("at first").await;
    cluster.restart(Stop::Fast);
    logged_off("after a restart").await;
    let bert = office.login("bert").open_ok().await;
    cluster.crash_backend(bert.pid().await);
    logged_off("after a crash").await;
    let launcher = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                     WHERE backend_type = 'pg_seats launcher'";
    assert_eq!(cluster.sql(launcher), "t");
    logged_off("after the launcher's end").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn checkouts_are_judged_and_leases_too() {
    let cluster =
        Cluster::builder().licensed("seats, claimed_at, idle_timeout", "9, 'checkout', '2s'");
    let office = Office::of(cluster).await;
    office
        .admin
        .run("GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO dora")
        .await;
    // Who holds no seat may be as idle as they like.
    let without = office.login("bert").open_ok().await;
    let anna = office.login("anna").open_ok().await;
    anna.checkout().await;
    anna.ended().await.assert("57P05", "license_idle");
    without.run("SELECT 1").await;
    let app = office.login("dora").open_ok().await;
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
    assert_eq!(office.in_use().await, 1);
    // A lease that is lent to a transaction is not idle.
    app.run(&format!("BEGIN; SELECT license_heartbeat('{beating}')"))
        .await;
    keeps_busy(&app, Instant::now() + Duration::from_secs(4)).await;
    assert_eq!(app.text("SELECT license_held('TOM')").await, "t");
    app.run("COMMIT").await;
    office.in_use_becomes(0).await;
    assert!(!app.is_ended());
    eventually("no row is left", PATIENCE, async || {
        office
            .admin
            .text("SELECT count(*) FROM license_leases")
            .await
            == "0"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_pool_the_longest_timeout_of_those_who_hold_the_seat_holds() {
    let cluster = Cluster::builder().licensed("seats, pool, idle_timeout", "9, 'firm', '1s'");
    for (other, timeout) in [("slow", "'4s'"), ("never", "NULL")] {
        cluster.sql(&format!("CREATE DATABASE {other}"));
        let values = format!("9, 'firm', {timeout}");
        cluster.license(other, "seats, pool, idle_timeout", &values);
    }
    let office = Office::of(cluster).await;
    let one = office.login("anna").open_ok().await;
    one.ended().await.assert("57P05", "license_idle");
    let here = office.login("anna").open_ok().await;
    let slow = office.login("anna").db("slow").open_ok().await;
    let start = Instant::now();
    slow.ended().await.assert("57P05", "license_idle");
    assert!(start.elapsed() > Duration::from_millis(3_500));
    here.ended().await.assert("57P05", "license_idle");
    let here = office.login("bert").open_ok().await;
    let never = office.login("bert").db("never").open_ok().await;
    office.pass(3.0).await;
    assert!(!here.is_ended() && !never.is_ended());
    never.close().await;
    here.ended().await.assert("57P05", "license_idle");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_users_own_timeouts_keep_their_words() {
    let office = Office::of(Cluster::with_seats(9)).await;
    let anna = office
        .login("anna")
        .options("-c idle_session_timeout=300ms");
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
async fn the_first_in_line_gets_the_seat() {
    let cluster =
        Cluster::builder().licensed("seats, claimed_at, idle_timeout", "1, 'checkout', '2s'");
    let office = Office::of(cluster).await;
    let anna = office.login("anna").open_ok().await;
    anna.checkout().await;
    let bert = office.login("bert").open_ok().await;
    bert.run("SELECT license_checkout(wait => '1min')").await;
    anna.ended().await.assert("57P05", "license_idle");
}

/// A client that sends its next statement in just the moment of its log-off, again and again: either all of
/// it is done, or none of it has begun.
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_in_that_very_moment_is_done_or_has_not_begun() {
    let office = Office::of(Cluster::builder().licensed("seats, idle_timeout", "99, '1s'")).await;
    office
        .admin
        .run("CREATE TABLE done (who text); GRANT INSERT ON done TO PUBLIC")
        .await;
    let [done, ended] = [0; 2].map(|none| Arc::new(AtomicI64::new(none)));
    let stop = Arc::new(AtomicBool::new(false));
    let start = Instant::now();
    let clients: Vec<_> = (0..24)
        .map(|client: usize| {
            let login = office
                .cluster
                .login("anna")
                .from(&format!("127.0.2.{}", client + 1));
            let [done, ended] = [&done, &ended].map(Arc::clone);
            let stop = Arc::clone(&stop);
            tokio::spawn(async move {
                let mut told = Vec::new();
                // Each learns how long it must wait to be too late half the time.
                let mut pause = Duration::from_millis(1_000 + 20 * client as u64);
                for round in 0.. {
                    if stop.load(SeqCst) {
                        break;
                    }
                    let session = login.open_ok().await;
                    session.run("SELECT 1").await;
                    tokio::time::sleep(pause).await;
                    let who = format!("{client}/{round}");
                    let insert = format!("INSERT INTO done VALUES ('{who}')");
                    let insert = match round % 3 {
                        0 => insert,
                        1 => format!("{insert}; SELECT 1"),
                        _ => format!("BEGIN; {insert}; COMMIT"),
                    };
                    match session.try_texts(&insert).await {
                        Ok(_) => {
                            done.fetch_add(1, SeqCst);
                            told.push((who, true));
                            pause += Duration::from_millis(7);
                        }
                        Err(denied) => {
                            assert!(
                                denied.sqlstate == "57P05" || denied.sqlstate.is_empty(),
                                "{denied:?}"
                            );
                            ended.fetch_add(1, SeqCst);
                            told.push((who, false));
                            pause = pause.saturating_sub(Duration::from_millis(7));
                        }
                    }
                    session.abort().await;
                }
                told
            })
        })
        .collect();
    let enough = || done.load(SeqCst) > 100 && ended.load(SeqCst) > 100;
    eventually("it was tried often enough", 3 * PATIENCE, async || {
        enough() && start.elapsed() > Duration::from_secs(15)
    })
    .await;
    stop.store(true, SeqCst);
    let rows = "SELECT count(*), count(DISTINCT who) FROM done WHERE who = ANY (string_to_array('";
    let (mut yes, mut no) = (Vec::new(), Vec::new());
    for client in clients {
        for (who, is_done) in client.await.unwrap() {
            if is_done { &mut yes } else { &mut no }.push(who);
        }
    }
    let count = async |who: &[String]| -> String {
        let rows = format!("{rows}{}', ','))", who.join(","));
        office.admin.text(&rows).await
    };
    assert_eq!(count(&yes).await, format!("{0}|{0}", yes.len()));
    assert_eq!(count(&no).await, "0|0", "of {}", no.len());
}
