//! The launcher, which ends leases whose time is up and has databases' tables read that share a pool
//! and audit trails written, and its visitors.
//!
//! No login needs them unless its license is pooled: what other databases add to a pool must have
//! been read once since the start, and again after each change. The launcher is connected to no
//! database. It sends one visitor at a time into a database, which reads its tables and leaves: so
//! DROP DATABASE and CREATE DATABASE ... TEMPLATE never wait for it longer than a moment.
//!
//! * [`renewal`]: a worker of its own that renews signed licenses
#![allow(
    unsafe_code,
    reason = "background workers are PostgreSQL's C interface"
)]

mod renewal;

use std::ffi::c_int;
use std::time::Duration;

use pgrx::bgworkers::{
    BackgroundWorker, BackgroundWorkerBuilder, BackgroundWorkerStatus, BgWorkerStartTime,
    DynamicBackgroundWorker, SignalWakeFlags,
};
use pgrx::prelude::*;
use pgrx::{IntoDatum, pg_sys};

use crate::ending::{bars, idle};
use crate::events::{self, shutdown};
use crate::lease::expiry;
use crate::ledger::license::Timestamp;
use crate::ledger::table::Table;
use crate::ledger::{Database, Ledger, Viewpoint};
use crate::licenses::{self, LoadError};
use crate::memory::{self, Shared};
use crate::pg::table::{ReadError, log_failure};
use crate::pg::{backend, catalog, error, unguarded};
use crate::renewal::trail;
use crate::settings;
use renewal::Renewals;

/// How soon the launcher tries again what did not work.
const RETRY: Duration = Duration::from_secs(1);

/// How long the launcher lets leases whose time is up come together: they end within a second.
const EXPIRY_PAUSE: Duration = Duration::from_millis(300);

/// How long a visitor waits for a lock on the tables, well below the five seconds that DROP
/// DATABASE waits for it.
const VISITOR_PATIENCE: Duration = Duration::from_millis(500);

/// Registers the launcher, in the postmaster.
pub fn register() {
    BackgroundWorkerBuilder::new("pg_seats launcher")
        .set_type("pg_seats launcher")
        .set_library("pg_seats")
        .set_function("pg_seats_launcher")
        .enable_shmem_access(None)
        .enable_spi_access()
        .set_start_time(BgWorkerStartTime::ConsistentState)
        .set_restart_time(Some(RETRY))
        .load();
}

/// The launcher's main function.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn pg_seats_launcher(_argument: pg_sys::Datum) {
    attach_signal_handlers();
    // SAFETY: without a database; shared catalogs can be read.
    unsafe {
        pg_sys::BackgroundWorkerInitializeConnectionByOid(
            pg_sys::InvalidOid,
            pg_sys::InvalidOid,
            0,
        );
        unguarded::before_shmem_exit(Some(on_launcher_exit), pg_sys::Datum::from(0));
    }
    settle_defaults();
    memory::set_launcher(true);
    Launcher::default().run();
    // SAFETY: ends this process; with status 1 it is started again unless the server stops.
    unsafe { pg_sys::proc_exit(1) };
}

#[pg_guard]
unsafe extern "C-unwind" fn on_launcher_exit(_code: c_int, _argument: pg_sys::Datum) {
    memory::set_launcher(false);
}

/// The launcher, and what it has already complained of: each thing once until it is mended.
#[derive(Default)]
struct Launcher {
    was_in_recovery: bool,
    lacks_room: bool,
    lacks_workers: bool,
    /// When a seat may be inactive for too long; `None`: there is no limit.
    idle_at: Option<Timestamp>,
    /// The rules for which that holds.
    idle_by: u64,
    renewals: Renewals,
}

/// What became of a round of visits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Round {
    /// No database was to be visited.
    Idle,
    /// Every visit was made.
    Made,
    /// Not every database could be visited and read.
    Failed,
}

