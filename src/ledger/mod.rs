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
//! * [`narrow`]: what is left of a license under a token
//! * [`publish`]: puts rules in force
//! * [`reservation`]: seats that are kept for members of a role
//! * [`rules`]: a database's licenses and exemptions, and what they make of a session
//! * [`seats`]: gives every holder its seat
//! * [`session`]: sessions and the seats they hold
//! * [`table`]: the storage
//! * [`tally`]: the counts
//!
//! **Sessions** are registered one by one, licensed or not; seats are what their database's rules
//! make of them. When rules change, the sessions that are in are judged again and nobody is thrown
//! out.
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
#[cfg(test)]
mod model;
pub mod narrow;
pub mod publish;
pub mod reservation;
pub mod rules;
pub mod seats;
pub mod session;
pub mod table;
pub mod tally;

use bar::Bar;
use event::Event;
use hold::{Hold, LongName};
use license::{License, Timestamp};
use line::Wait;
use reservation::{Reservation, ReservedRoles};
use rules::Exemption;
use session::{Seat, SeatIds, Session};
use table::Tables;

pub use admission::{Answer, Cause, Denial, Judged, Reclaim, Remark};
pub use checkout::{Claimed, NewLease, Receipt, Want};
pub use database::{Database, Viewpoint};
pub use lease::MayUse;
pub use publish::{Judgement, Published};
pub use tally::Tally;

/// What the ledger keeps beside its tables.
#[derive(Debug)]
pub struct Head {
    /// The last generation given to a change, of whatever database.
    pub(super) clock: u64,
    /// The last number given to a session, seat or tally.
    pub(super) numbers: u64,
    /// What makes ids of the numbers of seats.
    pub seat_ids: SeatIds,
    /// Seats that logins may take in all (`pg_seats.max_seats`). The table of seats has room for as
    /// many and two more for each session: those already in always find theirs, and once more while
    /// two rules of counting are compared.
    pub max_seats: usize,
    /// How many seats are asked to give way.
    pub asking: u32,
    /// How often rules were put in force.
    pub published: u64,
    /// Every database of the server has been visited once.
    pub visited: bool,
    /// No time of a lease, or of a seat that lingers, is up before this.
    pub next_due: Timestamp,
    /// No database's audit trail is to be written before this.
    pub next_write: Timestamp,
    /// Somebody in line should look.
    pub ring: bool,
    /// The roles that reservations name.
    pub reserved_roles: ReservedRoles,
    /// How often those have changed.
    pub(super) roles_edition: u64,
}

impl Default for Head {
    fn default() -> Head {
        Head {
            clock: 0,
            numbers: 0,
            seat_ids: SeatIds(0),
            max_seats: 0,
            asking: 0,
            published: 0,
            visited: false,
            next_due: Timestamp::MAX,
            next_write: Timestamp::MAX,
            ring: false,
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
    /// What applications hold.
    pub holds: T::Of<Hold>,
    /// Who waits for a seat.
    pub waits: T::Of<Wait>,
    /// The names of applications' users that are too long for a label.
    pub long_names: T::Of<LongName>,
    /// Who can't come back for a time.
    pub bars: T::Of<Bar>,
    /// What the audit trails are yet to be told.
    pub events: T::Of<Event>,
    /// The texts of events that are too long for a label.
    pub texts: T::Of<LongName>,
}
