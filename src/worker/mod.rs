//! The launcher and its database workers. The launcher ends leases whose time is up, and sends workers to read the
//! tables of databases that share a pool, and to write audit trails.
//!
//! No login needs them unless its license is pooled: what other databases add to a pool must have been read once since
//! the start, and again after each change. The launcher is connected to no database. It sends workers into databases,
//! which do their work and leave: so DROP DATABASE and CREATE DATABASE ... TEMPLATE never wait for one longer than a
//! moment. The launcher waits for none of them, so that no database keeps others waiting.
//!
//! * [`launcher`]: what the launcher does itself, and when it looks again
//! * [`process`]: a process beside the launcher
//! * [`renewal`]: a worker of its own that renews signed licenses
//! * [`reserve`]: the worker in reserve
//! * [`settled`]: a worker's settings
//! * [`database`]: what a database worker does
//! * [`visits`]: the visits under way

mod database;
mod launcher;
mod process;
mod renewal;
mod reserve;
mod settled;
mod visits;

pub use launcher::register;
