//! What is yet to be told of a database, copied out of the ledger: in batches, each of them in slices, so that
//! nobody waits long for the lock.

use std::collections::HashMap;

use super::left::{self, Trail};
use super::warning::Warning;
use crate::core::ledger::Ledger;
use crate::core::ledger::database::Database;
use crate::core::ledger::event::Event;
use crate::core::ledger::identity::{Label, Text};
use crate::core::ledger::roles::ReservedRoles;
use crate::core::ledger::seat::SeatIds;
use crate::core::ledger::table::Table;
use crate::memory::{self, Shared};
use crate::pg::backend;

/// So many events are copied, or forgotten, under one hold of the lock.
const SLICE: usize = 64;

/// So many are written in one transaction at most.
pub const BATCH: usize = 1_024;

/// What is yet to be told of a database.
pub struct Untold {
    /// In the order in which it happened.
    pub events: Vec<Event>,
    /// How many were lost.
    pub lost: u64,
    /// Of them those up to this number have been warned of.
    warned: u64,
    /// What the server's last stop has left, as far as it is yet to be told.
    pub(super) left: Trail,
    texts: HashMap<Label, Text<512>>,
    pub ids: SeatIds,
    pub run: u128,
    pub roles: ReservedRoles,
}

impl Untold {
    fn nothing() -> Untold {
        Untold {
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

    /// The next batch after the event with this number; 0: the first, and what else there is. From now on nothing
    /// is added to these events.
    pub fn next(database: u32, after: u64) -> Untold {
        let mut untold = Untold::nothing();
        if after == 0 {
            memory::write(|ledger| ledger.release_denials(database, backend::now()));
        }
        let known = memory::read(|ledger| untold.note(ledger, database)).flatten();
        untold.copy(database, after);
        if after == 0 {
            untold.left = left::trail(database, known.as_ref());
        }
        untold
    }

    /// All of it, in the server's last moment.
    pub fn at_last(ledger: &Ledger<'static, Shared>, database: u32) -> Untold {
        let mut untold = Untold::nothing();
        let known = untold.note(ledger, database);
        ledger.each_event(database, |event| {
            for label in [event.who.client_user, event.reason] {
                if let Some(text) = ledger.texts.get(&label) {
                    untold.texts.insert(label, text.text);
                }
            }
            untold.events.push(*event);
        });
        untold.events.sort_unstable_by_key(|event| event.number);
        untold.left = left::trail(database, known.as_ref());
        untold
    }

    fn note(&mut self, ledger: &Ledger<'static, Shared>, database: u32) -> Option<Database> {
        self.ids = ledger.head.seat_ids;
        self.run = ledger.head.run;
        self.roles = ledger.head.reserved_roles;
        let known = ledger.databases.get(&database).copied()?;
        (self.lost, self.warned) = (known.events_lost, known.warned);
        Some(known)
    }

    fn copy(&mut self, database: u32, mut after: u64) {
        let mut texts: Vec<(Label, Text<512>)> = Vec::with_capacity(2 * SLICE);
        self.events.reserve(SLICE);
        while self.events.len() < BATCH {
            // Under the lock nothing is allocated: there is room for a slice.
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

    /// There may be more after it.
    pub fn is_full(&self) -> bool {
        self.events.len() >= BATCH
    }

    /// The number of the last one; 0: there is none.
    pub fn last(&self) -> u64 {
        self.events.last().map_or(0, |event| event.number)
    }

    /// All of it is told, written or in the server log.
    pub fn forget(&self, database: u32) {
        let mut forgotten = 0;
        let forget = || memory::write(|ledger| ledger.forget_told(database, self.last(), SLICE));
        while let Some(slice) = forget() {
            forgotten += slice;
            if slice < SLICE {
                break;
            }
        }
        let made_room = self.events.len().saturating_sub(forgotten) as u64;
        memory::write(|ledger| ledger.told(database, self.lost, made_room, backend::now()));
    }

    /// What somebody should know who has not been told.
    pub fn warnings(&self) -> Vec<Warning> {
        let news = self
            .events
            .iter()
            .filter(|event| event.number > self.warned);
        news.filter_map(Warning::of_use).collect()
    }

    /// The text that a label stands for is not known any more.
    pub fn lacks(&self, label: &Label) -> bool {
        label.is_digest() && !self.texts.contains_key(label)
    }

    /// The text that a label stands for; `None` for no text, and where it is not known any more.
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