impl Launcher {
    /// Works until the server stops or is gone.
    fn run(&mut self) {
        loop {
            self.attend();
            let in_recovery = backend::in_recovery();
            if std::mem::replace(&mut self.was_in_recovery, in_recovery) && !in_recovery {
                memory::write(|ledger| ledger.revisit_all());
            }
            pgrx::check_for_interrupts!();
            // On a standby nothing tells of new databases, or of a promotion.
            if in_recovery || memory::read(|ledger| ledger.head.visited) == Some(false) {
                self.note_all_databases();
            }
            let round = self.visit_unread();
            if in_recovery {
                BackgroundWorker::transaction(events::log_all);
            }
            if round != Round::Idle {
                // What was installed may be due.
                self.renewals.look_again();
            }
            if round == Round::Made {
                // Waiting for visitors has taken the wake-ups of what came meanwhile.
                continue;
            }
            // What could not be done a moment ago is not due again at once.
            let next = if round == Round::Failed || self.lacks_room || in_recovery {
                Some(RETRY)
            } else {
                events::next_write_in()
            };
            // The rules may be others than before the visits.
            self.attend();
            if !BackgroundWorker::wait_latch(next.into_iter().chain(self.next_due()).min()) {
                return;
            }
        }
    }

    /// Does what must not wait for visitors: takes note of a changed configuration, and ends leases and
    /// logs off seats whose time is up.
    fn attend(&mut self) {
        if BackgroundWorker::sighup_received() {
            self.reload();
        }
        expiry::end_due_leases();
        self.log_off_idle();
        self.renewals.attend();
    }

    /// How long until somebody's time is up, or a license is due.
    fn next_due(&self) -> Option<Duration> {
        let idle = self.idle_at.and_then(backend::time_until);
        let renewal = self.renewals.next_in();
        next_expiry().into_iter().chain(idle).chain(renewal).min()
    }

    /// Reads the configuration again. Where superusers begin or cease to count, those in every
    /// database of a pool do. Sessions that wait in line learn of a softer enforcement: they read the
    /// configuration only when their statement has ended. What was signed is verified again: it may be
    /// other keys by now.
    fn reload(&mut self) {
        let before = settings::exempt_superusers();
        // SAFETY: as every worker does on SIGHUP.
        unsafe { pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP) };
        if settings::exempt_superusers() != before {
            memory::write(|ledger| ledger.revisit_all());
        }
        memory::write(|ledger| {
            ledger.outdate_signed();
            ledger.enforce_line(settings::enforcement());
        });
        self.renewals.begin_anew();
    }

    /// Has seats logged off that are inactive for too long, when one may be, or the rules have changed.
    fn log_off_idle(&mut self) {
        let rules = memory::read(|ledger| ledger.head.published).unwrap_or(0);
        let is_due = self.idle_at.is_some_and(|at| at <= backend::now());
        if is_due || rules != self.idle_by {
            self.idle_by = rules;
            self.idle_at = BackgroundWorker::transaction(idle::log_off);
        }
    }

    /// Notes every database that can be connected to, so that it is visited.
    fn note_all_databases(&mut self) {
        let databases = BackgroundWorker::transaction(catalog::connectable_databases);
        let now = backend::now();
        let noted = memory::write(|ledger| {
            let mut noted = true;
            for database in databases {
                noted &= ledger.generation(database).is_some();
                if shutdown::has_trail(ledger.databases.get(&database)) {
                    ledger.write_soon(database, now);
                }
            }
            ledger.head.visited = noted;
            noted
        });
        let lacks_room = noted == Some(false);
        if lacks_room && !self.lacks_room {
            error::log(
                "pg_seats has no room to note every database: \
                 increase pg_seats.max_seats and restart the server",
            );
        }
        self.lacks_room = lacks_room;
    }

    /// Sends a visitor into every database that should be read, one after the other. Those that are to
    /// be visited again by then wait for the next round: there may always be some.
    fn visit_unread(&mut self) -> Round {
        let mut round = Round::Idle;
        for database in unread_databases() {
            if !self.visit(database) {
                round = Round::Failed;
            } else if round == Round::Idle {
                round = Round::Made;
            }
        }
        round
    }

    /// Sends a visitor into a database and waits for it. False when it could not read the tables.
    fn visit(&mut self, database: u32) -> bool {
        // Noted before the visitor can be there.
        let Some(before) = known(database) else {
            return true;
        };
        let visitor = BackgroundWorkerBuilder::new("pg_seats visitor")
            .set_type("pg_seats visitor")
            .set_library("pg_seats")
            .set_function("pg_seats_visitor")
            .enable_shmem_access(None)
            .enable_spi_access()
            .set_start_time(BgWorkerStartTime::ConsistentState)
            .set_restart_time(None)
            .set_argument(pg_sys::Oid::from(database).into_datum())
            // SAFETY: this process's own id.
            .set_notify_pid(unsafe { pg_sys::MyProcPid })
            .load_dynamic();
        let Ok(visitor) = visitor else {
            if !self.lacks_workers {
                error::log(
                    "pg_seats found no free background worker to read licenses and write license_events: \
                     increase max_worker_processes",
                );
            }
            self.lacks_workers = true;
            return false;
        };
        self.lacks_workers = false;
        let sent_at = backend::now();
        if !self.wait_for(&visitor) {
            return false;
        }
        if !backend::in_recovery() && known(database).is_some_and(|known| known.write_at <= sent_at)
        {
            // It ended before it could say why.
            memory::write(|ledger| ledger.could_not_write(database, backend::now()));
        }
        let lost = known(database).is_some_and(|known| known.visitors == before.visitors);
        if lost {
            unless_changed_since(before, |ledger| ledger.visitor_lost(database));
        }
        !lost && known(database).is_none_or(|known| !known.has_failed() && known.ended == 0)
    }

    /// Waits until a visitor has ended; false when the server has.
    fn wait_for(&mut self, visitor: &DynamicBackgroundWorker) -> bool {
        loop {
            pgrx::check_for_interrupts!();
            match visitor.pid() {
                Err(BackgroundWorkerStatus::Stopped) => return true,
                Err(BackgroundWorkerStatus::PostmasterDied) => return false,
                Ok(_) | Err(_) => {}
            }
            if !BackgroundWorker::wait_latch(self.next_due()) {
                return false;
            }
            self.attend();
        }
    }
}

