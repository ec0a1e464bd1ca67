//! The ledger tested as a whole: [`server`] does with it what a server does, [`naive`] says from
//! scratch what must come out.
//!
//! * [`server`]: logins that read the tables when the rules in force are not current
//! * [`counting`]: who takes a seat, who is denied, and what is counted, one test a rule
//! * [`per_user`]: how many seats one user may have
//! * [`pools`]: databases that count together, and rules of counting that disagree
//! * [`reservations`]: seats that are kept for members of a role, and how many they may use
//! * [`claims`]: which license a login claims, who is exempt, and the words for a license's state
//! * [`checkouts`]: seats that sessions check out
//! * [`leases`]: how leases last and end, and what becomes of holds when rows change
//! * [`clamp`]: rows under a token
//! * [`exempt`]: how many may be exempt at once
//! * [`events`]: what the audit trail is told, and how much of it there is room for
//! * [`queue`]: who is called, and when
//! * [`linger`]: seats that stay taken for their identity
//! * [`ending`]: seats that are stopped, and seats that give way to somebody
//! * [`bars`]: whom a bar binds, whatever names it goes by
//! * [`shares`]: how databases share the room for rules
//! * [`generations`]: changes of the tables, and the rules read before, while and after
//! * [`visits`]: which databases are visited, and awaited
//! * [`naive`]: the counting rules by brute force over a list of sessions
//! * [`history`]: random histories, after each step of which ledger and naive model must agree
//! * [`pauses`]: machines that were suspended, clocks that were set
//! * [`world`]: both at once, a step at a time
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod bars;
mod checkouts;
mod claims;
mod clamp;
mod counting;
mod ending;
mod events;
mod exempt;
mod generations;
mod history;
mod leases;
mod linger;
mod naive;
mod pauses;
mod per_user;
mod pools;
mod queue;
mod reservations;
mod server;
mod shares;
mod visits;
mod world;
