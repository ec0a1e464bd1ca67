//! Errors and log lines in PostgreSQL's style, with the reason for programs in CONSTRAINT_NAME.
//!
//! pgrx makes the report, in UTF-8 and without a reason; [`super::missing_fields`] adds what is missing.
#![allow(unsafe_code, reason = "holds back interrupts")]

use std::borrow::Cow;
use std::ffi::{CStr, CString};
use std::fmt::Display;

use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
pub use pgrx::prelude::{PgLogLevel, PgSqlErrorCode};

use super::encoding::{encode, reaches_client};
use super::missing_fields::{self, MissingFields};

/// A report to the client or the server log.
pub struct Report {
    code: PgSqlErrorCode,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
    reason: Option<&'static CStr>,
}

impl Report {
    /// Returns a report with its SQLSTATE and primary message.
    pub fn new(code: PgSqlErrorCode, message: impl Into<String>) -> Report {
        Report {
            code,
            message: message.into(),
            detail: None,
            hint: None,
            reason: None,
        }
    }

    /// Adds a detail, in whole sentences.
    pub fn detail(mut self, detail: impl Into<String>) -> Report {
        self.detail = Some(detail.into());
        self
    }

    /// Adds a hint about what to do next, in whole sentences.
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
        missing_fields::add_to_error(self.missing());
        self.report(PgLogLevel::ERROR);
        unreachable!("an ERROR does not return")
    }

    /// Writes to the server log, and at WARNING or NOTICE to the client too, if its encoding has every letter.
    pub fn log(self, level: PgLogLevel) {
        // A report that returns ends with a check for interrupts, and a cancel there would skip the drops of the
        // callers' values.
        let _held = InterruptsHeld::new();
        // For a client that lacks a letter of it the report would fail.
        let level = if level == PgLogLevel::LOG_SERVER_ONLY || self.reaches_client() {
            level
        } else {
            PgLogLevel::LOG_SERVER_ONLY
        };
        match self.missing() {
            Some(missing) => missing_fields::add_to(missing, || self.report(level)),
            None => self.report(level),
        }
    }

    fn reaches_client(&self) -> bool {
        [
            Some(&self.message),
            self.detail.as_ref(),
            self.hint.as_ref(),
        ]
        .into_iter()
        .flatten()
        .all(|text| reaches_client(&encode(text)))
    }

    /// Returns what pgrx does not put into the report; `None` if that is nothing.
    fn missing(&self) -> Option<MissingFields> {
        let texts = [
            Some(&self.message),
            self.detail.as_ref(),
            self.hint.as_ref(),
        ];
        let encoded = texts.map(|text| text.map(|text| encode(text)));
        let differs = encoded
            .iter()
            .flatten()
            .any(|text| matches!(text, Cow::Owned(_)));
        let missing = MissingFields {
            reason: self.reason,
            texts: differs
                .then(|| encoded.map(|text| text.and_then(|text| CString::new(text).ok()))),
        };
        (missing.reason.is_some() || differs).then_some(missing)
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

/// Holds back cancels and terminations until it is dropped.
struct InterruptsHeld;

impl InterruptsHeld {
    fn new() -> InterruptsHeld {
        // SAFETY: does what PostgreSQL's HOLD_INTERRUPTS does; this process has one thread.
        unsafe { pg_sys::InterruptHoldoffCount += 1 };
        InterruptsHeld
    }
}

impl Drop for InterruptsHeld {
    fn drop(&mut self) {
        // SAFETY: does what RESUME_INTERRUPTS does. An error meanwhile would have set the count to 0.
        unsafe { pg_sys::InterruptHoldoffCount = pg_sys::InterruptHoldoffCount.saturating_sub(1) };
    }
}

/// Returns a name as part of a line or sentence: in double quotes, with what could break out of them, or change how the
/// line is shown, escaped as in JSON.
pub fn quoted(name: impl Display) -> String {
    shown(&serde_json::Value::String(name.to_string()))
}

/// Returns JSON as part of a line, with the same characters escaped in its texts.
pub fn shown(json: &serde_json::Value) -> String {
    escaped(&json.to_string())
}

/// Returns a text that is a sentence of its own, with the same characters escaped, except quotes.
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        // Control characters, line separators, and characters that change the direction of writing.
        if letter.is_control()
            || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        {
            escaped.push_str(&format!("\\u{:04x}", u32::from(letter)));
        } else {
            escaped.push(letter);
        }
    }
    escaped
}

/// Writes a line to the server log, never to a client.
pub fn log(message: impl Into<String>) {
    Report::new(PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION, message)
        .log(PgLogLevel::LOG_SERVER_ONLY);
}
