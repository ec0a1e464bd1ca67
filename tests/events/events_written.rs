//! How the audit trail is written: each event once or counted as lost, whatever is in the way, and nobody
//! waits for it.

use std::time::{Duration, Instant};

use crate::util::*;

/// Every event of `events` is in the trail or counted as lost.
const EVERY: &str = "SELECT coalesce(sum(coalesce((detail ->> 'count')::bigint, 1))
                           FILTER (WHERE event IN ('checkout', 'release')), 0)
           + coalesce(sum((detail ->> 'events')::bigint) FILTER (WHERE event = 'events lost'), 0)
      FROM license_events";

/// Checks out and in so often, each time under another name.
fn pairs(from: u32, to: u32) -> String {
    format!(
        "DO $$BEGIN FOR i IN {from} .. {to} LOOP
             PERFORM license_checkout(client_user => 'u' || i);
             PERFORM license_checkin(client_user => 'u' || i);
         END LOOP; END$$"
    )
}

const NEVER_TWICE: &str = "SELECT count(*) FROM (SELECT 1 FROM license_events
      WHERE event IN ('checkout', 'release') AND detail -> 'count' IS NULL
      GROUP BY event, client_user, usename HAVING count(*) > 1) twice";

/// Run with `--nocapture` it tells how long that takes, and how many are lost.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_hundred_thousand_events_each_is_written_or_counted() {
    let trail = Trail::of("claimed_at, seats", "'checkout', 1000").await;
    let start = Instant::now();
    let workers: Vec<_> = STAFF[..4]
        .iter()
        .map(|user| {
            let login = trail.login(user);
            tokio::spawn(async move { login.open_ok().await.run(&pairs(1, 12_500)).await })
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
    trail.shows(EVERY, "100000").await;
    assert_eq!(trail.admin.text(NEVER_TWICE).await, "0");
    let lost = "SELECT sum((detail ->> 'events')::bigint) FROM license_events";
    let lost: i64 = trail.admin.text(lost).await.parse().unwrap_or(0);
    println!("{:?}, lost: {lost}", start.elapsed());
    assert_eq!(lost, 0);
    // Ten a second and those after them in one row, of each session.
    let seconds = start.elapsed().as_secs() as i64 + 2;
    let rows = "SELECT count(*) FROM license_events WHERE event IN ('checkout', 'release')";
    let rows: i64 = trail.admin.val(rows).await;
    assert!(rows <= 4 * 12 * seconds, "{rows} rows in {seconds} seconds");
    // And it stays so.
    trail.user("anna").await.run(&pairs(20_000, 20_000)).await;
    trail.shows(EVERY, "100002").await;
}

/// Checks out and in so often, of so many products that each second has many rows of each.
fn pairs_of(products: u32, times: u32) -> String {
    format!(
        "DO $$BEGIN FOR i IN 1 .. {times} LOOP
             PERFORM license_checkout('p' || i % {products});
             PERFORM license_checkin('p' || i % {products});
         END LOOP; END$$"
    )
}

/// Runs one database's loop of so many pairs, beside which others are denied in another database.
async fn one_loops_while_others_are_denied(times: u32, denied: u32) {
    let trail = Trail::of("claimed_at, seats", "'checkout', 0").await;
    trail
        .admin
        .run(
            "INSERT INTO licenses (product, claimed_at, warn_at_percent)
             SELECT 'p' || n, 'checkout', 100 FROM generate_series(0, 29) n",
        )
        .await;
    trail
        .admin
        .run("CREATE DATABASE other TEMPLATE template0")
        .await;
    trail
        .cluster
        .license("other", "claimed_at, seats", "'checkout', 0");
    let loops = tokio::spawn({
        let login = trail.login("anna");
        async move { login.open_ok().await.run(&pairs_of(30, times)).await }
    });
    let bert = trail.login("bert").db("other").open_ok().await;
    let mut denials = 0;
    let mut last = false;
    while !last {
        // Once more after it.
        last = loops.is_finished() || denials >= denied;
        for _ in 0..10 {
            denials += 1;
            let tried = format!("SELECT * FROM license_try_checkout(client_user => 'u{denials}')");
            assert!(bert.texts(&tried).await.is_empty());
        }
    }
    let other = trail.cluster.login("postgres").db("other").open_ok().await;
    let told = "SELECT count(*) FILTER (WHERE event = 'denial'),
                       count(*) FILTER (WHERE event = 'events lost') FROM license_events";
    let all = format!("{denials}|0");
    shown_in_the_end(told, &[&all], async || other.texts(told).await).await;
    loops.await.unwrap();
    let every = (2 * times).to_string();
    trail.shows(EVERY, &every).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_loop_of_one_database_keeps_denials_out_of_the_trail_of_another() {
    one_loops_while_others_are_denied(10_000, 300).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "heavy: make test-heavy"]
async fn no_long_loop_of_one_database_keeps_denials_out_of_the_trail_of_another() {
    one_loops_while_others_are_denied(200_000, 20_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_denied_again_and_again_has_one_row_a_minute() {
    let trail = Trail::of("seats", "0").await;
    let again = async |from: u32, to: u32| {
        for i in from..=to {
            let host = format!("127.0.3.{i}");
            trail.cluster.login("anna").from(&host).denied().await;
        }
    };
    again(1, 20).await;
    let told =
        "SELECT count(*), max(detail ->> 'count') FROM license_events WHERE event = 'denial'";
    trail.shows("SELECT denied FROM license_usage", "20").await;
    trail.shows(told, "1|").await;
    // What is gathered outlasts an orderly stop.
    let Desk { admin, cluster } = trail.desk;
    drop(admin);
    cluster.restart(Stop::Fast);
    cluster.sql("SELECT 1");
    let rows = "SELECT detail ->> 'count', client_host, (detail ->> 'since')::timestamptz <= at
                  FROM license_events WHERE event = 'denial' ORDER BY at";
    shown_in_the_end(rows, &["|127.0.3.1|", "19|127.0.3.20|t"], async || {
        cluster.sql(rows).lines().map(str::to_owned).collect()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "heavy: make test-heavy"]
async fn the_denials_of_a_minute_are_told_when_it_is_over() {
    let trail = Trail::of("seats", "0").await;
    for _ in 0..5 {
        trail.login("anna").denied().await;
    }
    let told = "SELECT string_agg(coalesce(detail ->> 'count', '-'), ' ' ORDER BY at)
                  FROM license_events WHERE event = 'denial'";
    trail.shows(told, "-").await;
    tokio::time::sleep(Duration::from_secs(58)).await;
    trail.shows(told, "- 4").await;
}

/// What keeps old rows from being deleted takes nothing else along.
#[tokio::test(flavor = "multi_thread")]
async fn where_old_rows_can_not_be_deleted_new_ones_are_written() {
    let trail = Trail::of("seats", "9").await;
    let mark = trail.cluster.log().len();
    trail
        .admin
        .run(
            "INSERT INTO license_events VALUES (now() - interval '500 days', 'old');
             ALTER TABLE license_events REPLICA IDENTITY NOTHING;
             CREATE PUBLICATION all_tables FOR ALL TABLES",
        )
        .await;
    for user in ["anna", "bert"] {
        let _session = trail.user(user).await;
        let written = format!("SELECT count(*) FROM license_events WHERE usename = '{user}'");
        trail.shows(&written, "1").await;
    }
    let line = "could not delete old rows of license_events of database \"postgres\"";
    trail.cluster.wait_log_since(mark, line);
    trail.admin.run("DROP PUBLICATION all_tables").await;
    trail.user("carl").await.close().await;
    trail
        .shows(
            "SELECT count(*) FROM license_events WHERE event = 'old'",
            "0",
        )
        .await;
    assert_eq!(trail.cluster.log_since(mark).matches(line).count(), 1);
}

/// A way to keep the trail from being written, what the log says of it, and the way back.
const OBSTACLES: [(&str, &str, &str); 5] = [
    (
        "ALTER TABLE license_events RENAME TO elsewhere",
        "relation \"public.license_events\" does not exist",
        "ALTER TABLE elsewhere RENAME TO license_events",
    ),
    (
        "ALTER TABLE license_events RENAME COLUMN event TO what",
        "column \"event\" of relation \"license_events\" does not exist",
        "ALTER TABLE license_events RENAME COLUMN what TO event",
    ),
    (
        "ALTER TABLE license_events ALTER COLUMN product TYPE int USING NULL",
        "table \"license_events\" is interfered with: column \"product\" has another type",
        "ALTER TABLE license_events ALTER COLUMN product TYPE text",
    ),
    (
        "CREATE FUNCTION fill() RETURNS boolean LANGUAGE plpgsql AS
             $$BEGIN RAISE 'could not extend file: No space left on device' USING ERRCODE = '53100'; END$$;
         ALTER TABLE license_events ADD CONSTRAINT fill CHECK (fill()) NOT VALID",
        "No space left on device",
        "ALTER TABLE license_events DROP CONSTRAINT fill; DROP FUNCTION fill",
    ),
    (
        "ALTER TABLE license_events ADD CONSTRAINT none CHECK (false) NOT VALID",
        "violates check constraint \"none\"",
        "ALTER TABLE license_events DROP CONSTRAINT none",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn whatever_keeps_the_trail_from_being_written_logins_go_on_and_it_recovers_by_itself() {
    let trail = Trail::of("seats", "9").await;
    trail
        .cluster
        .sql("CREATE DATABASE other TEMPLATE template0");
    trail.cluster.license("other", "seats", "9");
    let other = trail.cluster.login("postgres").db("other").open_ok().await;
    let mut logins = 0;
    for (block, message, free) in OBSTACLES {
        let mark = trail.cluster.log().len();
        trail.admin.run(block).await;
        for user in ["anna", "bert"] {
            trail.user(user).await.close().await;
        }
        logins += 2;
        trail.cluster.wait_log_since(mark, message);
        // Nothing of it holds up another database.
        let fay = trail.login("fay").db("other").open_ok().await;
        let seen = format!(
            "SELECT count(*) >= {logins} / 2 FROM license_events
              WHERE event = 'login' AND usename = 'fay'"
        );
        eventually("the other trail is written", SOON, async || {
            other.text(&seen).await == "t"
        })
        .await;
        fay.close().await;
        trail.admin.run(free).await;
        let all = "SELECT count(*) FROM license_events
                    WHERE event = 'login' AND usename IN ('anna', 'bert')";
        trail.shows(all, &logins.to_string()).await;
    }
    let lost = "SELECT count(*) FROM license_events WHERE event = 'events lost'";
    assert_eq!(trail.admin.text(lost).await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn warnings_are_given_once_though_the_trail_can_not_be_written() {
    let trail = Trail::of("seats", "1").await;
    let listener = trail.cluster.login("postgres").open_ok().await;
    listener.run("LISTEN pg_seats").await;
    let mark = trail.cluster.log().len();
    trail
        .admin
        .run("ALTER TABLE license_events RENAME TO elsewhere")
        .await;
    let anna = trail.user("anna").await;
    let line = "license \"TOM\" is at level \"full\": 1 of 1 seats were in use";
    trail.cluster.wait_log_since(mark, line);
    notified(&listener, 1).await;
    // Three tries later.
    tokio::time::sleep(Duration::from_secs(3)).await;
    trail
        .admin
        .run("ALTER TABLE elsewhere RENAME TO license_events")
        .await;
    trail
        .shows(
            "SELECT count(*) FROM license_events WHERE event = 'warning'",
            "1",
        )
        .await;
    anna.close().await;
    trail.in_use_becomes(0).await;
    // It is crossed again.
    let _bert = trail.user("bert").await;
    notified(&listener, 2).await;
    assert_eq!(trail.cluster.log_since(mark).matches(line).count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_says_once_that_the_trail_can_not_be_written() {
    let trail = Trail::of("seats", "9").await;
    let mark = trail.cluster.log().len();
    trail
        .admin
        .run("ALTER TABLE license_events RENAME TO elsewhere")
        .await;
    let line = "could not write license_events of database \"postgres\"";
    trail.user("anna").await.close().await;
    trail.cluster.wait_log_since(mark, line);
    // Three tries later.
    tokio::time::sleep(Duration::from_secs(3)).await;
    trail.user("bert").await.close().await;
    trail
        .admin
        .run("ALTER TABLE elsewhere RENAME TO license_events")
        .await;
    trail
        .becomes(
            "event, usename",
            &["login|anna", "release|anna", "login|bert", "release|bert"],
        )
        .await;
    assert_eq!(trail.cluster.log_since(mark).matches(line).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trail_that_is_dropped_for_good_is_in_nobodys_way() {
    let trail = Trail::of("seats", "9").await;
    let mark = trail.cluster.log().len();
    trail
        .admin
        .run(
            "ALTER EXTENSION pg_seats DROP TABLE license_events; DROP TABLE license_events;
             ALTER EXTENSION pg_seats DROP TABLE license_counts; DROP TABLE license_counts",
        )
        .await;
    trail.user("anna").await;
    for said in [
        "license_events of database \"postgres\": relation \"public.license_events\"",
        // That it can't be read comes first where it was not read before.
        "license_counts of database \"postgres\": ",
    ] {
        trail
            .cluster
            .wait_log_since(mark, &format!("could not write {said}"));
    }
    trail.admin.run("UPDATE licenses SET seats = 1").await;
    for mode in [Stop::Fast, Stop::Immediate] {
        trail.cluster.restart(mode);
        let _anna = trail.user("anna").await;
        let denied = trail.login("bert").denied().await;
        denied.assert("53300", "license_full");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_on_the_trail_or_the_counts_holds_up_nobody() {
    let trail = Trail::of("seats", "9").await;
    let locker = trail.cluster.login("postgres").open_ok().await;
    let mark = trail.cluster.log().len();
    locker
        .run("BEGIN; LOCK TABLE license_events, license_counts")
        .await;
    for user in ["anna", "bert"] {
        // The lock is held all the while.
        trail.user(user).await.close().await;
    }
    trail
        .cluster
        .wait_log_since(mark, "canceling statement due to lock timeout");
    // A change waits a moment, and is made all the same: also of many rows.
    let start = Instant::now();
    trail
        .admin
        .run("INSERT INTO license_exemptions SELECT 'role', 'r' || n FROM generate_series(1, 20) n")
        .await;
    // One wait for all of them, not one for each.
    assert!(start.elapsed() < Duration::from_secs(15));
    trail.cluster.wait_log_since(
        mark,
        "could not note in license_events a change of license_exemptions by role \"postgres\"",
    );
    locker.run("COMMIT").await;
    let told = "SELECT string_agg(event || ' ' || usename, ', ' ORDER BY usename, event)
                  FROM license_events WHERE usename <> 'postgres'";
    let all = "login anna, release anna, login bert, release bert";
    trail.shows(told, all).await;
    let lost =
        "SELECT sum((detail ->> 'events')::int) FROM license_events WHERE event = 'events lost'";
    trail.shows(lost, "20").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_on_the_counts_holds_up_no_login_after_a_start_and_loses_none() {
    let trail = Trail::of("seats", "0").await;
    trail.login("anna").denied().await;
    let kept = "SELECT denied FROM license_counts";
    trail.shows(kept, "1").await;
    let Desk { admin, cluster } = trail.desk;
    drop(admin);
    // A prepared transaction keeps its locks across a restart.
    cluster.set("max_prepared_transactions", "5");
    cluster.restart(Stop::Fast);
    cluster.sql("BEGIN; LOCK TABLE license_counts; PREPARE TRANSACTION 'lock'");
    cluster.restart(Stop::Fast);
    let start = Instant::now();
    let login = cluster.login("anna").from("127.0.1.1");
    login.denied().await.assert("53300", "license_full");
    // Sooner than what can't be read at all would be given up.
    assert!(start.elapsed() < Duration::from_millis(4_500));
    cluster.wait_log(
        "could not write license_counts of database \"postgres\"",
        PATIENCE,
    );
    cluster.sql("COMMIT PREPARED 'lock'");
    login.denied().await.assert("53300", "license_full");
    let trail = Trail::at(cluster).await;
    trail.shows(kept, "3").await;
    trail.shows("SELECT denied FROM license_usage", "3").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_old_row_is_left_for_later_and_holds_up_nothing() {
    let trail = Trail::of("seats", "9").await;
    // Nobody deletes it before it is locked.
    trail.cluster.set("pg_seats.event_retention", -1);
    trail
        .admin
        .run("INSERT INTO license_events VALUES (now() - interval '500 days', 'old')")
        .await;
    let locker = trail.cluster.login("postgres").open_ok().await;
    locker
        .run("BEGIN; SELECT * FROM license_events FOR UPDATE")
        .await;
    trail.cluster.set("pg_seats.event_retention", "400d");
    let _anna = trail.user("anna").await;
    trail.becomes("event", &["old", "login"]).await;
    locker.run("COMMIT").await;
    let _bert = trail.user("bert").await;
    trail.becomes("event", &["login", "login"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_loses_at_most_the_last_moments_and_nothing_is_written_twice() {
    let trail = Trail::of("claimed_at, seats", "'checkout', 1000").await;
    let Desk { admin, cluster } = trail.desk;
    drop(admin);
    let mut number = 0;
    for _ in 0..3 {
        let anna = cluster.login("anna").from("127.0.1.1").open_ok().await;
        let mut done: Vec<(u32, Instant)> = vec![];
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(4) {
            number += 1;
            anna.run(&pairs(number, number)).await;
            done.push((number, Instant::now()));
            // No more than have rows of their own.
            tokio::time::sleep(Duration::from_millis(210)).await;
        }
        let crash = Instant::now();
        cluster.crash_backend(anna.pid().await);
        // Twice the promise, for a slow machine.
        let safe = done
            .iter()
            .filter(|(_, at)| crash - *at > Duration::from_secs(2))
            .map(|(number, _)| *number)
            .max()
            .unwrap();
        let written = format!(
            "SELECT count(*) FROM license_events WHERE event = 'release'
                AND substr(client_user, 2)::int BETWEEN {} AND {safe}",
            done[0].0
        );
        assert_eq!(cluster.sql(&written), (safe - done[0].0 + 1).to_string());
        assert_eq!(cluster.sql(NEVER_TWICE), "0");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn restarts_amid_load_write_nothing_twice() {
    let trail = Trail::of("claimed_at, seats", "'checkout', 1000").await;
    let Desk { admin, cluster } = trail.desk;
    drop(admin);
    for round in 0..4 {
        let busy: Vec<_> = STAFF[..3]
            .iter()
            .map(|user| {
                let login = cluster.login(user);
                let load = pairs(round * 1_000_000, round * 1_000_000 + 999_999);
                tokio::spawn(async move { login.open_ok().await.try_texts(&load).await })
            })
            .collect();
        let some = format!(
            "SELECT count(*) > 40 FROM license_events
              WHERE substr(client_user, 2)::int >= {}",
            round * 1_000_000
        );
        eventually("the trail is written", PATIENCE, async || {
            cluster.sql(&some) == "t"
        })
        .await;
        let start = Instant::now();
        cluster.restart([Stop::Fast, Stop::Immediate][round as usize % 2]);
        assert!(start.elapsed() < PATIENCE);
        for load in busy {
            load.await.unwrap().unwrap_err();
        }
        assert_eq!(cluster.sql(NEVER_TWICE), "0");
        // Whoever was in the midst of something has left the postmaster no lock to wait for.
        assert!(!cluster.log().contains("PANIC"));
    }
}

/// What happens as the sessions are ended is written after the next start, once.
#[tokio::test(flavor = "multi_thread")]
async fn an_orderly_stop_loses_no_event() {
    let trail = Trail::of("claimed_at, seats", "'checkout', 3").await;
    let Desk { admin, cluster } = trail.desk;
    drop(admin);
    let login = |user: &str| cluster.login(user).from("127.0.1.1");
    for round in 1..=4 {
        let sessions = [login("anna").open_ok().await, login("bert").open_ok().await];
        for session in &sessions {
            session.checkout().await;
        }
        let named = "SELECT license_checkout(client_user => 'a name of more than 39 bytes, kept whole: Zoë')";
        sessions[0].run(named).await;
        let full = sessions[1].fails("SELECT license_checkout(client_user => 'cid')");
        full.await.assert("53400", "license_full");
        cluster.sql(
            "SELECT license_terminate(seat_id, 'closing') FROM license_active_seats
              WHERE usename = 'bert'",
        );
        if round == 2 {
            // Neither can it be written at once after the start.
            cluster.sql("ALTER TABLE license_events RENAME TO elsewhere");
        }
        cluster.restart(Stop::Fast);
        if round == 2 {
            cluster.restart(Stop::Fast);
            cluster.sql("ALTER TABLE elsewhere RENAME TO license_events");
        }
        let rows = "SELECT string_agg(n || ' ' || what, ', ' ORDER BY what)
            FROM (SELECT count(*) AS n, concat_ws(' ', event, usename, left(client_user, 6),
                         detail ->> 'cause', detail ->> 'by', detail ->> 'reason') AS what
                    FROM license_events WHERE usename <> 'postgres' GROUP BY what) each";
        let expected = [
            "checkout anna",
            "checkout anna a name",
            "checkout bert",
            "denial bert cid license_full",
            "release anna a name killed",
            "release anna killed",
            "release bert termination",
            "termination bert postgres closing",
        ]
        .map(|what| format!("{round} {what}"))
        .join(", ");
        shown_in_the_end(rows, &[&expected], async || vec![cluster.sql(rows)]).await;
        assert!(!std::fs::exists(cluster.data_dir().join("pg_stat/pg_seats.json")).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launcher_that_ends_leaves_nobody_behind_who_writes_twice() {
    let trail = Trail::of("claimed_at, seats", "'checkout', 1000").await;
    // Writing takes longer than the next launcher needs to come.
    trail
        .admin
        .run(
            "CREATE FUNCTION slow() RETURNS boolean LANGUAGE plpgsql AS
                 $$BEGIN PERFORM pg_sleep(0.025); RETURN true; END$$;
             ALTER TABLE license_events ADD CONSTRAINT slow CHECK (slow()) NOT VALID",
        )
        .await;
    let anna = trail.user("anna").await;
    anna.run(&pairs(1, 50)).await;
    let worker = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    trail.shows(worker, "1").await;
    trail
        .admin
        .run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
              WHERE backend_type = 'pg_seats launcher'",
        )
        .await;
    trail.shows(EVERY, "100").await;
    anna.run(&pairs(51, 60)).await;
    trail.shows(EVERY, "120").await;
    assert_eq!(trail.admin.text(NEVER_TWICE).await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_come_and_go_and_serve_as_templates_while_trails_are_written() {
    let trail = Trail::of("claimed_at, seats", "'checkout', 1000").await;
    trail
        .admin
        .run("CREATE DATABASE form TEMPLATE template0")
        .await;
    trail.cluster.license("form", "seats", "9");
    let load = {
        let login = trail.login("anna");
        tokio::spawn(async move {
            let anna = login.open_ok().await;
            let start = Instant::now();
            while start.elapsed() < Duration::from_secs(8) {
                anna.run(&pairs(1, 500)).await;
            }
        })
    };
    for _ in 0..8 {
        // Its events are yet to be written.
        trail.cluster.sql_in("form", "SELECT 1");
        trail.admin.run("CREATE DATABASE copy TEMPLATE form").await;
        trail.cluster.sql_in("copy", "SELECT 1");
        trail.admin.run("DROP DATABASE copy").await;
    }
    load.await.unwrap();
    launcher_sleeps(&trail).await;
}

/// Tells how often a process has gone to sleep.
fn sleeps(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.unwrap().trim().parse().unwrap()
}

/// Tells how often a process goes to sleep within so many seconds, and the clock ticks that it uses.
async fn activity(pid: i32, seconds: u64) -> (u64, u64) {
    let (before, [used, _]) = (sleeps(pid), ticks(pid));
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    (sleeps(pid) - before, ticks(pid)[0] - used)
}

/// Asserts that the launcher has nothing to do, and does nothing.
async fn launcher_sleeps(trail: &Trail) {
    let pid = trail.cluster.launcher().await;
    for _ in 0..10 {
        if activity(pid, 2).await == (0, 0) {
            return;
        }
    }
    panic!("the launcher is busy");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_wakes_where_nothing_happens() {
    let trail = Trail::of("seats", "9").await;
    let _anna = trail.user("anna").await;
    launcher_sleeps(&trail).await;
    let used = async |db: &str| {
        trail.admin.run(&format!("CREATE DATABASE {db}")).await;
        trail.cluster.license(db, "seats", "9");
        trail.cluster.sql_in(db, "SELECT 1");
    };
    // A database that nobody can connect to any more, of which all is known, and one that is gone with events.
    used("closed").await;
    launcher_sleeps(&trail).await;
    trail
        .admin
        .run("ALTER DATABASE closed ALLOW_CONNECTIONS false")
        .await;
    used("gone").await;
    trail.admin.run("DROP DATABASE gone").await;
    launcher_sleeps(&trail).await;
    let _bert = trail.user("bert").await;
    trail
        .becomes("event, usename", &["login|anna", "login|bert"])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_free_worker_the_launcher_tries_once_a_second() {
    let cluster = Cluster::builder()
        .conf("max_worker_processes", "1")
        .conf("max_logical_replication_workers", "0")
        .licensed("seats", "9");
    let trail = Trail::at(cluster).await;
    let pid = trail.cluster.launcher().await;
    let _anna = trail.user("anna").await;
    trail
        .cluster
        .wait_log("found no free background worker", PATIENCE);
    let (sleeps, ticks) = activity(pid, 3).await;
    assert!(sleeps < 60 && ticks < 50, "{sleeps} sleeps, {ticks} ticks");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_steady_logins_the_launcher_wakes_about_once_each_time_it_writes() {
    let trail = Trail::of("claimed_at, seats", "'checkout', 9").await;
    let anna = trail.user("anna").await;
    launcher_sleeps(&trail).await;
    let pid = trail.cluster.launcher().await;
    let before = sleeps(pid);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(7) {
        anna.run(&pairs(1, 1)).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Ten database workers: each is waited for when it starts and when it ends.
    let woken = sleeps(pid) - before;
    assert!(woken < 100, "{woken}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_made_though_its_trail_can_not_be_written() {
    let trail = Trail::of("seats", "9").await;
    for (block, message, free) in OBSTACLES {
        let mark = trail.cluster.log().len();
        trail.admin.run(block).await;
        trail
            .admin
            .run("UPDATE licenses SET seats = seats + 1; UPDATE licenses SET seats = seats - 1")
            .await;
        trail
            .admin
            .run("BEGIN; UPDATE licenses SET seats = 7; COMMIT")
            .await;
        assert_eq!(trail.admin.text("SELECT seats FROM licenses").await, "7");
        trail.cluster.wait_log_since(
            mark,
            "could not note in license_events a change of licenses by role \"postgres\": ",
        );
        trail.cluster.wait_log_since(mark, message);
        trail.admin.run(free).await;
        trail.admin.run("UPDATE licenses SET seats = 9").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_logs_what_happens_and_writes_after_its_promotion() {
    let primary = Cluster::builder().licensed("seats, warn_at_percent", "1, 50");
    let standby = primary.standby();
    let anna = standby.login("anna").from("127.0.1.1");
    let anna = anna.workstation("\u{202e}pc").open_ok().await;
    let denied = standby.login("bert").from("127.0.1.2").denied().await;
    denied.assert("53300", "license_full");
    for part in [
        r#"license event of database "postgres": {"#,
        r#""event":"login""#,
        r#""usename":"anna""#,
        r#""workstation":"\u202epc""#,
        r#""event":"denial""#,
        r#""level":"full""#,
    ] {
        standby.wait_log(part, PATIENCE);
    }
    // The launcher of a standby looks once a second, and no more often.
    let pid = standby.launcher().await;
    let (sleeps, ticks) = activity(pid, 4).await;
    assert!(sleeps < 60 && ticks < 100, "{sleeps} sleeps, {ticks} ticks");
    let rows = "SELECT event, usename FROM license_events WHERE usename IN ('anna', 'bert')";
    assert_eq!(standby.sql(rows), "");
    primary.stop(Stop::Fast);
    standby.promote();
    anna.close().await;
    eventually("the trail is written", PATIENCE, async || {
        standby.sql(rows) == "release|anna"
    })
    .await;
    eventually("the denial counts", PATIENCE, async || {
        standby.sql("SELECT denied FROM license_counts") == "1"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_extension_can_go_and_come_while_events_wait() {
    let trail = Trail::of("seats", "1").await;
    for _ in 0..3 {
        let anna = trail.user("anna").await;
        trail.login("bert").denied().await;
        trail.admin.run("DROP EXTENSION pg_seats").await;
        anna.close().await;
        // Whoever comes next has what was counted forgotten.
        trail.user("dora").await.close().await;
        trail
            .admin
            .run("CREATE EXTENSION pg_seats; INSERT INTO licenses (product, seats) VALUES ('TOM', 1)")
            .await;
        let carl = trail.user("carl").await;
        let new = "SELECT count(*) FROM license_events WHERE usename = 'carl' AND event = 'login'";
        trail.shows(new, "1").await;
        assert_eq!(
            trail.admin.text("SELECT denied FROM license_usage").await,
            "0"
        );
        carl.close().await;
        trail.in_use_becomes(0).await;
    }
}

/// Databases where nothing happens take no room from those where something does.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_with_many_quiet_databases_loses_no_event() {
    let primary = Cluster::with_seats(99);
    for number in 1..=12 {
        primary.sql(&format!("CREATE DATABASE quiet_{number} TEMPLATE postgres"));
    }
    let standby = primary.standby();
    // They are visited once, and again ten seconds later.
    let quiet = Duration::from_secs(13);
    tokio::time::sleep(quiet).await;
    let mark = standby.log().len();
    let logins = race(40, |i| {
        let host = format!("127.0.2.{}", i + 1);
        standby.login("anna").db("quiet_3").from(&host)
    });
    let sessions: Vec<_> = logins.await.into_iter().map(Result::unwrap).collect();
    let line = "license event of database \"quiet_3\": {";
    eventually("all are in the log", PATIENCE, async || {
        standby.log_since(mark).matches(line).count() == sessions.len()
    })
    .await;
    assert!(!standby.log().contains("are lost"));
}
