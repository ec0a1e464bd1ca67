//! What the ledger does: each file answers one kind of question, or makes one kind of change. The caller must hold the
//! lock.
//!
//! * [`admission`]: answers logins
//! * [`bars`]: keeps out those whom an administrator has barred
//! * [`checkout`]: answers applications
//! * [`ending`]: takes seats away from their holders
//! * [`exempt`]: limits how many may be exempt at once, where a license's signature does
//! * [`generations`]: tracks changes of each database's tables
//! * [`leases`]: extends leases, and ends them
//! * [`merge`]: reports together what happens often
//! * [`pauses`]: notices pauses during which nothing ran
//! * [`publish`]: puts a database's rules in force, and judges those who are in by them
//! * [`queue`]: serves the queue for seats
//! * [`reserve`]: keeps seats of a license for members of a role, and limits those that they may use
//! * [`room`]: divides the room for events that are yet to be written
//! * [`seats`]: gives every holder the seat that it should have
//! * [`shares`]: divides the room for rules
//! * [`takers`]: limits how many seats one user may have (`licenses.max_per_user`)
//! * [`trail`]: notes what the audit trail reports
//! * [`visits`]: sends database workers into databases

pub mod admission;
pub mod bars;
pub mod checkout;
pub mod ending;
pub mod exempt;
pub mod generations;
pub mod leases;
pub mod merge;
pub mod pauses;
pub mod publish;
pub mod queue;
pub mod reserve;
pub mod room;
pub mod seats;
pub mod shares;
pub mod takers;
pub mod trail;
pub mod visits;
