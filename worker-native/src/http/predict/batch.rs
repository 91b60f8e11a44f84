//! `POST /predict/batch`: many readings at once, each answered or refused on its own.

use std::time::Instant;

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shared::headers;
use shared::problem::{ErrorCode, Problem};
use shared::reading::Fault;

use super::{Wanted, run};
use crate::app::App;
use crate::clock::millis;
use crate::engine::index::Index;
use crate::http::body;
use crate::http::error::ApiError;
use crate::http::rim::RequestId;

/// Readings of one `/predict/batch` that are under way at once; the engine makes batches of them.
const AT_ONCE: usize = 256;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBatch {
    readings: Vec<Box<RawValue>>,
}

#[derive(Debug, Serialize)]
struct BatchAnswer {
    request_id: String,
    predictions: Vec<Element>,
    total_samples: usize,
    succeeded: usize,
    failed: usize,
    anomalies_detected: usize,
    /// Of those that were answered.
    anomaly_rate: f64,
    latency_ms: f64,
}

/// One element's JSON, `index` and all: raw JSON cannot be flattened into another struct.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Element {
    answer: Box<RawValue>,
    #[serde(skip)]
    anomaly: Option<bool>,
}

#[derive(Debug, Serialize)]
struct Indexed<T> {
    index: usize,
    #[serde(flatten)]
    answer: T,
}

pub(in crate::http) async fn batch(
    State(app): State<App>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    RawQuery(query): RawQuery,
    map: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let started = Instant::now();
    let wanted = Wanted::read(query.as_deref())?;
    let bytes = body::read(&app.config.http, &map, body).await?;
    shared::reading::check_json(&bytes)?;
    let RawBatch { readings } = serde_json::from_slice(&bytes).map_err(|error| batch_fault(&error.to_string()))?;
    if readings.is_empty() {
        return Err(batch_fault("`readings` is empty"));
    }
    let (index, total) = (app.engine.index(), readings.len());
    // Edge advice is for one reading, and this is many: each is decided here.
    let map = without_advice(map);
    let elements = readings.into_iter().enumerate().map(|(i, raw)| {
        let (app, index, wanted, map, request_id) = (&app, &index, &wanted, &map, &request_id);
        async move { element(app, index, (i, &raw), wanted, map, request_id).await }
    });
    // A batch alone must not fill a model's queue and be refused by it.
    let at_once = AT_ONCE.min(app.config.models.max_waiting);
    let predictions: Vec<Element> = stream::iter(elements).buffered(at_once).collect().await;
    let succeeded = predictions.iter().filter(|element| element.anomaly.is_some()).count();
    let anomalies_detected = predictions.iter().filter(|element| element.anomaly == Some(true)).count();
    #[expect(clippy::cast_precision_loss, reason = "counts of one body")]
    let anomaly_rate = if succeeded == 0 { 0.0 } else { anomalies_detected as f64 / succeeded as f64 };
    let answer = BatchAnswer {
        request_id,
        predictions,
        total_samples: total,
        succeeded,
        failed: total - succeeded,
        anomalies_detected,
        anomaly_rate,
        latency_ms: millis(started.elapsed()),
    };
    Ok(Json(answer).into_response())
}

fn without_advice(mut map: HeaderMap) -> HeaderMap {
    for name in headers::EDGE_ONLY {
        map.remove(name);
    }
    map
}

fn batch_fault(detail: &str) -> ApiError {
    let detail = format!("the body must be {{\"readings\": […]}} with at least one reading: {detail}");
    let fault = Fault::new("#/readings", "wrong_type", detail.clone());
    ApiError { faults: vec![fault], ..ApiError::new(ErrorCode::InvalidReading, detail) }
}

/// One reading of a batch: its prediction, or the problem it would have been answered with alone.
async fn element(
    app: &App,
    index: &Index,
    (i, raw): (usize, &RawValue),
    wanted: &Wanted,
    map: &HeaderMap,
    request_id: &str,
) -> Element {
    // A label names one answer, so each has an id of its own.
    let id = format!("{request_id}:{i}");
    let answered = async {
        let request = wanted.parse(raw.get().as_bytes(), &index.catalog)?;
        let done = run(app, index, &request, map, &id).await?;
        let (anomaly, decision) = (done.given.answer.is_anomaly, &done.routed.decision);
        app.metrics.decision(&request.task.schema.name, decision.chosen(), &decision.reason, false);
        let answer = Indexed { index: i, answer: done.prediction(&request, &id) };
        Ok::<_, ApiError>((serde_json::value::to_raw_value(&answer), anomaly))
    };
    let (answer, anomaly) = match answered.await {
        Ok((answer, anomaly)) => (answer, Some(anomaly)),
        Err(error) => {
            let faults: Vec<Fault> = error.faults.iter().map(|fault| within(fault, i)).collect();
            let problem = Problem::new(error.code, &error.detail, "/predict/batch", &faults, &id);
            let problem = problem.with_retry_after_ms(error.retry_after_ms);
            app.metrics.error(error.code.http_status(), error.code.name());
            (serde_json::value::to_raw_value(&serde_json::json!({ "index": i, "error": problem })), None)
        }
    };
    // Strings and numbers in memory: writing them has no failing case.
    Element { answer: answer.unwrap_or_default(), anomaly }
}

/// A fault of a reading, with the pointer into the whole body.
fn within(fault: &Fault, i: usize) -> Fault {
    let rest = fault.pointer.strip_prefix('#').unwrap_or(&fault.pointer);
    Fault { pointer: format!("#/readings/{i}{rest}"), ..fault.clone() }
}
