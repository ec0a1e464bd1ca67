//! Databases that could not be visited are passed over for a while.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::core::ledger::visit::{Due, Outcome};

/// Databases that could not be visited are passed over for a while, the longer the more often that was so.
#[derive(Debug, Default)]
pub struct Pauses(BTreeMap<u32, Pause>);

#[derive(Clone, Copy, Debug)]
pub(super) struct Pause {
    generation: u64,
    failures: u32,
    since: Instant,
    /// How long it has taken a place from others, or in vain.
    kept: Duration,
}

/// How soon a database is visited again in any case.
pub(super) const RETRY: Duration = Duration::from_secs(1);

/// A pause is at most so many times as long: about a minute.
pub(super) const LONGEST: u32 = 64;

/// Who writes while others wait leaves within two seconds: a visit that keeps them waiting for longer is slow, and so is
/// one of that length in which nothing could be written.
pub(super) const SLOW: Duration = Duration::from_secs(4);

/// After a slow visit there is none for so many times as long: a few per cent of the time are its.
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
    /// Takes note of what became of a visit. True where the log should say so: the first time, and ever more
    /// seldom after that.
    pub fn note(&mut self, due: Due, outcome: Outcome, now: Instant) -> bool {
        let former = self.0.get(&due.database).copied();
        let failures = match outcome {
            Outcome::NotBegun => return false,
            Outcome::Made => {
                self.0.remove(&due.database);
                return false;
            }
            // It says itself why.
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

    /// Takes note of how long a visit has kept others waiting, or was in vain. True where that was too long, whatever
    /// became of it.
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

    /// Whether a database may be visited now.
    pub fn admit(&self, due: &Due, now: Instant) -> bool {
        self.0
            .get(&due.database)
            .is_none_or(|pause| pause.is_over(due, now))
    }

    /// Forgets those that are due no more.
    pub fn retain(&mut self, are_known: impl Fn(u32) -> bool) {
        self.0.retain(|&database, _| are_known(database));
    }
}
