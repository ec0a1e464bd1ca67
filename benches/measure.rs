//! What the benchmarks of a server share.
#![allow(dead_code, reason = "not every benchmark uses all of it")]

use crate::util::{Cluster, Login, Session, race, ticks};

/// Transactions per second of a script in a database, as pgbench measures them for so many seconds.
pub fn rate(cluster: &Cluster, db: &str, script: &str, seconds: &str, options: &[&str]) -> f64 {
    cluster.write("script.sql", script);
    let file = cluster.data_dir().join("script.sql");
    let file = file.to_string_lossy();
    let mut args = options.to_vec();
    args.extend(["-U", "bench", "-n", "-T", seconds, "-f", &file, db]);
    let output = cluster.program("pgbench", &args).ok();
    let tps = output
        .lines()
        .find_map(|line| line.strip_prefix("tps = "))
        .and_then(|figures| figures.split(' ').next())
        .and_then(|tps| tps.parse().ok());
    tps.expect("pgbench prints tps")
}

/// Returns the middle one.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Seconds of processor time that the launcher has used, and whoever the server has seen end: database workers
/// among them.
pub fn worker_times(cluster: &Cluster) -> [f64; 2] {
    let launcher = cluster.worker("launcher").expect("a launcher");
    let postmaster = cluster.postmaster_pid().expect("a running server");
    [ticks(launcher)[0], ticks(postmaster)[1]].map(|ticks| ticks as f64 / 100.0)
}

/// Returns so many sessions, each from a host of its own.
pub async fn sessions(login: &Login, number: usize) -> Vec<Session> {
    let logins = race(number, |at| {
        let host = format!("127.1.{}.{}", at / 250, at % 250 + 1);
        login.clone().from(&host)
    });
    logins.await.into_iter().map(Result::unwrap).collect()
}
