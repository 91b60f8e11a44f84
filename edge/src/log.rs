//! One JSON line a request, on the console: workerd's stdout, Cloudflare's Workers Logs.

use serde::Serialize;
use worker::{Request, console_error, console_log};

use crate::error::Failure;
use crate::{clock, request_id};

/// What is known of a request, filled in while it is handled.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Line {
    /// Unix milliseconds at arrival.
    ts: u64,
    level: &'static str,
    /// The request's id.
    pub(crate) request_id: String,
    method: String,
    /// The path, without the query.
    pub(crate) path: String,
    status: u16,
    /// The task a reading was given to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) task: Option<String>,
    /// The tier the edge advised, or `auto`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tier: Option<String>,
    /// The tier that was taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tier_applied: Option<String>,
    /// Why the edge advised it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<&'static str>,
    /// How old the snapshot was that the advice is based on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) snapshot_age_ms: Option<u64>,
    /// How much was known when it was advised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mode: Option<&'static str>,
    /// How long the native service took to its first byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) origin_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Line {
    /// A line for a request that just arrived.
    pub(crate) fn of(request: &Request) -> Self {
        Self {
            ts: clock::now_ms(),
            request_id: request_id::of(request.headers()),
            method: request.method().to_string(),
            path: request.path(),
            ..Self::default()
        }
    }

    /// Notes why the request failed.
    pub(crate) fn failed(&mut self, failure: &Failure) {
        self.error = Some(failure.log_text());
    }

    /// Writes the line.
    pub(crate) fn write(mut self, status: u16) {
        self.status = status;
        // A caller's mistake is nobody's alarm here.
        self.level = if status >= 500 { "error" } else { "info" };
        if self.level == "error" {
            console_error!("{}", self.text());
        } else {
            console_log!("{}", self.text());
        }
    }

    fn text(&self) -> String {
        // Strings and numbers always serialise.
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[derive(Serialize)]
struct Fault<'a> {
    ts: u64,
    level: &'static str,
    error: &'a str,
}

/// Writes a line that belongs to no single request.
pub(crate) fn fault(message: &str) {
    let line = Fault { ts: clock::now_ms(), level: "error", error: message };
    console_error!("{}", serde_json::to_string(&line).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::Line;

    #[test]
    fn a_line_is_one_json_object_without_what_is_unknown() {
        let line = Line { ts: 1, path: "/a\nb".to_owned(), origin_ms: Some(3), ..Line::default() };
        let text = line.text();
        assert!(!text.contains('\n') && !text.contains("snapshot_age_ms"), "{text}");
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            value,
            serde_json::json!({
                "ts": 1, "level": "", "request_id": "", "method": "", "path": "/a\nb", "status": 0, "origin_ms": 3,
            })
        );
    }
}
