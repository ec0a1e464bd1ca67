//! Room for rules: rows of licenses, exemptions, reservations and bars of all databases together
//! (`pg_seats.max_rules`).
//!
//! If there is not enough, databases share it: those with the most rules give way to those with fewer, down to equal
//! parts, so that a database with no more than its part always fits. A database's newest exemptions go first, then its
//! newest bars, then reservations. Licenses go only from a database with more than its part, and all of its rules go
//! with them: it is then like a database whose limits can't be read.

use crate::core::ledger::Ledger;
use crate::core::ledger::database::Database;
use crate::core::ledger::license::RowKey;
use crate::core::ledger::numbers::{DatabaseOid, Generation, SessionNumber, TallyId};
use crate::core::ledger::roles::ROLES_MAX;
use crate::core::ledger::rules::{RuleCounts, Rules};
use crate::core::ledger::table::{Table, Tables};

/// The number of rows that every licensed database has room for, as long as there is room at all.
const PART_MIN: usize = 20;

impl Rules {
    /// Returns the number of rows that were read.
    pub fn counts_of_rows(&self) -> RuleCounts {
        RuleCounts {
            licenses: self.licenses.len(),
            reservations: self.reservations.len(),
            bars: self.bars.len(),
            exemptions: self.exemptions.len(),
        }
    }

    /// Leaves the rules that there is room for: the oldest of each kind.
    pub fn fit(&mut self, room: RuleCounts) {
        let wanted = self.wanted();
        self.reservations.truncate(room.reservations);
        self.bars.truncate(room.bars);
        self.exemptions.truncate(room.exemptions);
        self.left_out = wanted.without(self.counts_of_rows());
    }

    /// Returns the number of rows in the database's tables.
    pub fn wanted(&self) -> RuleCounts {
        self.counts_of_rows().and(self.left_out)
    }
}

