//! Visits: which databases a database worker should visit, how far the present visit has come, how it ended, and who
//! must wait for what it reads.

use crate::core::ledger::Ledger;
use crate::core::ledger::acts::generations::STANDBY_POOLS_LAST;
use crate::core::ledger::database::{Database, Viewpoint};
use crate::core::ledger::identity::Name;
use crate::core::ledger::numbers::{DatabaseOid, Generation, SessionNumber, TallyId};
use crate::core::ledger::session::Session;
use crate::core::ledger::table::{Table, Tables};
use crate::core::ledger::time::Timestamp;
use crate::core::ledger::visit::{Due, Leased, Outcome, Stage, Unread, Unsettled, Visit};

/// What was remembered about databases across a restart.
pub trait RememberedPools {
    /// Tells whether the database was in the pool when last known, or nothing is known about it.
    fn may_have_pool(&self, database: DatabaseOid) -> bool;

    /// Tells whether it is certain that the database had no leases.
    fn is_without_leases(&self, database: DatabaseOid) -> bool;
}

/// A pool that a database is in.
#[derive(Clone, Copy, Debug)]
pub struct PoolOf {
    /// The database.
    pub database: DatabaseOid,
    /// The pool's name.
    pub pool: Name,
    /// The product.
    pub product: Name,
}

/// The number of database workers in a row that can't connect before a database counts as out of order.
const LOST_WORKERS: u32 = 3;

impl Database {
    /// Tells whether the last database worker could not read its tables as they are.
    pub fn has_failed(&self) -> bool {
        self.visits.unreadable == self.generation
    }

    /// Tells whether so many database workers in a row could not connect that it counts as out of order for now.
    pub(crate) fn has_lost_database_workers(&self) -> bool {
        self.visits.lost >= LOST_WORKERS
    }

    /// Tells whether nobody need wait for it as long as nobody is in. It must be one that has not been read since the
    /// start.
    fn may_be_passed_over(&self, had_leases: impl Fn() -> bool) -> bool {
        let adds_no_leases = match self.leases.unread {
            Unread::MayHaveLeases => self.has_failed() && !had_leases(),
            Unread::HasNoLeases => self.has_failed(),
            Unread::IsNew => true,
        };
        self.leases.had == Leased::Never && adds_no_leases
    }

    /// Tells whether it is certain that its table has no leases.
    fn is_without_leases(&self, had_leases: impl Fn() -> bool) -> bool {
        let has_none = if self.in_force.loaded == Generation::NONE {
            self.leases.unread != Unread::MayHaveLeases || !had_leases()
        } else {
            !self.in_force.in_recovery
        };
        has_none && self.leases.had == Leased::Never
    }

    /// Tells whether its signed licenses may differ from what a database worker last saw.
    pub fn is_unobserved(&self, now: Timestamp) -> bool {
        self.visits.observed != self.generation || self.in_force.changes_at <= now
    }

    /// Tells whether its tables say the same about its pools as the rules in force.
    fn knows_pools(&self) -> bool {
        self.in_force.unsettled != Unsettled::Pools
            && self.in_force.watched
            && !self.in_force.in_recovery
    }

    fn is_due(&self, view: Viewpoint) -> bool {
        let is_old = view.now.abs_diff(self.in_force.read_at) > STANDBY_POOLS_LAST;
        let is_outdated = view.in_recovery && self.rows.licenses > 0 && is_old;
        let writes =
            !view.in_recovery && (self.leases.ended > 0 || self.trail.write_at <= view.now);
        !self.is_read(view.in_recovery) || is_outdated || self.is_unobserved(view.now) || writes
    }
}

