//! `license_events`: the audit trail. A row's `run` and `number` identify it, wherever rows come together; a row
//! without them is a run of its own.

use serde_json::Value;

use crate::pg::table::{Argument, ReadError, TableAccess};

/// A row's `run` and `number`.
pub type Key<'a> = [Argument<'a>; 2];

/// Inserts rows, given as JSON; one that is already there is left as it is.
///
/// # Errors
///
/// If the table can't be written now.
pub fn insert(writer: &TableAccess, schema: &str, rows: Vec<Value>) -> Result<(), ReadError> {
    if rows.is_empty() {
        return Ok(());
    }
    let statement = format!(
        "INSERT INTO {schema}.license_events
                (at, event, product, usename, client_user, client_host, workstation, datname, detail,
                 run, number)
         SELECT at, event, product, usename, client_user, client_host, workstation,
                current_database(), detail, coalesce(run, gen_random_uuid()), coalesce(number, 0)
           FROM jsonb_to_recordset($1::jsonb)
                AS (at timestamptz, event text, product text, usename name, client_user text,
                    client_host text, workstation text, detail jsonb, run uuid,
                    number bigint)
             ON CONFLICT (run, number) DO NOTHING"
    );
    let rows = Value::Array(rows).to_string();
    writer.execute(&statement, &[Argument::Text(Some(&rows))])?;
    Ok(())
}

/// Deletes rows older than `minutes`, at most `most`, and returns how many. It does not wait for a transaction that is
/// deleting or changing such a row. A warning of a license's end stays as long as it would be given again.
///
/// # Errors
///
/// If the table can't be written now.
pub fn delete_old(
    writer: &TableAccess,
    schema: &str,
    minutes: i32,
    most: u64,
) -> Result<u64, ReadError> {
    let statement = format!(
        "DELETE FROM {schema}.license_events WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM {schema}.license_events
             WHERE at < now() - $1::int * interval '1 minute'
               AND (event = 'warning' AND detail ->> 'level' = 'ending'
                    AND at > now() - interval '31 days') IS NOT TRUE
             ORDER BY at LIMIT {most} FOR UPDATE SKIP LOCKED))"
    );
    let minutes = minutes.to_string();
    writer.execute(&statement, &[Argument::Text(Some(&minutes))])
}

/// The row of a change of a license table.
pub struct ChangeRow<'a> {
    /// The event.
    pub event: &'a str,
    /// The product.
    pub product: Option<&'a str>,
    /// The role that made it.
    pub usename: &'a str,
    /// The role's host.
    pub client_host: Option<&'a str>,
    /// The role's workstation.
    pub workstation: Option<&'a str>,
    /// What was changed, as JSON.
    pub detail: &'a str,
}

/// Notes a change of a license table.
///
/// # Errors
///
/// If the table can't be written now.
pub fn note_change(
    writer: &TableAccess,
    schema: &str,
    change: &ChangeRow,
    [run, number]: Key,
) -> Result<(), ReadError> {
    writer.execute(
        &format!(
            "INSERT INTO {schema}.license_events
                    (at, event, product, usename, client_host, workstation, datname, detail, run, number)
             SELECT clock_timestamp(), $1, $2, $3, $4, $5, current_database(), $6::jsonb,
                    coalesce($7::uuid, gen_random_uuid()), coalesce($8::bigint, 0)"
        ),
        &[
            Argument::Text(Some(change.event)),
            Argument::Text(change.product),
            Argument::Text(Some(change.usename)),
            Argument::Text(change.client_host),
            Argument::Text(change.workstation),
            Argument::Text(Some(change.detail)),
            run,
            number,
        ],
    )?;
    Ok(())
}

/// Notes that a license is about to end. Returns false if that was noted before.
///
/// # Errors
///
/// If the table can't be written now.
pub fn note_end(
    writer: &TableAccess,
    schema: &str,
    product: &str,
    detail: &str,
    [run, number]: Key,
) -> Result<bool, ReadError> {
    let statement = format!(
        "INSERT INTO {schema}.license_events
                (at, event, product, datname, detail, run, number)
         SELECT now(), 'warning', $1, current_database(), $2::jsonb,
                coalesce($3::uuid, gen_random_uuid()), coalesce($4::bigint, 0)
          WHERE NOT EXISTS (
                SELECT FROM ONLY {schema}.license_events
                 WHERE event = 'warning' AND detail ->> 'level' = 'ending'
                   AND product = $1 AND detail = $2::jsonb)"
    );
    let arguments = [
        Argument::Text(Some(product)),
        Argument::Text(Some(detail)),
        run,
        number,
    ];
    Ok(writer.execute(&statement, &arguments)? > 0)
}

/// Notes something that others have attached to the tables. Returns false if that was noted before.
///
/// # Errors
///
/// If the table can't be written now.
pub fn note_interference(
    writer: &TableAccess,
    schema: &str,
    detail: &str,
    [run, number]: Key,
) -> Result<bool, ReadError> {
    let statement = format!(
        "INSERT INTO {schema}.license_events (at, event, datname, detail, run, number)
         SELECT now(), 'interference', current_database(), $1::jsonb,
                coalesce($2::uuid, gen_random_uuid()), coalesce($3::bigint, 0)
          WHERE NOT EXISTS (SELECT FROM ONLY {schema}.license_events
                             WHERE event = 'interference' AND detail = $1::jsonb)"
    );
    let arguments = [Argument::Text(Some(detail)), run, number];
    Ok(writer.execute(&statement, &arguments)? > 0)
}

/// Notes an event, given as JSON: `event`, and its details.
///
/// # Errors
///
/// If the table can't be written now.
pub fn note(
    writer: &TableAccess,
    schema: &str,
    payload: &str,
    [run, number]: Key,
) -> Result<(), ReadError> {
    writer.execute(
        &format!(
            "INSERT INTO {schema}.license_events (at, event, datname, detail, run, number)
             SELECT now(), $1::jsonb ->> 'event', current_database(), $1::jsonb - 'event',
                    coalesce($2::uuid, gen_random_uuid()), coalesce($3::bigint, 0)"
        ),
        &[Argument::Text(Some(payload)), run, number],
    )?;
    Ok(())
}

/// Notes a try to renew a license, made at this moment by this role, unless it was noted before.
///
/// # Errors
///
/// If the table can't be written now.
pub fn note_renewal(
    writer: &TableAccess,
    schema: &str,
    (at, by): (&str, Option<&str>),
    detail: &str,
    [run, number]: Key,
) -> Result<(), ReadError> {
    let statement = format!(
        "INSERT INTO {schema}.license_events (at, event, usename, datname, detail, run, number)
         SELECT $1::timestamptz, 'renewal', $2, current_database(), jsonb_strip_nulls($3::jsonb),
                coalesce($4::uuid, gen_random_uuid()), coalesce($5::bigint, 0)
          WHERE NOT EXISTS (
                SELECT FROM {schema}.license_events
                 WHERE at = $1::timestamptz AND event = 'renewal'
                   AND detail ->> 'license_id' = $3::jsonb ->> 'license_id')"
    );
    let arguments = [
        Argument::Text(Some(at)),
        Argument::Text(by),
        Argument::Text(Some(detail)),
        run,
        number,
    ];
    writer.execute(&statement, &arguments)?;
    Ok(())
}

/// Notifies those who listen on `pg_seats` in this database.
///
/// # Errors
///
/// If they can't be notified now.
pub fn notify(writer: &TableAccess, payload: &str) -> Result<(), ReadError> {
    writer.execute(
        "SELECT pg_notify('pg_seats', $1)",
        &[Argument::Text(Some(payload))],
    )?;
    Ok(())
}
