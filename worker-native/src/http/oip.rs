//! The Open Inference Protocol V2 over HTTP, so that Triton's own client libraries work unchanged.
//!
//! Owns the paths below `/v2`, the forms of their bodies, and the limits a body is read within. It
//! does not know which model answers, how rows are batched, or ONNX Runtime: it sees the models
//! through [`engine::Models`] only. Errors become problem documents at the rim, which adds the
//! `error` that the protocol's clients read.
//!
//! What the Python client demands beyond the written protocol is in `docs/oip.md`; the two that
//! shape this code: success is status 200 and no other, and no Content-Type is sent.

mod binary;
mod body;
mod compress;
mod elements;
pub mod engine;
mod head;
mod infer;
mod meta;
mod raw;
mod repository;
mod request;
mod response;
mod room;
pub(super) mod service;
mod target;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::HeaderValue;
use axum::http::header::CACHE_CONTROL;
use axum::response::Response;
use axum::routing::{get, post};
use shared::problem::ErrorCode;

use super::error::ApiError;
use crate::config::{Config, OipConfig};
use engine::Models;
use room::Room;

/// The JSON's length in front of binary tensors; part of the protocol's binary extension.
const HEADER_LENGTH: &str = "inference-header-content-length";

/// What the handlers work with; cheap to clone.
#[derive(Debug, Clone)]
pub struct Oip(Arc<Parts>);

/// The parts behind an [`Oip`].
#[derive(Debug)]
pub struct Parts {
    models: Box<dyn Models>,
    config: OipConfig,
    body_timeout: Duration,
    room: Room,
}

impl std::ops::Deref for Oip {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl Oip {
    /// The protocol over these models.
    #[must_use]
    pub fn new(models: Box<dyn Models>, config: &Config) -> Self {
        let room = Room::new(config.oip.bodies_bytes);
        Self(Arc::new(Parts { models, config: config.oip.clone(), body_timeout: config.http.body_timeout, room }))
    }
}

/// Is this a path of the protocol?
pub(super) fn owns(path: &str) -> bool {
    path.strip_prefix("/v2").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The paths that a process of any role answers.
pub fn health_router<S: Clone + Send + Sync + 'static>(oip: Oip) -> Router<S> {
    let routes = Router::new()
        .route("/v2", get(meta::server))
        .route("/v2/health/live", get(meta::live))
        .route("/v2/health/ready", get(meta::ready));
    finish(routes, oip)
}

/// The paths of the models.
pub fn router<S: Clone + Send + Sync + 'static>(oip: Oip) -> Router<S> {
    let mut routes = Router::new().route("/v2/models/stats", get(meta::all_stats));
    for base in ["/v2/models/{model}", "/v2/models/{model}/versions/{version}"] {
        routes = routes
            .route(base, get(meta::model))
            .route(&format!("{base}/ready"), get(meta::model_ready))
            .route(&format!("{base}/config"), get(meta::config))
            .route(&format!("{base}/stats"), get(meta::stats))
            .route(&format!("{base}/infer"), post(infer::infer));
    }
    let routes = routes
        .route("/v2/repository/index", post(repository::index))
        .route("/v2/repository/models/{model}/load", post(repository::load))
        .route("/v2/repository/models/{model}/unload", post(repository::unload));
    finish(routes, oip)
}

fn finish<S: Clone + Send + Sync + 'static>(routes: Router<Oip>, oip: Oip) -> Router<S> {
    routes.layer(axum::middleware::map_response(as_it_is)).with_state(oip)
}

/// The asynchronous Python client says that it takes compressed answers, and then reads all but `infer` raw: whoever is
/// between must not compress.
async fn as_it_is(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-transform"));
    response
}

/// The caller's tensors, or their frame, cannot be used.
fn bad(detail: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::InvalidTensor, detail)
}

/// Bytes above which work on a body would hold a runtime thread from its other work.
const LARGE: usize = 128 * 1_024;

/// Runs work on that many bytes: here, or on a thread for blocking work where it is long.
async fn work<T: Send + 'static>(bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    if bytes < LARGE {
        return Ok(work());
    }
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| ApiError::caused(ErrorCode::Internal, "the log has the cause under this request id", &error))
}
