//! Reads and writes tables in the middle of another transaction, without harm to it whatever happens.
#![allow(unsafe_code, reason = "runs a subtransaction by hand, and reads rows")]

use crate::core::ledger::numbers::DatabaseOid;

use std::ffi::{CStr, CString, c_int};
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use pgrx::bgworkers::BackgroundWorker;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgTryBuilder, pg_sys};
use serde_json::{Map, Value, json};

use super::deadline::Deadline;
use super::encoding::{decode, decode_lossy};
use super::error::{self, PgSqlErrorCode, Report, quoted};
use super::nobody::{Acting, Settings};
use super::statement::{self, StatementResult};
use super::text::text_datum;
use super::{backend, catalog, own};

pub use super::read_error::{ReadError, damaged};

/// How much longer than waiting for locks all the work may take: together almost as long as DROP DATABASE waits for a
/// worker.
const WORK: Duration = Duration::from_secs(4);
/// The same for somebody who must not be kept waiting: a superuser gets in within a second.
const HURRIED_WORK: Duration = Duration::from_millis(500);

/// How long a standby waits for a lock at a time, and how long it lets others proceed before it tries again.
const TRY: Duration = Duration::from_millis(1);
const MOMENT: Duration = Duration::from_millis(20);

/// How long reading may take. Made from a duration alone, the duration is how long to wait for locks.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For each lock.
    pub locks: Duration,
    /// For what is executed, beyond that.
    work: Duration,
}

impl From<Duration> for Patience {
    fn from(locks: Duration) -> Patience {
        Patience { locks, work: WORK }
    }
}

impl Patience {
    /// Returns the patience of somebody who must not be kept waiting, even if a busy machine needs longer to read.
    pub fn hurried(locks: Duration) -> Patience {
        let work = HURRIED_WORK;
        Patience { locks, work }
    }

    /// Returns what is left of it after a time.
    pub fn after(self, elapsed: Duration) -> Patience {
        Patience {
            locks: self.locks.saturating_sub(elapsed),
            work: self.work - self.work.min(elapsed.saturating_sub(self.locks)),
        }
    }
}

/// Runs `read` on what is committed now, no longer than `patience` allows, in a subtransaction that is rolled back: it
/// leaves neither locks nor settings nor an error behind, except that a query that is cancelled ends. The extension's
/// tables can be read whatever was granted, and what is attached to them runs as [nobody](super::nobody). Names resolve
/// in pg_catalog alone, so that no user's operator is run, and the time zone is UTC.
///
/// On a standby nothing that the replay may need is held while waiting for a lock, and a conflict with the replay is
/// noticed only afterwards: during the subtransaction it would end the whole session.
pub fn read_committed<R>(
    patience: impl Into<Patience>,
    mut read: impl FnMut(&TableAccess) -> Result<R, ReadError>,
) -> Result<R, ReadError> {
    let Patience { locks, work } = patience.into();
    if !backend::in_recovery() {
        return in_subtransaction(locks, locks.saturating_add(work), false, read);
    }
    let deadline = Instant::now() + locks;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let result = {
            let _held = backend::ConflictsHeld::new();
            // A conflict that was signalled before ends the statement, not the session.
            pgrx::check_for_interrupts!();
            in_subtransaction(left.min(TRY), left.saturating_add(work), false, &mut read)
        };
        match result {
            Err(error)
                if error.code == PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE && left > MOMENT =>
            {
                backend::wait_for_wake(MOMENT);
            }
            result => return result,
        }
    }
}

/// Runs `write` in the same way, but as part of the transaction, unless it fails.
pub fn write_as_part<R>(
    patience: Duration,
    write: impl FnOnce(&TableAccess) -> Result<R, ReadError>,
) -> Result<R, ReadError> {
    in_subtransaction(patience, patience.saturating_add(WORK), true, write)
}

