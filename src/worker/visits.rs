//! The visits under way: several at a time, each with a deadline, and nothing waits for them.
#![allow(
    unsafe_code,
    reason = "background workers are PostgreSQL's C interface"
)]

use std::time::{Duration, Instant};

use pgrx::bgworkers::BgWorkerStartTime;
use pgrx::pg_sys;

use super::database::Errand;
use super::process::Process;
use crate::core::ledger::database::Viewpoint;
use crate::core::ledger::numbers::DatabaseOid;
use crate::core::ledger::pauses::Pauses;
use crate::core::ledger::table::Table;
use crate::core::ledger::visit::{Due, Outcome, Stage};
use crate::memory::rules::known;
use crate::memory::{self, reserve};
use crate::pg::error::{self, quoted};
use crate::pg::table::transaction;
use crate::pg::{backend, catalog};

/// The most workers that are sent at the same time: they take background workers that others may need.
const AT_ONCE: usize = 3;

/// How long a worker may take to connect, and to finish.
const TO_ARRIVE: Duration = Duration::from_secs(5);
const TO_LEAVE: Duration = Duration::from_secs(30);

/// How long a visit may take if one table after the other is locked.
const LOCKED: Duration = Duration::from_secs(6);

/// How soon workers are sent again after the server had no process for one.
const RETRY: Duration = Duration::from_secs(1);

/// A visit under way.
struct Visit {
    due: Due,
    number: u32,
    worker: DatabaseWorker,
    since: Instant,
    /// Whether its time was up and it was told to end.
    is_ended: bool,
}

/// The process that makes a visit.
enum DatabaseWorker {
    /// A process of its own.
    Own(Process),
    /// The process in reserve, with this errand.
    InReserve(i64),
}

impl DatabaseWorker {
    /// Sends a worker, and tells whether the server lacks background workers. If the server has no process to start,
    /// the worker in reserve goes, and the next visit waits for it.
    fn send(errand: Errand, lacks_processes: bool) -> (Option<DatabaseWorker>, bool) {
        let argument = errand.to_argument();
        if lacks_processes && reserve::give(argument) {
            return (Some(DatabaseWorker::InReserve(argument)), false);
        }
        let process = Process::start(
            "pg_seats database worker",
            "pg_seats_database_worker",
            argument,
            BgWorkerStartTime::ConsistentState,
        );
        let lacks_workers = process.is_none();
        let worker = match process {
            Some(process) => Some(DatabaseWorker::Own(process)),
            None => reserve::give(argument).then_some(DatabaseWorker::InReserve(argument)),
        };
        (worker, lacks_workers)
    }

    fn is_gone(&self) -> bool {
        match self {
            DatabaseWorker::Own(process) => process.is_gone(),
            DatabaseWorker::InReserve(errand) => !reserve::has(*errand),
        }
    }

    fn terminate(&self) {
        match self {
            DatabaseWorker::Own(process) => process.terminate(),
            DatabaseWorker::InReserve(errand) => reserve::end(*errand),
        }
    }
}

/// The visits under way, and those to come.
#[derive(Default)]
pub struct Visits {
    under_way: Vec<Visit>,
    pauses: Pauses,
    /// No process can be started before this moment.
    not_before: Option<Instant>,
    /// Whether databases are left that should be visited.
    is_behind: bool,
    /// Since when visits wait because as many as possible are under way.
    crowded_since: Option<Instant>,
    lacks_workers: bool,
    lacks_processes: bool,
}

impl Visits {
    /// Notes visits that have ended, ends those whose time is up, and sends workers to databases that are due. Returns
    /// true if a visit has ended.
    pub fn go_on(&mut self) -> bool {
        let view = Viewpoint {
            now: backend::now(),
            ..memory::rules::viewpoint()
        };
        let has_ended = self.note_ended(view);
        self.end_late();
        self.send(view);
        has_ended
    }

    /// Tells whether visits must be looked at again soon, although nothing will wake the launcher.
    pub fn are_pending(&self) -> bool {
        self.is_behind || !self.under_way.is_empty()
    }

    fn note_ended(&mut self, view: Viewpoint) -> bool {
        let gone: Vec<Visit> = self
            .under_way
            .extract_if(.., |visit| visit.worker.is_gone())
            .collect();
        for visit in &gone {
            let outcome = memory::write(|ledger| ledger.visit_ended(visit.due, visit.number, view));
            if matches!(outcome, Outcome::KeptOut | Outcome::Lost | Outcome::Died) {
                // Those who wait for what could not be read must learn that.
                memory::announce_rules_read();
            }
            let now = Instant::now();
            let is_news = self.pauses.note(visit.due, outcome, now);
            let has_arrived = matches!(outcome, Outcome::Made | Outcome::InVain | Outcome::Died);
            let is_in_vain = known(visit.due.database).is_some_and(|known| known.trail.unwritable);
            // A worker that writes may stay as long as nobody else needs its slot, and one that finds tables locked
            // waits for several.
            let kept = match self.crowded_since {
                _ if !has_arrived => Duration::ZERO,
                Some(crowded) => now - crowded.max(visit.since),
                None if is_in_vain => (now - visit.since).saturating_sub(LOCKED),
                None => Duration::ZERO,
            };
            if self.pauses.note_kept(visit.due, kept, now) {
                complain_of_time(visit.due.database, kept);
            }
            if outcome == Outcome::Lost {
                forget_if_gone(visit.due.database);
            }
            if is_news {
                complain(visit.due.database, outcome, visit.is_ended);
            }
            self.note_processes(outcome);
        }
        !gone.is_empty()
    }

