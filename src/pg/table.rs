//! Reading tables in the midst of another transaction, without harm to it whatever happens.
#![allow(unsafe_code, reason = "runs a subtransaction and SPI by hand")]

use std::ffi::{CStr, CString, c_char, c_int};
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use pgrx::bgworkers::BackgroundWorker;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgTryBuilder, pg_sys};

use super::catalog;
use super::encoding::{decode, encode, text_datum};
use super::error::{self, PgSqlErrorCode, Report, quoted};

/// Why tables could not be read.
#[derive(Debug)]
pub struct ReadError {
    /// Its SQLSTATE.
    pub code: PgSqlErrorCode,
    /// PostgreSQL's message.
    pub message: String,
}

impl ReadError {
    /// Whether it came of values: one can't be read as its column's type, or a CHECK forbids it.
    pub fn is_of_values(&self) -> bool {
        let class = |code: PgSqlErrorCode| code as i32 & 0xfff;
        class(self.code) == class(PgSqlErrorCode::ERRCODE_DATA_EXCEPTION)
            || self.code == PgSqlErrorCode::ERRCODE_CHECK_VIOLATION
    }
}

/// Runs `read` as the bootstrap superuser, on what is committed now, waiting for locks no longer
/// than `patience`, in a subtransaction that is rolled back: it leaves neither locks nor settings
/// nor an error behind, save that a query that is cancelled ends. Names resolve in pg_catalog alone,
/// so that no user's operator is run, and the time zone is UTC.
pub fn read_committed<R>(
    patience: Duration,
    read: impl FnOnce(&Reader) -> Result<R, ReadError>,
) -> Result<R, ReadError> {
    in_subtransaction(patience, false, read)
}

/// The same for what is to be written: it is part of the transaction, unless it fails.
pub fn write_as_part<R>(
    patience: Duration,
    write: impl FnOnce(&Reader) -> Result<R, ReadError>,
) -> Result<R, ReadError> {
    in_subtransaction(patience, true, write)
}

/// The same in a worker, outside a transaction, as one of its own: neither a lock that its commit needs
/// is waited for any longer, nor does an error of the commit leave this function.
pub fn write_alone<R>(
    patience: Duration,
    write: impl FnOnce(&Reader) -> Result<R, ReadError>,
) -> Result<R, ReadError> {
    let transaction = AssertUnwindSafe(|| {
        be_patient(patience);
        write_as_part(patience, write)
    });
    PgTryBuilder::new(AssertUnwindSafe(|| {
        BackgroundWorker::transaction(transaction)
    }))
    .catch_others(|error| {
        // SAFETY: as every worker goes on after an error.
        unsafe { pg_sys::AbortCurrentTransaction() };
        Err(read_error(error))
    })
    .execute()
}

