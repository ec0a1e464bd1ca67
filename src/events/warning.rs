//! Warns those who listen on the channel `pg_seats`, and the server log, before anybody is denied. Warnings name
//! neither users nor hosts, since any role may listen.

use std::time::Duration;

use pgrx::bgworkers::BackgroundWorker;
use serde_json::{Value, json};

use super::key::Key;
use crate::core::ledger::event::{Event, Happened};
use crate::core::ledger::license::Ending;
use crate::core::ledger::table::Table;
use crate::memory;
use crate::pg::error::{self, quoted};
use crate::pg::table::{ReadError, TableAccess, log_failure, write_alone};
use crate::pg::{backend, catalog};
use crate::tables::{events as trail, interference};

/// A warning.
pub struct Warning {
    /// The line for the server log.
    line: String,
    /// The payload of the notification.
    payload: Value,
}

impl Warning {
    /// Returns the warning of seats in use, or of tampering, if the event is one.
    pub fn of_use(event: &Event) -> Option<Warning> {
        let (product, in_use) = (event.product.as_str(), event.in_use);
        let (level, seats) = match event.happened {
            Happened::Reached { level, seats } => (level, seats),
            Happened::Tampered(tampered) => {
                return Some(Warning {
                    line: format!(
                        "license {} claims more than was signed, which stays in force: {}",
                        quoted(product),
                        tampered.names().collect::<Vec<_>>().join(", ")
                    ),
                    payload: json!({ "event": "tampering", "product": product }),
                });
            }
            _ => return None,
        };
        Some(Warning {
            line: format!(
                "license {} is at level \"{}\": {in_use} of {seats} seats were in use",
                quoted(product),
                level.word()
            ),
            payload: json!({
                "event": "warning",
                "level": level.word(),
                "product": product,
                "in_use": in_use,
                "seats": seats,
            }),
        })
    }

    /// Returns a warning about a signed license.
    pub fn of_license(line: String, payload: Value) -> Warning {
        Warning { line, payload }
    }

    /// Returns the line for the server log.
    pub fn into_line(self) -> String {
        self.line
    }

    /// Returns warnings of the licenses of this database that are about to end, once for each number of days.
    pub fn of_end(writer: &TableAccess, schema: &str) -> Result<Vec<Warning>, ReadError> {
        let mut warnings = Vec::new();
        let rules = memory::rules::last_in_force(backend::database()).unwrap_or_default();
        let now = backend::now();
        for license in &rules.licenses {
            let Some(ending) = license.ending(now) else {
                continue;
            };
            let days = ending.days;
            let product = license.product.as_str();
            let valid_until = catalog::timestamp_iso(ending.until);
            let detail = json!({ "level": "ending", "days": days, "valid_until": valid_until });
            let key = Key::next();
            if !trail::note_end(
                writer,
                schema,
                product,
                &detail.to_string(),
                key.arguments(),
            )? {
                continue;
            }
            warnings.push(Warning {
                line: line_of_end(product, ending),
                payload: json!({
                    "event": "warning",
                    "level": "ending",
                    "product": product,
                    "days": days,
                    "valid_until": valid_until,
                }),
            });
        }
        Ok(warnings)
    }
}

/// Returns warnings of what others have attached to the extension's tables, once for each thing, as long as the trail
/// has it.
pub fn of_interference(writer: &TableAccess, schema: &str) -> Result<Vec<Warning>, ReadError> {
    let mut warnings = Vec::new();
    let rules = memory::rules::last_in_force(backend::database()).unwrap_or_default();
    if !rules.licenses.iter().any(|license| license.interfered) {
        return Ok(warnings);
    }
    for thing in interference::find(writer)? {
        let detail = thing.detail();
        let key = Key::next();
        if !trail::note_interference(writer, schema, &detail.to_string(), key.arguments())? {
            continue;
        }
        warnings.push(Warning {
            line: match &thing.table {
                Some(table) => format!(
                    "{} {} of table {} is not pg_seats' own: it is not obeyed",
                    thing.kind,
                    quoted(&thing.name),
                    quoted(table)
                ),
                None => format!(
                    "{} {} is not as pg_seats has made it, or not a superuser's",
                    thing.kind,
                    quoted(&thing.name)
                ),
            },
            payload: json!({ "event": "interference", "table": thing.table, "kind": thing.kind, "name": thing.name }),
        });
    }
    Ok(warnings)
}

fn line_of_end(product: &str, ending: Ending) -> String {
    format!(
        "license {} ends within {} days, on {}",
        quoted(product),
        ending.days,
        catalog::timestamp_text(ending.until)
    )
}

/// Writes to a standby's server log which licenses are about to end. Nothing is stored there, so it is written again
/// after a restart. It must be called in a transaction.
pub fn log_endings() {
    let licenses = memory::read(|ledger| ledger.licenses.len());
    let mut endings = Vec::with_capacity(licenses);
    memory::write(|ledger| {
        ledger.warn_of_endings(backend::now(), |product, ending| {
            memory::push(&mut endings, (*product, ending));
        });
    });
    for (product, ending) in &endings {
        error::log(line_of_end(product.as_str(), *ending));
    }
}

/// Notes in the audit trail what became of signed licenses, and gives the warnings. Only a worker may call it, outside
/// a transaction.
pub fn note_and_give(warnings: &[Warning], patience: Duration) {
    if warnings.is_empty() {
        return;
    }
    if !backend::in_recovery() {
        let noted = write_alone(patience, |writer| {
            let Some(schema) = catalog::schema() else {
                return Ok(());
            };
            for warning in warnings {
                let payload = warning.payload.to_string();
                let key = Key::next();
                trail::note(writer, &schema, &payload, key.arguments())?;
            }
            Ok(())
        });
        if let Err(error) = noted {
            log_failure("note in license_events of", backend::database(), &error, "");
        }
    }
    give(warnings, patience);
}

/// Writes warnings to the server log, and notifies those who listen in this worker's database. The commit of a
/// notification takes a lock that another commit may hold for long, and fails if a listener has let the queue fill up:
/// so it is a transaction of its own, and only the log reports its failure.
pub fn give(warnings: &[Warning], patience: Duration) {
    if warnings.is_empty() {
        return;
    }
    let lines = warnings.iter().map(|warning| &warning.line);
    BackgroundWorker::transaction(|| lines.for_each(error::log));
    let notified = write_alone(patience, |writer| {
        for warning in warnings {
            trail::notify(writer, &warning.payload.to_string())?;
        }
        Ok(())
    });
    if let Err(error) = notified {
        let what = "notify who listens on pg_seats in";
        log_failure(what, backend::database(), &error, "");
    }
}
