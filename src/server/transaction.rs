//! Every transaction callback: each calls the modules in a fixed order.
#![allow(unsafe_code, reason = "callbacks are PostgreSQL's C interface")]

use std::ffi::c_void;

use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::lease::transaction as lease;
use crate::login::{self, exit};
use crate::rules::change;

/// Registers the callbacks, in the postmaster.
pub fn install() {
    // SAFETY: called once from `_PG_init`, while the library is preloaded; the callbacks are functions that live for
    // ever.
    unsafe {
        pg_sys::RegisterXactCallback(Some(on_transaction), std::ptr::null_mut());
        pg_sys::RegisterSubXactCallback(Some(on_subtransaction), std::ptr::null_mut());
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_transaction(event: pg_sys::XactEvent::Type, _argument: *mut c_void) {
    use pg_sys::XactEvent::{
        XACT_EVENT_ABORT, XACT_EVENT_COMMIT, XACT_EVENT_PRE_COMMIT, XACT_EVENT_PRE_PREPARE,
        XACT_EVENT_PREPARE,
    };
    match event {
        XACT_EVENT_PRE_COMMIT => {
            login::at_pre_commit();
            exit::at_pre_commit();
            lease::at_pre_commit();
            change::at_pre_commit();
        }
        XACT_EVENT_PRE_PREPARE => {
            change::at_pre_prepare();
            lease::at_pre_prepare();
        }
        // A transaction that took or released a lease could not have been prepared.
        XACT_EVENT_PREPARE => lease::at_end(true),
        XACT_EVENT_COMMIT => {
            change::at_end(true);
            lease::at_end(true);
        }
        XACT_EVENT_ABORT => {
            change::at_end(false);
            lease::at_end(false);
        }
        _ => {}
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_subtransaction(
    event: pg_sys::SubXactEvent::Type,
    part: pg_sys::SubTransactionId,
    around: pg_sys::SubTransactionId,
    _argument: *mut c_void,
) {
    use pg_sys::SubXactEvent::{SUBXACT_EVENT_ABORT_SUB, SUBXACT_EVENT_COMMIT_SUB};
    if matches!(event, SUBXACT_EVENT_COMMIT_SUB | SUBXACT_EVENT_ABORT_SUB) {
        lease::at_part_end(event == SUBXACT_EVENT_COMMIT_SUB, part, around);
    }
}
