//! The segment of shared memory: its size, its content, and the lock.
#![allow(unsafe_code, reason = "shared memory is raw memory")]

use std::ptr;
use std::sync::atomic::{AtomicI64, AtomicPtr, Ordering};

use pgrx::pg_sys;

use super::shared::{Block, Shared, SharedTable};
use super::termination_request::TerminationRequest;
use crate::core::ledger::bar::Bar;
use crate::core::ledger::database::Database;
use crate::core::ledger::event::Event;
use crate::core::ledger::hold::{Hold, LongName, Spot};
use crate::core::ledger::license::License;
use crate::core::ledger::reservation::Reservation;
use crate::core::ledger::rules::Exemption;
use crate::core::ledger::seat::{Seat, SeatIds};
use crate::core::ledger::session::{Session, Sessions};
use crate::core::ledger::spell::{SPELLS, Spell};
use crate::core::ledger::taker::Taker;
use crate::core::ledger::tally::Tally;
use crate::core::ledger::wait::Wait;
use crate::core::ledger::{Head, Ledger, room};
use crate::pg::error::{PgSqlErrorCode, Report};
use crate::pg::{backend, clock, unguarded};
use crate::settings;

/// The process that waits for an errand.
#[repr(C)]
pub struct Reserve {
    /// The latch of the process, while it waits.
    pub(super) latch: *mut pg_sys::Latch,
    pub(super) pid: i32,
    /// The errand that it was given, until it has ended; 0: none.
    pub(super) errand: i64,
}

impl Reserve {
    /// No process in reserve.
    pub const NONE: Reserve = Reserve {
        latch: ptr::null_mut(),
        pid: 0,
        errand: 0,
    };

    /// Wakes the process that waits. The caller must hold the lock, so that the process can't leave meanwhile.
    pub fn wake(&self) {
        if !self.latch.is_null() {
            // SAFETY: the latch is in shared memory, and its process can't leave while the caller holds the lock.
            unsafe { unguarded::SetLatch(self.latch) };
        }
    }
}

/// What is in shared memory beside the tables.
#[repr(C)]
pub(super) struct Control {
    pub(super) head: Head,
    /// The launcher's latch, while there is a launcher.
    pub(super) launcher: *mut pg_sys::Latch,
    /// The worker in reserve.
    pub(super) reserve: Reserve,
    /// How much the ledger's time is ahead of the time since the machine's start.
    ahead: AtomicI64,
    /// Signalled whenever a database's rules have been read.
    pub(super) rules_read: pg_sys::ConditionVariable,
}

impl Control {
    /// Makes every process go by the ledger's time. The caller must hold the lock.
    pub(super) fn keep_time(&self) {
        self.ahead.store(self.head.time.ahead, Ordering::Relaxed);
    }
}

/// This process's pointers to everything in shared memory: made by the postmaster, inherited by every backend.
pub(super) struct Attached {
    pub(super) lock: *mut pg_sys::LWLock,
    /// The lock that a process holds while it reads much.
    pub(super) readers: *mut pg_sys::LWLock,
    pub(super) control: *mut Control,
    sessions: *mut Session,
    pub(super) requests: *const TerminationRequest,
    pub(super) places: usize,
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

/// The most databases that can have the extension, including those that are only visited.
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
    // SAFETY: PostgreSQL sets it before it calls the hooks from which this is called.
    let places = usize::try_from(unsafe { pg_sys::MaxBackends }).unwrap_or(0);
    let max_seats = settings::max_seats();
    let max_rules = settings::max_rules();
    Sizes {
        places,
        databases: DATABASES,
        // Each of these tables may hold all rules: what is not used costs no memory.
        rules: max_rules,
        // New rules find their tallies before those of the former rules are removed, and leases keep the tallies of
        // products that are no longer licensed.
        tallies: max_rules + max_rules / 4 + max_seats / 32 + 64,
        // Every login finds room, whatever applications hold, and once more while it is judged who is exempt.
        seats: max_seats + 2 * places,
        holds: max_seats,
        long_names: (max_seats / 100).max(256),
        events: settings::event_buffer(),
    }
}

/// Requests shared memory and the locks. The postmaster calls it before it allocates them.
pub fn request() {
    let sizes = sizes();
    // SAFETY: called in the shmem_request hook, where PostgreSQL allows these calls.
    unsafe {
        let bytes = size_of::<Control>()
            + sizes.places * (size_of::<Session>() + size_of::<TerminationRequest>())
            + Block::bytes(sizes.tables());
        pg_sys::RequestAddinShmemSpace(bytes);
        pg_sys::RequestNamedLWLockTranche(NAME.as_ptr(), 1);
        pg_sys::RequestNamedLWLockTranche(READERS.as_ptr(), 1);
    }
}

