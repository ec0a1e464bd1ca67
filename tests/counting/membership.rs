//! Who is a member of a role that is exempt, or for which seats are reserved.

use crate::util::*;

/// From PostgreSQL 16 on whoever creates a role is its administrator, and neither has its privileges nor
/// becomes it.
#[tokio::test(flavor = "multi_thread")]
async fn who_only_administers_a_role_is_no_member() {
    let cluster = Cluster::with_seats(1);
    let version: u32 = cluster.sql("SHOW server_version_num").parse().unwrap();
    if version < 160_000 {
        return;
    }
    cluster.sql("ALTER ROLE anna CREATEROLE");
    let anna = cluster.login("anna").from("127.0.1.1").open_ok().await;
    anna.run("CREATE ROLE vips").await;
    anna.close().await;
    cluster.sql("INSERT INTO license_exemptions VALUES ('role', 'vips')");
    let _bert = cluster.login("bert").from("127.0.1.2").open_ok().await;
    let anna = cluster.login("anna").from("127.0.1.1");
    anna.denied().await.assert("53300", "license_full");
    for (options, exempt) in [
        ("INHERIT FALSE, SET TRUE", true),
        ("INHERIT FALSE, SET FALSE", false),
        ("INHERIT TRUE, SET FALSE", true),
    ] {
        cluster.sql(&format!("GRANT vips TO anna WITH {options}"));
        assert_eq!(anna.open().await.is_ok(), exempt, "{options}");
    }
    cluster.sql(
        "UPDATE licenses SET seats = 5; GRANT EXECUTE ON FUNCTION license_lease TO vips;
         BEGIN; SET LOCAL ROLE vips; SELECT license_lease('vip', '10.0.0.1', ttl => '1 hour'); COMMIT",
    );
    let own = "SELECT client_user FROM license_own_leases";
    let see = async |options: &str| {
        cluster.sql(&format!("GRANT vips TO anna WITH {options}"));
        let anna = cluster.login("anna").from("127.0.1.2").open_ok().await;
        let seen = anna.texts(own).await;
        anna.close().await;
        seen
    };
    assert_eq!(see("INHERIT FALSE, SET FALSE").await, [""; 0]);
    assert_eq!(see("SET TRUE").await, ["vip"]);
    cluster.sql("SELECT license_release(lease_id) FROM license_own_leases");
    cluster.sql(
        "GRANT vips TO anna WITH INHERIT FALSE, SET FALSE;
         TRUNCATE license_exemptions;
         UPDATE licenses SET seats = 2;
         INSERT INTO license_reservations VALUES ('TOM', 'vips', 1)",
    );
    anna.denied().await.assert("53300", "license_full");
    cluster.sql("GRANT vips TO anna WITH SET TRUE");
    anna.open_ok().await;
}

/// Whoever owns another database is nobody's owner here, whichever database's rules were read last.
#[tokio::test(flavor = "multi_thread")]
async fn seats_for_the_owner_are_for_the_owner_of_that_database() {
    let cluster = Cluster::builder().licensed("seats, pool", "2, 'firm'");
    cluster.sql("CREATE DATABASE second OWNER bert");
    cluster.license("second", "seats, pool", "2, 'firm'");
    cluster.sql("ALTER DATABASE postgres OWNER TO anna");
    let reserve = "INSERT INTO license_reservations VALUES ('TOM', 'pg_database_owner', 1)";
    cluster.sql(reserve);
    let _carl = cluster.login("carl").from("127.0.1.3").open_ok().await;
    let bert = cluster.login("bert").from("127.0.1.2");
    let anna = cluster.login("anna").from("127.0.1.1");
    for database in ["second", "postgres"] {
        cluster.sql_in(database, "UPDATE licenses SET warn_at_percent = 80");
        bert.denied().await.assert("53300", "license_full");
        let _anna = anna.open_ok().await;
    }
}
