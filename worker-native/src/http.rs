//! The HTTP doors: which path goes where, and the rim around all of them.

mod accuracy;
mod body;
mod dead;
mod decisions;
pub mod error;
mod feedback;
mod health;
mod idempotency;
mod infer;
mod jobs;
pub mod labels;
pub mod listener;
mod metrics;
mod models;
pub mod oip;
mod policy;
mod predict;
mod results;
mod rim;
mod rollout;
mod shed;
mod sse;
mod stream;
mod views;

use axum::Router;
use axum::routing::{get, post};
use shared::problem::ErrorCode;

use crate::app::App;
use error::ApiError;
use oip::service::EngineModels;

/// The service's router for its role: a worker shows its health only.
pub fn router(app: App) -> Router {
    let oip = oip::Oip::new(Box::new(EngineModels(app.clone())), &app.config);
    let health = Router::new()
        .route("/", get(views::root))
        .route("/health", get(health::health))
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::health))
        .route("/ready", get(health::health))
        .route("/metrics", get(metrics::metrics))
        .route("/models", get(models::list))
        .route("/models/{name}/load", post(models::load))
        .route("/models/{name}/unload", post(models::unload))
        .route("/models/{name}/rollout", get(rollout::show).post(rollout::change))
        .route("/pool/stats", get(models::pools))
        .route("/info", get(models::info))
        .route("/v1/snapshot", get(views::snapshot))
        .route("/v1/catalog", get(views::catalog))
        .route("/v1/policy", get(policy::show).put(policy::put))
        .route("/v1/accuracy", get(accuracy::accuracy))
        .merge(oip::health_router(oip.clone()));
    let api = Router::new()
        .route("/predict", post(predict::predict))
        .route("/v1/infer", post(infer::infer))
        .route("/v1/infer/stream", post(stream::stream))
        .route("/predict_proba", post(predict::proba))
        .route("/predict/batch", post(predict::batch::batch))
        .route("/data", post(jobs::hand_in))
        .route("/v1/jobs", post(jobs::hand_in))
        .route("/v1/jobs/{id}", get(jobs::state::show).delete(jobs::state::cancel))
        .route("/v1/jobs/{id}/events", get(jobs::events::events))
        .route("/results", get(results::results))
        .route("/v1/dead", get(dead::list))
        .route("/v1/dead/requeue", post(dead::requeue))
        .route("/v1/dead/drop", post(dead::drop_many))
        .route("/v1/dead/{id}", get(dead::show).delete(dead::drop_one))
        .route("/v1/decisions/{id}", get(decisions::decision))
        .route("/feedback", post(feedback::feedback))
        .merge(oip::router(oip));
    let routes = if app.config.role.serves_api() { health.merge(api) } else { health };
    routes
        .fallback(async || ApiError::new(ErrorCode::NotFound, "no such path; `GET /` lists what there is"))
        .method_not_allowed_fallback(async || {
            ApiError::new(ErrorCode::MethodNotAllowed, "this path takes other methods; the Allow header names them")
        })
        .layer(axum::middleware::from_fn_with_state(app.clone(), rim::rim))
        .with_state(app)
}
