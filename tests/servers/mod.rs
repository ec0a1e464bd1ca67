//! Servers that start, stop, crash and follow one another, and the clocks and networks around them.

mod changes;
mod changes_in;
mod clocks;
mod crash;
mod crowds;
mod database_workers;
mod dead_clients;
mod exits;
mod recovery;
mod release;
mod renamed;
mod replicated;
mod restore;
mod standby;
