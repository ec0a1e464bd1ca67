//! pg_seats: concurrent-user licenses, enforced by PostgreSQL itself at login.
//!
//! A hook at login counts distinct identities (by default: role and client host) against a database's `licenses` table,
//! exactly, in shared memory, and a seat is free the moment its last backend ends.
//!
//! # Layout
//!
//! In the order in which a login meets the modules, then those that it does not meet; `docs/architecture.md` shows which
//! may know which:
//!
//! * `server`: where PostgreSQL enters: the start, every hook, every transaction callback
//! * `login`: admission at the end of the startup transaction
//! * `rules`: notices changes of the tables, reads them and puts their rules in force
//! * `memory`: the ledger in shared memory, behind one lock
//! * [`core`]: every decision, without PostgreSQL: the ledger, who holds which seat and who may have one;
//!   tokens
//! * `denial`, `holders`: what a denied user is told, and who holds which seat
//! * `checkout`, `lease`: seats that applications take, the queue for them, and holds that outlive a session
//! * `ending`: takes seats away from holders: stopped, idle, or to give way; bars
//! * [`signed`]: signed licenses, a wing of its own
//! * `events`: the audit trail, and the counts that last
//! * `worker`: the launcher, and the workers that it sends into databases
//! * `api`: the SQL functions
//! * `tables`: the rows of each table, read and written
//! * `pg`: what pg_seats needs of PostgreSQL, as safe calls
//! * `settings`: `pg_seats.*`
//!
//! The tables, views and privileges are in `sql/`. Without a `pgNN` feature the crate has only what needs no
//! PostgreSQL.
//!
//! # Glossary
//!
//! | word | meaning |
//! | --- | --- |
//! | product | what is licensed |
//! | license | a row of `licenses`: how many seats of a product, and the rules |
//! | seat | one unit of simultaneous use, held by one identity |
//! | identity | what makes two connections the same user |
//! | session | a client backend of PostgreSQL |
//! | slot | the place of a session among those that the server has room for |
//! | holder | a session, checkout or lease that keeps a seat taken |
//! | checkout | a hold on a seat that a session takes itself |
//! | lease | a hold on a seat that outlives any session |
//! | pool | databases of one server that count a product together |
//! | queue | those who wait for a seat, in their order, each with a ticket |
//! | exempt | not counted and never denied |
//! | reservation | seats kept for members of a role |
//! | bar | who was stopped and cannot come back for a time |
//! | linger | how long a seat stays taken after its last holder left |
//! | overdraft | seats admitted beyond `seats` |
//! | reason | the machine-readable cause of a denial |
//! | rules | the license tables of a database, as they are in force |
//! | generation | the number of a change of a database's tables |
//! | ledger | who holds which seat, in shared memory |
//! | tally | the count of one product, in one database or pool |
//! | launcher | the worker that is connected to no database |
//! | database worker | a worker that is sent into a database, and leaves it again |
//! | event | a row of the audit trail |
//! | token | a signed license, as a JWS |
//! | installation | one server, by its key pair |
//! | record | what an installation must not forget, in a file |
//! | allotment | seats that one installation has passed on to another |
//! | receipt | the proof that an allotment was given back |
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
