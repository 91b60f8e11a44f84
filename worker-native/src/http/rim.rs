//! Around every request: its id, the snapshot on its answer, the problem document, one log line.

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::header::{CONNECTION, CONTENT_TYPE, HeaderName, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use shared::headers;
use shared::ids::is_id;
use shared::problem::{ErrorCode, PROBLEM_JSON, Problem};

use super::error::ApiError;
use super::oip;
use crate::app::App;
use crate::clock::now_ms;
use crate::routing::DecisionRecord;

/// The request's id, for handlers.
#[derive(Debug, Clone)]
pub(super) struct RequestId(pub(super) String);

/// What a handler did with a reading, for headers and log.
#[derive(Debug, Clone, Default)]
pub(super) struct Applied {
    pub(super) task: String,
    pub(super) decision: Option<DecisionRecord>,
    pub(super) job_id: Option<String>,
}

pub(super) async fn rim(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id(request.headers());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    request.extensions_mut().insert(RequestId(id.clone()));
    let mut response = AssertUnwindSafe(next.run(request)).catch_unwind().await.unwrap_or_else(|_| {
        // The panic's own message went to standard error by the default hook.
        ApiError::caused(ErrorCode::Internal, "the log has the cause under this request id", &"a handler panicked")
            .into_response()
    });

    let error = response.extensions_mut().remove::<ApiError>();
    let applied = response.extensions_mut().remove::<Applied>();
    if let Some(error) = &error {
        write_problem(&mut response, error, &path, &id);
    }
    count(&app, &response, error.as_ref(), applied.as_ref());
    add_headers(&app, response.headers_mut(), applied.as_ref(), &id);
    log(&response, error.as_ref(), applied.as_ref(), &id, (method.as_str(), &path), started);
    response
}

fn request_id(map: &HeaderMap) -> String {
    let sent = map.get(headers::REQUEST_ID).and_then(|value| value.to_str().ok()).filter(|id| is_id(id));
    sent.map_or_else(|| uuid::Uuid::now_v7().simple().to_string(), str::to_owned)
}

pub(super) fn write_problem(response: &mut Response, error: &ApiError, path: &str, id: &str) {
    let problem = Problem::new(error.code, &error.detail, path, &error.faults, id).with_stage(error.stage);
    let problem = problem.with_retry_after_ms(error.retry_after_ms);
    let json = if oip::owns(path) { problem.with_error().to_json() } else { problem.to_json() };
    // The headers set so far stay: a 405 already names the methods in Allow.
    *response.body_mut() = axum::body::Body::from(json);
    let map = response.headers_mut();
    map.remove(axum::http::header::CONTENT_LENGTH);
    map.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    if let Some(seconds) = error.retry_after.or(error.code.retry_after_s()) {
        map.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
}

fn count(app: &App, response: &Response, error: Option<&ApiError>, applied: Option<&Applied>) {
    if let Some(error) = error {
        app.metrics.error(response.status().as_u16(), error.code.name());
    }
    if let Some((applied, decision)) = applied.and_then(|applied| Some((applied, applied.decision.as_ref()?))) {
        app.metrics.decision(&applied.task, decision.chosen(), &decision.reason, decision.by == "edge");
    }
}

fn add_headers(app: &App, map: &mut HeaderMap, applied: Option<&Applied>, id: &str) {
    let snapshot = app.snapshots.take(applied.map(|applied| applied.task.as_str()), now_ms());
    set(map, headers::REQUEST_ID, id);
    if app.is_draining() {
        // The next request would find the connection closed.
        map.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    set(map, headers::SNAPSHOT, &snapshot.to_text());
    set(map, headers::CATALOG, &app.engine.catalog().etag);
    if let Some(applied) = applied {
        set(map, headers::TASK, &applied.task);
        if let Some(decision) = &applied.decision {
            set(map, headers::DECIDED_BY, &decision.by);
            if let Some(tier) = &decision.tier {
                set(map, headers::ROUTE_APPLIED, tier);
            }
        }
    }
}

fn set(map: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        map.insert(HeaderName::from_static(name), value);
    }
}

fn log(
    response: &Response,
    error: Option<&ApiError>,
    applied: Option<&Applied>,
    id: &str,
    (method, path): (&str, &str),
    started: Instant,
) {
    let status = response.status().as_u16();
    let took_ms = started.elapsed().as_secs_f64() * 1_000.0;
    let decision = applied.and_then(|applied| applied.decision.as_ref());
    let task = applied.map(|applied| applied.task.as_str());
    let job_id = applied.and_then(|applied| applied.job_id.as_deref());
    let tier = decision.and_then(|decision| decision.tier.as_deref());
    let reason = decision.map(|decision| decision.reason.as_str());
    let decided_by = decision.map(|decision| decision.by.as_str());
    let code = error.map(|error| error.code.name());
    let detail = error.map(|error| error.detail.as_str());
    let cause = error.and_then(|error| error.cause.as_deref());
    // Health checks come every few seconds, and what they find is logged where it happens.
    let quiet = error.is_none()
        && matches!(
            path,
            "/health"
                | "/livez"
                | "/readyz"
                | "/ready"
                | "/v1/snapshot"
                | "/metrics"
                | "/v2/health/live"
                | "/v2/health/ready"
        );
    if quiet {
        tracing::debug!(request_id = %id, method, path, status, took_ms, "request");
    } else if matches!(status, 503 | 504) {
        tracing::warn!(request_id = %id, method, path, status, took_ms, task, job_id, tier, reason, decided_by, code, detail, cause, "request turned away");
    } else if status >= 500 {
        tracing::error!(request_id = %id, method, path, status, took_ms, task, job_id, tier, reason, decided_by, code, detail, cause, "request failed");
    } else {
        tracing::info!(request_id = %id, method, path, status, took_ms, task, job_id, tier, reason, decided_by, code, detail, "request");
    }
}
