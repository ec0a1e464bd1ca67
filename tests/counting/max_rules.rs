//! Room for rules: databases share it, and none keeps another's users out.

use std::time::{Duration, Instant};

use crate::util::*;

const SECOND: Duration = Duration::from_secs(1);

/// Asserts that a superuser gets in at once.
async fn superuser_gets_in(cluster: &Cluster, database: &str) {
    let start = Instant::now();
    cluster.login("postgres").db(database).open_ok().await;
    let waited = start.elapsed();
    assert!(waited < SECOND, "{database}: {waited:?}");
}

/// Returns a statement that adds so many exemptions of roles that do not exist, and of Bert the last.
fn exemptions(many: u32) -> String {
    format!(
        "INSERT INTO license_exemptions SELECT 'role', 'r' || n FROM generate_series(1, {many}) n;
         INSERT INTO license_exemptions VALUES ('role', 'bert')"
    )
}

/// Creates a licensed database beside `postgres`, which has one seat.
fn second(cluster: &Cluster) {
    cluster.sql("CREATE DATABASE second");
    cluster.license("second", "seats", "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_exemptions_of_one_database_are_no_business_of_another() {
    let cluster = Cluster::with_seats(1);
    second(&cluster);
    cluster.sql("ALTER TABLE license_exemptions DISABLE TRIGGER license_change");
    cluster.sql(&exemptions(6_000));
    cluster.sql("ALTER TABLE license_exemptions ENABLE ALWAYS TRIGGER license_change");
    for restarted in [false, true] {
        if restarted {
            cluster.restart(Stop::Fast);
        }
        let anna = cluster.login("anna").from("127.0.1.1");
        for database in ["postgres", "second"] {
            superuser_gets_in(&cluster, database).await;
            let _anna = anna.clone().db(database).open_ok().await;
            let carl = cluster.login("carl").from("127.0.1.3").db(database);
            carl.denied().await.assert("53300", "license_full");
        }
        // The last of them holds.
        let _bert = cluster.login("bert").from("127.0.1.2").open_ok().await;
        // The other one's own rules change.
        cluster.sql_in("second", "UPDATE licenses SET seats = 2");
        let _anna = anna.clone().db("second").open_ok().await;
        let carl = cluster.login("carl").from("127.0.1.3").db("second");
        let _carl = carl.open_ok().await;
        cluster.sql_in("second", "UPDATE licenses SET seats = 1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exemption_too_many_warns_and_locks_nobody_out() {
    let cluster = Cluster::builder()
        .conf("pg_seats.max_rules", 100)
        .licensed("seats", "1");
    second(&cluster);
    let admin = cluster.login("postgres").open_ok().await;
    admin.run(&exemptions(96)).await;
    assert_eq!(warnings(&admin), [""; 0]);
    let _bert = cluster.login("bert").from("127.0.1.2").open_ok().await;
    // One license here, one there: ninety-nine rows are in force, and there is room for one.
    let more = "INSERT INTO license_exemptions VALUES ('host', '10.0.0.1'), ('host', '10.0.0.2')";
    admin.run(more).await;
    let words =
        "1 rows of the license tables of database \"postgres\" do not fit, and are not in force";
    assert_eq!(warnings(&admin), [words]);
    let notice = admin.notices().pop().unwrap();
    assert!(
        notice.detail.contains("pg_seats.max_rules is 100"),
        "{notice:?}"
    );
    assert!(notice.hint.contains("pg_seats.max_rules"), "{notice:?}");
    let told = "pg_seats has no room for 1 rows of the license tables of database \"postgres\"";
    cluster.wait_log(told, PATIENCE);
    let anna = cluster.login("anna").from("127.0.1.1");
    let gets_in = async |when: &str| {
        for database in ["postgres", "second"] {
            superuser_gets_in(&cluster, database).await;
            let _anna = anna.clone().db(database).open_ok().await;
            let carl = cluster.login("carl").from("127.0.1.3").db(database);
            let denied = carl.denied().await;
            assert_eq!(denied.reason, "license_full", "{when}");
        }
    };
    gets_in("one too many").await;
    // Another database with few rules has all of them.
    let other = cluster.login("postgres").db("second").open_ok().await;
    other.run(&exemptions(9)).await;
    let warned = warnings(&other);
    assert_eq!(warned.len(), 1, "{warned:?}");
    assert!(
        warned[0].starts_with("the database with most rules loses 10"),
        "{warned:?}"
    );
    let carl = cluster.login("bert").from("127.0.1.3").db("second");
    eventually("bert is exempt there", PATIENCE, async || {
        carl.open().await.is_ok()
    })
    .await;
    gets_in("less room").await;
    cluster.restart(Stop::Fast);
    gets_in("after a restart").await;
    // All come back where there is room.
    let admin = cluster.login("postgres").db("second").open_ok().await;
    admin.run("TRUNCATE license_exemptions").await;
    cluster.sql("DELETE FROM license_exemptions WHERE value > 'r5'");
    let again = "all rules of database \"postgres\" are in force again";
    cluster.wait_log(again, PATIENCE);
}

/// A database whose licenses are too many keeps its last rules, and after a restart is as one whose limits
/// can't be read: superusers get in, and so do the users of others.
#[tokio::test(flavor = "multi_thread")]
async fn licenses_that_do_not_fit_lock_nobody_else_out() {
    let cluster = Cluster::builder()
        .conf("pg_seats.max_rules", 100)
        .licensed("seats", "1");
    second(&cluster);
    let admin = cluster.login("postgres").open_ok().await;
    admin
        .run(
            "INSERT INTO licenses (product, seats, claimed_at)
             SELECT 'p' || n, 1, 'checkout' FROM generate_series(1, 120) n",
        )
        .await;
    let words = "the licenses of database \"postgres\" do not fit: what was in force stays so";
    assert_eq!(warnings(&admin), [words]);
    let anna = cluster.login("anna").from("127.0.1.1");
    anna.open_ok().await;
    cluster.restart(Stop::Fast);
    let denied = anna.denied().await;
    denied.assert("57P03", "license_not_loaded");
    assert!(denied.hint.contains("pg_seats.max_rules"), "{denied:?}");
    for database in ["postgres", "second"] {
        superuser_gets_in(&cluster, database).await;
    }
    anna.clone().db("second").open_ok().await;
    cluster.sql("DELETE FROM licenses WHERE product LIKE 'p%'");
    anna.open_ok().await;
}

/// One database's many reserved roles keep no other's users out, nor its own.
#[tokio::test(flavor = "multi_thread")]
async fn reservations_of_too_many_roles_lock_nobody_out() {
    let cluster = Cluster::with_seats(1);
    second(&cluster);
    let admin = cluster.login("postgres").open_ok().await;
    admin
        .run(
            "INSERT INTO license_reservations (product, role)
             SELECT 'TOM', 'g' || n FROM generate_series(1, 70) n",
        )
        .await;
    let words = "6 rows of license_reservations of database \"postgres\" are not in force";
    assert_eq!(warnings(&admin), [words]);
    cluster.sql_in(
        "second",
        "INSERT INTO license_reservations (product, role) VALUES ('TOM', 'x')",
    );
    for restarted in [false, true] {
        if restarted {
            cluster.restart(Stop::Fast);
        }
        for database in ["postgres", "second"] {
            let anna = cluster.login("anna").from("127.0.1.1").db(database);
            anna.open_ok().await;
        }
    }
    let told = "the reservations of all databases can name 64 different roles";
    cluster.wait_log(told, PATIENCE);
}

/// Licensed and not; pooled logins wait for all of them.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "heavy: make test-heavy"]
async fn a_thousand_databases_are_not_too_many() {
    let cluster = Cluster::builder()
        .conf("pg_seats.load_timeout", "10min")
        .conf("fsync", "off")
        .licensed("seats, pool", "2, 'firm'");
    cluster.sql("CREATE DATABASE licensed");
    cluster.license("licensed", "seats, pool", "2, 'firm'");
    for n in 1..=1_100 {
        let template = if n % 4 == 0 { "licensed" } else { "template0" };
        cluster.sql(&format!(
            "CREATE DATABASE d{n} TEMPLATE {template} STRATEGY wal_log"
        ));
    }
    for restarted in [false, true] {
        if restarted {
            cluster.restart(Stop::Fast);
        }
        superuser_gets_in(&cluster, "d1100").await;
        let anna = cluster.login("anna").from("127.0.1.1");
        let _held = anna.clone().db("d1100").open_ok().await;
        let _bert = cluster
            .login("bert")
            .from("127.0.1.2")
            .db("d4")
            .open_ok()
            .await;
        let carl = cluster.login("carl").from("127.0.1.3");
        for database in ["postgres", "d8", "d1100"] {
            let denied = carl.clone().db(database).denied().await;
            denied.assert("53300", "license_full");
            superuser_gets_in(&cluster, database).await;
        }
        carl.db("d1").open_ok().await;
    }
    assert!(!cluster.log().contains("no room"));
}
