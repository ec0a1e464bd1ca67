//! Warnings: who listens on the channel `pg_seats`, and who reads the server log, knows before anybody
//! is denied. They name neither users nor hosts, since any role may listen.

use std::time::Duration;

use pgrx::bgworkers::BackgroundWorker;
use serde_json::{Value, json};

use crate::ledger::event::{Event, Happened};
use crate::ledger::license::{Enforcement, Timestamp};
use crate::licenses;
use crate::pg::error::{self, quoted};
use crate::pg::table::{Argument, ReadError, Reader, log_failure, write_alone};
use crate::pg::{backend, catalog};

/// The days before its end at which a license is warned of.
const DAYS: [i64; 4] = [1, 7, 14, 30];

const DAY: Timestamp = 86_400_000_000;

/// What somebody should know.
pub struct Warning {
    /// As the server log has it.
    line: String,
    /// As it is notified.
    payload: Value,
}

impl Warning {
    /// Warns of as many seats in use as this event says, if it says so.
    pub fn of_use(event: &Event) -> Option<Warning> {
        let Happened::Reached { level, seats } = event.happened else {
            return None;
        };
        let (product, in_use) = (event.product.as_str(), event.in_use);
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

    /// Warns of the licenses of this database that come to their end, once for each number of days.
    pub fn of_end(writer: &Reader, schema: &str) -> Result<Vec<Warning>, ReadError> {
        let mut warnings = Vec::new();
        let rules = licenses::last_in_force(backend::database()).unwrap_or_default();
        let now = backend::now();
        for license in &rules.licenses {
            let Some(until) = license
                .valid_until
                .filter(|&until| until > now && license.enforcement != Enforcement::Off)
            else {
                continue;
            };
            let left = until.saturating_sub(now);
            let Some(days) = DAYS.into_iter().find(|days| left <= days * DAY) else {
                continue;
            };
            let product = license.product.as_str();
            let valid_until = catalog::timestamp_iso(until);
            let detail = json!({ "level": "ending", "days": days, "valid_until": valid_until });
            let statement = format!(
                "INSERT INTO {schema}.license_events (at, event, product, datname, detail)
                 SELECT now(), 'warning', $1, current_database(), $2::jsonb
                  WHERE NOT EXISTS (
                        SELECT FROM {schema}.license_events
                         WHERE event = 'warning' AND detail ->> 'level' = 'ending'
                           AND product = $1 AND detail = $2::jsonb)"
            );
            let text = detail.to_string();
            let arguments = [Argument::Text(Some(product)), Argument::Text(Some(&text))];
            if writer.execute(&statement, &arguments)? == 0 {
                continue;
            }
            warnings.push(Warning {
                line: format!(
                    "license {} ends within {days} days, on {}",
                    quoted(product),
                    catalog::timestamp_text(until)
                ),
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

/// Tells the server log, and whoever listens in this visitor's database. The latter's commit takes a lock
/// that another commit may hold for long, and fails where somebody who listens has let the queue fill up:
/// so it is a transaction of its own, and what fails is told by the log alone.
pub fn give(warnings: &[Warning], patience: Duration) {
    if warnings.is_empty() {
        return;
    }
    let lines = warnings.iter().map(|warning| &warning.line);
    BackgroundWorker::transaction(|| lines.for_each(error::log));
    let notified = write_alone(patience, |writer| {
        for warning in warnings {
            let payload = warning.payload.to_string();
            writer.execute(
                "SELECT pg_notify('pg_seats', $1)",
                &[Argument::Text(Some(&payload))],
            )?;
        }
        Ok(())
    });
    if let Err(error) = notified {
        let what = "notify who listens on pg_seats in";
        log_failure(what, backend::database(), &error, "");
    }
}
