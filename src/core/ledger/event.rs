//! What the audit trail tells: noted here by whoever changes the ledger, written into the database's
//! table by a worker soon afterwards. Nobody waits for that: where there is no room, what is lost is
//! counted.

use super::admission::{Cause, Denial, Remark};
use super::hold::Hold;
use super::identity::{Host, Label, Name, Who};
use super::license::{Ending, License, RowKey, Timestamp};
use super::narrow::Excess;
use super::session::{Exempt, Kind, Seat, Session};
use super::table::{Table, Tables, entry};
use super::tally::{Noting, Steady, Tally};
use super::{Ledger, room};

/// How long events come together before they are written, in microseconds: a crash loses at most the
/// last second.
const WRITTEN_AFTER: Timestamp = 700_000;

/// How soon a database that could not be written is tried again, in microseconds.
const WRITTEN_AGAIN_AFTER: Timestamp = 1_000_000;

/// How soon a database is visited where nothing happens, in microseconds: rows grow old, and licenses
/// come to their end.
const VISITED_AGAIN_AFTER: Timestamp = 3_600_000_000;

/// How soon is tried again to write what is counted, in microseconds.
const COUNTED_AGAIN_AFTER: Timestamp = 60_000_000;

/// How soon a database that visitors can't even connect to is tried again while it has events.
const CONNECTED_AGAIN_AFTER: Timestamp = 60_000_000;

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Happened {
    /// A seat was taken that nobody held.
    Taken,
    /// A seat was left by its last holder.
    Left(Leaving),
    /// No seat was to be had.
    Denied(Cause),
    /// No seat was to be had, and 'warn' admitted.
    WouldBeDenied(Cause),
    /// A seat beyond `seats` was taken.
    Overdraft(Cause),
    /// A session logged in that is exempt.
    ExemptLogin(Exempt),
    /// The time of a lease was up.
    LeaseExpired,
    /// An administrator stopped who held the seat.
    Terminated,
    /// Whoever held the seat was logged off for inactivity.
    LoggedOff,
    /// The seat was idle, and gave way to somebody else.
    Reclaimed,
    /// So many seats are in use that somebody should know.
    Reached {
        /// How many.
        level: Level,
        /// The seats that the license has.
        seats: i32,
    },
    /// The tables claim more than was signed.
    Tampered(Excess),
    /// The clock was set, or nothing ran for a while: times began anew.
    ClockJump {
        /// By how much the wall clock was set, in microseconds; 0: it was not.
        moved: i64,
        /// For how long nothing ran at least, in microseconds.
        late: i64,
    },
}

/// Why a seat was left by its last holder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Leaving {
    /// The session ended.
    Logout,
    /// The client was gone without a word.
    Abandoned,
    /// An error, or a timeout of the server's, ended the session.
    Fatal,
    /// An operator, or the server's stop, ended the session.
    Killed,
    /// The application gave it back.
    GivenBack,
    /// The lease's time was up.
    Expiry,
    /// An administrator stopped it.
    Termination,
    /// It was inactive for too long.
    IdleLogOff,
    /// It was inactive, and gave way to somebody else.
    Reclaim,
}

impl Leaving {
    /// The word for it in the audit trail; of how sessions end, that of `pg_stat_database`.
    pub fn word(self) -> &'static str {
        match self {
            Leaving::Logout => "logout",
            Leaving::Abandoned => "abandoned",
            Leaving::Fatal => "fatal",
            Leaving::Killed => "killed",
            Leaving::GivenBack => "given back",
            Leaving::Expiry => "lease expiry",
            Leaving::Termination => "termination",
            Leaving::IdleLogOff => "idle log-off",
            Leaving::Reclaim => "reclaim",
        }
    }
}

/// Of so many licenses at a time it is noted that another level is reached.
const LEVELS: usize = 256;

/// How much of a license is in use, from the least to the most.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Level {
    /// Less than would worry anybody.
    #[default]
    Normal,
    /// `warn_at_percent` or more.
    Warning,
    /// Every seat.
    Full,
    /// More than that, as `overdraft` allows.
    Overdraft,
    /// More than is allowed, after a reduction.
    Over,
}

impl Level {
    /// The word for it in the audit trail.
    pub fn word(self) -> &'static str {
        match self {
            Level::Normal => "ok",
            Level::Warning => "warning",
            Level::Full => "full",
            Level::Overdraft => "overdraft",
            Level::Over => "over",
        }
    }
}

