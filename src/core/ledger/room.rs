//! How the room for events is divided.

use crate::core::ledger::event::Happened;
use crate::core::ledger::time::Timestamp;

/// So many places does a text take that is too long for a label.
pub(super) const PLACES_OF_TEXT: usize = 2;

/// How many such texts there can be at most in a room of so many places, and one that is just being noted.
pub const fn texts(places: usize) -> usize {
    places / (1 + PLACES_OF_TEXT) + 2
}

/// How events are ranked, from those that give way first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Rank {
    /// Anybody makes as many as he likes.
    Move = 0,
    /// Anybody can make some.
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

    /// How many of the room's places are for events of this rank, and of lower ones.
    pub(super) fn part_of(self, places: usize) -> usize {
        match self {
            Rank::Move => places - places / 4,
            Rank::Answer => places - places / 8,
            Rank::Act => places,
        }
    }
}

/// What is known of the whole room.
#[derive(Debug, Default)]
pub struct Room {
    /// Places that are taken.
    pub(super) used: usize,
    /// Databases that can't be written.
    pub(super) unwritable: usize,
    /// The places that they have for what may give way.
    pub(super) stuck: usize,
    /// When they were last asked to give way.
    pub(super) asked_at: Timestamp,
}

impl Room {
    /// The clock was set by so much, and its moments with it.
    pub(super) fn shift(&mut self, by: i64) {
        self.asked_at = self.asked_at.saturating_add(by);
    }
}

/// What a database has in the room.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ring {
    /// The numbers of the first and the last event that its writer sees, each of which has that of the next; 0:
    /// none.
    pub(super) first: u64,
    pub(super) last: u64,
    /// The number of the last one that a writer has taken: nothing is added to it any more.
    pub(super) taken: u64,
    /// When denials that are gathered are to be seen by the writer.
    pub(super) due: Timestamp,
    /// The places that it has, for each rank.
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

    /// The places of what gives way where it can't be written, and others need room.
    pub(super) fn yielding(&self) -> usize {
        let [moves, answers, _] = self.places;
        moves + answers
    }

    pub(super) fn of_rank(&mut self, rank: Rank) -> Option<&mut usize> {
        self.places.get_mut(rank as usize)
    }
}
