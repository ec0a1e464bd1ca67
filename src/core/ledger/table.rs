//! The storage that the ledger works on: tables of plain entries that are found by key. In the server they are
//! PostgreSQL's shared hash tables, in tests plain maps.

/// The entry of a table: plain data that begins with its own key.
pub trait Entry: Copy {
    /// The key, which is compared byte by byte and so has no padding.
    type Key: Copy + Eq + std::hash::Hash;
    /// Returns the entry's key.
    fn key(&self) -> &Self::Key;
}

/// Makes a type an entry that begins with its key, as tables in shared memory require.
macro_rules! entry {
    ($entry:ident, $key:ident: $type:ty) => {
        const _: () = assert!(std::mem::offset_of!($entry, $key) == 0);
        impl $crate::core::ledger::table::Entry for $entry {
            type Key = $type;
            fn key(&self) -> &$type {
                &self.$key
            }
        }
    };
}

pub(super) use entry;

/// A table of entries. None of its functions may raise an error, because they run under a lock.
pub trait Table<E: Entry> {
    /// Returns the entry with this key.
    fn get(&self, key: &E::Key) -> Option<&E>;
    /// Returns the entry with this key, to be changed in place (but never its key).
    fn get_mut(&mut self, key: &E::Key) -> Option<&mut E>;
    /// Puts an entry in, over one with the same key. `None` if there is no room for it.
    fn put(&mut self, entry: E) -> Option<&mut E>;
    /// Takes an entry out.
    fn remove(&mut self, key: &E::Key);
    /// Returns the number of entries.
    fn len(&self) -> usize;
    /// Tells whether there is no entry.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Returns the most entries that there can be.
    fn capacity(&self) -> usize;
    /// Shows every entry, in no particular order.
    fn each(&self, see: impl FnMut(&E));
    /// Shows some of the entries from this position on (0 for the first), at least `at_least` if there are as many, and
    /// returns the position of the next ones. An entry that is there all the while is shown at least once, whatever is
    /// put in or taken out between two calls.
    fn each_from(&self, from: usize, at_least: usize, see: impl FnMut(&E)) -> Option<usize>;
    /// Shows every entry, to be changed in place (but never its key).
    fn each_mut(&mut self, see: impl FnMut(&mut E));
    /// Shows every entry, to be changed in place, and takes out those that are not to be kept.
    fn retain(&mut self, keep: impl FnMut(&mut E) -> bool);
}

/// A family of tables, one for each kind of entry.
pub trait Tables {
    /// The table for entries of this kind.
    type Of<E: Entry>: Table<E>;
}
