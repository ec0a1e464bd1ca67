//! Puts a database's rules in force, and judges those who are in by them.

use super::Ledger;
use super::identity::Name;
use super::license::{License, RowKey};
use super::rules::{Exemption, Rules};
use super::session::{Session, Standing};
use super::table::{Table, Tables};
use super::tally::Tally;

/// The outcome of publishing rules.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Published {
    /// They are in force. `disagreement` names a product whose pool does not agree on `counted_by`.
    InForce {
        /// The product, if there is one.
        disagreement: Option<Name>,
    },
    /// A change came after they were read: read them again.
    Outdated,
    /// A session came that was not judged: judge again.
    Unjudged,
    /// They don't fit into the ledger; the former ones stay in force.
    NoRoom,
}

impl<T: Tables> Ledger<'_, T> {
    /// How many rows the database's rules have, to make room for a copy of them.
    pub fn rows(&self, database: u32) -> (usize, usize) {
        self.databases.get(&database).map_or((0, 0), |known| {
            (known.licenses as usize, known.exemptions as usize)
        })
    }

    /// Copies the database's rules out, into `rules` with room for its rows. `None` when none were
    /// ever read, or there is not enough room.
    pub fn copy_rules(&self, database: u32, rules: &mut Rules) -> Option<()> {
        let known = self
            .databases
            .get(&database)
            .filter(|known| known.loaded != 0)?;
        if rules.licenses.capacity() < known.licenses as usize
            || rules.exemptions.capacity() < known.exemptions as usize
        {
            return None;
        }
        rules.generation = known.loaded;
        rules.outdated = known.loaded != known.generation;
        rules.watched = known.watched;
        rules.in_recovery = known.in_recovery;
        rules.exempt_superusers = known.exempt_superusers;
        rules.read_at = known.read_at;
        rules.licenses.clear();
        rules.exemptions.clear();
        for place in 0..known.licenses {
            rules
                .licenses
                .push(*self.licenses.get(&RowKey { database, place })?);
        }
        for place in 0..known.exemptions {
            rules
                .exemptions
                .push(*self.exemptions.get(&RowKey { database, place })?);
        }
        Some(())
    }

    /// Puts the rules that were read in force, and judges the database's sessions by them.
    /// `standings` has a place for each session's, with the number of the session judged.
    pub fn publish(
        &mut self,
        database: u32,
        rules: &mut Rules,
        standings: &[(u64, Standing)],
    ) -> Published {
        let Some(known) = self.databases.get(&database).copied() else {
            return Published::Outdated;
        };
        if known.generation != rules.generation {
            return Published::Outdated;
        }
        let unjudged = |(at, session): (usize, &Session)| {
            session.number != 0
                && session.database == database
                && standings
                    .get(at)
                    .is_none_or(|(number, _)| *number != session.number)
        };
        if self.sessions.iter().enumerate().any(unjudged) {
            return Published::Unjudged;
        }
        let fits = |len: usize, capacity: usize, former: u32, new: usize| {
            len.saturating_sub(former as usize) + new <= capacity
        };
        if !fits(
            self.licenses.len(),
            self.licenses.capacity(),
            known.licenses,
            rules.licenses.len(),
        ) || !fits(
            self.exemptions.len(),
            self.exemptions.capacity(),
            known.exemptions,
            rules.exemptions.len(),
        ) {
            return Published::NoRoom;
        }

        for license in &mut rules.licenses {
            // What was counted stays with the product.
            license.denied = (0..known.licenses)
                .filter_map(|place| self.licenses.get(&RowKey { database, place }))
                .find(|former| former.product == license.product)
                .map_or(0, |former| former.denied);
            license.tally = self.tally_for(database, license);
        }
        self.remove_rows(database);
        for (place, license) in (0..).zip(&rules.licenses) {
            let key = RowKey { database, place };
            self.licenses.put(License { key, ..*license });
        }
        for (place, exemption) in (0..).zip(&rules.exemptions) {
            let key = RowKey { database, place };
            self.exemptions.put(Exemption { key, ..*exemption });
        }
        if let Some(known) = self.databases.get_mut(&database) {
            known.loaded = rules.generation;
            known.watched = rules.watched;
            known.in_recovery = rules.in_recovery;
            known.exempt_superusers = rules.exempt_superusers;
            known.read_at = rules.read_at;
            known.licenses = rules.licenses.len() as u32;
            known.exemptions = rules.exemptions.len() as u32;
        }
        self.recount_tallies();
        let disagreement = rules
            .licenses
            .iter()
            .find(|license| {
                self.tallies
                    .get(&license.tally)
                    .is_some_and(|tally| tally.disagreed)
            })
            .map(|license| license.product);
        for at in 0..self.sessions.len() {
            let Some((_, standing)) = standings.get(at) else {
                continue;
            };
            let tally = self.claimed_tally(database, *standing);
            if let Some(session) = self.sessions.get_mut(at)
                && session.number != 0
                && session.database == database
            {
                session.exempt = standing.exempt;
                session.tally = tally;
            }
        }
        self.recount_seats();
        self.tallies
            .each_mut(|tally| tally.note_high_water(rules.read_at));
        self.drop_unused_tallies();
        Published::InForce { disagreement }
    }

    /// The number of the tally that a license counts in, which begins if there is none yet.
    fn tally_for(&mut self, database: u32, license: &License) -> u64 {
        let database = if license.pool.is_empty() { database } else { 0 };
        let mut found = None;
        self.tallies.each(|tally| {
            if tally.database == database
                && tally.pool == license.pool
                && tally.product == license.product
            {
                found = Some(tally.number);
            }
        });
        found.unwrap_or_else(|| {
            self.head.numbers += 1;
            let number = self.head.numbers;
            self.tallies.put(Tally {
                number,
                database,
                pool: license.pool,
                product: license.product,
                licenses: 0,
                counted_by: license.counted_by,
                rival: None,
                ruled: license.counted_by,
                disagreed: false,
                in_use: 0,
                high_water: 0,
                high_water_at: self.head.counted_since,
            });
            number
        })
    }

    pub(super) fn remove_rows(&mut self, database: u32) {
        if let Some(known) = self.databases.get(&database).copied() {
            for place in 0..known.licenses {
                self.licenses.remove(&RowKey { database, place });
            }
            for place in 0..known.exemptions {
                self.exemptions.remove(&RowKey { database, place });
            }
        }
    }

    /// Derives each tally's rule of counting from its licenses: where they disagree, the one that
    /// gives most seats (counting rule 5).
    pub(super) fn recount_tallies(&mut self) {
        let Ledger {
            tallies, licenses, ..
        } = self;
        tallies.each_mut(|tally| {
            tally.licenses = 0;
            tally.ruled = tally.counted_by;
            tally.rival = None;
            tally.disagreed = false;
        });
        licenses.each(|license| {
            let Some(tally) = tallies.get_mut(&license.tally) else {
                return;
            };
            tally.licenses += 1;
            if tally.licenses == 1 {
                tally.counted_by = license.counted_by;
            } else if license.counted_by != tally.counted_by {
                tally.disagreed = true;
                tally.admit_rule(license.counted_by);
            }
        });
        // Of two rivals the one that ruled still does, until the other gives more.
        tallies.each_mut(|tally| {
            if tally.rival == Some(tally.ruled) {
                tally.swap_rival();
            }
        });
    }

    pub(super) fn drop_unused_tallies(&mut self) {
        // One at a time: a table can't change while it shows its entries.
        loop {
            let mut unused = None;
            self.tallies.each(|tally| {
                if tally.licenses == 0 {
                    unused = Some(tally.number);
                }
            });
            let Some(number) = unused else { break };
            self.tallies.remove(&number);
        }
    }
}
