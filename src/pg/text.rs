//! Values of SQL's type text, as functions take and return them.
#![allow(unsafe_code, reason = "reads and makes SQL values")]

use std::borrow::Cow;
use std::ptr;

use pgrx::callconv::{Arg, ArgAbi, BoxRet, FcInfo};
use pgrx::datum::Datum;
use pgrx::{FromDatum, IntoDatum, pg_sys, rust_byte_slice_to_bytea, varlena_to_byte_slice};

use super::encoding::{decode, encode};
use super::error::{PgSqlErrorCode, Report};

/// A value of SQL's type text.
pub struct ServerText(String);

impl<T: Into<String>> From<T> for ServerText {
    fn from(text: T) -> ServerText {
        ServerText(text.into())
    }
}

/// Returns a value of SQL's type text, as PostgreSQL takes it.
pub fn text_datum(text: &str) -> Option<pg_sys::Datum> {
    rust_byte_slice_to_bytea(&encode(text)).into_datum()
}

/// Returns the same, but null for an empty text.
pub fn given_text(text: &str) -> Option<pg_sys::Datum> {
    if text.is_empty() {
        return None;
    }
    text_datum(text)
}

/// Returns a value of SQL's type name.
pub fn name_datum(text: &str) -> Option<pg_sys::Datum> {
    let text = encode(text);
    // SAFETY: the allocation has room for a name and is zeroed; the text that is copied ends before the room does.
    unsafe {
        let room = pg_sys::NAMEDATALEN as usize;
        let name = pg_sys::palloc0(room).cast::<u8>();
        ptr::copy_nonoverlapping(text.as_ptr(), name, text.len().min(room - 1));
        Some(pg_sys::Datum::from(name))
    }
}

impl IntoDatum for ServerText {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        text_datum(&self.0)
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::TEXTOID
    }
}

pgrx::impl_sql_translatable!(ServerText, "TEXT");

/// An argument of SQL's type text.
pub struct TextArgument<'a>(Cow<'a, str>);

impl TextArgument<'_> {
    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the text as an owned string.
    pub fn into_string(self) -> String {
        self.0.into_owned()
    }
}

impl FromDatum for TextArgument<'_> {
    unsafe fn from_polymorphic_datum(
        datum: pg_sys::Datum,
        is_null: bool,
        _type: pg_sys::Oid,
    ) -> Option<Self> {
        if is_null {
            return None;
        }
        // SAFETY: the datum is a value of type text, which detoasting makes whole; it lives as long as the call.
        let bytes =
            unsafe { varlena_to_byte_slice(pg_sys::pg_detoast_datum_packed(datum.cast_mut_ptr())) };
        let Some(text) = decode(bytes) else {
            Report::new(
                PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                "text has no equivalent in UTF8",
            )
            .hint("Use letters that the database's encoding shares with UTF8.")
            .raise()
        };
        Some(TextArgument(text))
    }
}

pgrx::impl_sql_translatable!(TextArgument<'_>, "TEXT");

// SAFETY: reads the argument as a value of type text, as it is declared.
unsafe impl<'fcx> ArgAbi<'fcx> for TextArgument<'fcx> {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: the argument is a text, and not null.
        unsafe { arg.unbox_arg_using_from_datum() }.unwrap_or(TextArgument(Cow::Borrowed("")))
    }
}

// SAFETY: returns the datum as the function's result, as pgrx does for its own types.
unsafe impl BoxRet for ServerText {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> Datum<'fcx> {
        match self.into_datum() {
            // SAFETY: the datum is a new value of type text.
            Some(datum) => unsafe { fcinfo.return_raw_datum(datum) },
            None => fcinfo.return_null(),
        }
    }
}
