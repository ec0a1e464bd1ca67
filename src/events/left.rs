//! What the server's last stop has left: counts, and what audit trails are yet to be told.

use std::fs;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use crate::core::ledger::database::Database;
use crate::core::ledger::identity::Name;
use crate::core::ledger::rules::Counts;

/// In the data directory, where PostgreSQL keeps its own statistics.
const FILE: &str = "pg_stat/pg_seats.json";

/// With one of these in the data directory the server begins with what another one has written: what
/// this one has left is older than that.
const SIGNALS: [&str; 2] = ["standby.signal", "recovery.signal"];

/// What a database's audit trail is yet to be told.
#[derive(Clone, Default)]
pub struct Trail {
    /// Rows of `license_events`, in which roles may be numbers.
    pub rows: Vec<Value>,
    /// How many are lost.
    pub lost: u64,
}

/// What the last stop has left, with the OIDs of the databases.
pub struct Left {
    /// Of licenses.
    pub counts: Vec<(u32, Counts)>,
    /// Of audit trails.
    pub trails: Vec<(u32, Trail)>,
}

/// Every backend inherits it.
static LEFT: Mutex<Left> = Mutex::new(Left::NOTHING);

/// Returns what is left.
pub fn left() -> MutexGuard<'static, Left> {
    LEFT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes what the last stop has left. Called by the postmaster alone, at the start and after a crash.
pub fn take() {
    let follows = SIGNALS.iter().any(|signal| Path::new(signal).exists());
    let text = fs::read(FILE).ok().filter(|_| !follows);
    // After a crash what was taken at the start is old.
    *left() = text
        .and_then(|text| Left::parse(&text))
        .unwrap_or(Left::NOTHING);
    // What can't be removed could come back after a crash: numbers that were true once.
    let _ = fs::remove_file(FILE);
}

/// Leaves this for the next start. What can't be written is lost.
pub fn leave(left: &Left) {
    if !left.counts.is_empty() || !left.trails.is_empty() {
        let _ = fs::write(FILE, left.to_json().to_string());
    }
}

/// What the last stop has left of a database's counts.
pub fn counts(database: u32) -> Vec<Counts> {
    let left = left();
    let of_database = left.counts.iter().filter(|(oid, _)| *oid == database);
    of_database.map(|(_, counts)| *counts).collect()
}

/// What the last stop has left of a database's trail, unless it is told.
pub fn trail(database: u32, known: Option<&Database>) -> Trail {
    let left = left();
    let mut trails = left.trails.iter();
    let trail = trails.find(|(oid, _)| *oid == database);
    trail
        .filter(|_| known.is_none_or(|known| !known.kept_told))
        .map_or_else(Trail::default, |(_, trail)| trail.clone())
}

/// Whether it has left some of a database's trail that is yet to be told.
pub fn has_trail(known: Option<&Database>) -> bool {
    known.is_some_and(|known| {
        !known.kept_told && left().trails.iter().any(|(oid, _)| *oid == known.oid)
    })
}

impl Left {
    /// It has left nothing.
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
        type CountsRow = (u32, String, i64, i64, u64, i64);
        type TrailRow = (u32, Vec<Value>, u64);
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