impl<T: Tables> Ledger<'_, T> {
    /// Shows every database that a database worker should visit. Its last change has not been read, or nobody has
    /// looked at its signed licenses since, whoever has read it; its rules were read on a standby that has been
    /// promoted, or where changes arrive unnoticed; or it has rows of ended leases to delete, or an audit trail to
    /// write.
    pub fn each_to_visit(&self, view: Viewpoint, mut see: impl FnMut(Due)) {
        self.databases.each(|known| {
            if known.is_due(view) {
                see(Due {
                    database: known.oid,
                    generation: known.generation,
                    last: known.visits.last.number,
                    wanted: known.visits.wanted,
                    writes: known.trail.write_at <= view.now && !view.in_recovery,
                });
            }
        });
    }

    /// Notes that a database worker is sent into a database, and returns the visit's number.
    pub fn send_database_worker(&mut self, database: DatabaseOid) -> Option<u32> {
        let known = self.databases.get_mut(&database)?;
        self.head.visits = self.head.visits.wrapping_add(1).max(1);
        known.visits.wanted = false;
        known.visits.last = Visit {
            number: self.head.visits,
            stage: Stage::Sent,
        };
        Some(self.head.visits)
    }

    /// Notes how far a visit has come.
    pub fn visit_reached(&mut self, database: DatabaseOid, number: u32, stage: Stage) {
        let known = self.databases.get_mut(&database);
        if let Some(known) = known.filter(|known| known.visits.last.number == number) {
            known.visits.last.stage = stage;
            if stage == Stage::Arrived {
                known.visits.lost = 0;
            }
        }
    }

    /// Notes that the process of a visit is gone, and returns the visit's outcome. `due` is what it was sent for.
    pub fn visit_ended(&mut self, due: Due, number: u32, view: Viewpoint) -> Outcome {
        let Some(known) = self.databases.get_mut(&due.database) else {
            return Outcome::Made;
        };
        if known.visits.last.number != number {
            return Outcome::Made;
        }
        let outcome = match known.visits.last.stage {
            Stage::Sent => Outcome::NotBegun,
            Stage::Begun => Outcome::Lost,
            Stage::KeptOut => Outcome::KeptOut,
            Stage::Arrived => Outcome::Died,
            Stage::Ended if known.generation == due.generation && known.is_due(view) => {
                Outcome::InVain
            }
            Stage::Ended => Outcome::Made,
        };
        if outcome == Outcome::Lost {
            known.visits.lost = known.visits.lost.saturating_add(1);
        }
        if matches!(outcome, Outcome::Lost | Outcome::KeptOut | Outcome::Died) {
            if known.generation == due.generation {
                known.visits.unreadable = known.generation;
            }
            if due.writes && known.trail.write_at <= view.now {
                self.could_not_write(due.database, view.now);
            }
        }
        outcome
    }

    /// Notes whether databases wait for a database worker because no more may run at once.
    pub fn set_crowded(&mut self, crowded: bool) {
        self.head.crowded = crowded;
    }

    /// Tells whether a database worker that writes may stay for more: no other database, and nobody here, waits for
    /// one.
    pub fn may_stay(&self, database: DatabaseOid, view: Viewpoint) -> bool {
        let known = self.databases.get(&database);
        let needs_nothing = known.is_some_and(|known| {
            known.is_read(view.in_recovery)
                && !known.visits.wanted
                && !known.is_unobserved(view.now)
        });
        needs_nothing && !self.head.crowded && self.bars_are_stored(database)
    }

    /// Notes that a database worker could not read the database's tables, and what it found out about leases there. The
    /// rules in force stay for now. Returns whether the log should say why: the first time, when the cause is another
    /// one, and ever more rarely after that.
    pub fn visit_failed(
        &mut self,
        database: DatabaseOid,
        generation: Generation,
        cause: u64,
        found: Unread,
    ) -> bool {
        let Some(known) = self.databases.get_mut(&database) else {
            return false;
        };
        if known.generation == generation {
            known.visits.unreadable = generation;
            known.leases.unread = found;
        }
        self.is_news(database, cause)
    }

    /// Tells whether the log should report again that something does not work for this cause.
    pub fn is_news(&mut self, database: DatabaseOid, cause: u64) -> bool {
        let Some(known) = self.databases.get_mut(&database) else {
            return false;
        };
        if std::mem::replace(&mut known.visits.complaint, cause) != cause {
            known.visits.complaints = 0;
        }
        known.visits.complaints = known.visits.complaints.saturating_add(1);
        known.visits.complaints.is_power_of_two()
    }

    /// Notes that everything works in a database.
    pub fn nothing_to_complain(&mut self, database: DatabaseOid) {
        if let Some(known) = self.databases.get_mut(&database) {
            (known.visits.complaint, known.visits.complaints) = (0, 0);
        }
    }

    /// Notes that somebody waits for what a database worker reads there.
    pub fn want(&mut self, database: DatabaseOid) {
        if let Some(known) = self.databases.get_mut(&database) {
            known.visits.wanted = true;
        }
    }

    /// Returns a database other than `besides` that may add something unknown to the pool of this tally, if there is
    /// one. If it was never read since the start, what was `remembered` decides whether it may be in the pool. If a
    /// database worker could not read it, the last rules stay in force, if there are any. If there are none, or the
    /// database was created since the start, it adds nothing for now as long as nobody counts there.
    pub fn awaited(
        &self,
        tally: TallyId,
        besides: DatabaseOid,
        view: Viewpoint,
        remembered: &impl RememberedPools,
    ) -> Option<Database> {
        if self.is_settled(view.in_recovery) {
            return None;
        }
        let mut awaited = None;
        self.databases.each(|known| {
            if known.oid == besides || !known.is_unknown(view.in_recovery) {
                return;
            }
            let waits = if known.in_force.loaded == Generation::NONE {
                let had_leases = || !remembered.is_without_leases(known.oid);
                (known.in_force.unsettled == Unsettled::Pools
                    || remembered.may_have_pool(known.oid))
                    && !(known.may_be_passed_over(had_leases) && self.is_empty(known.oid, view))
            } else {
                let mut licenses = self.licenses_of(known.oid);
                !known.has_failed()
                    && (known.in_force.unsettled == Unsettled::Pools
                        || licenses.any(|l| l.tally == tally))
            };
            if waits {
                awaited = Some(*known);
            }
        });
        awaited
    }

    /// Tells whether every database of the server is registered, so that it will be visited.
    pub fn is_visited(&self, in_recovery: bool) -> bool {
        self.head.visited && self.head.standby == in_recovery
    }

    /// Notes that every database is registered, or that some are yet to be.
    pub fn set_visited(&mut self, all: bool, in_recovery: bool) {
        (self.head.visited, self.head.standby) = (all, in_recovery);
    }

    /// Tells whether every database is known since the last change, which nobody knows before all are registered.
    fn is_settled(&self, in_recovery: bool) -> bool {
        self.is_visited(in_recovery) && self.head.settled == self.head.clock
    }

    /// Notes that every database is known, if that is so. Then no login looks for one that is not.
    pub fn note_settled(&mut self, in_recovery: bool) {
        if self.is_settled(in_recovery) {
            return;
        }
        let mut are_known = self.is_visited(in_recovery);
        self.databases
            .each(|known| are_known &= !known.is_unknown(in_recovery));
        if are_known {
            self.head.settled = self.head.clock;
        }
    }

    /// Shows every database whose pools are known.
    pub fn each_known(&self, mut see: impl FnMut(DatabaseOid)) {
        self.databases.each(|known| {
            if known.in_force.loaded != Generation::NONE && known.knows_pools() {
                see(known.oid);
            }
        });
    }

    /// Shows every database that has neither been read nor had its pools changed since the start.
    pub fn each_unread_since_start(&self, mut see: impl FnMut(DatabaseOid)) {
        self.databases.each(|known| {
            if known.in_force.loaded == Generation::NONE
                && known.in_force.unsettled != Unsettled::Pools
            {
                see(known.oid);
            }
        });
    }

    /// Shows every database that has no leases. For one that was not read since the start, `had_leases` tells whether
    /// it had some.
    pub fn each_without_leases(
        &self,
        had_leases: impl Fn(DatabaseOid) -> bool,
        mut see: impl FnMut(DatabaseOid),
    ) {
        self.databases.each(|known| {
            if known.is_without_leases(|| had_leases(known.oid)) {
                see(known.oid);
            }
        });
    }

    /// Notes that a lease is about to be committed in a database. Returns whether the caller must see to it that what
    /// is remembered across restarts does not say otherwise, and then call [`Ledger::lease_is_noted`].
    pub fn lease_comes(&mut self, database: DatabaseOid) -> bool {
        let Some(known) = self.databases.get_mut(&database) else {
            return true;
        };
        if known.leases.had == Leased::Noted {
            return false;
        }
        known.leases.had = Leased::Maybe;
        self.head.pools_edition += 1;
        true
    }

    /// Notes that what is remembered across restarts no longer says that the database has no leases.
    pub fn lease_is_noted(&mut self, database: DatabaseOid) {
        if let Some(known) = self.databases.get_mut(&database) {
            known.leases.had = Leased::Noted;
        }
    }

    /// Shows every pool of every database, by the rules in force.
    pub fn each_pool(&self, mut see: impl FnMut(PoolOf)) {
        self.licenses.each(|license| {
            if !license.pool.is_empty() {
                see(PoolOf {
                    database: license.key.database,
                    pool: license.pool,
                    product: license.product,
                });
            }
        });
    }

    /// Tells whether nobody is in whom a license there could count.
    fn is_empty(&self, database: DatabaseOid, view: Viewpoint) -> bool {
        let counts = |s: &Session| !(s.replication || s.superuser && view.exempt_superusers);
        let is_in =
            |s: &Session| s.number != SessionNumber::NONE && s.database == database && counts(s);
        !self.sessions.iter().any(is_in)
    }
}