/// Runs `write` in the same way in a worker, outside a transaction, in a transaction of its own: its commit waits no
/// longer than `patience` for a lock, and an error of the commit is returned.
pub fn write_alone<R>(
    patience: Duration,
    write: impl FnOnce(&TableAccess) -> Result<R, ReadError>,
) -> Result<R, ReadError> {
    transaction(|| {
        be_patient(patience);
        write_as_part(patience, write)
    })?
}

/// Runs a transaction of a worker, whose error ends nothing but the transaction. It must be called outside a
/// transaction.
pub fn transaction<R>(act: impl FnOnce() -> R) -> Result<R, ReadError> {
    let act = AssertUnwindSafe(act);
    PgTryBuilder::new(AssertUnwindSafe(|| {
        Ok(BackgroundWorker::transaction(AssertUnwindSafe(|| act.0())))
    }))
    .catch_others(|error| {
        // SAFETY: does what every worker does to go on after an error.
        unsafe { pg_sys::AbortCurrentTransaction() };
        Err(read_error(error))
    })
    .execute()
}

/// Writes to the server log what could not be done to a database. Only a worker may call it, outside a transaction.
pub fn log_failure(what: &str, database: DatabaseOid, error: &ReadError, and_now: &str) {
    let name = BackgroundWorker::transaction(|| catalog::database_name(database));
    error::log(format!(
        "could not {what} database {}: {}{and_now}",
        quoted(&name),
        error.message
    ));
}

fn read_error(error: CaughtError) -> ReadError {
    let (CaughtError::PostgresError(report)
    | CaughtError::ErrorReport(report)
    | CaughtError::RustPanic {
        ereport: report, ..
    }) = error;
    ReadError {
        code: report.sql_error_code(),
        message: report.message().to_owned(),
    }
}

fn in_subtransaction<R>(
    patience: Duration,
    limit: Duration,
    keeps: bool,
    act: impl FnOnce(&TableAccess) -> Result<R, ReadError>,
) -> Result<R, ReadError> {
    // SAFETY: traps errors as procedural languages do: by an internal subtransaction, with the memory context and
    // resource owner restored afterwards. Its rollback also restores the user, the settings and the snapshot stack, and
    // frees the memory.
    unsafe {
        let memory = pg_sys::CurrentMemoryContext;
        let owner = pg_sys::CurrentResourceOwner;
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        let deadline = Deadline::after(limit);
        let result = PgTryBuilder::new(AssertUnwindSafe(|| {
            let _nobody = Acting::as_nobody();
            let _settings = Settings::kept();
            set_locally(c"search_path", c"pg_catalog, pg_temp");
            // Definitions in the catalogs read the same, whoever reads them.
            set_locally(c"quote_all_identifiers", c"off");
            set_locally(c"IntervalStyle", c"postgres");
            // Adding a day or a month to a moment must not depend on the session's time zone.
            set_locally(c"TimeZone", c"UTC");
            set_locally(c"DateStyle", c"ISO, YMD");
            // Quoted parts of statements, such as the schema's name, must not be read in another way.
            set_locally(c"standard_conforming_strings", c"on");
            // The planner would compute CHECKs of the tables for a query.
            set_locally(c"constraint_exclusion", c"off");
            let own_memory = pg_sys::AllocSetContextCreateExtended(
                pg_sys::CurrentMemoryContext,
                c"pg_seats".as_ptr(),
                pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
            );
            let before = pg_sys::MemoryContextSwitchTo(own_memory);
            pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot());
            let result = act(&TableAccess {
                deadline: Instant::now() + patience,
                writes: keeps,
            });
            pg_sys::PopActiveSnapshot();
            pg_sys::MemoryContextSwitchTo(before);
            pg_sys::MemoryContextDelete(own_memory);
            result
        }))
        .catch_others(|error| Err(read_error(error)))
        .execute();
        let result = match result {
            Err(late)
                if late.code == PgSqlErrorCode::ERRCODE_QUERY_CANCELED && deadline.is_over() =>
            {
                Err(ReadError {
                    code: PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
                    message: "what is executed on the tables takes too long".to_owned(),
                })
            }
            result => result,
        };
        drop(deadline);
        if keeps && result.is_ok() {
            pg_sys::ReleaseCurrentSubTransaction();
        } else {
            pg_sys::RollbackAndReleaseCurrentSubTransaction();
        }
        pg_sys::CurrentMemoryContext = memory;
        pg_sys::CurrentResourceOwner = owner;
        match result {
            Err(cancel) if cancel.code == PgSqlErrorCode::ERRCODE_QUERY_CANCELED => {
                Report::new(cancel.code, cancel.message).raise()
            }
            result => result,
        }
    }
}

