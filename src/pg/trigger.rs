//! The rows that PostgreSQL passes to a trigger.
#![allow(unsafe_code, reason = "reads rows")]

use pgrx::pg_sys;
use pgrx::prelude::*;
use serde_json::{Map, Value};

use super::table::Row;

/// The columns of a row.
type Columns = Map<String, Value>;

/// Returns the row before and after the change. Only PostgreSQL's own functions make text of them: somebody else's cast
/// to json would run that person's code with the rights of whoever changes the row.
pub fn rows_of(trigger: &PgTrigger) -> (Option<Columns>, Option<Columns>) {
    // SAFETY: PostgreSQL passed the rows to the trigger that is running, and each row is of the table.
    let columns_of = |row: pg_sys::HeapTuple| unsafe {
        let columns = (*trigger.trigger_data().tg_relation).rd_att;
        let mut columns = (!row.is_null()).then(|| Row::of(row, columns).to_json())?;
        // The moment when the row was added, which the trail has anyway.
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
