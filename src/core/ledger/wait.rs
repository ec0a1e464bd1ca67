//! Somebody who waits for a seat.

use crate::core::ledger::denial::Remark;
use crate::core::ledger::hold::Hold;
use crate::core::ledger::table::entry;
use crate::core::ledger::words::Enforcement;

/// A session that waits for a seat.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Wait {
    /// Its ticket: who has a lower one came first.
    pub ticket: u64,
    /// The session's place.
    pub at: usize,
    /// What it will hold.
    pub(super) hold: Hold,
    /// By its database's rules it would not wait any more: it should ask anew.
    pub(super) in_vain: bool,
    /// The server's own enforcement: on when it came.
    pub(super) server: Enforcement,
    /// It has its seat, and has not yet seen it.
    pub called: bool,
    /// What the server log should say of that.
    pub(super) remark: Remark,
}

entry!(Wait, ticket: u64);
