//! The refusal of a token, or of a call about signed licenses.

use crate::denial::unlicensed_report;
use crate::pg::error::{PgSqlErrorCode, Report, quoted};
use crate::pg::table::ReadError;
use crate::signed::in_force::in_force;

/// Refuses a token.
pub fn unverifiable(detail: impl Into<String>, hint: &str) -> ! {
    refusal(detail, hint).raise()
}

/// Returns the report for a token that can't be verified (28000).
pub fn refusal(detail: impl Into<String>, hint: &str) -> Report {
    Report::new(
        PgSqlErrorCode::ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION,
        "could not verify the license",
    )
    .detail(detail)
    .hint(hint)
    .reason(c"license_not_verified")
}

/// A statement's result, or the report of why it was refused.
pub type Refusable<R> = Result<Result<R, Report>, ReadError>;

/// Returns the result, or raises the refusal, which must not be raised while the tables are read.
pub fn answer<R>(result: Refusable<R>) -> R {
    match result {
        Ok(Ok(result)) => result,
        Ok(Err(refused)) => refused.raise(),
        Err(error) => failed(error),
    }
}

/// Raises that the tables of signed licenses could not be read or written.
pub fn failed(error: ReadError) -> ! {
    Report::new(error.code, error.message)
        .hint("Try again; if it persists, look at the tables licenses and license_keys.")
        .raise()
}

/// Returns the report for a product of this database that no license signs.
pub fn unsigned(product: &str) -> Report {
    if in_force(product).is_none() {
        return unlicensed_report(product);
    }
    Report::new(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("the license of {} is not signed", quoted(product)),
    )
    .hint("Only seats of a license that license_install() has installed can be passed on and given back.")
}
