//! What applications call: checkouts, leases, the queue, and poolers.

mod checkouts;
mod held;
mod idle;
mod leases;
mod leases_last;
mod leases_undone;
mod pooler;
mod queue;
mod reclaim;
mod timeouts;
