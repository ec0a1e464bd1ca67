//! What it takes to run a server with 1,000 seats held: stopping a session, and the workers while nothing
//! happens, with everything on that they look after.

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

use measure::{median, sessions, worker_times};
use util::{Cluster, Session};

/// Seats that are held all the while.
const SEATS: usize = 1_000;

/// How often a session is stopped.
const STOPS: usize = 15;

/// How long the workers are watched, in seconds.
const SECONDS: u64 = 60;

/// Milliseconds until a seat is stopped, with these further arguments, and is free.
async fn stop(cluster: &Cluster, admin: &Session, arguments: &str) -> Vec<f64> {
    let mut times = Vec::new();
    for _ in 0..STOPS {
        let anna = cluster.login("anna").from("127.0.3.1").open_ok().await;
        let seat = admin
            .text("SELECT seat_id FROM license_active_seats WHERE client_host = '127.0.3.1'")
            .await;
        let start = Instant::now();
        let ended = format!("SELECT license_terminate('{seat}'{arguments})");
        assert_eq!(admin.text(&ended).await, "1");
        times.push(start.elapsed().as_secs_f64() * 1e3);
        anna.ended().await;
        admin.run("DELETE FROM license_bars").await;
    }
    times
}

#[tokio::main]
async fn main() {
    let cluster = Cluster::builder()
        .conf("max_connections", SEATS + 50)
        // Of what else ends nothing is to be counted.
        .conf("autovacuum", "off")
        .licensed(
            "seats, idle_timeout, reclaim_idle_after, linger",
            "2000, '1 day', '1 hour', '1 minute'",
        );
    let held = sessions(&cluster.login("bert"), SEATS).await;
    let admin = cluster.login("postgres").open_ok().await;
    println!(
        "\nPostgreSQL {}, {} seats held, medians of {STOPS}:\n",
        cluster.programs().major(),
        held.len()
    );
    for (what, arguments) in [
        ("license_terminate", ""),
        ("with bar_for", ", 'out', '1 hour'"),
    ] {
        let times = stop(&cluster, &admin, arguments).await;
        let longest = times.iter().copied().fold(0.0, f64::max);
        println!("{what}: {:.1} ms, at most {longest:.1} ms", median(times));
    }
    // What has happened is written by then.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = worker_times(&cluster);
    tokio::time::sleep(Duration::from_secs(SECONDS)).await;
    let after = worker_times(&cluster);
    // The statement that asks for the launcher is a session that ends, once.
    let percent = |at: usize| (after[at] - before[at]) / SECONDS as f64 * 100.0;
    println!(
        "workers while nothing happens: launcher {:.2} % of a core, database workers at most {:.2} %",
        percent(0),
        percent(1)
    );
}
