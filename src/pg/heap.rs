//! Inserts and deletes rows of one of the extension's tables by its key, without a plan, a trigger, a rule or a policy,
//! in the current transaction, whoever's it is. What its CHECKs and indexes compute runs as [nobody](super::nobody).
//!
//! [Statements](super::statement) can't do that for leases: a transaction with an older snapshot must release what came
//! since, an error must reach the caller as PostgreSQL raised it, and a lease must cost no more than a row of one's own.
//! Only `license_leases`, which applications write in their own transactions, needs it.
#![allow(unsafe_code, reason = "calls PostgreSQL's table and index access")]

use std::ffi::{CStr, c_int};
use std::ptr;

use pgrx::pg_sys;

use super::compat;
use super::encoding::encode;
use super::error::{PgSqlErrorCode, Report};
use super::nobody::{Acting, Settings};
use super::own::Own;

/// A value of a row.
#[derive(Clone, Copy)]
pub enum Value<'a> {
    /// A UUID.
    Uuid([u8; 16]),
    /// An OID.
    Oid(pg_sys::Oid),
    /// A text.
    Text(&'a str),
    /// An interval.
    Microseconds(i64),
    /// A moment.
    Timestamp(i64),
}

/// The outcome of deleting a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deletion {
    /// The row is deleted if the transaction commits.
    Deleted,
    /// There is no such row.
    Gone,
    /// Another transaction has locked it, and was not waited for.
    Locked,
}

/// A table whose first columns are its primary key. It is locked until the transaction ends.
pub struct Heap {
    own: Own,
}

impl Heap {
    /// Opens a table of a schema for writing; `None` if there is none. Raises an error if it is not what it was created
    /// as.
    pub fn open(schema: u32, name: &CStr) -> Option<Heap> {
        let own = match Own::open(schema, name, pg_sys::RowExclusiveLock) {
            Ok(own) => own,
            Err(error) if error.code == PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE => return None,
            Err(error) => refuse(error.message),
        };
        Some(Heap { own })
    }

    /// Inserts a row. Raises an error if the table has other columns, or if a constraint or an index of it does.
    pub fn insert(&self, values: &[Value]) {
        let _nobody = Acting::as_nobody();
        let _settings = Settings::kept();
        let relation = self.own.relation();
        // SAFETY: there are as many values as the table has columns, each of its column's type. The executor's parts
        // are used as for inserting rows of logical replication, and closed in the reverse order.
        unsafe {
            let columns = (*relation).rd_att;
            if (*columns).natts as usize != values.len() || !begins_with(columns, values) {
                refuse_columns();
            }
            let state = pg_sys::CreateExecutorState();
            let before = pg_sys::MemoryContextSwitchTo((*state).es_query_cxt);
            let target =
                pg_sys::palloc0(size_of::<pg_sys::ResultRelInfo>()).cast::<pg_sys::ResultRelInfo>();
            pg_sys::InitResultRelInfo(target, relation, 0, ptr::null_mut(), 0);
            pg_sys::ExecOpenIndices(target, false);
            let slot = pg_sys::table_slot_create(relation, ptr::null_mut());
            for (at, value) in values.iter().enumerate() {
                *(*slot).tts_values.add(at) = value.datum();
                *(*slot).tts_isnull.add(at) = false;
            }
            pg_sys::ExecStoreVirtualTuple(slot);
            if !(*columns).constr.is_null() {
                pg_sys::ExecConstraints(target, slot, state);
            }
            pg_sys::simple_table_tuple_insert(relation, slot);
            if (*target).ri_NumIndices > 0 {
                // Somebody else may have created some, and their expressions compute keys.
                compat::insert_index_tuples(target, slot, state);
            }
            pg_sys::ExecCloseIndices(target);
            pg_sys::ExecDropSingleTupleTableSlot(slot);
            pg_sys::MemoryContextSwitchTo(before);
            pg_sys::FreeExecutorState(state);
            pg_sys::CommandCounterIncrement();
        }
    }

    /// Deletes the row with this key, as it is committed now, even in a transaction that sees the tables as they were.
    /// `waits` tells whether to wait for another transaction that has locked it.
    pub fn delete(&self, key: &[Value; 3], waits: bool) -> Deletion {
        use pg_sys::TM_Result as Found;
        loop {
            match self.try_delete(key, waits) {
                Some(Found::TM_Ok) => return Deletion::Deleted,
                Some(Found::TM_BeingModified) => return Deletion::Locked,
                // There is a newer version of it.
                Some(Found::TM_Updated) => {
                    pgrx::check_for_interrupts!();
                }
                _ => return Deletion::Gone,
            }
        }
    }

