//! `license_checkout`, `license_try_checkout` and `license_checkin`: seats that a session holds.

use std::time::Duration;

use pgrx::datum::Interval;
use pgrx::prelude::*;

use super::arguments;
use super::seat_row::SeatRow;
use super::{require_preloaded, require_serial};
use crate::checkout::{self, Request};
use crate::core::ledger::denial::Denial;
use crate::pg::row::{OneRow, OptionalRow};
use crate::pg::text::TextArgument;
use crate::pg::{backend, catalog};

/// Takes a seat for the caller's own identity, which the session holds until it checks in or ends. Waits in the queue
/// at most `wait`. Raises 53400 if there is no seat, with the reason of the [`Denial`]; 42704 for an unknown product,
/// 22023 for a bad argument, 25000 during a parallel operation, 57P03 if licenses can't be read, 55000 if pg_seats is
/// not preloaded.
#[pg_extern(sql = false)]
fn license_checkout(
    product: Option<TextArgument>,
    wait: Option<Interval>,
    client_user: Option<TextArgument>,
) -> OneRow {
    require_preloaded();
    require_serial("license_checkout()");
    let wait = arguments::wait(wait);
    let client_user = client_user.map(|user| arguments::checked("client_user", user));
    check_out(product, wait, client_user.clone())
        .unwrap_or_else(|denial| refuse(client_user.as_deref(), &denial))
        .into_row()
}

/// Does the same without waiting; returns no row if no seat is free.
#[pg_extern(sql = false)]
fn license_try_checkout(
    product: Option<TextArgument>,
    client_user: Option<TextArgument>,
) -> OptionalRow {
    require_preloaded();
    require_serial("license_try_checkout()");
    let client_user = client_user.map(|user| arguments::checked("client_user", user));
    match check_out(product, Duration::ZERO, client_user.clone()) {
        Ok(row) => row.into_optional_row(),
        Err(denial) if denial.is_full() => {
            checkout::log_denial(client_user.as_deref().unwrap_or_default(), &denial);
            OptionalRow(None)
        }
        Err(denial) => refuse(client_user.as_deref(), &denial),
    }
}

fn refuse(client_user: Option<&str>, denial: &Denial) -> ! {
    checkout::refuse(client_user.unwrap_or_default(), denial)
}

/// Gives back one checkout of this session; false if there was none. Raises 42704 for an unknown product, 22023 for a
/// bad argument, 57P03 if the product must be looked up and licenses can't be read, 55000 if pg_seats is not preloaded.
#[pg_extern(sql = false)]
fn license_checkin(product: Option<TextArgument>, client_user: Option<TextArgument>) -> bool {
    require_preloaded();
    require_serial("license_checkin()");
    let product = product.map(TextArgument::into_string);
    let client_user = client_user.map(|user| arguments::checked("client_user", user));
    checkout::give_back(
        product.as_deref(),
        client_user.as_deref().unwrap_or_default(),
    )
}

fn check_out(
    product: Option<TextArgument>,
    wait: Duration,
    client_user: Option<String>,
) -> Result<SeatRow, Denial> {
    let request = Request {
        product: product.map(TextArgument::into_string),
        client_user,
        lease: None,
        wait,
    };
    let taken = checkout::take(&request)?;
    let (usename, client_host, workstation) = match &taken.session {
        Some(session) => (
            session.usename.to_string(),
            session.who.host.to_string(),
            session.who.workstation.to_string(),
        ),
        None => (
            catalog::role_name(backend::role()),
            String::new(),
            String::new(),
        ),
    };
    Ok(SeatRow {
        taken,
        lease_id: None,
        usename,
        client_user: request.client_user,
        client_host,
        workstation,
    })
}
