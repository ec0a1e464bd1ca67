//! The ledger in shared memory, behind one lock.
//!
//! Locking rules: everything here is read and written under the one lock "pg_seats". Under it
//! nothing raises an error, waits or allocates: callers make room before, copy out, release, and
//! speak afterwards. [`read`] takes it shared, [`write`] exclusive; they do not nest.
//!
//! All of it is rebuilt empty when the server starts, and after a crash of any backend: then every
//! session is gone too.
#![allow(unsafe_code, reason = "shared memory is raw memory")]

pub mod farewell;
mod shared;

use std::ffi::c_long;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::time::Duration;

use pgrx::pg_sys;

use crate::ledger::bar::Bar;
use crate::ledger::event::{EVENTS, Event};
use crate::ledger::hold::{Hold, LongName};
use crate::ledger::license::License;
use crate::ledger::line::Wait;
use crate::ledger::reservation::Reservation;
use crate::ledger::rules::Exemption;
use crate::ledger::session::{Seat, SeatIds, Session};
use crate::ledger::{Database, Head, Ledger, Tally};
use crate::pg::{backend, unguarded};
use crate::settings;
use farewell::Farewell;
pub use shared::Shared;
use shared::{Block, SharedTable};

/// What is in shared memory beside the tables.
#[repr(C)]
struct Control {
    head: Head,
    /// The launcher's latch, while there is a launcher.
    launcher: *mut pg_sys::Latch,
    /// Signalled whenever a database's rules have been read.
    rules_read: pg_sys::ConditionVariable,
}

/// Where this process finds everything: made by the postmaster, inherited by every backend.
struct Attached {
    lock: *mut pg_sys::LWLock,
    control: *mut Control,
    sessions: *mut Session,
    farewells: *const Farewell,
    places: usize,
    databases: SharedTable<Database>,
    licenses: SharedTable<License>,
    exemptions: SharedTable<Exemption>,
    reservations: SharedTable<Reservation>,
    tallies: SharedTable<Tally>,
    seats: SharedTable<Seat>,
    holds: SharedTable<Hold>,
    waits: SharedTable<Wait>,
    long_names: SharedTable<LongName>,
    bars: SharedTable<Bar>,
    events: SharedTable<Event>,
    texts: SharedTable<LongName>,
}

static ATTACHED: AtomicPtr<Attached> = AtomicPtr::new(ptr::null_mut());

const NAME: &std::ffi::CStr = c"pg_seats";

/// How many can be barred at once.
const BARS: usize = 64;

/// How many different texts of theirs can be too long for a label.
const TEXTS: usize = 32;

/// How many entries each table has room for.
struct Sizes {
    places: usize,
    databases: usize,
    rows: usize,
    reservations: usize,
    tallies: usize,
    seats: usize,
    holds: usize,
    long_names: usize,
}

impl Sizes {
    fn tables(&self) -> usize {
        SharedTable::<Database>::bytes(self.databases)
            + SharedTable::<License>::bytes(self.rows)
            + SharedTable::<Exemption>::bytes(self.rows)
            + SharedTable::<Reservation>::bytes(self.reservations)
            + SharedTable::<Tally>::bytes(self.tallies)
            + SharedTable::<Seat>::bytes(self.seats)
            + SharedTable::<Hold>::bytes(self.holds)
            + SharedTable::<Wait>::bytes(self.places)
            + SharedTable::<LongName>::bytes(self.long_names)
            + SharedTable::<Bar>::bytes(BARS)
            + SharedTable::<Event>::bytes(EVENTS)
            + SharedTable::<LongName>::bytes(TEXTS)
    }
}

fn sizes() -> Sizes {
    // SAFETY: set before the hooks that call this.
    let places = usize::try_from(unsafe { pg_sys::MaxBackends }).unwrap_or(0);
    let max_seats = settings::max_seats();
    let rows = (max_seats / 50).max(200);
    Sizes {
        places,
        databases: rows.max(256),
        rows,
        reservations: rows / 4,
        // New rules find their tallies before those of the former ones go.
        tallies: rows + 64,
        // Twice for every session, while two rules of counting are compared.
        seats: max_seats + 2 * places,
        // One for everyone in line.
        holds: max_seats + places,
        long_names: (max_seats / 100).max(256),
    }
}

