//! Building responses, in the one way that cannot fail a request.

use shared::headers;
use worker::{Headers, Response, console_error};

/// The media type of everything that is no problem document.
pub(crate) const JSON: &str = "application/json";

/// A response with a text, and the request's id.
pub(crate) fn text(status: u16, media_type: &str, body: String, request_id: &str) -> Response {
    let response = Response::builder().with_status(status).fixed(body.into_bytes());
    set(response.headers(), "content-type", media_type);
    set(response.headers(), headers::REQUEST_ID, request_id);
    response
}

/// Sets a header. The runtime refuses names and values that cannot be sent: ours are checked, so that is logged
/// instead of failing an answer that is otherwise good.
pub(crate) fn set(map: &Headers, name: &str, value: &str) {
    if let Err(error) = map.set(name, value) {
        console_error!("header {name} not set: {error}");
    }
}

/// Takes a header out.
pub(crate) fn remove(map: &Headers, name: &str) {
    if let Err(error) = map.delete(name) {
        console_error!("header {name} not removed: {error}");
    }
}

/// A header's value, where there is one.
pub(crate) fn get(map: &Headers, name: &str) -> Option<String> {
    map.get(name).ok().flatten()
}
