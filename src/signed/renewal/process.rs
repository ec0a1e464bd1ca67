//! A command that runs beside its server process: the process never waits for it without a look at the clock, and never
//! leaves it behind.
//!
//! The command has a process group of its own, which is killed once the shell has ended or its time is up. If this
//! process ends before, [`kill_running`] kills it; if this process is killed, the kernel kills the shell (which for a
//! single program has become that program). Whatever else the shell has started then ends by itself, or when it writes.
#![allow(
    unsafe_code,
    reason = "a child asks the kernel for its end before it becomes the shell"
)]

use std::ffi::OsStr;
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStderr, ChildStdout, ExitStatus, Stdio};
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{Pid, getpid, getppid};

use crate::core::command::{Command, Failure};
use crate::core::tokens::TOKEN_MAX;

/// How long a command may take: enough for a slow server's answer and for curl's own retries, and short enough to wait
/// for by hand.
pub const TIME_LIMIT: Duration = Duration::from_secs(30);

/// How much of the command's complaints is read at once, and kept.
const COMPLAINT_READ: usize = 65_536;
const COMPLAINT_KEPT: usize = 4_096;

/// How much of its last complaint is shown.
const COMPLAINT_SHOWN: usize = 200;

/// The process group that runs; 0 for none. There is one at most.
static RUNNING: AtomicI32 = AtomicI32::new(0);

/// A command that runs, and what it has written.
#[derive(Debug)]
pub struct Process {
    shell: Child,
    group: Pid,
    stdout: ChildStdout,
    stderr: ChildStderr,
    output: Vec<u8>,
    complaint: Vec<u8>,
    started_at: Instant,
    limit: Duration,
    is_over: bool,
}

