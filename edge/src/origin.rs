//! Calls to the native service: by a binding or by URL, always with a time limit, never following a redirect.
//!
//! Every answer, errors included, brings the newest snapshot and the catalog's entity tag in
//! headers; both are taken in here, so that no caller can forget to.

use shared::headers;
use shared::snapshot::Snapshot;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{AbortSignal, RequestInit, RequestRedirect};
use worker::js_sys::{Function, Promise, Reflect, global};
use worker::wasm_bindgen_futures::JsFuture;
use worker::{Env, Headers, Method, Response};

use crate::config::{EdgeConfig, ORIGIN_BINDING, OriginAt};
use crate::{answer, clock, state};

/// What of a caller's headers goes on to the native service. A list of what may pass, so that nobody can send the
/// headers that only the edge may set ([`headers::EDGE_ONLY`]).
const PASSED_ON: [&str; 11] = [
    "content-type",
    "accept",
    "traceparent",
    headers::IDEMPOTENCY_KEY,
    headers::TENANT,
    "if-none-match",
    "user-agent",
    // Where binary tensors begin, how the body is packed, and how the answer may be: the Open Inference Protocol's.
    "inference-header-content-length",
    "content-encoding",
    "accept-encoding",
    // Where a stream of events goes on.
    headers::LAST_EVENT_ID,
];

/// The way to the native service, made for one request.
#[derive(Debug, Clone)]
pub(crate) enum Origin {
    /// By the binding, an object with `fetch`.
    Binding(JsValue),
    /// By its URL.
    Url(String),
}

/// One request to the native service.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    /// The method.
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) target: &'a str,
    /// All headers.
    pub(crate) headers: Headers,
    /// The body, as it came in: bytes or a stream.
    pub(crate) body: Option<JsValue>,
    /// How long it may take.
    pub(crate) limit: Limit,
}

/// How long a call may take, and who says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    /// A setting of the edge, in milliseconds.
    Timeout(u32),
    /// The caller's deadline, in milliseconds.
    Deadline(u32),
}

impl Limit {
    /// The shorter of the two.
    pub(crate) fn shorter(timeout_ms: u32, deadline_ms: Option<u64>) -> Self {
        let deadline = deadline_ms.and_then(|deadline| u32::try_from(deadline).ok());
        deadline.filter(|deadline| *deadline < timeout_ms).map_or(Self::Timeout(timeout_ms), Self::Deadline)
    }

    const fn ms(self) -> u32 {
        match self {
            Self::Timeout(ms) | Self::Deadline(ms) => ms,
        }
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OriginError {
    /// Not within the edge's time limit.
    TimedOut { after_ms: u32 },
    /// Not within the caller's deadline.
    DeadlinePassed { deadline_ms: u32 },
    /// No connection, or it broke.
    Unreachable(String),
    /// It points elsewhere: followed, a request could be led to where it must not go.
    Redirected(u16),
}

impl std::fmt::Display for OriginError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TimedOut { after_ms } => write!(f, "no answer within {after_ms} ms"),
            Self::DeadlinePassed { deadline_ms } => write!(f, "no answer within the caller's {deadline_ms} ms"),
            Self::Unreachable(cause) => f.write_str(cause),
            Self::Redirected(status) => write!(f, "redirect {status}"),
        }
    }
}

/// The native service's answer, its body not yet read.
#[derive(Debug)]
pub(crate) struct Answer {
    response: Response,
    /// Milliseconds until the headers were here.
    pub(crate) took_ms: u64,
    /// It names a catalog that is not the kept one, and it is this request's turn to fetch it.
    pub(crate) catalog_wanted: bool,
}

impl Origin {
    /// The way the settings say.
    pub(crate) fn of(config: &EdgeConfig, env: &Env) -> Self {
        match &config.origin {
            OriginAt::Url(url) => Self::Url(url.clone()),
            // The settings say that it is there; a call would fail where it is not.
            OriginAt::Binding => Self::Binding(Reflect::get(env, &ORIGIN_BINDING.into()).unwrap_or_default()),
        }
    }

    /// Sends a request and waits for the answer's headers.
    pub(crate) async fn send(&self, call: Call<'_>) -> Result<Answer, OriginError> {
        let sent_ms = clock::now_ms();
        let response = self.fetch(&call).await.map_err(|error| failed(&error.into(), call.limit))?;
        let now_ms = clock::now_ms();
        let catalog_wanted = take_in(response.headers(), now_ms);
        let status = response.status_code();
        if (300..400).contains(&status) && status != 304 {
            return Err(OriginError::Redirected(status));
        }
        Ok(Answer { response, took_ms: now_ms.saturating_sub(sent_ms), catalog_wanted })
    }

