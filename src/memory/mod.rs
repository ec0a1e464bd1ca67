//! The ledger in shared memory, behind one lock.
//!
//! Locking rules: everything here is read and written under the one lock "pg_seats". Under it nothing raises an error,
//! waits or allocates: callers make room before, copy what they need, release the lock, and report afterwards. [`read`]
//! takes it shared, [`write`] exclusive; they do not nest.
//!
//! A process that reads much reads in slices ([`each_entry`]) and sleeps a moment between two of them: such locks are
//! not fair, and one that reads without a pause would overtake all who wait to write. Only one process does so at a
//! time: the [`readers_lock`] is a second lock, "pg_seats readers", taken before the first one, and never by a session
//! that logs in or ends.
//!
//! Nobody gets here without the library preloaded: each SQL function calls [`require_preloaded`] first, the triggers'
//! function asks [`is_attached`], and hooks, callbacks and workers are only there if it is.
//!
//! All of it is rebuilt empty when the server starts, and after a crash of any backend: then every session is gone too.

mod access;
mod launcher;
pub mod reserve;
pub mod rules;
mod segment;
mod shared;
pub mod termination;
mod termination_request;

pub use access::{
    collect, each_entry, each_session, let_others_by, push, read, read_last, readers_lock,
    sessions, this_session, write,
};
pub use launcher::{
    announce_rules_read, await_rules_read, has_launcher, launcher_looks, set_launcher,
    stop_awaiting, wake_launcher,
};
pub use segment::{PRELOAD_HINT, create, is_attached, request, require_preloaded};
pub use shared::Shared;
