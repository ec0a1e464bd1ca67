//! The settings of a worker, whatever the server's configuration, the database's owner or anybody else sets for
//! sessions: they are set before it connects, at a precedence that no ALTER DATABASE or ALTER ROLE ... SET reaches.
#![allow(
    unsafe_code,
    reason = "background workers are PostgreSQL's C interface"
)]

use std::ffi::{CStr, CString, c_char, c_int};
use std::time::Duration;

use pgrx::pg_sys;

use crate::pg::{backend, compat, unguarded};

/// Settings that hold even if postgresql.conf says otherwise: a standby refuses serializable transactions, a read-only
/// transaction deletes no rows, a synchronous standby that does not answer must not keep a worker waiting, and no
/// timeout but the launcher's may end one.
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

/// Sets these settings, and how long to wait for a lock, including the lock on the database that the worker connects
/// to.
pub fn settle(patience: Duration) {
    for (name, value) in SETTLED {
        overrule(name, value);
    }
    let patience = CString::new(backend::milliseconds(patience).to_string());
    overrule(c"lock_timeout", &patience.unwrap_or_default());
}

/// Keeps every setting that a database's owner, or anybody, can set for sessions as the server's configuration has it.
/// It must be called before connecting.
pub fn ignore_others() {
    let mut names: Vec<*const c_char> = Vec::new();
    // SAFETY: PostgreSQL's array of its settings has this length, and only their common head is read. Setting one may
    // move the array, so the names are collected first.
    unsafe {
        let (settings, count) = compat::settings();
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
        // SAFETY: the name and the value are PostgreSQL's zero-terminated strings. Setting the value may free the
        // former one, so it is copied first.
        unsafe {
            let name = CStr::from_ptr(name);
            // A worker uses the database's own encoding.
            if name == c"client_encoding" {
                continue;
            }
            let value = pg_sys::GetConfigOption(name.as_ptr(), true, false);
            if !value.is_null() {
                // A copy, because the original is replaced.
                let value = CStr::from_ptr(value).to_owned();
                overrule(name, &value);
            }
        }
    }
}

/// Sets what can't be set before connecting, because it depends on the database. It must be called in a transaction.
pub fn settle_connected() {
    // SAFETY: the names of the database's encoding and of the bootstrap superuser are strings that last as long as the
    // transaction.
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

/// Sets a setting above what anybody else can set for a session. One that this version does not have, or does not
/// accept now, is left as it is.
fn overrule(name: &CStr, value: &CStr) {
    // SAFETY: both are zero-terminated strings, which PostgreSQL copies. It reports complaints at a level below an
    // error.
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
