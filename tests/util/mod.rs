//! What every topic needs: throwaway servers, clients from many hosts, and waiting with a deadline.
//!
//! - [`Cluster`] is a server of its own, gone with its folder at the end of the test; its methods block.
//! - [`Login`] describes one connection and opens it as a [`Session`], or returns the server's refusal as [`Denied`].
//! - [`Desk`] is a licensed server and the administrator who looks; [`Waiter`] wait in the queue there.
//! - [`Told`] compares what clients were told, when their sessions may end, with what was done.
//! - [`race`] opens many at once, [`Dice`] lets them differ; [`ClientProcess`] is a client program that can be killed.
//! - [`Shift`] sets the clocks of a server of its own, or suspends its machine.
//! - [`Lan`] is a network of two computers, with a cable that can be pulled.
//! - [`Library`] is a client library of another language; [`Pooler`] a PgBouncer before a cluster.
//! - [`Vendor`] signs licenses; an [`Issuer`] does with a JWT library of another language.
//! - A [`Clock`] is set by the test, and servers go by it.
//! - [`ticks`] is the processor time of a process.
//! - [`skipped`] says that a test can't be made here.
//! - [`eventually`] is the one way to wait: poll with a deadline.
//!
//! Tests are `#[tokio::test(flavor = "multi_thread")]`: connections run on the workers while the test's own thread blocks.
#![allow(
    dead_code,
    unused_imports,
    reason = "a toolbox: not every build of the tests uses every tool"
)]

mod admission;
mod builder;
mod client_process;
mod clock;
mod cluster;
mod denied;
mod desk;
mod dice;
mod folder;
mod issuer;
mod lan;
mod leasing;
mod library;
mod licensed;
mod login;
mod machine;
mod network;
mod office;
mod pooler;
mod processor;
mod programs;
mod race;
mod session;
mod signing;
mod skip;
mod sql;
mod standby;
mod template;
mod told;
mod trail;
mod vendor;
mod wait;

pub use admission::{admits, admits_to, expect_after_each, new_host, usage};
pub use builder::{Builder, SCRAM_HBA, TRUST_HBA};
pub use client_process::ClientProcess;
pub use clock::Clock;
pub use cluster::{Cluster, Stop, is_alive};
pub use denied::Denied;
pub use desk::{Desk, Waiter};
pub use dice::Dice;
pub use issuer::{Issuer, JwtLibrary};
pub use lan::Lan;
pub use leasing::{GRANT, app, beats, lease, lease_for, left, release, settles, with_leases};
pub use library::{Library, python};
pub use licensed::STAFF;
pub use login::Login;
pub use machine::Shift;
pub use network::has_ipv6;
pub use nix::sys::signal::Signal;
pub use office::{Office, TEN_SECONDS, seats_of, stop, stopping, warnings};
pub use pooler::Pooler;
pub use processor::ticks;
pub use programs::{Programs, Ran, run, server_user};
pub use race::race;
pub use session::Session;
pub use signing::{licensed, state};
pub use skip::skipped;
pub use told::Told;
pub use trail::{SOON, Trail, notified, shown_in_the_end};
pub use vendor::{DAY, RECORD, RECORD_COPY, Vendor, unix_now};
pub use wait::{PATIENCE, eventually, eventually_blocking};
