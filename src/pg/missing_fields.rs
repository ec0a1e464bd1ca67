//! Adds to PostgreSQL's reports what pgrx can't put into them: the reason for programs (CONSTRAINT_NAME), and texts in
//! an encoding other than UTF-8.
//!
//! PostgreSQL calls the callbacks on its stack of error contexts while it finishes a report, and ours puts in what
//! is missing.
#![allow(
    unsafe_code,
    reason = "completes reports in PostgreSQL's error context callbacks"
)]

use std::cell::Cell;
use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr;

use pgrx::pg_sys;

/// What is to be added to the next report.
pub struct MissingFields {
    /// The reason for programs.
    pub reason: Option<&'static CStr>,
    /// Message, detail and hint in the database's encoding, if that makes a difference.
    pub texts: Option<[Option<CString>; 3]>,
}

thread_local! {
    static MISSING: Cell<Option<MissingFields>> = const { Cell::new(None) };
}

static mut CONTEXT: pg_sys::ErrorContextCallback = pg_sys::ErrorContextCallback {
    previous: ptr::null_mut(),
    callback: Some(add),
    arg: ptr::null_mut(),
};

/// Has these fields added to the ERROR that is raised next. Whoever catches it restores the stack.
pub fn add_to_error(missing: Option<MissingFields>) {
    MISSING.set(missing);
    push();
}

/// Has these fields added to the report that `report` makes, and that returns.
pub fn add_to(missing: MissingFields, report: impl FnOnce()) {
    MISSING.set(Some(missing));
    let is_pushed = push();
    report();
    if is_pushed {
        // SAFETY: a report that returns leaves the stack as it found it, so the callback is on top.
        unsafe { pg_sys::error_context_stack = CONTEXT.previous };
    }
    // If the level is not reported, nothing has taken it.
    MISSING.set(None);
}

/// Pushes the callback on the stack, unless it is there already.
fn push() -> bool {
    let context = &raw mut CONTEXT;
    // SAFETY: the stack is this process's list of nodes that outlive it; this node is static, and is pushed only if it
    // is not on the stack.
    unsafe {
        let mut node = pg_sys::error_context_stack;
        while !node.is_null() {
            if node == context {
                return false;
            }
            node = (*node).previous;
        }
        (*context).previous = pg_sys::error_context_stack;
        pg_sys::error_context_stack = context;
    }
    true
}

unsafe extern "C-unwind" {
    /// The bindings of most versions lack every form of it.
    fn errhint(format: *const c_char, ...) -> c_int;
}

unsafe extern "C-unwind" fn add(_arg: *mut std::ffi::c_void) {
    let Some(MissingFields { reason, texts }) = MISSING.take() else {
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
