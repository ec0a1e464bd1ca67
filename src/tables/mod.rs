//! The tables of the extension, one file for each, which is called as its table is: what a row says, how it is read
//! and how it is written.

pub mod allotments;
pub mod counts;
pub mod exemptions;
pub mod interference;
pub mod keys;
pub mod leases;
pub mod licenses;
pub mod reservations;
