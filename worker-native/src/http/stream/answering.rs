//! Readings in a stream: one `step` each, in their order, the next when it is asked for.

use std::collections::VecDeque;

use axum::body::to_bytes;
use axum::response::Response;
use axum::response::sse::Event;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shared::problem::{ErrorCode, Problem};
use tokio::sync::OwnedSemaphorePermit;

use super::{Accepted, Flow, PATH, log};
use crate::http::error::ApiError;
use crate::http::infer::Caller;
use crate::http::infer::making::place;
use crate::http::infer::readings::Readings;
use crate::http::rim::Applied;
use crate::http::sse::{self, Mark};
use crate::routing::DecisionRecord;

/// Readings, one after the other.
#[derive(Debug)]
pub(super) struct Answering {
    caller: Caller,
    readings: Readings,
    mark: Mark,
    ready: VecDeque<Event>,
    // What answered the reading before, so that a change is told.
    decided: Option<Decided>,
    answered: usize,
    anomalies: usize,
    failed: usize,
    last: Box<RawValue>,
    is_told: bool,
    _place: OwnedSemaphorePermit,
}

/// What answers and why: as much of an answer of `/predict`.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Decided {
    task: String,
    #[serde(rename(deserialize = "model_used"))]
    model: String,
    model_version: u32,
    tier: Option<String>,
    fallback: bool,
    decision: DecisionRecord,
}

impl Decided {
    fn is_by_the_same(&self, other: &Self) -> bool {
        (&self.task, &self.model, self.model_version) == (&other.task, &other.model, other.model_version)
    }
}

/// One reading's step.
#[derive(Debug, Serialize)]
struct Answered<'a> {
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Problem<'a>>,
}

/// The end of several readings.
#[derive(Debug, Serialize)]
struct Summary<'a> {
    request_id: &'a str,
    total_samples: usize,
    succeeded: usize,
    failed: usize,
    anomalies_detected: usize,
    latency_ms: f64,
}

impl Answering {
    /// A single reading is answered before the stream begins: what is wrong with it has its own status.
    pub(super) async fn begin(readings: Readings, mark: Mark, caller: Caller) -> Result<(Self, Applied), ApiError> {
        let place = place(&caller.app)?;
        let accepted = Accepted {
            request_id: &caller.request_id,
            seed: None,
            readings: Some(readings.count()),
            resumed_after: mark.done(),
        };
        let ready = VecDeque::from([sse::first_event("accepted", mark.id(), &sse::json(&accepted))]);
        let mut flow = Self {
            caller,
            readings,
            mark,
            ready,
            decided: None,
            answered: 0,
            anomalies: 0,
            failed: 0,
            last: Box::default(),
            is_told: false,
            _place: place,
        };
        let mut applied = Applied::default();
        if !flow.readings.is_batch() {
            let is_seen = flow.mark.done() > 0;
            let response = flow.readings.answer(&flow.caller, 0, None).await?;
            applied = response.extensions().get::<Applied>().cloned().unwrap_or_default();
            flow.take(0, body_of(response).await?, is_seen)?;
        }
        Ok((flow, applied))
    }

    /// Notes an answer and lines up its events; what the caller has seen is only noted.
    fn take(&mut self, index: usize, answer: Box<RawValue>, is_seen: bool) -> Result<(), ApiError> {
        let decided: Decided = serde_json::from_str(answer.get()).map_err(|error| internal(&error))?;
        if !self.decided.as_ref().is_some_and(|before| before.is_by_the_same(&decided)) {
            self.ready.push_back(sse::event("decision", self.mark.id(), &sse::json(&decided)));
        }
        self.decided = Some(decided);
        self.answered += 1;
        self.anomalies += usize::from(is_anomaly(&answer));
        if !is_seen {
            self.mark.passed();
            let step = Answered { index, answer: Some(&answer), error: None };
            self.ready.push_back(sse::event("step", self.mark.id(), &sse::json(&step)));
        }
        self.last = answer;
        Ok(())
    }

    /// The next reading of several; a bad one is an error at its index, never the loss of the others.
    async fn step(&mut self) {
        let index = self.mark.done();
        let left = self.caller.app.config.http.stream_timeout.saturating_sub(self.caller.started.elapsed());
        let one = async {
            let response = self.readings.answer(&self.caller, index, None).await?;
            self.count_decision(&response);
            body_of(response).await
        };
        let Ok(answer) = tokio::time::timeout(left, one).await else { return self.run_out_of_time() };
        if let Err(error) = answer.and_then(|answer| self.take(index, answer, false)) {
            self.failed += 1;
            self.caller.app.metrics.error(error.code.http_status(), error.code.name());
            self.mark.passed();
            let problem = Problem::new(error.code, &error.detail, PATH, &error.faults, &self.caller.request_id);
            let problem = problem.with_retry_after_ms(error.retry_after_ms);
            let step = sse::json(&Answered { index, answer: None, error: Some(problem) });
            self.ready.push_back(sse::event("step", self.mark.id(), &step));
        }
    }

    /// The rim counts the decision of an answer that is one response.
    fn count_decision(&self, response: &Response) {
        let applied = response.extensions().get::<Applied>();
        if let Some((task, decision)) = applied.and_then(|applied| Some((&applied.task, applied.decision.as_ref()?))) {
            self.caller.app.metrics.decision(task, decision.chosen(), &decision.reason, decision.by == "edge");
        }
    }

    fn run_out_of_time(&mut self) {
        self.is_told = true;
        let detail = "the stream took as long as it may (STREAM_TIMEOUT_MS); send it again with Last-Event-ID for \
                      the rest";
        let error = ApiError::new(ErrorCode::DeadlineExceeded, detail);
        log(&self.caller.app, &error);
        let problem = Problem::new(error.code, &error.detail, PATH, &[], &self.caller.request_id);
        self.ready.push_back(sse::event("error", self.mark.id(), &problem.to_json()));
    }

    fn result(&self) -> String {
        if !self.readings.is_batch() {
            return self.last.get().to_owned();
        }
        sse::json(&Summary {
            request_id: &self.caller.request_id,
            total_samples: self.readings.count(),
            succeeded: self.answered,
            failed: self.failed,
            anomalies_detected: self.anomalies,
            latency_ms: crate::clock::millis(self.caller.started.elapsed()),
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
                self.ready.push_back(sse::event("result", self.mark.last_id(), &self.result()));
            }
        }
        self.ready.pop_front()
    }
}

/// An answer of `/predict` as JSON; it is in memory already.
async fn body_of(response: Response) -> Result<Box<RawValue>, ApiError> {
    let bytes = to_bytes(response.into_body(), usize::MAX).await.map_err(|error| internal(&error))?;
    serde_json::from_slice(&bytes).map_err(|error| internal(&error))
}

fn is_anomaly(answer: &RawValue) -> bool {
    #[derive(Deserialize)]
    struct Judged {
        is_anomaly: bool,
    }
    serde_json::from_str::<Judged>(answer.get()).is_ok_and(|judged| judged.is_anomaly)
}

fn internal(cause: &dyn std::fmt::Display) -> ApiError {
    ApiError::caused(ErrorCode::Internal, "the log has the cause under this request id", cause)
}
