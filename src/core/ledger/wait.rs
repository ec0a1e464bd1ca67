//! A session that waits for a seat.

use crate::core::ledger::denial::Remark;
use crate::core::ledger::hold::Hold;
use crate::core::ledger::numbers::{Slot, Ticket};
use crate::core::ledger::table::entry;
use crate::core::ledger::words::Enforcement;

/// A session that waits in the queue for a seat.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Wait {
    /// The session's ticket. Whoever has a lower one came earlier.
    pub ticket: Ticket,
    /// The session's slot.
    pub slot: Slot,
    /// What the session will hold.
    pub(super) hold: Hold,
    /// Whether it would not wait any more by the rules of its database, so that it should ask again.
    pub(super) in_vain: bool,
    /// The server's own enforcement, which was on when the session came.
    pub(super) server: Enforcement,
    /// Whether it has its seat, but has not collected it yet.
    pub called: bool,
    /// What the server log should say about that seat.
    pub(super) remark: Remark,
}

entry!(Wait, ticket: Ticket);
