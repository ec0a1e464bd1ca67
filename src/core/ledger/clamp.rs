//! Clamps a row of `licenses` to the terms of its token: it may ask for less than was signed, never for more.

use crate::core::ledger::license::{License, Tampered};
use crate::core::ledger::words::{ClaimedAt, CountedBy};

/// Returns the row clamped to the signed terms, and the columns in which it claims more. Columns that cannot widen
/// anybody's use stay as the row has them.
pub fn clamp(row: &License, signed: &License) -> (License, Tampered) {
    let mut license = *row;
    let mut claims = Tampered::default();
    at_most("seats", &mut license.seats, signed.seats, &mut claims);
    let purchased = &mut license.purchased;
    at_most("purchased", purchased, signed.purchased, &mut claims);
    let valid_until = &mut license.valid_until;
    at_most("valid_until", valid_until, signed.valid_until, &mut claims);
    let admits_until = &mut license.admits_until;
    at_most("grace", admits_until, signed.admits_until, &mut claims);
    let max_per_user = &mut license.max_per_user;
    at_most(
        "max_per_user",
        max_per_user,
        signed.max_per_user,
        &mut claims,
    );
    if license.valid_from < signed.valid_from {
        license.valid_from = signed.valid_from;
        claims.push("valid_from");
    }
    if license.overdraft > signed.overdraft {
        license.overdraft = signed.overdraft;
        claims.push("overdraft");
    }
    if license.enforcement > signed.enforcement {
        license.enforcement = signed.enforcement;
        claims.push("enforcement");
    }
    if !is_within(license.counted_by, signed.counted_by) {
        license.counted_by = signed.counted_by;
        claims.push("counted_by");
    }
    if license.claimed_at == ClaimedAt::Checkout && signed.claimed_at == ClaimedAt::Login {
        license.claimed_at = signed.claimed_at;
        claims.push("claimed_at");
    }
    // Who claims the license and which databases count together can't be compared, so they must be the same.
    if license.application_name != signed.application_name {
        license.application_name = signed.application_name;
        claims.push("application_name");
    }
    if license.pool != signed.pool {
        license.pool = signed.pool;
        claims.push("pool");
    }
    (license, claims)
}

/// Clamps a value to its limit, and notes the column if the value was beyond it. `None` is more than any number or
/// moment.
pub(super) fn at_most<T: Ord + Copy>(
    column: &'static str,
    value: &mut Option<T>,
    limit: Option<T>,
    claims: &mut Tampered,
) {
    if let Some(limit) = limit
        && value.is_none_or(|value| value > limit)
    {
        *value = Some(limit);
        claims.push(column);
    }
}

/// Tells whether all who share a seat by this rule share one by the other rule, too.
pub(super) fn is_within(rule: CountedBy, other: CountedBy) -> bool {
    use CountedBy::{Host, Session, User, UserHost, UserWorkstation};
    match rule {
        _ if rule == other => true,
        Session => true,
        UserHost => matches!(other, User | Host),
        UserWorkstation => other == User,
        User | Host => false,
    }
}
