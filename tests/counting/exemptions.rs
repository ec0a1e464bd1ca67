//! Who is not counted (counting rule 6): superusers, exempt roles and hosts, replication, workers.

use crate::util::*;

fn exempt(cluster: &Cluster, kind: &str, value: &str) {
    cluster.sql(&format!(
        "INSERT INTO license_exemptions (kind, value) VALUES ('{kind}', '{}')",
        value.replace('\'', "''")
    ));
}

/// Tells why this role's sessions are exempt, as the view says.
fn reasons(cluster: &Cluster, role: &str) -> String {
    cluster.sql(&format!(
        "SELECT reason FROM license_exempt_sessions WHERE usename = '{role}' AND pid <> pg_backend_pid()"
    ))
}

/// Asserts that the login gets in although there are no seats, without a seat, and listed.
async fn is_exempt(cluster: &Cluster, login: Login, reason: &str) {
    let session = login.open_ok().await;
    let pid = session.pid().await;
    let listed = format!("SELECT reason FROM license_exempt_sessions WHERE pid = {pid}");
    assert_eq!(cluster.sql(&listed), reason, "{login}");
    assert_eq!(cluster.in_use(), 0, "{login}");
}

/// Waits until the row of `license_usage` is this: sessions of psql that asked before may be leaving still.
async fn usage_becomes(cluster: &Cluster, columns: &str, row: &str) {
    let ask = format!("SELECT {columns} FROM license_usage");
    let what = format!("{columns} is {row}");
    eventually(&what, PATIENCE, async || cluster.sql(&ask) == row).await;
}

async fn is_counted(login: Login) {
    login.denied().await.assert("53300", "license_full");
}

