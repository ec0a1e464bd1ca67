//! A database worker: reads the tables of one database, writes what is to be written there, and leaves.
#![allow(
    unsafe_code,
    reason = "background workers are PostgreSQL's C interface"
)]

use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use pgrx::bgworkers::BackgroundWorker;
use pgrx::prelude::*;
use pgrx::{PgTryBuilder, pg_sys};

use super::process::attach_signal_handlers;
use super::settled;
use crate::core::ledger::database::Database;
use crate::core::ledger::denial::LoadError;
use crate::core::ledger::numbers::{DatabaseOid, Generation};
use crate::core::ledger::visit::{Stage, Unread};
use crate::ending::bars;
use crate::lease::expiry;
use crate::memory::rules::known;
use crate::pg::error::{self, quoted};
use crate::pg::table::{ReadError, log_failure, transaction};
use crate::pg::{backend, catalog};
use crate::signed::acts::{self, renewed};
use crate::signed::renewal::trail;
use crate::signed::signed_licenses::SignedLicenses;
use crate::{events, memory, rules};

/// How long a worker waits for a lock on the database or its tables, well below the five seconds that DROP DATABASE
/// waits for it.
const PATIENCE: Duration = Duration::from_millis(500);

/// A visit of a database, as passed to the main function.
#[derive(Clone, Copy)]
pub struct Errand {
    /// The database's OID.
    pub database: DatabaseOid,
    /// The visit's number.
    pub number: u32,
}

impl Errand {
    /// Returns it as an argument.
    pub fn to_argument(self) -> i64 {
        (u64::from(self.number) << 32 | u64::from(self.database.0)).cast_signed()
    }

    /// Returns the errand of an argument.
    pub fn of_argument(argument: i64) -> Errand {
        let argument = argument.cast_unsigned();
        Errand {
            database: DatabaseOid(argument as u32),
            number: (argument >> 32) as u32,
        }
    }

    fn reached(self, stage: Stage) {
        memory::write(|ledger| ledger.visit_reached(self.database, self.number, stage));
    }
}

/// Runs a database worker: its main function.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn pg_seats_database_worker(argument: pg_sys::Datum) {
    attach_signal_handlers();
    go(Errand::of_argument(argument.value() as i64));
}

/// Makes a visit. It can be called once in a process.
pub fn go(errand: Errand) {
    errand.reached(Stage::Begun);
    settled::ignore_others();
    settled::settle(PATIENCE);
    if !connect(errand.database) {
        // The launcher reports it, if it lasts.
        errand.reached(Stage::KeptOut);
        return;
    }
    errand.reached(Stage::Arrived);
    BackgroundWorker::transaction(settled::settle_connected);
    visit(errand.database);
    errand.reached(Stage::Ended);
}

/// Connects to a database as the bootstrap superuser; false if somebody has locked it. If it fails otherwise,
/// PostgreSQL reports the reason and ends this process.
fn connect(database: DatabaseOid) -> bool {
    // SAFETY: called once in this process.
    PgTryBuilder::new(AssertUnwindSafe(|| unsafe {
        pg_sys::BackgroundWorkerInitializeConnectionByOid(
            pg_sys::Oid::from(database),
            pg_sys::InvalidOid,
            0,
        );
        true
    }))
    .catch_when(PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE, |_| false)
    .execute()
}

/// Does what is to be done in a database, each step whatever became of the others:
///
/// 1. Looks at its signed licenses.
/// 2. Reads its rules: after that look, because they depend on what the installation remembers.
/// 3. Writes what waits to be written: after the rules, which may bring more of it, and with which the counts that last
///    are read.
/// 4. Has another worker come soon if something still waits.
/// 5. Complains.
fn visit(database: DatabaseOid) {
    let before = known(database);
    let observed = observe_and_write_tries(database, before);
    let is_signed = matches!(observed, Ok(true));
    let loaded = load_unless_current(database, before, is_signed);
    let deleted = if backend::in_recovery() {
        Ok(())
    } else {
        write(database)
    };
    if bars::are_unstored(database) || observed.is_err() || !trail::unwritten(database).is_empty() {
        memory::write(|ledger| ledger.write_soon(database, backend::now()));
    }
    let generation = before.map_or(Generation::NONE, |before| before.generation);
    complain(database, generation, loaded, observed, deleted);
}

/// Looks at the signed licenses, and writes the tries to renew them to the trail. Returns true if there are any
/// licenses.
fn observe_and_write_tries(
    database: DatabaseOid,
    before: Option<Database>,
) -> Result<bool, ReadError> {
    // Read before the look, so that the tables have the token of each of these tries before the trail has the try.
    let tries = trail::unwritten(database);
    let is_signed = observe(database, before)?;
    trail::write(database, &tries, PATIENCE);
    Ok(is_signed)
}

