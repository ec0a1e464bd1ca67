//! The counting rules of the contract, each by its name: who shares a seat with whom.

use crate::util::*;

const TWO_HOSTS: [&str; 2] = ["127.0.1.1", "127.0.1.2"];

/// Starts a server that counts by this rule, with these logins all in.
async fn counted_by(rule: &str, logins: &[(&str, &str, &str)]) -> (Cluster, Vec<Session>) {
    let values = format!("100, '{rule}'");
    let cluster = Cluster::builder().licensed("seats, counted_by", &values);
    let mut sessions = Vec::new();
    for (user, host, workstation) in logins {
        let login = cluster.login(user).from(host);
        let login = match *workstation {
            "" => login,
            name => login.workstation(name),
        };
        sessions.push(login.open_ok().await);
    }
    (cluster, sessions)
}

async fn seats_become(cluster: &Cluster, seats: i64) {
    let what = format!("{seats} seats are in use");
    eventually(&what, PATIENCE, async || cluster.in_use() == seats).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn same_role_from_two_computers_takes_two_seats() {
    let cluster = Cluster::with_seats(10);
    let _one = cluster.login("anna").from("127.0.1.1").open_ok().await;
    let _two = cluster.login("anna").from("127.0.1.2").open_ok().await;
    assert_eq!(cluster.in_use(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn same_role_twice_from_one_computer_takes_one_seat() {
    let cluster = Cluster::with_seats(1);
    let login = cluster.login("anna").from("127.0.1.1");
    let _both = (login.open_ok().await, login.open_ok().await);
    assert_eq!(cluster.in_use(), 1);
    let seat = "SELECT sessions, cardinality(pids) FROM license_active_seats";
    assert_eq!(cluster.sql(seat), "2|2");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_roles_on_one_computer_take_two_seats() {
    let cluster = Cluster::with_seats(2);
    let _anna = cluster.login("anna").from("127.0.1.1").open_ok().await;
    let _bert = cluster.login("bert").from("127.0.1.1").open_ok().await;
    assert_eq!(cluster.in_use(), 2);
    let carl = cluster.login("carl").from("127.0.1.1");
    carl.denied().await.assert("53300", "license_full");
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_the_first_of_two_connections_keeps_the_seat() {
    let cluster = Cluster::with_seats(1);
    let (anna, bert) = (
        cluster.login("anna").from("127.0.1.1"),
        cluster.login("bert").from("127.0.1.2"),
    );
    let (first, second) = (anna.open_ok().await, anna.open_ok().await);
    let seat = cluster.sql("SELECT seat_id FROM license_active_seats");
    first.close().await;
    eventually("one session is left", PATIENCE, async || {
        cluster.sql("SELECT seat_id, sessions FROM license_active_seats") == format!("{seat}|1")
    })
    .await;
    bert.denied().await.assert("53300", "license_full");
    second.close().await;
    seats_become(&cluster, 0).await;
    bert.open_ok().await;
}

/// Anna twice and Bert on one computer, Anna on another.
const CROWD: [(&str, &str, &str); 4] = [
    ("anna", "127.0.1.1", ""),
    ("anna", "127.0.1.1", ""),
    ("bert", "127.0.1.1", ""),
    ("anna", "127.0.1.2", ""),
];

/// Asserts that the crowd takes so many seats and needs no more, and that who is new in every respect needs one more.
async fn the_crowd_takes(seats: i64, rule: &str) {
    let (cluster, _crowd) = counted_by(rule, &CROWD).await;
    assert_eq!(cluster.in_use(), seats);
    cluster.sql(&format!("UPDATE licenses SET seats = {seats}"));
    if rule != "session" {
        let again = cluster.login("anna").from("127.0.1.2");
        again.open_ok().await.close().await;
    }
    let carl = cluster.login("carl").from("127.0.1.3");
    carl.denied().await.assert("53300", "license_full");
}

#[tokio::test(flavor = "multi_thread")]
async fn counted_by_user_host_is_the_default() {
    the_crowd_takes(3, "user_host").await;
    let cluster = Cluster::with_seats(1);
    assert_eq!(cluster.sql("SELECT counted_by FROM licenses"), "user_host");
}

#[tokio::test(flavor = "multi_thread")]
async fn counted_by_user_a_role_takes_one_seat_wherever_it_works() {
    the_crowd_takes(2, "user").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn counted_by_host_a_computer_takes_one_seat_whoever_works_there() {
    the_crowd_takes(2, "host").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn counted_by_session_every_connection_takes_a_seat() {
    the_crowd_takes(4, "session").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn counted_by_user_workstation_the_host_counts_where_no_workstation_is_given() {
    the_crowd_takes(3, "user_workstation").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_connection_counted_by_session_frees_its_own_seat() {
    let (cluster, mut crowd) = counted_by("session", &CROWD).await;
    crowd.pop().unwrap().close().await;
    seats_become(&cluster, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn set_role_changes_nothing() {
    let cluster = Cluster::with_seats(1);
    cluster.sql("GRANT bert TO anna");
    let anna = cluster.login("anna").from("127.0.1.1");
    let session = anna.open_ok().await;
    session.run("SET ROLE bert").await;
    let with_option = anna.clone().options("-c role=bert").open_ok().await;
    assert_eq!(with_option.text("SELECT current_user").await, "bert");
    cluster.sql("ALTER ROLE anna SET role = bert");
    let by_default = anna.open_ok().await;
    assert_eq!(by_default.text("SELECT current_user").await, "bert");
    let seats = "SELECT usename, sessions FROM license_active_seats";
    assert_eq!(cluster.sql(seats), "anna|3");
    let bert = cluster.login("bert").from("127.0.1.1");
    bert.denied().await.assert("53300", "license_full");
}

#[tokio::test(flavor = "multi_thread")]
async fn set_session_authorization_changes_nothing() {
    let cluster = Cluster::with_seats(1);
    let root = cluster.login("postgres").from("127.0.1.1");
    let session = root.open_ok().await;
    session.run("SET SESSION AUTHORIZATION anna").await;
    let _with_option = root
        .options("-c session_authorization=bert")
        .open_ok()
        .await;
    assert_eq!(cluster.in_use(), 0);
    let exempt =
        "SELECT usename, reason FROM license_exempt_sessions WHERE client_host = '127.0.1.1'";
    assert_eq!(
        cluster.sql(exempt),
        "postgres|superuser\npostgres|superuser"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_servers_own_computer_is_one_host_however_it_is_reached() {
    let cluster = Cluster::builder()
        .conf("listen_addresses", "*")
        .licensed("seats", "1");
    let anna = cluster.login("anna");
    let mut ways = vec![
        anna.clone().unix(),
        anna.clone().from("127.0.0.1"),
        anna.clone().from("127.0.1.7").to("127.0.1.7"),
    ];
    ways.extend(has_ipv6().then(|| anna.clone().from("::1")));
    let mut sessions = Vec::new();
    for way in &ways {
        sessions.push(way.open_ok().await);
    }
    let seats = "SELECT client_host, sessions FROM license_active_seats";
    assert_eq!(cluster.sql(seats), format!("local|{}", ways.len()));
    // The same address is a computer of its own when it isn't the server's of that connection.
    for host in ["127.0.1.7", "127.0.0.2"] {
        let denied = anna.clone().from(host).denied().await;
        denied.assert("53300", "license_full");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_host_is_shown_as_its_address() {
    let cluster = Cluster::with_seats(10);
    let _session = cluster.login("anna").from("127.0.1.7").open_ok().await;
    let host = "SELECT client_host FROM license_active_seats";
    assert_eq!(cluster.sql(host), "127.0.1.7");
}

#[tokio::test(flavor = "multi_thread")]
async fn workstations_split_the_users_of_a_terminal_server() {
    let desks = [
        ("anna", "127.0.1.1", "desk 1"),
        ("anna", "127.0.1.1", "desk 2"),
        ("anna", "127.0.1.1", "desk 2"),
        ("anna", "127.0.1.1", ""),
    ];
    for rule in ["user_host", "user", "host"] {
        let (cluster, _desks) = counted_by(rule, &desks).await;
        assert_eq!(cluster.in_use(), 3, "{rule}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guid_for_each_start_takes_a_seat_for_each_start() {
    let starts = [
        ("anna", "127.0.1.1", "0b7f1c1e-6a5b-4c40-9c39-9d3d8a8f1f01"),
        ("anna", "127.0.1.1", "0b7f1c1e-6a5b-4c40-9c39-9d3d8a8f1f02"),
    ];
    let (cluster, mut starts) = counted_by("user_host", &starts).await;
    assert_eq!(cluster.in_use(), 2);
    starts.pop().unwrap().close().await;
    seats_become(&cluster, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_workstation_never_merges_two_hosts() {
    let hosts = TWO_HOSTS.map(|host| ("anna", host, "desk"));
    let (cluster, _sessions) = counted_by("user_host", &hosts).await;
    assert_eq!(cluster.in_use(), 2);
    cluster.sql("UPDATE licenses SET counted_by = 'host'");
    assert_eq!(cluster.in_use(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn counted_by_user_workstation_a_laptop_keeps_its_seat_at_another_address() {
    let logins = [
        ("anna", TWO_HOSTS[0], "laptop"),
        ("anna", TWO_HOSTS[1], "laptop"),
        ("bert", TWO_HOSTS[1], "laptop"),
    ];
    let (cluster, _sessions) = counted_by("user_workstation", &logins).await;
    assert_eq!(cluster.in_use(), 2);
    let seat = "SELECT client_host IS NULL, workstation, sessions FROM license_active_seats
                WHERE usename = 'anna'";
    assert_eq!(cluster.sql(seat), "t|laptop|2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workstation_is_set_at_connection_start_only() {
    let cluster = Cluster::with_seats(10);
    let anna = cluster.login("anna").from("127.0.1.1");
    let session = anna.workstation("desk").open_ok().await;
    for change in [
        "SET pg_seats.workstation = 'other'",
        "SELECT set_config('pg_seats.workstation', 'other', false)",
        "RESET pg_seats.workstation",
        "ALTER ROLE anna SET pg_seats.workstation = 'other'",
    ] {
        session.fails(change).await.assert("55P02", "");
    }
    session.run("DISCARD ALL").await;
    let workstation = "SELECT workstation FROM license_active_seats";
    assert_eq!(session.text(workstation).await, "desk");
    let root = cluster.login("postgres").open_ok().await;
    for change in ["ROLE anna", "DATABASE postgres", "ROLE ALL"] {
        let change = format!("ALTER {change} SET pg_seats.workstation = 'other'");
        root.fails(&change).await.assert("55P02", "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workstation_in_the_configuration_merges_nobody() {
    let cluster = Cluster::builder().licensed("seats, counted_by", "10, 'user_workstation'");
    cluster.append_conf("pg_seats.workstation = 'everybody'\n");
    cluster.reload();
    let mut sessions = Vec::new();
    for host in TWO_HOSTS {
        sessions.push(cluster.login("anna").from(host).open_ok().await);
    }
    assert_eq!(cluster.in_use(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_are_the_same_with_passwords() {
    let cluster = Cluster::builder().scram().licensed("seats", "1");
    let anna = cluster.login("anna").from("127.0.1.1");
    anna.clone()
        .password("guess")
        .denied()
        .await
        .assert("28P01", "");
    assert_eq!(cluster.in_use(), 0);
    let anna = anna.password("anna");
    let _both = (anna.open_ok().await, anna.open_ok().await);
    assert_eq!(cluster.in_use(), 1);
    let bert = cluster.login("bert").from("127.0.1.1").password("bert");
    bert.denied().await.assert("53300", "license_full");
    // Who does not know the password learns nothing of the license.
    bert.password("guess").denied().await.assert("28P01", "");
}
