//! The launcher: what it does itself, and when it looks again.
#![allow(
    unsafe_code,
    reason = "background workers are PostgreSQL's C interface"
)]

use std::ffi::c_int;
use std::time::{Duration, Instant};

use pgrx::bgworkers::BackgroundWorker;
use pgrx::pg_sys;
use pgrx::prelude::*;

use super::process::{self, RETRY, attach_signal_handlers};
use super::renewal::Renewals;
use super::settled;
use super::visits::Visits;
use crate::core::ledger::numbers::DatabaseOid;
use crate::core::ledger::table::Table;
use crate::core::ledger::time::{self, Pause, Timestamp};
use crate::core::ledger::visit::Unsettled;
use crate::ending::idle;
use crate::events::{self, left};
use crate::lease::expiry;
use crate::pg::table::transaction;
use crate::pg::{backend, catalog, error, unguarded};
use crate::rules::pools::Written;
use crate::{memory, settings};

/// How long the launcher lets expired leases gather: they end within a second.
const EXPIRY_PAUSE: Duration = Duration::from_millis(300);

/// How long the launcher waits for a lock on a shared catalog.
const LAUNCHER_PATIENCE: Duration = Duration::from_millis(500);

/// Registers the launcher and the worker in reserve, in the postmaster.
pub fn register() {
    process::register("pg_seats launcher", "pg_seats_launcher");
    process::register("pg_seats reserve", "pg_seats_reserve");
}

/// Runs the launcher: its main function.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn pg_seats_launcher(_argument: pg_sys::Datum) {
    attach_signal_handlers();
    // SAFETY: called once in this process, without a database, which allows it to read shared catalogs; the callback is
    // a function that lives for ever.
    unsafe {
        pg_sys::BackgroundWorkerInitializeConnectionByOid(
            pg_sys::InvalidOid,
            pg_sys::InvalidOid,
            0,
        );
        unguarded::before_shmem_exit(Some(on_launcher_exit), pg_sys::Datum::from(0));
    }
    settled::settle(LAUNCHER_PATIENCE);
    memory::set_launcher(true);
    Launcher::default().run();
    // SAFETY: ends this process, which holds nothing. With status 1 the postmaster starts it again unless the server
    // stops.
    unsafe { pg_sys::proc_exit(1) };
}

#[pg_guard]
unsafe extern "C-unwind" fn on_launcher_exit(_code: c_int, _argument: pg_sys::Datum) {
    memory::set_launcher(false);
}

/// The launcher, and what it has already complained of: each problem once until it is solved.
#[derive(Default)]
struct Launcher {
    was_in_recovery: bool,
    lacks_room: bool,
    /// Databases that could not be noted yet for want of room.
    unnoted: Vec<DatabaseOid>,
    /// When a seat may have been inactive for too long; `None`: there is no limit.
    idle_at: Option<Timestamp>,
    /// The number of publications for which `idle_at` holds.
    idle_by: u64,
    /// Whether the launcher is expected to look again soon, so that a pause is noticed.
    watches: bool,
    /// When the worker in reserve was first missed, or the postmaster last woken for it; `None`: it is there.
    missed_reserve: Option<Instant>,
    /// The last pause that it has noted.
    pause: Option<Pause>,
    renewals: Renewals,
    visits: Visits,
    pools: Written,
}

impl Launcher {
    /// Works until the server stops or is gone.
    fn run(&mut self) {
        loop {
            self.attend();
            let in_recovery = backend::in_recovery();
            if std::mem::replace(&mut self.was_in_recovery, in_recovery) && !in_recovery {
                memory::write(|ledger| ledger.revisit_all(Unsettled::Pools));
            }
            pgrx::check_for_interrupts!();
            // On a standby nothing reports new databases, or a promotion.
            let are_noted = memory::read(|ledger| ledger.is_visited(in_recovery));
            if in_recovery || !are_noted {
                self.note_all_databases(in_recovery);
            }
            if self.visits.go_on() {
                // A license that was installed may be due.
                self.renewals.look_again();
            }
            memory::write(|ledger| ledger.note_settled(in_recovery));
            if !in_recovery {
                self.pools.keep_up();
            }
            if in_recovery {
                BackgroundWorker::transaction(events::log_all);
            }
            // Most of all while visits are pending, which may need it.
            let misses_reserve = self.misses_reserve();
            let retry =
                self.visits.are_pending() || self.lacks_room || misses_reserve || in_recovery;
            let retry = retry.then_some(RETRY);
            let write = events::next_write_in().filter(|_| !in_recovery);
            // What is due now waits for a visit under way, or its database for the end of a pause.
            let write = write.map(|write| if write.is_zero() { RETRY } else { write });
            backend::wait_in_worker(write.into_iter().chain(retry).chain(self.next_due()).min());
        }
    }

