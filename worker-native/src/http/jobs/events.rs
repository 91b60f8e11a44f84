//! `GET /v1/jobs/{id}/events`: a job's way to its result, event by event.
//!
//! Events are not kept anywhere: they are told from the job's state, so their ids say what they are about, and whoever
//! comes back with `Last-Event-ID`, to any process, gets each of the others once and in order. Attempt k begins with id
//! 2k and, where it came to nothing, ends with 2k + 1.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::Event;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shared::headers;
use shared::problem::{ErrorCode, Problem};
use tokio::sync::{OwnedSemaphorePermit, broadcast};
use tokio::time::Instant;

use super::state::{known, read};
use crate::app::App;
use crate::http::error::ApiError;
use crate::http::rim::{Applied, RequestId};
use crate::http::sse;
use crate::queue::{AttemptError, Change, JobState, Outcome};

/// The id of the last event, whatever went before.
const END: &str = "end";
/// A job is looked at so often even where no change was heard of.
const LOOK: Duration = Duration::from_secs(2);

/// How far a caller is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    After(u64),
    End,
}

impl Place {
    fn read(map: &HeaderMap) -> Result<Self, ApiError> {
        let Some(id) = map.get(headers::LAST_EVENT_ID).filter(|id| !id.is_empty()) else { return Ok(Self::After(0)) };
        match id.to_str() {
            Ok(END) => Ok(Self::End),
            id => id.ok().and_then(|id| id.parse().ok()).map(Self::After).ok_or_else(|| {
                ApiError::new(ErrorCode::InvalidHeader, "`last-event-id` is none of a job's events: a number, or `end`")
            }),
        }
    }
}

/// One event, and where it stands among the others.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Told {
    /// None is the last.
    id: Option<u64>,
    name: &'static str,
    data: String,
}

#[derive(Debug, Serialize)]
struct Accepted<'a> {
    job_id: &'a str,
    task: &'a str,
}

#[derive(Debug, Serialize)]
struct Attempt<'a> {
    attempt: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct Ended<'a> {
    job_id: &'a str,
    state: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a RawValue>,
}

/// All events of a job up to its state; `failures` are those known of its tries.
fn timeline((job_id, task): (&str, &str), state: &JobState, failures: &[AttemptError]) -> Vec<Told> {
    #[derive(Deserialize)]
    struct Peek {
        #[serde(default)]
        attempts: u32,
    }
    let is_lost = state.state == "lost";
    let (starts, retries) = match (&state.result, state.state.as_str()) {
        (Some(result), _) => {
            let starts = serde_json::from_str::<Peek>(result.get()).map_or(0, |peek| peek.attempts);
            (starts, starts.saturating_sub(1))
        }
        (None, "running" | "lost") => (state.attempt, state.attempt.saturating_sub(1)),
        (None, _) => (state.attempt, state.attempt),
    };
    let mut told = vec![Told { id: Some(1), name: "accepted", data: sse::json(&Accepted { job_id, task }) }];
    for attempt in 1..=starts {
        let id = u64::from(attempt) * 2;
        told.push(Told { id: Some(id), name: "started", data: sse::json(&Attempt { attempt, error: None }) });
        if attempt <= retries {
            // A consumer that died could not say why.
            let failure = failures.iter().find(|failure| failure.attempt == attempt);
            let error = failure.map(|failure| failure.error.as_str());
            told.push(Told { id: Some(id + 1), name: "retrying", data: sse::json(&Attempt { attempt, error }) });
        }
    }
    if state.result.is_some() || is_lost {
        let ended = Ended { job_id, state: &state.state, result: state.result.as_deref() };
        told.push(Told { id: None, name: "result", data: sse::json(&ended) });
    }
    told
}

