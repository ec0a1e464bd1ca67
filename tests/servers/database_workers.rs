//! Database workers of the launcher: no database, whatever its state or its owner's settings, holds up what is done for others.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::timeout;

use crate::util::*;

const WORKERS: &str =
    "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_seats database worker'";

const DENIALS: &str = "SELECT count(*) FROM license_events WHERE event = 'denial'";

/// Returns a cluster where leases can be had, with a second database `company`, whose license has these columns, too.
fn with_company(builder: Builder, columns: &str, values: &str) -> Cluster {
    let cluster = builder.licensed(columns, values);
    cluster.sql("CREATE DATABASE company");
    cluster.license("company", columns, values);
    cluster
}

/// Asserts that a denial in `postgres` is in the trail within seconds.
async fn denials_are_told(cluster: &Cluster) {
    // Denials of one user are told together.
    static USERS: AtomicUsize = AtomicUsize::new(0);
    let user = format!("user{}", USERS.fetch_add(1, Relaxed));
    cluster.sql(&format!("CREATE ROLE {user} LOGIN"));
    let before: i64 = cluster.sql(DENIALS).parse().unwrap();
    cluster
        .login(&user)
        .from(&new_host())
        .denied()
        .await
        .assert("53300", "license_full");
    let start = Instant::now();
    eventually("the denial is in the trail", PATIENCE, async || {
        cluster.sql(DENIALS).parse::<i64>().unwrap() > before
    })
    .await;
    let took = start.elapsed();
    assert!(took < Duration::from_secs(6), "{took:?}");
}

