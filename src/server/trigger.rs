//! `license_tables_changed()`: the function of the triggers on the extension's tables.
#![allow(
    unsafe_code,
    reason = "a trigger's function is PostgreSQL's C interface"
)]

use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::events::change::tell;
use crate::pg::catalog;
use crate::pg::error::{PgSqlErrorCode, Report, quoted};
use crate::rules::change;

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
        let is_new = matches!(trigger.op(), Ok(PgTriggerOperation::Insert));
        change::note_row(is_new, may_join(&trigger));
        tell(&trigger);
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
