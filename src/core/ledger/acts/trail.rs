//! What the audit trail reports. Whoever changes the ledger notes it here, and a worker writes it into the database's
//! table soon afterwards. Nobody waits for that: if there is no room, what is lost is counted.

use crate::core::ledger::Ledger;
use crate::core::ledger::acts::room::link;
use crate::core::ledger::denial::{Denial, Remark};
use crate::core::ledger::event::{Event, Happened, Leaving};
use crate::core::ledger::identity::Name;
use crate::core::ledger::license::{Ending, LEVELS, Level, License, RowKey};
use crate::core::ledger::numbers::{DatabaseOid, Slot, TallyId};
use crate::core::ledger::seat::Seat;
use crate::core::ledger::table::{Table, Tables};
use crate::core::ledger::tally::{Noting, Steady, Tally};
use crate::core::ledger::time::Timestamp;

/// How long events are gathered before they are written, in microseconds. A crash loses at most the last second.
const WRITTEN_AFTER: Timestamp = 700_000;

/// How soon a database that could not be written is tried again, in microseconds.
const WRITTEN_AGAIN_AFTER: Timestamp = 1_000_000;

/// How soon a database in which nothing happens is visited, in microseconds: rows grow old, and licenses come to their
/// end.
const VISITED_AGAIN_AFTER: Timestamp = 3_600_000_000;

/// How soon the writing of counts is tried again, in microseconds.
const COUNTED_AGAIN_AFTER: Timestamp = 60_000_000;

/// How soon a database that has events is tried again if database workers can't even connect to it, in microseconds.
const CONNECTED_AGAIN_AFTER: Timestamp = 60_000_000;