#[tokio::test(flavor = "multi_thread")]
async fn superusers_are_exempt() {
    let cluster = Cluster::with_seats(0);
    cluster.sql("CREATE ROLE root SUPERUSER LOGIN");
    is_exempt(
        &cluster,
        cluster.login("root").from("127.0.1.1"),
        "superuser",
    )
    .await;
    // Exempt sessions count as such: the one that asks is the only one left.
    let _root = cluster.login("root").open_ok().await;
    usage_becomes(&cluster, "exempt", "2").await;
    // A role that may become a superuser is none.
    cluster.sql("GRANT root TO anna");
    is_counted(cluster.login("anna")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn superusers_count_where_the_setting_says_so_and_are_never_denied() {
    let cluster = Cluster::builder()
        .conf("pg_seats.exempt_superusers", "off")
        .licensed("seats", "1");
    cluster.sql("CREATE ROLE root SUPERUSER LOGIN");
    let root = cluster.login("root").from("127.0.1.1");
    let _two = (root.open_ok().await, root.open_ok().await);
    let anna = cluster.login("anna").from("127.0.1.1");
    anna.denied().await.assert("53300", "license_full");
    let _third = root.from("127.0.1.2").open_ok().await;
    // Two hosts, and psql that asks.
    let columns = "in_use, exempt, status, denied";
    usage_becomes(&cluster, columns, "3|0|over|1").await;
    cluster.set("pg_seats.exempt_superusers", "on");
    usage_becomes(&cluster, columns, "0|4|ok|1").await;
    anna.open_ok().await;
    cluster.set("pg_seats.exempt_superusers", "off");
    usage_becomes(&cluster, columns, "3|0|over|1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_counted_superuser_is_in_no_exempt_role_by_being_one() {
    let cluster = Cluster::builder()
        .conf("pg_seats.exempt_superusers", "off")
        .licensed("seats", "10");
    cluster.sql("CREATE ROLE support");
    exempt(&cluster, "role", "support");
    let _root = cluster.login("postgres").from("127.0.1.1").open_ok().await;
    // From two hosts: psql that asks is on the other one.
    assert_eq!(cluster.in_use(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exempt_role_and_its_members_are_exempt() {
    let cluster = Cluster::with_seats(0);
    cluster.sql(
        "CREATE ROLE support LOGIN; CREATE ROLE desk; GRANT support TO anna, desk;
         ALTER ROLE bert NOINHERIT; GRANT desk TO bert",
    );
    exempt(&cluster, "role", "support");
    for role in ["support", "anna", "bert"] {
        is_exempt(
            &cluster,
            cluster.login(role).from("127.0.1.1"),
            "exempt role",
        )
        .await;
    }
    // Who has members in it is no member.
    cluster.sql("GRANT carl TO support");
    is_counted(cluster.login("carl")).await;
    is_counted(cluster.login("dora")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_came_after_its_exemption_is_exempt() {
    let cluster = Cluster::with_seats(0);
    let name = r#"Süd "Büro" 7"#;
    exempt(&cluster, "role", name);
    is_counted(cluster.login("anna")).await;
    let quoted = format!("\"{}\"", name.replace('"', "\"\""));
    cluster.sql(&format!(
        "CREATE ROLE {quoted} LOGIN; GRANT {quoted} TO anna"
    ));
    is_exempt(&cluster, cluster.login(name), "exempt role").await;
    is_exempt(&cluster, cluster.login("anna"), "exempt role").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exempt_host_is_an_address_a_network_or_local() {
    let anna = |cluster: &Cluster, host: &str| cluster.login("anna").from(host);
    // The exemption, who is exempt by it, who is not.
    let cases = [
        ("127.0.1.1", "127.0.1.1", "127.0.1.2"),
        ("127.0.1.1/32", "127.0.1.1", "127.0.1.2"),
        ("127.0.1.0/24", "127.0.1.255", "127.0.2.0"),
        ("127.0.0.0/8", "127.9.9.9", ""),
        ("0.0.0.0/0", "127.0.1.1", ""),
        ("::ffff:127.0.1.1", "127.0.1.1", "127.0.1.2"),
        ("::ffff:127.0.1.0/120", "127.0.1.9", "127.0.2.1"),
        ("local", "127.0.0.1", "127.0.0.2"),
        ("127.0.0.1", "127.0.0.1", "127.0.0.2"),
        ("::1", "127.0.0.1", "127.0.0.2"),
    ];
    let cluster = Cluster::with_seats(0);
    for (value, inside, outside) in cases {
        exempt(&cluster, "host", value);
        is_exempt(&cluster, anna(&cluster, inside), "exempt host").await;
        if !outside.is_empty() {
            is_counted(anna(&cluster, outside)).await;
        }
        cluster.sql("DELETE FROM license_exemptions");
        is_counted(anna(&cluster, inside)).await;
    }
    if has_ipv6() {
        exempt(&cluster, "host", "::/0");
        is_exempt(&cluster, anna(&cluster, "::1"), "exempt host").await;
        is_counted(anna(&cluster, "127.0.1.1")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exemption_local_covers_every_way_to_the_servers_own_computer() {
    let cluster = Cluster::builder()
        .conf("listen_addresses", "*")
        .licensed("seats", "0");
    exempt(&cluster, "host", "local");
    let anna = cluster.login("anna");
    let own = anna.clone().from("127.0.1.7").to("127.0.1.7");
    let mut ways = vec![anna.clone().unix(), anna.clone().from("127.0.0.1"), own];
    ways.extend(has_ipv6().then(|| anna.clone().from("::1")));
    for way in ways {
        is_exempt(&cluster, way, "exempt host").await;
    }
    is_counted(anna.from("127.0.1.7")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_with_replication_are_exempt() {
    let cluster = Cluster::with_seats(0);
    cluster.sql("ALTER ROLE anna REPLICATION; GRANT anna TO bert");
    is_exempt(&cluster, cluster.login("anna"), "replication").await;
    // The attribute is not inherited.
    is_counted(cluster.login("bert")).await;
}

/// Opens a replication connection that has said who the server is.
fn replicating(cluster: &Cluster, role: &str, kind: &str) -> ClientProcess {
    let conninfo = format!("dbname=postgres replication={kind}");
    let mut process = cluster.login(role).db(&conninfo).process();
    assert!(process.ask("IDENTIFY_SYSTEM;").contains('|'));
    process
}

#[tokio::test(flavor = "multi_thread")]
async fn physical_and_logical_replication_connections_are_exempt() {
    let cluster = Cluster::with_seats(0);
    cluster.sql("ALTER ROLE anna REPLICATION");
    let _both = ["true", "database"].map(|kind| replicating(&cluster, "anna", kind));
    assert_eq!(reasons(&cluster, "anna"), "replication\nreplication");
    assert_eq!(cluster.in_use(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_superusers_replication_connections_are_exempt_also_where_superusers_count() {
    let cluster = Cluster::builder()
        .conf("pg_seats.exempt_superusers", "off")
        .licensed("seats", "0");
    cluster.sql("CREATE ROLE root SUPERUSER LOGIN");
    let _both = ["true", "database"].map(|kind| replicating(&cluster, "root", kind));
    assert_eq!(reasons(&cluster, "root"), "replication\nreplication");
    // psql that asks.
    assert_eq!(cluster.in_use(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_no_user() {
    let cluster = Cluster::with_seats(0);
    let _standby = cluster.standby();
    let listed =
        "SELECT reason FROM license_exempt_sessions WHERE application_name LIKE 'standby%'";
    assert_eq!(cluster.sql(listed), "superuser");
    assert_eq!(cluster.in_use(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_workers_of_a_parallel_query_take_no_seat_and_are_listed() {
    let cluster = Cluster::with_seats(1);
    cluster.sql(
        "CREATE TABLE books AS SELECT n FROM generate_series(1, 20000) n; ANALYZE books;
         GRANT SELECT ON books TO anna",
    );
    let anna = cluster.login("anna").from("127.0.1.1").open_ok().await;
    anna.run(
        "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0;
         SET min_parallel_table_scan_size = 0; SET max_parallel_workers_per_gather = 2",
    )
    .await;
    let pid = anna.pid().await;
    let query = tokio::spawn(async move {
        anna.val::<i64>("SELECT count(*) FROM books WHERE n > 0 AND pg_sleep(0.01) IS NOT NULL")
            .await
    });
    let listed = "SELECT usename, datname, client_host IS NULL FROM license_exempt_sessions
                  WHERE reason = 'background worker'";
    eventually("the parallel workers are listed", PATIENCE, async || {
        cluster.sql(listed) == "anna|postgres|t\nanna|postgres|t"
    })
    .await;
    assert_eq!(cluster.in_use(), 1);
    cluster.sql(&format!("SELECT pg_cancel_backend({pid})"));
    query.await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exemption_that_comes_or_goes_changes_the_count_at_once() {
    let cluster = Cluster::with_seats(1);
    cluster.sql("CREATE ROLE support; GRANT support TO anna");
    let _anna = cluster.login("anna").from("127.0.1.1").open_ok().await;
    let bert = cluster.login("bert").from("127.0.1.2");
    for (kind, value, reason) in [
        ("role", "support", "exempt role"),
        ("host", "127.0.1.0/31", "exempt host"),
    ] {
        is_counted(bert.clone()).await;
        exempt(&cluster, kind, value);
        // Bert takes the seat that Anna no longer needs.
        let session = bert.open_ok().await;
        assert_eq!(reasons(&cluster, "anna"), reason);
        assert_eq!(cluster.in_use(), 1);
        // Nobody is thrown out when it goes: Anna counts again.
        cluster.sql("DELETE FROM license_exemptions");
        usage_becomes(&cluster, "in_use, exempt, status", "2|1|over").await;
        session.close().await;
        eventually("Bert is out", PATIENCE, async || cluster.in_use() == 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exempt_sessions_leave_the_seats_to_others() {
    let cluster = Cluster::with_seats(1);
    exempt(&cluster, "role", "anna");
    let mut exempt = Vec::new();
    for host in ["127.0.1.1", "127.0.1.2", "127.0.1.3"] {
        exempt.push(cluster.login("anna").from(host).open_ok().await);
    }
    let _bert = cluster.login("bert").from("127.0.1.1").open_ok().await;
    is_counted(cluster.login("carl").from("127.0.1.1")).await;
    // Anna's, and psql that asks.
    usage_becomes(&cluster, "in_use, exempt", "1|4").await;
}
