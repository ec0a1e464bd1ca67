//! PostgreSQL's programs: where they are, as whom they run, what came of it.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;

use nix::unistd::{Uid, User, geteuid};

use super::clock::Wound;

const DEFAULT_BINDIR: &str = "/usr/lib/postgresql/15/bin";

/// PostgreSQL refuses root; this user runs its servers then.
const SERVER_USER: &str = "postgres";

/// One installation's `bin` folder.
#[derive(Clone, Debug)]
pub struct Programs {
    bindir: PathBuf,
    /// The network namespace that they run in, if not this process's own.
    namespace: Option<String>,
    /// The clock that servers go by, if not the real one.
    pub(super) clock: Option<Wound>,
}

impl Programs {
    /// Returns the installation that `PG_SEATS_BINDIR` names.
    pub fn from_env() -> Self {
        Self::in_folder(env::var_os("PG_SEATS_BINDIR").unwrap_or_else(|| DEFAULT_BINDIR.into()))
    }

    /// Returns the installation with this `bin` folder.
    pub fn in_folder(bindir: impl Into<PathBuf>) -> Self {
        Self {
            bindir: bindir.into(),
            namespace: None,
            clock: None,
        }
    }

    /// Runs the same programs in this network namespace.
    pub(super) fn inside(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// Tells whether they run in this process's own network.
    pub(super) fn are_local(&self) -> bool {
        self.namespace.is_none()
    }

    /// Returns the `bin` folder.
    pub fn bindir(&self) -> &Path {
        &self.bindir
    }

    /// Returns a program run as the user who runs the tests.
    pub fn client(&self, name: &str) -> Command {
        self.command(&[], name)
    }

    /// Returns a program run as the server's user, who isn't root.
    pub fn server(&self, name: &str) -> Command {
        let mut command = if geteuid().is_root() {
            self.command(&["runuser", "-u", SERVER_USER, "--"], name)
        } else {
            self.client(name)
        };
        if let Some(clock) = &self.clock {
            command
                .env("LD_PRELOAD", &clock.library)
                .env("PG_SEATS_CLOCK", &clock.ahead);
        }
        command
    }

    /// Returns a program that others start: each becomes the next.
    fn command(&self, starters: &[&str], name: &str) -> Command {
        let program = self.bindir.join(name);
        let mut words = starters.to_vec();
        if let Some(namespace) = &self.namespace {
            words.splice(..0, ["ip", "netns", "exec", namespace]);
        }
        let mut words = words
            .into_iter()
            .map(OsStr::new)
            .chain([program.as_os_str()]);
        let mut command = Command::new(words.next().unwrap());
        command.args(words);
        scrubbed(command)
    }

    /// Returns what its pg_config says it is, such as PostgreSQL 15.20.
    pub fn version(&self) -> String {
        self.config(&["--version"])
    }

    /// Returns the files of the extension.
    pub(super) fn extension(&self) -> Vec<PathBuf> {
        let folders = self.config(&["--pkglibdir", "--sharedir"]);
        let (library, share) = folders.split_once('\n').unwrap();
        let scripts = fs::read_dir(Path::new(share).join("extension")).unwrap();
        let scripts = scripts.map(|script| script.unwrap().path());
        let is_ours = |path: &PathBuf| {
            let name = path.file_name().unwrap();
            name.to_string_lossy().starts_with("pg_seats")
        };
        let mut files: Vec<_> = scripts.filter(is_ours).collect();
        files.push(Path::new(library).join("pg_seats.so"));
        files.sort_unstable();
        files
    }

    /// Returns what its pg_config says, which is asked once.
    fn config(&self, what: &'static [&str]) -> String {
        static SAID: Mutex<BTreeMap<(PathBuf, &[&str]), String>> = Mutex::new(BTreeMap::new());
        let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = said.entry((self.bindir.clone(), what));
        let ask = || run(self.client("pg_config").args(what), "").ok();
        answer.or_insert_with(ask).clone()
    }

    /// Returns the major version, such as 15.
    pub fn major(&self) -> u32 {
        let version = self.version();
        let number = version.split_whitespace().nth(1).unwrap_or_default();
        let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
        digits
            .parse()
            .unwrap_or_else(|_| panic!("no version in {version:?}"))
    }
}

/// Returns the user who runs the servers.
pub fn server_user() -> User {
    let user = if geteuid().is_root() {
        User::from_name(SERVER_USER)
    } else {
        User::from_uid(Uid::effective())
    };
    user.unwrap().expect("a user who may run PostgreSQL")
}

/// Removes settings of the caller's own environment, and enters a folder that everyone may enter.
pub(super) fn scrubbed(mut command: Command) -> Command {
    for (name, _) in env::vars_os() {
        let name_is = |start| name.to_string_lossy().starts_with(start);
        // A server that makes a backtrace of each error holds its locks for as long, as none of a user's does.
        if name_is("PG") || name_is("RUST_") {
            command.env_remove(&name);
        }
    }
    command
        .env("LC_ALL", "C")
        .current_dir("/tmp")
        .stdin(Stdio::null());
    command
}

/// What came of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// The exit status; none if a signal ended it.
    pub status: Option<i32>,
    /// Its output, without the last line's end.
    pub stdout: String,
    /// Its complaints.
    pub stderr: String,
}

impl Ran {
    /// Returns the output of a program that must have succeeded.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.status, Some(0), "{self:#?}");
        self.stdout
    }

    /// Returns the complaints of a program that must have failed.
    #[track_caller]
    pub fn failed(self) -> String {
        assert_ne!(self.status, Some(0), "{self:#?}");
        self.stderr
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout)
                .trim_end()
                .to_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Starts a command whose input and output are ours.
pub fn spawn(command: &mut Command) -> Child {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Runs a command to its end, with this input.
pub fn run(command: &mut Command, input: &str) -> Ran {
    let mut child = spawn(command);
    let mut stdin = child.stdin.take().unwrap();
    thread::scope(|scope| {
        // A program that ends early doesn't read all; its status tells.
        scope.spawn(move || stdin.write_all(input.as_bytes()));
        child.wait_with_output().unwrap().into()
    })
}
