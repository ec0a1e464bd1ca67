//! What is known of each database's tables: their changes, and whether the rules in force are those
//! of the last one.

use super::Ledger;
use super::license::{RowKey, Timestamp};
use super::rules::Rules;
use super::table::{Table, Tables, entry};
use super::tally::Steady;

/// What is known of a database's tables.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Database {
    /// The database's OID.
    pub oid: u32,
    /// Transactions that are just committing a change.
    changing: u32,
    /// The number of the last change.
    pub generation: u64,
    /// The generation of the rules in force; 0: none were ever read.
    pub loaded: u64,
    /// The generation at which a visitor could not read them.
    unreadable: u64,
    /// Visitors that came to read them.
    pub visitors: u32,
    /// Visitors in a row that could not even connect.
    pub(super) lost_visitors: u32,
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
    /// Rows of bars that are not in force for want of room.
    pub bars_left: u32,
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
    pub(super) unwritable: bool,
    /// When it is to be written next.
    pub write_at: Timestamp,
    /// When its rules may be others though no table is changed, and a visitor should look.
    pub changes_at: Timestamp,
    /// The generation at which a visitor has looked at its signed licenses last.
    pub observed: u64,
}

impl Database {
    /// The last visitor could not read its tables as they are.
    pub fn has_failed(&self) -> bool {
        self.unreadable == self.generation
    }

