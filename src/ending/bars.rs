//! Who can't come back for a time: the table `license_bars`, so that it outlasts a crash. Rows are
//! written by a visitor, since stopping a session is not undone by ROLLBACK; whoever deletes one lifts
//! the bar.

use std::cell::Cell;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::ledger::bar::{Bar, StoredBar};
use crate::ledger::identity::{FullName, Name};
use crate::ledger::table::Table;
use crate::memory;
use crate::pg::table::{Argument, ReadError, Reader, damaged, log_failure, write_alone};
use crate::pg::{backend, catalog};

thread_local! {
    static IS_STORING: Cell<bool> = const { Cell::new(false) };
}

/// The bars of this database that are in force. Those of a database that was its template are that one's.
pub fn read(reader: &Reader, schema: &str) -> Result<Vec<StoredBar>, ReadError> {
    reader.query(
        &format!(
            "SELECT product, usesysid::oid::bigint, client_host, workstation, client_user,
                    barred_until::timestamptz
               FROM ONLY {schema}.license_bars
              WHERE datid = {}::oid AND barred_until > now()",
            backend::database()
        ),
        |row| {
            let text = |column| Ok(row.text(column)?.unwrap_or_default());
            let too_long = || damaged("a name of license_bars is too long");
            let role = row.number(2).unwrap_or(0) as u32;
            let whom = FullName::of_columns(role, [&text(3)?, &text(4)?, &text(5)?]);
            Ok(StoredBar {
                product: Name::new(text(1)?).ok_or_else(too_long)?,
                whom: whom.ok_or_else(too_long)?,
                until: row.number(6).unwrap_or(0),
            })
        },
    )
}

/// True where some are to be written for a database.
pub fn are_unstored(database: u32) -> bool {
    memory::read(|ledger| ledger.bars_are_stored(database)) == Some(false)
}

/// True while this process writes what administrators have done: the audit trail has that already.
pub fn are_being_stored() -> bool {
    IS_STORING.get()
}

/// Writes what is to be written for this visitor's database, and deletes what is over. Outside a
/// transaction.
pub fn store(database: u32, patience: Duration) {
    memory::write(|ledger| ledger.end_bars(backend::now()));
    let mut bars: Vec<Bar> =
        Vec::with_capacity(memory::read(|ledger| ledger.bars.len()).unwrap_or(0));
    memory::read(|ledger| {
        ledger.each_unstored_bar(database, |bar| {
            if bars.len() < bars.capacity() {
                bars.push(*bar);
            }
        });
    });
    if bars.is_empty() {
        return;
    }
    IS_STORING.set(true);
    let written = write_alone(patience, |writer| write(writer, &bars));
    IS_STORING.set(false);
    let numbers: Vec<u64> = bars.iter().map(|bar| bar.number).collect();
    match written {
        Ok(()) => {
            memory::write(|ledger| ledger.bars_stored(&numbers));
        }
        Err(error) => {
            if memory::write(|ledger| ledger.could_not_store_bars(&numbers)) != Some(true) {
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

fn write(writer: &Reader, bars: &[Bar]) -> Result<(), ReadError> {
    let Some(schema) = catalog::schema() else {
        return Ok(());
    };
    let rows: Vec<Value> = bars
        .iter()
        .filter_map(|bar| {
            let product = memory::read(|ledger| {
                let tally = ledger.tallies.get(&bar.tally);
                tally.map(|tally| tally.product())
            })??;
            let [client_host, workstation, client_user] = bar.whom.columns();
            let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            Some(json!({
                "product": product.as_str(),
                "usesysid": bar.whom.who.role,
                "client_host": client_host,
                "workstation": workstation,
                "client_user": given(&client_user),
                "barred_until": catalog::timestamp_iso(bar.until),
                "barred_by": catalog::role_name(bar.by),
                "reason": given(bar.reason.as_str()),
            }))
        })
        .collect();
    let rows = Value::Array(rows).to_string();
    writer.execute(
        &format!(
            "INSERT INTO {schema}.license_bars (datid, product, usesysid, client_host, workstation,
                    client_user, barred_until, barred_by, reason)
             SELECT {}::oid, product, usesysid, client_host, workstation, client_user, barred_until,
                    barred_by, reason
               FROM jsonb_to_recordset($1::jsonb)
                    AS (product text, usesysid oid, client_host text, workstation text,
                        client_user text, barred_until timestamptz, barred_by name, reason text)",
            backend::database()
        ),
        &[Argument::Text(Some(&rows))],
    )?;
    writer.execute(
        &format!("DELETE FROM {schema}.license_bars WHERE barred_until <= now()"),
        &[],
    )?;
    Ok(())
}

/// Waits until every bar of a database is a row; false at the deadline. On a standby none can be.
pub fn await_stored(database: u32, deadline: Instant) -> bool {
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
