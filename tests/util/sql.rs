//! Asking a cluster: through PostgreSQL's own client programs, or as they do.

use std::thread;

use tokio::runtime::Builder;

use super::cluster::{Cluster, is_alive};
use super::denied::Denied;
use super::programs::{Ran, run};
use super::wait::{PATIENCE, eventually_blocking};

impl Cluster {
    /// Runs a client program; as `postgres` over the Unix socket unless the arguments say otherwise.
    pub fn program(&self, name: &str, args: &[&str]) -> Ran {
        self.program_with(name, args, &[], "")
    }

    /// Returns the same with environment variables and input.
    pub fn program_with(
        &self,
        name: &str,
        args: &[&str],
        env: &[(&str, &str)],
        input: &str,
    ) -> Ran {
        let mut command = self.programs.client(name);
        command
            .env("PGHOST", self.socket_dir())
            .env("PGPORT", self.port().to_string());
        command
            .env("PGUSER", "postgres")
            .env("PGDATABASE", "postgres")
            .env("PGCONNECT_TIMEOUT", "60");
        run(command.envs(env.iter().copied()).args(args), input)
    }

    /// Runs psql as people see it.
    pub fn psql(&self, args: &[&str], env: &[(&str, &str)]) -> Ran {
        self.program_with("psql", &[&["-X"], args].concat(), env, "")
    }

    /// Creates a database from what pg_dump has written.
    pub fn restore(&self, db: &str, dump: &str) {
        self.sql(&format!("CREATE DATABASE {db}"));
        self.load(db, dump);
    }

    /// Runs what pg_dump has written in a database that is there.
    pub fn load(&self, db: &str, dump: &str) {
        let psql = ["-Xq", "-v", "ON_ERROR_STOP=1", "-d", db];
        self.program_with("psql", &psql, &[], dump).ok();
    }

    /// Runs statements one by one up to the first error; bare rows come back, fields separated by `|`.
    pub fn psql_as(&self, user: &str, db: &str, sql: &str) -> Ran {
        let args = [
            "-XAtq",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            user,
            "-d",
            db,
            "-f",
            "-",
        ];
        self.program_with("psql", &args, &[], sql)
    }

    /// Runs statements in database `postgres` as its superuser; they must succeed.
    #[track_caller]
    pub fn sql(&self, sql: &str) -> String {
        self.sql_in("postgres", sql)
    }

    /// Runs statements in a database as the superuser; they must succeed. When this returns, the
    /// server has ended their session.
    #[track_caller]
    pub fn sql_in(&self, db: &str, sql: &str) -> String {
        let is_one = !sql.trim_end().trim_end_matches(';').contains([';', '\\']);
        let rows = if is_one {
            self.as_psql(db, &[sql, "SELECT pg_backend_pid()"])
                .unwrap_or_else(|denied| panic!("{sql}: {denied:#?}"))
        } else {
            let sql = format!("{sql}\n;SELECT pg_backend_pid()");
            self.psql_as("postgres", db, &sql).ok()
        };
        let (rows, pid) = rows.rsplit_once('\n').unwrap_or(("", &rows));
        let pid = pid.parse().expect("a process id");
        eventually_blocking("the backend is gone", PATIENCE, || !is_alive(pid));
        rows.trim_end().to_owned()
    }

    /// Sends statements as psql does, one by one in a session of the superuser's. To start a program takes longer than
    /// most statements.
    fn as_psql(&self, db: &str, statements: &[&str]) -> Result<String, Denied> {
        let login = self.login("postgres").db(db).app("psql");
        let ask = async {
            let session = login.open().await?;
            let mut rows = Vec::new();
            for statement in statements {
                rows.extend(session.try_texts(statement).await?);
            }
            session.close().await;
            Ok(rows.join("\n"))
        };
        // In a thread of its own: the caller's may be one that must not block.
        thread::scope(|scope| {
            let asked = scope.spawn(|| {
                let runtime = Builder::new_current_thread().enable_all().build();
                runtime.unwrap().block_on(ask)
            });
            asked.join().unwrap()
        })
    }

    /// Changes a setting; from now on every new connection sees it.
    pub fn set(&self, name: &str, value: impl ToString) {
        self.sql(&format!(
            "ALTER SYSTEM SET {name} = '{}'",
            value.to_string().replace('\'', "''")
        ));
        self.reload();
    }

    /// Takes back what [`set`](Self::set) did.
    pub fn reset(&self, name: &str) {
        self.sql(&format!("ALTER SYSTEM RESET {name}"));
        self.reload();
    }

    /// Reads the configuration again and waits until new connections see it.
    pub fn reload(&self) {
        let before = self.sql("SELECT pg_conf_load_time(); SELECT pg_reload_conf()");
        let (before, _) = before.split_once('\n').unwrap();
        let newer = format!("SELECT pg_conf_load_time() > '{before}'");
        eventually_blocking("the configuration is read", PATIENCE, || {
            self.sql(&newer) == "t"
        });
    }
}
