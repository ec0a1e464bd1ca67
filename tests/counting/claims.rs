//! Which license a login claims (counting rule 7), and what the license's numbers, dates and
//! enforcement then make of it.

use crate::util::*;

/// Returns the product whose seat a session holds, as it sees itself; empty if none.
async fn product_of(session: &Session) -> String {
    let mine = "SELECT product FROM license_active_seats WHERE pg_backend_pid() = ANY (pids)";
    session.texts(mine).await.join(",")
}

/// Returns a server with a license without a pattern, and these patterns' products.
fn with_patterns(patterns: &[(&str, &str)]) -> Cluster {
    let cluster = Cluster::with_seats(1);
    for (product, pattern) in patterns {
        cluster.sql(&format!(
            "INSERT INTO licenses (product, seats, application_name) VALUES ('{product}', 1, '{pattern}')"
        ));
    }
    cluster
}

async fn claims(cluster: &Cluster, cases: &[(&str, &str)]) {
    for (application, product) in cases {
        let login = cluster.login("anna").app(application);
        let session = login.open_ok().await;
        assert_eq!(product_of(&session).await, *product, "{application:?}");
    }
}

fn usage(cluster: &Cluster, columns: &str) -> String {
    cluster.sql(&format!(
        "SELECT {columns} FROM license_usage WHERE product = 'TOM'"
    ))
}

async fn open(cluster: &Cluster, users: &[&str]) -> Vec<Session> {
    let mut sessions = Vec::new();
    for user in users {
        sessions.push(cluster.login(user).from("127.0.1.1").open_ok().await);
    }
    sessions
}

