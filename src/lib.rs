//! pg_seats: concurrent-user licenses, enforced by PostgreSQL at login.

pub mod ledger;

#[cfg(any(feature = "pg15", feature = "pg16", feature = "pg17", feature = "pg18"))]
pgrx::pg_module_magic!();
