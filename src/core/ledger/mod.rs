//! Who holds which seat, and who may have one: every decision of pg_seats, without PostgreSQL.
//!
//! The ledger works on a small storage trait ([`table`]), so the same code counts in the server's shared memory and in
//! tests. Its calls never wait and never fail half-way: the caller must hold the lock, and whatever could fail (rows
//! that do not fit, rules that have changed) is checked before anything is written.
//!
//! What it keeps, and what it does with that:
//!
//! * [`acts`]: logins, checkouts, leases, the queue, putting rules in force, taking seats away
//! * [`bar`]: bars, which keep somebody out for a time
//! * [`database`]: what is known about a database's tables
//! * [`denial`]: why a seat is denied, and what an admitted user is warned about
//! * [`event`]: events of the audit trail
//! * [`hold`]: what applications hold
//! * [`identity`]: what makes two connections the same user
//! * [`license`][]: licenses
//! * [`map`]: the ledger's tables as plain maps in the memory of one process
//! * [`clamp`]: clamping a row of `licenses` to the terms of its token
//! * [`numbers`]: numbers that must not be taken for one another
//! * [`pauses`]: how long databases that could not be visited are skipped
//! * [`pools`]: what is remembered across restarts: which databases are in which pools, and which have no leases
//! * [`recents`]: what a session or a database has done in the last moment
//! * [`reservation`]: rows of `license_reservations`
//! * [`roles`]: the roles that reservations name
//! * [`room`]: how the room for events is divided
//! * [`rules`]: the rules of a database
//! * [`seat`][]: seats
//! * [`session`]: sessions as the ledger knows them, and the seat that each may hold
//! * [`spell`]: denials of one user that are reported together
//! * [`state`]: the ledger's state
//! * [`table`]: the storage that the ledger works on
//! * [`taker`]: how many seats a user has taken, where a license limits that
//! * [`tally`]: the count of one product's seats, in one database or one pool
//! * [`time`]: moments and clocks
//! * [`visit`]: visits of databases by database workers
//! * [`wait`]: sessions that wait for a seat
//! * [`words`]: the columns of `licenses` whose values are words
//!
//! **Sessions** are registered one by one, licensed or not; the rules of their database decide which seats they take.
//! When rules change, the sessions that are in are judged again, and nobody is thrown out.
//!
//! **Logins always find room.** Checkouts and leases, the awaited ones included, are limited by the size of the table
//! of holds. The table of seats has room for a seat of each of these, and for two seats of every session: its own, and
//! one that is used while the exempt sessions are judged. Lingering seats give way.
//!
//! A **tally** counts the seats of one product: in one database, or in all databases of one pool.
//!
//! A **generation** numbers the changes of a database's tables. Rules carry the generation that was noted before they
//! were read, and are current only while it is still the database's generation. So a change in between is never lost.

pub mod acts;
pub mod bar;
pub mod clamp;
pub mod database;
pub mod denial;
pub mod event;
pub mod hold;
pub mod identity;
pub mod license;
pub mod map;
pub mod numbers;
pub mod pauses;
pub mod pools;
pub mod recents;
pub mod reservation;
pub mod roles;
pub mod room;
pub mod rules;
pub mod seat;
pub mod session;
pub mod spell;
mod state;
pub mod table;
pub mod taker;
pub mod tally;
pub mod time;
pub mod visit;
pub mod wait;
pub mod words;

#[cfg(test)]
#[path = "../../../tests/model/mod.rs"]
mod model;

pub use state::{Head, Ledger};
