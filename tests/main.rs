//! The integration tests: real servers, real connections from many hosts. One binary, a folder a topic.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that can't go on says so by panicking"
)]

mod administration;
mod applications;
mod clients;
mod counting;
mod docs;
mod events;
mod harness;
mod servers;
mod signed;
mod util;
