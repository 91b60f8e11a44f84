//! Reads server-sent events, one by one, as a strict client would.

use reqwest::{Client, Response};
use serde_json::Value;

use super::readings::header;

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) data: Value,
    pub(crate) retry: Option<String>,
}

/// An open stream, read event by event.
#[derive(Debug)]
pub(crate) struct Events {
    response: Response,
    unread: String,
}

impl Events {
    pub(crate) async fn open(url: &str, body: &Value, last_id: Option<&str>) -> Self {
        Self::of(send(url, body, last_id).await).await
    }

    /// The events of a job, after the one that was seen last.
    pub(crate) async fn watch(url: &str, last_id: Option<&str>) -> Self {
        Self::of(look(url, last_id).await).await
    }

    async fn of(response: Response) -> Self {
        let status = response.status();
        if status != 200 {
            panic!("{status}: {}", response.text().await.unwrap());
        }
        assert_eq!(header(&response, "content-type").as_deref(), Some("text/event-stream"));
        assert_eq!(header(&response, "cache-control").as_deref(), Some("no-store, no-transform"));
        assert_eq!(header(&response, "x-accel-buffering").as_deref(), Some("no"));
        Self { response, unread: String::new() }
    }

    pub(crate) async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((frame, rest)) = self.unread.split_once("\n\n") {
                let event = event(frame);
                self.unread = rest.to_owned();
                match event {
                    Some(event) => return Some(event),
                    None => continue,
                }
            }
            match self.response.chunk().await.unwrap() {
                Some(chunk) => self.unread.push_str(std::str::from_utf8(&chunk).unwrap()),
                None => {
                    assert_eq!(self.unread, "", "the stream ended within an event");
                    return None;
                }
            }
        }
    }

    pub(crate) async fn all(mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }
}

/// One frame; none for a comment.
fn event(frame: &str) -> Option<Event> {
    let field = |name: &str| frame.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let data = serde_json::from_str(field("data")?).unwrap_or_else(|_| panic!("not JSON: {frame}"));
    let text = |name| field(name).unwrap_or_else(|| panic!("no {name}: {frame}")).to_owned();
    Some(Event { name: text("event"), id: text("id"), data, retry: field("retry").map(str::to_owned) })
}

/// Asks for a stream, with the id of the last event that was seen.
pub(crate) async fn look(url: &str, last_id: Option<&str>) -> Response {
    let request = Client::new().get(url);
    match last_id {
        Some(id) => request.header("last-event-id", id).send().await.unwrap(),
        None => request.send().await.unwrap(),
    }
}

/// Sends a body, with the id of the last event that was seen.
pub(crate) async fn send(url: &str, body: &Value, last_id: Option<&str>) -> Response {
    let request = Client::new().post(url).json(body);
    match last_id {
        Some(id) => request.header("last-event-id", id).send().await.unwrap(),
        None => request.send().await.unwrap(),
    }
}
