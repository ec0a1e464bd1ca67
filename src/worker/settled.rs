//! What a worker's settings are like, whatever the server's configuration, the database's owner or anybody else sets
//! for sessions: they are settled before it connects, at a precedence that no ALTER DATABASE or ALTER ROLE ... SET
//! has.
#![allow(
    unsafe_code,
    reason = "background workers are PostgreSQL's C interface"
)]

use std::ffi::{CStr, CString, c_char, c_int};
use std::time::Duration;

use pgrx::pg_sys;

use crate::pg::{backend, unguarded};

/// What must be so also where postgresql.conf says otherwise: a standby refuses transactions that are serializable,
/// one that is read-only deletes no rows, another server's silence must not keep a worker waiting, and no clock but
/// the launcher's ends one.
const SETTLED: [(&CStr, &CStr); 9] = [
    (c"default_transaction_isolation", c"read committed"),
    (c"default_transaction_read_only", c"off"),
    (c"default_transaction_deferrable", c"off"),
    (c"synchronous_commit", c"local"),
    (c"statement_timeout", c"0"),
    (c"idle_in_transaction_session_timeout", c"0"),
    (c"transaction_timeout", c"0"),
    (c"session_replication_role", c"origin"),
    (c"search_path", c"pg_catalog, pg_temp"),
];

/// Settles what must be so, and how long a lock is waited for: also that on the database which is to be connected to.
pub fn settle(patience: Duration) {
    for (name, value) in SETTLED {
        overrule(name, value);
    }
    let patience = CString::new(backend::milliseconds(patience).to_string());
    overrule(c"lock_timeout", &patience.unwrap_or_default());
}

/// Leaves every setting that a database's owner, or anybody, can set for sessions as the server's configuration has
/// it. Before connecting.
pub fn ignore_others() {
    let mut names: Vec<*const c_char> = Vec::new();
    // SAFETY: PostgreSQL's array of as many settings, which lasts; only its fixed head is read. Setting one may
    // move the array, so the names are taken first.
    unsafe {
        let (settings, count) = all();
        for at in 0..count {
            let setting = *settings.add(at);
            let context = (*setting).context;
            if context == pg_sys::GucContext::PGC_USERSET
                || context == pg_sys::GucContext::PGC_SUSET
            {
                names.push((*setting).name);
            }
        }
    }
    for name in names {
        // SAFETY: a setting's own name and its value, copied before it is set: it may be freed by that.
        unsafe {
            let name = CStr::from_ptr(name);
            // This database's own encoding is a worker's.
            if name == c"client_encoding" {
                continue;
            }
            let value = pg_sys::GetConfigOption(name.as_ptr(), true, false);
            if !value.is_null() {
                // A copy: what it points to is replaced.
                let value = CStr::from_ptr(value).to_owned();
                overrule(name, &value);
            }
        }
    }
}

/// What can't be settled before connecting, for it names what the database has: in a transaction.
pub fn settle_connected() {
    // SAFETY: names of this database's encoding and of the bootstrap superuser, both in memory that lasts as long.
    unsafe {
        let encoding = pg_sys::GetDatabaseEncodingName();
        if !encoding.is_null() {
            overrule(c"client_encoding", CStr::from_ptr(encoding));
        }
        let superuser = pg_sys::Oid::from(pg_sys::BOOTSTRAP_SUPERUSERID);
        let name = pg_sys::GetUserNameFromId(superuser, true);
        if pg_sys::GetSessionUserId() != superuser && !name.is_null() {
            overrule(c"session_authorization", CStr::from_ptr(name));
        }
    }
}

/// Sets a setting above what anybody else can set for a session; one that this version does not have, or does not
/// accept now, is left as it is.
fn overrule(name: &CStr, value: &CStr) {
    // SAFETY: zero-terminated texts, which are copied; complaints go nowhere.
    unsafe {
        if pg_sys::GetConfigOption(name.as_ptr(), true, false).is_null() {
            return;
        }
        unguarded::set_config_option(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_SUSET,
            pg_sys::GucSource::PGC_S_OVERRIDE,
            pg_sys::GucAction::GUC_ACTION_SET,
            true,
            pg_sys::DEBUG5 as c_int,
            false,
        );
    }
}

#[cfg(feature = "pg15")]
unsafe fn all() -> (*mut *mut pg_sys::config_generic, usize) {
    unsafe extern "C-unwind" {
        fn get_guc_variables() -> *mut *mut pg_sys::config_generic;
    }
    // SAFETY: reads this process's own state.
    let count = unsafe { pg_sys::GetNumConfigOptions() };
    // SAFETY: the same.
    (
        unsafe { get_guc_variables() },
        usize::try_from(count).unwrap_or(0),
    )
}

#[cfg(not(feature = "pg15"))]
unsafe fn all() -> (*mut *mut pg_sys::config_generic, usize) {
    let mut count: c_int = 0;
    // SAFETY: makes an array of this process's settings, and counts them.
    let settings = unsafe { pg_sys::get_guc_variables(&raw mut count) };
    (settings, usize::try_from(count).unwrap_or(0))
}
