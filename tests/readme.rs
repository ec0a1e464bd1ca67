//! The README's SQL runs, in its order, and its quickstart denies the eleventh user.

use std::process::Command;

use crate::util::*;

pub const README: &str = include_str!("../README.md");

/// The blocks of a text, each with its language.
pub fn blocks(text: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut parts = text.split("```");
    parts.next();
    while let (Some(block), _) = (parts.next(), parts.next()) {
        let (language, text) = block.split_once('\n').unwrap();
        blocks.push((language.to_owned(), text.to_owned()));
    }
    blocks
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sql_of_the_readme_runs_and_its_quickstart_denies_the_eleventh_user() {
    let cluster = Cluster::start();
    cluster.sql("CREATE ROLE anna LOGIN");
    let (mut quickstarts, mut done) = (0, 0);
    for (language, text) in blocks(README) {
        if text.contains("SELECT seats.license_raise_seats(") {
            done += 1;
            cluster.sql("UPDATE seats.licenses SET seats = 9 WHERE seats = 10");
            cluster.sql(&text);
            let seats = "SELECT seats FROM seats.licenses WHERE purchased = 10";
            assert_eq!(cluster.sql(seats), "10");
        } else if text.contains("SELECT seats.license_terminate(") {
            done += 1;
            let anna = cluster.login("anna").from("127.0.1.1").open_ok().await;
            // One ended, and one is let in again.
            assert_eq!(cluster.sql(&text), "1\nt");
            anna.ended().await.assert("57P01", "license_stopped");
        } else if language == "sql" {
            cluster.sql(&text);
        } else if text.contains("psql -U user$n") {
            quickstarts += 1;
            let shell = Command::new("bash")
                .args(["-c", &text])
                .env("PGHOST", cluster.socket_dir())
                .env("PGPORT", cluster.port().to_string())
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&shell.stderr);
            let denied = "FATAL:  maximum user license count reached for \"Total Office Manager\"";
            assert_eq!(said.matches(denied).count(), 1, "{said}");
            assert_eq!(said.matches("FATAL").count(), 1, "{said}");
        }
    }
    assert_eq!((quickstarts, done), (1, 2));
}

#[test]
fn a_seat_takes_at_most_512_bytes_of_shared_memory() {
    // What events and rules take does not depend on it.
    let allocated = |seats: u32| -> i64 {
        let cluster = Cluster::builder()
            .conf("max_connections", 100)
            .conf("pg_seats.max_seats", seats)
            .start();
        let sum =
            "SELECT sum(allocated_size) FROM pg_shmem_allocations WHERE name LIKE 'pg_seats%'";
        cluster.sql(sum).parse().unwrap()
    };
    let per_seat = (allocated(110_000) - allocated(10_000)) / 100_000;
    assert!(per_seat <= 512, "{per_seat} bytes a seat");
}
