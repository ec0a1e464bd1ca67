//! The audit trail: carries events from the ledger into the table `license_events` of their database.
//!
//! Nobody waits for it. The ledger notes events in a bounded buffer in shared memory, of which each database has a
//! share. Within a second a database worker (see [`crate::worker`]) writes them, stays while there are more, notifies
//! those who listen, deletes rows older than `pg_seats.event_retention`, and writes the counts that last. If the table
//! can't be written, the events wait for the next try, as long as there is room; those that are lost are counted, and
//! the trail says how many. On a standby they go to the server log instead.
//!
//! * [`change`]: writes changes of the license tables, in their own transaction
//! * [`counts`]: keeps the counts that last
//! * [`key`]: the key of an event row
//! * [`left`]: what the server's last stop has left
//! * [`shutdown`]: saves what happens in the last moment before the server stops
//! * [`row`]: makes the row of an event
//! * [`unwritten`]: copies the events that are yet to be written out of the ledger
//! * [`warning`]: warns before anybody is denied

pub mod change;
pub mod counts;
pub mod key;
pub mod left;
mod row;
pub mod shutdown;
mod unwritten;
pub mod warning;

use std::time::{Duration, Instant};

use pgrx::bgworkers::BackgroundWorker;

use crate::core::ledger::Ledger;
use crate::core::ledger::database::Viewpoint;
use crate::core::ledger::numbers::DatabaseOid;
use crate::core::ledger::table::Table;
use crate::pg::error::{self, quoted, shown};
use crate::pg::table::{ReadError, TableAccess, log_failure, write_alone};
use crate::pg::{backend, catalog};
use crate::tables::events as rows;
use crate::{memory, settings};
use left::Trail;
use unwritten::Unwritten;
use warning::Warning;

/// The most old rows that are deleted at a time.
const OLD_ROWS: u64 = 1_000;

/// How long a worker writes before it deletes, and deletes before it writes again.
const ROUND: Duration = Duration::from_secs(1);

/// How long a worker stays while no worker is needed for anything else.
const STAY: Duration = Duration::from_secs(15);

/// After this many events there are soon as many again: the worker waits for them, for a nap at a time.
const BUSY: usize = 64;
const NAP: Duration = Duration::from_millis(50);

/// The number of the lock that a worker holds while it writes.
const WRITER: u32 = 1;

/// Writes the events of this worker's database, waiting for locks at most `patience`. It must be called outside a
/// transaction.
pub fn write(database: DatabaseOid, patience: Duration) {
    if !BackgroundWorker::transaction(|| backend::is_alone(WRITER)) {
        // A launcher that has ended meanwhile has left another worker behind, which is about to write.
        memory::write(|ledger| ledger.note_written(database, 0, 0, backend::now()));
        return;
    }
    let until = Instant::now() + STAY;
    while write_trail(database, patience) && Instant::now() < until && may_stay(database) {}
    counts::write(database);
}

/// Tells whether a worker may go on writing: nobody waits for a worker, or for this database to be left.
fn may_stay(database: DatabaseOid) -> bool {
    let view = Viewpoint {
        now: backend::now(),
        ..memory::rules::viewpoint()
    };
    memory::read(|ledger| ledger.may_stay(database, view))
        && !BackgroundWorker::transaction(backend::is_database_locked)
}

