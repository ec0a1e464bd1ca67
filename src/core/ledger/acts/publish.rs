//! Puts a database's rules in force, and judges those who are in by them.

use std::cmp::Ordering;

use crate::core::ledger::Ledger;
use crate::core::ledger::acts::seats::{Counter, Linger, drop_user};
use crate::core::ledger::database::Database;
use crate::core::ledger::event::{Event, Happened};
use crate::core::ledger::hold::{Hold, HoldKey, drop_long_name};
use crate::core::ledger::identity::Name;
use crate::core::ledger::license::{Level, License, RowKey, Tampered};
use crate::core::ledger::numbers::{
    DatabaseOid, Generation, SeatNumber, SessionNumber, Slot, TallyId,
};
use crate::core::ledger::reservation::Reservation;
use crate::core::ledger::roles::{ReservedRoles, RoleCounts, RoleIn, Roles};
use crate::core::ledger::rules::{Exemption, Rules, find};
use crate::core::ledger::seat::{Kind, Standing};
use crate::core::ledger::session::Session;
use crate::core::ledger::table::{Table, Tables};
use crate::core::ledger::tally::{Noting, Steady, Tally};
use crate::core::ledger::time::Timestamp;
use crate::core::ledger::visit::{Leased, Unsettled};
use crate::core::ledger::words::{CountedBy, Enforcement};

/// The outcome of publishing rules.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Published {
    /// They are in force.
    InForce {
        /// A product whose pool does not agree on `counted_by`, if there is one.
        disagreement: Option<Name>,
    },
    /// They may not be put in force any more: read them again.
    Outdated,
    /// Newer rules are in force, which were read after these.
    Superseded,
    /// A session that was not judged has come, or other reserved roles have: judge again.
    Unjudged,
    /// There is no room for their leases. The former rules stay in force.
    NoRoom,
    /// There is no room for their licenses beside the rules of other databases. The former rules stay in force.
    TooManyRules,
}

/// What those who are in were judged to be before rules are published: this happens outside the lock.
#[derive(Clone, Debug, Default)]
pub struct Judgement {
    /// What was made of the session in each slot, with the number of the session that was judged.
    pub standings: Vec<(SessionNumber, Standing)>,
    /// The slots of sessions in the order of their logins, as [`Rules::by_login`] returns them.
    pub by_login: Vec<Slot>,
    /// The reserved roles that each role counts for, sorted by role. They are needed only if there are reservations.
    pub members: Vec<(RoleIn, Roles)>,
}

impl Judgement {
    /// Returns the reserved roles that a role counts for; `None` if that was not looked up.
    pub(crate) fn roles_of(&self, taker: RoleIn) -> Option<Roles> {
        let found = self
            .members
            .binary_search_by_key(&taker, |(taker, _)| *taker);
        let (_, roles) = self.members.get(found.ok()?)?;
        Some(*roles)
    }
}

