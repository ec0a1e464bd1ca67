//! Writes every try to renew a license to the audit trail of each database that has it. The tries wait in the
//! installation's record until the database has them.

use std::time::Duration;

use pgrx::bgworkers::BackgroundWorker;
use serde_json::json;

use crate::core::ledger::numbers::DatabaseOid;
use crate::events::key::Key;
use crate::pg::table::{ReadError, TableAccess, write_alone};
use crate::pg::{backend, catalog, error};
use crate::settings;
use crate::signed::installation::files;
use crate::signed::installation::record::Try;
use crate::tables::events::note_renewal;

/// Returns the tries that the trail of a database lacks, each with its license's id; none on a standby.
pub fn unwritten(database: DatabaseOid) -> Vec<(String, Try)> {
    if backend::in_recovery() {
        return Vec::new();
    }
    let record = files::record(&settings::installation_key());
    record.map_or_else(|_| Vec::new(), |record| record.unwritten(database))
}

/// Writes these tries to the trail of this worker's database, waiting for locks at most `patience`. If they can't be
/// written, the next worker tries again. It must be called outside a transaction.
pub fn write(database: DatabaseOid, tries: &[(String, Try)], patience: Duration) {
    if tries.is_empty() {
        return;
    }
    let written = write_alone(patience, |writer| {
        // Without the extension there is no trail either.
        let schema = catalog::schema();
        schema.map_or(Ok(()), |schema| {
            tries.iter().try_for_each(|(license_id, attempt)| {
                write_try(writer, &schema, license_id, attempt)
            })
        })
    });
    if written.is_err() {
        return;
    }
    let key = settings::installation_key();
    if let Err(error) = files::change_record(&key, |record| record.note_written(database, tries)) {
        let line = format!("could not record that license_events has tries to renew: {error}");
        BackgroundWorker::transaction(|| error::log(line));
    }
}

/// Writes a try once, even if the record could not note before that it was written.
fn write_try(
    writer: &TableAccess,
    schema: &str,
    license_id: &str,
    attempt: &Try,
) -> Result<(), ReadError> {
    let is_renewed = attempt.failure.is_none();
    let detail = json!({
        "license_id": license_id,
        "result": if is_renewed { "renewed" } else { "failed" },
        "reason": attempt.failure,
        "valid_until": attempt.valid_until.map(catalog::timestamp_iso),
        "next_try_at": attempt.next_try_at.map(catalog::timestamp_iso),
    });
    let at = catalog::timestamp_iso(attempt.at);
    let by = attempt.by.as_deref();
    let key = Key::next();
    note_renewal(
        writer,
        schema,
        (&at, by),
        &detail.to_string(),
        key.arguments(),
    )
}
