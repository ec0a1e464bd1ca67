//! What changed limits do to those who are in: all count by the rows as they are now, and nobody is thrown out.

use crate::util::*;

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_came_before_the_row_count() {
    let cluster = Cluster::with_seats(0);
    cluster.sql("DROP EXTENSION pg_seats");
    let mut staff = Vec::new();
    for host in ["127.0.1.1", "127.0.1.2", "127.0.1.3"] {
        staff.push(cluster.login("anna").from(host).open_ok().await);
    }
    cluster.license("postgres", "seats", "2");
    assert_eq!(usage(&cluster), "2|3|over");
    assert!(!admits(&cluster).await);
    // Who has a seat may have it twice, and nobody was thrown out.
    let again = cluster.login("anna").from("127.0.1.1").open_ok().await;
    for session in staff.iter().chain([&again]) {
        session.run("SELECT 1").await;
    }
    staff.truncate(2);
    eventually("the third has left", PATIENCE, async || {
        usage(&cluster) == "2|2|full"
    })
    .await;
    assert!(!admits(&cluster).await);
    staff.truncate(1);
    eventually("the second has left", PATIENCE, async || {
        cluster.in_use() == 1
    })
    .await;
    cluster.login("bert").from("127.0.1.9").open_ok().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_in_count_by_the_row_as_it_is_now() {
    let cluster = Cluster::with_seats(9);
    let mut staff = Vec::new();
    for (role, host) in [
        ("anna", 1),
        ("anna", 2),
        ("bert", 2),
        ("bert", 2),
        ("carl", 3),
    ] {
        let login = cluster.login(role).from(&format!("127.0.1.{host}"));
        staff.push(login.app("tom").open_ok().await);
    }
    for (change, now) in [
        ("seats = seats", "9|4|ok"),
        ("seats = 3", "3|4|over"),
        ("overdraft = 1", "3|4|overdraft"),
        ("seats = 4", "4|4|full"),
        ("seats = NULL", "|4|unlimited"),
        ("counted_by = 'user'", "|3|unlimited"),
        ("counted_by = 'host'", "|3|unlimited"),
        ("counted_by = 'session'", "|5|unlimited"),
        ("counted_by = 'user_workstation'", "|4|unlimited"),
        (
            "counted_by = 'user_host', pool = 'head office'",
            "|4|unlimited",
        ),
        ("pool = NULL, application_name = 'other%'", "|0|unlimited"),
        ("application_name = 't_m'", "|4|unlimited"),
        (
            "application_name = NULL, claimed_at = 'checkout'",
            "|0|unlimited",
        ),
        ("claimed_at = 'login', seats = 0, overdraft = 0", "0|4|over"),
        ("enforcement = 'off'", "0|4|not enforced"),
        ("product = 'Books', enforcement = 'on', seats = 5", "5|4|ok"),
        ("warn_at_percent = 80", "5|4|warning"),
        (
            "valid_until = now() - interval '1 day', grace = '2 days'",
            "5|4|grace",
        ),
        ("grace = '0'", "5|4|expired"),
    ] {
        cluster.sql(&format!("UPDATE licenses SET {change}"));
        assert_eq!(usage(&cluster), now, "after {change}");
    }
    for session in &staff {
        session.run("SELECT 1").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exemption_frees_seats_and_its_end_takes_them() {
    let cluster = Cluster::with_seats(2);
    let anna = cluster.login("anna").from("127.0.1.1").open_ok().await;
    let bert = cluster.login("bert").from("127.0.1.2").open_ok().await;
    for exemption in ["'role', 'anna'", "'host', '127.0.1.1'"] {
        assert!(!admits(&cluster).await);
        cluster.sql(&format!(
            "INSERT INTO license_exemptions VALUES ({exemption})"
        ));
        assert_eq!(usage(&cluster), "2|1|ok");
        let carl = cluster.login("carl").from("127.0.1.3").open_ok().await;
        cluster.sql("DELETE FROM license_exemptions");
        assert_eq!(usage(&cluster), "2|3|over");
        assert!(!admits(&cluster).await);
        carl.close().await;
        eventually("carl has left", PATIENCE, async || cluster.in_use() == 2).await;
    }
    anna.run("SELECT 1").await;
    bert.run("SELECT 1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_servers_enforcement_is_reloaded() {
    let cluster = Cluster::with_seats(0);
    for (value, admitted) in [("warn", true), ("on", false), ("off", true)] {
        cluster.set("pg_seats.enforcement", value);
        assert_eq!(admits(&cluster).await, admitted, "{value}");
    }
    cluster.reset("pg_seats.enforcement");
    assert!(!admits(&cluster).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn superusers_in_count_once_they_are_no_longer_exempt() {
    let cluster = Cluster::with_seats(1);
    let root = cluster.login("postgres").from("127.0.1.1").open_ok().await;
    cluster.set("pg_seats.exempt_superusers", "off");
    assert!(!admits(&cluster).await);
    let seats = "SELECT usename, client_host FROM license_active_seats ORDER BY client_host";
    assert_eq!(root.texts(seats).await, ["postgres|127.0.1.1"]);
    assert_eq!(cluster.sql(seats), "postgres|127.0.1.1\npostgres|local");
    cluster.set("pg_seats.exempt_superusers", "on");
    assert_eq!(cluster.sql(seats), "");
    assert!(admits(&cluster).await);
}
