//! Errors and log lines in PostgreSQL's style, with the reason for programs in CONSTRAINT_NAME.
#![allow(
    unsafe_code,
    reason = "the reason is set by PostgreSQL's error context callbacks"
)]

use std::cell::Cell;
use std::ffi::CStr;
use std::ptr;

use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
pub use pgrx::prelude::{PgLogLevel, PgSqlErrorCode};

/// A report to the client or the server log.
pub struct Report {
    code: PgSqlErrorCode,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
    reason: Option<&'static CStr>,
}

impl Report {
    /// A report with its SQLSTATE and primary message.
    pub fn new(code: PgSqlErrorCode, message: impl Into<String>) -> Report {
        Report {
            code,
            message: message.into(),
            detail: None,
            hint: None,
            reason: None,
        }
    }

    /// Adds what else is known: whole sentences.
    pub fn detail(mut self, detail: impl Into<String>) -> Report {
        self.detail = Some(detail.into());
        self
    }

    /// Adds what to do next: whole sentences.
    pub fn hint(mut self, hint: impl Into<String>) -> Report {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the reason for programs, which the client reads as CONSTRAINT_NAME.
    pub fn reason(mut self, reason: &'static CStr) -> Report {
        self.reason = Some(reason);
        self
    }

    /// Raises an ERROR, which ends a login as FATAL.
    pub fn raise(self) -> ! {
        REASON.set(self.reason);
        watch_errors();
        self.report(PgLogLevel::ERROR);
        unreachable!("an ERROR does not return")
    }

    /// Writes to the server log, and at WARNING or NOTICE to the client too.
    pub fn log(self, level: PgLogLevel) {
        self.report(level);
    }

    fn report(self, level: PgLogLevel) {
        let mut report = ErrorReport::new(self.code, self.message, "pg_seats");
        if let Some(detail) = self.detail {
            report = report.set_detail(detail);
        }
        if let Some(hint) = self.hint {
            report = report.set_hint(hint);
        }
        report.report(level);
    }
}

/// Writes a line to the server log, never to a client.
pub fn log(message: impl Into<String>) {
    Report::new(PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION, message)
        .log(PgLogLevel::LOG_SERVER_ONLY);
}

thread_local! {
    static REASON: Cell<Option<&'static CStr>> = const { Cell::new(None) };
}

static mut WATCHER: pg_sys::ErrorContextCallback = pg_sys::ErrorContextCallback {
    previous: ptr::null_mut(),
    callback: Some(set_reason),
    arg: ptr::null_mut(),
};

/// Puts our callback on PostgreSQL's stack of error context callbacks. Whoever catches the error
/// puts the stack back as it was.
fn watch_errors() {
    let watcher = &raw mut WATCHER;
    // SAFETY: the stack is this process's list of nodes that outlive it; ours is static and goes in
    // only where it is not in already.
    unsafe {
        let mut node = pg_sys::error_context_stack;
        while !node.is_null() {
            if node == watcher {
                return;
            }
            node = (*node).previous;
        }
        (*watcher).previous = pg_sys::error_context_stack;
        pg_sys::error_context_stack = watcher;
    }
}

unsafe extern "C-unwind" fn set_reason(_arg: *mut std::ffi::c_void) {
    if let Some(reason) = REASON.take() {
        // SAFETY: called by errfinish, while there is an error to add a field to; PostgreSQL copies
        // the text.
        unsafe {
            pg_sys::err_generic_string(pg_sys::PG_DIAG_CONSTRAINT_NAME as i32, reason.as_ptr());
        }
    }
}
