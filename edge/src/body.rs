//! Admitting a body: its type and length are judged before a byte of it is read.
//!
//! A reading is then read whole. What is for the origin alone to understand goes on unread, as a stream.

use shared::problem::ErrorCode;
use web_sys::ReadableStream;
use worker::Request;

use crate::answer;
use crate::error::Failure;

/// What a request's headers say of its body.
#[derive(Debug, Default)]
struct Announced {
    media_type: Option<String>,
    encoding: Option<String>,
    length: Option<String>,
}

/// What a path takes for a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// JSON as it is.
    Json,
    /// Anything, compressed or not: binary tensors say no type, or any.
    Any,
}

/// The body of a request as it comes in, if it may; none where there is none.
pub(crate) fn unread(request: &Request, kind: Kind, max_bytes: u32) -> Result<Option<ReadableStream>, Failure> {
    admit(&Announced::of(request), kind, max_bytes)?;
    Ok(request.inner().body())
}

/// Reads the JSON body of a request whole, if it may come in.
pub(crate) async fn read(request: &mut Request, max_bytes: u32) -> Result<Vec<u8>, Failure> {
    admit(&Announced::of(request), Kind::Json, max_bytes)?;
    let body = request.bytes().await.map_err(|_| {
        Failure::new(ErrorCode::InvalidJson, "the body ended before the length announced in content-length")
    })?;
    // HTTP/2 carries no guarantee that the length announced is the length sent.
    if u32::try_from(body.len()).map_or(true, |length| length > max_bytes) {
        Err(too_large(max_bytes))
    } else {
        Ok(body)
    }
}

impl Announced {
    fn of(request: &Request) -> Self {
        let map = request.headers();
        // No body at all needs no length: the runtime drops the header of an empty one.
        let none = request.inner().body().is_none().then(|| "0".to_owned());
        Self {
            media_type: answer::get(map, "content-type"),
            encoding: answer::get(map, "content-encoding"),
            length: answer::get(map, "content-length").or(none),
        }
    }
}

fn admit(announced: &Announced, kind: Kind, max_bytes: u32) -> Result<(), Failure> {
    if kind == Kind::Json {
        is_plain_json(announced)?;
    }
    let length = announced.length.as_deref().and_then(|length| length.parse::<u64>().ok());
    let Some(length) = length else {
        let detail = "send the body with content-length, not chunked: the edge admits it by its length";
        return Err(Failure::new(ErrorCode::LengthRequired, detail));
    };
    if length > u64::from(max_bytes) {
        return Err(too_large(max_bytes));
    }
    Ok(())
}

fn is_plain_json(announced: &Announced) -> Result<(), Failure> {
    let media_type = announced.media_type.as_deref().unwrap_or("none");
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        let detail = format!("send `content-type: application/json`, not {media_type}");
        return Err(Failure::new(ErrorCode::UnsupportedMediaType, detail));
    }
    if let Some(encoding) = announced.encoding.as_deref().filter(|encoding| *encoding != "identity") {
        let detail = format!("send the body without content-encoding, not `{encoding}`");
        return Err(Failure::new(ErrorCode::UnsupportedMediaType, detail));
    }
    Ok(())
}

fn too_large(max_bytes: u32) -> Failure {
    Failure::new(ErrorCode::PayloadTooLarge, format!("at most {max_bytes} bytes are taken (MAX_BODY_BYTES)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(media_type: &str, encoding: &str, length: &str) -> String {
        verdict_on(Kind::Json, media_type, encoding, length)
    }

    fn verdict_on(kind: Kind, media_type: &str, encoding: &str, length: &str) -> String {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let announced = Announced { media_type: some(media_type), encoding: some(encoding), length: some(length) };
        admit(&announced, kind, 100).map_or_else(|failure| failure.log_text(), |()| "ok".to_owned())
    }

    #[test]
    fn plain_json_of_a_known_length_is_admitted() {
        assert_eq!(verdict("application/json", "", "100"), "ok");
        assert_eq!(verdict("Application/JSON; charset=utf-8", "identity", "0"), "ok");
    }

    #[test]
    fn all_else_is_refused_by_its_headers_alone() {
        let refused = |media_type, encoding, length, code: ErrorCode| {
            let text = verdict(media_type, encoding, length);
            assert!(text.starts_with(code.name()), "{text}");
        };
        refused("", "", "10", ErrorCode::UnsupportedMediaType);
        refused("text/plain", "", "10", ErrorCode::UnsupportedMediaType);
        refused("application/jsonl", "", "10", ErrorCode::UnsupportedMediaType);
        refused("application/json", "gzip", "10", ErrorCode::UnsupportedMediaType);
        refused("application/json", "", "", ErrorCode::LengthRequired);
        refused("application/json", "", "-1", ErrorCode::LengthRequired);
        refused("application/json", "", "101", ErrorCode::PayloadTooLarge);
        refused("application/json", "", "18446744073709551615", ErrorCode::PayloadTooLarge);
    }

    #[test]
    fn tensors_are_judged_by_their_length_alone() {
        for (media_type, encoding) in [("", ""), ("application/octet-stream", "deflate"), ("text/plain", "gzip")] {
            assert_eq!(verdict_on(Kind::Any, media_type, encoding, "100"), "ok");
            assert!(verdict_on(Kind::Any, media_type, encoding, "101").starts_with("payload-too-large"));
            assert!(verdict_on(Kind::Any, media_type, encoding, "").starts_with("length-required"));
        }
    }
}
