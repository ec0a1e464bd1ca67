//! Ends the holders of seats: stopped by an administrator, logged off for inactivity, or to give way to somebody who
//! would be denied.
//!
//! * [`bars`]: keeps the table `license_bars`, of those who can't come back for a time
//! * [`idle`]: logs off seats that are inactive for too long
//! * [`reclaim`]: asks idle seats to give way
//! * [`session`]: lets a session decide how it ends
//! * [`stop`]: stops a seat's holders for an administrator

pub mod bars;
pub mod idle;
pub mod reclaim;
pub mod session;
pub mod stop;

use std::collections::{HashMap, HashSet};

use crate::core::ledger::identity::LeaseId;
use crate::core::ledger::numbers::{SessionNumber, Slot, TallyId};
use crate::core::ledger::seat::Kind;
use crate::core::ledger::time::Timestamp;
use crate::holders::{Holders, TakenSeat, in_time};
use crate::memory::termination::{self, Why};
use crate::memory::{self};
use crate::pg::backend;
use crate::pg::status::Activity;

/// A session that is to end.
#[derive(Clone, Copy)]
struct Ender {
    slot: Slot,
    number: SessionNumber,
    pid: i32,
    /// The time since which it is inactive, according to its status.
    inactive_since: Timestamp,
}

impl Ender {
    /// Returns the sessions that hold a seat, each once.
    fn all_of(seat: TakenSeat, activities: &HashMap<i32, Activity>) -> Vec<Ender> {
        let mut all: Vec<Ender> = Vec::new();
        for (slot, session) in seat
            .holders()
            .filter_map(|holder| holder.session_and_slot())
        {
            if all.iter().all(|ender| ender.number != session.number) {
                let activity = activities.get(&session.pid);
                all.push(Ender {
                    slot,
                    number: session.number,
                    pid: session.pid,
                    inactive_since: activity.map_or(0, |activity| activity.status_since),
                });
            }
        }
        all
    }
}

/// Requests sessions to end, with the reason. Sessions that have ended meanwhile are left alone: none can leave under
/// the ledger's lock, so no signal goes to a process that has since become another's.
fn bid(sessions: &[Ender], why: Why, text: &str) {
    memory::write(|ledger| {
        for ender in sessions {
            let there = ledger.sessions.get(ender.slot);
            if there.is_some_and(|session| session.number == ender.number) {
                termination::bid(ender.slot, ender.number, why, ender.inactive_since, text);
                backend::signal_to_end(ender.pid, why == Why::Stopped);
            }
        }
    });
}

/// Returns those of the sessions that have not ended.
fn still_there(sessions: &[Ender]) -> Vec<Ender> {
    let mut left = Vec::with_capacity(sessions.len());
    memory::read(|ledger| {
        left.extend(sessions.iter().filter(|ender| {
            let there = ledger.sessions.get(ender.slot);
            there.is_some_and(|session| session.number == ender.number)
        }));
    });
    left
}

/// Returns the leases among a seat's holders.
fn leases_of(seat: TakenSeat) -> Vec<LeaseId> {
    seat.holders()
        .filter_map(|holder| holder.hold)
        .filter(|hold| hold.kind() == Kind::Lease)
        .map(|hold| hold.key.lease_id())
        .collect()
}

/// The inactivity of seats, as it was at one moment.
struct Inactivity {
    holders: Holders,
    activities: HashMap<i32, Activity>,
    /// The leases that are lent to transactions.
    lent: HashSet<LeaseId>,
    now: Timestamp,
}

/// The time since which a seat is inactive, and whether any of its sessions is in a transaction.
struct Inactive {
    since: Timestamp,
    in_transaction: bool,
}

impl Inactivity {
    /// Looks at the seats of these tallies.
    fn of(is_wanted: impl Fn(TallyId) -> bool, activities: HashMap<i32, Activity>) -> Inactivity {
        let (activities, now) = in_time(activities);
        let holders = Holders::of(is_wanted);
        let lent = holders.lent().collect();
        Inactivity {
            holders,
            activities,
            lent,
            now,
        }
    }

    /// Returns a seat's inactivity; `None` for a seat that nobody may take away, because a holder is active or a
    /// superuser.
    fn of_seat(&self, seat: TakenSeat) -> Option<Inactive> {
        let mut inactive = Inactive {
            since: Timestamp::MIN,
            in_transaction: false,
        };
        for holder in seat.holders() {
            let since = match (holder.session, holder.hold) {
                (Some(session), _) if session.superuser => return None,
                (Some(session), _) => {
                    let activity = self.activities.get(&session.pid)?;
                    inactive.in_transaction |= activity.in_transaction;
                    activity.inactive_since?
                }
                (None, Some(lease)) if lease.pending => return None,
                (None, Some(lease)) if self.lent.contains(&lease.key.lease_id()) => return None,
                (None, lease) => lease?.since(),
            };
            inactive.since = inactive.since.max(since);
        }
        (inactive.since != Timestamp::MIN).then_some(inactive)
    }
}
