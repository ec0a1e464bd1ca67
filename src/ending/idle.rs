//! Logs off seats that are inactive for longer than their license's `idle_timeout`. The launcher looks no more often
//! than a seat can be due.

use std::collections::HashSet;

use super::{Ender, Inactivity, bid, leases_of};
use crate::core::ledger::event::Leaving;
use crate::core::ledger::license::License;
use crate::core::ledger::numbers::{DatabaseOid, TallyId};
use crate::core::ledger::table::Table;
use crate::core::ledger::time::Timestamp;
use crate::holders::TakenSeat;
use crate::memory;
use crate::memory::termination::Why;
use crate::pg::error::quoted;
use crate::pg::{backend, status};

/// A license with an idle timeout.
struct Limited {
    database: DatabaseOid,
    tally: TallyId,
    product: String,
    timeout: Timestamp,
}

/// How soon a seat that should have ended is looked at again, in microseconds.
const AGAIN_AFTER: Timestamp = 1_000_000;

/// Logs off the seats that are inactive for too long, and returns when the next one may be due; `None` if no license
/// has an idle timeout. It must be called in a transaction.
pub fn log_off() -> Option<Timestamp> {
    let limited = limited();
    if limited.is_empty() {
        return None;
    }
    // A set, because it is asked about every holder under the lock.
    let tallies: HashSet<TallyId> = limited.iter().map(|license| license.tally).collect();
    let look = Inactivity::of(|tally| tallies.contains(&tally), status::activities());
    let mut next = Timestamp::MAX;
    for seat in look.holders.seats() {
        let Some((license, timeout)) = timeout_of(&limited, seat) else {
            continue;
        };
        let inactive = look.of_seat(seat);
        let due = inactive.as_ref().map_or(look.now, |seat| seat.since);
        let due = due.saturating_add(timeout);
        if due > look.now {
            next = next.min(due);
            continue;
        }
        next = next.min(look.now.saturating_add(AGAIN_AFTER));
        let sessions = Ender::all_of(seat, &look.activities);
        if sessions.is_empty() {
            let leases = leases_of(seat);
            let since = inactive.map_or(0, |seat| seat.since);
            memory::write(|ledger| {
                ledger.end_leases(&leases, Leaving::IdleLogOff, since, backend::now())
            });
        } else {
            let text = format!(
                "Nobody was active at this seat of {} for {}.",
                quoted(&license.product),
                spoken(timeout)
            );
            bid(&sessions, Why::Idle, &text);
        }
    }
    // A holder that arrives from now on is due no sooner than this.
    let shortest = limited.iter().map(|license| license.timeout).min()?;
    Some(next.min(look.now.saturating_add(shortest)))
}

fn limited() -> Vec<Limited> {
    let rows: Vec<License> = memory::collect(
        |ledger| ledger.licenses.len(),
        |ledger, find| {
            ledger.licenses.each(|license| {
                if license.idle_timeout.is_some() {
                    find(*license);
                }
            });
        },
    );
    rows.iter()
        .filter_map(|license| {
            Some(Limited {
                database: license.key.database,
                tally: license.tally,
                product: license.product.to_string(),
                timeout: license.idle_timeout?,
            })
        })
        .collect()
}

/// Returns the longest timeout among the databases in which a seat is held; `None` if one of them has none.
fn timeout_of<'a>(limited: &'a [Limited], seat: TakenSeat) -> Option<(&'a Limited, Timestamp)> {
    let mut longest: Option<&Limited> = None;
    for holder in seat.holders() {
        let license = limited
            .iter()
            .find(|license| license.tally == seat.tally && license.database == holder.database())?;
        if longest.is_none_or(|longest| license.timeout > longest.timeout) {
            longest = Some(license);
        }
    }
    longest.map(|license| (license, license.timeout))
}

/// Returns a time in words, in whole units of the largest that fits.
fn spoken(time: Timestamp) -> String {
    let seconds = time / 1_000_000;
    let (count, unit) = match seconds {
        s if s >= 3_600 && s % 3_600 == 0 => (s / 3_600, "hour"),
        s if s >= 60 && s % 60 == 0 => (s / 60, "minute"),
        s => (s, "second"),
    };
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{plural}")
}
