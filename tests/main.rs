//! The integration tests: real servers, real connections from many hosts. One binary, a module a topic.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that can't go on says so by panicking"
)]

mod administration;
mod bad_input;
mod bars;
mod bars_lifted;
mod changes;
mod changes_in;
mod checkouts;
mod claims;
mod clients;
mod clocks;
mod connection_facts;
mod counting;
mod counts_last;
mod crash;
mod crowds;
mod databases;
mod dead_clients;
mod docs;
mod encodings;
mod events;
mod events_written;
mod exempt_limit;
mod exemptions;
mod exits;
mod group_access;
mod harness;
mod held;
mod idle;
mod install;
mod interference;
mod leases;
mod leases_last;
mod leases_undone;
mod line;
mod linger;
mod locked_out;
mod max_rules;
mod membership;
mod messages;
mod passed_on;
mod per_user;
mod pooler;
mod pools;
mod races;
mod reclaim;
mod recovery;
mod release;
mod renamed;
mod renewal;
mod replicated;
mod reservations;
mod restore;
mod room;
mod security;
mod signed;
mod signed_doubt;
mod sold;
mod standby;
mod stop;
mod timeouts;
mod tokens;
mod triggers;
mod util;
mod vendors;
mod views;
mod visitors;
