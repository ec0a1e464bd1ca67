//! What applications pay: checkouts against advisory locks, heartbeats against `SELECT 1`, leases
//! against an INSERT and DELETE, and a call of `license_held`, by turns on one server; how soon the
//! first in the queue is woken; and what 100,000 leases cost.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark that can't go on says so by panicking"
)]

mod measure;
#[path = "../tests/util/mod.rs"]
mod util;

use std::time::{Duration, Instant};

use measure::{median, rate, worker_times};
use util::{Cluster, Session, eventually_blocking, race};

/// Rounds in which the pairs are measured by turns.
const ROUNDS: usize = 15;

/// Length of one measurement, in seconds.
const SECONDS: &str = "2";

const PREPARED: [&str; 2] = ["-M", "prepared"];

/// How many wait in the queue.
const WAITING: usize = 200;

/// How many leases live at once.
const LEASES: usize = 100_000;

const LOCK: &str = "SELECT pg_advisory_lock(1);\nSELECT pg_advisory_unlock(1);\n";
const CHECKOUT: &str = "SELECT license_checkout('TOM');\nSELECT license_checkin('TOM');\n";
const ONE: &str = "SELECT 1;\n";
const INSERT: &str = "\
SELECT gen_random_uuid() AS id \\gset
INSERT INTO notes VALUES (:id);
DELETE FROM notes WHERE id = :id;
";
const LEASE: &str = "\
SELECT gen_random_uuid() AS id \\gset
SELECT lease_id AS id FROM license_lease('anna', '192.0.2.1', 'TOM') \\gset
SELECT license_release(:id);
";

fn server() -> Cluster {
    let cluster = Cluster::builder()
        .conf("max_connections", WAITING + 20)
        .conf("pg_seats.max_seats", LEASES + 1_000)
        .start();
    cluster.sql(
        "CREATE EXTENSION pg_seats;
         CREATE ROLE bench LOGIN;
         CREATE TABLE notes (id uuid PRIMARY KEY);
         GRANT ALL ON notes TO bench;
         GRANT EXECUTE ON FUNCTION license_lease, license_heartbeat, license_release TO bench;
         INSERT INTO licenses (product, claimed_at) VALUES ('TOM', 'checkout');
         INSERT INTO licenses (product, claimed_at, seats) VALUES ('Narrow', 'checkout', 1)",
    );
    cluster
}

/// Measures two scripts by turns, and prints their rates and the median of the ratios.
fn compare(cluster: &Cluster, what: &str, against: &str, [script, other]: [&str; 2]) {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        for turn in 0..2 {
            if (round + turn) % 2 == 0 {
                ours.push(rate(cluster, "postgres", script, SECONDS, &PREPARED));
            } else {
                theirs.push(rate(cluster, "postgres", other, SECONDS, &PREPARED));
            }
        }
    }
    let ratios = ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs);
    let ratio = median(ratios.collect());
    println!(
        "| {what} | {:.0}/s | {against} | {:.0}/s | {ratio:.2} |",
        median(ours),
        median(theirs)
    );
}

/// Microseconds of one call of `license_held`: a million calls less a million of nothing.
async fn held(session: &Session) -> f64 {
    let count = |what| format!("SELECT count(*) FROM generate_series(1, 1000000) n WHERE {what}");
    let (calls, nothing) = (
        count("license_held(CASE WHEN n > 0 THEN 'TOM' END)"),
        count("CASE WHEN n > 0 THEN 'TOM' END IS NOT NULL"),
    );
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        session.run(&nothing).await;
        let between = Instant::now();
        session.run(&calls).await;
        times.push((between.elapsed().as_secs_f64()) - (between - start).as_secs_f64());
    }
    median(times)
}

/// Milliseconds from a checkin to the answer to the first in the queue, as the seat goes from hand to
/// hand until nobody waits any more.
async fn wake_ups(cluster: &Cluster) -> Vec<f64> {
    let mut sessions = Vec::new();
    for session in race(WAITING + 1, |_| cluster.login("bench")).await {
        sessions.push(session.unwrap());
    }
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        sessions = hand_on(cluster, sessions, &mut times).await;
    }
    times.sort_by(f64::total_cmp);
    times
}