/// Asks for shared memory and the lock. Called by the postmaster before it makes them.
pub fn request() {
    let sizes = sizes();
    // SAFETY: called in the shmem_request hook.
    unsafe {
        let bytes = size_of::<Control>()
            + sizes.places * (size_of::<Session>() + size_of::<Farewell>())
            + Block::bytes(sizes.tables());
        pg_sys::RequestAddinShmemSpace(bytes);
        pg_sys::RequestNamedLWLockTranche(NAME.as_ptr(), 1);
    }
}

/// Makes the ledger, empty. Called by the postmaster alone, at the start and after a crash.
pub fn create() {
    let sizes = sizes();
    // SAFETY: called in the shmem_startup hook, before there is any other process; the structures
    // are written whole before anyone reads them.
    unsafe {
        let mut found = false;
        let sessions = pg_sys::ShmemInitStruct(
            c"pg_seats sessions".as_ptr(),
            sizes.places * size_of::<Session>(),
            &raw mut found,
        )
        .cast::<Session>();
        for place in 0..sizes.places {
            sessions.add(place).write(Session::FREE);
        }
        let farewells = pg_sys::ShmemInitStruct(
            c"pg_seats farewells".as_ptr(),
            sizes.places * size_of::<Farewell>(),
            &raw mut found,
        )
        .cast::<Farewell>();
        for place in 0..sizes.places {
            farewells.add(place).write(Farewell::none());
        }
        let control = pg_sys::ShmemInitStruct(
            c"pg_seats control".as_ptr(),
            size_of::<Control>(),
            &raw mut found,
        )
        .cast::<Control>();
        control.write(Control {
            head: Head::default(),
            launcher: ptr::null_mut(),
            rules_read: std::mem::zeroed(),
        });
        (*control).head.max_seats = settings::max_seats();
        (*control).head.seat_ids = SeatIds(backend::random_uuid().unwrap_or(0));
        pg_sys::ConditionVariableInit(&raw mut (*control).rules_read);
        Block::create(sizes.tables());
        let attached = Box::new(Attached {
            lock: &raw mut (*pg_sys::GetNamedLWLockTranche(NAME.as_ptr())).lock,
            control,
            sessions,
            farewells,
            places: sizes.places,
            databases: SharedTable::create(c"pg_seats databases", sizes.databases),
            licenses: SharedTable::create(c"pg_seats licenses", sizes.rows),
            exemptions: SharedTable::create(c"pg_seats exemptions", sizes.rows),
            reservations: SharedTable::create(c"pg_seats reservations", sizes.reservations),
            tallies: SharedTable::create(c"pg_seats tallies", sizes.tallies),
            seats: SharedTable::create(c"pg_seats seats", sizes.seats),
            holds: SharedTable::create(c"pg_seats holds", sizes.holds),
            waits: SharedTable::create(c"pg_seats waits", sizes.places),
            long_names: SharedTable::create(c"pg_seats long names", sizes.long_names),
            bars: SharedTable::create(c"pg_seats bars", BARS),
            events: SharedTable::create(c"pg_seats events", EVENTS),
            texts: SharedTable::create(c"pg_seats texts", TEXTS),
        });
        ATTACHED.store(Box::into_raw(attached), Ordering::Relaxed);
    }
}

fn attached() -> Option<&'static Attached> {
    // SAFETY: null, or made by `create` and never freed.
    unsafe { ATTACHED.load(Ordering::Relaxed).as_ref() }
}

/// True when the library was preloaded, so that there is a ledger.
pub fn is_attached() -> bool {
    attached().is_some()
}

/// The lock, held until dropped.
struct Held(*mut pg_sys::LWLock);

impl Held {
    fn acquire(lock: *mut pg_sys::LWLock, mode: pg_sys::LWLockMode::Type) -> Held {
        // SAFETY: our own lock, in shared memory.
        unsafe { unguarded::LWLockAcquire(lock, mode) };
        Held(lock)
    }

    /// `None` where somebody holds it.
    fn acquire_if_free(lock: *mut pg_sys::LWLock) -> Option<Held> {
        // SAFETY: our own lock, in shared memory.
        let taken =
            unsafe { unguarded::LWLockConditionalAcquire(lock, pg_sys::LWLockMode::LW_SHARED) };
        taken.then(|| Held(lock))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: held since it was acquired; nothing under it raises an error that would release it.
        unsafe { unguarded::LWLockRelease(self.0) };
    }
}

