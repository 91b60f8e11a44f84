//! `POST /predict`, `/predict_proba`, `/predict/batch`: answers now, from the local engine.

mod query;

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shared::headers;
use shared::problem::{ErrorCode, Problem};
use shared::reading::{Fault, Request};

use super::body;
use super::error::ApiError;
use super::idempotency::{self, Repeatable};
use super::rim::{Applied, RequestId};
use crate::answering::{self, Asked, Given};
use crate::app::App;
use crate::clock::{millis, now_ms};
use crate::engine::index::Index;
use crate::engine::{Answer, Card};
use crate::routing::{Advice, DecisionRecord, Routed, choose};
pub(super) use query::Wanted;

/// Readings of one `/predict/batch` that are under way at once; the engine makes batches of them.
const AT_ONCE: usize = 256;

#[derive(Debug, Serialize)]
struct Prediction<'a> {
    request_id: &'a str,
    task: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sensor_id: Option<&'a str>,
    #[serde(flatten)]
    answer: &'a Answer,
    #[serde(flatten)]
    by: By<'a>,
}

#[derive(Debug, Serialize)]
struct Probabilities<'a> {
    request_id: &'a str,
    task: &'a str,
    classes: Vec<&'a str>,
    probabilities: Vec<f32>,
    prediction: &'a crate::engine::Prediction,
    #[serde(flatten)]
    by: By<'a>,
}

/// Who answered, how long it took and why it was this one.
#[derive(Debug, Serialize)]
struct By<'a> {
    model_used: &'a str,
    model_version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    arm: Option<&'a str>,
    fallback: bool,
    tier: Option<&'a str>,
    cache: &'static str,
    latency_ms: f64,
    queue_depth: u32,
    timestamp: u64,
    decision: &'a DecisionRecord,
}

/// One answered reading with what it was asked as.
pub(super) struct Done {
    pub(super) routed: Routed,
    pub(super) given: Given,
    started: Instant,
}

impl Done {
    fn by(&self) -> By<'_> {
        let Card { model, version, tier, .. } = &*self.given.card;
        let arm = self.routed.assignment.arm.as_ref();
        By {
            model_used: model,
            model_version: *version,
            arm: Some(arm).filter(|arm| *arm != crate::rollout::assign::DEFAULT_ARM),
            fallback: self.routed.fallback,
            tier: tier.as_deref(),
            cache: self.given.cache.name(),
            latency_ms: millis(self.started.elapsed()),
            queue_depth: self.routed.decision.depth,
            timestamp: now_ms(),
            decision: &self.routed.decision,
        }
    }

    /// The answer as `/predict` gives it.
    fn prediction<'a>(&'a self, request: &'a Request<'_>, request_id: &'a str) -> Prediction<'a> {
        Prediction {
            request_id,
            task: &request.task.schema.name,
            sensor_id: request.sensor_id.as_deref(),
            answer: &self.given.answer,
            by: self.by(),
        }
    }

    fn applied(self, task: &str) -> Applied {
        Applied { task: task.to_owned(), decision: Some(self.routed.decision), job_id: None }
    }
}

pub(super) async fn predict(
    State(app): State<App>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    method: Method,
    uri: Uri,
    map: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let wanted = Wanted::read(uri.query())?;
    let bytes = body::read(&app.config.http, &map, body).await?;
    let tenant = idempotency::tenant(&map)?;
    let once = Repeatable::read(&map, (&method, &uri), tenant.as_deref(), &bytes)?;
    predict_reading(Reading { app, bytes, wanted, map, request_id }, once).await
}

/// A reading to answer now, and who sent it.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) app: App,
    pub(super) bytes: Vec<u8>,
    pub(super) wanted: Wanted,
    pub(super) map: HeaderMap,
    pub(super) request_id: String,
}

