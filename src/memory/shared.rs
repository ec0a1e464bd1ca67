//! The ledger's tables as PostgreSQL's shared hash tables, of fixed size.

use std::ffi::{CStr, c_long, c_void};
use std::marker::PhantomData;
use std::ptr;

use pgrx::pg_sys;

use crate::ledger::table::{Entry, Table, Tables};
use crate::pg::unguarded;

/// The shared tables.
pub struct Shared;

impl Tables for Shared {
    type Of<E: Entry> = SharedTable<E>;
}

/// A handle on a shared table. Its calls are only made under the lock, by way of a ledger.
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

/// PostgreSQL wants the key at the head of what it keeps.
#[repr(C)]
struct Slot<E: Entry> {
    key: E::Key,
    entry: E,
}

impl<E: Entry> SharedTable<E> {
    /// The shared memory that a table of this size takes.
    pub fn bytes(capacity: usize) -> usize {
        // SAFETY: only computes.
        unsafe { pg_sys::hash_estimate_size(capacity as c_long, size_of::<Slot<E>>()) }
    }

    /// Makes the table, in the postmaster.
    pub fn create(name: &CStr, capacity: usize) -> SharedTable<E> {
        let mut control = pg_sys::HASHCTL {
            keysize: size_of::<E::Key>(),
            entrysize: size_of::<Slot<E>>(),
            ..Default::default()
        };
        let flags = pg_sys::HASH_ELEM | pg_sys::HASH_BLOBS | pg_sys::HASH_FIXED_SIZE;
        // SAFETY: called from the shmem_startup hook; keys are plain bytes without padding.
        let table = unsafe {
            pg_sys::ShmemInitHash(
                name.as_ptr(),
                capacity as c_long,
                capacity as c_long,
                &raw mut control,
                flags as i32,
            )
        };
        SharedTable {
            table,
            capacity,
            entries: PhantomData,
        }
    }

    fn search(&self, key: &E::Key, action: pg_sys::HASHACTION::Type) -> *mut Slot<E> {
        // SAFETY: the table was made for keys of this type. With a fixed size and these actions it
        // neither allocates nor raises an error.
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

    fn each_slot(&self, mut see: impl FnMut(&mut Slot<E>)) {
        // SAFETY: the scan runs to its end, and nothing is put in or taken out meanwhile.
        unsafe {
            let mut scan = std::mem::zeroed::<pg_sys::HASH_SEQ_STATUS>();
            unguarded::hash_seq_init(&raw mut scan, self.table);
            loop {
                let slot = unguarded::hash_seq_search(&raw mut scan).cast::<Slot<E>>();
                let Some(slot) = slot.as_mut() else { break };
                see(slot);
            }
        }
    }
}

impl<E: Entry> Table<E> for SharedTable<E> {
    fn get(&self, key: &E::Key) -> Option<&E> {
        // SAFETY: an entry stays where it is until it is removed.
        unsafe { self.search(key, pg_sys::HASHACTION::HASH_FIND).as_ref() }.map(|slot| &slot.entry)
    }

    fn get_mut(&mut self, key: &E::Key) -> Option<&mut E> {
        // SAFETY: as for `get`, under an exclusive lock.
        unsafe { self.search(key, pg_sys::HASHACTION::HASH_FIND).as_mut() }
            .map(|slot| &mut slot.entry)
    }

    fn put(&mut self, entry: E) -> Option<&mut E> {
        let slot = self.search(entry.key(), pg_sys::HASHACTION::HASH_ENTER_NULL);
        // SAFETY: null when the table is full, else room for one slot whose key is already set.
        unsafe {
            let slot = slot.as_mut()?;
            (&raw mut slot.entry).write(entry);
            Some(&mut slot.entry)
        }
    }

    fn remove(&mut self, key: &E::Key) {
        self.search(key, pg_sys::HASHACTION::HASH_REMOVE);
    }

    fn len(&self) -> usize {
        // SAFETY: reads a counter.
        usize::try_from(unsafe { unguarded::hash_get_num_entries(self.table) }).unwrap_or(0)
    }

    fn capacity(&self) -> usize {
        self.capacity
    }

    fn each(&self, mut see: impl FnMut(&E)) {
        self.each_slot(|slot| see(&slot.entry));
    }

    fn each_mut(&mut self, mut see: impl FnMut(&mut E)) {
        self.each_slot(|slot| see(&mut slot.entry));
    }
}
