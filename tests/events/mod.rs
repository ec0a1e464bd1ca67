//! The audit trail.

mod events;
mod events_written;
mod room;
