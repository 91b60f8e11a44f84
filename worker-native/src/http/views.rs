//! What can be looked at: `/`, `/results`, `/v1/snapshot`, `/v1/catalog`.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::header::{ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use shared::ids::is_id;
use shared::problem::ErrorCode;

use super::error::ApiError;
use crate::app::App;
use crate::clock::now_ms;
use crate::queue::ResultsFilter;

pub(super) async fn root(State(app): State<App>) -> Response {
    let tasks: Vec<_> = app
        .engine
        .catalog()
        .tasks
        .iter()
        .map(|task| {
            serde_json::json!({
                "name": task.schema.name, "title": task.schema.title, "tiers": task.schema.tiers,
                "models": task.models.iter().map(|model| &model.name).collect::<Vec<_>>(),
            })
        })
        .collect();
    Json(serde_json::json!({
        "name": "Infer Router",
        "what": "sends every sensor reading to the best model that can still answer in time",
        "version": env!("CARGO_PKG_VERSION"),
        "tasks": tasks,
        "links": {
            "predict": "POST /predict", "probabilities": "POST /predict_proba", "batch": "POST /predict/batch",
            "generate": "POST /v1/infer/stream", "hand in": "POST /data", "job": "GET /v1/jobs/{id}",
            "results": "GET /results?limit=10", "feedback": "POST /feedback", "models": "GET /models",
            "pools": "GET /pool/stats", "info": "GET /info", "metrics": "GET /metrics", "health": "GET /health",
            "catalog": "GET /v1/catalog", "snapshot": "GET /v1/snapshot", "open inference protocol": "GET /v2",
        },
    }))
    .into_response()
}

#[derive(Debug, serde::Serialize)]
struct Results {
    count: usize,
    // Shown as they were stored: nothing is gained by reading them again.
    results: Vec<Box<serde_json::value::RawValue>>,
}

pub(super) async fn results(
    State(app): State<App>,
    query: Result<Query<BTreeMap<String, String>>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(query) = query.map_err(|error| ApiError::new(ErrorCode::InvalidQuery, error.to_string()))?;
    let filter = filter(&query)?;
    let catalog = app.engine.catalog();
    if let Some(task) = filter.task.as_deref()
        && catalog.task(task).is_none()
    {
        let detail = format!("task `{task}` is not here; there are: {}", catalog.task_names());
        return Err(ApiError::new(ErrorCode::UnknownTask, detail));
    }
    let tasks: Vec<&str> = catalog
        .tasks
        .iter()
        .map(|task| task.schema.name.as_str())
        .filter(|name| filter.task.as_deref().is_none_or(|wanted| wanted == *name))
        .collect();
    let results = app.queue.results(&tasks, &filter).await?;
    Ok(Json(Results { count: results.len(), results }).into_response())
}

/// Every query parameter, or all that is wrong with them.
fn filter(query: &BTreeMap<String, String>) -> Result<ResultsFilter, ApiError> {
    let mut filter = ResultsFilter { limit: 10, ..ResultsFilter::default() };
    let mut faults = Vec::new();
    for (name, value) in query {
        let good = match name.as_str() {
            "limit" => value.parse().ok().filter(|limit| (1..=1_000).contains(limit)).map(|limit| filter.limit = limit),
            "since" => value.parse().ok().map(|since| filter.since = Some(since)),
            "sensor_id" => is_id(value).then(|| filter.sensor_id = Some(value.clone())),
            "task" => {
                filter.task = Some(value.clone());
                Some(())
            }
            _ => None,
        };
        if good.is_none() {
            faults.push(format!("{name}={value}"));
        }
    }
    if faults.is_empty() {
        return Ok(filter);
    }
    let detail = format!(
        "cannot use {}; there are: limit (1 to 1000), task, sensor_id, since (Unix milliseconds)",
        faults.join(", ")
    );
    Err(ApiError::new(ErrorCode::InvalidQuery, detail))
}

pub(super) async fn snapshot(State(app): State<App>) -> Response {
    let snapshot = app.snapshots.take(None, now_ms());
    let tasks: Vec<_> = snapshot
        .tasks
        .iter()
        .map(|load| {
            let tiers: Vec<_> = load
                .tiers
                .iter()
                .map(|tier| {
                    serde_json::json!({
                        "tier": tier.tier, "depth": tier.depth, "service_us": tier.service_us, "accuracy": tier.accuracy,
                    })
                })
                .collect();
            serde_json::json!({"task": load.task, "depth": load.depth(), "tiers": tiers})
        })
        .collect();
    Json(serde_json::json!({"snapshot": snapshot.to_text(), "at": snapshot.at, "tasks": tasks})).into_response()
}

pub(super) async fn catalog(State(app): State<App>, map: HeaderMap) -> Response {
    let catalog = app.engine.catalog();
    let tag = format!("\"{}\"", catalog.etag);
    let known = map.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let same = known.is_some_and(|known| known.split(',').any(|one| one.trim() == tag || one.trim() == "*"));
    let mut response = if same { StatusCode::NOT_MODIFIED.into_response() } else { Json(&*catalog).into_response() };
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}
