//! Roles, databases and privileges, as the system catalogs have them.
#![allow(unsafe_code, reason = "looks things up in PostgreSQL's catalog caches")]

use std::ffi::{CStr, CString, c_char, c_int};

use pgrx::pg_sys;

use super::encoding::{decode_lossy, encode};
use crate::ledger::identity::Name;
use crate::ledger::rules::Facts;
use crate::ledger::session::Session;

/// What the catalogs say of a session. Only within a transaction.
pub struct Catalog;

impl Facts for Catalog {
    fn is_member(&mut self, role: u32, group: &Name) -> bool {
        let Some(group) = CString::new(encode(group.as_str())).ok() else {
            return false;
        };
        // SAFETY: a zero-terminated name; a role that does not exist is no error.
        unsafe {
            let group = pg_sys::get_role_oid(group.as_ptr(), true);
            group != pg_sys::InvalidOid
                && pg_sys::is_member_of_role_nosuper(pg_sys::Oid::from(role), group)
        }
    }

    fn is_superuser(&mut self, role: u32) -> bool {
        // SAFETY: a catalog look-up; a role that does not exist is none.
        unsafe { pg_sys::superuser_arg(pg_sys::Oid::from(role)) }
    }

    fn is_like(&mut self, session: &Session, pattern: &str) -> bool {
        is_like(&encode(session.application_name.as_str()), &encode(pattern))
    }
}

/// PostgreSQL's own LIKE, of text in the database's encoding.
fn is_like(text: &[u8], pattern: &[u8]) -> bool {
    // SAFETY: copies the bytes into text values and compares them, as the operator does.
    unsafe {
        let value = |bytes: &[u8]| {
            let len = bytes.len() as c_int;
            pg_sys::Datum::from(pg_sys::cstring_to_text_with_len(bytes.as_ptr().cast(), len))
        };
        let collation = pg_sys::Oid::from(C_COLLATION);
        let like = pg_sys::Oid::from(pg_sys::F_TEXTLIKE);
        pg_sys::OidFunctionCall2Coll(like, collation, value(text), value(pattern)).value() != 0
    }
}

/// The OID of the collation "C", fixed in PostgreSQL's catalogs.
const C_COLLATION: u32 = 950;

/// The database's name, or empty when it is gone.
pub fn database_name(database: u32) -> String {
    // SAFETY: a catalog look-up within a transaction.
    text(unsafe { pg_sys::get_database_name(pg_sys::Oid::from(database)) })
}

/// The role's name, or empty when it is gone.
pub fn role_name(role: u32) -> String {
    // SAFETY: a catalog look-up within a transaction.
    text(unsafe { pg_sys::GetUserNameFromId(pg_sys::Oid::from(role), true) })
}

/// The databases that can be connected to. Within a transaction; needs no database of its own.
pub fn connectable_databases() -> Vec<u32> {
    // A limit of -2 marks what an interrupted DROP DATABASE left.
    databases_that(|row| row.datallowconn && row.datconnlimit != -2)
}

/// All databases. Within a transaction.
pub fn databases() -> Vec<u32> {
    databases_that(|_| true)
}

fn databases_that(are: fn(&pg_sys::FormData_pg_database) -> bool) -> Vec<u32> {
    let mut databases = Vec::new();
    // SAFETY: scans a shared catalog, as the autovacuum launcher does.
    unsafe {
        let relation =
            pg_sys::table_open(pg_sys::DatabaseRelationId, pg_sys::AccessShareLock as i32);
        let scan = pg_sys::table_beginscan_catalog(relation, 0, std::ptr::null_mut());
        loop {
            let tuple = pg_sys::heap_getnext(scan, pg_sys::ScanDirection::ForwardScanDirection);
            if tuple.is_null() {
                break;
            }
            let row = pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_database>();
            if are(&*row) {
                databases.push((*row).oid.to_u32());
            }
        }
        ((*(*scan).rs_rd).rd_tableam.as_ref())
            .and_then(|access| access.scan_end)
            .inspect(|end| end(scan));
        pg_sys::table_close(relation, pg_sys::AccessShareLock as i32);
    }
    databases
}

/// The OID of our extension in this database, if it has one.
pub fn extension() -> Option<u32> {
    // SAFETY: a catalog look-up within a transaction.
    let oid = unsafe { pg_sys::get_extension_oid(c"pg_seats".as_ptr(), true) };
    (oid != pg_sys::InvalidOid).then(|| oid.to_u32())
}

/// The OID of the schema that our extension is in, if this database has it.
pub fn extension_schema() -> Option<u32> {
    let extension = pg_sys::Oid::from(extension()?);
    // SAFETY: a row of pg_extension, by its index on OIDs.
    unsafe {
        row_by_oid(
            pg_sys::ExtensionRelationId,
            pg_sys::Oid::from(pg_sys::ExtensionOidIndexId),
            pg_sys::Anum_pg_extension_oid,
            extension,
            std::ptr::null_mut(),
            |row: &pg_sys::FormData_pg_extension| row.extnamespace.to_u32(),
        )
    }
}

/// The schema that our extension is in, as SQL names it, if this database has it.
pub fn schema() -> Option<String> {
    let schema = pg_sys::Oid::from(extension_schema()?);
    // SAFETY: a catalog look-up within a transaction; the name ends in a zero byte.
    unsafe {
        let name = pg_sys::get_namespace_name(schema);
        (!name.is_null()).then(|| text(pg_sys::quote_identifier(name)))
    }
}

