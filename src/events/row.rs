//! The row of `license_events` for an event, as JSON.

use pgrx::Uuid;
use serde_json::{Map, Value, json};

use super::key::run_text;
use super::left::Trail;
use super::unwritten::Unwritten;
use crate::core::ledger::denial::Cause;
use crate::core::ledger::event::{Event, Happened};
use crate::core::ledger::license::OutOfDates;
use crate::core::ledger::numbers::{RoleOid, SeatNumber};
use crate::core::ledger::seat::Kind;
use crate::core::ledger::time::Timestamp;
use crate::pg::{backend, catalog};

/// Returns the rows of all events, and how many are lost.
pub fn trail(unwritten: &Unwritten) -> Trail {
    let mut trail = unwritten.left.clone();
    let rows = unwritten.events.iter().map(|event| of(event, unwritten));
    trail.rows.extend(rows);
    trail.lost += unwritten.lost;
    trail
}

/// Returns the row of an event. Roles of which only the OID is known are numbers: see [`name_roles`].
pub fn of(event: &Event, unwritten: &Unwritten) -> Value {
    let named = |name: &str| (!name.is_empty()).then(|| name.to_owned());
    let usename = match event.usename.as_str() {
        "" if event.who.role != RoleOid::NONE => json!(event.who.role),
        name => json!(named(name)),
    };
    // A lease has the host's name in place of a workstation.
    let (client_host, workstation) = match event.who.workstation.as_str() {
        name if event.kind == Some(Kind::Lease) && !name.is_empty() => (name.to_owned(), ""),
        name => (event.who.host.to_string(), name),
    };
    json!({
        "at": catalog::timestamp_iso(event.at),
        "event": word(event),
        "product": named(event.product.as_str()),
        "usename": usename,
        "client_user": unwritten.text(&event.who.client_user),
        "client_host": named(&client_host),
        "workstation": named(workstation),
        "detail": detail(event, unwritten),
        "run": run_text(unwritten.run),
        "number": event.number,
    })
}

/// Replaces the OIDs of roles in a row by their names. It must be called in a transaction.
pub fn name_roles(row: &mut Value) {
    for place in ["/usename", "/detail/by"] {
        if let Some(role) = row.pointer_mut(place)
            && let Some(oid) = role.as_u64().and_then(|oid| u32::try_from(oid).ok())
        {
            *role = json!(catalog::role_name(RoleOid(oid)));
        }
    }
}

/// Returns the row, with this number, that says how many events were lost.
pub fn lost(events: u64, run: u128, number: u64) -> Value {
    json!({
        "at": catalog::timestamp_iso(backend::now()),
        "event": "events lost",
        "detail": { "events": events },
        "run": run_text(run),
        "number": number,
    })
}

fn word(event: &Event) -> &'static str {
    match event.happened {
        Happened::Taken => event.kind.unwrap_or(Kind::Login).word(),
        Happened::Left(_) => "release",
        Happened::Denied(_) | Happened::WouldBeDenied(_) => "denial",
        Happened::Overdraft(_) => "overdraft",
        Happened::ExemptLogin(_) => "exempt login",
        Happened::LeaseExpired => "lease expiry",
        Happened::Terminated => "termination",
        Happened::LoggedOff => "idle log-off",
        Happened::Reclaimed => "reclaim",
        Happened::Reached { .. } => "warning",
        Happened::Tampered(_) => "tampering",
        Happened::ClockJump { .. } => "clock jump",
    }
}

