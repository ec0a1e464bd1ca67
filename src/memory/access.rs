//! Reads and writes the ledger under its lock.
#![allow(unsafe_code, reason = "shared memory is raw memory")]

use std::time::Duration;

use pgrx::pg_sys;

use super::segment::{Held, attached};
use super::shared::Shared;
use crate::core::ledger::Ledger;
use crate::core::ledger::session::Session;
use crate::pg::{backend, clock};

/// Looks at the ledger. `None` when the library was not preloaded.
pub fn read<R>(look: impl FnOnce(&Ledger<'static, Shared>) -> R) -> Option<R> {
    let attached = attached()?;
    let _held = Held::acquire(attached.lock, pg_sys::LWLockMode::LW_SHARED);
    // SAFETY: the lock is held, and a shared reference only reads.
    Some(look(&unsafe { attached.ledger() }))
}

/// Looks at the ledger in the postmaster, when every other process has ended. `None` also after an
/// immediate shutdown, which interrupts everybody: then the ledger may be half changed, and its lock
/// taken for ever, and the postmaster can't wait for a lock.
pub fn read_last<R>(look: impl FnOnce(&Ledger<'static, Shared>) -> R) -> Option<R> {
    let attached = attached()?;
    // SAFETY: in shared memory, which nobody changes any more.
    let launcher = unsafe { (*attached.control).launcher };
    // A launcher that ends in order takes its leave.
    if !launcher.is_null() {
        return None;
    }
    let _held = Held::acquire_if_free(attached.lock)?;
    // SAFETY: the lock is held, and a shared reference only reads.
    Some(look(&unsafe { attached.ledger() }))
}

/// Changes the ledger, and wakes whom the change concerns. Before that a pause is noticed, so that nobody ends
/// what is due by the clocks alone: `change` asks for the time itself where that matters. `None` when the library was
/// not preloaded.
pub fn write<R>(change: impl FnOnce(&mut Ledger<'static, Shared>) -> R) -> Option<R> {
    let attached = attached()?;
    let _held = Held::acquire(attached.lock, pg_sys::LWLockMode::LW_EXCLUSIVE);
    // SAFETY: the lock is held by this process alone.
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
    Some(result)
}

/// How many sessions there can be.
pub fn places() -> usize {
    attached().map_or(0, |attached| attached.places)
}

/// The turn of a process that reads much, until this is dropped.
pub struct Turn(#[expect(dead_code, reason = "released when dropped")] Option<Held>);

/// Waits until no other process reads much.
pub fn turn() -> Turn {
    let exclusive = pg_sys::LWLockMode::LW_EXCLUSIVE;
    Turn(attached().map(|attached| Held::acquire(attached.readers, exclusive)))
}

/// How long whoever reads much lets others by, between two slices.
const PAUSE: Duration = Duration::from_micros(50);

/// So many entries are read under one hold of the lock.
pub const SLICE: usize = 256;

/// Lets those by who wait to write, between two slices.
pub fn let_others_by() {
    std::thread::sleep(PAUSE);
}

/// A copy of every place for a session, taken or free: not all of one moment where there are many.
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

/// Returns this backend's session; `None` where it serves no client.
pub fn this_session() -> Option<Session> {
    let at = backend::place();
    read(|ledger| ledger.sessions.get(at).copied())
        .flatten()
        .filter(|session| session.number != 0)
}
