//! The rules in force: read from a database's tables, published in the ledger, renewed after every
//! change.
//!
//! * [`change`]: notices what changes the tables
//! * [`load`]: reads the tables, and puts what they say in force
//! * [`passed_on`]: seats that other installations have
//! * [`signed`]: holds rows to what was signed
//! * [`products`]: writes what was signed into rows
//! * [`renewed`]: puts renewed tokens in the place of older ones
//!
//! A change gives its database a new generation when it commits. A login that finds the rules in
//! force outdated reads the tables itself and publishes them for all. No worker is needed for that;
//! only where databases share a pool does the launcher have others' tables read (see
//! [`crate::worker`]).

pub mod change;
mod load;
pub mod passed_on;
pub mod products;
pub mod renewed;
pub mod signed;

use std::time::{Duration, Instant};

use crate::ledger::Viewpoint;
use crate::ledger::rules::Rules;
use crate::pg::error::{self, quoted};
use crate::pg::{backend, catalog};
use crate::{memory, settings};

pub use load::{LoadError, load};

/// How long a view waits for a lock on the tables.
const SHOW_PATIENCE: Duration = Duration::from_millis(200);

/// From where this process looks at the rules in force.
pub fn viewpoint() -> Viewpoint {
    let in_recovery = backend::in_recovery();
    Viewpoint {
        // Only on a standby do rules grow old.
        now: if in_recovery { backend::now() } else { 0 },
        in_recovery,
        exempt_superusers: settings::exempt_superusers(),
    }
}

/// True when the rules in force for a database are current.
pub fn are_current(database: u32) -> bool {
    let view = viewpoint();
    memory::read(|ledger| ledger.is_current(database, view)) == Some(true)
}

/// The rules in force for a database, if they are current.
pub fn current(database: u32) -> Option<Rules> {
    let view = viewpoint();
    copy(database, Some(view))
}

/// The rules in force for a database, current or not; `None` when none were ever read.
pub fn last_in_force(database: u32) -> Option<Rules> {
    copy(database, None)
}

fn copy(database: u32, only_current: Option<Viewpoint>) -> Option<Rules> {
    let mut rules = Rules::default();
    rules.licenses.reserve(4);
    rules.exemptions.reserve(8);
    loop {
        let (copied, rows) = memory::read(|ledger| {
            if only_current.is_some_and(|view| !ledger.is_current(database, view)) {
                return (None, None);
            }
            let copied = ledger.copy_rules(database, &mut rules);
            (copied, Some(ledger.rows(database)))
        })?;
        if copied.is_some() {
            return Some(rules);
        }
        let (licenses, exemptions, roles) = rows?;
        if rules.licenses.capacity() >= licenses
            && rules.exemptions.capacity() >= exemptions
            && rules.reserved_roles.capacity() >= roles
        {
            return None;
        }
        rules.licenses.reserve(licenses);
        rules.exemptions.reserve(exemptions);
        rules.reserved_roles.reserve(roles);
    }
}

/// The rules of this backend's database: those in force when they are current, else read and put
/// in force. When they can't be read in time, the last ones stay in force, and the log says so.
pub fn in_force(patience: Duration) -> Result<Rules, LoadError> {
    let database = backend::database();
    if let Some(rules) = current(database) {
        return Ok(rules);
    }
    let loaded = if change::is_pending() {
        read_by_visitor(database, patience)
    } else {
        load(database, patience)
    };
    match loaded {
        Err(LoadError::Unreadable(message)) => match last_in_force(database) {
            Some(rules) => {
                error::log(format!(
                    "could not load licenses of database {}: {message}; the last ones stay in force",
                    quoted(catalog::database_name(database))
                ));
                Ok(rules)
            }
            None => Err(LoadError::Unreadable(message)),
        },
        loaded => loaded,
    }
}

/// The rules as a visitor reads them for this backend, whose own transaction has changed the tables:
/// what it would read itself may never be committed.
fn read_by_visitor(database: u32, patience: Duration) -> Result<Rules, LoadError> {
    // Visitors come to what is noted.
    memory::write(|ledger| ledger.generation(database));
    await_visitors(patience, || current(database))
        .ok_or_else(|| LoadError::Unreadable("this transaction has changed them".to_owned()))
}

/// Has visitors read until `look` finds what they were sent for, at most `patience`; `None` when it
/// did not.
fn await_visitors<R>(patience: Duration, look: impl Fn() -> Option<R>) -> Option<R> {
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

/// Brings the rules of this backend's database up to date before they are shown, unless its own
/// transaction has changed them: then the ledger shows what is committed.
pub fn refresh() {
    let database = backend::database();
    if !are_current(database) && !change::is_pending() {
        // What can't be read now is shown as it was; the next login says why.
        let _ = load(database, SHOW_PATIENCE);
    }
}

/// Waits until what other databases add to a pool is known, at most `patience`.
pub fn await_pool(patience: Duration) -> Result<(), LoadError> {
    let database = backend::database();
    let awaited = || {
        let in_recovery = backend::in_recovery();
        memory::read(|ledger| (ledger.head.visited, ledger.awaited(database, in_recovery)))
    };
    let all_read = || match awaited() {
        None | Some((true, None)) => Some(()),
        Some(_) => None,
    };
    if await_visitors(patience, all_read).is_some() {
        return Ok(());
    }
    match awaited() {
        None | Some((true, None)) => Ok(()),
        Some((true, Some(other))) if other.loaded != 0 => {
            error::log(format!(
                "licenses of database {} have not been read since they changed; the last ones stay in force",
                quoted(catalog::database_name(other.oid))
            ));
            Ok(())
        }
        Some(_) => Err(LoadError::Unreadable(
            "not every database of the pool has been read since the server started".to_owned(),
        )),
    }
}
