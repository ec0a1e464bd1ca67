//! This installation's key and record, as calls and database workers use them.

use crate::core::ledger::time::Timestamp;
use crate::core::tokens::key_pair::KeyPair;
use crate::pg::backend;
use crate::pg::error::{PgSqlErrorCode, Report};
use crate::pg::table::ReadError;
use crate::settings;
use crate::signed::installation::record::Record;
use crate::signed::installation::{files, key};

/// Returns the latest moment that this server has known: what has ended must not begin anew when the clock is set back.
pub fn latest() -> Timestamp {
    let record = files::record(&settings::installation_key());
    let now = backend::now();
    record.map_or(now, |record| now.max(record.latest))
}

/// Returns this installation's key pair, or raises why it can't be read (55000).
pub fn own_key() -> KeyPair {
    let path = settings::installation_key();
    key::read(&path).unwrap_or_else(|error| {
        // The path is not for everybody to know.
        crate::pg::error::log(format!(
            "could not read installation key {}: {error}",
            path.display()
        ));
        Report::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "could not read this installation's key",
        )
        .hint("The server log says why. Restore the file from a backup; where there is none, the server makes one when it starts.")
        .raise()
    })
}

/// Changes the installation's record.
pub fn change<R>(change: impl FnOnce(&mut Record) -> R) -> Result<R, ReadError> {
    files::change_record(&settings::installation_key(), change).map_err(|error| ReadError {
        code: PgSqlErrorCode::ERRCODE_IO_ERROR,
        message: format!("could not write the installation's record: {error}"),
    })
}
