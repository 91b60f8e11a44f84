//! `GET /v1/jobs/{id}`: what became of a job. `DELETE /v1/jobs/{id}`: call it off.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::value::RawValue;
use shared::ids::is_id;
use shared::problem::ErrorCode;

use crate::app::App;
use crate::clock::{millis, now_ms};
use crate::decisions::End;
use crate::http::error::ApiError;
use crate::http::rim::Applied;
use crate::queue::{AttemptError, Cancelled, Entry, JobState, Outcome};
use crate::routing::{DecisionRecord, Weighed};

#[derive(Debug, Serialize)]
struct View<'a> {
    job_id: &'a str,
    state: &'a str,
    // What follows is of a job that has not ended; of one that has, the result tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    waited_ms: Option<u64>,
    #[serde(skip_serializing_if = "<[AttemptError]>::is_empty")]
    failures: &'a [AttemptError],
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    callback: Option<&'a str>,
}

pub(in crate::http) async fn show(
    State(app): State<App>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let (task, id) = known(&app, id)?;
    let state = read(&app, &task, &id).await?;
    let open = state.result.is_none();
    let view = View {
        job_id: &id,
        state: &state.state,
        attempt: open.then_some(state.attempt),
        waited_ms: state.waited.map(|waited| u64::try_from(waited.as_millis()).unwrap_or(u64::MAX)),
        failures: &state.failures,
        result: state.result.as_deref(),
        callback: state.callback.as_deref(),
    };
    Ok(Json(view).into_response())
}

/// The result of a job that was called off: it may have no more than this, since nobody claimed it.
#[derive(Debug, Serialize)]
struct CalledOff<'a> {
    job_id: &'a str,
    task: &'a str,
    outcome: Outcome,
    finished_at: u64,
    error: &'static str,
    #[serde(flatten)]
    job: Option<Job>,
}

/// What the queue knew of it.
#[derive(Debug, Serialize)]
struct Job {
    request_id: String,
    sensor_id: Option<String>,
    accepted_at: u64,
    latency_ms: u64,
    model: String,
    model_version: u32,
    decision: DecisionRecord,
    #[serde(skip_serializing_if = "Option::is_none")]
    weighed: Option<Weighed>,
}

impl Job {
    fn of(entry: Entry, now_ms: u64) -> Self {
        Self {
            request_id: entry.request_id,
            sensor_id: entry.sensor_id,
            accepted_at: entry.accepted_at,
            latency_ms: now_ms.saturating_sub(entry.accepted_at),
            model: entry.model,
            model_version: entry.model_version,
            decision: entry.decision,
            weighed: entry.weighed,
        }
    }
}

#[derive(Debug, Serialize)]
struct Receipt<'a> {
    job_id: &'a str,
    state: &'static str,
    was_running: bool,
}

pub(in crate::http) async fn cancel(
    State(app): State<App>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let (task, id) = known(&app, id)?;
    let now_ms = now_ms();
    // Without it the job is called off all the same; its result then says less.
    let entry = app.queue.entry(&task, &id).await.ok().flatten();
    let result = CalledOff {
        job_id: &id,
        task: &task,
        outcome: Outcome::Cancelled,
        finished_at: now_ms,
        error: "called off before it had a result",
        job: entry.clone().map(|entry| Job::of(entry, now_ms)),
    };
    match app.queue.cancel(&task, &id, &crate::http::sse::json(&result)).await? {
        Cancelled::Done { running } => {
            app.metrics.settled(&task, Outcome::Cancelled.name());
            if let Some(entry) = &entry {
                app.decisions.ended(entry, || called_off(entry, now_ms));
            }
            let receipt = Receipt { job_id: &id, state: Outcome::Cancelled.name(), was_running: running };
            let mut response = Json(receipt).into_response();
            response.extensions_mut().insert(Applied { task, decision: None, job_id: Some(id) });
            Ok(response)
        }
        Cancelled::Ended(outcome) => {
            let detail = format!("job `{id}` has ended before: {outcome}; its result stands");
            Err(ApiError::new(ErrorCode::JobEnded, detail))
        }
        Cancelled::Unknown => Err(unknown(&id)),
    }
}

fn called_off(entry: &Entry, now_ms: u64) -> End {
    let took = Duration::from_millis(now_ms.saturating_sub(entry.accepted_at));
    End {
        outcome: Outcome::Cancelled.name().to_owned(),
        model: entry.model.clone(),
        model_version: entry.model_version,
        latency_ms: millis(took),
        ..End::default()
    }
}

/// The task of a job id that can be one, and the id.
pub(super) fn known(app: &App, id: Result<Path<String>, PathRejection>) -> Result<(String, String), ApiError> {
    let Path(id) = id.map_err(|error| ApiError::new(ErrorCode::NotFound, format!("no such job: {error}")))?;
    let task = task_of(app, &id).ok_or_else(|| unknown(&id))?;
    Ok((task, id))
}

/// The task of a job's id, where it can be one and there is such a task.
pub(in crate::http) fn task_of(app: &App, id: &str) -> Option<String> {
    let task = Entry::task_of(id).filter(|_| is_id(id))?;
    app.engine.catalog().task(task).map(|task| task.schema.name.clone())
}

/// A job's state, or that there is none.
pub(super) async fn read(app: &App, task: &str, id: &str) -> Result<JobState, ApiError> {
    app.queue.job(task, id).await?.ok_or_else(|| unknown(id))
}

fn unknown(id: &str) -> ApiError {
    let detail = format!("no job `{id}`; results are kept for RESULT_TTL_SECONDS after they are there");
    ApiError::new(ErrorCode::NotFound, detail)
}
