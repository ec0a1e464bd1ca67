//! A spell: denials of one user, and what else is told together.

use std::mem::Discriminant;

use crate::core::ledger::denial::Cause;
use crate::core::ledger::event::Happened;
use crate::core::ledger::table::entry;
use crate::core::ledger::time::Timestamp;

/// Who is not denied for so long, in microseconds, and then again, begins another spell.
pub(super) const SPELL: Timestamp = 300_000_000;

/// How long denials of a spell come together in one row, in microseconds.
pub(super) const ROW: Timestamp = 60_000_000;

/// No row of a spell goes beyond one, in microseconds.
pub(super) const HOUR: Timestamp = 3_600_000_000;

/// Of how many users spells are known: who has been silent longest is forgotten.
pub const SPELLS: usize = 4_096;

/// The denials of one user.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Spell {
    /// A digest of the user, the product and the database, which nobody can foresee; never 0.
    pub(super) key: u64,
    /// The spells that were silent less long, and longer, than this one; 0: none.
    pub(super) newer: u64,
    pub(super) older: u64,
    pub(super) database: u32,
    /// When the last denial was.
    pub(super) last: Timestamp,
    /// When its last row was written, or could have been.
    pub(super) told: Timestamp,
    /// What the last denial was for.
    pub(super) kind: EventKind,
    /// The event that gathers its next row; 0: none does.
    pub(super) row: u64,
    /// When that is to be written.
    pub(super) due: Timestamp,
}

entry!(Spell, key: u64);

pub(super) type EventKind = (Discriminant<Happened>, Option<Discriminant<Cause>>);

pub(super) fn kind_of(happened: &Happened) -> EventKind {
    use std::mem::discriminant;
    let cause = match happened {
        Happened::Denied(cause) | Happened::WouldBeDenied(cause) => Some(discriminant(cause)),
        _ => None,
    };
    (discriminant(happened), cause)
}

impl Spell {
    /// The clock was set by so much, and its moments with it.
    pub(super) fn shift(&mut self, by: i64) {
        for moment in [&mut self.last, &mut self.told, &mut self.due] {
            if *moment != Timestamp::MAX {
                *moment = moment.saturating_add(by);
            }
        }
    }

    /// Nothing of its database is known any more.
    pub(super) fn forget(&mut self) {
        self.row = 0;
        self.last = Timestamp::MIN;
    }
}

/// The ends of the list of spells, from the one that was silent least to the one that was most.
#[derive(Debug, Default)]
pub struct Silence {
    pub(super) newest: u64,
    pub(super) oldest: u64,
}
