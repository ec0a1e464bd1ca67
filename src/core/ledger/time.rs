//! Time: moments and clocks, and pauses during which nothing ran.

/// A day, in microseconds.
pub const DAY: Timestamp = 86_400_000_000;

/// How late the launcher may be, in microseconds.
pub const GRACE: Timestamp = 5_000_000;

/// How far the wall clock may differ from the ledger's time before it counts as set, in microseconds.
pub(super) const APART: Timestamp = 1_000_000;

/// How soon the launcher looks again while there is anything whose time may be up, in microseconds.
pub const LOOK: Timestamp = 5_000_000;

/// How far the two may differ without being brought together, in microseconds.
pub(super) const DRIFT: Timestamp = 10_000;

/// How far a time read from the wall clock may be ahead of the ledger's time, in microseconds.
pub(super) const AHEAD: Timestamp = 2_000_000;

/// Both clocks at one moment, in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// The time since the machine's start. Nobody sets it, and it goes on while the machine is suspended.
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
    /// It will look by this moment.
    By(Timestamp),
    /// It is late, which has been noticed.
    Late,
}

/// What the ledger knows about the time.
#[derive(Clone, Copy, Debug)]
pub struct Time {
    /// How far the ledger's time is ahead of the time since the machine's start.
    pub ahead: i64,
    /// When the launcher means to look.
    pub watch: Watch,
    /// The last pause.
    pub last: Option<Pause>,
}

/// A pause that was noticed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pause {
    /// When it was noticed. Times count anew from then on.
    pub at: Timestamp,
    /// How far the wall clock was set, in microseconds; 0 if it was not.
    pub moved: i64,
    /// The least time for which nothing ran, in microseconds.
    pub late: i64,
}

impl Time {
    /// Nothing is known yet.
    pub const UNKNOWN: Time = Time {
        ahead: 0,
        watch: Watch::Asleep,
        last: None,
    };

    /// Returns the ledger's time.
    pub fn now(&self, clocks: Clocks) -> Timestamp {
        clocks.since_start.saturating_add(self.ahead)
    }

    /// Returns how far the wall clock was set.
    pub(super) fn apart(&self, clocks: Clocks) -> i64 {
        clocks.wall.saturating_sub(self.now(clocks))
    }

    /// Returns how late the launcher is; 0 if it is not.
    pub(super) fn late(&self, clocks: Clocks) -> i64 {
        match self.watch {
            Watch::By(moment) => self.now(clocks).saturating_sub(moment).max(0),
            Watch::Asleep | Watch::Late => 0,
        }
    }

    /// Tells whether there was a pause that nobody has noticed.
    pub fn shows_pause(&self, clocks: Clocks) -> bool {
        self.apart(clocks).abs() > APART || self.late(clocks) > GRACE
    }

    /// Returns since when somebody is inactive whose status has this time of the wall clock, read at `now` or before.
    /// What was written before a pause counts from the pause on.
    pub fn inactive_since(&self, status: Timestamp, now: Timestamp) -> Timestamp {
        match self.last {
            Some(pause) if status < pause.at || status > now.saturating_add(AHEAD) => pause.at,
            _ => status.min(now),
        }
    }
}

/// A moment in microseconds, as PostgreSQL's `timestamptz` counts them.
pub type Timestamp = i64;

/// How far the clocks of two servers may be apart, in microseconds. What begins may begin that much early, and seats
/// that were allotted come back that much late. No end is put off, because a seat would be used twice.
pub const LEEWAY: Timestamp = 120_000_000;
