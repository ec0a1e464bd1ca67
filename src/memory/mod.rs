//! The ledger in shared memory, behind one lock.
//!
//! Locking rules: everything here is read and written under the one lock "pg_seats". Under it
//! nothing raises an error, waits or allocates: callers make room before, copy out, release, and
//! speak afterwards. [`read`] takes it shared, [`write`] exclusive; they do not nest.
//!
//! Who reads much reads in slices, and sleeps a moment between two of them: such locks are not fair, and who reads
//! without a pause passes all who wait to write. One at a time does so: a [`turn`] is the second lock "pg_seats
//! readers", taken before the first one, and never by who logs in or ends.
//!
//! All of it is rebuilt empty when the server starts, and after a crash of any backend: then every
//! session is gone too.
#![allow(unsafe_code, reason = "shared memory is raw memory")]

pub mod farewell;
pub mod reserve;
mod shared;

use std::ptr;
use std::sync::atomic::{AtomicI64, AtomicPtr, Ordering};
use std::time::Duration;

use pgrx::pg_sys;

use crate::core::ledger::bar::Bar;
use crate::core::ledger::database::Database;
use crate::core::ledger::event::Event;
use crate::core::ledger::hold::{Hold, LongName, Spot};
use crate::core::ledger::license::License;
use crate::core::ledger::reservation::Reservation;
use crate::core::ledger::rules::Exemption;
use crate::core::ledger::seat::{Seat, SeatIds};
use crate::core::ledger::session::Session;
use crate::core::ledger::spell::{SPELLS, Spell};
use crate::core::ledger::taker::Taker;
use crate::core::ledger::tally::Tally;
use crate::core::ledger::time::Pause;
use crate::core::ledger::wait::Wait;
use crate::core::ledger::{Head, Ledger, room};
use crate::pg::{backend, clock, unguarded};
use crate::settings;
use farewell::Farewell;
use reserve::Reserve;
pub use shared::Shared;
use shared::{Block, SharedTable};

/// What is in shared memory beside the tables.
#[repr(C)]
struct Control {
    head: Head,
    /// The launcher's latch, while there is a launcher.
    launcher: *mut pg_sys::Latch,
    /// The visitor in reserve.
    reserve: Reserve,
    /// How much the ledger's time is ahead of that since the machine's start.
    ahead: AtomicI64,
    /// Signalled whenever a database's rules have been read.
    rules_read: pg_sys::ConditionVariable,
}

impl Control {
    /// Has every process go by the ledger's time. Only under the lock.
    fn keep_time(&self) {
        self.ahead.store(self.head.time.ahead, Ordering::Relaxed);
    }
}

/// Where this process finds everything: made by the postmaster, inherited by every backend.
struct Attached {
    lock: *mut pg_sys::LWLock,
    /// Held by whoever reads much.
    readers: *mut pg_sys::LWLock,
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
    takers: SharedTable<Taker>,
    holds: SharedTable<Hold>,
    spots: SharedTable<Spot>,
    waits: SharedTable<Wait>,
    long_names: SharedTable<LongName>,
    bars: SharedTable<Bar>,
    events: SharedTable<Event>,
    spells: SharedTable<Spell>,
    texts: SharedTable<LongName>,
}

static ATTACHED: AtomicPtr<Attached> = AtomicPtr::new(ptr::null_mut());

const NAME: &std::ffi::CStr = c"pg_seats";
const READERS: &std::ffi::CStr = c"pg_seats readers";

/// How many databases can have the extension, those that are just looked at among them.
const DATABASES: usize = 10_240;

/// How many entries each table has room for.
struct Sizes {
    places: usize,
    databases: usize,
    rules: usize,
    tallies: usize,
    seats: usize,
    holds: usize,
    long_names: usize,
    events: usize,
}

impl Sizes {
    fn tables(&self) -> usize {
        SharedTable::<Database>::bytes(self.databases)
            + SharedTable::<License>::bytes(self.rules)
            + SharedTable::<Exemption>::bytes(self.rules)
            + SharedTable::<Reservation>::bytes(self.rules)
            + SharedTable::<Tally>::bytes(self.tallies)
            + SharedTable::<Seat>::bytes(self.seats)
            + SharedTable::<Taker>::bytes(self.seats)
            + SharedTable::<Hold>::bytes(self.holds)
            + SharedTable::<Spot>::bytes(self.holds)
            + SharedTable::<Wait>::bytes(self.places)
            + SharedTable::<LongName>::bytes(self.long_names)
            + SharedTable::<Bar>::bytes(self.rules)
            + SharedTable::<Event>::bytes(self.events)
            + SharedTable::<Spell>::bytes(SPELLS)
            + SharedTable::<LongName>::bytes(room::texts(self.events))
    }
}

