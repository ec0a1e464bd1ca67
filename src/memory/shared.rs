//! The ledger's tables as PostgreSQL's shared hash tables.
//!
//! They take their memory from one [`Block`] as they grow, each up to its capacity. PostgreSQL's own `ShmemInitHash` has
//! two ways, and neither will do:
//!
//! * If it allocates all entries at the start, the tables lie far apart, and a login touches more pages: of its page
//!   faults, which are most of what it costs, 31 are due to pg_seats rather than 22, and 37 rather than 26 while 200
//!   seats are held (PostgreSQL 15, release build, medians of 50 logins to each of four servers).
//! * If it allocates them as the tables grow, there are as few, but what they have not taken yet is anybody's: a session
//!   with some hundred thousand advisory locks leaves them nothing.
#![allow(unsafe_code, reason = "shared memory is raw memory")]

use std::ffi::{CStr, c_long, c_void};
use std::marker::PhantomData;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use pgrx::pg_sys;

use crate::core::ledger::table::{Entry, Table, Tables};
use crate::pg::unguarded;

/// The tables in shared memory.
pub struct Shared;

impl Tables for Shared {
    type Of<E: Entry> = SharedTable<E>;
}

/// The head of the shared memory of all tables. Memory is only handed out, never taken back: a table keeps what it has
/// for its next entries.
#[repr(C)]
pub struct Block {
    bytes: usize,
    given: usize,
}

static BLOCK: AtomicPtr<Block> = AtomicPtr::new(ptr::null_mut());

impl Block {
    /// Returns the shared memory that is needed for tables of this size together.
    pub fn bytes(tables: usize) -> usize {
        size_of::<Block>() + tables
    }

    /// Creates the block, in the postmaster, before its tables.
    pub fn create(tables: usize) {
        let bytes = Block::bytes(tables);
        let mut found = false;
        // SAFETY: called in the shmem_startup hook, before there is any other process; the block has the size that was
        // requested for it.
        unsafe {
            let block = pg_sys::ShmemInitStruct(c"pg_seats tables".as_ptr(), bytes, &raw mut found)
                .cast::<Block>();
            let given = size_of::<Block>();
            block.write(Block { bytes, given });
            BLOCK.store(block, Ordering::Relaxed);
        }
    }
}

/// Hands out memory to a table; null if there is none left. The caller must be the postmaster at the start, or hold the
/// lock.
unsafe extern "C-unwind" fn give(bytes: usize) -> *mut c_void {
    let block = BLOCK.load(Ordering::Relaxed);
    // SAFETY: the block was created before any table, and only one caller at a time gets here. The result lies within
    // it.
    unsafe {
        let at = (*block).given;
        let bytes = bytes.next_multiple_of(ALIGNMENT);
        if bytes > (*block).bytes - at {
            return ptr::null_mut();
        }
        (*block).given = at + bytes;
        block.cast::<u8>().add(at).cast()
    }
}

/// PostgreSQL's alignment for any type that may be in a table.
const ALIGNMENT: usize = pg_sys::MAXIMUM_ALIGNOF as usize;

/// A handle on a shared table. Its methods may only be called under the lock, by way of a ledger.
pub struct SharedTable<E: Entry> {
    table: *mut pg_sys::HTAB,
    capacity: usize,
    entries: PhantomData<E>,
}

impl<E: Entry> Clone for SharedTable<E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E: Entry> Copy for SharedTable<E> {}

/// How many buckets are allocated at once.
const SEGMENT: usize = 256;

/// How many entries a table has room for at first: few, so that the heads of all tables lie close together, and each
/// login has to map little memory.
const FIRST_ENTRIES: c_long = 1;

impl<E: Entry> SharedTable<E> {
    /// Returns the memory that a table of this capacity takes.
    pub fn bytes(capacity: usize) -> usize {
        let size = size_of::<E>();
        let first = FIRST_ENTRIES as usize * (size_of::<pg_sys::HASHELEMENT>() + size + ALIGNMENT);
        // SAFETY: the call only computes. It counts entries allocated in batches; `first` counts those allocated at
        // creation.
        let estimate = unsafe { pg_sys::hash_estimate_size(capacity as c_long, size) };
        // The estimate counts a bucket for each entry up to the next power of two, but buckets are allocated in
        // segments as entries arrive. Even if one were missing, two entries would only share a bucket.
        let estimated = capacity.next_power_of_two() / SEGMENT;
        let spare = estimated.saturating_sub(capacity / SEGMENT + 2) * SEGMENT;
        first + estimate - spare * size_of::<*mut c_void>()
    }