    /// Tells whether there is no worker in reserve. While there is none it wakes the postmaster each second.
    fn misses_reserve(&mut self) -> bool {
        if memory::reserve::is_there() {
            self.missed_reserve = None;
            return false;
        }
        let missed = self.missed_reserve.get_or_insert_with(Instant::now);
        if missed.elapsed() >= RETRY {
            *missed = Instant::now();
            backend::wake_postmaster();
        }
        true
    }

    /// Does what must not wait for visits: it notes a changed configuration, ends leases, and logs off seats whose time
    /// is up.
    fn attend(&mut self) {
        if BackgroundWorker::sighup_received() {
            self.reload();
        }
        self.look_at_clocks();
        expiry::end_due_leases();
        self.log_off_idle();
        self.renewals.attend();
    }

    /// Returns the time until something is due: an expiry, a log-off, a renewal or a look at the clocks.
    fn next_due(&self) -> Option<Duration> {
        let idle = self.idle_at.and_then(backend::time_until);
        let renewal = self.renewals.next_in();
        let look = self
            .watches
            .then_some(Duration::from_micros(time::LOOK.unsigned_abs()));
        let due = next_expiry().into_iter().chain(idle).chain(renewal);
        due.chain(look).min()
    }

    /// Looks at the clocks, and notes a pause: whatever has a time is looked at again.
    fn look_at_clocks(&mut self) {
        let (watches, pause) = memory::launcher_looks();
        self.watches = watches;
        if let Some(pause) = pause.filter(|pause| self.pause != Some(*pause)) {
            error::log(format!(
                "the clock was set by {} s, or nothing ran for {} s: times of leases, of seats that linger \
                 and of inactivity begin anew",
                pause.moved / 1_000_000,
                pause.late / 1_000_000
            ));
            self.idle_at = self.idle_at.map(|_| backend::now());
            self.renewals.look_again();
        }
        self.pause = pause;
    }

    /// Reads the configuration again. If superusers begin or cease to count, every database is read again, because
    /// those of a pool count together. Sessions that wait in the queue learn of a softer enforcement here, because they
    /// read the configuration only when their statement has ended. Signatures are verified again, because the keys may
    /// have changed.
    fn reload(&mut self) {
        let before = settings::exempt_superusers();
        // SAFETY: called outside a transaction, as every worker does on SIGHUP.
        unsafe { pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP) };
        if settings::exempt_superusers() != before {
            memory::write(|ledger| ledger.revisit_all(Unsettled::Counts));
        }
        memory::write(|ledger| {
            ledger.outdate_signed();
            ledger.enforce_queue(settings::enforcement());
        });
        self.renewals.begin_anew();
    }

    /// Logs off seats that are inactive for too long, if one may be, or the rules have changed.
    fn log_off_idle(&mut self) {
        let rules = memory::read(|ledger| ledger.head.published);
        let is_due = self.idle_at.is_some_and(|at| at <= backend::now());
        if is_due || rules != self.idle_by {
            self.idle_by = rules;
            self.idle_at = BackgroundWorker::transaction(idle::log_off);
        }
    }

    /// Notes every database that can be connected to, so that it is visited.
    fn note_all_databases(&mut self, in_recovery: bool) {
        if self.unnoted.is_empty() {
            let known = known_databases();
            // Somebody may have locked the catalog.
            let Ok(databases) = transaction(catalog::connectable_databases) else {
                return;
            };
            let Ok(mut existing) = transaction(catalog::databases) else {
                return;
            };
            existing.sort_unstable();
            self.unnoted = databases;
            // Nobody reports dropped databases to a standby, or to the primary that it becomes.
            memory::write(|ledger| ledger.forget_gone(&known, &existing, backend::now()));
        }
        let now = backend::now();
        let unnoted = &mut self.unnoted;
        memory::write(|ledger| {
            // Databases that were read and have no rules make room for others.
            unnoted.retain(|&database| {
                let noted = ledger.generation(database).is_some();
                if noted && left::has_trail(ledger.databases.get(&database)) {
                    ledger.write_soon(database, now);
                }
                !noted
            });
            ledger.set_visited(unnoted.is_empty(), in_recovery);
        });
        let lacks_room = !self.unnoted.is_empty();
        if lacks_room && !self.lacks_room {
            error::log(
                "pg_seats has room for 10,240 databases with licenses, and looks at others in turn",
            );
        }
        self.lacks_room = lacks_room;
    }
}

/// Returns when to look for expired leases: rather seldom, since each look passes over all of them.
fn next_expiry() -> Option<Duration> {
    Some(expiry::next_due_in()?.max(EXPIRY_PAUSE))
}

fn known_databases() -> Vec<DatabaseOid> {
    memory::collect(
        |ledger| ledger.databases.len(),
        |ledger, find| ledger.databases.each(|known| find(known.oid)),
    )
}