fn detail(event: &Event, unwritten: &Unwritten) -> Value {
    let mut detail = Map::new();
    let mut put = |name: &str, value: Value| {
        detail.insert(name.to_owned(), value);
    };
    if event.seat != SeatNumber::NONE {
        let id = Uuid::from_bytes(unwritten.ids.of(event.seat));
        put("seat_id", json!(id.to_string()));
    }
    if let Some(kind) = event.kind {
        put("kind", json!(kind.word()));
    }
    match event.happened {
        Happened::Left(leaving) => put("cause", json!(leaving.word())),
        Happened::Denied(cause) | Happened::Overdraft(cause) => {
            put_cause(cause, unwritten, &mut put)
        }
        Happened::WouldBeDenied(cause) => {
            put("enforcement", json!("warn"));
            put_cause(cause, unwritten, &mut put);
        }
        Happened::ExemptLogin(exempt) => put("reason", json!(exempt.reason())),
        Happened::Tampered(tampered) => put("claimed", tampered.names().collect()),
        Happened::Reached { level, seats } => {
            put("level", json!(level.word()));
            put("seats", json!(seats));
        }
        Happened::ClockJump { moved, late } => {
            put("clock_set_by_s", json!(seconds(moved)));
            put("paused_s", json!(seconds(late)));
        }
        Happened::Taken
        | Happened::LeaseExpired
        | Happened::Terminated
        | Happened::LoggedOff
        | Happened::Reclaimed => {}
    }
    if !matches!(
        event.happened,
        Happened::ExemptLogin(_)
            | Happened::LeaseExpired
            | Happened::Tampered(_)
            | Happened::ClockJump { .. }
    ) {
        put("in_use", json!(event.in_use));
    }
    if event.count > 0 {
        put("count", json!(event.count));
        put("since", json!(catalog::timestamp_iso(event.since)));
        if matches!(event.happened, Happened::Taken | Happened::Left(_)) {
            put("held_ms", json!(event.held / 1_000));
        }
        if event.overdrafts > 0 {
            put("overdraft", json!(event.overdrafts));
        }
    }
    if event.until != 0 {
        put(until_of(event), json!(catalog::timestamp_iso(event.until)));
    }
    if event.by != RoleOid::NONE {
        put("by", json!(event.by));
    }
    if let Some(reason) = unwritten.text(&event.reason) {
        put("reason", json!(reason));
    }
    let missing: Vec<&str> = [
        ("client_user", event.who.client_user),
        ("reason", event.reason),
    ]
    .iter()
    .filter(|(_, label)| unwritten.lacks(label))
    .map(|(name, _)| *name)
    .collect();
    if !missing.is_empty() {
        put("no_room_for", json!(missing));
    }
    Value::Object(detail)
}

/// Converts microseconds to whole seconds.
fn seconds(microseconds: i64) -> i64 {
    microseconds / 1_000_000
}

fn until_of(event: &Event) -> &'static str {
    match event.happened {
        Happened::Terminated => "barred_until",
        _ => "lingers_until",
    }
}

fn put_cause(cause: Cause, unwritten: &Unwritten, put: &mut impl FnMut(&str, Value)) {
    let at = |at: Timestamp| json!(catalog::timestamp_iso(at));
    match cause {
        Cause::Full { limit, kept, .. } => {
            put("reason", json!("license_full"));
            put("limit", json!(limit));
            if kept > 0 {
                put("reserved", json!(kept));
            }
        }
        Cause::RoleFull {
            number,
            in_use,
            limit,
        } => {
            let role = unwritten.roles.name(number);
            put("reason", json!("license_full"));
            put("role", json!(role.map(|role| role.to_string())));
            put("role_in_use", json!(in_use));
            put("role_limit", json!(limit));
        }
        Cause::UserFull { in_use, limit } => {
            put("reason", json!("license_user_limit"));
            put("user_in_use", json!(in_use));
            put("user_limit", json!(limit));
        }
        Cause::OutOfDates(OutOfDates::Expired(until)) => {
            put("reason", json!("license_expired"));
            put("valid_until", at(until));
        }
        Cause::OutOfDates(OutOfDates::NotYetValid(from)) => {
            put("reason", json!("license_not_yet_valid"));
            put("valid_from", at(from));
        }
        Cause::OutOfDates(OutOfDates::NotVerified(since)) => {
            put("reason", json!("license_not_verified"));
            put("believed_until", at(since));
        }
        Cause::Barred { until } => {
            put("reason", json!("license_barred"));
            if let Some(until) = until {
                put("barred_until", at(until));
            }
        }
        Cause::TableFull => {
            put("reason", json!("license_table_full"));
        }
        // Only the session itself is told.
        Cause::TooManyUsers { .. } => put("reason", json!("license_session_limit")),
    }
}
