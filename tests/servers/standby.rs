//! A physical standby: it enforces by itself, takes over changes of the primary, and is right after its promotion.

use std::time::Duration;

use crate::util::*;

fn pair(seats: u32) -> (Cluster, Cluster) {
    let primary = Cluster::with_seats(seats);
    let standby = primary.standby();
    (primary, standby)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_counts_by_itself() {
    let (primary, standby) = pair(1);
    let _here = primary.login("anna").from("127.0.1.1").open_ok().await;
    let there = standby.login("bert").from("127.0.1.2").open_ok().await;
    assert!(!admits(&primary).await);
    assert!(!admits(&standby).await);
    let seats = "SELECT usename FROM license_active_seats";
    assert_eq!(
        (primary.sql(seats), standby.sql(seats)),
        ("anna".into(), "bert".into())
    );
    there.close().await;
    eventually("the standby's seat is free", PATIENCE, async || {
        standby.in_use() == 0
    })
    .await;
    assert!(admits(&standby).await);
    assert!(!admits(&primary).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_enforces_from_its_first_login() {
    let (_primary, standby) = pair(0);
    assert!(!admits(&standby).await);
    for mode in [Stop::Fast, Stop::Immediate] {
        standby.restart(mode);
        assert!(!admits(&standby).await, "{mode:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_on_the_primary_arrives_at_the_standby() {
    let (primary, standby) = pair(0);
    for (change, admitted) in [
        ("UPDATE licenses SET seats = 99", true),
        ("UPDATE licenses SET seats = 0", false),
        (
            "INSERT INTO license_exemptions VALUES ('role', 'lena')",
            true,
        ),
        ("TRUNCATE license_exemptions", false),
        ("UPDATE licenses SET seats = 99", true),
        (
            "INSERT INTO license_reservations VALUES ('TOM', 'nobody', 99)",
            false,
        ),
        ("TRUNCATE license_reservations", true),
        ("UPDATE licenses SET seats = 0", false),
        ("DROP EXTENSION pg_seats", true),
        (
            "CREATE EXTENSION pg_seats; INSERT INTO licenses (product, seats) VALUES ('TOM', 0)",
            false,
        ),
    ] {
        assert_eq!(admits(&standby).await, !admitted, "before {change}");
        primary.sql(change);
        standby.catch_up(&primary);
        eventually(change, PATIENCE, async || {
            admits(&standby).await == admitted
        })
        .await;
    }
    let usage = "SELECT seats FROM license_usage";
    primary.sql("UPDATE licenses SET seats = 7");
    eventually("the view shows it", PATIENCE, async || {
        standby.sql(usage) == "7"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_come_and_go_on_the_standby() {
    let (primary, standby) = pair(0);
    primary.sql("CREATE DATABASE company TEMPLATE postgres OID = 99999");
    standby.catch_up(&primary);
    assert!(!admits_to(&standby, "company").await);
    primary.sql("DROP DATABASE company; CREATE DATABASE company TEMPLATE template0 OID = 99999");
    standby.catch_up(&primary);
    eventually("nothing is left of the former one", PATIENCE, async || {
        admits_to(&standby, "company").await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_replayed_from_the_primary_leaves_the_last_limits_in_force() {
    let (primary, standby) = pair(0);
    assert!(!admits(&standby).await);
    standby.set("pg_seats.load_timeout", "200ms");
    let admin = primary.login("postgres").open_ok().await;
    admin.run("BEGIN; TRUNCATE licenses").await;
    // Has the record of the lock sent.
    primary.sql("CREATE TABLE other ()");
    standby.catch_up(&primary);
    let mark = standby.log().len();
    eventually("the standby tries to read", PATIENCE, async || {
        assert!(!admits(&standby).await);
        standby
            .log_since(mark)
            .contains("the last ones stay in force")
    })
    .await;
    standby.sql("SELECT 1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_standby_keeps_its_sessions_and_goes_on() {
    let (primary, standby) = pair(2);
    let anna = standby.login("anna").from("127.0.1.1").open_ok().await;
    primary.stop(Stop::Fast);
    standby.promote();
    anna.run("CREATE TEMP TABLE writes ()").await;
    assert_eq!(standby.in_use(), 1);
    let _bert = standby.login("bert").from("127.0.1.2").open_ok().await;
    assert!(!admits(&standby).await);
    for (seats, admitted) in [(99, true), (0, false), (99, true)] {
        standby.sql(&format!("UPDATE licenses SET seats = {seats}"));
        assert_eq!(admits(&standby).await, admitted, "{seats}");
    }
}

/// A change that the standby has replayed but not yet read.
#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_reads_again() {
    let (primary, standby) = pair(0);
    assert!(!admits(&standby).await);
    primary.sql("UPDATE licenses SET seats = 99");
    standby.catch_up(&primary);
    standby.promote();
    assert!(admits(&standby).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_counts_on_a_standby_and_after_its_promotion() {
    let primary = Cluster::builder().licensed("seats, pool", "2, 'all'");
    primary.sql("CREATE DATABASE other TEMPLATE postgres");
    let standby = primary.standby();
    let login = standby.login("anna").from("127.0.1.1");
    let (_here, _there) = (
        login.open_ok().await,
        login.clone().db("other").open_ok().await,
    );
    assert_eq!(standby.in_use_in("other"), 1);
    let _bert = standby
        .login("bert")
        .db("other")
        .from("127.0.1.2")
        .open_ok()
        .await;
    assert!(!admits(&standby).await);
    assert!(!admits_to(&standby, "other").await);
    // Another database joins the pool while the standby runs.
    primary.sql("CREATE DATABASE third TEMPLATE postgres; UPDATE licenses SET seats = 3");
    standby.catch_up(&primary);
    let carl = standby.login("carl").from("127.0.1.3");
    eventually("the third seat", PATIENCE, async || {
        carl.open().await.is_ok()
    })
    .await;
    assert!(!admits_to(&standby, "third").await);
    standby.promote();
    eventually("carl has left", PATIENCE, async || standby.in_use() == 2).await;
    let _carl = carl.open_ok().await;
    for db in ["postgres", "other", "third"] {
        assert!(!admits_to(&standby, db).await, "{db}");
    }
    assert_eq!(standby.in_use(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standbys_log_warns_of_the_end_of_a_license() {
    let primary = Cluster::builder().licensed("seats, valid_until", "9, now() + interval '5 days'");
    let standby = primary.standby();
    let line = "license \"TOM\" ends within";
    standby.wait_log(&format!("{line} 7 days"), PATIENCE);
    primary.sql("UPDATE licenses SET valid_until = now() + interval '5 hours'");
    // It is read again by whoever comes.
    let anna = standby.login("anna").from("127.0.1.1");
    eventually("the next end is told", PATIENCE, async || {
        anna.open_ok().await.close().await;
        standby.log().contains(&format!("{line} 1 days"))
    })
    .await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(standby.log().matches(line).count(), 2);
}

/// A conflict with the replay ends what conflicts, and no session: but for PostgreSQL 15 itself, which ends one that is
/// told of it once more in the midst of its error.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_looks_at_its_licenses_survives_a_conflict_with_the_replay() {
    let primary = Cluster::with_seats(9);
    let standby = primary.standby_with("max_standby_streaming_delay = 0\n");
    let mut viewer = standby.login("postgres").open_ok().await;
    let locker = primary.login("postgres").open_ok().await;
    let other = primary.login("postgres").open_ok().await;
    // The standby waits for this lock while it has others.
    locker
        .run("BEGIN; LOCK TABLE license_reservations; CREATE TABLE held ()")
        .await;
    let locks = "BEGIN; LOCK TABLE licenses; CREATE TABLE gone (); ROLLBACK;
                 DROP TABLE IF EXISTS other; CREATE TABLE other ()";
    for _ in 0..15 {
        let (looked, ()) = tokio::join!(
            viewer.try_texts("SELECT FROM license_usage; SELECT pg_sleep(0.1)"),
            other.run(locks)
        );
        if let Err(error) = looked
            && error.severity != "ERROR"
        {
            viewer = standby.login("postgres").open_ok().await;
        }
    }
    // Who has just been idle again, and was signalled before, is ended by PostgreSQL: without a statement.
    let log = standby.log();
    let ends = log.match_indices("FATAL:  terminating connection due to conflict with recovery");
    let in_statement = |(at, _): &(usize, &str)| {
        let said = log[*at..].lines().take(4);
        said.skip(1).any(|line| line.contains("STATEMENT:"))
    };
    let ended = ends.filter(in_statement).count();
    let may_end = if standby.programs().major() == 15 {
        3
    } else {
        0
    };
    assert!(ended <= may_end, "{ended}");
}

/// A standby counts no leases; who logs in right after its promotion waits until those of the whole pool are read.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_admitted_after_a_promotion_before_the_leases_of_the_pool_count() {
    let primary = Cluster::builder().licensed("seats, pool", "3, 'all'");
    primary.sql("CREATE DATABASE other");
    primary.license("other", "seats, pool", "3, 'all'");
    primary.sql_in(
        "other",
        "SELECT license_lease('user ' || n, '10.0.0.' || n, ttl => '1 hour') FROM generate_series(1, 3) n",
    );
    assert_eq!(primary.in_use(), 3);
    let standby = primary.standby();
    // It is settled there what its databases add to the pool.
    let anna = standby.login("anna").from("127.0.1.1").open_ok().await;
    anna.close().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    primary.stop(Stop::Fast);
    standby.promote();
    for n in 1..=3 {
        let login = standby.login("anna").from(&format!("127.0.2.{n}"));
        login.denied().await.assert("53300", "license_full");
    }
    assert_eq!(standby.in_use(), 3);
}
