//! The SQL functions: those for applications, and those under the views, which show the ledger as it is, for the
//! current database and the pools that it belongs to. They raise 55000 if the library is not preloaded. Those for
//! applications are declared in sql/functions.sql.

mod administration;
mod allotments;
mod arguments;
mod checkout;
mod held;
mod keys;
mod lease;
mod own_leases;
mod renewal;
mod seat_row;
mod sessions;
mod times;
mod usage;

use crate::memory::require_preloaded;
use crate::pg::backend;
use crate::pg::error::{PgSqlErrorCode, Report};

/// Refuses a call during a parallel operation. A parallel worker has no session of its own to act on, whatever the
/// function that calls is marked as.
fn require_serial(function: &str) {
    if backend::is_in_parallel_mode() {
        Report::new(
            PgSqlErrorCode::ERRCODE_INVALID_TRANSACTION_STATE,
            format!("cannot execute {function} during a parallel operation"),
        )
        .hint("Mark the function that calls it PARALLEL UNSAFE.")
        .raise();
    }
}

fn require_primary(function: &str, hint: &str) {
    if backend::in_recovery() {
        Report::new(
            PgSqlErrorCode::ERRCODE_READ_ONLY_SQL_TRANSACTION,
            format!("cannot execute {function} on a standby"),
        )
        .hint(hint)
        .raise();
    }
}

fn require_writable(function: &str) {
    require_primary(function, "Connect to the primary server.");
    if backend::is_read_only() {
        Report::new(
            PgSqlErrorCode::ERRCODE_READ_ONLY_SQL_TRANSACTION,
            format!("cannot execute {function} in a read-only transaction"),
        )
        .hint("Begin a transaction that may write.")
        .raise();
    }
}
