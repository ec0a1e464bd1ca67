//! The page docs/recovery.md: what it says is tried here, a test for each of its parts.

use crate::util::*;

/// A table that asks for a seat.
const SALARIES: &str = "CREATE TABLE salaries AS SELECT 1 AS salary;
    GRANT SELECT ON salaries TO PUBLIC;
    ALTER TABLE salaries ENABLE ROW LEVEL SECURITY;
    CREATE POLICY licensed ON salaries USING (license_held('TOM'))";

/// Tells whether somebody who was barred gets in again.
async fn anna_gets_in(cluster: &Cluster) -> bool {
    let login = cluster.login("anna").from("127.0.1.1");
    match login.open().await {
        Ok(session) => {
            session.close().await;
            true
        }
        Err(denied) => {
            denied.assert("28000", "license_barred");
            false
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn locked_out() {
    let cluster = Cluster::with_seats(0);
    for (remedy, back) in [
        (
            "UPDATE licenses SET enforcement = 'warn'",
            "UPDATE licenses SET enforcement = 'on'",
        ),
        (
            "ALTER SYSTEM SET pg_seats.enforcement = 'off'",
            "ALTER SYSTEM RESET pg_seats.enforcement",
        ),
    ] {
        assert!(!admits(&cluster).await, "before {remedy}");
        cluster.sql(remedy);
        cluster.reload();
        assert!(admits(&cluster).await, "after {remedy}");
        cluster.sql(back);
        cluster.reload();
    }
}

/// Whoever gets in while the tables can't be read counts as soon as they can.
#[tokio::test(flavor = "multi_thread")]
async fn locked_out_by_tables_that_can_not_be_read() {
    let cluster = Cluster::builder()
        .conf("max_prepared_transactions", 5)
        .conf("pg_seats.load_timeout", "1s")
        .licensed("seats", "9");
    cluster.sql("CREATE DATABASE other");
    for (db, pool) in [("postgres", "NULL"), ("other", "'firm'")] {
        if db == "other" {
            cluster.license(db, "seats, pool", &format!("9, {pool}"));
        }
        // In the other one its own can be read, and those of a member of its pool can't.
        cluster.sql(&format!("UPDATE licenses SET pool = {pool}"));
        cluster.sql("BEGIN; LOCK TABLE licenses; PREPARE TRANSACTION 'lock'");
        cluster.sql("SELECT license_lease('zoe', '10.0.0.9', 'TOM', '1 day')");
        cluster.restart(Stop::Immediate);
        let anna = || cluster.login("anna").db(db).from("127.0.1.1");
        for remedy in ["warn", "off"] {
            let denied = anna().denied().await;
            denied.assert("57P03", "license_not_loaded");
            cluster.set("pg_seats.enforcement", remedy);
            let session = anna().open_ok().await;
            cluster.set("pg_seats.enforcement", "on");
            session.close().await;
        }
        cluster.set("pg_seats.enforcement", "off");
        let _anna = anna().open_ok().await;
        cluster.set("pg_seats.enforcement", "on");
        cluster.sql("ROLLBACK PREPARED 'lock'");
        eventually("she and the lease count", PATIENCE, async || {
            cluster.in_use_in(db) == 2
        })
        .await;
        cluster.sql("DELETE FROM license_leases");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn locked_out_by_a_bar() {
    let cluster = Cluster::with_seats(9);
    let anna = cluster.login("anna").from("127.0.1.1").open_ok().await;
    cluster.sql(
        "SELECT license_terminate(seat_id, 'out', bar_for => '1 hour') FROM license_active_seats",
    );
    anna.ended().await;
    cluster.sql("UPDATE licenses SET enforcement = 'warn'");
    cluster.set("pg_seats.enforcement", "off");
    assert!(!anna_gets_in(&cluster).await);
    cluster.sql("DELETE FROM license_bars");
    assert!(anna_gets_in(&cluster).await);
}

/// What is counted is seen, and whatever holds a seat it can be freed.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_count() {
    let cluster = Cluster::builder().licensed("seats, linger", "3, '1 hour'");
    let anna = cluster.login("anna").from("127.0.1.1").open_ok().await;
    let gone = cluster.login("bert").from("127.0.1.2").open_ok().await;
    gone.close().await;
    let lingers = "SELECT sessions FROM license_active_seats WHERE client_host = '127.0.1.2'";
    eventually("Bert's seat lingers", PATIENCE, async || {
        cluster.sql(lingers) == "0"
    })
    .await;
    cluster.sql("SELECT lease_id FROM license_lease('carl', '198.51.100.7', 'TOM', '1 hour')");
    let look = "SELECT seat_id, usename, client_host, kind, sessions, pids, idle, expires_at
                  FROM license_active_seats ORDER BY idle DESC";
    assert_eq!(cluster.sql(look).lines().count(), 3);
    assert!(!admits(&cluster).await);
    let freed = cluster.sql("SELECT sum(license_terminate(seat_id)) FROM license_active_seats");
    assert_eq!(freed, "2", "a session, a lease, and a seat that lingered");
    anna.ended().await.assert("57P01", "license_stopped");
    assert_eq!(cluster.in_use(), 0);
    assert!(admits(&cluster).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn off_for_one_database() {
    let cluster = Cluster::with_seats(0);
    cluster.sql("CREATE DATABASE other");
    cluster.license("other", "seats", "0");
    cluster.sql("UPDATE licenses SET enforcement = 'off'");
    assert!(admits(&cluster).await);
    assert!(!admits_to(&cluster, "other").await);
    assert_eq!(cluster.sql("SELECT denied FROM license_usage"), "0");
    cluster.sql_in("other", SALARIES);
    cluster.sql_in("other", "DROP EXTENSION pg_seats CASCADE");
    assert!(admits_to(&cluster, "other").await);
    // The policy went with it.
    let login = cluster.login("lena").db("other").from(&new_host());
    let lena = login.open_ok().await;
    let rows = "SELECT count(*) FROM salaries";
    assert_eq!(lena.text(rows).await, "0");
    cluster.sql_in("other", "ALTER TABLE salaries DISABLE ROW LEVEL SECURITY");
    assert_eq!(lena.text(rows).await, "1");
}

/// First the extension, then the setting.
#[tokio::test(flavor = "multi_thread")]
async fn removed_cleanly() {
    let cluster = Cluster::with_seats(1);
    let anna = cluster.login("anna").from("127.0.1.1").open_ok().await;
    cluster.sql("SELECT license_terminate(seat_id, NULL, '1 hour') FROM license_active_seats");
    anna.ended().await;
    cluster.sql(SALARIES);
    let dropped = cluster.psql_as("postgres", "postgres", "DROP EXTENSION pg_seats");
    assert!(
        dropped
            .failed()
            .contains("policy licensed on table salaries depends on")
    );
    cluster.sql("DROP POLICY licensed ON salaries; DROP EXTENSION pg_seats");
    assert!(admits(&cluster).await);
    let left = "SELECT count(*) FROM pg_class WHERE relname LIKE 'license%'";
    assert_eq!(cluster.sql(left), "0");
    cluster.sql("ALTER SYSTEM RESET shared_preload_libraries");
    cluster.append_conf("shared_preload_libraries = ''\n");
    cluster.restart(Stop::Fast);
    for _ in 0..2 {
        cluster.login("lena").from(&new_host()).open_ok().await;
    }
    assert_eq!(cluster.sql("SHOW shared_preload_libraries"), "");
}

/// The other way round: nobody is denied, and what is left of the extension says what is missing.
#[tokio::test(flavor = "multi_thread")]
async fn removed_in_the_other_order() {
    let cluster = Cluster::with_seats(0);
    cluster.append_conf("shared_preload_libraries = ''\n");
    cluster.restart(Stop::Fast);
    assert!(admits(&cluster).await);
    for call in [
        "SELECT * FROM license_usage",
        "SELECT license_raise_seats('TOM', 1)",
        "SELECT license_reduce_seats('TOM', 0)",
        "SELECT license_terminate(gen_random_uuid())",
    ] {
        let admin = cluster.login("postgres").open_ok().await;
        admin.fails(call).await.assert("55000", "");
    }
    cluster.sql("UPDATE licenses SET seats = 1");
    cluster.sql("DROP EXTENSION pg_seats");
    assert!(admits(&cluster).await);
}
