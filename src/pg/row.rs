//! A row that a function returns. Its type is made once in a process, because looking it up costs more than all else.
#![allow(unsafe_code, reason = "makes a row of SQL values")]

use std::ffi::{CStr, c_int};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use pgrx::callconv::{BoxRet, FcInfo};
use pgrx::datum::Datum;
use pgrx::pg_sys;

use super::rows::values_and_nulls;

/// A row's type.
pub struct RowType<const COLUMNS: usize> {
    columns: [(&'static CStr, pg_sys::Oid); COLUMNS],
    made: AtomicPtr<pg_sys::TupleDescData>,
}

impl<const COLUMNS: usize> RowType<COLUMNS> {
    /// Describes the type by the names and types of its columns.
    pub const fn new(columns: [(&'static CStr, pg_sys::Oid); COLUMNS]) -> RowType<COLUMNS> {
        RowType {
            columns,
            made: AtomicPtr::new(ptr::null_mut()),
        }
    }

    fn description(&self) -> pg_sys::TupleDesc {
        let made = self.made.load(Relaxed);
        if !made.is_null() {
            return made;
        }
        // SAFETY: the type is allocated in a memory context that lasts as long as the process.
        let made = unsafe {
            let context = pg_sys::CurrentMemoryContext;
            pg_sys::CurrentMemoryContext = pg_sys::TopMemoryContext;
            let columns = pg_sys::CreateTemplateTupleDesc(COLUMNS as c_int);
            for (number, (name, oid)) in (1..).zip(self.columns) {
                pg_sys::TupleDescInitEntry(columns, number, name.as_ptr(), oid, -1, 0);
            }
            let columns = pg_sys::BlessTupleDesc(columns);
            pg_sys::CurrentMemoryContext = context;
            columns
        };
        self.made.store(made, Relaxed);
        made
    }

    /// Returns a row of these values, which must be of the columns' types.
    pub fn row(&self, values: [Option<pg_sys::Datum>; COLUMNS]) -> pg_sys::Datum {
        let (mut values, mut nulls) = values_and_nulls(values);
        // SAFETY: the values are of the columns' types, as the caller must see to.
        unsafe {
            let description = self.description();
            let tuple =
                pg_sys::heap_form_tuple(description, values.as_mut_ptr(), nulls.as_mut_ptr());
            pg_sys::HeapTupleHeaderGetDatum((*tuple).t_data)
        }
    }
}

/// The result of a function that returns a row.
pub struct OneRow(pub pg_sys::Datum);

pgrx::impl_sql_translatable!(OneRow, "RECORD");

// SAFETY: the result is a tuple of the type that the function is declared with.
unsafe impl BoxRet for OneRow {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        // SAFETY: the datum is a new tuple.
        unsafe { fcinfo.return_raw_datum(self.0) }
    }
}

/// The result of a function that returns a row, or none.
pub struct OptionalRow(pub Option<pg_sys::Datum>);

pgrx::impl_sql_translatable!(OptionalRow, "SETOF RECORD");

// SAFETY: follows the protocol of functions that return one row a call, and ends with the first.
unsafe impl BoxRet for OptionalRow {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        // SAFETY: PostgreSQL calls a function that returns a set with a ReturnSetInfo.
        unsafe {
            match self.0 {
                Some(row) => fcinfo.return_raw_datum(row),
                None => {
                    let set = (*fcinfo.as_mut_ptr())
                        .resultinfo
                        .cast::<pg_sys::ReturnSetInfo>();
                    (*set).isDone = pg_sys::ExprDoneCond::ExprEndResult;
                    fcinfo.return_null()
                }
            }
        }
    }
}
