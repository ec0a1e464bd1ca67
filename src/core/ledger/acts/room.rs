//! The room for events that are yet to be written to audit trails: who may use how much of it.
//!
//! The room has a number of places. An event takes one, and two more for each of its texts that is too long for a
//! label. What is in keeps its place until it is written: nothing that comes later takes it away, except from databases
//! that can't be written.
//!
//! Seats taken and left, of which anybody can cause any number of events, use at most three quarters of the room,
//! denials and levels of use at most seven eighths, and what administrators and time do may use all of it. Of what is
//! left of such a part, a database may have, for each rank, up to twice as much as it leaves free: two thirds if it is
//! alone, two fifths each if there are two, and whoever comes next always finds some.

use crate::core::ledger::Ledger;
use crate::core::ledger::database::Database;
use crate::core::ledger::event::Event;
use crate::core::ledger::hold::{LongName, drop_long_name};
use crate::core::ledger::identity::{Label, Text};
use crate::core::ledger::numbers::DatabaseOid;
use crate::core::ledger::room::{PLACES_OF_TEXT, Rank, Ring};
use crate::core::ledger::table::{Table, Tables};
use crate::core::ledger::time::Timestamp;

/// The share of the room that databases that can't be written may keep, as one place in this many, so that there is
/// room for others.
const SHARE_OF_UNWRITABLE: usize = 4;

/// How soon room is looked for again in databases that can't be written, in microseconds. Each look may cost a pass
/// over all events.
const TRIED_AGAIN_AFTER: Timestamp = 100_000;

impl Event {
    /// Returns the number of places that it takes.
    fn places(&self) -> usize {
        let texts = [&self.who.client_user, &self.reason];
        let long = texts.iter().filter(|label| label.is_digest()).count();
        1 + PLACES_OF_TEXT * long
    }
}

/// Lets a database's writer see an event, as the last one.
pub(crate) fn link<T: Tables>(
    databases: &mut T::Of<Database>,
    events: &mut T::Of<Event>,
    database: DatabaseOid,
    number: u64,
) {
    let Some(known) = databases.get_mut(&database) else {
        return;
    };
    known.trail.events += 1;
    let last = std::mem::replace(&mut known.trail.ring.last, number);
    match events.get_mut(&last) {
        Some(last) => last.next = number,
        None => known.trail.ring.first = number,
    }
}

