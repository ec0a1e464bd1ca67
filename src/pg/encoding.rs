//! Converts text: inside it is UTF-8, PostgreSQL's is in the encoding of the database. Nothing here raises an error:
//! names of roles and databases have no encoding, so any database may see bytes that its own does not define.
//!
//! In SQL_ASCII, which defines no letters beyond ASCII, bytes are taken as UTF-8.
#![allow(unsafe_code, reason = "calls PostgreSQL's conversion functions")]

use std::borrow::Cow;
use std::ffi::{CStr, c_int};

use pgrx::pg_sys;

use super::unguarded;

const UTF8: c_int = pg_sys::pg_enc::PG_UTF8 as c_int;
const SQL_ASCII: c_int = pg_sys::pg_enc::PG_SQL_ASCII as c_int;

/// The replacement inside for bytes that are no letter.
const NOT_A_LETTER: &[u8] = "\u{FFFD}".as_bytes();
/// The replacement for a letter that the database's encoding lacks.
const NO_SUCH_LETTER: &[u8] = b"?";

/// Returns the text of these bytes in the database's encoding; `None` if not all of them are letters.
pub fn decode(bytes: &[u8]) -> Option<Cow<'_, str>> {
    if is_the_same_in_utf8(bytes) {
        return str::from_utf8(bytes).ok().map(Cow::Borrowed);
    }
    let (text, done) = Conversion::find(encoding(), UTF8)?.convert_start(bytes);
    if done < bytes.len() {
        return None;
    }
    String::from_utf8(text).ok().map(Cow::Owned)
}

/// Returns the text of these bytes in the database's encoding, with U+FFFD for what is no letter.
pub fn decode_lossy(bytes: &[u8]) -> Cow<'_, str> {
    if is_the_same_in_utf8(bytes) {
        return String::from_utf8_lossy(bytes);
    }
    let text = convert(bytes, encoding(), UTF8, NOT_A_LETTER);
    Cow::Owned(String::from_utf8_lossy(&text).into_owned())
}

/// Returns the text in the database's encoding, with a question mark for each letter that it lacks.
pub fn encode(text: &str) -> Cow<'_, [u8]> {
    if is_the_same_in_utf8(text.as_bytes()) {
        return Cow::Borrowed(text.as_bytes());
    }
    Cow::Owned(convert(text.as_bytes(), UTF8, encoding(), NO_SUCH_LETTER))
}

/// Tells whether the database's encoding has all letters of a text. It must be called in a transaction.
pub fn has_letters_of(text: &str) -> bool {
    decode(&encode(text)).as_deref() == Some(text)
}

/// Tells whether a text has no control characters and is valid in the database's encoding.
pub fn is_proper_text(bytes: &[u8]) -> bool {
    let Ok(len) = c_int::try_from(bytes.len()) else {
        return false;
    };
    // SAFETY: the call reads `len` bytes and raises no error.
    let valid = unsafe { unguarded::pg_verify_mbstr(encoding(), bytes.as_ptr().cast(), len, true) };
    valid && !bytes.iter().any(u8::is_ascii_control)
}

/// Returns the name of the database's encoding.
pub fn name() -> String {
    // SAFETY: the call returns a static string.
    unsafe { CStr::from_ptr(pg_sys::GetDatabaseEncodingName()) }
        .to_string_lossy()
        .into_owned()
}

fn encoding() -> c_int {
    // SAFETY: the call only reads a global of this process.
    unsafe { unguarded::GetDatabaseEncoding() }
}

/// Tells whether a text is the same in UTF-8. All encodings of databases contain ASCII.
pub fn is_the_same_in_utf8(bytes: &[u8]) -> bool {
    bytes.is_ascii() || matches!(encoding(), UTF8 | SQL_ASCII)
}

