//! A visit: a database worker reads a database's tables, or writes its audit trail.

/// A visit of a database: the one under way, or the last.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Visit {
    /// Its number among all of the server's, from 1.
    pub number: u32,
    /// How far it has come.
    pub stage: Stage,
}

/// How far a visit has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// A process was asked for.
    Sent,
    /// Its process runs.
    Begun,
    /// It was kept out by a lock on the database, as while it is copied.
    KeptOut,
    /// It is connected to the database.
    Arrived,
    /// It has done all that it could.
    Ended,
}

/// What became of a visit whose process is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// There was no process: the server has no room for one, which says nothing of the database.
    NotBegun,
    /// A lock kept it out.
    KeptOut,
    /// It could not connect.
    Lost,
    /// It ended before its time, or was ended.
    Died,
    /// It did what it could, and the same is to be done again.
    InVain,
    /// It was made.
    Made,
}

/// What a visit is sent for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Due {
    /// The database.
    pub database: u32,
    /// The number of its last change.
    pub generation: u64,
    /// The number of the last visit.
    pub last: u32,
    /// Somebody waits for what it reads.
    pub wanted: bool,
    /// Its audit trail is to be written.
    pub writes: bool,
}

/// What others may not know yet of what a database adds to pools.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Unsettled {
    /// Nothing.
    Nothing,
    /// How many it adds to those that it is in.
    Counts,
    /// It may be in others by now.
    Pools,
}

/// What is known of a database that has not been read yet beside who is in it: before it is read nobody can take a
/// lease there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unread {
    /// There may be leases in its table.
    MayHaveLeases,
    /// There are none.
    HasNoLeases,
    /// It was created since the start, and nobody has changed anything there: it has no leases, and what its tables say
    /// is what its template's said.
    IsNew,
}

/// Whether a database has had leases since the start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Leased {
    /// It has not.
    Never,
    /// It has, or will once somebody has committed one.
    Maybe,
    /// What is remembered over restarts says nothing else any more.
    Told,
}