impl<T: Tables> Ledger<'_, T> {
    /// Tells whether the room is filling, so that what is in should be written at once, because a writer takes a moment
    /// to come.
    pub(crate) fn is_filling(&self) -> bool {
        self.head.room.used * 8 >= self.events.capacity()
    }

    /// Tells whether there is room for an event of its database, after making some if possible. If there is none, the
    /// event counts as lost.
    pub(crate) fn make_room_for(&mut self, event: &Event, now: Timestamp) -> bool {
        let mut fits = self.fits(event);
        let tried = now.saturating_sub(self.head.room.asked_at);
        if !fits && self.can_give_way() && !(0..TRIED_AGAIN_AFTER).contains(&tried) {
            self.head.room.asked_at = now;
            self.make_room();
            fits = self.fits(event);
        }
        if !fits && let Some(known) = self.databases.get_mut(&event.database) {
            known.trail.lost += 1;
        }
        fits
    }

    fn fits(&self, event: &Event) -> bool {
        let Some(known) = self.databases.get(&event.database) else {
            return false;
        };
        let (rank, places) = (Rank::of(event.happened), event.places());
        let part = rank.part_of(self.events.capacity());
        let free = part.saturating_sub(self.head.room.used);
        let of_rank = known.trail.ring.places.get(rank as usize);
        let own = of_rank.copied().unwrap_or(0) + places;
        let is_stuck = known.trail.unwritable && rank != Rank::Act;
        places <= free
            && own <= 2 * free
            && (!is_stuck || known.trail.ring.yielding() + places <= self.share_of_unwritable())
    }

    /// Tells whether databases that can't be written have more than they may keep if others need room.
    fn can_give_way(&self) -> bool {
        self.head.room.stuck > self.events.capacity() / SHARE_OF_UNWRITABLE
    }

    fn share_of_unwritable(&self) -> usize {
        self.events.capacity() / SHARE_OF_UNWRITABLE / self.head.room.unwritable.max(1)
    }

    /// Takes from databases that can't be written the events that they have beyond their share, beginning with seats
    /// taken and left.
    fn make_room(&mut self) {
        let share = self.share_of_unwritable();
        let mut after = DatabaseOid::NONE;
        loop {
            let mut greedy: Option<DatabaseOid> = None;
            self.databases.each(|known| {
                let is_greedy = known.trail.unwritable && known.trail.ring.yielding() > share;
                if is_greedy && known.oid > after && greedy.is_none_or(|oid| known.oid < oid) {
                    greedy = Some(known.oid);
                }
            });
            let Some(database) = greedy else { return };
            self.keep_oldest(database, share, Rank::Move);
            self.keep_oldest(database, share, Rank::Answer);
            after = database;
        }
    }

    /// Makes the latest events of a database that are of this rank give way, until all that may give way take no more
    /// than `keep` places. They are lost.
    fn keep_oldest(&mut self, database: DatabaseOid, keep: usize, rank: Rank) {
        let Some(ring) = self.databases.get(&database).map(|known| known.trail.ring) else {
            return;
        };
        let of_rank = ring.places.get(rank as usize).copied().unwrap_or(0);
        let mut left = (keep + of_rank).saturating_sub(ring.yielding());
        let (mut at, mut before) = (ring.first, 0);
        while let Some(event) = self.events.get(&at).copied() {
            let places = event.places();
            if Rank::of(event.happened) != rank || places <= left {
                if Rank::of(event.happened) == rank {
                    left -= places;
                }
                before = at;
            } else {
                if let Some(before) = self.events.get_mut(&before) {
                    before.next = event.next;
                }
                self.take_out(&event);
                if let Some(known) = self.databases.get_mut(&database) {
                    known.trail.events -= 1;
                    known.trail.lost += u64::from(event.count.max(1));
                    if known.trail.ring.first == at {
                        known.trail.ring.first = event.next;
                    }
                    if known.trail.ring.last == at {
                        known.trail.ring.last = before;
                    }
                }
            }
            at = event.next;
        }
    }

    /// Puts an event in, for which there must be room, and returns its number.
    pub(crate) fn put_event(&mut self, event: &Event, now: Timestamp) -> u64 {
        let number = self.next_number();
        self.events.put(Event {
            number,
            next: 0,
            at: now,
            ..*event
        });
        self.count_places(event, true);
        self.keep_text(&event.who.client_user, None);
        self.keep_text(&event.reason, None);
        number
    }

    /// Puts an event in place of its former state.
    pub(crate) fn replace_event(&mut self, former: &Event, event: Event) {
        self.count_places(former, false);
        self.count_places(&event, true);
        self.keep_text(&event.who.client_user, None);
        self.drop_texts(former);
        if let Some(place) = self.events.get_mut(&event.number) {
            *place = event;
        }
    }

    /// Takes an event out that is no longer in any list.
    fn take_out(&mut self, event: &Event) {
        self.events.remove(&event.number);
        self.count_places(event, false);
        self.drop_texts(event);
    }

    fn drop_texts(&mut self, event: &Event) {
        drop_long_name::<T>(&mut self.texts, &event.who.client_user);
        drop_long_name::<T>(&mut self.texts, &event.reason);
    }

    fn count_places(&mut self, event: &Event, more: bool) {
        let places = event.places();
        let count = |counter: &mut usize| {
            *counter = if more {
                *counter + places
            } else {
                counter.saturating_sub(places)
            };
        };
        count(&mut self.head.room.used);
        if let Some(known) = self.databases.get_mut(&event.database) {
            if known.trail.unwritable && Rank::of(event.happened) != Rank::Act {
                count(&mut self.head.room.stuck);
            }
            known
                .trail
                .ring
                .of_rank(Rank::of(event.happened))
                .into_iter()
                .for_each(count);
        }
    }

    /// Notes that a database can't be written, or can be again. Returns whether that is a change.
    pub(crate) fn set_unwritable(&mut self, database: DatabaseOid, unwritable: bool) -> bool {
        let Some(known) = self.databases.get_mut(&database) else {
            return false;
        };
        if std::mem::replace(&mut known.trail.unwritable, unwritable) == unwritable {
            return false;
        }
        let (room, places) = (&mut self.head.room, known.trail.ring.yielding());
        room.asked_at = Timestamp::MIN;
        if unwritable {
            room.unwritable += 1;
            room.stuck += places;
        } else {
            room.unwritable = room.unwritable.saturating_sub(1);
            room.stuck = room.stuck.saturating_sub(places);
        }
        true
    }

    /// Notes that one more event needs this text, if it is too long for a label. Without `text`, it is the text of
    /// somebody who holds or awaits a seat, or of another event. If it is not known any more, the event goes without
    /// it, and says so when it is written.
    pub(crate) fn keep_text(&mut self, label: &Label, text: Option<Text<512>>) {
        if !label.is_digest() {
            return;
        }
        if let Some(kept) = self.texts.get_mut(label) {
            kept.users += 1;
        } else if let Some(text) = text.or_else(|| self.long_names.get(label).map(|name| name.text))
        {
            self.texts.put(LongName {
                label: *label,
                text,
                users: 1,
            });
        }
    }

    /// Shows the next events of a database with their texts, from the one after this number on (0 for the first), at
    /// most `at_most`. Nothing is added to them any more.
    pub fn take_events(
        &mut self,
        database: DatabaseOid,
        after: u64,
        at_most: usize,
        mut see: impl FnMut(&Event, [Option<&Text<512>>; 2]),
    ) {
        let Some(known) = self.databases.get_mut(&database) else {
            return;
        };
        let mut next = match self.events.get(&after) {
            Some(event) => event.next,
            None => known.trail.ring.first,
        };
        for _ in 0..at_most {
            // If the event before had to make room, the list begins again.
            let Some(event) = self.events.get(&next).filter(|e| e.number > after) else {
                return;
            };
            let text = |label| self.texts.get(label).map(|text| &text.text);
            see(event, [text(&event.who.client_user), text(&event.reason)]);
            known.trail.ring.taken = known.trail.ring.taken.max(event.number);
            next = event.next;
        }
    }

    /// Forgets events of a database up to this number, at most `at_most`, and returns how many. They have been
    /// reported, in the table or in the server log.
    pub fn forget_written(&mut self, database: DatabaseOid, number: u64, at_most: usize) -> usize {
        for forgotten in 0..at_most {
            let first = self
                .databases
                .get(&database)
                .map(|known| known.trail.ring.first);
            let event = first.and_then(|first| self.events.get(&first));
            let Some(event) = event.filter(|event| event.number <= number).copied() else {
                return forgotten;
            };
            self.take_out(&event);
            if let Some(known) = self.databases.get_mut(&database) {
                known.trail.events -= 1;
                known.trail.ring.first = event.next;
                if event.next == 0 {
                    known.trail.ring.last = 0;
                }
            }
        }
        at_most
    }

    /// Shows every event of a database that is yet to be written, including those that are being gathered, in no
    /// particular order.
    pub fn each_event(&self, database: DatabaseOid, mut see: impl FnMut(&Event)) {
        let first = self
            .databases
            .get(&database)
            .map(|known| known.trail.ring.first);
        let mut next = first.and_then(|first| self.events.get(&first));
        while let Some(event) = next {
            see(event);
            next = self.events.get(&event.next);
        }
        if self
            .databases
            .get(&database)
            .is_some_and(|d| d.trail.ring.due != Timestamp::MAX)
        {
            self.spells.each(|spell| {
                let row = self.events.get(&spell.row);
                if let Some(event) = row.filter(|_| spell.database == database) {
                    see(event);
                }
            });
        }
    }

    /// Forgets the events of a database that is gone.
    pub(crate) fn drop_events_of(&mut self, database: DatabaseOid) {
        self.set_unwritable(database, false);
        self.spells.each_mut(|spell| {
            if spell.database == database {
                spell.forget();
            }
        });
        let Ledger {
            head,
            events,
            texts,
            databases,
            ..
        } = self;
        events.retain(|event| {
            let gone = event.database == database;
            if gone {
                head.room.used = head.room.used.saturating_sub(event.places());
                drop_long_name::<T>(texts, &event.who.client_user);
                drop_long_name::<T>(texts, &event.reason);
            }
            !gone
        });
        if let Some(known) = databases.get_mut(&database) {
            (known.trail.ring, known.trail.events) = (Ring::EMPTY, 0);
        }
    }
}