unsafe fn set_locally(name: &CStr, value: &CStr) {
    // SAFETY: does what a function's SET clause does; both strings are zero-terminated.
    unsafe {
        pg_sys::set_config_option(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_SAVE,
            true,
            0,
            false,
        );
    }
}

/// Reads and writes tables; only [`read_committed`], [`write_as_part`] and [`write_alone`] make one.
pub struct TableAccess {
    deadline: Instant,
    writes: bool,
}

/// A parameter of a statement: `$1`, `$2`, …
pub enum Argument<'a> {
    /// A text; `None` for null.
    Text(Option<&'a str>),
}

impl Argument<'_> {
    fn type_oid(&self) -> pg_sys::Oid {
        match self {
            Argument::Text(_) => pg_sys::TEXTOID,
        }
    }

    fn datum(&self) -> Option<pg_sys::Datum> {
        match self {
            Argument::Text(text) => text.and_then(text_datum),
        }
    }
}

impl TableAccess {
    /// Returns what `each` makes of the rows of a query.
    pub fn query<R>(
        &self,
        query: &str,
        each: impl FnMut(&Row) -> Result<R, ReadError>,
    ) -> Result<Vec<R>, ReadError> {
        self.query_with(query, &[], each)
    }

    /// Returns what `each` makes of the rows of a query with parameters.
    pub fn query_with<R>(
        &self,
        query: &str,
        arguments: &[Argument],
        mut each: impl FnMut(&Row) -> Result<R, ReadError>,
    ) -> Result<Vec<R>, ReadError> {
        let result = self.run(query, arguments)?;
        if result.columns.is_null() {
            return Err(damaged("a query returned no rows"));
        }
        let columns = result.columns;
        let rows = result.rows.into_iter();
        rows.map(|tuple| each(&Row { tuple, columns })).collect()
    }

    /// Executes a statement, and returns how many rows it concerned.
    pub fn execute(&self, statement: &str, arguments: &[Argument]) -> Result<u64, ReadError> {
        Ok(self.run(statement, arguments)?.processed)
    }

    /// Locks a table of the extension against everybody who would change it, until the transaction ends.
    pub fn lock(&self, table: &str) -> Result<(), ReadError> {
        self.wait_for_locks();
        own::open(table, pg_sys::ShareRowExclusiveLock)?;
        Ok(())
    }

    fn wait_for_locks(&self) {
        be_patient(self.deadline.saturating_duration_since(Instant::now()));
    }

    fn run(&self, statement: &str, arguments: &[Argument]) -> Result<StatementResult, ReadError> {
        self.wait_for_locks();
        let parameters: Vec<_> = arguments
            .iter()
            .map(|argument| (argument.type_oid(), argument.datum()))
            .collect();
        // SAFETY: runs as nobody, in a subtransaction with a snapshot; each value is of its type. A statement that
        // writes sees what was written before it, as with SPI.
        unsafe {
            if self.writes {
                pg_sys::CommandCounterIncrement();
                pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
            }
            let result = statement::execute(statement, &parameters, self.writes);
            if self.writes {
                pg_sys::PopActiveSnapshot();
                pg_sys::CommandCounterIncrement();
            }
            result
        }
    }
}

