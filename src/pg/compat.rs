//! What differs between PostgreSQL 15, 16, 17 and 18, under one name for all of them; no other file asks for the
//! version.
//!
//! | since | what differs | here |
//! | --- | --- | --- |
//! | 16 | the walkers of trees have names in `_impl` | [`raw_expression_tree_walker`] and its like |
//! | 16 | a query lists privileges apart from its tables | [`check_privileges_as`] |
//! | 16 | one function checks the privileges on all kinds of objects | [`schema_aclcheck`] |
//! | 16 | memberships say whether they let inherit, or SET ROLE | [`Membership`] |
//! | 16 | functions and their arguments | [`backend_status`], [`insert_index_tuples`], [`settings`] |
//! | 17 | `Port` lacks `canAcceptConnections` | [`Port`] |
//! | 17 | a PGPROC does not know its own number | [`slot_of`] |
//! | 17 | an extension can name its wait events | [`named_wait_event`] |
//! | 17 | `transaction_timeout` | [`stop_transaction_timeout`] |
//! | 18 | `Port` has `local_host` | [`Port`] |
//! | 18 | functions and their arguments | [`run_to_end`], [`primary_key`], [`set_signal_handler`] |
#![allow(unsafe_code, reason = "calls PostgreSQL, and lays out its structs")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;

use pgrx::pg_sys;

use crate::core::ledger::numbers::Slot;

#[cfg(any(feature = "pg17", feature = "pg18"))]
use super::unguarded;

/// The head of PostgreSQL's `Port`, up to the last field that is needed. pgrx's own binding does not fit every version.
/// A test compares what is read here with what clients sent.
#[repr(C)]
pub struct Port {
    sock: c_int,
    noblock: bool,
    proto: u32,
    pub laddr: pg_sys::SockAddr,
    pub raddr: pg_sys::SockAddr,
    remote_host: *mut c_char,
    remote_hostname: *mut c_char,
    remote_hostname_resolv: c_int,
    remote_hostname_errcode: c_int,
    remote_port: *mut c_char,
    #[cfg(any(feature = "pg15", feature = "pg16"))]
    can_accept_connections: c_int,
    #[cfg(feature = "pg18")]
    local_host: [c_char; 64],
    database_name: *mut c_char,
    pub user_name: *mut c_char,
    pub cmdline_options: *mut c_char,
    pub guc_options: *mut pg_sys::List,
    pub application_name: *mut c_char,
}

/// A row of pg_auth_members.
#[repr(C)]
pub struct Membership {
    #[cfg(not(feature = "pg15"))]
    oid: pg_sys::Oid,
    pub roleid: pg_sys::Oid,
    member: pg_sys::Oid,
    grantor: pg_sys::Oid,
    admin_option: bool,
    #[cfg(not(feature = "pg15"))]
    inherit_option: bool,
    #[cfg(not(feature = "pg15"))]
    set_option: bool,
}

impl Membership {
    /// Tells whether it lets the member inherit the role's privileges or become it. Some do neither: whoever creates a
    /// role is its administrator, and no more.
    pub fn counts(&self) -> bool {
        #[cfg(feature = "pg15")]
        return true;
        #[cfg(not(feature = "pg15"))]
        return self.inherit_option || self.set_option;
    }
}

/// A function that visits a node of a tree, and returns true to end the walk.
pub type Visit = unsafe extern "C-unwind" fn(*mut pg_sys::Node, *mut c_void) -> bool;

/// A function that runs when a signal arrives.
pub type SignalHandler = unsafe extern "C-unwind" fn(c_int);

unsafe extern "C-unwind" {
    // The bindings lack the walkers for 15, whose declarations don't say which arguments the callback gets.
    #[cfg_attr(not(feature = "pg15"), link_name = "raw_expression_tree_walker_impl")]
    pub fn raw_expression_tree_walker(
        node: *mut pg_sys::Node,
        visit: Visit,
        context: *mut c_void,
    ) -> bool;
    #[cfg_attr(not(feature = "pg15"), link_name = "expression_tree_walker_impl")]
    pub fn expression_tree_walker(
        node: *mut pg_sys::Node,
        visit: Visit,
        context: *mut c_void,
    ) -> bool;
    #[cfg_attr(not(feature = "pg15"), link_name = "query_tree_walker_impl")]
    pub fn query_tree_walker(
        query: *mut pg_sys::Query,
        visit: Visit,
        context: *mut c_void,
        flags: c_int,
    ) -> bool;

    #[cfg_attr(feature = "pg18", link_name = "pqsignal_be")]
    fn pqsignal(signal: c_int, handler: SignalHandler) -> *mut c_void;
}

/// Sets the handler of a signal.
///
/// # Safety
///
/// The handler must only do what signal handlers may.
pub unsafe fn set_signal_handler(signal: c_int, handler: SignalHandler) {
    // SAFETY: the caller passes such a handler; the call raises no error.
    unsafe { pqsignal(signal, handler) };
}

/// Makes the executor check the privileges on a query's tables as this role's. Children of the tables don't count.
///
/// # Safety
///
/// The query must be as the analyser or the rewriter made it.
pub unsafe fn check_privileges_as(query: *mut pg_sys::Query, role: pg_sys::Oid) {
    // SAFETY: the lists of the query hold nodes of these types.
    unsafe {
        #[cfg(feature = "pg15")]
        for table in super::list::elements::<pg_sys::RangeTblEntry>((*query).rtable) {
            if (*table).rtekind == pg_sys::RTEKind::RTE_RELATION {
                (*table).checkAsUser = role;
            }
        }
        #[cfg(not(feature = "pg15"))]
        for table in super::list::elements::<pg_sys::RTEPermissionInfo>((*query).rteperminfos) {
            (*table).checkAsUser = role;
            (*table).inh = false;
        }
    }
}

