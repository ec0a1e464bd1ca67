//! The rows that a function returns.
#![allow(unsafe_code, reason = "makes rows of SQL values")]

use pgrx::{PgMemoryContexts, pg_sys};

/// Returns a row's values as PostgreSQL takes them: the values, and which of them are null.
pub fn values_and_nulls<const COLUMNS: usize>(
    row: [Option<pg_sys::Datum>; COLUMNS],
) -> ([pg_sys::Datum; COLUMNS], [bool; COLUMNS]) {
    let values = row.map(|value| value.unwrap_or(pg_sys::Datum::from(0)));
    (values, row.map(|value| value.is_none()))
}

/// The store into which a function that returns many rows puts them all at once: a call for each row would cost more
/// than the row.
pub struct Rows {
    store: *mut pg_sys::Tuplestorestate,
    columns: pg_sys::TupleDesc,
    row: PgMemoryContexts,
}

impl Rows {
    /// Returns the store of the function that is being called, which must be declared to return a table and itself
    /// return nothing. Raises an error if it was called as if it returned one value.
    pub fn of(fcinfo: pg_sys::FunctionCallInfo) -> Rows {
        // SAFETY: PostgreSQL passes a valid call to the function; the store that the first call makes outlives it.
        unsafe {
            pg_sys::InitMaterializedSRF(fcinfo, 0);
            let result = (*fcinfo).resultinfo.cast::<pg_sys::ReturnSetInfo>();
            Rows {
                store: (*result).setResult,
                columns: (*result).setDesc,
                row: PgMemoryContexts::new("pg_seats row"),
            }
        }
    }

    /// Adds a row. Its values must be of the columns' types; memory that is allocated meanwhile is freed afterwards.
    pub fn put<const COLUMNS: usize>(
        &mut self,
        values: impl FnOnce() -> [Option<pg_sys::Datum>; COLUMNS],
    ) {
        let (store, columns) = (self.store, self.columns);
        // SAFETY: the call copies the values into the store of this function call.
        unsafe {
            self.row.switch_to(|_| {
                let (mut values, mut nulls) = values_and_nulls(values());
                let (values, nulls) = (values.as_mut_ptr(), nulls.as_mut_ptr());
                pg_sys::tuplestore_putvalues(store, columns, values, nulls);
            });
            self.row.reset();
        }
    }
}
