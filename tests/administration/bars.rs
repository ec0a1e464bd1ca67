//! Bars: whoever an administrator keeps out stays out for that time, and nobody else does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::util::*;

/// A bar is kept whole: who is barred stays so after the rules were read again, and nobody else is.
#[tokio::test(flavor = "multi_thread")]
async fn a_bar_outlasts_crash_and_restart_until_its_row_is_deleted() {
    let office = Office::with_seats(9).await;
    let anna = office.anna().workstation("PC-1").open_ok().await;
    assert_eq!(office.stop_anna(", 'out', '1 hour'").await, 1);
    assert_eq!(warnings(&office.lena), [""; 0]);
    assert_eq!(
        office.bars().await,
        ["TOM|user_host|anna||127.0.1.1|lena|out|t"]
    );
    anna.ended().await;
    let cluster = &office.cluster;
    let anna = office.anna();
    let barred = async |when: &str| {
        let denied = anna.clone().workstation("PC-1").denied().await;
        denied.assert("28000", "license_barred");
        assert_eq!(denied.severity, "FATAL");
        let words = r#"an administrator has barred you from "TOM" until "#;
        assert!(denied.message.starts_with(words), "{when}: {denied:?}");
        // Whatever she calls her computer.
        anna.denied().await.assert("28000", "license_barred");
        let other = anna.clone().workstation("PC-2").denied().await;
        other.assert("28000", "license_barred");
        // Others are not.
        let elsewhere = cluster.login("anna").from("127.0.1.2");
        elsewhere.workstation("PC-1").open_ok().await;
        let bert = cluster.login("bert").from("127.0.1.1");
        bert.workstation("PC-1").open_ok().await;
    };
    barred("at once").await;
    cluster.sql("UPDATE licenses SET seats = 8");
    barred("after a change").await;
    for mode in [Stop::Fast, Stop::Immediate] {
        cluster.restart(mode);
        barred("after a restart").await;
    }
    let victim = cluster.login("bert").from("127.0.1.2").open_ok().await;
    cluster.crash_backend(victim.pid().await);
    barred("after a crash").await;
    cluster.sql("DELETE FROM license_bars");
    anna.clone().workstation("PC-1").open_ok().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bar_ends_by_itself() {
    let office = Office::with_seats(9).await;
    let anna = office.user("anna").await;
    let start = Instant::now();
    assert_eq!(office.stop_anna(", NULL, '2s'").await, 1);
    anna.ended().await;
    eventually("the bar is over", PATIENCE, async || {
        office.anna().open().await.is_ok()
    })
    .await;
    let waited = start.elapsed();
    assert!(waited > Duration::from_millis(1_500), "{waited:?}");
    assert!(waited < Duration::from_secs(5), "{waited:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_word_bars_whom_it_names() {
    for (counted_by, bar_by, others, row) in [
        // Anna elsewhere, Bert at Anna's computer.
        (
            "user_host",
            "user_host",
            [true, true],
            "user_host|anna||127.0.1.1",
        ),
        (
            "user",
            "user_host",
            [true, true],
            "user_host|anna||127.0.1.1",
        ),
        ("session", "user", [false, true], "user|anna||"),
        (
            "user_workstation",
            "host",
            [true, false],
            "host|||127.0.1.1",
        ),
    ] {
        let cluster =
            Cluster::builder().licensed("seats, counted_by", &format!("9, '{counted_by}'"));
        let office = Office::of(cluster).await;
        let _anna = office.anna().workstation("PC-1").open_ok().await;
        let more = format!(", NULL, '1h', '{bar_by}'");
        assert_eq!(office.stop_anna(&more).await, 1);
        for restarted in [false, true] {
            if restarted {
                office.cluster.restart(Stop::Immediate);
            }
            for workstation in ["PC-1", "PC-2"] {
                let denied = office.anna().workstation(workstation).denied().await;
                denied.assert("28000", "license_barred");
            }
            let elsewhere = office.at("anna", "127.0.1.2").open().await;
            let bert = office.at("bert", "127.0.1.1").open().await;
            assert_eq!([elsewhere.is_ok(), bert.is_ok()], others, "{bar_by}");
        }
        let rows = "SELECT bar_by, usesysid::regrole, client_user, client_host FROM license_bars";
        let rows = office.cluster.sql(rows);
        assert_eq!(rows, row);
    }
}

/// What everybody who works on the server comes from is not barred.
#[tokio::test(flavor = "multi_thread")]
async fn the_servers_own_computer_is_not_barred() {
    let office = Office::with_seats(9).await;
    let anna = office.cluster.login("anna").open_ok().await;
    let seat = office.annas_seat().await;
    let statement = format!("SELECT license_terminate('{seat}', 'x', '1h', 'host')");
    let refused = office.lena.fails(&statement).await;
    refused.assert("22023", "");
    assert_eq!(refused.message, "cannot bar the server's own computer");
    anna.run("SELECT 1").await;
    assert_eq!(office.stop(&seat, ", 'x', '1h', 'user'").await, 1);
    anna.ended().await.assert("57P01", "license_stopped");
    office.anna_is_barred().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exempt_sessions_are_not_barred() {
    let office = Office::with_seats(9).await;
    let _anna = office.user("anna").await;
    assert_eq!(office.stop_anna(", NULL, '1h'").await, 1);
    office.anna_is_barred().await;
    office
        .admin
        .run("INSERT INTO license_exemptions VALUES ('role', 'anna')")
        .await;
    office.user("anna").await;
    office.admin.run("DELETE FROM license_exemptions").await;
    // However softly seats are counted, an administrator has said no.
    office
        .admin
        .run("UPDATE licenses SET enforcement = 'warn'")
        .await;
    office.anna_is_barred().await;
    office.admin.run("TRUNCATE license_bars").await;
    office.user("anna").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn applications_are_told_who_is_barred() {
    let office = Office::with_checkouts(9).await;
    let long = "a name of more than forty-seven bytes, which is a long one";
    let app = office.user("anna").await;
    for user in ["zoe", long] {
        for at in ["127.0.1.1", "pc-7.example", "127.0.0.1"] {
            let take = format!("SELECT seat_id FROM license_lease('{user}', '{at}')");
            let seat = app.text(&take).await;
            assert_eq!(office.stop(&seat, ", 'out', '1h'").await, 1);
            for changed in [false, true] {
                if changed {
                    office
                        .admin
                        .run("UPDATE licenses SET seats = seats + 1")
                        .await;
                }
                let denied = app.fails(&take).await;
                denied.assert("53400", "license_barred");
            }
            let patient = format!("SELECT license_lease('{user}', '{at}', wait => '1min')");
            app.fails(&patient).await.assert("53400", "license_barred");
            if at == "127.0.1.1" {
                let checkout = format!("SELECT license_checkout(client_user => '{user}')");
                app.fails(&checkout).await.assert("53400", "license_barred");
                let quiet = format!("SELECT license_try_checkout(client_user => '{user}')");
                app.fails(&quiet).await.assert("53400", "license_barred");
            }
            // Nobody else is.
            for other in [
                "license_lease('yan', '127.0.1.1')".to_owned(),
                format!("license_lease('{user}', '10.9.9.9')"),
                format!("license_lease('{user}', 'pc-8.example')"),
                "license_checkout()".to_owned(),
            ] {
                app.run(&format!("BEGIN; SELECT {other}; ROLLBACK")).await;
                app.run("DISCARD ALL").await;
            }
            assert_eq!(
                office
                    .admin
                    .texts("SELECT client_user, reason FROM license_bars")
                    .await,
                [format!("{user}|out")]
            );
            office.admin.run("DELETE FROM license_bars").await;
        }
    }
}

/// Who waits in the queue and is barred meanwhile is told so at once.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_barred_waits_no_longer() {
    let cluster =
        Cluster::builder().licensed("seats, claimed_at, counted_by", "1, 'checkout', 'session'");
    let office = Office::of(cluster).await;
    let (holds, waits) = (office.user("anna").await, office.user("anna").await);
    let seat = holds.checkout().await;
    let waits = office.enqueue(waits).await;
    assert_eq!(office.stop(&seat, ", NULL, '1h'").await, 1);
    let (_session, denied) = waits.refused().await;
    denied.assert("53400", "license_barred");
    assert_eq!(office.in_use().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bar_that_cannot_be_written_at_once_is_written_soon() {
    let office = Office::with_seats(9).await;
    let _anna = office.user("anna").await;
    let locker = office.cluster.login("postgres").open_ok().await;
    locker
        .run("BEGIN; LOCK TABLE license_bars IN EXCLUSIVE MODE")
        .await;
    let stopping = office.begin_to_stop_anna(", NULL, '1h'").await;
    eventually("it could not be written", PATIENCE, async || {
        office
            .cluster
            .log()
            .contains("could not write license_bars")
    })
    .await;
    office.anna_is_barred().await;
    locker.run("COMMIT").await;
    let (lena, ended) = stopping.ended().await;
    assert_eq!((ended.as_str(), warnings(&lena)), ("1", vec![]));
    assert_eq!(office.bars().await.len(), 1);
}

/// A copy of the database has the rows, but whom its own administrators have not barred it lets in.
#[tokio::test(flavor = "multi_thread")]
async fn a_bar_is_none_in_a_copy_of_the_database() {
    let cluster = Cluster::with_seats(9);
    cluster.sql("CREATE DATABASE company");
    cluster.license("company", "seats", "9");
    let anna = cluster.login("anna").from("127.0.1.1");
    let session = anna.clone().db("company").open_ok().await;
    let stop = "SELECT license_terminate(seat_id, 'x', '1h') FROM license_active_seats";
    assert_eq!(cluster.sql_in("company", stop), "1");
    session.ended().await.assert("57P01", "license_stopped");
    cluster.sql("CREATE DATABASE copy TEMPLATE company");
    anna.clone().db("copy").open_ok().await;
    let rows = "SELECT count(*) FROM license_bars WHERE datid <> (
                    SELECT oid FROM pg_database WHERE datname = current_database())";
    assert_eq!(cluster.sql_in("copy", rows), "1");
    assert_eq!(cluster.sql_in("company", rows), "0");
    cluster.restart(Stop::Fast);
    anna.clone().db("copy").open_ok().await;
    let denied = anna.db("company").denied().await;
    denied.assert("28000", "license_barred");
}

/// The log says it once, and what is over is tried no longer.
#[tokio::test(flavor = "multi_thread")]
async fn a_bar_that_can_never_be_written_is_complained_of_once_and_ends_by_itself() {
    let office = Office::with_seats(9).await;
    let locker = office.cluster.login("postgres").open_ok().await;
    locker
        .run("BEGIN; LOCK TABLE license_bars IN EXCLUSIVE MODE")
        .await;
    for complaints in [1, 2] {
        let anna = office.anna().open_ok().await;
        let stopping = office.begin_to_stop_anna(", NULL, '4s'").await;
        anna.ended().await.assert("57P01", "license_stopped");
        office.anna_is_barred().await;
        // Nobody waits for it any more.
        let (lena, ended) = stopping.ended().await;
        assert_eq!((ended.as_str(), warnings(&lena)), ("1", vec![]));
        let log = office.cluster.log();
        let complaint = "could not write license_bars of database \"postgres\": canceling \
                         statement due to lock timeout; trying again every second";
        assert_eq!(log.matches(complaint).count(), complaints);
    }
    locker.run("COMMIT").await;
    assert_eq!(office.bars().await, [""; 0]);
}

/// Who is let in again is told of also where no session does it: a subscription, or a scheduled job.
#[tokio::test(flavor = "multi_thread")]
async fn a_bar_that_a_background_worker_lifts_is_in_the_trail() {
    let headquarters = Cluster::builder()
        .conf("wal_level", "logical")
        .licensed("seats", "9");
    headquarters.sql(
        "ALTER TABLE license_bars REPLICA IDENTITY FULL;
         CREATE PUBLICATION bars FOR TABLE license_bars",
    );
    let branch = Cluster::with_seats(9);
    branch.sql(&format!(
        "CREATE SUBSCRIPTION bars
            CONNECTION 'host={} port={} user=postgres dbname=postgres' PUBLICATION bars",
        headquarters.socket_dir().display(),
        headquarters.port()
    ));
    let bar =
        "INSERT INTO license_bars (origin, datid, bar_id, product, usesysid, client_host, barred_until)
               VALUES (license_origin(), 0, 1, 'TOM', 1, 'local', now() + '1 hour'::interval)";
    for (change, told) in [
        (bar, "bar added TOM postgres"),
        (
            "DELETE FROM license_bars",
            "bar added TOM postgres, bar removed TOM postgres",
        ),
    ] {
        headquarters.sql(change);
        let trail = "SELECT string_agg(event || ' ' || product || ' ' || usename, ', ' ORDER BY at)
                       FROM license_events WHERE event LIKE 'bar %'";
        eventually(told, PATIENCE, async || branch.sql(trail) == told).await;
    }
    branch.sql("DROP SUBSCRIPTION bars");
}

/// Bars that there is no room for are in the table, but bar nobody, of which whoever adds them is warned,
/// and the log tells.
#[tokio::test(flavor = "multi_thread")]
async fn of_more_bars_than_there_is_room_for_all_are_told() {
    let cluster = Cluster::builder()
        .conf("pg_seats.max_rules", 100)
        .licensed("seats", "9");
    let office = Office::of(cluster).await;
    let complaint =
        "pg_seats has no room for 21 rows of the license tables of database \"postgres\"";
    office
        .admin
        .run(
            "INSERT INTO license_bars (origin, datid, bar_id, product, usesysid, client_host, barred_until)
             SELECT license_origin(), d.oid, n, 'TOM', 1, '10.0.0.' || n, now() + '1 hour'::interval
               FROM generate_series(1, 120) n, pg_database d WHERE datname = current_database()",
        )
        .await;
    let warned = warnings(&office.admin);
    assert_eq!(warned.len(), 1, "{warned:?}");
    assert!(
        warned[0].starts_with("21 rows of the license tables"),
        "{warned:?}"
    );
    office.cluster.wait_log(complaint, PATIENCE);
    let anna = office.anna().open_ok().await;
    let seat = office.annas_seat().await;
    let refused = office
        .lena
        .fails(&format!("SELECT license_terminate('{seat}', NULL, '1h')"))
        .await;
    refused.assert("53400", "license_table_full");
    assert!(refused.hint.contains("pg_seats.max_rules"), "{refused:?}");
    anna.run("SELECT 1").await;
    office
        .admin
        .run("DELETE FROM license_bars WHERE bar_id > 90")
        .await;
    let again = "all rules of database \"postgres\" are in force again";
    office.cluster.wait_log(again, PATIENCE);
    assert_eq!(office.stop(&seat, ", NULL, '1h'").await, 1);
    office.anna_is_barred().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_standby_sessions_are_stopped_and_bars_do_not_last() {
    let primary = Cluster::with_seats(9);
    primary.sql("GRANT EXECUTE ON FUNCTION license_terminate TO lena");
    let standby = primary.standby();
    let lena = standby.login("lena").from("127.0.2.1").open_ok().await;
    let anna = standby.login("anna").from("127.0.1.1");
    let session = anna.open_ok().await;
    assert_eq!(stop(&lena, "anna", ", 'x', '1h'").await, 1);
    session.ended().await.assert("57P01", "license_stopped");
    anna.denied().await.assert("28000", "license_barred");
    let unstored = "the bar could not be written yet: it would not outlast a crash";
    assert_eq!(warnings(&lena), [unstored]);
    // Nobody is warned of others' bars.
    let lift = "SELECT license_lift_bar(bar_id) FROM license_bars_in_force";
    assert_eq!(standby.sql(lift), "t");
    anna.open_ok().await;
    let bert = standby.login("bert").from("127.0.1.2").open_ok().await;
    assert_eq!(stop(&lena, "bert", "").await, 1);
    assert_eq!(warnings(&lena).len(), 1);
    bert.ended().await.assert("57P01", "license_stopped");
    // The primary's bars hold here, too.
    let admin = primary.login("lena").from("127.0.2.1").open_ok().await;
    let _carl = primary.login("carl").from("127.0.1.3").open_ok().await;
    assert_eq!(stop(&admin, "carl", ", 'x', '1h'").await, 1);
    standby.catch_up(&primary);
    eventually("the bar arrives", PATIENCE, async || {
        match standby.login("carl").from("127.0.1.3").open().await {
            Err(denied) => denied.reason == "license_barred",
            Ok(_) => false,
        }
    })
    .await;
}

/// A client that comes back with each end is kept out by the bar, whenever it tries.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_barred_never_gets_in_again() {
    let office = Office::with_seats(9).await;
    let _anna = office.user("anna").await;
    let seat = office.annas_seat().await;
    let (anna, done) = (office.anna(), Arc::new(AtomicBool::new(false)));
    let hammers: Vec<_> = (0..4)
        .map(|_| {
            let (anna, done) = (anna.clone(), Arc::clone(&done));
            tokio::spawn(async move {
                let mut last = None;
                while !done.load(SeqCst) {
                    last = anna.open().await.ok();
                }
                last
            })
        })
        .collect();
    office.stop(&seat, ", 'x', '1h'").await;
    for _ in 0..30 {
        assert_eq!(office.annas_seats().await, 0);
        office.admin.run("UPDATE licenses SET seats = 9").await;
    }
    done.store(true, SeqCst);
    for hammer in hammers {
        assert!(hammer.await.unwrap().is_none());
    }
}
