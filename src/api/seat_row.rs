//! The row that a checkout or lease returns.

use std::ffi::CStr;

use pgrx::{IntoDatum, Uuid, pg_sys};

use super::times::timestamp;
use crate::checkout::Taken;
use crate::pg::row::{OneRow, OptionalRow, RowType};
use crate::pg::text::{given_text, name_datum, text_datum};

/// The row: seat_id, lease_id, product, usename, client_user, client_host, workstation, seats_in_use, seats,
/// expires_at.
pub struct SeatRow {
    pub taken: Taken,
    pub lease_id: Option<[u8; 16]>,
    pub usename: String,
    pub client_user: Option<String>,
    pub client_host: String,
    pub workstation: String,
}

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

static TYPE: RowType<COLUMNS> = RowType::new(NAMES_AND_TYPES);

impl SeatRow {
    /// Returns it as a function's result.
    pub fn into_row(self) -> OneRow {
        OneRow(TYPE.row(self.values()))
    }

    /// Returns it as the only row of a function's result.
    pub fn into_optional_row(self) -> OptionalRow {
        OptionalRow(Some(TYPE.row(self.values())))
    }

    fn values(self) -> [Option<pg_sys::Datum>; COLUMNS] {
        let receipt = self.taken.receipt;
        let expires_at = self.lease_id.and_then(|_| timestamp(receipt.expires_at));
        [
            receipt.seat.map(Uuid::from_bytes).into_datum(),
            self.lease_id.map(Uuid::from_bytes).into_datum(),
            text_datum(self.taken.product.as_str()),
            name_datum(&self.usename),
            self.client_user.as_deref().and_then(given_text),
            given_text(&self.client_host),
            given_text(&self.workstation),
            (receipt.in_use as i32).into_datum(),
            receipt.seats.into_datum(),
            expires_at.into_datum(),
        ]
    }
}
