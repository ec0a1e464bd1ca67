//! Notices changes of the license tables, and reports them to the ledger when they commit.
//!
//! A change is any changed row (by ROW triggers, also under logical replication, and TRUNCATE), and anything that
//! happens to the tables themselves, their triggers or the extension (by the object access hook). Databases that are
//! created or dropped are noticed too, because an OID may be used again.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pgrx::pg_sys;

use super::{pools, room};
use crate::core::ledger::numbers::DatabaseOid;
use crate::core::ledger::visit::Unsettled;
use crate::ending::bars;
use crate::memory;
use crate::pg::error::{PgSqlErrorCode, Report};
use crate::pg::{backend, catalog, nobody};

/// Whether this transaction has changed the tables, or created or dropped databases.
static PENDING: AtomicBool = AtomicBool::new(false);
/// Whether the ledger knows that this transaction is about to commit a change.
static BEGUN: AtomicBool = AtomicBool::new(false);
/// What others can't know of that change, as an [`Unsettled`].
static UNSETTLED: AtomicU8 = AtomicU8::new(Unsettled::Nothing as u8);
/// The databases that this transaction created (true) or dropped (false).
static DATABASES: Mutex<Vec<(DatabaseOid, bool)>> = Mutex::new(Vec::new());

/// Tells whether the current transaction has changed the tables, or created or dropped databases.
pub fn is_pending() -> bool {
    PENDING.load(Relaxed)
}

/// Notes a changed row, and what it brings that others can't know until it has been read.
pub fn note_row(is_new: bool, may_join: bool) {
    PENDING.store(true, Relaxed);
    if is_new {
        room::note_added();
    }
    unsettle(if may_join {
        Unsettled::Pools
    } else {
        Unsettled::Counts
    });
}

/// Notes that this transaction brings something that others can't know until it has been read.
fn unsettle(what: Unsettled) {
    UNSETTLED.fetch_max(what as u8, Relaxed);
}

fn unsettled() -> Unsettled {
    let value = UNSETTLED.load(Relaxed);
    [Unsettled::Pools, Unsettled::Counts]
        .into_iter()
        .find(|unsettled| *unsettled as u8 == value)
        .unwrap_or(Unsettled::Nothing)
}

/// Notes an object that is created, altered, truncated or dropped.
pub fn note_access(
    access: pg_sys::ObjectAccessType::Type,
    class: pg_sys::Oid,
    object: pg_sys::Oid,
) {
    use pg_sys::ObjectAccessType::{OAT_DROP, OAT_POST_ALTER, OAT_POST_CREATE, OAT_TRUNCATE};
    if !matches!(
        access,
        OAT_DROP | OAT_POST_ALTER | OAT_POST_CREATE | OAT_TRUNCATE
    ) {
        return;
    }
    if nobody::is_acting() && access != OAT_TRUNCATE {
        // The object would outlast the operation and belong to a role that does not exist, which pg_dump can't dump.
        Report::new(
            PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
            "cannot create, alter or drop anything as nobody",
        )
        .hint("What hangs on a table of pg_seats runs with the rights of PUBLIC, and leaves nothing behind.")
        .raise();
    }
    if class == pg_sys::DatabaseRelationId {
        if access == OAT_POST_CREATE {
            // Whatever is known of this OID belongs to a database that is gone.
            memory::write(|ledger| ledger.forget(object.into(), backend::now()));
        }
        if matches!(access, OAT_DROP | OAT_POST_CREATE) {
            let database = (object.into(), access == OAT_POST_CREATE);
            databases().push(database);
            PENDING.store(true, Relaxed);
        }
    } else if concerns_us(access, class, object) {
        PENDING.store(true, Relaxed);
        unsettle(Unsettled::Pools);
    }
}

/// The OID of pg_inherits.
pub const INHERITS: pg_sys::Oid = pg_sys::Oid::from_u32(2611);

/// Tells whether the object is the extension, one of its tables or functions, something attached to such a table, or
/// one of its triggers on any table. The creation of the extension is noticed through the triggers that it brings.
fn concerns_us(
    access: pg_sys::ObjectAccessType::Type,
    class: pg_sys::Oid,
    object: pg_sys::Oid,
) -> bool {
    let is_our_table = |table| catalog::belongs_to_extension(pg_sys::RelationRelationId, table);
    if catalog::table_under(class, object).is_some_and(is_our_table) {
        return true;
    }
    match class {
        INHERITS => is_our_table(object),
        pg_sys::RelationRelationId => {
            access != pg_sys::ObjectAccessType::OAT_POST_CREATE && is_our_table(object)
        }
        pg_sys::TriggerRelationId => catalog::function_of_trigger(object).is_some_and(|function| {
            catalog::belongs_to_extension(pg_sys::ProcedureRelationId, function)
        }),
        pg_sys::ProcedureRelationId => catalog::belongs_to_extension(class, object),
        pg_sys::ExtensionRelationId => catalog::extension() == Some(object.to_u32()),
        _ => false,
    }
}

/// Notes that this transaction is about to commit.
pub fn at_pre_commit() {
    if !PENDING.load(Relaxed) {
        return;
    }
    if !bars::are_being_stored() {
        room::warn();
    }
    BEGUN.store(true, Relaxed);
    let unsettled = unsettled();
    memory::write(|ledger| ledger.change_begins(backend::database(), unsettled));
    if unsettled != Unsettled::Nothing {
        // The pools remembered on disk must not reflect a change that a crash undoes.
        backend::force_sync_commit();
    }
    if unsettled == Unsettled::Pools {
        pools::outdate();
    }
}

/// Refuses to prepare a transaction that has changed the tables, because nobody could tell when it ends.
pub fn at_pre_prepare() {
    if PENDING.load(Relaxed) {
        Report::new(
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            "cannot PREPARE a transaction that has changed licenses",
        )
        .hint("Commit it without PREPARE TRANSACTION.")
        .raise()
    }
}

fn databases() -> MutexGuard<'static, Vec<(DatabaseOid, bool)>> {
    DATABASES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes that this transaction has ended.
pub fn at_end(committed: bool) {
    if !PENDING.swap(false, Relaxed) {
        return;
    }
    let unsettled = unsettled();
    UNSETTLED.store(Unsettled::Nothing as u8, Relaxed);
    room::forget_added();
    let databases = std::mem::take(&mut *databases());
    if !BEGUN.swap(false, Relaxed) {
        // It was rolled back before the ledger knew of it.
        return;
    }
    memory::write(|ledger| {
        ledger.change_ends(backend::database(), unsettled);
        if committed {
            for (database, created) in &databases {
                if *created {
                    ledger.note_created(*database);
                } else {
                    ledger.forget(*database, backend::now());
                }
            }
        }
    });
    memory::wake_launcher();
}
