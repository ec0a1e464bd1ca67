//! What pg_seats costs a server: `pgbench -C` logins per second against the same server without it,
//! with 0 and with 1,000 seats held, and queries per second of one connection. Beside them the
//! usual way to do without: a SQL function at login that counts `pg_stat_activity` (PostgreSQL 17
//! and later, where a login event trigger can call one).
//!
//! The servers have the same content and take turns; the figures are medians. They are started anew
//! each time, because where a server's memory happens to lie makes a difference of up to five percent.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark that can't go on says so by panicking"
)]

mod pgbench;
#[path = "../tests/util/mod.rs"]
mod util;

use pgbench::{median, rate};
use util::{Cluster, Session, race};

/// Rounds in which logins are measured.
const LOGINS: usize = 24;

/// Rounds in which queries are measured.
const QUERIES: usize = 5;

/// Length of one measurement, in seconds.
const SECONDS: &str = "2";

/// The default of pg_seats.max_seats.
const MAX_SEATS: usize = 10_000;

const BARE: &str = "without pg_seats";
const SEATS: &str = "pg_seats";
const RIVAL: &str = "SQL function at login";

const COUNT_AT_LOGIN: &str = "
CREATE TABLE limits (seats int);
INSERT INTO limits VALUES (10000);
CREATE FUNCTION count_logins() RETURNS event_trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF (SELECT count(DISTINCT (usesysid, client_addr)) FROM pg_stat_activity
         WHERE datname = current_database() AND backend_type = 'client backend')
       > (SELECT seats FROM public.limits)
    THEN
        RAISE 'maximum user license count reached';
    END IF;
END $$;
CREATE EVENT TRIGGER count_logins ON login EXECUTE FUNCTION count_logins();
ALTER EVENT TRIGGER count_logins ENABLE ALWAYS;";

struct Server {
    cluster: Cluster,
    held: Vec<Session>,
}

impl Server {
    fn new(name: &str) -> Server {
        let cluster = Cluster::builder()
            .preload(name == SEATS)
            .conf("max_connections", 1_100)
            .start();
        cluster.sql("CREATE ROLE bench LOGIN");
        cluster.sql("CREATE EXTENSION pg_seats");
        cluster.sql("INSERT INTO licenses (product, seats) VALUES ('bench', 10000)");
        if name == RIVAL {
            cluster.sql(COUNT_AT_LOGIN);
        }
        Server {
            cluster,
            held: Vec::new(),
        }
    }

    /// Opens connections of as many hosts, each of which is a seat.
    async fn hold(&mut self, seats: usize) {
        let logins = race(seats, |at| {
            let host = format!("127.1.{}.{}", at / 250, at % 250 + 1);
            self.cluster.login("bench").from(&host)
        });
        self.held = logins.await.into_iter().map(Result::unwrap).collect();
    }

    /// Transactions per second of pgbench over TCP.
    fn measure(&self, options: &[&str]) -> f64 {
        let port = self.cluster.port().to_string();
        let mut all = vec!["-h", "127.0.0.1", "-p", &port];
        all.extend(options);
        rate(&self.cluster, "SELECT 1;\n", SECONDS, &all)
    }
}

/// Bytes of shared memory that pg_seats takes on a server with so many connections.
fn shared_memory(max_connections: usize) -> usize {
    let cluster = Cluster::builder()
        .conf("max_connections", max_connections)
        .start();
    let sql = "SELECT sum(allocated_size) FROM pg_shmem_allocations WHERE name LIKE 'pg_seats%'";
    cluster.sql(sql).parse().unwrap()
}

/// Measures every server in turn and prints a line for each: its median, and the median of its
/// ratios to the first server in the same round.
async fn compare(rounds: usize, what: &str, names: &[&str], held: usize, options: &[&str]) {
    let mut measured = vec![Vec::new(); names.len()];
    for round in 0..rounds {
        let mut servers: Vec<_> = names.iter().map(|name| Server::new(name)).collect();
        for server in &mut servers {
            server.hold(held).await;
        }
        // Whoever is first in a round is another each time.
        for at in 0..servers.len() {
            let at = (round + at) % servers.len();
            measured[at].push(servers[at].measure(options));
        }
    }
    for (name, its) in names.iter().zip(&measured) {
        let ratios = its.iter().zip(&measured[0]).map(|(its, bare)| its / bare);
        let (rate, ratio) = (median(its.clone()), median(ratios.collect()));
        println!("| {what} | {name} | {rate:.0}/s | {ratio:.2} |");
    }
}

#[tokio::main]
async fn main() {
    let major = Server::new(BARE).cluster.programs().major();
    let mut names = vec![BARE, SEATS];
    if major >= 17 {
        names.push(RIVAL);
    }
    println!("\nPostgreSQL {major}, medians of {LOGINS} alternating rounds of {SECONDS} s:\n");
    println!("| what | server | rate | ratio |\n| --- | --- | --- | --- |");
    let login = ["-C", "-c", "2", "-j", "1"];
    compare(LOGINS, "logins, no seat held", &names, 0, &login).await;
    compare(LOGINS, "logins, 1,000 seats held", &names, 1_000, &login).await;
    let queries = ["-M", "prepared"];
    compare(QUERIES, "queries of one connection", &names, 0, &queries).await;
    let (few, many) = (shared_memory(100), shared_memory(1_100));
    println!(
        "\nShared memory: {} bytes a seat with max_connections = 100, and {} a connection beyond.",
        few / MAX_SEATS,
        (many - few) / 1_000
    );
}
