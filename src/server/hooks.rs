//! Every hook of PostgreSQL that is used, once: whoever was there before is called as well, and then a room.
#![allow(unsafe_code, reason = "hooks are PostgreSQL's C interface")]

use std::cell::Cell;
use std::ffi::{c_char, c_int, c_void};

use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::checkout::discard;
use crate::ending::session;
use crate::pg::client::Port;
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
    // SAFETY: called once from _PG_init, while the library is preloaded.
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
        // SAFETY: the hook that was there before, with the arguments that we were given. Its error
        // passes through this frame, which holds nothing, and arrives whole.
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
        // SAFETY: the hook that was there before, with the arguments that we were given. Its error
        // passes through this frame, which holds nothing, and arrives whole.
        unsafe { previous(access, class, object, sub, argument) };
    }
    // Who inherits from a table is altered, not the table.
    let table = if class == change::INHERITS && access == pg_sys::ObjectAccessType::OAT_POST_ALTER {
        // SAFETY: what goes with this kind of access.
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

/// Every utility statement of the server comes by here. Nothing guards the call: an error of the
/// statement passes through this frame, which holds nothing, and arrives whole.
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
    // SAFETY: a utility statement, as PostgreSQL parsed it.
    let discards_all = unsafe {
        let node = (*statement).utilityStmt;
        (*node).type_ == pg_sys::NodeTag::T_DiscardStmt
            && (*node.cast::<pg_sys::DiscardStmt>()).target == pg_sys::DiscardMode::DISCARD_ALL
    };
    let process = PREVIOUS_UTILITY.get().unwrap_or(standard_ProcessUtility);
    // SAFETY: the hook that was there before, or PostgreSQL's own function, with the arguments that
    // we were given.
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

/// Called for every report that goes to the server log.
unsafe extern "C-unwind" fn on_report(report: *mut pg_sys::ErrorData) {
    // SAFETY: the report that is being made.
    session::put_in_why(&mut unsafe { LastReport::of(report) });
    if let Some(previous) = PREVIOUS_REPORT.get() {
        // SAFETY: the hook that was there before, with the argument that we were given.
        unsafe { previous(report) };
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_memory_request() {
    if let Some(previous) = PREVIOUS_REQUEST.get() {
        // SAFETY: the hook that was there before.
        unsafe { pg_sys::submodules::ffi::pg_guard_ffi_boundary(|| previous()) };
    }
    memory::request();
}

#[pg_guard]
unsafe extern "C-unwind" fn on_memory_startup() {
    if let Some(previous) = PREVIOUS_STARTUP.get() {
        // SAFETY: the hook that was there before.
        unsafe { pg_sys::submodules::ffi::pg_guard_ffi_boundary(|| previous()) };
    }
    memory::create();
    super::start();
}
