//! What is known about a database's tables.

use crate::core::ledger::numbers::{DatabaseOid, Generation};
use crate::core::ledger::recents::Recents;
use crate::core::ledger::room::Ring;
use crate::core::ledger::rules::Rules;
use crate::core::ledger::table::entry;
use crate::core::ledger::time::Timestamp;
use crate::core::ledger::visit::{Leased, Stage, Unread, Unsettled, Visit};

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
    /// What is in force.
    pub in_force: InForce,
    /// The last attempt to read the tables, if it failed.
    pub(super) failure: Failure,
    /// The rows in force, by their tables.
    pub rows: RowState,
    /// Its leases.
    pub leases: LeaseState,
    /// Its visits by database workers.
    pub visits: VisitState,
    /// Its audit trail.
    pub trail: TrailState,
    /// What is counted for the life of its licenses.
    pub counts: CountState,
}

/// The rules in force, by what was read of the tables.
#[derive(Clone, Copy, Debug)]
pub struct InForce {
    /// Their generation; none if there are none.
    pub loaded: Generation,
    /// The oldest generation whose rules may still be put in force. Rules that were read at it or later may be, even if
    /// a change has come meanwhile.
    pub(super) not_before: Generation,
    /// When they were read.
    pub read_at: Timestamp,
    /// Whether the tables had the triggers that notice changes.
    pub(super) watched: bool,
    /// Whether they were read on a standby.
    pub in_recovery: bool,
    /// Whether superusers took no seat then.
    pub(super) exempt_superusers: bool,
    /// What others may not know yet about what the database adds to pools.
    pub unsettled: Unsettled,
    /// When they may change although no table does, so that a database worker should look.
    pub changes_at: Timestamp,
}

/// An attempt to read the tables that failed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failure {
    /// When it was; 0 if they have been read since.
    pub(super) at: Timestamp,
    /// The generation that could not be read then.
    pub(super) generation: Generation,
    /// Until when somebody is trying again.
    pub(super) tried_until: Timestamp,
}

/// The numbers of a database's rows.
#[derive(Clone, Copy, Debug)]
pub struct RowState {
    pub(super) licenses: u32,
    pub(super) exemptions: u32,
    pub(super) reservations: u32,
    /// The bars, including those that are not rows yet.
    pub(super) bars: u32,
    /// The bars that are not rows yet.
    pub(super) unstored_bars: u32,
    /// The rows that are not in force for want of room.
    pub left_out: u32,
    /// The reservations that are not in force because there are too many different roles.
    pub(super) unnumbered: u32,
    /// Whether the log has the present numbers of both.
    pub(super) left_out_logged: bool,
}

/// The leases of a database.
#[derive(Clone, Copy, Debug)]
pub struct LeaseState {
    /// The OID of the table whose leases the ledger has; 0 if they have not been read yet.
    pub(super) table: u32,
    /// What is known about them as long as the database has not been read.
    pub(super) unread: Unread,
    /// Whether there have been any.
    pub(super) had: Leased,
    /// The number of those that have ended and whose rows are yet to be deleted.
    pub ended: u32,
    /// The number of those that were read when there was no room for them.
    pub left_out: u32,
}

/// The visits of a database by database workers.
#[derive(Clone, Copy, Debug)]
pub struct VisitState {
    /// The visit that is under way, or the last one.
    pub last: Visit,
    /// The number of database workers in a row that could not even connect.
    pub(super) lost: u32,
    /// Whether somebody waits for one.
    pub(super) wanted: bool,
    /// The generation at which one could not read the tables.
    pub(super) unreadable: Generation,
    /// A digest of the problem here that was last reported to the log.
    pub(super) complaint: u64,
    /// How many times in a row it has occurred.
    pub(super) complaints: u32,
    /// The generation at which one last looked at the signed licenses.
    pub observed: Generation,
    /// The state of the installation's record in which the record says nothing about this database; 0 if it may say
    /// something.
    pub(super) unsigned_in: u64,
}

/// The audit trail of a database.
#[derive(Clone, Copy, Debug)]
pub struct TrailState {
    /// The number of events that are yet to be written.
    pub events: u32,
    /// The number of events for which there was no room.
    pub lost: u64,
    /// Whether the events that the last stop of the server kept have been written.
    pub left_written: bool,
    /// The number of the last event up to which all necessary warnings were given.
    pub warned: u64,
    /// Whether it could not be written.
    pub unwritable: bool,
    /// Its part of the room for events.
    pub(super) ring: Ring,
    /// How many times its licenses have reached levels of use lately.
    pub(super) crossings: Recents<2>,
    /// Whether old rows could not be deleted.
    pub(super) untidy: bool,
    /// When it is to be written next.
    pub write_at: Timestamp,
}