/// When to look for leases whose time is up; rather seldom, since each look costs a pass over all.
fn next_expiry() -> Option<Duration> {
    Some(expiry::next_due_in()?.max(EXPIRY_PAUSE))
}

/// A visit that failed says nothing of a change that came meanwhile.
fn unless_changed_since(before: Database, note: impl FnOnce(&mut Ledger<'static, Shared>)) {
    memory::write(|ledger| {
        let now = ledger.databases.get(&before.oid);
        if now.is_some_and(|now| now.generation == before.generation) {
            note(ledger);
        }
    });
}

fn unread_databases() -> Vec<u32> {
    let view = Viewpoint {
        now: backend::now(),
        ..licenses::viewpoint()
    };
    let known = memory::read(|ledger| ledger.databases.len()).unwrap_or(0);
    let mut unread = Vec::with_capacity(known);
    memory::read(|ledger| {
        ledger.each_unread(view, |known| {
            if unread.len() < unread.capacity() {
                unread.push(known.oid);
            }
        });
    });
    unread
}

fn known(database: u32) -> Option<Database> {
    memory::read(|ledger| ledger.databases.get(&database).copied()).flatten()
}

unsafe extern "C-unwind" {
    /// PostgreSQL's handler that ends a process at its next safe moment.
    fn die(signal: c_int);
}

/// SIGTERM ends a worker also while it waits for another process or a lock, so that it never holds
/// up a shutdown; SIGHUP has it reload the configuration.
fn attach_signal_handlers() {
    // SAFETY: as every worker begins, while signals are still blocked.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        pg_sys::pqsignal(pg_sys::SIGTERM as c_int, Some(die));
        #[cfg(feature = "pg18")]
        pg_sys::pqsignal_be(pg_sys::SIGTERM as c_int, Some(die));
    }
    BackgroundWorker::attach_signal_handlers(SignalWakeFlags::SIGHUP);
}

