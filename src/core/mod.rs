//! What can be decided without a server: built and tested without PostgreSQL.
//!
//! * [`ledger`]: who holds which seat, and who may have one
//! * [`tokens`]: signed licenses: formats, keys and signatures
//! * [`keepalive`]: how soon a client that is cut off is given up
//! * [`command`]: the command that renews a license, as the shell runs it

pub mod command;
pub mod keepalive;
pub mod ledger;
pub mod tokens;
