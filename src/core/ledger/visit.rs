//! A visit: a database worker reads a database's tables, or writes its audit trail.

use crate::core::ledger::numbers::{DatabaseOid, Generation};

/// A visit of a database: the one that is under way, or the last one.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Visit {
    /// The visit's number among all of the server's, from 1.
    pub number: u32,
    /// How far it has come.
    pub stage: Stage,
}

/// How far a visit has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// A worker process has been requested.
    Sent,
    /// The process runs.
    Begun,
    /// A lock on the database kept it out, as while the database is copied.
    KeptOut,
    /// The process is connected to the database.
    Arrived,
    /// It has done all that it could.
    Ended,
}

/// The outcome of a visit whose process is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// No process was started: the server had no room for one, which says nothing about the database.
    NotBegun,
    /// A lock kept the process out.
    KeptOut,
    /// The process could not connect.
    Lost,
    /// The process ended early, or was ended.
    Died,
    /// The process did what it could, and the same must be done again.
    InVain,
    /// The visit was completed.
    Made,
}

/// The reasons for a visit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Due {
    /// The database.
    pub database: DatabaseOid,
    /// The number of its last change.
    pub generation: Generation,
    /// The number of the last visit there.
    pub last: u32,
    /// Whether somebody waits for what the visit reads.
    pub wanted: bool,
    /// Whether the audit trail is to be written.
    pub writes: bool,
}

/// What others may not know yet about what a database adds to pools.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Unsettled {
    /// Nothing.
    Nothing,
    /// How many seats it adds to the pools that it is known to be in.
    Counts,
    /// Which pools it is in.
    Pools,
}

/// What is known about a database that has not been read yet, besides who is in it. Nobody can take a lease there
/// before it is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unread {
    /// Its table may have leases.
    MayHaveLeases,
    /// Its table has no leases.
    HasNoLeases,
    /// It was created since the start, and nobody has changed anything there: it has no leases, and its tables say what
    /// those of its template said.
    IsNew,
}

/// Whether a database has had leases since the start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Leased {
    /// It has had none.
    Never,
    /// It has had some, or will once somebody has committed one.
    Maybe,
    /// What is remembered across restarts no longer says that it has none.
    Noted,
}
