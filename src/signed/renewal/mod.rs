//! Renewal of signed licenses: a command that the administrator has set fetches the next token from the vendor.
//!
//! It runs automatically from `pg_seats.renew_before` before the end (see [`crate::worker`]), or by hand with
//! `license_renew()`, in one process at a time. The try and its token are written to the installation's record first,
//! for it is one license in however many databases; database workers then carry both into each of them.
//!
//! * [`schedule`]: which license is due, and when the next try is
//! * [`process`]: the shell, which is ended with all that it has started
//! * [`answer`]: judges whether the output may be believed
//! * `attempt`: a try, from the record to the record
//! * `trail`: writes tries to each database's audit trail

pub mod answer;
#[cfg(feature = "pgrx")]
pub mod attempt;
pub mod process;
pub mod schedule;
#[cfg(feature = "pgrx")]
pub mod trail;
