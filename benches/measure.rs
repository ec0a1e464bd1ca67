//! What the benchmarks of a server share.
#![allow(dead_code, reason = "not every benchmark uses all of it")]

use std::fs;

use crate::util::Cluster;

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

/// The middle one.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Seconds of processor time that the launcher has used, and whoever the server has seen end: visitors
/// among them.
pub fn worker_times(cluster: &Cluster) -> [f64; 2] {
    let launcher =
        cluster.sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_seats launcher'");
    let ticks = |pid: &str, fields: [usize; 2]| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let (_, stat) = stat.rsplit_once(')').unwrap();
        let stat: Vec<f64> = stat
            .split_whitespace()
            .map(|field| field.parse().unwrap_or(0.0))
            .collect();
        // In hundredths of a second.
        fields.iter().map(|&field| stat[field]).sum::<f64>() / 100.0
    };
    let postmaster = cluster
        .postmaster_pid()
        .expect("a running server")
        .to_string();
    [ticks(&launcher, [11, 12]), ticks(&postmaster, [13, 14])]
}
