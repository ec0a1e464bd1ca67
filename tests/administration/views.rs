//! The views and who may see what; the schema's privileges and comments.

use crate::util::*;

/// Returns a column of a view: `name type`.
fn columns(cluster: &Cluster, view: &str) -> Vec<String> {
    let columns = format!(
        "SELECT attname || ' ' || format_type(atttypid, atttypmod) FROM pg_attribute
          WHERE attrelid = '{view}'::regclass AND attnum > 0 ORDER BY attnum"
    );
    cluster.sql(&columns).lines().map(str::to_owned).collect()
}

#[test]
fn the_views_have_the_columns_that_applications_rely_on() {
    let cluster = Cluster::with_seats(1);
    assert_eq!(
        columns(&cluster, "license_active_seats"),
        [
            "seat_id uuid",
            "product text",
            "datname name",
            "usename name",
            "client_user text",
            "client_host text",
            "workstation text",
            "application_name text",
            "kind text",
            "sessions integer",
            "pids integer[]",
            "opened_at timestamp with time zone",
            "last_active_at timestamp with time zone",
            "idle interval",
            "expires_at timestamp with time zone",
        ]
    );
    assert_eq!(
        columns(&cluster, "license_usage"),
        [
            "product text",
            "seats integer",
            "purchased integer",
            "in_use integer",
            "available integer",
            "waiting integer",
            "exempt integer",
            "high_water integer",
            "high_water_at timestamp with time zone",
            "denied bigint",
            "counted_since timestamp with time zone",
            "valid_until timestamp with time zone",
            "days_left integer",
            "status text",
            "license_id text",
        ]
    );
    assert_eq!(
        columns(&cluster, "license_exempt_sessions"),
        [
            "pid integer",
            "datname name",
            "usename name",
            "client_host text",
            "application_name text",
            "reason text",
        ]
    );
}

#[test]
fn every_object_of_the_extension_has_a_comment() {
    let cluster = Cluster::with_seats(1);
    // Since 17 the types of tables and views are members too; nobody looks at them.
    let members = "pg_depend d WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
         AND d.classid <> 'pg_type'::regclass
         AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pg_seats')";
    let silent = cluster.sql(&format!(
        "SELECT pg_describe_object(classid, objid, 0) FROM {members}
            AND obj_description(objid, classid::regclass::name) IS NULL"
    ));
    assert_eq!(silent, "", "without a comment");
    let count: u32 = cluster
        .sql(&format!("SELECT count(*) FROM {members}"))
        .parse()
        .unwrap();
    assert!(count >= 8, "{count} members");
    // Of the tables, and of the views.
    let silent = cluster.sql(&format!(
        "SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
          WHERE c.relkind IN ('r', 'v')
            AND c.oid IN (SELECT d.objid FROM {members} AND d.classid = 'pg_class'::regclass)
            AND a.attnum > 0 AND NOT a.attisdropped AND col_description(c.oid, a.attnum) IS NULL"
    ));
    assert_eq!(silent, "", "columns without a comment");
    let silent = cluster
        .sql("SELECT name FROM pg_settings WHERE name LIKE 'pg\\_seats.%' AND short_desc IS NULL");
    assert_eq!(silent, "", "settings without a description");
}