    /// Notes whether the server has processes for workers.
    fn note_processes(&mut self, outcome: Outcome) {
        let lacks = outcome == Outcome::NotBegun;
        if lacks {
            self.not_before = Some(Instant::now() + RETRY);
            if !self.lacks_processes {
                error::log(
                    "pg_seats could not start a process to read licenses and write license_events; \
                     trying again every second",
                );
            }
        }
        self.lacks_processes = lacks;
    }

    /// Makes the postmaster end a worker that stays too long. One that can't be ended, for example while its disk does
    /// not answer, keeps no other from being sent.
    fn end_late(&mut self) {
        for visit in &mut self.under_way {
            let stage = known(visit.due.database).map(|known| known.visits.last.stage);
            let has_arrived = matches!(stage, Some(Stage::Arrived | Stage::Ended));
            let limit = if has_arrived { TO_LEAVE } else { TO_ARRIVE };
            if visit.since.elapsed() >= limit && !visit.is_ended {
                visit.is_ended = true;
                visit.worker.terminate();
            }
        }
    }

    /// Sends workers: first where somebody waits for one, then where the last visit was longest ago, so that databases
    /// that are always due leave room for others.
    fn send(&mut self, view: Viewpoint) {
        let is_crowded = self.send_to_all(view);
        if self.crowded_since.is_some() != is_crowded {
            self.crowded_since = is_crowded.then(Instant::now);
            memory::write(|ledger| ledger.set_crowded(is_crowded));
        }
    }

    /// Sends workers to databases that are due. Returns true if some must wait because as many as possible are under
    /// way.
    fn send_to_all(&mut self, view: Viewpoint) -> bool {
        let now = Instant::now();
        let mut due = due(view);
        self.pauses.retain(|database| known(database).is_some());
        self.is_behind = !due.is_empty();
        if self.not_before.is_some_and(|moment| now < moment) {
            return false;
        }
        due.sort_unstable_by_key(|due| (!due.wanted, due.last));
        for due in due {
            let is_visited = |visit: &Visit| visit.due.database == due.database;
            if self.under_way.iter().any(is_visited) || !self.pauses.admit(&due, now) {
                continue;
            }
            let on_time = self.under_way.iter().filter(|visit| !visit.is_ended);
            // A visit that somebody waits for gets one slot more than the others.
            if on_time.count() >= at_once() + usize::from(due.wanted)
                || self.under_way.len() >= 2 * AT_ONCE
            {
                return true;
            }
            if !self.start(due) {
                self.not_before = Some(now + RETRY);
                return true;
            }
        }
        false
    }

    /// Sends a worker; false if there is no process for it.
    fn start(&mut self, due: Due) -> bool {
        let number = memory::write(|ledger| ledger.send_database_worker(due.database));
        let Some(number) = number else {
            return true;
        };
        let errand = Errand {
            database: due.database,
            number,
        };
        let (worker, lacks) = DatabaseWorker::send(errand, self.lacks_processes);
        if lacks && !self.lacks_workers {
            error::log(
                "pg_seats found no free background worker to read licenses and write license_events: \
                 increase max_worker_processes",
            );
        }
        self.lacks_workers = lacks;
        let is_sent = worker.is_some();
        self.under_way.extend(worker.map(|worker| Visit {
            due,
            number,
            worker,
            since: Instant::now(),
            is_ended: false,
        }));
        is_sent
    }
}

/// Returns how many workers may be sent at the same time: a third of the background workers, at most three.
fn at_once() -> usize {
    // SAFETY: a plain global of this process.
    let workers = unsafe { pg_sys::max_worker_processes };
    usize::try_from(workers / 3).unwrap_or(0).clamp(1, AT_ONCE)
}

/// Returns the databases that should be visited.
fn due(view: Viewpoint) -> Vec<Due> {
    memory::collect(
        |ledger| ledger.databases.len(),
        |ledger, find| ledger.each_to_visit(view, find),
    )
}

/// Forgets a database that is gone, because nobody reports that to a standby.
fn forget_if_gone(database: DatabaseOid) {
    let name = transaction(|| catalog::database_name(database));
    if name.is_ok_and(|name| name.is_empty()) {
        memory::write(|ledger| ledger.forget(database, backend::now()));
    }
}

fn complain_of_time(database: DatabaseOid, kept: Duration) {
    let name = transaction(|| catalog::database_name(database)).unwrap_or_default();
    error::log(format!(
        "pg_seats visits database {} less often: what is executed on its tables took {} s",
        quoted(name),
        kept.as_secs()
    ));
}

fn complain(database: DatabaseOid, outcome: Outcome, was_late: bool) {
    let what = match outcome {
        Outcome::KeptOut => "somebody has locked it, as while it is copied",
        Outcome::Lost if was_late => "it took too long to connect",
        Outcome::Lost => "a background worker could not connect",
        _ if was_late => "a background worker took too long there",
        _ => "a background worker ended there before its time",
    };
    let name = transaction(|| catalog::database_name(database)).unwrap_or_default();
    if name.is_empty() {
        return;
    }
    error::log(format!(
        "pg_seats could not read licenses and write license_events of database {}: {what}; \
         trying again within a minute",
        quoted(name)
    ));
}
