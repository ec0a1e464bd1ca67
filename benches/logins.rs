//! What pg_seats costs a server: logins per second against the same server without it, with 0 and
//! with 1,000 seats held, and queries per second of one connection. Beside them the usual way to do
//! without: a SQL function at login that counts `pg_stat_activity` (PostgreSQL 17 and later, where a
//! login event trigger can call one).
//!
//! The servers have the same content and take turns, at logins from one to the next: rates of whole
//! seconds vary by ten percent from one to another on a shared machine. They are made anew each round,
//! another one first, because where a server's memory and files happen to lie makes a difference of up
//! to five percent.

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

use std::time::Instant;

use measure::{median, rate, sessions};
use util::{Cluster, Session};

/// Rounds in which logins are measured.
const LOGIN_ROUNDS: usize = 24;

/// Logins to each server in a round.
const LOGINS: usize = 400;

/// Rounds in which queries are measured.
const QUERY_ROUNDS: usize = 5;

/// How long queries are measured in a round, in seconds.
const SECONDS: &str = "2";

/// The default of pg_seats.max_seats.
const MAX_SEATS: usize = 10_000;

/// The licensed database, in which everything is measured.
const DATABASE: &str = "bench";

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
        // As most do, it has other databases that somebody was in before.
        cluster.sql(&format!("CREATE DATABASE {DATABASE}"));
        cluster.sql_in(DATABASE, "CREATE EXTENSION pg_seats");
        let licenses = "INSERT INTO licenses (product, seats) VALUES ('bench', 10000)";
        cluster.sql_in(DATABASE, licenses);
        if name == RIVAL {
            cluster.sql_in(DATABASE, COUNT_AT_LOGIN);
        }
        Server {
            cluster,
            held: Vec::new(),
        }
    }

    /// Opens connections of as many hosts, each of which is a seat.
    async fn hold(&mut self, seats: usize) {
        self.held = sessions(&self.cluster.login("bench").db(DATABASE), seats).await;
    }

    /// Returns the seconds until a client that connects over TCP has the answer to its first query.
    async fn login(&self) -> f64 {
        let start = Instant::now();
        let session = self.cluster.login("bench").db(DATABASE).open_ok().await;
        session.run("SELECT 1").await;
        let time = start.elapsed();
        session.close().await;
        time.as_secs_f64()
    }

    /// Queries per second of pgbench over TCP.
    fn queries(&self) -> f64 {
        let port = self.cluster.port().to_string();
        let options = ["-h", "127.0.0.1", "-p", &port, "-M", "prepared"];
        rate(&self.cluster, DATABASE, "SELECT 1;\n", SECONDS, &options)
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

/// Logins per second of one client, by the median of their times.
async fn logins(servers: &[Server]) -> Vec<f64> {
    let mut times = vec![Vec::new(); servers.len()];
    for turn in 0..LOGINS {
        for at in turns(turn, servers.len()) {
            times[at].push(servers[at].login().await);
        }
    }
    times.into_iter().map(|its| 1.0 / median(its)).collect()
}

/// Servers in turn: whoever is first is another each time.
fn turns(turn: usize, servers: usize) -> impl Iterator<Item = usize> {
    (0..servers).map(move |at| (turn + at) % servers)
}

/// Prints a line for each server: the median of its rates, and the mean of their ratios to the first
/// server's in the same round, with its standard error.
fn print(what: &str, names: &[&str], rounds: &[Vec<f64>]) {
    let count = rounds.len() as f64;
    for (at, name) in names.iter().enumerate() {
        let rate = median(rounds.iter().map(|rates| rates[at]).collect());
        let ratios = rounds.iter().map(|rates| rates[at] / rates[0]);
        let mean = ratios.clone().sum::<f64>() / count;
        let variance = ratios.map(|ratio| (ratio - mean).powi(2)).sum::<f64>() / count;
        let error = (variance / count).sqrt();
        println!("| {what} | {name} | {rate:.0}/s | {mean:.3} ± {error:.3} |");
    }
}

/// Returns the servers of a round, by the order of their names.
async fn servers(round: usize, names: &[&str], held: usize) -> Vec<Server> {
    let mut servers = Vec::new();
    for at in turns(round, names.len()) {
        let mut server = Server::new(names[at]);
        server.hold(held).await;
        servers.push((at, server));
    }
    servers.sort_by_key(|&(at, _)| at);
    servers.into_iter().map(|(_, server)| server).collect()
}

async fn compare_logins(what: &str, names: &[&str], held: usize) {
    let mut rounds = Vec::new();
    for round in 0..LOGIN_ROUNDS {
        rounds.push(logins(&servers(round, names, held).await).await);
    }
    print(what, names, &rounds);
}

async fn compare_queries(what: &str, names: &[&str]) {
    let mut rounds = Vec::new();
    for round in 0..QUERY_ROUNDS {
        let servers = servers(round, names, 0).await;
        let mut rates = vec![0.0; servers.len()];
        for at in turns(round, servers.len()) {
            rates[at] = servers[at].queries();
        }
        rounds.push(rates);
    }
    print(what, names, &rounds);
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let major = Server::new(BARE).cluster.programs().major();
    let mut names = vec![BARE, SEATS];
    if major >= 17 {
        names.push(RIVAL);
    }
    println!("\nPostgreSQL {major}, {LOGIN_ROUNDS} rounds of {LOGINS} logins to each server:\n");
    println!("| what | server | rate | ratio |\n| --- | --- | --- | --- |");
    compare_logins("logins, no seat held", &names, 0).await;
    compare_logins("logins, 1,000 seats held", &names, 1_000).await;
    compare_queries("queries of one connection", &names).await;
    let (few, many) = (shared_memory(100), shared_memory(1_100));
    println!(
        "\nShared memory: {} bytes a seat with max_connections = 100, and {} a connection beyond.",
        few / MAX_SEATS,
        (many - few) / 1_000
    );
}
