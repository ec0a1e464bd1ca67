//! pg_seats: concurrent-user licenses, enforced by PostgreSQL itself at login.
//!
//! A hook at login counts distinct identities (by default: role and client host) against a
//! database's `licenses` table, exactly, in shared memory, and a seat is free the moment its last
//! backend ends.
//!
//! # Layout
//!
//! * [`ledger`]: who holds which seat, and who may have one: every decision, without PostgreSQL
//! * [`silence`]: how soon a client that is cut off is given up, without PostgreSQL
//! * [`installation`]: this server's key pair, and what it must not forget, without PostgreSQL
//! * [`renewal`]: the next token of a signed license, by a command; PostgreSQL at the rim
//! * [`tokens`]: signed licenses: what a token says, and whether it may be believed, without PostgreSQL
//! * `checkout`: seats that applications take themselves, and the line for them
//! * `denial`: what a denied user is told
//! * `ending`: ending those who hold a seat: stopped, idle, or to give way
//! * `events`: the audit trail, and what lasts of the counts
//! * `holders`: who holds which seat
//! * `lease`: holds that outlive a session
//! * `login`: the hook, and admission at the end of the startup transaction
//! * `licenses`: the tables: noticing changes, reading them, putting them in force
//! * `memory`: the ledger in shared memory, behind one lock
//! * `worker`: the launcher, and the visitor that reads a database's tables for its pool
//! * `api`: the functions under the views
//! * `pg`: what we need of PostgreSQL, as safe calls
//! * `settings`: `pg_seats.*`
//!
//! The tables, views and privileges are in `sql/`. Without a `pgNN` feature the crate is what needs
//! no PostgreSQL alone.
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        reason = "a test fails by panicking"
    )
)]

pub mod core;
pub mod signed;

#[cfg(feature = "pgrx")]
mod api;
#[cfg(feature = "pgrx")]
mod checkout;
#[cfg(feature = "pgrx")]
mod denial;
#[cfg(feature = "pgrx")]
mod ending;
#[cfg(feature = "pgrx")]
mod events;
#[cfg(feature = "pgrx")]
mod holders;
#[cfg(feature = "pgrx")]
mod lease;
#[cfg(feature = "pgrx")]
mod login;
#[cfg(feature = "pgrx")]
mod memory;
#[cfg(feature = "pgrx")]
mod pg;
#[cfg(feature = "pgrx")]
mod rules;
#[cfg(feature = "pgrx")]
mod server;
#[cfg(feature = "pgrx")]
mod settings;
#[cfg(feature = "pgrx")]
mod tables;
#[cfg(feature = "pgrx")]
mod worker;
