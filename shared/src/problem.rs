//! Errors as callers see them: one table of codes, and RFC 9457 problem documents.
//!
//! Both services answer with this table. Which failure gets which code is decided at the rims
//! (`edge/src/error.rs`, `worker-native/src/http/error.rs`), nowhere else.

use serde::Serialize;

use crate::reading::{Fault, Priority};

/// Every way a request can fail, with its public name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The body is not JSON.
    InvalidJson,
    /// A query parameter is not usable.
    InvalidQuery,
    /// A request header is not usable.
    InvalidHeader,
    /// The body's media type is not JSON, or it is compressed.
    UnsupportedMediaType,
    /// The edge wants to know the length before it reads.
    LengthRequired,
    /// The body is over the limit.
    PayloadTooLarge,
    /// The reading does not fit the task's schema; `errors` has every fault.
    InvalidReading,
    /// Tensors do not fit the model, or are not framed as they say.
    InvalidTensor,
    /// No task of that name, or none could be told from the body.
    UnknownTask,
    /// No model or tier of that name in the task.
    UnknownModel,
    /// No such version, and the caller was strict about it.
    UnknownVersion,
    /// No such path or job.
    NotFound,
    /// The path exists, the method does not.
    MethodNotAllowed,
    /// The idempotency key was used for another request.
    IdempotencyConflict,
    /// The same request under the same idempotency key is being answered.
    IdempotencyInFlight,
    /// The job has its result, so it cannot be called off.
    JobEnded,
    /// The queue holds as much as it may, or a job would wait in it for too long.
    QueueFull,
    /// The queue holds as much of one tenant as it may.
    TenantQueueFull,
    /// More readings come in than the workers can answer, and this one's class is turned away in part.
    LoadShed,
    /// The queue cannot be reached, so a 202 would be a lie.
    QueueUnavailable,
    /// Too many readings wait for the model.
    Overloaded,
    /// The model is here, but not loaded.
    ModelUnavailable,
    /// The deadline passed before an answer was ready.
    DeadlineExceeded,
    /// The model failed on this reading.
    ModelFailed,
    /// The edge cannot reach the native service.
    OriginUnavailable,
    /// The native service did not answer the edge in time.
    OriginTimeout,
    /// The native service's answer cannot be passed on.
    BadGateway,
    /// Our fault; the log line with the request id has the cause.
    Internal,
}

impl ErrorCode {
    /// All codes, for tables and tests.
    pub const ALL: [Self; 28] = [
        Self::InvalidJson,
        Self::InvalidQuery,
        Self::InvalidHeader,
        Self::UnsupportedMediaType,
        Self::LengthRequired,
        Self::PayloadTooLarge,
        Self::InvalidReading,
        Self::InvalidTensor,
        Self::UnknownTask,
        Self::UnknownModel,
        Self::UnknownVersion,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::IdempotencyConflict,
        Self::IdempotencyInFlight,
        Self::JobEnded,
        Self::QueueFull,
        Self::TenantQueueFull,
        Self::LoadShed,
        Self::QueueUnavailable,
        Self::Overloaded,
        Self::ModelUnavailable,
        Self::DeadlineExceeded,
        Self::ModelFailed,
        Self::OriginUnavailable,
        Self::OriginTimeout,
        Self::BadGateway,
        Self::Internal,
    ];

