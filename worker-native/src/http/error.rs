//! The native side's error rim: the only place where a failure gets its HTTP status.
//!
//! Handlers return an [`ApiError`]; `super::rim` writes the problem document, because it knows
//! the request's id and path. Causes stay inside: callers see what they can act on, the log line
//! has the rest.

use axum::response::{IntoResponse, Response};
use shared::problem::{ErrorCode, whole_seconds};
use shared::reading::{Fault, Rejection};

use crate::engine::PoolError;
use crate::queue::QueueError;
use crate::routing::NoVersion;

/// A failure on its way to the caller.
#[derive(Debug, Clone)]
pub struct ApiError {
    pub(super) code: ErrorCode,
    pub(super) detail: String,
    pub(super) faults: Vec<Fault>,
    /// For the log only.
    pub(super) cause: Option<String>,
    /// Seconds after which a try is worth it, where that is known better than by the code alone.
    pub(super) retry_after: Option<u32>,
    /// The same in milliseconds, where it is known so exactly.
    pub(super) retry_after_ms: Option<u32>,
    /// Where a deadline passed.
    pub(super) stage: Option<&'static str>,
}

impl ApiError {
    /// A failure that the caller can read whole.
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self { code, detail, faults: vec![], cause: None, retry_after: None, retry_after_ms: None, stage: None }
    }

    /// A failure whose cause is for the log only.
    pub fn caused(code: ErrorCode, detail: impl Into<String>, cause: &dyn std::fmt::Display) -> Self {
        Self { cause: Some(cause.to_string()), ..Self::new(code, detail) }
    }

    /// Of one field.
    pub(super) fn of_field(pointer: &str, kind: &'static str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        let fault = Fault::new(pointer, kind, detail.clone());
        Self { faults: vec![fault], ..Self::new(ErrorCode::InvalidReading, detail) }
    }

    /// The reading's class is being shed; it may come back after so many milliseconds.
    pub(super) fn shed(detail: String, after_ms: u32) -> Self {
        let retry_after = Some(whole_seconds(after_ms));
        Self { retry_after, retry_after_ms: Some(after_ms), ..Self::new(ErrorCode::LoadShed, detail) }
    }

    /// Seconds after which a try is worth it; none leaves that to the code.
    pub(super) fn retry_after(self, seconds: Option<u32>) -> Self {
        Self { retry_after: seconds, ..self }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = axum::http::StatusCode::from_u16(self.code.http_status());
        let mut response = status.unwrap_or(axum::http::StatusCode::INTERNAL_SERVER_ERROR).into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Rejection> for ApiError {
    fn from(rejection: Rejection) -> Self {
        Self { faults: rejection.faults, ..Self::new(rejection.code, rejection.detail) }
    }
}

impl From<QueueError> for ApiError {
    fn from(error: QueueError) -> Self {
        match &error {
            QueueError::Unavailable(cause)
                if matches!(cause.code(), Some("OOM" | "MISCONF" | "READONLY" | "NOREPLICAS")) =>
            {
                Self::caused(
                    ErrorCode::QueueUnavailable,
                    "the queue takes no jobs at present: Redis refuses to write; nothing was promised, try again",
                    &error,
                )
            }
            QueueError::File(_) => Self::caused(
                ErrorCode::QueueUnavailable,
                "the queue's file takes no jobs at present; nothing was promised, try again",
                &error,
            ),
            QueueError::Slow(_) => Self::caused(
                ErrorCode::QueueUnavailable,
                "the queue's file did not answer in time; nothing was promised, and it may be done all the same: try \
                 again, with the same Idempotency-Key where the request has one",
                &error,
            ),
            QueueError::Unavailable(_) | QueueError::Closed => Self::caused(
                ErrorCode::QueueUnavailable,
                "the queue cannot be reached; nothing was promised, try again",
                &error,
            ),
            QueueError::Corrupt(_) => {
                Self::caused(ErrorCode::Internal, "the log has the cause under this request id", &error)
            }
        }
    }
}

impl From<PoolError> for ApiError {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Full => Self::new(ErrorCode::Overloaded, error.to_string()),
            PoolError::Closed => Self::new(ErrorCode::Overloaded, "the service is shutting down; try again"),
            PoolError::Expired { run } => Self {
                stage: Some(if run.is_some() { "running" } else { "waiting" }),
                ..Self::new(ErrorCode::DeadlineExceeded, error.to_string())
            },
            PoolError::Invalid(detail) => Self::new(ErrorCode::InvalidReading, detail),
            PoolError::Unavailable(detail) => Self::new(ErrorCode::ModelUnavailable, detail),
            PoolError::Shed { detail, after_ms } => Self::shed(detail, after_ms),
            PoolError::Failed(cause) => Self::caused(
                ErrorCode::ModelFailed,
                "the model could not answer this reading; the log has the cause",
                &cause,
            ),
        }
    }
}

impl From<NoVersion> for ApiError {
    fn from(none: NoVersion) -> Self {
        match none {
            NoVersion::Unknown(detail) => Self::new(ErrorCode::UnknownVersion, detail),
            NoVersion::Unavailable(detail) => Self::new(ErrorCode::ModelUnavailable, detail),
        }
    }
}