fn sizes() -> Sizes {
    // SAFETY: set before the hooks that call this.
    let places = usize::try_from(unsafe { pg_sys::MaxBackends }).unwrap_or(0);
    let max_seats = settings::max_seats();
    let max_rules = settings::max_rules();
    Sizes {
        places,
        databases: DATABASES,
        // Each may be all that there is: what is not used costs no memory.
        rules: max_rules,
        // New rules find their tallies before those of the former ones go, and leases keep those of
        // products that are licensed no longer.
        tallies: max_rules + max_rules / 4 + max_seats / 32 + 64,
        // Every login finds room, whatever applications hold, and once more while who is exempt is
        // judged.
        seats: max_seats + 2 * places,
        holds: max_seats,
        long_names: (max_seats / 100).max(256),
        events: settings::event_buffer(),
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
        pg_sys::RequestNamedLWLockTranche(READERS.as_ptr(), 1);
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
            reserve: Reserve::NONE,
            ahead: AtomicI64::new(0),
            rules_read: std::mem::zeroed(),
        });
        (*control).head.max_rules = settings::max_rules();
        (*control).head.seat_ids = SeatIds {
            first: backend::random_uuid().unwrap_or(0),
            salt: backend::random_uuid().unwrap_or(0),
        };
        let clocks = clock::look_closely();
        (*control).head.time.ahead = clocks.wall.saturating_sub(clocks.since_start);
        (*control).keep_time();
        clock::keep(&(*control).ahead);
        // Without random numbers it is told from others by the moment.
        let moment = backend::now().unsigned_abs().into();
        (*control).head.run = backend::random_uuid().unwrap_or(moment);
        pg_sys::ConditionVariableInit(&raw mut (*control).rules_read);
        Block::create(sizes.tables());
        let attached = Box::new(Attached {
            lock: &raw mut (*pg_sys::GetNamedLWLockTranche(NAME.as_ptr())).lock,
            readers: &raw mut (*pg_sys::GetNamedLWLockTranche(READERS.as_ptr())).lock,
            control,
            sessions,
            farewells,
            places: sizes.places,
            databases: SharedTable::create(c"pg_seats databases", sizes.databases),
            licenses: SharedTable::create(c"pg_seats licenses", sizes.rules),
            exemptions: SharedTable::create(c"pg_seats exemptions", sizes.rules),
            reservations: SharedTable::create(c"pg_seats reservations", sizes.rules),
            tallies: SharedTable::create(c"pg_seats tallies", sizes.tallies),
            seats: SharedTable::create(c"pg_seats seats", sizes.seats),
            takers: SharedTable::create(c"pg_seats takers", sizes.seats),
            holds: SharedTable::create(c"pg_seats holds", sizes.holds),
            spots: SharedTable::create(c"pg_seats spots", sizes.holds),
            waits: SharedTable::create(c"pg_seats waits", sizes.places),
            long_names: SharedTable::create(c"pg_seats long names", sizes.long_names),
            bars: SharedTable::create(c"pg_seats bars", sizes.rules),
            events: SharedTable::create(c"pg_seats events", sizes.events),
            spells: SharedTable::create(c"pg_seats spells", SPELLS),
            texts: SharedTable::create(c"pg_seats texts", room::texts(sizes.events)),
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

    /// Has every process go by the ledger's time. The caller holds the lock.
    fn keep_time(&self) {
        // SAFETY: in shared memory.
        unsafe { (*self.control).keep_time() };
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
                takers: self.takers,
                holds: self.holds,
                spots: self.spots,
                waits: self.waits,
                long_names: self.long_names,
                bars: self.bars,
                events: self.events,
                spells: self.spells,
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

/// Has the ledger know that the launcher looks: whether it is expected to do so again soon, and the last pause.
pub fn launcher_looks() -> (bool, Option<Pause>) {
    let looked = write(|ledger| {
        let watches = ledger.launcher_looks(clock::look_closely());
        if let Some(attached) = attached() {
            attached.keep_time();
        }
        (watches, ledger.head.time.last)
    });
    looked.unwrap_or((false, None))
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
        let milliseconds = backend::milliseconds(patience);
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

/// Returns whether there is a launcher.
pub fn has_launcher() -> bool {
    attached().is_some_and(|attached| {
        let _held = Held::acquire(attached.lock, pg_sys::LWLockMode::LW_SHARED);
        // SAFETY: the lock is held.
        unsafe { !(*attached.control).launcher.is_null() }
    })
}

/// Makes this process the launcher, or no longer: then the visitor in reserve sees to it that there is one again.
pub fn set_launcher(present: bool) {
    if let Some(attached) = attached() {
        let _held = Held::acquire(attached.lock, pg_sys::LWLockMode::LW_EXCLUSIVE);
        // SAFETY: the lock is held; the latch is this process's own, in shared memory.
        unsafe {
            if present {
                (*attached.control).launcher = pg_sys::MyLatch;
            } else {
                (*attached.control).launcher = ptr::null_mut();
                (*attached.control).reserve.wake();
            }
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
