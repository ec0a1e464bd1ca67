//! Roles, databases and privileges, as the system catalogs have them.
#![allow(unsafe_code, reason = "looks things up in PostgreSQL's catalog caches")]

use std::ffi::{CStr, CString, c_char, c_int};

use pgrx::pg_sys;

use super::backend;
use super::compat::{self, Membership};
use super::encoding::{decode_lossy, encode};
use crate::core::ledger::identity::Name;
use crate::core::ledger::numbers::{DatabaseOid, RoleOid};
use crate::core::ledger::roles::RoleIn;
use crate::core::ledger::rules::Facts;
use crate::core::ledger::session::Session;

/// The facts about a session in the catalogs. It may only be used in a transaction.
#[derive(Default)]
pub struct Catalog {
    /// The role and database that were asked about last, and the roles that it is a member of there.
    asked: Option<(RoleIn, Vec<RoleOid>)>,
}

impl Facts for Catalog {
    fn is_member(&mut self, role: RoleOid, database: DatabaseOid, group: &Name) -> bool {
        let Some(group) = CString::new(encode(group.as_str())).ok() else {
            return false;
        };
        // SAFETY: the name is zero-terminated, and a role that does not exist is no error.
        let group = unsafe { pg_sys::get_role_oid(group.as_ptr(), true) };
        if group == pg_sys::InvalidOid {
            return false;
        }
        let taker = (role, database);
        if self.asked.as_ref().is_none_or(|(asked, _)| *asked != taker) {
            self.asked = Some((taker, groups_of(taker)));
        }
        let groups = self.asked.as_ref().map(|(_, groups)| groups);
        groups.is_some_and(|groups| groups.contains(&group.into()))
    }

    fn is_superuser(&mut self, role: RoleOid) -> bool {
        // SAFETY: a catalog look-up; a role that does not exist is no superuser.
        unsafe { pg_sys::superuser_arg(pg_sys::Oid::from(role)) }
    }

    fn is_like(&mut self, session: &Session, pattern: &str) -> bool {
        is_like(&encode(session.application_name.as_str()), &encode(pattern))
    }
}

/// The OID of pg_database_owner, the role that stands for the owner of the current database, fixed in PostgreSQL's
/// catalogs.
const DATABASE_OWNER: RoleOid = RoleOid(6171);

/// Returns the role itself, and all roles that it is a member of by memberships that let it inherit a role's privileges
/// or become it. The owner of a database is a member of pg_database_owner there, and nowhere else.
fn groups_of((role, database): RoleIn) -> Vec<RoleOid> {
    let mut groups = vec![role];
    // SAFETY: catalog look-ups in a transaction.
    let owner = unsafe { owner_of(database) };
    let mut next = 0;
    while let Some(&member) = groups.get(next) {
        next += 1;
        let mut add = |group: RoleOid| {
            if !groups.contains(&group) {
                groups.push(group);
            }
        };
        if owner == Some(member) {
            add(DATABASE_OWNER);
        }
        // SAFETY: the list holds the rows of pg_auth_members of this member, and is released after the last was read.
        unsafe {
            let list = pg_sys::SearchSysCacheList(
                pg_sys::SysCacheIdentifier::AUTHMEMMEMROLE as c_int,
                1,
                pg_sys::Datum::from(pg_sys::Oid::from(member)),
                pg_sys::Datum::from(0),
                pg_sys::Datum::from(0),
            );
            let count = usize::try_from((*list).n_members).unwrap_or(0);
            let members = (*list).members.as_ptr();
            for at in 0..count {
                let tuple = &raw mut (**members.add(at)).tuple;
                let row = pg_sys::GETSTRUCT(tuple).cast::<Membership>();
                if (*row).counts() {
                    add((*row).roleid.into());
                }
            }
            pg_sys::ReleaseCatCacheList(list);
        }
    }
    groups
}

/// Returns the owner of a database.
unsafe fn owner_of(database: DatabaseOid) -> Option<RoleOid> {
    // SAFETY: the row of pg_database is released after what is needed of it was copied.
    unsafe {
        let row = pg_sys::SearchSysCache1(
            pg_sys::SysCacheIdentifier::DATABASEOID as c_int,
            pg_sys::Datum::from(pg_sys::Oid::from(database)),
        );
        if row.is_null() {
            return None;
        }
        let owner = (*pg_sys::GETSTRUCT(row).cast::<pg_sys::FormData_pg_database>()).datdba;
        pg_sys::ReleaseSysCache(row);
        Some(owner.into())
    }
}

