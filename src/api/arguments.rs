//! Checks the callers' arguments, and refuses bad ones (22023).

use std::time::Duration;

use pgrx::datum::Interval;

use crate::core::ledger::bar::BarBy;
use crate::core::ledger::identity::CLIENT_USER_MAX;
use crate::core::ledger::time;
use crate::pg::error::{PgSqlErrorCode, Report};
use crate::pg::text::TextArgument;

/// Refuses an argument.
pub fn refuse(message: impl Into<String>, hint: &str) -> ! {
    Report::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message)
        .hint(hint)
        .raise()
}

/// Returns a name that must be given.
pub fn required(name: &str, value: Option<TextArgument>) -> String {
    match value {
        Some(value) => checked(name, value),
        None => refuse(format!("{name} must not be null"), "Give a name."),
    }
}

/// Returns the name of a user or host. It is kept whole, so its length is limited; it is shown to people, so it must
/// not have control characters.
pub fn checked(name: &str, value: TextArgument) -> String {
    let value = value.into_string();
    if value.is_empty() {
        refuse(format!("{name} must not be empty"), "Give a name.");
    }
    if value.len() > CLIENT_USER_MAX {
        refuse(
            format!("{name} is too long"),
            &format!("A name has at most {CLIENT_USER_MAX} bytes in UTF-8."),
        );
    }
    if value.contains(|letter: char| letter.is_ascii_control()) {
        refuse(
            format!("{name} must not have control characters"),
            "Leave them out.",
        );
    }
    value
}

const DAY: i128 = time::DAY as i128;
/// A twelfth of a year.
const MONTH: i128 = DAY * 1461 / 4 / 12;
/// The longest wait.
const WAIT_MAX: i128 = DAY;
/// The longest time to live: a year, leap or not.
const TTL_MAX: i128 = 366 * DAY;

/// The longest bar: a year, leap or not.
const BAR_MAX: i128 = 366 * DAY;

/// Returns how long a caller waits.
pub fn wait(value: Option<Interval>) -> Duration {
    let micros = value.as_ref().map(microseconds);
    match micros.filter(|micros| (0..=WAIT_MAX).contains(micros)) {
        Some(micros) => Duration::from_micros(micros as u64),
        None => refuse("wait is out of range", "Wait between 0 and 1 day."),
    }
}

/// Returns how long a lease lives, in microseconds.
pub fn ttl(value: Option<Interval>) -> i64 {
    let micros = value.as_ref().map(microseconds);
    match micros.filter(|micros| (1..=TTL_MAX).contains(micros)) {
        Some(micros) => micros as i64,
        None => refuse(
            "ttl is out of range",
            "A lease lives more than 0, and at most a year after each heartbeat.",
        ),
    }
}

/// Returns how long somebody is barred, in microseconds.
pub fn bar_for(value: Option<Interval>) -> i64 {
    let micros = value.as_ref().map(microseconds);
    match micros.filter(|micros| (0..=BAR_MAX).contains(micros)) {
        Some(micros) => micros as i64,
        None => refuse(
            "bar_for is out of range",
            "Bar for 0, or for at most a year.",
        ),
    }
}

/// Returns what a bar identifies somebody by.
pub fn bar_by(value: Option<TextArgument>) -> BarBy {
    let word = value.map(TextArgument::into_string);
    match word.as_deref().and_then(BarBy::from_word) {
        Some(by) => by,
        None => refuse(
            "bar_by is not known",
            "Bar by \"user_host\", \"user\" or \"host\".",
        ),
    }
}

fn microseconds(interval: &Interval) -> i128 {
    i128::from(interval.months()) * MONTH
        + i128::from(interval.days()) * DAY
        + i128::from(interval.micros())
}
