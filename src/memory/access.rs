//! Reads and writes the ledger under its lock.
#![allow(unsafe_code, reason = "shared memory is raw memory")]

use std::time::Duration;

use pgrx::pg_sys;

use super::segment::{Held, attached, if_attached};
use super::shared::{Shared, SharedTable};
use crate::core::ledger::Ledger;
use crate::core::ledger::numbers::{SessionNumber, Slot};
use crate::core::ledger::session::Session;
use crate::core::ledger::table::{Entry, Table};
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
    let mut wakes_launcher = false;
    if ledger.head.time.shows_pause(clocks) {
        wakes_launcher = ledger.look_at(clock::look_closely());
        attached.keep_time();
    }
    let result = change(&mut ledger);
    if std::mem::take(&mut ledger.head.ring) {
        ledger.each_to_wake(backend::wake);
    }
    if ledger.needs_watch() {
        ledger.watch(clocks);
        wakes_launcher = true;
    }
    if wakes_launcher || ledger.head.next_due < due.0 || ledger.head.next_write < due.1 {
        attached.wake_launcher();
    }
    result
}

/// The exclusive right to read much, until this is dropped.
pub struct ReadersLock(#[expect(dead_code, reason = "released when dropped")] Held);

/// Waits until no other process reads much, and keeps others from it until the result is dropped.
pub fn readers_lock() -> ReadersLock {
    let exclusive = pg_sys::LWLockMode::LW_EXCLUSIVE;
    ReadersLock(Held::acquire(attached().readers, exclusive))
}

/// How long a process that reads much pauses between two slices to let writers in.
const PAUSE: Duration = Duration::from_micros(50);

/// The most entries that are read under one hold of the lock.
const SLICE: usize = 256;

/// How many entries more a slice may have, because those of a table come in whole buckets.
const SPARE: usize = 64;

/// Pauses between two slices, so that those who wait to write get the lock.
pub fn let_others_by() {
    std::thread::sleep(PAUSE);
}

/// Adds an entry if there is room, because nothing may be allocated under the lock.
pub fn push<E>(into: &mut Vec<E>, entry: E) {
    if into.len() < into.capacity() {
        into.push(entry);
    }
}

/// Returns what `find` finds in the ledger, as it is at one moment. Room for as many as are `expected` is made before,
/// and for more if they are more; then they are found anew.
pub fn collect<E>(
    expected: impl FnOnce(&Ledger<'static, Shared>) -> usize,
    find: impl Fn(&Ledger<'static, Shared>, &mut dyn FnMut(E)),
) -> Vec<E> {
    let mut found = Vec::with_capacity(read(expected));
    loop {
        let mut count = 0;
        read(|ledger| {
            find(ledger, &mut |entry| {
                count += 1;
                push(&mut found, entry);
            });
        });
        if count == found.len() {
            return found;
        }
        found.clear();
        found.reserve(count + SPARE);
    }
}

/// Copies much out of the ledger: `copy` adds the slice that begins at an index, and returns where the next one begins.
/// What was copied is passed on outside the lock.
fn in_slices<P>(
    mut copy: impl FnMut(&Ledger<'static, Shared>, usize, &mut Vec<P>) -> Option<usize>,
    mut see: impl FnMut(P),
) {
    let mut slice = Vec::with_capacity(SLICE + SPARE);
    let mut from = Some(0);
    while let Some(begin) = from {
        from = read(|ledger| copy(ledger, begin, &mut slice));
        slice.drain(..).for_each(&mut see);
        if from.is_some() {
            let_others_by();
        }
    }
}

/// Passes on what `part` makes of each entry of a table, in slices. If the table grows meanwhile, an entry may be seen
/// twice.
pub fn each_entry<E: Entry, P>(
    table: impl Fn(&Ledger<'static, Shared>) -> SharedTable<E>,
    mut part: impl FnMut(&Ledger<'static, Shared>, &E) -> Option<P>,
    see: impl FnMut(P),
) {
    let copy = |ledger: &Ledger<'static, Shared>, from, slice: &mut Vec<P>| {
        table(ledger).each_from(from, SLICE, |entry| {
            if let Some(part) = part(ledger, entry) {
                push(slice, part);
            }
        })
    };
    in_slices(copy, see);
}

/// Passes on what `part` makes of each session and its slot, taken or free, in slices.
pub fn each_session<P>(
    part: impl Fn(&Ledger<'static, Shared>, Slot, &Session) -> Option<P>,
    see: impl FnMut(P),
) {
    let copy = |ledger: &Ledger<'static, Shared>, from, slice: &mut Vec<P>| {
        for (slot, session) in ledger.sessions.each().skip(from).take(SLICE) {
            if let Some(part) = part(ledger, slot, session) {
                push(slice, part);
            }
        }
        let next = from + SLICE;
        (next < ledger.sessions.len()).then_some(next)
    };
    in_slices(copy, see);
}

/// Returns a copy of every session slot, taken or free.
pub fn sessions() -> Vec<Session> {
    let mut sessions = Vec::new();
    each_session(
        |_, _, session| Some(*session),
        |session| sessions.push(session),
    );
    sessions
}

/// Returns this backend's session; `None` if it serves no client.
pub fn this_session() -> Option<Session> {
    let slot = backend::slot();
    let session = read(|ledger| ledger.sessions.get(slot).copied());
    session.filter(|session| session.number != SessionNumber::NONE)
}
