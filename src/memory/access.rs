//! Reads and writes the ledger under its lock.
#![allow(unsafe_code, reason = "shared memory is raw memory")]

use std::time::Duration;

use pgrx::pg_sys;

use super::segment::{Held, attached, if_attached};
use super::shared::Shared;
use crate::core::ledger::Ledger;
use crate::core::ledger::session::Session;
use crate::pg::{backend, clock};

/// Reads the ledger under the shared lock.
pub fn read<R>(look: impl FnOnce(&Ledger<'static, Shared>) -> R) -> R {
    let attached = attached();
    let _held = Held::acquire(attached.lock, pg_sys::LWLockMode::LW_SHARED);
    // SAFETY: the lock is held, and through a shared reference the caller only reads.
    look(&unsafe { attached.ledger() })
}

/// Reads the ledger in the postmaster when every other process has ended. `None` after an immediate shutdown, which
/// interrupts every process: then the ledger may be half changed and its lock held for ever, and the postmaster can't
/// wait for a lock.
pub fn read_last<R>(look: impl FnOnce(&Ledger<'static, Shared>) -> R) -> Option<R> {
    let attached = if_attached()?;
    // SAFETY: `control` points into shared memory, which no other process changes any more.
    let launcher = unsafe { (*attached.control).launcher };
    // A launcher that ends in order removes itself.
    if !launcher.is_null() {
        return None;
    }
    let _held = Held::acquire_if_free(attached.lock)?;
    // SAFETY: the lock is held, and through a shared reference the caller only reads.
    Some(look(&unsafe { attached.ledger() }))
}

/// Changes the ledger under the exclusive lock, and wakes those whom the change concerns. Before the change a pause is
/// noticed, so that nobody ends anything that is due by the clocks alone; a `change` that depends on the time reads it
/// itself.
pub fn write<R>(change: impl FnOnce(&mut Ledger<'static, Shared>) -> R) -> R {
    let attached = attached();
    let _held = Held::acquire(attached.lock, pg_sys::LWLockMode::LW_EXCLUSIVE);
    // SAFETY: this process holds the lock exclusively.
    let mut ledger = unsafe { attached.ledger() };
    let due = (ledger.head.next_due, ledger.head.next_write);
    let clocks = clock::look();
    let mut to_be_told = false;
    if ledger.head.time.shows_pause(clocks) {
        to_be_told = ledger.look_at(clock::look_closely());
        attached.keep_time();
    }
    let result = change(&mut ledger);
    if std::mem::take(&mut ledger.head.ring) {
        ledger.each_to_wake(backend::wake);
    }
    if ledger.needs_watch() {
        ledger.watch(clocks);
        to_be_told = true;
    }
    if to_be_told || ledger.head.next_due < due.0 || ledger.head.next_write < due.1 {
        attached.wake_launcher();
    }
    result
}

/// Returns how many sessions there can be.
pub fn places() -> usize {
    attached().places
}

/// The exclusive right to read much, until this is dropped.
pub struct Turn(#[expect(dead_code, reason = "released when dropped")] Held);

/// Waits until no other process reads much, and keeps others from it until the result is dropped.
pub fn turn() -> Turn {
    let exclusive = pg_sys::LWLockMode::LW_EXCLUSIVE;
    Turn(Held::acquire(attached().readers, exclusive))
}

/// How long a process that reads much pauses between two slices to let writers in.
const PAUSE: Duration = Duration::from_micros(50);

/// The most entries that are read under one hold of the lock.
pub const SLICE: usize = 256;

/// Pauses between two slices, so that those who wait to write get the lock.
pub fn let_others_by() {
    std::thread::sleep(PAUSE);
}

/// Returns a copy of every session slot, taken or free. If there are many, they are not all copied at the same moment.
pub fn sessions() -> Vec<Session> {
    let places = places();
    let mut sessions = Vec::with_capacity(places);
    for from in (0..places).step_by(SLICE) {
        if from > 0 {
            let_others_by();
        }
        read(|ledger| {
            let slice = ledger.sessions.iter().skip(from).take(SLICE);
            sessions.extend(slice.copied());
        });
    }
    sessions
}

/// Returns this backend's session; `None` if it serves no client.
pub fn this_session() -> Option<Session> {
    let at = backend::place();
    let session = read(|ledger| ledger.sessions.get(at).copied());
    session.filter(|session| session.number != 0)
}
