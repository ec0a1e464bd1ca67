//! The events of a database that are yet to be written, copied out of the ledger: in batches, each of them in slices,
//! so that nobody waits long for the lock.

use std::collections::HashMap;

use super::left::{self, Trail};
use super::warning::Warning;
use crate::core::ledger::Ledger;
use crate::core::ledger::database::Database;
use crate::core::ledger::event::Event;
use crate::core::ledger::identity::{Label, Text};
use crate::core::ledger::numbers::DatabaseOid;
use crate::core::ledger::roles::ReservedRoles;
use crate::core::ledger::seat::SeatIds;
use crate::core::ledger::table::Table;
use crate::memory::{self, Shared};
use crate::pg::backend;

/// The most events that are copied, or forgotten, under one hold of the lock.
const SLICE: usize = 64;

/// The most events that are written in one transaction.
pub const BATCH: usize = 1_024;

/// The events of a database that are yet to be written.
pub struct Unwritten {
    /// The events in the order in which they happened.
    pub events: Vec<Event>,
    /// How many were lost.
    pub lost: u64,
    /// The number up to which warnings were given.
    warned: u64,
    /// What the server's last stop has left and is yet to be written.
    pub(super) left: Trail,
    texts: HashMap<Label, Text<512>>,
    pub ids: SeatIds,
    pub run: u128,
    pub roles: ReservedRoles,
}

impl Unwritten {
    fn nothing() -> Unwritten {
        Unwritten {
            events: Vec::new(),
            lost: 0,
            warned: 0,
            left: Trail::default(),
            texts: HashMap::new(),
            ids: SeatIds::default(),
            run: 0,
            roles: ReservedRoles::NONE,
        }
    }

    /// Returns the next batch after the event with this number, or the first batch (0), with all else that is to be
    /// written. From now on nothing is added to these events.
    pub fn next(database: DatabaseOid, after: u64) -> Unwritten {
        let mut unwritten = Unwritten::nothing();
        if after == 0 {
            memory::write(|ledger| ledger.release_denials(database, backend::now()));
        }
        let known = memory::read(|ledger| unwritten.note(ledger, database));
        unwritten.copy(database, after);
        if after == 0 {
            unwritten.left = left::trail(database, known.as_ref());
        }
        unwritten
    }

    /// Returns all events, in the server's last moment.
    pub fn at_last(ledger: &Ledger<'static, Shared>, database: DatabaseOid) -> Unwritten {
        let mut unwritten = Unwritten::nothing();
        let known = unwritten.note(ledger, database);
        ledger.each_event(database, |event| {
            for label in [event.who.client_user, event.reason] {
                if let Some(text) = ledger.texts.get(&label) {
                    unwritten.texts.insert(label, text.text);
                }
            }
            unwritten.events.push(*event);
        });
        unwritten.events.sort_unstable_by_key(|event| event.number);
        unwritten.left = left::trail(database, known.as_ref());
        unwritten
    }

    fn note(
        &mut self,
        ledger: &Ledger<'static, Shared>,
        database: DatabaseOid,
    ) -> Option<Database> {
        self.ids = ledger.head.seat_ids;
        self.run = ledger.head.run;
        self.roles = ledger.head.reserved_roles;
        let known = ledger.databases.get(&database).copied()?;
        (self.lost, self.warned) = (known.trail.lost, known.trail.warned);
        Some(known)
    }

    fn copy(&mut self, database: DatabaseOid, mut after: u64) {
        let mut texts: Vec<(Label, Text<512>)> = Vec::with_capacity(2 * SLICE);
        self.events.reserve(SLICE);
        while self.events.len() < BATCH {
            // Nothing may be allocated under the lock: there is room for a slice.
            let events = &mut self.events;
            let before = events.len();
            memory::write(|ledger| {
                ledger.take_events(database, after, SLICE, |event, [client_user, reason]| {
                    events.push(*event);
                    let client_user = client_user.map(|text| (event.who.client_user, *text));
                    let reason = reason.map(|text| (event.reason, *text));
                    texts.extend(client_user.into_iter().chain(reason));
                });
            });
            self.texts.extend(texts.drain(..));
            after = self.events.last().map_or(after, |event| event.number);
            if self.events.len() - before < SLICE {
                return;
            }
            self.events.reserve(SLICE);
        }
    }

    /// Tells whether there may be more events after this batch.
    pub fn is_full(&self) -> bool {
        self.events.len() >= BATCH
    }

    /// Returns the number of the last event; 0 if there is none.
    pub fn last(&self) -> u64 {
        self.events.last().map_or(0, |event| event.number)
    }

    /// Forgets all of these events, which have been written, to the trail or to the server log.
    pub fn forget(&self, database: DatabaseOid) {
        let mut forgotten = 0;
        loop {
            let last = self.last();
            let slice = memory::write(|ledger| ledger.forget_written(database, last, SLICE));
            forgotten += slice;
            if slice < SLICE {
                break;
            }
        }
        let made_room = self.events.len().saturating_sub(forgotten) as u64;
        memory::write(|ledger| ledger.note_written(database, self.lost, made_room, backend::now()));
    }

    /// Returns the warnings that have not been given.
    pub fn warnings(&self) -> Vec<Warning> {
        let news = self
            .events
            .iter()
            .filter(|event| event.number > self.warned);
        news.filter_map(Warning::of_use).collect()
    }

    /// Tells whether the text that a label stands for is no longer known.
    pub fn lacks(&self, label: &Label) -> bool {
        label.is_digest() && !self.texts.contains_key(label)
    }

    /// Returns the text that a label stands for; `None` if it is empty or no longer known.
    pub fn text(&self, label: &Label) -> Option<String> {
        if label.is_digest() {
            return self.texts.get(label).map(Text::to_string);
        }
        label
            .text()
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    }
}
