//! `license_allotments`: seats that were allotted to other installations.

use crate::core::ledger::time::{LEEWAY, Timestamp};
use crate::pg::table::{Argument, ReadError, TableAccess};

/// A row of `license_allotments` whose seats were not returned before their end.
pub struct Away {
    /// The allotment's id.
    pub id: String,
    /// The license that the seats are of.
    pub license_id: String,
    /// The product.
    pub product: String,
    /// The number of seats.
    pub seats: i32,
    /// The installation that has them.
    pub installation: String,
    /// When they were allotted.
    pub allotted_at: Timestamp,
    /// When they come back by themselves; `None`: never.
    pub valid_until: Option<Timestamp>,
    /// The token that was made of it.
    pub token: String,
}

impl Away {
    /// Returns when the seats come back by themselves.
    pub fn comes_back_at(&self) -> Option<Timestamp> {
        Some(self.valid_until?.saturating_add(LEEWAY))
    }
}

/// Reads the allotments whose seats are away according to the table: they were not returned, or not before their end.
///
/// # Errors
///
/// If the table can't be read.
pub fn read_away(reader: &TableAccess, schema: &str) -> Result<Vec<Away>, ReadError> {
    reader.query(
            &format!(
                "SELECT allotment_id, license_id, product, seats, installation, allotted_at, valid_until,
                        token
                   FROM ONLY {schema}.license_allotments
                  WHERE returned_at IS NULL OR returned_at >= valid_until"
            ),
            |row| {
                Ok(Away {
                    id: row.text_or_none(1),
                    license_id: row.text_or_none(2),
                    product: row.text_or_none(3),
                    seats: row.number(4).map_or(0, |seats| (seats as i32).max(0)),
                    installation: row.text_or_none(5),
                    allotted_at: row.number(6).unwrap_or(0),
                    valid_until: row.number(7),
                    token: row.text_or_none(8),
                })
            },
        )
}

/// A row of `license_allotments`.
pub struct AllotmentRow {
    /// The allotment's id.
    pub id: String,
    /// Whether its seats have come back.
    pub is_returned: bool,
    /// The token that was made of it.
    pub token: String,
}

/// Reads the rows.
///
/// # Errors
///
/// If the table can't be read.
pub fn read(reader: &TableAccess, schema: &str) -> Result<Vec<AllotmentRow>, ReadError> {
    reader.query(
        &format!(
            "SELECT allotment_id, returned_at IS NOT NULL, token
               FROM ONLY {schema}.license_allotments"
        ),
        |row| {
            Ok(AllotmentRow {
                id: row.text(1)?.unwrap_or_default(),
                is_returned: row.number(2) == Some(1),
                token: row.text(3)?.unwrap_or_default(),
            })
        },
    )
}

/// A row to insert.
pub struct NewAllotment<'a> {
    /// The allotment's id.
    pub allotment_id: &'a str,
    /// The license that the seats are of.
    pub license_id: &'a str,
    /// The product.
    pub product: &'a str,
    /// The number of seats.
    pub seats: i32,
    /// The installation that has them.
    pub installation: &'a str,
    /// When they were allotted, as ISO 8601.
    pub allotted_at: &'a str,
    /// When they come back by themselves, as ISO 8601.
    pub valid_until: Option<&'a str>,
    /// The token that was made of it.
    pub token: &'a str,
}

/// Inserts a row.
///
/// # Errors
///
/// If the table can't be written now.
pub fn insert(writer: &TableAccess, schema: &str, row: &NewAllotment) -> Result<(), ReadError> {
    writer.execute(
        &format!(
            "INSERT INTO {schema}.license_allotments
                    (allotment_id, license_id, product, seats, installation, allotted_at, valid_until, token)
             VALUES ($1, $2, $3, $4::int, $5, $6::timestamptz, $7::timestamptz, $8)"
        ),
        &[
            Argument::Text(Some(row.allotment_id)),
            Argument::Text(Some(row.license_id)),
            Argument::Text(Some(row.product)),
            Argument::Text(Some(&row.seats.to_string())),
            Argument::Text(Some(row.installation)),
            Argument::Text(Some(row.allotted_at)),
            Argument::Text(row.valid_until),
            Argument::Text(Some(row.token)),
        ],
    )?;
    Ok(())
}

/// Notes that seats are away, and their token.
///
/// # Errors
///
/// If the table can't be written now.
pub fn set_away(
    writer: &TableAccess,
    schema: &str,
    id: &str,
    token: &str,
) -> Result<(), ReadError> {
    let statement = format!(
        "UPDATE {schema}.license_allotments SET returned_at = NULL, token = $2 WHERE allotment_id = $1"
    );
    writer.execute(
        &statement,
        &[Argument::Text(Some(id)), Argument::Text(Some(token))],
    )?;
    Ok(())
}

/// Notes when seats came back, as ISO 8601.
///
/// # Errors
///
/// If the table can't be written now.
pub fn set_returned(
    writer: &TableAccess,
    schema: &str,
    id: &str,
    at: Option<&str>,
) -> Result<(), ReadError> {
    let statement = format!(
        "UPDATE {schema}.license_allotments SET returned_at = $2::timestamptz WHERE allotment_id = $1"
    );
    writer.execute(&statement, &[Argument::Text(Some(id)), Argument::Text(at)])?;
    Ok(())
}
