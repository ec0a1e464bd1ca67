//! Numbers that must not be taken for one another: a type for each.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Makes a type of a number, which lies in shared memory as the number does.
macro_rules! number {
    ($(#[$doc:meta])* $name:ident($int:ty)) => {
        $(#[$doc])*
        #[repr(transparent)]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
        pub struct $name(pub $int);

        impl $name {
            /// The number that none has.
            pub const NONE: Self = Self(0);
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// The OID of a database. None: a pool, or a replication connection without a database.
    DatabaseOid(u32)
}

number! {
    /// The OID of a role.
    RoleOid(u32)
}

number! {
    /// The number of a change of a database's tables, counted up over all databases of the server.
    Generation(u64)
}

number! {
    /// The number of a tally, never used again.
    TallyId(u64)
}

number! {
    /// The number of a seat, never used again.
    SeatNumber(u64)
}

number! {
    /// The number of a session, or of a lease, which counts like a session of its own; never used again.
    SessionNumber(u64)
}

number! {
    /// A place in the queue: the lower the number, the earlier it was taken.
    Ticket(u64)
}

/// A backend's place among those that the server has room for: an index into the ledger's sessions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Slot(pub usize);
