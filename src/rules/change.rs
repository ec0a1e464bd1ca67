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
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pgrx::{pg_sys, prelude::*};

use super::{pools, room};
use crate::core::ledger::visit::Unsettled;
use crate::ending::bars;
use crate::lease::transaction as lease;
use crate::login::{self, exit};
use crate::pg::error::{PgSqlErrorCode, Report, quoted};
use crate::pg::{backend, catalog, nobody};
use crate::{events, memory};

/// This transaction has changed the tables, or created or dropped databases.
static PENDING: AtomicBool = AtomicBool::new(false);
/// The ledger knows that this transaction is about to commit a change.
static BEGUN: AtomicBool = AtomicBool::new(false);
/// What others can't know of that change: an [`Unsettled`].
static UNSETTLED: AtomicU8 = AtomicU8::new(Unsettled::Nothing as u8);
/// The databases that this transaction created or dropped.
static DATABASES: Mutex<Vec<(u32, bool)>> = Mutex::new(Vec::new());

thread_local! {
    static PREVIOUS_HOOK: Cell<pg_sys::object_access_hook_type> = const { Cell::new(None) };
}

/// This transaction has changed the tables, or created or dropped databases, and not yet ended.
pub fn is_pending() -> bool {
    PENDING.load(Relaxed)
}

/// Tells PostgreSQL how the function below is called.
#[unsafe(no_mangle)]
pub extern "C" fn pg_finfo_license_tables_changed_wrapper() -> &'static pg_sys::Pg_finfo_record {
    const VERSION_1: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
    &VERSION_1
}

/// `license_tables_changed()`, called for every changed row of the license tables, and for TRUNCATE. Takes note, also in the
/// audit trail, and never refuses a row of ours. Raises 39P01 where it is called otherwise than by a trigger of
/// the extension's tables: of what others have there is nothing to tell.
#[pg_guard]
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn license_tables_changed_wrapper(
    fcinfo: pg_sys::FunctionCallInfo,
) -> pg_sys::Datum {
    // SAFETY: the call as PostgreSQL makes it; what it says of a trigger lasts as long.
    let trigger = unsafe { fcinfo.as_ref().map(|call| PgTrigger::from_fcinfo(call)) };
    let Some(Ok(trigger)) = trigger else {
        refuse_call("license_tables_changed() was not called by a trigger".to_owned())
    };
    let data = trigger.trigger_data();
    // SAFETY: the table whose trigger is running.
    let table = unsafe { (*data.tg_relation).rd_id };
    if !catalog::belongs_to_extension(pg_sys::RelationRelationId, table) {
        refuse_call(format!(
            "license_tables_changed() is not for table {}",
            quoted(trigger.table_name().unwrap_or_default())
        ))
    }
    if is_one_of_ours(&trigger) {
        PENDING.store(true, Relaxed);
        if matches!(trigger.op(), Ok(PgTriggerOperation::Insert)) {
            room::note_added();
        }
        unsettle(if may_join(&trigger) {
            Unsettled::Pools
        } else {
            Unsettled::Counts
        });
        events::change::tell(&trigger);
    }
    // What comes of an AFTER trigger is ignored; one that somebody made to run before changes nothing.
    let row = if data.tg_newtuple.is_null() {
        data.tg_trigtuple
    } else {
        data.tg_newtuple
    };
    pg_sys::Datum::from(row)
}

fn refuse_call(message: String) -> ! {
    Report::new(
        PgSqlErrorCode::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
        message,
    )
    .hint("The tables of pg_seats came with their triggers.")
    .raise()
}

/// True for our own triggers. Any other one of our tables has nothing to tell.
fn is_one_of_ours(trigger: &PgTrigger) -> bool {
    let is_after = matches!(trigger.when(), Ok(PgTriggerWhen::After));
    let is_truncate = matches!(trigger.op(), Ok(PgTriggerOperation::Truncate));
    is_after
        && match (trigger.name(), trigger.level()) {
            (Ok("license_change"), PgTriggerLevel::Row) => true,
            (Ok("license_truncate"), PgTriggerLevel::Statement) => is_truncate,
            _ => false,
        }
}

