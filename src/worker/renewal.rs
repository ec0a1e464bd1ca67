//! Automatic renewal: the launcher sees which license is due, and starts a worker that renews it.
#![allow(
    unsafe_code,
    reason = "background workers are PostgreSQL's C interface"
)]

use std::time::Duration;

use pgrx::bgworkers::{BackgroundWorker, BgWorkerStartTime};
use pgrx::pg_sys;
use pgrx::prelude::*;

use super::process::Process;
use super::process::attach_signal_handlers;
use super::settled;
use crate::core::ledger::time::Timestamp;
use crate::core::tokens::believe;
use crate::pg::{backend, error};
use crate::settings;
use crate::signed::installation::files;
use crate::signed::installation::renewal_lock::RenewalLock;
use crate::signed::renewal::{attempt, schedule};

/// The shortest pause between two looks at what is due, unless something may have changed, in microseconds.
const SOONEST_LOOK: Timestamp = 60_000_000;

/// How long to wait for a lock on a shared catalog.
const PATIENCE: Duration = Duration::from_secs(1);

/// The longest pause, because the clock may be set.
const LATEST_LOOK: Timestamp = 3_600_000_000;

/// The launcher's knowledge of renewals.
#[derive(Default)]
pub struct Renewals {
    worker: Option<Process>,
    /// When to look next at what is due.
    look_at: Timestamp,
    /// No worker is started again before this moment: the last one may have achieved nothing.
    not_before: Timestamp,
    lacks_workers: bool,
}

impl Renewals {
    /// Starts a worker if a license is due, one at a time. Never waits for it.
    pub fn attend(&mut self) {
        if self.is_at_work() || settings::renewal_command().is_none() || backend::in_recovery() {
            return;
        }
        let now = backend::now();
        if now < self.look_at.max(self.not_before) {
            return;
        }
        // If the record can't be read now, database workers report it.
        let record = files::record(&settings::installation_key()).unwrap_or_default();
        let due = schedule::next(&record, settings::renew_before());
        let due = due.map_or(Timestamp::MAX, |(at, _)| at);
        self.look_at = due.clamp(now + SOONEST_LOOK, now + LATEST_LOOK);
        if due <= now {
            self.not_before = now + SOONEST_LOOK;
            self.start();
        }
    }

    /// Makes the next call look, because another license may be due.
    pub fn look_again(&mut self) {
        self.look_at = 0;
    }

    /// Lets what has failed be tried again at once.
    pub fn begin_anew(&mut self) {
        self.look_again();
        self.not_before = 0;
        if settings::renewal_command().is_none() || backend::in_recovery() {
            return;
        }
        let begun = files::change_record(&settings::installation_key(), |record| {
            for known in &mut record.licenses {
                known.renewal.begin_anew();
            }
        });
        if let Err(error) = begun {
            error::log(format!(
                "could not record that renewal begins anew: {error}"
            ));
        }
    }

    /// Returns the time until the next look.
    pub fn next_in(&self) -> Option<Duration> {
        if self.worker.is_some() || settings::renewal_command().is_none() || backend::in_recovery()
        {
            return None;
        }
        backend::time_until(self.look_at.max(self.not_before))
    }

    fn is_at_work(&mut self) -> bool {
        self.worker.take_if(|worker| worker.is_gone());
        self.worker.is_some()
    }

    fn start(&mut self) {
        let worker = Process::start(
            "pg_seats renewal",
            "pg_seats_renewal",
            0,
            BgWorkerStartTime::RecoveryFinished,
        );
        if worker.is_none() && !self.lacks_workers {
            error::log(
                "pg_seats found no free background worker to renew licenses: \
                 increase max_worker_processes",
            );
        }
        self.lacks_workers = worker.is_none();
        self.worker = worker;
    }
}

/// Renews every license that is due, one after the other: the main function of a worker.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn pg_seats_renewal(_argument: pg_sys::Datum) {
    attach_signal_handlers();
    // SAFETY: called once in this process, without a database.
    unsafe {
        pg_sys::BackgroundWorkerInitializeConnectionByOid(
            pg_sys::InvalidOid,
            pg_sys::InvalidOid,
            0,
        );
    }
    settled::settle(PATIENCE);
    // It waits for the lock, so that somebody who renews by hand again and again can't keep it out.
    let key = settings::installation_key();
    let lock = match RenewalLock::wait(&key) {
        Ok(lock) => lock,
        Err(error) => return error::log(format!("could not begin to renew licenses: {error}")),
    };
    let mut tried = Vec::new();
    // After a change of the configuration the next worker goes on.
    while !BackgroundWorker::sighup_received() {
        let record = files::record(&key).unwrap_or_default();
        let Some((at, known)) = schedule::next(&record, settings::renew_before()) else {
            return;
        };
        let id = (known.iss.clone(), known.jti.clone());
        // A try that could not be recorded is not repeated at once.
        if at > backend::now() || tried.contains(&id) {
            return;
        }
        tried.push(id);
        if let Ok(claims) = believe(&known.token) {
            // The outcome is in the record.
            let _ = attempt::renew(&lock, (&claims, &known.token), None);
        }
    }
}
