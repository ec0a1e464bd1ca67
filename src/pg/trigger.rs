//! The change that PostgreSQL passes to a trigger.
#![allow(unsafe_code, reason = "reads rows")]

use pgrx::pg_sys;
use pgrx::prelude::*;
use serde_json::{Map, Value};

use super::table::Row;

/// The columns of a row.
pub type Columns = Map<String, Value>;

/// A change of a table.
pub enum Change {
    /// This row was added.
    Added(Columns),
    /// A row was changed from this to that.
    Changed(Columns, Columns),
    /// This row was removed.
    Removed(Columns),
    /// All rows were removed at once.
    Truncated,
}

impl Change {
    /// Returns the change for which a trigger runs. Only PostgreSQL's own functions make text of its rows: somebody
    /// else's cast to json would run that person's code with the rights of whoever changes the row.
    pub fn of(trigger: &PgTrigger) -> Change {
        if matches!(trigger.level(), PgTriggerLevel::Statement) {
            // The extension has no other trigger for statements.
            return Change::Truncated;
        }
        // SAFETY: PostgreSQL passes the rows to a trigger for rows, and each row is of the table.
        let columns_of = |row: pg_sys::HeapTuple| unsafe {
            let columns = (*trigger.trigger_data().tg_relation).rd_att;
            let mut columns = Row::of(row, columns).to_json();
            // The moment when the row was added, which the trail has anyway.
            columns.remove("added_at");
            columns
        };
        let data = trigger.trigger_data();
        match trigger.op() {
            Ok(PgTriggerOperation::Insert) => Change::Added(columns_of(data.tg_trigtuple)),
            Ok(PgTriggerOperation::Update) => {
                Change::Changed(columns_of(data.tg_trigtuple), columns_of(data.tg_newtuple))
            }
            Ok(PgTriggerOperation::Delete) => Change::Removed(columns_of(data.tg_trigtuple)),
            Ok(PgTriggerOperation::Truncate) | Err(_) => Change::Truncated,
        }
    }

    /// Returns the row before the change.
    pub fn before(&self) -> Option<&Columns> {
        match self {
            Change::Changed(old, _) | Change::Removed(old) => Some(old),
            Change::Added(_) | Change::Truncated => None,
        }
    }

    /// Returns the row after the change.
    pub fn after(&self) -> Option<&Columns> {
        match self {
            Change::Added(new) | Change::Changed(_, new) => Some(new),
            Change::Removed(_) | Change::Truncated => None,
        }
    }
}
