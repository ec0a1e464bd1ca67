//! What is counted lasts: high water and denials survive whatever ends the server.

use std::time::Duration;

use tokio::time::timeout;

use crate::util::*;

/// High water, denials, and since when they are counted, as they are shown.
const SHOWN: &str = "SELECT high_water, denied, counted_since, high_water_at FROM license_usage
                      WHERE product = 'TOM'";

const KEPT: &str = "SELECT high_water, denied, counted_since, high_water_at FROM license_counts
                     WHERE product = 'TOM'";

/// Lets two in at once, and has three denied.
async fn busy(cluster: &Cluster) {
    let login = |user: &str, number: u32| cluster.login(user).from(&format!("127.0.1.{number}"));
    let _two = (
        login("anna", 1).open_ok().await,
        login("bert", 2).open_ok().await,
    );
    for _ in 0..3 {
        let denied = login("carl", 3).denied().await;
        denied.assert("53300", "license_full");
    }
}

/// Waits until what is shown is kept; that is what should be shown ever after.
async fn kept(cluster: &Cluster, begins: &str) -> String {
    let mut shown = String::new();
    eventually("the counts are kept", PATIENCE, async || {
        shown = cluster.sql(SHOWN);
        shown == cluster.sql(KEPT)
    })
    .await;
    assert!(shown.starts_with(begins), "{shown}");
    shown
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_survive_restarts_and_crashes() {
    let cluster = Cluster::with_seats(2);
    busy(&cluster).await;
    let shown = kept(&cluster, "2|3|").await;
    for mode in [Stop::Smart, Stop::Fast, Stop::Immediate] {
        cluster.restart(mode);
        assert_eq!(cluster.sql(SHOWN), shown, "{mode:?}");
        assert_eq!(kept(&cluster, "2|3|").await, shown);
    }
    let anna = cluster.login("anna").from("127.0.1.1").open_ok().await;
    cluster.crash_backend(anna.pid().await);
    assert_eq!(cluster.sql(SHOWN), shown);
    // They go on from there.
    busy(&cluster).await;
    let again = kept(&cluster, "2|6|").await;
    assert_eq!(again.replacen("|6|", "|3|", 1), shown);
    cluster.sql("UPDATE licenses SET seats = 3");
    let _three = race(3, |i| {
        cluster.login("dora").from(&format!("127.0.2.{}", i + 1))
    })
    .await;
    kept(&cluster, "3|6|").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_stay_with_their_product() {
    let cluster = Cluster::with_seats(2);
    busy(&cluster).await;
    let shown = kept(&cluster, "2|3|").await;
    cluster.sql("UPDATE licenses SET seats = 5, overdraft = 1");
    assert_eq!(cluster.sql(SHOWN), shown);
    cluster.sql("INSERT INTO licenses (product, seats, claimed_at) VALUES ('CRM', 1, 'checkout')");
    let crm = "SELECT high_water, denied, counted_since > '1 minute ago'::interval + now()
                 FROM license_usage WHERE product = 'CRM'";
    assert_eq!(cluster.sql(crm), "0|0|t");
    cluster.restart(Stop::Fast);
    assert_eq!(cluster.sql(SHOWN), shown);
    // Gone, and back.
    cluster.sql("DELETE FROM licenses WHERE product = 'TOM'");
    cluster.sql("INSERT INTO licenses (product, seats) VALUES ('TOM', 2)");
    assert_eq!(cluster.sql(SHOWN), shown);
    cluster.sql("DROP EXTENSION pg_seats; CREATE EXTENSION pg_seats; SELECT * FROM license_usage");
    cluster.sql("INSERT INTO licenses (product, seats) VALUES ('TOM', 2)");
    assert!(cluster.sql(SHOWN).starts_with("0|0|"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_standby_adds_its_own_to_the_primarys() {
    let primary = Cluster::with_seats(2);
    busy(&primary).await;
    let shown = kept(&primary, "2|3|").await;
    let standby = primary.standby();
    standby.catch_up(&primary);
    assert!(standby.sql(SHOWN).starts_with("0|0|"));
    busy(&standby).await;
    assert!(standby.sql(SHOWN).starts_with("2|3|"));
    primary.stop(Stop::Fast);
    standby.promote();
    let promoted = kept(&standby, "2|6|").await;
    let since = |text: &str| text.split('|').nth(2).unwrap().to_owned();
    assert_eq!(since(&promoted), since(&shown));
    standby.restart(Stop::Fast);
    assert_eq!(standby.sql(SHOWN), promoted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pools_high_water_lasts_in_each_of_its_databases() {
    let cluster = Cluster::builder().licensed("seats, pool", "2, 'firm'");
    cluster.sql("CREATE DATABASE second");
    cluster.license("second", "seats, pool", "2, 'firm'");
    busy(&cluster).await;
    kept(&cluster, "2|3|").await;
    cluster.restart(Stop::Fast);
    for (db, begins) in [("postgres", "2|3|"), ("second", "2|0|")] {
        eventually("it is known again", PATIENCE, async || {
            cluster.sql_in(db, SHOWN).starts_with(begins)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_database_counts_anew() {
    let cluster = Cluster::builder().licensed("seats", "9");
    cluster.sql("CREATE DATABASE company");
    cluster.license("company", "seats", "2");
    let denied = async |db: &str| {
        let login = |number: u32| {
            let host = format!("127.0.1.{number}");
            cluster.login("anna").db(db).from(&host)
        };
        let _two = (login(1).open_ok().await, login(2).open_ok().await);
        login(3).denied().await.assert("53300", "license_full");
    };
    let counts = |db: &str| cluster.sql_in(db, "SELECT high_water, denied FROM license_usage");
    // A copy has also what was counted of its template.
    let kept = async |db: &str, number: usize, counts: &str| {
        let kept = "SELECT high_water, denied FROM license_counts
                     WHERE datid = (SELECT oid FROM pg_database WHERE datname = current_database())";
        eventually("the counts are kept", PATIENCE, async || {
            cluster.sql_in(db, kept) == counts
        })
        .await;
        let rows = cluster.sql_in(db, "SELECT count(*) FROM license_counts");
        assert_eq!(rows, number.to_string());
    };
    denied("company").await;
    denied("company").await;
    kept("company", 1, "2|2").await;
    cluster.sql("CREATE DATABASE copy TEMPLATE company");
    assert_eq!(counts("copy"), "0|0");
    denied("copy").await;
    kept("copy", 2, "2|1").await;
    let since = "SELECT counted_since FROM license_usage";
    assert!(cluster.sql_in("copy", since) > cluster.sql_in("company", since));
    for mode in [Stop::Fast, Stop::Immediate] {
        cluster.restart(mode);
        assert_eq!((&*counts("company"), &*counts("copy")), ("2|2", "2|1"));
    }
    // Of a dump it is the same.
    let text = cluster.program("pg_dump", &["-d", "company"]).ok();
    cluster.restore("restored", &text);
    assert_eq!(counts("restored"), "0|0");
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_that_somebody_has_damaged_keep_nobody_out() {
    let cluster = Cluster::with_seats(1);
    cluster.sql(
        "ALTER TABLE license_counts DROP CONSTRAINT license_counts_pkey;
         INSERT INTO license_counts SELECT license_origin(), oid, product, most, at, denied, at
           FROM pg_database,
                (VALUES (repeat('x', 1000), -5, -9, '-infinity'::timestamptz),
                        ('TOM', -1, -1, 'infinity'), ('TOM', 7, 3, now()))
                AS damaged (product, most, denied, at)
          WHERE datname = 'postgres'",
    );
    for mode in [Stop::Fast, Stop::Immediate] {
        cluster.restart(mode);
        let _anna = cluster.login("anna").from("127.0.1.1").open_ok().await;
        let denied = cluster.login("bert").from("127.0.1.2").denied().await;
        denied.assert("53300", "license_full");
        cluster.sql("SELECT * FROM license_usage");
    }
    cluster.sql("ALTER TABLE license_counts ALTER COLUMN denied TYPE text USING 'many'");
    cluster.restart(Stop::Fast);
    let _anna = cluster.login("anna").from("127.0.1.1").open_ok().await;
    cluster.sql("SELECT * FROM license_usage");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_counted_a_moment_before_a_stop_lasts() {
    let cluster = Cluster::with_seats(2);
    for (round, mode) in (1..).zip([Stop::Fast, Stop::Smart, Stop::Fast]) {
        busy(&cluster).await;
        cluster.restart(mode);
        let begins = format!("2|{}|", round * 3);
        assert!(cluster.sql(SHOWN).starts_with(&begins), "{mode:?}");
    }
    // Once: neither a crash nor a new extension brings it back.
    let shown = kept(&cluster, "2|9|").await;
    cluster.stop(Stop::Immediate);
    assert!(!cluster.data_dir().join("pg_stat/pg_seats.json").exists());
    cluster.start_again();
    assert_eq!(cluster.sql(SHOWN), shown);
    cluster.sql("DROP EXTENSION pg_seats; CREATE EXTENSION pg_seats; SELECT * FROM license_usage");
    cluster.sql("INSERT INTO licenses (product, seats) VALUES ('TOM', 2)");
    assert!(cluster.sql(SHOWN).starts_with("0|0|"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_immediate_shutdown_waits_for_nobodys_lock() {
    let cluster = Cluster::builder().licensed("claimed_at, seats", "'checkout', 9");
    let admin = cluster.login("postgres").open_ok().await;
    let anna = cluster.login("anna").open_ok().await;
    let pid = anna.pid().await;
    let busy = tokio::spawn(async move {
        let load = "DO $$BEGIN LOOP PERFORM license_checkout(); PERFORM license_checkin(); END LOOP; END$$";
        anna.fails(load).await
    });
    eventually(
        "she stands still with the lock that everybody needs",
        PATIENCE,
        async || {
            cluster.signal(pid, Signal::SIGSTOP);
            let look = admin.texts("SELECT * FROM license_usage");
            let has_lock = timeout(Duration::from_secs(2), look).await.is_err();
            if !has_lock {
                cluster.signal(pid, Signal::SIGCONT);
            }
            has_lock
        },
    )
    .await;
    cluster.stop(Stop::Immediate);
    assert!(!cluster.log().contains("PANIC"));
    busy.await.unwrap();
    cluster.start_again();
    cluster.sql(SHOWN);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stop_has_left_outlasts_a_second_one_before_it_is_read() {
    let cluster = Cluster::builder()
        .conf("max_prepared_transactions", "5")
        .licensed("seats", "2");
    cluster
        .sql("SELECT * FROM license_usage; BEGIN; LOCK license_counts; PREPARE TRANSACTION 'lock'");
    busy(&cluster).await;
    for _ in 0..2 {
        cluster.restart(Stop::Fast);
        assert!(cluster.sql(SHOWN).starts_with("0|0|"));
    }
    cluster.sql("COMMIT PREPARED 'lock'");
    let _anna = cluster.login("anna").from("127.0.1.1").open_ok().await;
    kept(&cluster, "2|3|").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_that_have_not_changed_are_not_written() {
    let cluster = Cluster::with_seats(2);
    busy(&cluster).await;
    kept(&cluster, "2|3|").await;
    let row = "SELECT xmin, xmax, ctid FROM license_counts";
    let before = cluster.sql(row);
    // When the second is in the trail, the database worker who wrote the first has ended.
    for user in ["dora", "emil"] {
        let _seat = cluster.login(user).from("127.0.1.1").open_ok().await;
        let login = format!("SELECT count(*) FROM license_events WHERE usename = '{user}'");
        eventually("it is in the trail", PATIENCE, async || {
            cluster.sql(&login) != "0"
        })
        .await;
    }
    assert_eq!(cluster.sql(row), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_are_written_to_a_table_that_is_new() {
    let cluster = Cluster::with_seats(2);
    let licenses = cluster.sql("SELECT product, seats FROM licenses");
    busy(&cluster).await;
    kept(&cluster, "2|3|").await;
    cluster.sql(
        "BEGIN; DROP EXTENSION pg_seats; CREATE EXTENSION pg_seats;
                 INSERT INTO licenses (product, seats) VALUES ('TOM', 2); COMMIT",
    );
    assert_eq!(cluster.sql("SELECT product, seats FROM licenses"), licenses);
    let _anna = cluster.login("anna").from("127.0.1.1").open_ok().await;
    kept(&cluster, "").await;
    assert_eq!(cluster.sql("SELECT count(*) FROM license_counts"), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_last_though_the_trail_can_not_be_written() {
    let cluster = Cluster::with_seats(2);
    cluster.sql("ALTER EXTENSION pg_seats DROP TABLE license_events; DROP TABLE license_events");
    busy(&cluster).await;
    kept(&cluster, "2|3|").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stop_has_left_can_be_damaged() {
    let cluster = Cluster::with_seats(2);
    busy(&cluster).await;
    kept(&cluster, "2|3|").await;
    for text in ["", "[", "[[1]]", "{}", "null", "\u{0}"] {
        cluster.stop(Stop::Fast);
        cluster.write("pg_stat/pg_seats.json", text);
        cluster.start_again();
        assert!(cluster.sql(SHOWN).starts_with("2|3|"), "{text}");
    }
}

/// What a server has left that then followed another one is older than what that one has counted.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_switchover_and_back_the_counts_are_the_last_ones() {
    let first = Cluster::with_seats(2);
    let second = first.standby();
    busy(&first).await;
    kept(&first, "2|3|").await;
    first.stop(Stop::Fast);
    second.promote();
    busy(&second).await;
    let last = kept(&second, "2|6|").await;
    // The first comes back as a standby, is restarted as one, and takes over again.
    first.append_conf(&format!(
        "primary_conninfo = 'host={} port={} user=postgres'\n",
        second.socket_dir().display(),
        second.port()
    ));
    std::fs::write(first.data_dir().join("standby.signal"), "").unwrap();
    first.start_again();
    first.catch_up(&second);
    first.restart(Stop::Fast);
    first.catch_up(&second);
    second.stop(Stop::Fast);
    first.promote();
    assert_eq!(first.sql(SHOWN), last);
    assert_eq!(kept(&first, "2|6|").await, last);
}
