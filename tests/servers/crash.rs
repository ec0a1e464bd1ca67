//! Crashes of the server's processes: afterwards the ledger is empty, correct and in force.

use crate::util::*;

const SEATS: usize = 5;

/// Takes all the seats with these sessions.
async fn full_house(cluster: &Cluster) -> Vec<Session> {
    let mut inside = Vec::new();
    for i in 1..=SEATS {
        let login = cluster.login("anna").from(&format!("127.0.1.{i}"));
        inside.push(login.open_ok().await);
    }
    assert_eq!(cluster.in_use(), 5);
    inside
}

/// Asserts that everybody is out, no seat is taken, and as many as before get in again, not one more.
async fn empty_and_correct(cluster: &Cluster, before: Vec<Session>) {
    for session in before {
        session.ended().await;
    }
    let usage = "SELECT in_use, (SELECT count(*) FROM license_active_seats) FROM license_usage";
    assert_eq!(cluster.sql(usage), "0|0");
    let racers = race(40, |i| {
        cluster.login("bert").from(&format!("127.0.2.{}", i + 1))
    });
    let (inside, denied): (Vec<_>, Vec<_>) = racers.await.into_iter().partition(Result::is_ok);
    assert_eq!(inside.len(), SEATS);
    for result in denied {
        result.unwrap_err().assert("53300", "license_full");
    }
    assert_eq!(cluster.in_use(), 5);
    drop(inside);
    eventually("no seat is in use", PATIENCE, async || {
        cluster.in_use() == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_crash_of_a_backend_the_ledger_is_empty_and_correct() {
    let cluster = Cluster::with_seats(5);
    for _ in 0..3 {
        let inside = full_house(&cluster).await;
        cluster.crash_backend(inside[0].pid().await);
        empty_and_correct(&cluster, inside).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_crash_of_an_uncounted_backend_the_ledger_is_empty_and_correct() {
    let cluster = Cluster::with_seats(5);
    let inside = full_house(&cluster).await;
    let admin = cluster.login("postgres").open_ok().await;
    cluster.crash_backend(admin.pid().await);
    empty_and_correct(&cluster, inside).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_crashes_amid_racing_logins_the_ledger_is_empty_and_correct() {
    let cluster = Cluster::builder().roomy().licensed("seats", "5");
    for _ in 0..3 {
        let inside = full_house(&cluster).await;
        let victim = inside[0].pid().await;
        let racers = race(100, |i| {
            cluster.login("carl").from(&format!("127.0.3.{}", i + 1))
        });
        let (racers, ()) = tokio::join!(racers, async { cluster.crash_backend(victim) });
        // Some were denied, some cut off, some told to wait; who got in after the crash leaves.
        drop(racers);
        eventually("no seat is in use", PATIENCE, async || {
            cluster.in_use() == 0
        })
        .await;
        empty_and_correct(&cluster, inside).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_crash_of_the_launcher_the_ledger_is_empty_and_correct() {
    let cluster = Cluster::with_seats(5);
    let mut former = 0;
    for _ in 0..3 {
        let inside = full_house(&cluster).await;
        former = cluster.launcher_after(former).await;
        cluster.crash_backend(former);
        empty_and_correct(&cluster, inside).await;
    }
    cluster.launcher_after(former).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_launcher_comes_back_and_nobody_notices() {
    let cluster = Cluster::with_seats(5);
    let inside = full_house(&cluster).await;
    let former = cluster.launcher().await;
    cluster.kill_backend(former, Signal::SIGTERM);
    let latecomer = cluster.login("bert").from("127.0.2.1");
    latecomer.denied().await.assert("53300", "license_full");
    cluster.launcher_after(former).await;
    assert_eq!(cluster.in_use(), 5);
    assert!(inside.iter().all(|session| !session.is_ended()));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_a_pool_counts_all_its_databases_again() {
    let cluster = Cluster::builder().licensed("seats, pool", "5, 'firm'");
    cluster.sql("CREATE DATABASE second");
    cluster.license("second", "seats, pool", "5, 'firm'");
    for _ in 0..2 {
        let inside = full_house(&cluster).await;
        cluster.crash_backend(inside[0].pid().await);
        for session in inside {
            session.ended().await;
        }
        let anna = |i| cluster.login("anna").from(&format!("127.0.1.{i}"));
        let mut inside = Vec::new();
        for i in 1..=SEATS {
            let database = ["postgres", "second"][i % 2];
            inside.push(anna(i).db(database).open_ok().await);
        }
        for database in ["postgres", "second"] {
            let denied = anna(9).db(database).denied().await;
            denied.assert("53300", "license_full");
        }
        drop(inside);
        eventually("no seat is in use", PATIENCE, async || {
            cluster.in_use() == 0
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_immediate_shutdowns_the_ledger_is_empty_and_correct() {
    let cluster = Cluster::with_seats(5);
    for _ in 0..3 {
        let inside = full_house(&cluster).await;
        cluster.restart(Stop::Immediate);
        empty_and_correct(&cluster, inside).await;
    }
}

#[test]
fn a_change_survives_the_crash_that_follows_its_commit() {
    let cluster = Cluster::with_seats(5);
    let pid = cluster.sql(
        "UPDATE licenses SET seats = 7;
         SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_seats launcher'",
    );
    cluster.crash_backend(pid.parse().unwrap());
    assert_eq!(cluster.sql("SELECT seats FROM license_usage"), "7");
}

/// Also when the launcher is still at work: a shutdown waits for every process.
#[test]
fn a_fast_shutdown_is_not_held_up_at_any_moment_after_a_start() {
    let cluster = Cluster::with_seats(5);
    for _ in 0..10 {
        cluster.restart(Stop::Fast);
    }
    for _ in 0..5 {
        cluster.sql("UPDATE licenses SET seats = seats + 1");
        cluster.restart(Stop::Fast);
    }
}

/// The file that remembers pools is written to disk: it must not know of a change that a crash takes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_pool_is_never_left_by_a_commit_that_a_crash_takes_back() {
    let cluster = Cluster::builder()
        .conf("wal_writer_delay", "10s")
        .licensed("seats, pool", "3, 'firm'");
    cluster.sql("SET synchronous_commit = off; UPDATE licenses SET pool = NULL");
    cluster.restart(Stop::Immediate);
    assert_eq!(cluster.sql("SELECT pool IS NULL FROM licenses"), "t");
}
