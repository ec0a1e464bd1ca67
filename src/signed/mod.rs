//! Signed licenses: vendors sign what was sold, and the rows of a database are clamped to it.
//!
//! * [`evaluation`]: which of a database's tokens count, how long each is believed, and for which products
//! * [`installation`]: this server's key pair, and what it must not forget
//! * [`observation`]: notes in the record what is seen of a database's licenses
//! * [`renewal`]: fetches the next token of a license by a command
//! * `signed_licenses`: the signed licenses of a database, and what is known of them
//! * `terms`: what was signed of each product, to which rows are clamped
//! * `products`: writes what was signed into rows
//! * `allotments`: seats that other installations have
//! * `own`: the installation's key and record, as a session uses them
//! * `in_force`: the license of a product that is in force here
//! * `refusal`: why something is refused
//! * `acts`: what is done with licenses
//!
//! The first four need no PostgreSQL, except where renewal writes to a database.

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
pub mod in_force;
#[cfg(feature = "pgrx")]
pub mod own;
#[cfg(feature = "pgrx")]
pub mod products;
#[cfg(feature = "pgrx")]
pub mod refusal;
#[cfg(feature = "pgrx")]
pub mod signed_licenses;
#[cfg(feature = "pgrx")]
mod terms;
