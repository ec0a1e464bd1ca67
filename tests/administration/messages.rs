//! What a denied user reads, what a program gets, and what the server log says: word for word.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::util::*;

const FULL_HINT: &str = "Someone must log out before another user can log in, \
                         or an administrator must raise the number of seats.";

/// Asserts the fields of a refusal, in the order in which psql shows them, and the reason for programs.
#[track_caller]
fn assert_reads(denied: &Denied, expected: [&str; 6]) {
    let fields = [
        &denied.severity,
        &denied.sqlstate,
        &denied.message,
        &denied.detail,
        &denied.hint,
        &denied.reason,
    ];
    assert_eq!(fields, expected.map(str::to_owned).each_ref());
}

/// Asserts the refusal of a full license, with this DETAIL.
#[track_caller]
fn assert_full(denied: &Denied, detail: &str) {
    let message = r#"maximum user license count reached for "TOM""#;
    assert_reads(
        denied,
        ["FATAL", "53300", message, detail, FULL_HINT, "license_full"],
    );
}

/// Logs these users in one after the other, each from a computer of their own.
async fn all_in(cluster: &Cluster, users: &[&str]) -> Vec<Session> {
    let mut inside = Vec::new();
    for (i, user) in users.iter().enumerate() {
        let login = cluster.login(user).from(&format!("127.0.1.{}", i + 1));
        inside.push(login.open_ok().await);
    }
    inside
}

