//! A spell: denials of one user that follow each other closely and share events.

use std::mem::Discriminant;

use crate::core::ledger::denial::Cause;
use crate::core::ledger::event::Happened;
use crate::core::ledger::numbers::DatabaseOid;
use crate::core::ledger::table::entry;
use crate::core::ledger::time::Timestamp;

/// How long a user must not be denied for the next denial to begin another spell, in microseconds.
pub(super) const SPELL: Timestamp = 300_000_000;

/// How long denials of a spell are gathered in one event, in microseconds.
pub(super) const ROW: Timestamp = 60_000_000;

/// An hour, in microseconds. No event of a spell goes beyond a full hour.
pub(super) const HOUR: Timestamp = 3_600_000_000;

/// The number of users whose spells are known. When there are more, the one that has been silent longest is forgotten.
pub const SPELLS: usize = 4_096;

/// The denials of one user.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Spell {
    /// A digest of the user, the product and the database, made with a secret so that nobody can predict it; never 0.
    pub(super) key: u64,
    /// The keys of the spells with the next later and the next earlier last denial; 0 if there is none.
    pub(super) newer: u64,
    pub(super) older: u64,
    pub(super) database: DatabaseOid,
    /// When the last denial was.
    pub(super) last: Timestamp,
    /// When its last event was written, or could have been.
    pub(super) reported: Timestamp,
    /// The kind of the last denial.
    pub(super) kind: EventKind,
    /// The number of the event that gathers its denials; 0 if none does.
    pub(super) row: u64,
    /// When that event is to be written.
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
    /// Shifts its moments after the clock was set by so much.
    pub(super) fn shift(&mut self, by: i64) {
        for moment in [&mut self.last, &mut self.reported, &mut self.due] {
            if *moment != Timestamp::MAX {
                *moment = moment.saturating_add(by);
            }
        }
    }

    /// Ends the spell without another event, because nothing is known about its database any more.
    pub(super) fn forget(&mut self) {
        self.row = 0;
        self.last = Timestamp::MIN;
    }
}

/// The ends of the list of spells, which is in the order of their last denials.
#[derive(Debug, Default)]
pub struct Silence {
    pub(super) newest: u64,
    pub(super) oldest: u64,
}
