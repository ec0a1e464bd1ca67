//! Keeps out, for a time, those who were stopped. A bar in force has a row, so that it outlasts a crash. A database
//! worker writes and deletes the rows, since ROLLBACK undoes neither stopping a session nor lifting a bar. Deleting a
//! row by hand lifts the bar, too.

use std::cell::Cell;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::core::ledger::bar::Bar;
use crate::core::ledger::numbers::{DatabaseOid, RoleOid};
use crate::core::ledger::table::Table;
use crate::memory;
use crate::pg::table::{self, ReadError, TableAccess, log_failure, write_alone, write_as_part};
use crate::pg::{backend, catalog};
use crate::tables::bars as rows;

thread_local! {
    static IS_STORING: Cell<bool> = const { Cell::new(false) };
}

/// Tells whether bars of a database are yet to be written.
pub fn are_unstored(database: DatabaseOid) -> bool {
    !memory::read(|ledger| ledger.bars_are_stored(database))
}

/// Tells whether this process is writing bars, whose acts are already in the audit trail.
pub fn are_being_stored() -> bool {
    IS_STORING.get()
}

/// Writes the bars of this worker's database that are yet to be written, and deletes those that are over. It must be
/// called outside a transaction.
pub fn store(database: DatabaseOid, patience: Duration) {
    memory::write(|ledger| ledger.end_bars(backend::now()));
    let bars: Vec<Bar> = memory::collect(
        |ledger| ledger.bars.len(),
        |ledger, find| ledger.each_unstored_bar(database, |bar| find(*bar)),
    );
    if bars.is_empty() {
        return;
    }
    IS_STORING.set(true);
    let written = write_alone(patience, |writer| write(writer, &bars));
    IS_STORING.set(false);
    let ids: Vec<i64> = bars.iter().map(|bar| bar.id).collect();
    match written {
        Ok(()) => {
            let lifted = bars.iter().filter(|bar| bar.lifted).map(|bar| bar.id);
            let lifted: Vec<i64> = lifted.collect();
            memory::write(|ledger| ledger.bars_stored(database, &ids, &lifted));
        }
        Err(error) => {
            if !memory::write(|ledger| ledger.could_not_store_bars(database, &ids)) {
                return;
            }
            log_failure(
                "write license_bars of",
                database,
                &error,
                "; trying again every second",
            );
        }
    }
}

fn write(writer: &TableAccess, bars: &[Bar]) -> Result<(), ReadError> {
    let Some(schema) = catalog::schema() else {
        return Ok(());
    };
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let rows: Vec<Value> = bars
        .iter()
        .filter(|bar| !bar.lifted && !bar.stored)
        .filter_map(|bar| {
            let product = memory::read(|ledger| {
                let tally = ledger.tallies.get(&bar.tally());
                tally.map(|tally| tally.product())
            })?;
            Some(json!({
                "bar_id": bar.id,
                "product": product.as_str(),
                "bar_by": bar.whom.by.word(),
                "usesysid": (bar.whom.role != RoleOid::NONE).then_some(bar.whom.role),
                "client_user": given(bar.whom.client_user.as_str()),
                "client_host": bar.whom.client_host(),
                "barred_until": catalog::timestamp_iso(bar.until),
                "barred_at": catalog::timestamp_iso(bar.since),
                "barred_by": given(bar.barred_by.as_str()),
                "reason": given(bar.reason.as_str()),
            }))
        })
        .collect();
    let rows = Value::Array(rows).to_string();
    let lifted = bars.iter().filter(|bar| bar.lifted).map(|bar| bar.id);
    rows::write(writer, &schema, &rows, &lifted.collect::<Vec<_>>())
}

/// Deletes the row of a bar that binds nobody for want of room, in the caller's transaction; false if there is none.
pub fn delete(id: i64) -> Result<bool, ReadError> {
    write_as_part(backend::lock_timeout(), |writer| {
        rows::delete(writer, &table::schema()?, id)
    })
}

/// Waits until the row of a bar that was lifted is deleted; false at the deadline.
pub fn await_gone(id: i64, deadline: Instant) -> bool {
    loop {
        if memory::read(|ledger| ledger.is_bar_gone(id)) {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        backend::wait_for_wake(Duration::from_millis(5));
    }
}

/// Waits until every bar of a database has its row; false at the deadline, and at once on a standby, which can't write
/// one.
pub fn await_stored(database: DatabaseOid, deadline: Instant) -> bool {
    loop {
        if !are_unstored(database) {
            return true;
        }
        if Instant::now() >= deadline || backend::in_recovery() {
            return false;
        }
        backend::wait_for_wake(Duration::from_millis(5));
    }
}
