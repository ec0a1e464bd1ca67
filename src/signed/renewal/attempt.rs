//! A try to renew a license: its outcome is in the record and the server log, and on its way to every database that has
//! the license, before anybody else learns of it.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use pgrx::PgTryBuilder;

use super::answer::Expected;
use super::process::{self, Process, TIME_LIMIT};
use super::schedule::Occasion;
use crate::core::command::{Command, Failure};
use crate::core::ledger::numbers::DatabaseOid;
use crate::core::ledger::time::Timestamp;
use crate::core::tokens::claims::Claims;
use crate::pg::error::{self, escaped, quoted};
use crate::pg::{backend, catalog, exit};
use crate::signed::installation::renewal_lock::RenewalLock;
use crate::signed::installation::{files, key};
use crate::signed::signed_licenses::vendor_keys;
use crate::{memory, settings};

/// The longest pause between two looks at the command.
const LONGEST_NAP: Duration = Duration::from_millis(50);

/// Tries to renew a license, given by its newest token, and returns its next token. `by` is the role and database of a
/// try by hand. A try that is cancelled has failed; one that ends with this process does not count.
pub fn renew(
    _lock: &RenewalLock,
    license: (&Claims, &str),
    by: Option<(String, DatabaseOid)>,
) -> Result<(String, Claims), Failure> {
    let outcome = PgTryBuilder::new(AssertUnwindSafe(|| ask(license.0)))
        .catch_others(|error| {
            let cancelled = Failure::Command("The command was cancelled.".to_owned());
            note(license, &Err(cancelled), by.clone());
            error.rethrow()
        })
        .execute();
    note(license, &outcome, by);
    outcome
}

fn ask(former: &Claims) -> Result<(String, Claims), Failure> {
    let command = settings::renewal_command().unwrap_or_default();
    let output = run(&Command::new(command.to_bytes(), former)?)?;
    let own = key::read(&settings::installation_key()).ok();
    let own = own.map(|pair| pair.public().id());
    let expected = Expected {
        former,
        keys: &vendor_keys(),
        installation: own.as_deref(),
        now: backend::now(),
    };
    expected.token(&output).map_err(Failure::Answer)
}

/// Returns the output of a command. An error during the wait ends the command.
fn run(command: &Command) -> Result<Vec<u8>, Failure> {
    end_command_at_exit();
    let started = Process::start(command, TIME_LIMIT);
    let mut process = started
        .map_err(|error| Failure::Command(format!("The command could not be started: {error}.")))?;
    let mut nap = Duration::from_millis(1);
    loop {
        if let Some(ended) = process.poll() {
            return ended;
        }
        backend::wait_for_command(nap);
        nap = (nap * 2).min(LONGEST_NAP);
    }
}

/// Kills the command at the process's exit, because nothing is dropped when PostgreSQL ends a process.
fn end_command_at_exit() {
    static ENDS_IT: AtomicBool = AtomicBool::new(false);
    if !ENDS_IT.swap(true, Relaxed) {
        exit::before(process::kill_running);
    }
}

/// Notes a try in the record and the log, and lets every database with the license learn of it.
fn note(
    license: (&Claims, &str),
    outcome: &Result<(String, Claims), Failure>,
    by: Option<(String, DatabaseOid)>,
) {
    let occasion = Occasion {
        at: backend::now(),
        renew_before: settings::renew_before(),
        by,
    };
    let noted = files::change_record(&settings::installation_key(), |record| {
        record.note_try(license, outcome, &occasion)
    });
    let (databases, next_try_at) = noted.unwrap_or_else(|error| {
        error::log(format!(
            "could not record a try to renew a license: {error}"
        ));
        Default::default()
    });
    log(&license.0.jti, outcome, next_try_at);
    memory::write(|ledger| {
        for database in &databases {
            ledger.outdate(*database);
            ledger.write_soon(*database, occasion.at);
        }
    });
}

fn log(jti: &str, outcome: &Result<(String, Claims), Failure>, next_try_at: Option<Timestamp>) {
    let line = match outcome {
        Ok(_) => format!("license {} was renewed", quoted(jti)),
        Err(failure) => format!(
            "could not renew license {}: {}",
            quoted(jti),
            escaped(&failure.to_string())
        ),
    };
    let next = next_try_at.map_or_else(String::new, |at| {
        format!("; the next try is at {}", catalog::timestamp_text(at))
    });
    error::log(format!("{}{next}", line.trim_end_matches('.')));
}
