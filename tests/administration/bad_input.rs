//! Odd and bad input: a clear error at the statement that brings it, or correct counting; never two
//! users merged by a cut name, never an unlicensed admission.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::util::*;

/// Asserts that each statement fails with its SQLSTATE and constraint, and leaves the license as it was.
async fn refused(cases: &[(&str, &str, &str)]) {
    let cluster = Cluster::builder().licensed("seats, valid_until", "10, now() + interval '1 day'");
    let root = cluster.login("postgres").open_ok().await;
    for (statement, sqlstate, constraint) in cases {
        let denied = root.fails(statement).await;
        let found = (denied.sqlstate.as_str(), denied.reason.as_str());
        assert_eq!(found, (*sqlstate, *constraint), "{statement}: {denied:?}");
    }
    let _anna = cluster.login("anna").open_ok().await;
    assert_eq!(cluster.in_use(), 1);
}

fn longest(last: &str) -> String {
    format!("{}{last}", "é".repeat(31))
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_and_words_out_of_range_are_refused() {
    refused(&[
        (
            "UPDATE licenses SET seats = -1",
            "23514",
            "licenses_seats_not_negative",
        ),
        ("UPDATE licenses SET seats = 2147483648", "22003", ""),
        (
            "UPDATE licenses SET overdraft = -1",
            "23514",
            "licenses_overdraft_not_negative",
        ),
        (
            "UPDATE licenses SET purchased = -1",
            "23514",
            "licenses_purchased_not_negative",
        ),
        (
            "UPDATE licenses SET purchased = 9",
            "23514",
            "licenses_seats_within_purchased",
        ),
        (
            "UPDATE licenses SET purchased = 9, seats = NULL",
            "23514",
            "licenses_seats_within_purchased",
        ),
        (
            "UPDATE licenses SET warn_at_percent = 101",
            "23514",
            "licenses_warn_at_percent_in_range",
        ),
        (
            "UPDATE licenses SET counted_by = 'users'",
            "23514",
            "licenses_counted_by_known",
        ),
        ("UPDATE licenses SET counted_by = NULL", "23502", ""),
        (
            "UPDATE licenses SET claimed_at = 'Login'",
            "23514",
            "licenses_claimed_at_known",
        ),
        (
            "UPDATE licenses SET enforcement = 'true'",
            "23514",
            "licenses_enforcement_known",
        ),
        (
            "UPDATE licenses SET grace = '-1 day'",
            "23514",
            "licenses_grace_not_negative",
        ),
        (
            "UPDATE licenses SET valid_from = valid_until + interval '1 day'",
            "23514",
            "licenses_valid_from_before_until",
        ),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_do_not_fit_are_refused_never_cut() {
    refused(&[
        (
            "UPDATE licenses SET product = repeat('é', 32)",
            "23514",
            "licenses_product_is_a_name",
        ),
        (
            "UPDATE licenses SET product = ''",
            "23514",
            "licenses_product_is_a_name",
        ),
        (
            "UPDATE licenses SET product = E'a\\nb'",
            "23514",
            "licenses_product_is_a_name",
        ),
        (
            "UPDATE licenses SET pool = repeat('x', 64)",
            "23514",
            "licenses_pool_is_a_name",
        ),
        (
            "UPDATE licenses SET pool = ''",
            "23514",
            "licenses_pool_is_a_name",
        ),
        (
            "UPDATE licenses SET pool = E'\\x7f'",
            "23514",
            "licenses_pool_is_a_name",
        ),
        (
            "INSERT INTO license_exemptions VALUES ('role', repeat('x', 64))",
            "23514",
            "license_exemptions_role_is_a_name",
        ),
        (
            "INSERT INTO license_exemptions VALUES ('role', '')",
            "23514",
            "license_exemptions_role_is_a_name",
        ),
        (
            "INSERT INTO license_exemptions VALUES ('user', 'anna')",
            "23514",
            "license_exemptions_kind_known",
        ),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn patterns_that_like_refuses_or_that_leave_a_choice_are_refused() {
    let pattern = "licenses_application_name_is_a_pattern";
    let twice = "licenses_one_claim_per_application_name";
    refused(&[
        (
            r"UPDATE licenses SET application_name = 'a\'",
            "23514",
            pattern,
        ),
        (
            r"UPDATE licenses SET application_name = 'a\\\'",
            "23514",
            pattern,
        ),
        (
            "UPDATE licenses SET application_name = ''",
            "23514",
            pattern,
        ),
        (
            "UPDATE licenses SET application_name = repeat('x', 128)",
            "23514",
            pattern,
        ),
        (
            "INSERT INTO licenses (product) VALUES ('Other')",
            "23505",
            twice,
        ),
        (
            "INSERT INTO licenses (product, application_name) VALUES ('A', 'a%'), ('B', 'a%')",
            "23505",
            twice,
        ),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_are_none_are_refused() {
    let host = "license_exemptions_host_is_local_address_or_network";
    let cases: Vec<_> = [
        ("127.0.1.1/24", "23514", host),
        ("2001:db8::1/32", "23514", host),
        ("fe80::1%eth0", "22P02", ""),
        ("fe80::1%2", "22P02", ""),
        ("localhost", "22P02", ""),
        ("Local", "22P02", ""),
        ("127.0.1", "22P02", ""),
        ("127.0.1.1/33", "22P02", ""),
        ("", "22P02", ""),
    ]
    .map(|(value, sqlstate, constraint)| {
        let insert = format!("INSERT INTO license_exemptions VALUES ('host', '{value}')");
        (insert, sqlstate, constraint)
    })
    .into();
    let cases: Vec<_> = cases
        .iter()
        .map(|(sql, s, c)| (sql.as_str(), *s, *c))
        .collect();
    refused(&cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grace_that_ends_beyond_all_time_is_refused() {
    refused(&[
        ("UPDATE licenses SET grace = '170000000 years'", "22008", ""),
        (
            "UPDATE licenses SET valid_until = '294276-12-31', grace = '1 year'",
            "22008",
            "",
        ),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_numbers_and_endless_dates_count_right() {
    let cluster = Cluster::builder().licensed(
        "seats, purchased, overdraft, valid_from, valid_until, grace",
        "2147483647, 2147483647, 2147483647, '-infinity', 'infinity', '10 years'",
    );
    let _anna = cluster.login("anna").open_ok().await;
    assert_eq!(
        cluster.sql("SELECT in_use, available, valid_until, days_left, status FROM license_usage"),
        "1|2147483646|infinity||ok"
    );
    cluster.sql("UPDATE licenses SET valid_from = NULL, valid_until = '-infinity'");
    let denied = cluster.login("bert").denied().await;
    denied.assert("28000", "license_expired");
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_with_odd_and_long_names_are_told_apart() {
    let cluster = Cluster::with_seats(8);
    let names = [
        longest("a"),
        longest("b"),
        r#"O'Brien "Bob""#.to_owned(),
        " anna".to_owned(),
        "ANNA".to_owned(),
        "Ünal Çelik 日本".to_owned(),
        "tab\tnew\nline".to_owned(),
    ];
    let mut sessions = vec![cluster.login("anna").open_ok().await];
    for name in &names {
        cluster.sql(&format!(
            "CREATE ROLE \"{}\" LOGIN",
            name.replace('"', "\"\"")
        ));
        let session = cluster.login(name).open_ok().await;
        let shown = "SELECT usename = session_user FROM license_active_seats
                     WHERE pg_backend_pid() = ANY (pids)";
        assert_eq!(session.text(shown).await, "t", "{name:?}");
        sessions.push(session);
    }
    assert_eq!(cluster.in_use(), 8);
    let denied = cluster.login("bert").denied().await;
    denied.assert("53300", "license_full");
}

#[tokio::test(flavor = "multi_thread")]
async fn products_and_pools_with_odd_and_long_names_are_told_apart() {
    let cluster = Cluster::with_seats(0);
    let names = [
        longest("a"),
        longest("b"),
        r#"Chef's "Choice" {0} %s"#.to_owned(),
        " TOM".to_owned(),
        "tom".to_owned(),
        "会計 Pro".to_owned(),
    ];
    for (i, name) in names.iter().enumerate() {
        let (name, pool) = (name.replace('\'', "''"), name.replace('\'', "''"));
        cluster.sql(&format!(
            "INSERT INTO licenses (product, pool, seats, application_name)
             VALUES ('{name}', '{pool}', 1, 'app{i}')"
        ));
    }
    for (i, name) in names.iter().enumerate() {
        let app = format!("app{i}");
        let _anna = cluster.login("anna").app(&app).open_ok().await;
        let denied = cluster.login("bert").app(&app).denied().await;
        assert_eq!(
            denied.assert("53300", "license_full").message,
            format!("maximum user license count reached for \"{name}\"")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workstation_too_long_or_with_control_characters_is_refused() {
    let cluster = Cluster::with_seats(10);
    let anna = cluster.login("anna");
    let too_long = format!("{}x", longest("a"));
    for name in [
        too_long.as_str(),
        "desk\t7",
        "desk\n7",
        "desk\u{7f}",
        "\u{1b}[2J",
    ] {
        let denied = anna.clone().workstation(name).denied().await;
        denied.assert("22023", "");
        let message = r#"invalid value for parameter "pg_seats.workstation""#;
        assert!(denied.message.starts_with(message), "{denied:?}");
        assert!(
            denied.detail.starts_with("A workstation's name has"),
            "{denied:?}"
        );
    }
    let mut psql = cluster.programs().client("psql");
    psql.env(
        "PGOPTIONS",
        OsStr::from_bytes(b"-c pg_seats.workstation=\xff"),
    )
    .arg("-h")
    .arg(cluster.socket_dir())
    .args([
        "-p",
        &cluster.port().to_string(),
        "-U",
        "anna",
        "-d",
        "postgres",
        "-c",
        "SELECT 1",
    ]);
    let ran: Ran = psql.output().unwrap().into();
    assert!(ran.failed().contains("invalid value for parameter"));
    assert_eq!(cluster.in_use(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn workstations_with_odd_and_long_names_are_told_apart() {
    let cluster = Cluster::with_seats(100);
    let names = [
        longest("a"),
        longest("b"),
        r#"PC "7" \North's"#.to_owned(),
        "PC 7".to_owned(),
        "pc 7".to_owned(),
        "デスク".to_owned(),
        "-c".to_owned(),
    ];
    let mut sessions = Vec::new();
    for name in &names {
        let session = cluster.login("anna").workstation(name).open_ok().await;
        let shown = "SELECT workstation FROM license_active_seats
                     WHERE pg_backend_pid() = ANY (pids)";
        assert_eq!(session.text(shown).await, *name);
        sessions.push(session);
    }
    assert_eq!(cluster.in_use(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_workstation_is_none() {
    let cluster = Cluster::with_seats(1);
    let anna = cluster.login("anna");
    let _both = (anna.open_ok().await, anna.workstation("").open_ok().await);
    let seat = "SELECT workstation IS NULL, sessions FROM license_active_seats";
    assert_eq!(cluster.sql(seat), "t|2");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_in_before_the_license_count_whatever_max_seats_is() {
    let cluster = Cluster::builder()
        .conf("pg_seats.max_seats", 2)
        .licensed("seats", "NULL");
    cluster.sql("DELETE FROM licenses");
    let mut sessions = Vec::new();
    for user in STAFF {
        sessions.push(cluster.login(user).from("127.0.1.1").open_ok().await);
    }
    cluster.license("postgres", "seats", "20");
    assert_eq!(cluster.in_use(), STAFF.len() as i64);
    sessions.push(cluster.login("anna").from("127.0.1.1").open_ok().await);
    sessions.push(cluster.login("anna").from("127.0.1.2").open_ok().await);
    assert_eq!(cluster.in_use(), STAFF.len() as i64 + 1);
}