/// Runs one round of that. The sessions stay: while they end, nobody else is quick.
async fn hand_on(
    cluster: &Cluster,
    mut sessions: Vec<Session>,
    times: &mut Vec<f64>,
) -> Vec<Session> {
    const TAKE: &str =
        "SELECT license_checkout('Narrow', '1 hour', client_user => pg_backend_pid()::text)";
    const GIVE: &str = "SELECT license_checkin('Narrow', pg_backend_pid()::text)";
    let first = sessions.remove(0);
    first.run(TAKE).await;
    let given = tokio::sync::watch::channel(Instant::now()).0;
    let tasks: Vec<_> = sessions
        .into_iter()
        .map(|session| {
            let given = given.clone();
            tokio::spawn(async move {
                session.run(TAKE).await;
                let time = given.borrow().elapsed();
                given.send_replace(Instant::now());
                session.run(GIVE).await;
                (session, time)
            })
        })
        .collect();
    eventually_blocking("all wait", Duration::from_secs(60), || {
        let waiting = "SELECT waiting FROM license_usage WHERE product = 'Narrow'";
        cluster.sql(waiting) == WAITING.to_string()
    });
    given.send_replace(Instant::now());
    first.run(GIVE).await;
    let mut sessions = vec![first];
    for task in tasks {
        let (session, time) = task.await.unwrap();
        sessions.push(session);
        times.push(time.as_secs_f64() * 1e3);
    }
    sessions
}

async fn many_leases(cluster: &Cluster, session: &Session) {
    session
        .run(&format!(
            "SELECT count(*) FROM generate_series(1, {LEASES}) n,
                    license_lease('user' || n, '192.0.2.1', 'TOM', '60 seconds')"
        ))
        .await;
    let granted = Instant::now();
    let count = "SELECT count(*) FROM license_active_seats";
    let mut times = Vec::new();
    for _ in 0..5 {
        let start = Instant::now();
        assert_eq!(session.val::<i64>(count).await, LEASES as i64);
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    println!(
        "count(*) of license_active_seats with {LEASES} leases: {:.0} ms",
        median(times)
    );
    let [before, _] = worker_times(cluster);
    tokio::time::sleep(Duration::from_secs(20)).await;
    let used = (worker_times(cluster)[0] - before) / 20.0 * 100.0;
    println!("the launcher meanwhile: {used:.2} % of a core");
    let in_use = "SELECT in_use FROM license_usage WHERE product = 'TOM'";
    tokio::time::sleep((granted + Duration::from_secs(60)) - Instant::now()).await;
    eventually_blocking("all leases have ended", Duration::from_secs(30), || {
        cluster.sql(in_use) == "0"
    });
    let late = granted.elapsed().as_secs_f64() - 60.0;
    println!("their end, after the last one's time was up: {late:.1} s");
    let rows = "SELECT count(*) FROM license_leases";
    eventually_blocking("their rows are gone", Duration::from_secs(60), || {
        cluster.sql(rows) == "0"
    });
    let late = granted.elapsed().as_secs_f64() - 60.0;
    println!("their rows gone: {late:.1} s");
}

#[tokio::main]
async fn main() {
    let cluster = server();
    let session = cluster.login("bench").open_ok().await;
    let lease = "SELECT lease_id FROM license_lease('zoe', '192.0.2.2', 'TOM', '1 hour')";
    let lease = session.text(lease).await;
    let heartbeat = format!("SELECT license_heartbeat('{lease}');\n");
    println!(
        "\nPostgreSQL {}, medians of {ROUNDS} alternating rounds of {SECONDS} s:\n",
        cluster.programs().major()
    );
    println!("| what | rate | against | rate | ratio |\n| --- | --- | --- | --- | --- |");
    compare(
        &cluster,
        "checkout and checkin",
        "advisory lock and unlock",
        [CHECKOUT, LOCK],
    );
    compare(&cluster, "heartbeat", "SELECT 1", [&heartbeat, ONE]);
    compare(
        &cluster,
        "lease and release",
        "INSERT and DELETE",
        [LEASE, INSERT],
    );
    session.run("SELECT license_checkout('TOM')").await;
    println!("\nlicense_held: {:.2} µs a call", held(&session).await);
    let times = wake_ups(&cluster).await;
    println!(
        "wake-up of the first of {WAITING} in the queue: median {:.2} ms, 99th percentile {:.2} ms",
        times[times.len() / 2],
        times[times.len() * 99 / 100]
    );
    session.run("SELECT license_checkin('TOM')").await;
    session
        .run(&format!("SELECT license_release('{lease}')"))
        .await;
    many_leases(&cluster, &session).await;
}