/// Tells whether a text is LIKE a pattern, by PostgreSQL's own operator, in the database's encoding.
fn is_like(text: &[u8], pattern: &[u8]) -> bool {
    // SAFETY: copies the bytes into values of type text and calls the operator's function with them.
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

/// Returns the database's name, or an empty text if it is gone.
pub fn database_name(database: DatabaseOid) -> String {
    // SAFETY: a catalog look-up in a transaction.
    text(unsafe { pg_sys::get_database_name(pg_sys::Oid::from(database)) })
}

/// Returns the role's name, or an empty text if it is gone.
pub fn role_name(role: RoleOid) -> String {
    // SAFETY: a catalog look-up in a transaction.
    text(unsafe { pg_sys::GetUserNameFromId(pg_sys::Oid::from(role), true) })
}

/// Returns the databases that can be connected to. It must be called in a transaction; it needs no database of its own.
pub fn connectable_databases() -> Vec<DatabaseOid> {
    // A limit of -2 marks what an interrupted DROP DATABASE left.
    databases_that(|row| row.datallowconn && row.datconnlimit != -2)
}

/// Returns all databases. It must be called in a transaction.
pub fn databases() -> Vec<DatabaseOid> {
    databases_that(|_| true)
}

fn databases_that(are: fn(&pg_sys::FormData_pg_database) -> bool) -> Vec<DatabaseOid> {
    let mut databases = Vec::new();
    // SAFETY: scans a shared catalog in a transaction, as the autovacuum launcher does, and reads each row before the
    // next is fetched.
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
                databases.push((*row).oid.into());
            }
        }
        ((*(*scan).rs_rd).rd_tableam.as_ref())
            .and_then(|access| access.scan_end)
            .inspect(|end| end(scan));
        pg_sys::table_close(relation, pg_sys::AccessShareLock as i32);
    }
    databases
}

/// Returns the OID of the extension in this database, if it has it.
pub fn extension() -> Option<u32> {
    // SAFETY: a catalog look-up in a transaction.
    let oid = unsafe { pg_sys::get_extension_oid(c"pg_seats".as_ptr(), true) };
    (oid != pg_sys::InvalidOid).then(|| oid.to_u32())
}