/// This transaction brings what others can't know until it has been read.
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

/// Whether a changed row may put its database into a pool: one of `licenses` with a pool, or whatever is signed.
fn may_join(trigger: &PgTrigger) -> bool {
    let is_signed = match trigger.table_name().as_deref() {
        Ok("licenses") => false,
        Ok("license_keys") => true,
        _ => return false,
    };
    // SAFETY: what PostgreSQL passed to the trigger that is running; reads whether a column is null.
    unsafe {
        let data = trigger.trigger_data();
        let row = match trigger.op() {
            Ok(PgTriggerOperation::Insert) => data.tg_trigtuple,
            Ok(PgTriggerOperation::Update) => data.tg_newtuple,
            _ => return false,
        };
        let columns = (*data.tg_relation).rd_att;
        let pool = pg_sys::SPI_fnumber(columns, c"pool".as_ptr());
        if is_signed || pool <= 0 {
            return true;
        }
        let mut is_null = false;
        pg_sys::SPI_getbinval(row, columns, pool, &raw mut is_null);
        !is_null
    }
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
    // Who inherits from a table is altered, not the table.
    let table = if class == INHERITS && access == pg_sys::ObjectAccessType::OAT_POST_ALTER {
        // SAFETY: what goes with this kind of access.
        unsafe { argument.cast::<pg_sys::ObjectAccessPostAlter>().as_ref() }
            .map_or(object, |alter| alter.auxiliary_id)
    } else {
        object
    };
    note_access(access, class, table);
}

/// The OID of pg_inherits.
const INHERITS: pg_sys::Oid = pg_sys::Oid::from_u32(2611);

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
    if nobody::is_acting() && access != OAT_TRUNCATE {
        // It would outlast the operation, and belong to a role that does not exist: no dump can be made of that.
        Report::new(
            PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
            "cannot create, alter or drop anything as nobody",
        )
        .hint("What hangs on a table of pg_seats runs with the rights of PUBLIC, and leaves nothing behind.")
        .raise();
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
        unsettle(Unsettled::Pools);
    }
}

/// True for our extension, its tables, what hangs on them, its functions, and its triggers, on whatever table. That the
/// extension is created is noticed by the triggers that it brings.
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

#[pg_guard]
unsafe extern "C-unwind" fn on_transaction(event: pg_sys::XactEvent::Type, _argument: *mut c_void) {
    use pg_sys::XactEvent::{
        XACT_EVENT_ABORT, XACT_EVENT_COMMIT, XACT_EVENT_PRE_COMMIT, XACT_EVENT_PRE_PREPARE,
        XACT_EVENT_PREPARE,
    };
    match event {
        XACT_EVENT_PRE_COMMIT => {
            login::at_pre_commit();
            exit::at_pre_commit();
            lease::at_pre_commit();
            if PENDING.load(Relaxed) {
                if !bars::are_being_stored() {
                    room::warn();
                }
                BEGUN.store(true, Relaxed);
                let unsettled = unsettled();
                memory::write(|ledger| ledger.change_begins(backend::database(), unsettled));
                if unsettled != Unsettled::Nothing {
                    // What is remembered on disk of pools must not know of a change that a crash takes back.
                    // SAFETY: sets a flag of the transaction that is about to commit.
                    unsafe { pg_sys::ForceSyncCommit() };
                }
                if unsettled == Unsettled::Pools {
                    pools::outdate();
                }
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
    let unsettled = unsettled();
    UNSETTLED.store(Unsettled::Nothing as u8, Relaxed);
    room::forget_added();
    let databases = std::mem::take(&mut *databases());
    if !BEGUN.swap(false, Relaxed) {
        // Rolled back before the ledger knew of it.
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