#[test]
fn everyone_may_execute_what_is_for_everyone_and_nothing_else() {
    let cluster = Cluster::with_seats(1);
    let open = cluster.sql(
        "SELECT string_agg(p.proname, ' ' ORDER BY p.proname)
           FROM pg_depend d JOIN pg_proc p ON p.oid = d.objid
          WHERE d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
            AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pg_seats')
            AND has_function_privilege('public', p.oid, 'EXECUTE')",
    );
    assert_eq!(
        open,
        "license_active_seats license_bars_in_force license_checkin license_checkout license_exempt_sessions license_held \
         license_keys_status license_own_leases license_try_checkout license_usage"
    );
    let definers = cluster.sql(
        "SELECT p.proname FROM pg_depend d JOIN pg_proc p ON p.oid = d.objid
          WHERE d.deptype = 'e' AND p.prosecdef
            AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pg_seats')",
    );
    assert_eq!(definers, "", "run with their owner's rights");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_but_the_owner_writes_licenses_until_granted() {
    let cluster = Cluster::with_seats(5);
    cluster.sql("GRANT pg_monitor TO bert");
    for user in ["anna", "bert"] {
        let session = cluster.login(user).from("127.0.1.1").open_ok().await;
        assert_eq!(session.text("SELECT seats FROM licenses").await, "5");
        for statement in [
            "UPDATE licenses SET seats = 99",
            "INSERT INTO licenses (product) VALUES ('another')",
            "DELETE FROM licenses",
            "TRUNCATE licenses",
            "INSERT INTO license_exemptions VALUES ('role', 'anna')",
            "DELETE FROM license_exemptions",
            "INSERT INTO license_reservations VALUES ('TOM', 'anna', 5)",
            "DELETE FROM license_reservations",
            "DROP TABLE licenses",
            "ALTER TABLE licenses DISABLE TRIGGER ALL",
            "DROP EXTENSION pg_seats",
            "SELECT license_tables_changed()",
        ] {
            session.fails(statement).await.assert("42501", "");
        }
    }
    cluster.sql("GRANT UPDATE (seats) ON licenses TO anna");
    let anna = cluster.login("anna").from("127.0.1.1").open_ok().await;
    anna.run("UPDATE licenses SET seats = 6").await;
    assert_eq!(anna.text("SELECT seats FROM license_usage").await, "6");
    let more = anna.fails("UPDATE licenses SET overdraft = 99").await;
    more.assert("42501", "");
}

#[tokio::test(flavor = "multi_thread")]
async fn users_see_their_own_seats_and_monitors_all() {
    let cluster = Cluster::with_seats(5);
    cluster.sql("GRANT pg_monitor TO carl; INSERT INTO license_exemptions VALUES ('role', 'dora')");
    let mut inside = Vec::new();
    for (i, user) in ["anna", "bert", "carl", "dora"].into_iter().enumerate() {
        let login = cluster.login(user).from(&format!("127.0.1.{i}"));
        inside.push(login.open_ok().await);
    }
    let seats =
        "SELECT coalesce(string_agg(usename, ' ' ORDER BY usename), '') FROM license_active_seats";
    let exempt = "SELECT coalesce(string_agg(usename, ' '), '') FROM license_exempt_sessions
                   WHERE usename <> 'postgres'";
    for (session, sees, sees_exempt) in [
        (&inside[0], "anna", ""),
        (&inside[1], "bert", ""),
        (&inside[2], "anna bert carl", "dora"),
        (&inside[3], "", "dora"),
    ] {
        assert_eq!(session.text(seats).await, sees);
        assert_eq!(session.text(exempt).await, sees_exempt);
        let usage = "SELECT product, in_use, exempt FROM license_usage";
        assert_eq!(session.text(usage).await, "TOM|3|1");
    }
    assert_eq!(cluster.sql(seats), "anna bert carl");
    // Another role's rights show its seats too.
    cluster.sql("GRANT anna TO bert");
    assert_eq!(inside[1].text(seats).await, "anna bert");
    inside[1].run("SET ROLE anna").await;
    assert_eq!(inside[1].text(seats).await, "anna");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seat_of_several_sessions_is_one_row_that_shows_what_they_share() {
    let cluster = Cluster::with_seats(5);
    let login = cluster.login("anna").from("127.0.1.1").workstation("PC 7");
    let first = login.clone().app("Books").open_ok().await;
    let row = "SELECT product, datname, usename, client_user, client_host, workstation,
                      application_name, kind, sessions, expires_at FROM license_active_seats";
    let alone = "TOM|postgres|anna||127.0.1.1|PC 7|Books|login|1|";
    assert_eq!(cluster.sql(row), alone);
    let opened = "SELECT seat_id, opened_at FROM license_active_seats";
    let since = cluster.sql(opened);
    let second = login.app("Payroll").open_ok().await;
    let together = "TOM|postgres|anna||127.0.1.1|PC 7||login|2|";
    assert_eq!(cluster.sql(row), together);
    let mut pids = [first.pid().await, second.pid().await];
    pids.sort_unstable();
    let listed = "SELECT array_agg(pid ORDER BY pid)
                    FROM license_active_seats, unnest(pids) pid";
    assert_eq!(cluster.sql(listed), format!("{{{},{}}}", pids[0], pids[1]));
    first.close().await;
    eventually("one session is left", PATIENCE, async || {
        cluster.sql(row) == alone.replace("Books", "Payroll")
    })
    .await;
    // It is still the same seat.
    assert_eq!(cluster.sql(opened), since);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seat_shows_null_where_its_sessions_differ() {
    let cluster = Cluster::builder().licensed("counted_by, pool", "'host', 'firm'");
    cluster.sql("CREATE DATABASE second");
    cluster.license("second", "counted_by, pool", "'host', 'firm'");
    let _anna = cluster.login("anna").from("127.0.1.1").open_ok().await;
    let bert = cluster.login("bert").from("127.0.1.1").db("second");
    let _bert = bert.open_ok().await;
    let row = "SELECT datname IS NULL, usename IS NULL, client_host, workstation IS NULL, sessions
                 FROM license_active_seats";
    for database in ["postgres", "second"] {
        assert_eq!(cluster.sql_in(database, row), "t|t|127.0.1.1|t|2");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seat_shows_when_any_of_its_sessions_was_last_active() {
    let cluster = Cluster::with_seats(5);
    let login = cluster.login("anna").from("127.0.1.1");
    let (first, second) = (login.open_ok().await, login.open_ok().await);
    let last_active = || cluster.sql("SELECT last_active_at FROM license_active_seats");
    let sane = || {
        cluster.sql("SELECT opened_at <= last_active_at AND idle >= '0' FROM license_active_seats")
    };
    let before = last_active();
    assert_eq!((last_active(), sane()), (before.clone(), "t".into()));
    first.run("SELECT 1").await;
    let after_first = last_active();
    assert!(after_first > before);
    second.run("SELECT 1").await;
    assert!(last_active() > after_first);
    // Idle grows while nothing happens, and is nothing while a query runs.
    eventually("the seat has been idle for a while", PATIENCE, async || {
        cluster.sql("SELECT idle > '0.5 s' FROM license_active_seats") == "t"
    })
    .await;
    let query = tokio::spawn(async move { second.fails("SELECT pg_sleep(600)").await });
    eventually("the seat is active", PATIENCE, async || {
        cluster.sql("SELECT idle < '0.2 s' FROM license_active_seats") == "t"
    })
    .await;
    drop(query);
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_shows_high_water_denials_and_what_is_available() {
    let cluster = Cluster::builder().licensed("seats, purchased", "2, 10");
    let usage = "SELECT seats, purchased, in_use, available, waiting, high_water, denied FROM license_usage";
    assert_eq!(cluster.sql(usage), "2|10|0|2|0|0|0");
    let peak = "SELECT high_water_at IS NULL, counted_since <= now() FROM license_usage";
    assert_eq!(cluster.sql(peak), "t|t");
    let anna = cluster.login("anna").from("127.0.1.1").open_ok().await;
    let bert = cluster.login("bert").from("127.0.1.2").open_ok().await;
    let since = cluster.sql("SELECT high_water_at FROM license_usage");
    for _ in 0..3 {
        cluster.login("carl").from("127.0.1.3").denied().await;
    }
    assert_eq!(cluster.sql(usage), "2|10|2|0|0|2|3");
    anna.close().await;
    eventually("a seat is available", PATIENCE, async || {
        cluster.sql(usage) == "2|10|1|1|0|2|3"
    })
    .await;
    let _carl = cluster.login("carl").from("127.0.1.3").open_ok().await;
    // As high as before is no new mark.
    assert_eq!(
        cluster.sql("SELECT high_water_at FROM license_usage"),
        since
    );
    cluster.sql("UPDATE licenses SET seats = 1");
    assert_eq!(cluster.sql(usage), "1|10|2|0|0|2|3");
    cluster.sql("UPDATE licenses SET seats = NULL, purchased = NULL");
    assert_eq!(cluster.sql(usage), "||2||0|2|3");
    drop(bert);
}

#[test]
fn usage_counts_the_days_left() {
    let cluster = Cluster::with_seats(1);
    for (until, days) in [
        ("NULL", ""),
        ("now() + interval '10 days 12 hours'", "10"),
        ("now() + interval '12 hours'", "0"),
        ("now() - interval '10 days'", "0"),
        ("'infinity'", ""),
    ] {
        cluster.sql(&format!("UPDATE licenses SET valid_until = {until}"));
        assert_eq!(cluster.sql("SELECT days_left FROM license_usage"), days);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_word_of_status_means_what_the_contract_says() {
    let cluster = Cluster::with_seats(10);
    let mut inside = Vec::new();
    for i in 1..=4 {
        let login = cluster.login("anna").from(&format!("127.0.1.{i}"));
        inside.push(login.open_ok().await);
    }
    // Four seats are in use. Where several words hold, the first in this order does.
    let (past, future) = ("now() - interval '1 day'", "now() + interval '1 day'");
    for (changes, status) in [
        ("", "ok"),
        ("seats = NULL", "unlimited"),
        ("warn_at_percent = 40", "warning"),
        ("warn_at_percent = 41", "ok"),
        ("seats = 5", "ok"),
        ("seats = 5, warn_at_percent = 80", "warning"),
        ("warn_at_percent = 0", "warning"),
        (
            &format!("valid_until = {past}, grace = '9 days', warn_at_percent = 0"),
            "grace",
        ),
        (
            &format!("valid_until = {past}, grace = '9 days', seats = NULL"),
            "grace",
        ),
        (
            &format!("seats = 4, valid_until = {past}, grace = '9 days'"),
            "full",
        ),
        ("seats = 4, overdraft = 2", "full"),
        ("seats = 3, overdraft = 1", "overdraft"),
        ("seats = 3", "over"),
        ("seats = 2, overdraft = 1", "over"),
        (
            &format!("seats = 3, valid_from = {future}"),
            "not yet valid",
        ),
        (&format!("seats = 3, valid_until = {past}"), "expired"),
        (
            &format!("valid_until = {past}, grace = '1 hour'"),
            "expired",
        ),
        ("seats = 3, enforcement = 'warn'", "not enforced"),
        (
            &format!("valid_until = {past}, enforcement = 'off'"),
            "not enforced",
        ),
    ] {
        cluster.sql(
            "UPDATE licenses SET seats = 10, overdraft = 0, warn_at_percent = 90, grace = '0',
                    valid_from = NULL, valid_until = NULL, enforcement = 'on'",
        );
        if !changes.is_empty() {
            cluster.sql(&format!("UPDATE licenses SET {changes}"));
        }
        let shown = cluster.sql("SELECT status FROM license_usage");
        assert_eq!(shown, status, "{changes}");
    }
    cluster.sql("UPDATE licenses SET enforcement = 'on', valid_until = NULL");
    cluster.set("pg_seats.enforcement", "warn");
    let shown = cluster.sql("SELECT status FROM license_usage");
    assert_eq!(shown, "not enforced");
}

#[tokio::test(flavor = "multi_thread")]
async fn exempt_sessions_say_why() {
    let cluster = Cluster::builder().licensed("seats, application_name", "5, 'Office%'");
    cluster.sql(
        "INSERT INTO license_exemptions VALUES ('role', 'anna'), ('host', '127.0.1.2');
         CREATE ROLE copier LOGIN REPLICATION",
    );
    let mut inside = Vec::new();
    for (user, host, app) in [
        ("anna", "127.0.1.1", "Office 1"),
        ("bert", "127.0.1.2", "Office 2"),
        ("copier", "127.0.1.3", "Office 3"),
        ("carl", "127.0.1.4", "Reports"),
        ("postgres", "127.0.1.5", "Admin"),
        ("dora", "127.0.1.6", "Office 4"),
    ] {
        let login = cluster.login(user).from(host).app(app);
        inside.push(login.open_ok().await);
    }
    let listed = cluster.sql(
        "SELECT datname, usename, client_host, application_name, reason
           FROM license_exempt_sessions WHERE client_host <> 'local' ORDER BY client_host",
    );
    assert_eq!(
        listed,
        "postgres|anna|127.0.1.1|Office 1|exempt role\n\
         postgres|bert|127.0.1.2|Office 2|exempt host\n\
         postgres|copier|127.0.1.3|Office 3|replication\n\
         postgres|carl|127.0.1.4|Reports|no license claimed\n\
         postgres|postgres|127.0.1.5|Admin|superuser"
    );
    let usage = "SELECT in_use, exempt FROM license_usage";
    assert_eq!(cluster.sql(usage), "1|3");
}