/// Looks at the signed licenses of a database if they have changed, or may have. Returns true if there are any.
fn observe(database: DatabaseOid, known: Option<Database>) -> Result<bool, ReadError> {
    let Some(known) = known else {
        return Ok(false);
    };
    if !known.is_unobserved(backend::now()) {
        return Ok(false);
    }
    let mut signed_licenses = SignedLicenses::read_alone(PATIENCE)?;
    if let Some(read) = &signed_licenses
        && renewed::install(&read.licenses, PATIENCE)?
    {
        signed_licenses = SignedLicenses::read_alone(PATIENCE)?;
    }
    let is_signed = signed_licenses.is_some();
    let is_all = match signed_licenses {
        Some(signed_licenses) => acts::observe::observe(database, signed_licenses, PATIENCE)?,
        None => true,
    };
    if is_all {
        memory::write(|ledger| ledger.observed(database, known.generation));
    }
    Ok(is_signed)
}

/// Reads the rules, unless those in force are current, the counts that last are read, and no signed license was looked
/// at.
fn load_unless_current(
    database: DatabaseOid,
    before: Option<Database>,
    is_signed: bool,
) -> Result<(), String> {
    let is_counted = before.is_some_and(|known| known.counts.added);
    if memory::rules::are_current(database) && is_counted && !is_signed {
        return Ok(());
    }
    load(database)
}

/// Reads the tables and puts their rules in force. If they change faster than that, nothing is wrong: the next login
/// reads them, or the next worker.
fn load(database: DatabaseOid) -> Result<(), String> {
    let loaded = transaction(|| rules::load(database, PATIENCE).map(drop));
    match loaded {
        Ok(Ok(()) | Err(LoadError::Changing)) => Ok(()),
        Ok(Err(error)) => Err(error.cause()),
        Err(error) => Err(error.message),
    }
}

/// Writes bars and the audit trail, and deletes leases that have ended, where there are any. Returns whether leases
/// were deleted; the others report their failures themselves.
fn write(database: DatabaseOid) -> Result<(), ReadError> {
    if bars::are_unstored(database) {
        bars::store(database, PATIENCE);
    }
    if known(database).is_some_and(|known| known.trail.write_at <= backend::now()) {
        events::write(database, PATIENCE);
    }
    if known(database).is_some_and(|known| known.leases.ended > 0) {
        return expiry::delete_ended(database, PATIENCE);
    }
    Ok(())
}

/// Complains of the first of these steps that has failed; if none has, the next failure is news. A lock on the signed
/// licenses is no failure: whoever holds it is about to change them.
fn complain(
    database: DatabaseOid,
    generation: Generation,
    loaded: Result<(), String>,
    observed: Result<bool, ReadError>,
    deleted: Result<(), ReadError>,
) {
    if let Err(cause) = loaded {
        could_not_load(database, generation, &cause);
    } else if let Err(error) = observed
        && error.code != PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE
    {
        could_not(database, "look at signed licenses of", &error);
    } else if let Err(error) = deleted {
        could_not(database, "delete rows of license_leases of", &error);
    } else {
        memory::write(|ledger| ledger.nothing_to_complain(database));
    }
}

/// Notes and logs that the rules could not be read: those in force stay for now. If there are none, others need not
/// wait for them if nobody counts there.
fn could_not_load(database: DatabaseOid, generation: Generation, cause: &str) {
    // Another server's leases do not count on a standby.
    let has_none = backend::in_recovery()
        || matches!(transaction(|| rules::has_no_leases(PATIENCE)), Ok(true));
    let found = if has_none {
        Unread::HasNoLeases
    } else {
        Unread::MayHaveLeases
    };
    let digest = digest_of(cause);
    let is_news = memory::write(|ledger| ledger.visit_failed(database, generation, digest, found));
    memory::announce_rules_read();
    if is_news {
        let name = BackgroundWorker::transaction(|| catalog::database_name(database));
        error::log(format!(
            "pg_seats could not load licenses of database {}: {cause}; trying again every second",
            quoted(name)
        ));
    }
}

/// Logs what fails: once, again when the cause changes, and after that ever more seldom.
fn could_not(database: DatabaseOid, what: &str, error: &ReadError) {
    let is_news = memory::write(|ledger| ledger.is_news(database, digest_of(&error.message)));
    if is_news {
        log_failure(what, database, error, "; trying again every second");
    }
}

fn digest_of(cause: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    cause.hash(&mut hasher);
    hasher.finish()
}
