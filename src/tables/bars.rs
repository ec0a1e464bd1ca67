//! `license_bars`: those who can't come back for a time.

use crate::core::ledger::bar::{BarBy, Barred, StoredBar};
use crate::core::ledger::identity::{Name, Text};
use crate::core::ledger::numbers::RoleOid;
use crate::pg::backend;
use crate::pg::table::{self, Argument, ReadError, TableAccess, damaged};

/// Reads the bars of this database that are in force, the oldest first. Rows that came from a template database or by
/// replication belong to that database.
///
/// # Errors
///
/// If they can't be read, or hold what no bar may have.
pub fn read(reader: &TableAccess, schema: &str) -> Result<Vec<StoredBar>, ReadError> {
    let origin = table::origin()?;
    reader.query(
        &format!(
            "SELECT bar_id::bigint, product, bar_by, usesysid::oid::bigint, client_user, client_host,
                    barred_until::timestamptz, barred_at::timestamptz, barred_by, reason
               FROM ONLY {schema}.license_bars
              WHERE (origin, datid) = ('{origin}'::uuid, {}::oid) AND barred_until > now()
              ORDER BY bar_id",
            backend::database()
        ),
        |row| {
            let text = |column| Ok(row.text(column)?.unwrap_or_default());
            let too_long = || damaged("a name of license_bars is too long");
            let by = BarBy::from_word(&text(3)?);
            let by = by.ok_or_else(|| damaged("a word of license_bars is not known"))?;
            let role = RoleOid(row.number(4).unwrap_or(0) as u32);
            Ok(StoredBar {
                id: row.number(1).unwrap_or(0),
                product: Name::new(text(2)?).ok_or_else(too_long)?,
                whom: Barred::of_columns(by, role, &text(5)?, &text(6)?).ok_or_else(too_long)?,
                until: row.number(7).unwrap_or(0),
                since: row.number(8).unwrap_or(0),
                barred_by: Name::new(text(9)?).ok_or_else(too_long)?,
                reason: Text::new(text(10)?).ok_or_else(too_long)?,
            })
        },
    )
}

/// Writes rows, given as JSON, and deletes those that were lifted or are over.
///
/// # Errors
///
/// If the table can't be written now.
pub fn write(
    writer: &TableAccess,
    schema: &str,
    rows: &str,
    lifted: &[i64],
) -> Result<(), ReadError> {
    let origin = table::origin()?;
    let own = format!(
        "(origin, datid) = ('{origin}'::uuid, {}::oid)",
        backend::database()
    );
    writer.execute(
        &format!(
            "INSERT INTO {schema}.license_bars (origin, datid, bar_id, product, bar_by, usesysid,
                    client_user, client_host, barred_until, barred_at, barred_by, reason)
             SELECT '{origin}'::uuid, {}::oid, bar_id, product, bar_by, usesysid, client_user,
                    client_host, barred_until, barred_at, barred_by, reason
               FROM jsonb_to_recordset($1::jsonb)
                    AS (bar_id bigint, product text, bar_by text, usesysid oid, client_user text,
                        client_host text, barred_until timestamptz, barred_at timestamptz,
                        barred_by name, reason text)",
            backend::database()
        ),
        &[Argument::Text(Some(rows))],
    )?;
    let lifted: Vec<String> = lifted.iter().map(i64::to_string).collect();
    writer.execute(
        &format!(
            "DELETE FROM {schema}.license_bars
              WHERE {own} AND (barred_until <= now() OR bar_id = ANY (CAST($1 AS bigint[])))"
        ),
        &[Argument::Text(Some(&format!("{{{}}}", lifted.join(","))))],
    )?;
    Ok(())
}

/// Deletes a row; false if none is in force.
///
/// # Errors
///
/// If the table can't be written now.
pub fn delete(writer: &TableAccess, schema: &str, id: i64) -> Result<bool, ReadError> {
    let origin = table::origin()?;
    let statement = format!(
        "DELETE FROM {schema}.license_bars
          WHERE (origin, datid, bar_id) = ('{origin}'::uuid, {}::oid, {id})
            AND barred_until > now()",
        backend::database()
    );
    Ok(writer.execute(&statement, &[])? > 0)
}
