//! How many may be exempt at once, where a license's signature limits it.
//!
//! An exempt session saves seats: the one that its login would take, and those that its checkouts would. An identity is
//! exempt in a license while one of its seats is saved there, in whichever of the databases that count together. As
//! many identities are exempt as the signature allows. Beyond that everything counts:
//!
//! * a login takes a seat, and its session is no longer exempt from anything
//! * a checkout takes a seat, and waits for one in the queue, even if the session's login is exempt: that login has
//!   claimed another license or none, or the checkout is for another identity
//!
//! In a license with such a limit, an exempt session that saves no seat does not hold the license either. Whoever
//! counts goes on counting, even when others leave. When a database's rules are published, its sessions are judged
//! again: first the logins in their order, then the checkouts in the order of their sessions' logins; whoever is in the
//! queue stays there. Superusers and replication connections are exempt outside this limit.

use crate::core::ledger::Ledger;
use crate::core::ledger::hold::{Hold, HoldKey};
use crate::core::ledger::license::{License, RowKey};
use crate::core::ledger::numbers::{DatabaseOid, SeatNumber, SessionNumber, Slot, TallyId};
use crate::core::ledger::rules::Rules;
use crate::core::ledger::seat::{Claimant, Exempt, Kind, Seat, SeatIds, SeatKey, Standing};
use crate::core::ledger::session::Session;
use crate::core::ledger::table::{Table, Tables};
use crate::core::ledger::tally::Tally;

impl Exempt {
    /// Tells whether it is granted by `license_exemptions`.
    fn is_granted(self) -> bool {
        matches!(self, Exempt::Role | Exempt::Host)
    }
}

impl License {
    /// Returns how many identities may be exempt for this reason at once; `None` for any number.
    fn exempt_limit(&self, reason: Exempt) -> Option<usize> {
        let limit = self.signed?.exempt?;
        reason.is_granted().then_some(limit as usize)
    }

    /// Tells whether a session may count even though the rules exempt it for this reason. One that they do not exempt
    /// always may.
    pub fn may_count(&self, exempt: Option<Exempt>) -> bool {
        exempt.is_none_or(|reason| self.exempt_limit(reason).is_some())
    }
}

impl Rules {
    /// Returns the slots of sessions in the order of their logins; none if no license has such a limit.
    pub fn by_login(&self, sessions: &[Session]) -> Vec<Slot> {
        let is_limited = |license: &License| license.exempt_limit(Exempt::Role).is_some();
        if !self.licenses.iter().any(is_limited) {
            return Vec::new();
        }
        let slots = (0..).map(Slot).zip(sessions);
        let mut logins: Vec<(Slot, &Session)> = slots
            .filter(|(_, session)| session.number != SessionNumber::NONE)
            .collect();
        logins.sort_by_key(|(_, session)| (session.since, session.number));
        logins.into_iter().map(|(slot, _)| slot).collect()
    }
}

