//! Every PostgreSQL hook that the extension uses, each installed once: the previous hook is chained, then one module is
//! called.
#![allow(unsafe_code, reason = "hooks are PostgreSQL's C interface")]

use std::cell::Cell;
use std::ffi::{c_char, c_int, c_void};

use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::checkout::discard;
use crate::ending::session;
use crate::pg::compat::Port;
use crate::pg::ends::LastReport;
use crate::rules::change;
use crate::{login, memory};

thread_local! {
    static PREVIOUS_AUTHENTICATION: Cell<ClientAuthenticationHook> = const { Cell::new(None) };
    static PREVIOUS_OBJECT_ACCESS: Cell<pg_sys::object_access_hook_type> = const { Cell::new(None) };
    static PREVIOUS_UTILITY: Cell<pg_sys::ProcessUtility_hook_type> = const { Cell::new(None) };
    static PREVIOUS_REPORT: Cell<pg_sys::emit_log_hook_type> = const { Cell::new(None) };
    static PREVIOUS_REQUEST: Cell<pg_sys::shmem_request_hook_type> = const { Cell::new(None) };
    static PREVIOUS_STARTUP: Cell<pg_sys::shmem_startup_hook_type> = const { Cell::new(None) };
}

/// Installs the hooks, in the postmaster.
pub fn install() {
    // SAFETY: called once from `_PG_init`, while the library is preloaded, in a process with one thread.
    unsafe {
        PREVIOUS_AUTHENTICATION.set(CLIENT_AUTHENTICATION_HOOK);
        CLIENT_AUTHENTICATION_HOOK = Some(on_client_authentication);
        PREVIOUS_OBJECT_ACCESS.set(pg_sys::object_access_hook);
        pg_sys::object_access_hook = Some(on_object_access);
        PREVIOUS_UTILITY.set(pg_sys::ProcessUtility_hook);
        pg_sys::ProcessUtility_hook = Some(on_utility);
        PREVIOUS_REPORT.set(pg_sys::emit_log_hook);
        pg_sys::emit_log_hook = Some(on_report);
        PREVIOUS_REQUEST.set(pg_sys::shmem_request_hook);
        pg_sys::shmem_request_hook = Some(on_memory_request);
        PREVIOUS_STARTUP.set(pg_sys::shmem_startup_hook);
        pg_sys::shmem_startup_hook = Some(on_memory_startup);
    }
}

type ClientAuthenticationHook = Option<unsafe extern "C-unwind" fn(*mut Port, c_int)>;

unsafe extern "C-unwind" {
    #[link_name = "ClientAuthentication_hook"]
    static mut CLIENT_AUTHENTICATION_HOOK: ClientAuthenticationHook;
}

/// PostgreSQL's STATUS_OK.
const AUTHENTICATED: c_int = 0;

unsafe extern "C-unwind" fn on_client_authentication(port: *mut Port, status: c_int) {
    if let Some(previous) = PREVIOUS_AUTHENTICATION.get() {
        // SAFETY: the previous hook gets the arguments that this one was given. An error of it may unwind through this
        // frame, which holds nothing that would have to be dropped.
        unsafe { previous(port, status) };
    }
    login::note_authentication(status == AUTHENTICATED);
}

unsafe extern "C-unwind" fn on_object_access(
    access: pg_sys::ObjectAccessType::Type,
    class: pg_sys::Oid,
    object: pg_sys::Oid,
    sub: c_int,
    argument: *mut c_void,
) {
    if let Some(previous) = PREVIOUS_OBJECT_ACCESS.get() {
        // SAFETY: the previous hook gets the arguments that this one was given. An error of it may unwind through this
        // frame, which holds nothing that would have to be dropped.
        unsafe { previous(access, class, object, sub, argument) };
    }
    // When a table's inheritance changes, PostgreSQL reports the child as the object and the parent as the auxiliary
    // object; it is the parent that may be one of the extension's tables.
    let table = if class == change::INHERITS && access == pg_sys::ObjectAccessType::OAT_POST_ALTER {
        // SAFETY: for this kind of access PostgreSQL passes an `ObjectAccessPostAlter`, or null.
        unsafe { argument.cast::<pg_sys::ObjectAccessPostAlter>().as_ref() }
            .map_or(object, |alter| alter.auxiliary_id)
    } else {
        object
    };
    note_access(access, class, table);
}