    /// The public name: part of the problem's `type`, its `code`, and the log field.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::InvalidJson => "invalid-json",
            Self::InvalidQuery => "invalid-query",
            Self::InvalidHeader => "invalid-header",
            Self::UnsupportedMediaType => "unsupported-media-type",
            Self::LengthRequired => "length-required",
            Self::PayloadTooLarge => "payload-too-large",
            Self::InvalidReading => "invalid-reading",
            Self::InvalidTensor => "invalid-tensor",
            Self::UnknownTask => "unknown-task",
            Self::UnknownModel => "unknown-model",
            Self::UnknownVersion => "unknown-version",
            Self::NotFound => "not-found",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::IdempotencyConflict => "idempotency-conflict",
            Self::IdempotencyInFlight => "idempotency-in-flight",
            Self::JobEnded => "job-ended",
            Self::QueueFull => "queue-full",
            Self::TenantQueueFull => "tenant-queue-full",
            Self::LoadShed => "load-shed",
            Self::QueueUnavailable => "queue-unavailable",
            Self::Overloaded => "overloaded",
            Self::ModelUnavailable => "model-unavailable",
            Self::DeadlineExceeded => "deadline-exceeded",
            Self::ModelFailed => "model-failed",
            Self::OriginUnavailable => "origin-unavailable",
            Self::OriginTimeout => "origin-timeout",
            Self::BadGateway => "bad-gateway",
            Self::Internal => "internal",
        }
    }

    /// The HTTP status of this code.
    #[must_use]
    pub const fn http_status(self) -> u16 {
        match self {
            Self::InvalidJson | Self::InvalidQuery | Self::InvalidHeader | Self::InvalidTensor => 400,
            Self::UnknownTask | Self::UnknownModel | Self::UnknownVersion | Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::IdempotencyInFlight | Self::JobEnded => 409,
            Self::LengthRequired => 411,
            Self::PayloadTooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::InvalidReading | Self::IdempotencyConflict => 422,
            Self::TenantQueueFull | Self::LoadShed => 429,
            Self::ModelFailed | Self::Internal => 500,
            Self::BadGateway => 502,
            Self::QueueFull
            | Self::QueueUnavailable
            | Self::Overloaded
            | Self::ModelUnavailable
            | Self::OriginUnavailable => 503,
            Self::DeadlineExceeded | Self::OriginTimeout => 504,
        }
    }

    /// One short phrase, the same for every problem of this code.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::InvalidJson => "The body is not a JSON object",
            Self::InvalidQuery => "A query parameter is not usable",
            Self::InvalidHeader => "A header is not usable",
            Self::UnsupportedMediaType => "The body must be plain application/json",
            Self::LengthRequired => "Content-Length is missing",
            Self::PayloadTooLarge => "The body is too large",
            Self::InvalidReading => "The reading does not fit its task",
            Self::InvalidTensor => "The tensors do not fit the model",
            Self::UnknownTask => "No such task",
            Self::UnknownModel => "No such model",
            Self::UnknownVersion => "No such model version",
            Self::NotFound => "Not found",
            Self::MethodNotAllowed => "Method not allowed",
            Self::IdempotencyConflict => "The idempotency key was used for another request",
            Self::IdempotencyInFlight => "This request is being answered",
            Self::JobEnded => "The job has ended",
            Self::QueueFull => "The queue is full",
            Self::TenantQueueFull => "The queue holds enough of this tenant",
            Self::LoadShed => "Readings of this class are turned away for now",
            Self::QueueUnavailable => "The queue cannot be reached",
            Self::Overloaded => "Too many readings wait for this model",
            Self::ModelUnavailable => "The model is not loaded",
            Self::DeadlineExceeded => "The deadline passed",
            Self::ModelFailed => "The model failed on this reading",
            Self::OriginUnavailable => "The prediction service cannot be reached",
            Self::OriginTimeout => "The prediction service did not answer in time",
            Self::BadGateway => "The prediction service answered nonsense",
            Self::Internal => "Something broke on our side",
        }
    }

    /// Seconds after which a try is worth it, where nobody knows better; `None` where trying again cannot help.
    #[must_use]
    pub const fn retry_after_s(self) -> Option<u32> {
        match self {
            Self::QueueFull | Self::TenantQueueFull | Self::LoadShed | Self::Overloaded | Self::IdempotencyInFlight => {
                Some(1)
            }
            Self::QueueUnavailable | Self::ModelUnavailable | Self::OriginUnavailable => Some(5),
            Self::InvalidJson
            | Self::InvalidQuery
            | Self::InvalidHeader
            | Self::UnsupportedMediaType
            | Self::LengthRequired
            | Self::PayloadTooLarge
            | Self::InvalidReading
            | Self::InvalidTensor
            | Self::UnknownTask
            | Self::UnknownModel
            | Self::UnknownVersion
            | Self::NotFound
            | Self::MethodNotAllowed
            | Self::IdempotencyConflict
            | Self::JobEnded
            | Self::DeadlineExceeded
            | Self::ModelFailed
            | Self::OriginTimeout
            | Self::BadGateway
            | Self::Internal => None,
        }
    }
}

/// Of a [`ErrorCode::LoadShed`]: the `detail` that both services give.
#[must_use]
pub fn shed_detail(task: &str, class: Priority, after_ms: u32) -> String {
    let class = class.name();
    format!(
        "task `{task}` gets more readings than its workers can answer, so part of the class `{class}` is turned away; \
         nothing was stored, come back in {after_ms} ms"
    )
}

/// The value of `Retry-After` for an exact time: whole seconds, at least one.
#[must_use]
pub const fn whole_seconds(after_ms: u32) -> u32 {
    let seconds = after_ms.div_ceil(1_000);
    if seconds == 0 { 1 } else { seconds }
}

/// The media type of [`Problem`].
pub const PROBLEM_JSON: &str = "application/problem+json";

/// An RFC 9457 problem document.
#[derive(Debug, Serialize)]
pub struct Problem<'a> {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    /// What went wrong this time, and what to do.
    detail: &'a str,
    /// The path of the request.
    instance: &'a str,
    code: &'static str,
    #[serde(skip_serializing_if = "<[Fault]>::is_empty")]
    errors: &'a [Fault],
    request_id: &'a str,
    /// Where the time went, when a deadline passed: `waiting` (for a place, in the queue or before the model) or
    /// `running`.
    #[serde(skip_serializing_if = "Option::is_none")]
    stage: Option<&'a str>,
    /// When a try is worth it, in milliseconds, where that is known more exactly than `Retry-After` can say.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u32>,
    /// What the Open Inference Protocol's clients show; on its paths only.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

impl<'a> Problem<'a> {
    /// Builds the document that callers see.
    #[must_use]
    pub fn new(code: ErrorCode, detail: &'a str, instance: &'a str, errors: &'a [Fault], request_id: &'a str) -> Self {
        Self {
            kind: format!("urn:infer-router:problem:{}", code.name()),
            title: code.title(),
            status: code.http_status(),
            detail,
            instance,
            code: code.name(),
            errors,
            request_id,
            stage: None,
            retry_after_ms: None,
            error: None,
        }
    }

    /// The same with the stage at which a deadline passed.
    #[must_use]
    pub const fn with_stage(mut self, stage: Option<&'a str>) -> Self {
        self.stage = stage;
        self
    }

    /// The same with the time after which a try is worth it, in milliseconds.
    #[must_use]
    pub const fn with_retry_after_ms(mut self, after_ms: Option<u32>) -> Self {
        self.retry_after_ms = after_ms;
        self
    }

    /// The same with the top-level `error` that the Open Inference Protocol wants.
    #[must_use]
    pub const fn with_error(mut self) -> Self {
        self.error = Some(self.detail);
        self
    }

    /// The document as JSON text.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Serialising strings and numbers into memory has no failing case; an empty object would
        // still be valid JSON should that ever change.
        serde_json::to_string(self).unwrap_or_else(|_| "{}".to_owned())
    }
}

#[cfg(test)]
mod tests;