impl<T: Tables> Ledger<'_, T> {
    /// Notes an event for the audit trail of its database, and returns its number; 0 if it is lost.
    pub(crate) fn note(&mut self, event: &Event, now: Timestamp) -> u64 {
        // A room that is filling is soon full.
        let pause = if self.is_filling() { 0 } else { WRITTEN_AFTER };
        let Some(known) = self.databases.get_mut(&event.database) else {
            return 0;
        };
        if !known.trail.unwritable {
            known.trail.write_at = known.trail.write_at.min(now.saturating_add(pause));
            self.head.next_write = self.head.next_write.min(known.trail.write_at);
        }
        if !self.make_room_for(event, now) {
            return 0;
        }
        let number = self.put_event(event, now);
        link::<T>(
            &mut self.databases,
            &mut self.events,
            event.database,
            number,
        );
        number
    }

    /// Schedules a database to be written at once, because somebody waits for that.
    pub(crate) fn write_now(&mut self, database: DatabaseOid, now: Timestamp) {
        if let Some(known) = self.databases.get_mut(&database) {
            known.trail.write_at = now;
            self.head.next_write = self.head.next_write.min(now);
        }
    }

    /// Returns a number for an event that is reported in another way. Neither another event nor anything else has the
    /// same.
    pub fn next_number(&mut self) -> u64 {
        self.head.next_number()
    }

    /// Counts an event of a database as lost that was to be reported in another way.
    pub fn lose_event(&mut self, database: DatabaseOid, now: Timestamp) {
        if let Some(known) = self.databases.get_mut(&database) {
            known.trail.lost += 1;
        }
        self.write_soon(database, now);
    }

    /// Notes that a writer has been in a database and reported this many lost events, and when the next one should
    /// come. Of the events that it took, `made_room` were no longer there afterwards: they had to make room and were
    /// counted as lost, but were not.
    pub fn note_written(
        &mut self,
        database: DatabaseOid,
        lost: u64,
        made_room: u64,
        now: Timestamp,
    ) {
        self.set_unwritable(database, false);
        let filling = self.is_filling();
        if let Some(known) = self.databases.get_mut(&database) {
            known.trail.lost = known.trail.lost.saturating_sub(lost + made_room);
            known.trail.write_at = if known.trail.events > 0 && filling {
                now
            } else if known.trail.events > 0 || known.trail.lost > 0 {
                now.saturating_add(WRITTEN_AFTER)
            } else if known.rows.licenses > 0 {
                now.saturating_add(VISITED_AGAIN_AFTER)
            } else {
                Timestamp::MAX
            };
            known.trail.write_at = known.trail.write_at.min(known.trail.ring.due);
            if known.in_force.changes_at > now {
                known.trail.write_at = known.trail.write_at.min(known.in_force.changes_at);
            }
        }
        self.note_next_write();
    }

    /// Notes that a database's events could not be written. Returns whether that is news.
    pub fn could_not_write(&mut self, database: DatabaseOid, now: Timestamp) -> bool {
        let news = self.set_unwritable(database, true);
        if let Some(known) = self.databases.get_mut(&database) {
            let pause = match (known.has_lost_database_workers(), known.trail.events > 0) {
                (false, _) => WRITTEN_AGAIN_AFTER,
                (true, true) => CONNECTED_AGAIN_AFTER,
                (true, false) => VISITED_AGAIN_AFTER,
            };
            known.trail.write_at = now.saturating_add(pause);
        }
        self.note_next_write();
        news
    }

    /// Notes that a database's counts, with this digest, were written; or, without one, that they could not be and will
    /// be tried again. Returns whether the latter is news.
    pub fn counts_written(
        &mut self,
        database: DatabaseOid,
        digest: Option<u64>,
        now: Timestamp,
    ) -> bool {
        let Some(known) = self.databases.get_mut(&database) else {
            return false;
        };
        known.counts.written = digest.unwrap_or(0);
        let former = std::mem::replace(&mut known.counts.unwritable, digest.is_none());
        if digest.is_some() {
            return false;
        }
        let again_at = now.saturating_add(COUNTED_AGAIN_AFTER);
        known.trail.write_at = known.trail.write_at.min(again_at);
        self.head.next_write = self.head.next_write.min(again_at);
        !former
    }

    /// Notes whether old rows of a database's audit trail could not be deleted. Returns whether it is news that they
    /// could not.
    pub fn set_untidy(&mut self, database: DatabaseOid, untidy: bool) -> bool {
        self.databases.get_mut(&database).is_some_and(|known| {
            std::mem::replace(&mut known.trail.untidy, untidy) != untidy && untidy
        })
    }

    /// Shows the products whose licenses come to their end, each once for each number of days.
    pub fn warn_of_endings(&mut self, now: Timestamp, mut see: impl FnMut(&Name, Ending)) {
        self.licenses.each_mut(|license| {
            let ending = license.ending(now);
            if let Some(ending) = ending.filter(|_| ending != license.warned_ending) {
                see(&license.product, ending);
                license.warned_ending = Some(ending);
            }
        });
    }

    /// Notes that all necessary warnings were given about a database's events up to this one.
    pub fn warned(&mut self, database: DatabaseOid, number: u64) {
        if let Some(known) = self.databases.get_mut(&database) {
            known.trail.warned = number;
        }
    }

    /// Notes that the events that the last stop of the server kept for a database's audit trail have been written.
    pub fn note_left_written(&mut self, database: DatabaseOid) {
        if let Some(known) = self.databases.get_mut(&database) {
            known.trail.left_written = true;
        }
    }

    pub(crate) fn note_next_write(&mut self) {
        let mut next = Timestamp::MAX;
        self.databases
            .each(|known| next = next.min(known.trail.write_at));
        self.head.next_write = next;
    }

    /// Schedules a database's audit trail, and the counts that last, to be written soon even if nothing happens.
    pub fn write_soon(&mut self, database: DatabaseOid, now: Timestamp) {
        if let Some(known) = self
            .databases
            .get_mut(&database)
            .filter(|d| !d.trail.unwritable)
        {
            known.trail.write_at = known.trail.write_at.min(now.saturating_add(WRITTEN_AFTER));
            self.head.next_write = self.head.next_write.min(known.trail.write_at);
        }
    }

    /// Notes that the session in `slot` has taken a seat that nobody held, and what the server log says about it.
    pub(crate) fn note_taken(
        &mut self,
        slot: Slot,
        mut event: Event,
        tally: TallyId,
        remark: Remark,
        now: Timestamp,
    ) {
        event.in_use = self.in_use(tally);
        let overdraft = matches!(remark, Remark::Overdraft(_));
        event.overdrafts = u32::from(overdraft);
        let alone = self.note_move(Some(slot), &event, tally, now);
        if let Remark::Overdraft(Denial { cause, .. }) = remark
            && alone
        {
            event.happened = Happened::Overdraft(cause);
            self.note(&event, now);
        }
    }

    /// Notes that a seat was left by its last holder, by an act of the session in `slot` if one did it. If it gives
    /// way to somebody, it is kept for them.
    pub(crate) fn note_left(
        &mut self,
        slot: Option<Slot>,
        mut event: Event,
        left: &Seat,
        now: Timestamp,
    ) {
        if left.lingers_until == 0 {
            self.keep_promise(left, now);
        }
        let Some(tally) = self.tallies.get(&left.key.tally) else {
            return;
        };
        event.product = tally.product;
        event.seat = left.number;
        event.in_use = tally.in_use;
        event.until = left.lingers_until;
        event.held = now.saturating_sub(left.opened_at).max(0);
        self.note_move(slot, &event, left.key.tally, now);
        event.happened = match event.happened {
            Happened::Left(Leaving::IdleLogOff) => Happened::LoggedOff,
            Happened::Left(Leaving::Reclaim) => Happened::Reclaimed,
            _ => return,
        };
        self.note(&event, now);
    }

    /// Returns the number of a tally's seats that are taken.
    pub fn in_use(&self, tally: TallyId) -> i64 {
        self.tallies.get(&tally).map_or(0, |tally| tally.in_use)
    }

    /// Notes how many seats of a tally are taken if that is the most ever, and the licenses that have reached another
    /// level of use. The seats must be settled.
    pub(crate) fn note_usage(&mut self, tally: TallyId, now: Timestamp) {
        let Some(tally) = self.tallies.get_mut(&tally) else {
            return;
        };
        tally.note_high_water(now);
        if !tally.is_steady() {
            let tally = *tally;
            self.note_levels_of(&tally, now);
        }
    }

    /// Notes the levels of use that all licenses have reached. A pass over them finds up to [`LEVELS`] changes.
    pub(crate) fn note_levels(&mut self, now: Timestamp) {
        // Nothing is allocated under the lock, so only so many are noted at a time.
        let mut changed = [None; LEVELS];
        while self.find_levels(&mut changed) {
            for (key, level, in_use) in changed.iter_mut().filter_map(Option::take) {
                self.note_level(key, level, in_use, now);
            }
        }
    }

    /// Looks once at all tallies whose use may have reached another level, and puts the licenses that have into
    /// `changed`, as far as there is room. Returns `false` if there are none.
    fn find_levels(&mut self, changed: &mut [Option<(RowKey, Level, i64)>]) -> bool {
        let Ledger {
            tallies, licenses, ..
        } = self;
        let mut begun = false;
        tallies.each_mut(|tally| {
            if !tally.is_steady() {
                (tally.steady, tally.noting) = (Steady::ALWAYS, Noting::Begun);
                begun = true;
            }
        });
        if !begun {
            return false;
        }
        let mut room = changed.iter_mut();
        let mut found = false;
        licenses.each(|license| {
            let tally = tallies.get_mut(&license.tally);
            let Some(tally) = tally.filter(|tally| tally.noting != Noting::No) else {
                return;
            };
            tally.steady.narrow(license, tally.in_use);
            let level = license.level_of(tally.in_use);
            if level != license.level {
                found = true;
                match room.next() {
                    Some(place) => *place = Some((license.key, level, tally.in_use)),
                    None => tally.noting = Noting::Left,
                }
            }
        });
        tallies.each_mut(|tally| {
            if std::mem::replace(&mut tally.noting, Noting::No) == Noting::Left {
                tally.steady = Steady::NEVER;
            }
        });
        found
    }

    fn note_levels_of(&mut self, tally: &Tally, now: Timestamp) {
        let in_use = tally.in_use;
        loop {
            let (mut steady, mut changed) = (Steady::ALWAYS, None);
            self.each_license_of(tally, |license| {
                steady.narrow(license, in_use);
                let level = license.level_of(in_use);
                if level != license.level {
                    changed = Some((license.key, level));
                }
            });
            let Some((key, level)) = changed else {
                if let Some(tally) = self.tallies.get_mut(&tally.number) {
                    tally.steady = steady;
                }
                return;
            };
            self.note_level(key, level, in_use, now);
        }
    }

    fn each_license_of(&self, tally: &Tally, mut see: impl FnMut(&License)) {
        let number = tally.number;
        let see = |license: &License| {
            if license.tally == number {
                see(license);
            }
        };
        if tally.database == DatabaseOid::NONE {
            self.licenses.each(see);
        } else {
            self.in_force(tally.database, &tally.product)
                .into_iter()
                .for_each(see);
        }
    }

    fn note_level(&mut self, key: RowKey, level: Level, in_use: i64, now: Timestamp) {
        let Some(license) = self.licenses.get_mut(&key) else {
            return;
        };
        let former = std::mem::replace(&mut license.level, level);
        if let Some(seats) = license.seats.filter(|_| level > former) {
            let happened = Happened::Reached { level, seats };
            let mut event = Event::of_product(happened, key.database, license.product);
            event.in_use = in_use;
            let tally = license.tally;
            self.note_crossing(&event, tally, now);
        }
    }
}
