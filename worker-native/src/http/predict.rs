//! `POST /predict`: an answer now, from the local engine.

use std::time::{Duration, Instant};

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::{Extension, response::Result};
use serde::Serialize;

use super::body;
use super::error::ApiError;
use super::rim::{Applied, RequestId};
use crate::app::App;
use crate::clock::now_ms;
use crate::engine::Answer;
use crate::routing::{Advice, DecisionRecord, choose};

#[derive(Debug, Serialize)]
struct Prediction<'a> {
    request_id: &'a str,
    task: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sensor_id: Option<&'a str>,
    #[serde(flatten)]
    answer: Answer,
    model_used: &'a str,
    model_version: u32,
    fallback: bool,
    tier: Option<&'a str>,
    latency_ms: f64,
    queue_depth: u32,
    timestamp: u64,
    decision: &'a DecisionRecord,
}

pub(super) async fn predict(
    State(app): State<App>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    map: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let started = Instant::now();
    let bytes = body::read(&app.config.http, &map, body).await?;
    answer(&app, &request_id, &map, &bytes, started).await
}

/// The answer to one body, whoever asks.
pub(super) async fn answer(
    app: &App,
    request_id: &str,
    map: &HeaderMap,
    bytes: &[u8],
    started: Instant,
) -> Result<Response, ApiError> {
    let index = app.engine.index();
    let request = shared::reading::parse(bytes, &index.catalog)?;
    let advice = Advice::from_headers(map);
    let routed = choose(&index, &app.snapshots, &app.config.routing.policy, &request, &advice)?;
    let task = request.task.schema.name.as_str();

    let longest = app.config.http.predict_timeout;
    let wait = request.deadline_ms.map_or(longest, |ms| Duration::from_millis(ms).min(longest));
    let counted = app.snapshots.begin_synchronous(task, &routed.lane);
    let answer = routed.version.predict(&request.input, Some(started + wait)).await?;
    drop(counted);

    let card = routed.version.card();
    let prediction = Prediction {
        request_id,
        task,
        sensor_id: request.sensor_id.as_deref(),
        answer,
        model_used: &card.model,
        model_version: card.version,
        fallback: routed.fallback,
        tier: card.tier.as_deref(),
        latency_ms: millis(started.elapsed()),
        queue_depth: routed.decision.depth,
        timestamp: now_ms(),
        decision: &routed.decision,
    };
    let mut response = Json(prediction).into_response();
    let applied = Applied { task: task.to_owned(), decision: Some(routed.decision), job_id: None };
    response.extensions_mut().insert(applied);
    Ok(response)
}

/// Milliseconds to the microsecond: more digits would be noise.
fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
