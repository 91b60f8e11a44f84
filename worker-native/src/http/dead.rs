//! `/v1/dead`: jobs that were given up, for operators: look at them, hand them in again, drop them.
//!
//! Never through the edge: what is here changes the queue, and shows readings.

mod select;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use shared::problem::ErrorCode;
use shared::reading::Input;

use super::body;
use super::error::ApiError;
use super::jobs::state::task_of;
use super::results::tasks;
use crate::app::App;
use crate::queue::{AttemptError, DeadLetter, QueueError};
use select::{Chosen, Listing, Merged, Wish};

/// Dead letters handled by one call of the queue.
const AT_ONCE: usize = 100;

/// A dead letter in a list.
#[derive(Debug, Serialize)]
struct Line<'a> {
    job_id: &'a str,
    task: &'a str,
    model: Option<&'a str>,
    model_version: Option<u32>,
    tier: Option<&'a str>,
    sensor_id: Option<&'a str>,
    tenant: Option<&'a str>,
    priority: Option<&'static str>,
    accepted_at: Option<u64>,
    died_at: u64,
    attempts: Option<u32>,
    /// The last one.
    error: Option<&'a str>,
}

/// A dead letter with all that is kept of it.
#[derive(Debug, Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    line: Line<'a>,
    /// As the model was to get it.
    reading: Value,
    failures: &'a [AttemptError],
    result: &'a RawValue,
}

impl<'a> Line<'a> {
    fn of(task: &'a str, letter: &'a DeadLetter) -> Self {
        let entry = letter.entry.as_ref().ok();
        let last = letter.failures.last();
        Self {
            job_id: &letter.job_id,
            task,
            model: entry.map(|entry| entry.model.as_str()),
            model_version: entry.map(|entry| entry.model_version),
            tier: entry.and_then(|entry| entry.decision.tier.as_deref()),
            sensor_id: entry.and_then(|entry| entry.sensor_id.as_deref()),
            tenant: entry.and_then(|entry| entry.tenant.as_deref()),
            priority: entry.map(|entry| entry.priority.name()),
            accepted_at: entry.map(|entry| entry.accepted_at),
            died_at: letter.died_at,
            attempts: last.map(|failure| failure.attempt),
            error: last.map(|failure| failure.error.as_str()),
        }
    }
}

pub(super) async fn list(
    State(app): State<App>,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(query) = query.map_err(|error| ApiError::new(ErrorCode::InvalidQuery, error.to_string()))?;
    let listing = Listing::read(&query)?;
    let tasks = tasks(&app.engine.catalog(), listing.filter.task.as_deref())?;
    let mut merged = Merged::new(&app, tasks, &listing.filter);
    let mut lines = Vec::new();
    let mut passed = 0;
    while lines.len() < listing.limit
        && let Some((task, letter)) = merged.next().await?
    {
        if passed < listing.skip {
            passed += 1;
        } else {
            lines.push(json!(Line::of(&task, &letter)));
        }
    }
    Ok(Json(json!({"count": lines.len(), "dead": lines})).into_response())
}

pub(super) async fn show(
    State(app): State<App>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let (task, id) = known(&app, id)?;
    let letter = app.queue.dead_letter(&task, &id).await?.ok_or_else(|| unknown(&id))?;
    let reading = match &letter.entry {
        Ok(entry) => match &entry.input {
            Input::Features(features) => json!({"features": features}),
            Input::Text(text) => json!({"text": text}),
        },
        Err(fault) => json!({"unreadable": fault}),
    };
    let line = Line::of(&task, &letter);
    Ok(Json(Whole { line, reading, failures: &letter.failures, result: &letter.result }).into_response())
}

pub(super) async fn drop_one(
    State(app): State<App>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let (task, id) = known(&app, id)?;
    let dropped = app.queue.drop_dead(&task, std::slice::from_ref(&id)).await?;
    if dropped != [true] {
        return Err(unknown(&id));
    }
    tracing::info!(task, job_id = id, "a dead letter was dropped");
    Ok(Json(json!({"job_id": id, "dropped": true})).into_response())
}

pub(super) async fn requeue(State(app): State<App>, map: HeaderMap, body: Body) -> Result<Response, ApiError> {
    act(&app, &map, body, Act::Requeue).await
}

pub(super) async fn drop_many(State(app): State<App>, map: HeaderMap, body: Body) -> Result<Response, ApiError> {
    act(&app, &map, body, Act::Drop).await
}

/// What is done with dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Requeue,
    Drop,
}

impl Act {
    const fn done(self) -> &'static str {
        match self {
            Self::Requeue => "requeued",
            Self::Drop => "dropped",
        }
    }

    async fn on(self, app: &App, task: &str, ids: &[String]) -> Result<Vec<bool>, QueueError> {
        match self {
            Self::Requeue => app.queue.requeue(task, ids).await,
            Self::Drop => app.queue.drop_dead(task, ids).await,
        }
    }
}

async fn act(app: &App, map: &HeaderMap, body: Body, act: Act) -> Result<Response, ApiError> {
    let bytes = body::read(&app.config.http, map, body).await?;
    let Chosen { by_task, mut missing, more } = Wish::read(&bytes)?.choose(app).await?;
    let mut done = Vec::new();
    for (task, ids) in &by_task {
        for ids in ids.chunks(AT_ONCE) {
            let answers = act.on(app, task, ids).await?;
            for (id, was_there) in ids.iter().zip(answers) {
                let list = if was_there { &mut done } else { &mut missing };
                list.push(id.clone());
            }
        }
    }
    tracing::info!(what = act.done(), jobs = done.len(), missing = missing.len(), "dead letters were handled");
    let (count, what) = (done.len(), act.done());
    Ok(Json(json!({ what: count, "job_ids": done, "missing": missing, "more": more })).into_response())
}

fn known(app: &App, id: Result<Path<String>, PathRejection>) -> Result<(String, String), ApiError> {
    let Path(id) = id.map_err(|error| ApiError::new(ErrorCode::NotFound, format!("no such dead letter: {error}")))?;
    let task = task_of(app, &id).ok_or_else(|| unknown(&id))?;
    Ok((task, id))
}

fn unknown(id: &str) -> ApiError {
    let detail = format!("no dead letter `{id}`; they are kept for DEAD_TTL_SECONDS, and DEAD_MAX of each task");
    ApiError::new(ErrorCode::NotFound, detail)
}
