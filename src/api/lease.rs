//! `license_lease`, `license_heartbeat` and `license_release`: seats for users who share connections.

use pgrx::datum::Interval;
use pgrx::prelude::*;
use pgrx::{Uuid, pg_sys};

use super::arguments::{self, refuse};
use super::seat_row::SeatRow;
use super::times::timestamp;
use super::{require_preloaded, require_primary, require_serial, require_writable};
use crate::checkout::{self, Request};
use crate::core::ledger::acts::checkout::NewLease;
use crate::core::ledger::denial::LoadError;
use crate::core::ledger::hold::Hold;
use crate::core::ledger::identity::{Host, LeaseId};
use crate::denial::Denied;
use crate::lease::transaction;
use crate::pg::error::{PgSqlErrorCode, Report};
use crate::pg::row::OneRow;
use crate::pg::text::TextArgument;
use crate::pg::{backend, catalog};
use crate::tables::leases::{self, LeaseRow};
use crate::{memory, rules, settings};

/// The hint for a standby.
const ON_STANDBY: &str =
    "Connect to the primary server, or check out a seat with license_checkout().";

/// Takes a seat on behalf of an application's user, which lasts beyond the session until it is released or its time is
/// up. It is dropped if the transaction rolls back. Raises what license_checkout raises, and 25006 in a read-only
/// transaction or on a standby.
#[pg_extern(sql = false)]
fn license_lease(
    client_user: Option<TextArgument>,
    client_host: Option<TextArgument>,
    product: Option<TextArgument>,
    ttl: Option<Interval>,
    wait: Option<Interval>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> OneRow {
    require_preloaded();
    require_serial("license_lease()");
    let client_user = arguments::required("client_user", client_user);
    let client_host = arguments::required("client_host", client_host);
    let Some((host, host_name)) = Host::of_text(&client_host) else {
        refuse(
            "client_host is too long",
            "Give an address, or a name of at most 63 bytes in UTF-8.",
        )
    };
    let ttl = arguments::ttl(ttl);
    let wait = arguments::wait(wait);
    require_primary("license_lease()", ON_STANDBY);
    require_writable("license_lease()");
    load_leases();
    if memory::this_session().is_none() {
        Report::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "cannot take a lease in a background process",
        )
        .hint("Take it in a client's session.")
        .raise();
    }
    let Some(id) = backend::random_uuid().map(u128::to_be_bytes) else {
        Report::new(
            PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
            "could not generate a random lease id",
        )
        .hint("Try again; if it persists, the server's source of random numbers is out of order.")
        .raise()
    };
    let request = Request {
        product: product.map(TextArgument::into_string),
        client_user: Some(client_user.clone()),
        lease: Some(NewLease {
            id,
            host,
            host_name,
            ttl,
            taken_by: backend::current_role(),
        }),
        wait,
    };
    // Noted before it is taken, so that it is dropped whatever happens.
    transaction::note_taken(id);
    let taken =
        checkout::take(&request).unwrap_or_else(|denial| checkout::refuse(&client_user, &denial));
    let row = LeaseRow {
        product: taken.product.as_str(),
        client_user: &client_user,
        client_host: &client_host,
        ttl,
    };
    leases::insert(catalog::schema_of_function(fcinfo), id, &row);
    let usename = taken
        .session
        .map_or(String::new(), |session| session.usename.to_string());
    SeatRow {
        taken,
        lease_id: Some(id),
        usename,
        client_user: Some(client_user),
        client_host: if host_name.is_empty() {
            host.to_string()
        } else {
            client_host
        },
        workstation: String::new(),
    }
    .into_row()
}

/// Extends a lease by its time to live and lends it to the current transaction, if it is among the first eight. Returns
/// its new end, or null if it is gone. Raises 42501 for another role's lease, 25006 on a standby.
#[pg_extern(sql = false)]
fn license_heartbeat(lease_id: Option<Uuid>) -> Option<TimestampWithTimeZone> {
    require_preloaded();
    require_serial("license_heartbeat()");
    let id = *lease_id?.as_bytes();
    require_primary("license_heartbeat()", ON_STANDBY);
    load_leases();
    if transaction::has_released(id) || !is_ours(id) {
        return None;
    }
    let (at, own) = (backend::slot(), transaction::has_taken(id));
    let expires_at = memory::write(|ledger| ledger.heartbeat(at, id, own, backend::now()))?;
    transaction::note_borrowed();
    timestamp(expires_at)
}

/// Ends a lease when the transaction commits; false if it was gone. Raises 42501 for another role's lease, 25006 in a
/// read-only transaction or on a standby.
#[pg_extern(sql = false)]
fn license_release(lease_id: Option<Uuid>, fcinfo: pg_sys::FunctionCallInfo) -> Option<bool> {
    require_preloaded();
    require_serial("license_release()");
    let id = *lease_id?.as_bytes();
    require_primary("license_release()", ON_STANDBY);
    require_writable("license_release()");
    load_leases();
    if !is_ours(id) || !lasts(id) || !leases::delete(catalog::schema_of_function(fcinfo), id) {
        return Some(false);
    }
    transaction::note_released(id);
    Some(true)
}

/// Reads the leases of the database if they have not been read yet, right after a start or promotion: leases that are
/// not known can be neither counted nor extended.
fn load_leases() {
    let database = backend::database();
    let lacking = || memory::read(|ledger| ledger.leases_of(database)) == 0;
    if !lacking() {
        return;
    }
    let error = match rules::in_force(settings::load_timeout()) {
        Ok(_) if lacking() => LoadError::Unreadable(
            "the leases have not been read since the server started".to_owned(),
        ),
        Ok(_) => return,
        Err(error) => error,
    };
    Denied::Call.not_loaded(database, error).raise();
}

/// Tells whether a lease's time is not up.
fn lasts(id: LeaseId) -> bool {
    // By a write, which notices a pause first.
    memory::write(|ledger| {
        let now = backend::now();
        ledger.lease(id).is_some_and(|lease| !lease.is_due(now))
    })
}

/// Tells whether a lease belongs to this database, has not ended, and was taken by a role of this session. Raises an
/// error for another role's lease.
fn is_ours(id: LeaseId) -> bool {
    let lease = memory::read(|ledger| ledger.lease(id).copied());
    let is_here = |lease: &Hold| lease.database == backend::database();
    let Some(lease) = lease.filter(is_here) else {
        return false;
    };
    let is_taker = [lease.who.role, lease.taken_by]
        .into_iter()
        .any(|role| role == backend::role() || catalog::has_privileges_of(role));
    if !is_taker {
        Report::new(
            PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
            "permission denied for lease of another role",
        )
        .hint("Only the role that took a lease, and its members, extend and end it.")
        .raise();
    }
    true
}
