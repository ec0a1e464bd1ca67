//! What a session or a database has done in the last moment.

use crate::core::ledger::numbers::TallyId;
use crate::core::ledger::time::Timestamp;

/// The time within which occurrences are counted together, in microseconds.
pub(super) const TOGETHER: Timestamp = 1_000_000;

/// The number of occurrences within [`TOGETHER`] that have rows of their own.
pub(super) const ALONE: u32 = 10;

/// How many times something has happened lately.
#[derive(Clone, Copy, Debug)]
pub struct Recent {
    /// The tally that it happened to.
    of: TallyId,
    since: Timestamp,
    times: u32,
    /// The number of the event that gathers those after the first ones; 0 if there is none yet.
    row: u64,
}

/// The recent counts of the `N` tallies to which something happened last.
#[derive(Clone, Copy, Debug)]
pub struct Recents<const N: usize>([Recent; N]);

impl<const N: usize> Recents<N> {
    /// No occurrences.
    pub const NONE: Recents<N> = Recents(
        [Recent {
            of: TallyId::NONE,
            since: 0,
            times: 0,
            row: 0,
        }; N],
    );

    /// Counts one more occurrence for this tally, and returns the event to which it is to be added: 0 if that event
    /// does not exist yet, `None` if the occurrence has a row of its own.
    pub(super) fn count(&mut self, of: TallyId, now: Timestamp) -> Option<u64> {
        let is_it = |recent: &&mut Recent| recent.of == of;
        let oldest = |recent: &&mut Recent| recent.since;
        let recent = match self.0.iter_mut().find(is_it) {
            Some(recent) => recent,
            None => self.0.iter_mut().min_by_key(oldest)?,
        };
        if recent.of != of || !(0..TOGETHER).contains(&now.saturating_sub(recent.since)) {
            *recent = Recent {
                of,
                since: now,
                times: 0,
                row: 0,
            };
        }
        recent.times = recent.times.saturating_add(1);
        (recent.times > ALONE).then_some(recent.row)
    }

    /// Notes the event to which further occurrences for this tally are added.
    pub(super) fn gather_in(&mut self, of: TallyId, row: u64) {
        if let Some(recent) = self.0.iter_mut().find(|recent| recent.of == of) {
            recent.row = row;
        }
    }
}
