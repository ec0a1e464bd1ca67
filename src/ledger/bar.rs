//! Identities that an administrator has barred for a time.

use super::Ledger;
use super::event::Event;
use super::identity::{FullName, Identity, Name, Text, Who};
use super::license::{CountedBy, Timestamp};
use super::session::{Claimant, Kind};
use super::table::{Table, Tables, entry};

/// Somebody who can't have a seat for a time.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Bar {
    /// Its own number.
    pub number: u64,
    /// The tally of the product.
    pub tally: u64,
    /// Until when.
    pub until: Timestamp,
    /// The OID of the database that keeps it.
    pub database: u32,
    /// The OID of the role that wished it.
    pub by: u32,
    /// Who: compared as the tally counts.
    pub whom: FullName,
    /// Why, or empty.
    pub reason: Text<256>,
    /// It is a row of the database's table, and lasts.
    pub stored: bool,
    /// It could not be made one, which was told.
    pub(super) complained_of: bool,
}

entry!(Bar, number: u64);

/// A row of `license_bars`.
#[derive(Clone, Copy, Debug)]
pub struct StoredBar {
    /// The product.
    pub product: Name,
    /// Who.
    pub whom: FullName,
    /// Until when.
    pub until: Timestamp,
}

impl<T: Tables> Ledger<'_, T> {
    /// Bars somebody. False when there is no room for it.
    pub(super) fn bar(&mut self, bar: Bar, now: Timestamp) -> bool {
        self.end_bars(now);
        self.head.numbers += 1;
        let number = self.head.numbers;
        self.bars.put(Bar { number, ..bar }).is_some()
    }

    /// Forgets those whose time is over.
    pub fn end_bars(&mut self, now: Timestamp) {
        self.drop_bars(|bar| bar.until <= now);
    }

    pub(super) fn drop_bars(&mut self, is_over: impl Fn(&Bar) -> bool) {
        self.bars.retain(|bar| !is_over(bar));
    }

    /// Whom to bar of those of whom an event tells; `None` where not all of the name is known any more.
    pub(super) fn full_name(&self, of: &Event) -> Option<FullName> {
        let long_name = self.long_name(&of.who.client_user);
        if of.kind == Some(Kind::Lease) {
            let who = Who {
                workstation: Name::EMPTY,
                ..of.who
            };
            return FullName::of(who, of.who.workstation, long_name);
        }
        FullName::of(of.who, Name::EMPTY, long_name)
    }

    /// Until when a claimant is barred, if it is.
    pub(super) fn barred_until(&self, claimant: &Claimant, now: Timestamp) -> Option<Timestamp> {
        if self.bars.is_empty() {
            return None;
        }
        let rule = match self.tallies.get(&claimant.tally)?.counted_by {
            // A connection does not come back: its user does.
            CountedBy::Session => CountedBy::UserHost,
            rule => rule,
        };
        let identity = Identity::of(rule, &claimant.who, 0);
        let mut until: Option<Timestamp> = None;
        self.bars.each(|bar| {
            if bar.tally == claimant.tally
                && bar.until > now
                && Identity::of(rule, &bar.whom.who, 0) == identity
            {
                until = until.max(Some(bar.until));
            }
        });
        until
    }

    /// Shows the bars of a database that are not yet rows of its table.
    pub fn each_unstored_bar(&self, database: u32, mut see: impl FnMut(&Bar)) {
        self.bars.each(|bar| {
            if bar.database == database && !bar.stored {
                see(bar);
            }
        });
    }

    /// A database has no bar that is not a row of its table.
    pub fn bars_are_stored(&self, database: u32) -> bool {
        let mut all = true;
        self.each_unstored_bar(database, |_| all = false);
        all
    }

    /// These bars are rows now.
    pub fn bars_stored(&mut self, numbers: &[u64]) {
        for number in numbers {
            if let Some(bar) = self.bars.get_mut(number) {
                bar.stored = true;
            }
        }
    }

    /// These bars could not be made rows. True when that is news of one of them.
    pub fn could_not_store_bars(&mut self, numbers: &[u64]) -> bool {
        let mut news = false;
        for number in numbers {
            if let Some(bar) = self.bars.get_mut(number) {
                news |= !std::mem::replace(&mut bar.complained_of, true);
            }
        }
        news
    }

    /// Puts a database's rows in force, in the place of the former ones, as long as there is room.
    pub(super) fn put_bars(
        &mut self,
        database: u32,
        rows: &[StoredBar],
        tally_of: impl Fn(&Name) -> Option<u64>,
        now: Timestamp,
    ) {
        self.drop_bars(|bar| bar.database == database && bar.stored);
        let mut left = 0;
        for row in rows {
            let Some(tally) = tally_of(&row.product) else {
                continue;
            };
            let bar = Bar {
                number: 0,
                database,
                tally,
                whom: row.whom,
                by: 0,
                reason: Text::EMPTY,
                until: row.until,
                stored: true,
                complained_of: false,
            };
            left += u32::from(!self.bar(bar, now));
        }
        if let Some(known) = self.databases.get_mut(&database) {
            known.bars_left = left;
        }
    }
}