#[pg_guard]
extern "C-unwind" fn note_access(
    access: pg_sys::ObjectAccessType::Type,
    class: pg_sys::Oid,
    object: pg_sys::Oid,
) {
    change::note_access(access, class, object);
}

unsafe extern "C-unwind" {
    fn standard_ProcessUtility(
        statement: *mut pg_sys::PlannedStmt,
        text: *const c_char,
        read_only: bool,
        context: pg_sys::ProcessUtilityContext::Type,
        parameters: pg_sys::ParamListInfo,
        environment: *mut pg_sys::QueryEnvironment,
        destination: *mut pg_sys::DestReceiver,
        completion: *mut pg_sys::QueryCompletion,
    );
}

/// Passes on every utility statement of the server. The call is not guarded: an error of the statement may unwind
/// through this frame, which holds nothing that would have to be dropped.
#[allow(clippy::too_many_arguments, reason = "PostgreSQL's hook has as many")]
unsafe extern "C-unwind" fn on_utility(
    statement: *mut pg_sys::PlannedStmt,
    text: *const c_char,
    read_only: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    parameters: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    destination: *mut pg_sys::DestReceiver,
    completion: *mut pg_sys::QueryCompletion,
) {
    // SAFETY: PostgreSQL passes a parsed utility statement, whose node type says which struct it is.
    let discards_all = unsafe {
        let node = (*statement).utilityStmt;
        (*node).type_ == pg_sys::NodeTag::T_DiscardStmt
            && (*node.cast::<pg_sys::DiscardStmt>()).target == pg_sys::DiscardMode::DISCARD_ALL
    };
    let process = PREVIOUS_UTILITY.get().unwrap_or(standard_ProcessUtility);
    // SAFETY: the previous hook, or PostgreSQL's own function, gets the arguments that this one was given.
    unsafe {
        process(
            statement,
            text,
            read_only,
            context,
            parameters,
            environment,
            destination,
            completion,
        );
    }
    if discards_all {
        end_of_discard();
    }
}

#[pg_guard]
extern "C-unwind" fn end_of_discard() {
    discard::give_all_back();
}

/// Adds the reason to the report of a session that the extension ends. PostgreSQL calls it for every report that goes
/// to the server log.
unsafe extern "C-unwind" fn on_report(report: *mut pg_sys::ErrorData) {
    // SAFETY: PostgreSQL passes the report that it is about to make, and nothing else refers to it during the call.
    session::put_in_why(&mut unsafe { LastReport::of(report) });
    if let Some(previous) = PREVIOUS_REPORT.get() {
        // SAFETY: the previous hook gets the argument that this one was given.
        unsafe { previous(report) };
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_memory_request() {
    if let Some(previous) = PREVIOUS_REQUEST.get() {
        // SAFETY: the previous hook is called as PostgreSQL would call it; the guard turns its error into a panic.
        unsafe { pg_sys::submodules::ffi::pg_guard_ffi_boundary(|| previous()) };
    }
    memory::request();
}

#[pg_guard]
unsafe extern "C-unwind" fn on_memory_startup() {
    if let Some(previous) = PREVIOUS_STARTUP.get() {
        // SAFETY: the previous hook is called as PostgreSQL would call it; the guard turns its error into a panic.
        unsafe { pg_sys::submodules::ffi::pg_guard_ffi_boundary(|| previous()) };
    }
    memory::create();
    super::start();
}
