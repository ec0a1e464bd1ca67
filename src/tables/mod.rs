//! The tables of the extension, one file for each, named like its table: what a row says, how it is read and how it is
//! written.

pub mod allotments;
pub mod bars;
pub mod counts;
pub mod events;
pub mod exemptions;
pub mod interference;
pub mod keys;
pub mod leases;
pub mod licenses;
pub mod reservations;

use crate::pg::backend;
use crate::pg::table::{self, ReadError, TableAccess};

/// Counts the rows of `licenses`, those of `license_bars` that are in force, and those of `license_exemptions`.
///
/// # Errors
///
/// If they can't be read.
pub fn count(reader: &TableAccess, schema: &str) -> Result<(usize, usize, usize), ReadError> {
    let origin = table::origin()?;
    let rows = reader.query(
        &format!(
            "SELECT (SELECT count(*) FROM ONLY {schema}.licenses),
                    (SELECT count(*) FROM ONLY {schema}.license_bars
                      WHERE (origin, datid) = ('{origin}'::uuid, {}::oid) AND barred_until > now()),
                    (SELECT count(*) FROM ONLY {schema}.license_exemptions)",
            backend::database()
        ),
        |row| {
            let count = |column| usize::try_from(row.number(column).unwrap_or(0)).unwrap_or(0);
            Ok((count(1), count(2), count(3)))
        },
    )?;
    Ok(rows.first().copied().unwrap_or_default())
}
