//! Reading a body within its bounds: media type, length, time.

use axum::body::{Body, to_bytes};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http_body_util::LengthLimitError;
use shared::problem::ErrorCode;

use super::error::ApiError;
use crate::config::HttpConfig;

/// Reads a JSON body whole.
pub(super) async fn read(config: &HttpConfig, map: &HeaderMap, body: Body) -> Result<Vec<u8>, ApiError> {
    let text = |name| map.get(name).and_then(|value| value.to_str().ok());
    if !text(CONTENT_TYPE).is_some_and(is_json) {
        let sent = text(CONTENT_TYPE).unwrap_or("none");
        let detail = format!("send `content-type: application/json`, not {sent}");
        return Err(ApiError::new(ErrorCode::UnsupportedMediaType, detail));
    }
    if let Some(encoding) = text(CONTENT_ENCODING).filter(|encoding| *encoding != "identity") {
        let detail = format!("send the body without content-encoding, not `{encoding}`");
        return Err(ApiError::new(ErrorCode::UnsupportedMediaType, detail));
    }
    let announced = text(CONTENT_LENGTH).and_then(|length| length.parse::<usize>().ok());
    if announced.is_some_and(|length| length > config.max_body_bytes) {
        return Err(too_large(config));
    }
    match tokio::time::timeout(config.body_timeout, to_bytes(body, config.max_body_bytes)).await {
        Ok(Ok(bytes)) => Ok(bytes.to_vec()),
        Ok(Err(error)) if std::error::Error::source(&error).is_some_and(|cause| cause.is::<LengthLimitError>()) => {
            Err(too_large(config))
        }
        Ok(Err(error)) => Err(ApiError::caused(ErrorCode::InvalidJson, "the body broke off or is malformed", &error)),
        Err(_) => Err(ApiError::new(ErrorCode::InvalidJson, "the body did not arrive in time (BODY_TIMEOUT_MS)")),
    }
}

fn too_large(config: &HttpConfig) -> ApiError {
    let detail = format!("at most {} bytes are taken (MAX_BODY_BYTES)", config.max_body_bytes);
    ApiError::new(ErrorCode::PayloadTooLarge, detail)
}

fn is_json(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

#[cfg(test)]
mod tests {
    use super::is_json;

    #[test]
    fn only_json_is_json() {
        assert!(is_json("application/json"));
        assert!(is_json("Application/JSON; charset=utf-8"));
        assert!(!is_json("application/jsonl"));
        assert!(!is_json("text/plain"));
    }
}
