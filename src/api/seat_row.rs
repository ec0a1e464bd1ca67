//! The row that a checkout or lease returns.
#![allow(unsafe_code, reason = "makes a row of SQL values")]

use std::ffi::{CStr, c_int};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use pgrx::callconv::{BoxRet, FcInfo};
use pgrx::datum::Datum;
use pgrx::{IntoDatum, Uuid, pg_sys};

use super::times::timestamp;
use crate::checkout::Taken;
use crate::pg::rows::values_and_nulls;
use crate::pg::text::{given_text, text_datum};

/// The row: seat_id, lease_id, product, usename, client_user, client_host, workstation,
/// seats_in_use, seats, expires_at.
pub struct SeatRow {
    pub taken: Taken,
    pub lease_id: Option<[u8; 16]>,
    pub usename: String,
    pub client_user: Option<String>,
    pub client_host: String,
    pub workstation: String,
}

pgrx::impl_sql_translatable!(SeatRow, "RECORD");

const COLUMNS: usize = 10;

/// The columns, as sql/functions.sql declares them.
const NAMES_AND_TYPES: [(&CStr, pg_sys::Oid); COLUMNS] = [
    (c"seat_id", pg_sys::UUIDOID),
    (c"lease_id", pg_sys::UUIDOID),
    (c"product", pg_sys::TEXTOID),
    (c"usename", pg_sys::NAMEOID),
    (c"client_user", pg_sys::TEXTOID),
    (c"client_host", pg_sys::TEXTOID),
    (c"workstation", pg_sys::TEXTOID),
    (c"seats_in_use", pg_sys::INT4OID),
    (c"seats", pg_sys::INT4OID),
    (c"expires_at", pg_sys::TIMESTAMPTZOID),
];

/// The description of the row: made once in a process, since to look it up costs more than all else.
fn columns() -> pg_sys::TupleDesc {
    static MADE: AtomicPtr<pg_sys::TupleDescData> = AtomicPtr::new(ptr::null_mut());
    let made = MADE.load(Relaxed);
    if !made.is_null() {
        return made;
    }
    // SAFETY: made in a memory context that lasts as long as the process.
    let made = unsafe {
        let context = pg_sys::CurrentMemoryContext;
        pg_sys::CurrentMemoryContext = pg_sys::TopMemoryContext;
        let columns = pg_sys::CreateTemplateTupleDesc(COLUMNS as c_int);
        for (number, (name, oid)) in (1..).zip(NAMES_AND_TYPES) {
            pg_sys::TupleDescInitEntry(columns, number, name.as_ptr(), oid, -1, 0);
        }
        let columns = pg_sys::BlessTupleDesc(columns);
        pg_sys::CurrentMemoryContext = context;
        columns
    };
    MADE.store(made, Relaxed);
    made
}

impl SeatRow {
    fn values(self) -> [Option<pg_sys::Datum>; COLUMNS] {
        let receipt = self.taken.receipt;
        let expires_at = self.lease_id.and_then(|_| timestamp(receipt.expires_at));
        [
            receipt.seat.map(Uuid::from_bytes).into_datum(),
            self.lease_id.map(Uuid::from_bytes).into_datum(),
            text_datum(self.taken.product.as_str()),
            name(&self.usename),
            self.client_user.as_deref().and_then(given_text),
            given_text(&self.client_host),
            given_text(&self.workstation),
            (receipt.in_use as i32).into_datum(),
            receipt.seats.into_datum(),
            expires_at.into_datum(),
        ]
    }
}

/// A value of SQL's type name.
fn name(text: &str) -> Option<pg_sys::Datum> {
    let text = crate::pg::encoding::encode(text);
    // SAFETY: room for a name, zero beyond the text, which ends before the room does.
    unsafe {
        let room = pg_sys::NAMEDATALEN as usize;
        let name = pg_sys::palloc0(room).cast::<u8>();
        ptr::copy_nonoverlapping(text.as_ptr(), name, text.len().min(room - 1));
        Some(pg_sys::Datum::from(name))
    }
}

// SAFETY: returns a tuple of the type that the function is declared with.
unsafe impl BoxRet for SeatRow {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        let (mut values, mut nulls) = values_and_nulls(self.values());
        // SAFETY: the values are of the types of the columns.
        unsafe {
            let tuple = pg_sys::heap_form_tuple(columns(), values.as_mut_ptr(), nulls.as_mut_ptr());
            fcinfo.return_raw_datum(pg_sys::HeapTupleHeaderGetDatum((*tuple).t_data))
        }
    }
}

/// A row, or none.
pub struct SeatRows(pub Option<SeatRow>);

pgrx::impl_sql_translatable!(SeatRows, "SETOF RECORD");

// SAFETY: the protocol of functions that return a row a call, which ends with the first.
unsafe impl BoxRet for SeatRows {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        // SAFETY: PostgreSQL calls a function that returns a set with a ReturnSetInfo.
        unsafe {
            match self.0 {
                Some(row) => row.box_into(fcinfo),
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
