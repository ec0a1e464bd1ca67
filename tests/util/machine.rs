//! Clocks of a server's own: they can be set, and the server's machine suspended, without touching the real ones.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::OnceLock;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::cluster::Cluster;
use super::programs::run;

/// What the server's clocks are ahead of the real ones, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shift {
    /// The wall clock.
    pub wall: i64,
    /// The time since the machine's start.
    pub since_start: i64,
}

impl Cluster {
    /// Returns the file that says by how much clocks are ahead, where the server has clocks of its own.
    pub(super) fn clock_file(&self) -> PathBuf {
        self.socket_dir().join("clock")
    }

    /// Sets the server's clocks ahead by so much from now on; it was started with `own_clock`.
    pub fn shift_clocks(&self, shift: Shift) {
        let micros = |seconds: i64| (seconds * 1_000_000).to_ne_bytes();
        let bytes = [micros(shift.wall), micros(shift.since_start)].concat();
        let file = fs::OpenOptions::new().write(true).open(self.clock_file());
        file.unwrap().write_all_at(&bytes, 0).unwrap();
    }

    /// Finds the process of the extension's worker of this kind among the machine's: nobody connects for that.
    pub fn worker_process(&self, kind: &str) -> Option<i32> {
        let title = format!("postgres: pg_seats {kind}");
        let has_title = |process: &i32| {
            let line = fs::read_to_string(format!("/proc/{process}/cmdline"));
            line.is_ok_and(|line| line.starts_with(&title))
        };
        children(self.postmaster_pid()?).into_iter().find(has_title)
    }

    /// Stops every process of the server, as a hypervisor that suspends it; what it returns has them go on when dropped.
    pub fn freeze(&self) -> Frozen {
        let postmaster = self.postmaster_pid().expect("a running server");
        // Nobody is started any more by then.
        let mut processes = vec![postmaster];
        signal(postmaster, Signal::SIGSTOP);
        processes.extend(children(postmaster));
        for process in &processes {
            signal(*process, Signal::SIGSTOP);
        }
        // Who started it has stopped with it.
        processes.extend(parent(postmaster).filter(|parent| *parent != process::id() as i32));
        Frozen(processes)
    }
}

/// The processes of a server that have been stopped.
pub struct Frozen(Vec<i32>);

impl Drop for Frozen {
    fn drop(&mut self) {
        for process in &self.0 {
            signal(*process, Signal::SIGCONT);
        }
    }
}

fn signal(process: i32, signal: Signal) {
    // One that has ended meanwhile is as good.
    let _ = kill(Pid::from_raw(process), signal);
}

fn parent(process: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(1)?.parse().ok()
}

fn children(process: i32) -> Vec<i32> {
    let names = fs::read_dir("/proc").unwrap().flatten();
    let all = names.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    all.filter(|child| parent(*child) == Some(process))
        .collect()
}

/// Builds the library that shifts clocks, once.
pub(super) fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/util/shift.c");
        // Where the server's user can read it.
        let library = Path::new("/tmp").join(format!("seats-clock-{}.so", process::id()));
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O2", "-o"])
            .arg(&library)
            .arg(source);
        run(&mut cc, "").ok();
        library
    })
}
