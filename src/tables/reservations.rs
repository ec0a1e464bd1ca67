//! `license_reservations`: seats that are kept for the members of a role, and limits on what they may take.

use crate::core::ledger::identity::Name;
use crate::core::ledger::license::RowKey;
use crate::core::ledger::numbers::TallyId;
use crate::core::ledger::reservation::Reservation;
use crate::pg::backend;
use crate::pg::table::{ReadError, Row, TableAccess, damaged};

/// Reads the rows.
///
/// # Errors
///
/// If they can't be read, or hold what no reservation may have.
pub fn read(reader: &TableAccess, schema: &str) -> Result<Vec<Reservation>, ReadError> {
    reader.query(
        &format!(
            "SELECT product, role, reserved::int, max_seats::int, shared::boolean
               FROM ONLY {schema}.license_reservations ORDER BY role, product"
        ),
        reservation,
    )
}

fn reservation(row: &Row) -> Result<Reservation, ReadError> {
    let name = |column| {
        Name::new(row.text(column)?.unwrap_or_default())
            .ok_or_else(|| damaged("a name of license_reservations is too long"))
    };
    let count = |column| row.number(column).map(|number| number as i32);
    Ok(Reservation {
        key: RowKey {
            database: backend::database(),
            place: 0,
        },
        tally: TallyId::NONE,
        product: name(1)?,
        role: name(2)?,
        reserved: count(3).unwrap_or(0),
        max_seats: count(4),
        number: 0,
        shared: row.number(5) == Some(1),
    })
}
