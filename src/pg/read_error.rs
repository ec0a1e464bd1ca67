//! The error of reading tables.

use super::error::PgSqlErrorCode;

/// The error of reading tables.
#[derive(Debug)]
pub struct ReadError {
    /// Its SQLSTATE.
    pub code: PgSqlErrorCode,
    /// PostgreSQL's message.
    pub message: String,
}

impl ReadError {
    /// Tells whether a value caused it: one can't be read as its column's type, or a CHECK forbids it.
    pub fn is_of_values(&self) -> bool {
        let class = |code: PgSqlErrorCode| code as i32 & 0xfff;
        class(self.code) == class(PgSqlErrorCode::ERRCODE_DATA_EXCEPTION)
            || self.code == PgSqlErrorCode::ERRCODE_CHECK_VIOLATION
    }
}

/// Returns an error about what was read, rather than about reading it.
pub fn damaged(message: &str) -> ReadError {
    ReadError {
        code: PgSqlErrorCode::ERRCODE_DATA_CORRUPTED,
        message: message.to_owned(),
    }
}