impl<T: Tables> Ledger<'_, T> {
    /// Tells whether a session with this standing may count.
    pub(crate) fn may_count(&self, database: DatabaseOid, standing: Standing) -> bool {
        match self.claimed_license(database, standing) {
            Some(license) => license.may_count(standing.exempt),
            None => standing.exempt.is_none(),
        }
    }

    /// Tells whether a claimant who is exempt for this reason may be so in a license: its identity is exempt already,
    /// or fewer are than may be.
    pub(crate) fn may_be_exempt(
        &mut self,
        license: &License,
        reason: Exempt,
        claimant: &Claimant,
    ) -> bool {
        let Some(limit) = license.exempt_limit(reason) else {
            return true;
        };
        self.make_room_to_judge();
        let Some(tally) = self.tallies.get(&license.tally) else {
            return true;
        };
        let ids = self.head.seat_ids;
        let Ledger {
            sessions,
            seats,
            holds,
            ..
        } = self;
        let mut exempt = ExemptIdentities::<T>::none(seats, limit);
        each_exempt::<T>(ids, sessions, holds, tally, |_, _, key| {
            exempt.add(key);
        });
        let may = exempt.admit(tally.key_of(ids, claimant));
        exempt.remove(tally.key_of(ids, claimant));
        each_exempt::<T>(ids, sessions, holds, tally, |_, _, key| exempt.remove(key));
        may
    }

    /// Tells whether a session is exempt in a license now: on its own account, or as one of several sessions of its
    /// identity.
    pub(crate) fn is_exempt_in(&self, license: &License, session: &Session) -> bool {
        if !license.may_count(session.exempt) {
            return true;
        }
        let tally = self.tallies.get(&license.tally);
        let Some(tally) = tally.filter(|_| session.exempt.is_some()) else {
            return false;
        };
        let ids = self.head.seat_ids;
        let own = identity_key(tally.key_of(ids, &claimant(tally, session)));
        let mut is_exempt = false;
        each_exempt::<T>(ids, &self.sessions, &self.holds, tally, |whose, _, key| {
            is_exempt |= whose.number == session.number || identity_key(key) == own;
        });
        is_exempt
    }

    /// Makes lingering seats give way to the entries of a set of exempt identities.
    fn make_room_to_judge(&mut self) {
        let is_granted = |session: &&Session| session.exempt.is_some_and(Exempt::is_granted);
        let exempt = self.sessions.iter().filter(is_granted);
        let most: usize = exempt.map(|session| 1 + session.checkouts as usize).sum();
        while self.seats.len() + most >= self.seats.capacity() && self.counter().give_way() {}
    }

    /// Judges again the logins of a database that its rules exempt, or the checkouts of its exempt sessions: as many
    /// stay exempt as the signature allows.
    pub(crate) fn limit_exempt(&mut self, database: DatabaseOid, kind: Kind, by_login: &[Slot]) {
        if by_login.is_empty() {
            return;
        }
        self.make_room_to_judge();
        let rows = self.databases.get(&database).map_or(0, |d| d.rows.licenses);
        let ids = self.head.seat_ids;
        let Ledger {
            sessions,
            seats,
            holds,
            licenses,
            tallies,
            ..
        } = self;
        for place in 0..rows {
            let license = licenses.get(&RowKey { database, place });
            let limit = license.and_then(|license| license.exempt_limit(Exempt::Role));
            let tally = license.and_then(|license| tallies.get(&license.tally));
            let (Some(limit), Some(tally)) = (limit, tally) else {
                continue;
            };
            let mut exempt = ExemptIdentities::<T>::none(seats, limit);
            each_exempt::<T>(ids, sessions, holds, tally, |session, exempt_kind, key| {
                if session.database != database || exempt_kind < kind {
                    exempt.add(key);
                }
            });
            for &slot in by_login {
                let Some(session) = sessions.get_mut(slot).filter(|session| {
                    session.database == database && session.exempt.is_some_and(Exempt::is_granted)
                }) else {
                    continue;
                };
                if kind == Kind::Login {
                    if session.tally == tally.number
                        && !exempt.admit(tally.key_of(ids, &claimant(tally, session)))
                    {
                        session.exempt = None;
                    }
                    continue;
                }
                for place in 0..session.checkouts {
                    let key = HoldKey::checkout(session.number, place);
                    if let Some(hold) = holds.get_mut(&key).filter(|h| h.is_exempt_in(tally.number))
                    {
                        hold.exempt = exempt.admit(tally.key_of(ids, &hold.claimant()));
                    }
                }
            }
            each_exempt::<T>(ids, sessions, holds, tally, |_, _, key| exempt.remove(key));
        }
    }
}

/// Returns the claim on the seat that a session's login saves.
fn claimant(tally: &Tally, session: &Session) -> Claimant {
    Claimant {
        tally: tally.number,
        ..session.claimant()
    }
}

/// Shows the seats of a tally that the logins and checkouts of exempt sessions would take.
fn each_exempt<T: Tables>(
    ids: SeatIds,
    sessions: &[Session],
    holds: &T::Of<Hold>,
    tally: &Tally,
    mut see: impl FnMut(&Session, Kind, SeatKey),
) {
    let is_granted = |session: &&Session| session.exempt.is_some_and(Exempt::is_granted);
    for session in sessions.iter().filter(is_granted) {
        if session.tally == tally.number {
            see(
                session,
                Kind::Login,
                tally.key_of(ids, &claimant(tally, session)),
            );
        }
        for place in 0..session.checkouts {
            let hold = holds.get(&HoldKey::checkout(session.number, place));
            if let Some(hold) = hold.filter(|hold| hold.is_exempt_in(tally.number)) {
                see(session, Kind::Checkout, tally.key_of(ids, &hold.claimant()));
            }
        }
    }
}

/// A set of the identities that are exempt in a license. Nothing may be allocated under the lock, so its members lie in
/// the table of seats, as entries of no tally, until they are removed. That table has room for every holder twice, and
/// whoever is exempt holds no seat.
struct ExemptIdentities<'a, T: Tables> {
    table: &'a mut T::Of<Seat>,
    /// The number of entries that are seats.
    seats: usize,
    limit: usize,
}

impl<'a, T: Tables> ExemptIdentities<'a, T> {
    fn none(table: &'a mut T::Of<Seat>, limit: usize) -> Self {
        let seats = table.len();
        ExemptIdentities {
            table,
            seats,
            limit,
        }
    }

    fn add(&mut self, key: SeatKey) -> bool {
        self.table
            .put(Seat::new(identity_key(key), SeatNumber::NONE, 0))
            .is_some()
    }

    /// Tells whether the identity that would have this seat may be exempt, too, and adds it if so.
    fn admit(&mut self, key: SeatKey) -> bool {
        self.table.get(&identity_key(key)).is_some()
            || self.table.len() - self.seats < self.limit && self.add(key)
    }

    fn remove(&mut self, key: SeatKey) {
        self.table.remove(&identity_key(key));
    }
}

/// Returns the key under which the set has the identity of a seat.
fn identity_key(key: SeatKey) -> SeatKey {
    SeatKey {
        tally: TallyId::NONE,
        ..key
    }
}
