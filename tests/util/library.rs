//! Client libraries of other languages: the small programs in `tests/clients`, run like an application.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::login::Login;
use super::programs::{run, scrubbed};

/// Whose errors a program reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Library {
    /// psycopg 3, on libpq.
    Psycopg,
    /// node-postgres, in JavaScript alone.
    NodePostgres,
    /// PostgreSQL's JDBC driver, in Java alone.
    Jdbc,
}

impl Login {
    /// Logs in with this library and runs a statement, one of which must fail: what the library
    /// tells about it.
    #[track_caller]
    pub fn fails_with(&self, library: Library, statement: &str) -> Value {
        let ran = run(library.program(self).arg(statement), "");
        serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{library:?}: {ran:#?}"))
    }

    /// Logs in with this library and runs a statement, which must succeed.
    #[track_caller]
    pub fn succeeds_with(&self, library: Library, statement: &str) {
        let ran = run(library.program(self).arg(statement), "");
        let (stdout, stderr) = (ran.stdout.clone(), ran.stderr.clone());
        assert_eq!(
            (ran.ok(), stdout, stderr),
            Default::default(),
            "{library:?}"
        );
    }

    /// Returns what an application is denied for that has this public key of its vendor, logs in and looks at its
    /// license of the product; or nothing.
    #[track_caller]
    pub fn looks_at_license(&self, key: &str, product: &str) -> String {
        let mut application = python();
        application
            .arg(client("verify_pyjwt.py"))
            .args([&self.conninfo(), key, product]);
        run(&mut application, "").ok()
    }

    fn conninfo(&self) -> String {
        let (host, port, (user, db)) = (self.host(), self.port, self.names());
        format!("host={host} port={port} user={user} dbname={db}")
    }

    fn names(&self) -> (&str, &str) {
        (
            self.config.get_user().unwrap(),
            self.config.get_dbname().unwrap(),
        )
    }

    /// Returns where a library connects to that can't choose the address that it comes from.
    fn host(&self) -> String {
        match self.addresses {
            None => self.socket_dir.display().to_string(),
            Some((from, to)) if from == to => to.to_string(),
            Some((from, _)) => panic!("this library can't choose to come from {from}"),
        }
    }
}

impl Library {
    fn program(self, login: &Login) -> Command {
        let (port, (user, db)) = (login.port, login.names());
        match self {
            Self::Psycopg => {
                let mut command = python();
                command.arg(client("psycopg3.py")).arg(login.conninfo());
                command
            }
            Self::NodePostgres => {
                let mut command = node();
                command.arg(client("node_postgres.js")).arg(format!(
                    "postgresql://{user}@localhost:{port}/{db}?host={}",
                    login.host()
                ));
                command
            }
            Self::Jdbc => {
                let (from, to) = login.addresses.expect("JDBC has no Unix sockets");
                let to = match to {
                    IpAddr::V4(to) => to.to_string(),
                    IpAddr::V6(to) => format!("[{to}]"),
                };
                let mut command = scrubbed(Command::new(java()));
                command
                    .arg("-cp")
                    .arg(fetched("share/java/postgresql.jar"))
                    .arg(client("Jdbc.java"))
                    .arg(format!(
                        "jdbc:postgresql://{to}:{port}/{db}?user={user}&localSocketAddress={from}"
                    ));
                command
            }
        }
    }
}

// By full names: another Python, Node.js or Java may come first in PATH.

/// Runs Python, with the libraries that were fetched.
pub fn python() -> Command {
    let mut python = scrubbed(Command::new("/usr/bin/python3"));
    python
        .env("PYTHONPATH", fetched("lib/python3/dist-packages"))
        .env("PYTHONDONTWRITEBYTECODE", "1");
    python
}

/// Runs Node.js, with the libraries that were fetched.
pub(super) fn node() -> Command {
    let mut node = scrubbed(Command::new("/usr/bin/node"));
    node.env("NODE_PATH", fetched("share/nodejs"));
    node
}

/// Returns the Java that the set-up installs: it can run a source file, which a Java without compiler can't.
fn java() -> PathBuf {
    let mut installed = fs::read_dir("/usr/lib/jvm").into_iter().flatten().flatten();
    let java = installed.find(|java| {
        let name = java.file_name();
        name.to_string_lossy().starts_with("java-17-openjdk-")
    });
    let java = java.expect("OpenJDK 17, which pgrx-config/setup clients installs");
    java.path().join("bin/java")
}

/// Returns a program of `tests/clients`.
pub(super) fn client(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/clients")
        .join(name)
}

/// Returns where the set-up has unpacked Debian's packages.
fn fetched(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("target/clients/root/usr")
        .join(name);
    assert!(
        path.exists(),
        "{} is missing: pgrx-config/setup clients",
        path.display()
    );
    path
}
