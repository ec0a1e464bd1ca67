//! What is known about a database's tables.

use crate::core::ledger::numbers::{DatabaseOid, Generation};
use crate::core::ledger::recents::Recents;
use crate::core::ledger::room::Ring;
use crate::core::ledger::rules::Rules;
use crate::core::ledger::table::entry;
use crate::core::ledger::time::Timestamp;
use crate::core::ledger::visit::{Leased, Unread, Unsettled, Visit};

/// What is known about a database's tables.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Database {
    /// The database's OID.
    pub oid: DatabaseOid,
    /// The number of transactions that are committing a change at this moment.
    pub(super) changing: u32,
    /// The number of the last change.
    pub generation: Generation,
    /// The oldest generation whose rules may still be put in force. Rules that were read at it or later may be, even if
    /// a change has come meanwhile.
    pub(super) not_before: Generation,
    /// The generation of the rules in force; 0 if there are none.
    pub loaded: Generation,
    /// The generation at which a database worker could not read the tables.
    pub(super) unreadable: Generation,
    /// The visit that is under way, or the last one.
    pub visit: Visit,
    /// The number of database workers in a row that could not even connect.
    pub(super) lost_database_workers: u32,
    /// Whether somebody waits for a database worker.
    pub(super) wanted: bool,
    /// What others may not know yet about what it adds to pools.
    pub unsettled: Unsettled,
    /// What is known about it as long as it has not been read.
    pub(super) unread: Unread,
    /// Whether it has had leases.
    pub(super) leased: Leased,
    /// A digest of the problem here that was last reported to the log, and how many times in a row it has occurred.
    pub(super) complaint: u64,
    pub(super) complaints: u32,
    pub(super) watched: bool,
    /// Whether the rules in force were read on a standby.
    pub in_recovery: bool,
    pub(super) exempt_superusers: bool,
    /// When the rules in force were read.
    pub read_at: Timestamp,
    pub(super) licenses: u32,
    pub(super) exemptions: u32,
    pub(super) reservations: u32,
    /// The OID of the table whose leases the ledger has; 0 if they have not been read yet.
    pub(super) leases_of: u32,
    /// The number of leases that have ended and whose rows are yet to be deleted.
    pub ended: u32,
    /// The number of bars, including those that are not rows yet.
    pub(super) bars: u32,
    /// The number of bars that are not rows yet.
    pub(super) unstored_bars: u32,
    /// The number of rows that are not in force for want of room.
    pub left_out: u32,
    /// The number of reservations that are not in force because there are too many different roles.
    pub(super) unnumbered: u32,
    /// Whether the log has been told the present numbers of both.
    pub(super) left_out_logged: bool,
    /// When its tables could last not be read; 0 if they have been read since.
    pub(super) failed_at: Timestamp,
    /// The generation that could not be read then.
    pub(super) failed: Generation,
    /// Until when somebody is trying again.
    pub(super) tried_until: Timestamp,
    /// The number of leases that were read when there was no room for them.
    pub leases_left: u32,
    /// Whether what was counted before the server's start has been added.
    pub counted: bool,
    /// Whether its counts could not be written.
    pub(super) uncountable: bool,
    /// A digest of the counts, and of the rules, as they were last written; 0 if they are to be written.
    pub counts_written: u64,
    /// The number of events that are yet to be written to its audit trail.
    pub events: u32,
    /// The number of events for which there was no room.
    pub events_lost: u64,
    /// Whether the events that the last stop of the server kept for its audit trail have been written.
    pub left_written: bool,
    /// The number of the last event up to which all necessary warnings were given.
    pub warned: u64,
    /// Whether its audit trail could not be written.
    pub unwritable: bool,
    /// Its part of the room for events.
    pub(super) ring: Ring,
    /// How many times its licenses have reached levels of use lately.
    pub(super) crossings: Recents<2>,
    /// Whether old rows of its audit trail could not be deleted.
    pub(super) untidy: bool,
    /// When its audit trail is to be written next.
    pub write_at: Timestamp,
    /// When its rules may change although no table does, so that a database worker should look.
    pub changes_at: Timestamp,
    /// The generation at which a database worker last looked at its signed licenses.
    pub observed: Generation,
    /// The state of the installation's record in which the record says nothing about this database; 0 if it may say
    /// something.
    pub unsigned_in: u64,
}

impl Database {
    /// Tells whether it was read, and has neither rules nor anything else that must be remembered.
    pub(super) fn is_forgettable(&self) -> bool {
        self.is_loaded()
            && self.loaded != Generation::NONE
            && self.changing == 0
            && self.rules() == 0
            && self.leases_of == 0
            && self.ended == 0
            && !self.wanted
            // Nothing is to be written, now or later.
            && !self.has_unwritten(Timestamp::MAX - 1)
            && !self.has_left_out()
    }

    /// Tells whether some of its rows are not in force, or the log is yet to be told about their number.
    pub(super) fn has_left_out(&self) -> bool {
        self.left_out > 0 || self.unnumbered > 0 || !self.left_out_logged
    }

    /// Notes that its tables could be read.
    pub(super) fn note_read(&mut self) {
        self.failed_at = 0;
    }

    /// Returns the number of its rows in force, including bars that are not rows yet.
    pub(super) fn rules(&self) -> usize {
        (self.licenses + self.exemptions + self.reservations + self.bars) as usize
    }

    /// Returns the number of rows that it gives up for others, down to a total of `level`. Licenses, and bars that are
    /// not rows yet, are never given up.
    pub(super) fn gives(&self, level: usize) -> usize {
        let rows = self.exemptions + self.bars - self.unstored_bars + self.reservations;
        self.rules().saturating_sub(level).min(rows as usize)
    }

    /// Tells whether something is to be written to its audit trail now.
    pub fn has_unwritten(&self, now: Timestamp) -> bool {
        self.events > 0 || self.events_lost > 0 || self.ring.due <= now
    }

    /// Tells whether the rules in force are those of the last change.
    pub fn is_loaded(&self) -> bool {
        self.loaded == self.generation
    }

    /// Tells whether these rules are in force already, and no change can go unnoticed.
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

    /// Tells whether it is unknown what the database adds to pools, or that may have become more.
    pub(super) fn is_unknown(&self, in_recovery: bool) -> bool {
        self.loaded == Generation::NONE
            || !self.is_loaded() && self.unsettled != Unsettled::Nothing
            || self.in_recovery && !in_recovery
    }
}

entry!(Database, oid: DatabaseOid);

/// The circumstances in which the rules in force are looked at.
#[derive(Clone, Copy, Debug)]
pub struct Viewpoint {
    /// The present moment.
    pub now: Timestamp,
    /// Whether the server is a standby.
    pub in_recovery: bool,
    /// The present setting of `pg_seats.exempt_superusers`.
    pub exempt_superusers: bool,
}
