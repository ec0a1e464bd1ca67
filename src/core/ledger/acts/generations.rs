//! What is known about each database's tables: their changes, and whether the rules in force are those of the last one.

use crate::core::ledger::Ledger;
use crate::core::ledger::database::{Database, InForce, Viewpoint};
use crate::core::ledger::license::RowKey;
use crate::core::ledger::numbers::{DatabaseOid, Generation, TallyId};
use crate::core::ledger::rules::Rules;
use crate::core::ledger::table::{Table, Tables};
use crate::core::ledger::tally::Steady;
use crate::core::ledger::time::Timestamp;
use crate::core::ledger::visit::{Unread, Unsettled};

/// How long rules that were read on a standby are relied on, in microseconds.
const STANDBY_RULES_LAST: u64 = 1_000_000;

/// How long it is remembered that tables could not be read, in microseconds.
const FAILURES_LAST: u64 = 1_000_000;

/// How long a standby relies on what other databases add to a pool, in microseconds.
pub(crate) const STANDBY_POOLS_LAST: u64 = 10_000_000;

impl InForce {
    /// Tells whether the rules were read in the same circumstances, and a change since would have been noticed.
    fn may_be_relied_on(&self, view: Viewpoint) -> bool {
        self.exempt_superusers == view.exempt_superusers
            && self.in_recovery == view.in_recovery
            && if view.in_recovery {
                // A standby's tables change unnoticed.
                view.now.abs_diff(self.read_at) < STANDBY_RULES_LAST
            } else {
                self.watched
            }
    }
}

