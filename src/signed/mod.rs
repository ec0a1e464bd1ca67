//! Signed licenses: vendors sign what was sold, and the rows of a database are held to it.
//!
//! * [`evaluation`]: which of a database's tokens count, how long each is believed, and of which products
//! * [`installation`]: this server's key pair, and what it must not forget
//! * [`observation`]: what it notes of what is seen of a database's licenses
//! * [`renewal`]: the next token of a license, by a command
//! * `book`: what is known of a database's signed licenses
//! * `products`: writes what was signed into rows
//! * `allotments`: seats that other installations have
//! * `own`: the installation's key and record, as a session uses them
//! * `in_force`: what is in force of a license here
//! * `refusal`: why something is refused
//! * `acts`: what is done with licenses
//!
//! The first four need no PostgreSQL, save what renewal tells a database.

pub mod evaluation;
pub mod installation;
pub mod observation;
pub mod renewal;
#[cfg(test)]
mod tests;

#[cfg(feature = "pgrx")]
pub mod acts;
#[cfg(feature = "pgrx")]
pub mod allotments;
#[cfg(feature = "pgrx")]
pub mod book;
#[cfg(feature = "pgrx")]
pub mod in_force;
#[cfg(feature = "pgrx")]
pub mod own;
#[cfg(feature = "pgrx")]
pub mod products;
#[cfg(feature = "pgrx")]
pub mod refusal;
