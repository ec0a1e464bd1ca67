//! Who holds which seat, and who may have one: every decision of pg_seats, without PostgreSQL.
//!
//! The ledger decides over a small storage trait ([`table`]), so that the same code counts in the
//! server's shared memory and in tests. Its calls never wait and never fail half-way: the caller
//! holds the lock, and what could fail (rows that don't fit, rules that moved on) is checked before
//! anything is written.
//!
//! What it keeps, and what it does with that:
//!
//! * [`acts`]: logins, checkouts, leases, the queue, rules put in force, seats taken away
//! * [`bar`]: a bar
//! * [`database`]: what is known of a database's tables
//! * [`denial`]: why a seat is denied, and what an admitted user is warned of
//! * [`event`]: an event
//! * [`hold`]: what applications hold
//! * [`identity`]: what makes two connections the same user
//! * [`license`]: a license
//! * [`map`]: the ledger's tables as plain maps in one process's memory
//! * [`narrow`]: what is left of a row of `licenses` under a token
//! * [`pauses`]: databases that could not be visited are passed over for a while
//! * [`pools`]: which databases are in which pools, and which have no leases, as it is remembered over a restart
//! * [`recents`]: what a session, or a database, has done a moment ago
//! * [`reservation`]: a row of `license_reservations`
//! * [`roles`]: the roles that reservations name
//! * [`room`]: how the room for events is divided
//! * [`rules`]: the rules of a database
//! * [`seat`]: a seat
//! * [`session`]: a session as the ledger knows it, and the seat that it may hold
//! * [`spell`]: a spell
//! * [`state`]: the ledger's state
//! * [`table`]: the storage that the ledger decides over
//! * [`taker`]: a user's seats, where a license limits how many one may have
//! * [`tally`]: the count of one product's seats, in one database or one pool
//! * [`time`]: time
//! * [`visit`]: a visit
//! * [`wait`]: somebody who waits for a seat
//! * [`words`]: the columns of `licenses` whose values are words
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

pub mod acts;
pub mod bar;
pub mod database;
pub mod denial;
pub mod event;
pub mod hold;
pub mod identity;
pub mod license;
pub mod map;
pub mod narrow;
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
