//! What a session, or a database, has done a moment ago.

use crate::core::ledger::time::Timestamp;

/// Microseconds.
pub(super) const TOGETHER: Timestamp = 1_000_000;

/// So many within [`TOGETHER`] have rows of their own.
pub(super) const ALONE: u32 = 10;

/// How often something has happened of late.
#[derive(Clone, Copy, Debug)]
pub struct Recent {
    /// The number of the tally that it happened to.
    of: u64,
    since: Timestamp,
    times: u32,
    /// The number of the event in which those after the first are told.
    row: u64,
}

/// The same for some tallies: those to which it happened last.
#[derive(Clone, Copy, Debug)]
pub struct Recents<const N: usize>([Recent; N]);

impl<const N: usize> Recents<N> {
    /// Nothing.
    pub const NONE: Recents<N> = Recents(
        [Recent {
            of: 0,
            since: 0,
            times: 0,
            row: 0,
        }; N],
    );

    /// It happens to this tally once more: the event to which it is added, 0 where that is yet to come;
    /// `None` where it has a row of its own.
    pub(super) fn count(&mut self, of: u64, now: Timestamp) -> Option<u64> {
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

    /// What happens to this tally is told in this event from now on.
    pub(super) fn tell_in(&mut self, of: u64, row: u64) {
        if let Some(recent) = self.0.iter_mut().find(|recent| recent.of == of) {
            recent.row = row;
        }
    }
}
