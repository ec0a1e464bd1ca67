//! The audit trail: what happened, from the ledger into the table `license_events` of its database.
//!
//! Nobody waits for it. The ledger notes events in a bounded room in shared memory, of which each database has
//! a share; within a second a visitor (see [`crate::worker`]) writes them, stays while there are more, warns
//! whoever listens, deletes what is older than `pg_seats.event_retention`, and keeps what lasts of the counts. Where the table can't be written the
//! events wait for the next try, as long as there is room; those that are lost are counted, and the
//! trail says how many. On a standby they go to the server log instead.
//!
//! * [`change`]: changes of the license tables, told by their own transaction
//! * [`counts`]: what lasts of the counts
//! * [`key`]: what tells one row from another
//! * [`left`]: what the server's last stop has left
//! * [`shutdown`]: what happens in the last moment before the server stops
//! * [`told`]: an event as the trail has it
//! * [`untold`]: what is yet to be told, copied out of the ledger
//! * [`warning`]: what somebody should know before anybody is denied

pub mod change;
pub mod counts;
pub mod key;
pub mod left;
pub mod shutdown;
mod told;
mod untold;
pub mod warning;

use std::time::{Duration, Instant};

use pgrx::bgworkers::BackgroundWorker;

use crate::core::ledger::Ledger;
use crate::core::ledger::database::Viewpoint;
use crate::core::ledger::table::Table;
use crate::pg::error::{self, quoted, shown};
use crate::pg::table::{ReadError, Reader, log_failure, write_alone};
use crate::pg::{backend, catalog};
use crate::tables::events as rows;
use crate::{memory, settings};
use left::Trail;
use untold::Untold;
use warning::Warning;

/// So many old rows are deleted at a time.
const OLD_ROWS: u64 = 1_000;

/// So long a visitor writes before it deletes, and deletes before it writes again.
const ROUND: Duration = Duration::from_secs(1);

/// So long it stays where nobody needs a visitor for anything else.
const STAY: Duration = Duration::from_secs(15);

/// Where so many events were to be written there are soon as many again: it waits for them, this long at a time.
const BUSY: usize = 64;
const NAP: Duration = Duration::from_millis(50);

/// The number of the lock that a visitor who writes has.
const WRITER: u32 = 1;

/// Writes what is to be told of this visitor's database, waiting for locks at most `patience`.
/// Outside a transaction.
pub fn write(database: u32, patience: Duration) {
    if !BackgroundWorker::transaction(|| backend::is_alone(WRITER)) {
        // A launcher that has ended meanwhile left one behind, who is about to.
        memory::write(|ledger| ledger.told(database, 0, 0, backend::now()));
        return;
    }
    let until = Instant::now() + STAY;
    while write_trail(database, patience) && Instant::now() < until && may_stay(database) {}
    counts::write(database);
}

/// Whether a visitor may write on: nobody waits for one, or for this database to be left.
fn may_stay(database: u32) -> bool {
    let view = Viewpoint {
        now: backend::now(),
        ..memory::rules::viewpoint()
    };
    memory::read(|ledger| ledger.may_stay(database, view)) == Some(true)
        && !BackgroundWorker::transaction(backend::is_database_locked)
}

/// Writes batch by batch, each in a transaction of its own, for a while as long as there is work; then puts the table
/// in order. True where there is more to write.
fn write_trail(database: u32, patience: Duration) -> bool {
    let until = Instant::now() + ROUND;
    let mut is_busy;
    let mut warnings = Vec::new();
    let mut written = 0;
    loop {
        let untold = Untold::next(database, 0);
        let lines = match write_alone(patience, |writer| tell(writer, &untold)) {
            Ok(lines) => lines,
            Err(error) => {
                warnings.extend(warn_of_all(database, untold));
                could_not_write(database, "write license_events of", &error);
                warning::give(&warnings, patience);
                return false;
            }
        };
        // Between the commit and this nothing looks for interrupts: no event is written twice.
        untold.forget(database);
        memory::write(|ledger| ledger.kept_told(database));
        BackgroundWorker::transaction(|| lines.iter().for_each(error::log));
        warnings.extend(untold.warnings());
        written += untold.events.len() as u64;
        is_busy = untold.events.len() >= BUSY;
        if !is_busy || Instant::now() >= until {
            break;
        }
        if !untold.is_full() {
            backend::wait_in_worker(Some(NAP));
        }
    }
    let others = write_alone(patience, |writer| {
        let Some(schema) = catalog::schema() else {
            return Ok(Vec::new());
        };
        let mut others = Warning::of_end(writer, &schema)?;
        others.extend(warning::of_interference(writer, &schema)?);
        Ok(others)
    });
    match others {
        Ok(others) => warnings.extend(others),
        Err(error) => could_not_write(database, "warn of ends and interference in", &error),
    }
    warning::give(&warnings, patience);
    tidy(database, written, until + ROUND, patience);
    is_busy
}