/// Creates the ledger, empty. Only the postmaster calls it, at the start and after a crash.
pub fn create() {
    let sizes = sizes();
    // SAFETY: called in the shmem_startup hook, before there is any other process. Each structure has the requested
    // size and is written whole before anyone reads it.
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
        let requests = pg_sys::ShmemInitStruct(
            c"pg_seats requests".as_ptr(),
            sizes.places * size_of::<TerminationRequest>(),
            &raw mut found,
        )
        .cast::<TerminationRequest>();
        for place in 0..sizes.places {
            requests.add(place).write(TerminationRequest::none());
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
        // Without random numbers, the current time tells this ledger from others.
        let moment = backend::now().unsigned_abs().into();
        (*control).head.run = backend::random_uuid().unwrap_or(moment);
        pg_sys::ConditionVariableInit(&raw mut (*control).rules_read);
        Block::create(sizes.tables());
        let attached = Box::new(Attached {
            lock: &raw mut (*pg_sys::GetNamedLWLockTranche(NAME.as_ptr())).lock,
            readers: &raw mut (*pg_sys::GetNamedLWLockTranche(READERS.as_ptr())).lock,
            control,
            sessions,
            requests,
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

/// The hint for a library that is not preloaded.
pub const PRELOAD_HINT: &str = "Add pg_seats to shared_preload_libraries in postgresql.conf, as in \
     shared_preload_libraries = 'pg_seats', and restart the server.";

/// Returns this process's pointers; `None` if there is no ledger, because the library was not preloaded, or in the
/// postmaster because it has yet to create shared memory.
pub(super) fn if_attached() -> Option<&'static Attached> {
    // SAFETY: the pointer is null, or `create` made it from a box that is never freed.
    unsafe { ATTACHED.load(Ordering::Relaxed).as_ref() }
}

/// Returns this process's pointers. Raises 55000 if the library was not preloaded; whoever must not raise an error, such
/// as a callback at a process's exit, is there only if it was.
pub(super) fn attached() -> &'static Attached {
    if_attached().unwrap_or_else(|| {
        Report::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "pg_seats is not preloaded",
        )
        .hint(PRELOAD_HINT)
        .raise()
    })
}

/// Raises 55000 if the library was not preloaded.
pub fn require_preloaded() {
    attached();
}

/// Tells whether there is a ledger, because the library was preloaded.
pub fn is_attached() -> bool {
    if_attached().is_some()
}

/// A lock that is held until this is dropped.
pub(super) struct Held(*mut pg_sys::LWLock);

impl Held {
    pub(super) fn acquire(lock: *mut pg_sys::LWLock, mode: pg_sys::LWLockMode::Type) -> Held {
        // SAFETY: the lock is one of the extension's own, in shared memory.
        unsafe { unguarded::LWLockAcquire(lock, mode) };
        Held(lock)
    }

    /// Takes the lock shared; `None` if somebody holds it.
    pub(super) fn acquire_if_free(lock: *mut pg_sys::LWLock) -> Option<Held> {
        // SAFETY: the lock is one of the extension's own, in shared memory.
        let taken =
            unsafe { unguarded::LWLockConditionalAcquire(lock, pg_sys::LWLockMode::LW_SHARED) };
        taken.then(|| Held(lock))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: the lock has been held since it was acquired: nothing under it raises an error, which would release
        // it.
        unsafe { unguarded::LWLockRelease(self.0) };
    }
}

impl Attached {
    /// Wakes the launcher, if there is one. The caller must hold the lock, so that the launcher can't leave meanwhile.
    pub(super) fn wake_launcher(&self) {
        // SAFETY: the latch is in shared memory, and setting it neither waits nor fails.
        unsafe {
            let latch = (*self.control).launcher;
            if !latch.is_null() {
                unguarded::SetLatch(latch);
            }
        }
    }

    /// Makes every process go by the ledger's time. The caller must hold the lock.
    pub(super) fn keep_time(&self) {
        // SAFETY: `control` is in shared memory for as long as the server runs.
        unsafe { (*self.control).keep_time() };
    }

    /// Returns the ledger. The caller must hold the lock; if it is shared, the caller must only read.
    pub(super) unsafe fn ledger(&self) -> Ledger<'static, Shared> {
        // SAFETY: everything is in shared memory for as long as the server runs, and the lock lends it to one writer,
        // or only to readers, at a time.
        unsafe {
            Ledger {
                head: &mut (*self.control).head,
                sessions: Sessions(std::slice::from_raw_parts_mut(self.sessions, self.places)),
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