impl Attached {
    /// Wakes the launcher, if there is one. The caller holds the lock, so that it can't leave
    /// meanwhile.
    fn wake_launcher(&self) {
        // SAFETY: the latch is in shared memory; setting one neither waits nor fails.
        unsafe {
            let latch = (*self.control).launcher;
            if !latch.is_null() {
                unguarded::SetLatch(latch);
            }
        }
    }

    /// The ledger. The caller holds the lock, and through a shared one it only reads.
    unsafe fn ledger(&self) -> Ledger<'static, Shared> {
        // SAFETY: in shared memory for as long as the server runs, and lent to one caller at a
        // time by the lock.
        unsafe {
            Ledger {
                head: &mut (*self.control).head,
                sessions: std::slice::from_raw_parts_mut(self.sessions, self.places),
                databases: self.databases,
                licenses: self.licenses,
                exemptions: self.exemptions,
                reservations: self.reservations,
                tallies: self.tallies,
                seats: self.seats,
                holds: self.holds,
                waits: self.waits,
                long_names: self.long_names,
                bars: self.bars,
                events: self.events,
                texts: self.texts,
            }
        }
    }
}

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

/// Changes the ledger, and wakes whom the change concerns. `None` when the library was not preloaded.
pub fn write<R>(change: impl FnOnce(&mut Ledger<'static, Shared>) -> R) -> Option<R> {
    let attached = attached()?;
    let _held = Held::acquire(attached.lock, pg_sys::LWLockMode::LW_EXCLUSIVE);
    // SAFETY: the lock is held by this process alone.
    let mut ledger = unsafe { attached.ledger() };
    let due = (ledger.head.next_due, ledger.head.next_write);
    let result = change(&mut ledger);
    if std::mem::take(&mut ledger.head.ring) {
        ledger.each_to_wake(backend::wake);
    }
    if ledger.head.next_due < due.0 || ledger.head.next_write < due.1 {
        attached.wake_launcher();
    }
    Some(result)
}

/// How many sessions there can be.
pub fn places() -> usize {
    attached().map_or(0, |attached| attached.places)
}

/// A copy of every place for a session, taken or free.
pub fn sessions() -> Vec<Session> {
    let mut sessions = Vec::with_capacity(places());
    read(|ledger| sessions.extend_from_slice(ledger.sessions));
    sessions
}

/// Tells those who wait for a database's rules that some have been read.
pub fn announce_rules_read() {
    if let Some(attached) = attached() {
        // SAFETY: initialised by `create`.
        unsafe { pg_sys::ConditionVariableBroadcast(&raw mut (*attached.control).rules_read) };
    }
}

/// Waits until some rules have been read, at most this long.
pub fn await_rules_read(patience: Duration) {
    if let Some(attached) = attached() {
        let milliseconds = c_long::try_from(patience.as_millis()).unwrap_or(c_long::MAX);
        // SAFETY: initialised by `create`; may end with an error when the session is cancelled.
        unsafe {
            pg_sys::ConditionVariableTimedSleep(
                &raw mut (*attached.control).rules_read,
                milliseconds.max(1),
                pg_sys::PG_WAIT_EXTENSION,
            );
        }
    }
}

/// Ends a wait that was begun by [`await_rules_read`].
pub fn stop_awaiting() {
    // SAFETY: does nothing when nothing is awaited.
    unsafe { pg_sys::ConditionVariableCancelSleep() };
}

/// Makes this process the launcher, or no longer.
pub fn set_launcher(present: bool) {
    if let Some(attached) = attached() {
        let _held = Held::acquire(attached.lock, pg_sys::LWLockMode::LW_EXCLUSIVE);
        // SAFETY: the lock is held; the latch is this process's own, in shared memory.
        unsafe {
            (*attached.control).launcher = if present {
                pg_sys::MyLatch
            } else {
                ptr::null_mut()
            };
        }
    }
}

/// Wakes the launcher, if there is one.
pub fn wake_launcher() {
    if let Some(attached) = attached() {
        let _held = Held::acquire(attached.lock, pg_sys::LWLockMode::LW_SHARED);
        attached.wake_launcher();
    }
}
