//! Requests that count once, however often they are sent: the headers `Idempotency-Key` and `x-tenant`.
//!
//! Owns what the headers may hold, which requests are the same, and the answers to repetitions. What is kept, and for
//! how long, is the queue's. A key belongs to a tenant and a task: each task's keys are kept where its jobs are, so
//! that a hand-in and its key are one step.

use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HeaderName, LOCATION};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use shared::headers;
use shared::ids::is_id;
use shared::problem::ErrorCode;

use super::error::ApiError;
use super::rim::Applied;
use crate::app::App;
use crate::queue::{Begun, Stored};

/// Longest key, in characters.
const MAX_KEY: usize = 255;
/// Longest tenant, in characters.
const MAX_TENANT: usize = 64;
/// How much longer than its work a call counts as being made, should nobody finish it.
const MARGIN: Duration = Duration::from_secs(1);

/// Whose request it is, where told.
pub(super) fn tenant(map: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(text) = only(map, headers::TENANT)? else { return Ok(None) };
    if is_id(text) && text.len() <= MAX_TENANT {
        return Ok(Some(text.to_owned()));
    }
    Err(unusable(headers::TENANT, "1 to 64 letters, digits or `._:-`"))
}

/// A request that was given a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Repeatable {
    /// Of tenant and key.
    pub(super) key: String,
    /// Of all that makes two requests the same.
    pub(super) fingerprint: String,
}

impl Repeatable {
    /// The request's key, where it has one.
    pub(super) fn read(
        map: &HeaderMap,
        (method, uri): (&Method, &Uri),
        tenant: Option<&str>,
        body: &[u8],
    ) -> Result<Option<Self>, ApiError> {
        let Some(text) = only(map, headers::IDEMPOTENCY_KEY)? else { return Ok(None) };
        let key = key(text).ok_or_else(|| {
            unusable(headers::IDEMPOTENCY_KEY, "1 to 255 visible ASCII characters, plain or as a quoted string")
        })?;
        let tenant = tenant.unwrap_or_default();
        let parts = [method.as_str(), uri.path(), tenant, uri.query().unwrap_or_default()];
        let parts = parts.into_iter().map(str::as_bytes).chain([body]);
        Ok(Some(Self { key: hex_digest([tenant.as_bytes(), key.as_bytes()]), fingerprint: hex_digest(parts) }))
    }
}

/// The key in a header's value: an sf-string (RFC 9651 §3.3.3) without parameters, or the characters as they are.
fn key(text: &str) -> Option<String> {
    let key = match text.strip_prefix('"') {
        Some(rest) => unquoted(rest)?,
        None => text.to_owned(),
    };
    let visible = key.bytes().all(|byte| byte.is_ascii_graphic());
    (visible && (1..=MAX_KEY).contains(&key.len())).then_some(key)
}

/// What stands before the closing quote, which must be the end.
fn unquoted(text: &str) -> Option<String> {
    let mut key = String::new();
    let mut rest = text.chars();
    loop {
        match rest.next()? {
            '"' => return rest.next().is_none().then_some(key),
            '\\' => key.push(rest.next().filter(|escaped| matches!(escaped, '"' | '\\'))?),
            plain => key.push(plain),
        }
    }
}

/// A header that may be given once.
fn only<'m>(map: &'m HeaderMap, name: &'static str) -> Result<Option<&'m str>, ApiError> {
    let mut values = map.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(ApiError::new(ErrorCode::InvalidHeader, format!("`{name}` is given twice")));
    }
    value.to_str().map(|text| Some(text.trim())).map_err(|_| unusable(name, "visible ASCII"))
}

fn unusable(name: &str, wanted: &str) -> ApiError {
    ApiError::new(ErrorCode::InvalidHeader, format!("`{name}` must be {wanted}"))
}

/// Each part with its length before it, so that no two lists of parts are one text.
fn hex_digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The answer to a request that is being answered already.
pub(super) fn in_flight() -> ApiError {
    let detail = "the same request under the same Idempotency-Key is being answered; ask again for its answer";
    ApiError::new(ErrorCode::IdempotencyInFlight, detail)
}

/// The answer to another request under a key that was used.
pub(super) fn conflict() -> ApiError {
    let detail = "this Idempotency-Key was used for another method, path, query or body; nothing was done: give each \
                  request a key of its own";
    ApiError::new(ErrorCode::IdempotencyConflict, detail)
}

/// What of a kept answer concerns its headers.
#[derive(Debug, Default, Deserialize)]
struct Kept {
    job_id: Option<String>,
    location: Option<String>,
}

/// The answer of the first time, again.
pub(super) fn replayed(task: &str, stored: Stored) -> Result<Response, ApiError> {
    // What is no answer yet; a hand-in never leaves one, another call under its key may.
    if stored.status == 0 {
        return Err(in_flight());
    }
    let kept: Kept = serde_json::from_str(&stored.body).unwrap_or_default();
    let status = StatusCode::from_u16(stored.status).unwrap_or(StatusCode::OK);
    let mut response = json(status, stored.body);
    let map = response.headers_mut();
    map.insert(HeaderName::from_static(headers::IDEMPOTENCY_REPLAYED), HeaderValue::from_static("true"));
    if let Some(location) = kept.location.and_then(|location| HeaderValue::from_str(&location).ok()) {
        map.insert(LOCATION, location);
    }
    let applied = Applied { task: task.to_owned(), decision: None, job_id: kept.job_id };
    response.extensions_mut().insert(applied);
    Ok(response)
}

