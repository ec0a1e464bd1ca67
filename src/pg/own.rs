//! The extension's tables, checked to be what they were created as: whoever owns one, or the schema, may have put
//! something else in its place.
#![allow(unsafe_code, reason = "opens tables, and reads PostgreSQL's caches")]

use std::ffi::{CStr, CString, c_int};

use pgrx::pg_sys;

use super::catalog;
use super::encoding::{decode_lossy, encode};
use super::error::{PgSqlErrorCode, quoted};
use super::read_error::{ReadError, damaged};

/// The columns of a table: name and type.
type Columns = &'static [(&'static CStr, pg_sys::Oid)];

/// The tables as sql/ creates them. The code that reads their rows relies on these types.
const TABLES: [(&CStr, Columns); 9] = {
    use pg_sys::{
        BOOLOID as BOOL, INT4OID as INT4, INT8OID as INT8, INTERVALOID as INTERVAL,
        JSONBOID as JSONB, NAMEOID as NAME, OIDOID as OID, TEXTOID as TEXT,
        TIMESTAMPTZOID as TIMESTAMPTZ, UUIDOID as UUID,
    };
    [
        (
            c"licenses",
            &[
                (c"product", TEXT),
                (c"seats", INT4),
                (c"purchased", INT4),
                (c"counted_by", TEXT),
                (c"claimed_at", TEXT),
                (c"application_name", TEXT),
                (c"pool", TEXT),
                (c"enforcement", TEXT),
                (c"overdraft", INT4),
                (c"linger", INTERVAL),
                (c"idle_timeout", INTERVAL),
                (c"reclaim_idle_after", INTERVAL),
                (c"max_per_user", INT4),
                (c"warn_at_percent", INT4),
                (c"valid_from", TIMESTAMPTZ),
                (c"valid_until", TIMESTAMPTZ),
                (c"grace", INTERVAL),
            ],
        ),
        (
            c"license_exemptions",
            &[
                (c"kind", TEXT),
                (c"value", TEXT),
                (c"note", TEXT),
                (c"added_at", TIMESTAMPTZ),
            ],
        ),
        (
            c"license_reservations",
            &[
                (c"product", TEXT),
                (c"role", TEXT),
                (c"reserved", INT4),
                (c"max_seats", INT4),
                (c"shared", BOOL),
            ],
        ),
        (
            c"license_keys",
            &[
                (c"license_id", TEXT),
                (c"token", TEXT),
                (c"installed_at", TIMESTAMPTZ),
                (c"installed_by", NAME),
                (c"uninstalled_at", TIMESTAMPTZ),
            ],
        ),
        (
            c"license_allotments",
            &[
                (c"allotment_id", TEXT),
                (c"license_id", TEXT),
                (c"product", TEXT),
                (c"seats", INT4),
                (c"installation", TEXT),
                (c"allotted_at", TIMESTAMPTZ),
                (c"allotted_by", NAME),
                (c"valid_until", TIMESTAMPTZ),
                (c"returned_at", TIMESTAMPTZ),
                (c"token", TEXT),
            ],
        ),
        (
            c"license_bars",
            &[
                (c"origin", UUID),
                (c"datid", OID),
                (c"bar_id", INT8),
                (c"product", TEXT),
                (c"bar_by", TEXT),
                (c"usesysid", OID),
                (c"client_user", TEXT),
                (c"client_host", TEXT),
                (c"barred_until", TIMESTAMPTZ),
                (c"barred_at", TIMESTAMPTZ),
                (c"barred_by", NAME),
                (c"reason", TEXT),
            ],
        ),
        (
            c"license_leases",
            &[
                (c"origin", UUID),
                (c"datid", OID),
                (c"lease_id", UUID),
                (c"usesysid", OID),
                (c"taken_by", OID),
                (c"product", TEXT),
                (c"client_user", TEXT),
                (c"client_host", TEXT),
                (c"ttl", INTERVAL),
                (c"granted_at", TIMESTAMPTZ),
            ],
        ),
        (
            c"license_events",
            &[
                (c"at", TIMESTAMPTZ),
                (c"event", TEXT),
                (c"product", TEXT),
                (c"usename", NAME),
                (c"client_user", TEXT),
                (c"client_host", TEXT),
                (c"workstation", TEXT),
                (c"datname", NAME),
                (c"detail", JSONB),
                (c"run", UUID),
                (c"number", INT8),
            ],
        ),
        (
            c"license_counts",
            &[
                (c"origin", UUID),
                (c"datid", OID),
                (c"product", TEXT),
                (c"high_water", INT8),
                (c"high_water_at", TIMESTAMPTZ),
                (c"denied", INT8),
                (c"counted_since", TIMESTAMPTZ),
            ],
        ),
    ]
};

/// A table of the extension, locked until the transaction ends, and open until this is dropped.
pub struct Own {
    relation: pg_sys::Relation,
}

