//! What lasts of the counts: the table `license_counts`.

use serde_json::{Value, json};

use crate::ledger::identity::Name;
use crate::ledger::rules::Counts;
use crate::ledger::table::Table;
use crate::licenses;
use crate::memory;
use crate::pg::backend;
use crate::pg::table::{Argument, ReadError, Reader};

/// What was counted of this database's licenses before the server's start.
pub fn read(reader: &Reader, schema: &str) -> Result<Vec<Counts>, ReadError> {
    let rows = reader.query(
        &format!(
            "SELECT product, high_water::bigint, high_water_at::timestamptz, denied::bigint,
                    counted_since::timestamptz
               FROM ONLY {schema}.license_counts"
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
    );
    // Numbers that can't be read keep nobody from logging in.
    rows.or(Ok(Vec::new()))
}

/// Writes what is counted of this database's licenses, where that has changed.
pub fn write(writer: &Reader, schema: &str) -> Result<(), ReadError> {
    let rules = licenses::last_in_force(backend::database()).unwrap_or_default();
    let counts: Vec<Value> = rules
        .licenses
        .iter()
        .filter_map(|license| {
            let tally = memory::read(|ledger| ledger.tallies.get(&license.tally).copied())??;
            Some(json!({
                "product": license.product.as_str(),
                "high_water": tally.high_water,
                "high_water_at": tally.high_water_at,
                "denied": license.denied,
                "counted_since": license.counted_since,
            }))
        })
        .collect();
    if counts.is_empty() {
        return Ok(());
    }
    let statement = format!(
        "INSERT INTO {schema}.license_counts AS former
                (product, high_water, high_water_at, denied, counted_since)
         SELECT product, high_water, epoch + high_water_at * interval '1 microsecond', denied,
                epoch + counted_since * interval '1 microsecond'
           FROM jsonb_to_recordset($1::jsonb)
                AS (product text, high_water bigint, high_water_at bigint, denied bigint,
                    counted_since bigint),
                CAST('2000-01-01 00:00:00+00' AS timestamptz) AS epoch
             ON CONFLICT (product) DO UPDATE
                SET high_water = excluded.high_water, high_water_at = excluded.high_water_at,
                    denied = excluded.denied, counted_since = excluded.counted_since
              WHERE (former.high_water, former.denied, former.counted_since)
                    IS DISTINCT FROM (excluded.high_water, excluded.denied, excluded.counted_since)"
    );
    let counts = Value::Array(counts).to_string();
    writer.execute(&statement, &[Argument::Text(Some(&counts))])?;
    Ok(())
}