impl<T: Tables> Ledger<'_, T> {
    /// Returns the database's generation, which must be noted before its tables are read. `None` if there is no room to
    /// register the database.
    pub fn generation(&mut self, database: DatabaseOid) -> Option<Generation> {
        if let Some(known) = self.databases.get(&database) {
            return Some(known.generation);
        }
        if self.databases.len() >= self.databases.capacity() {
            self.forget_one_without_rules();
        }
        let generation = self.head.next_generation();
        self.databases
            .put(Database::unknown(database, generation))?;
        Some(generation)
    }

    /// Makes room for another database by forgetting one about which nothing is known but that it has no rules. A
    /// change there will be that of an unknown database.
    fn forget_one_without_rules(&mut self) {
        let mut found = None;
        self.databases.each(|known| {
            if known.is_forgettable() {
                found = Some(known.oid);
            }
        });
        if let Some(database) = found {
            self.databases.remove(&database);
        }
    }

    /// Forgets the databases in `known` that do not exist any more, because a standby is not told when they are
    /// dropped. Both lists must be sorted.
    pub fn forget_gone(&mut self, known: &[DatabaseOid], existing: &[DatabaseOid], now: Timestamp) {
        for database in known {
            if existing.binary_search(database).is_err() {
                self.forget(*database, now);
            }
        }
    }

    /// Notes that a transaction that changed the database's tables is about to commit. Until it has, its change may be
    /// visible already, so nobody relies on the rules in force.
    pub fn change_begins(&mut self, database: DatabaseOid, unsettled: Unsettled) {
        if unsettled == Unsettled::Pools {
            self.head.pools_edition += 1;
        }
        self.unsettle(database, unsettled);
        if self.generation(database).is_some()
            && let Some(known) = self.databases.get_mut(&database)
        {
            known.changing += 1;
            if known.leases.unread == Unread::IsNew {
                known.leases.unread = Unread::HasNoLeases;
            }
        }
    }

    /// Notes that such a transaction has ended, and what others may not know after it.
    pub fn change_ends(&mut self, database: DatabaseOid, unsettled: Unsettled) {
        if let Some(known) = self.databases.get_mut(&database) {
            known.changing = known.changing.saturating_sub(1);
        }
        self.unsettle(database, unsettled);
        self.outdate(database);
    }

    /// Notes that the database was created, by a transaction that has ended. Nobody was in it before.
    pub fn note_created(&mut self, database: DatabaseOid) {
        self.generation(database);
        let known = self.databases.get_mut(&database);
        // Somebody who was quicker may have read it, or changed it.
        let is_untouched = |known: &&mut Database| {
            known.in_force.loaded == Generation::NONE
                && known.in_force.unsettled == Unsettled::Nothing
        };
        if let Some(known) = known.filter(is_untouched) {
            known.leases.unread = Unread::IsNew;
        }
    }

    /// Notes what others may not know about what the database adds to pools, until it has been read.
    pub fn unsettle(&mut self, database: DatabaseOid, unsettled: Unsettled) {
        if let Some(known) = self.databases.get_mut(&database) {
            known.in_force.unsettled = known.in_force.unsettled.max(unsettled);
        }
    }

    /// Marks the rules in force as outdated, so that nobody relies on them any more.
    pub fn outdate(&mut self, database: DatabaseOid) {
        let generation = self.head.next_generation();
        if let Some(known) = self.databases.get_mut(&database) {
            known.generation = generation;
        }
        self.head.ring |= !self.waits.is_empty();
    }

    /// Forgets a database that is gone, or whose OID was given to another one.
    pub fn forget(&mut self, database: DatabaseOid, now: Timestamp) {
        if self.databases.get(&database).is_none() {
            return;
        }
        self.remove_rows(database);
        self.set_roles(database, self.plan_roles(database, &[]));
        self.drop_leases(database);
        self.drop_events_of(database);
        self.drop_bars(|bar| bar.database == database);
        self.databases.remove(&database);
        self.offer_room(database);
        self.note_next_write();
        self.recount_tallies();
        self.settle_all(now);
        self.drop_unused_tallies();
    }

    /// Requires every database to be visited again, as after a start: what was read on a standby may be old, and what
    /// was read under another setting may no longer be true.
    pub fn revisit_all(&mut self, unsettled: Unsettled) {
        self.head.visited = false;
        self.databases.each_mut(|known| {
            known.in_force.unsettled = known.in_force.unsettled.max(unsettled);
            // There may be more leases by now than a standby's database worker found.
            if known.leases.unread == Unread::HasNoLeases {
                known.leases.unread = Unread::MayHaveLeases;
            }
        });
        self.outdate_all();
    }

    /// Withdraws seats of a tally that went elsewhere. From now on no more than `left` are given, by whatever rules are
    /// in force, and nobody relies on these, nor on what is being read.
    pub fn withdraw(&mut self, tally: TallyId, left: i64) {
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

    /// Marks all rules in force as outdated, and what is being read as well.
    pub fn outdate_all(&mut self) {
        let Ledger {
            head, databases, ..
        } = self;
        databases.each_mut(|known| {
            known.generation = head.next_generation();
            known.in_force.not_before = known.generation;
        });
        self.head.ring |= !self.waits.is_empty();
    }

    /// Marks the rules of databases with signed licenses as outdated, because what was signed must be verified again.
    pub fn outdate_signed(&mut self) {
        let Ledger {
            head,
            databases,
            licenses,
            waits,
            ..
        } = self;
        databases.each_mut(|known| {
            let keys = (0..known.rows.licenses).map(|place| RowKey {
                database: known.oid,
                place,
            });
            let mut rows = keys.filter_map(|key| licenses.get(&key));
            let is_signed = rows.any(|license| license.signed.is_some());
            // Somebody who is just reading it, or looking at it, may have seen what no longer holds.
            if is_signed || !known.is_loaded() || known.visits.observed != known.generation {
                known.generation = head.next_generation();
                known.in_force.not_before = known.generation;
            }
        });
        head.ring |= !waits.is_empty();
    }

    /// Tells whether the rules in force are those of the database's tables, as seen from `view`.
    pub fn is_current(&self, database: DatabaseOid, view: Viewpoint) -> bool {
        self.databases.get(&database).is_some_and(|known| {
            known.is_loaded() && known.changing == 0 && known.in_force.may_be_relied_on(view)
        })
    }

    /// Tells whether the rules in force were read after this generation was noted, so that whoever noted it may be
    /// judged by them even if a change has come since. `view` is as for [`Ledger::is_current`].
    pub fn is_as_new_as(
        &self,
        database: DatabaseOid,
        generation: Generation,
        view: Viewpoint,
    ) -> bool {
        self.databases.get(&database).is_some_and(|known| {
            known.in_force.loaded >= generation.max(known.in_force.not_before)
                && known.in_force.may_be_relied_on(view)
        })
    }

    /// Tells whether the database's tables could not be read a moment ago and have not changed since, or somebody is
    /// trying again, so that nobody else need wait for them. Otherwise the caller tries, at most until `until`.
    pub fn has_just_failed(
        &mut self,
        database: DatabaseOid,
        now: Timestamp,
        until: Timestamp,
    ) -> bool {
        let Some(known) = self.databases.get_mut(&database) else {
            return false;
        };
        if known.failure.at == 0 || known.failure.generation != known.generation {
            return false;
        }
        // A clock that was set back must not keep anybody waiting.
        if now.abs_diff(known.failure.at) < FAILURES_LAST
            || known.failure.at < now && now < known.failure.tried_until
        {
            return true;
        }
        known.failure.tried_until = until;
        false
    }

    /// Notes that the tables could not be read, as they were at this generation.
    pub fn reading_failed(
        &mut self,
        database: DatabaseOid,
        generation: Generation,
        now: Timestamp,
    ) {
        if let Some(known) = self.databases.get_mut(&database)
            && known.generation == generation
        {
            known.failure.at = now;
            known.failure.generation = generation;
            known.failure.tried_until = 0;
        }
    }

    /// Tells whether what was read is in force already, put there after `before` by somebody who has judged all who are
    /// in.
    pub fn was_quicker(&self, database: DatabaseOid, before: Generation, rules: &Rules) -> bool {
        self.databases.get(&database).is_some_and(|known| {
            known.in_force.loaded != before
                && known.has(rules)
                && self.is_signed_alike(database, rules)
        })
    }

    /// Notes that a database worker has looked at the signed licenses of this generation.
    pub fn observed(&mut self, database: DatabaseOid, generation: Generation) {
        if let Some(known) = self.databases.get_mut(&database) {
            known.visits.observed = generation;
            known.in_force.changes_at = Timestamp::MAX;
        }
    }
    /// Tells whether the installation's record, in this state, says nothing about the database.
    pub fn is_unsigned(&self, database: DatabaseOid, state: u64) -> bool {
        let known = self.databases.get(&database);
        state != 0 && known.is_some_and(|known| known.visits.unsigned_in == state)
    }

    /// Notes that the installation's record, in this state, says nothing about the database.
    pub fn note_unsigned(&mut self, database: DatabaseOid, state: u64) {
        if let Some(known) = self.databases.get_mut(&database) {
            known.visits.unsigned_in = state;
        }
    }
}
