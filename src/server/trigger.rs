//! `license_tables_changed()`: the function of the triggers on the extension's tables.
#![allow(
    unsafe_code,
    reason = "a trigger's function is PostgreSQL's C interface"
)]

use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::events::change::write_change;
use crate::pg::catalog;
use crate::pg::error::{PgSqlErrorCode, Report, quoted};
use crate::rules::change;

/// Tells PostgreSQL the calling convention of the function below.
#[unsafe(no_mangle)]
pub extern "C" fn pg_finfo_license_tables_changed_wrapper() -> &'static pg_sys::Pg_finfo_record {
    const VERSION_1: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
    &VERSION_1
}

/// Notes a changed row of the license tables, or a TRUNCATE, for the rules and for the audit trail: the function
/// `license_tables_changed()`. It never refuses a row. It raises 39P01 unless a trigger on one of the extension's
/// tables calls it.
#[pg_guard]
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn license_tables_changed_wrapper(
    fcinfo: pg_sys::FunctionCallInfo,
) -> pg_sys::Datum {
    // SAFETY: PostgreSQL passes a valid call, and its trigger data outlives this function.
    let trigger = unsafe { fcinfo.as_ref().map(|call| PgTrigger::from_fcinfo(call)) };
    let Some(Ok(trigger)) = trigger else {
        refuse_call("license_tables_changed() was not called by a trigger".to_owned())
    };
    let data = trigger.trigger_data();
    // SAFETY: `tg_relation` is the open table whose trigger is running.
    let table = unsafe { (*data.tg_relation).rd_id };
    if !catalog::belongs_to_extension(pg_sys::RelationRelationId, table) {
        refuse_call(format!(
            "license_tables_changed() is not for table {}",
            quoted(trigger.table_name().unwrap_or_default())
        ))
    }
    if is_one_of_ours(&trigger) {
        let is_new = matches!(trigger.op(), Ok(PgTriggerOperation::Insert));
        change::note_row(is_new, may_join(&trigger));
        write_change(&trigger);
    }
    // PostgreSQL ignores the result of an AFTER trigger; returning the row keeps a BEFORE trigger that somebody else
    // created from changing anything.
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

/// Tells whether the trigger is one of the extension's own. Any other trigger on its tables is ignored.
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

/// Tells whether a changed row may put its database into a pool: a row of `licenses` with a pool, or any row of
/// `license_keys`.
fn may_join(trigger: &PgTrigger) -> bool {
    let is_signed = match trigger.table_name().as_deref() {
        Ok("licenses") => false,
        Ok("license_keys") => true,
        _ => return false,
    };
    // SAFETY: PostgreSQL passed the row and its table to the trigger that is running, and the column's number comes
    // from that table's descriptor.
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