/// Answers one reading as `/predict` does; also for `/v1/infer`, whose readings end here.
pub(super) async fn predict_reading(reading: Reading, once: Option<Repeatable>) -> Result<Response, ApiError> {
    let Some(once) = once else {
        let (body, applied) = reading.answer().await?;
        let mut response = idempotency::json(StatusCode::OK, body);
        response.extensions_mut().insert(applied);
        return Ok(response);
    };
    let (app, index) = (reading.app.clone(), reading.app.engine.index());
    let request = reading.wanted.parse(&reading.bytes, &index.catalog)?;
    let (task, longest) = (&request.task.schema.name, longest_wait(&app, &request));
    idempotency::make_once(&app, task, once, longest, async move { reading.answer().await }).await
}

impl Reading {
    /// The answer's JSON, and what was done for it.
    async fn answer(&self) -> Result<(String, Applied), ApiError> {
        let Self { app, request_id, .. } = self;
        let index = app.engine.index();
        let request = self.wanted.parse(&self.bytes, &index.catalog)?;
        let done = run(app, &index, &request, &self.map, request_id).await?;
        let body = super::sse::json(&done.prediction(&request, request_id));
        Ok((body, done.applied(&request.task.schema.name)))
    }
}

/// How long a caller waits for a model.
fn longest_wait(app: &App, request: &Request<'_>) -> Duration {
    let longest = app.config.http.predict_timeout;
    request.deadline_ms.map_or(longest, |ms| Duration::from_millis(ms).min(longest))
}

pub(super) async fn proba(
    State(app): State<App>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    RawQuery(query): RawQuery,
    map: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let wanted = Wanted::read(query.as_deref())?;
    let bytes = body::read(&app.config.http, &map, body).await?;
    let index = app.engine.index();
    let request = wanted.parse(&bytes, &index.catalog)?;
    let name = &request.task.schema.name;
    if request.task.schema.kind == shared::schema::TaskKind::Regression {
        let detail = format!("task `{name}` answers with a number, which has no probabilities; ask /predict");
        return Err(ApiError::new(ErrorCode::InvalidReading, detail));
    }
    let done = run(&app, &index, &request, &map, &request_id).await?;
    let card = &done.given.card;
    let probabilities = Probabilities {
        request_id: &request_id,
        task: name,
        classes: card.class_names(),
        probabilities: card.probabilities(&done.given.answer),
        prediction: &done.given.answer.prediction,
        by: done.by(),
    };
    let mut response = Json(probabilities).into_response();
    response.extensions_mut().insert(done.applied(name));
    Ok(response)
}

/// Chooses a version for a reading and asks it.
pub(super) async fn run(
    app: &App,
    index: &Index,
    request: &Request<'_>,
    map: &HeaderMap,
    request_id: &str,
) -> Result<Done, ApiError> {
    let started = Instant::now();
    if request.callback_url.is_some() {
        let detail = "a callback is for a job: hand the reading in with POST /v1/jobs";
        return Err(ApiError::of_field("#/callback_url", "unexpected", detail));
    }
    let advice = Advice::from_headers(map);
    let routed = choose(index, &app.snapshots, &app.config.routing.policy, (request, request_id), &advice)?;
    let task = request.task.schema.name.as_str();
    let wait = longest_wait(app, request);
    let counted = app.snapshots.begin_synchronous(task, &routed.lane);
    let asked = Asked {
        version: &routed.version,
        assignment: &routed.assignment,
        rollout: &routed.rollout,
        input: &request.input,
        deadline: Some(started + wait),
        request_id,
        job_id: None,
        sensor_id: request.sensor_id.as_deref(),
        decision: Some(&routed.decision),
    };
    let given = answering::answer(app, asked).await?;
    drop(counted);
    Ok(Done { routed, given, started })
}

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

pub(super) async fn batch(
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
        app.metrics.decision(&request.task.schema.name, decision.tier.as_deref(), &decision.reason, false);
        let answer = Indexed { index: i, answer: done.prediction(&request, &id) };
        Ok::<_, ApiError>((serde_json::value::to_raw_value(&answer), anomaly))
    };
    let (answer, anomaly) = match answered.await {
        Ok((answer, anomaly)) => (answer, Some(anomaly)),
        Err(error) => {
            let faults: Vec<Fault> = error.faults.iter().map(|fault| within(fault, i)).collect();
            let problem = Problem::new(error.code, &error.detail, "/predict/batch", &faults, &id);
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
