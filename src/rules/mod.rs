//! The rules in force: read from a database's tables, published in the ledger, renewed after every
//! change.
//!
//! * [`change`]: notices what changes the tables
//! * [`interference`]: finds what others have hung on the tables
//! * [`load`]: reads the tables, and puts what they say in force
//! * [`room`]: warns who adds rows that there is no room for
//! * [`pools`]: which databases are in which pools, over a restart
//!
//! A change gives its database a new generation when it commits. A login that finds the rules in
//! force outdated reads the tables itself and publishes them for all. No worker is needed for that;
//! only where databases share a pool does the launcher have others' tables read (see
//! [`crate::worker`]).

pub mod change;
pub mod interference;
mod load;
pub mod pools;
mod room;

use std::time::{Duration, Instant};

use crate::core::ledger::Ledger;
use crate::core::ledger::database::Viewpoint;
use crate::core::ledger::license::License;
use crate::core::ledger::rules::Rules;
use crate::core::ledger::words::Enforcement;
use crate::memory::{self, Shared};
use crate::pg::error::{self, quoted};
use crate::pg::table::Patience;
use crate::pg::{backend, catalog};
use crate::settings;

pub use load::{LoadError, has_no_leases, load};

/// How long a login waits for a lock on the tables that another one has just waited for in vain.
const GLANCE: Duration = Duration::from_millis(100);

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
    copy(database, |ledger| ledger.is_current(database, view))
}

/// The rules in force for a database, current or not; `None` when none were ever read.
pub fn last_in_force(database: u32) -> Option<Rules> {
    copy(database, |_| true)
}

/// The rules in force for a database, where they were read after this generation was noted. Whoever noted it, or
/// read it in others, may be judged by these, though a change has come since: where changes come faster than
/// rules are read, nobody would ever be judged by current ones.
pub fn at_least(database: u32, generation: u64) -> Option<Rules> {
    let view = viewpoint();
    let rules = copy(database, |ledger| {
        ledger.is_as_new_as(database, generation, view)
    })?;
    Some(Rules {
        outdated: true,
        ..rules
    })
}

fn copy(database: u32, may: impl Fn(&Ledger<'static, Shared>) -> bool) -> Option<Rules> {
    let mut rules = Rules::default();
    rules.licenses.reserve(4);
    rules.exemptions.reserve(8);
    loop {
        let (copied, rows) = memory::read(|ledger| {
            if !may(ledger) {
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
pub fn in_force(patience: impl Into<Patience>) -> Result<Rules, LoadError> {
    let patience = patience.into();
    let database = backend::database();
    if let Some(rules) = current(database) {
        return Ok(rules);
    }
    let mut waited = true;
    let loaded = if change::is_pending() {
        read_by_visitor(database, patience.locks)
    } else if has_just_failed(database, patience.locks) {
        // Whoever held a lock may have released it meanwhile.
        waited = false;
        load(database, Patience::hurried(GLANCE))
    } else {
        load_or_note_failure(database, patience)
    };
    loaded.or_else(|error| {
        if !waited {
            // Whoever has waited has told the log.
            return last_in_force(database).ok_or(error);
        }
        let rules = last_in_force(database).ok_or_else(|| error.clone())?;
        error::log(format!(
            "could not load licenses of database {}: {}; the last ones stay in force",
            quoted(catalog::database_name(database)),
            error.cause()
        ));
        Ok(rules)
    })
}

/// Reads the rules. That they can't be read is noted by those alone who have waited long enough to know:
/// who is impatient says nothing of a lock that is held for a moment.
fn load_or_note_failure(database: u32, patience: Patience) -> Result<Rules, LoadError> {
    // Also where nobody has noted the database yet: who comes next is to know of the failure.
    let generation = memory::write(|ledger| ledger.generation(database)).flatten();
    let loaded = load(database, patience);
    if loaded.is_err() && patience.locks >= settings::load_timeout() / 2 {
        let (generation, now) = (generation.unwrap_or(0), backend::now());
        memory::write(|ledger| ledger.reading_failed(database, generation, now));
    }
    loaded
}

/// True where somebody else could not read the rules a moment ago, or is trying again: a queue of logins
/// would wait for them in turn.
fn has_just_failed(database: u32, patience: Duration) -> bool {
    let now = backend::now();
    let until = now.saturating_add(i64::try_from(patience.as_micros()).unwrap_or(i64::MAX));
    memory::write(|ledger| ledger.has_just_failed(database, now, until)) == Some(true)
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
fn await_visitors<R>(patience: Duration, mut look: impl FnMut() -> Option<R>) -> Option<R> {
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

/// Waits until what other databases add to a license's pool is known, at most `patience`. An error where that is not
/// so by then, unless nobody is denied.
pub fn await_pool(license: &License, patience: Duration) -> Result<(), LoadError> {
    let database = backend::database();
    let remembered = pools::Of {
        pool: license.pool.as_str(),
        product: license.product.as_str(),
    };
    let awaited = || {
        let view = viewpoint();
        memory::read(|ledger| {
            let awaited = ledger.awaited(license.tally, database, view, &remembered);
            (ledger.is_visited(view.in_recovery), awaited)
        })
    };
    let mut wanted = 0;
    let all_read = || match awaited() {
        None | Some((true, None)) => Some(()),
        Some((_, other)) => {
            // Once for each: the launcher hears of it, and does not wait for the end of a pause.
            if let Some(other) = other.filter(|other| other.oid != wanted) {
                wanted = other.oid;
                memory::write(|ledger| ledger.want(other.oid));
            }
            None
        }
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
        Some((_, other)) => {
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