/// What a worker's transactions are like, whatever the server or the database sets for others: a
/// standby refuses those that are serializable, one that is read-only deletes no rows, and another
/// server's silence must not keep the launcher waiting.
fn settle_defaults() {
    for (name, value) in [
        (c"default_transaction_isolation", c"read committed"),
        (c"default_transaction_read_only", c"off"),
        (c"synchronous_commit", c"local"),
    ] {
        // SAFETY: valid settings of every supported version.
        unsafe {
            unguarded::SetConfigOption(
                name.as_ptr(),
                value.as_ptr(),
                pg_sys::GucContext::PGC_SUSET,
                pg_sys::GucSource::PGC_S_OVERRIDE,
            );
        }
    }
}

/// The main function of a visitor: reads the tables of one database, and writes what is to be written
/// there.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn pg_seats_visitor(database: pg_sys::Datum) {
    attach_signal_handlers();
    let database = database.value() as u32;
    // SAFETY: connects to the database as the bootstrap superuser.
    unsafe {
        pg_sys::BackgroundWorkerInitializeConnectionByOid(
            pg_sys::Oid::from(database),
            pg_sys::InvalidOid,
            0,
        );
    }
    settle_defaults();
    memory::write(|ledger| ledger.visitor_arrived(database));
    let before = known(database);
    let is_counted = before.is_some_and(|known| known.counted);
    // What is told of has come into the tables, for it was recorded before.
    let tries = trail::untold(database);
    let observed = observe(database, before);
    if observed.is_ok() {
        trail::tell(database, &tries, VISITOR_PATIENCE);
    }
    let is_signed = matches!(observed, Ok(true));
    let result = if licenses::are_current(database) && is_counted && !is_signed {
        Ok(())
    } else {
        BackgroundWorker::transaction(|| licenses::load(database, VISITOR_PATIENCE).map(drop))
    };
    if bars::are_unstored(database) && !backend::in_recovery() {
        bars::store(database, VISITOR_PATIENCE);
    }
    if known(database).is_some_and(|known| known.write_at <= backend::now())
        && !backend::in_recovery()
    {
        events::write(database, VISITOR_PATIENCE);
    }
    // Where nothing can be read, the log says so below; who holds a lock is about to change them.
    if let (Err(error), Ok(())) = (&observed, &result)
        && error.code != PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE
    {
        let what = "look at signed licenses of";
        log_failure(what, database, error, "; trying again every second");
    }
    // What was changed meanwhile may be in force already, but was not looked at.
    let has_changed = known(database).is_some_and(|known| known.observed != known.generation);
    let is_untold = !trail::untold(database).is_empty();
    if bars::are_unstored(database) || observed.is_err() || has_changed || is_untold {
        // Tried again soon, whatever else happens.
        memory::write(|ledger| ledger.write_soon(database, backend::now()));
    }
    if let Err(error) = result {
        if let Some(before) = before {
            unless_changed_since(before, |ledger| ledger.visit_failed(database));
        }
        memory::announce_rules_read();
        let cause = match error {
            LoadError::Unreadable(cause) => cause,
            LoadError::TooManyRoles => "delete rows of license_reservations".to_owned(),
            LoadError::NoRoom => "increase pg_seats.max_seats and restart the server".to_owned(),
        };
        error::log(format!(
            "pg_seats could not load licenses of a database: {cause}"
        ));
    }
    // The last, for it may end this worker.
    if known(database).is_some_and(|known| known.ended > 0) {
        expiry::bury(database, VISITOR_PATIENCE);
    }
}

/// Looks at the signed licenses of a database, where they have changed, or may have. True where there are any.
fn observe(database: u32, known: Option<Database>) -> Result<bool, ReadError> {
    let Some(known) = known else {
        return Ok(false);
    };
    if known.observed == known.generation && backend::now() < known.changes_at {
        return Ok(false);
    }
    licenses::renewed::install(VISITOR_PATIENCE)?;
    let is_signed = licenses::signed::observe(database, VISITOR_PATIENCE)?;
    memory::write(|ledger| ledger.observed(database, known.generation));
    Ok(is_signed)
}
