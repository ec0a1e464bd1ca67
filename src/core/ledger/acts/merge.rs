//! What happens so often that it is reported together: a session that takes and leaves seats in a loop, levels of use
//! that are crossed again and again, and denials of one user who keeps trying.
//!
//! When one session takes and leaves seats of one product, the first ten times within a second have an event row each,
//! and those after them share one. Denials of one user of a product form a spell as long as less than five minutes lie
//! between them: the first one has a row at once, and the others share one a minute, which never goes beyond a full
//! hour. Such a row stays in the room for events, where no writer sees it, until its minute is over.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::core::ledger::Ledger;
use crate::core::ledger::acts::room::link;
use crate::core::ledger::event::Event;
use crate::core::ledger::identity::{Host, Label, Name};
use crate::core::ledger::numbers::{DatabaseOid, SeatNumber, Slot, TallyId};
use crate::core::ledger::spell::{HOUR, ROW, SPELL, Spell, kind_of};
use crate::core::ledger::table::{Table, Tables};
use crate::core::ledger::time::Timestamp;

impl<T: Tables> Ledger<'_, T> {
    /// Notes that a tally's seat was taken or left, by the session in `slot` if one did it. Returns `false` if the
    /// event has no row of its own.
    pub(crate) fn note_move(
        &mut self,
        slot: Option<Slot>,
        event: &Event,
        tally: TallyId,
        now: Timestamp,
    ) -> bool {
        let session = slot.and_then(|slot| self.sessions.get_mut(slot));
        let Some(row) = session.and_then(|session| session.recent.count(tally, now)) else {
            self.note(event, now);
            return true;
        };
        let row = self.note_together(row, event, now);
        if let Some(session) = slot.and_then(|slot| self.sessions.get_mut(slot)) {
            session.recent.gather_in(tally, row);
        }
        false
    }

    /// Notes that a license has reached another level of use.
    pub(crate) fn note_crossing(&mut self, event: &Event, tally: TallyId, now: Timestamp) {
        let known = self.databases.get_mut(&event.database);
        let Some(row) = known.and_then(|known| known.trail.crossings.count(tally, now)) else {
            self.note(event, now);
            return;
        };
        let row = self.note_together(row, event, now);
        if let Some(known) = self.databases.get_mut(&event.database) {
            known.trail.crossings.gather_in(tally, row);
        }
    }

    /// Adds what happened to the event with this number if that is not written yet; else makes it the first of another
    /// one. Returns the event's number; 0 if there is no room for it.
    fn note_together(&mut self, row: u64, event: &Event, now: Timestamp) -> u64 {
        let written = self
            .databases
            .get(&event.database)
            .map_or(0, |d| d.trail.ring.taken);
        if row > written && self.add_to(row, event, now) {
            return row;
        }
        let first = Event {
            count: 1,
            since: now,
            ..*event
        };
        self.note(&first, now)
    }

    /// Adds what happens now to an event, which then reports the last occurrence, and of all of them what they have in
    /// common. Returns `false` if there is no such event.
    fn add_to(&mut self, row: u64, event: &Event, now: Timestamp) -> bool {
        let Some(former) = self.events.get(&row).copied() else {
            return false;
        };
        let mut who = event.who;
        if (former.who.host, former.who.workstation) != (who.host, who.workstation) {
            (who.host, who.workstation) = (Host::NONE, Name::EMPTY);
        }
        if former.who.client_user != who.client_user {
            who.client_user = Label::EMPTY;
        }
        let together = Event {
            number: row,
            next: former.next,
            at: now,
            who,
            seat: if former.seat == event.seat {
                event.seat
            } else {
                SeatNumber::NONE
            },
            count: former.count.saturating_add(1),
            since: former.since,
            held: former.held.saturating_add(event.held),
            overdrafts: former.overdrafts + event.overdrafts,
            ..*event
        };
        self.replace_event(&former, together);
        true
    }

    /// Notes a denial, at once or together with others of its user.
    pub(crate) fn note_denial(&mut self, event: &Event, now: Timestamp) {
        let key = self.key_of_spell(event);
        let kind = kind_of(&event.happened);
        let known = self.spells.get(&key).copied().filter(|spell| {
            spell.kind == kind && (0..SPELL).contains(&now.saturating_sub(spell.last))
        });
        let Some(mut spell) = known else {
            self.forget_spell(key, now);
            if self.spells.len() >= self.spells.capacity() {
                self.forget_spell(self.head.silence.oldest, now);
            }
            let spell = Spell {
                key,
                newer: 0,
                older: 0,
                database: event.database,
                last: now,
                reported: now,
                kind,
                row: 0,
                due: 0,
            };
            if self.spells.put(spell).is_some() {
                self.put_first(key);
            }
            self.note(event, now);
            return;
        };
        spell.last = now;
        if spell.row != 0 && now >= spell.due {
            self.release_row(spell.row);
            (spell.row, spell.reported) = (0, now);
        }
        if spell.row != 0 {
            // A host does not make another user, so the last one is reported.
            self.add_denial(spell.row, event, now);
        } else if now.saturating_sub(spell.reported) >= ROW {
            self.note(event, now);
            spell.reported = now;
        } else {
            spell.row = self.gather(event, now);
            spell.due = spell.reported.saturating_add(ROW).min(
                now.saturating_sub(now.rem_euclid(HOUR))
                    .saturating_add(HOUR),
            );
            if spell.row != 0
                && let Some(known) = self.databases.get_mut(&event.database)
            {
                known.trail.ring.due = known.trail.ring.due.min(spell.due);
                if !known.trail.unwritable {
                    known.trail.write_at = known.trail.write_at.min(spell.due);
                    self.head.next_write = self.head.next_write.min(known.trail.write_at);
                }
            }
        }
        if let Some(place) = self.spells.get_mut(&key) {
            *place = Spell {
                newer: place.newer,
                older: place.older,
                ..spell
            };
        }
        self.put_first(key);
    }

    fn add_denial(&mut self, row: u64, event: &Event, now: Timestamp) {
        if let Some(former) = self.events.get(&row).copied() {
            let together = Event {
                number: row,
                next: former.next,
                at: now,
                count: former.count.saturating_add(1),
                since: former.since,
                ..*event
            };
            self.replace_event(&former, together);
        }
    }

    /// Begins a row of a spell, which no writer sees yet, and returns its number; 0 if there is no room for it.
    fn gather(&mut self, event: &Event, now: Timestamp) -> u64 {
        if !self.make_room_for(event, now) {
            return 0;
        }
        let first = Event {
            count: 1,
            since: now,
            ..*event
        };
        self.put_event(&first, now)
    }

    /// Lets the writer see a row of a spell, as the last event.
    fn release_row(&mut self, row: u64) {
        let Some(event) = self.events.get(&row).copied() else {
            return;
        };
        self.events.remove(&row);
        let number = self.next_number();
        self.events.put(Event { number, ..event });
        link::<T>(
            &mut self.databases,
            &mut self.events,
            event.database,
            number,
        );
    }

    /// Lets the writer of a database see the denials that have been gathered long enough.
    pub fn release_denials(&mut self, database: DatabaseOid, now: Timestamp) {
        let due = self
            .databases
            .get(&database)
            .map(|known| known.trail.ring.due);
        if due.is_none_or(|due| due > now) {
            return;
        }
        let Ledger {
            head,
            databases,
            events,
            spells,
            ..
        } = self;
        let mut next = Timestamp::MAX;
        spells.each_mut(|spell| {
            if spell.database != database || spell.row == 0 {
                return;
            }
            if spell.due > now {
                next = next.min(spell.due);
                return;
            }
            if let Some(event) = events.get(&spell.row).copied() {
                events.remove(&spell.row);
                let number = head.next_number();
                events.put(Event { number, ..event });
                link::<T>(databases, events, database, number);
            }
            (spell.row, spell.reported) = (0, now);
        });
        if let Some(known) = databases.get_mut(&database) {
            known.trail.ring.due = next;
        }
    }

    /// Returns the key of the spell that a denial belongs to. Users of one name in different databases, or of different
    /// products, are not the same. The key is made with a secret of this server, so that nobody can be denied in
    /// somebody else's name.
    fn key_of_spell(&self, event: &Event) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.head.seat_ids.salt, event.database, event.product).hash(&mut hasher);
        if event.who.client_user.is_empty() {
            event.who.role.hash(&mut hasher);
        } else {
            event.who.client_user.hash(&mut hasher);
        }
        hasher.finish().max(1)
    }

    /// Forgets a spell, whose last row is to be written.
    fn forget_spell(&mut self, key: u64, now: Timestamp) {
        let Some(spell) = self.spells.get(&key).copied() else {
            return;
        };
        if spell.row != 0 {
            self.release_row(spell.row);
            self.write_soon(spell.database, now);
        }
        self.unlink(&spell);
        self.spells.remove(&key);
    }

    fn unlink(&mut self, spell: &Spell) {
        match self.spells.get_mut(&spell.newer) {
            Some(newer) => newer.older = spell.older,
            None => self.head.silence.newest = spell.older,
        }
        match self.spells.get_mut(&spell.older) {
            Some(older) => older.newer = spell.newer,
            None => self.head.silence.oldest = spell.newer,
        }
    }

    /// Puts a spell first in the list, as the one with the latest denial.
    fn put_first(&mut self, key: u64) {
        if self.head.silence.newest == key {
            return;
        }
        let Some(spell) = self.spells.get(&key).copied() else {
            return;
        };
        if spell.newer != 0 || self.head.silence.oldest == key {
            self.unlink(&spell);
        }
        let former = std::mem::replace(&mut self.head.silence.newest, key);
        if let Some(former) = self.spells.get_mut(&former) {
            former.newer = key;
        }
        if let Some(spell) = self.spells.get_mut(&key) {
            (spell.newer, spell.older) = (0, former);
        }
        if self.head.silence.oldest == 0 {
            self.head.silence.oldest = key;
        }
    }
}