impl Own {
    /// Locks and opens the table of this name. Returns an error if it is not the extension's, if a column of the
    /// extension has another type by now, or if it is no longer a plain table with PostgreSQL's own types: otherwise
    /// even analysing a statement, before anything is executed, would run whatever somebody has put under it. A missing
    /// column is left to the statement that names it.
    pub fn open(schema: u32, name: &CStr, lock: u32) -> Result<Own, ReadError> {
        let schema = pg_sys::Oid::from(schema);
        let lock = lock as c_int;
        // SAFETY: catalog look-ups and a lock in a transaction; an error releases the lock.
        unsafe {
            let mut table = pg_sys::get_relname_relid(name.as_ptr(), schema);
            loop {
                if table == pg_sys::InvalidOid {
                    return Err(missing(schema, name));
                }
                pg_sys::LockRelationOid(table, lock);
                // Somebody may have given the name to another table meanwhile.
                let present = pg_sys::get_relname_relid(name.as_ptr(), schema);
                if present == table {
                    break;
                }
                pg_sys::UnlockRelationOid(table, lock);
                table = present;
            }
            let own = Own {
                relation: pg_sys::relation_open(table, pg_sys::NoLock as c_int),
            };
            own.check(name)?;
            Ok(own)
        }
    }

    fn check(&self, name: &CStr) -> Result<(), ReadError> {
        let refused = |why: &str| {
            let name = decode_lossy(name.to_bytes());
            Err(damaged(&format!(
                "table {} is interfered with: {why}",
                quoted(name)
            )))
        };
        // SAFETY: the relation is open.
        let (form, columns) = unsafe {
            let relation = &*self.relation;
            (&*relation.rd_rel, relation.rd_att)
        };
        if form.relkind as u8 != pg_sys::RELKIND_RELATION {
            return refused("it is no table");
        }
        if !catalog::belongs_to_extension(pg_sys::RelationRelationId, self.oid()) {
            return refused("it does not belong to the extension");
        }
        if form.relam != pg_sys::HEAP_TABLE_AM_OID
            || form.relpersistence as u8 != pg_sys::RELPERSISTENCE_PERMANENT
        {
            return refused("it is stored otherwise than it was made");
        }
        let Some((_, made)) = TABLES.iter().find(|(table, _)| *table == name) else {
            return refused("it is none that is known");
        };
        // SAFETY: the description of an open table; a column that was dropped has no type, and no name of the
        // extension's.
        unsafe {
            for column in 1..=(*columns).natts {
                let of_type = pg_sys::SPI_gettypeid(columns, column);
                let column = CStr::from_ptr(pg_sys::SPI_fname(columns, column));
                let is_other = match made.iter().find(|(ours, _)| *ours == column) {
                    Some((_, made)) => of_type != *made,
                    None => of_type.to_u32() >= pg_sys::FirstUnpinnedObjectId,
                };
                if is_other {
                    return refused(&format!(
                        "column {} has another type",
                        quoted(decode_lossy(column.to_bytes()))
                    ));
                }
            }
        }
        Ok(())
    }

    /// Returns the table.
    pub fn relation(&self) -> pg_sys::Relation {
        self.relation
    }

    /// Returns its OID.
    pub fn oid(&self) -> pg_sys::Oid {
        // SAFETY: the relation is open.
        unsafe { (*self.relation).rd_id }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // After an error, the end of the transaction or subtransaction closes it.
        if !std::thread::panicking() {
            // SAFETY: the relation has been open since `open`; the lock is kept until the transaction ends.
            unsafe { pg_sys::relation_close(self.relation, pg_sys::NoLock as c_int) };
        }
    }
}

/// Locks, until the transaction ends, those of these tables of the extension's schema for which it need not wait, and
/// returns their OIDs.
pub fn lock_if_free<'a>(names: impl Iterator<Item = &'a str>) -> Vec<u32> {
    let Some(schema) = catalog::extension_schema().map(pg_sys::Oid::from) else {
        return Vec::new();
    };
    let mut names: Vec<&str> = names.collect();
    names.dedup();
    let mut tables: Vec<u32> = names
        .into_iter()
        .filter_map(|name| {
            let name = CString::new(name).ok()?;
            // SAFETY: a look-up by a zero-terminated name.
            let table = unsafe { pg_sys::get_relname_relid(name.as_ptr(), schema) };
            (table != pg_sys::InvalidOid).then_some(table.to_u32())
        })
        .collect();
    tables.retain(|&table| {
        let lock = pg_sys::AccessShareLock as c_int;
        // SAFETY: the lock that a reader takes, in a transaction; the call does not wait for it.
        unsafe { pg_sys::ConditionalLockRelationOid(pg_sys::Oid::from(table), lock) }
    });
    tables
}

/// Locks and opens a table of the extension, in whatever schema the extension is.
pub fn open(name: &str, lock: u32) -> Result<Own, ReadError> {
    let name = CString::new(encode(name)).map_err(|_| damaged("a name holds a zero byte"))?;
    let schema = catalog::extension_schema()
        .ok_or_else(|| damaged("the extension's schema can't be read"))?;
    Own::open(schema, &name, lock)
}

fn missing(schema: pg_sys::Oid, name: &CStr) -> ReadError {
    // SAFETY: a catalog look-up; the name of a schema that is gone is null.
    let schema = unsafe {
        let schema = pg_sys::get_namespace_name(schema);
        (!schema.is_null()).then(|| decode_lossy(CStr::from_ptr(schema).to_bytes()))
    };
    let name = decode_lossy(name.to_bytes());
    let full = match schema {
        Some(schema) => format!("{schema}.{name}"),
        None => name.into_owned(),
    };
    ReadError {
        code: PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE,
        message: format!("relation {} does not exist", quoted(full)),
    }
}
