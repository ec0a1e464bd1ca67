//! Pauses: the machine was suspended, or its clock was set. Whoever was alive before could do nothing meanwhile, so
//! times begin anew: of leases, of lingering seats, and of inactivity.
//!
//! The ledger's time follows a clock that nobody sets. Each change of the ledger begins with a look at the clocks, so
//! that nobody ends anything before a pause is noticed: the launcher has not looked when it meant to, or the wall clock
//! was set.
//!
//! | the launcher | a pause is noticed |
//! | --- | --- |
//! | is late by more than [`GRACE`] | once, by whoever is first; then not before the launcher has looked again |
//! | has not come back since | no more: what is due ends, by whoever finds it |
//! | has nothing to look after | by the wall clock alone |

use crate::core::ledger::Ledger;
use crate::core::ledger::event::{Event, Happened};
use crate::core::ledger::identity::Name;
use crate::core::ledger::numbers::DatabaseOid;
use crate::core::ledger::table::{Table, Tables};
use crate::core::ledger::time::{APART, Clocks, DAY, DRIFT, GRACE, LOOK, Pause, Timestamp, Watch};

/// Stands for no further database.
const NO_MORE: DatabaseOid = DatabaseOid(u32::MAX);

/// The number of databases that are told at a time.
const BATCH: usize = 64;

impl<T: Tables> Ledger<'_, T> {
    /// Looks at the clocks before the ledger is changed. Returns whether times begin anew.
    pub fn look_at(&mut self, clocks: Clocks) -> bool {
        if !self.head.time.shows_pause(clocks) {
            return false;
        }
        let apart = self.head.time.apart(clocks);
        let late = self.head.time.late(clocks);
        self.begin_anew(
            clocks,
            if apart.abs() > APART { apart } else { 0 },
            if late > GRACE { late } else { 0 },
        );
        true
    }

    /// Tells whether what is old by the wall clock may be deleted. A clock that was set ahead by a day or more must
    /// have been right for a day.
    pub fn may_delete(&self, now: Timestamp) -> bool {
        let last = self.head.time.last;
        last.is_none_or(|pause| pause.moved < DAY || now.saturating_sub(pause.at) >= DAY)
    }

    /// Tells whether there is something to look after that the launcher does not know about yet.
    pub fn needs_watch(&self) -> bool {
        self.head.time.watch == Watch::Asleep
            && (!self.licenses.is_empty() || self.head.next_due != Timestamp::MAX)
    }

    /// Looks at the clocks for the launcher. Returns whether it means to look again soon.
    pub fn launcher_looks(&mut self, clocks: Clocks) -> bool {
        self.look_at(clocks);
        let apart = self.head.time.apart(clocks);
        if apart.abs() > DRIFT {
            // Small steps must not add up to a large one.
            self.head.time.ahead = self.head.time.ahead.saturating_add(apart);
        }
        self.head.time.watch = Watch::Asleep;
        let watches = self.needs_watch();
        if watches {
            self.watch(clocks);
        }
        watches
    }

    /// Notes that the launcher is expected to look from now on.
    pub fn watch(&mut self, clocks: Clocks) {
        let by = self.head.time.now(clocks).saturating_add(LOOK);
        self.head.time.watch = Watch::By(by);
    }

    fn begin_anew(&mut self, clocks: Clocks, moved: i64, late: i64) {
        // The last moment at which everything is known to have run.
        let alive_at = self.head.time.now(clocks).saturating_sub(late);
        self.head.time.ahead = self.head.time.ahead.saturating_add(moved);
        let now = self.head.time.now(clocks);
        self.head.time.watch = Watch::Late;
        self.head.time.last = Some(Pause {
            at: now,
            moved,
            late,
        });
        self.holds.each_mut(|hold| {
            if hold.will_end() {
                hold.expires_at = now.saturating_add(hold.ttl);
            }
        });
        let tallies = &self.tallies;
        self.seats.each_mut(|seat| {
            if seat.ending {
                seat.lingers_until = seat.lingers_until.saturating_add(moved);
            } else if !seat.is_held() || seat.lingers_until > alive_at {
                // In a pool it is as long as the longest of its licenses says.
                let longest = tallies.get(&seat.key.tally).map_or(0, |tally| tally.linger);
                seat.lingers_until = now.saturating_add(longest);
            }
        });
        self.databases.each_mut(|known| {
            known.in_force.read_at = known.in_force.read_at.saturating_add(moved);
            for moment in [&mut known.trail.write_at, &mut known.trail.ring.due] {
                if *moment != Timestamp::MAX {
                    *moment = moment.saturating_add(moved);
                }
            }
        });
        if moved != 0 {
            self.spells.each_mut(|spell| spell.shift(moved));
            self.head.room.shift(moved);
        }
        if self.head.next_write != Timestamp::MAX {
            self.head.next_write = self.head.next_write.saturating_add(moved);
        }
        self.note_next_due();
        self.report_pause(Happened::ClockJump { moved, late }, now);
    }

    /// Tells every database that has licenses about a pause.
    fn report_pause(&mut self, happened: Happened, now: Timestamp) {
        let mut after = DatabaseOid::NONE;
        loop {
            // The databases that come next, by their OIDs.
            let mut next = [NO_MORE; BATCH];
            self.databases.each(|known| {
                if known.oid > after && known.rows.licenses > 0 {
                    let at = next.partition_point(|oid| *oid < known.oid);
                    if let Some(later) = next.get_mut(at..) {
                        later.rotate_right(1);
                        if let Some(place) = later.first_mut() {
                            *place = known.oid;
                        }
                    }
                }
            });
            for database in next.into_iter().filter(|oid| *oid != NO_MORE) {
                self.note(&Event::of_product(happened, database, Name::EMPTY), now);
                after = database;
            }
            if next.last() == Some(&NO_MORE) {
                return;
            }
        }
    }
}
