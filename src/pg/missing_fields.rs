//! Adds to PostgreSQL's reports what pgrx can't put into them: the reason for programs (CONSTRAINT_NAME), and texts in
//! an encoding other than UTF-8. While PostgreSQL finishes a report, it calls the callbacks on its stack of error
//! contexts. One of ours is on that stack, and adds the fields that wait for the next report.
#![allow(
    unsafe_code,
    reason = "completes reports in PostgreSQL's error context callbacks"
)]

use std::cell::Cell;
use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr;

use pgrx::pg_sys;

/// What pgrx can't put into a report.
pub struct MissingFields {
    /// The reason for programs.
    pub reason: Option<&'static CStr>,
    /// Message, detail and hint in the database's encoding, if that makes a difference.
    pub texts: Option<[Option<CString>; 3]>,
}

thread_local! {
    /// The fields that wait for the next report.
    static WAITING: Cell<Option<MissingFields>> = const { Cell::new(None) };
}

static mut CALLBACK: pg_sys::ErrorContextCallback = pg_sys::ErrorContextCallback {
    previous: ptr::null_mut(),
    callback: Some(add_waiting_fields),
    arg: ptr::null_mut(),
};

/// Adds these fields to the ERROR that is raised next. Whoever catches it restores the stack.
pub fn add_to_error(missing: Option<MissingFields>) {
    WAITING.set(missing);
    push_callback();
}

/// Adds these fields to the report that `report` makes: one that returns.
pub fn add_to(missing: MissingFields, report: impl FnOnce()) {
    WAITING.set(Some(missing));
    let is_pushed = push_callback();
    report();
    if is_pushed {
        // SAFETY: a report that returns leaves the stack as it found it, so the callback is on top.
        unsafe { pg_sys::error_context_stack = CALLBACK.previous };
    }
    // If the level is not reported, nothing has taken them.
    WAITING.set(None);
}

/// Pushes the callback on the stack, unless it is there already. Returns true if it was not.
fn push_callback() -> bool {
    let callback = &raw mut CALLBACK;
    // SAFETY: the stack is this process's list of nodes that outlive it; this node is static, and is pushed only if it
    // is not on the stack.
    unsafe {
        let mut node = pg_sys::error_context_stack;
        while !node.is_null() {
            if node == callback {
                return false;
            }
            node = (*node).previous;
        }
        (*callback).previous = pg_sys::error_context_stack;
        pg_sys::error_context_stack = callback;
    }
    true
}

unsafe extern "C-unwind" {
    /// Adds a hint to the report; the bindings of most versions lack every form of it.
    fn errhint(format: *const c_char, ...) -> c_int;
}

/// Adds the fields that wait to the report that PostgreSQL is about to finish: the callback.
unsafe extern "C-unwind" fn add_waiting_fields(_arg: *mut std::ffi::c_void) {
    let Some(MissingFields { reason, texts }) = WAITING.take() else {
        return;
    };
    let [message, detail, hint] = texts.unwrap_or_default();
    let text = c"%s".as_ptr();
    // SAFETY: errfinish calls this while there is a report to add to; PostgreSQL copies the texts.
    unsafe {
        if let Some(reason) = reason {
            pg_sys::err_generic_string(pg_sys::PG_DIAG_CONSTRAINT_NAME as i32, reason.as_ptr());
        }
        if let Some(message) = message {
            pg_sys::errmsg_internal(text, message.as_ptr());
        }
        if let Some(detail) = detail {
            pg_sys::errdetail_internal(text, detail.as_ptr());
        }
        if let Some(hint) = hint {
            errhint(text, hint.as_ptr());
        }
    }
}