/// What somebody should know of all that can't be written: warnings can't wait for the trail.
fn warn_of_all(database: u32, mut untold: Untold) -> Vec<Warning> {
    let mut warnings = untold.warnings();
    let mut last = untold.last();
    while untold.is_full() {
        untold = Untold::next(database, last);
        warnings.extend(untold.warnings());
        last = untold.last().max(last);
    }
    if last != 0 {
        memory::write(|ledger| ledger.warned(database, last));
    }
    warnings
}

fn could_not_write(database: u32, what: &str, error: &ReadError) {
    let is_news = memory::write(|ledger| ledger.could_not_write(database, backend::now()));
    if is_news == Some(true) {
        log_failure(what, database, error, "; trying again every second");
    }
}

/// Writes it all; what the server log should say once that is committed.
fn tell(writer: &Reader, untold: &Untold) -> Result<Vec<String>, ReadError> {
    let mut lines = Vec::new();
    let Some(schema) = catalog::schema() else {
        // Its trail went with it.
        return Ok(lines);
    };
    let Trail { mut rows, lost } = told::trail(&untold);
    rows.iter_mut().for_each(told::name_roles);
    if lost > 0 {
        let number = memory::write(Ledger::next_number).unwrap_or(0);
        rows.push(told::lost(lost, untold.run, number));
        lines.push(format!(
            "{lost} events of license_events of database {} are lost: they could not be written in time",
            quoted(catalog::database_name(backend::database()))
        ));
    }
    rows::insert(writer, &schema, rows)?;
    Ok(lines)
}

/// Deletes old rows, at least as many as were written where there are so many: a transaction for each batch, so that
/// what hinders it takes nothing else along.
fn tidy(database: u32, written: u64, until: Instant, patience: Duration) {
    if memory::read(|ledger| ledger.may_delete(backend::now())) == Some(false) {
        return;
    }
    let mut deleted = 0;
    loop {
        let batch = write_alone(patience, |writer| match catalog::schema() {
            Some(schema) => match settings::event_retention() {
                Some(minutes) => rows::delete_old(writer, &schema, minutes, OLD_ROWS),
                None => Ok(0),
            },
            None => Ok(0),
        });
        let is_news = memory::write(|ledger| ledger.set_untidy(database, batch.is_err()));
        match batch {
            Ok(rows) => {
                deleted += rows;
                if rows < OLD_ROWS {
                    return;
                }
            }
            Err(error) => {
                if is_news == Some(true) {
                    let what = "delete old rows of license_events of";
                    log_failure(what, database, &error, "");
                }
                return;
            }
        }
        if deleted >= written || Instant::now() >= until {
            break;
        }
    }
    memory::write(|ledger| ledger.write_soon(database, backend::now()));
}

/// Writes what is to be told of all databases to the server log, as a standby does.
pub fn log_all() {
    warning::log_endings();
    for database in databases() {
        loop {
            let untold = Untold::next(database, 0);
            log_each(database, &untold);
            untold.forget(database);
            if !untold.is_full() {
                break;
            }
        }
    }
}

fn log_each(database: u32, untold: &Untold) {
    let name = quoted(catalog::database_name(database));
    for event in &untold.events {
        let mut row = told::row(event, untold);
        told::name_roles(&mut row);
        let row = shown(&row);
        error::log(format!("license event of database {name}: {row}"));
    }
    if untold.lost > 0 {
        let lost = untold.lost;
        error::log(format!(
            "{lost} license events of database {name} are lost: they came too fast"
        ));
    }
}

fn databases() -> Vec<u32> {
    let known = memory::read(|ledger| ledger.databases.len()).unwrap_or(0);
    let now = backend::now();
    let mut databases = Vec::with_capacity(known);
    memory::read(|ledger| {
        ledger.databases.each(|known| {
            if known.has_untold(now) && databases.len() < databases.capacity() {
                databases.push(known.oid);
            }
        });
    });
    databases
}

/// How long until an audit trail is to be written.
pub fn next_write_in() -> Option<Duration> {
    backend::time_until(memory::read(|ledger| ledger.head.next_write)?)
}
