//! Those whom an administrator keeps out for a time: by what the server knows about them, not by what a client calls
//! itself.
//!
//! Bars are found by whom they bind, so that the cost of a login does not grow with their number.

use crate::core::ledger::Ledger;
use crate::core::ledger::bar::{Bar, BarBy, Barred, Bound, StoredBar};
use crate::core::ledger::hold::Hold;
use crate::core::ledger::identity::{Host, Name, Text, Who};
use crate::core::ledger::numbers::{DatabaseOid, RoleOid, TallyId};
use crate::core::ledger::rules::RuleCounts;
use crate::core::ledger::seat::{Claimant, Kind, Seat};
use crate::core::ledger::session::Session;
use crate::core::ledger::table::{Table, Tables};
use crate::core::ledger::time::Timestamp;

/// An administrator's request that those who are stopped can't come back for a time.
#[derive(Clone, Copy, Debug)]
pub struct BarRequest {
    /// What identifies those who are to be barred.
    pub by: BarBy,
    /// When the bar ends.
    pub until: Timestamp,
    /// The administrator's role.
    pub barred_by: Name,
}

/// Why the holders of a seat can't be barred.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unbarrable {
    /// There is no room for as many bars.
    NoRoom,
    /// A name is not known in full any more.
    Unknown,
    /// One of them is at the server's own computer, where everybody may be.
    Local,
}

/// The most bars that may bind the same: from several databases of a pool, or made one after the other.
const SAME_MAX: u32 = 16;

/// A second in microseconds. Ids of bars count up from the seconds since 2000, so that none is used again after a
/// restart, and each is short.
const SECOND: Timestamp = 1_000_000;

