//! Nobody locks out the administrators: superusers get in whatever the state of licenses, tables and workers; others get what the contract says.

use std::fs;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use crate::util::*;

const LAST_STAY: &str = "the last ones stay in force";

fn builder() -> Builder {
    Cluster::builder()
        .conf("max_prepared_transactions", 5)
        .conf("pg_seats.load_timeout", "300ms")
}

/// Asserts that ordinary users are refused with this, without a long wait, and that superusers get in, counted or not.
async fn only_superusers_get_in(cluster: &Cluster, sqlstate: &str, reason: &str) {
    for exempt in ["on", "off"] {
        cluster.set("pg_seats.exempt_superusers", exempt);
        let newcomer = cluster.login("lena").from(&new_host()).denied();
        let denied = timeout(Duration::from_secs(4), newcomer).await;
        denied.expect("an answer in time").assert(sqlstate, reason);
        for login in [
            cluster.login("postgres"),
            cluster.login("postgres").from(&new_host()),
        ] {
            login.open_ok().await.run("SELECT 1").await;
        }
    }
    cluster.reset("pg_seats.exempt_superusers");
}

/// Runs the case before anybody could read the limits, and after that: `damage` makes the tables unreadable, `repair`
/// puts a license without seats in their place.
async fn unreadable(damage: &str, repair: &str) {
    let cluster = builder().licensed("seats", "99");
    assert!(admits(&cluster).await);
    cluster.sql(damage);
    assert!(
        admits(&cluster).await,
        "the last limits are no longer in force"
    );
    cluster.wait_log(LAST_STAY, PATIENCE);
    cluster.restart(Stop::Fast);
    only_superusers_get_in(&cluster, "57P03", "license_not_loaded").await;
    cluster.sql(repair);
    assert!(!admits(&cluster).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_license_without_seats() {
    let cluster = builder().licensed("seats", "0");
    only_superusers_get_in(&cluster, "53300", "license_full").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_license_out_of_its_dates() {
    let cluster = builder().licensed("seats, valid_until", "9, now() - interval '1 day'");
    only_superusers_get_in(&cluster, "28000", "license_expired").await;
    cluster.sql("UPDATE licenses SET valid_until = NULL, valid_from = now() + interval '1 day'");
    only_superusers_get_in(&cluster, "28000", "license_not_yet_valid").await;
}

/// Who comes after one has waited in vain does not wait again, nor does a superuser who counts; and who
/// reads them first reads them for all.
#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_read_a_moment_ago_is_not_waited_for_again() {
    let cluster = Cluster::builder()
        .conf("max_prepared_transactions", 5)
        .conf("pg_seats.load_timeout", "6s")
        .conf("pg_seats.exempt_superusers", "off")
        .licensed("seats", "99");
    cluster.sql("BEGIN; LOCK TABLE licenses; PREPARE TRANSACTION 'lock'");
    cluster.restart(Stop::Fast);
    let newcomer = || cluster.login("lena").from(&new_host());
    let waited = async || {
        let start = Instant::now();
        newcomer()
            .denied()
            .await
            .assert("57P03", "license_not_loaded");
        start.elapsed()
    };
    let long = waited().await;
    assert!(long > Duration::from_secs(5), "{long:?}");
    let start = Instant::now();
    // All at once, because it is remembered for a second.
    let others: Vec<_> = (0..5).map(|_| tokio::spawn(newcomer().denied())).collect();
    for other in others {
        other.await.unwrap().assert("57P03", "license_not_loaded");
    }
    let short = start.elapsed();
    assert!(short < Duration::from_secs(4), "{short:?}");
    // While one tries again, others are told at once. Who has waited longer than those do is the one.
    let observer = cluster.login("postgres").db("template1").open_ok().await;
    let tries = "SELECT count(*) > 0 FROM pg_locks
                  WHERE NOT granted AND waitstart < clock_timestamp() - interval '500 ms'";
    let mut trying = tokio::spawn(newcomer().denied());
    eventually("one tries again", PATIENCE, async || {
        if trying.is_finished() {
            trying = tokio::spawn(newcomer().denied());
        }
        observer.val::<bool>(tries).await
    })
    .await;
    let short = waited().await;
    assert!(short < Duration::from_secs(4), "{short:?}");
    let start = Instant::now();
    cluster.login("postgres").from(&new_host()).open_ok().await;
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
    trying.await.unwrap();
    cluster.sql("ROLLBACK PREPARED 'lock'");
    eventually("it can be read", PATIENCE, async || {
        newcomer().open().await.is_ok()
    })
    .await;
}

/// Makes a prepared transaction hold its lock on this table across the restart.
async fn locked(table: &str) {
    let lock = format!(
        "ALTER TABLE licenses DISABLE TRIGGER USER;
         BEGIN; LOCK TABLE {table}; PREPARE TRANSACTION 'lock'"
    );
    let unlock = "ROLLBACK PREPARED 'lock'; UPDATE licenses SET seats = 0";
    unreadable(&lock, unlock).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_since_before_the_start() {
    locked("licenses").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_on_the_exemptions() {
    locked("license_exemptions").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_on_the_reservations() {
    locked("license_reservations").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_of_a_living_session_leaves_the_last_limits() {
    let desk = Desk::of(builder().licensed("seats", "1")).await;
    let (admin, cluster) = (&desk.admin, &desk.cluster);
    let anna = cluster.login("anna").from("127.0.1.1").open_ok().await;
    // Current limits need no look at the table.
    admin
        .run("BEGIN; LOCK TABLE licenses, license_exemptions, license_reservations")
        .await;
    assert!(!admits(cluster).await);
    assert!(!cluster.log().contains(LAST_STAY));
    admin.run("COMMIT").await;
    let locker = desk.change_and_lock().await;
    assert!(!admits(cluster).await);
    assert!(cluster.log().contains(LAST_STAY));
    anna.run("SELECT 1").await;
    cluster.login("postgres").open_ok().await;
    locker.run("COMMIT").await;
    assert!(admits(cluster).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_in_one_database_concerns_no_other() {
    let cluster = builder().licensed("seats", "99");
    cluster.sql("CREATE DATABASE other TEMPLATE postgres");
    cluster.sql("BEGIN; LOCK TABLE licenses; PREPARE TRANSACTION 'lock'");
    cluster.restart(Stop::Fast);
    assert!(admits_to(&cluster, "other").await);
    cluster.sql_in("other", "UPDATE licenses SET seats = 0");
    assert!(!admits_to(&cluster, "other").await);
    let denied = cluster.login("lena").from("127.0.1.1").denied().await;
    denied.assert("57P03", "license_not_loaded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_for_want_of_limits_says_why() {
    let cluster = builder().licensed("seats", "99");
    cluster.sql("BEGIN; LOCK TABLE licenses; PREPARE TRANSACTION 'lock'");
    cluster.restart(Stop::Fast);
    let denied = cluster.login("lena").from("127.0.1.1").denied().await;
    denied.assert("57P03", "license_not_loaded");
    assert_eq!(denied.severity, "FATAL");
    assert_eq!(
        denied.message,
        r#"could not load licenses of database "postgres""#
    );
    assert_eq!(
        denied.detail,
        "The cause: somebody holds a lock on the tables."
    );
    assert!(
        denied.hint.starts_with("Try again in a moment"),
        "{denied:?}"
    );
}

/// Makes somebody take this table from the extension and drop it.
async fn dropped(table: &str) {
    unreadable(
        &format!("ALTER EXTENSION pg_seats DROP TABLE {table}; DROP TABLE {table}"),
        "DROP EXTENSION pg_seats; CREATE EXTENSION pg_seats;
         INSERT INTO licenses (product, seats) VALUES ('TOM', 0)",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_dropped_by_force() {
    dropped("licenses").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exemptions_dropped_by_force() {
    dropped("license_exemptions").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reservations_dropped_by_force() {
    dropped("license_reservations").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_renamed_and_back() {
    unreadable(
        "ALTER TABLE licenses RENAME TO hidden",
        "ALTER TABLE hidden RENAME TO licenses; UPDATE licenses SET seats = 0",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_moved_to_another_schema() {
    unreadable(
        "CREATE SCHEMA other; ALTER TABLE licenses SET SCHEMA other",
        "ALTER TABLE other.licenses SET SCHEMA public; UPDATE licenses SET seats = 0",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_renamed_and_back() {
    unreadable(
        "ALTER TABLE licenses RENAME COLUMN seats TO hidden",
        "ALTER TABLE licenses RENAME COLUMN hidden TO seats; UPDATE licenses SET seats = 0",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_dropped() {
    unreadable(
        "ALTER TABLE licenses DROP COLUMN seats CASCADE",
        "ALTER TABLE licenses ADD COLUMN seats int DEFAULT 0",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_of_another_type() {
    unreadable(
        "ALTER TABLE licenses DROP CONSTRAINT licenses_seats_within_purchased,
            DROP CONSTRAINT licenses_seats_not_negative, ALTER COLUMN seats TYPE text USING 'many'",
        "ALTER TABLE licenses ALTER COLUMN seats TYPE int USING 0",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_word_that_is_not_known() {
    unreadable(
        "ALTER TABLE licenses DROP CONSTRAINT licenses_counted_by_known;
         UPDATE licenses SET counted_by = 'moon'",
        "UPDATE licenses SET counted_by = 'user', seats = 0",
    )
    .await;
}

/// Overwrites the file of `licenses` while the server is down.
fn overwrite(cluster: &Cluster, bytes: &[u8]) {
    let file = cluster.sql("SELECT pg_relation_filepath('licenses')");
    cluster.stop(Stop::Fast);
    fs::write(cluster.data_dir().join(file), bytes).unwrap();
    cluster.start_again();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_garbage() {
    let cluster = builder().licensed("seats", "99");
    overwrite(&cluster, &[0xff; 8192]);
    only_superusers_get_in(&cluster, "57P03", "license_not_loaded").await;
    cluster.sql("TRUNCATE licenses");
    assert!(admits(&cluster).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_gone() {
    let cluster = builder().licensed("seats", "99");
    let file = cluster.sql("SELECT pg_relation_filepath('licenses')");
    cluster.stop(Stop::Fast);
    fs::remove_file(cluster.data_dir().join(file)).unwrap();
    cluster.start_again();
    only_superusers_get_in(&cluster, "57P03", "license_not_loaded").await;
    cluster.sql("DROP EXTENSION pg_seats; CREATE EXTENSION pg_seats");
    assert!(admits(&cluster).await);
}

/// To PostgreSQL an empty or zeroed file is a table without rows.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_zeros() {
    for zeros in [8192, 0] {
        let cluster = builder().licensed("seats", "0");
        overwrite(&cluster, &vec![0; zeros]);
        cluster
            .login("postgres")
            .open_ok()
            .await
            .run("SELECT 1")
            .await;
        cluster.sql("TRUNCATE licenses; INSERT INTO licenses (product, seats) VALUES ('TOM', 0)");
        assert!(!admits(&cluster).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_launcher_comes_again() {
    let cluster = builder().licensed("seats, pool", "1, 'all'");
    for _ in 0..3 {
        let before = cluster.launcher().await;
        cluster.sql(&format!("SELECT pg_terminate_backend({before})"));
        let anna = cluster.login("anna").from("127.0.1.1").open_ok().await;
        only_superusers_get_in(&cluster, "53300", "license_full").await;
        anna.close().await;
        cluster.launcher_after(before).await;
        eventually("the seat is free", PATIENCE, async || cluster.in_use() == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_free_worker_a_pool_is_not_loaded() {
    let cluster = builder()
        .conf("max_worker_processes", 1)
        .conf("max_logical_replication_workers", 0)
        .licensed("seats, pool", "1, 'all'");
    cluster.sql("CREATE DATABASE other TEMPLATE template0");
    cluster.license("other", "seats", "1");
    cluster.stop(Stop::Fast);
    // Else it is known that the other one is in no pool.
    let _ = fs::remove_file(cluster.data_dir().join("pg_seats.pools"));
    cluster.start_again();
    only_superusers_get_in(&cluster, "57P03", "license_not_loaded").await;
    cluster.wait_log("increase max_worker_processes", PATIENCE);
    let _anna = cluster
        .login("anna")
        .db("other")
        .from("127.0.1.1")
        .open_ok()
        .await;
    assert!(
        !admits_to(&cluster, "other").await,
        "a license without a pool needs no worker"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_worker_licenses_are_enforced() {
    let cluster = builder()
        .conf("max_worker_processes", 0)
        .conf("max_logical_replication_workers", 0)
        .licensed("seats", "0");
    assert_eq!(cluster.worker("launcher"), None);
    only_superusers_get_in(&cluster, "53300", "license_full").await;
    cluster.sql("UPDATE licenses SET seats = 99");
    assert!(admits(&cluster).await);
}

/// LIKE raises an error for such a pattern.
#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_that_is_none() {
    unreadable(
        r"ALTER TABLE licenses DROP CONSTRAINT licenses_application_name_is_a_pattern;
          UPDATE licenses SET application_name = '%\'",
        "UPDATE licenses SET application_name = NULL, seats = 0",
    )
    .await;
}