/// Tells whether a text that is the same in UTF-8 goes to the client as it is.
pub fn is_the_same_for_client(bytes: &[u8]) -> bool {
    // SAFETY: the call only reads this process's own state.
    let client = unsafe { unguarded::pg_get_client_encoding() };
    let encoding = encoding();
    bytes.is_ascii()
        || client == encoding
        || client == SQL_ASCII
        || (client, encoding) == (UTF8, SQL_ASCII)
}

/// Tells whether the client's encoding has all letters of a text in the database's encoding. It must be called in a
/// transaction.
pub fn reaches_client(bytes: &[u8]) -> bool {
    if is_the_same_for_client(bytes) {
        return true;
    }
    // SAFETY: the call only reads this process's own state.
    let client = unsafe { unguarded::pg_get_client_encoding() };
    let conversion = Conversion::find(encoding(), client);
    conversion.is_some_and(|conversion| conversion.convert_start(bytes).1 == bytes.len())
}

fn convert(bytes: &[u8], from: c_int, to: c_int, substitute: &[u8]) -> Vec<u8> {
    let conversion = Conversion::find(from, to);
    let mut converted = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    loop {
        let (start, done) = match &conversion {
            Some(conversion) => conversion.convert_start(rest),
            None => start_in_ascii(rest),
        };
        converted.extend(start);
        rest = rest.get(done..).unwrap_or_default();
        if rest.is_empty() {
            return converted;
        }
        converted.extend(substitute);
        rest = rest.get(first_letter(rest, from)..).unwrap_or_default();
    }
}

fn start_in_ascii(bytes: &[u8]) -> (Vec<u8>, usize) {
    let start: Vec<u8> = bytes.iter().copied().take_while(u8::is_ascii).collect();
    let done = start.len();
    (start, done)
}

/// Returns the length in bytes of the first letter, or 1 for a byte that is none.
fn first_letter(bytes: &[u8], encoding: c_int) -> usize {
    let len = c_int::try_from(bytes.len()).unwrap_or(c_int::MAX);
    // SAFETY: the call reads at most `len` bytes, in an encoding that PostgreSQL has.
    let letter = unsafe { pg_sys::pg_encoding_verifymbchar(encoding, bytes.as_ptr().cast(), len) };
    usize::try_from(letter).unwrap_or(1).max(1)
}

/// PostgreSQL's conversion from one encoding to another.
struct Conversion {
    function: pg_sys::Oid,
    from: c_int,
    to: c_int,
}

impl Conversion {
    /// Finds the conversion. There is none for MULE_INTERNAL, and none can be found outside a transaction.
    fn find(from: c_int, to: c_int) -> Option<Conversion> {
        // SAFETY: a catalog look-up in a transaction.
        let function = unsafe {
            if !pg_sys::IsTransactionState() {
                return None;
            }
            pg_sys::FindDefaultConversionProc(from, to)
        };
        (function != pg_sys::InvalidOid).then_some(Conversion { function, from, to })
    }

    /// Converts up to the first letter that can't be converted, and returns how many bytes came before it.
    fn convert_start(&self, bytes: &[u8]) -> (Vec<u8>, usize) {
        let (Ok(len), Ok(room)) = (
            c_int::try_from(bytes.len()),
            c_int::try_from(bytes.len() * pg_sys::MAX_CONVERSION_GROWTH as usize + 1),
        ) else {
            return (Vec::new(), 0);
        };
        let mut source = [bytes, &[0]].concat();
        let mut target = vec![0; room as usize];
        // SAFETY: the call reads `len` bytes and a zero, and writes at most `room` bytes, the last one a zero; with
        // `noError` it stops where it can't go on.
        let done = unsafe {
            pg_sys::pg_do_encoding_conversion_buf(
                self.function,
                self.from,
                self.to,
                source.as_mut_ptr(),
                len,
                target.as_mut_ptr(),
                room,
                true,
            )
        };
        let end = target.iter().position(|&byte| byte == 0).unwrap_or(0);
        target.truncate(end);
        (target, usize::try_from(done).unwrap_or(0))
    }
}
