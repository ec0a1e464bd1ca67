//! Databases that come, go and change their name: each has the licenses of its own tables, and none waits for us.

use crate::util::*;

/// Returns a server whose database `template` has so many seats of "TOM", by these further columns.
fn with_template(columns: &str, values: &str) -> Cluster {
    let cluster = Cluster::with_seats(99);
    cluster.sql("CREATE DATABASE template");
    cluster.license("template", columns, values);
    cluster
}

fn is_empty(cluster: &Cluster, db: &str) -> bool {
    let count = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND datname = '{db}'"
    );
    cluster.sql(&count) == "0"
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_without_the_extension_admits_everyone() {
    let cluster = Cluster::with_seats(0);
    cluster.sql("CREATE DATABASE free");
    for _ in 0..3 {
        assert!(admits_to(&cluster, "free").await);
    }
    assert!(!admits(&cluster).await);
    // The extension alone, without a row, is no license either.
    cluster.sql_in("free", "CREATE EXTENSION pg_seats");
    assert!(admits_to(&cluster, "free").await);
    assert_eq!(
        cluster.sql_in("free", "SELECT count(*) FROM license_usage"),
        "0"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_databases_count_apart() {
    let cluster = with_template("seats", "1");
    cluster.sql("UPDATE licenses SET seats = 1");
    let login = cluster.login("anna").from("127.0.1.1");
    let here = login.open_ok().await;
    let _there = login.db("template").open_ok().await;
    for db in ["postgres", "template"] {
        assert_eq!(cluster.in_use_in(db), 1);
        assert!(!admits_to(&cluster, db).await);
    }
    here.close().await;
    eventually("the seat is free", PATIENCE, async || cluster.in_use() == 0).await;
    assert!(admits(&cluster).await);
    assert!(!admits_to(&cluster, "template").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_licensed_template_is_licensed() {
    let cluster = with_template("seats", "1");
    let strategies = ["", "STRATEGY wal_log", "STRATEGY file_copy"];
    let mut staff = Vec::new();
    for (number, strategy) in strategies.iter().enumerate() {
        let company = format!("company{number}");
        cluster.sql(&format!(
            "CREATE DATABASE {company} TEMPLATE template {strategy}"
        ));
        let login = cluster.login("anna").from("127.0.1.1").db(&company);
        staff.push(login.open_ok().await);
        assert!(!admits_to(&cluster, &company).await);
        assert_eq!(cluster.in_use_in(&company), 1);
    }
    assert_eq!(cluster.in_use_in("template"), 0);
    cluster.sql_in("company0", "UPDATE licenses SET seats = 99");
    assert!(admits_to(&cluster, "company0").await);
    assert!(!admits_to(&cluster, "company1").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_database_keeps_its_license() {
    let cluster = with_template("seats", "1");
    assert!(admits_to(&cluster, "template").await);
    eventually("the seat is free", PATIENCE, async || {
        is_empty(&cluster, "template")
    })
    .await;
    cluster.sql("ALTER DATABASE template RENAME TO company");
    let _anna = cluster
        .login("anna")
        .db("company")
        .from("127.0.1.1")
        .open_ok()
        .await;
    assert!(!admits_to(&cluster, "company").await);
    let seats = "SELECT datname, usename FROM license_active_seats";
    assert_eq!(cluster.sql_in("company", seats), "company|anna");
    // Another one of its former name has nothing of it.
    cluster.sql("CREATE DATABASE template");
    assert!(admits_to(&cluster, "template").await);
    assert!(admits_to(&cluster, "template").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_used_again_has_nothing_of_its_former_database() {
    let cluster = with_template("seats", "0");
    for (create, admitted) in [
        ("TEMPLATE template", false),
        ("TEMPLATE template0", true),
        ("TEMPLATE template", false),
        ("TEMPLATE template0", true),
    ] {
        cluster.sql(&format!("CREATE DATABASE company {create} OID = 99999"));
        assert_eq!(admits_to(&cluster, "company").await, admitted, "{create}");
        cluster.sql("DROP DATABASE company WITH (FORCE)");
    }
    // Nor where nobody had come in.
    cluster.sql("CREATE DATABASE company TEMPLATE template0 OID = 99999; DROP DATABASE company");
    cluster.sql("CREATE DATABASE company TEMPLATE template OID = 99999");
    assert!(!admits_to(&cluster, "company").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_create_or_drop_that_fails_changes_nothing() {
    let cluster = with_template("seats", "0");
    let anna = cluster.login("postgres").db("template").open_ok().await;
    let fails = |sql: &str| cluster.psql_as("postgres", "postgres", sql).failed();
    assert!(fails("DROP DATABASE template").contains("being accessed by other users"));
    let oid = cluster.sql("SELECT oid FROM pg_database WHERE datname = 'template'");
    fails(&format!("CREATE DATABASE other OID = {oid}"));
    fails("CREATE DATABASE other TEMPLATE template");
    fails("BEGIN; DROP DATABASE template");
    anna.close().await;
    assert!(!admits_to(&cluster, "template").await);
}

/// However short a database lives, and whatever has just happened in it.
#[tokio::test(flavor = "multi_thread")]
async fn databases_come_and_go_without_waiting_for_us() {
    let cluster = with_template("seats, pool", "99, 'all'");
    for round in 0..20 {
        // Each change sends a database worker into it.
        cluster.sql_in("template", "UPDATE licenses SET overdraft = overdraft + 1");
        let _in_pool = round % 2 == 0 && {
            cluster.sql("UPDATE licenses SET pool = 'all'");
            admits(&cluster).await
        };
        cluster.sql("CREATE DATABASE company TEMPLATE template");
        if round % 3 == 0 {
            cluster.sql_in("company", "UPDATE licenses SET seats = 5");
        }
        cluster.sql("ALTER DATABASE company RENAME TO other; DROP DATABASE other");
    }
}

/// A database worker waits for the lock less long than DROP DATABASE waits for the database worker.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_whose_licenses_were_locked_can_be_dropped() {
    let cluster = Cluster::builder()
        .conf("max_prepared_transactions", 5)
        .licensed("seats, pool", "99, 'all'");
    cluster.sql("CREATE DATABASE template");
    cluster.license("template", "seats, pool", "99, 'all'");
    for round in 0..3 {
        cluster.sql("CREATE DATABASE company TEMPLATE template");
        let lock = "BEGIN; LOCK TABLE licenses; PREPARE TRANSACTION 'lock'";
        cluster.sql_in("company", lock);
        cluster.sql_in(
            "company",
            "UPDATE license_exemptions SET note = note; CREATE TABLE t ()",
        );
        // Has the launcher look again, while the lock is held.
        cluster.sql("UPDATE licenses SET seats = seats");
        let waits = "SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'pg_seats database worker'";
        cluster.sql_in(
            "company",
            "ALTER TABLE license_exemptions DISABLE TRIGGER USER",
        );
        eventually("a database worker comes", PATIENCE, async || {
            cluster.sql(waits) == "t"
        })
        .await;
        cluster.sql_in("company", "ROLLBACK PREPARED 'lock'");
        cluster.sql("CREATE DATABASE copy TEMPLATE company; DROP DATABASE copy");
        cluster.sql("DROP DATABASE company");
        assert!(admits(&cluster).await, "{round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn drop_database_with_force_frees_its_seats() {
    let cluster = with_template("seats, pool", "2, 'all'");
    cluster.sql("UPDATE licenses SET seats = 2, pool = 'all'");
    let mut staff = Vec::new();
    for db in ["postgres", "template"] {
        staff.push(
            cluster
                .login("anna")
                .db(db)
                .from(&new_host())
                .open_ok()
                .await,
        );
    }
    assert!(!admits(&cluster).await);
    cluster.sql("DROP DATABASE template WITH (FORCE)");
    staff.pop().unwrap().ended().await.assert("57P01", "");
    assert_eq!(cluster.in_use(), 1);
    let _bert = cluster.login("bert").from("127.0.1.9").open_ok().await;
    assert!(!admits(&cluster).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_allows_no_connections_keeps_nobody_waiting() {
    let cluster = with_template("seats, pool", "2, 'all'");
    cluster.sql("UPDATE licenses SET seats = 2, pool = 'all'");
    let _anna = cluster
        .login("anna")
        .db("template")
        .from("127.0.1.1")
        .open_ok()
        .await;
    cluster.sql("ALTER DATABASE template ALLOW_CONNECTIONS false");
    // Who is in still counts.
    let bert = cluster.login("bert").from("127.0.1.2").open_ok().await;
    assert!(!admits(&cluster).await);
    bert.close().await;
    cluster
        .login("carl")
        .db("template")
        .denied()
        .await
        .assert("55000", "");
    cluster.restart(Stop::Fast);
    let _bert = cluster.login("bert").from("127.0.1.2").open_ok().await;
    let _carl = cluster.login("carl").from("127.0.1.3").open_ok().await;
    assert!(!admits(&cluster).await);
    cluster.sql("ALTER DATABASE template ALLOW_CONNECTIONS true");
    assert!(!admits_to(&cluster, "template").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_limits_come_before_seats() {
    let cluster = with_template("seats", "99");
    cluster.sql("ALTER DATABASE template CONNECTION LIMIT 1; ALTER ROLE bert CONNECTION LIMIT 0");
    let _anna = cluster
        .login("anna")
        .db("template")
        .from("127.0.1.1")
        .open_ok()
        .await;
    for role in ["carl", "bert"] {
        let denied = cluster
            .login(role)
            .db("template")
            .from("127.0.1.2")
            .denied()
            .await;
        denied.assert("53300", "");
    }
    let counted = "SELECT in_use, denied FROM license_usage";
    assert_eq!(cluster.sql_in("template", counted), "1|0");
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_databases_have_a_license_each() {
    let cluster = with_template("seats", "1");
    let companies: Vec<_> = (0..60).map(|number| format!("company{number}")).collect();
    for company in &companies {
        cluster.sql(&format!("CREATE DATABASE {company} TEMPLATE template"));
    }
    for _ in ["before", "after a restart"] {
        let mut staff = Vec::new();
        for company in &companies {
            let login = cluster.login("anna").db(company).from("127.0.1.1");
            staff.push(login.open_ok().await);
            assert!(!admits_to(&cluster, company).await, "{company}");
        }
        cluster.restart(Stop::Fast);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_databases_share_one_pool() {
    let cluster = with_template("seats, pool", "3, 'all'");
    cluster.set("pg_seats.load_timeout", "60s");
    let companies: Vec<_> = (0..60).map(|number| format!("company{number}")).collect();
    for company in &companies {
        cluster.sql(&format!("CREATE DATABASE {company} TEMPLATE template"));
    }
    cluster.restart(Stop::Fast);
    let open = race(60, |i| {
        cluster.login("anna").db(&companies[i]).from(&new_host())
    })
    .await;
    assert_eq!(open.iter().filter(|result| result.is_ok()).count(), 3);
    assert_eq!(cluster.in_use_in("company7"), 3);
}
