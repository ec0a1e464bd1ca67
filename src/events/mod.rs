//! The audit trail: what happened, from the ledger into the table `license_events` of its database.
//!
//! Nobody waits for it. The ledger notes events in a bounded table in shared memory; within a second
//! a visitor (see [`crate::worker`]) writes them, warns whoever listens, deletes what is older than
//! `pg_seats.event_retention`, and keeps what lasts of the counts. Where the table can't be written the
//! events wait for the next try, as long as there is room; those that are lost are counted, and the
//! trail says how many. On a standby they go to the server log instead.
//!
//! * [`change`]: changes of the license tables, told by their own transaction
//! * [`counts`]: what lasts of the counts
//! * [`shutdown`]: what happens in the last moment before the server stops
//! * [`told`]: an event as the trail has it
//! * [`warning`]: what somebody should know before anybody is denied

pub mod change;
pub mod counts;
pub mod shutdown;
mod told;
pub mod warning;

use std::collections::HashMap;
use std::time::Duration;

use pgrx::bgworkers::BackgroundWorker;
use serde_json::Value;

use crate::ledger::event::Event;
use crate::ledger::identity::{Label, Text};
use crate::ledger::reservation::ReservedRoles;
use crate::ledger::session::SeatIds;
use crate::ledger::table::Table;
use crate::ledger::{Database, Ledger};
use crate::memory::Shared;
use crate::pg::error::{self, quoted, shown};
use crate::pg::table::{Argument, ReadError, Reader, log_failure, write_alone};
use crate::pg::{backend, catalog};
use crate::{memory, settings};
use shutdown::Trail;
use warning::Warning;

/// So many old rows are deleted at a time.
const OLD_ROWS: u64 = 1_000;

/// The number of the lock that a visitor who writes has.
const WRITER: u32 = 1;

/// What is yet to be told of a database, copied out of the ledger.
struct Untold {
    /// In the order in which it happened.
    events: Vec<Event>,
    /// How many were lost.
    lost: u64,
    /// Of them those up to this number have been warned of.
    warned: u64,
    /// What the server's last stop has left, as far as it is yet to be told.
    left: Trail,
    texts: HashMap<Label, Text<512>>,
    ids: SeatIds,
    roles: ReservedRoles,
}

impl Untold {
    /// With room for all that a ledger can have.
    fn with_room(events: usize, texts: usize) -> Untold {
        Untold {
            events: Vec::with_capacity(events),
            lost: 0,
            warned: 0,
            left: Trail::default(),
            texts: HashMap::with_capacity(texts),
            ids: SeatIds(0),
            roles: ReservedRoles::NONE,
        }
    }

    fn of(database: u32) -> Untold {
        let (events, texts) =
            memory::read(|ledger| (ledger.events.capacity(), ledger.texts.capacity()))
                .unwrap_or_default();
        let mut untold = Untold::with_room(events, texts);
        let known = memory::read(|ledger| untold.copy(ledger, database)).flatten();
        untold.with_what_is_left(database, known)
    }

    /// The same in the server's last moment.
    fn at_last(ledger: &Ledger<'static, Shared>, database: u32) -> Untold {
        let mut untold = Untold::with_room(ledger.events.capacity(), ledger.texts.capacity());
        let known = untold.copy(ledger, database);
        untold.with_what_is_left(database, known)
    }

    /// Takes what the ledger has. There is room for all: under the lock nothing is allocated.
    fn copy(&mut self, ledger: &Ledger<'static, Shared>, database: u32) -> Option<Database> {
        self.ids = ledger.head.seat_ids;
        self.roles = ledger.head.reserved_roles;
        ledger.each_event(database, |event| {
            if self.events.len() < self.events.capacity() {
                self.events.push(*event);
            }
        });
        ledger.texts.each(|text| {
            if self.texts.len() < self.texts.capacity() {
                self.texts.insert(text.label, text.text);
            }
        });
        let known = ledger.databases.get(&database).copied()?;
        (self.lost, self.warned) = (known.events_lost, known.warned);
        Some(known)
    }

    fn with_what_is_left(mut self, database: u32, known: Option<Database>) -> Untold {
        self.left = shutdown::trail(database, known.as_ref());
        self.events.sort_unstable_by_key(|event| event.number);
        self
    }

    /// The rows of all that happened, and how many are lost.
    fn trail(&self) -> Trail {
        let mut trail = self.left.clone();
        trail
            .rows
            .extend(self.events.iter().map(|event| told::row(event, self)));
        trail.lost += self.lost;
        trail
    }

    /// What somebody should know who has not been told.
    fn warnings(&self) -> Vec<Warning> {
        let news = self
            .events
            .iter()
            .filter(|event| event.number > self.warned);
        news.filter_map(Warning::of_use).collect()
    }

    /// There was no room for the text that a label stands for.
    fn lacks(&self, label: &Label) -> bool {
        label.is_digest() && !self.texts.contains_key(label)
    }

    /// The text that a label stands for; `None` for no text, and where there was no room for it.
    fn text(&self, label: &Label) -> Option<String> {
        if label.is_digest() {
            return self.texts.get(label).map(Text::to_string);
        }
        label
            .text()
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    }
}