/// Has the server log say what could not be done to a database; in a worker, outside a transaction.
pub fn log_failure(what: &str, database: u32, error: &ReadError, and_now: &str) {
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
    keeps: bool,
    act: impl FnOnce(&Reader) -> Result<R, ReadError>,
) -> Result<R, ReadError> {
    // SAFETY: PL languages' own way of trapping errors: an internal subtransaction, with memory
    // context and resource owner put back as they were. Its end also restores the settings, and the
    // rollback the user, the snapshot stack and SPI's stack.
    unsafe {
        let memory = pg_sys::CurrentMemoryContext;
        let owner = pg_sys::CurrentResourceOwner;
        let (mut user, mut context) = (pg_sys::InvalidOid, 0);
        pg_sys::GetUserIdAndSecContext(&raw mut user, &raw mut context);
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        let result = PgTryBuilder::new(AssertUnwindSafe(|| {
            pg_sys::SetUserIdAndSecContext(
                pg_sys::Oid::from(pg_sys::BOOTSTRAP_SUPERUSERID),
                (pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION)
                    as c_int,
            );
            set_locally(c"search_path", c"pg_catalog, pg_temp");
            // A day, or a month, that is added to a moment must not depend on who happens to be here.
            set_locally(c"TimeZone", c"UTC");
            set_locally(c"DateStyle", c"ISO, YMD");
            pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot());
            pg_sys::SPI_connect();
            let result = act(&Reader {
                deadline: Instant::now() + patience,
                writes: keeps,
            });
            pg_sys::SPI_finish();
            pg_sys::PopActiveSnapshot();
            result
        }))
        .catch_others(|error| Err(read_error(error)))
        .execute();
        if keeps && result.is_ok() {
            pg_sys::SetUserIdAndSecContext(user, context);
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
    // SAFETY: as a function's SET clause does it.
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
pub struct Reader {
    deadline: Instant,
    writes: bool,
}

/// What a statement is told, as `$1`, `$2`, …
pub enum Argument<'a> {
    /// A text; none for null.
    Text(Option<&'a str>),
    /// A row of a table, as a value of the table's type; null for none.
    Row(pg_sys::HeapTuple, pg_sys::TupleDesc),
}

impl Argument<'_> {
    fn type_oid(&self) -> pg_sys::Oid {
        match self {
            Argument::Text(_) => pg_sys::TEXTOID,
            // SAFETY: the description of a table's row.
            Argument::Row(_, columns) => unsafe { (**columns).tdtypeid },
        }
    }

    fn datum(&self) -> Option<pg_sys::Datum> {
        match self {
            Argument::Text(text) => text.and_then(text_datum),
            // SAFETY: the row and its description belong together.
            Argument::Row(row, columns) => unsafe {
                (!row.is_null()).then(|| pg_sys::heap_copy_tuple_as_datum(*row, *columns))
            },
        }
    }
}

impl Reader {
    /// The rows of a query.
    pub fn query<R>(
        &self,
        query: &str,
        each: impl FnMut(&Row) -> Result<R, ReadError>,
    ) -> Result<Vec<R>, ReadError> {
        self.query_with(query, &[], each)
    }

    /// The rows of a query that is told something.
    pub fn query_with<R>(
        &self,
        query: &str,
        arguments: &[Argument],
        mut each: impl FnMut(&Row) -> Result<R, ReadError>,
    ) -> Result<Vec<R>, ReadError> {
        self.run(query, arguments)?;
        // SAFETY: SPI is connected as long as there is a Reader; the tuple table lives until
        // SPI_finish.
        unsafe {
            let table = pg_sys::SPI_tuptable;
            if table.is_null() {
                return Err(damaged("a query returned no rows"));
            }
            (0..pg_sys::SPI_processed as usize)
                .map(|at| {
                    each(&Row {
                        tuple: *(*table).vals.add(at),
                        columns: (*table).tupdesc,
                    })
                })
                .collect()
        }
    }

    /// Executes a statement; how many rows it concerned.
    pub fn execute(&self, statement: &str, arguments: &[Argument]) -> Result<u64, ReadError> {
        self.run(statement, arguments)?;
        // SAFETY: a plain global of this process.
        Ok(unsafe { pg_sys::SPI_processed })
    }

    fn run(&self, statement: &str, arguments: &[Argument]) -> Result<(), ReadError> {
        let statement = CString::new(encode(statement))
            .map_err(|_| damaged("a statement holds a zero byte"))?;
        let left = self.deadline.saturating_duration_since(Instant::now());
        let left = CString::new(left.as_millis().max(1).to_string())
            .map_err(|_| damaged("a timeout holds a zero byte"))?;
        let mut types: Vec<_> = arguments.iter().map(Argument::type_oid).collect();
        let values: Vec<_> = arguments.iter().map(Argument::datum).collect();
        let nulls: Vec<_> = values
            .iter()
            .map(|value| if value.is_some() { b' ' } else { b'n' } as c_char)
            .collect();
        let mut values: Vec<_> = values
            .into_iter()
            .map(|value| value.unwrap_or(pg_sys::Datum::from(0)))
            .collect();
        // SAFETY: SPI is connected; as many types, values and nulls as arguments.
        let status = unsafe {
            set_locally(c"lock_timeout", &left);
            pg_sys::SPI_execute_with_args(
                statement.as_ptr(),
                arguments.len() as c_int,
                types.as_mut_ptr(),
                values.as_mut_ptr(),
                nulls.as_ptr(),
                !self.writes,
                0,
            )
        };
        if status < 0 {
            return Err(damaged("a statement can't be executed"));
        }
        Ok(())
    }
}

/// Waits for locks no longer than `patience`, until the transaction ends.
pub fn be_patient(patience: Duration) {
    let patience = CString::new(patience.as_millis().max(1).to_string()).unwrap_or_default();
    // SAFETY: a valid value of the setting.
    unsafe { set_locally(c"lock_timeout", &patience) };
}

/// An error of what was read, rather than of reading it.
pub fn damaged(message: &str) -> ReadError {
    ReadError {
        code: PgSqlErrorCode::ERRCODE_DATA_CORRUPTED,
        message: message.to_owned(),
    }
}

/// The extension's schema, as a part of statements.
pub fn schema() -> Result<String, ReadError> {
    catalog::schema().ok_or_else(|| damaged("the extension's schema can't be read"))
}

/// A row of a query's result. Columns count from 1.
pub struct Row {
    tuple: pg_sys::HeapTuple,
    columns: pg_sys::TupleDesc,
}

impl Row {
    /// The column's value as text.
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

    /// The column's value where its type is an integer, a boolean or a timestamp.
    pub fn number(&self, column: c_int) -> Option<i64> {
        let mut null = false;
        // SAFETY: as for `text`; such values are passed by value.
        let value =
            unsafe { pg_sys::SPI_getbinval(self.tuple, self.columns, column, &raw mut null) };
        (!null).then(|| value.value() as i64)
    }
}