    /// So many visitors in a row could not connect that it is taken to be out of order.
    pub(super) fn has_lost_visitors(&self) -> bool {
        self.lost_visitors >= VISITORS_LOST
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

    fn is_read(&self, in_recovery: bool) -> bool {
        self.is_loaded() && (in_recovery || !self.in_recovery)
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

/// How long rules that were read on a standby are relied on, in microseconds.
const STANDBY_RULES_LAST: u64 = 1_000_000;

/// How long what other databases add to a pool is relied on there.
const STANDBY_POOLS_LAST: u64 = 10_000_000;

/// So many visitors in a row that can't connect mean that a database is out of order.
const VISITORS_LOST: u32 = 3;

impl<T: Tables> Ledger<'_, T> {
    /// The database's generation, to be noted before its tables are read. `None` when there is no
    /// room to note one.
    pub fn generation(&mut self, database: u32) -> Option<u64> {
        if let Some(known) = self.databases.get(&database) {
            return Some(known.generation);
        }
        self.head.clock += 1;
        let generation = self.head.clock;
        self.databases.put(Database {
            oid: database,
            changing: 0,
            generation,
            loaded: 0,
            unreadable: 0,
            visitors: 0,
            lost_visitors: 0,
            watched: false,
            in_recovery: false,
            exempt_superusers: true,
            read_at: 0,
            licenses: 0,
            exemptions: 0,
            reservations: 0,
            leases_of: 0,
            ended: 0,
            bars_left: 0,
            counted: false,
            uncountable: false,
            counts_written: 0,
            events: 0,
            events_lost: 0,
            kept_told: false,
            warned: 0,
            unwritable: false,
            write_at: Timestamp::MAX,
            changes_at: Timestamp::MAX,
            observed: 0,
        })?;
        Some(generation)
    }

    /// A transaction that changed the database's tables is about to commit: until it has, its change
    /// may be visible already, so nobody relies on the rules in force.
    pub fn change_begins(&mut self, database: u32) {
        if self.generation(database).is_some()
            && let Some(known) = self.databases.get_mut(&database)
        {
            known.changing += 1;
        }
    }

    /// That transaction has ended.
    pub fn change_ends(&mut self, database: u32) {
        if let Some(known) = self.databases.get_mut(&database) {
            known.changing = known.changing.saturating_sub(1);
        }
        self.outdate(database);
    }

    /// Nobody relies on the rules in force any more.
    pub fn outdate(&mut self, database: u32) {
        self.head.clock += 1;
        if let Some(known) = self.databases.get_mut(&database) {
            known.generation = self.head.clock;
        }
        self.head.ring = !self.waits.is_empty();
    }

    /// The database is gone, or its OID was given to another one.
    pub fn forget(&mut self, database: u32, now: Timestamp) {
        self.remove_rows(database);
        if let Some(roles) = self.plan_roles(database, &[]) {
            self.set_roles(roles);
        }
        self.drop_leases(database);
        self.drop_events(|event| event.database == database);
        self.drop_bars(|bar| bar.database == database);
        self.databases.remove(&database);
        self.note_next_write();
        self.recount_tallies();
        self.reseat_all();
        self.end_lingering(now);
        self.serve_all(now);
        self.drop_unused_tallies();
    }

    /// Every database must be visited again, as after a start: what was read on a standby may be
    /// old, what was read under another setting no longer true.
    pub fn revisit_all(&mut self) {
        self.head.visited = false;
        self.outdate_all();
    }

    /// Seats of a tally went elsewhere: from this moment on no more than are left are given, by whatever rules are
    /// in force, and nobody relies on those, nor on what is being read.
    pub fn withdraw(&mut self, tally: u64, left: i64) {
        let left = i32::try_from(left.max(0)).unwrap_or(i32::MAX);
        self.licenses.each_mut(|license| {
            if license.tally == tally {
                license.seats = Some(license.seats.map_or(left, |seats| seats.min(left)));
            }
        });
        if let Some(tally) = self.tallies.get_mut(&tally) {
            tally.steady = Steady::NEVER;
        }
        self.outdate_all();
    }

    /// Nobody relies on any rules in force any more.
    pub fn outdate_all(&mut self) {
        let Ledger {
            head, databases, ..
        } = self;
        databases.each_mut(|known| {
            head.clock += 1;
            known.generation = head.clock;
        });
        self.head.ring |= !self.waits.is_empty();
    }

    /// What was signed is to be verified again.
    pub fn outdate_signed(&mut self) {
        let Ledger {
            head,
            databases,
            licenses,
            waits,
            ..
        } = self;
        databases.each_mut(|known| {
            let keys = (0..known.licenses).map(|place| RowKey {
                database: known.oid,
                place,
            });
            let mut rows = keys.filter_map(|key| licenses.get(&key));
            if rows.any(|license| license.signed.is_some()) {
                head.clock += 1;
                known.generation = head.clock;
            }
        });
        head.ring |= !waits.is_empty();
    }

    /// True when the rules in force are those of the database's tables, as `now`, in recovery or
    /// not, with this setting of `pg_seats.exempt_superusers`.
    pub fn is_current(&self, database: u32, view: Viewpoint) -> bool {
        self.databases.get(&database).is_some_and(|known| {
            known.is_loaded()
                && known.changing == 0
                && known.exempt_superusers == view.exempt_superusers
                && known.in_recovery == view.in_recovery
                && if view.in_recovery {
                    // A standby's tables change unnoticed.
                    view.now.abs_diff(known.read_at) < STANDBY_RULES_LAST
                } else {
                    known.watched
                }
        })
    }

    /// Shows every database that a visitor should see: its last change has not been read, or its
    /// rules were read on a standby, which has been promoted, or where changes arrive unnoticed; or
    /// it has rows of leases that have ended, or an audit trail to be written, unless visitors can't
    /// connect.
    pub fn each_unread(&self, view: Viewpoint, mut see: impl FnMut(&Database)) {
        self.databases.each(|known| {
            let old = view.now.abs_diff(known.read_at) > STANDBY_POOLS_LAST;
            let outdated = view.in_recovery && known.licenses > 0 && old;
            // A standby is not told of databases that are gone.
            let given_up = known.loaded != 0 && known.has_lost_visitors() && known.has_failed();
            if (!known.is_read(view.in_recovery) || outdated) && !given_up
                || known.ended > 0 && !known.has_lost_visitors() && !view.in_recovery
                || known.write_at <= view.now && !view.in_recovery
            {
                see(known);
            }
        });
    }

    /// A database other than this one that a visitor is about to read, if there is one.
    pub fn awaited(&self, besides: u32, in_recovery: bool) -> Option<Database> {
        let mut awaited = None;
        self.databases.each(|known| {
            let tried = known.loaded != 0 && known.has_failed();
            if known.oid != besides && !known.is_read(in_recovery) && !tried {
                awaited = Some(*known);
            }
        });
        awaited
    }

    /// A visitor has connected to the database, to read its tables.
    pub fn visitor_arrived(&mut self, database: u32) {
        if let Some(known) = self.databases.get_mut(&database) {
            known.visitors += 1;
            known.lost_visitors = 0;
        }
    }

    /// A visitor has looked at the signed licenses of this generation.
    pub fn observed(&mut self, database: u32, generation: u64) {
        if let Some(known) = self.databases.get_mut(&database) {
            known.observed = generation;
            known.changes_at = Timestamp::MAX;
        }
    }

    /// A visitor could not read the database's tables: the rules in force stay for now.
    pub fn visit_failed(&mut self, database: u32) {
        if let Some(known) = self.databases.get_mut(&database) {
            known.unreadable = known.generation;
        }
    }

    /// A visitor could not connect to the database. After several it is taken to be out of order:
    /// where nobody is in, and nobody can come in, it adds nothing to a pool.
    pub fn visitor_lost(&mut self, database: u32) {
        self.visit_failed(database);
        let empty = self
            .sessions
            .iter()
            .all(|s| s.number == 0 || s.database != database);
        if let Some(known) = self.databases.get_mut(&database) {
            known.lost_visitors += 1;
            if known.has_lost_visitors() && known.loaded == 0 && empty {
                known.loaded = known.generation;
            }
        }
    }
}
