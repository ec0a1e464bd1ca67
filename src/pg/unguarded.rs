//! Functions of PostgreSQL that raise no error where they are called here. pgrx guards every call of its bindings
//! against an error, at the price of a jump buffer and two kilobytes of code. What each login and each use of the
//! ledger calls is declared here without the guard.
#![allow(unsafe_code, reason = "declares PostgreSQL's functions")]

use std::ffi::{c_char, c_int, c_long, c_void};

use pgrx::pg_sys::{
    Datum, GucAction, GucContext, GucSource, HASH_SEQ_STATUS, HASHACTION, HTAB, LWLock, LWLockMode,
    Latch, Oid, Port, TimestampTz,
};

unsafe extern "C-unwind" {
    // Raises an error only in a process that holds 200 locks.
    pub fn LWLockAcquire(lock: *mut LWLock, mode: LWLockMode::Type) -> bool;
    pub fn LWLockConditionalAcquire(lock: *mut LWLock, mode: LWLockMode::Type) -> bool;
    pub fn LWLockRelease(lock: *mut LWLock);

    // These raise no error for a table in shared memory whose scan runs to its end, or is ended.
    pub fn hash_search(
        table: *mut HTAB,
        key: *const c_void,
        action: HASHACTION::Type,
        found: *mut bool,
    ) -> *mut c_void;
    pub fn hash_seq_init(status: *mut HASH_SEQ_STATUS, table: *mut HTAB);
    pub fn hash_seq_search(status: *mut HASH_SEQ_STATUS) -> *mut c_void;
    pub fn hash_seq_term(status: *mut HASH_SEQ_STATUS);
    pub fn hash_get_num_entries(table: *mut HTAB) -> c_long;

    // Ends the process if there is no room for another callback.
    pub fn before_shmem_exit(
        function: Option<unsafe extern "C-unwind" fn(c_int, Datum)>,
        argument: Datum,
    );

    // When a client logs in, an error of these ends the process, because nothing catches it.
    pub fn superuser_arg(role: Oid) -> bool;
    pub fn has_rolreplication(role: Oid) -> bool;

    // Raises no error if it is told so.
    pub fn pg_verify_mbstr(
        encoding: c_int,
        text: *const c_char,
        len: c_int,
        no_error: bool,
    ) -> bool;

    // Raises no error for a valid value.
    pub fn SetConfigOption(
        name: *const c_char,
        value: *const c_char,
        context: GucContext::Type,
        source: GucSource::Type,
    );

    // Raises no error if it is told to complain at a level below, for a valid value or not.
    pub fn set_config_option(
        name: *const c_char,
        value: *const c_char,
        context: GucContext::Type,
        source: GucSource::Type,
        action: GucAction::Type,
        change: bool,
        level: c_int,
        is_reload: bool,
    ) -> c_int;

    // Rust's own formatting would make each login map two more parts of the library.
    pub fn pg_ltoa(number: i32, text: *mut c_char) -> c_int;

    // These report to the log that the kernel doesn't answer.
    pub fn pq_getkeepalivesidle(port: *mut Port) -> c_int;
    pub fn pq_getkeepalivesinterval(port: *mut Port) -> c_int;
    pub fn pq_getkeepalivescount(port: *mut Port) -> c_int;

    // These raise an error only if the timer can't be set.
    pub fn disable_timeout(timeout: c_int, keep_indicator: bool);
    pub fn enable_timeout_after(timeout: c_int, milliseconds: c_int);
    // Ends the process if others have taken all ten.
    pub fn RegisterTimeout(timeout: c_int, handler: Option<unsafe extern "C-unwind" fn()>)
    -> c_int;

    // Ends the process at its next safe moment: the handler of SIGTERM.
    pub fn die(signal: c_int);

    pub fn GetAuthenticatedUserId() -> Oid;
    pub fn GetCurrentTimestamp() -> TimestampTz;
    pub fn GetDatabaseEncoding() -> c_int;
    pub fn pg_get_client_encoding() -> c_int;
    pub fn RecoveryInProgress() -> bool;
    pub fn SetLatch(latch: *mut Latch);
}

/// A number beyond PostgreSQL's own timeouts in every version: the next free one is assigned.
pub const USER_TIMEOUT: c_int = 20;