impl<T: Tables> Ledger<'_, T> {
    /// Returns how many of those who hold this seat are to be barred, and puts each once into `whom`, as far as there
    /// is room. Superusers are never barred.
    pub(crate) fn whom_to_bar(
        &self,
        seat: &Seat,
        by: BarBy,
        whom: &mut Vec<Barred>,
    ) -> Result<usize, Unbarrable> {
        let mut found = 0;
        let mut outcome = Ok(());
        let mut add = |barred: Option<Barred>| match barred {
            None => outcome = Err(Unbarrable::Unknown),
            Some(barred) if by == BarBy::Host && barred.host == Host::LOCAL => {
                outcome = Err(Unbarrable::Local);
            }
            Some(barred) if whom.contains(&barred) => {}
            Some(barred) => {
                found += 1;
                if whom.len() < whom.capacity() {
                    whom.push(barred);
                }
            }
        };
        let holds_it = |session: &&Session| session.seat == Some(seat.key) && !session.superuser;
        for session in self.sessions.iter().filter(holds_it) {
            add(Barred::of(by, Kind::Login, &session.who, Name::EMPTY, None));
        }
        let superuser = |hold: &Hold| {
            let mut sessions = self.sessions.iter();
            hold.kind() == Kind::Checkout
                && sessions.any(|session| session.number == hold.number && session.superuser)
        };
        self.holds.each(|hold| {
            if hold.seat() == Some(seat.number) && !superuser(hold) {
                let host_name = Name::new(hold.host_name()).unwrap_or(Name::EMPTY);
                let long_name = self.long_name(&hold.who.client_user);
                add(Barred::of(by, hold.kind(), &hold.who, host_name, long_name));
            }
        });
        if !seat.is_held() {
            let taker = Who {
                role: seat.role,
                host: seat.host,
                workstation: Name::EMPTY,
                client_user: seat.client_user,
            };
            let kind = if seat.by_lease {
                Kind::Lease
            } else {
                Kind::Login
            };
            add(Barred::of(by, kind, &taker, Name::EMPTY, None));
        }
        outcome.map(|()| found)
    }

    /// Bars those who held a seat of this tally. Returns `false` if there is no room for that.
    pub(crate) fn bar_all(
        &mut self,
        database: DatabaseOid,
        tally: TallyId,
        whom: &[Barred],
        wish: BarRequest,
        reason: Text<256>,
        now: Timestamp,
    ) -> bool {
        self.end_bars(now);
        let known = self.rows_of(database);
        let wanted = RuleCounts {
            bars: known.bars + whom.len(),
            ..known
        };
        let Some(room) = self
            .room_for(database, wanted)
            .filter(|room| room.bars == wanted.bars)
        else {
            return false;
        };
        self.make_room_for_rules(database, room.all());
        self.give_way(database, wanted.exemptions - room.exemptions);
        for &whom in whom {
            self.head.last_bar = (self.head.last_bar + 1).max(now / SECOND);
            let bar = Bar {
                key: whom.bound(tally),
                id: self.head.last_bar,
                database,
                whom,
                since: now,
                until: wish.until,
                barred_by: wish.barred_by,
                reason,
                stored: false,
                lifted: false,
                complained_of: false,
            };
            if self.put_bar(bar)
                && let Some(known) = self.databases.get_mut(&database)
            {
                known.rows.unstored_bars += 1;
            }
        }
        true
    }

    /// Puts a bar in. Returns `false` if there is no room for it.
    fn put_bar(&mut self, mut bar: Bar) -> bool {
        while self.bars.get(&bar.key).is_some() {
            bar.key.nth += 1;
            if bar.key.nth == SAME_MAX {
                return false;
            }
        }
        self.head.same_bars = self.head.same_bars.max(bar.key.nth);
        let is_in = self.bars.put(bar).is_some();
        if is_in && let Some(known) = self.databases.get_mut(&bar.database) {
            known.rows.bars += 1;
        }
        is_in
    }

    /// Forgets the bars that have ended.
    pub fn end_bars(&mut self, now: Timestamp) {
        let before = self.bars.len();
        self.drop_bars(|bar| bar.until <= now);
        if self.bars.len() < before {
            self.offer_room(DatabaseOid::NONE);
        }
    }

    pub(crate) fn drop_bars(&mut self, is_over: impl Fn(&Bar) -> bool) {
        let Ledger {
            bars, databases, ..
        } = self;
        bars.retain(|bar| {
            let over = is_over(bar);
            if over && let Some(known) = databases.get_mut(&bar.database) {
                known.rows.bars -= 1;
                known.rows.unstored_bars -= u32::from(!bar.stored);
            }
            !over
        });
    }

    /// Takes a number of a database's bars that are rows out of force, the newest first, because there is no room for
    /// them.
    pub(crate) fn drop_newest_bars(&mut self, database: DatabaseOid, rows: u32) {
        if rows == 0 {
            return;
        }
        let newer = |bars: &T::Of<Bar>, than: i64| {
            let mut newer = 0;
            bars.each(|bar| {
                newer += u32::from(bar.database == database && bar.stored && bar.id > than);
            });
            newer
        };
        // The id beyond which there are no more bars than these.
        let (mut low, mut high) = (0, i64::MAX);
        while low < high {
            let middle = low.midpoint(high);
            if newer(&self.bars, middle) <= rows {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        self.drop_bars(|bar| bar.database == database && bar.stored && bar.id > low);
    }

    /// Returns until when a claimant is barred, if it is.
    pub(crate) fn barred_until(&self, claimant: &Claimant, now: Timestamp) -> Option<Timestamp> {
        if self.bars.is_empty() {
            return None;
        }
        let Claimant { tally, who, .. } = claimant;
        let mut until: Option<Timestamp> = None;
        let mut look = |mut key: Bound| {
            for nth in 0..=self.head.same_bars {
                key.nth = nth;
                let bar = self.bars.get(&key);
                if let Some(bar) = bar.filter(|bar| !bar.lifted && bar.until > now) {
                    until = until.max(Some(bar.until));
                }
            }
        };
        look(Bound::role(*tally, BarBy::Host, RoleOid::NONE, who.host));
        for by in [BarBy::UserHost, BarBy::User] {
            if !claimant.by_lease {
                look(Bound::role(*tally, by, who.role, who.host));
            }
            if !who.client_user.is_empty() {
                look(Bound::client_user(*tally, by, who.client_user, who.host));
            }
        }
        until
    }

    /// Tells whether the bar with this id in the wanted tallies is a row; `None` if there is no such bar in force.
    pub fn bar_is_stored(
        &self,
        id: i64,
        is_wanted: impl Fn(TallyId) -> bool,
        now: Timestamp,
    ) -> Option<bool> {
        let mut stored = None;
        self.each_bar(is_wanted, now, |bar| {
            if bar.id == id {
                stored = stored.max(Some(bar.stored));
            }
        });
        stored
    }

    /// Forgets bars that were lifted and are not rows. It is for a standby, where nobody writes rows.
    pub fn drop_lifted(&mut self) {
        self.drop_bars(|bar| bar.lifted && !bar.stored);
    }

    /// Lifts the bars with this id in the wanted tallies, and returns their number. They bind nobody any more, and
    /// their rows are yet to be deleted.
    pub fn lift_bar(
        &mut self,
        id: i64,
        is_wanted: impl Fn(TallyId) -> bool,
        now: Timestamp,
    ) -> usize {
        let mut lifted = 0;
        let Ledger {
            bars, databases, ..
        } = self;
        bars.each_mut(|bar| {
            if bar.id == id && !bar.lifted && bar.until > now && is_wanted(bar.key.tally) {
                bar.lifted = true;
                lifted += 1;
                if let Some(known) = databases.get_mut(&bar.database) {
                    known.trail.write_at = now;
                }
            }
        });
        if lifted > 0 {
            self.note_next_write();
            self.serve_all(now);
            self.head.ring |= !self.waits.is_empty();
        }
        lifted
    }

    /// Shows the bars in force in the wanted tallies.
    pub fn each_bar(
        &self,
        is_wanted: impl Fn(TallyId) -> bool,
        now: Timestamp,
        mut see: impl FnMut(&Bar),
    ) {
        self.bars.each(|bar| {
            if !bar.lifted && bar.until > now && is_wanted(bar.key.tally) {
                see(bar);
            }
        });
    }

    /// Shows the bars of a database whose rows are yet to be written or deleted.
    pub fn each_unstored_bar(&self, database: DatabaseOid, mut see: impl FnMut(&Bar)) {
        self.bars.each(|bar| {
            if bar.database == database && !bar.is_settled() {
                see(bar);
            }
        });
    }

    /// Tells whether the rows of a database's table are those of its bars.
    pub fn bars_are_stored(&self, database: DatabaseOid) -> bool {
        let mut all = true;
        self.each_unstored_bar(database, |_| all = false);
        all
    }

    /// Tells whether no bar with this id is lifted and yet to be deleted.
    pub fn is_bar_gone(&self, id: i64) -> bool {
        let mut gone = true;
        self.bars.each(|bar| gone &= bar.id != id || !bar.lifted);
        gone
    }

    /// Notes that these bars of a database are rows now, and that the rows of the lifted ones are deleted.
    pub fn bars_stored(&mut self, database: DatabaseOid, ids: &[i64], lifted: &[i64]) {
        let Ledger {
            bars, databases, ..
        } = self;
        bars.each_mut(|bar| {
            if bar.database == database && !bar.stored && ids.contains(&bar.id) {
                bar.stored = true;
                if let Some(known) = databases.get_mut(&database) {
                    known.rows.unstored_bars -= 1;
                }
            }
        });
        if !lifted.is_empty() {
            self.drop_bars(|bar| bar.database == database && lifted.contains(&bar.id));
            self.offer_room(DatabaseOid::NONE);
        }
    }

    /// Notes that the rows of these bars could not be written. Returns whether that is news about one of them.
    pub fn could_not_store_bars(&mut self, database: DatabaseOid, ids: &[i64]) -> bool {
        let mut news = false;
        self.bars.each_mut(|bar| {
            if bar.database == database && ids.contains(&bar.id) {
                news |= !std::mem::replace(&mut bar.complained_of, true);
            }
        });
        news
    }

    /// Puts a database's rows in force, in place of the former ones.
    pub(crate) fn put_bars(
        &mut self,
        database: DatabaseOid,
        rows: &[StoredBar],
        tally_of: impl Fn(&Name) -> Option<TallyId>,
    ) {
        self.drop_bars(|bar| bar.database == database && bar.is_settled());
        let all_settled = self.bars_are_stored(database);
        for row in rows {
            self.head.last_bar = self.head.last_bar.max(row.id);
            let Some(tally) = tally_of(&row.product) else {
                continue;
            };
            let bar = Bar {
                key: row.whom.bound(tally),
                id: row.id,
                database,
                whom: row.whom,
                since: row.since,
                until: row.until,
                barred_by: row.barred_by,
                reason: row.reason,
                stored: true,
                lifted: false,
                complained_of: false,
            };
            // A bar that was lifted meanwhile stays lifted until its row is deleted.
            let mut is_known = false;
            if !all_settled {
                self.each_unstored_bar(database, |other| is_known |= other.id == row.id);
            }
            if !is_known {
                self.put_bar(bar);
            }
        }
    }
}
