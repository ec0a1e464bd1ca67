//! Limits from the tables to the logins: every way to change them, and what a change does to those who are in.

use crate::util::*;

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_in_force_for_the_first_login_after_a_start() {
    let cluster = Cluster::with_seats(0);
    for mode in [Stop::Smart, Stop::Fast, Stop::Immediate] {
        cluster.restart(mode);
        assert!(!admits(&cluster).await, "{mode:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_statement_that_changes_rows_is_in_force_at_commit() {
    let cluster = Cluster::with_seats(0);
    cluster.sql(
        "CREATE FUNCTION sell(n int) RETURNS void LANGUAGE sql SECURITY DEFINER
            AS 'UPDATE licenses SET seats = n'",
    );
    let steps = [
        ("UPDATE licenses SET seats = 99", true),
        ("UPDATE licenses SET seats = 0", false),
        ("DELETE FROM licenses", true),
        (
            "INSERT INTO licenses (product, seats) VALUES ('TOM', 0)",
            false,
        ),
        ("TRUNCATE licenses", true),
        (
            "COPY licenses (product, seats) FROM stdin;\nTOM\t0\n\\.\n",
            false,
        ),
        (
            "MERGE INTO licenses l USING (VALUES ('TOM', 99)) AS new (product, seats)
                ON l.product = new.product WHEN MATCHED THEN UPDATE SET seats = new.seats",
            true,
        ),
        (
            "INSERT INTO licenses (product, seats) VALUES ('TOM', 0)
                ON CONFLICT (product) DO UPDATE SET seats = excluded.seats",
            false,
        ),
        (
            "WITH gone AS (DELETE FROM licenses RETURNING 1) SELECT * FROM gone",
            true,
        ),
        (
            "DO $$BEGIN INSERT INTO licenses (product, seats) VALUES ('TOM', 0); END$$",
            false,
        ),
        ("SELECT sell(99)", true),
        (
            "SET session_replication_role = replica; SELECT sell(0)",
            false,
        ),
        (
            "BEGIN; SAVEPOINT s; SELECT sell(99); RELEASE s; COMMIT",
            true,
        ),
        (
            "DO $$BEGIN PERFORM sell(0); COMMIT; PERFORM sell(99); ROLLBACK; END$$",
            false,
        ),
        ("SET synchronous_commit = off; SELECT sell(99)", true),
        (
            "SELECT sell(0); VACUUM FULL licenses; CLUSTER licenses USING licenses_pkey",
            false,
        ),
    ];
    expect_after_each(&cluster, &steps).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolled_back_change_has_no_effect() {
    let cluster = Cluster::with_seats(0);
    let change = "UPDATE licenses SET seats = 99";
    for rolled_back in [
        format!("BEGIN; {change}; ROLLBACK"),
        format!("BEGIN; SAVEPOINT s; {change}; ROLLBACK TO s; COMMIT"),
        format!(
            "DO $$BEGIN {change}; RAISE division_by_zero; EXCEPTION WHEN division_by_zero THEN END$$"
        ),
        "BEGIN; DROP EXTENSION pg_seats CASCADE; ROLLBACK".to_owned(),
        "BEGIN; TRUNCATE licenses; ROLLBACK".to_owned(),
        "BEGIN; ALTER TABLE licenses DISABLE TRIGGER ALL; DELETE FROM licenses; ROLLBACK"
            .to_owned(),
    ] {
        expect_after_each(&cluster, &[(&rolled_back, false)]).await;
    }
    let admin = cluster.login("postgres").open_ok().await;
    admin.run(&format!("BEGIN; {change}")).await;
    admin.fails("SELECT 1/0").await;
    admin.run("COMMIT").await;
    assert!(!admits(&cluster).await);
    admin.run(&format!("BEGIN; {change}")).await;
    admin.abort().await;
    assert!(!admits(&cluster).await);
    assert_eq!(usage(&cluster), "0|0|full");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_fails_has_no_effect() {
    let cluster = Cluster::with_seats(0);
    cluster.sql("CREATE TABLE orders ()");
    let mut admins = Vec::new();
    for (read, write) in [
        ("orders", "UPDATE licenses SET seats = 99"),
        ("licenses", "INSERT INTO orders DEFAULT VALUES"),
    ] {
        let admin = cluster.login("postgres").open_ok().await;
        admin
            .run(&format!("BEGIN ISOLATION LEVEL SERIALIZABLE; TABLE {read}"))
            .await;
        admins.push((admin, write));
    }
    for (admin, write) in &admins {
        admin.run(write).await;
    }
    admins[1].0.run("COMMIT").await;
    admins[0].0.fails("COMMIT").await.assert("40001", "");
    assert!(!admits(&cluster).await);
    expect_after_each(&cluster, &[("UPDATE licenses SET seats = 99", true)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_uncommitted_change_concerns_nobody() {
    let cluster = Cluster::with_seats(99);
    let admin = cluster.login("postgres").open_ok().await;
    let seats = "SELECT seats FROM license_usage";
    assert!(admits(&cluster).await);
    for change in [
        "UPDATE licenses SET seats = 0",
        "DELETE FROM licenses",
        "TRUNCATE licenses",
        "DROP EXTENSION pg_seats CASCADE",
    ] {
        admin.run(&format!("BEGIN; {change}")).await;
        // Not even the one who made it: the view shows the ledger.
        if !change.starts_with("DROP") {
            assert_eq!(admin.texts(seats).await, ["99"], "{change}");
        }
        assert!(admits(&cluster).await, "{change}");
        admin.run("ROLLBACK").await;
    }
    admin.run("BEGIN; UPDATE licenses SET seats = 0").await;
    assert!(admits(&cluster).await);
    admin.run("COMMIT").await;
    assert!(!admits(&cluster).await);
    assert_eq!(admin.text(seats).await, "0");
    admin.run("BEGIN; UPDATE licenses SET seats = 99").await;
    assert!(!admits(&cluster).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_cannot_be_prepared() {
    let cluster = Cluster::builder()
        .conf("max_prepared_transactions", 5)
        .licensed("seats", "0");
    let admin = cluster.login("postgres").open_ok().await;
    for change in [
        "UPDATE licenses SET seats = 99",
        "INSERT INTO license_exemptions VALUES ('role', 'lena')",
        "INSERT INTO license_reservations VALUES ('TOM', 'lena', 1)",
        "TRUNCATE licenses",
        "ALTER TABLE licenses DISABLE TRIGGER ALL",
        "DROP EXTENSION pg_seats CASCADE",
    ] {
        admin.run(&format!("BEGIN; {change}")).await;
        admin
            .fails("PREPARE TRANSACTION 'x'")
            .await
            .assert("0A000", "");
        assert!(!admits(&cluster).await, "{change}");
    }
    assert_eq!(
        admin
            .val::<i64>("SELECT count(*) FROM pg_prepared_xacts")
            .await,
        0
    );
    assert_eq!(usage(&cluster), "0|0|full");
    admin.run("UPDATE licenses SET seats = 99").await;
    assert!(admits(&cluster).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_change_licenses_can_be_prepared() {
    let cluster = Cluster::builder()
        .conf("max_prepared_transactions", 5)
        .licensed("seats", "0");
    cluster.sql("CREATE TABLE orders (id int PRIMARY KEY)");
    for (number, work) in [
        "INSERT INTO orders VALUES (1)",
        "SELECT * FROM licenses",
        "CREATE TABLE items (id int REFERENCES orders)",
        "CREATE TRIGGER same BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "DROP EXTENSION plpgsql",
        "CREATE EXTENSION plpgsql",
    ]
    .into_iter()
    .enumerate()
    {
        let ran = cluster.psql_as(
            "postgres",
            "postgres",
            &format!("BEGIN; {work}; PREPARE TRANSACTION '{number}'; COMMIT PREPARED '{number}'"),
        );
        assert_eq!(ran.stderr, "", "{work}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_are_right_without_the_triggers() {
    let cluster = Cluster::with_seats(0);
    let (grant, revoke) = (
        "UPDATE licenses SET seats = 99",
        "UPDATE licenses SET seats = 0",
    );
    for without in [
        "ALTER TABLE licenses DISABLE TRIGGER ALL",
        "ALTER TABLE licenses ENABLE TRIGGER ALL; SET session_replication_role = replica",
        "ALTER TABLE licenses ENABLE REPLICA TRIGGER license_change",
        "ALTER TABLE licenses DISABLE TRIGGER license_change",
        "ALTER TABLE licenses ENABLE ALWAYS TRIGGER license_change",
        "ALTER TRIGGER license_change ON licenses RENAME TO other",
        "DROP TRIGGER other ON licenses",
        "DROP TRIGGER license_truncate ON licenses",
    ] {
        let silently = |change| format!("{without}; {change}");
        let steps = [(without, false), (grant, true), (revoke, false)];
        if without.starts_with("DROP") || without.contains("RENAME") {
            expect_after_each(&cluster, &steps).await;
        } else {
            let both = [silently(grant), silently(revoke)];
            expect_after_each(&cluster, &steps).await;
            expect_after_each(&cluster, &[(&both[0], true), (&both[1], false)]).await;
        }
    }
    expect_after_each(&cluster, &[("TRUNCATE licenses", true)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_extension_starts_without_licenses() {
    let cluster = Cluster::with_seats(0);
    let steps = [
        ("DROP EXTENSION pg_seats", true),
        ("CREATE EXTENSION pg_seats", true),
        ("INSERT INTO licenses (product, seats) VALUES ('TOM', 0)", false),
        ("DROP EXTENSION pg_seats CASCADE; CREATE EXTENSION pg_seats", true),
        (
            "BEGIN; DROP EXTENSION pg_seats; CREATE SCHEMA own; CREATE EXTENSION pg_seats SCHEMA own;
             INSERT INTO own.licenses (product, seats) VALUES ('TOM', 0); COMMIT",
            false,
        ),
        ("ALTER SCHEMA own RENAME TO renamed", false),
        ("UPDATE renamed.licenses SET seats = 99", true),
        ("UPDATE renamed.licenses SET seats = 0", false),
        ("DROP SCHEMA renamed CASCADE", true),
    ];
    expect_after_each(&cluster, &steps).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_an_inheriting_table_are_no_licenses() {
    let cluster = Cluster::with_seats(99);
    let steps = [
        ("CREATE TABLE other () INHERITS (licenses)", true),
        (
            "INSERT INTO other (product, seats, application_name) VALUES ('Books', 0, '%')",
            true,
        ),
        ("UPDATE ONLY licenses SET seats = 0", false),
    ];
    expect_after_each(&cluster, &steps).await;
    assert_eq!(usage(&cluster).lines().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn logical_replication_into_licenses_counts_as_a_change() {
    let vendor = Cluster::builder()
        .conf("wal_level", "logical")
        .licensed("seats", "0");
    vendor.sql(
        "CREATE PUBLICATION sold FOR TABLE licenses, license_exemptions, license_reservations",
    );
    let company = Cluster::with_seats(99);
    company.sql("DELETE FROM licenses");
    company.sql(&format!(
        "CREATE SUBSCRIPTION bought
            CONNECTION 'host={} port={} user=postgres dbname=postgres' PUBLICATION sold",
        vendor.socket_dir().display(),
        vendor.port()
    ));
    let arrives = async |sql: &str, admitted: bool| {
        eventually(sql, PATIENCE, async || admits(&company).await == admitted).await;
    };
    arrives("the copy at the start", false).await;
    for (sql, admitted) in [
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
        ("UPDATE license_reservations SET role = 'lena'", true),
        ("UPDATE license_reservations SET role = 'nobody'", false),
        ("TRUNCATE license_reservations", true),
        ("UPDATE licenses SET seats = 0", false),
        ("DELETE FROM licenses", true),
        (
            "INSERT INTO licenses (product, seats) VALUES ('TOM', 0)",
            false,
        ),
        ("TRUNCATE licenses", true),
    ] {
        vendor.sql(sql);
        arrives(sql, admitted).await;
    }
    company.sql("DROP SUBSCRIPTION bought");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_in_force_as_soon_as_commit_returns() {
    let cluster = Cluster::with_seats(0);
    let admin = cluster.login("postgres").open_ok().await;
    for round in 0..200 {
        let admitted = round % 2 == 1;
        let seats = if admitted { 99 } else { 0 };
        admin
            .run(&format!("UPDATE licenses SET seats = {seats}"))
            .await;
        assert_eq!(admits(&cluster).await, admitted, "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_racing_changes_the_last_one_is_in_force() {
    let cluster = Cluster::with_seats(99);
    for round in 0..5 {
        let admins = (0..4).map(async |admin: i32| {
            let session = cluster.login("postgres").open_ok().await;
            for change in 0..20 {
                let seats = (admin + change + round) % 2 * 99;
                session
                    .run(&format!("UPDATE licenses SET seats = {seats}"))
                    .await;
            }
        });
        let clients = (0..4).map(async |_| {
            for _ in 0..20 {
                admits(&cluster).await;
            }
        });
        let (admins, clients) = (join_all(admins), join_all(clients));
        tokio::join!(admins, clients);
        let seats: i32 = cluster.sql("SELECT seats FROM licenses").parse().unwrap();
        assert_eq!(
            admits(&cluster).await,
            seats > 0,
            "round {round}, {seats} seats"
        );
        assert_eq!(
            cluster.sql("SELECT seats FROM license_usage"),
            seats.to_string()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_between_few_and_more_seats_never_admit_more() {
    let cluster = Cluster::with_seats(3);
    let admin = cluster.login("postgres").open_ok().await;
    let changes = async {
        for change in 0..100 {
            admin
                .run(&format!("UPDATE licenses SET seats = {}", 3 + change % 3))
                .await;
        }
    };
    let logins = race(60, |_| cluster.login("lena").from(&new_host()));
    let (results, ()) = tokio::join!(logins, changes);
    let admitted = results.iter().filter(|result| result.is_ok()).count();
    assert!((3..=5).contains(&admitted), "{admitted} got in");
    for denied in results.into_iter().filter_map(Result::err) {
        denied.assert("53300", "license_full");
    }
    let high_water: usize = cluster
        .sql("SELECT high_water FROM license_usage")
        .parse()
        .unwrap();
    assert!((3..=5).contains(&high_water), "{high_water}");
}

/// Drives all of them at once.
async fn join_all(all: impl Iterator<Item = impl Future<Output = ()>>) {
    let mut all: Vec<_> = all.map(Box::pin).collect();
    std::future::poll_fn(|context| {
        all.retain_mut(|one| one.as_mut().poll(context).is_pending());
        if all.is_empty() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
}
