//! What the benchmarks of a server share.

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
