//! Leases and transactions: what rolls back was never taken or released.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use crate::util::*;

const ZOE: &str = "SELECT license_lease('zoe', '10.0.0.1')";
const YAN: &str = "SELECT license_lease('yan', '10.0.0.1')";

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_counts_at_once_and_is_gone_with_its_transaction() {
    let cluster = with_leases(Cluster::builder(), 1);
    let (anna, bert) = (app(&cluster, "anna").await, app(&cluster, "bert").await);
    for undo in ["ROLLBACK", "ROLLBACK AND CHAIN; ROLLBACK", "ABORT"] {
        anna.run(&format!("BEGIN; {ZOE}")).await;
        assert_eq!(left(&cluster), "1|1|0", "before {undo}");
        bert.fails(YAN).await.assert("53400", "license_full");
        anna.run(undo).await;
        assert_eq!(left(&cluster), "0|0|0", "after {undo}");
        bert.run(&format!("BEGIN; {YAN}; ROLLBACK")).await;
    }
    anna.run(&format!("BEGIN; {ZOE}; COMMIT AND CHAIN; ROLLBACK"))
        .await;
    assert_eq!(left(&cluster), "1|1|1");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_frees_the_seat_before_the_client_says_rollback() {
    let cluster = with_leases(Cluster::builder(), 1);
    let app = app(&cluster, "anna").await;
    app.run(&format!("BEGIN; {ZOE}")).await;
    app.fails("SELECT 1/0").await.assert("22012", "");
    settles(&cluster, "the lease is gone", "0|0|0").await;
    app.run("ROLLBACK").await;
    // Also within the statement that takes it.
    for statement in [
        "SELECT lease_id, 1 / (seats_in_use - 1) FROM license_lease('zoe', '10.0.0.1')",
        "SELECT license_lease('zoe', '10.0.0.1'), license_lease('yan', '10.0.0.1')",
        "SELECT license_lease('zoe', '10.0.0.1'); SELECT 1/0",
    ] {
        app.try_texts(statement).await.unwrap_err();
        settles(&cluster, statement, "0|0|0").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_of_a_lease_runs_out_while_its_transaction_goes_on() {
    let cluster = with_leases(Cluster::builder(), 1);
    let (anna, bert) = (app(&cluster, "anna").await, app(&cluster, "bert").await);
    for (end, row) in [("COMMIT", true), ("ROLLBACK", false), ("COMMIT", true)] {
        anna.run("BEGIN; CREATE TEMP TABLE work ()").await;
        let id = lease_for(&anna, "zoe", "300 ms").await;
        assert!(beats(&anna, &id).await);
        eventually("the seat is free", PATIENCE, async || {
            left(&cluster) == "0|0|0"
        })
        .await;
        assert!(!beats(&anna, &id).await);
        assert_eq!(anna.text("SELECT license_held('TOM')").await, "f");
        let yan = lease(&bert, "yan").await;
        let warned = anna.notices().len();
        anna.run(end).await;
        let notices = anna.notices().split_off(warned);
        if row {
            let words = "a lease has ended before the transaction that took it committed";
            assert_eq!(notices.len(), 1, "{notices:?}");
            assert_eq!(notices[0].message, words);
            // What else the transaction did is kept.
            anna.run("DROP TABLE work").await;
        } else {
            assert_eq!(notices, []);
        }
        settles(&cluster, "its row is gone", "1|1|1").await;
        assert!(!beats(&anna, &id).await);
        assert!(release(&bert, &yan).await);
    }
    // Nothing of it counts after a start.
    cluster.restart(Stop::Immediate);
    settles(&cluster, "no lease is left", "0|0|0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_gone_with_its_savepoint() {
    let cluster = with_leases(Cluster::builder(), 9);
    let app = app(&cluster, "anna").await;
    for (statements, expected) in [
        ("BEGIN; SAVEPOINT a; {zoe}; ROLLBACK TO a; COMMIT", "0|0|0"),
        (
            "BEGIN; {yan}; SAVEPOINT a; {zoe}; ROLLBACK TO a; COMMIT",
            "1|1|1",
        ),
        ("BEGIN; SAVEPOINT a; {zoe}; RELEASE a; COMMIT", "1|1|1"),
        ("BEGIN; SAVEPOINT a; {zoe}; RELEASE a; ROLLBACK", "0|0|0"),
        (
            "BEGIN; SAVEPOINT a; SAVEPOINT b; {zoe}; RELEASE b; ROLLBACK TO a; {yan}; COMMIT",
            "1|1|1",
        ),
        (
            "BEGIN; SAVEPOINT a; {zoe}; SAVEPOINT b; {yan}; ROLLBACK TO b; RELEASE a; COMMIT",
            "1|1|1",
        ),
        (
            "BEGIN; SAVEPOINT a; {zoe}; ROLLBACK TO a; {zoe}; ROLLBACK TO a; {zoe}; COMMIT",
            "1|1|1",
        ),
        (
            "DO $$BEGIN
                PERFORM license_lease('zoe', '10.0.0.1');
                BEGIN
                    PERFORM license_lease('yan', '10.0.0.1');
                    PERFORM 1/0;
                EXCEPTION WHEN division_by_zero THEN NULL;
                END;
             END$$",
            "1|1|1",
        ),
    ] {
        let sql = statements.replace("{zoe}", ZOE).replace("{yan}", YAN);
        app.run(&sql).await;
        assert_eq!(left(&cluster), expected, "{statements}");
        cluster.sql("SELECT count(license_release(lease_id)) FROM license_leases");
        assert_eq!(left(&cluster), "0|0|0", "{statements}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rolling_back_to_a_savepoint_frees_the_seat_at_once() {
    let cluster = with_leases(Cluster::builder(), 1);
    let (anna, bert) = (app(&cluster, "anna").await, app(&cluster, "bert").await);
    anna.run(&format!("BEGIN; SAVEPOINT a; {ZOE}")).await;
    let waiter = tokio::spawn(async move {
        bert.run("SELECT license_lease('yan', '10.0.0.1', wait => '1 minute')")
            .await;
    });
    let waiting = "SELECT waiting FROM license_usage";
    eventually("bert waits", PATIENCE, async || cluster.sql(waiting) == "1").await;
    anna.run("ROLLBACK TO a").await;
    waiter.await.unwrap();
    anna.fails(ZOE).await.assert("53400", "license_full");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_takes_effect_at_commit() {
    let cluster = with_leases(Cluster::builder(), 1);
    let (anna, bert) = (app(&cluster, "anna").await, app(&cluster, "bert").await);
    let id = lease(&anna, "zoe").await;
    let ends = format!("SELECT license_release('{id}')");
    for (undo, again) in [
        ("ROLLBACK", true),
        ("ROLLBACK TO a; COMMIT", true),
        ("RELEASE a; ROLLBACK", true),
        ("RELEASE a; COMMIT", false),
    ] {
        anna.run("BEGIN; SAVEPOINT a").await;
        assert_eq!(anna.text(&ends).await, "t");
        assert_eq!(anna.text(&ends).await, "f", "a second time");
        assert!(!beats(&anna, &id).await, "after its release");
        assert!(beats(&bert_as_anna(&cluster).await, &id).await, "elsewhere");
        bert.fails(YAN).await.assert("53400", "license_full");
        anna.run(undo).await;
        let expected = if again { "1|1|1" } else { "0|0|0" };
        assert_eq!(left(&cluster), expected, "{undo}");
        assert_eq!(beats(&anna, &id).await, again, "{undo}");
    }
    bert.run(YAN).await;
}

/// Opens another session that may see anna's leases.
async fn bert_as_anna(cluster: &Cluster) -> Session {
    cluster.login("anna").from("127.0.1.2").open_ok().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_taken_and_released_in_one_transaction_leaves_nothing() {
    let cluster = with_leases(Cluster::builder(), 1);
    let app = app(&cluster, "anna").await;
    for (before, undo, kept) in [
        ("", "COMMIT", false),
        ("", "ROLLBACK", false),
        ("SAVEPOINT a", "ROLLBACK TO a; COMMIT", true),
        ("SAVEPOINT a", "RELEASE a; COMMIT", false),
        ("SAVEPOINT a", "ROLLBACK TO a; ROLLBACK", false),
    ] {
        app.run("BEGIN").await;
        let id = lease(&app, "zoe").await;
        app.run(before).await;
        assert!(release(&app, &id).await);
        assert!(!beats(&app, &id).await);
        app.run(undo).await;
        assert_eq!(
            left(&cluster),
            if kept { "1|1|1" } else { "0|0|0" },
            "{undo}"
        );
        assert_eq!(beats(&app, &id).await, kept);
        if kept {
            assert!(release(&app, &id).await);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_who_release_one_lease_one_does() {
    let cluster = with_leases(Cluster::builder(), 1);
    let first = app(&cluster, "anna").await;
    for (end, second_did) in [("ROLLBACK", true), ("COMMIT", false)] {
        let id = lease(&first, "zoe").await;
        first.run("BEGIN").await;
        assert!(release(&first, &id).await);
        let second = cluster.login("anna").from("127.0.1.2").open_ok().await;
        let pid = second.pid().await;
        let released = tokio::spawn(async move { release(&second, &id).await });
        let waits = format!("SELECT wait_event_type FROM pg_stat_activity WHERE pid = {pid}");
        eventually("the second waits", PATIENCE, async || {
            cluster.sql(&waits) == "Lock"
        })
        .await;
        assert_eq!(left(&cluster), "1|1|1");
        first.run(end).await;
        assert_eq!(released.await.unwrap(), second_did, "{end}");
        assert_eq!(left(&cluster), "0|0|0");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_uncommitted_lease_beats_for_its_own_session_alone() {
    let cluster = with_leases(Cluster::builder(), 9);
    let (own, other) = (app(&cluster, "anna").await, app(&cluster, "anna").await);
    own.run("BEGIN").await;
    let id = lease(&own, "zoe").await;
    assert!(beats(&own, &id).await);
    assert!(!beats(&other, &id).await);
    assert!(!release(&other, &id).await);
    own.run("COMMIT").await;
    assert!(beats(&other, &id).await);
    assert!(release(&other, &id).await);
}

/// However long its transaction takes: nobody else could know it before.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_changed_leases_cannot_be_prepared() {
    let builder = Cluster::builder().conf("max_prepared_transactions", 5);
    let cluster = with_leases(builder, 9);
    let app = app(&cluster, "anna").await;
    let id = lease(&app, "zoe").await;
    for change in [
        YAN.to_owned(),
        format!("SELECT license_release('{id}')"),
        format!("SAVEPOINT a; {YAN}; RELEASE a"),
    ] {
        app.run(&format!("BEGIN; {change}")).await;
        let error = app.fails("PREPARE TRANSACTION 'leases'").await;
        error.assert("0A000", "");
        assert!(!error.hint.is_empty());
        assert_eq!(left(&cluster), "1|1|1", "{change}");
        assert_eq!(cluster.sql("SELECT count(*) FROM pg_prepared_xacts"), "0");
    }
    for harmless in [
        format!("SELECT license_heartbeat('{id}')"),
        format!("SAVEPOINT a; {YAN}; ROLLBACK TO a"),
        "SELECT license_release(gen_random_uuid())".to_owned(),
    ] {
        app.run(&format!("BEGIN; {harmless}; PREPARE TRANSACTION 'x'"))
            .await;
        app.run("COMMIT PREPARED 'x'").await;
        assert_eq!(left(&cluster), "1|1|1", "{harmless}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_lent_to_one_transaction_however_it_ends() {
    let builder = Cluster::builder().conf("max_prepared_transactions", 5);
    let cluster = with_leases(builder, 9);
    let app = app(&cluster, "anna").await;
    let id = lease(&app, "zoe").await;
    let held = "SELECT license_held('TOM')";
    for end in ["COMMIT", "ROLLBACK", "PREPARE TRANSACTION 'x'"] {
        assert_eq!(app.text(held).await, "f", "before {end}");
        app.run("BEGIN").await;
        assert!(beats(&app, &id).await);
        assert_eq!(app.text(held).await, "t");
        app.run(end).await;
        assert_eq!(app.text(held).await, "f", "after {end}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn read_only_transactions_take_and_release_nothing_but_may_beat() {
    let cluster = with_leases(Cluster::builder(), 9);
    let app = app(&cluster, "anna").await;
    let id = lease(&app, "zoe").await;
    for statement in [YAN.to_owned(), format!("SELECT license_release('{id}')")] {
        let read_only = format!("BEGIN READ ONLY; {statement}");
        app.fails(&read_only).await.assert("25006", "");
        app.run("ROLLBACK").await;
        assert_eq!(left(&cluster), "1|1|1");
    }
    app.run("BEGIN READ ONLY").await;
    assert!(beats(&app, &id).await);
    app.run("COMMIT").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_session_takes_its_uncommitted_lease_along() {
    let cluster = with_leases(Cluster::builder(), 9);
    let first = app(&cluster, "anna").await;
    lease(&first, "yan").await;
    first.run(&format!("BEGIN; {ZOE}")).await;
    assert_eq!(left(&cluster), "2|2|1");
    cluster.sql(&format!(
        "SELECT pg_terminate_backend({})",
        first.pid().await
    ));
    settles(&cluster, "the uncommitted one is gone", "1|1|1").await;
    let second = app(&cluster, "anna").await;
    second.run(&format!("BEGIN; {ZOE}")).await;
    second.abort().await;
    settles(&cluster, "the uncommitted one is gone", "1|1|1").await;
}

/// Forty sessions at random for ten seats: never more than ten, and nothing is left.
#[tokio::test(flavor = "multi_thread")]
async fn at_random_there_are_never_more_seats_in_use_than_licensed() {
    const SESSIONS: u64 = 40;
    const STEPS: u64 = 60;
    let cluster = Arc::new(with_leases(Cluster::builder(), 10));
    let over = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicU64::new(0));
    let granted = Arc::new(AtomicU64::new(0));
    let players: Vec<_> = (0..SESSIONS)
        .map(|number| {
            let (cluster, over) = (Arc::clone(&cluster), Arc::clone(&over));
            let (done, granted) = (Arc::clone(&done), Arc::clone(&granted));
            tokio::spawn(async move {
                let mut dice = number * 7_919 + 1;
                let mut roll = move |sides: u64| {
                    dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (dice >> 33) % sides
                };
                let login = cluster.login("anna").from("127.0.1.1");
                let mut session = login.open_ok().await;
                for _ in 0..STEPS {
                    let user = roll(20);
                    let wait = ["0", "5 ms", "50 ms"][roll(3) as usize];
                    let take = format!(
                        "SELECT lease_id, seats_in_use > 10 FROM license_lease('user{user}',
                            '10.0.0.1', ttl => '1 minute', wait => '{wait}')"
                    );
                    let (before, after) = match roll(6) {
                        0 => ("BEGIN", "ROLLBACK"),
                        1 => ("BEGIN; SAVEPOINT a", "ROLLBACK TO a; COMMIT"),
                        2 => ("BEGIN; SAVEPOINT a", "RELEASE a; COMMIT"),
                        _ => ("BEGIN", "COMMIT"),
                    };
                    session.run(before).await;
                    match session.try_texts(&take).await {
                        Ok(row) => {
                            granted.fetch_add(1, Relaxed);
                            over.fetch_or(row[0].ends_with("|t"), Relaxed);
                            if roll(10) == 0 {
                                session.abort().await;
                                session = login.open_ok().await;
                                continue;
                            }
                            session.run(after).await;
                            let id = row[0].split('|').next().unwrap();
                            let kept = !after.starts_with("ROLLBACK");
                            assert_eq!(release(&session, id).await, kept, "{after}");
                        }
                        Err(denied) => {
                            denied.assert("53400", "license_full");
                            session.run("ROLLBACK").await;
                        }
                    }
                }
                done.fetch_add(1, Relaxed);
            })
        })
        .collect();
    let watcher = cluster.login("postgres").open_ok().await;
    let in_use = "SELECT in_use, (SELECT count(*) FROM license_active_seats) FROM license_usage";
    eventually("all have played", 6 * PATIENCE, async || {
        let counts = watcher.text(in_use).await;
        let over = counts
            .split('|')
            .any(|count| count.parse::<u32>().unwrap() > 10);
        assert!(!over, "{counts}");
        players.iter().all(|player| player.is_finished())
    })
    .await;
    for player in players {
        player.await.unwrap();
    }
    assert!(!over.load(Relaxed));
    assert!(
        granted.load(Relaxed) > SESSIONS,
        "there was something to race for"
    );
    settles(&cluster, "everybody has left", "0|0|0").await;
    assert_eq!(cluster.sql("SELECT high_water FROM license_usage"), "10");
}

/// A transaction that sees the tables as they were releases what came since.
#[tokio::test(flavor = "multi_thread")]
async fn leases_that_came_after_a_snapshot_are_released_all_the_same() {
    let cluster = with_leases(Cluster::builder(), 9);
    let (own, other) = (app(&cluster, "anna").await, app(&cluster, "anna").await);
    for isolation in ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"] {
        own.run(&format!(
            "BEGIN ISOLATION LEVEL {isolation}; SELECT count(*) FROM pg_class"
        ))
        .await;
        let id = lease(&other, "zoe").await;
        assert!(beats(&own, &id).await, "{isolation}");
        assert!(release(&own, &id).await, "{isolation}");
        assert!(!release(&own, &id).await, "{isolation}");
        let id = lease(&own, "yan").await;
        assert!(release(&own, &id).await, "{isolation}");
        own.run("COMMIT").await;
        assert_eq!(left(&cluster), "0|0|0", "{isolation}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_whose_row_cannot_be_written_is_none() {
    let cluster = with_leases(Cluster::builder(), 9);
    let (anna, admin) = (
        app(&cluster, "anna").await,
        cluster.login("postgres").open_ok().await,
    );
    admin.run("BEGIN; LOCK TABLE license_leases").await;
    anna.run("SET statement_timeout = 100").await;
    anna.fails(ZOE).await.assert("57014", "");
    admin.run("COMMIT").await;
    anna.run("RESET statement_timeout").await;
    settles(&cluster, "nothing is left", "0|0|0").await;
    cluster.sql("ALTER TABLE license_leases ADD COLUMN note text");
    anna.fails(ZOE).await.assert("XX001", "");
    anna.fails(&format!("BEGIN; {ZOE}")).await;
    settles(&cluster, "nothing is left", "0|0|0").await;
    anna.run("ROLLBACK").await;
    cluster.sql("ALTER TABLE license_leases ALTER COLUMN ttl TYPE text");
    anna.fails(ZOE).await;
    cluster.sql(
        "DROP EXTENSION pg_seats;
         CREATE EXTENSION pg_seats;
         GRANT EXECUTE ON FUNCTION license_lease, license_heartbeat, license_release TO anna;
         INSERT INTO licenses (product, seats, claimed_at) VALUES ('TOM', 9, 'checkout')",
    );
    lease(&anna, "yan").await;
    assert_eq!(left(&cluster), "1|1|1");
}

/// Heartbeats, releases and rollbacks at the moment when the time is up.
#[tokio::test(flavor = "multi_thread")]
async fn leases_that_end_in_the_midst_of_everything_leave_nothing() {
    const SESSIONS: u64 = 16;
    let cluster = Arc::new(with_leases(Cluster::builder(), 6));
    let players: Vec<_> = (0..SESSIONS)
        .map(|number| {
            let cluster = Arc::clone(&cluster);
            tokio::spawn(async move {
                let session = app(&cluster, "anna").await;
                for step in 0..80 {
                    let ttl = (number * 7 + step * 5) % 40 + 1;
                    let take = format!(
                        "SELECT lease_id FROM license_lease('user{number}', '10.0.0.1',
                            ttl => '{ttl} ms', wait => '20 ms')"
                    );
                    let Ok(row) = session.try_texts(&take).await else {
                        continue;
                    };
                    let id = &row[0];
                    beats(&session, id).await;
                    session.run("BEGIN").await;
                    release(&session, id).await;
                    session
                        .run(&format!("SELECT pg_sleep({})", (step % 5) as f32 / 100.0))
                        .await;
                    let end = ["COMMIT", "ROLLBACK"][(step % 2) as usize];
                    session.run(end).await;
                    beats(&session, id).await;
                }
            })
        })
        .collect();
    for player in players {
        player.await.unwrap();
    }
    settles(&cluster, "nothing is left", "0|0|0").await;
    let high_water = cluster.sql("SELECT high_water <= 6 FROM license_usage");
    assert_eq!(high_water, "t");
    let workers =
        "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_seats database worker'";
    eventually("the last database worker has left", PATIENCE, async || {
        cluster.sql(workers) == "0"
    })
    .await;
}
