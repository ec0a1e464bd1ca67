//! A seat lingers: it stays taken for its identity for a while after its last holder left, against clients
//! that flap, and is cut short for nobody.

use std::time::{Duration, Instant};

use crate::util::*;

impl Desk {
    /// Logs a user in and out again.
    async fn visits(&self, user: &str) {
        let before = self.admin.pid().await;
        self.user(user).await.close().await;
        let gone = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> {before}"
        );
        eventually("the database worker has left", PATIENCE, async || {
            self.admin.val::<i64>(&gone).await == 0
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_left_finds_the_seat_again_and_nobody_else_gets_it() {
    let desk = Desk::licensed("seats, linger", "1, '1 hour'").await;
    for _ in 0..3 {
        desk.visits("anna").await;
        assert_eq!(desk.in_use().await, 1);
        let denied = desk.login("bert").denied().await;
        denied.assert("53300", "license_full");
        // Another computer is another identity.
        let elsewhere = desk.at("anna", "127.0.1.99");
        elsewhere.denied().await.assert("53300", "license_full");
    }
    let _anna = desk.user("anna").await;
    assert_eq!(desk.in_use().await, 1);
    let usage = desk
        .admin
        .text("SELECT available, status FROM license_usage");
    assert_eq!(usage.await, "0|full");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seat_is_free_once_its_time_is_up() {
    let desk = Desk::licensed("seats, linger", "1, '5s'").await;
    let start = Instant::now();
    desk.visits("anna").await;
    assert_eq!(desk.in_use().await, 1);
    desk.login("bert").denied().await;
    // Without anybody asking for it.
    desk.in_use_becomes(0).await;
    let free = start.elapsed();
    assert!(free > Duration::from_millis(4_900), "{free:?}");
    assert!(free < Duration::from_millis(7_000), "{free:?}");
    desk.user("bert").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_in_the_queue_gets_the_seat_once_its_time_is_up() {
    let desk = Desk::licensed("claimed_at, seats, linger", "'checkout', 1, '5s'").await;
    let (anna, bert) = (desk.user("anna").await, desk.user("bert").await);
    anna.checkout().await;
    let waiter = desk.enqueue(bert).await;
    assert!(anna.checkin().await);
    let start = Instant::now();
    // Who left it is served before the queue.
    anna.checkout().await;
    assert!(anna.checkin().await);
    let _bert = waiter.seated().await;
    assert!(start.elapsed() > Duration::from_millis(4_900));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_racing_newcomers_none_gets_a_seat_that_lingers() {
    let desk = Desk::licensed("seats, linger", "3, '1 hour'").await;
    desk.visits("anna").await;
    desk.visits("bert").await;
    let racers = race(40, |i| desk.at("carl", &format!("127.0.3.{}", i + 1))).await;
    let inside = racers.iter().filter(|racer| racer.is_ok()).count();
    assert_eq!(inside, 1);
    assert_eq!(desk.in_use().await, 3);
    let _both = (desk.user("anna").await, desk.user("bert").await);
    assert_eq!(desk.in_use().await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seat_whose_lease_is_rolled_back_does_not_linger() {
    let desk = Desk::licensed("claimed_at, seats, linger", "'checkout', 1, '1 hour'").await;
    let lease = "SELECT lease_id FROM license_lease('zoe', '10.0.0.1')";
    desk.admin.run(&format!("BEGIN; {lease}; ROLLBACK")).await;
    assert_eq!(desk.in_use().await, 0);
    let id = desk.admin.text(lease).await;
    desk.admin
        .run(&format!("SELECT license_release('{id}')"))
        .await;
    assert_eq!(desk.in_use().await, 1);
    desk.admin.run(&format!("BEGIN; {lease}; ROLLBACK")).await;
    assert_eq!(desk.in_use().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shorter_linger_holds_for_seats_that_linger_already() {
    let desk = Desk::licensed("seats, linger", "1, '1 year'").await;
    desk.visits("anna").await;
    desk.admin.run("UPDATE licenses SET linger = '1s'").await;
    desk.in_use_becomes(0).await;
    desk.admin
        .run("UPDATE licenses SET linger = '1 year'")
        .await;
    desk.visits("anna").await;
    assert_eq!(desk.in_use().await, 1);
    desk.admin.run("UPDATE licenses SET linger = '0'").await;
    desk.user("bert").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_licensed_no_longer_does_not_linger() {
    let desk = Desk::licensed("seats, linger", "1, '1 hour'").await;
    let license = "INSERT INTO licenses (product, seats, linger) VALUES ('TOM', 1, '1 hour')";
    for remove in ["DELETE FROM licenses", "TRUNCATE licenses"] {
        desk.visits("anna").await;
        assert_eq!(desk.in_use().await, 1);
        desk.admin.run(remove).await;
        desk.visits("bert").await;
        desk.admin.run(license).await;
        assert_eq!(desk.in_use().await, 0, "{remove}");
    }
    desk.visits("anna").await;
    desk.admin
        .run("DROP EXTENSION pg_seats; CREATE EXTENSION pg_seats")
        .await;
    // Somebody has seen it without a license.
    desk.visits("bert").await;
    desk.admin.run(license).await;
    assert_eq!(desk.in_use().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seat_lingers_in_all_databases_of_its_pool() {
    let cluster = Cluster::builder().licensed("seats, linger, pool", "1, '1 hour', 'firm'");
    cluster.sql("CREATE DATABASE second");
    cluster.license("second", "seats, linger, pool", "1, '1 hour', 'firm'");
    let desk = Desk::of(cluster).await;
    desk.visits("anna").await;
    for db in ["postgres", "second"] {
        assert_eq!(desk.cluster.in_use_in(db), 1);
        let denied = desk.login("bert").db(db).denied().await;
        denied.assert("53300", "license_full");
    }
    let _anna = desk.login("anna").db("second").open_ok().await;
    assert_eq!(desk.in_use().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_end_of_a_session_is_an_end_of_lingering_and_a_restart_is_one() {
    let desk = Desk::licensed("seats, linger", "1, '1 hour'").await;
    let anna = desk.user("anna").await;
    desk.cluster.kill_backend(anna.pid().await, Signal::SIGTERM);
    anna.ended().await;
    assert_eq!(desk.in_use().await, 1);
    desk.user("anna").await.abort().await;
    eventually("the client is noticed to be gone", PATIENCE, async || {
        let sessions = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'anna'";
        desk.admin.val::<i64>(sessions).await == 0
    })
    .await;
    assert_eq!(desk.in_use().await, 1);
    let Desk { admin, cluster } = desk;
    drop(admin);
    for mode in [Stop::Fast, Stop::Immediate] {
        cluster.restart(mode);
        assert_eq!(cluster.in_use(), 0, "{mode:?}");
        let anna = cluster.login("anna").from("127.0.1.1").open_ok().await;
        anna.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_superuser_is_never_kept_out_by_a_seat_that_lingers() {
    let cluster = Cluster::builder()
        .conf("pg_seats.exempt_superusers", "off")
        .conf("pg_seats.max_seats", "1")
        .licensed("claimed_at, seats", "'checkout', 9");
    cluster.sql("UPDATE licenses SET claimed_at = 'login', seats = 1, linger = '1 hour'");
    let first = cluster.in_use();
    for _ in 0..3 {
        cluster.sql("SELECT 1");
    }
    assert_eq!(first, 1);
    // By its time it is the same identity, from another host another one.
    let boss = cluster.login("postgres").from("127.0.9.9").open_ok().await;
    boss.close().await;
    let denied = cluster.login("anna").from("127.0.1.1").denied().await;
    denied.assert("53300", "license_full");
}
