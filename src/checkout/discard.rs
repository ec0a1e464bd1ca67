//! DISCARD ALL gives back a session's checkouts: a pooler sends it before the connection goes to
//! somebody else.
#![allow(unsafe_code, reason = "the utility hook is PostgreSQL's C interface")]

use std::cell::Cell;
use std::ffi::c_char;

use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::memory;
use crate::pg::backend;

/// So many checkouts are given back under one hold of the ledger's lock.
const BATCH: usize = 64;

thread_local! {
    static PREVIOUS_HOOK: Cell<pg_sys::ProcessUtility_hook_type> = const { Cell::new(None) };
}

/// Installs the hook, in the postmaster.
pub fn install() {
    // SAFETY: called once from _PG_init, while the library is preloaded.
    unsafe {
        PREVIOUS_HOOK.set(pg_sys::ProcessUtility_hook);
        pg_sys::ProcessUtility_hook = Some(on_utility);
    }
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
    let process = PREVIOUS_HOOK.get().unwrap_or(standard_ProcessUtility);
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
        give_all_back();
    }
}

#[pg_guard]
extern "C-unwind" fn give_all_back() {
    let at = backend::place();
    let some = || memory::write(|ledger| ledger.check_in_some(at, BATCH, backend::now()));
    while some() == Some(true) {}
}
