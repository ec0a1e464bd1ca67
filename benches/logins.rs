//! What pg_seats costs a server: `pgbench -C` logins per second against the same server without it,
//! with 0 and with 1,000 seats held, and queries per second of one connection. Beside them the
//! usual way to do without: a SQL function at login that counts `pg_stat_activity` (PostgreSQL 17
//! and later, where a login event trigger can call one). Servers take turns; the figures are medians.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark that can't go on says so by panicking"
)]

#[path = "../tests/util/mod.rs"]
mod util;

use util::{Cluster, Session, race};

/// Rounds in which the servers take turns.
const ROUNDS: usize = 15;

/// Length of one measurement, in seconds.
const SECONDS: &str = "2";

/// Seats held beside the logins that are measured.
const HELD: [usize; 2] = [0, 1_000];

const RIVAL: &str = "
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
    name: &'static str,
    cluster: Cluster,
    held: Vec<Session>,
    measured: Vec<f64>,
}

impl Server {
    fn new(name: &'static str, preload: bool) -> Server {
        let cluster = Cluster::builder()
            .preload(preload)
            .conf("max_connections", 1_100)
            .start();
        cluster.sql("CREATE ROLE bench LOGIN");
        Server {
            name,
            cluster,
            held: Vec::new(),
            measured: Vec::new(),
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

    fn measure(&mut self, options: &[&str]) {
        self.cluster.write("one.sql", "SELECT 1;\n");
        let script = self.cluster.data_dir().join("one.sql");
        let port = self.cluster.port().to_string();
        let mut args = vec![
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "-U",
            "bench",
            "-n",
            "-T",
            SECONDS,
        ];
        args.extend(options);
        let script = script.to_string_lossy();
        args.extend(["-f", &script, "postgres"]);
        let output = self.cluster.program("pgbench", &args).ok();
        let tps = output
            .lines()
            .find_map(|line| line.strip_prefix("tps = "))
            .and_then(|figures| figures.split(' ').next())
            .and_then(|tps| tps.parse().ok());
        self.measured.push(tps.expect("pgbench prints tps"));
    }
}

fn median(figures: &[f64]) -> f64 {
    let mut figures = figures.to_vec();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Measures every server in turn and prints a line for each: its median, and the median of its
/// ratios to the first server in the same round.
fn compare(what: &str, servers: &mut [Server], options: &[&str]) {
    for server in servers.iter_mut() {
        server.measured.clear();
    }
    for round in 0..ROUNDS {
        // Whoever is first in a round is another each time.
        let len = servers.len();
        for at in 0..len {
            servers[(round + at) % len].measure(options);
        }
    }
    for server in servers.iter() {
        let ratios: Vec<f64> = server
            .measured
            .iter()
            .zip(&servers[0].measured)
            .map(|(its, bare)| its / bare)
            .collect();
        println!(
            "| {what} | {} | {:.0}/s | {:.2} |",
            server.name,
            median(&server.measured),
            median(&ratios)
        );
    }
}

#[tokio::main]
async fn main() {
    let mut servers = vec![
        Server::new("without pg_seats", false),
        Server::new("pg_seats", true),
    ];
    servers[1].cluster.sql("CREATE EXTENSION pg_seats");
    servers[1]
        .cluster
        .sql("INSERT INTO licenses (product, seats) VALUES ('bench', 10000)");
    let major = servers[0].cluster.programs().major();
    if major >= 17 {
        let rival = Server::new("SQL function at login", false);
        rival.cluster.sql(RIVAL);
        servers.push(rival);
    }

    println!("\nPostgreSQL {major}, {ROUNDS} alternating rounds of {SECONDS} s, medians:\n");
    println!("| what | server | rate | ratio |\n| --- | --- | --- | --- |");
    for held in HELD {
        for server in &mut servers {
            server.hold(held).await;
        }
        let what = format!("logins, {held} seats held");
        compare(&what, &mut servers, &["-C", "-c", "2", "-j", "1"]);
    }
    for server in &mut servers {
        server.held.clear();
    }
    compare(
        "queries of one connection",
        &mut servers,
        &["-M", "prepared"],
    );

    let memory = |server: &Server| -> i64 {
        let sql = "SELECT sum(allocated_size) FROM pg_shmem_allocations WHERE name IS NOT NULL";
        server.cluster.sql(sql).parse().unwrap()
    };
    let seats: i64 = servers[1]
        .cluster
        .sql("SHOW pg_seats.max_seats")
        .parse()
        .unwrap();
    let bytes = (memory(&servers[1]) - memory(&servers[0])) / seats;
    println!("\nShared memory: {bytes} bytes a seat.");
}
