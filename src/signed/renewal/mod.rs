//! Renewal of signed licenses: a command of the administrator's fetches the next token from the vendor.
//!
//! By itself from `pg_seats.renew_before` before the end (see [`crate::worker`]), and by hand with
//! `license_renew()`. One process at a time does it. What was tried, and the token, are in the
//! installation's record first, for it is one license in however many databases; visitors then carry both into
//! each of them.
//!
//! * [`schedule`]: which license is due, and when the next try is
//! * [`process`]: the shell, ended with all that it has started
//! * [`answer`]: whether what came back may be believed
//! * `attempt`: a try, from the record to the record
//! * `trail`: each database's audit trail is told of it

pub mod answer;
#[cfg(feature = "pgrx")]
pub mod attempt;
pub mod process;
pub mod schedule;
#[cfg(feature = "pgrx")]
pub mod trail;
