//! Time: moments, clocks, and pauses in which nothing ran.

/// So late may the launcher be, in microseconds.
pub const GRACE: Timestamp = 5_000_000;

/// So far apart may the two clocks be moved, in microseconds.
pub(super) const APART: Timestamp = 1_000_000;

/// How soon the launcher looks again while there is anything whose time may be up, in microseconds.
pub const LOOK: Timestamp = 5_000_000;

/// So far may they be apart without being brought together, in microseconds.
pub(super) const DRIFT: Timestamp = 10_000;

/// What is read of the wall clock may be so much ahead of the ledger's time, in microseconds.
pub(super) const AHEAD: Timestamp = 2_000_000;

/// Both clocks at one moment, in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// The time since the machine's start, which nobody sets and which goes on while it is suspended.
    pub since_start: i64,
    /// The wall clock.
    pub wall: Timestamp,
}

/// When the launcher means to look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Watch {
    /// It has nothing to look after.
    #[default]
    Asleep,
    /// By this moment.
    By(Timestamp),
    /// It is late, which was noticed.
    Late,
}

/// What the ledger knows of the time.
#[derive(Clone, Copy, Debug)]
pub struct Time {
    /// How much the ledger's time is ahead of that since the machine's start.
    pub ahead: i64,
    /// When the launcher means to look.
    pub watch: Watch,
    /// The last pause.
    pub last: Option<Pause>,
}

/// A pause, as it was noticed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pause {
    /// When it was: since then times count anew.
    pub at: Timestamp,
    /// By how much the wall clock was set, in microseconds; 0: it was not.
    pub moved: i64,
    /// For how long nothing ran at least, in microseconds.
    pub late: i64,
}

impl Time {
    /// Nothing has been looked at.
    pub const UNKNOWN: Time = Time {
        ahead: 0,
        watch: Watch::Asleep,
        last: None,
    };

    /// The ledger's time.
    pub fn now(&self, clocks: Clocks) -> Timestamp {
        clocks.since_start.saturating_add(self.ahead)
    }

    /// How far the wall clock was set.
    pub(super) fn apart(&self, clocks: Clocks) -> i64 {
        clocks.wall.saturating_sub(self.now(clocks))
    }

    /// How long the launcher has been late, 0 where it is not.
    pub(super) fn late(&self, clocks: Clocks) -> i64 {
        match self.watch {
            Watch::By(moment) => self.now(clocks).saturating_sub(moment).max(0),
            Watch::Asleep | Watch::Late => 0,
        }
    }

    /// Whether there was a pause that nobody has noticed.
    pub fn shows_pause(&self, clocks: Clocks) -> bool {
        self.apart(clocks).abs() > APART || self.late(clocks) > GRACE
    }

    /// Since when somebody is inactive whose status has this time of the wall clock, as it was read `now` or
    /// before. What was written before a pause counts from the pause.
    pub fn inactive_since(&self, status: Timestamp, now: Timestamp) -> Timestamp {
        match self.last {
            Some(pause) if status < pause.at || status > now.saturating_add(AHEAD) => pause.at,
            _ => status.min(now),
        }
    }
}

/// A moment in microseconds, as PostgreSQL's `timestamptz` counts them.
pub type Timestamp = i64;

/// How far the clocks of two servers may be apart. What begins may begin that much before its time, and what is passed
/// on comes back that much after it; no end is put off, or a seat would be used twice.
pub const LEEWAY: Timestamp = 120_000_000;
