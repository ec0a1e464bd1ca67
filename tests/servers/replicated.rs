//! Logical replication: publications end nothing, a subscriber counts by itself beside the publisher's rows, and
//! neither one's rows stop the other.

use crate::util::*;

const EVENTS: &str = "SELECT count(*) FROM license_events WHERE usename";

/// What the tables have for one's own database, so many leases and counts.
const OWN: &str = "
    SELECT (SELECT count(*) FROM license_leases WHERE (origin, datid) = (license_origin(), d.oid)),
           (SELECT denied FROM license_counts WHERE (origin, datid) = (license_origin(), d.oid))
      FROM pg_database d WHERE datname = current_database()";

/// Starts a server with two seats of "TOM".
fn publisher() -> Cluster {
    let builder = Cluster::builder().conf("wal_level", "logical");
    let cluster = builder.licensed("seats", "2");
    cluster.sql("CREATE PUBLICATION everything FOR ALL TABLES");
    cluster
}

/// Starts a server with the extension, and all that this publisher has.
fn subscriber(publisher: &Cluster) -> Cluster {
    let builder = Cluster::builder().conf("wal_level", "logical");
    // What goes wrong is tried again soon.
    let cluster = builder.conf("wal_retrieve_retry_interval", "100ms").start();
    cluster.hire();
    cluster.sql("CREATE EXTENSION pg_seats");
    cluster.sql(&format!(
        "CREATE SUBSCRIPTION everything CONNECTION 'host={} port={} user=postgres' PUBLICATION everything",
        publisher.socket_dir().display(),
        publisher.port()
    ));
    cluster
}

/// Waits until the subscriber has what the publisher has by now.
fn caught_up(publisher: &Cluster, subscriber: &Cluster) {
    let lsn = publisher.sql("SELECT pg_current_wal_flush_lsn()");
    let ready = "SELECT count(*) FROM pg_subscription_rel WHERE srsubstate <> 'r'";
    eventually_blocking("the tables are copied", 2 * PATIENCE, || {
        subscriber.sql(ready) == "0"
    });
    let confirmed = format!(
        "SELECT confirmed_flush_lsn >= '{lsn}' FROM pg_replication_slots WHERE slot_name = 'everything'"
    );
    eventually_blocking("the subscriber has caught up", 2 * PATIENCE, || {
        publisher.sql(&confirmed) == "t"
    });
    let log = subscriber.log();
    assert!(!log.contains("duplicate key"), "{log}");
}

async fn denied(cluster: &Cluster, user: &str, seats: u32) {
    let mut inside = Vec::new();
    for number in 1..=seats {
        let host = format!("127.0.1.{number}");
        inside.push(cluster.login("anna").from(&host).open_ok().await);
    }
    let login = cluster.login(user).from("127.0.1.9").denied().await;
    login.assert("53300", "license_full");
    for session in inside {
        session.close().await;
    }
    eventually("the seats are free", PATIENCE, async || {
        cluster.sql("SELECT count(*) FROM license_active_seats WHERE kind = 'login'") == "0"
    })
    .await;
}

