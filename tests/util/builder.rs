//! What a cluster starts with.

use std::process::Command;

use super::cluster::Cluster;
use super::folder::short_folder;
use super::network::{free_port, has_ipv6};
use super::programs::{Programs, run};
use super::template::copy_to;

/// Everybody gets in without a password.
pub const TRUST_HBA: &str = "\
local all,replication all trust
host all,replication all 127.0.0.0/8 trust
host all,replication all ::1/128 trust
";

/// Everybody needs a password, except `postgres` on the Unix socket.
pub const SCRAM_HBA: &str = "\
local all,replication postgres trust
local all all scram-sha-256
host all all 127.0.0.0/8 scram-sha-256
host all all ::1/128 scram-sha-256
";

/// A server that doesn't run yet.
#[derive(Clone, Debug)]
pub struct Builder {
    pub(super) programs: Programs,
    preload: bool,
    hba: String,
    conf: String,
    staffed: bool,
    group_access: bool,
    own_clock: bool,
}

impl Builder {
    pub(super) fn new() -> Self {
        Self {
            programs: Programs::from_env(),
            preload: true,
            hba: TRUST_HBA.into(),
            conf: String::new(),
            staffed: false,
            group_access: false,
            own_clock: false,
        }
    }

    /// Adds a line to postgresql.conf; the last line for a name counts.
    pub fn conf(mut self, name: &str, value: impl ToString) -> Self {
        self.conf.push_str(&conf_line(name, value));
        self
    }

    /// Gives the server room for a crowd, so that PostgreSQL itself denies nobody. A start is the dearer, the more
    /// there is room for.
    pub fn roomy(self) -> Self {
        self.conf("max_connections", 500)
    }

    /// Sets whether `shared_preload_libraries` names pg_seats: by default it does.
    pub fn preload(mut self, preload: bool) -> Self {
        self.preload = preload;
        self
    }

    /// Replaces pg_hba.conf, which is [`TRUST_HBA`] otherwise.
    pub fn hba(mut self, text: &str) -> Self {
        text.clone_into(&mut self.hba);
        self
    }

    /// Adds the extension in database `postgres`, and the staff, from the start.
    pub fn staffed(mut self) -> Self {
        self.staffed = true;
        self
    }

    /// Lets the server's group read the data folder, as `initdb --allow-group-access` does.
    pub fn group_access(mut self) -> Self {
        self.group_access = true;
        self
    }

    /// Gives it clocks of its own: see [`Shift`](super::Shift).
    pub fn own_clock(mut self) -> Self {
        self.own_clock = true;
        self
    }

    /// Asks everybody for a password: [`SCRAM_HBA`].
    pub fn scram(self) -> Self {
        self.hba(SCRAM_HBA)
    }

    /// Runs the programs of another installation than `PG_SEATS_BINDIR`.
    pub fn programs(mut self, programs: Programs) -> Self {
        self.programs = programs;
        self
    }

    /// Starts it, ready for connections.
    pub fn start(self) -> Cluster {
        let root = short_folder();
        copy_to(&self.programs, self.staffed, &root.path().join("data"));
        if self.group_access {
            let mut chmod = Command::new("chmod");
            run(chmod.args(["-R", "g+rX"]).arg(root.path().join("data")), "").ok();
        }
        let cluster = Cluster::in_folder(self.programs.clone(), root, free_port());
        if self.own_clock {
            std::fs::write(cluster.clock_file(), [0; 16]).unwrap();
        }
        cluster.write("pg_hba.conf", &self.hba);
        cluster.append_conf(&self.fixed_conf());
        cluster.append_conf(&self.conf);
        cluster.start_on_free_port()
    }

    fn fixed_conf(&self) -> String {
        let addresses = if has_ipv6() {
            "127.0.0.1,::1"
        } else {
            "127.0.0.1"
        };
        let mut conf = [
            ("listen_addresses", addresses),
            ("max_connections", "100"),
            ("shared_buffers", "16MB"),
            ("fsync", "off"),
            ("full_page_writes", "off"),
            ("log_line_prefix", "%m [%p] %q%u@%d/%a "),
        ]
        .map(|(name, value)| conf_line(name, value))
        .concat();
        if self.preload {
            conf.push_str(&conf_line("shared_preload_libraries", "pg_seats"));
        }
        conf
    }
}

/// Returns a line of postgresql.conf.
pub fn conf_line(name: &str, value: impl ToString) -> String {
    format!("{name} = '{}'\n", value.to_string().replace('\'', "''"))
}
