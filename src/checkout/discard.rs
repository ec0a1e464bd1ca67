//! DISCARD ALL gives back a session's checkouts: a pooler sends it before it lends the connection to another client.

use crate::memory;
use crate::pg::backend;

/// The most checkouts that are given back under one hold of the ledger's lock.
const BATCH: usize = 64;

/// Gives back all checkouts of this session.
pub fn give_all_back() {
    let slot = backend::slot();
    let some = || memory::write(|ledger| ledger.check_in_some(slot, BATCH, backend::now()));
    while some() {}
}
