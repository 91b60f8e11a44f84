//! One try of a callback: one POST, and what its answer means.
//!
//! Owns the client (no redirect, no proxy, no connection kept) and the reading of status and `Retry-After`. When a try
//! follows another is `deliver`'s.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};

use super::guard::Guard;
use super::resolve::{CallableOnly, Lookup};
use super::sign::{SIGNATURE_HEADERS, Secrets};
use super::{WebhookConfig, event};
use crate::clock::now_ms;
use crate::queue::Callback;

/// A longer `Retry-After` counts as this.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(24 * 3600);
/// Longest reason that is kept, in characters.
const LONGEST_REASON: usize = 200;

/// What came of one try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The receiver has it; its status.
    Delivered(u16),
    /// It may go better later.
    Later {
        /// Why it did not go now.
        why: String,
        /// What the receiver asked for; zero where it asked for nothing.
        not_before: Duration,
    },
    /// It will not go, ever.
    Never(String),
}

/// What sends.
#[derive(Debug)]
pub(super) struct Sender {
    client: Client,
    guard: Guard,
    secrets: Secrets,
    timeout: Duration,
}

impl Sender {
    pub(super) fn new(config: &WebhookConfig, guard: Guard, lookup: Arc<dyn Lookup>) -> Result<Self, String> {
        let resolver = CallableOnly { lookup, allow_private: config.allow_private };
        let client = Client::builder()
            .dns_resolver(Arc::new(resolver))
            .redirect(Policy::none())
            // A proxy would look the host up itself, and call what it finds.
            .no_proxy()
            .https_only(!config.allow_http)
            .referer(false)
            // Each try is a connection of its own, so that each has its addresses judged; and receivers are many.
            .pool_max_idle_per_host(0)
            .timeout(config.timeout)
            .user_agent(concat!("infer-router/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| format!("the client for callbacks cannot be made: {error}"))?;
        Ok(Self { client, guard, secrets: config.secrets.clone(), timeout: config.timeout })
    }

    pub(super) const fn guard(&self) -> &Guard {
        &self.guard
    }

    pub(super) async fn send(&self, callback: &Callback) -> Verdict {
        // The rules may have changed since it was handed in.
        let url = match self.guard.check_url(&callback.url) {
            Ok(url) => url,
            Err(fault) => return Verdict::Never(fault),
        };
        let now = now_ms();
        let body = match event::body(callback, now) {
            Ok(body) => body,
            Err(error) => return Verdict::Never(error.to_string()),
        };
        let [id, timestamp, signature] = SIGNATURE_HEADERS;
        let seconds = now / 1000;
        // A job that is handed in again ends again, and its receiver must not take that for a repetition.
        let message = format!("{}.{}", callback.job_id, callback.ended_at);
        let request = self
            .client
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header(id, &message)
            .header(timestamp, seconds)
            .header(signature, self.secrets.sign(&message, seconds, &body))
            .body(body);
        match request.send().await {
            // The answer's body is dropped unread, and its connection with it.
            Ok(response) => read_answer(response.status(), response.headers(), now),
            Err(error) if error.is_builder() => Verdict::Never(reason(&error)),
            Err(error) => {
                let timed_out = format!("no answer within {} ms", self.timeout.as_millis());
                let why = if error.is_timeout() { timed_out } else { reason(&error) };
                Verdict::Later { why, not_before: Duration::ZERO }
            }
        }
    }
}

fn read_answer(status: StatusCode, headers: &HeaderMap, now: u64) -> Verdict {
    let later = |not_before| Verdict::Later { why: format!("status {}", status.as_u16()), not_before };
    match status.as_u16() {
        code @ 200..=299 => Verdict::Delivered(code),
        410 => Verdict::Never("status 410: the receiver wants no more".to_owned()),
        code @ 300..=399 => {
            Verdict::Later { why: format!("status {code}: redirects are not followed"), not_before: Duration::ZERO }
        }
        429 | 502 | 503 | 504 => later(retry_after(headers, now)),
        _ => later(Duration::ZERO),
    }
}

/// What `Retry-After` asks for: seconds, or a date.
fn retry_after(headers: &HeaderMap, now: u64) -> Duration {
    let Some(text) = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()) else {
        return Duration::ZERO;
    };
    let asked = if text.bytes().all(|byte| byte.is_ascii_digit()) {
        // So many digits that it does not fit is long, not unreadable; nothing at all is nothing.
        if text.is_empty() { 0 } else { text.parse().unwrap_or(u64::MAX) }
    } else {
        let date = DateTime::parse_from_rfc2822(text).ok();
        let seconds = date.and_then(|date| u64::try_from(date.timestamp()).ok()).unwrap_or_default();
        seconds.saturating_sub(now / 1000)
    };
    Duration::from_secs(asked).min(LONGEST_RETRY_AFTER)
}

/// The cause of a failure, without the URL: that may hold a secret.
fn reason(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    let has_no_cause = std::ptr::addr_eq(cause, error);
    let text = if has_no_cause { "the request could not be sent".to_owned() } else { cause.to_string() };
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_REASON).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str) -> Duration {
        // Sun, 06 Nov 1994 08:49:37 GMT.
        let now = 784_111_777_000;
        let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
        match read_answer(StatusCode::SERVICE_UNAVAILABLE, &headers, now) {
            Verdict::Later { why, not_before } if why == "status 503" => not_before,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_bounded() {
        assert_eq!(asked("120"), Duration::from_secs(120));
        assert_eq!(asked("Sun, 06 Nov 1994 08:50:37 GMT"), Duration::from_secs(60));
        assert_eq!(asked("Sun, 06 Nov 1994 08:48:37 GMT"), Duration::ZERO);
        for nothing in ["", "soon", "-5", "1.5", "Sun, 99 Nov"] {
            assert_eq!(asked(nothing), Duration::ZERO, "{nothing}");
        }
        for long in ["999999", "99999999999999999999999", "Sat, 06 Nov 2094 08:50:37 GMT"] {
            assert_eq!(asked(long), LONGEST_RETRY_AFTER, "{long}");
        }
    }

    #[test]
    fn only_some_statuses_may_ask_for_a_pause() {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, "7".parse().unwrap())]);
        let asks = |code: u16| match read_answer(StatusCode::from_u16(code).unwrap(), &headers, 0) {
            Verdict::Later { not_before, .. } => Some(not_before.as_secs()),
            Verdict::Delivered(_) | Verdict::Never(_) => None,
        };
        for code in [429, 502, 503, 504] {
            assert_eq!(asks(code), Some(7), "{code}");
        }
        for code in [301, 302, 307, 308, 304, 400, 401, 404, 500, 501, 505, 599] {
            assert_eq!(asks(code), Some(0), "{code}");
        }
        for code in [200, 201, 202, 204, 299, 410] {
            assert_eq!(asks(code), None, "{code}");
        }
    }
}
