//! `POST /data`, `POST /v1/jobs`: hand a reading in. `GET /v1/jobs/{id}`: what became of it.

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Serialize;
use serde_json::value::RawValue;
use shared::problem::ErrorCode;

use super::body;
use super::error::ApiError;
use super::predict::Wanted;
use super::rim::{Applied, RequestId};
use crate::app::App;
use crate::clock::now_ms;
use crate::queue::{Enqueued, Entry, NewJob, Priority};
use crate::routing::{Advice, DecisionRecord, choose};

#[derive(Debug, Serialize)]
struct Receipt<'a> {
    job_id: &'a str,
    status: &'static str,
    task: &'a str,
    tier: Option<&'a str>,
    model: &'a str,
    model_version: u32,
    fallback: bool,
    location: &'a str,
    request_id: &'a str,
    decision: &'a DecisionRecord,
}

#[derive(Debug, Serialize)]
struct JobView<'a> {
    job_id: &'a str,
    state: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Box<RawValue>>,
}

pub(super) async fn hand_in(
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
    let advice = Advice::from_headers(&map);
    let routed = choose(&index, &app.snapshots, &app.config.routing.policy, (&request, &request_id), &advice)?;
    let task = &request.task.schema.name;
    let accepted_at = now_ms();
    let card = routed.version.card();
    let entry = Entry {
        job_id: Entry::new_id(task),
        request_id,
        task: task.clone(),
        sensor_id: request.sensor_id,
        timestamp: request.timestamp,
        lane: routed.lane,
        model: card.model.clone(),
        model_version: card.version,
        fallback: routed.fallback,
        pinned: request.model_version.is_some(),
        decision: routed.decision,
        accepted_at,
        deadline_at: request.deadline_ms.map(|ms| accepted_at.saturating_add(ms)),
        priority: Priority::Normal,
        tenant: None,
        callback: None,
        awaited: false,
        input: request.input,
    };
    let left = request.deadline_ms.map(std::time::Duration::from_millis);
    let job = NewJob { entry: entry.clone(), left, room: None, once: None };
    match app.queue.enqueue(task, vec![job]).await?.pop() {
        Some(Enqueued::Accepted(depths)) => app.snapshots.set_depths(task, &depths),
        Some(Enqueued::Full(full)) => {
            let depth = full.depth;
            let detail = format!("{depth} jobs of task `{task}` wait already (QUEUE_MAX_DEPTH); nothing was stored");
            return Err(ApiError::new(ErrorCode::QueueFull, detail));
        }
        _ => return Err(ApiError::new(ErrorCode::Internal, "the queue gave no answer")),
    }
    let location = format!("/v1/jobs/{}", entry.job_id);
    let receipt = Receipt {
        job_id: &entry.job_id,
        status: "accepted",
        task: &entry.task,
        tier: entry.decision.tier.as_deref(),
        model: &entry.model,
        model_version: entry.model_version,
        fallback: entry.fallback,
        location: &location,
        request_id: &entry.request_id,
        decision: &entry.decision,
    };
    let mut response = (StatusCode::ACCEPTED, Json(receipt)).into_response();
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(LOCATION, location);
    }
    let applied = Applied { task: entry.task, decision: Some(entry.decision), job_id: Some(entry.job_id) };
    response.extensions_mut().insert(applied);
    Ok(response)
}

pub(super) async fn show(
    State(app): State<App>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let Path(id) = id.map_err(|error| ApiError::new(ErrorCode::NotFound, format!("no such job: {error}")))?;
    let known = Entry::task_of(&id).filter(|task| shared::ids::is_id(&id) && app.engine.catalog().task(task).is_some());
    let state = match known {
        Some(task) => app.queue.job(task, &id).await?,
        None => None,
    };
    let state = state.ok_or_else(|| {
        let detail = format!("no job `{id}`; results are kept for RESULT_TTL_SECONDS after they are there");
        ApiError::new(ErrorCode::NotFound, detail)
    })?;
    Ok(Json(JobView { job_id: &id, state: &state.state, result: state.result }).into_response())
}
