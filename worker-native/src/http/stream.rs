//! `POST /v1/infer/stream`: the same as `/v1/infer`, told event by event as it comes.
//!
//! A stream makes its next step when it is asked for the next event, and it is asked when the
//! connection can take one: a slow reader slows the work, and a reader that leaves ends it. What
//! goes wrong before the first event is an ordinary problem document with its status; afterwards it
//! is an `error` event, since the status is out.

use std::collections::VecDeque;
use std::time::Instant;

use axum::Extension;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::Event;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use shared::problem::{ErrorCode, Problem};
use tokio::sync::OwnedSemaphorePermit;

use super::body;
use super::error::ApiError;
use super::infer::readings::Readings;
use super::infer::session::{Session, place};
use super::infer::{Asked, Plan, plan};
use super::rim::{Applied, RequestId};
use super::sse::{self, Mark, Place};
use crate::app::App;

/// The path, for the problem documents inside a stream.
const PATH: &str = "/v1/infer/stream";

pub(super) async fn stream(
    State(app): State<App>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let asked = Asked { app, request_id, headers, started: Instant::now() };
    let bytes = body::read(&asked.app.config.http, &asked.headers, body).await?;
    let place = last_place(&asked.headers)?;
    if place.is_some_and(|place| place.done.is_none()) {
        // Nothing is left to send; 204 is what ends the attempts to connect again (WHATWG HTML §9.2.3).
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    match plan(&asked, &bytes, place.map(|place| place.seed))? {
        Plan::Making(mut session) => {
            session.ready().await?;
            let mut mark = Mark::new(&bytes, session.file(), session.seed().unwrap_or(0));
            if let Some(place) = &place {
                catch_up(&mut session, &mut mark, place).await?;
            }
            let applied = session.applied();
            Ok(respond(Making::begin(session, mark, &asked), applied))
        }
        Plan::Readings(readings) => {
            let mut mark = Mark::new(&bytes, "", 0);
            if let Some(place) = &place {
                // What was answered is not answered again; only that it is the same request can be checked.
                let done = place.done.filter(|done| mark.is_of(place) && *done <= readings.count());
                (0..done.ok_or_else(strange)?).for_each(|_| mark.passed());
            }
            let (flow, applied) = Answering::begin(readings, mark, asked).await?;
            Ok(respond(flow, applied))
        }
    }
}

/// Where the caller was cut off.
fn last_place(headers: &HeaderMap) -> Result<Option<Place>, ApiError> {
    let Some(id) = headers.get("last-event-id").filter(|id| !id.is_empty()) else { return Ok(None) };
    id.to_str().ok().and_then(Place::parse).map(Some).ok_or_else(strange)
}

fn strange() -> ApiError {
    let detail = "Last-Event-ID is not of a stream that this body gives now: send the body of that stream byte for \
                  byte, or no Last-Event-ID to begin anew (a newer model file gives another text)";
    ApiError::new(ErrorCode::InvalidReading, detail)
}

/// Makes again what the caller has, and checks that it is the same.
async fn catch_up(session: &mut Session, mark: &mut Mark, place: &Place) -> Result<(), ApiError> {
    while place.done.is_some_and(|done| mark.done() < done) {
        if session.is_over() {
            return Err(strange());
        }
        mark.took(&sse::json(&session.step().await?));
    }
    if mark.is_at(place) { Ok(()) } else { Err(strange()) }
}

fn respond(flow: impl Flow, applied: Applied) -> Response {
    let events = futures_util::stream::unfold(flow, |mut flow| async move {
        let event = flow.next().await?;
        Some((event, flow))
    });
    let mut response = sse::respond(events);
    response.extensions_mut().insert(applied);
    response
}

/// What gives one event after the other.
trait Flow: Send + 'static {
    /// The next event, made now.
    fn next(&mut self) -> impl Future<Output = Option<Event>> + Send;
}

/// A text or a series, step by step.
#[derive(Debug)]
struct Making {
    app: App,
    session: Box<Session>,
    mark: Mark,
    ready: VecDeque<Event>,
    is_told: bool,
}

impl Making {
    fn begin(session: Box<Session>, mark: Mark, asked: &Asked) -> Self {
        let accepted = json!({
            "request_id": asked.request_id, "seed": session.seed(), "resumed_after": mark.done(),
        });
        let ready = VecDeque::from([
            sse::first_event("accepted", mark.id(), &sse::json(&accepted)),
            sse::event("decision", mark.id(), &sse::json(&session.decided())),
        ]);
        Self { app: asked.app.clone(), session, mark, ready, is_told: false }
    }
}

impl Flow for Making {
    async fn next(&mut self) -> Option<Event> {
        if let Some(event) = self.ready.pop_front() {
            return Some(event);
        }
        if self.is_told {
            return None;
        }
        if self.session.is_over() {
            self.is_told = true;
            return Some(sse::event("result", self.mark.last_id(), &sse::json(&self.session.answer())));
        }
        match self.session.step().await {
            Ok(step) => {
                let data = sse::json(&step);
                self.mark.took(&data);
                Some(sse::event("step", self.mark.id(), &data))
            }
            Err(error) => {
                self.is_told = true;
                log(&self.app, &error);
                // The id of the last step: who connects again with it goes on from there.
                Some(sse::event("error", self.mark.id(), &sse::json(&self.session.broken(&error, PATH))))
            }
        }
    }
}

