//! Waits in the queue for a seat.

use std::time::{Duration, Instant};

use crate::core::ledger::acts::checkout::Receipt;
use crate::core::ledger::numbers::Ticket;
use crate::core::ledger::words::Enforcement;
use crate::ending::reclaim;
use crate::pg::backend;
use crate::{memory, rules};

/// This session's position in the queue, which it leaves when this is dropped: also by a cancel, timeout or error. A
/// backend that is terminated leaves the queue at its exit.
struct Queued(Ticket);

impl Drop for Queued {
    fn drop(&mut self) {
        memory::write(|ledger| ledger.leave(self.0, backend::now()));
    }
}

/// How soon a session in the queue tries again to read rules that it could not read, or to have idle seats give way.
const RETRY: Duration = Duration::from_secs(1);

/// Waits for this session's turn, and returns its seat. It returns an error at the deadline, or if as things are now it
/// would wait in vain: then the caller should ask anew, under the enforcement returned, which is the server's and which
/// this session itself may not know yet.
pub fn wait(ticket: Ticket, deadline: Instant) -> Result<Receipt, Enforcement> {
    let _queued = Queued(ticket);
    let mut read_again_at = Instant::now();
    let mut ask_again_at = Instant::now() + RETRY;
    loop {
        let now = backend::now();
        let (receipt, until, reclaim) = memory::write(|ledger| {
            (
                ledger.collect(ticket, now),
                ledger.may_wait_until(ticket, now),
                ledger.reclaim_in_queue(ticket),
            )
        });
        if let Some(receipt) = receipt {
            return Ok(receipt);
        }
        let valid = Duration::from_micros(until?.saturating_sub(now).unsigned_abs());
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Enforcement::On);
        }
        let mut pause = left.min(valid);
        if let Some(reclaim) = reclaim {
            let wait = ask_again_at.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                if memory::write(|ledger| ledger.begin_to_ask(ticket, now)) {
                    reclaim::ask(reclaim, deadline);
                }
                ask_again_at = Instant::now() + RETRY;
                // Asking may have consumed the wake-up.
                continue;
            }
            pause = pause.min(wait);
        }
        if !memory::rules::are_current(backend::database()) {
            let wait = read_again_at.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                // A change may free seats for the queue: whoever puts it in force wakes those who get one.
                rules::refresh();
                read_again_at = Instant::now() + RETRY;
                // Reading may have consumed the wake-up.
                continue;
            }
            pause = pause.min(wait);
        }
        backend::wait_for_wake(pause.max(Duration::from_millis(1)));
    }
}
