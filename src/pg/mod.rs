//! What pg_seats needs of PostgreSQL, as safe calls. Other unsafe code is in [`crate::memory`] and in the entry points
//! that PostgreSQL calls.
//!
//! * [`backend`]: this backend: its state, its slot, its waits
//! * [`catalog`]: roles, databases, privileges
//! * [`client`]: the client at the other end of the connection
//! * [`clock`]: the server's time
//! * [`compat`]: what differs between PostgreSQL's versions
//! * [`deadline`]: a deadline for statements on the extension's tables
//! * [`encoding`]: text in the database's encoding, in and out
//! * [`ends`]: the end of this session
//! * [`error`]: errors and log lines with their SQLSTATE and reason
//! * [`exit`]: functions that are called when this process ends
//! * [`heap`]: rows of the extension's tables, by their key
//! * [`list`]: PostgreSQL's lists
//! * `missing_fields`: what pgrx can't put into a report
//! * [`nobody`]: acting without anybody's rights
//! * `oid`: the OIDs of databases and roles
//! * [`own`]: the extension's tables, checked before they are used
//! * [`read_error`]: why tables could not be read
//! * [`row`], [`rows`]: the row, or the rows, that a function returns
//! * [`statement`]: a statement on the extension's tables, executed as nobody
//! * [`status`]: what other backends are doing
//! * [`table`]: reads and writes tables in a transaction without harm to it
//! * [`text`]: values of SQL's type text
//! * [`trigger`]: the rows that a trigger gets
//! * [`unguarded`]: functions that raise no error

pub mod backend;
pub mod catalog;
pub mod client;
pub mod clock;
pub mod compat;
pub mod deadline;
pub mod encoding;
pub mod ends;
pub mod error;
pub mod exit;
pub mod heap;
pub mod list;
mod missing_fields;
pub mod nobody;
mod oid;
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
