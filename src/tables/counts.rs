//! `license_counts`: the counts of each license, as they last.

use crate::core::ledger::identity::Name;
use crate::core::ledger::rules::Counts;
use crate::pg::backend;
use crate::pg::table::{self, Argument, ReadError, TableAccess};

/// Reads the counts of this database's licenses, leaving out those of its template or of a publisher.
///
/// # Errors
///
/// If they can't be read.
pub fn read(reader: &TableAccess, schema: &str) -> Result<Vec<Counts>, ReadError> {
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
                // A name that is too long belongs to no product.
                product: row.text(1)?.and_then(Name::new).unwrap_or(Name::EMPTY),
                high_water: row.number(2).unwrap_or(0),
                high_water_at: row.number(3).unwrap_or(0),
                denied: row.number(4).unwrap_or(0).unsigned_abs(),
                counted_since: row.number(5).unwrap_or(i64::MAX),
            })
        },
    )
}

/// Writes the present counts, given as JSON; only those that have changed.
///
/// # Errors
///
/// If they can't be written.
pub fn write(writer: &TableAccess, schema: &str, counts: &str) -> Result<(), ReadError> {
    let origin = table::origin()?;
    // Only what has changed gets to ON CONFLICT, which writes even if it updates nothing.
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
