//! Keeps what is left when the server stops: counts, and events that the audit trails do not have yet.

use std::fs;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use crate::core::ledger::database::Database;
use crate::core::ledger::identity::Name;
use crate::core::ledger::numbers::DatabaseOid;
use crate::core::ledger::rules::Counts;

/// In the data directory, where PostgreSQL keeps its own statistics.
const FILE: &str = "pg_stat/pg_seats.json";

/// Files in the data directory that tell that the server starts with what another one has written: what this one has
/// left is older than that.
const SIGNALS: [&str; 2] = ["standby.signal", "recovery.signal"];

/// The events that a database's audit trail does not have yet.
#[derive(Clone, Default)]
pub struct Trail {
    /// Rows of `license_events`, in which roles may be OIDs.
    pub rows: Vec<Value>,
    /// How many events are lost.
    pub lost: u64,
}

/// What the last stop has left, with the OIDs of the databases.
pub struct Left {
    /// The counts of licenses.
    pub counts: Vec<(DatabaseOid, Counts)>,
    /// The events of audit trails.
    pub trails: Vec<(DatabaseOid, Trail)>,
}

/// Every backend inherits it.
static LEFT: Mutex<Left> = Mutex::new(Left::NOTHING);

/// Returns what is left.
pub fn left() -> MutexGuard<'static, Left> {
    LEFT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads what the last stop has left, and removes the file. Only the postmaster calls it, at the start and after a
/// crash.
pub fn take() {
    let follows = SIGNALS.iter().any(|signal| Path::new(signal).exists());
    let text = fs::read(FILE).ok().filter(|_| !follows);
    // After a crash, what was read at the start is outdated.
    *left() = text
        .and_then(|text| Left::parse(&text))
        .unwrap_or(Left::NOTHING);
    // A file that can't be removed could come back after a crash, with numbers that were true once.
    let _ = fs::remove_file(FILE);
}

/// Leaves this for the next start. If it can't be written it is lost.
pub fn leave(left: &Left) {
    if !left.counts.is_empty() || !left.trails.is_empty() {
        let _ = fs::write(FILE, left.to_json().to_string());
    }
}

/// Returns what the last stop has left of a database's counts.
pub fn counts(database: DatabaseOid) -> Vec<Counts> {
    let left = left();
    let of_database = left.counts.iter().filter(|(oid, _)| *oid == database);
    of_database.map(|(_, counts)| *counts).collect()
}

/// Returns what the last stop has left of a database's trail, unless it is already written.
pub fn trail(database: DatabaseOid, known: Option<&Database>) -> Trail {
    let left = left();
    let mut trails = left.trails.iter();
    let trail = trails.find(|(oid, _)| *oid == database);
    trail
        .filter(|_| known.is_none_or(|known| !known.trail.left_written))
        .map_or_else(Trail::default, |(_, trail)| trail.clone())
}

/// Tells whether the last stop has left events of a database that are yet to be written.
pub fn has_trail(known: Option<&Database>) -> bool {
    known.is_some_and(|known| {
        !known.trail.left_written && left().trails.iter().any(|(oid, _)| *oid == known.oid)
    })
}

impl Left {
    /// Nothing is left.
    pub const NOTHING: Left = Left {
        counts: Vec::new(),
        trails: Vec::new(),
    };

    fn to_json(&self) -> Value {
        let counts = self.counts.iter().map(|(database, counts)| {
            json!([
                database,
                counts.product.as_str(),
                counts.high_water,
                counts.high_water_at,
                counts.denied,
                counts.counted_since,
            ])
        });
        let trails = self.trails.iter();
        let trails = trails.map(|(database, trail)| json!([database, trail.rows, trail.lost]));
        json!([counts.collect::<Value>(), trails.collect::<Value>()])
    }

    fn parse(text: &[u8]) -> Option<Left> {
        type CountsRow = (DatabaseOid, String, i64, i64, u64, i64);
        type TrailRow = (DatabaseOid, Vec<Value>, u64);
        let (counts, trails): (Vec<CountsRow>, Vec<TrailRow>) =
            serde_json::from_slice(text).ok()?;
        let counts = counts.into_iter().filter_map(
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
        let trails = trails.into_iter();
        Some(Left {
            counts: counts.collect(),
            trails: trails
                .map(|(database, rows, lost)| (database, Trail { rows, lost }))
                .collect(),
        })
    }
}
