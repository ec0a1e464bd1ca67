//! Moments and days, as views show them.

use crate::core::ledger::time::{DAY, Timestamp};
use pgrx::prelude::*;

/// Returns the whole days until an end; `None` if there is no end.
pub fn days_left(until: Option<Timestamp>, now: Timestamp) -> Option<i32> {
    until.filter(|&until| is_finite(until)).map(|until| {
        i32::try_from(until.saturating_sub(now).div_euclid(DAY).max(0)).unwrap_or(i32::MAX)
    })
}

/// Tells whether a moment is neither PostgreSQL's `infinity` nor its `-infinity`.
pub fn is_finite(at: Timestamp) -> bool {
    at != Timestamp::MAX && at != Timestamp::MIN
}

/// Returns a moment as an SQL value.
pub fn timestamp(at: Timestamp) -> Option<TimestampWithTimeZone> {
    TimestampWithTimeZone::try_from(at).ok()
}
