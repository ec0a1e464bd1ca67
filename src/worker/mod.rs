//! The launcher, which ends leases whose time is up and has databases' tables read that share a pool
//! and audit trails written, and its visitors.
//!
//! No login needs them unless its license is pooled: what other databases add to a pool must have
//! been read once since the start, and again after each change. The launcher is connected to no
//! database. It sends visitors into databases, which read their tables and leave: so
//! DROP DATABASE and CREATE DATABASE ... TEMPLATE never wait for one longer than a moment. It waits for none
//! of them, so that no database keeps those of others waiting.
//!
//! * [`launcher`]: what it does itself, and when it looks again
//! * [`process`]: a process beside the launcher
//! * [`renewal`]: a worker of its own that renews signed licenses
//! * [`reserve`]: the visitor in reserve
//! * [`settled`]: what a worker's settings are like
//! * [`visitor`]: what a visitor does
//! * [`visits`]: the visits under way

mod launcher;
mod process;
mod renewal;
mod reserve;
mod settled;
mod visitor;
mod visits;

pub use launcher::register;