/// An event, until it is written.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// Its own number: events are in the order of their numbers.
    pub number: u64,
    /// When it happened.
    pub at: Timestamp,
    /// The OID of the database in whose trail it belongs.
    pub database: u32,
    /// What happened.
    pub happened: Happened,
    /// The product.
    pub product: Name,
    /// What held the seat, or asked for it; none where nobody did.
    pub kind: Option<Kind>,
    /// Who; the name of a lease's host that is no address stands in the place of a workstation.
    pub who: Who,
    /// The role's name at its login; empty where only the OID is known.
    pub usename: Name,
    /// The number of the seat; 0 for none.
    pub seat: u64,
    /// Seats in use then.
    pub in_use: i64,
    /// Until when the seat lingers; 0: it does not.
    pub until: Timestamp,
    /// The OID of the role that did it, where that is another one; 0: none.
    pub by: u32,
    /// Why that role did it, or empty.
    pub reason: Label,
    /// How often it happened, where it is told together, `at` the last time; else 0.
    pub count: u32,
    /// When it happened first.
    pub since: Timestamp,
    /// How long the seats were held that were left, in microseconds.
    pub held: Timestamp,
    /// How many seats beyond `seats` were among those that were taken.
    pub overdrafts: u32,
    /// The number of the next event of its database; 0: none yet.
    pub(super) next: u64,
}

entry!(Event, number: u64);

/// Nobody in particular.
const NOBODY: Who = Who {
    role: 0,
    host: Host::NONE,
    workstation: Name::EMPTY,
    client_user: Label::EMPTY,
};

impl Event {
    /// What happened to a product.
    pub(super) fn of_product(happened: Happened, database: u32, product: Name) -> Event {
        Event {
            number: 0,
            at: 0,
            database,
            happened,
            product,
            kind: None,
            who: NOBODY,
            usename: Name::EMPTY,
            seat: 0,
            in_use: 0,
            until: 0,
            by: 0,
            reason: Label::EMPTY,
            count: 0,
            since: 0,
            held: 0,
            overdrafts: 0,
            next: 0,
        }
    }

    /// What happened to a session's login.
    pub(super) fn of_login(happened: Happened, session: &Session, product: Name) -> Event {
        Event {
            kind: Some(Kind::Login),
            who: session.who,
            usename: session.usename,
            ..Event::of_product(happened, session.database, product)
        }
    }

    /// What happened to a hold, which the session at this name took.
    pub(super) fn of_hold(happened: Happened, hold: &Hold, usename: Name, product: Name) -> Event {
        Event {
            kind: Some(hold.kind()),
            who: hold.who,
            usename,
            ..Event::of_product(happened, hold.database, product)
        }
    }
}

