//! Moments and days, as views show them.

use crate::core::ledger::time::Timestamp;
use pgrx::prelude::*;

/// Whole days until an end; `None` for none.
pub fn days_left(until: Option<Timestamp>, now: Timestamp) -> Option<i32> {
    until.filter(|&until| is_finite(until)).map(|until| {
        i32::try_from(until.saturating_sub(now).div_euclid(DAY).max(0)).unwrap_or(i32::MAX)
    })
}

/// PostgreSQL's `infinity` and `-infinity`.
pub fn is_finite(at: Timestamp) -> bool {
    at != Timestamp::MAX && at != Timestamp::MIN
}

/// A moment as a value of SQL.
pub fn timestamp(at: Timestamp) -> Option<TimestampWithTimeZone> {
    TimestampWithTimeZone::try_from(at).ok()
}

const DAY: Timestamp = 86_400_000_000;
