//! Which databases are in which pools, and which have no leases, as remembered across restarts. So nobody waits for
//! databases that have nothing to do with a pool, or for those that can't be read and add nothing to it.

use crate::core::ledger::numbers::DatabaseOid;

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What is remembered. Nothing is known about a database that is not in `databases`: it may be in any pool.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Pools {
    /// The pools of each database, as names and products.
    databases: BTreeMap<DatabaseOid, BTreeSet<(String, String)>>,
    /// Databases that have no leases.
    without_leases: BTreeSet<DatabaseOid>,
}

impl Pools {
    /// Notes that the pools of this database are known: it is in those that are named, and in no other.
    pub fn know(&mut self, database: DatabaseOid) {
        self.databases.entry(database).or_default();
    }

    /// Names a pool of a database. It has no effect on a database whose pools are not known.
    pub fn name(&mut self, database: DatabaseOid, pool: &str, product: &str) {
        if let Some(pools) = self.databases.get_mut(&database) {
            pools.insert((pool.to_owned(), product.to_owned()));
        }
    }

    /// Notes that this database is known to have no leases.
    pub fn know_without_leases(&mut self, database: DatabaseOid) {
        self.without_leases.insert(database);
    }

    /// Tells whether it is certain that a database had no leases.
    pub fn is_without_leases(&self, database: DatabaseOid) -> bool {
        self.without_leases.contains(&database)
    }

    /// Takes over what another one knows about the pools of a database.
    pub fn take(&mut self, database: DatabaseOid, former: &Pools) {
        if let Some(pools) = former.databases.get(&database) {
            self.databases.insert(database, pools.clone());
        }
    }

    /// Tells whether a database was in this pool, or may have been. It allocates nothing.
    pub fn may_have(&self, database: DatabaseOid, pool: &str, product: &str) -> bool {
        let pools = self.databases.get(&database);
        pools.is_none_or(|pools| pools.iter().any(|(name, of)| name == pool && of == product))
    }
}

/// What is remembered, with the mark of the file that it was written to. So nothing is believed of another server's
/// file, of a copy, or of an older state of the file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Remembered {
    /// The mark of the file.
    pub mark: Mark,
    /// What is remembered.
    pub pools: Pools,
}

/// What tells a file from its copies.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Mark {
    /// The server's system identifier.
    pub system: u64,
    /// The number of the file in its file system. A backup has another one.
    pub inode: u64,
    /// When it was written, in microseconds since 1970. A file that is put back later has another time.
    pub written_at: u64,
}

impl Remembered {
    /// Reads what a file with this mark remembers. `None` if it is damaged, or was written to another file.
    pub fn parse(text: &[u8], mark: Mark) -> Option<Pools> {
        let remembered: Remembered = serde_json::from_slice(text).ok()?;
        (remembered.mark == mark).then_some(remembered.pools)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: Mark = Mark {
        system: u64::MAX,
        inode: 2,
        written_at: 3,
    };

    #[test]
    fn of_what_is_not_named_nothing_is_known() {
        let mut pools = Pools::default();
        pools.name(DatabaseOid(1), "firm", "TOM");
        assert!(pools.may_have(DatabaseOid(1), "firm", "CRM"));
        pools.know(DatabaseOid(1));
        assert!(!pools.may_have(DatabaseOid(1), "firm", "TOM"));
        pools.name(DatabaseOid(1), "firm", "TOM");
        assert!(pools.may_have(DatabaseOid(1), "firm", "TOM"));
        assert!(
            !pools.may_have(DatabaseOid(1), "firm", "CRM")
                && !pools.may_have(DatabaseOid(1), "other", "TOM")
        );
        let mut next = Pools::default();
        next.take(DatabaseOid(1), &pools);
        next.take(DatabaseOid(2), &pools);
        assert_eq!(next, pools);
        assert!(!pools.is_without_leases(DatabaseOid(1)));
        pools.know_without_leases(DatabaseOid(1));
        assert!(
            pools.is_without_leases(DatabaseOid(1)) && !pools.is_without_leases(DatabaseOid(2))
        );
    }

    #[test]
    fn what_was_written_is_read_again_and_only_from_where_it_was_written() {
        let mut pools = Pools::default();
        pools.know(DatabaseOid(5));
        pools.know(DatabaseOid(7));
        pools.name(DatabaseOid(7), "fi\"rm", "Bücher");
        pools.know_without_leases(DatabaseOid(7));
        let written = Remembered {
            mark: MARK,
            pools: pools.clone(),
        };
        let text = serde_json::to_vec(&written).unwrap();
        assert_eq!(Remembered::parse(&text, MARK), Some(pools));
        for other in [
            Mark { system: 1, ..MARK },
            Mark { inode: 1, ..MARK },
            Mark {
                written_at: 1,
                ..MARK
            },
        ] {
            assert_eq!(Remembered::parse(&text, other), None);
        }
        for len in 0..text.len() {
            assert_eq!(Remembered::parse(&text[..len], MARK), None);
        }
    }
}
