//! What other backends are doing, from PostgreSQL's own status entries (as `pg_stat_activity`).
#![allow(unsafe_code, reason = "reads PostgreSQL's backend status entries")]

use std::collections::HashMap;
use std::ffi::CStr;

use pgrx::pg_sys;

use super::compat;
use super::encoding::decode_lossy;
use crate::core::ledger::numbers::{DatabaseOid, RoleOid};
use crate::core::ledger::time::Timestamp;

/// What a backend is doing.
#[derive(Clone, Debug)]
pub struct Activity {
    /// Since when it is inactive; `None` while it runs a query.
    pub inactive_since: Option<Timestamp>,
    /// Since when its status is what it is, by the wall clock at that time: if it is the same, nothing has changed.
    pub status_since: Timestamp,
    /// Whether it is in a transaction.
    pub in_transaction: bool,
    /// Whether it serves no client, as a background or parallel worker.
    pub background_worker: bool,
    /// The database's OID.
    pub database: DatabaseOid,
    /// The role's OID.
    pub role: RoleOid,
    /// Its application name.
    pub application_name: String,
}

/// Returns since when a backend is inactive; `now` if it is not, or nothing is known of it.
pub fn inactive_since(activities: &HashMap<i32, Activity>, pid: i32, now: Timestamp) -> Timestamp {
    activities
        .get(&pid)
        .and_then(|activity| activity.inactive_since)
        .unwrap_or(now)
}

/// Returns what every backend is doing at this moment, even if the transaction has looked before.
pub fn activities_now() -> HashMap<i32, Activity> {
    // SAFETY: the call drops this process's own copy of the entries.
    unsafe { pg_sys::pgstat_clear_backend_activity_snapshot() };
    activities()
}

/// Returns what every backend is doing, by process id, as it was when the transaction first looked.
pub fn activities() -> HashMap<i32, Activity> {
    let mut activities = HashMap::new();
    // SAFETY: PostgreSQL copies the entries for this transaction; the pointers are into that copy.
    unsafe {
        for at in 1..=pg_sys::pgstat_fetch_stat_numbackends() {
            let entry = compat::backend_status(at);
            if entry.is_null() {
                continue;
            }
            let entry = &(*entry).backendStatus;
            let inactive = matches!(
                entry.st_state,
                pg_sys::BackendState::STATE_IDLE
                    | pg_sys::BackendState::STATE_IDLEINTRANSACTION
                    | pg_sys::BackendState::STATE_IDLEINTRANSACTION_ABORTED
            );
            let name = entry.st_appname;
            activities.insert(
                entry.st_procpid,
                Activity {
                    inactive_since: inactive.then_some(entry.st_state_start_timestamp),
                    status_since: entry.st_state_start_timestamp,
                    in_transaction: entry.st_state != pg_sys::BackendState::STATE_IDLE,
                    background_worker: entry.st_backendType == pg_sys::BackendType::B_BG_WORKER,
                    database: entry.st_databaseid.into(),
                    role: entry.st_userid.into(),
                    application_name: if name.is_null() {
                        String::new()
                    } else {
                        decode_lossy(CStr::from_ptr(name).to_bytes()).into_owned()
                    },
                },
            );
        }
    }
    activities
}