async fn is_full(cluster: &Cluster, user: &str, detail: &str) {
    let denied = cluster.login(user).from("127.0.1.1").denied().await;
    denied.assert("53300", "license_full");
    assert!(denied.detail.starts_with(detail), "{denied:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_matching_pattern_wins_else_the_license_without_one() {
    let patterns = [
        ("Office", "Office%"),
        ("Office Pro", "Office Pro%"),
        ("Pro", "%Pro"),
    ];
    let cluster = with_patterns(&patterns);
    let cases = [
        ("Office", "Office"),
        ("Office Pro", "Office Pro"),
        ("Office Pro 7", "Office Pro"),
        ("Books Pro", "Pro"),
        ("Office Light", "Office"),
        ("office", "TOM"),
        ("My Office", "TOM"),
        ("", "TOM"),
    ];
    claims(&cluster, &cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn patterns_mean_what_like_means() {
    let patterns = [
        ("one letter", "a_c"),
        ("percent", r"100\%"),
        ("underscore", r"x\_y%"),
        ("backslash", r"C:\\%"),
        ("quotes", r#"it''s "%"#),
    ];
    let cluster = with_patterns(&patterns);
    let cases = [
        ("abc", "one letter"),
        ("aßc", "one letter"),
        ("a日c", "one letter"),
        ("ac", "TOM"),
        ("100%", "percent"),
        ("1000", "TOM"),
        ("x_y1", "underscore"),
        ("xzy1", "TOM"),
        (r"C:\Program", "backslash"),
        ("C:Program", "TOM"),
        (r#"it's "TOM""#, "quotes"),
    ];
    claims(&cluster, &cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_claims_no_license_is_admitted_and_listed() {
    let cluster = with_patterns(&[("Office", "Office%")]);
    cluster.sql("DELETE FROM licenses WHERE product = 'TOM'");
    let session = cluster.login("anna").app("books").open_ok().await;
    let listed =
        "SELECT usename, client_host, application_name, reason FROM license_exempt_sessions
                  WHERE usename = 'anna'";
    assert_eq!(cluster.sql(listed), "anna|local|books|no license claimed");
    assert_eq!(product_of(&session).await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_application_name_changes_nothing() {
    let cluster = with_patterns(&[("Office", "Office%")]);
    let session = cluster.login("anna").app("Office").open_ok().await;
    session.run("SET application_name = 'books'").await;
    // Judged again, it still is what it said at its start.
    cluster.sql("UPDATE licenses SET seats = 5");
    assert_eq!(product_of(&session).await, "Office");
    assert_eq!(cluster.in_use(), 0);
    let shown = "SELECT application_name FROM license_active_seats";
    assert_eq!(cluster.sql(shown), "Office");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_license_claimed_at_checkout_is_never_claimed_at_login() {
    let cluster = Cluster::builder().licensed("seats, claimed_at", "0, 'checkout'");
    cluster.sql(
        "INSERT INTO licenses (product, seats, claimed_at, application_name)
         VALUES ('Report', 0, 'checkout', '%')",
    );
    let session = cluster.login("anna").app("books").open_ok().await;
    assert_eq!(product_of(&session).await, "");
    let reason = "SELECT reason FROM license_exempt_sessions WHERE usename = 'anna'";
    assert_eq!(cluster.sql(reason), "no license claimed");
    assert_eq!(cluster.sql("SELECT sum(denied) FROM license_usage"), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_products_have_separate_seats() {
    let cluster = with_patterns(&[("Payroll", "payroll%")]);
    let payroll = |user| cluster.login(user).app("payroll").from("127.0.1.1");
    let anna = cluster.login("anna").from("127.0.1.1").open_ok().await;
    let bert = payroll("bert").open_ok().await;
    assert_eq!(product_of(&anna).await, "TOM");
    assert_eq!(product_of(&bert).await, "Payroll");
    let denied = payroll("carl").denied().await;
    assert_eq!(
        denied.assert("53300", "license_full").message,
        r#"maximum user license count reached for "Payroll""#
    );
    // Who holds a seat of one product needs another one for the other.
    payroll("anna")
        .denied()
        .await
        .assert("53300", "license_full");
    bert.close().await;
    eventually("the seat of Payroll is free", PATIENCE, async || {
        payroll("anna").open().await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn overdraft_admits_so_many_more_and_logs_them() {
    let cluster = Cluster::builder().licensed("seats, overdraft", "1, 1");
    let _anna = open(&cluster, &["anna"]).await;
    assert_eq!(usage(&cluster, "status, available"), "full|0");
    assert!(!cluster.log().contains("overdraft of license"));
    let _bert = open(&cluster, &["bert"]).await;
    cluster.wait_log(
        r#"overdraft of license "TOM" by user "bert" at 127.0.1.1"#,
        PATIENCE,
    );
    assert_eq!(
        usage(&cluster, "status, in_use, available"),
        "overdraft|2|0"
    );
    is_full(&cluster, "carl", "2 of 2 seats").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn seats_without_a_number_are_unlimited() {
    let cluster = Cluster::builder().licensed("seats", "NULL");
    let _all = open(&cluster, &STAFF).await;
    assert_eq!(
        usage(&cluster, "in_use, seats IS NULL, available IS NULL, status"),
        format!("{}|t|t|unlimited", STAFF.len())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_seats_admit_nobody_but_superusers() {
    let cluster = Cluster::with_seats(0);
    is_full(&cluster, "anna", "0 of 0 seats").await;
    cluster.login("postgres").from("127.0.1.1").open_ok().await;
    assert_eq!(usage(&cluster, "in_use, status, denied"), "0|full|1");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_license_admits_nobody_but_superusers() {
    let cluster = Cluster::builder()
        .conf("timezone", "UTC")
        .licensed("seats, valid_until", "10, '2020-02-29 12:00 UTC'");
    let denied = cluster.login("anna").denied().await;
    assert_eq!(
        denied.assert("28000", "license_expired").message,
        r#"license for "TOM" expired on 2020-02-29 12:00:00+00"#
    );
    cluster.login("postgres").open_ok().await;
    assert_eq!(usage(&cluster, "status, denied, days_left"), "expired|1|0");
}

/// A month after an evening in February is another day where it is morning by then.
#[tokio::test(flavor = "multi_thread")]
async fn the_time_zone_of_who_comes_moves_no_end() {
    // In UTC it ended yesterday; by the calendar of the islands in the day after tomorrow.
    let cluster = Cluster::builder().licensed(
        "seats, valid_until, grace",
        "9, '2025-02-28 12:00+00', interval '1 month' + make_interval(secs =>
            extract(epoch FROM now() - interval '1 day' - timestamptz '2025-03-28 12:00+00'))",
    );
    for zone in ["UTC", "Pacific/Kiritimati"] {
        // Who has changed the row reads it first, unless a database worker is faster.
        for _ in 0..5 {
            let change = "UPDATE licenses SET overdraft = overdraft + 1";
            let look = "SELECT status FROM license_usage";
            let ran = cluster.psql(&["-Atq", "-c", change, "-c", look], &[("PGTZ", zone)]);
            assert_eq!(ran.ok(), "expired", "{zone}");
        }
        let login = cluster.login("anna").from("127.0.1.1");
        let denied = login.options(&format!("-c TimeZone={zone}")).denied();
        denied.await.assert("28000", "license_expired");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn grace_admits_after_the_end() {
    let values = "10, now() - interval '1 day', '2 days'";
    let cluster = Cluster::builder().licensed("seats, valid_until, grace", values);
    let _anna = open(&cluster, &["anna"]).await;
    assert_eq!(usage(&cluster, "status, in_use"), "grace|1");
    cluster.sql("UPDATE licenses SET grace = '1 hour'");
    let denied = cluster.login("bert").denied().await;
    denied.assert("28000", "license_expired");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_license_not_yet_valid_admits_nobody() {
    let cluster = Cluster::builder().licensed("seats, valid_from", "10, now() + interval '1 day'");
    let denied = cluster.login("anna").denied().await;
    denied.assert("28000", "license_not_yet_valid");
    assert_eq!(usage(&cluster, "status, denied"), "not yet valid|1");
}

#[tokio::test(flavor = "multi_thread")]
async fn dates_pass_without_a_change_and_throw_nobody_out() {
    let values = "10, now() + interval '2 seconds', now() + interval '12 seconds'";
    let cluster = Cluster::builder().licensed("seats, valid_from, valid_until", values);
    let anna = cluster.login("anna");
    let mut session = None;
    eventually("the license is valid", PATIENCE, async || {
        session = anna.open().await.ok();
        session.is_some()
    })
    .await;
    eventually("the license is expired", PATIENCE, async || {
        usage(&cluster, "status") == "expired"
    })
    .await;
    anna.denied().await.assert("28000", "license_expired");
    let session = session.unwrap();
    assert_eq!(session.text("SELECT 1").await, "1");
    assert_eq!(cluster.in_use(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn warn_admits_logs_and_counts_what_would_have_been_denied() {
    let cluster = Cluster::builder().licensed("seats, enforcement", "1, 'warn'");
    let _both = open(&cluster, &["anna", "bert"]).await;
    cluster.wait_log(
        r#"license "TOM" would have denied user "bert" at 127.0.1.1: 1 of 1 seats were in use"#,
        PATIENCE,
    );
    assert!(!cluster.log().contains(r#"would have denied user "anna""#));
    assert_eq!(
        usage(&cluster, "in_use, denied, status"),
        "2|1|not enforced"
    );
    cluster.sql("UPDATE licenses SET valid_until = now() - interval '1 day'");
    let _late = open(&cluster, &["carl"]).await;
    assert_eq!(
        usage(&cluster, "in_use, denied, status"),
        "3|2|not enforced"
    );
    cluster.sql("UPDATE licenses SET enforcement = 'on', valid_until = NULL");
    assert_eq!(usage(&cluster, "in_use, status"), "3|over");
    is_full(&cluster, "dora", "3 of 1 seats").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn off_admits_and_still_shows_who_is_in() {
    let cluster = Cluster::builder().licensed("seats, enforcement", "1, 'off'");
    let _both = open(&cluster, &["anna", "bert"]).await;
    assert_eq!(
        usage(&cluster, "in_use, denied, status"),
        "2|0|not enforced"
    );
    assert!(!cluster.log().contains("would have denied"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_servers_enforcement_only_softens_the_rows() {
    let cluster = Cluster::builder().licensed("seats, enforcement", "0, 'on'");
    // The softer of the server's and the row's: admitted or not, counted as denied or not.
    let cases = [
        ("on", "on", false, 1),
        ("on", "warn", true, 1),
        ("on", "off", true, 0),
        ("warn", "on", true, 1),
        ("warn", "warn", true, 1),
        ("warn", "off", true, 0),
        ("off", "on", true, 0),
        ("off", "warn", true, 0),
    ];
    let denied = || usage(&cluster, "denied").parse::<i64>().unwrap();
    for (server, row, admitted, counted) in cases {
        cluster.set("pg_seats.enforcement", server);
        cluster.sql(&format!("UPDATE licenses SET enforcement = '{row}'"));
        let before = denied();
        let opened = cluster.login("anna").from("127.0.1.1").open().await;
        assert_eq!(opened.is_ok(), admitted, "{server} {row}: {opened:?}");
        assert_eq!(denied() - before, counted, "{server} {row}");
        let status = usage(&cluster, "status");
        assert_eq!(
            status == "not enforced",
            admitted,
            "{server} {row}: {status}"
        );
        if let Ok(session) = opened {
            session.close().await;
            eventually("the seat is free", PATIENCE, async || cluster.in_use() == 0).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn high_water_and_denials_are_counted() {
    let cluster = Cluster::with_seats(2);
    assert_eq!(
        usage(&cluster, "high_water, high_water_at IS NULL, denied"),
        "0|t|0"
    );
    let sessions = open(&cluster, &["anna", "bert", "anna"]).await;
    is_full(&cluster, "carl", "2 of 2 seats").await;
    is_full(&cluster, "dora", "2 of 2 seats").await;
    for session in sessions {
        session.close().await;
    }
    eventually("all seats are free", PATIENCE, async || {
        cluster.in_use() == 0
    })
    .await;
    let _fay = open(&cluster, &["fay"]).await;
    // A change of the row takes nothing away from what was counted.
    cluster.sql("UPDATE licenses SET seats = 5, counted_by = 'user'");
    let columns = "in_use, high_water, high_water_at BETWEEN counted_since AND now(), denied";
    assert_eq!(usage(&cluster, columns), "1|2|t|2");
}