/// Returns the OID of the schema that the extension is in, if this database has it.
pub fn extension_schema() -> Option<u32> {
    let extension = pg_sys::Oid::from(extension()?);
    // SAFETY: reads a row of pg_extension, by its index on OIDs, as its own type.
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

/// Returns the schema that the extension is in, as SQL names it, if this database has it.
pub fn schema() -> Option<String> {
    let schema = pg_sys::Oid::from(extension_schema()?);
    // SAFETY: catalog look-ups in a transaction; the name is zero-terminated.
    unsafe {
        let name = pg_sys::get_namespace_name(schema);
        (!name.is_null()).then(|| text(pg_sys::quote_identifier(name)))
    }
}

/// Returns what the function `license_origin()` in this schema returns, if it belongs to the extension. It is read from
/// the function's body, so that nobody's code is run.
pub fn origin(schema: u32) -> Option<[u8; 16]> {
    let extension = extension()?;
    let procedure = pg_sys::SysCacheIdentifier::PROCNAMEARGSNSP as c_int;
    // SAFETY: catalog look-ups in a transaction; the row is released after what is needed of it was copied.
    let body = unsafe {
        let no_arguments = pg_sys::buildoidvector(std::ptr::null(), 0);
        let row = pg_sys::SearchSysCache3(
            procedure,
            pg_sys::Datum::from(c"license_origin".as_ptr()),
            pg_sys::Datum::from(no_arguments),
            pg_sys::Datum::from(pg_sys::Oid::from(schema)),
        );
        if row.is_null() {
            return None;
        }
        let function = (*pg_sys::GETSTRUCT(row).cast::<pg_sys::FormData_pg_proc>()).oid;
        let is_ours = pg_sys::getExtensionOfObject(pg_sys::ProcedureRelationId, function)
            == pg_sys::Oid::from(extension);
        let mut null = false;
        let column = pg_sys::Anum_pg_proc_prosrc as i16;
        let body = pg_sys::SysCacheGetAttr(procedure, row, column, &raw mut null);
        let body = (is_ours && !null).then(|| {
            let body = pg_sys::text_to_cstring(body.cast_mut_ptr());
            decode_lossy(CStr::from_ptr(body).to_bytes()).into_owned()
        });
        pg_sys::ReleaseSysCache(row);
        body?
    };
    uuid_of(
        body.strip_prefix("SELECT '")?
            .strip_suffix("'::pg_catalog.uuid")?,
    )
}

/// Returns the bytes of a UUID as PostgreSQL writes it.
fn uuid_of(text: &str) -> Option<[u8; 16]> {
    let digits = text.replace('-', "");
    let is_one = digits.len() == 32;
    let uuid = u128::from_str_radix(&digits, 16).ok().filter(|_| is_one)?;
    Some(uuid.to_be_bytes())
}

/// Returns the owner of the schema that the extension is in, if this database has it.
pub fn schema_owner() -> Option<pg_sys::Oid> {
    let schema = pg_sys::Oid::from(extension_schema()?);
    // SAFETY: the row of pg_namespace in PostgreSQL's cache is released after what is needed of it was copied.
    unsafe {
        let row = pg_sys::SearchSysCache1(
            pg_sys::SysCacheIdentifier::NAMESPACEOID as c_int,
            pg_sys::Datum::from(schema),
        );
        if row.is_null() {
            return None;
        }
        let owner = (*pg_sys::GETSTRUCT(row).cast::<pg_sys::FormData_pg_namespace>()).nspowner;
        pg_sys::ReleaseSysCache(row);
        Some(owner)
    }
}

/// Tells whether a role may use a schema.
pub fn may_use_schema(role: pg_sys::Oid, schema: pg_sys::Oid) -> bool {
    let usage = pg_sys::AclMode::from(pg_sys::ACL_USAGE);
    // SAFETY: a catalog look-up in a transaction.
    unsafe { compat::schema_aclcheck(schema, role, usage) }
}

/// Tells whether an object belongs to the extension.
pub fn belongs_to_extension(class: pg_sys::Oid, object: pg_sys::Oid) -> bool {
    // SAFETY: catalog look-ups in a transaction.
    unsafe {
        let extension = pg_sys::get_extension_oid(c"pg_seats".as_ptr(), true);
        extension != pg_sys::InvalidOid && pg_sys::getExtensionOfObject(class, object) == extension
    }
}

/// Returns the function that a trigger calls, even if the trigger was created a moment ago.
pub fn function_of_trigger(trigger: pg_sys::Oid) -> Option<pg_sys::Oid> {
    // SAFETY: reads a row of pg_trigger, by its index on OIDs, as its own type.
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

/// The catalogs of what can be attached to a table: the catalog, the index on its OIDs, and the column that names the
/// table.
const HANGING: [(u32, u32, &CStr); 6] = [
    // pg_trigger, pg_rewrite, pg_policy, pg_constraint, pg_attrdef; and indexes, which are relations.
    (2620, 2702, c"tgrelid"),
    (2618, 2692, c"ev_class"),
    (3256, 3257, c"polrelid"),
    (2606, 2667, c"conrelid"),
    (2604, 2657, c"adrelid"),
    (2610, 2679, c"indrelid"),
];

/// Returns the table to which this trigger, rule, policy, constraint, default or index is attached, even if it was
/// created a moment ago; `None` for anything else.
pub fn table_under(class: pg_sys::Oid, object: pg_sys::Oid) -> Option<pg_sys::Oid> {
    let catalog = if class == pg_sys::RelationRelationId {
        pg_sys::IndexRelationId
    } else {
        class
    };
    let mut hanging = HANGING.iter();
    let (_, index, column) = hanging.find(|(known, ..)| *known == catalog.to_u32())?;
    // SAFETY: reads a row of the catalog by the index on its first column, the OID.
    let table = unsafe {
        row_by_key(
            catalog,
            pg_sys::Oid::from(*index),
            1,
            object,
            &raw mut pg_sys::SnapshotSelfData,
            |row, columns| {
                let mut null = false;
                let column = pg_sys::SPI_fnumber(columns, column.as_ptr());
                let table = pg_sys::SPI_getbinval(row, columns, column, &raw mut null);
                pg_sys::Oid::from(table.value() as u32)
            },
        )
    };
    table.filter(|table| *table != pg_sys::InvalidOid)
}

/// Returns what `read` makes of the row of a catalog that has this OID. The caller names the catalog's index on its
/// column of OIDs, a snapshot or null for the present one, and the type of its rows.
unsafe fn row_by_oid<Form, R>(
    catalog: pg_sys::Oid,
    index: pg_sys::Oid,
    column: u32,
    oid: pg_sys::Oid,
    snapshot: pg_sys::Snapshot,
    read: impl FnOnce(&Form) -> R,
) -> Option<R> {
    // SAFETY: the caller names the type of the rows; every row begins with its fixed columns.
    unsafe {
        row_by_key(catalog, index, column, oid, snapshot, |row, _| {
            read(&*pg_sys::GETSTRUCT(row).cast::<Form>())
        })
    }
}

/// Does the same with the row as it is stored, and its description.
unsafe fn row_by_key<R>(
    catalog: pg_sys::Oid,
    index: pg_sys::Oid,
    column: u32,
    oid: pg_sys::Oid,
    snapshot: pg_sys::Snapshot,
    read: impl FnOnce(pg_sys::HeapTuple, pg_sys::TupleDesc) -> R,
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
        let found = (!row.is_null()).then(|| read(row, (*table).rd_att));
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(table, lock);
        found
    }
}

/// Tells whether the current user may see everybody's sessions: as for PostgreSQL's own statistics, or because it may
/// stop them.
pub fn sees_all_sessions() -> bool {
    monitors() || may_terminate()
}

/// Tells whether the current user may see why renewals fail, in the command's own words: because it monitors the
/// server, or may renew by hand.
pub fn sees_renewals() -> bool {
    monitors() || may_execute(c"license_renew", &[pg_sys::TEXTOID])
}

fn monitors() -> bool {
    // SAFETY: a catalog look-up in a transaction.
    unsafe {
        let monitor = pg_sys::Oid::from(pg_sys::ROLE_PG_MONITOR);
        pg_sys::has_privs_of_role(pg_sys::GetUserId(), monitor)
    }
}

/// Tells whether the current user may stop sessions, and so bar their users.
pub fn may_terminate() -> bool {
    use pg_sys::{INTERVALOID, TEXTOID, UUIDOID};
    may_execute(
        c"license_terminate",
        &[UUIDOID, TEXTOID, INTERVALOID, TEXTOID],
    )
}

/// Tells whether the current user may take seats for an application's users.
pub fn may_lease() -> bool {
    use pg_sys::{INTERVALOID, TEXTOID};
    let types = [TEXTOID, TEXTOID, TEXTOID, INTERVALOID, INTERVALOID];
    may_execute(c"license_lease", &types)
}

/// Tells whether the current user may execute the extension's function of this name and with these arguments.
fn may_execute(name: &CStr, types: &[pg_sys::Oid]) -> bool {
    let Some(schema) = extension_schema() else {
        return false;
    };
    // SAFETY: catalog look-ups in a transaction; a function that does not exist is no error.
    unsafe {
        let arguments = pg_sys::buildoidvector(types.as_ptr(), types.len() as c_int);
        let function = pg_sys::GetSysCacheOid(
            pg_sys::SysCacheIdentifier::PROCNAMEARGSNSP as c_int,
            pg_sys::Anum_pg_proc_oid as i16,
            pg_sys::Datum::from(name.as_ptr()),
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

/// Tells whether the current user has the privileges of a role.
pub fn has_privileges_of(role: RoleOid) -> bool {
    // SAFETY: a catalog look-up in a transaction.
    unsafe { pg_sys::has_privs_of_role(pg_sys::GetUserId(), pg_sys::Oid::from(role)) }
}

/// Returns a function that tells whether the current user is a role, or a member of it as an exemption would judge; a
/// superuser is a member of all roles.
pub fn own_roles() -> impl Fn(RoleOid) -> bool {
    // SAFETY: catalog look-ups in a transaction.
    let (user, is_superuser) = unsafe { (pg_sys::GetUserId().into(), pg_sys::superuser()) };
    let groups = groups_of((user, backend::database()));
    move |role| is_superuser || groups.contains(&role)
}

/// Returns a moment as PostgreSQL writes it, in the session's time zone.
pub fn timestamp_text(at: i64) -> String {
    // SAFETY: the call returns a static buffer, which is copied at once.
    text(unsafe { pg_sys::timestamptz_to_str(at) })
}

/// Returns a moment in ISO 8601 and UTC, as PostgreSQL writes it in JSON.
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
    // SAFETY: PostgreSQL's strings are zero-terminated.
    decode_lossy(unsafe { CStr::from_ptr(cstring) }.to_bytes()).into_owned()
}

/// Returns the schema of the function that is being called.
pub fn schema_of_function(fcinfo: pg_sys::FunctionCallInfo) -> u32 {
    // SAFETY: PostgreSQL passes a valid call to the function.
    unsafe { pg_sys::get_func_namespace((*(*fcinfo).flinfo).fn_oid) }.to_u32()
}
