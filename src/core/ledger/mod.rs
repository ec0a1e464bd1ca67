//! Who holds which seat, and who may have one: every decision of pg_seats, without PostgreSQL.
//!
//! The ledger decides over a small storage trait ([`table`]), so that the same code counts in the
//! server's shared memory and in tests. Its calls never wait and never fail half-way: the caller
//! holds the lock, and what could fail (rows that don't fit, rules that moved on) is checked before
//! anything is written.
//!
//! * [`admission`]: answers logins
//! * [`bar`]: who can't come back for a time
//! * [`checkout`]: answers applications
//! * [`database`]: the changes of a database's tables
//! * [`ending`]: seats that are taken away from their holders
//! * [`event`]: what the audit trail tells
//! * [`exempt`]: how many may be exempt at once
//! * [`hold`]: what applications hold
//! * [`identity`]: what makes two connections the same user
//! * [`lease`]: how leases last, and end
//! * [`license`]: how many seats, and the rules
//! * [`line`]: who waits for a seat
//! * [`merge`]: what happens so often that it is told together
//! * [`narrow`]: what is left of a license under a token
//! * [`pause`]: machines that were suspended, and clocks that were set
//! * [`pools`]: who is in which pool, as it is remembered over a restart
//! * [`publish`]: puts rules in force
//! * [`reservation`]: seats that are kept for members of a role
//! * [`room`]: how much of the room for events each database may use
//! * [`rules`]: a database's licenses and exemptions, and what they make of a session
//! * [`seats`]: gives every holder its seat
//! * [`session`]: sessions and the seats they hold
//! * [`shares`]: how databases share the room for rules
//! * [`table`]: the storage
//! * [`taker`]: how many seats one user has taken
//! * [`tally`]: the counts
//! * [`visit`]: which databases are to be visited, and waited for
//!
//! **Sessions** are registered one by one, licensed or not; seats are what their database's rules
//! make of them. When rules change, the sessions that are in are judged again and nobody is thrown
//! out.
//!
//! **Logins always find room**: what holds seats beside them, checkouts and leases, can be as many as
//! the table of holds has room for, those in line among them. The table of seats has room for a seat of
//! each of these, and for two of every session: its own, and one while it is judged who is exempt. What
//! lingers there gives way.
//!
//! A **tally** counts the seats of one product: in one database, or in all databases of one pool.
//!
//! A **generation** numbers the changes of a database's tables. Rules carry the generation that was
//! noted before they were read, and are current only while it is: a change in between is never lost.

pub mod admission;
pub mod bar;
pub mod checkout;
pub mod database;
pub mod ending;
pub mod event;
pub mod exempt;
pub mod hold;
pub mod identity;
pub mod lease;
pub mod license;
pub mod line;
pub mod map;
pub mod merge;
#[cfg(test)]
#[path = "../../../tests/model/mod.rs"]
mod model;
pub mod narrow;
pub mod pause;
pub mod pools;
pub mod publish;
pub mod reservation;
pub mod room;
pub mod rules;
pub mod seats;
pub mod session;
pub mod shares;
pub mod table;
pub mod taker;
pub mod tally;
pub mod visit;

use bar::Bar;
use event::Event;
use hold::{Hold, LongName, Spot};
use license::{License, Timestamp};
use line::Wait;
use merge::{Silence, Spell};
use pause::Time;
use reservation::{Reservation, ReservedRoles};
use room::Room;
use rules::Exemption;
use session::{Seat, SeatIds, Session};
use table::Tables;
use taker::Taker;

pub use admission::{Answer, Cause, Denial, Judged, Reclaim, Remark};
pub use bar::{BarBy, Barred, Unbarrable};
pub use checkout::{Claimed, NewLease, Receipt, Want};
pub use database::{Database, Viewpoint};
pub use lease::MayUse;
pub use publish::{Judgement, Published};
pub use tally::Tally;

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