impl<T: Tables> Ledger<'_, T> {
    /// Notes an event for the audit trail of its database: its number, 0 where it is lost.
    pub(super) fn note(&mut self, event: &Event, now: Timestamp) -> u64 {
        // What fills is soon full.
        let pause = if self.is_filling() { 0 } else { WRITTEN_AFTER };
        let Some(known) = self.databases.get_mut(&event.database) else {
            return 0;
        };
        if !known.unwritable {
            known.write_at = known.write_at.min(now.saturating_add(pause));
            self.head.next_write = self.head.next_write.min(known.write_at);
        }
        if !self.make_room_for(event, now) {
            return 0;
        }
        let number = self.put_event(event, now);
        room::link::<T>(
            &mut self.databases,
            &mut self.events,
            event.database,
            number,
        );
        number
    }

    /// Somebody waits for what is to be written in a database.
    pub(super) fn write_now(&mut self, database: u32, now: Timestamp) {
        if let Some(known) = self.databases.get_mut(&database) {
            known.write_at = now;
            self.head.next_write = self.head.next_write.min(now);
        }
    }

    /// A number for what is told otherwise: no event, nor anything else, has the same.
    pub fn next_number(&mut self) -> u64 {
        self.head.numbers += 1;
        self.head.numbers
    }

    /// An event of a database is lost that was to be told otherwise.
    pub fn lose_event(&mut self, database: u32, now: Timestamp) {
        if let Some(known) = self.databases.get_mut(&database) {
            known.events_lost += 1;
        }
        self.write_soon(database, now);
    }

    /// A writer has been there, and told so many lost events: when the next one should be. Of the events that it
    /// took, so many were there no longer: what had to make room meanwhile counts as lost, and is not.
    pub fn told(&mut self, database: u32, lost: u64, made_room: u64, now: Timestamp) {
        self.set_unwritable(database, false);
        let filling = self.is_filling();
        if let Some(known) = self.databases.get_mut(&database) {
            known.events_lost = known.events_lost.saturating_sub(lost + made_room);
            known.write_at = if known.events > 0 && filling {
                now
            } else if known.events > 0 || known.events_lost > 0 {
                now.saturating_add(WRITTEN_AFTER)
            } else if known.licenses > 0 {
                now.saturating_add(VISITED_AGAIN_AFTER)
            } else {
                Timestamp::MAX
            };
            known.write_at = known.write_at.min(known.ring.due);
            if known.changes_at > now {
                known.write_at = known.write_at.min(known.changes_at);
            }
        }
        self.note_next_write();
    }

    /// A database's events could not be written. True when that is news.
    pub fn could_not_write(&mut self, database: u32, now: Timestamp) -> bool {
        let news = self.set_unwritable(database, true);
        if let Some(known) = self.databases.get_mut(&database) {
            let pause = match (known.has_lost_visitors(), known.events > 0) {
                (false, _) => WRITTEN_AGAIN_AFTER,
                (true, true) => CONNECTED_AGAIN_AFTER,
                (true, false) => VISITED_AGAIN_AFTER,
            };
            known.write_at = now.saturating_add(pause);
        }
        self.note_next_write();
        news
    }

    /// What is counted in a database, of this digest, was written, or could not be, and is tried again. True
    /// when the latter is news.
    pub fn counts_written(&mut self, database: u32, digest: Option<u64>, now: Timestamp) -> bool {
        let Some(known) = self.databases.get_mut(&database) else {
            return false;
        };
        known.counts_written = digest.unwrap_or(0);
        let former = std::mem::replace(&mut known.uncountable, digest.is_none());
        if digest.is_some() {
            return false;
        }
        let again_at = now.saturating_add(COUNTED_AGAIN_AFTER);
        known.write_at = known.write_at.min(again_at);
        self.head.next_write = self.head.next_write.min(again_at);
        !former
    }

    /// Old rows of a database's trail could not be deleted, or could be. True when the former is news.
    pub fn set_untidy(&mut self, database: u32, untidy: bool) -> bool {
        self.databases
            .get_mut(&database)
            .is_some_and(|known| std::mem::replace(&mut known.untidy, untidy) != untidy && untidy)
    }

    /// Shows the products whose licenses come to their end, each once for each number of days.
    pub fn tell_endings(&mut self, now: Timestamp, mut see: impl FnMut(&Name, Ending)) {
        self.licenses.each_mut(|license| {
            let ending = license.ending(now);
            if let Some(ending) = ending.filter(|_| ending != license.told_ending) {
                see(&license.product, ending);
                license.told_ending = Some(ending);
            }
        });
    }

    /// What happened in a database up to the event of this number has been warned of, where it must be.
    pub fn warned(&mut self, database: u32, number: u64) {
        if let Some(known) = self.databases.get_mut(&database) {
            known.warned = number;
        }
    }

    /// What the last stop of the server has kept of a database's trail is told.
    pub fn kept_told(&mut self, database: u32) {
        if let Some(known) = self.databases.get_mut(&database) {
            known.kept_told = true;
        }
    }

    pub(super) fn note_next_write(&mut self) {
        let mut next = Timestamp::MAX;
        self.databases.each(|known| next = next.min(known.write_at));
        self.head.next_write = next;
    }

    /// A database's trail, and what lasts of its counts, is to be written even if nothing happens.
    pub fn write_soon(&mut self, database: u32, now: Timestamp) {
        if let Some(known) = self.databases.get_mut(&database).filter(|d| !d.unwritable) {
            known.write_at = known.write_at.min(now.saturating_add(WRITTEN_AFTER));
            self.head.next_write = self.head.next_write.min(known.write_at);
        }
    }

    /// Notes that the session at this place has taken a seat that nobody held, and what the server log says of it.
    pub(super) fn note_taken(
        &mut self,
        at: usize,
        mut event: Event,
        tally: u64,
        remark: Remark,
        now: Timestamp,
    ) {
        event.in_use = self.in_use(tally);
        let overdraft = matches!(remark, Remark::Overdraft(_));
        event.overdrafts = u32::from(overdraft);
        let alone = self.note_move(Some(at), &event, tally, now);
        if let Remark::Overdraft(Denial { cause, .. }) = remark
            && alone
        {
            event.happened = Happened::Overdraft(cause);
            self.note(&event, now);
        }
    }

    /// Notes that a seat was left by its last holder, by an act of the session at this place, if it was a
    /// session's; if it gives way to somebody, it is kept for them.
    pub(super) fn note_left(
        &mut self,
        at: Option<usize>,
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
        self.note_move(at, &event, left.key.tally, now);
        event.happened = match event.happened {
            Happened::Left(Leaving::IdleLogOff) => Happened::LoggedOff,
            Happened::Left(Leaving::Reclaim) => Happened::Reclaimed,
            _ => return,
        };
        self.note(&event, now);
    }

    /// Seats of a tally that are taken.
    pub fn in_use(&self, tally: u64) -> i64 {
        self.tallies.get(&tally).map_or(0, |tally| tally.in_use)
    }

    /// A tally's seats are settled: notes the most that were taken, and the licenses that have
    /// reached another level of use.
    pub(super) fn note_usage(&mut self, number: u64, now: Timestamp) {
        let Some(tally) = self.tallies.get_mut(&number) else {
            return;
        };
        tally.note_high_water(now);
        if !tally.is_steady() {
            let tally = *tally;
            self.note_levels_of(&tally, now);
        }
    }

    /// The same for the levels of all licenses: two passes over them all, however many have changed.
    pub(super) fn note_levels(&mut self, now: Timestamp) {
        // Under the lock nothing is allocated: so many at a time.
        let mut changed = [None; LEVELS];
        while self.find_levels(&mut changed) {
            for (key, level, in_use) in changed.iter_mut().filter_map(Option::take) {
                self.note_level(key, level, in_use, now);
            }
        }
    }

    /// Looks once at all tallies whose use may have reached another level: gives the licenses of which that is true, as
    /// far as there is room. False where there are none.
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
        if tally.database == 0 {
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