/// An answer whose JSON is written already.
pub(super) fn json(status: StatusCode, body: String) -> Response {
    (status, [(CONTENT_TYPE, HeaderValue::from_static("application/json"))], Body::from(body)).into_response()
}

/// Makes a call under its key: once, and where it was made before its answer again.
///
/// The call goes on when its caller has left: who asks again then gets the answer. Only what succeeded is kept, so
/// that a failure, which did nothing, can be tried again under the same key.
pub(super) async fn make_once(
    app: &App,
    task: &str,
    once: Repeatable,
    longest: Duration,
    call: impl Future<Output = Result<(String, Applied), ApiError>> + Send + 'static,
) -> Result<Response, ApiError> {
    match app.queue.begin(task, &once.key, &once.fingerprint, longest + MARGIN).await? {
        Begun::New => {}
        Begun::InFlight => return Err(in_flight()),
        Begun::Conflict => return Err(conflict()),
        Begun::Replayed(stored) => return replayed(task, stored),
    }
    let (keeper, name) = (app.clone(), task.to_owned());
    let made = app.calls.spawn(async move {
        let answered = call.await;
        let answer = answered.as_ref().ok().map(|(body, _)| Stored { status: 200, body: body.clone() });
        if let Err(error) = keeper.queue.finish(&name, &once.key, &once.fingerprint, answer).await {
            tracing::warn!(task = name, %error, "an answer is not kept under its idempotency key");
        }
        answered
    });
    let (body, applied) = made.await.map_err(|error| {
        ApiError::caused(ErrorCode::Internal, "the log has the cause under this request id", &error)
    })??;
    let mut response = json(StatusCode::OK, body);
    response.extensions_mut().insert(applied);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn read(key: &str, tenant: Option<&str>, uri: &str, body: &str) -> Repeatable {
        let uri: Uri = uri.parse().unwrap();
        let map = headers(&[(headers::IDEMPOTENCY_KEY, key)]);
        Repeatable::read(&map, (&Method::POST, &uri), tenant, body.as_bytes()).unwrap().unwrap()
    }

    #[test]
    fn a_key_is_the_same_plain_and_quoted() {
        assert_eq!(key(r#""8e03978e-40d5""#).as_deref(), Some("8e03978e-40d5"));
        assert_eq!(key("8e03978e-40d5").as_deref(), Some("8e03978e-40d5"));
        assert_eq!(key(r#""a\"b\\c""#).as_deref(), Some(r#"a"b\c"#));
        assert_eq!(key(&"x".repeat(255)).as_deref(), Some("x".repeat(255).as_str()));
        for wrong in [
            "",
            r#""""#,
            r#"""#,
            r#""a"#,
            r#""a"b"#,
            r#""a";p=1"#,
            r#""a\n""#,
            "a b",
            r#""a b""#,
            "é",
            &"x".repeat(256),
        ] {
            assert_eq!(key(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn headers_are_judged() {
        let code = |pairs: &[(&'static str, &str)]| {
            let (map, uri) = (headers(pairs), Uri::from_static("/data"));
            let repeatable = Repeatable::read(&map, (&Method::POST, &uri), None, b"");
            tenant(&map).map(drop).and(repeatable.map(drop)).map_err(|error| error.code)
        };
        assert_eq!(code(&[]), Ok(()));
        assert_eq!(code(&[(headers::TENANT, "team-a"), (headers::IDEMPOTENCY_KEY, "k")]), Ok(()));
        for (name, value) in [
            (headers::TENANT, ""),
            (headers::TENANT, "a b"),
            (headers::IDEMPOTENCY_KEY, ""),
            (headers::IDEMPOTENCY_KEY, "\""),
        ] {
            assert_eq!(code(&[(name, value)]), Err(ErrorCode::InvalidHeader), "{name}: {value}");
        }
        assert_eq!(code(&[(headers::TENANT, &"x".repeat(65))]), Err(ErrorCode::InvalidHeader));
        let mut twice = headers(&[(headers::TENANT, "a")]);
        twice.append(headers::TENANT, HeaderValue::from_static("b"));
        assert_eq!(tenant(&twice).unwrap_err().code, ErrorCode::InvalidHeader);
    }

    #[test]
    fn two_requests_are_the_same_where_all_that_counts_is() {
        let first = read("k", None, "/data?strict=true", "{}");
        assert_eq!(read("\"k\"", None, "/data?strict=true", "{}"), first);
        for other in [
            read("k", None, "/v1/jobs?strict=true", "{}"),
            read("k", None, "/data", "{}"),
            read("k", None, "/data?strict=true", "{ }"),
        ] {
            assert_eq!(other.key, first.key);
            assert_ne!(other.fingerprint, first.fingerprint);
        }
        let tenants = read("k", Some("a"), "/data?strict=true", "{}");
        assert_ne!(tenants.key, first.key, "each tenant has its own keys");
        assert_ne!(read("bk", Some("a"), "/", "").key, read("k", Some("ab"), "/", "").key);
    }
}
