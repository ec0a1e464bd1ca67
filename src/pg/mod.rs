//! What pg_seats needs of PostgreSQL, as safe calls: the only unsafe code besides [`crate::memory`]
//! and the entry points that PostgreSQL calls.
//!
//! * [`backend`]: who is at the other end of this connection, and what this backend is
//! * [`catalog`]: roles, databases, privileges
//! * [`encoding`]: text of the database's encoding, in and out
//! * [`error`]: errors and log lines with their SQLSTATE and reason
//! * [`heap`]: rows of a table of our own
//! * [`rows`]: the rows that a function returns
//! * [`status`]: what other backends are doing
//! * [`table`]: reading tables in a transaction that can't be harmed
//! * [`unguarded`]: functions that raise no error

pub mod backend;
pub mod catalog;
pub mod encoding;
pub mod error;
pub mod heap;
pub mod rows;
pub mod status;
pub mod table;
pub mod unguarded;
