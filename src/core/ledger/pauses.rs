//! Databases that could not be visited are skipped for a while.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::core::ledger::numbers::{DatabaseOid, Generation};
use crate::core::ledger::visit::{Due, Outcome};

/// The databases that are skipped because they could not be visited: the more often that was so, the longer.
#[derive(Debug, Default)]
pub struct Pauses(BTreeMap<DatabaseOid, Pause>);

#[derive(Clone, Copy, Debug)]
pub(super) struct Pause {
    generation: Generation,
    failures: u32,
    since: Instant,
    /// How long the last visit kept others waiting, or ran without success.
    kept: Duration,
}

/// How soon a database may be visited again in any case.
pub(super) const RETRY: Duration = Duration::from_secs(1);

/// The longest pause, as a multiple of [`RETRY`]: about a minute.
pub(super) const LONGEST: u32 = 64;

/// From when on a visit is slow. A worker that writes while others wait leaves within two seconds, so a visit that
/// keeps others waiting for longer than this is slow, and so is one of that length which could not write anything.
pub(super) const SLOW: Duration = Duration::from_secs(4);

/// How long a database rests after a slow visit, as a multiple of the visit's length, so that its visits take a few per
/// cent of the time.
pub(super) const REST: u32 = 16;

impl Pause {
    fn is_over(&self, due: &Due, now: Instant) -> bool {
        let waits = !due.wanted && due.generation == self.generation;
        let (retries, rests) = if waits {
            let doubled = self.failures.saturating_sub(1).min(6);
            (2_u32.pow(doubled).min(LONGEST), REST)
        } else {
            (1, 1)
        };
        let pause = (RETRY * retries).max(self.kept.saturating_mul(rests));
        now.saturating_duration_since(self.since) >= pause
    }
}

impl Pauses {
    /// Notes the outcome of a visit. Returns whether the log should report it: the first time, and ever more rarely
    /// after that.
    pub fn note(&mut self, due: Due, outcome: Outcome, now: Instant) -> bool {
        let former = self.0.get(&due.database).copied();
        let failures = match outcome {
            Outcome::NotBegun => return false,
            Outcome::Made => {
                self.0.remove(&due.database);
                return false;
            }
            // The worker itself reports why.
            Outcome::InVain => 0,
            Outcome::KeptOut | Outcome::Lost | Outcome::Died => {
                former.map_or(0, |pause| pause.failures).saturating_add(1)
            }
        };
        let pause = Pause {
            generation: due.generation,
            failures,
            since: now,
            kept: Duration::ZERO,
        };
        self.0.insert(due.database, pause);
        // Locks are held for a moment all the time.
        failures.is_power_of_two() && (failures > 1 || outcome != Outcome::KeptOut)
    }

    /// Notes how long a visit has kept others waiting, or ran without success. Returns whether that was too long,
    /// whatever its outcome.
    pub fn note_kept(&mut self, due: Due, kept: Duration, now: Instant) -> bool {
        if kept < SLOW {
            return false;
        }
        let pause = self.0.entry(due.database).or_insert(Pause {
            generation: due.generation,
            failures: 0,
            since: now,
            kept,
        });
        (pause.since, pause.kept) = (now, kept);
        true
    }

    /// Tells whether a database may be visited now.
    pub fn admit(&self, due: &Due, now: Instant) -> bool {
        self.0
            .get(&due.database)
            .is_none_or(|pause| pause.is_over(due, now))
    }

    /// Forgets databases that are no longer due.
    pub fn retain(&mut self, are_known: impl Fn(DatabaseOid) -> bool) {
        self.0.retain(|&database, _| are_known(database));
    }
}