/// The counts of a database that last.
#[derive(Clone, Copy, Debug)]
pub struct CountState {
    /// Whether what was counted before the server's start has been added.
    pub added: bool,
    /// Whether they could not be written.
    pub(super) unwritable: bool,
    /// A digest of them, and of the rules, as they were last written; 0 if they are to be written.
    pub written: u64,
}

impl Database {
    /// Returns a database of which nothing is known yet.
    pub(super) fn unknown(oid: DatabaseOid, generation: Generation) -> Database {
        Database {
            oid,
            changing: 0,
            generation,
            in_force: InForce {
                loaded: Generation::NONE,
                not_before: generation,
                read_at: 0,
                watched: false,
                in_recovery: false,
                exempt_superusers: true,
                unsettled: Unsettled::Nothing,
                changes_at: Timestamp::MAX,
            },
            failure: Failure {
                at: 0,
                generation: Generation::NONE,
                tried_until: 0,
            },
            rows: RowState {
                licenses: 0,
                exemptions: 0,
                reservations: 0,
                bars: 0,
                unstored_bars: 0,
                left_out: 0,
                unnumbered: 0,
                left_out_logged: true,
            },
            leases: LeaseState {
                table: 0,
                unread: Unread::MayHaveLeases,
                had: Leased::Never,
                ended: 0,
                left_out: 0,
            },
            visits: VisitState {
                last: Visit {
                    number: 0,
                    stage: Stage::Ended,
                },
                lost: 0,
                wanted: false,
                unreadable: Generation::NONE,
                complaint: 0,
                complaints: 0,
                observed: Generation::NONE,
                unsigned_in: 0,
            },
            trail: TrailState {
                events: 0,
                lost: 0,
                left_written: false,
                warned: 0,
                unwritable: false,
                ring: Ring::EMPTY,
                crossings: Recents::NONE,
                untidy: false,
                write_at: Timestamp::MAX,
            },
            counts: CountState {
                added: false,
                unwritable: false,
                written: 0,
            },
        }
    }

    /// Tells whether it was read, and has neither rules nor anything else that must be remembered.
    pub(super) fn is_forgettable(&self) -> bool {
        self.is_loaded()
            && self.in_force.loaded != Generation::NONE
            && self.changing == 0
            && self.rules() == 0
            && self.leases.table == 0
            && self.leases.ended == 0
            && !self.visits.wanted
            // Nothing is to be written, now or later.
            && !self.has_unwritten(Timestamp::MAX - 1)
            && !self.has_left_out()
    }

    /// Tells whether some of its rows are not in force, or the log is yet to be told about their number.
    pub(super) fn has_left_out(&self) -> bool {
        self.rows.left_out > 0 || self.rows.unnumbered > 0 || !self.rows.left_out_logged
    }

    /// Notes that its tables could be read.
    pub(super) fn note_read(&mut self) {
        self.failure.at = 0;
    }

    /// Returns the number of its rows in force, including bars that are not rows yet.
    pub(super) fn rules(&self) -> usize {
        (self.rows.licenses + self.rows.exemptions + self.rows.reservations + self.rows.bars)
            as usize
    }

    /// Returns the number of rows that it gives up for others, down to a total of `level`. Licenses, and bars that are
    /// not rows yet, are never given up.
    pub(super) fn gives(&self, level: usize) -> usize {
        let rows = self.rows.exemptions + self.rows.bars - self.rows.unstored_bars
            + self.rows.reservations;
        self.rules().saturating_sub(level).min(rows as usize)
    }

    /// Tells whether something is to be written to its audit trail now.
    pub fn has_unwritten(&self, now: Timestamp) -> bool {
        self.trail.events > 0 || self.trail.lost > 0 || self.trail.ring.due <= now
    }

    /// Tells whether the rules in force are those of the last change.
    pub fn is_loaded(&self) -> bool {
        self.in_force.loaded == self.generation
    }

    /// Tells whether these rules are in force already, and no change can go unnoticed.
    pub(super) fn has(&self, rules: &Rules) -> bool {
        self.in_force.loaded == rules.generation
            && self.changing == 0
            && self.in_force.watched
            && rules.watched
            && !self.in_force.in_recovery
            && !rules.in_recovery
            && self.in_force.exempt_superusers == rules.exempt_superusers
            && self.leases.table == rules.leases_of
            && (self.counts.added || rules.counts.is_none())
            && self.rows.licenses as usize == rules.licenses.len()
    }

    pub(super) fn is_read(&self, in_recovery: bool) -> bool {
        self.is_loaded() && (in_recovery || !self.in_force.in_recovery)
    }

    /// Tells whether it is unknown what the database adds to pools, or that may have become more.
    pub(super) fn is_unknown(&self, in_recovery: bool) -> bool {
        self.in_force.loaded == Generation::NONE
            || !self.is_loaded() && self.in_force.unsettled != Unsettled::Nothing
            || self.in_force.in_recovery && !in_recovery
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
