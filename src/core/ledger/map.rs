//! The ledger's tables as plain maps in the memory of one process, to test and measure the ledger without a server.

use std::collections::HashMap;
use std::collections::hash_map;

use crate::core::ledger::bar::Bar;
use crate::core::ledger::database::Database;
use crate::core::ledger::event::Event;
use crate::core::ledger::hold::{Hold, LongName, Spot};
use crate::core::ledger::license::License;
use crate::core::ledger::numbers::{SessionNumber, Slot};
use crate::core::ledger::reservation::Reservation;
use crate::core::ledger::room::texts;
use crate::core::ledger::rules::Exemption;
use crate::core::ledger::seat::Seat;
use crate::core::ledger::session::{Session, Sessions};
use crate::core::ledger::spell::Spell;
use crate::core::ledger::table::{Entry, Table, Tables};
use crate::core::ledger::taker::Taker;
use crate::core::ledger::tally::Tally;
use crate::core::ledger::wait::Wait;
use crate::core::ledger::{Head, Ledger};

/// A table with room for a limited number of entries.
#[derive(Debug)]
pub struct MapTable<E: Entry> {
    entries: HashMap<E::Key, E>,
    capacity: usize,
}

impl<E: Entry> MapTable<E> {
    /// Makes an empty table with room for this many entries.
    pub fn new(capacity: usize) -> Self {
        MapTable {
            entries: HashMap::with_capacity(capacity),
            capacity,
        }
    }
}

impl<E: Entry> Table<E> for MapTable<E> {
    fn get(&self, key: &E::Key) -> Option<&E> {
        self.entries.get(key)
    }

    fn get_mut(&mut self, key: &E::Key) -> Option<&mut E> {
        self.entries.get_mut(key)
    }

    fn put(&mut self, entry: E) -> Option<&mut E> {
        let full = self.entries.len() >= self.capacity;
        match self.entries.entry(*entry.key()) {
            hash_map::Entry::Occupied(mut former) => {
                former.insert(entry);
                Some(former.into_mut())
            }
            hash_map::Entry::Vacant(_) if full => None,
            hash_map::Entry::Vacant(free) => Some(free.insert(entry)),
        }
    }

    fn remove(&mut self, key: &E::Key) {
        self.entries.remove(key);
    }

    fn len(&self) -> usize {
        self.entries.len()
    }

    fn capacity(&self) -> usize {
        self.capacity
    }

    fn each(&self, see: impl FnMut(&E)) {
        self.entries.values().for_each(see);
    }

    /// Shows some of the entries. The position is valid only while nothing is put in or taken out.
    fn each_from(&self, from: usize, at_least: usize, see: impl FnMut(&E)) -> Option<usize> {
        let next = from.saturating_add(at_least);
        self.entries
            .values()
            .skip(from)
            .take(at_least)
            .for_each(see);
        (next < self.entries.len()).then_some(next)
    }

    fn each_mut(&mut self, see: impl FnMut(&mut E)) {
        self.entries.values_mut().for_each(see);
    }

    fn retain(&mut self, mut keep: impl FnMut(&mut E) -> bool) {
        self.entries.retain(|_, entry| keep(entry));
    }
}

/// The family of plain maps.
#[derive(Debug)]
pub struct Maps;

impl Tables for Maps {
    type Of<E: Entry> = MapTable<E>;
}

/// The sizes of the tables of a [`MapLedger`].
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    /// Sessions that can be in at once.
    pub sessions: usize,
    /// Checkouts and leases in all, including those that are awaited.
    pub max_seats: usize,
    /// Databases whose tables are known.
    pub databases: usize,
    /// Licenses of all databases.
    pub licenses: usize,
    /// Exemptions of all databases.
    pub exemptions: usize,
    /// Places for events that are yet to be written. There is room for as many bars, and for the denials of as many
    /// users.
    pub events: usize,
    /// Reservations of all databases.
    pub reservations: usize,
    /// Rows of all tables and databases together.
    pub rules: usize,
}

