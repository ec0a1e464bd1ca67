//! What PostgreSQL tells a trigger.
#![allow(unsafe_code, reason = "reads rows")]

use pgrx::pg_sys;
use pgrx::prelude::*;
use serde_json::{Map, Value};

use super::table::Row;

/// The columns of a row.
type Columns = Map<String, Value>;

/// The row before and after. They are made into text by PostgreSQL's own functions alone: by a cast to json of
/// somebody else's it would be his code that runs, whose rights soever.
pub fn rows_of(trigger: &PgTrigger) -> (Option<Columns>, Option<Columns>) {
    // SAFETY: what PostgreSQL passed to the trigger that is running: each row is of the table.
    let columns_of = |row: pg_sys::HeapTuple| unsafe {
        let columns = (*trigger.trigger_data().tg_relation).rd_att;
        let mut columns = (!row.is_null()).then(|| Row::of(row, columns).to_json())?;
        // The row's own moment, which the trail has anyway.
        columns.remove("added_at");
        Some(columns)
    };
    let data = trigger.trigger_data();
    match trigger.op() {
        Ok(PgTriggerOperation::Insert) => (None, columns_of(data.tg_trigtuple)),
        Ok(PgTriggerOperation::Update) => {
            (columns_of(data.tg_trigtuple), columns_of(data.tg_newtuple))
        }
        Ok(PgTriggerOperation::Delete) => (columns_of(data.tg_trigtuple), None),
        _ => (None, None),
    }
}