pub(in crate::http) async fn events(
    State(app): State<App>,
    axum::Extension(RequestId(request_id)): axum::Extension<RequestId>,
    id: Result<Path<String>, PathRejection>,
    map: HeaderMap,
) -> Result<Response, ApiError> {
    let (task, job_id) = known(&app, id)?;
    let Place::After(after) = Place::read(&map)? else {
        // Nothing is left to send; 204 is what ends the attempts to connect again (WHATWG HTML §9.2.3).
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let place = Arc::clone(&app.watchers).try_acquire_owned().map_err(|_| {
        let detail = "WATCH_MAX_ACTIVE callers watch jobs already; try again, or ask GET /v1/jobs/{id} now and then";
        ApiError::new(ErrorCode::Overloaded, detail)
    })?;
    // Before the first look, so that no change falls between the two.
    let changes = app.queue.watch(&task).await?;
    let state = read(&app, &task, &job_id).await?;
    let applied = Applied { task: task.clone(), decision: None, job_id: Some(job_id.clone()) };
    let mut watch =
        Watch { app, task, job_id, request_id, after, changes, ready: VecDeque::new(), is_over: false, _place: place };
    watch.tell(&state).await;
    let events = futures_util::stream::unfold(watch, |mut watch| async move {
        let event = watch.next().await?;
        Some((event, watch))
    });
    let mut response = sse::respond(events);
    response.extensions_mut().insert(applied);
    Ok(response)
}

/// One caller that watches one job.
#[derive(Debug)]
struct Watch {
    app: App,
    task: String,
    job_id: String,
    request_id: String,
    /// The last event the caller has.
    after: u64,
    changes: broadcast::Receiver<Change>,
    ready: VecDeque<Event>,
    is_over: bool,
    _place: OwnedSemaphorePermit,
}

impl Watch {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            // Another process goes on where this one ends.
            if self.is_over || self.app.is_draining() {
                return None;
            }
            self.change().await;
            match self.app.queue.job(&self.task, &self.job_id).await {
                Ok(Some(state)) => self.tell(&state).await,
                Ok(None) => self.is_gone(),
                Err(error) => {
                    tracing::debug!(job_id = self.job_id, %error, "a watched job cannot be read; tried again");
                    tokio::time::sleep(LOOK).await;
                }
            }
        }
    }

    /// Waits until the job may have changed.
    async fn change(&mut self) {
        let end = Instant::now() + LOOK;
        loop {
            match tokio::time::timeout_at(end, self.changes.recv()).await {
                Ok(Ok(Change::Jobs(ids))) if !ids.contains(&self.job_id) => {}
                Ok(Ok(_) | Err(broadcast::error::RecvError::Lagged(_))) | Err(_) => return,
                Ok(Err(broadcast::error::RecvError::Closed)) => {
                    tokio::time::sleep_until(end).await;
                    if let Ok(changes) = self.app.queue.watch(&self.task).await {
                        self.changes = changes;
                    }
                    return;
                }
            }
        }
    }

    /// Makes ready what the caller does not have.
    async fn tell(&mut self, state: &JobState) {
        let failures = self.failures(state).await;
        for told in timeline((&self.job_id, &self.task), state, &failures) {
            let event = match told.id {
                Some(id) if id <= self.after => continue,
                Some(1) => sse::first_event(told.name, "1".to_owned(), &told.data),
                Some(id) => sse::event(told.name, id.to_string(), &told.data),
                None => sse::event(told.name, END.to_owned(), &told.data),
            };
            self.is_over |= told.id.is_none();
            self.after = told.id.unwrap_or(u64::MAX);
            self.ready.push_back(event);
        }
    }

    /// Why tries failed: with a job that has ended they stand no longer, unless it was given up.
    async fn failures(&self, state: &JobState) -> Vec<AttemptError> {
        if state.state != Outcome::Dead.name() {
            return state.failures.clone();
        }
        let letter = self.app.queue.dead_letter(&self.task, &self.job_id).await;
        letter.ok().flatten().map(|letter| letter.failures).unwrap_or_default()
    }

    fn is_gone(&mut self) {
        let (path, detail) = (format!("/v1/jobs/{}/events", self.job_id), "the job is not there any more");
        let problem = Problem::new(ErrorCode::NotFound, detail, &path, &[], &self.request_id);
        self.ready.push_back(sse::event("error", self.after.to_string(), &problem.to_json()));
        self.is_over = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(state: &str, attempt: u32) -> JobState {
        JobState { state: state.to_owned(), attempt, ..JobState::default() }
    }

    fn ended(state: &str, result: &str) -> JobState {
        let result = RawValue::from_string(result.to_owned()).unwrap();
        JobState { state: state.to_owned(), result: Some(result), ..JobState::default() }
    }

    fn ids(state: &JobState) -> Vec<(u64, &'static str)> {
        timeline(("t.1", "t"), state, &[]).into_iter().map(|told| (told.id.unwrap_or(99), told.name)).collect()
    }

    #[test]
    fn a_state_tells_all_that_led_to_it() {
        let (accepted, one, again, two) = ((1, "accepted"), (2, "started"), (3, "retrying"), (4, "started"));
        assert_eq!(ids(&open("queued", 0)), [accepted]);
        assert_eq!(ids(&open("running", 1)), [accepted, one]);
        assert_eq!(ids(&open("retrying", 1)), [accepted, one, again]);
        assert_eq!(ids(&open("queued", 1)), [accepted, one, again], "its pause is over");
        assert_eq!(ids(&open("running", 2)), [accepted, one, again, two]);
        assert_eq!(ids(&open("retrying", 0)), [accepted], "a start that did not count");
        assert_eq!(ids(&open("lost", 1)), [accepted, one, (99, "result")]);
        let end = (99, "result");
        assert_eq!(ids(&ended("done", r#"{"attempts":2}"#)), [accepted, one, again, two, end]);
        assert_eq!(ids(&ended("expired", r#"{"attempts":0}"#)), [accepted, end]);
        assert_eq!(ids(&ended("cancelled", "{}")), [accepted, end]);
    }

    #[test]
    fn errors_go_with_their_attempts_and_results_are_shown_as_stored() {
        let failures = [AttemptError { attempt: 2, at: 5, error: "broke \"off\"".to_owned() }];
        let told = timeline(("t.1", "t"), &open("retrying", 2), &failures);
        let data: Vec<_> = told.iter().map(|told| told.data.as_str()).collect();
        assert_eq!(
            data,
            [
                r#"{"job_id":"t.1","task":"t"}"#,
                r#"{"attempt":1}"#,
                r#"{"attempt":1}"#,
                r#"{"attempt":2}"#,
                r#"{"attempt":2,"error":"broke \"off\""}"#
            ]
        );
        let told = timeline(("t.1", "t"), &ended("done", r#"{"attempts": 1}"#), &[]);
        assert_eq!(told.last().unwrap().data, r#"{"job_id":"t.1","state":"done","result":{"attempts": 1}}"#);
    }

    #[test]
    fn a_caller_says_where_it_is() {
        let read = |id: &str| {
            let mut map = HeaderMap::new();
            map.insert(headers::LAST_EVENT_ID, id.parse().unwrap());
            Place::read(&map).map_err(|error| error.code)
        };
        assert_eq!(Place::read(&HeaderMap::new()).unwrap(), Place::After(0));
        assert_eq!((read(""), read("5"), read("end")), (Ok(Place::After(0)), Ok(Place::After(5)), Ok(Place::End)));
        for wrong in ["-1", "c.0.9d54", "END", "99999999999999999999999"] {
            assert_eq!(read(wrong), Err(ErrorCode::InvalidHeader), "{wrong}");
        }
    }
}
