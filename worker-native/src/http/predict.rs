//! `POST /predict`, `/predict_proba`: an answer now, from the local engine. `/predict/batch` is `batch`'s.

pub(super) mod batch;
mod query;

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Serialize;
use shared::problem::ErrorCode;
use shared::reading::Request;

use super::body;
use super::error::ApiError;
use super::idempotency::{self, Repeatable};
use super::rim::{Applied, RequestId};
use super::shed;
use crate::answering::{self, Asked, Given};
use crate::app::App;
use crate::clock::{millis, now_ms};
use crate::decisions::Case;
use crate::engine::index::Index;
use crate::engine::{Answer, Card};
use crate::routing::{Advice, DecisionRecord, Routed, choose};
pub(super) use query::Wanted;

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
        let arm = self.given.assignment.as_ref().unwrap_or(&self.routed.assignment).arm.as_ref();
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
    let (started, at) = (Instant::now(), now_ms());
    if request.callback_url.is_some() {
        let detail = "a callback is for a job: hand the reading in with POST /v1/jobs";
        return Err(ApiError::of_field("#/callback_url", "unexpected", detail));
    }
    let advice = Advice::from_headers(map);
    let task = request.task.schema.name.as_str();
    let in_force = app.policies.of(task);
    let mut routed = choose(index, &app.snapshots, &in_force.policy, (request, request_id), &advice)?;
    routed.weighed.policy_version = in_force.version;
    if let Some(error) = shed::call(app, (request, request_id), &routed, started) {
        return Err(error.into());
    }
    let wait = longest_wait(app, request);
    let asked = (request.deadline_ms.map(Duration::from_millis), request.priority.unwrap_or_default());
    app.planner.routed(request.task, asked, (&routed.decision, &advice), app.config.role.consumes());
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
        binding: routed.binding,
        class: request.priority.unwrap_or_default(),
        awaited: false,
    };
    let given = answering::answer(app, asked).await;
    drop(counted);
    routed.took(given.as_ref().ok());
    // What was predicted of one tier says nothing of two.
    let predicted = routed.decision.on_time.filter(|_| routed.decision.escalated().is_none());
    if let (Some(predicted), true) = (predicted, app.config.role.consumes()) {
        app.metrics.on_time(task, predicted, given.is_ok());
        app.planner.ended(task, predicted, given.is_ok());
    }
    let by = given.as_ref().map(|given| &*given.card);
    app.decisions.tell(Case::of_call((request_id, task), &routed, by, (at, started.elapsed())));
    let given = given?;
    Ok(Done { routed, given, started })
}