/// Writes batch by batch, each in a transaction of its own, for a while as long as there is work; then deletes old
/// rows. Returns true if there is more to write.
fn write_trail(database: DatabaseOid, patience: Duration) -> bool {
    let until = Instant::now() + ROUND;
    let mut is_busy;
    let mut warnings = Vec::new();
    let mut written = 0;
    loop {
        let unwritten = Unwritten::next(database, 0);
        let lines = match write_alone(patience, |writer| write_rows(writer, &unwritten)) {
            Ok(lines) => lines,
            Err(error) => {
                warnings.extend(warn_of_all(database, unwritten));
                could_not_write(database, "write license_events of", &error);
                warning::give(&warnings, patience);
                return false;
            }
        };
        // Nothing checks for interrupts between the commit and this call, so no event is written twice.
        unwritten.forget(database);
        memory::write(|ledger| ledger.note_left_written(database));
        BackgroundWorker::transaction(|| lines.iter().for_each(error::log));
        warnings.extend(unwritten.warnings());
        written += unwritten.events.len() as u64;
        is_busy = unwritten.events.len() >= BUSY;
        if !is_busy || Instant::now() >= until {
            break;
        }
        if !unwritten.is_full() {
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

/// Returns the warnings of all events that can't be written: warnings can't wait for the trail.
fn warn_of_all(database: DatabaseOid, mut unwritten: Unwritten) -> Vec<Warning> {
    let mut warnings = unwritten.warnings();
    let mut last = unwritten.last();
    while unwritten.is_full() {
        unwritten = Unwritten::next(database, last);
        warnings.extend(unwritten.warnings());
        last = unwritten.last().max(last);
    }
    if last != 0 {
        memory::write(|ledger| ledger.warned(database, last));
    }
    warnings
}

fn could_not_write(database: DatabaseOid, what: &str, error: &ReadError) {
    let is_news = memory::write(|ledger| ledger.could_not_write(database, backend::now()));
    if is_news {
        log_failure(what, database, error, "; trying again every second");
    }
}

/// Writes the event rows, and returns the lines for the server log once that is committed.
fn write_rows(writer: &TableAccess, unwritten: &Unwritten) -> Result<Vec<String>, ReadError> {
    let mut lines = Vec::new();
    let Some(schema) = catalog::schema() else {
        // The audit trail went with the extension.
        return Ok(lines);
    };
    let Trail { mut rows, lost } = row::trail(unwritten);
    rows.iter_mut().for_each(row::name_roles);
    if lost > 0 {
        let number = memory::write(Ledger::next_number);
        rows.push(row::lost(lost, unwritten.run, number));
        lines.push(format!(
            "{lost} events of license_events of database {} are lost: they could not be written in time",
            quoted(catalog::database_name(backend::database()))
        ));
    }
    rows::insert(writer, &schema, rows)?;
    Ok(lines)
}

/// Deletes old rows, at least as many as were written if there are so many. Each batch has a transaction of its own, so
/// that what prevents it undoes nothing else.
fn tidy(database: DatabaseOid, written: u64, until: Instant, patience: Duration) {
    if !memory::read(|ledger| ledger.may_delete(backend::now())) {
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
                if is_news {
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

/// Writes the events of all databases to the server log, as a standby does.
pub fn log_all() {
    warning::log_endings();
    for database in databases() {
        loop {
            let unwritten = Unwritten::next(database, 0);
            log_each(database, &unwritten);
            unwritten.forget(database);
            if !unwritten.is_full() {
                break;
            }
        }
    }
}

fn log_each(database: DatabaseOid, unwritten: &Unwritten) {
    let name = quoted(catalog::database_name(database));
    for event in &unwritten.events {
        let mut row = row::of(event, unwritten);
        row::name_roles(&mut row);
        let row = shown(&row);
        error::log(format!("license event of database {name}: {row}"));
    }
    if unwritten.lost > 0 {
        let lost = unwritten.lost;
        error::log(format!(
            "{lost} license events of database {name} are lost: they came too fast"
        ));
    }
}

fn databases() -> Vec<DatabaseOid> {
    let now = backend::now();
    memory::collect(
        |ledger| ledger.databases.len(),
        |ledger, find| {
            ledger.databases.each(|known| {
                if known.has_unwritten(now) {
                    find(known.oid);
                }
            });
        },
    )
}

/// Returns the time until an audit trail is to be written.
pub fn next_write_in() -> Option<Duration> {
    backend::time_until(memory::read(|ledger| ledger.head.next_write))
}
