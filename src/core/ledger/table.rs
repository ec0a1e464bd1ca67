//! The storage that the ledger decides over: tables of plain entries found by key. In the server
//! they are PostgreSQL's shared hash tables, in tests a plain map.

/// What a table keeps: plain data that begins with its own key.
pub trait Entry: Copy {
    /// What finds it: compared byte by byte, so without padding.
    type Key: Copy + Eq + std::hash::Hash;
    /// The entry's key.
    fn key(&self) -> &Self::Key;
}

/// Makes a type an entry that begins with its key, as tables in shared memory want it.
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

/// A table of entries. None of its calls may raise an error: they run under a lock.
pub trait Table<E: Entry> {
    /// The entry with this key.
    fn get(&self, key: &E::Key) -> Option<&E>;
    /// The entry with this key, to be changed in place (never its key).
    fn get_mut(&mut self, key: &E::Key) -> Option<&mut E>;
    /// Puts an entry in, over one with the same key. `None` when there is no room for it.
    fn put(&mut self, entry: E) -> Option<&mut E>;
    /// Takes an entry out.
    fn remove(&mut self, key: &E::Key);
    /// How many entries there are.
    fn len(&self) -> usize;
    /// True when there is no entry.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// How many entries there can be at most.
    fn capacity(&self) -> usize;
    /// Shows every entry, in no order.
    fn each(&self, see: impl FnMut(&E));
    /// Shows some of the entries, at least so many if there are, from this position on (0: from the beginning): the
    /// position of the next ones. What is there all the while is shown at least once, whatever is put in or
    /// taken out between two calls.
    fn each_from(&self, from: usize, at_least: usize, see: impl FnMut(&E)) -> Option<usize>;
    /// Shows every entry, to be changed in place (never its key).
    fn each_mut(&mut self, see: impl FnMut(&mut E));
    /// Shows every entry, to be changed in place, and takes out those that are not to be kept.
    fn retain(&mut self, keep: impl FnMut(&mut E) -> bool);
}

/// A family of tables, one for each kind of entry.
pub trait Tables {
    /// The table for entries of this kind.
    type Of<E: Entry>: Table<E>;
}
