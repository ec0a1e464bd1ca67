//! `license_raise_seats`, `license_reduce_seats`, `license_terminate` and `license_lift_bar`: the functions for
//! administrators.

use std::time::Instant;

use pgrx::Uuid;
use pgrx::datum::Interval;
use pgrx::prelude::*;

use super::arguments::{self, refuse};
use super::{require_preloaded, require_primary};
use crate::checkout::unlicensed;
use crate::core::ledger::acts::bars::{BarRequest, Unbarrable};
use crate::core::ledger::acts::ending::Stop;
use crate::core::ledger::identity::{Name, Text};
use crate::ending::bars;
use crate::ending::stop::{self, Refusal, Stopped};
use crate::pg::error::{PgLogLevel, PgSqlErrorCode, Report, escaped, quoted};
use crate::pg::table::{ReadError, TableAccess, schema, write_as_part};
use crate::pg::text::TextArgument;
use crate::pg::{backend, catalog};
use crate::signed::signed_licenses::SignedLicenses;
use crate::tables::licenses;
use crate::{memory, rules};

/// Raises the seats of a product, at most to what is purchased; effective at commit. Raises 42704 for an unknown
/// product, 22023 if that is no raise, or more than is purchased.
#[pg_extern(sql = false)]
fn license_raise_seats(product: Option<TextArgument>, seats: Option<i32>) -> i32 {
    let (product, seats) = product_and_seats(product, seats);
    change_seats(&product, seats, |license| {
        let Some(former) = license.seats else {
            refuse(
                format!("{} already has unlimited seats", quoted(&product)),
                "There is nothing to raise.",
            )
        };
        let left = |purchased: i32| i64::from(purchased) - license.away;
        if let Some(purchased) = license.purchased.filter(|&purchased| {
            license.away > 0 && seats <= purchased && i64::from(seats) > left(purchased)
        }) {
            Report::new(
                PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                format!(
                    "cannot raise {} to {seats} seats: {} are left here",
                    quoted(&product),
                    left(purchased).max(0)
                ),
            )
            .detail(format!(
                "Of {purchased} seats {} are with other installations.",
                license.away
            ))
            .hint("Look at license_allotments; what comes back with license_accept_return() can be used here again.")
            .raise()
        }
        if let Some(purchased) = license.purchased.filter(|&purchased| seats > purchased) {
            refuse(
                format!(
                    "cannot raise {} to {seats} seats: {purchased} are purchased",
                    quoted(&product)
                ),
                "Ask the vendor for more seats, or raise it to what is purchased.",
            )
        }
        if seats <= former {
            refuse(
                format!("{} already has {former} seats", quoted(&product)),
                "Give a larger number; license_reduce_seats() reduces it.",
            )
        }
    });
    seats
}

/// Reduces the seats of a product; effective at commit, and ends nobody's session. Raises 42704 for an unknown product,
/// 22023 if that is no reduction.
#[pg_extern(sql = false)]
fn license_reduce_seats(product: Option<TextArgument>, seats: Option<i32>) -> i32 {
    let (product, seats) = product_and_seats(product, seats);
    change_seats(&product, seats, |license| {
        if let Some(former) = license.seats.filter(|&former| seats >= former) {
            refuse(
                format!("{} has {former} seats", quoted(&product)),
                "Give a smaller number; license_raise_seats() raises it.",
            )
        }
    });
    seats
}

fn product_and_seats(product: Option<TextArgument>, seats: Option<i32>) -> (String, i32) {
    require_preloaded();
    let product = arguments::required("product", product);
    match seats.filter(|&seats| seats >= 0) {
        Some(seats) => (product, seats),
        None => refuse("seats is out of range", "Give a number from 0 on."),
    }
}

/// The seats of a license's row.
struct Seats {
    seats: Option<i32>,
    purchased: Option<i32>,
    /// How many seats of its signed license are with other installations.
    away: i64,
}

/// Changes the seats of a product as the owner of the table would, unless `check` raises an error. It checks what is
/// committed, with the row locked.
fn change_seats(product: &str, seats: i32, check: impl FnOnce(&Seats)) {
    // The caller's own lock_timeout limits the wait for a lock on the row.
    let patience = backend::lock_timeout();
    let found = write_as_part(patience, |writer| lock_seats(writer, product));
    let former = found.unwrap_or_else(|error| failed(error));
    let Some(former) = former else {
        unlicensed(product)
    };
    check(&former);
    let changed = write_as_part(patience, |writer| {
        licenses::set_seats(writer, &schema()?, product, i64::from(seats))
    });
    changed.unwrap_or_else(|error| failed(error));
}

fn lock_seats(writer: &TableAccess, product: &str) -> Result<Option<Seats>, ReadError> {
    let schema = schema()?;
    let Some(found) = licenses::lock_seats(writer, &schema, product)? else {
        return Ok(None);
    };
    let signed_licenses = SignedLicenses::read(writer, &schema)?;
    let license = signed_licenses.license_of(product);
    let away = license.map_or(0, |license| signed_licenses.away(license, product));
    Ok(Some(Seats {
        seats: found.seats.map(|seats| seats as i32),
        purchased: found.purchased.map(|purchased| purchased as i32),
        away,
    }))
}

fn failed(error: ReadError) -> ! {
    Report::new(error.code, error.message)
        .hint("Try again; if it persists, look at the table licenses.")
        .raise()
}

/// The longest reason, in bytes: the message to the client that is ended has limited room.
const REASON_MAX: usize = 255;

