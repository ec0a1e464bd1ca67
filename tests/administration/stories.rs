//! What administrators do: the stories of Efimis, Cargo Office and Aptora end to end, by roles that have their
//! grants and nothing else.

use std::time::{Duration, Instant};

use crate::util::*;

/// A licensed server: Anna is an accountant, who may raise, Bert of the support, who may reduce.
struct Firm {
    admin: Session,
    anna: Session,
    bert: Session,
    cluster: Cluster,
}

impl Firm {
    /// Opens a desk with so many seats of "TOM", of so many that are owned.
    async fn open(seats: &str, purchased: &str) -> Self {
        let values = format!("{seats}, {purchased}");
        let cluster = Cluster::builder().licensed("seats, purchased", &values);
        let admin = cluster.login("postgres").open_ok().await;
        admin
            .run(
                "GRANT EXECUTE ON FUNCTION license_raise_seats TO anna;
                 GRANT EXECUTE ON FUNCTION license_reduce_seats TO bert;
                 INSERT INTO license_exemptions VALUES ('role', 'anna'), ('role', 'bert')",
            )
            .await;
        Self {
            anna: cluster.login("anna").from("127.0.1.1").open_ok().await,
            bert: cluster.login("bert").from("127.0.1.2").open_ok().await,
            admin,
            cluster,
        }
    }

    async fn seats(&self) -> String {
        self.admin.text("SELECT seats FROM licenses").await
    }

    async fn status(&self) -> String {
        let status = "SELECT status FROM license_usage WHERE product = 'TOM'";
        self.admin.text(status).await
    }

    /// Returns what the audit trail says of changed seats.
    async fn trail(&self) -> Vec<String> {
        self.admin
            .texts(
                "SELECT event, product, usename, client_host, datname,
                        detail -> 'seats' ->> 'from', detail -> 'seats' ->> 'to',
                        at BETWEEN now() - interval '1 minute' AND now()
                   FROM license_events WHERE event IN ('raise', 'reduction') ORDER BY at",
            )
            .await
    }

    /// Returns the login of somebody else.
    fn user(&self, n: usize) -> Login {
        self.cluster.login("carl").from(&format!("127.0.3.{n}"))
    }
}

fn raise(seats: impl std::fmt::Display) -> String {
    format!("SELECT license_raise_seats('TOM', {seats})")
}

