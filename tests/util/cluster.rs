//! A throwaway server: start, stop, crash, log; gone with its folder when dropped.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::builder::{Builder, conf_line};
use super::login::Login;
use super::network::free_port;
use super::programs::Programs;
use super::wait::{PATIENCE, eventually_blocking, holds_within};

/// How a server is asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Waits for the clients to leave.
    Smart,
    /// Ends the sessions, then stops in order.
    Fast,
    /// Stops as in a crash; the next start recovers.
    Immediate,
}

/// A server of the test's own.
#[derive(Debug)]
pub struct Cluster {
    pub(super) programs: Programs,
    root: TempDir,
    port: u16,
    server: Mutex<Option<Child>>,
}

impl Cluster {
    /// Returns a server with pg_seats preloaded and no settings of its own.
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// Returns a server to be described first.
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(super) fn in_folder(programs: Programs, root: TempDir, port: u16) -> Self {
        Self {
            programs,
            root,
            port,
            server: Mutex::new(None),
        }
    }

    /// Returns the TCP port, the same for its whole life.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the folder of the Unix socket.
    pub fn socket_dir(&self) -> &Path {
        self.root.path()
    }

    /// Returns the data folder.
    pub fn data_dir(&self) -> PathBuf {
        self.root.path().join("data")
    }

    /// Returns the programs it runs with.
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// Describes a connection to it: database `postgres`, over the Unix socket unless told otherwise.
    pub fn login(&self, user: &str) -> Login {
        Login::new(self.port, self.socket_dir(), user).programs(&self.programs)
    }

    /// Adds lines to postgresql.conf; a reload or restart makes them count.
    pub fn append_conf(&self, lines: &str) {
        let file = OpenOptions::new()
            .append(true)
            .open(self.data_dir().join("postgresql.conf"));
        file.and_then(|mut file| file.write_all(lines.as_bytes()))
            .unwrap();
    }

    /// Writes a file of the data folder.
    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.data_dir().join(name), text).unwrap();
    }
}

/// Starting and stopping.
impl Cluster {
    /// Starts it for the first time: takes another port if somebody was faster.
    pub(super) fn start_on_free_port(mut self) -> Self {
        raise_file_limit();
        let socket_dir = self.socket_dir().display().to_string();
        self.append_conf(&conf_line("unix_socket_directories", socket_dir));
        for _ in 0..10 {
            self.append_conf(&conf_line("port", self.port));
            let mark = self.log().len();
            let started = self.try_start();
            if !self.log_since(mark).contains("could not bind") {
                assert!(started, "the server did not start:\n{}", self.log());
                return self;
            }
            if started {
                self.stop(Stop::Immediate);
            }
            self.port = free_port();
        }
        panic!("no port to be had:\n{}", self.log());
    }

    /// Starts it after [`stop`](Self::stop), ready for connections.
    pub fn start_again(&self) {
        assert!(
            self.try_start(),
            "the server did not start:\n{}",
            self.log_tail()
        );
    }