/// Runs a query that was started to its end.
///
/// # Safety
///
/// The query must have been started.
pub unsafe fn run_to_end(query: *mut pg_sys::QueryDesc) {
    let forward = pg_sys::ScanDirection::ForwardScanDirection;
    // SAFETY: the caller has started it.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        pg_sys::ExecutorRun(query, forward, 0, true);
        #[cfg(feature = "pg18")]
        pg_sys::ExecutorRun(query, forward, 0);
    }
}

/// Inserts a row into the indexes of its table.
///
/// # Safety
///
/// The row must have just been inserted, and the indexes be open.
pub unsafe fn insert_index_tuples(
    target: *mut pg_sys::ResultRelInfo,
    slot: *mut pg_sys::TupleTableSlot,
    state: *mut pg_sys::EState,
) {
    let (mut conflict, none) = (false, ptr::null_mut());
    // SAFETY: as the caller ensures.
    unsafe {
        #[cfg(feature = "pg15")]
        pg_sys::ExecInsertIndexTuples(target, slot, state, false, false, &raw mut conflict, none);
        #[cfg(not(feature = "pg15"))]
        pg_sys::ExecInsertIndexTuples(
            target,
            slot,
            state,
            false,
            false,
            &raw mut conflict,
            none,
            false,
        );
    }
}

/// Returns the index of a table's primary key, or no OID.
///
/// # Safety
///
/// The table must be open.
pub unsafe fn primary_key(table: pg_sys::Relation) -> pg_sys::Oid {
    // SAFETY: the table is open.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        return pg_sys::RelationGetPrimaryKeyIndex(table);
        #[cfg(feature = "pg18")]
        return pg_sys::RelationGetPrimaryKeyIndex(table, false);
    }
}

/// Tells whether a role has these privileges on a schema.
///
/// # Safety
///
/// It must be called in a transaction.
pub unsafe fn schema_aclcheck(
    schema: pg_sys::Oid,
    role: pg_sys::Oid,
    privileges: pg_sys::AclMode,
) -> bool {
    // SAFETY: a catalog look-up in a transaction.
    let result = unsafe {
        #[cfg(feature = "pg15")]
        let result = pg_sys::pg_namespace_aclcheck(schema, role, privileges);
        #[cfg(not(feature = "pg15"))]
        let result = pg_sys::object_aclcheck(pg_sys::NamespaceRelationId, schema, role, privileges);
        result
    };
    result == pg_sys::AclResult::ACLCHECK_OK
}

/// Returns the status of a backend, from 1, as it was when the transaction first looked; null if it is gone.
pub fn backend_status(number: c_int) -> *mut pg_sys::LocalPgBackendStatus {
    // SAFETY: PostgreSQL copies the statuses for this transaction; a number out of range has none.
    unsafe {
        #[cfg(feature = "pg15")]
        return pg_sys::pgstat_fetch_stat_local_beentry(number);
        #[cfg(not(feature = "pg15"))]
        return pg_sys::pgstat_get_local_beentry_by_index(number);
    }
}

/// Returns PostgreSQL's array of this process's settings, and its length. Setting one may move the array.
pub fn settings() -> (*mut *mut pg_sys::config_generic, usize) {
    // SAFETY: the calls only read this process's own state, or make an array of it.
    let (settings, count) = unsafe {
        #[cfg(feature = "pg15")]
        let all = (pg_sys::get_guc_variables(), pg_sys::GetNumConfigOptions());
        #[cfg(not(feature = "pg15"))]
        let all = {
            let mut count: c_int = 0;
            (pg_sys::get_guc_variables(&raw mut count), count)
        };
        all
    };
    (settings, usize::try_from(count).unwrap_or(0))
}

/// Returns a backend's slot among all that the server can have, from 0.
///
/// # Safety
///
/// It must be the PGPROC of one of the server's backends.
pub unsafe fn slot_of(backend: *mut pg_sys::PGPROC) -> Slot {
    // SAFETY: the caller passes one of the array's elements.
    unsafe {
        #[cfg(any(feature = "pg15", feature = "pg16"))]
        let number = (*backend).pgprocno;
        #[cfg(any(feature = "pg17", feature = "pg18"))]
        let number = backend.offset_from((*pg_sys::ProcGlobal).allProcs);
        Slot(usize::try_from(number).unwrap_or(usize::MAX))
    }
}

/// Returns the wait event of this name; `Extension` where an extension can't name its own.
pub fn named_wait_event(_name: &CStr) -> u32 {
    #[cfg(any(feature = "pg17", feature = "pg18"))]
    // SAFETY: the call returns the same number for the same name, which is zero-terminated.
    unsafe {
        pg_sys::WaitEventExtensionNew(_name.as_ptr())
    }
    #[cfg(any(feature = "pg15", feature = "pg16"))]
    pg_sys::PG_WAIT_EXTENSION
}

/// Lets this transaction last as long as it needs.
pub fn stop_transaction_timeout() {
    #[cfg(any(feature = "pg17", feature = "pg18"))]
    {
        /// The number of `transaction_timeout` among PostgreSQL's timeouts.
        const TRANSACTION_TIMEOUT: c_int = 8;
        unsafe extern "C-unwind" {
            static mut TransactionTimeoutPending: c_int;
        }
        // SAFETY: one of PostgreSQL's own timeouts, which may be disabled whether it runs or not, and the flag that it
        // sets.
        unsafe {
            unguarded::disable_timeout(TRANSACTION_TIMEOUT, false);
            TransactionTimeoutPending = 0;
        }
    }
}