    /// By reflection for both ways: the `worker` crate has one kind of call for each, which would both be in the wasm.
    async fn fetch(&self, call: &Call<'_>) -> Result<Response, JsValue> {
        let signal = AbortSignal::timeout_with_u32(call.limit.ms());
        let init = RequestInit::new();
        init.set_method(call.method.as_ref());
        init.set_headers(call.headers.0.as_ref());
        init.set_redirect(RequestRedirect::Manual);
        init.set_signal(Some(&signal));
        if let Some(body) = &call.body {
            init.set_body(body);
        }
        let (fetcher, base) = match self {
            // The binding says where it goes; the host is only what the `host` header will hold.
            Self::Binding(binding) => (binding.clone(), "http://origin"),
            Self::Url(url) => (global().into(), url.as_str()),
        };
        let request = web_sys::Request::new_with_str_and_init(&format!("{base}{}", call.target), &init)?;
        let fetch: Function = Reflect::get(&fetcher, &"fetch".into())?.dyn_into()?;
        let promise = Promise::resolve(&fetch.call1(&fetcher, &request)?);
        let response: web_sys::Response = JsFuture::from(promise).await?.dyn_into()?;
        Ok(response.into())
    }
}

/// The runtime tells failures apart by name only; its messages are for people and change.
fn failed(error: &worker::Error, limit: Limit) -> OriginError {
    match (error, limit) {
        (worker::Error::UnknownJsError { name: Some(name), .. }, limit) if name == "TimeoutError" => match limit {
            Limit::Timeout(after_ms) => OriginError::TimedOut { after_ms },
            Limit::Deadline(deadline_ms) => OriginError::DeadlinePassed { deadline_ms },
        },
        (other, _) => OriginError::Unreachable(other.to_string()),
    }
}

/// Keeps the snapshot; says whether the catalog should be fetched.
fn take_in(map: &Headers, now_ms: u64) -> bool {
    if let Some(Ok(snapshot)) = answer::get(map, headers::SNAPSHOT).map(|text| Snapshot::from_text(&text)) {
        state::snapshots(|cache| cache.merge(&snapshot, now_ms));
    }
    answer::get(map, headers::CATALOG).is_some_and(|etag| state::catalog(|keeper| keeper.heard(&etag, now_ms)))
}

/// The headers for a call on behalf of a caller.
pub(crate) fn passed_on(from: &Headers, request_id: &str) -> Headers {
    let map = Headers::new();
    for name in PASSED_ON {
        if let Some(value) = answer::get(from, name) {
            answer::set(&map, name, &value);
        }
    }
    answer::set(&map, headers::REQUEST_ID, request_id);
    map
}

impl Answer {
    /// The status.
    pub(crate) fn status(&self) -> u16 {
        self.response.status_code()
    }

    /// A header.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        answer::get(self.response.headers(), name)
    }

    /// The body, whole. Not by [`Response::text`], which pulls each chunk of the stream through the wasm.
    pub(crate) async fn text(self) -> worker::Result<String> {
        let text = JsFuture::from(web_sys::Response::from(self.response).text()?).await?;
        Ok(text.as_string().unwrap_or_default())
    }

    /// The answer as the caller gets it: the body untouched, internal headers gone.
    pub(crate) fn into_response(self, request_id: &str) -> Response {
        // Headers of a fetched response cannot be changed; a copy can.
        let map = self.response.headers().clone();
        answer::remove(&map, headers::SNAPSHOT);
        answer::remove(&map, headers::CATALOG);
        answer::set(&map, headers::REQUEST_ID, request_id);
        let timing = format!("origin;dur={}", self.took_ms);
        let timing = answer::get(&map, "server-timing").map_or(timing.clone(), |theirs| format!("{theirs}, {timing}"));
        answer::set(&map, "server-timing", &timing);
        self.response.with_headers(map)
    }
}

#[cfg(test)]
mod tests {
    use shared::headers::{EDGE_ONLY, REQUEST_ID};

    use super::*;

    #[test]
    fn a_caller_cannot_send_what_only_the_edge_may() {
        for name in EDGE_ONLY.into_iter().chain([REQUEST_ID]) {
            assert!(!PASSED_ON.contains(&name), "{name}");
        }
    }

    #[test]
    fn the_shorter_limit_holds() {
        assert_eq!(Limit::shorter(2_000, None), Limit::Timeout(2_000));
        assert_eq!(Limit::shorter(2_000, Some(50)), Limit::Deadline(50));
        assert_eq!(Limit::shorter(2_000, Some(2_000)), Limit::Timeout(2_000));
        assert_eq!(Limit::shorter(2_000, Some(u64::MAX)), Limit::Timeout(2_000));
    }

    #[test]
    fn an_error_without_a_name_is_no_timeout() {
        let error = failed(&worker::Error::JsError("TimeoutError".to_owned()), Limit::Timeout(5));
        assert_eq!(error, OriginError::Unreachable("TimeoutError".to_owned()));
    }
}
