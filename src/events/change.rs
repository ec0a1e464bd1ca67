//! Writes changes of the license tables to the audit trail, in the transaction that makes them: rolled back with it,
//! and durable with it.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use pgrx::prelude::*;
use serde_json::Value;

use super::key::Key;
use crate::ending::bars;
use crate::memory;
use crate::pg::error::{self, quoted};
use crate::pg::table::{ReadError, TableAccess, write_as_part};
use crate::pg::trigger::{Change, Columns};
use crate::pg::{backend, catalog};
use crate::tables::events::{ChangeRow, note_change};

/// How long a change waits for a lock on the audit trail; it is not refused if it can't get one.
const PATIENCE: Duration = Duration::from_secs(1);

/// The transaction whose last change could not be written: it does not wait a second time.
static IMPATIENT: AtomicU32 = AtomicU32::new(0);

/// The word for a row of `licenses`, which its product identifies.
const LICENSE: &str = "license";

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
    let table = trigger.table_name().unwrap_or_default();
    let written = write_as_part(patience, |writer| {
        write(writer, &table, &Change::of(trigger))
    });
    if let Err(error) = written {
        IMPATIENT.store(transaction, Relaxed);
        could_not_write(&table, &error);
    }
}

/// Counts the event as lost, and logs the failure.
fn could_not_write(table: &str, error: &ReadError) {
    let database = backend::database();
    if memory::is_attached() {
        memory::write(|ledger| ledger.lose_event(database, backend::now()));
    }
    error::log(format!(
        "could not note in license_events a change of {table} by role {}: {}",
        quoted(catalog::role_name(backend::role())),
        error.message
    ));
}

/// Writes the event row of a change, unless nothing has changed.
fn write(writer: &TableAccess, table: &str, change: &Change) -> Result<(), ReadError> {
    let Some(schema) = catalog::schema() else {
        return Ok(());
    };
    if bars::are_being_stored() {
        // The administrator's act is in the trail already.
        return Ok(());
    }
    let word = word_of(table);
    let Some(detail) = detail(word, change) else {
        return Ok(());
    };
    // Without the library preloaded nobody is counted, but changes are noted.
    let (session, key) = if memory::is_attached() {
        (memory::this_session(), Key::next())
    } else {
        (None, Key::DEFAULT)
    };
    let product = product(change);
    let client_host = session.map(|session| session.who.host.to_string());
    let workstation = session.map(|session| session.who.workstation.to_string());
    let row = ChangeRow {
        event: &event(word, change),
        product: product.as_deref(),
        usename: &catalog::role_name(backend::role()),
        client_host: client_host.as_deref(),
        workstation: workstation.as_deref().filter(|name| !name.is_empty()),
        detail: &Value::Object(detail).to_string(),
    };
    note_change(writer, &schema, &row, key.arguments())
}

/// Returns the word for a row of a table, with which the names of its events begin.
fn word_of(table: &str) -> &'static str {
    match table {
        "licenses" => LICENSE,
        "license_exemptions" => "exemption",
        "license_reservations" => "reservation",
        "license_keys" => "signed license",
        "license_allotments" => "allotment",
        _ => "bar",
    }
}

/// Returns the event: a raise or a reduction if a license has got more or fewer seats.
fn event(word: &str, change: &Change) -> String {
    // No number means no limit.
    let seats = |row: &Columns| row.get("seats").and_then(Value::as_i64).unwrap_or(i64::MAX);
    match change {
        Change::Changed(old, new) if word == LICENSE && seats(new) > seats(old) => "raise".into(),
        Change::Changed(old, new) if word == LICENSE && seats(new) < seats(old) => {
            "reduction".into()
        }
        Change::Changed(..) => format!("{word} changed"),
        Change::Added(_) => format!("{word} added"),
        Change::Removed(_) => format!("{word} removed"),
        Change::Truncated => format!("{word} truncated"),
    }
}

/// Returns the product that a changed row is of.
fn product(change: &Change) -> Option<String> {
    let row = change.after().or(change.before())?;
    Some(shortened(row.get("product")?.as_str()?))
}

/// Returns the former and the present value of each column that has changed, and the row itself where the product does
/// not identify it; `None` if nothing has changed.
fn detail(word: &str, change: &Change) -> Option<Columns> {
    let mut detail = differences(change.before(), change.after());
    if detail.is_empty() && !matches!(change, Change::Truncated) {
        return None;
    }
    if let Change::Changed(old, _) = change
        && word != LICENSE
    {
        let columns = old.iter();
        let row = columns.map(|(name, value)| (name.clone(), for_trail(value.clone())));
        detail.insert("row".to_owned(), Value::Object(row.collect()));
    }
    Some(detail)
}

/// Returns `{"from": …, "to": …}` of each column that differs; what is null is left out. Tokens are left out, too,
/// because their rows have them.
fn differences(old: Option<&Columns>, new: Option<&Columns>) -> Columns {
    let mut differences = Columns::new();
    for name in old.into_iter().chain(new).flat_map(Columns::keys) {
        let value_in = |row: Option<&Columns>| {
            let value = row?.get(name);
            value.filter(|value| !value.is_null()).cloned()
        };
        let (from, to) = (value_in(old), value_in(new));
        if from != to && name != "token" {
            let sides = [("from", from), ("to", to)].into_iter();
            let sides =
                sides.filter_map(|(side, value)| Some((side.to_owned(), for_trail(value?))));
            differences.insert(name.clone(), Value::Object(sides.collect()));
        }
    }
    differences
}

/// The longest text in the trail, in bytes: whoever may add a row must not hide it behind a text too long to be
/// written.
const TEXT_MAX: usize = 1_000;

/// Returns a value as the trail has it.
fn for_trail(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(shortened(&text)),
        other => other,
    }
}

fn shortened(text: &str) -> String {
    if text.len() <= TEXT_MAX {
        return text.to_owned();
    }
    let start = text.get(..text.floor_char_boundary(TEXT_MAX));
    format!("{}... ({} bytes)", start.unwrap_or_default(), text.len())
}
