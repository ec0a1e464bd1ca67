//! Replication: a standby of a cluster, and its promotion.

use super::builder::conf_line;
use super::cluster::Cluster;
use super::folder::short_folder;
use super::network::free_port;
use super::programs::run;
use super::wait::{PATIENCE, eventually_blocking};

impl Cluster {
    /// Starts a hot standby that streams from this cluster, with the same settings.
    pub fn standby(&self) -> Cluster {
        self.standby_with("")
    }

    /// Starts the same with more lines in its postgresql.conf.
    pub fn standby_with(&self, conf: &str) -> Cluster {
        let root = short_folder();
        let port = free_port();
        let name = format!("standby_{port}");
        let source = format!(
            "host={} port={} user=postgres application_name={name}",
            self.socket_dir().display(),
            self.port()
        );
        let mut backup = self.programs.server("pg_basebackup");
        backup.args([
            "-R",
            "-X",
            "stream",
            "-c",
            "fast",
            "--no-sync",
            "-d",
            &source,
            "-D",
        ]);
        run(backup.arg(root.path().join("data")), "").ok();
        let standby = Cluster::in_folder(self.programs.clone(), root, port);
        standby.append_conf(&conf_line("hot_standby", "on"));
        standby.append_conf(conf);
        let standby = standby.start_on_free_port();
        let streams =
            format!("SELECT state FROM pg_stat_replication WHERE application_name = '{name}'");
        eventually_blocking("the standby streams", PATIENCE, || {
            self.sql(&streams) == "streaming"
        });
        standby
    }

    /// Waits until this standby has replayed all that its primary has committed by now.
    pub fn catch_up(&self, primary: &Cluster) {
        // What is not flushed yet may remain so until the next commit.
        let target = primary.sql("SELECT pg_current_wal_flush_lsn()");
        let reached = format!("SELECT pg_last_wal_replay_lsn() >= '{target}'");
        eventually_blocking("the standby has caught up", PATIENCE, || {
            self.sql(&reached) == "t"
        });
    }

    /// Makes a standby a primary, ready to write.
    pub fn promote(&self) {
        assert_eq!(self.sql("SELECT pg_promote()"), "t");
    }
}
