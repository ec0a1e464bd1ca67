//! Tells the audit trail of each database that has a license of every try to renew it. The tries wait in the
//! installation's record until the database has been told.

use std::time::Duration;

use pgrx::bgworkers::BackgroundWorker;
use serde_json::json;

use crate::events::key::Key;
use crate::pg::table::{Argument, ReadError, Reader, write_alone};
use crate::pg::{backend, catalog, error};
use crate::settings;
use crate::signed::installation::files;
use crate::signed::installation::record::Try;

/// The tries that a database is yet to be told of, each with its license's id; on a standby none.
pub fn untold(database: u32) -> Vec<(String, Try)> {
    if backend::in_recovery() {
        return Vec::new();
    }
    let record = files::record(&settings::installation_key());
    record.map_or_else(|_| Vec::new(), |record| record.untold(database))
}

/// Tells this visitor's database of these, waiting for locks at most `patience`. What can't be told stays for the
/// next visitor. Outside a transaction.
pub fn tell(database: u32, tries: &[(String, Try)], patience: Duration) {
    if tries.is_empty() {
        return;
    }
    let told = write_alone(patience, |writer| {
        // Without the extension, its trail went with it.
        let schema = catalog::schema();
        schema.map_or(Ok(()), |schema| {
            tries
                .iter()
                .try_for_each(|(license_id, attempt)| write(writer, &schema, license_id, attempt))
        })
    });
    if told.is_err() {
        return;
    }
    let key = settings::installation_key();
    if let Err(error) = files::change_record(&key, |record| record.told(database, tries)) {
        let line = format!("could not record that license_events has tries to renew: {error}");
        BackgroundWorker::transaction(|| error::log(line));
    }
}

/// Once, also where the record could not be told that it was.
fn write(writer: &Reader, schema: &str, license_id: &str, attempt: &Try) -> Result<(), ReadError> {
    let is_renewed = attempt.failure.is_none();
    let detail = json!({
        "license_id": license_id,
        "result": if is_renewed { "renewed" } else { "failed" },
        "reason": attempt.failure,
        "valid_until": attempt.valid_until.map(catalog::timestamp_iso),
        "next_try_at": attempt.next_try_at.map(catalog::timestamp_iso),
    });
    let statement = format!(
        "INSERT INTO {schema}.license_events (at, event, usename, datname, detail, run, number)
         SELECT $1::timestamptz, 'renewal', $2, current_database(), jsonb_strip_nulls($3::jsonb),
                coalesce($4::uuid, gen_random_uuid()), coalesce($5::bigint, 0)
          WHERE NOT EXISTS (
                SELECT FROM {schema}.license_events
                 WHERE at = $1::timestamptz AND event = 'renewal'
                   AND detail ->> 'license_id' = $3::jsonb ->> 'license_id')"
    );
    let key = Key::next();
    writer.execute(
        &statement,
        &[
            Argument::Text(Some(&catalog::timestamp_iso(attempt.at))),
            Argument::Text(attempt.by.as_deref()),
            Argument::Text(Some(&detail.to_string())),
            key.run(),
            key.number(),
        ],
    )?;
    Ok(())
}
