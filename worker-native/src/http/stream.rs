//! `POST /v1/infer/stream`: the same as `/v1/infer`, told event by event as it comes.
//!
//! A stream makes its next step when it is asked for the next event, and it is asked when the
//! connection can take one: a slow reader slows the work, and a reader that leaves ends it. What
//! goes wrong before the first event is an ordinary problem document with its status; afterwards it
//! is an `error` event, since the status is out.

mod answering;

use std::collections::VecDeque;
use std::time::Instant;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::Event;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use shared::problem::ErrorCode;

use super::body;
use super::error::ApiError;
use super::infer::making::Making;
use super::infer::{Caller, Plan, plan};
use super::rim::{Applied, RequestId};
use super::sse::{self, Mark, Place};
use crate::app::App;
use answering::Answering;

/// The path, for the problem documents inside a stream.
const PATH: &str = "/v1/infer/stream";

pub(super) async fn stream(
    State(app): State<App>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let caller = Caller { app, request_id, headers, started: Instant::now() };
    let bytes = body::read(&caller.app.config.http, &caller.headers, body).await?;
    let place = last_place(&caller.headers)?;
    if place.is_some_and(|place| place.done.is_none()) {
        // Nothing is left to send; 204 is what ends the attempts to connect again (WHATWG HTML §9.2.3).
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    match plan(&caller, &bytes, place.map(|place| place.seed))? {
        Plan::Making(mut making) => {
            making.ready().await?;
            let mut mark = Mark::new(&bytes, making.file(), making.seed().unwrap_or(0));
            if let Some(place) = &place {
                catch_up(&mut making, &mut mark, place).await?;
            }
            let applied = making.applied();
            Ok(respond(MakingFlow::begin(making, mark, &caller), applied))
        }
        Plan::Readings(readings) => {
            let mut mark = Mark::new(&bytes, "", 0);
            if let Some(place) = &place {
                // What was answered is not answered again; only that it is the same request can be checked.
                let done = place.done.filter(|done| mark.is_of(place) && *done <= readings.count());
                (0..done.ok_or_else(strange)?).for_each(|_| mark.passed());
            }
            let (flow, applied) = Answering::begin(readings, mark, caller).await?;
            Ok(respond(flow, applied))
        }
    }
}

/// Where the caller was cut off.
fn last_place(headers: &HeaderMap) -> Result<Option<Place>, ApiError> {
    let Some(id) = headers.get(shared::headers::LAST_EVENT_ID).filter(|id| !id.is_empty()) else { return Ok(None) };
    id.to_str().ok().and_then(Place::parse).map(Some).ok_or_else(strange)
}

fn strange() -> ApiError {
    let detail = "Last-Event-ID is not of a stream that this body gives now: send the body of that stream byte for \
                  byte, or no Last-Event-ID to begin anew (a newer model file gives another text)";
    ApiError::new(ErrorCode::InvalidReading, detail)
}

/// Makes again what the caller has, and checks that it is the same.
async fn catch_up(making: &mut Making, mark: &mut Mark, place: &Place) -> Result<(), ApiError> {
    while place.done.is_some_and(|done| mark.done() < done) {
        if making.is_over() {
            return Err(strange());
        }
        mark.took(&sse::json(&making.step().await?));
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

/// The first event.
#[derive(Debug, Serialize)]
struct Accepted<'a> {
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    readings: Option<usize>,
    /// Steps that the caller has from before.
    resumed_after: usize,
}

/// What gives one event after the other.
trait Flow: Send + 'static {
    /// The next event, made now.
    fn next(&mut self) -> impl Future<Output = Option<Event>> + Send;
}

/// A text or a series, step by step.
#[derive(Debug)]
struct MakingFlow {
    app: App,
    making: Box<Making>,
    mark: Mark,
    ready: VecDeque<Event>,
    is_told: bool,
}

impl MakingFlow {
    fn begin(making: Box<Making>, mark: Mark, caller: &Caller) -> Self {
        let accepted = Accepted {
            request_id: &caller.request_id,
            seed: making.seed(),
            readings: None,
            resumed_after: mark.done(),
        };
        let ready = VecDeque::from([
            sse::first_event("accepted", mark.id(), &sse::json(&accepted)),
            sse::event("decision", mark.id(), &sse::json(&making.decided())),
        ]);
        Self { app: caller.app.clone(), making, mark, ready, is_told: false }
    }
}

impl Flow for MakingFlow {
    async fn next(&mut self) -> Option<Event> {
        if let Some(event) = self.ready.pop_front() {
            return Some(event);
        }
        if self.is_told {
            return None;
        }
        if self.making.is_over() {
            self.is_told = true;
            return Some(sse::event("result", self.mark.last_id(), &sse::json(&self.making.answer())));
        }
        match self.making.step().await {
            Ok(step) => {
                let data = sse::json(&step);
                self.mark.took(&data);
                Some(sse::event("step", self.mark.id(), &data))
            }
            Err(error) => {
                self.is_told = true;
                log(&self.app, &error);
                // The id of the last step: who connects again with it goes on from there.
                Some(sse::event("error", self.mark.id(), &sse::json(&self.making.broken(&error, PATH))))
            }
        }
    }
}

/// The rim has seen a good status only: an error inside a stream would be in no log and in no count.
fn log(app: &App, error: &ApiError) {
    app.metrics.error(error.code.http_status(), error.code.name());
    let (code, detail, cause) = (error.code.name(), error.detail.as_str(), error.cause.as_deref());
    tracing::warn!(code, detail, cause, "a stream broke off");
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::StreamExt;

    use super::*;

    /// Goes on for ever; counts the events it was asked for, and says when it is gone.
    struct Endless {
        made: Arc<AtomicUsize>,
        _alive: Arc<()>,
    }

    impl Flow for Endless {
        async fn next(&mut self) -> Option<Event> {
            let made = self.made.fetch_add(1, Ordering::Relaxed);
            Some(Event::default().data(made.to_string()))
        }
    }

    #[tokio::test]
    async fn an_event_is_made_when_it_is_asked_for_and_none_after_the_reader_has_left() {
        let (made, alive) = (Arc::new(AtomicUsize::new(0)), Arc::new(()));
        let response = respond(Endless { made: Arc::clone(&made), _alive: Arc::clone(&alive) }, Applied::default());
        let mut frames = response.into_body().into_data_stream();
        assert_eq!(made.load(Ordering::Relaxed), 0);
        for asked in 1..=3 {
            frames.next().await.unwrap().unwrap();
            assert_eq!(made.load(Ordering::Relaxed), asked);
        }
        drop(frames);
        assert_eq!((made.load(Ordering::Relaxed), Arc::strong_count(&alive)), (3, 1), "gone with its reader");
    }
}
