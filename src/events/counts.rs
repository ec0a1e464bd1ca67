//! What lasts of the counts: the table `license_counts`.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use serde_json::{Value, json};

use super::left;
use crate::core::ledger::identity::Name;
use crate::core::ledger::rules::{Counts, Rules};
use crate::core::ledger::table::Table;
use crate::memory;
use crate::pg::table::{
    self, Argument, ReadError, Reader, damaged, log_failure, read_committed, write_alone,
};
use crate::pg::{backend, catalog};

/// How long they wait for a lock on the table: numbers keep nobody from logging in.
const PATIENCE: Duration = Duration::from_millis(100);

/// What was counted of this database's licenses before the server's start, neither of its template's nor of a
/// publisher's;
/// `None` where that can't be read now.
pub fn read(schema: &str) -> Option<Vec<Counts>> {
    let rows = read_committed(PATIENCE, |reader| {
        let origin = table::origin()?;
        reader.query(
            &format!(
                "SELECT product, high_water::bigint, high_water_at::timestamptz, denied::bigint,
                        counted_since::timestamptz
                   FROM ONLY {schema}.license_counts
                  WHERE (origin, datid) = ('{origin}'::uuid, {}::oid)",
                backend::database()
            ),
            |row| {
                Ok(Counts {
                    // What is too long is no product's.
                    product: row.text(1)?.and_then(Name::new).unwrap_or(Name::EMPTY),
                    high_water: row.number(2).unwrap_or(0),
                    high_water_at: row.number(3).unwrap_or(0),
                    denied: row.number(4).unwrap_or(0).unsigned_abs(),
                    counted_since: row.number(5).unwrap_or(i64::MAX),
                })
            },
        )
    });
    let mut counts = rows.ok()?;
    let database = backend::database();
    let known = memory::read(|ledger| ledger.databases.get(&database).map(|known| known.counted));
    if known.flatten() != Some(true) {
        // What was not written any more when the server stopped.
        for kept in left::counts(database) {
            counts.retain(|row| row.product != kept.product);
            counts.push(kept);
        }
    }
    Some(counts)
}

/// Writes what is counted of this visitor's database's licenses, where that has changed, in a
/// transaction of its own: neither fails with the trail, nor the trail with it. Outside a transaction.
pub fn write(database: u32) {
    let rules = memory::rules::last_in_force(database).unwrap_or_default();
    let counts = Value::Array(present(&rules)).to_string();
    // Other rules may be those of another table.
    let digest = digest_of((rules.generation, &counts));
    let known = memory::read(|ledger| ledger.databases.get(&database).copied()).flatten();
    if known.is_some_and(|known| known.counts_written == digest) {
        return;
    }
    if known.is_some_and(|known| known.in_recovery) {
        // Its server has just been promoted: what was counted before is yet to be read.
        return;
    }
    let written = write_alone(PATIENCE, |writer| {
        let Some(schema) = catalog::schema() else {
            // They went with the extension.
            return Ok(digest);
        };
        if !known.is_some_and(|known| known.counted) {
            // What was counted before would be lost.
            return Err(damaged("it could not be read since the server's start"));
        }
        put(writer, &schema, &counts)?;
        Ok(digest)
    });
    let is_news = memory::write(|ledger| {
        ledger.counts_written(database, written.as_ref().ok().copied(), backend::now())
    });
    if let Some(error) = written.err().filter(|_| is_news == Some(true)) {
        log_failure("write license_counts of", database, &error, "");
    }
}

/// What is counted now.
fn present(rules: &Rules) -> Vec<Value> {
    let present = rules.licenses.iter().filter_map(|license| {
        let tally = memory::read(|ledger| ledger.tallies.get(&license.tally).copied())??;
        Some(json!({
            "product": license.product.as_str(),
            "high_water": tally.high_water,
            "high_water_at": tally.high_water_at,
            "denied": license.denied,
            "counted_since": license.counted_since,
        }))
    });
    present.collect()
}

/// Tells one from another; never 0.
fn digest_of(what: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish() | 1
}

fn put(writer: &Reader, schema: &str, counts: &str) -> Result<(), ReadError> {
    let origin = table::origin()?;
    // Only what has changed comes to the conflict: that writes also where it updates nothing.
    let statement = format!(
        "WITH present AS (
            SELECT CAST('{origin}' AS uuid) AS origin, {}::oid AS datid, product, high_water, epoch + high_water_at * microsecond AS high_water_at,
                   denied, epoch + counted_since * microsecond AS counted_since
              FROM jsonb_to_recordset($1::jsonb)
                   AS (product text, high_water bigint, high_water_at bigint, denied bigint,
                       counted_since bigint),
                   CAST('2000-01-01 00:00:00+00' AS timestamptz) AS epoch,
                   CAST('1 microsecond' AS interval) AS microsecond
         )
         INSERT INTO {schema}.license_counts
                (origin, datid, product, high_water, high_water_at, denied, counted_since)
         SELECT origin, datid, product, high_water, high_water_at, denied, counted_since
           FROM present
          WHERE NOT EXISTS (
                SELECT FROM ONLY {schema}.license_counts former
                 WHERE (former.origin, former.datid, former.product, former.high_water, former.denied,
                        former.counted_since)
                       = (present.origin, present.datid, present.product, present.high_water,
                          present.denied, present.counted_since))
             ON CONFLICT (origin, datid, product) DO UPDATE
                SET high_water = excluded.high_water,
                    high_water_at = excluded.high_water_at, denied = excluded.denied,
                    counted_since = excluded.counted_since",
        backend::database()
    );
    writer.execute(&statement, &[Argument::Text(Some(counts))])?;
    Ok(())
}
