//! How the room for events is divided.

use crate::core::ledger::event::Happened;
use crate::core::ledger::time::Timestamp;

/// The number of places that a text takes which is too long for a label.
pub(super) const PLACES_OF_TEXT: usize = 2;

/// Returns the most such texts that a room of this many places can have, with one that is just being noted.
pub const fn texts(places: usize) -> usize {
    places / (1 + PLACES_OF_TEXT) + 2
}

/// The ranks of events, from those that give way first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Rank {
    /// Events that anybody can cause in any number.
    Move = 0,
    /// Events that anybody can cause in some number.
    Answer = 1,
    /// An administrator's act, or something that should be known.
    Act = 2,
}

pub(super) const RANKS: usize = 3;

impl Rank {
    pub(super) fn of(happened: Happened) -> Rank {
        match happened {
            Happened::Taken
            | Happened::Left(_)
            | Happened::Overdraft(_)
            | Happened::ExemptLogin(_)
            | Happened::LeaseExpired => Rank::Move,
            Happened::Denied(_) | Happened::WouldBeDenied(_) | Happened::Reached { .. } => {
                Rank::Answer
            }
            Happened::Terminated
            | Happened::LoggedOff
            | Happened::Reclaimed
            | Happened::Tampered(_)
            | Happened::ClockJump { .. } => Rank::Act,
        }
    }

    /// Returns how many of the room's places are for events of this rank and of lower ones.
    pub(super) fn part_of(self, places: usize) -> usize {
        match self {
            Rank::Move => places - places / 4,
            Rank::Answer => places - places / 8,
            Rank::Act => places,
        }
    }
}

/// The state of the whole room.
#[derive(Debug, Default)]
pub struct Room {
    /// The number of places that are taken.
    pub(super) used: usize,
    /// The number of databases that can't be written.
    pub(super) unwritable: usize,
    /// The number of places that these have for events which may give way.
    pub(super) stuck: usize,
    /// When these were last asked to give way.
    pub(super) asked_at: Timestamp,
}

impl Room {
    /// Shifts its moments after the clock was set by so much.
    pub(super) fn shift(&mut self, by: i64) {
        self.asked_at = self.asked_at.saturating_add(by);
    }
}

/// A database's part of the room.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ring {
    /// The numbers of the first and the last event that its writer sees; 0 if there is none. Each event has the number
    /// of the next one.
    pub(super) first: u64,
    pub(super) last: u64,
    /// The number of the last event that a writer has taken. Nothing is added to it any more.
    pub(super) taken: u64,
    /// When the writer is to see denials that are being gathered.
    pub(super) due: Timestamp,
    /// The number of places that it has, for each rank.
    pub(super) places: [usize; RANKS],
}

impl Ring {
    pub(super) const EMPTY: Ring = Ring {
        first: 0,
        last: 0,
        taken: 0,
        due: Timestamp::MAX,
        places: [0; RANKS],
    };

    /// Returns the number of places of events that give way if the database can't be written and others need room.
    pub(super) fn yielding(&self) -> usize {
        let [moves, answers, _] = self.places;
        moves + answers
    }

    pub(super) fn of_rank(&mut self, rank: Rank) -> Option<&mut usize> {
        self.places.get_mut(rank as usize)
    }
}
