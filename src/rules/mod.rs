//! The rules in force: read from a database's tables, published in the ledger, renewed after every change.
//!
//! * [`change`]: notices changes of the tables
//! * [`load`](mod@load): reads the tables and puts the rules in force
//! * [`room`]: warns a transaction that adds rows for which there is no room
//! * [`pools`]: remembers over a restart which databases are in which pools
//!
//! A change gives its database a new generation when it commits. A login that finds the rules in force outdated reads
//! the tables itself and publishes them for all. That needs no worker; only where databases share a pool does the
//! launcher have other databases' tables read (see [`crate::worker`]).

pub mod change;
mod load;
pub mod pools;
mod room;

use std::time::{Duration, Instant};

use crate::core::ledger::denial::LoadError;
use crate::core::ledger::license::License;
use crate::core::ledger::numbers::{DatabaseOid, Generation};
use crate::core::ledger::rules::Rules;
use crate::core::ledger::words::Enforcement;
use crate::pg::error::{self, quoted};
use crate::pg::table::Patience;
use crate::pg::{backend, catalog};
use crate::{memory, settings};

pub use load::{has_no_leases, load};

/// How long a login waits for a lock on the tables after another one has waited for it in vain.
const GLANCE: Duration = Duration::from_millis(100);

/// How long a view waits for a lock on the tables.
const SHOW_PATIENCE: Duration = Duration::from_millis(200);

/// Returns the rules of this backend's database: those in force if they are current, else it reads them and puts them
/// in force. If they can't be read in time, the last ones stay in force, and the log says so.
pub fn in_force(patience: impl Into<Patience>) -> Result<Rules, LoadError> {
    let patience = patience.into();
    let database = backend::database();
    if let Some(rules) = memory::rules::current(database) {
        return Ok(rules);
    }
    let mut waited = true;
    let loaded = if change::is_pending() {
        read_by_database_worker(database, patience.locks)
    } else if has_just_failed(database, patience.locks) {
        // The lock may have been released meanwhile.
        waited = false;
        load(database, Patience::hurried(GLANCE))
    } else {
        load_or_note_failure(database, patience)
    };
    loaded.or_else(|error| {
        if !waited {
            // The one that waited has written to the log.
            return memory::rules::last_in_force(database).ok_or(error);
        }
        let rules = memory::rules::last_in_force(database).ok_or_else(|| error.clone())?;
        error::log(format!(
            "could not load licenses of database {}: {}; the last ones stay in force",
            quoted(catalog::database_name(database)),
            error.cause()
        ));
        Ok(rules)
    })
}

/// Reads the rules. A failure is noted only by a caller with enough patience to know: a short wait proves nothing about
/// a lock that is held for a moment.
fn load_or_note_failure(database: DatabaseOid, patience: Patience) -> Result<Rules, LoadError> {
    // Also where the database is not noted yet, so that the next login learns of the failure.
    let generation = memory::write(|ledger| ledger.generation(database));
    let loaded = load(database, patience);
    if loaded.is_err() && patience.locks >= settings::load_timeout() / 2 {
        let (generation, now) = (generation.unwrap_or(Generation::NONE), backend::now());
        memory::write(|ledger| ledger.reading_failed(database, generation, now));
    }
    loaded
}

/// Tells whether somebody else could not read the rules a moment ago, or is trying again: otherwise logins would wait
/// for the lock one after another.
fn has_just_failed(database: DatabaseOid, patience: Duration) -> bool {
    let now = backend::now();
    let until = now.saturating_add(i64::try_from(patience.as_micros()).unwrap_or(i64::MAX));
    memory::write(|ledger| ledger.has_just_failed(database, now, until))
}

/// Returns the rules as a database worker reads them for this backend, whose own transaction has changed the tables:
/// what it would read itself may never be committed.
fn read_by_database_worker(database: DatabaseOid, patience: Duration) -> Result<Rules, LoadError> {
    // Workers visit only databases that are noted.
    memory::write(|ledger| ledger.generation(database));
    await_database_workers(patience, || memory::rules::current(database))
        .ok_or_else(|| LoadError::Unreadable("this transaction has changed them".to_owned()))
}

/// Waits until database workers have read what makes `look` succeed, at most `patience`; `None` if they have not.
fn await_database_workers<R>(patience: Duration, mut look: impl FnMut() -> Option<R>) -> Option<R> {
    let deadline = Instant::now() + patience;
    loop {
        let found = look();
        let left = deadline.saturating_duration_since(Instant::now());
        if found.is_some() || left.is_zero() {
            memory::stop_awaiting();
            return found;
        }
        memory::wake_launcher();
        memory::await_rules_read(left.min(Duration::from_millis(100)));
    }
}

/// Brings the rules of this backend's database up to date before they are shown, unless its own transaction has changed
/// them: then the ledger shows what is committed.
pub fn refresh() {
    let database = backend::database();
    if !memory::rules::are_current(database) && !change::is_pending() {
        // If the rules can't be read now, the last ones are shown; the next login reports the cause.
        let _ = load(database, SHOW_PATIENCE);
    }
}

/// Waits at most `patience` until it is known what other databases add to a license's pool. If it is not known by then
/// it returns an error, unless nobody is denied.
pub fn await_pool(license: &License, patience: Duration) -> Result<(), LoadError> {
    let database = backend::database();
    let remembered = pools::Of {
        pool: license.pool.as_str(),
        product: license.product.as_str(),
    };
    let awaited = || {
        let view = memory::rules::viewpoint();
        memory::read(|ledger| {
            let awaited = ledger.awaited(license.tally, database, view, &remembered);
            (ledger.is_visited(view.in_recovery), awaited)
        })
    };
    let mut wanted = DatabaseOid::NONE;
    let all_read = || match awaited() {
        (true, None) => Some(()),
        (_, other) => {
            // Once for each database: this tells the launcher, which then does not wait for the end of a pause.
            if let Some(other) = other.filter(|other| other.oid != wanted) {
                wanted = other.oid;
                memory::write(|ledger| ledger.want(other.oid));
            }
            None
        }
    };
    if await_database_workers(patience, all_read).is_some() {
        return Ok(());
    }
    match awaited() {
        (true, None) => Ok(()),
        (true, Some(other)) if other.in_force.loaded != Generation::NONE => {
            error::log(format!(
                "licenses of database {} have not been read since they changed; the last ones stay in force",
                quoted(catalog::database_name(other.oid))
            ));
            Ok(())
        }
        (_, other) => {
            let cause = match other {
                Some(other) => format!(
                    "database {} of the pool has not been read since the server started",
                    quoted(catalog::database_name(other.oid))
                ),
                None => "not every database of the pool has been read since the server started"
                    .to_owned(),
            };
            if license.enforcement.max(settings::enforcement()) == Enforcement::On {
                return Err(LoadError::Unreadable(cause));
            }
            error::log(format!(
                "nobody is denied, but the count may be wrong: {cause}"
            ));
            Ok(())
        }
    }
}