    /// Starts it; false if it ended before it was ready, as its log tells.
    pub fn try_start(&self) -> bool {
        let mut server = self.server();
        assert!(server.is_none(), "the server runs already");
        // What a killed server left behind would look like a ready one.
        match fs::remove_file(self.data_dir().join("postmaster.pid")) {
            Err(error) if error.kind() != ErrorKind::NotFound => panic!("{error}"),
            _ => {}
        }
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_path())
            .unwrap();
        let mut command = self.programs.server("postgres");
        command
            .arg("-D")
            .arg(self.data_dir())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        if self.clock_file().exists() {
            command
                .env("LD_PRELOAD", super::machine::library())
                .env("SEATS_CLOCK", self.clock_file());
        }
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut ended = false;
        eventually_blocking("the server is ready", 3 * PATIENCE, || {
            ended = child.try_wait().unwrap().is_some();
            ended || self.pid_file(7).is_some_and(|status| status == "ready")
        });
        *server = (!ended).then_some(child);
        !ended
    }

    /// Stops it.
    pub fn stop(&self, mode: Stop) {
        let pid = self.postmaster_pid().expect("a running server");
        self.signal(pid, mode.signal());
        self.wait_stopped();
    }

    /// Waits until the server has ended by itself or by [`signal`](Self::signal).
    pub fn wait_stopped(&self) {
        let mut server = self.server();
        let child = server.as_mut().expect("a started server");
        eventually_blocking("the server has stopped", 3 * PATIENCE, || {
            child.try_wait().unwrap().is_some()
        });
        *server = None;
    }

    /// Stops it and starts it again.
    pub fn restart(&self, mode: Stop) {
        self.stop(mode);
        self.start_again();
    }

    /// Returns the process at the root of the server.
    pub fn postmaster_pid(&self) -> Option<i32> {
        self.pid_file(0)?.parse().ok()
    }

    /// Sends a signal to any of its processes.
    pub fn signal(&self, pid: i32, signal: Signal) {
        kill(Pid::from_raw(pid), signal).unwrap_or_else(|error| panic!("process {pid}: {error}"));
    }

    /// Sends a signal to a backend and waits until its process is gone.
    pub fn kill_backend(&self, pid: i32, signal: Signal) {
        self.signal(pid, signal);
        eventually_blocking("the killed backend is gone", PATIENCE, || !is_alive(pid));
    }

    /// Kills a backend as a crash would, and waits until the server has recovered from it.
    pub fn crash_backend(&self, pid: i32) {
        let mark = self.log().len();
        self.kill_backend(pid, Signal::SIGKILL);
        self.wait_log_since(mark, "all server processes terminated; reinitializing");
        self.wait_ready();
    }

    /// Waits until a superuser can log in.
    pub fn wait_ready(&self) {
        eventually_blocking("the server accepts connections", 3 * PATIENCE, || {
            self.psql_as("postgres", "postgres", "SELECT 1").status == Some(0)
        });
    }

    fn server(&self) -> MutexGuard<'_, Option<Child>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pid_file(&self, line: usize) -> Option<String> {
        let text = fs::read_to_string(self.data_dir().join("postmaster.pid")).ok()?;
        Some(text.lines().nth(line)?.trim().to_owned())
    }
}

/// The server's log.
impl Cluster {
    /// Returns the whole server log.
    pub fn log(&self) -> String {
        fs::read(self.log_path())
            .map(|text| String::from_utf8_lossy(&text).into_owned())
            .unwrap_or_default()
    }

    /// Returns the server log after its first `mark` bytes.
    pub fn log_since(&self, mark: usize) -> String {
        self.log().get(mark..).unwrap_or_default().to_owned()
    }

    /// Waits until the log has this text.
    pub fn wait_log(&self, text: &str, deadline: Duration) {
        let what = format!("{text:?} in the server's log");
        eventually_blocking(&what, deadline, || self.log().contains(text));
    }

    /// Waits until the log has this text after `mark`.
    pub fn wait_log_since(&self, mark: usize, text: &str) {
        let what = format!("{text:?} in the server's log");
        eventually_blocking(&what, PATIENCE, || self.log_since(mark).contains(text));
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(80)..].join("\n")
    }

    fn log_path(&self) -> PathBuf {
        self.root.path().join("log")
    }
}

impl Stop {
    fn signal(self) -> Signal {
        match self {
            Self::Smart => Signal::SIGTERM,
            Self::Fast => Signal::SIGINT,
            Self::Immediate => Signal::SIGQUIT,
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!(
                "the end of the log of the server on port {}:\n{}",
                self.port,
                self.log_tail()
            );
        }
        let Some(mut child) = self.server().take() else {
            return;
        };
        let mut has_ended = || child.try_wait().map_or(true, |status| status.is_some());
        for signal in [Signal::SIGQUIT, Signal::SIGKILL] {
            if let Some(pid) = self.postmaster_pid() {
                let _ = kill(Pid::from_raw(pid), signal);
            }
            if holds_within(PATIENCE, &mut has_ended) {
                return;
            }
        }
        eprintln!("the server on port {} did not stop", self.port);
    }
}

/// Tells whether a process exists.
pub fn is_alive(pid: i32) -> bool {
    kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH)
}

/// Raises the limit of open files: a thousand clients in one process need more than the usual number.
fn raise_file_limit() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
}