impl Process {
    /// Starts a command with a time limit.
    ///
    /// # Errors
    ///
    /// If there is no shell, or no process can be started.
    pub fn start(command: &Command, limit: Duration) -> io::Result<Process> {
        let mut shell = std::process::Command::new("/bin/sh");
        shell
            .arg("-c")
            .arg(OsStr::from_bytes(&command.line))
            .arg("pg_seats")
            .args(&command.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let parent = getpid();
        // SAFETY: between fork and exec the closure only makes system calls, which are async-signal-safe.
        unsafe {
            shell.pre_exec(move || {
                set_pdeathsig(Signal::SIGKILL)?;
                // The parent may have ended before the call took effect.
                if getppid() != parent {
                    return Err(Errno::ESRCH.into());
                }
                Ok(())
            });
        }
        let mut shell = shell.spawn()?;
        let group = Pid::from_raw(i32::try_from(shell.id()).map_err(io::Error::other)?);
        RUNNING.store(group.as_raw(), Relaxed);
        let pipes = shell.stdout.take().zip(shell.stderr.take());
        let (stdout, stderr) = pipes.ok_or_else(|| io::Error::other("it has no pipes"))?;
        let process = Process {
            shell,
            group,
            stdout,
            stderr,
            output: Vec::new(),
            complaint: Vec::new(),
            started_at: Instant::now(),
            limit,
            is_over: false,
        };
        for pipe in [process.stdout.as_fd(), process.stderr.as_fd()] {
            fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        Ok(process)
    }

    /// Returns what the command has written once it has ended; `None` while it runs within its time. Never waits.
    ///
    /// # Errors
    ///
    /// If it has failed or written too much, or its time is up: then it is over.
    pub fn poll(&mut self) -> Option<Result<Vec<u8>, Failure>> {
        let polled = self.try_poll();
        let polled = polled.unwrap_or_else(|error| {
            let reason = format!("The command could not be run: {error}.");
            Some(Err(Failure::Command(reason)))
        });
        if polled.is_some() {
            let _ = self.end_group();
        }
        polled
    }

    fn try_poll(&mut self) -> io::Result<Option<Result<Vec<u8>, Failure>>> {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        let has_ended = waitid(Id::Pid(self.group), flags)? != WaitStatus::StillAlive;
        let status = if has_ended {
            Some(self.end_group()?)
        } else {
            None
        };
        // What the command wrote before its end can be read now.
        self.read()?;
        if self.output.len() > TOKEN_MAX {
            let reason = format!("The command wrote more than {TOKEN_MAX} bytes.");
            return Ok(Some(Err(Failure::Command(reason))));
        }
        let Some(status) = status else {
            let is_late = self.started_at.elapsed() >= self.limit;
            let how = format!("took longer than {:?}", self.limit);
            return Ok(is_late.then(|| Err(self.complaining(&how))));
        };
        if status.success() {
            return Ok(Some(Ok(std::mem::take(&mut self.output))));
        }
        let how = match (status.code(), status.signal()) {
            (Some(code), _) => format!("ended with status {code}"),
            (None, signal) => format!("was ended by signal {}", signal.unwrap_or(0)),
        };
        Ok(Some(Err(self.complaining(&how))))
    }

    fn read(&mut self) -> io::Result<()> {
        let room = TOKEN_MAX + 1 - self.output.len().min(TOKEN_MAX);
        read_available(&mut self.stdout, &mut self.output, room)?;
        read_available(&mut self.stderr, &mut self.complaint, COMPLAINT_READ)?;
        let beyond = self.complaint.len().saturating_sub(COMPLAINT_KEPT);
        self.complaint.drain(..beyond);
        Ok(())
    }

    /// Returns a failure with the last line of the command's complaints.
    fn complaining(&self, how: &str) -> Failure {
        let reason = format!("The command {how}.");
        let complaint = String::from_utf8_lossy(&self.complaint);
        let last = complaint
            .lines()
            .rev()
            .map(str::trim)
            .find(|line| !line.is_empty());
        let Some(line) = last else {
            return Failure::Command(reason);
        };
        let shown: String = line.chars().take(COMPLAINT_SHOWN).collect();
        Failure::Complained {
            reason,
            complaint: shown.trim_end_matches('.').to_owned(),
        }
    }

    /// Kills the group, with whatever the shell has started.
    fn end_group(&mut self) -> io::Result<ExitStatus> {
        if !self.is_over {
            self.is_over = true;
            // Until the shell is waited for, no other process group can have this number.
            let _ = killpg(self.group, Signal::SIGKILL);
            RUNNING.store(0, Relaxed);
        }
        self.shell.wait()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.end_group();
    }
}

/// Kills the command that runs, when this process ends without dropping it.
pub fn kill_running() {
    let group = RUNNING.swap(0, Relaxed);
    if group > 0 {
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
}

/// Reads what is available, at most this much.
fn read_available(pipe: &mut impl Read, into: &mut Vec<u8>, most: usize) -> io::Result<()> {
    match pipe.take(most as u64).read_to_end(into) {
        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::thread;

    use nix::sys::signal::kill;

    use super::*;

    const PLENTY: Duration = Duration::from_secs(60);

    fn command(line: &str) -> Command {
        Command {
            line: line.into(),
            arguments: ["TOM-4711".to_owned(), "Miller Plumbing".to_owned()],
        }
    }

    fn ended(mut process: Process) -> Result<Vec<u8>, Failure> {
        loop {
            if let Some(ended) = process.poll() {
                return ended;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Returns what a command writes.
    pub(crate) fn output(command: &Command) -> Result<Vec<u8>, Failure> {
        ended(Process::start(command, PLENTY).unwrap())
    }

    fn reason(line: &str) -> String {
        output(&command(line)).unwrap_err().to_string()
    }

    /// Waits until a process is gone, and tells whether it is.
    fn is_gone(pid: &str) -> bool {
        let pid = Pid::from_raw(pid.trim().parse().unwrap());
        let deadline = Instant::now() + PLENTY;
        while Instant::now() < deadline {
            if kill(pid, None) == Err(Errno::ESRCH) {
                return true;
            }
            thread::sleep(Duration::from_millis(10));
        }
        false
    }

    #[test]
    fn what_it_writes_comes_back() {
        assert_eq!(
            output(&command("echo a; echo b >&2; echo c")).unwrap(),
            b"a\nc\n"
        );
        assert_eq!(output(&command("cat")).unwrap(), b"");
        let much = format!("head -c {TOKEN_MAX} /dev/zero");
        assert_eq!(output(&command(&much)).unwrap().len(), TOKEN_MAX);
    }

    #[test]
    fn a_failure_is_told_with_its_last_complaint() {
        assert_eq!(reason("exit 22"), "The command ended with status 22.");
        assert_eq!(
            reason("echo a; echo first >&2; echo 'It broke.' >&2; echo >&2; exit 7"),
            "The command ended with status 7: It broke."
        );
        assert_eq!(reason("kill -9 $$"), "The command was ended by signal 9.");
        let missing = reason("no-such-program");
        assert!(
            missing.contains("status 127") && missing.contains("not found"),
            "{missing}"
        );
        let much = reason("yes word | head -c 1000000 >&2; exit 3");
        assert_eq!(much, "The command ended with status 3: word.");
        let long = reason("head -c 1000 /dev/zero | tr '\\0' x >&2; exit 3");
        assert!(long.len() < 300, "{long}");
    }

    #[test]
    fn output_without_end_is_not_waited_for() {
        let reason = reason("yes");
        assert_eq!(reason, "The command wrote more than 65536 bytes.");
    }

    #[test]
    fn complaints_without_end_are_forgotten() {
        let process = Process::start(&command("yes >&2"), Duration::from_millis(300));
        let reason = ended(process.unwrap()).unwrap_err().to_string();
        assert!(
            reason.starts_with("The command took longer than 300ms"),
            "{reason}"
        );
    }

    #[test]
    fn what_it_has_started_ends_with_it() {
        let pid = output(&command("sleep 1000 & echo $!")).unwrap();
        assert!(is_gone(str::from_utf8(&pid).unwrap()));
    }

    #[test]
    fn when_its_time_is_up_all_of_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pids");
        let line = format!(
            "trap '' TERM; echo $$ >{0}; sleep 1000 & echo $! >>{0}; wait",
            file.display()
        );
        let mut process = Process::start(&command(&line), PLENTY).unwrap();
        let pids = || std::fs::read_to_string(&file).unwrap_or_default();
        while pids().lines().count() < 2 {
            assert_eq!(process.poll(), None);
        }
        process.limit = Duration::ZERO;
        assert!(process.poll().unwrap().is_err());
        assert!(pids().lines().all(is_gone));
        // The same if nobody waits for it any longer.
        let process = Process::start(&command("exec sleep 1000"), PLENTY).unwrap();
        let pid = process.group.to_string();
        drop(process);
        assert!(is_gone(&pid));
    }
}