    fn try_delete(&self, key: &[Value; 3], waits: bool) -> Option<pg_sys::TM_Result::Type> {
        // SAFETY: scans the table by columns of the key's types, and ends the scan. An error ends the transaction, or
        // the subtransaction, which also ends the scan.
        unsafe {
            let mut by_key = [pg_sys::ScanKeyData::default(); 3];
            for ((column, part), value) in (1..).zip(&mut by_key).zip(key) {
                pg_sys::ScanKeyInit(
                    part,
                    column,
                    pg_sys::BTEqualStrategyNumber as u16,
                    pg_sys::Oid::from(value.equality()),
                    value.datum(),
                );
            }
            let relation = self.own.relation();
            if !begins_with((*relation).rd_att, key) {
                refuse_columns();
            }
            let index = index_by(relation, key);
            let snapshot = pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot());
            let scan = pg_sys::systable_beginscan(
                relation,
                index,
                index != pg_sys::InvalidOid,
                snapshot,
                by_key.len() as c_int,
                by_key.as_mut_ptr(),
            );
            let row = pg_sys::systable_getnext(scan);
            let result = (!row.is_null()).then(|| {
                let mut failure = pg_sys::TM_FailureData::default();
                pg_sys::heap_delete(
                    relation,
                    &raw mut (*row).t_self,
                    pg_sys::GetCurrentCommandId(true),
                    ptr::null_mut(),
                    waits,
                    &raw mut failure,
                    false,
                )
            });
            pg_sys::systable_endscan(scan);
            pg_sys::UnregisterSnapshot(snapshot);
            pg_sys::CommandCounterIncrement();
            result
        }
    }
}

fn refuse(message: String) -> ! {
    Report::new(PgSqlErrorCode::ERRCODE_DATA_CORRUPTED, message)
        .hint("Undo what was done to it, or create the extension anew.")
        .raise()
}

fn refuse_columns() -> ! {
    refuse("a table of pg_seats has other columns than it was made with".to_owned())
}

/// Tells whether the first columns have these values' types, because a function that compares them relies on that.
unsafe fn begins_with(columns: pg_sys::TupleDesc, values: &[Value]) -> bool {
    (1..).zip(values).all(|(number, value)| {
        // SAFETY: the description of an open table; a column that does not exist has no type.
        unsafe { pg_sys::SPI_gettypeid(columns, number) == value.type_oid() }
    })
}

/// Returns the index of the primary key, by whatever name, if it finds rows by their first columns; else no OID, and
/// the table itself is searched. Whoever owned the table may have given it another key.
unsafe fn index_by(table: pg_sys::Relation, key: &[Value]) -> pg_sys::Oid {
    // SAFETY: an index of an open, locked table; the arrays in its description have as many elements as it has keys.
    unsafe {
        let oid = compat::primary_key(table);
        if oid == pg_sys::InvalidOid {
            return oid;
        }
        let index = pg_sys::index_open(oid, pg_sys::AccessShareLock as c_int);
        let form = &*(*index).rd_index;
        let is_suitable = (*(*index).rd_rel).relam == pg_sys::BTREE_AM_OID
            && form.indisvalid
            && form.indimmediate
            && !form.indisexclusion
            && form.indnkeyatts as usize == key.len()
            && (0..).zip(key).all(|(at, value)| {
                let of_type = value.type_oid();
                let usual = pg_sys::GetDefaultOpClass(of_type, pg_sys::BTREE_AM_OID);
                let columns = form.indkey.values.as_ptr();
                usize::try_from(*columns.add(at)) == Ok(at + 1)
                    && *(*index).rd_opcintype.add(at) == of_type
                    && *(*index).rd_opfamily.add(at) == pg_sys::get_opclass_family(usual)
            });
        pg_sys::index_close(index, pg_sys::NoLock as c_int);
        if is_suitable { oid } else { pg_sys::InvalidOid }
    }
}

impl Value<'_> {
    fn type_oid(&self) -> pg_sys::Oid {
        match self {
            Value::Uuid(_) => pg_sys::UUIDOID,
            Value::Oid(_) => pg_sys::OIDOID,
            Value::Text(_) => pg_sys::TEXTOID,
            Value::Microseconds(_) => pg_sys::INTERVALOID,
            Value::Timestamp(_) => pg_sys::TIMESTAMPTZOID,
        }
    }

    /// Returns the function that tells whether two values of its type are equal.
    fn equality(&self) -> u32 {
        match self {
            Value::Uuid(_) => pg_sys::F_UUID_EQ,
            Value::Oid(_) => pg_sys::F_OIDEQ,
            Value::Text(_) => pg_sys::F_TEXTEQ,
            Value::Microseconds(_) => pg_sys::F_INTERVAL_EQ,
            Value::Timestamp(_) => pg_sys::F_TIMESTAMPTZ_EQ,
        }
    }

    fn datum(&self) -> pg_sys::Datum {
        // SAFETY: each datum is of the value's type, allocated in the current memory context.
        unsafe {
            match self {
                Value::Uuid(bytes) => {
                    let copy = pg_sys::palloc(bytes.len()).cast::<u8>();
                    ptr::copy_nonoverlapping(bytes.as_ptr(), copy, bytes.len());
                    pg_sys::Datum::from(copy)
                }
                Value::Oid(oid) => pg_sys::Datum::from(*oid),
                Value::Text(text) => {
                    let text = encode(text);
                    let text =
                        pg_sys::cstring_to_text_with_len(text.as_ptr().cast(), text.len() as c_int);
                    pg_sys::Datum::from(text)
                }
                Value::Microseconds(time) => {
                    let interval =
                        pg_sys::palloc0(size_of::<pg_sys::Interval>()).cast::<pg_sys::Interval>();
                    (*interval).time = *time;
                    pg_sys::Datum::from(interval)
                }
                Value::Timestamp(at) => pg_sys::Datum::from(*at),
            }
        }
    }
}
