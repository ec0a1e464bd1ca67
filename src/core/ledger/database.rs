//! What is known of a database's tables.

use crate::core::ledger::recents::Recents;
use crate::core::ledger::room::Ring;
use crate::core::ledger::rules::Rules;
use crate::core::ledger::table::entry;
use crate::core::ledger::time::Timestamp;
use crate::core::ledger::visit::{Leased, Unread, Unsettled, Visit};

/// What is known of a database's tables.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Database {
    /// The database's OID.
    pub oid: u32,
    /// Transactions that are just committing a change.
    pub(super) changing: u32,
    /// The number of the last change.
    pub generation: u64,
    /// What was read before this generation is not put in force any more; what was read since may be, also
    /// where a change has come meanwhile.
    pub(super) not_before: u64,
    /// The generation of the rules in force; 0: none were ever read.
    pub loaded: u64,
    /// The generation at which a visitor could not read them.
    pub(super) unreadable: u64,
    /// The visit that is under way, or the last.
    pub visit: Visit,
    /// Visitors in a row that could not even connect.
    pub(super) lost_visitors: u32,
    /// Somebody waits for a visitor.
    pub(super) wanted: bool,
    /// What others may not know yet of what it adds to pools.
    pub unsettled: Unsettled,
    /// What is known of it as long as it has not been read.
    pub(super) unread: Unread,
    /// Whether it has had leases.
    pub(super) leased: Leased,
    /// A digest of what the log was told last of what does not work here, and how often that was so.
    pub(super) complaint: u64,
    pub(super) complaints: u32,
    pub(super) watched: bool,
    /// The rules in force were read on a standby.
    pub in_recovery: bool,
    pub(super) exempt_superusers: bool,
    /// When the rules in force were read.
    pub read_at: Timestamp,
    pub(super) licenses: u32,
    pub(super) exemptions: u32,
    pub(super) reservations: u32,
    /// The OID of the table whose leases the ledger has; 0: they were not read yet.
    pub(super) leases_of: u32,
    /// Leases that have ended and whose rows are yet to be deleted.
    pub ended: u32,
    /// Bars, those that are no rows yet among them.
    pub(super) bars: u32,
    /// Bars that are no rows yet.
    pub(super) unstored_bars: u32,
    /// Rows that are not in force for want of room.
    pub left_out: u32,
    /// Reservations that are not, since there are too many different roles.
    pub(super) unnumbered: u32,
    /// Somebody has been told of those.
    pub(super) left_out_told: bool,
    /// When its tables could last not be read; 0: they could since.
    pub(super) failed_at: Timestamp,
    /// The generation that could not be.
    pub(super) failed: u64,
    /// Until when somebody tries again.
    pub(super) tried_until: Timestamp,
    /// Leases that were read when there was no room for them.
    pub leases_left: u32,
    /// What was counted before the server's start has been added.
    pub counted: bool,
    /// What is counted could not be written.
    pub(super) uncountable: bool,
    /// A digest of what was counted, and of the rules, when it was written last; 0: it is to be written.
    pub counts_written: u64,
    /// Events that its audit trail is yet to be told.
    pub events: u32,
    /// Those for which there was no room.
    pub events_lost: u64,
    /// What the last stop of the server has kept of its audit trail is told.
    pub kept_told: bool,
    /// The number of the last event that has been warned of, where it must be.
    pub warned: u64,
    /// Its audit trail could not be written.
    pub unwritable: bool,
    /// What it has in the room of events.
    pub(super) ring: Ring,
    /// How often its licenses have reached levels of use of late.
    pub(super) crossings: Recents<2>,
    /// Old rows of its audit trail could not be deleted.
    pub(super) untidy: bool,
    /// When it is to be written next.
    pub write_at: Timestamp,
    /// When its rules may be others though no table is changed, and a visitor should look.
    pub changes_at: Timestamp,
    /// The generation at which a visitor has looked at its signed licenses last.
    pub observed: u64,
    /// The state of the installation's record in which it says nothing of this database; 0: it may.
    pub unsigned_in: u64,
}

impl Database {
    /// It was read, and has no rules, nor anything else that is to be kept in mind.
    pub(super) fn is_forgettable(&self) -> bool {
        self.is_loaded()
            && self.loaded != 0
            && self.changing == 0
            && self.rules() == 0
            && self.leases_of == 0
            && self.ended == 0
            && !self.wanted
            // Nothing is to be told, now or later.
            && !self.has_untold(Timestamp::MAX - 1)
            && !self.has_left_out()
    }

    /// Not all of its rows are in force, or were when somebody was last told.
    pub(super) fn has_left_out(&self) -> bool {
        self.left_out > 0 || self.unnumbered > 0 || !self.left_out_told
    }

    /// Its tables could be read.
    pub(super) fn note_read(&mut self) {
        self.failed_at = 0;
    }

    /// How many rows it has in force.
    pub(super) fn rules(&self) -> usize {
        (self.licenses + self.exemptions + self.reservations + self.bars) as usize
    }

    /// How many of them give way to others, down to so many.
    pub(super) fn gives(&self, level: usize) -> usize {
        let rows = self.exemptions + self.bars - self.unstored_bars + self.reservations;
        self.rules().saturating_sub(level).min(rows as usize)
    }

    /// There is something to be told of it now.
    pub fn has_untold(&self, now: Timestamp) -> bool {
        self.events > 0 || self.events_lost > 0 || self.ring.due <= now
    }

    /// The rules in force are those of the last change.
    pub fn is_loaded(&self) -> bool {
        self.loaded == self.generation
    }

    /// These rules are in force already, and no change comes unnoticed.
    pub(super) fn has(&self, rules: &Rules) -> bool {
        self.loaded == rules.generation
            && self.changing == 0
            && self.watched
            && rules.watched
            && !self.in_recovery
            && !rules.in_recovery
            && self.exempt_superusers == rules.exempt_superusers
            && self.leases_of == rules.leases_of
            && (self.counted || rules.counts.is_none())
            && self.licenses as usize == rules.licenses.len()
    }

    pub(super) fn is_read(&self, in_recovery: bool) -> bool {
        self.is_loaded() && (in_recovery || !self.in_recovery)
    }

    /// What it adds to pools is not known, or may be more by now.
    pub(super) fn is_unknown(&self, in_recovery: bool) -> bool {
        self.loaded == 0
            || !self.is_loaded() && self.unsettled != Unsettled::Nothing
            || self.in_recovery && !in_recovery
    }
}

entry!(Database, oid: u32);

/// From where the rules in force are looked at.
#[derive(Clone, Copy, Debug)]
pub struct Viewpoint {
    /// The present moment.
    pub now: Timestamp,
    /// The server is a standby.
    pub in_recovery: bool,
    /// The present setting of `pg_seats.exempt_superusers`.
    pub exempt_superusers: bool,
}
