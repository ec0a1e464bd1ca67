//! A refusal in the server's own fields.

use std::error::Error as _;
use std::fmt;
use std::ops::Deref;

use tokio_postgres::Error;
use tokio_postgres::error::DbError;

/// Why a login or statement failed.
#[derive(Clone, PartialEq, Eq)]
pub struct Denied(Box<Report>);

/// The fields of an error message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// FATAL, ERROR; empty if the server said nothing.
    pub severity: String,
    /// Five characters; empty if the server said nothing.
    pub sqlstate: String,
    /// The primary message, or why there is none.
    pub message: String,
    /// DETAIL, or empty.
    pub detail: String,
    /// HINT, or empty.
    pub hint: String,
    /// The reason for programs, which CONSTRAINT_NAME carries; or empty.
    pub reason: String,
}

impl Denied {
    /// Fails the test unless it is this refusal.
    #[track_caller]
    pub fn assert(&self, sqlstate: &str, reason: &str) -> &Self {
        assert_eq!(
            (self.sqlstate.as_str(), self.reason.as_str()),
            (sqlstate, reason),
            "{self:?}"
        );
        self
    }

    pub(super) fn unheard(message: impl ToString) -> Self {
        Self(Box::new(Report {
            message: message.to_string(),
            ..Report::default()
        }))
    }
}

impl From<&DbError> for Report {
    fn from(error: &DbError) -> Self {
        Self {
            severity: error.severity().to_owned(),
            sqlstate: error.code().code().to_owned(),
            message: error.message().to_owned(),
            detail: error.detail().unwrap_or_default().to_owned(),
            hint: error.hint().unwrap_or_default().to_owned(),
            reason: error.constraint().unwrap_or_default().to_owned(),
        }
    }
}

impl From<Error> for Denied {
    fn from(error: Error) -> Self {
        match (error.as_db_error(), error.source()) {
            (Some(report), _) => Self(Box::new(report.into())),
            (None, Some(source)) => Self::unheard(format!("{error}: {source}")),
            (None, None) => Self::unheard(error),
        }
    }
}

impl Deref for Denied {
    type Target = Report;

    fn deref(&self) -> &Report {
        &self.0
    }
}

impl fmt::Debug for Denied {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}
