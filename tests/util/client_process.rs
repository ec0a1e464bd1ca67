//! A client program of its own process: psql that reads what the test sends, and can be killed at any moment.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout};

use super::login::Login;
use super::programs::{Ran, spawn};

/// A running psql. Dropping it kills it.
#[derive(Debug)]
pub struct ClientProcess {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl ClientProcess {
    /// Starts psql. It can't choose its address: from the Unix socket, 127.0.0.1 or ::1, or from the only one that a
    /// computer of its own has.
    #[track_caller]
    pub(super) fn start(login: &Login) -> Self {
        let config = &login.config;
        let host = match login.addresses {
            None => OsString::from(&login.socket_dir),
            Some((from, to)) if from == to || !login.programs.are_local() => to.to_string().into(),
            Some((from, _)) => panic!("a client program can't choose to come from {from}"),
        };
        let mut command = login.programs.client("psql");
        command
            .args(["-XAtq", "-h"])
            .arg(host)
            .args(["-p", &login.port.to_string()]);
        command.args([
            "-U",
            config.get_user().unwrap(),
            "-d",
            config.get_dbname().unwrap(),
        ]);
        let password = config
            .get_password()
            .map(String::from_utf8_lossy)
            .map(|text| text.into_owned());
        let texts = [
            ("PGOPTIONS", config.get_options().map(str::to_owned)),
            (
                "PGAPPNAME",
                config.get_application_name().map(str::to_owned),
            ),
            ("PGPASSWORD", password),
        ];
        command.envs(
            texts
                .into_iter()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        let mut child = spawn(&mut command);
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self {
            child,
            stdin,
            stdout,
        }
    }

    /// Sends statements or psql's own commands, and doesn't wait for them.
    pub fn send(&mut self, sql: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        writeln!(stdin, "{sql}")
            .and_then(|()| stdin.flush())
            .unwrap();
    }

    /// Sends a query and waits for its first line; panics with psql's complaint if it ended instead.
    #[track_caller]
    pub fn ask(&mut self, sql: &str) -> String {
        self.send(sql);
        let mut line = String::new();
        if self.stdout.read_line(&mut line).unwrap() == 0 {
            let mut complaint = String::new();
            let _ = self
                .child
                .stderr
                .take()
                .unwrap()
                .read_to_string(&mut complaint);
            panic!("psql ended: {complaint}");
        }
        line.trim_end().to_owned()
    }

    /// Waits until it has logged in and returns the backend's process.
    #[track_caller]
    pub fn backend_pid(&mut self) -> i32 {
        self.ask("SELECT pg_backend_pid();").parse().unwrap()
    }

    /// Kills the program as `kill -9` does, and waits for its end.
    pub fn kill9(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends its input and waits until it has done all of it.
    pub fn finish(mut self) -> Ran {
        drop(self.stdin.take());
        let (mut stdout, mut stderr) = (String::new(), String::new());
        self.stdout.read_to_string(&mut stdout).unwrap();
        self.child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut stderr)
            .unwrap();
        let status = self.child.wait().unwrap().code();
        Ran {
            status,
            stdout: stdout.trim_end().to_owned(),
            stderr,
        }
    }
}

impl Drop for ClientProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