async fn settled(cluster: &Cluster, what: &str, query: &str, expected: &str) {
    eventually(what, PATIENCE, async || cluster.sql(query) == expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_counts_by_itself_beside_the_publishers_rows() {
    let publisher = publisher();
    publisher.sql("SELECT license_lease('zoe', '10.0.0.1')");
    denied(&publisher, "bert", 1).await;
    settled(&publisher, "it is written", OWN, "1|1").await;
    let subscriber = subscriber(&publisher);
    caught_up(&publisher, &subscriber);
    assert_ne!(
        publisher.sql("SELECT license_origin()"),
        subscriber.sql("SELECT license_origin()")
    );
    // The license holds here, the publisher's lease does not.
    assert_eq!(
        subscriber.sql("SELECT seats, in_use, denied FROM license_usage"),
        "2|0|0"
    );
    subscriber.sql("SELECT license_lease('yan', '10.0.0.2')");
    // Several denials of one user would be one row.
    denied(&subscriber, "carl", 1).await;
    denied(&subscriber, "fay", 1).await;
    settled(&subscriber, "it is written", OWN, "1|2").await;
    let rows =
        "SELECT (SELECT count(*) FROM license_leases), (SELECT count(*) FROM license_counts)";
    assert_eq!(subscriber.sql(rows), "2|2");
    assert_eq!(publisher.sql(rows), "1|1");
    let told = format!("{EVENTS} IN ('bert', 'carl', 'fay') AND event = 'denial'");
    settled(&subscriber, "both are told", &told, "3").await;

    for (round, mode, users) in [
        (1, Stop::Immediate, ["dora", "gus", "judy"]),
        (2, Stop::Fast, ["hana", "ivan", "karl"]),
    ] {
        // Both write at once, whichever is down.
        subscriber.stop(mode);
        denied(&publisher, users[0], 1).await;
        subscriber.start_again();
        assert_eq!(subscriber.in_use(), 1, "its own lease");
        caught_up(&publisher, &subscriber);
        settled(
            &publisher,
            "it is written",
            OWN,
            &format!("1|{}", 2 * round),
        )
        .await;
        publisher.stop(mode);
        denied(&subscriber, users[2], 1).await;
        publisher.start_again();
        assert_eq!(publisher.in_use(), 1, "its own lease");
        denied(&publisher, users[1], 1).await;
        settled(
            &publisher,
            "it is written",
            OWN,
            &format!("1|{}", 2 * round + 1),
        )
        .await;
        let told = format!("{EVENTS} IN ('dora', 'gus', 'hana', 'ivan') AND event = 'denial'");
        settled(&publisher, "it is told", &told, &(2 * round).to_string()).await;
        settled(&subscriber, "it arrives", &told, &(2 * round).to_string()).await;
        settled(
            &subscriber,
            "its own counts go on",
            OWN,
            &format!("1|{}", round + 2),
        )
        .await;
    }

    // What is changed and deleted there is here, and the own remains.
    publisher.sql(
        "UPDATE licenses SET seats = 7;
         SELECT license_release(lease_id) FROM license_leases;
         DELETE FROM license_events WHERE usename = 'bert'",
    );
    caught_up(&publisher, &subscriber);
    settled(
        &subscriber,
        "the change is in force",
        "SELECT seats, in_use FROM license_usage",
        "7|1",
    )
    .await;
    assert_eq!(
        subscriber.sql("SELECT client_user FROM license_leases"),
        "yan"
    );
    assert_eq!(subscriber.sql(&format!("{EVENTS} = 'bert'")), "0");
    subscriber.sql("SELECT license_release(lease_id) FROM license_leases");
    assert_eq!(subscriber.in_use(), 0);
    // Whoever was deleted here first is no obstacle.
    subscriber.sql("DELETE FROM license_events; DELETE FROM license_counts");
    publisher.sql("DELETE FROM license_events; UPDATE license_counts SET denied = 0; DELETE FROM license_counts");
    caught_up(&publisher, &subscriber);
    denied(&subscriber, "emil", 7).await;
    settled(
        &subscriber,
        "it is told",
        &format!("{EVENTS} = 'emil' AND event = 'denial'"),
        "1",
    )
    .await;
    // No two rows have ever had the same number.
    denied(&publisher, "emil", 7).await;
    settled(
        &subscriber,
        "both are told",
        &format!("{EVENTS} = 'emil' AND event = 'denial'"),
        "2",
    )
    .await;
    assert_eq!(
        subscriber.sql("SELECT count(DISTINCT run) FROM license_events"),
        "2"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn publications_end_nothing() {
    let cluster = Cluster::builder()
        .conf("pg_seats.event_retention", "1d")
        .licensed("seats", "2");
    for (round, user, publication) in [
        (1, "bert", "CREATE PUBLICATION everything FOR ALL TABLES"),
        (
            2,
            "dora",
            "CREATE PUBLICATION company FOR TABLES IN SCHEMA public",
        ),
        // Whoever does that has deletes of old rows fail, and nothing else.
        (
            3,
            "emil",
            "ALTER TABLE license_events REPLICA IDENTITY NOTHING",
        ),
    ] {
        cluster.sql(publication);
        cluster.sql(
            "INSERT INTO license_events (at, event) VALUES (now() - interval '3 days', 'old');
             SELECT license_lease('zoe', '10.0.0.1', ttl => '1 ms');
             UPDATE licenses SET warn_at_percent = warn_at_percent - 1",
        );
        settled(
            &cluster,
            "the lease is gone",
            "SELECT count(*) FROM license_leases",
            "0",
        )
        .await;
        denied(&cluster, user, 2).await;
        let told = format!("{EVENTS} = '{user}' AND event = 'denial'");
        settled(&cluster, "it is told", &told, "1").await;
        settled(&cluster, "it is counted", OWN, &format!("0|{round}")).await;
        let old = "SELECT count(*) FROM license_events WHERE event = 'old'";
        if publication.starts_with("CREATE") {
            settled(&cluster, "old rows are deleted", old, "0").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_the_trail_that_a_restore_brings_go_on_where_they_ended() {
    let cluster = Cluster::with_seats(1);
    denied(&cluster, "bert", 1).await;
    let told = format!("{EVENTS} = 'bert' AND event = 'denial'");
    settled(&cluster, "it is told", &told, "1").await;
    cluster.sql("INSERT INTO license_exemptions VALUES ('role', 'carl')");
    let dumped_at = cluster.sql("SELECT now()");
    let file = cluster.socket_dir().join("dump").display().to_string();
    cluster.program("pg_dump", &["-Fc", "-f", &file]).ok();
    cluster.sql("CREATE DATABASE restored; CREATE DATABASE copy TEMPLATE postgres");
    cluster
        .program("pg_restore", &["--exit-on-error", "-d", "restored", &file])
        .ok();
    let keys = format!(
        "SELECT string_agg((run, number)::text, ' ' ORDER BY run, number) FROM license_events
                 WHERE event IN ('denial', 'exemption added') AND at < '{dumped_at}'"
    );
    let origin = |db: &str| cluster.sql_in(db, "SELECT license_origin()");
    assert_eq!(origin("copy"), origin("postgres"));
    assert_ne!(origin("restored"), origin("postgres"));
    for db in ["restored", "copy"] {
        assert_eq!(cluster.sql_in(db, &keys), cluster.sql(&keys), "{db}");
    }
    for db in ["restored", "copy", "postgres"] {
        let bert = cluster.login("bert").db(db).from("127.0.1.2");
        let _anna = cluster
            .login("anna")
            .db(db)
            .from("127.0.1.1")
            .open_ok()
            .await;
        bert.denied().await.assert("53300", "license_full");
    }
    // The last are told by the next start, whose numbers begin anew.
    cluster.restart(Stop::Fast);
    for db in ["restored", "copy", "postgres"] {
        let _anna = cluster
            .login("anna")
            .db(db)
            .from("127.0.1.1")
            .open_ok()
            .await;
        let bert = cluster.login("bert").db(db).from("127.0.1.2");
        bert.denied().await.assert("53300", "license_full");
        eventually("all is told", PATIENCE, async || {
            cluster.sql_in(db, &told) == "3"
        })
        .await;
    }
}