impl<T: Tables> Ledger<'_, T> {
    /// Returns the licenses in force in a database.
    pub(crate) fn licenses_of(&self, database: DatabaseOid) -> impl Iterator<Item = &License> {
        let rows = self
            .databases
            .get(&database)
            .map_or(0, |known| known.rows.licenses);
        (0..rows).filter_map(move |place| self.licenses.get(&RowKey { database, place }))
    }

    /// Returns the license of a product that is in force in a database. It relies on licenses being in the order of
    /// their products.
    pub(crate) fn in_force(&self, database: DatabaseOid, product: &Name) -> Option<&License> {
        let known = self.databases.get(&database)?;
        let (mut from, mut to) = (0, known.rows.licenses);
        while from < to {
            let place = from.midpoint(to);
            let license = self.licenses.get(&RowKey { database, place })?;
            match license.product.cmp(product) {
                Ordering::Less => from = place + 1,
                Ordering::Equal => return Some(license),
                Ordering::Greater => to = place,
            }
        }
        None
    }

    /// Returns the license of a database that counts in a tally.
    pub(crate) fn license_in(&self, database: DatabaseOid, tally: TallyId) -> Option<&License> {
        let product = self.tallies.get(&tally)?.product;
        let license = self.in_force(database, &product);
        license.filter(|license| license.tally == tally)
    }

    /// Returns how many licenses and exemptions the database's rules have, and how many roles are reserved, so that
    /// room can be made for a copy.
    pub fn rows(&self, database: DatabaseOid) -> (usize, usize, usize) {
        let roles = self.head.reserved_roles.len();
        self.databases.get(&database).map_or((0, 0, 0), |known| {
            (
                known.rows.licenses as usize,
                known.rows.exemptions as usize,
                roles,
            )
        })
    }

    /// Copies the database's rules into `rules`, which must have room for its rows. `None` if there are none in force,
    /// or the room is too small.
    pub fn copy_rules(&self, database: DatabaseOid, rules: &mut Rules) -> Option<()> {
        let known = self
            .databases
            .get(&database)
            .filter(|known| known.in_force.loaded != Generation::NONE)?;
        if rules.licenses.capacity() < known.rows.licenses as usize
            || rules.exemptions.capacity() < known.rows.exemptions as usize
            || rules.reserved_roles.capacity() < self.head.reserved_roles.len()
        {
            return None;
        }
        rules.generation = known.in_force.loaded;
        rules.outdated = known.in_force.loaded != known.generation;
        rules.watched = known.in_force.watched;
        rules.in_recovery = known.in_force.in_recovery;
        rules.exempt_superusers = known.in_force.exempt_superusers;
        rules.read_at = known.in_force.read_at;
        rules.licenses.clear();
        rules.exemptions.clear();
        rules.roles_edition = self.head.roles_edition;
        rules.reserved_roles.clear();
        rules.reserved_roles.extend(self.head.reserved_roles.each());
        for place in 0..known.rows.licenses {
            rules
                .licenses
                .push(*self.licenses.get(&RowKey { database, place })?);
        }
        for place in 0..known.rows.exemptions {
            rules
                .exemptions
                .push(*self.exemptions.get(&RowKey { database, place })?);
        }
        Some(())
    }

    /// Puts the rules that were read in force, and judges the database's sessions by them; the reserved roles that
    /// somebody counts for are judged for the whole server. If a change has come since the rules were read, they are
    /// still the newest that anybody has: in force, but not current.
    pub fn publish(
        &mut self,
        database: DatabaseOid,
        rules: &mut Rules,
        judgement: &Judgement,
        now: Timestamp,
    ) -> Published {
        let Some(known) = self.databases.get(&database).copied() else {
            return Published::Outdated;
        };
        if let Some(refused) = outdated(&known, rules) {
            return refused;
        }
        // Sessions were judged by the rows that there was room for then.
        let Some(room) = self.room_for(database, rules.wanted()) else {
            return Published::TooManyRules;
        };
        if room != rules.counts_of_rows() {
            return Published::Outdated;
        }
        let reserved_roles = self.plan_roles(database, &rules.reservations);
        let planned = rules.reserved_roles.iter().copied();
        if !reserved_roles.each().eq(planned) {
            return Published::Unjudged;
        }
        let (unasked, moved) = self.role_changes(&reserved_roles, judgement);
        // What was held of products that are no longer licensed may have been given back since.
        self.drop_unused_tallies();
        if !moved && self.are_in_force(database, &known, rules, judgement) {
            return self.take_over(database, rules);
        }
        if unasked || self.unjudged(database, judgement).next().is_some() {
            return Published::Unjudged;
        }
        self.find_tallies(database, rules);
        if !self.has_room_for_tallies(rules) {
            return if rules.leases.is_empty() {
                Published::TooManyRules
            } else {
                Published::NoRoom
            };
        }
        let rows_before = self.rules_in_force();
        self.make_room_for_rules(database, room.all());
        self.find_tallies(database, rules);
        self.take_counts_over(database, &known, rules, now);
        let reservations = self.put_rows(database, rules, &reserved_roles);
        if moved {
            self.set_roles(database, reserved_roles);
            self.put_roles(|taker| judgement.roles_of(taker).unwrap_or_default());
        }
        rules.roles_edition = self.head.roles_edition;
        self.note_loaded(database, rules, reservations);
        self.note_change_at(database, rules);
        self.recount_tallies();
        let disagreement = self.disagreement(database);
        self.judge_sessions(database, judgement);
        self.limit_exempt(database, Kind::Login, &judgement.by_login);
        self.note_exempt_logins(database);
        let tally_of = |product: &Name| rules.license(product).map(|license| license.tally);
        self.put_bars(database, &rules.bars, tally_of);
        if self.rules_in_force() < rows_before {
            self.offer_room(database);
        }
        self.put_leases(database, rules, judgement, now);
        self.judge_holds(database, rules, now);
        self.limit_exempt(database, Kind::Checkout, &judgement.by_login);
        self.settle_all(now);
        self.head.ring |= !self.waits.is_empty();
        self.tallies.each_mut(|tally| tally.note_high_water(now));
        self.write_soon(database, now);
        self.head.published += 1;
        self.drop_unused_tallies();
        Published::InForce { disagreement }
    }

    /// Tells whether somebody's reserved roles are not in the judgement, and whether the judgement changes any.
    fn role_changes(&self, reserved_roles: &ReservedRoles, judgement: &Judgement) -> (bool, bool) {
        let (mut unasked, mut moved) = (false, self.head.reserved_roles != *reserved_roles);
        // Where no role is reserved, nobody counts for any.
        if !reserved_roles.is_empty() {
            self.each_role(|taker, roles| match judgement.roles_of(taker) {
                Some(now) => moved |= now != roles,
                None => unasked = true,
            });
        }
        (unasked, moved)
    }

    /// Makes the sessions of a database what they were judged to be.
    fn judge_sessions(&mut self, database: DatabaseOid, judgement: &Judgement) {
        for slot in self.sessions.slots() {
            let Some((_, standing)) = judgement.standings.get(slot.0) else {
                continue;
            };
            let tally = self.claimed_tally(database, *standing);
            let Some(session) = self.sessions.get_mut(slot) else {
                continue;
            };
            if session.number == SessionNumber::NONE || session.database != database {
                continue;
            }
            session.exempt = standing.exempt;
            session.tally = tally;
        }
    }

    /// Returns the sessions of a database that came after the judgement.
    fn unjudged<'s>(
        &'s self,
        database: DatabaseOid,
        judgement: &'s Judgement,
    ) -> impl Iterator<Item = &'s Session> {
        let newcomers = self.sessions.each().filter(move |(slot, session)| {
            session.number != SessionNumber::NONE
                && session.database == database
                && judgement
                    .standings
                    .get(slot.0)
                    .is_none_or(|(number, _)| *number != session.number)
        });
        newcomers.map(|(_, session)| session)
    }

    /// Tells whether somebody else was quicker, as when many in the queue hear of one change: these rules are in force,
    /// and the judgement changes nothing. Whoever has come since was judged by the rules in force.
    fn are_in_force(
        &self,
        database: DatabaseOid,
        known: &Database,
        rules: &Rules,
        judgement: &Judgement,
    ) -> bool {
        let differs = |(session, (number, standing)): (&Session, &(SessionNumber, Standing))| {
            session.number != SessionNumber::NONE
                && session.number == *number
                && session.database == database
                && (session.exempt != standing.exempt
                    && (session.exempt.is_some() || !self.may_count(database, *standing))
                    || session.tally != self.claimed_tally(database, *standing))
        };
        known.has(rules)
            && self.is_signed_alike(database, rules)
            && self
                .unjudged(database, judgement)
                .all(|session| session.judged)
            && !self.sessions.iter().zip(&judgement.standings).any(differs)
    }

    /// Makes rules that are in force already the same as they are there.
    fn take_over(&mut self, database: DatabaseOid, rules: &mut Rules) -> Published {
        for (place, license) in (0..).zip(&mut rules.licenses) {
            if let Some(in_force) = self.licenses.get(&RowKey { database, place }) {
                *license = *in_force;
            }
        }
        rules.roles_edition = self.head.roles_edition;
        self.note_change_at(database, rules);
        let disagreement = self.disagreement(database);
        Published::InForce { disagreement }
    }

    /// Gives each license its tally, and what was counted for its product before.
    fn take_counts_over(
        &mut self,
        database: DatabaseOid,
        known: &Database,
        rules: &mut Rules,
        now: Timestamp,
    ) {
        for license in &mut rules.licenses {
            let former = self.in_force(database, &license.product).copied();
            let tampered = |license: &License| license.signed.unwrap_or_default().tampered;
            let known_excess = former.as_ref().map_or(Tampered::default(), tampered);
            if !known_excess.contains(tampered(license)) {
                let happened = Happened::Tampered(tampered(license));
                self.note(&Event::of_product(happened, database, license.product), now);
            }
            // What was counted stays with the product.
            license.denied = former.map_or(0, |former| former.denied);
            license.counted_since = former.map_or(now, |former| former.counted_since);
            license.level = former.map_or(Level::Normal, |former| former.level);
            license.warned_ending = former.and_then(|former| former.warned_ending);
            let is_new = former.is_none();
            if license.tally == TallyId::NONE {
                license.tally = self.begin_tally(
                    owner(database, license),
                    license.pool,
                    license.product,
                    license.counted_by,
                );
            }
            if (is_new || !known.counts.added)
                && let Some(counts) = rules.counts.as_ref()
                && let Some(counts) = find(counts, &license.product, |counts| counts.product)
            {
                license.denied += counts.denied;
                license.counted_since = license.counted_since.min(counts.counted_since);
                if let Some(tally) = self.tallies.get_mut(&license.tally)
                    && counts.high_water >= tally.high_water
                {
                    tally.high_water = counts.high_water;
                    tally.high_water_at = counts.high_water_at;
                }
            }
        }
    }

    /// Puts a database's rows in the place of its former ones, and returns how many reservations have numbers.
    fn put_rows(
        &mut self,
        database: DatabaseOid,
        rules: &Rules,
        reserved_roles: &ReservedRoles,
    ) -> u32 {
        self.remove_rows(database);
        for (place, license) in (0..).zip(&rules.licenses) {
            let key = RowKey { database, place };
            self.licenses.put(License { key, ..*license });
        }
        for (place, exemption) in (0..).zip(&rules.exemptions) {
            let key = RowKey { database, place };
            self.exemptions.put(Exemption { key, ..*exemption });
        }
        let mut reservations = 0;
        for reservation in &rules.reservations {
            let Some(number) = reserved_roles.number(&reservation.role) else {
                continue;
            };
            let license = rules.license(&reservation.product);
            let place = reservations;
            self.reservations.put(Reservation {
                key: RowKey { database, place },
                tally: license.map_or(TallyId::NONE, |license| license.tally),
                number,
                ..*reservation
            });
            reservations += 1;
        }
        reservations
    }

    /// Notes that a database's rules are in force.
    fn note_loaded(&mut self, database: DatabaseOid, rules: &Rules, reservations: u32) {
        if let Some(known) = self.databases.get_mut(&database) {
            known.in_force.loaded = rules.generation;
            known.in_force.watched = rules.watched;
            known.in_force.in_recovery = rules.in_recovery;
            known.in_force.exempt_superusers = rules.exempt_superusers;
            known.in_force.read_at = rules.read_at;
            known.rows.licenses = rules.licenses.len() as u32;
            known.rows.exemptions = rules.exemptions.len() as u32;
            known.rows.reservations = reservations;
            // Whoever has read them could connect.
            known.visits.lost = 0;
            known.in_force.unsettled = Unsettled::Nothing;
            known.counts.added |= rules.counts.is_some();
            known.note_read();
        }
        let unnumbered = rules.reservations.len() as u32 - reservations;
        self.note_left_out(database, |known| {
            known.rows.left_out = rules.left_out.all() as u32;
            known.rows.unnumbered = unnumbered;
        });
    }

    /// Tells whether what was signed says the same about these rules as about those in force.
    pub(crate) fn is_signed_alike(&self, database: DatabaseOid, rules: &Rules) -> bool {
        self.licenses_of(database)
            .zip(&rules.licenses)
            .all(|(a, b)| (a.signed, a.seats, a.purchased) == (b.signed, b.seats, b.purchased))
    }

    /// Notes the logins of a database that are known to be exempt only now.
    fn note_exempt_logins(&mut self, database: DatabaseOid) {
        for slot in self.sessions.slots() {
            let Some(session) = self.sessions.get_mut(slot) else {
                continue;
            };
            if session.number == SessionNumber::NONE || session.database != database {
                continue;
            }
            let was_judged = std::mem::replace(&mut session.judged, true);
            if let (false, Some(exempt), Some(tally)) =
                (was_judged, session.exempt, self.tallies.get(&session.tally))
            {
                let happened = Happened::ExemptLogin(exempt);
                let event = Event::of_login(happened, session, tally.product);
                let since = session.since;
                self.note(&event, since);
            }
        }
    }

    /// Notes when the rules will change by themselves, unless an earlier change is noted that no database worker has
    /// seen yet.
    fn note_change_at(&mut self, database: DatabaseOid, rules: &Rules) {
        // A change that was due earlier was taken into account when the rules were read.
        let at = rules.change_at.filter(|&at| at > rules.read_at);
        if let (Some(known), Some(at)) = (self.databases.get_mut(&database), at) {
            known.in_force.changes_at = known.in_force.changes_at.min(at);
            // So that a database worker comes then, whoever has read the rules.
            known.trail.write_at = known.trail.write_at.min(known.in_force.changes_at);
            self.head.next_write = self.head.next_write.min(known.trail.write_at);
        }
    }

    /// Returns a product of a database whose pool does not agree on `counted_by`, if there is one.
    fn disagreement(&self, database: DatabaseOid) -> Option<Name> {
        self.licenses_of(database)
            .find(|license| {
                self.tallies
                    .get(&license.tally)
                    .is_some_and(|tally| tally.disagreed)
            })
            .map(|license| license.product)
    }

    /// Makes what applications hold and await in a database follow its product, wherever that counts now.
    fn judge_holds(&mut self, database: DatabaseOid, rules: &Rules, now: Timestamp) {
        let Ledger {
            head,
            sessions,
            tallies,
            seats,
            takers,
            holds,
            waits,
            ..
        } = self;
        let mut counter = Counter::<T> {
            head,
            seats,
            tallies,
            takers,
        };
        // The license of a tally's product; `None` if it is no longer licensed.
        let now_in =
            |tallies: &T::Of<Tally>, tally: TallyId| rules.license(&tallies.get(&tally)?.product);
        holds.each_mut(|hold| {
            if hold.database != database {
                return;
            }
            let license = now_in(counter.tallies, hold.tally);
            hold.licensed = license.is_some();
            hold.exempt = false;
            if let Some(tally) = license.map(|l| l.tally).filter(|&to| to != hold.tally) {
                counter.unseat_hold(hold, Linger::NOT);
                move_user::<T>(counter.tallies, hold.tally, tally);
                hold.tally = tally;
            }
        });
        let is_exempt = |s: &&Session| s.database == database && s.exempt.is_some();
        for session in sessions.iter().filter(is_exempt) {
            for place in 0..session.checkouts {
                if let Some(hold) = holds.get_mut(&HoldKey::checkout(session.number, place)) {
                    hold.exempt = true;
                }
            }
        }
        waits.each_mut(|wait| {
            if wait.hold.database != database || wait.called {
                return;
            }
            let exempt = sessions.get(wait.slot).and_then(|session| session.exempt);
            let license = now_in(tallies, wait.hold.tally);
            wait.in_vain = license.is_none_or(|license| {
                wait.hold.kind() != Kind::Lease && !license.may_count(exempt)
                    || license.enforcement != Enforcement::On
                    || license.out_of_dates(now).is_some()
            });
            if let Some(tally) = license.map(|l| l.tally).filter(|&to| to != wait.hold.tally) {
                move_user::<T>(tallies, wait.hold.tally, tally);
                if let Some(former) = tallies.get_mut(&wait.hold.tally) {
                    former.waiting -= 1;
                }
                if let Some(tally) = tallies.get_mut(&tally) {
                    tally.waiting += 1;
                }
                wait.hold.tally = tally;
            }
        });
    }

    /// Takes in the leases that were read with the rules, as far as there is room. Each lasts its whole time from now.
    /// Those without room are over; nobody is kept out because of them.
    fn put_leases(
        &mut self,
        database: DatabaseOid,
        rules: &Rules,
        judgement: &Judgement,
        now: Timestamp,
    ) {
        let known = self.databases.get_mut(&database);
        let Some(known) = known.filter(|known| known.leases.table != rules.leases_of) else {
            return;
        };
        known.leases.table = rules.leases_of;
        if !rules.leases.is_empty() {
            known.leases.had = known.leases.had.max(Leased::Maybe);
        }
        self.drop_leases(database);
        let mut left = 0;
        // Leases of one product come together.
        let mut unlicensed = None;
        for lease in &rules.leases {
            if !self.has_room() {
                left += 1;
                continue;
            }
            let tally = match rules.license(&lease.product) {
                Some(license) => license.tally,
                None => match unlicensed.filter(|(product, _)| *product == lease.product) {
                    Some((_, tally)) => tally,
                    None => self.tally_of_unlicensed(database, lease.product),
                },
            };
            unlicensed = Some((lease.product, tally));
            let hold = Hold {
                key: HoldKey::lease(lease.id),
                number: SessionNumber(self.head.next_number()),
                pending: false,
                unseen: false,
                database,
                times: 1,
                tally,
                who: lease.who,
                roles: judgement
                    .roles_of((lease.who.role, database))
                    .unwrap_or_default(),
                licensed: false,
                exempt: false,
                first_of_user: false,
                seated: None,
                seat: SeatNumber::NONE,
                taken_by: lease.taken_by,
                ended: false,
                ttl: lease.ttl,
                expires_at: now.saturating_add(lease.ttl),
            };
            self.keep_long_name(&lease.who.client_user, lease.long_name);
            self.put_hold(hold);
        }
        if let Some(known) = self.databases.get_mut(&database) {
            known.leases.left_out = left;
        }
    }

    /// Takes all leases of a database out.
    pub(crate) fn drop_leases(&mut self, database: DatabaseOid) {
        let Ledger {
            head,
            tallies,
            seats,
            takers,
            holds,
            long_names,
            databases,
            ..
        } = self;
        let mut counter = Counter::<T> {
            head,
            seats,
            tallies,
            takers,
        };
        holds.retain(|hold| {
            let gone = hold.database == database && hold.kind() == Kind::Lease;
            if gone {
                counter.unseat_hold(hold, Linger::NOT);
                drop_user::<T>(counter.tallies, hold.tally);
                drop_long_name::<T>(long_names, &hold.who.client_user);
            }
            !gone
        });
        if let Some(known) = databases.get_mut(&database) {
            known.leases.ended = 0;
        }
    }

    /// Notes in which tallies the licenses to be put in force count. Those that have none yet get a new one later.
    fn find_tallies(&self, database: DatabaseOid, rules: &mut Rules) {
        let licenses = &mut rules.licenses;
        for license in licenses.iter_mut() {
            license.tally = TallyId::NONE;
        }
        self.tallies.each(|tally| {
            let at = licenses.binary_search_by_key(&tally.product, |license| license.product);
            if let Some(license) = at.ok().and_then(|at| licenses.get_mut(at))
                && tally.pool == license.pool
                && tally.database == owner(database, license)
            {
                license.tally = tally.number;
            }
        });
    }

    /// Tells whether there is room for the tallies of these rules. Tallies may be left whose product is no longer
    /// licensed but still held.
    fn has_room_for_tallies(&self, rules: &Rules) -> bool {
        let new = rules
            .licenses
            .iter()
            .filter(|license| license.tally == TallyId::NONE);
        self.tallies.len() + new.count() + leased_products(rules) <= self.tallies.capacity()
    }

    /// Returns the tally of what is held of a product that is no longer licensed, and makes it if there is none.
    fn tally_of_unlicensed(&mut self, database: DatabaseOid, product: Name) -> TallyId {
        let mut found = None;
        self.tallies.each(|tally| {
            if tally.database == database && tally.pool.is_empty() && tally.product == product {
                found = Some(tally.number);
            }
        });
        let begin = || self.begin_tally(database, Name::EMPTY, product, CountedBy::UserHost);
        found.unwrap_or_else(begin)
    }

    fn begin_tally(
        &mut self,
        database: DatabaseOid,
        pool: Name,
        product: Name,
        counted_by: CountedBy,
    ) -> TallyId {
        let number = TallyId(self.head.next_number());
        self.tallies.put(Tally {
            number,
            database,
            pool,
            product,
            licenses: 0,
            users: 0,
            waiting: 0,
            counted_by,
            disagreed: false,
            linger: 0,
            limits_users: false,
            in_use: 0,
            lingering: 0,
            promised: 0,
            used_by: RoleCounts::NONE,
            high_water: 0,
            high_water_at: 0,
            steady: Steady::NEVER,
            noting: Noting::No,
        });
        number
    }

    pub(crate) fn remove_rows(&mut self, database: DatabaseOid) {
        if let Some(known) = self.databases.get(&database).copied() {
            for place in 0..known.rows.licenses {
                self.licenses.remove(&RowKey { database, place });
            }
            for place in 0..known.rows.exemptions {
                self.exemptions.remove(&RowKey { database, place });
            }
            for place in 0..known.rows.reservations {
                self.reservations.remove(&RowKey { database, place });
            }
        }
    }

    /// Derives each tally's counting rule from its licenses; if they disagree, the finest applies (counting rule 5).
    /// Their levels of use are yet to be looked at.
    pub(crate) fn recount_tallies(&mut self) {
        let Ledger {
            tallies, licenses, ..
        } = self;
        tallies.each_mut(|tally| {
            tally.licenses = 0;
            tally.linger = 0;
            tally.limits_users = false;
            tally.disagreed = false;
            tally.steady = Steady::NEVER;
        });
        licenses.each(|license| {
            let Some(tally) = tallies.get_mut(&license.tally) else {
                return;
            };
            tally.licenses += 1;
            tally.linger = tally.linger.max(license.linger);
            tally.limits_users |= license.max_per_user.is_some();
            if tally.licenses == 1 {
                tally.counted_by = license.counted_by;
            } else {
                tally.admit_rule(license.counted_by);
            }
        });
    }

    pub(crate) fn drop_unused_tallies(&mut self) {
        self.tallies
            .retain(|tally| tally.licenses > 0 || tally.users > 0);
    }
}

/// Tells why rules that were read can't be put in force, if newer ones are.
fn outdated(known: &Database, rules: &Rules) -> Option<Published> {
    // Rules that were read on a standby would take out the leases that were read since its promotion.
    let is_older = rules.in_recovery && known.leases.table != 0;
    if rules.generation < known.in_force.not_before || is_older {
        return Some(Published::Outdated);
    }
    if rules.generation < known.in_force.loaded {
        return Some(if known.in_force.watched {
            Published::Superseded
        } else {
            Published::Outdated
        });
    }
    None
}

/// Returns the database of a license's tally; 0 for a pool.
fn owner(database: DatabaseOid, license: &License) -> DatabaseOid {
    if license.pool.is_empty() {
        database
    } else {
        DatabaseOid::NONE
    }
}

/// Returns how many tallies the leases may need. They were read in the order of their products.
fn leased_products(rules: &Rules) -> usize {
    let products = rules.leases.chunk_by(|a, b| a.product == b.product);
    products.count()
}

fn move_user<T: Tables>(tallies: &mut T::Of<Tally>, from: TallyId, to: TallyId) {
    drop_user::<T>(tallies, from);
    if let Some(tally) = tallies.get_mut(&to) {
        tally.users += 1;
    }
}
