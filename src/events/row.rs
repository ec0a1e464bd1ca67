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

/// Returns the name of an event.
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

/// Returns the detail of an event's row.
fn detail(event: &Event, unwritten: &Unwritten) -> Value {
    let mut detail = Detail::default();
    if event.seat != SeatNumber::NONE {
        let id = Uuid::from_bytes(unwritten.ids.of(event.seat));
        detail.put("seat_id", id.to_string());
    }
    if let Some(kind) = event.kind {
        detail.put("kind", kind.word());
    }
    detail.put_happened(event.happened, unwritten);
    if tells_use(event.happened) {
        detail.put("in_use", event.in_use);
    }
    if event.count > 0 {
        detail.put_occurrences(event);
    }
    if event.until != 0 {
        let name = match event.happened {
            Happened::Terminated => "barred_until",
            _ => "lingers_until",
        };
        detail.put_time(name, event.until);
    }
    if event.by != RoleOid::NONE {
        detail.put("by", json!(event.by));
    }
    if let Some(reason) = unwritten.text(&event.reason) {
        detail.put("reason", reason);
    }
    let labels = [
        ("client_user", event.who.client_user),
        ("reason", event.reason),
    ];
    let lost = labels.iter().filter(|(_, label)| unwritten.lacks(label));
    let lost: Vec<&str> = lost.map(|(name, _)| *name).collect();
    if !lost.is_empty() {
        detail.put("no_room_for", lost);
    }
    Value::Object(detail.members)
}

/// Tells whether an event says how many seats are in use.
fn tells_use(happened: Happened) -> bool {
    !matches!(
        happened,
        Happened::ExemptLogin(_)
            | Happened::LeaseExpired
            | Happened::Tampered(_)
            | Happened::ClockJump { .. }
    )
}

/// The detail of an event's row.
#[derive(Default)]
struct Detail {
    members: Map<String, Value>,
}

impl Detail {
    fn put(&mut self, name: &str, value: impl Into<Value>) {
        self.members.insert(name.to_owned(), value.into());
    }

    fn put_time(&mut self, name: &str, at: Timestamp) {
        self.put(name, catalog::timestamp_iso(at));
    }

    /// Puts in what only this kind of event has.
    fn put_happened(&mut self, happened: Happened, unwritten: &Unwritten) {
        match happened {
            Happened::Left(leaving) => self.put("cause", leaving.word()),
            Happened::Denied(cause) | Happened::Overdraft(cause) => {
                self.put_cause(cause, unwritten);
            }
            Happened::WouldBeDenied(cause) => {
                self.put("enforcement", "warn");
                self.put_cause(cause, unwritten);
            }
            Happened::ExemptLogin(exempt) => self.put("reason", exempt.reason()),
            Happened::Tampered(tampered) => {
                self.put("claimed", tampered.names().collect::<Value>());
            }
            Happened::Reached { level, seats } => {
                self.put("level", level.word());
                self.put("seats", seats);
            }
            Happened::ClockJump { moved, late } => {
                self.put("clock_set_by_s", seconds(moved));
                self.put("paused_s", seconds(late));
            }
            Happened::Taken
            | Happened::LeaseExpired
            | Happened::Terminated
            | Happened::LoggedOff
            | Happened::Reclaimed => {}
        }
    }

    /// Puts in how often it happened, if several occurrences share the event.
    fn put_occurrences(&mut self, event: &Event) {
        self.put("count", event.count);
        self.put_time("since", event.since);
        if matches!(event.happened, Happened::Taken | Happened::Left(_)) {
            self.put("held_ms", event.held / 1_000);
        }
        if event.overdrafts > 0 {
            self.put("overdraft", event.overdrafts);
        }
    }

    /// Puts in why a seat was denied, or would have been.
    fn put_cause(&mut self, cause: Cause, unwritten: &Unwritten) {
        match cause {
            Cause::Full { limit, kept, .. } => {
                self.put("reason", "license_full");
                self.put("limit", limit);
                if kept > 0 {
                    self.put("reserved", kept);
                }
            }
            Cause::RoleFull {
                number,
                in_use,
                limit,
            } => {
                let role = unwritten.roles.name(number);
                self.put("reason", "license_full");
                self.put("role", role.map(|role| role.to_string()));
                self.put("role_in_use", in_use);
                self.put("role_limit", limit);
            }
            Cause::UserFull { in_use, limit } => {
                self.put("reason", "license_user_limit");
                self.put("user_in_use", in_use);
                self.put("user_limit", limit);
            }
            Cause::OutOfDates(OutOfDates::Expired(until)) => {
                self.put("reason", "license_expired");
                self.put_time("valid_until", until);
            }
            Cause::OutOfDates(OutOfDates::NotYetValid(from)) => {
                self.put("reason", "license_not_yet_valid");
                self.put_time("valid_from", from);
            }
            Cause::OutOfDates(OutOfDates::NotVerified(until)) => {
                self.put("reason", "license_not_verified");
                self.put_time("believed_until", until);
            }
            Cause::Barred { until } => {
                self.put("reason", "license_barred");
                if let Some(until) = until {
                    self.put_time("barred_until", until);
                }
            }
            Cause::TableFull => self.put("reason", "license_table_full"),
            // Only the session itself is told.
            Cause::TooManyUsers { .. } => self.put("reason", "license_session_limit"),
        }
    }
}

/// Converts microseconds to whole seconds.
fn seconds(microseconds: i64) -> i64 {
    microseconds / 1_000_000
}
