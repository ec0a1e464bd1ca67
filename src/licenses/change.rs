//! Notices what changes the license tables, and says so in the ledger when it commits.
//!
//! What counts as a change: rows (ROW triggers, also for logical replication, and TRUNCATE), and
//! whatever happens to the tables themselves, their triggers or the extension (object access hook).
//! Databases that come and go are noticed too: a number may be used again.
#![allow(
    unsafe_code,
    reason = "hooks and callbacks are PostgreSQL's C interface"
)]

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pgrx::{pg_sys, prelude::*};

use crate::lease::transaction as lease;
use crate::pg::error::Report;
use crate::pg::{backend, catalog};
use crate::{events, login, memory};

/// This transaction has changed the tables, or created or dropped databases.
static PENDING: AtomicBool = AtomicBool::new(false);
/// The ledger knows that this transaction is about to commit a change.
static BEGUN: AtomicBool = AtomicBool::new(false);
/// The databases that this transaction created or dropped.
static DATABASES: Mutex<Vec<(u32, bool)>> = Mutex::new(Vec::new());

thread_local! {
    static PREVIOUS_HOOK: Cell<pg_sys::object_access_hook_type> = const { Cell::new(None) };
}

/// This transaction has changed the tables, or created or dropped databases, and not yet ended.
pub fn is_pending() -> bool {
    PENDING.load(Relaxed)
}

/// Called for every changed row of the license tables, and for TRUNCATE. Takes note, also in the audit
/// trail, and never refuses a row.
#[pg_trigger]
pub fn license_tables_changed<'a>(
    trigger: &'a PgTrigger<'a>,
) -> Result<Option<PgHeapTuple<'a, impl WhoAllocated>>, PgTriggerError> {
    PENDING.store(true, Relaxed);
    events::change::tell(trigger);
    // The result of an AFTER trigger is ignored; TRUNCATE has no row.
    Ok(trigger.new().or_else(|| trigger.old()))
}

/// Installs the hook and the callback, in the postmaster.
pub fn install() {
    // SAFETY: called once from _PG_init, while the library is preloaded.
    unsafe {
        PREVIOUS_HOOK.set(pg_sys::object_access_hook);
        pg_sys::object_access_hook = Some(on_object_access);
        pg_sys::RegisterXactCallback(Some(on_transaction), std::ptr::null_mut());
        pg_sys::RegisterSubXactCallback(Some(on_subtransaction), std::ptr::null_mut());
    }
}

unsafe extern "C-unwind" fn on_object_access(
    access: pg_sys::ObjectAccessType::Type,
    class: pg_sys::Oid,
    object: pg_sys::Oid,
    sub: c_int,
    argument: *mut c_void,
) {
    if let Some(previous) = PREVIOUS_HOOK.get() {
        // SAFETY: the hook that was there before, with the arguments that we were given. Its error
        // passes through this frame, which holds nothing, and arrives whole.
        unsafe { previous(access, class, object, sub, argument) };
    }
    note_access(access, class, object);
}

#[pg_guard]
extern "C-unwind" fn note_access(
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
    if class == pg_sys::DatabaseRelationId {
        if access == OAT_POST_CREATE {
            // Whatever is known of this number is of a database that is gone.
            memory::write(|ledger| ledger.forget(object.to_u32(), backend::now()));
        }
        if matches!(access, OAT_DROP | OAT_POST_CREATE) {
            let database = (object.to_u32(), access == OAT_POST_CREATE);
            databases().push(database);
            PENDING.store(true, Relaxed);
        }
    } else if concerns_us(access, class, object) {
        PENDING.store(true, Relaxed);
    }
}

/// True for our extension, its tables, and its triggers, on whatever table. That the extension is created is
/// noticed by the triggers that it brings.
fn concerns_us(
    access: pg_sys::ObjectAccessType::Type,
    class: pg_sys::Oid,
    object: pg_sys::Oid,
) -> bool {
    match class {
        pg_sys::RelationRelationId => {
            access != pg_sys::ObjectAccessType::OAT_POST_CREATE
                && is_ours(pg_sys::RelationRelationId, object)
        }
        pg_sys::TriggerRelationId => catalog::function_of_trigger(object)
            .is_some_and(|function| is_ours(pg_sys::ProcedureRelationId, function)),
        pg_sys::ExtensionRelationId => catalog::extension() == Some(object.to_u32()),
        _ => false,
    }
}

/// True for an object that belongs to our extension.
fn is_ours(class: pg_sys::Oid, object: pg_sys::Oid) -> bool {
    // SAFETY: catalog look-ups in a transaction.
    unsafe {
        let extension = pg_sys::get_extension_oid(c"pg_seats".as_ptr(), true);
        extension != pg_sys::InvalidOid && pg_sys::getExtensionOfObject(class, object) == extension
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_transaction(event: pg_sys::XactEvent::Type, _argument: *mut c_void) {
    use pg_sys::XactEvent::{
        XACT_EVENT_ABORT, XACT_EVENT_COMMIT, XACT_EVENT_PRE_COMMIT, XACT_EVENT_PRE_PREPARE,
        XACT_EVENT_PREPARE,
    };
    match event {
        XACT_EVENT_PRE_COMMIT => {
            login::at_pre_commit();
            if PENDING.load(Relaxed) {
                BEGUN.store(true, Relaxed);
                memory::write(|ledger| ledger.change_begins(backend::database()));
            }
        }
        XACT_EVENT_PRE_PREPARE if PENDING.load(Relaxed) => Report::new(
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            "cannot PREPARE a transaction that has changed licenses",
        )
        .hint("Commit it without PREPARE TRANSACTION.")
        .raise(),
        XACT_EVENT_PRE_PREPARE => lease::at_pre_prepare(),
        // It took and released nothing, or it could not have been prepared.
        XACT_EVENT_PREPARE => lease::at_end(true),
        XACT_EVENT_COMMIT => {
            end(true);
            lease::at_end(true);
        }
        XACT_EVENT_ABORT => {
            end(false);
            lease::at_end(false);
        }
        _ => {}
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_subtransaction(
    event: pg_sys::SubXactEvent::Type,
    part: pg_sys::SubTransactionId,
    around: pg_sys::SubTransactionId,
    _argument: *mut c_void,
) {
    use pg_sys::SubXactEvent::{SUBXACT_EVENT_ABORT_SUB, SUBXACT_EVENT_COMMIT_SUB};
    if matches!(event, SUBXACT_EVENT_COMMIT_SUB | SUBXACT_EVENT_ABORT_SUB) {
        lease::at_part_end(event == SUBXACT_EVENT_COMMIT_SUB, part, around);
    }
}

fn databases() -> MutexGuard<'static, Vec<(u32, bool)>> {
    DATABASES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn end(committed: bool) {
    if !PENDING.swap(false, Relaxed) {
        return;
    }
    let databases = std::mem::take(&mut *databases());
    if !BEGUN.swap(false, Relaxed) {
        // Rolled back before the ledger knew of it.
        return;
    }
    memory::write(|ledger| {
        ledger.change_ends(backend::database());
        if committed {
            for (database, created) in &databases {
                if *created {
                    ledger.generation(*database);
                } else {
                    ledger.forget(*database, backend::now());
                }
            }
        }
    });
    memory::wake_launcher();
}