impl<T: Tables> Ledger<'_, T> {
    /// Returns how many of the wanted rows of a database there would be room for, in place of those that it has. `None`
    /// if not even its licenses fit.
    pub fn room_for(&self, database: DatabaseOid, wanted: RuleCounts) -> Option<RuleCounts> {
        let most = wanted.all();
        let fits = |rows: usize| self.room_beside(database, rows) >= rows;
        if fits(most) || self.withdrawable(database, most) {
            return Some(wanted);
        }
        if !fits(wanted.licenses) {
            return None;
        }
        // The more rows it has, the less others give way.
        let (mut fitting, mut beyond) = (wanted.licenses, most);
        while beyond - fitting > 1 {
            let rows = fitting.midpoint(beyond);
            if fits(rows) {
                fitting = rows;
            } else {
                beyond = rows;
            }
        }
        wanted.within(fitting)
    }

    /// Returns how many rows a database could have if others gave way to `rows` of it.
    fn room_beside(&self, database: DatabaseOid, rows: usize) -> usize {
        let mut room = self.free_room() + self.replaceable(database);
        self.databases.each(|other| {
            if other.oid != database {
                room += other.gives(rows + self.unstored_bars_of(database));
            }
        });
        room
    }

    /// Tells whether this many more rows of a database may not fit, or some do not fit already.
    pub fn may_lack_room(&self, database: DatabaseOid, added: usize) -> bool {
        let known = self.databases.get(&database);
        added > self.free_room()
            || known.is_some_and(|known| known.rows.left_out > 0 || known.rows.unnumbered > 0)
            || self.head.reserved_roles.len() + added > ROLES_MAX
    }

    /// Returns how many rows others would lose to this many of a database.
    pub fn lacking(&self, database: DatabaseOid, wanted: RuleCounts) -> usize {
        let room = self.free_room() + self.replaceable(database);
        wanted.all().saturating_sub(room)
    }

    /// Returns the room that nobody uses.
    fn free_room(&self) -> usize {
        self.head.max_rules.saturating_sub(self.rules_in_force())
    }

    /// Returns the rows of a database that are in force, without bars that are not rows yet.
    pub(crate) fn rows_of(&self, database: DatabaseOid) -> RuleCounts {
        let known = self.databases.get(&database);
        known.map_or(RuleCounts::default(), |known| RuleCounts {
            licenses: known.rows.licenses as usize,
            reservations: known.rows.reservations as usize,
            bars: (known.rows.bars - known.rows.unstored_bars) as usize,
            exemptions: known.rows.exemptions as usize,
        })
    }

    /// Returns the number of rows of all databases that are in force.
    pub fn rules_in_force(&self) -> usize {
        self.licenses.len() + self.exemptions.len() + self.reservations.len() + self.bars.len()
    }

    /// Returns how many rows of a database new ones would replace.
    fn replaceable(&self, database: DatabaseOid) -> usize {
        self.rows_of(database).all()
    }

    fn unstored_bars_of(&self, database: DatabaseOid) -> usize {
        let known = self.databases.get(&database);
        known.map_or(0, |known| known.rows.unstored_bars as usize)
    }

    /// Returns how many rows every licensed database has room for.
    fn part_of(&self, database: DatabaseOid) -> usize {
        let mut licensed = 1;
        self.databases.each(|known| {
            licensed += usize::from(known.oid != database && known.rules() > 0);
        });
        (self.head.max_rules / licensed).max(PART_MIN)
    }

    /// Makes room for this many rows of a database, in place of those that it has. No more rows of others go than must.
    pub(crate) fn make_room_for_rules(&mut self, database: DatabaseOid, rows: usize) {
        let level = rows + self.unstored_bars_of(database);
        loop {
            let room = self.free_room() + self.replaceable(database);
            let Some(lacking) = rows.checked_sub(room).filter(|&lacking| lacking > 0) else {
                return;
            };
            let made = if self.room_beside(database, rows) >= rows {
                self.take_from_largest(database, lacking, level)
            } else {
                self.withdraw_largest(database)
            };
            if !made {
                return;
            }
        }
    }

    /// Makes the other database with the most rules give way, until others may be next. Returns `false` if none can.
    fn take_from_largest(&mut self, database: DatabaseOid, lacking: usize, level: usize) -> bool {
        let (mut largest, mut next) = (None, 0);
        self.databases.each(|other| {
            if other.oid == database || other.gives(level) == 0 {
                return;
            }
            match largest {
                Some((_, rules)) if rules >= other.rules() => next = next.max(other.rules()),
                former => {
                    next = former.map_or(next, |(_, rules)| rules);
                    largest = Some((other.oid, other.rules()));
                }
            }
        });
        let Some((oid, rules)) = largest else {
            return false;
        };
        let gives = self
            .databases
            .get(&oid)
            .map_or(0, |other| other.gives(level));
        let rows = (rules - next.min(rules)).max(1).min(lacking).min(gives);
        self.give_way(oid, rows);
        true
    }

    /// Takes a number of a database's rows out of force: exemptions before bars before reservations, each from the
    /// newest on.
    pub(crate) fn give_way(&mut self, database: DatabaseOid, rows: usize) {
        let Some(known) = self.databases.get(&database).copied().filter(|_| rows > 0) else {
            return;
        };
        let mut left = rows as u32;
        let mut part = |of: u32| {
            let rows = of.min(left);
            left -= rows;
            rows
        };
        let exemptions = part(known.rows.exemptions);
        let bars = part(known.rows.bars - known.rows.unstored_bars);
        let reservations = part(known.rows.reservations);
        for place in known.rows.exemptions - exemptions..known.rows.exemptions {
            self.exemptions.remove(&RowKey { database, place });
        }
        for place in known.rows.reservations - reservations..known.rows.reservations {
            self.reservations.remove(&RowKey { database, place });
        }
        if let Some(known) = self.databases.get_mut(&database) {
            known.rows.exemptions -= exemptions;
            known.rows.reservations -= reservations;
        }
        self.drop_newest_bars(database, bars);
        self.note_left_out(database, |known| known.rows.left_out += rows as u32 - left);
    }

    /// Tells whether this many rows are no more than a database's part, and would fit if others with more than their
    /// part had none.
    fn withdrawable(&self, database: DatabaseOid, rows: usize) -> bool {
        let part = self.part_of(database);
        let mut room = self.room_beside(database, rows);
        self.databases.each(|other| {
            if other.oid != database && other.rules() > part {
                room += other.rules() - other.gives(rows + self.unstored_bars_of(database));
            }
        });
        rows <= part && rows <= room
    }

    /// Takes all rules of the other database with the most out of force, if they are more than its part. It then counts
    /// as not read.
    fn withdraw_largest(&mut self, besides: DatabaseOid) -> bool {
        let part = self.part_of(besides);
        let mut largest = None;
        self.databases.each(|other| {
            if other.oid != besides && other.rules() > largest.map_or(part, |(_, rules)| rules) {
                largest = Some((other.oid, other.rules()));
            }
        });
        let Some((oid, rules)) = largest else {
            return false;
        };
        self.remove_rows(oid);
        self.drop_bars(|bar| bar.database == oid && bar.is_settled());
        for session in self
            .sessions
            .iter_mut()
            .filter(|s| s.number != SessionNumber::NONE && s.database == oid)
        {
            session.tally = TallyId::NONE;
        }
        self.holds
            .each_mut(|hold| hold.licensed &= hold.database != oid);
        self.note_left_out(oid, |known| {
            known.in_force.loaded = Generation::NONE;
            (
                known.rows.licenses,
                known.rows.exemptions,
                known.rows.reservations,
            ) = (0, 0, 0);
            known.rows.left_out = rules as u32;
        });
        true
    }

    /// Notes how many rows of a database are not in force for want of room, which is to be reported to the log.
    pub(crate) fn note_left_out(
        &mut self,
        database: DatabaseOid,
        note: impl FnOnce(&mut Database),
    ) {
        if let Some(known) = self.databases.get_mut(&database) {
            let before = (known.rows.left_out, known.rows.unnumbered);
            note(known);
            if (known.rows.left_out, known.rows.unnumbered) != before {
                known.rows.left_out_logged = false;
                self.head.left_out = true;
            }
        }
    }

    /// Causes databases whose rows did not all fit to be read again, once there is room.
    pub(crate) fn offer_room(&mut self, besides: DatabaseOid) {
        if !self.head.left_out || self.free_room() == 0 {
            return;
        }
        let Ledger {
            head,
            databases,
            waits,
            ..
        } = self;
        head.left_out = false;
        databases.each_mut(|known| {
            head.left_out |= known.has_left_out();
            if known.rows.left_out > 0 && known.oid != besides {
                known.generation = head.next_generation();
            }
        });
        head.ring |= !waits.is_empty();
    }

    /// Returns a database whose rows are not all in force, or are again, if that has not been reported yet: its OID,
    /// how many rows have no room, and how many have no number for their role.
    pub fn log_left_out(&mut self) -> Option<(DatabaseOid, u32, u32)> {
        if !self.head.left_out {
            return None;
        }
        let (mut unlogged, mut any) = (None, false);
        self.databases.each(|known| {
            any |= known.has_left_out();
            if !known.rows.left_out_logged {
                unlogged = Some((known.oid, known.rows.left_out, known.rows.unnumbered));
            }
        });
        match unlogged {
            Some((database, ..)) => {
                if let Some(known) = self.databases.get_mut(&database) {
                    known.rows.left_out_logged = true;
                }
            }
            None => self.head.left_out = any,
        }
        unlogged
    }

    /// Tells whether there may be something to report.
    pub fn has_left_out(&self) -> bool {
        self.head.left_out
    }
}