fn latecomer(cluster: &Cluster) -> Login {
    cluster.login("lena").from("127.0.2.1")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_license_says_how_many_seats_are_in_use_and_who_has_been_idle_longest() {
    let cluster = Cluster::with_seats(4);
    let inside = all_in(&cluster, &["anna", "bert", "carl", "dora"]).await;
    let denied = latecomer(&cluster).denied().await;
    let detail = r#"4 of 4 seats are in use. Idle longest: "anna", "bert", "carl"."#;
    assert_full(&denied, detail);
    // Who did something is no longer among them.
    inside[0].run("SELECT 1").await;
    let denied = latecomer(&cluster).denied().await;
    let detail = r#"4 of 4 seats are in use. Idle longest: "bert", "carl", "dora"."#;
    assert_full(&denied, detail);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seat_is_idle_only_if_all_its_sessions_are() {
    let cluster = Cluster::with_seats(2);
    let _inside = all_in(&cluster, &["anna", "bert"]).await;
    let _again = cluster.login("anna").from("127.0.1.1").open_ok().await;
    let denied = latecomer(&cluster).denied().await;
    let detail = r#"2 of 2 seats are in use. Idle longest: "bert", "anna"."#;
    assert_full(&denied, detail);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_holders_shown_are_idle_ones_each_once() {
    let cluster = Cluster::with_seats(4);
    let mut inside = all_in(&cluster, &["anna", "anna", "bert", "carl"]).await;
    let busy = inside.pop().unwrap();
    let canceller = busy.cancel_token();
    let query = tokio::spawn(async move { busy.fails("SELECT pg_sleep(600)").await });
    eventually("carl is busy", PATIENCE, async || {
        cluster.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'") == "1"
    })
    .await;
    inside[2].run("BEGIN").await;
    let denied = latecomer(&cluster).denied().await;
    let detail = r#"4 of 4 seats are in use. Idle longest: "anna", "bert"."#;
    assert_full(&denied, detail);
    drop((canceller, query));
}

#[tokio::test(flavor = "multi_thread")]
async fn denial_detail_count_hides_the_holders() {
    let cluster = Cluster::with_seats(1);
    let _inside = all_in(&cluster, &["anna"]).await;
    cluster.set("pg_seats.denial_detail", "count");
    let denied = latecomer(&cluster).denied().await;
    assert_full(&denied, "1 of 1 seats are in use.");
    cluster.set("pg_seats.denial_detail", "holders");
    let denied = latecomer(&cluster).denied().await;
    assert_full(&denied, r#"1 of 1 seats are in use. Idle longest: "anna"."#);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_tracked_activities_nobody_is_called_idle() {
    let cluster = Cluster::builder()
        .conf("track_activities", "off")
        .licensed("seats", "1");
    let _inside = all_in(&cluster, &["anna"]).await;
    let denied = latecomer(&cluster).denied().await;
    assert_full(&denied, "1 of 1 seats are in use.");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_license_of_no_seats_names_nobody() {
    let cluster = Cluster::with_seats(0);
    let denied = latecomer(&cluster).denied().await;
    assert_full(&denied, "0 of 0 seats are in use.");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_than_names_is_told_of_the_holders() {
    let cluster = Cluster::with_seats(1);
    let anna = cluster.login("anna").from("127.0.1.77").app("Payroll");
    let anna = anna.workstation("PC-SECRET").open_ok().await;
    anna.run("SELECT 'private'").await;
    let denied = latecomer(&cluster).denied().await;
    assert_full(&denied, r#"1 of 1 seats are in use. Idle longest: "anna"."#);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_products_and_users_are_shown_whole() {
    let cluster = Cluster::builder().start();
    let (product, user) = ("Ö".repeat(31), "ü".repeat(31));
    cluster.sql(&format!(
        r#"CREATE EXTENSION pg_seats; CREATE ROLE "{user}" LOGIN; CREATE ROLE lena LOGIN;
           INSERT INTO licenses (product, seats) VALUES ('{product}', 1)"#
    ));
    let _inside = all_in(&cluster, &[&user]).await;
    let denied = latecomer(&cluster).denied().await;
    let message = format!(r#"maximum user license count reached for "{product}""#);
    let detail = format!(r#"1 of 1 seats are in use. Idle longest: "{user}"."#);
    assert_eq!((&denied.message, &denied.detail), (&message, &detail));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overdraft_counts_in_the_limit_that_a_denied_user_reads() {
    let cluster = Cluster::builder().licensed("seats, overdraft", "1, 1");
    let _inside = all_in(&cluster, &["anna", "bert"]).await;
    let denied = latecomer(&cluster).denied().await;
    let detail = r#"2 of 2 seats are in use. Idle longest: "anna", "bert"."#;
    assert_full(&denied, detail);
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_shows_message_detail_and_hint() {
    let cluster = Cluster::with_seats(1);
    let _inside = all_in(&cluster, &["anna"]).await;
    let said = cluster.psql_as("lena", "postgres", "SELECT 1").failed();
    let expected = format!(
        "FATAL:  maximum user license count reached for \"TOM\"\n\
         DETAIL:  1 of 1 seats are in use. Idle longest: \"anna\".\n\
         HINT:  {FULL_HINT}\n"
    );
    assert!(
        said.starts_with("psql: error: connection to server"),
        "{said}"
    );
    assert!(said.ends_with(&format!("failed: {expected}")), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_license_says_since_when() {
    let cluster = Cluster::builder()
        .conf("timezone", "UTC")
        .licensed("seats, valid_until", "10, '2024-02-29 12:30:00+00'");
    let denied = latecomer(&cluster).denied().await;
    let message = r#"license for "TOM" expired on 2024-02-29 12:30:00+00"#;
    let hint = "An administrator must renew the license.";
    assert_reads(
        &denied,
        ["FATAL", "28000", message, "", hint, "license_expired"],
    );
    let elsewhere = latecomer(&cluster).options("-c timezone=Asia/Tokyo");
    let message = r#"license for "TOM" expired on 2024-02-29 21:30:00+09"#;
    assert_eq!(elsewhere.denied().await.message, message);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_license_expires_on_its_last_day_not_that_of_its_grace() {
    let cluster = Cluster::builder().conf("timezone", "UTC").licensed(
        "seats, valid_until, grace",
        "10, '2024-02-29 00:00:00+00', '10 days'",
    );
    let denied = latecomer(&cluster).denied().await;
    assert_eq!(
        denied.message,
        r#"license for "TOM" expired on 2024-02-29 00:00:00+00"#
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_license_not_yet_valid_says_from_when() {
    let cluster = Cluster::builder()
        .conf("timezone", "UTC")
        .licensed("seats, valid_from", "10, '2999-01-01 00:00:00+00'");
    let denied = latecomer(&cluster).denied().await;
    let message = r#"license for "TOM" is not valid before 2999-01-01 00:00:00+00"#;
    let hint = "Come back when the license is valid, or ask an administrator for another one.";
    assert_reads(
        &denied,
        ["FATAL", "28000", message, "", hint, "license_not_yet_valid"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_ledger_names_its_setting() {
    let cluster = Cluster::builder()
        .conf("pg_seats.max_seats", 1)
        .licensed("seats", "10");
    let inside = all_in(&cluster, &["anna", "bert"]).await;
    inside[0].checkout().await;
    let denied = inside[1].fails("SELECT license_checkout()").await;
    let message = "the server has no room for more license seats";
    let hint = "An administrator must increase pg_seats.max_seats and restart the server.";
    assert_reads(
        &denied,
        [
            "ERROR",
            "53400",
            message,
            "pg_seats.max_seats is 1.",
            hint,
            "license_table_full",
        ],
    );
    assert!(inside[0].checkin().await);
    inside[1].checkout().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overdraft_is_logged_and_the_user_reads_nothing() {
    let cluster = Cluster::builder().licensed("seats, overdraft", "1, 1");
    let inside = all_in(&cluster, &["anna", "bert"]).await;
    assert!(inside.iter().all(|session| session.notices().is_empty()));
    let line =
        r#"overdraft of license "TOM" by user "bert" at 127.0.1.2: 1 of 1 seats were in use"#;
    let log = cluster.log();
    assert!(log.contains(&format!("LOG:  {line}")), "{log}");
    assert_eq!(log.matches("overdraft of license").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_warn_would_have_denied_is_logged_and_the_user_reads_nothing() {
    let cluster = Cluster::builder()
        .conf("timezone", "UTC")
        .licensed("seats, enforcement", "1, 'warn'");
    let inside = all_in(&cluster, &["anna", "bert"]).await;
    assert!(inside.iter().all(|session| session.notices().is_empty()));
    let would = r#"LOG:  license "TOM" would have denied user"#;
    let first = format!(r#"{would} "bert" at 127.0.1.2: 1 of 1 seats were in use"#);
    assert!(cluster.log().contains(&first), "{}", cluster.log());
    cluster.sql("UPDATE licenses SET valid_until = '2024-02-29 12:30:00+00'");
    let carl = cluster.login("carl").from("127.0.1.3").open_ok().await;
    assert!(carl.notices().is_empty());
    let second = format!(r#"{would} "carl" at 127.0.1.3: it expired on 2024-02-29 12:30:00+00"#);
    assert!(cluster.log().contains(&second), "{}", cluster.log());
    assert_eq!(cluster.sql("SELECT denied FROM license_usage"), "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_license_with_enforcement_off_logs_nothing() {
    let cluster = Cluster::builder().licensed("seats, enforcement", "1, 'off'");
    let _inside = all_in(&cluster, &["anna", "bert"]).await;
    assert!(!cluster.log().contains("license \"TOM\""));
    assert_eq!(cluster.sql("SELECT denied FROM license_usage"), "0");
}

/// Returns the folder of the server's programs, save that postgres itself is started with `RUST_BACKTRACE`.
fn programs_with_backtraces() -> (Programs, tempfile::TempDir) {
    let programs = Programs::from_env();
    let folder = tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir()
        .unwrap();
    for program in fs::read_dir(programs.bindir()).unwrap().flatten() {
        symlink(program.path(), folder.path().join(program.file_name())).unwrap();
    }
    let wrapper = folder.path().join("postgres");
    fs::remove_file(&wrapper).unwrap();
    let real = programs.bindir().join("postgres");
    let script = format!(
        "#!/bin/sh\nRUST_BACKTRACE=1 exec '{}' \"$@\"\n",
        real.display()
    );
    fs::write(&wrapper, script).unwrap();
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    (Programs::in_folder(folder.path()), folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_backtrace_reaches_a_client() {
    let (programs, _folder) = programs_with_backtraces();
    let cluster = Cluster::builder()
        .programs(programs)
        .conf("max_prepared_transactions", 1)
        .licensed("seats", "1");
    let environment = format!("/proc/{}/environ", cluster.postmaster_pid().unwrap());
    let environment = fs::read_to_string(environment).unwrap();
    assert!(environment.contains("RUST_BACKTRACE=1"));
    let _inside = all_in(&cluster, &["anna"]).await;
    let denied = latecomer(&cluster).denied().await;
    assert_full(&denied, r#"1 of 1 seats are in use. Idle longest: "anna"."#);
    let psql = cluster.psql_as("lena", "postgres", "").failed();
    assert_eq!(psql.trim_end().lines().count(), 3, "{psql}");
    let bare = |denied: &Denied| {
        let told = format!("{denied:?}");
        assert!(
            !told.contains("backtrace") && !told.contains(".rs"),
            "{told}"
        );
    };
    cluster.sql("UPDATE licenses SET valid_until = '2024-01-01'");
    bare(&latecomer(&cluster).denied().await);
    let admin = cluster.login("postgres").open_ok().await;
    admin.run("BEGIN; DELETE FROM licenses").await;
    bare(
        admin
            .fails("PREPARE TRANSACTION 'x'")
            .await
            .assert("0A000", ""),
    );
    let nothing = latecomer(&cluster).options("-c pg_seats.workstation=a\x07b");
    bare(&nothing.denied().await);
}

/// Every utility statement passes by pg_seats, and so do its errors.
#[test]
fn errors_of_other_statements_stay_as_they_are() {
    let script = r"
        \set VERBOSITY verbose
        CREATE TABLE k (a int PRIMARY KEY);
        INSERT INTO k VALUES (1);
        PREPARE twice AS INSERT INTO k VALUES (1);
        EXECUTE twice;
        EXPLAIN ANALYZE INSERT INTO k VALUES (1);
        DO $$ BEGIN
            RAISE 'mine' USING ERRCODE = 'ZZ001', DETAIL = 'd', HINT = 'h', CONSTRAINT = 'c', TABLE = 't';
        END $$;
        DO $$ BEGIN PERFORM nosuch FROM k; END $$;
        CREATE TABLE bad (a int, b nosuch);
        ALTER TABLE k ADD CHECK (a > 5);
        COPY k (a) FROM PROGRAM 'echo x';
        DROP TABLE nosuch;
    ";
    let errors = |preload| {
        let cluster = Cluster::builder().preload(preload).start();
        let psql = ["-Xq", "-d", "postgres"];
        cluster.program_with("psql", &psql, &[], script).stderr
    };
    let (with, without) = (errors(true), errors(false));
    assert_eq!(with.matches("ERROR:").count(), 8, "{with}");
    assert_eq!(with, without);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reason_arrives_from_within_other_statements() {
    let desk = Desk::with_seats(0).await;
    let anna = desk.user("anna").await;
    anna.run("PREPARE takes AS SELECT license_checkout()").await;
    for statement in [
        "EXECUTE takes",
        "DO $$ BEGIN PERFORM license_checkout(); END $$",
        "EXPLAIN ANALYZE SELECT license_checkout()",
    ] {
        let error = anna.fails(statement).await;
        error.assert("53400", "license_full");
        assert!(
            !error.hint.is_empty() && !error.detail.is_empty(),
            "{error:?}"
        );
    }
}