/// Ends every session and lease of a seat as one act, waits until it is free, and returns how many ended. For `bar_for`
/// those who held it can't come back, as `bar_by` identifies them. Superusers' sessions are never ended. Not undone by
/// ROLLBACK. Raises 22023 for a bad argument, for the caller's own seat, and if the server's own computer would be
/// barred; 53400 if there is no room for another bar.
#[pg_extern(sql = false)]
fn license_terminate(
    seat_id: Option<Uuid>,
    reason: Option<TextArgument>,
    bar_for: Option<Interval>,
    bar_by: Option<TextArgument>,
) -> i32 {
    require_preloaded();
    let Some(seat_id) = seat_id else {
        refuse(
            "seat_id must not be null",
            "The view license_active_seats has the seats in use.",
        )
    };
    let reason = reason.map(checked_reason);
    let bar_for = arguments::bar_for(bar_for);
    let by = arguments::bar_by(bar_by);
    let number = memory::read(|ledger| ledger.head.seat_ids.number_of(*seat_id.as_bytes()));
    let Some(seat) = number else {
        return 0;
    };
    rules::refresh();
    let rules = memory::rules::last_in_force(backend::database()).unwrap_or_default();
    let is_ours = |tally| rules.licenses.iter().any(|license| license.tally == tally);
    let bar = (bar_for > 0).then(|| BarRequest {
        by,
        until: backend::now().saturating_add(bar_for),
        barred_by: Name::new(catalog::role_name(backend::role())).unwrap_or(Name::EMPTY),
    });
    let stop = Stop {
        seat,
        database: backend::database(),
        by: backend::role(),
        reason: reason.as_deref().and_then(Text::new).unwrap_or(Text::EMPTY),
        bar,
        patient_until: backend::now().saturating_add(stop::PATIENCE.as_micros() as i64),
    };
    let text = match &reason {
        Some(reason) => format!("The reason: {}", escaped(reason)),
        None => String::new(),
    };
    match stop::stop(&stop, &text, is_ours) {
        Ok(stopped) => {
            warn(&stopped);
            i32::try_from(stopped.ended).unwrap_or(i32::MAX)
        }
        Err(Refusal::Own) => refuse(
            "cannot stop your own seat",
            "Log out instead, or stop it from another user or computer.",
        ),
        Err(Refusal::Unbarrable(cause)) => refuse_bar(cause),
    }
}

fn checked_reason(reason: TextArgument) -> String {
    let reason = arguments::checked("reason", reason);
    if reason.len() > REASON_MAX {
        refuse(
            "reason is too long",
            &format!("A reason has at most {REASON_MAX} bytes in UTF-8."),
        )
    }
    reason
}

fn refuse_bar(cause: Unbarrable) -> ! {
    let (message, hint) = match cause {
        Unbarrable::Local => refuse(
            "cannot bar the server's own computer",
            "Bar by \"user_host\" or \"user\": everybody who works on the server comes from there.",
        ),
        Unbarrable::Unknown => (
            "not all of the name of whoever left the seat is known any more",
            "Bar by \"user\", or stop the seat without bar_for.",
        ),
        Unbarrable::NoRoom => (
            "the server has no room to bar one more user",
            "Lift bars that are no longer needed, stop the seat without bar_for, or increase \
             pg_seats.max_rules and restart the server.",
        ),
    };
    Report::new(
        PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
        message,
    )
    .hint(hint)
    .reason(c"license_table_full")
    .raise()
}

/// Lifts a bar of this database's products, whichever database of their pools it was set in, and wakes those in the
/// queue; false if it is gone. Not undone by ROLLBACK. Raises 25006 on a standby for a bar that the primary has.
#[pg_extern(sql = false)]
fn license_lift_bar(bar_id: Option<i64>) -> bool {
    require_preloaded();
    let Some(id) = bar_id else {
        refuse(
            "bar_id must not be null",
            "The view license_bars_in_force has the bars.",
        )
    };
    rules::refresh();
    let rules = memory::rules::last_in_force(backend::database()).unwrap_or_default();
    let is_ours = |tally| rules.licenses.iter().any(|license| license.tally == tally);
    let now = backend::now();
    let stored = memory::read(|ledger| ledger.bar_is_stored(id, is_ours, now));
    let Some(stored) = stored else {
        // A bar without room binds nobody now, but would once there is room.
        return !backend::in_recovery()
            && !backend::is_read_only()
            && bars::delete(id).unwrap_or_else(|error| failed(error));
    };
    if stored {
        require_primary("license_lift_bar()", "Lift the bar on the primary server.");
    }
    if memory::write(|ledger| ledger.lift_bar(id, is_ours, now)) == 0 {
        return false;
    }
    memory::wake_launcher();
    if backend::in_recovery() {
        memory::write(|ledger| ledger.drop_lifted());
    } else if !bars::await_gone(id, Instant::now() + stop::PATIENCE) {
        warning(
            "the bar is lifted, but its row could not be deleted yet: after a crash it would hold again",
            "See the server log.",
        );
    }
    true
}

fn warning(message: &str, hint: &str) {
    Report::new(PgSqlErrorCode::ERRCODE_WARNING, message)
        .hint(hint)
        .log(PgLogLevel::WARNING);
}

fn warn(stopped: &Stopped) {
    if stopped.left {
        warning(
            "not all sessions of the seat have ended: they keep it",
            "Superusers are never ended; others may need more time. Look at license_active_seats.",
        );
    }
    if stopped.bar_unstored {
        warning(
            "the bar could not be written yet: it would not outlast a crash",
            "See the server log; on a standby no bar can be written.",
        );
    }
}