/// Readings, one after the other.
#[derive(Debug)]
struct Answering {
    asked: Asked,
    readings: Readings,
    mark: Mark,
    ready: VecDeque<Event>,
    // What answered the reading before, so that a change is told.
    decided: Value,
    answered: usize,
    anomalies: usize,
    failed: usize,
    last: Value,
    is_told: bool,
    _place: OwnedSemaphorePermit,
}

impl Answering {
    /// A single reading is answered before the stream begins: what is wrong with it has its own status.
    async fn begin(readings: Readings, mark: Mark, asked: Asked) -> Result<(Self, Applied), ApiError> {
        let place = place(&asked.app)?;
        let accepted = json!({
            "request_id": asked.request_id, "readings": readings.count(), "resumed_after": mark.done(),
        });
        let ready = VecDeque::from([sse::first_event("accepted", mark.id(), &sse::json(&accepted))]);
        let mut flow = Self {
            asked,
            readings,
            mark,
            ready,
            decided: Value::Null,
            answered: 0,
            anomalies: 0,
            failed: 0,
            last: Value::Null,
            is_told: false,
            _place: place,
        };
        let mut applied = Applied::default();
        if !flow.readings.is_batch() {
            let seen = flow.mark.done() > 0;
            let response = flow.readings.answer(&flow.asked, 0).await?;
            applied = response.extensions().get::<Applied>().cloned().unwrap_or_default();
            let answer = read(response).await?;
            flow.take(0, answer, seen);
        }
        Ok((flow, applied))
    }

    /// Notes an answer and lines up its events; what the caller has seen is only noted.
    fn take(&mut self, index: usize, answer: Value, is_seen: bool) {
        let of = |name: &str| answer.get(name).cloned().unwrap_or_default();
        let decided = json!({
            "task": of("task"), "model": of("model_used"), "model_version": of("model_version"), "tier": of("tier"),
            "fallback": of("fallback"),
        });
        if self.decided != decided {
            let mut data = decided.clone();
            data["decision"] = of("decision");
            self.ready.push_back(sse::event("decision", self.mark.id(), &sse::json(&data)));
            self.decided = decided;
        }
        self.answered += 1;
        self.anomalies += usize::from(answer["is_anomaly"] == true);
        if !is_seen {
            self.mark.passed();
            let step = json!({"index": index, "answer": answer});
            self.ready.push_back(sse::event("step", self.mark.id(), &sse::json(&step)));
        }
        self.last = answer;
    }

    /// The next reading of a batch; a bad one is an error at its index, never the loss of the batch.
    async fn step(&mut self) {
        let index = self.mark.done();
        let left = self.asked.app.config.http.stream_timeout.saturating_sub(self.asked.started.elapsed());
        let one = async { read(self.readings.answer(&self.asked, index).await?).await };
        match tokio::time::timeout(left, one).await {
            Ok(Ok(answer)) => self.take(index, answer, false),
            Ok(Err(error)) => {
                self.failed += 1;
                self.asked.app.metrics.error(error.code.http_status(), error.code.name());
                self.mark.passed();
                let problem = Problem::new(error.code, &error.detail, PATH, &error.faults, &self.asked.request_id);
                let step = sse::json(&json!({"index": index, "error": problem}));
                self.ready.push_back(sse::event("step", self.mark.id(), &step));
            }
            Err(_) => {
                self.is_told = true;
                let error = ApiError::new(
                    ErrorCode::DeadlineExceeded,
                    "the stream took longer than it may (STREAM_TIMEOUT_MS); connect again with Last-Event-ID for the rest",
                );
                log(&self.asked.app, &error);
                let problem = Problem::new(error.code, &error.detail, PATH, &[], &self.asked.request_id);
                self.ready.push_back(sse::event("error", self.mark.id(), &problem.to_json()));
            }
        }
    }

    fn result(&self) -> Value {
        if !self.readings.is_batch() {
            return self.last.clone();
        }
        let took_ms = (self.asked.started.elapsed().as_secs_f64() * 1e6).round() / 1e3;
        json!({
            "request_id": self.asked.request_id, "total_samples": self.readings.count(), "answered": self.answered,
            "failed": self.failed, "anomalies_detected": self.anomalies, "latency_ms": took_ms,
        })
    }
}

impl Flow for Answering {
    async fn next(&mut self) -> Option<Event> {
        if self.ready.is_empty() && !self.is_told {
            if self.mark.done() < self.readings.count() {
                self.step().await;
            } else {
                self.is_told = true;
                let result = sse::event("result", self.mark.last_id(), &sse::json(&self.result()));
                self.ready.push_back(result);
            }
        }
        self.ready.pop_front()
    }
}

/// An answer of `/predict` as JSON; it is in memory already.
async fn read(response: Response) -> Result<Value, ApiError> {
    let internal = |cause: &dyn std::fmt::Display| {
        ApiError::caused(ErrorCode::Internal, "the log has the cause under this request id", cause)
    };
    let bytes = to_bytes(response.into_body(), usize::MAX).await.map_err(|error| internal(&error))?;
    serde_json::from_slice(&bytes).map_err(|error| internal(&error))
}

/// The rim has seen a good status only: an error inside a stream would be in no log and in no count.
fn log(app: &App, error: &ApiError) {
    app.metrics.error(error.code.http_status(), error.code.name());
    let (code, detail, cause) = (error.code.name(), error.detail.as_str(), error.cause.as_deref());
    tracing::warn!(code, detail, cause, "a stream broke off");
}
