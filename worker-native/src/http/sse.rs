//! Server-sent events: the frames, the headers, and the ids by which a stream goes on.
//!
//! Nothing is kept here between two connections. An id says how many steps the caller has, from
//! which seed, and a digest over the request and those steps: whoever sends the same body again
//! with `Last-Event-ID` gets the rest, made anew, or is told that it would not be the same.

use std::convert::Infallible;
use std::time::Duration;

use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, HeaderName};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt};
use serde::Serialize;
use sha2::{Digest, Sha256};

/// A comment is sent after so long without an event, so that nobody on the way takes the connection for dead.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// What a caller should wait before it connects again.
const RETRY: Duration = Duration::from_secs(3);

/// The answer that sends events as they come; it is asked for the next one only when the connection can take it.
pub(super) fn respond(events: impl Stream<Item = Event> + Send + 'static) -> Response {
    respond_with(events, HEARTBEAT)
}

fn respond_with(events: impl Stream<Item = Event> + Send + 'static, heartbeat: Duration) -> Response {
    let heartbeat = KeepAlive::new().interval(heartbeat).text("hb");
    let mut response = Sse::new(events.map(Ok::<_, Infallible>)).keep_alive(heartbeat).into_response();
    let headers = response.headers_mut();
    // no-transform: a compressing proxy would hold events back until its block is full.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

/// An event whose data is already JSON.
pub(super) fn event(name: &'static str, id: String, data: &str) -> Event {
    Event::default().event(name).id(id).data(data)
}

/// The first event of a stream, which also says when to connect again.
pub(super) fn first_event(name: &'static str, id: String, data: &str) -> Event {
    event(name, id, data).retry(RETRY)
}

/// One line of JSON.
pub(super) fn json(value: &impl Serialize) -> String {
    // Strings and finite numbers into memory: writing them cannot fail.
    serde_json::to_string(value).unwrap_or_else(|_| "{}".to_owned())
}

/// How far a stream is, and what its ids are made of.
#[derive(Debug)]
pub(super) struct Mark {
    seed: u64,
    done: usize,
    digest: Sha256,
}

impl Mark {
    /// Before the first step of a request.
    pub(super) fn new(body: &[u8], file: &str, seed: u64) -> Self {
        let mut digest = Sha256::new();
        for part in [body, file.as_bytes(), &seed.to_le_bytes()] {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        Self { seed, done: 0, digest }
    }

    /// A step that comes out the same when it is made again.
    pub(super) fn took(&mut self, data: &str) {
        self.digest.update(data);
        self.passed();
    }

    /// A step that may come out otherwise: only its number counts.
    pub(super) const fn passed(&mut self) {
        self.done += 1;
    }

    /// Steps so far.
    pub(super) const fn done(&self) -> usize {
        self.done
    }

    fn check(&self) -> u64 {
        let digest = self.digest.clone().finalize();
        digest.iter().take(8).fold(0, |check, byte| check << 8 | u64::from(*byte))
    }

    /// The id of an event after which the next step is due.
    pub(super) fn id(&self) -> String {
        format!("{:x}.{}.{:016x}", self.seed, self.done, self.check())
    }

    /// The id of the last event.
    pub(super) fn last_id(&self) -> String {
        format!("{:x}.end.{:016x}", self.seed, self.check())
    }

    /// Is the id of the same request and steps, however many it counts?
    pub(super) fn is_of(&self, place: &Place) -> bool {
        (self.seed, self.check()) == (place.seed, place.check)
    }

    /// Is this the place of that id?
    pub(super) fn is_at(&self, place: &Place) -> bool {
        self.is_of(place) && Some(self.done) == place.done
    }
}

/// What an id says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Where the random numbers begin.
    pub(super) seed: u64,
    /// Steps that the caller has; none after the last event.
    pub(super) done: Option<usize>,
    check: u64,
}

impl Place {
    /// Reads an id; none where it is not one of ours.
    pub(super) fn parse(id: &str) -> Option<Self> {
        let mut parts = id.split('.');
        let seed = u64::from_str_radix(parts.next()?, 16).ok()?;
        let done = match parts.next()? {
            "end" => None,
            done => Some(done.parse().ok()?),
        };
        let check = u64::from_str_radix(parts.next()?, 16).ok()?;
        parts.next().is_none().then_some(Self { seed, done, check })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_leads_back_to_its_place_and_to_no_other() {
        let mut mark = Mark::new(b"{}", "file", 77);
        let begin = Place::parse(&mark.id()).unwrap();
        assert_eq!((begin.seed, begin.done), (77, Some(0)));
        mark.took("step one");
        let place = Place::parse(&mark.id()).unwrap();
        assert!(mark.is_at(&place) && !mark.is_at(&begin) && mark.done() == 1);
        assert_eq!(Place::parse(&mark.last_id()).unwrap().done, None);
        let mut same = Mark::new(b"{}", "file", 77);
        same.took("step one");
        assert!(same.is_at(&place));
        let others =
            [(&b"{ }"[..], "file", 77, "step one"), (b"{}", "elif", 77, "step one"), (b"{}", "file", 78, "step one")];
        for (body, file, seed, step) in others.into_iter().chain([(&b"{}"[..], "file", 77, "step two")]) {
            let mut other = Mark::new(body, file, seed);
            other.took(step);
            assert!(!other.is_at(&place), "{file} {seed} {step}");
        }
    }

    #[test]
    fn what_is_no_id_of_ours_is_told_apart() {
        for id in ["", "1", "1.2", "1.2.3.4", "x.2.3", "1.-2.3", "1.2.x", "1.99999999999999999999999.3", "☃.1.2"] {
            assert_eq!(Place::parse(id), None, "{id}");
        }
        assert!(Place::parse("1f.0.00ff").is_some());
    }

    #[tokio::test]
    async fn a_stream_says_how_it_wants_to_be_treated_and_is_kept_alive() {
        let (go, wait) = tokio::sync::oneshot::channel::<()>();
        let slow = futures_util::stream::once(async {
            wait.await.unwrap();
            first_event("accepted", "1.0.2".to_owned(), "{}")
        });
        let response = respond_with(slow, Duration::from_millis(1));
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header("content-type"), "text/event-stream");
        assert_eq!(header("cache-control"), "no-store, no-transform");
        assert_eq!(header("x-accel-buffering"), "no");
        let mut frames = response.into_body().into_data_stream();
        assert_eq!(frames.next().await.unwrap().unwrap(), ": hb\n\n");
        go.send(()).unwrap();
        let rest: Vec<_> = frames.map(Result::unwrap).collect().await;
        let event = rest.into_iter().find(|frame| *frame != ": hb\n\n").unwrap();
        assert_eq!(event, "event: accepted\nid: 1.0.2\ndata: {}\nretry: 3000\n\n");
    }
}