/// What is to be said of what was written, once it is committed.
#[derive(Default)]
struct Written {
    /// Lines for the server log.
    lines: Vec<String>,
    /// What is to be warned of.
    warnings: Vec<Warning>,
    /// There may be more old rows.
    has_more: bool,
}

/// Writes what is to be told of this visitor's database, waiting for locks at most `patience`.
/// Outside a transaction.
pub fn write(database: u32, patience: Duration) {
    if !BackgroundWorker::transaction(|| backend::is_alone(WRITER)) {
        // A launcher that has ended meanwhile left one behind, who is about to.
        memory::write(|ledger| ledger.told(database, &[], 0, backend::now()));
        return;
    }
    write_trail(database, patience);
    counts::write(database);
}

fn write_trail(database: u32, patience: Duration) {
    let untold = Untold::of(database);
    let written = write_alone(patience, |writer| tell(writer, &untold));
    let now = backend::now();
    let warnings = match written {
        // Between the commit and this nothing looks for interrupts: no event is written twice.
        Ok(written) => {
            memory::write(|ledger| {
                ledger.told(database, &untold.events, untold.lost, now);
                ledger.kept_told(database);
                if written.has_more {
                    ledger.write_soon(database, now);
                }
            });
            BackgroundWorker::transaction(|| written.lines.iter().for_each(error::log));
            written.warnings
        }
        Err(error) => {
            let is_news = memory::write(|ledger| {
                // Warnings can't wait for the trail.
                if let Some(last) = untold.events.last() {
                    ledger.warned(database, last.number);
                }
                ledger.could_not_write(database, now)
            });
            if is_news == Some(true) {
                log_failure(
                    "write license_events of",
                    database,
                    &error,
                    "; trying again every second",
                );
            }
            untold.warnings()
        }
    };
    warning::give(&warnings, patience);
}

/// Writes it all.
fn tell(writer: &Reader, untold: &Untold) -> Result<Written, ReadError> {
    let mut written = Written::default();
    let Some(schema) = catalog::schema() else {
        // Its trail went with it.
        return Ok(written);
    };
    let Trail { mut rows, lost } = untold.trail();
    rows.iter_mut().for_each(told::name_roles);
    if lost > 0 {
        rows.push(told::lost(lost));
        written.lines.push(format!(
            "{lost} events of license_events of database {} are lost: they could not be written in time",
            quoted(catalog::database_name(backend::database()))
        ));
    }
    insert(writer, &schema, rows)?;
    written.warnings = untold.warnings();
    written.warnings.extend(Warning::of_end(writer, &schema)?);
    written.has_more = delete_old(writer, &schema)? == OLD_ROWS;
    Ok(written)
}

fn insert(writer: &Reader, schema: &str, rows: Vec<Value>) -> Result<(), ReadError> {
    if rows.is_empty() {
        return Ok(());
    }
    let statement = format!(
        "INSERT INTO {schema}.license_events
                (at, event, product, usename, client_user, client_host, workstation, datname, detail)
         SELECT at, event, product, usename, client_user, client_host, workstation,
                current_database(), detail
           FROM jsonb_to_recordset($1::jsonb)
                AS (at timestamptz, event text, product text, usename name, client_user text,
                    client_host text, workstation text, detail jsonb)"
    );
    let rows = Value::Array(rows).to_string();
    writer.execute(&statement, &[Argument::Text(Some(&rows))])?;
    Ok(())
}

/// Who is deleting or changing such a row himself is not waited for. What was said of a license's end
/// stays as long as it would be said again.
fn delete_old(writer: &Reader, schema: &str) -> Result<u64, ReadError> {
    let Some(minutes) = settings::event_retention() else {
        return Ok(0);
    };
    let statement = format!(
        "DELETE FROM {schema}.license_events WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM {schema}.license_events
             WHERE at < now() - $1::int * interval '1 minute'
               AND (event = 'warning' AND detail ->> 'level' = 'ending'
                    AND at > now() - interval '31 days') IS NOT TRUE
             ORDER BY at LIMIT {OLD_ROWS} FOR UPDATE SKIP LOCKED))"
    );
    let minutes = minutes.to_string();
    writer.execute(&statement, &[Argument::Text(Some(&minutes))])
}

/// Writes what is to be told of all databases to the server log, as a standby does.
pub fn log_all() {
    warning::log_endings();
    for database in databases() {
        let untold = Untold::of(database);
        for event in &untold.events {
            let mut row = told::row(event, &untold);
            told::name_roles(&mut row);
            error::log(format!(
                "license event of database {}: {}",
                quoted(catalog::database_name(database)),
                shown(&row)
            ));
        }
        if untold.lost > 0 {
            error::log(format!(
                "{} license events of database {} are lost: they came too fast",
                untold.lost,
                quoted(catalog::database_name(database))
            ));
        }
        let now = backend::now();
        memory::write(|ledger| ledger.told(database, &untold.events, untold.lost, now));
    }
}

fn databases() -> Vec<u32> {
    let known = memory::read(|ledger| ledger.databases.len()).unwrap_or(0);
    let mut databases = Vec::with_capacity(known);
    memory::read(|ledger| {
        ledger.databases.each(|known| {
            let untold = known.events > 0 || known.events_lost > 0;
            if untold && databases.len() < databases.capacity() {
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
