//! Visits: which databases a visitor should see, how far the one that is under way has come, what became of
//! it, and who must wait for what it reads.

use crate::core::ledger::Ledger;
use crate::core::ledger::acts::generations::STANDBY_POOLS_LAST;
use crate::core::ledger::database::{Database, Viewpoint};
use crate::core::ledger::identity::Name;
use crate::core::ledger::session::Session;
use crate::core::ledger::table::{Table, Tables};
use crate::core::ledger::time::Timestamp;
use crate::core::ledger::visit::{Due, Leased, Outcome, Stage, Unread, Unsettled, Visit};

/// What was remembered over a restart of a database.
pub trait RememberedPools {
    /// It was in the pool when last known, or nothing is known of it.
    fn may_have_pool(&self, database: u32) -> bool;

    /// It surely had no leases.
    fn is_without_leases(&self, database: u32) -> bool;
}

/// A pool that a database is in.
#[derive(Clone, Copy, Debug)]
pub struct PoolOf {
    /// The database.
    pub database: u32,
    /// The pool's name.
    pub pool: Name,
    /// The product.
    pub product: Name,
}

/// So many visitors in a row that can't connect mean that a database is out of order.
const VISITORS_LOST: u32 = 3;

impl Database {
    /// The last visitor could not read its tables as they are.
    pub fn has_failed(&self) -> bool {
        self.unreadable == self.generation
    }

    /// So many visitors in a row could not connect that it is taken to be out of order, for now.
    pub(crate) fn has_lost_visitors(&self) -> bool {
        self.lost_visitors >= VISITORS_LOST
    }

    /// It has not been read since the start, and those who wait for it need not while nobody is in.
    fn may_be_passed_over(&self, had_leases: impl Fn() -> bool) -> bool {
        let adds_no_leases = match self.unread {
            Unread::MayHaveLeases => self.has_failed() && !had_leases(),
            Unread::HasNoLeases => self.has_failed(),
            Unread::IsNew => true,
        };
        self.leased == Leased::Never && adds_no_leases
    }

    /// It surely has no leases in its table.
    fn is_without_leases(&self, had_leases: impl Fn() -> bool) -> bool {
        let has_none = if self.loaded == 0 {
            self.unread != Unread::MayHaveLeases || !had_leases()
        } else {
            !self.in_recovery
        };
        has_none && self.leased == Leased::Never
    }

    /// Signed licenses may be others than when a visitor has looked at them last.
    pub fn is_unobserved(&self, now: Timestamp) -> bool {
        self.observed != self.generation || self.changes_at <= now
    }

    /// What the rules in force say of its pools is what its tables say.
    fn knows_pools(&self) -> bool {
        self.unsettled != Unsettled::Pools && self.watched && !self.in_recovery
    }

    fn is_due(&self, view: Viewpoint) -> bool {
        let is_old = view.now.abs_diff(self.read_at) > STANDBY_POOLS_LAST;
        let is_outdated = view.in_recovery && self.licenses > 0 && is_old;
        let writes = !view.in_recovery && (self.ended > 0 || self.write_at <= view.now);
        !self.is_read(view.in_recovery) || is_outdated || self.is_unobserved(view.now) || writes
    }
}

