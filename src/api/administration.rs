//! `license_raise_seats`, `license_reduce_seats`, `license_terminate`: what administrators do.

use pgrx::Uuid;
use pgrx::datum::Interval;
use pgrx::prelude::*;

use super::arguments::{self, refuse};
use super::require_preloaded;
use crate::checkout::unlicensed;
use crate::ending::stop::{self, Outcome, Refusal};
use crate::ledger::ending::Stop;
use crate::ledger::identity::Text;
use crate::pg::backend;
use crate::pg::encoding::TextArgument;
use crate::pg::error::{PgLogLevel, PgSqlErrorCode, Report, escaped, quoted};
use crate::pg::table::{Argument, ReadError, Reader, schema, write_as_part};
use crate::{licenses, memory};

/// Raises the seats of a product, at most to what is purchased; effective at commit. Raises 42704 for an
/// unknown product, 22023 where that is no raise, or more than is purchased.
#[pg_extern(sql = false)]
fn license_raise_seats(product: Option<TextArgument>, seats: Option<i32>) {
    let (product, seats) = product_and_seats(product, seats);
    change_seats(&product, seats, |license| {
        let Some(former) = license.seats else {
            refuse(
                format!("{} already has unlimited seats", quoted(&product)),
                "There is nothing to raise.",
            )
        };
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
}

/// Reduces the seats of a product; effective at commit, and nobody who is in is thrown out. Raises 42704
/// for an unknown product, 22023 where that is no reduction.
#[pg_extern(sql = false)]
fn license_reduce_seats(product: Option<TextArgument>, seats: Option<i32>) {
    let (product, seats) = product_and_seats(product, seats);
    change_seats(&product, seats, |license| {
        if let Some(former) = license.seats.filter(|&former| seats >= former) {
            refuse(
                format!("{} has {former} seats", quoted(&product)),
                "Give a smaller number; license_raise_seats() raises it.",
            )
        }
    });
}

fn product_and_seats(product: Option<TextArgument>, seats: Option<i32>) -> (String, i32) {
    require_preloaded();
    let product = arguments::required("product", product);
    match seats.filter(|&seats| seats >= 0) {
        Some(seats) => (product, seats),
        None => refuse("seats is out of range", "Give a number from 0 on."),
    }
}

/// A license's seats, as its row has them.
struct Seats {
    seats: Option<i32>,
    purchased: Option<i32>,
}

/// Changes the seats of a product as the owner of the table would, unless `check` raises an error: on
/// what is committed, with the row locked.
fn change_seats(product: &str, seats: i32, check: impl FnOnce(&Seats)) {
    // A lock on the row is waited for as long as the caller's own lock_timeout says.
    let patience = backend::lock_timeout();
    let found = write_as_part(patience, |writer| lock_seats(writer, product));
    let former = found.unwrap_or_else(|error| failed(error));
    let Some(former) = former else {
        unlicensed(product)
    };
    check(&former);
    let changed = write_as_part(patience, |writer| {
        writer.execute(
            &format!(
                "UPDATE {}.licenses SET seats = $2::int WHERE product = $1",
                schema()?
            ),
            &[
                Argument::Text(Some(product)),
                Argument::Text(Some(&seats.to_string())),
            ],
        )
    });
    changed.unwrap_or_else(|error| failed(error));
}

fn lock_seats(writer: &Reader, product: &str) -> Result<Option<Seats>, ReadError> {
    let rows = writer.query_with(
        &format!(
            "SELECT seats, purchased FROM {}.licenses WHERE product = $1 FOR UPDATE",
            schema()?
        ),
        &[Argument::Text(Some(product))],
        |row| {
            Ok(Seats {
                seats: row.number(1).map(|seats| seats as i32),
                purchased: row.number(2).map(|purchased| purchased as i32),
            })
        },
    )?;
    Ok(rows.into_iter().next())
}

fn failed(error: ReadError) -> ! {
    Report::new(error.code, error.message)
        .hint("Try again; if it persists, look at the table licenses.")
        .raise()
}

/// The longest reason, in bytes: what is told to the ended client has limited room.
const REASON_MAX: usize = 255;

/// Ends every session and lease of a seat as one act, waits until it is free, and returns how many ended.
/// For `bar_for` its user can't come back. Superusers' sessions are never ended. Not undone by ROLLBACK.
/// Raises 22023 for a bad argument and for the caller's own seat, 53400 where no more can be barred.
#[pg_extern(sql = false)]
fn license_terminate(
    seat_id: Option<Uuid>,
    reason: Option<TextArgument>,
    bar_for: Option<Interval>,
) -> i32 {
    require_preloaded();
    let Some(seat_id) = seat_id else {
        refuse(
            "seat_id must not be null",
            "The view license_active_seats has the seats in use.",
        )
    };
    let reason = reason.map(|reason| arguments::checked("reason", reason));
    if reason
        .as_ref()
        .is_some_and(|reason| reason.len() > REASON_MAX)
    {
        refuse(
            "reason is too long",
            &format!("A reason has at most {REASON_MAX} bytes in UTF-8."),
        )
    }
    let bar_for = arguments::bar_for(bar_for);
    let number = memory::read(|ledger| ledger.head.seat_ids.number_of(*seat_id.as_bytes()));
    let Some(seat) = number.flatten() else {
        return 0;
    };
    licenses::refresh();
    let rules = licenses::last_in_force(backend::database()).unwrap_or_default();
    let is_ours = |tally| rules.licenses.iter().any(|license| license.tally == tally);
    let barred_until = match bar_for {
        0 => 0,
        bar_for => backend::now().saturating_add(bar_for),
    };
    let stop = Stop {
        seat,
        database: backend::database(),
        by: backend::role(),
        reason: reason.as_deref().and_then(Text::new).unwrap_or(Text::EMPTY),
        barred_until,
        patient_until: backend::now().saturating_add(stop::PATIENCE.as_micros() as i64),
    };
    let told = match &reason {
        Some(reason) => format!("The reason: {}", escaped(reason)),
        None => String::new(),
    };
    match stop::stop(&stop, &told, is_ours) {
        Ok(outcome) => {
            warn(&outcome);
            i32::try_from(outcome.ended).unwrap_or(i32::MAX)
        }
        Err(Refusal::Own) => refuse(
            "cannot stop your own seat",
            "Log out instead, or stop it from another user or computer.",
        ),
        Err(Refusal::NoRoom) => Report::new(
            PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
            "the server has no room to bar one more user",
        )
        .hint("Delete rows of license_bars that are no longer needed, or stop the seat without bar_for.")
        .reason(c"license_table_full")
        .raise(),
    }
}

fn warn(outcome: &Outcome) {
    let warning = |message: &str, hint: &str| {
        Report::new(PgSqlErrorCode::ERRCODE_WARNING, message)
            .hint(hint)
            .log(PgLogLevel::WARNING);
    };
    if outcome.left {
        warning(
            "not all sessions of the seat have ended: they keep it",
            "Superusers are never ended; others may need more time. Look at license_active_seats.",
        );
    }
    if outcome.bar_unstored {
        warning(
            "the bar could not be written yet: it would not outlast a crash",
            "See the server log; on a standby no bar can be written.",
        );
    }
}
