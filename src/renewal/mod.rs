//! Renewal of signed licenses: a command of the administrator's fetches the next token from the vendor.
//!
//! By itself from `pg_seats.renew_before` before the end (see [`crate::worker`]), and by hand with
//! `license_renew()`. One process at a time does it. What was tried, and the token, are in the
//! installation's record first, for it is one license in however many databases; visitors then carry both into
//! each of them.
//!
//! * [`schedule`]: which license is due, and when the next try is
//! * [`command`]: what the shell is told
//! * [`process`]: the shell, ended with all that it has started
//! * [`answer`]: whether what came back may be believed
//! * `attempt`: a try, from the record to the record
//! * `trail`: each database's audit trail is told of it

pub mod answer;
#[cfg(feature = "pgrx")]
pub mod attempt;
pub mod command;
pub mod process;
pub mod schedule;
#[cfg(feature = "pgrx")]
pub mod trail;

use std::fmt;

/// Why a license was not renewed: a sentence or two.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failure {
    /// Of the command.
    Command(String),
    /// Of the command, with the last line of its standard error: that may hold what is not for everybody.
    Complained {
        /// What has happened.
        reason: String,
        /// That line.
        complaint: String,
    },
    /// Of what it wrote.
    Answer(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Command(reason) | Failure::Answer(reason) => f.write_str(reason),
            Failure::Complained { reason, complaint } => {
                write!(f, "{}: {complaint}.", reason.trim_end_matches('.'))
            }
        }
    }
}

impl Failure {
    /// The reason without what the command has complained: for those who may read the audit trail.
    pub fn for_everybody(&self) -> &str {
        match self {
            Failure::Command(reason)
            | Failure::Answer(reason)
            | Failure::Complained { reason, .. } => reason,
        }
    }
}