/// Everything that a server keeps in shared memory, but owned. [`MapLedger::with`] lends it as a [`Ledger`].
#[derive(Debug)]
pub struct MapLedger {
    /// What is kept besides the tables.
    pub head: Head,
    /// A slot for each session.
    pub sessions: Vec<Session>,
    databases: MapTable<Database>,
    licenses: MapTable<License>,
    exemptions: MapTable<Exemption>,
    reservations: MapTable<Reservation>,
    tallies: MapTable<Tally>,
    seats: MapTable<Seat>,
    takers: MapTable<Taker>,
    holds: MapTable<Hold>,
    spots: MapTable<Spot>,
    waits: MapTable<Wait>,
    long_names: MapTable<LongName>,
    bars: MapTable<Bar>,
    events: MapTable<Event>,
    spells: MapTable<Spell>,
    texts: MapTable<LongName>,
}

impl MapLedger {
    /// Makes an empty ledger, as after a start of the server.
    pub fn new(room: Capacity) -> Self {
        MapLedger {
            head: Head {
                max_rules: room.rules,
                ..Head::default()
            },
            sessions: vec![Session::FREE; room.sessions],
            databases: MapTable::new(room.databases),
            licenses: MapTable::new(room.licenses),
            exemptions: MapTable::new(room.exemptions),
            reservations: MapTable::new(room.reservations),
            // While rules are replaced, the tallies of the former ones still exist.
            tallies: MapTable::new(room.licenses * 2),
            seats: MapTable::new(room.max_seats + 2 * room.sessions),
            takers: MapTable::new(room.max_seats + 2 * room.sessions),
            holds: MapTable::new(room.max_seats),
            spots: MapTable::new(room.max_seats),
            waits: MapTable::new(room.sessions),
            long_names: MapTable::new(room.max_seats),
            bars: MapTable::new(room.events),
            events: MapTable::new(room.events),
            spells: MapTable::new(room.events),
            texts: MapTable::new(texts(room.events)),
        }
    }

    /// Lends the ledger, as the server does to whoever holds its lock. If `act` panics, the tables are left empty.
    pub fn with<R>(&mut self, act: impl FnOnce(&mut Ledger<'_, Maps>) -> R) -> R {
        let mut ledger: Ledger<'_, Maps> = Ledger {
            head: &mut self.head,
            sessions: Sessions(&mut self.sessions),
            databases: take(&mut self.databases),
            licenses: take(&mut self.licenses),
            exemptions: take(&mut self.exemptions),
            reservations: take(&mut self.reservations),
            tallies: take(&mut self.tallies),
            seats: take(&mut self.seats),
            takers: take(&mut self.takers),
            holds: take(&mut self.holds),
            spots: take(&mut self.spots),
            waits: take(&mut self.waits),
            long_names: take(&mut self.long_names),
            bars: take(&mut self.bars),
            events: take(&mut self.events),
            spells: take(&mut self.spells),
            texts: take(&mut self.texts),
        };
        let result = act(&mut ledger);
        self.databases = ledger.databases;
        self.licenses = ledger.licenses;
        self.exemptions = ledger.exemptions;
        self.reservations = ledger.reservations;
        self.tallies = ledger.tallies;
        self.seats = ledger.seats;
        self.takers = ledger.takers;
        self.holds = ledger.holds;
        self.spots = ledger.spots;
        self.waits = ledger.waits;
        self.long_names = ledger.long_names;
        self.bars = ledger.bars;
        self.events = ledger.events;
        self.spells = ledger.spells;
        self.texts = ledger.texts;
        result
    }

    /// Returns the first slot that has no session.
    pub fn free_slot(&self) -> Option<Slot> {
        let free = |session: &Session| session.number == SessionNumber::NONE;
        self.sessions.iter().position(free).map(Slot)
    }
}

fn take<E: Entry>(table: &mut MapTable<E>) -> MapTable<E> {
    std::mem::replace(table, MapTable::new(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ledger::license::RowKey;
    use crate::core::ledger::numbers::DatabaseOid;
    use crate::core::ledger::rules::Hosts;

    fn row(place: u32) -> Exemption {
        Exemption {
            key: RowKey {
                database: DatabaseOid(1),
                place,
            },
            role: super::super::identity::Name::EMPTY,
            hosts: Hosts::NONE,
        }
    }

    #[test]
    fn a_full_table_takes_no_entry_but_changes_those_it_has() {
        let mut table = MapTable::new(1);
        assert!(table.put(row(0)).is_some());
        assert!(table.put(row(1)).is_none());
        assert!(table.put(row(0)).is_some());
        table.remove(row(0).key());
        assert!(table.put(row(1)).is_some());
        assert_eq!((table.len(), table.capacity()), (1, 1));
    }
}
