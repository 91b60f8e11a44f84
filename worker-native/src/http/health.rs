//! `/health` for people and load balancers, `/livez` and `/readyz` for orchestrators.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::app::App;

pub(super) async fn livez() -> Response {
    Json(serde_json::json!({"status": "ok"})).into_response()
}

/// `/health`, `/readyz`, `/ready`: would a reading sent now be answered?
pub(super) async fn health(State(app): State<App>) -> Response {
    let draining = app.is_draining();
    let index = app.engine.index();
    let tasks: Vec<&str> = index.catalog.tasks.iter().map(|task| task.schema.name.as_str()).collect();
    let queue = app.queue.check_writable(&tasks).await;
    let serving = app.engine.is_serving();
    let losses = app.losses();
    let good = queue.is_ok() && serving && !draining && losses.is_empty();
    let models: Vec<_> = index
        .versions()
        .filter_map(|version| Some((version, version.pool()?)))
        .map(|(version, pool)| {
            let card = version.card();
            serde_json::json!({
                "task": card.task, "model": card.model, "version": card.version, "tier": card.tier,
                "waiting": pool.waiting(), "service_us": pool.service_us(), "own_threads": pool.warm_up.own_threads,
                "alive": pool.is_alive(),
            })
        })
        .collect();
    let body = serde_json::json!({
        "status": if good { "ok" } else { "degraded" },
        "role": format!("{:?}", app.config.role).to_lowercase(),
        "draining": draining,
        "models_loaded": models.len(),
        "models": models,
        // What is wrong with the repository is served around; GET /models has the words.
        "model_faults": index.faults.len(),
        // The words of the client library may name hosts; they go to the log, not to callers.
        "queue": {"writable": queue.is_ok(), "would_lose_jobs": losses},
        "uptime_s": app.started.elapsed().as_secs(),
    });
    if let Err(error) = queue {
        tracing::debug!(%error, "health: the queue takes no jobs");
    }
    let status = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(body)).into_response()
}
