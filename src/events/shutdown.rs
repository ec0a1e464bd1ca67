//! What is counted in the last moment before the server stops: visitors write it no more, so it goes
//! from the ledger into a file, from which the next start has it. After a crash or an immediate shutdown
//! there is no such file.
#![allow(unsafe_code, reason = "the postmaster's callbacks are C")]

use std::ffi::c_int;
use std::fs;
use std::sync::{Mutex, PoisonError};

use pgrx::pg_sys;
use serde_json::{Value, json};

use crate::ledger::identity::Name;
use crate::ledger::rules::Counts;
use crate::ledger::table::Table;
use crate::memory;

/// In the data directory, where PostgreSQL keeps its own statistics.
const FILE: &str = "pg_stat/pg_seats.json";

/// What the last stop has left, with the OIDs of the databases; every backend inherits it.
static KEPT: Mutex<Vec<(u32, Counts)>> = Mutex::new(Vec::new());

/// Takes what the last stop has left, and sees to the next one. Called by the postmaster alone, at the
/// start and after a crash.
pub fn watch() {
    let kept = fs::read(FILE).ok().and_then(|text| parse(&text));
    // After a crash what was taken at the start is old.
    *KEPT.lock().unwrap_or_else(PoisonError::into_inner) = kept.unwrap_or_default();
    // What can't be removed could come back after a crash: numbers that were true once.
    let _ = fs::remove_file(FILE);
    // SAFETY: as every module does that keeps something at a stop; the processes that are forked from
    // this one do not inherit it.
    unsafe {
        if !pg_sys::IsUnderPostmaster {
            pg_sys::on_shmem_exit(Some(keep), pg_sys::Datum::from(0));
        }
    }
}

/// What the last stop has left of a database's counts.
pub fn kept(database: u32) -> Vec<Counts> {
    let kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let of_database = kept.iter().filter(|(oid, _)| *oid == database);
    of_database.map(|(_, counts)| *counts).collect()
}

/// Every other process has ended. Nothing here may fail.
unsafe extern "C-unwind" fn keep(code: c_int, _argument: pg_sys::Datum) {
    if code != 0 {
        return;
    }
    let counts = memory::read_last(|ledger| {
        let is_counted = |database| ledger.databases.get(&database).is_some_and(|d| d.counted);
        let mut counts = KEPT.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // Of who was not counted since the start that is still the last word.
        counts.retain(|(database, _)| !is_counted(*database));
        ledger.licenses.each(|license| {
            let database = license.key.database;
            let tally = ledger.tallies.get(&license.tally);
            if let Some(tally) = tally.filter(|_| is_counted(database)) {
                let of_license = Counts {
                    product: license.product,
                    high_water: tally.high_water,
                    high_water_at: tally.high_water_at,
                    denied: license.denied,
                    counted_since: license.counted_since,
                };
                counts.push((database, of_license));
            }
        });
        counts
    });
    let rows = counts.iter().flatten().map(|(database, counts)| {
        json!([
            database,
            counts.product.as_str(),
            counts.high_water,
            counts.high_water_at,
            counts.denied,
            counts.counted_since,
        ])
    });
    let rows: Vec<Value> = rows.collect();
    if !rows.is_empty() {
        let _ = fs::write(FILE, Value::Array(rows).to_string());
    }
}

fn parse(text: &[u8]) -> Option<Vec<(u32, Counts)>> {
    let rows: Vec<(u32, String, i64, i64, u64, i64)> = serde_json::from_slice(text).ok()?;
    let counts = rows.into_iter().filter_map(
        |(database, product, high_water, high_water_at, denied, counted_since)| {
            let counts = Counts {
                product: Name::new(product)?,
                high_water,
                high_water_at,
                denied,
                counted_since,
            };
            Some((database, counts))
        },
    );
    Some(counts.collect())
}