/// The function that a trigger calls, also where the trigger was created a moment ago.
pub fn function_of_trigger(trigger: pg_sys::Oid) -> Option<pg_sys::Oid> {
    // SAFETY: a row of pg_trigger, by its index on OIDs.
    unsafe {
        row_by_oid(
            pg_sys::TriggerRelationId,
            pg_sys::Oid::from(pg_sys::TriggerOidIndexId),
            pg_sys::Anum_pg_trigger_oid,
            trigger,
            &raw mut pg_sys::SnapshotSelfData,
            |row: &pg_sys::FormData_pg_trigger| row.tgfoid,
        )
    }
}

/// What `read` makes of the row of a catalog that has this OID. The caller names the catalog's index
/// on its column of OIDs, a snapshot or null for the present one, and the type of its rows.
unsafe fn row_by_oid<Form, R>(
    catalog: pg_sys::Oid,
    index: pg_sys::Oid,
    column: u32,
    oid: pg_sys::Oid,
    snapshot: pg_sys::Snapshot,
    read: impl FnOnce(&Form) -> R,
) -> Option<R> {
    let lock = pg_sys::AccessShareLock as i32;
    // SAFETY: scans the catalog in a transaction; the row is read before the scan ends.
    unsafe {
        let table = pg_sys::table_open(catalog, lock);
        let mut key = pg_sys::ScanKeyData::default();
        pg_sys::ScanKeyInit(
            &raw mut key,
            column as i16,
            pg_sys::BTEqualStrategyNumber as u16,
            pg_sys::Oid::from(pg_sys::F_OIDEQ),
            pg_sys::Datum::from(oid),
        );
        let scan = pg_sys::systable_beginscan(table, index, true, snapshot, 1, &raw mut key);
        let row = pg_sys::systable_getnext(scan);
        let found = (!row.is_null()).then(|| read(&*pg_sys::GETSTRUCT(row).cast::<Form>()));
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(table, lock);
        found
    }
}

/// The current user may see everybody's sessions: as for PostgreSQL's own statistics, or because it may
/// stop them.
pub fn sees_all_sessions() -> bool {
    // SAFETY: a catalog look-up within a transaction.
    let monitors = unsafe {
        let monitor = pg_sys::Oid::from(pg_sys::ROLE_PG_MONITOR);
        pg_sys::has_privs_of_role(pg_sys::GetUserId(), monitor)
    };
    monitors || may_terminate()
}

fn may_terminate() -> bool {
    let Some(schema) = extension_schema() else {
        return false;
    };
    let types = [pg_sys::UUIDOID, pg_sys::TEXTOID, pg_sys::INTERVALOID];
    // SAFETY: catalog look-ups within a transaction; a function that does not exist is no error.
    unsafe {
        let arguments = pg_sys::buildoidvector(types.as_ptr(), types.len() as c_int);
        let function = pg_sys::GetSysCacheOid(
            pg_sys::SysCacheIdentifier::PROCNAMEARGSNSP as c_int,
            pg_sys::Anum_pg_proc_oid as i16,
            pg_sys::Datum::from(c"license_terminate".as_ptr()),
            pg_sys::Datum::from(arguments),
            pg_sys::Datum::from(schema),
            pg_sys::Datum::from(0),
        );
        if function == pg_sys::InvalidOid {
            return false;
        }
        let has_privilege = pg_sys::Oid::from(pg_sys::F_HAS_FUNCTION_PRIVILEGE_OID_TEXT);
        let privilege = pg_sys::cstring_to_text(c"EXECUTE".as_ptr());
        pg_sys::OidFunctionCall2Coll(
            has_privilege,
            pg_sys::InvalidOid,
            pg_sys::Datum::from(function),
            pg_sys::Datum::from(privilege),
        )
        .value()
            != 0
    }
}

/// The current user has the privileges of a role.
pub fn has_privileges_of(role: u32) -> bool {
    // SAFETY: a catalog look-up within a transaction.
    unsafe { pg_sys::has_privs_of_role(pg_sys::GetUserId(), pg_sys::Oid::from(role)) }
}

/// A moment as PostgreSQL writes it, in the session's time zone.
pub fn timestamp_text(at: i64) -> String {
    // SAFETY: returns a static buffer, copied at once.
    text(unsafe { pg_sys::timestamptz_to_str(at) })
}

/// A moment in ISO 8601 and UTC, as PostgreSQL writes it in JSON.
pub fn timestamp_iso(at: i64) -> String {
    let mut buffer: [c_char; pg_sys::MAXDATELEN as usize + 1] = [0; _];
    let utc = 0;
    // SAFETY: the buffer is as large as PostgreSQL's own for this.
    text(unsafe {
        pg_sys::JsonEncodeDateTime(
            buffer.as_mut_ptr(),
            pg_sys::Datum::from(at),
            pg_sys::TIMESTAMPTZOID,
            &raw const utc,
        )
    })
}

fn text(cstring: *const std::ffi::c_char) -> String {
    if cstring.is_null() {
        return String::new();
    }
    // SAFETY: PostgreSQL's strings end in a zero byte.
    decode_lossy(unsafe { CStr::from_ptr(cstring) }.to_bytes()).into_owned()
}
