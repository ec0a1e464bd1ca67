//! Telling a story: what was expected, what happened, and the count of cases in which they differ.

use std::fmt::Display;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::util::{Cluster, Denied, Login, Session, eventually};

/// "At once" is within a second.
const AT_ONCE: Duration = Duration::from_secs(1);

/// The story so far.
pub struct Story<'a> {
    /// Where it is played.
    pub cluster: &'a Cluster,
    cases: usize,
    differing: usize,
}

impl<'a> Story<'a> {
    /// Begins a story.
    pub fn new(cluster: &'a Cluster) -> Self {
        Self {
            cluster,
            cases: 0,
            differing: 0,
        }
    }

    /// Writes a new heading, and what is to know before the next cases.
    pub fn chapter(&self, title: &str, text: &str) {
        println!("\n\n{title}\n{}\n{text}", "=".repeat(title.chars().count()));
    }

    /// Runs statements of a vendor or administrator, and shows them to the reader.
    pub fn runs(&self, database: &str, sql: &str) {
        println!();
        let mut prompt = "=#";
        for line in sql.lines().map(str::trim) {
            println!("    {database}{prompt} {line}");
            prompt = if line.ends_with(';') { "=#" } else { "-#" };
        }
        self.cluster.sql_in(database, sql);
    }

    /// Shows a query's result, as psql does.
    pub fn shows(&self, database: &str, sql: &str) {
        let words: Vec<_> = sql.split_whitespace().collect();
        let sql = words.join(" ");
        println!("\n    {database}=# {sql};");
        let shown = self.cluster.psql(&["-d", database, "-c", &sql], &[]).ok();
        for line in shown.lines() {
            println!("    {line}");
        }
    }

    /// Reports one case: what is told, what was expected, and what happened.
    pub fn case(&mut self, told: &str, expected: impl Display, happened: impl Display) {
        self.cases += 1;
        let (expected, happened) = (expected.to_string(), happened.to_string());
        let verdict = if expected == happened {
            "ok"
        } else {
            self.differing += 1;
            "DIFFERS"
        };
        println!("\n{:>3}. {told}", self.cases);
        println!("     expected: {expected}");
        println!("     happened: {happened}  {verdict}");
    }

    /// Logs somebody in who should get in.
    pub async fn admits(&mut self, told: &str, login: Login) -> Option<Session> {
        let opened = login.open().await;
        self.case(told, "admitted", outcome(&opened));
        opened.ok()
    }

    /// Does the same right after somebody else has left: the seat may be a moment on its way.
    pub async fn admits_at_once(&mut self, told: &str, login: Login) -> Option<Session> {
        let start = Instant::now();
        let mut opened = login.open().await;
        while opened.is_err() && start.elapsed() < AT_ONCE {
            opened = login.open().await;
        }
        self.case(told, "admitted", outcome(&opened));
        opened.ok()
    }

    /// Tries the login of somebody who should be told that all seats of the product are taken.
    pub async fn denies(&mut self, told: &str, login: Login, product: &str) {
        let opened = login.open().await;
        let expected =
            format!("denied: FATAL 53300 maximum user license count reached for \"{product}\"");
        self.case(told, expected, outcome(&opened));
        if let Err(denied) = opened {
            println!("               DETAIL: {}", denied.detail);
            println!("               HINT: {}", denied.hint);
        }
    }

    /// Logs several in; so many of them should get in, and the license should deny the others.
    pub async fn admits_so_many(
        &mut self,
        told: &str,
        logins: Vec<Login>,
        expected: usize,
    ) -> Vec<Session> {
        let mut inside = Vec::new();
        let (mut denied, mut failed) = (0, Vec::new());
        for login in &logins {
            match login.open().await {
                Ok(session) => inside.push(session),
                Err(refused) if refused.reason == "license_full" => denied += 1,
                Err(refused) => failed.push(refusal(&refused)),
            }
        }
        let words = |admitted, denied| match denied {
            0 => format!("{admitted} admitted"),
            denied => format!("{admitted} admitted, {denied} denied"),
        };
        failed.insert(0, words(inside.len(), denied));
        let expected = words(expected, logins.len() - expected);
        self.case(told, expected, failed.join("; "));
        inside
    }

    /// Compares the seats in use of the product with so many, as `license_usage` has them.
    pub fn counts(&mut self, told: &str, database: &str, product: &str, seats: i64) {
        let in_use = format!("SELECT in_use FROM license_usage WHERE product = '{product}'");
        let words = |count: &str| match count {
            "1" => "1 seat in use".to_owned(),
            count => format!("{count} seats in use"),
        };
        let happened = self.cluster.sql_in(database, &in_use);
        self.case(told, words(&seats.to_string()), words(&happened));
    }

    /// Reports that something is refused which somebody does with licenses: SQLSTATE and the rule's name, if it has
    /// one.
    pub fn refuses(&mut self, told: &str, expected: &str, result: Result<Vec<String>, Denied>) {
        let happened = match &result {
            Ok(_) => "done".to_owned(),
            Err(denied) => format!("refused: {} {}", denied.sqlstate, denied.reason),
        };
        self.case(told, expected, happened.trim_end());
        if let Err(denied) = result {
            println!("               {}: {}", denied.severity, denied.message);
        }
    }

    /// Reports that somebody's session is ended: severity, SQLSTATE and reason.
    pub async fn ends(&mut self, told: &str, expected: &str, session: Session) {
        let ended = session.ended().await;
        let happened = format!("{} {} {}", ended.severity, ended.sqlstate, ended.reason);
        self.case(told, expected, happened);
        println!("               {}", ended.message);
        println!("               DETAIL: {}", ended.detail);
    }

    /// Reports that something is allowed which somebody does with licenses.
    pub fn allows(&mut self, told: &str, result: Result<Vec<String>, Denied>) {
        let happened = match result {
            Ok(_) => "done".to_owned(),
            Err(denied) => format!("refused: {} {}", denied.sqlstate, denied.message),
        };
        self.case(told, "done", happened);
    }

    /// Makes everybody leave, and waits until all seats of the database are free.
    pub async fn all_leave<S>(&self, database: &str, inside: S) {
        drop(inside);
        let in_use = "SELECT coalesce(sum(in_use), 0) FROM license_usage";
        eventually("everybody is out", 10 * AT_ONCE, async || {
            self.cluster.sql_in(database, in_use) == "0"
        })
        .await;
    }

    /// Writes the last line, and returns the exit status.
    pub fn end(self) -> ExitCode {
        let Self {
            cases, differing, ..
        } = self;
        println!(
            "\n{cases} cases: {} as expected, {differing} different.",
            cases - differing
        );
        if differing == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}

/// Returns what came of a login, in a line.
fn outcome(opened: &Result<Session, Denied>) -> String {
    match opened {
        Ok(_) => "admitted".into(),
        Err(denied) => refusal(denied),
    }
}

/// Returns a refused login in a line.
fn refusal(denied: &Denied) -> String {
    format!(
        "denied: {} {} {}",
        denied.severity, denied.sqlstate, denied.message
    )
}
