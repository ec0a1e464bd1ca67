//! What applications call: checkouts, leases, the queue, and poolers.

mod checkouts;
mod held;
mod idle;
mod leases;
mod leases_last;
mod leases_undone;
mod line;
mod pooler;
mod reclaim;
mod timeouts;
