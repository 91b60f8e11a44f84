//! The edge's error rim: the only place where a failure becomes a problem document.
//!
//! Callers see what they can act on; the cause goes to the log line of the request and nowhere else.

use std::any::Any;

use shared::problem::{ErrorCode, PROBLEM_JSON, Problem, shed_detail, whole_seconds};
use shared::reading::{Fault, Priority, Rejection};
use worker::Response;

use crate::origin::OriginError;
use crate::{answer, routes};

/// A failure on its way to the caller.
#[derive(Debug)]
pub(crate) struct Failure {
    code: ErrorCode,
    detail: String,
    faults: Vec<Fault>,
    /// The methods a path has, for a 405.
    allow: Option<String>,
    /// When to come back, in milliseconds, where that is known.
    retry_after_ms: Option<u32>,
    cause: Option<String>,
}

impl Failure {
    /// A failure that the caller can read whole.
    pub(crate) fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), faults: vec![], allow: None, retry_after_ms: None, cause: None }
    }

    /// The reading's class is being shed.
    pub(crate) fn shed(task: &str, class: Priority, after_ms: u32) -> Self {
        let detail = shed_detail(task, class, after_ms);
        Self { retry_after_ms: Some(after_ms), ..Self::new(ErrorCode::LoadShed, detail) }
    }

    /// No such path.
    pub(crate) fn not_found() -> Self {
        Self::new(ErrorCode::NotFound, "there is nothing at this path; `GET /` lists what there is")
    }

    /// A path that only the native service has.
    pub(crate) fn for_operators() -> Self {
        let detail = "not through the edge: this path is for operators, at the native service's own port";
        Self::new(ErrorCode::NotFound, detail)
    }

    /// The path has other methods.
    pub(crate) fn method_not_allowed(allow: String) -> Self {
        let detail = format!("this path takes: {allow}");
        Self { allow: Some(allow), ..Self::new(ErrorCode::MethodNotAllowed, detail) }
    }

    /// Settings that cannot be used; whoever deploys meets this before any caller does.
    pub(crate) fn misconfigured(faults: &[String]) -> Self {
        Self::new(ErrorCode::Internal, format!("the edge's settings cannot be used: {}", faults.join("; ")))
    }

    /// A call of the runtime failed that has no reason to.
    pub(crate) fn runtime(cause: &worker::Error) -> Self {
        Self { cause: Some(cause.to_string()), ..Self::broken() }
    }

    /// The handler panicked.
    pub(crate) fn panicked(payload: &(dyn Any + Send)) -> Self {
        let message = payload.downcast_ref::<String>().map(String::as_str);
        let message = message.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no message");
        Self { cause: Some(format!("panic: {message}")), ..Self::broken() }
    }

    fn broken() -> Self {
        Self::new(ErrorCode::Internal, "the log has the cause under this request id")
    }

    /// What the log line says.
    pub(crate) fn log_text(&self) -> String {
        let name = self.code.name();
        let detail = self.cause.as_deref().unwrap_or(&self.detail);
        format!("{name}: {detail}")
    }

    /// The answer: a problem document with the headers that belong to its code.
    pub(crate) fn to_response(&self, path: &str, request_id: &str) -> Response {
        let problem = Problem::new(self.code, &self.detail, path, &self.faults, request_id);
        let problem = problem.with_retry_after_ms(self.retry_after_ms);
        let problem = if routes::is_oip(path) { problem.with_error() } else { problem };
        let response = answer::text(self.code.http_status(), PROBLEM_JSON, problem.to_json(), request_id);
        if let Some(seconds) = self.retry_after_ms.map(whole_seconds).or(self.code.retry_after_s()) {
            answer::set(response.headers(), "retry-after", &seconds.to_string());
        }
        if let Some(allow) = &self.allow {
            answer::set(response.headers(), "allow", allow);
        }
        response
    }
}

impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Self {
        Self { faults: rejection.faults, ..Self::new(rejection.code, rejection.detail) }
    }
}

impl From<OriginError> for Failure {
    fn from(error: OriginError) -> Self {
        let cause = Some(error.to_string());
        let failure = match error {
            OriginError::TimedOut { after_ms } => Self::new(
                ErrorCode::OriginTimeout,
                format!("no answer within {after_ms} ms; what was sent may still be worked on"),
            ),
            OriginError::DeadlinePassed { deadline_ms } => {
                Self::new(ErrorCode::DeadlineExceeded, format!("no answer within the deadline of {deadline_ms} ms"))
            }
            OriginError::Unreachable(_) => {
                Self::new(ErrorCode::OriginUnavailable, "the prediction service cannot be reached; try again")
            }
            OriginError::Redirected(status) => Self::new(
                ErrorCode::BadGateway,
                format!("the prediction service redirects ({status}), which the edge never follows"),
            ),
        };
        Self { cause, ..failure }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_fault_it_was_decides_the_code() {
        let code = |error: OriginError| Failure::from(error).code;
        assert_eq!(code(OriginError::TimedOut { after_ms: 5 }), ErrorCode::OriginTimeout);
        assert_eq!(code(OriginError::DeadlinePassed { deadline_ms: 5 }), ErrorCode::DeadlineExceeded);
        assert_eq!(code(OriginError::Unreachable("refused".to_owned())), ErrorCode::OriginUnavailable);
        assert_eq!(code(OriginError::Redirected(302)), ErrorCode::BadGateway);
    }

    #[test]
    fn a_cause_is_for_the_log_only() {
        let failure = Failure::panicked(&"index out of range".to_owned());
        assert_eq!(failure.log_text(), "internal: panic: index out of range");
        assert!(!failure.detail.contains("index"));
    }
}
