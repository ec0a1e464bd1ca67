//! Pauses: a machine that was suspended, or whose clock was set. Whoever was alive before could do nothing
//! meanwhile, so times begin anew: of leases, of seats that linger, and of inactivity.
//!
//! The ledger's time goes by a clock that nobody sets. Each change of the ledger begins with a look at the
//! clocks, so that nobody ends anything before a pause is noticed: that the launcher has not looked when it meant
//! to, or that the wall clock was set.
//!
//! | the launcher | noticed as a pause |
//! | --- | --- |
//! | is late by more than [`GRACE`] | once, by whoever is first; then not before it has looked again |
//! | has not come back since | no more: what is due ends, by whoever finds it |
//! | has nothing to look after | by the wall clock alone |

use super::Ledger;
use super::event::{Event, Happened};
use super::identity::Name;
use super::license::Timestamp;
use super::table::{Table, Tables};

/// So late may the launcher be, in microseconds.
pub const GRACE: Timestamp = 5_000_000;

/// So far apart may the two clocks be moved, in microseconds.
const APART: Timestamp = 1_000_000;

/// How soon the launcher looks again while there is anything whose time may be up, in microseconds.
pub const LOOK: Timestamp = 5_000_000;

/// So far may they be apart without being brought together, in microseconds.
const DRIFT: Timestamp = 10_000;

/// What is read of the wall clock may be so much ahead of the ledger's time, in microseconds.
const AHEAD: Timestamp = 2_000_000;

const DAY: i64 = 86_400_000_000;

/// So many databases are told at once.
const BATCH: usize = 64;

/// Both clocks at one moment, in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// The time since the machine's start, which nobody sets and which goes on while it is suspended.
    pub since_start: i64,
    /// The wall clock.
    pub wall: Timestamp,
}

/// When the launcher means to look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Watch {
    /// It has nothing to look after.
    #[default]
    Asleep,
    /// By this moment.
    By(Timestamp),
    /// It is late, which was noticed.
    Late,
}

/// What the ledger knows of the time.
#[derive(Clone, Copy, Debug)]
pub struct Time {
    /// How much the ledger's time is ahead of that since the machine's start.
    pub ahead: i64,
    /// When the launcher means to look.
    pub watch: Watch,
    /// The last pause.
    pub last: Option<Pause>,
}

/// A pause, as it was noticed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pause {
    /// When it was: since then times count anew.
    pub at: Timestamp,
    /// By how much the wall clock was set, in microseconds; 0: it was not.
    pub moved: i64,
    /// For how long nothing ran at least, in microseconds.
    pub late: i64,
}

impl Time {
    /// Nothing has been looked at.
    pub const UNKNOWN: Time = Time {
        ahead: 0,
        watch: Watch::Asleep,
        last: None,
    };

    /// The ledger's time.
    pub fn now(&self, clocks: Clocks) -> Timestamp {
        clocks.since_start.saturating_add(self.ahead)
    }

    /// How far the wall clock was set.
    fn apart(&self, clocks: Clocks) -> i64 {
        clocks.wall.saturating_sub(self.now(clocks))
    }

    /// How long the launcher has been late, 0 where it is not.
    fn late(&self, clocks: Clocks) -> i64 {
        match self.watch {
            Watch::By(moment) => self.now(clocks).saturating_sub(moment).max(0),
            Watch::Asleep | Watch::Late => 0,
        }
    }

    /// Whether there was a pause that nobody has noticed.
    pub fn shows_pause(&self, clocks: Clocks) -> bool {
        self.apart(clocks).abs() > APART || self.late(clocks) > GRACE
    }

    /// Since when somebody is inactive whose status has this time of the wall clock, as it was read `now` or
    /// before. What was written before a pause counts from the pause.
    pub fn inactive_since(&self, status: Timestamp, now: Timestamp) -> Timestamp {
        match self.last {
            Some(pause) if status < pause.at || status > now.saturating_add(AHEAD) => pause.at,
            _ => status.min(now),
        }
    }
}

impl<T: Tables> Ledger<'_, T> {
    /// Looks at the clocks before the ledger is changed; true where times begin anew.
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

    /// Whether what is old by the wall clock may be deleted: a clock that was set more than a day ahead must have been right
    /// for a day.
    pub fn may_delete(&self, now: Timestamp) -> bool {
        let last = self.head.time.last;
        last.is_none_or(|pause| pause.moved < DAY || now.saturating_sub(pause.at) >= DAY)
    }

    /// Somebody has something to be looked after, which the launcher does not know yet.
    pub fn needs_watch(&self) -> bool {
        self.head.time.watch == Watch::Asleep
            && (!self.licenses.is_empty() || self.head.next_due != Timestamp::MAX)
    }

    /// The launcher looks now; whether it means to look again soon.
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

    /// From now on the launcher is expected to look.
    pub fn watch(&mut self, clocks: Clocks) {
        let by = self.head.time.now(clocks).saturating_add(LOOK);
        self.head.time.watch = Watch::By(by);
    }

    fn begin_anew(&mut self, clocks: Clocks, moved: i64, late: i64) {
        // The last moment at which all is known to have run.
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
                // In a pool as long as the longest of its licenses has it.
                let longest = tallies.get(&seat.key.tally).map_or(0, |tally| tally.linger);
                seat.lingers_until = now.saturating_add(longest);
            }
        });
        self.databases.each_mut(|known| {
            known.read_at = known.read_at.saturating_add(moved);
            for moment in [&mut known.write_at, &mut known.ring.due] {
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
        self.tell_of_pause(Happened::ClockJump { moved, late }, now);
    }

    /// Tells every database that has licenses.
    fn tell_of_pause(&mut self, happened: Happened, now: Timestamp) {
        let mut after = 0;
        loop {
            // Those that come next by their numbers.
            let mut next = [u32::MAX; BATCH];
            self.databases.each(|known| {
                if known.oid > after && known.licenses > 0 {
                    let at = next.partition_point(|oid| *oid < known.oid);
                    if let Some(later) = next.get_mut(at..) {
                        later.rotate_right(1);
                        if let Some(place) = later.first_mut() {
                            *place = known.oid;
                        }
                    }
                }
            });
            for database in next.into_iter().filter(|oid| *oid != u32::MAX) {
                self.note(&Event::of_product(happened, database, Name::EMPTY), now);
                after = database;
            }
            if next.last() == Some(&u32::MAX) {
                return;
            }
        }
    }
}
