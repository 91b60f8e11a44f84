//! `POST /v2/models/M[/versions/V]/infer`.

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use shared::problem::ErrorCode;

use super::compress::Packing;
use super::target::Target;
use super::{ApiError, HEADER_LENGTH, Oip, bad, body, request, response, work};
use crate::engine::tensor::Tensor;

pub(super) async fn infer(
    State(oip): State<Oip>,
    target: Target,
    map: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let started = Instant::now();
    // The body first: an answer before its end would cut the connection under a client that still writes.
    let whole = body::read(&oip, &map, body).await?;
    let found = tokio::time::timeout_at((started + oip.config.timeout).into(), target.find_ready(&oip)).await;
    let (version, signature) = found.map_err(|_| late(oip.config.timeout))??;
    let head_len = head_length(&map)?;
    let packing = Packing::accepted(&map);
    let (bytes, room) = whole.split();
    let model = target.model;

    let name = model.clone();
    let read = move || request::read(&bytes, head_len, &signature, &name);
    let asked = work(room.bytes(), read).await??;

    let wait = asked.timeout.map_or(oip.config.timeout, |timeout| timeout.min(oip.config.timeout));
    let deadline = started + wait;
    let answer = version.infer(asked.inputs, Some(deadline));
    let tensors = tokio::time::timeout_at(deadline.into(), answer).await.map_err(|_| late(wait))??;

    let from = response::From { model, version: version.number(), id: asked.id };
    let size = tensors.iter().map(|tensor: &Tensor| tensor.data.bytes()).fold(0, usize::saturating_add);
    let write = move || response::write(&from, &tensors, &asked.outputs, packing);
    let written = work(size, write).await??;
    drop(room);
    Ok(written.into_response())
}

fn late(wait: Duration) -> ApiError {
    let detail = format!("no answer within {} ms; the request waited for the model", wait.as_millis());
    ApiError::new(ErrorCode::DeadlineExceeded, detail)
}

/// What the header says of the JSON's length; none: the body is JSON whole.
fn head_length(map: &HeaderMap) -> Result<Option<usize>, ApiError> {
    let mut values = map.get_all(HEADER_LENGTH).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let number = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    match (number.and_then(|text| text.parse().ok()), values.next()) {
        (Some(length), None) => Ok(Some(length)),
        _ => Err(bad("Inference-Header-Content-Length must be the length of the JSON in bytes, once")),
    }
}
