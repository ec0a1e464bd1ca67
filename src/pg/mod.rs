//! What pg_seats needs of PostgreSQL, as safe calls: the only unsafe code besides [`crate::memory`]
//! and the entry points that PostgreSQL calls.
//!
//! * [`backend`]: who is at the other end of this connection, and what this backend is
//! * [`catalog`]: roles, databases, privileges
//! * [`deadline`]: a time after which what runs on our tables is cancelled
//! * [`encoding`]: text of the database's encoding, in and out
//! * [`error`]: errors and log lines with their SQLSTATE and reason
//! * [`heap`]: rows of a table of our own
//! * [`nobody`]: acting without anybody's rights
//! * [`own`]: our own tables, as they may be touched
//! * [`rows`]: the rows that a function returns
//! * [`statement`]: a statement on our own tables, executed as nobody
//! * [`status`]: what other backends are doing
//! * [`table`]: reading tables in a transaction that can't be harmed
//! * [`unguarded`]: functions that raise no error

pub mod backend;
pub mod catalog;
pub mod client;
pub mod clock;
pub mod deadline;
pub mod encoding;
pub mod ends;
pub mod error;
pub mod exit;
pub mod heap;
pub mod nobody;
pub mod own;
pub mod read_error;
pub mod row;
pub mod rows;
pub mod statement;
pub mod status;
pub mod table;
pub mod text;
pub mod trigger;
pub mod unguarded;