fn reduce(seats: impl std::fmt::Display) -> String {
    format!("SELECT license_reduce_seats('TOM', {seats})")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raise_is_in_force_for_the_next_login_and_the_trail_says_who_and_when() {
    let firm = Firm::open("1", "3").await;
    let _one = firm.user(1).open_ok().await;
    firm.user(2).denied().await.assert("53300", "license_full");
    firm.anna.run(&raise(2)).await;
    let _two = firm.user(2).open_ok().await;
    firm.user(3).denied().await.assert("53300", "license_full");
    firm.anna.run("BEGIN").await;
    firm.anna.run(&raise(3)).await;
    firm.user(3).denied().await.assert("53300", "license_full");
    firm.anna.run("ROLLBACK").await;
    firm.user(3).denied().await.assert("53300", "license_full");
    assert_eq!(firm.seats().await, "2");
    firm.bert.run(&reduce(0)).await;
    assert_eq!(
        firm.trail().await,
        [
            "raise|TOM|anna|127.0.1.1|postgres|1|2|t",
            "reduction|TOM|bert|127.0.1.2|postgres|2|0|t"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reduction_throws_nobody_out_and_is_over_until_it_fits() {
    let firm = Firm::open("3", "NULL").await;
    let mut inside = Vec::new();
    for n in 1..=3 {
        inside.push(firm.user(n).open_ok().await);
    }
    assert_eq!(firm.status().await, "full");
    firm.bert.run(&reduce(1)).await;
    for left in [3, 2] {
        assert_eq!(firm.status().await, "over");
        let usage = "SELECT in_use, seats, available FROM license_usage";
        assert_eq!(firm.admin.text(usage).await, format!("{left}|1|0"));
        for session in &inside {
            session.run("SELECT 1").await;
        }
        firm.user(9).denied().await.assert("53300", "license_full");
        inside.pop().unwrap().close().await;
        eventually("it has left", PATIENCE, async || {
            let in_use: i32 = firm.admin.val("SELECT in_use FROM license_usage").await;
            in_use == left - 1
        })
        .await;
    }
    assert_eq!(firm.status().await, "full");
}

#[tokio::test(flavor = "multi_thread")]
async fn raises_go_upwards_to_what_is_owned_and_reductions_downwards() {
    let firm = Firm::open("5", "10").await;
    let cases: [(&Session, String, &str); 13] = [
        (
            &firm.anna,
            raise(11),
            r#"cannot raise "TOM" to 11 seats: 10 are purchased"#,
        ),
        (&firm.anna, raise(5), r#""TOM" already has 5 seats"#),
        (&firm.anna, raise(4), r#""TOM" already has 5 seats"#),
        (&firm.anna, raise(0), r#""TOM" already has 5 seats"#),
        (&firm.anna, raise(-1), "seats is out of range"),
        (&firm.anna, raise("NULL"), "seats is out of range"),
        (
            &firm.anna,
            raise(i32::MAX),
            r#"cannot raise "TOM" to 2147483647 seats: 10 are purchased"#,
        ),
        (
            &firm.anna,
            "SELECT license_raise_seats(NULL, 6)".into(),
            "product must not be null",
        ),
        (&firm.bert, reduce(5), r#""TOM" has 5 seats"#),
        (&firm.bert, reduce(6), r#""TOM" has 5 seats"#),
        (&firm.bert, reduce(-1), "seats is out of range"),
        (&firm.bert, reduce("NULL"), "seats is out of range"),
        (
            &firm.bert,
            "SELECT license_reduce_seats('', 1)".into(),
            "product must not be empty",
        ),
    ];
    for (session, statement, message) in &cases {
        let refused = session.fails(statement).await;
        refused.assert("22023", "");
        assert_eq!(&refused.message, message, "{statement}");
        assert_ne!(refused.hint, "", "{statement}");
    }
    for (session, call) in [(&firm.anna, "raise"), (&firm.bert, "reduce")] {
        let unknown = format!("SELECT license_{call}_seats('tom', 7)");
        session.fails(&unknown).await.assert("42704", "");
    }
    assert_eq!(firm.seats().await, "5");
    assert_eq!(firm.trail().await, [""; 0]);
    firm.anna.run(&raise(10)).await;
    firm.bert.run(&reduce(0)).await;
    assert_eq!(firm.seats().await, "0");
    // Without a cap there is none; unlimited seats can't be raised, but reduced.
    firm.admin.run("UPDATE licenses SET purchased = NULL").await;
    firm.anna.run(&raise(i32::MAX)).await;
    firm.admin.run("UPDATE licenses SET seats = NULL").await;
    let refused = firm.anna.fails(&raise(7)).await;
    refused.assert("22023", "");
    assert_eq!(refused.message, r#""TOM" already has unlimited seats"#);
    firm.bert.run(&reduce(7)).await;
    assert_eq!(firm.seats().await, "7");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_has_only_what_was_granted() {
    let firm = Firm::open("5", "10").await;
    let nobody = firm.user(1).open_ok().await;
    let seat = firm
        .admin
        .text("SELECT seat_id FROM license_active_seats")
        .await;
    let stop = format!("SELECT license_terminate('{seat}')");
    for (session, statement) in [
        (&firm.anna, reduce(1)),
        (&firm.bert, raise(9)),
        (&nobody, raise(9)),
        (&nobody, reduce(1)),
        (&firm.anna, stop.clone()),
        (&firm.bert, stop.clone()),
        (&nobody, stop),
        (&firm.anna, "UPDATE licenses SET seats = 9".to_owned()),
        (&firm.anna, "UPDATE licenses SET purchased = 99".to_owned()),
        (&firm.bert, "UPDATE licenses SET seats = 1".to_owned()),
        (&firm.bert, "DELETE FROM licenses".to_owned()),
        (&firm.bert, "TRUNCATE licenses".to_owned()),
        (
            &firm.anna,
            "INSERT INTO licenses (product) VALUES ('x')".to_owned(),
        ),
        (&firm.anna, "SELECT * FROM licenses FOR UPDATE".to_owned()),
        (&firm.anna, "DELETE FROM license_events".to_owned()),
        (&firm.anna, "TABLE license_events".to_owned()),
        (&firm.anna, "TABLE license_bars".to_owned()),
        (
            &firm.anna,
            "INSERT INTO license_exemptions VALUES ('role', 'carl')".to_owned(),
        ),
    ] {
        session.fails(&statement).await.assert("42501", "");
    }
    assert_eq!(firm.seats().await, "5");
    // They see their own seats alone.
    let seats = "SELECT count(*) FROM license_active_seats";
    assert_eq!(firm.anna.text(seats).await, "0");
    assert_eq!(nobody.text(seats).await, "1");
    // Whoever acts as another role is still told by the name that logged in.
    firm.admin
        .run("CREATE ROLE accountants; GRANT EXECUTE ON FUNCTION license_raise_seats TO accountants; GRANT accountants TO carl")
        .await;
    nobody.run("SET ROLE accountants").await;
    nobody.run(&raise(6)).await;
    assert_eq!(
        firm.trail().await,
        ["raise|TOM|carl|127.0.3.1|postgres|5|6|t"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_within_a_function_of_ones_own_is_no_way_around() {
    let firm = Firm::open("5", "10").await;
    // Neither an operator nor a table of the caller's is taken for the extension's.
    firm.admin
        .run("CREATE SCHEMA hers AUTHORIZATION anna")
        .await;
    firm.anna
        .run(
            "CREATE TABLE hers.licenses (product text, seats int, purchased int);
             INSERT INTO hers.licenses VALUES ('TOM', 1, 1000);
             CREATE FUNCTION hers.same(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT true';
             CREATE OPERATOR hers.= (LEFTARG = text, RIGHTARG = text, FUNCTION = hers.same);
             SET search_path = hers, public, pg_catalog",
        )
        .await;
    firm.anna.fails(&raise(11)).await.assert("22023", "");
    firm.anna.run(&raise(10)).await;
    assert_eq!(firm.anna.text("SELECT seats FROM hers.licenses").await, "1");
    assert_eq!(firm.seats().await, "10");
    assert_eq!(firm.anna.text("SELECT current_user").await, "anna");
}

#[tokio::test(flavor = "multi_thread")]
async fn accountants_who_raise_at_once_raise_one_after_the_other() {
    let firm = Firm::open("1", "60").await;
    let raises: Vec<_> = (2..=40)
        .map(|seats| {
            let login = firm.cluster.login("anna").from("127.0.1.1");
            tokio::spawn(async move {
                let session = login.open_ok().await;
                let raised = session.try_texts(&raise(seats)).await;
                raised
                    .err()
                    .inspect(|refused| _ = refused.assert("22023", ""))
            })
        })
        .collect();
    let mut refused = 0;
    for raise in raises {
        refused += usize::from(raise.await.unwrap().is_some());
    }
    assert_eq!(firm.seats().await, "40");
    let trail = firm.trail().await;
    assert_eq!(trail.len(), 39 - refused);
    // Each began where the one before had come to.
    let chain = "SELECT count(*) FROM (
        SELECT (detail -> 'seats' ->> 'from')::int AS f, lag((detail -> 'seats' ->> 'to')::int, 1, 1)
               OVER (ORDER BY (detail -> 'seats' ->> 'to')::int) AS t
          FROM license_events WHERE event = 'raise') steps WHERE f <> t";
    assert_eq!(firm.admin.text(chain).await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_changes_the_row_at_once_is_waited_for() {
    let firm = Firm::open("5", "10").await;
    firm.admin
        .run("BEGIN; UPDATE licenses SET purchased = 6")
        .await;
    let anna = firm.cluster.login("anna").from("127.0.1.1").open_ok().await;
    let pid = anna.pid().await;
    let raised = tokio::spawn(async move { anna.fails(&raise(7)).await });
    let waits = format!("SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = {pid}");
    eventually("anna waits", PATIENCE, async || {
        firm.admin.val::<i64>(&waits).await == 1
    })
    .await;
    firm.anna.run("SET lock_timeout = '100ms'").await;
    firm.anna.fails(&raise(6)).await.assert("55P03", "");
    firm.admin.run("COMMIT").await;
    raised.await.unwrap().assert("22023", "");
    firm.anna.run(&raise(6)).await;
    assert_eq!(firm.seats().await, "6");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_can_be_written_nothing_is_raised() {
    let firm = Firm::open("5", "10").await;
    firm.anna.run("BEGIN READ ONLY").await;
    firm.anna.fails(&raise(6)).await.assert("25006", "");
    firm.anna.run("ROLLBACK").await;
    firm.cluster
        .sql("ALTER SYSTEM SET max_prepared_transactions = 2");
    let standby = firm.cluster.standby();
    let anna = standby.login("anna").from("127.0.1.1").open_ok().await;
    anna.fails(&raise(6)).await.assert("25006", "");
    firm.anna.run(&raise(6)).await;
    standby.catch_up(&firm.cluster);
    assert_eq!(standby.sql("SELECT seats FROM licenses"), "6");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raise_in_a_transaction_that_is_prepared_is_refused() {
    let cluster = Cluster::builder()
        .conf("max_prepared_transactions", 2)
        .licensed("seats, purchased", "5, 10");
    cluster.sql("GRANT EXECUTE ON FUNCTION license_raise_seats TO anna");
    let anna = cluster.login("anna").from("127.0.1.1").open_ok().await;
    anna.run("BEGIN").await;
    anna.run(&raise(6)).await;
    anna.fails("PREPARE TRANSACTION 'x'")
        .await
        .assert("0A000", "");
    assert_eq!(cluster.sql("SELECT seats FROM licenses"), "5");
    anna.run("BEGIN; SAVEPOINT s").await;
    anna.run(&raise(6)).await;
    anna.run("ROLLBACK TO s").await;
    anna.run(&raise(7)).await;
    anna.run("COMMIT").await;
    assert_eq!(cluster.sql("SELECT seats FROM licenses"), "7");
    let steps = "SELECT string_agg((detail -> 'seats' ->> 'from') || '-' || (detail -> 'seats' ->> 'to'), ' ')
                   FROM license_events WHERE event = 'raise'";
    assert_eq!(cluster.sql(steps), "5-7");
}

/// Efimis: fifty users, ten licenses; accountants raise, support reduces and is exempt.
#[tokio::test(flavor = "multi_thread")]
async fn efimis() {
    let cluster = Cluster::builder().licensed("seats", "10");
    cluster.sql(
        "CREATE ROLE accountant; CREATE ROLE support;
         GRANT accountant TO anna; GRANT support TO bert;
         GRANT EXECUTE ON FUNCTION license_raise_seats TO accountant;
         GRANT EXECUTE ON FUNCTION license_reduce_seats TO support;
         INSERT INTO license_exemptions VALUES ('role', 'support', 'Efimis'' own staff')",
    );
    let anna = cluster.login("anna").from("127.0.1.1").open_ok().await;
    let user = |n: usize| cluster.login("carl").from(&format!("127.0.3.{n}"));
    let mut inside = Vec::new();
    for n in 1..=9 {
        inside.push(user(n).open_ok().await);
    }
    let eleventh = user(10).denied().await;
    eleventh.assert("53300", "license_full");
    // Support is not blocked, whatever the count.
    let bert = cluster.login("bert").from("127.0.1.2").open_ok().await;
    // Users are blocked from changes, and accountants from reductions.
    inside[0].fails(&raise(11)).await.assert("42501", "");
    inside[0].fails(&reduce(9)).await.assert("42501", "");
    anna.fails(&reduce(9)).await.assert("42501", "");
    bert.fails(&raise(11)).await.assert("42501", "");
    anna.run(&raise(12)).await;
    for n in 10..=11 {
        inside.push(user(n).open_ok().await);
    }
    user(12).denied().await.assert("53300", "license_full");
    bert.run(&reduce(10)).await;
    let status = "SELECT status, in_use, seats FROM license_usage";
    assert_eq!(bert.text(status).await, "over|12|10");
    for session in &inside {
        session.run("SELECT 1").await;
    }
    user(12).denied().await.assert("53300", "license_full");
}

/// Cargo Office: a list of active users with a button "Stop session", log-off after inactivity, and an
/// administrator who keeps the count within what is owned.
#[tokio::test(flavor = "multi_thread")]
async fn cargo_office() {
    let cluster = Cluster::builder().licensed("seats, purchased, idle_timeout", "3, 4, '1 hour'");
    cluster.sql(
        "GRANT EXECUTE ON FUNCTION license_raise_seats, license_reduce_seats, license_terminate TO anna",
    );
    let anna = cluster.login("anna").from("127.0.1.1").open_ok().await;
    // Each start of the program is one license.
    let start = |n: usize| {
        let login = cluster.login("bert").from("127.0.1.2");
        login.workstation(&format!("start-{n}"))
    };
    let (one, two) = (start(1).open_ok().await, start(2).open_ok().await);
    // Only the administrator may.
    for forbidden in [
        &raise(4),
        &reduce(2),
        "SELECT license_terminate(seat_id) FROM license_active_seats",
        "UPDATE licenses SET seats = 9",
        "DELETE FROM license_events",
    ] {
        one.fails(forbidden).await.assert("42501", "");
    }
    start(3).denied().await.assert("53300", "license_full");
    anna.run(&raise(4)).await;
    anna.fails(&raise(5)).await.assert("22023", "");
    let three = start(3).open_ok().await;
    start(4).denied().await.assert("53300", "license_full");
    let list = "SELECT usename, workstation FROM license_active_seats ORDER BY opened_at";
    assert_eq!(
        anna.texts(list).await,
        ["anna|", "bert|start-1", "bert|start-2", "bert|start-3"]
    );
    let stop = "SELECT license_terminate(seat_id, 'The office closes') FROM license_active_seats
                 WHERE workstation = 'start-2'";
    assert_eq!(anna.text(stop).await, "1");
    let ended = two.ended().await;
    ended.assert("57P01", "license_stopped");
    assert_eq!(ended.detail, "The reason: The office closes");
    let four = start(4).open_ok().await;
    // One license moves to a laptop.
    anna.run(&reduce(3)).await;
    start(5).denied().await.assert("53300", "license_full");
    // Inactive for more than an hour: here, for some seconds.
    cluster.sql("UPDATE licenses SET idle_timeout = '3s'");
    let working = async {
        let until = Instant::now() + Duration::from_secs(6);
        while Instant::now() < until {
            four.run("SELECT 1").await;
            anna.run("SELECT pg_sleep(0.05)").await;
        }
    };
    let (one, three, ()) = tokio::join!(one.ended(), three.ended(), working);
    for ended in [one, three] {
        ended.assert("57P05", "license_idle");
    }
    four.run("SELECT 1").await;
}

/// Aptora: someone must log out before another user is permitted to; an administrator helps.
#[tokio::test(flavor = "multi_thread")]
async fn aptora() {
    let cluster = Cluster::builder().licensed("seats, pool", "2, 'company'");
    cluster.sql("CREATE DATABASE second");
    cluster.license("second", "seats, pool", "2, 'company'");
    cluster.sql("GRANT EXECUTE ON FUNCTION license_terminate TO lena");
    cluster.sql(
        "INSERT INTO license_exemptions VALUES ('role', 'lena', 'works on the server itself')",
    );
    let lena = cluster.login("lena").open_ok().await;
    let anna = cluster.login("anna").from("127.0.1.1");
    let files = [
        anna.open_ok().await,
        anna.clone().db("second").open_ok().await,
    ];
    let _bert = cluster.login("bert").from("127.0.1.2").open_ok().await;
    let carl = cluster.login("carl").from("127.0.1.3");
    let denied = carl.denied().await;
    denied.assert("53300", "license_full");
    assert_eq!(
        denied.message,
        r#"maximum user license count reached for "TOM""#
    );
    // Anna went home without logging out: both of her company files are closed, at once.
    let stop = "SELECT license_terminate(seat_id, 'gone home', '1 hour') FROM license_active_seats
                 WHERE usename = 'anna'";
    assert_eq!(lena.text(stop).await, "2");
    let _carl = carl.open_ok().await;
    for file in files {
        file.ended().await.assert("57P01", "license_stopped");
    }
    anna.denied().await.assert("28000", "license_barred");
    let elsewhere = cluster.login("anna").from("127.0.1.9");
    elsewhere.denied().await.assert("53300", "license_full");
    lena.fails("DELETE FROM license_bars")
        .await
        .assert("42501", "");
    cluster.sql("DELETE FROM license_bars");
    anna.denied().await.assert("53300", "license_full");
}
