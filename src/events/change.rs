//! Writes changes of the license tables to the audit trail, in the transaction that makes them: rolled back with it,
//! and durable with it.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use pgrx::prelude::*;
use serde_json::{Map, Value};

use super::key::Key;
use crate::ending::bars;
use crate::memory;
use crate::pg::error::{self, quoted};
use crate::pg::table::{ReadError, TableAccess, write_as_part};
use crate::pg::trigger::rows_of;
use crate::pg::{backend, catalog};
use crate::tables::events::{Change, note_change};

/// How long a change waits for a lock on the audit trail; it is not refused if it can't get one.
const PATIENCE: Duration = Duration::from_secs(1);

/// The transaction whose last change could not be written: it does not wait a second time.
static IMPATIENT: AtomicU32 = AtomicU32::new(0);

/// Writes a changed row, or a TRUNCATE, to the audit trail. If the trail can't be written, the change is made all the
/// same, and the server log says so.
pub fn write_change(trigger: &PgTrigger) {
    // On a standby the tables change without triggers.
    let transaction = backend::transaction();
    let patience = if IMPATIENT.load(Relaxed) == transaction {
        Duration::ZERO
    } else {
        PATIENCE
    };
    let written = write_as_part(patience, |writer| write_row(writer, trigger));
    if let Err(error) = written {
        IMPATIENT.store(transaction, Relaxed);
        let database = backend::database();
        if memory::is_attached() {
            memory::write(|ledger| ledger.lose_event(database, backend::now()));
        }
        error::log(format!(
            "could not note in license_events a change of {} by role {}: {}",
            trigger.table_name().unwrap_or_default(),
            quoted(catalog::role_name(backend::role())),
            error.message
        ));
    }
}

/// Writes the event row of a change. Tokens are left out, because their rows have them.
fn write_row(writer: &TableAccess, trigger: &PgTrigger) -> Result<(), ReadError> {
    let Some(schema) = catalog::schema() else {
        return Ok(());
    };
    if bars::are_being_stored() {
        // The administrator's act is in the trail already.
        return Ok(());
    }
    let word = match trigger.table_name().unwrap_or_default().as_str() {
        "licenses" => "license",
        "license_exemptions" => "exemption",
        "license_reservations" => "reservation",
        "license_keys" => "signed license",
        "license_allotments" => "allotment",
        _ => "bar",
    };
    let (old, new) = rows_of(trigger);
    let Some(row) = EventRow::of(word, old.as_ref(), new.as_ref()) else {
        return Ok(());
    };
    let is_preloaded = memory::is_attached();
    let session = is_preloaded.then(memory::this_session).flatten();
    let host = session.map(|session| session.who.host.to_string());
    let workstation = session.map(|session| session.who.workstation.to_string());
    let workstation = workstation.filter(|name| !name.is_empty());
    let usename = catalog::role_name(backend::role());
    let detail = Value::Object(row.detail).to_string();
    let key = if is_preloaded {
        Key::next()
    } else {
        Key::DEFAULT
    };
    let change = Change {
        event: &row.event,
        product: row.product.as_deref(),
        usename: &usename,
        client_host: host.as_deref(),
        workstation: workstation.as_deref(),
        detail: &detail,
    };
    note_change(writer, &schema, &change, key.arguments())
}

/// A row's columns.
type Columns = Map<String, Value>;

/// The content of an event row.
struct EventRow {
    event: String,
    product: Option<String>,
    detail: Map<String, Value>,
}

impl EventRow {
    /// Returns the event row of a change; `None` if nothing has changed. The event is a raise or a reduction if a
    /// license has got more or fewer seats; `detail` has the old and the new value of each column that changed, and the
    /// row itself where the product does not identify it.
    fn of(word: &str, old: Option<&Columns>, new: Option<&Columns>) -> Option<EventRow> {
        let mut detail = Map::new();
        for name in old.into_iter().chain(new).flat_map(Map::keys) {
            let of = |row: Option<&Columns>| {
                let value = row.and_then(|row| row.get(name));
                value.filter(|value| !value.is_null()).cloned()
            };
            let (from, to) = (of(old), of(new));
            if from == to || name == "token" {
                continue;
            }
            let sides = [("from", from), ("to", to)].into_iter();
            let sides =
                sides.filter_map(|(side, value)| Some((side.to_owned(), shortened(value?))));
            detail.insert(name.clone(), Value::Object(sides.collect()));
        }
        let truncated = old.is_none() && new.is_none();
        if detail.is_empty() && !truncated {
            return None;
        }
        if let (Some(old), Some(_)) = (old, new)
            && word != "license"
        {
            let row = old
                .iter()
                .map(|(name, value)| (name.clone(), shortened(value.clone())));
            detail.insert("row".to_owned(), Value::Object(row.collect()));
        }
        let product = |row: &Columns| Some(cut(row.get("product")?.as_str()?));
        Some(EventRow {
            event: event(word, old, new),
            product: new.or(old).and_then(product),
            detail,
        })
    }
}

/// The longest text in the trail, in bytes: whoever may add a row must not hide it behind a text too long to be
/// written.
const TEXT_MAX: usize = 1_000;

/// Returns a value as the trail has it.
fn shortened(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(cut(&text)),
        other => other,
    }
}

fn cut(text: &str) -> String {
    if text.len() <= TEXT_MAX {
        return text.to_owned();
    }
    let start = text.get(..text.floor_char_boundary(TEXT_MAX));
    format!("{}... ({} bytes)", start.unwrap_or_default(), text.len())
}

fn event(word: &str, old: Option<&Columns>, new: Option<&Columns>) -> String {
    // No number means no limit.
    let seats = |row: &Columns| row.get("seats").and_then(Value::as_i64).unwrap_or(i64::MAX);
    match (old, new) {
        (None, None) => format!("{word} truncated"),
        (None, Some(_)) => format!("{word} added"),
        (Some(_), None) => format!("{word} removed"),
        (Some(old), Some(new)) if word == "license" && seats(new) > seats(old) => "raise".into(),
        (Some(old), Some(new)) if word == "license" && seats(new) < seats(old) => {
            "reduction".into()
        }
        _ => format!("{word} changed"),
    }
}
