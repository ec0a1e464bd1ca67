//! What the ledger does: each file answers one kind of question, or makes one kind of change, while its caller holds
//! the lock.
//!
//! * [`admission`]: answers logins
//! * [`bars`]: those whom an administrator keeps out for a time
//! * [`checkout`]: answers applications
//! * [`ending`]: seats that are taken away from their holders
//! * [`exempt`]: how many may be exempt at once, where a license's signature limits it
//! * [`generations`]: what is known of each database's tables
//! * [`leases`]: leases
//! * [`merge`]: what happens so often that it is told together
//! * [`pauses`]: pauses
//! * [`publish`]: puts a database's rules in force, and judges those who are in by them
//! * [`queue`]: the line for seats
//! * [`reserve`]: seats of a license that are kept for members of a role, and the most that they may use
//! * [`room`]: the room for what the audit trails are yet to be told
//! * [`seats`]: gives every holder the seat that it asks for
//! * [`shares`]: room for rules
//! * [`takers`]: how many seats one user has taken, where a license limits that (`licenses.max_per_user`)
//! * [`trail`]: what the audit trail tells
//! * [`visits`]: visits

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