    /// Creates the table, in the postmaster.
    pub fn create(name: &CStr, capacity: usize) -> SharedTable<E> {
        const { assert!(align_of::<E>() <= ALIGNMENT) };
        let flags = pg_sys::HASH_ELEM
            | pg_sys::HASH_BLOBS
            | pg_sys::HASH_SHARED_MEM
            | pg_sys::HASH_ALLOC
            | pg_sys::HASH_DIRSIZE;
        // SAFETY: does what ShmemInitHash does, except where the memory comes from, and is called in the shmem_startup
        // hook. Keys are plain bytes without padding, as HASH_BLOBS requires.
        let table = unsafe {
            let directory = pg_sys::hash_select_dirsize(capacity as c_long);
            let mut control = pg_sys::HASHCTL {
                keysize: size_of::<E::Key>(),
                entrysize: size_of::<E>(),
                dsize: directory,
                max_dsize: directory,
                alloc: Some(give),
                ..Default::default()
            };
            let head = pg_sys::hash_get_shared_size(&raw mut control, flags as i32);
            control.hctl = give(head).cast();
            pg_sys::hash_create(
                name.as_ptr(),
                FIRST_ENTRIES,
                &raw const control,
                flags as i32,
            )
        };
        SharedTable {
            table,
            capacity,
            entries: PhantomData,
        }
    }

    /// Finds, adds or removes an entry by the key that it begins with.
    fn search(&self, key: &E::Key, action: pg_sys::HASHACTION::Type) -> *mut E {
        // SAFETY: the table was created for keys of this type. With these actions, and memory from the block, the call
        // raises no error.
        unsafe {
            unguarded::hash_search(
                self.table,
                ptr::from_ref(key).cast::<c_void>(),
                action,
                ptr::null_mut(),
            )
            .cast()
        }
    }

    fn scan(&self, mut see: impl FnMut(&mut E)) {
        // SAFETY: the scan runs to its end; meanwhile no entry is added, and none is removed but the one that is being
        // shown.
        unsafe {
            let mut scan = std::mem::zeroed::<pg_sys::HASH_SEQ_STATUS>();
            unguarded::hash_seq_init(&raw mut scan, self.table);
            loop {
                let entry = unguarded::hash_seq_search(&raw mut scan).cast::<E>();
                let Some(entry) = entry.as_mut() else { break };
                see(entry);
            }
        }
    }
}

impl<E: Entry> Table<E> for SharedTable<E> {
    fn get(&self, key: &E::Key) -> Option<&E> {
        // SAFETY: an entry stays where it is until it is removed, and the lock keeps others from removing it.
        unsafe { self.search(key, pg_sys::HASHACTION::HASH_FIND).as_ref() }
    }

    fn get_mut(&mut self, key: &E::Key) -> Option<&mut E> {
        // SAFETY: as for `get`; the lock is held exclusively.
        unsafe { self.search(key, pg_sys::HASHACTION::HASH_FIND).as_mut() }
    }

    fn put(&mut self, entry: E) -> Option<&mut E> {
        if self.len() >= self.capacity && self.get(entry.key()).is_none() {
            return None;
        }
        let place = self.search(entry.key(), pg_sys::HASHACTION::HASH_ENTER_NULL);
        // SAFETY: the pointer is null if the table is full, else it points to room for one entry.
        unsafe {
            if !place.is_null() {
                place.write(entry);
            }
            place.as_mut()
        }
    }

    fn remove(&mut self, key: &E::Key) {
        self.search(key, pg_sys::HASHACTION::HASH_REMOVE);
    }

    fn len(&self) -> usize {
        // SAFETY: the call only reads a counter.
        usize::try_from(unsafe { unguarded::hash_get_num_entries(self.table) }).unwrap_or(0)
    }

    fn capacity(&self) -> usize {
        self.capacity
    }

    fn each(&self, mut see: impl FnMut(&E)) {
        self.scan(|entry| see(entry));
    }

    /// Continues from a bucket: if the table has grown, entries have moved to later ones, and may be shown twice.
    fn each_from(&self, from: usize, at_least: usize, mut see: impl FnMut(&E)) -> Option<usize> {
        let mut seen = 0;
        // SAFETY: the scan runs to its end, or is ended between two buckets; meanwhile no entry is added or removed.
        unsafe {
            let mut scan = std::mem::zeroed::<pg_sys::HASH_SEQ_STATUS>();
            unguarded::hash_seq_init(&raw mut scan, self.table);
            scan.curBucket = u32::try_from(from).unwrap_or(u32::MAX);
            loop {
                let entry = unguarded::hash_seq_search(&raw mut scan).cast::<E>();
                see(entry.as_ref()?);
                seen += 1;
                if seen >= at_least && scan.curEntry.is_null() {
                    unguarded::hash_seq_term(&raw mut scan);
                    return usize::try_from(scan.curBucket).ok();
                }
            }
        }
    }

    fn each_mut(&mut self, see: impl FnMut(&mut E)) {
        self.scan(see);
    }

    fn retain(&mut self, mut keep: impl FnMut(&mut E) -> bool) {
        let table = *self;
        self.scan(|entry| {
            if !keep(entry) {
                let key = *entry.key();
                table.search(&key, pg_sys::HASHACTION::HASH_REMOVE);
            }
        });
    }
}
