//! The counts that last: read with the rules, written with the audit trail.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use serde_json::{Value, json};

use super::left;
use crate::core::ledger::numbers::DatabaseOid;
use crate::core::ledger::rules::{Counts, Rules};
use crate::core::ledger::table::Table;
use crate::memory;
use crate::pg::table::{damaged, log_failure, read_committed, write_alone};
use crate::pg::{backend, catalog};
use crate::tables::counts as rows;

/// How long to wait for a lock on the table: counts must keep nobody from logging in.
const PATIENCE: Duration = Duration::from_millis(100);

/// Returns what was counted of this database's licenses before the server's start, leaving out the counts of its
/// template or of a publisher; `None` if they can't be read now.
pub fn read(schema: &str) -> Option<Vec<Counts>> {
    let rows = read_committed(PATIENCE, |reader| rows::read(reader, schema));
    let mut counts = rows.ok()?;
    let database = backend::database();
    let known = memory::read(|ledger| {
        ledger
            .databases
            .get(&database)
            .map(|known| known.counts.added)
    });
    if known != Some(true) {
        // Counts that could no longer be written when the server stopped.
        for kept in left::counts(database) {
            counts.retain(|row| row.product != kept.product);
            counts.push(kept);
        }
    }
    Some(counts)
}

/// Writes the counts of this worker's database if they have changed, in a transaction of its own: neither fails with
/// the audit trail, nor the trail with it. It must be called outside a transaction.
pub fn write(database: DatabaseOid) {
    let rules = memory::rules::last_in_force(database).unwrap_or_default();
    let counts = Value::Array(present(&rules)).to_string();
    // Other rules may come from another table.
    let digest = digest_of((rules.generation, &counts));
    let known = memory::read(|ledger| ledger.databases.get(&database).copied());
    if known.is_some_and(|known| known.counts.written == digest) {
        return;
    }
    if known.is_some_and(|known| known.in_force.in_recovery) {
        // The server has just been promoted: what was counted before is yet to be read.
        return;
    }
    let written = write_alone(PATIENCE, |writer| {
        let Some(schema) = catalog::schema() else {
            // The counts went with the extension.
            return Ok(digest);
        };
        if !known.is_some_and(|known| known.counts.added) {
            // What was counted before would be lost.
            return Err(damaged("it could not be read since the server's start"));
        }
        rows::write(writer, &schema, &counts)?;
        Ok(digest)
    });
    let is_news = memory::write(|ledger| {
        ledger.counts_written(database, written.as_ref().ok().copied(), backend::now())
    });
    if let Some(error) = written.err().filter(|_| is_news) {
        log_failure("write license_counts of", database, &error, "");
    }
}

/// Returns the present counts.
fn present(rules: &Rules) -> Vec<Value> {
    let present = rules.licenses.iter().filter_map(|license| {
        let tally = memory::read(|ledger| ledger.tallies.get(&license.tally).copied())?;
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

/// Returns a digest that tells one value from another, and is never 0.
fn digest_of(what: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish() | 1
}
