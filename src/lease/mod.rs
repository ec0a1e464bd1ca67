//! Leases: holds on seats for users who share connections, which outlive any session.
//!
//! A lease is a row of `license_leases`, written by the transaction that takes it, and a hold in the ledger, which
//! counts from the call on. Its time is kept in the ledger alone: a heartbeat writes nothing. After a crash or
//! promotion the rows are read with the licenses, and each lease lasts its whole time once more.
//!
//! * [`expiry`]: ends leases whose time is up
//! * [`transaction`]: settles leases when a transaction ends

pub mod expiry;
pub mod transaction;

/// The most leases that are changed before the lock is released for others.
const BATCH: usize = 256;
