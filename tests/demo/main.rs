//! The demo: the licensing stories of three firms, played with real connections against a server of its own.
//!
//! Each case says what was expected and what happened. The exit status is 1 if any of them differs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a demo that can't go on says so by panicking"
)]

mod aptora;
mod cargo_office;
mod efimis;
mod installations;
mod story;
#[path = "../util/mod.rs"]
mod util;

use std::process::ExitCode;

use story::Story;
use util::Cluster;

#[tokio::main]
async fn main() -> ExitCode {
    println!("pg_seats: concurrent-user licenses, counted by PostgreSQL itself at login\n");
    println!("Any number of users may be set up; so many may be in at once as there are seats.");
    println!("Below, every computer is an address of its own (PC 7 is 127.0.1.7), and everyone");
    println!("logs in to a server that was started for this demo and is gone afterwards.");
    let cluster = Cluster::builder().start();
    println!("It runs {}.", cluster.programs().version());
    let mut story = Story::new(&cluster);
    aptora::tell(&mut story).await;
    cargo_office::tell(&mut story).await;
    installations::tell(&mut story).await;
    let inside = efimis::tell(&mut story).await;

    story.chapter(
        "What an administrator sees",
        "Efimis' people of the last case are still in. Exempt are Sally and the superuser who asks.",
    );
    for query in [
        "SELECT product, seats, in_use, available, exempt, high_water, denied, status FROM license_usage",
        "SELECT usename, client_host, application_name, kind, sessions, idle < '1 hour' AS awake
           FROM license_active_seats ORDER BY opened_at LIMIT 5",
        "SELECT usename, client_host, reason FROM license_exempt_sessions WHERE client_host <> 'local'",
    ] {
        story.shows("efimis", query);
    }
    drop(inside);
    story.end()
}
