//! Rows of a table of our own, put in and taken out by its key, without a plan, a trigger or anybody's
//! operators; in the current transaction, whoever's it is.
#![allow(unsafe_code, reason = "calls PostgreSQL's table and index access")]

use std::ffi::{CStr, c_int};
use std::ptr;

use pgrx::pg_sys;

use super::encoding::encode;
use super::error::{PgSqlErrorCode, Report};

/// A value of a row.
pub enum Value<'a> {
    /// A UUID.
    Uuid([u8; 16]),
    /// An OID.
    Oid(u32),
    /// A text.
    Text(&'a str),
    /// An interval.
    Microseconds(i64),
    /// A moment.
    Timestamp(i64),
}

/// What became of a row that was to be deleted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deletion {
    /// It is deleted, if the transaction commits.
    Deleted,
    /// There is none.
    Gone,
    /// Another transaction has locked it, and was not waited for.
    Locked,
}

/// A table whose first column is a UUID, and its primary key. Locked until the transaction ends.
pub struct Table {
    relation: pg_sys::Relation,
    key: pg_sys::Oid,
}

impl Table {
    /// Opens a table of a schema to write it; `None` where there is none.
    pub fn open(schema: u32, name: &CStr, key: &CStr) -> Option<Table> {
        let schema = pg_sys::Oid::from(schema);
        // SAFETY: catalog look-ups within a transaction.
        unsafe {
            let table = pg_sys::get_relname_relid(name.as_ptr(), schema);
            let key = pg_sys::get_relname_relid(key.as_ptr(), schema);
            if table == pg_sys::InvalidOid || key == pg_sys::InvalidOid {
                return None;
            }
            let relation = pg_sys::table_open(table, pg_sys::RowExclusiveLock as i32);
            Some(Table { relation, key })
        }
    }

    /// Puts a row in. Raises an error where the table has other columns.
    pub fn insert(&self, values: &[Value]) {
        // SAFETY: as many values as the table has columns, each of its column's type.
        unsafe {
            let columns = (*self.relation).rd_att;
            let fits = (*columns).natts as usize == values.len()
                && (1..).zip(values).all(|(number, value)| {
                    pg_sys::SPI_gettypeid(columns, number) == value.type_oid()
                });
            if !fits {
                Report::new(
                    PgSqlErrorCode::ERRCODE_DATA_CORRUPTED,
                    "a table of pg_seats has other columns than it was made with",
                )
                .hint("Undo what was done to it, or create the extension anew.")
                .raise();
            }
            let mut datums: Vec<_> = values.iter().map(Value::datum).collect();
            let mut nulls = vec![false; values.len()];
            let row = pg_sys::heap_form_tuple(columns, datums.as_mut_ptr(), nulls.as_mut_ptr());
            pg_sys::CatalogTupleInsert(self.relation, row);
            pg_sys::CommandCounterIncrement();
        }
    }

    /// Deletes the row with this key, as it is committed now, also in a transaction that sees the
    /// tables as they were. `waits`: for another transaction that has locked it.
    pub fn delete(&self, key: [u8; 16], waits: bool) -> Deletion {
        use pg_sys::TM_Result as Found;
        loop {
            match self.try_delete(key, waits) {
                Some(Found::TM_Ok) => return Deletion::Deleted,
                Some(Found::TM_BeingModified) => return Deletion::Locked,
                // There is a newer one.
                Some(Found::TM_Updated) => {
                    pgrx::check_for_interrupts!();
                }
                _ => return Deletion::Gone,
            }
        }
    }

    fn try_delete(&self, key: [u8; 16], waits: bool) -> Option<pg_sys::TM_Result::Type> {
        let mut key = key;
        // SAFETY: scans the table by its key, and ends the scan; `key` outlives it. An error ends the
        // transaction, or the part of it, that we are in, which also ends the scan.
        unsafe {
            let mut by_key = pg_sys::ScanKeyData::default();
            pg_sys::ScanKeyInit(
                &raw mut by_key,
                1,
                pg_sys::BTEqualStrategyNumber as u16,
                pg_sys::Oid::from(pg_sys::F_UUID_EQ),
                pg_sys::Datum::from(key.as_mut_ptr()),
            );
            let snapshot = pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot());
            let scan = pg_sys::systable_beginscan(
                self.relation,
                self.key,
                true,
                snapshot,
                1,
                &raw mut by_key,
            );
            let row = pg_sys::systable_getnext(scan);
            let result = (!row.is_null()).then(|| {
                let mut failure = pg_sys::TM_FailureData::default();
                pg_sys::heap_delete(
                    self.relation,
                    &raw mut (*row).t_self,
                    pg_sys::GetCurrentCommandId(true),
                    ptr::null_mut(),
                    waits,
                    &raw mut failure,
                    false,
                )
            });
            pg_sys::systable_endscan(scan);
            pg_sys::UnregisterSnapshot(snapshot);
            pg_sys::CommandCounterIncrement();
            result
        }
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        // After an error the transaction's end closes it.
        if !std::thread::panicking() {
            // SAFETY: open since `open`; the lock is kept until the transaction ends.
            unsafe { pg_sys::table_close(self.relation, pg_sys::NoLock as i32) };
        }
    }
}

impl Value<'_> {
    fn type_oid(&self) -> pg_sys::Oid {
        match self {
            Value::Uuid(_) => pg_sys::UUIDOID,
            Value::Oid(_) => pg_sys::OIDOID,
            Value::Text(_) => pg_sys::TEXTOID,
            Value::Microseconds(_) => pg_sys::INTERVALOID,
            Value::Timestamp(_) => pg_sys::TIMESTAMPTZOID,
        }
    }

    fn datum(&self) -> pg_sys::Datum {
        // SAFETY: each datum is of the value's type, made in the current memory context.
        unsafe {
            match self {
                Value::Uuid(bytes) => {
                    let copy = pg_sys::palloc(bytes.len()).cast::<u8>();
                    ptr::copy_nonoverlapping(bytes.as_ptr(), copy, bytes.len());
                    pg_sys::Datum::from(copy)
                }
                Value::Oid(oid) => pg_sys::Datum::from(*oid),
                Value::Text(text) => {
                    let text = encode(text);
                    let text =
                        pg_sys::cstring_to_text_with_len(text.as_ptr().cast(), text.len() as c_int);
                    pg_sys::Datum::from(text)
                }
                Value::Microseconds(time) => {
                    let interval =
                        pg_sys::palloc0(size_of::<pg_sys::Interval>()).cast::<pg_sys::Interval>();
                    (*interval).time = *time;
                    pg_sys::Datum::from(interval)
                }
                Value::Timestamp(at) => pg_sys::Datum::from(*at),
            }
        }
    }
}