/// Limits the wait for locks to `patience`, until the transaction ends.
pub fn be_patient(patience: Duration) {
    let patience = CString::new(patience.as_millis().max(1).to_string()).unwrap_or_default();
    // SAFETY: a valid value of the setting.
    unsafe { set_locally(c"lock_timeout", &patience) };
}

/// Returns the extension's schema, as a part of statements.
pub fn schema() -> Result<String, ReadError> {
    catalog::schema().ok_or_else(|| damaged("the extension's schema can't be read"))
}

/// Returns what `license_origin()` returns, as a part of statements.
pub fn origin() -> Result<String, ReadError> {
    let origin = catalog::extension_schema().and_then(catalog::origin);
    let origin = origin.ok_or_else(|| damaged("license_origin() can't be read"))?;
    Ok(pgrx::Uuid::from_bytes(origin).to_string())
}

/// A row of a query's result. Columns count from 1.
pub struct Row {
    tuple: pg_sys::HeapTuple,
    columns: pg_sys::TupleDesc,
}

impl Row {
    /// Wraps a row of a table, rather than of a query's result.
    ///
    /// # Safety
    ///
    /// The row and its description must belong together, and outlive this.
    pub unsafe fn of(tuple: pg_sys::HeapTuple, columns: pg_sys::TupleDesc) -> Row {
        Row { tuple, columns }
    }

    /// Returns its columns as JSON, except those whose types are not PostgreSQL's own: making text of such a value
    /// could run somebody's code.
    pub fn to_json(&self) -> Map<String, Value> {
        let mut columns = Map::new();
        // SAFETY: the description belongs to the row.
        let count = unsafe { (*self.columns).natts };
        for column in 1..=count {
            // SAFETY: the column exists; one that was dropped has no type.
            let (of_type, name) = unsafe {
                let of_type = pg_sys::SPI_gettypeid(self.columns, column);
                if of_type == pg_sys::InvalidOid
                    || of_type.to_u32() >= pg_sys::FirstUnpinnedObjectId
                {
                    continue;
                }
                let name = pg_sys::SPI_fname(self.columns, column);
                let name = CStr::from_ptr(name).to_bytes();
                (of_type, decode_lossy(name).into_owned())
            };
            let value = match of_type {
                pg_sys::INT4OID => self.number(column).map(|number| json!(number as i32)),
                pg_sys::INT8OID => self.number(column).map(|number| json!(number)),
                pg_sys::BOOLOID => self.number(column).map(|number| json!(number & 1 == 1)),
                pg_sys::TIMESTAMPTZOID => {
                    let at = self.number(column);
                    at.map(|at| json!(catalog::timestamp_iso(at)))
                }
                // A value that can't be read as text is left null.
                _ => self.text(column).ok().flatten().map(Value::String),
            };
            columns.insert(name, value.unwrap_or(Value::Null));
        }
        columns
    }

    /// Returns a column as text; empty if it is null, or can't be read as text.
    pub fn text_or_none(&self, column: i32) -> String {
        self.text(column).ok().flatten().unwrap_or_default()
    }

    /// Returns a column's value as text; `None` if it is null.
    pub fn text(&self, column: c_int) -> Result<Option<String>, ReadError> {
        // SAFETY: the tuple and its description belong together; a column out of range is null.
        let value = unsafe {
            let value = pg_sys::SPI_getvalue(self.tuple, self.columns, column);
            if value.is_null() {
                return Ok(None);
            }
            CStr::from_ptr(value)
        };
        match decode(value.to_bytes()) {
            Some(text) => Ok(Some(text.into_owned())),
            None => Err(damaged("a text has no equivalent in UTF-8")),
        }
    }

    /// Returns a column's value if its type is an integer, a boolean or a timestamp; `None` if it is null.
    pub fn number(&self, column: c_int) -> Option<i64> {
        let mut null = false;
        // SAFETY: as for `text`; such values are passed by value.
        let value =
            unsafe { pg_sys::SPI_getbinval(self.tuple, self.columns, column, &raw mut null) };
        (!null).then(|| value.value() as i64)
    }
}
