//! The audit trail.

mod events_written;
mod room;
mod trail;