impl<T: Tables> Ledger<'_, T> {
    /// Shows every database that a visitor should see: its last change has not been read, or its signed
    /// licenses not been looked at since, whoever has read it; its rules were read on a standby, which has been
    /// promoted, or where changes arrive unnoticed; or it has rows of leases that have ended, or an audit trail
    /// to be written.
    pub fn each_to_visit(&self, view: Viewpoint, mut see: impl FnMut(Due)) {
        self.databases.each(|known| {
            if known.is_due(view) {
                see(Due {
                    database: known.oid,
                    generation: known.generation,
                    last: known.visit.number,
                    wanted: known.wanted,
                    writes: known.write_at <= view.now && !view.in_recovery,
                });
            }
        });
    }

    /// A visitor is sent into a database; gives the visit's number.
    pub fn send_visitor(&mut self, database: u32) -> Option<u32> {
        let known = self.databases.get_mut(&database)?;
        self.head.visits = self.head.visits.wrapping_add(1).max(1);
        known.wanted = false;
        known.visit = Visit {
            number: self.head.visits,
            stage: Stage::Sent,
        };
        Some(self.head.visits)
    }

    /// A visitor has come so far.
    pub fn visit_reached(&mut self, database: u32, number: u32, stage: Stage) {
        let known = self.databases.get_mut(&database);
        if let Some(known) = known.filter(|known| known.visit.number == number) {
            known.visit.stage = stage;
            if stage == Stage::Arrived {
                known.lost_visitors = 0;
            }
        }
    }

    /// The process of a visit is gone that began at this generation: what became of it.
    pub fn visit_ended(&mut self, due: Due, number: u32, view: Viewpoint) -> Outcome {
        let Some(known) = self.databases.get_mut(&due.database) else {
            return Outcome::Made;
        };
        if known.visit.number != number {
            return Outcome::Made;
        }
        let outcome = match known.visit.stage {
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
            known.lost_visitors = known.lost_visitors.saturating_add(1);
        }
        if matches!(outcome, Outcome::Lost | Outcome::KeptOut | Outcome::Died) {
            if known.generation == due.generation {
                known.unreadable = known.generation;
            }
            if due.writes && known.write_at <= view.now {
                self.could_not_write(due.database, view.now);
            }
        }
        outcome
    }

    /// Whether databases wait for a visitor because as many are under way as may be.
    pub fn set_crowded(&mut self, crowded: bool) {
        self.head.crowded = crowded;
    }

    /// Whether a visitor who writes may stay for more: no other database, and nobody here, waits for one.
    pub fn may_stay(&self, database: u32, view: Viewpoint) -> bool {
        let known = self.databases.get(&database);
        let needs_nothing = known.is_some_and(|known| {
            known.is_read(view.in_recovery) && !known.wanted && !known.is_unobserved(view.now)
        });
        needs_nothing && !self.head.crowded && self.bars_are_stored(database)
    }

    /// A visitor could not read the database's tables, and found this of its leases: the rules in force stay for now.
    /// True where the log should say why: at the first time, when the cause is another, and ever more seldom after
    /// that.
    pub fn visit_failed(
        &mut self,
        database: u32,
        generation: u64,
        cause: u64,
        found: Unread,
    ) -> bool {
        let Some(known) = self.databases.get_mut(&database) else {
            return false;
        };
        if known.generation == generation {
            known.unreadable = generation;
            known.unread = found;
        }
        self.is_news(database, cause)
    }

    /// True where the log should say again that something does not work, for this cause.
    pub fn is_news(&mut self, database: u32, cause: u64) -> bool {
        let Some(known) = self.databases.get_mut(&database) else {
            return false;
        };
        if std::mem::replace(&mut known.complaint, cause) != cause {
            known.complaints = 0;
        }
        known.complaints = known.complaints.saturating_add(1);
        known.complaints.is_power_of_two()
    }

    /// Everything works there.
    pub fn nothing_to_complain(&mut self, database: u32) {
        if let Some(known) = self.databases.get_mut(&database) {
            (known.complaint, known.complaints) = (0, 0);
        }
    }

    /// Somebody waits for what a visitor reads there.
    pub fn want(&mut self, database: u32) {
        if let Some(known) = self.databases.get_mut(&database) {
            known.wanted = true;
        }
    }

    /// A database other than this one of which is not known yet what it adds to the pool of this tally, if there is
    /// one. For one that was never read since the start, what was `remembered` decides whether it may be in the pool.
    /// Where a visitor could not read it, the last rules stay in force, if there are any; where there are none, and where
    /// it was created since, it adds nothing for now if nobody counts there.
    pub fn awaited(
        &self,
        tally: u64,
        besides: u32,
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
            let waits = if known.loaded == 0 {
                let had_leases = || !remembered.is_without_leases(known.oid);
                (known.unsettled == Unsettled::Pools || remembered.may_have_pool(known.oid))
                    && !(known.may_be_passed_over(had_leases) && self.is_empty(known.oid, view))
            } else {
                let mut licenses = self.licenses_of(known.oid);
                !known.has_failed()
                    && (known.unsettled == Unsettled::Pools || licenses.any(|l| l.tally == tally))
            };
            if waits {
                awaited = Some(*known);
            }
        });
        awaited
    }

    /// Every database of the server is noted, so that it is visited.
    pub fn is_visited(&self, in_recovery: bool) -> bool {
        self.head.visited && self.head.standby == in_recovery
    }

    /// Takes note that every database is noted, or that some are yet to be.
    pub fn set_visited(&mut self, all: bool, in_recovery: bool) {
        (self.head.visited, self.head.standby) = (all, in_recovery);
    }

    fn is_settled(&self, in_recovery: bool) -> bool {
        self.head.settled == self.head.clock && self.head.standby == in_recovery
    }

    /// Notes that every database is known, where it is: then no login looks for one that is not.
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

    /// Shows every database of which is known which pools it is in.
    pub fn each_known(&self, mut see: impl FnMut(u32)) {
        self.databases.each(|known| {
            if known.loaded != 0 && known.knows_pools() {
                see(known.oid);
            }
        });
    }

    /// Shows every database that has not been read since the start, nor changed.
    pub fn each_unread_since_start(&self, mut see: impl FnMut(u32)) {
        self.databases.each(|known| {
            if known.loaded == 0 && known.unsettled != Unsettled::Pools {
                see(known.oid);
            }
        });
    }

    /// Shows every database that has no leases; of one that was not read since the start, where it had none.
    pub fn each_without_leases(&self, had_leases: impl Fn(u32) -> bool, mut see: impl FnMut(u32)) {
        self.databases.each(|known| {
            if known.is_without_leases(|| had_leases(known.oid)) {
                see(known.oid);
            }
        });
    }

    /// A lease is about to be committed in a database. True where somebody must see to it that nothing else is
    /// remembered over a restart, and then say so.
    pub fn lease_comes(&mut self, database: u32) -> bool {
        let Some(known) = self.databases.get_mut(&database) else {
            return true;
        };
        if known.leased == Leased::Told {
            return false;
        }
        known.leased = Leased::Maybe;
        self.head.pools_edition += 1;
        true
    }

    /// Somebody has seen to that.
    pub fn lease_is_told(&mut self, database: u32) {
        if let Some(known) = self.databases.get_mut(&database) {
            known.leased = Leased::Told;
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

    /// Nobody is in whom a license there could count.
    fn is_empty(&self, database: u32, view: Viewpoint) -> bool {
        let counts = |s: &Session| !(s.replication || s.superuser && view.exempt_superusers);
        let is_in = |s: &Session| s.number != 0 && s.database == database && counts(s);
        !self.sessions.iter().any(is_in)
    }
}
