//! The ledger's state: its tables, and what it keeps besides them.

use crate::core::ledger::bar::Bar;
use crate::core::ledger::database::Database;
use crate::core::ledger::event::Event;
use crate::core::ledger::hold::{Hold, LongName, Spot};
use crate::core::ledger::license::License;
use crate::core::ledger::numbers::Generation;
use crate::core::ledger::reservation::Reservation;
use crate::core::ledger::roles::ReservedRoles;
use crate::core::ledger::room::Room;
use crate::core::ledger::rules::Exemption;
use crate::core::ledger::seat::{Seat, SeatIds};
use crate::core::ledger::session::Sessions;
use crate::core::ledger::spell::{Silence, Spell};
use crate::core::ledger::table::Tables;
use crate::core::ledger::taker::Taker;
use crate::core::ledger::tally::Tally;
use crate::core::ledger::time::{Time, Timestamp};
use crate::core::ledger::wait::Wait;

/// What the ledger keeps besides its tables.
#[derive(Debug)]
pub struct Head {
    /// The last generation given to a change, in any database.
    pub(crate) clock: Generation,
    /// The last number given to a session, a seat, a tally, or anything else that is numbered.
    pub(crate) numbers: u64,
    /// The source of seat ids.
    pub seat_ids: SeatIds,
    /// The number that tells this ledger's numbers from those of any other ledger.
    pub run: u128,
    /// The most rows of licenses, exemptions, reservations and bars that all databases may have together
    /// (`pg_seats.max_rules`).
    pub max_rules: usize,
    /// Whether rows of some database may be out of force for want of room.
    pub(crate) left_out: bool,
    /// The highest id that was given to a bar or read from a table.
    pub(crate) last_bar: i64,
    /// The most bars beyond the first that bind the same user or host.
    pub(crate) same_bars: u32,
    /// The number of seats that are being asked to give way.
    pub asking: u32,
    /// How many times rules were put in force.
    pub published: u64,
    /// Whether every database of the server is registered, so that it will be visited.
    pub(crate) visited: bool,
    /// Whether `visited` and `settled` were found on a standby. After a promotion neither is relied on.
    pub(crate) standby: bool,
    /// The value of `clock` at which it was known what every database adds to pools.
    pub(crate) settled: Generation,
    /// How many times what is remembered about pools and leases was about to become untrue.
    pub pools_edition: u64,
    /// The number of the last visit.
    pub(crate) visits: u32,
    /// Whether databases wait for a database worker because no more may run at once.
    pub(crate) crowded: bool,
    /// A moment before which no lease or lingering seat is due.
    pub next_due: Timestamp,
    /// A moment before which no database's audit trail needs to be written.
    pub next_write: Timestamp,
    /// How the room for events is used.
    pub(crate) room: Room,
    /// The list of spells by how long they have been silent.
    pub(crate) silence: Silence,
    /// Whether sessions in the queue should be woken.
    pub ring: bool,
    /// What is known about the time.
    pub time: Time,
    /// Whether lingering seats gave way to somebody who needed their room, and the queues of their products are yet to
    /// be served.
    pub(crate) made_room: bool,
    /// The roles that reservations name.
    pub reserved_roles: ReservedRoles,
    /// How many times those have changed.
    pub(crate) roles_edition: u64,
}

impl Head {
    /// Returns the number of changes so far, in any database.
    pub fn changes(&self) -> Generation {
        self.clock
    }

    /// Gives a change its generation.
    pub(crate) fn next_generation(&mut self) -> Generation {
        self.clock.0 += 1;
        self.clock
    }

    /// Returns the next number of anything that is numbered.
    pub(crate) fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }
}

impl Default for Head {
    fn default() -> Head {
        Head {
            clock: Generation::NONE,
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
            settled: Generation::NONE,
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

/// The ledger. The caller must hold its lock.
pub struct Ledger<'a, T: Tables> {
    /// What it keeps besides its tables.
    pub head: &'a mut Head,
    /// A slot for each backend that the server can have.
    pub sessions: Sessions<'a>,
    /// What is known about each database's tables.
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
    /// The number of seats that each user has taken, where that is limited.
    pub takers: T::Of<Taker>,
    /// What applications hold.
    pub holds: T::Of<Hold>,
    /// The index of each checkout within its session.
    pub spots: T::Of<Spot>,
    /// The sessions that wait for a seat.
    pub waits: T::Of<Wait>,
    /// The names of applications' users that are too long for a label.
    pub long_names: T::Of<LongName>,
    /// Bars: who can't come back for a time.
    pub bars: T::Of<Bar>,
    /// The events that are yet to be written to audit trails.
    pub events: T::Of<Event>,
    /// Users who were denied, and their denials that are being gathered.
    pub spells: T::Of<Spell>,
    /// The texts of events that are too long for a label.
    pub texts: T::Of<LongName>,
}
