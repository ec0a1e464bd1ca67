//! The ledger's state: its tables, and what it keeps beside them.

use crate::core::ledger::bar::Bar;
use crate::core::ledger::database::Database;
use crate::core::ledger::event::Event;
use crate::core::ledger::hold::{Hold, LongName, Spot};
use crate::core::ledger::license::License;
use crate::core::ledger::reservation::Reservation;
use crate::core::ledger::roles::ReservedRoles;
use crate::core::ledger::room::Room;
use crate::core::ledger::rules::Exemption;
use crate::core::ledger::seat::{Seat, SeatIds};
use crate::core::ledger::session::Session;
use crate::core::ledger::spell::{Silence, Spell};
use crate::core::ledger::table::Tables;
use crate::core::ledger::taker::Taker;
use crate::core::ledger::tally::Tally;
use crate::core::ledger::time::{Time, Timestamp};
use crate::core::ledger::wait::Wait;

/// What the ledger keeps beside its tables.
#[derive(Debug)]
pub struct Head {
    /// The last generation given to a change, of whatever database.
    pub(crate) clock: u64,
    /// The last number given to a session, seat or tally.
    pub(crate) numbers: u64,
    /// What makes ids of the numbers of seats.
    pub seat_ids: SeatIds,
    /// Tells the numbers of this ledger from those of any other.
    pub run: u128,
    /// Rows of licenses, exemptions, reservations and bars that all databases may have
    /// (`pg_seats.max_rules`).
    pub max_rules: usize,
    /// Rows of some database may be out of force for want of room.
    pub(crate) left_out: bool,
    /// The last id given to a bar, or read.
    pub(crate) last_bar: i64,
    /// How many bars more than one bind the same, at most.
    pub(crate) same_bars: u32,
    /// How many seats are asked to give way.
    pub asking: u32,
    /// How often rules were put in force.
    pub published: u64,
    /// Every database of the server is noted, so that it is visited.
    pub(crate) visited: bool,
    /// That, and what is settled, were found on a standby: whoever is promoted relies on neither.
    pub(crate) standby: bool,
    /// At this clock what every database adds to pools was known.
    pub(crate) settled: u64,
    /// How often a database's pools were about to become others.
    pub pools_edition: u64,
    /// The number of the last visit.
    pub(crate) visits: u32,
    /// Databases wait for a visitor because as many are under way as may be.
    pub(crate) crowded: bool,
    /// No time of a lease, or of a seat that lingers, is up before this.
    pub next_due: Timestamp,
    /// No database's audit trail is to be written before this.
    pub next_write: Timestamp,
    /// How much room events have.
    pub(crate) room: Room,
    /// Whose denials are known.
    pub(crate) silence: Silence,
    /// Somebody in line should look.
    pub ring: bool,
    /// What is known of the time.
    pub time: Time,
    /// Seats that lingered gave way to somebody who needed their room: those in line of their products
    /// are yet to be served.
    pub(crate) made_room: bool,
    /// The roles that reservations name.
    pub reserved_roles: ReservedRoles,
    /// How often those have changed.
    pub(crate) roles_edition: u64,
}

impl Head {
    /// How many changes there were, of whatever database.
    pub fn changes(&self) -> u64 {
        self.clock
    }
}

impl Default for Head {
    fn default() -> Head {
        Head {
            clock: 0,
            numbers: 0,
            seat_ids: SeatIds::default(),
            run: 0,
            max_rules: usize::MAX,
            left_out: false,
            last_bar: 0,
            same_bars: 0,
            asking: 0,
            published: 0,
            visited: false,
            standby: false,
            settled: 0,
            pools_edition: 0,
            visits: 0,
            crowded: false,
            next_due: Timestamp::MAX,
            next_write: Timestamp::MAX,
            room: Room::default(),
            silence: Silence::default(),
            ring: false,
            time: Time::UNKNOWN,
            made_room: false,
            reserved_roles: ReservedRoles::NONE,
            roles_edition: 0,
        }
    }
}

/// The ledger, while the caller holds its lock.
pub struct Ledger<'a, T: Tables> {
    /// What it keeps beside the tables.
    pub head: &'a mut Head,
    /// A place for each backend that the server can have.
    pub sessions: &'a mut [Session],
    /// What is known of each database's tables.
    pub databases: T::Of<Database>,
    /// The licenses of all databases.
    pub licenses: T::Of<License>,
    /// The exemptions of all databases.
    pub exemptions: T::Of<Exemption>,
    /// The reservations of all databases.
    pub reservations: T::Of<Reservation>,
    /// The counts.
    pub tallies: T::Of<Tally>,
    /// The seats that are taken.
    pub seats: T::Of<Seat>,
    /// How many of them each user has taken, where that is limited.
    pub takers: T::Of<Taker>,
    /// What applications hold.
    pub holds: T::Of<Hold>,
    /// Where checkouts are among those of their sessions.
    pub spots: T::Of<Spot>,
    /// Who waits for a seat.
    pub waits: T::Of<Wait>,
    /// The names of applications' users that are too long for a label.
    pub long_names: T::Of<LongName>,
    /// Who can't come back for a time.
    pub bars: T::Of<Bar>,
    /// What the audit trails are yet to be told.
    pub events: T::Of<Event>,
    /// Users who were denied, and the denials that are gathered.
    pub spells: T::Of<Spell>,
    /// The texts of events that are too long for a label.
    pub texts: T::Of<LongName>,
}
