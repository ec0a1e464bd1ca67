//! `license_leases`: what lasts of leases.

use std::time::Duration;

use crate::core::ledger::identity::{FullName, LeaseId, Name, Who};
use crate::core::ledger::numbers::RoleOid;
use crate::core::ledger::rules::StoredLease;
use crate::core::ledger::time::Timestamp;
use crate::pg::error::{PgSqlErrorCode, Report};
use crate::pg::heap::{Deletion, Heap, Value};
use crate::pg::table::{ReadError, Row, TableAccess, be_patient, damaged, origin};
use crate::pg::{backend, catalog};

/// The values of a lease's row beside the lease's own id.
pub struct LeaseRow<'a> {
    /// The product's name.
    pub product: &'a str,
    /// The application's own user.
    pub client_user: &'a str,
    /// The host as the application gave it.
    pub client_host: &'a str,
    /// How long it lasts after each heartbeat, in microseconds.
    pub ttl: Timestamp,
}

fn open(schema: u32) -> Option<Heap> {
    Heap::open(schema, c"license_leases")
}

/// Returns the first columns of the keys of this database's rows.
fn own(schema: u32) -> Option<[Value<'static>; 2]> {
    let origin = catalog::origin(schema)?;
    Some([Value::Uuid(origin), Value::Oid(backend::database().into())])
}

/// Writes a lease's row into the table of this schema, as sql/leases.sql defines it.
pub fn insert(schema: u32, id: LeaseId, row: &LeaseRow) {
    let missing = |code, what: &str| {
        Report::new(code, format!("{what} is missing"))
            .hint("Create the extension anew.")
            .raise()
    };
    let Some(table) = open(schema) else {
        missing(
            PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE,
            "table \"license_leases\"",
        )
    };
    let Some([origin, database]) = own(schema) else {
        missing(
            PgSqlErrorCode::ERRCODE_UNDEFINED_FUNCTION,
            "function license_origin()",
        )
    };
    table.insert(&[
        origin,
        database,
        Value::Uuid(id),
        Value::Oid(backend::role().into()),
        Value::Oid(backend::current_role().into()),
        Value::Text(row.product),
        Value::Text(row.client_user),
        Value::Text(row.client_host),
        Value::Microseconds(row.ttl),
        Value::Timestamp(backend::now()),
    ]);
}

/// Deletes a lease's row; false if it was gone.
pub fn delete(schema: u32, id: LeaseId) -> bool {
    let delete = |[origin, database]: [Value; 2]| {
        let table = open(schema)?;
        Some(table.delete(&[origin, database, Value::Uuid(id)], true))
    };
    own(schema).and_then(delete) == Some(Deletion::Deleted)
}

/// Deletes the rows of these leases, in a worker's own transaction, waiting for a lock on the table at most `patience`.
/// Returns those whose rows somebody has locked, which stay. Raises an error if nothing can be deleted.
pub fn delete_ended(ids: &[LeaseId], patience: Duration) -> Vec<LeaseId> {
    be_patient(patience);
    let schema = catalog::extension_schema();
    let Some((table, [origin, database])) = schema.and_then(open).zip(schema.and_then(own)) else {
        // The rows went with the extension.
        return Vec::new();
    };
    let delete = |id| table.delete(&[origin, database, Value::Uuid(id)], false);
    ids.iter()
        .copied()
        .filter(|id| delete(*id) == Deletion::Locked)
        .collect()
}

/// Reads the leases of this database. Rows that came from its template or from a publisher belong to that database.
pub fn read(reader: &TableAccess, schema: &str) -> Result<Vec<StoredLease>, ReadError> {
    let origin = origin()?;
    reader.query(
        &format!(
            "SELECT lease_id, product, usesysid::oid::bigint, client_user, client_host,
                    (extract(epoch FROM ttl) * 1000000)::bigint, taken_by::oid::bigint
               FROM ONLY {schema}.license_leases
              WHERE (origin, datid) = ('{origin}'::uuid, {}::oid)
              ORDER BY product",
            backend::database()
        ),
        stored,
    )
}

/// Returns the first column.
fn lease_id(row: &Row) -> Result<LeaseId, ReadError> {
    let digits = row.text(1)?.unwrap_or_default().replace('-', "");
    let id = u128::from_str_radix(&digits, 16).map_err(|_| damaged("a lease's id is no UUID"))?;
    Ok(id.to_be_bytes())
}

fn stored(row: &Row) -> Result<StoredLease, ReadError> {
    let text = |column| {
        row.text(column)?
            .ok_or_else(|| damaged("a value of license_leases is missing"))
    };
    let id = lease_id(row)?;
    let role = RoleOid(row.number(3).unwrap_or(0) as u32);
    let of_user = FullName::of_columns(role, [&text(5)?, "", &text(4)?])
        .ok_or_else(|| damaged("a name of license_leases is too long"))?;
    Ok(StoredLease {
        id,
        product: Name::new(text(2)?).ok_or_else(|| damaged("a lease's product is too long"))?,
        who: Who {
            workstation: of_user.host_name(),
            ..of_user.who
        },
        long_name: of_user.long_name(),
        ttl: row.number(6).unwrap_or(0).max(1),
        taken_by: RoleOid(row.number(7).unwrap_or(0) as u32),
    })
}

/// Reads the table's OID.
///
/// # Errors
///
/// If there is no such table.
pub fn oid(reader: &TableAccess, schema: &str) -> Result<u32, ReadError> {
    let oid = reader.query(
        &format!(
            "SELECT '{}.license_leases'::regclass::oid::bigint",
            schema.replace('\'', "''")
        ),
        |row| Ok(row.number(1).unwrap_or(0) as u32),
    )?;
    oid.first()
        .copied()
        .ok_or_else(|| damaged("license_leases is missing"))
}