/// Superusers get in within a second, or what this machine takes without more ado.
async fn superusers_get_in(cluster: &Cluster) {
    let login = cluster.login("postgres");
    let start = Instant::now();
    login.open_ok().await.run("SELECT 1").await;
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_database_holds_up_no_other() {
    let cluster = with_company(Cluster::builder(), "seats", "0");
    cluster.sql_in("company", "UPDATE licenses SET seats = 1");
    cluster.sql_in(
        "company",
        "SELECT license_lease('zoe', '10.0.0.1', 'TOM', '2 seconds')",
    );
    let admin = cluster.login("postgres").open_ok().await;
    // As long as this transaction lasts nobody can connect, as while the database is copied.
    let mut mark = 0;
    eventually("nobody is there", PATIENCE, async || {
        admin.run("ROLLBACK; BEGIN").await;
        mark = cluster.log().len();
        let rename = "ALTER DATABASE company RENAME TO firm";
        admin.try_texts(rename).await.is_ok()
    })
    .await;
    for _ in 0..5 {
        denials_are_told(&cluster).await;
        superusers_get_in(&cluster).await;
    }
    cluster.wait_log_since(mark, "\"company\": somebody has locked it");
    let leases = "SELECT count(*) FROM license_leases";
    admin.run("COMMIT").await;
    // Its lease has ended, and its row is deleted as soon as a database worker is let in.
    eventually("it is visited again", 2 * PATIENCE, async || {
        cluster.sql_in("firm", leases) == "0"
    })
    .await;
    assert!(!cluster.log_since(mark).contains("PANIC"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_table_and_a_damaged_one_hold_up_no_other() {
    let cluster = with_company(
        Cluster::builder().conf("max_prepared_transactions", 5),
        "seats, pool",
        "0, 'firm'",
    );
    for database in ["locked", "damaged"] {
        cluster.copy("company", database);
    }
    let file = cluster.sql_in("damaged", "SELECT pg_relation_filepath('licenses')");
    let lock = "BEGIN; LOCK TABLE licenses; PREPARE TRANSACTION 'lock'";
    cluster.sql_in("locked", "UPDATE licenses SET pool = NULL");
    cluster.sql_in("damaged", "UPDATE licenses SET pool = NULL");
    for database in ["locked", "damaged"] {
        let oid = cluster.sql(&format!(
            "SELECT oid FROM pg_database WHERE datname = '{database}'"
        ));
        eventually("it is in no pool any more", PATIENCE, async || {
            remembered(&cluster).get(&oid) == Some(&0)
        })
        .await;
    }
    cluster.sql_in("locked", lock);
    cluster.stop(Stop::Fast);
    fs::write(cluster.data_dir().join(file), [0xff; 8192]).unwrap();
    cluster.start_again();
    for _ in 0..3 {
        denials_are_told(&cluster).await;
        superusers_get_in(&cluster).await;
    }
    // The log says so by name, and not every second.
    tokio::time::sleep(Duration::from_secs(6)).await;
    for database in ["locked", "damaged"] {
        let said = format!("could not load licenses of database \"{database}\"");
        let times = cluster.log().matches(&said).count();
        assert!((1..=4).contains(&times), "{said}: {times}");
    }
}

/// Returns in how many pools each database is, as the file says; those of which it says so.
fn remembered(cluster: &Cluster) -> BTreeMap<String, usize> {
    let file = fs::read(cluster.data_dir().join("pg_seats.pools")).unwrap_or_default();
    let file: serde_json::Value = serde_json::from_slice(&file).unwrap_or_default();
    let databases = file["pools"]["databases"].as_object();
    let databases = databases.into_iter().flatten();
    databases
        .map(|(oid, pools)| (oid.clone(), pools.as_array().map_or(0, Vec::len)))
        .collect()
}

async fn is_remembered(cluster: &Cluster, database: &str) {
    let oid = format!("SELECT oid FROM pg_database WHERE datname = '{database}'");
    let oid = cluster.sql(&oid);
    let what = format!("it is remembered in which pools {database} is");
    eventually(&what, PATIENCE, async || {
        remembered(cluster).contains_key(&oid)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_waits_for_no_database_that_has_nothing_to_do_with_its_pool() {
    let cluster = Cluster::builder()
        .conf("max_prepared_transactions", 5)
        .conf("pg_seats.load_timeout", "3s")
        .licensed("seats, pool", "2, 'firm'");
    cluster.sql("CREATE DATABASE company");
    cluster.license("company", "seats", "1");
    is_remembered(&cluster, "company").await;
    is_remembered(&cluster, "postgres").await;
    // Nobody can see whether there are leases that count.
    let lock = "BEGIN; LOCK TABLE licenses, license_leases; PREPARE TRANSACTION 'lock'";
    cluster.sql_in("company", lock);
    let file = cluster.data_dir().join("pg_seats.pools");
    let waits = async || {
        let denied = cluster.login("anna").from("127.0.1.1").denied().await;
        denied.assert("57P03", "license_not_loaded");
        assert!(denied.detail.contains("company"), "{denied:?}");
    };
    for stop in [Stop::Fast, Stop::Immediate] {
        cluster.restart(stop);
        let login = cluster.login("anna").from("127.0.1.1");
        let login = timeout(Duration::from_secs(3), login.open_ok()).await;
        login.expect("nobody was waited for").close().await;
    }
    // Where nothing is remembered, or what is there was put there, everybody is waited for.
    cluster.stop(Stop::Fast);
    let text = fs::read(&file).unwrap();
    fs::write(&file, &text).unwrap();
    cluster.start_again();
    waits().await;
    fs::remove_file(&file).unwrap();
    cluster.restart(Stop::Fast);
    waits().await;
    // What has joined is waited for, also where the server crashes at once: there may be leases.
    cluster.sql_in("company", "ROLLBACK PREPARED 'lock'");
    is_remembered(&cluster, "company").await;
    let lease = "SELECT license_lease('zoe', '10.0.0.1', 'TOM', '1 day')";
    cluster.sql_in("company", lease);
    cluster.sql_in("company", "UPDATE licenses SET pool = 'firm'");
    cluster.sql_in("company", lock);
    cluster.restart(Stop::Immediate);
    waits().await;
    cluster.sql_in("company", "ROLLBACK PREPARED 'lock'");
    cluster.login("anna").from("127.0.1.1").open_ok().await;
    is_remembered(&cluster, "company").await;
    cluster.sql_in("company", lock);
    cluster.restart(Stop::Fast);
    waits().await;
    // One that came from a backup begins without it.
    cluster.sql_in("company", "ROLLBACK PREPARED 'lock'");
    is_remembered(&cluster, "company").await;
    cluster.stop(Stop::Fast);
    fs::write(cluster.data_dir().join("standby.signal"), "").unwrap();
    cluster.start_again();
    assert!(!file.exists());
    cluster.promote();
    is_remembered(&cluster, "company").await;
}

/// Returns a value other than the present one of every setting that a database's owner, or its superuser, can set for
/// sessions; the second kind is another one.
fn nasty(kind: &str) -> String {
    let number = if kind == "first" {
        "min_val"
    } else {
        "max_val"
    };
    let place = if kind == "first" {
        "1"
    } else {
        "array_length(enumvals, 1)"
    };
    format!(
        "SELECT name, CASE vartype WHEN 'bool' THEN CASE setting WHEN 'on' THEN 'off' ELSE 'on' END
                    WHEN 'enum' THEN enumvals[{place}]
                    WHEN 'string' THEN CASE '{kind}' WHEN 'first' THEN '' ELSE 'bert' END
                    ELSE {number} END
           FROM pg_settings WHERE context IN ('user', 'superuser')
         UNION ALL VALUES ('role', 'bert'), ('session_authorization', 'bert'), ('some.thing', 'else'),
                          ('statement_timeout', '1'), ('lock_timeout', '1'),
                          ('idle_in_transaction_session_timeout', '1'), ('transaction_timeout', '3')"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn no_setting_of_a_database_or_role_reaches_a_database_worker() {
    let cluster = with_company(Cluster::builder(), "claimed_at, seats", "'checkout', 1");
    cluster.sql("UPDATE licenses SET pool = 'firm', seats = 2");
    cluster.sql_in("company", "UPDATE licenses SET pool = 'firm', seats = 2");
    for kind in ["first", "second"] {
        let admin = cluster.login("postgres").db("company").open_ok().await;
        let [anna, bert] = [("anna", "127.0.1.1"), ("bert", "127.0.1.2")]
            .map(|(user, host)| cluster.login(user).db("company").from(host));
        let (anna, bert) = (anna.open_ok().await, bert.open_ok().await);
        let outside = cluster.login("postgres").open_ok().await;
        let mut set = 0;
        for setting in outside.texts(&nasty(kind)).await {
            let (name, value) = setting.split_once('|').unwrap();
            let value = value.replace('\'', "''");
            for whom in ["DATABASE company", "ROLE postgres IN DATABASE company"] {
                let statement = format!("ALTER {whom} SET {name} = '{value}'");
                set += usize::from(outside.try_texts(&statement).await.is_ok());
            }
        }
        assert!(set > 200, "{set}");
        // Those who are in go on: seats, denials, bars, leases and changes.
        assert!(anna.try_checkout().await && bert.try_checkout().await);
        let full = cluster.login("carl").from("127.0.1.3").open_ok().await;
        assert!(!full.try_checkout().await, "the pool is full");
        let seat = "SELECT seat_id FROM license_active_seats WHERE usename = 'bert'";
        let seat = admin.text(seat).await;
        let stop = format!("SELECT license_terminate('{seat}', 'enough', '1 hour')");
        assert_eq!(admin.text(&stop).await, "1");
        assert_eq!(admin.text("SELECT count(*) FROM license_bars").await, "1");
        admin
            .run("SELECT license_lease('zoe', '10.0.0.1', 'TOM', '1 second')")
            .await;
        let told = "SELECT count(DISTINCT event) FROM license_events
                     WHERE event IN ('termination', 'lease expiry')";
        eventually("its trail is written", PATIENCE, async || {
            admin.text("SELECT count(*) FROM license_leases").await == "0"
                && admin.text(told).await == "2"
        })
        .await;
        admin
            .run("DELETE FROM license_bars; DELETE FROM license_events")
            .await;
        // After a start others wait until it has been read.
        cluster.restart(Stop::Fast);
        let dora = cluster.login("dora").from("127.0.1.4").open_ok().await;
        assert!(dora.try_checkout().await, "{}", cluster.log());
        drop((admin, anna, bert, full, outside));
        cluster.sql(
            "ALTER DATABASE company RESET ALL; ALTER ROLE postgres IN DATABASE company RESET ALL",
        );
        dora.close().await;
        eventually("all are out", PATIENCE, async || cluster.in_use() == 0).await;
    }
}

/// Tells how many processes the server's user may have, as far as the postmaster is concerned: as the user itself may
/// set it.
fn limit_processes(cluster: &Cluster, soft: &str) -> String {
    let postmaster = cluster.postmaster_pid().unwrap().to_string();
    let limit = |arguments: &[&str]| {
        let user = server_user().name;
        let output = Command::new("runuser")
            .args(["-u", &user, "--", "prlimit", "--pid", &postmaster])
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let former = limit(&["--nproc", "--noheadings", "--output", "SOFT"]);
    limit(&[&format!("--nproc={soft}:")]);
    former
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_process_can_be_started_nothing_is_given_away() {
    let builder = Cluster::builder()
        .conf("max_prepared_transactions", 5)
        .conf("pg_seats.load_timeout", "1s");
    let cluster = with_company(builder, "seats, pool", "1, 'firm'");
    cluster.sql_in(
        "company",
        "SELECT license_lease('zoe', '10.0.0.1', 'TOM', '1 hour')",
    );
    let lock = "BEGIN; LOCK TABLE licenses; PREPARE TRANSACTION 'lock'";
    cluster.sql_in("company", lock);
    cluster.restart(Stop::Fast);
    let admin = cluster.login("postgres").db("company").open_ok().await;
    let mark = cluster.log().len();
    let former = limit_processes(&cluster, "1");
    admin.run("ROLLBACK PREPARED 'lock'").await;
    cluster.wait_log_since(mark, "pg_seats could not start a process");
    tokio::time::sleep(Duration::from_secs(5)).await;
    let said = cluster.log_since(mark);
    let times = said.matches("pg_seats could not start").count();
    assert!((1..=3).contains(&times), "{times}");
    limit_processes(&cluster, &former);
    let host = new_host();
    eventually("the lease has its seat", PATIENCE, async || {
        let denied = cluster.login("anna").from(&host).denied().await;
        denied.reason == "license_full"
    })
    .await;
    superusers_get_in(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn database_workers_that_are_ended_in_midst_of_it_come_ever_more_seldom() {
    let builder = Cluster::builder().conf("max_prepared_transactions", 5);
    let cluster = with_company(builder, "seats", "0");
    cluster.sql_in(
        "company",
        "BEGIN; LOCK TABLE licenses; PREPARE TRANSACTION 'lock'",
    );
    cluster.sql_in("company", "UPDATE license_exemptions SET note = note");
    cluster.restart(Stop::Fast);
    let admin = cluster.login("postgres").open_ok().await;
    let end = "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE backend_type = 'pg_seats database worker' AND datname = 'company'";
    let (mut ended, start) = (BTreeSet::new(), Instant::now());
    while start.elapsed() < Duration::from_secs(12) {
        ended.extend(admin.texts(end).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!((1..=6).contains(&ended.len()), "{ended:?}");
    denials_are_told(&cluster).await;
}

/// Before 16 the postmaster may sleep for a minute where nobody connects.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_ends_is_there_again_though_nobody_connects() {
    let cluster = Cluster::with_seats(1);
    let there = async |kind: &str, former: i32| {
        let mut found = former;
        eventually(kind, PATIENCE, async || {
            found = cluster.worker_process(kind).unwrap_or(former);
            found != former
        })
        .await;
        found
    };
    for kind in ["launcher", "reserve"].repeat(4) {
        let former = there(kind, 0).await;
        kill(Pid::from_raw(former), Signal::SIGTERM).unwrap();
        there(kind, former).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn times_beyond_what_a_wait_can_be_told_are_waited_for() {
    let cluster =
        Cluster::builder().licensed("claimed_at, seats, linger", "'checkout', 9, '1 year'");
    let launcher = cluster.launcher().await;
    cluster.sql("UPDATE licenses SET valid_until = now() + interval '200 years'");
    cluster.sql("SELECT license_lease('zoe', '10.0.0.1', 'TOM', '300 days')");
    let short = "SELECT lease_id FROM license_lease('ann', '10.0.0.2', 'TOM', '2 seconds')";
    cluster.sql(&format!("UPDATE licenses SET linger = '0'; {short}"));
    eventually("the short one ends", PATIENCE, async || {
        cluster.in_use() == 1
    })
    .await;
    assert_eq!(cluster.worker("launcher"), Some(launcher));
    // It sleeps.
    let [before, _] = ticks(launcher);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let [after, _] = ticks(launcher);
    assert!(after - before < 20, "{before} {after}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "heavy: make test-heavy"]
async fn a_large_database_that_is_copied_holds_up_no_other() {
    let cluster = with_company(Cluster::builder().conf("max_wal_size", "4GB"), "seats", "0");
    cluster.sql_in("company", "UPDATE licenses SET seats = 9");
    cluster.sql_in(
        "company",
        "CREATE TABLE large AS SELECT repeat('x', 1000) FROM generate_series(1, 1000000)",
    );
    cluster.sql_in(
        "company",
        "SELECT license_lease('zoe', '10.0.0.1', 'TOM', '2 seconds')",
    );
    let admin = cluster.login("postgres").open_ok().await;
    let copy = tokio::spawn(async move {
        let start = Instant::now();
        while admin
            .try_texts("CREATE DATABASE copy TEMPLATE company")
            .await
            .is_err()
        {}
        start.elapsed()
    });
    let mut rounds = 0;
    while !copy.is_finished() {
        denials_are_told(&cluster).await;
        superusers_get_in(&cluster).await;
        rounds += 1;
    }
    eprintln!(
        "{rounds} denials while it was copied, in {:?}",
        copy.await.unwrap()
    );
    eventually("it is visited", 2 * PATIENCE, async || {
        cluster.sql_in("company", "SELECT count(*) FROM license_leases") == "0"
    })
    .await;
}

/// Returns what the launcher's memory contexts have in all, in bytes.
async fn launcher_memory(cluster: &Cluster) -> u64 {
    let launcher = cluster.launcher().await;
    let mark = cluster.log().len();
    cluster.sql(&format!(
        "SELECT pg_log_backend_memory_contexts({launcher})"
    ));
    cluster.wait_log_since(mark, "Grand total:");
    let log = cluster.log_since(mark);
    let total = log.split("Grand total: ").nth(1).unwrap();
    let used = total.split_whitespace().next().unwrap();
    used.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "heavy: make test-heavy"]
async fn a_thousand_visits_leak_nothing() {
    let cluster = Cluster::with_seats(9);
    let admin = cluster.login("postgres").open_ok().await;
    let mut sizes = vec![];
    for _ in 0..2 {
        for _ in 0..500 {
            admin.run("UPDATE licenses SET seats = seats").await;
            let launched = "SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'pg_seats database worker'";
            while admin.text(launched).await == "t" {}
        }
        eventually("visits end", PATIENCE, async || {
            admin.text(WORKERS).await == "0"
        })
        .await;
        sizes.push(launcher_memory(&cluster).await);
    }
    eprintln!("the launcher's memory after 500 and after 1,000 visits: {sizes:?}");
    assert!(sizes[1] <= sizes[0] + 4_096, "{sizes:?}");
}

/// Parallel queries take workers from whoever needs one; here the server has none but those that came with it.
#[tokio::test(flavor = "multi_thread")]
async fn where_all_workers_are_taken_the_database_worker_in_reserve_goes() {
    let cluster = Cluster::builder()
        .conf("max_logical_replication_workers", 0)
        .conf("max_worker_processes", 2)
        .conf("pg_seats.load_timeout", "30s")
        .licensed("seats, pool", "2, 'firm'");
    cluster.sql("CREATE DATABASE south");
    cluster.license("south", "seats, pool", "2, 'firm'");
    for stop in [Stop::Fast, Stop::Immediate] {
        let anna = cluster.login("anna").from("127.0.1.1").open_ok().await;
        let south = cluster.login("bert").db("south").from("127.0.1.1");
        let bert = south.open_ok().await;
        cluster
            .login("carl")
            .from("127.0.1.1")
            .denied()
            .await
            .assert("53300", "license_full");
        anna.close().await;
        bert.close().await;
        for db in ["postgres", "south"] {
            let releases = "SELECT count(*) > 0 FROM license_events
                            WHERE event = 'release' AND at > pg_postmaster_start_time()";
            let what = format!("the trail of {db} is written");
            eventually(&what, 2 * PATIENCE, async || {
                cluster.sql_in(db, releases) == "t"
            })
            .await;
        }
        cluster.restart(stop);
    }
}
