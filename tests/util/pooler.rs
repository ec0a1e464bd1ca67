//! A throwaway PgBouncer before a cluster: many clients over few connections, gone when dropped.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::cluster::Cluster;
use super::folder::short_folder;
use super::login::Login;
use super::network::free_port;
use super::programs::Programs;
use super::wait::{PATIENCE, eventually_blocking, holds_within};

/// A PgBouncer in transaction mode.
#[derive(Debug)]
pub struct Pooler {
    /// runuser where root runs the tests: the pooler's own process is in its pid file.
    child: Child,
    root: TempDir,
    port: u16,
    programs: Programs,
}

impl Cluster {
    /// Starts a pooler that logs in as this role from 127.0.0.1 and has at most so many connections, however many
    /// clients come. PgBouncer can't choose the address that it comes from.
    pub fn pooler(&self, user: &str, connections: u32) -> Pooler {
        self.pooler_with(user, connections, "")
    }

    /// Starts one with more lines in its configuration.
    pub fn pooler_with(&self, user: &str, connections: u32, conf: &str) -> Pooler {
        for _ in 0..10 {
            if let Some(pooler) = Pooler::try_start(self, user, connections, conf) {
                return pooler;
            }
        }
        panic!("no port to be had for a pooler");
    }
}

impl Pooler {
    /// Describes a connection through it. Whatever name the client gives, it is the pooler's role that
    /// the server sees.
    pub fn login(&self) -> Login {
        Login::new(self.port, self.root.path(), "anybody")
            .programs(&self.programs)
            .from("127.0.0.1")
    }

    /// Returns what it has logged so far.
    pub fn log(&self) -> String {
        log(self.root.path())
    }

    /// Returns its folder, which is gone with it.
    pub fn folder(&self) -> &Path {
        self.root.path()
    }

    /// Tries to start it; `None` if somebody else took the port.
    fn try_start(cluster: &Cluster, user: &str, connections: u32, more: &str) -> Option<Self> {
        let (root, port) = (short_folder(), free_port());
        let folder = root.path();
        let conf = folder.join("pgbouncer.ini");
        let text = conf_text(cluster.port(), user, connections, port, &pid_path(folder));
        fs::write(&conf, text + more).unwrap();
        let program = cluster.programs().bindir().join("pgbouncer");
        let output = File::create(log_path(folder)).unwrap();
        let mut command = Programs::in_folder(&program).server("pgbouncer");
        command
            .env("LD_LIBRARY_PATH", &program)
            .arg(conf)
            .stdout(output.try_clone().unwrap())
            .stderr(output);
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut ended = false;
        eventually_blocking("the pooler is ready", PATIENCE, || {
            ended = child.try_wait().unwrap().is_some();
            ended || log(folder).contains("process up")
        });
        if ended {
            let log = log(folder);
            assert!(log.contains("nowhere to listen on"), "no pooler: {log}");
            return None;
        }
        Some(Self {
            child,
            root,
            port,
            programs: cluster.programs().clone(),
        })
    }
}

/// Returns its configuration, without a Unix socket, so that it ends at once where the port is taken.
fn conf_text(server: u16, user: &str, connections: u32, port: u16, pid: &Path) -> String {
    format!(
        "[databases]\n\
         * = host=127.0.0.1 port={server} user={user}\n\
         [pgbouncer]\n\
         listen_addr = 127.0.0.1\n\
         listen_port = {port}\n\
         unix_socket_dir =\n\
         auth_type = any\n\
         pool_mode = transaction\n\
         default_pool_size = {connections}\n\
         max_client_conn = 500\n\
         ignore_startup_parameters = extra_float_digits\n\
         pidfile = {}\n",
        pid.display()
    )
}

fn log(folder: &Path) -> String {
    fs::read_to_string(log_path(folder)).unwrap_or_default()
}

fn log_path(folder: &Path) -> PathBuf {
    folder.join("log")
}

fn pid_path(folder: &Path) -> PathBuf {
    folder.join("pid")
}

impl Drop for Pooler {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!(
                "the log of the pooler on port {}:\n{}",
                self.port,
                self.log()
            );
        }
        // SIGTERM: at once, without waiting for clients.
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            if let Some(pid) = fs::read_to_string(pid_path(self.root.path()))
                .ok()
                .and_then(|text| text.trim().parse().ok())
            {
                let _ = kill(Pid::from_raw(pid), signal);
            }
            let ended = || {
                self.child
                    .try_wait()
                    .map_or(true, |status| status.is_some())
            };
            if holds_within(PATIENCE, ended) {
                return;
            }
        }
        eprintln!("the pooler on port {} did not stop", self.port);
    }
}
