//! The harness itself, on a bare server.

use std::fs;
use std::net::TcpStream;

use crate::util::{Cluster, PATIENCE, Signal, Stop, eventually, has_ipv6, race};

fn bare() -> Cluster {
    Cluster::builder().preload(false).start()
}

#[test]
fn a_server_stops_and_starts_again() {
    let cluster = Cluster::builder()
        .preload(false)
        .conf("search_path", "it's")
        .start();
    assert_eq!(cluster.sql("SHOW search_path"), "it's");
    for mode in [Stop::Smart, Stop::Fast, Stop::Immediate] {
        cluster.restart(mode);
    }
    assert_eq!(cluster.sql("SELECT 1"), "1");
    cluster.wait_log("database system was interrupted", PATIENCE);
}

#[test]
fn nothing_is_left_of_a_dropped_server() {
    let cluster = bare();
    let (folder, port) = (cluster.socket_dir().to_owned(), cluster.port());
    let processes = || {
        let all = fs::read_dir("/proc").unwrap().flatten();
        let commands = all.flat_map(|process| fs::read_to_string(process.path().join("cmdline")));
        commands
            .filter(|command| command.contains(folder.to_str().unwrap()))
            .count()
    };
    assert!(processes() > 0 && folder.exists());
    drop(cluster);
    assert_eq!(processes(), 0);
    assert!(!folder.exists());
    TcpStream::connect(("127.0.0.1", port)).unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_address_is_a_computer_of_its_own() {
    let cluster = bare();
    let host = "SELECT host(client_addr) FROM pg_stat_activity WHERE pid = pg_backend_pid()";
    let mut hosts = vec!["127.0.0.1", "127.0.1.5", "127.0.1.6"];
    hosts.extend(has_ipv6().then_some("::1"));
    for address in hosts {
        let session = cluster.login("postgres").from(address).open_ok().await;
        assert_eq!(session.text(host).await, address);
    }
    let session = cluster.login("postgres").unix().open_ok().await;
    assert_eq!(session.val::<Option<String>>(host).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_says_what_it_was_told_to() {
    let cluster = bare();
    cluster.sql("CREATE DATABASE company; CREATE ROLE alice LOGIN");
    let login = cluster
        .login("alice")
        .db("company")
        .app("Total Office Manager")
        .from("127.0.1.5");
    let session = login
        .workstation(r"PC 7\North")
        .options("-c work_mem=1MB")
        .open_ok()
        .await;
    assert_eq!(
        session
            .text("SELECT current_user, current_database()")
            .await,
        "alice|company"
    );
    assert_eq!(
        session.text("SHOW application_name").await,
        "Total Office Manager"
    );
    assert_eq!(
        session.text("SHOW pg_seats.workstation").await,
        r"PC 7\North"
    );
    assert_eq!(session.text("SHOW work_mem").await, "1MB");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_keeps_its_fields() {
    let cluster = bare();
    let denied = cluster.login("postgres").db("nowhere").denied().await;
    denied.assert("3D000", "");
    assert_eq!(
        (denied.severity.as_str(), denied.message.as_str()),
        ("FATAL", r#"database "nowhere" does not exist"#)
    );
    let session = cluster.login("postgres").open_ok().await;
    session.run("DO $$BEGIN RAISE WARNING 'mind'; END$$").await;
    assert_eq!(session.notices()[0].message, "mind");
    let raise =
        "DO $$BEGIN RAISE 'no' USING ERRCODE = '53400', CONSTRAINT = 'full', HINT = 'wait'; END$$";
    assert_eq!(
        session.fails(raise).await.assert("53400", "full").hint,
        "wait"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_end_politely_or_not_or_by_force() {
    let cluster = bare();
    let admin = cluster.login("postgres").open_ok().await;
    let gone = async |pid: i32| {
        let count = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}");
        eventually("the backend is gone", PATIENCE, async || {
            admin.val::<i64>(&count).await == 0
        })
        .await;
    };
    let login = cluster.login("postgres").from("127.0.1.5");
    let (polite, rude, ended) = (
        login.open_ok().await,
        login.open_ok().await,
        login.open_ok().await,
    );
    let (first, second, third) = (polite.pid().await, rude.pid().await, ended.pid().await);
    polite.close().await;
    gone(first).await;
    rude.abort().await;
    gone(second).await;
    cluster.kill_backend(third, Signal::SIGTERM);
    ended.ended().await.assert("57P01", "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_recovers_from_a_crash() {
    let cluster = bare();
    let session = cluster.login("postgres").open_ok().await;
    cluster.crash_backend(session.pid().await);
    assert_eq!(cluster.sql("SELECT 1"), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_program_is_gone() {
    let cluster = bare();
    let mut program = cluster
        .login("postgres")
        .from("127.0.0.1")
        .app("victim")
        .process();
    let found = format!(
        "SELECT application_name FROM pg_stat_activity WHERE pid = {}",
        program.backend_pid()
    );
    assert_eq!(cluster.sql(&found), "victim");
    program.kill9();
    eventually("its backend is gone", PATIENCE, async || {
        cluster.sql(&found).is_empty()
    })
    .await;

    let mut program = cluster.login("postgres").process();
    program.send("SELECT 'done';");
    assert_eq!(program.finish().ok(), "done");
}

#[test]
fn programs_report_status_and_both_outputs() {
    let cluster = bare();
    let ran = cluster.psql(
        &["-At", "-c", "SHOW application_name"],
        &[("PGAPPNAME", "books")],
    );
    assert_eq!(ran.ok(), "books");
    assert!(
        cluster
            .psql_as("nobody", "postgres", "")
            .failed()
            .contains(r#"role "nobody" does not exist"#)
    );
    let ran = cluster.psql_as("postgres", "postgres", "SELECT 1; SELECT 1/0; SELECT 2");
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(3), "1"));
    assert!(ran.failed().contains("division by zero"));
    assert!(
        cluster
            .program("pg_dump", &["--schema-only"])
            .ok()
            .contains("PostgreSQL database dump")
    );
}

#[test]
fn a_setting_is_there_for_the_next_login() {
    let cluster = bare();
    for value in ["3MB", "5MB"] {
        cluster.set("work_mem", value);
        assert_eq!(cluster.sql("SHOW work_mem"), value);
    }
    cluster.reset("work_mem");
    assert_eq!(cluster.sql("SHOW work_mem"), "4MB");
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_are_asked_for() {
    let cluster = Cluster::builder().preload(false).scram().start();
    cluster.sql("CREATE ROLE alice LOGIN PASSWORD 'secret'");
    let login = cluster.login("alice").from("127.0.1.5");
    login.clone().password("secret").open_ok().await;
    login.password("guess").denied().await.assert("28P01", "");
}

#[test]
fn a_standby_streams_and_takes_over() {
    let primary = bare();
    let standby = primary.standby();
    primary.sql("CREATE TABLE books AS SELECT 1 AS n");
    standby.catch_up(&primary);
    assert_eq!(
        standby.sql("SELECT n, pg_is_in_recovery() FROM books"),
        "1|t"
    );
    standby.promote();
    standby.sql("INSERT INTO books VALUES (2)");
    assert_eq!(primary.sql("SELECT count(*) FROM books"), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_log_in_at_once() {
    let cluster = Cluster::builder().preload(false).roomy().start();
    cluster.sql("CREATE ROLE alice LOGIN CONNECTION LIMIT 5");
    let results = race(200, |i| {
        cluster.login("alice").from(&format!("127.0.1.{i}"))
    })
    .await;
    let (admitted, denied): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert!(admitted.len() <= 5, "{} got in", admitted.len());
    for result in denied {
        result.unwrap_err().assert("53300", "");
    }
}
