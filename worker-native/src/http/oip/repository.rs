//! `POST /v2/repository/…`: which models there are, and taking them in and out of service.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde::de::IgnoredAny;
use shared::problem::ErrorCode;

use super::engine::Refused;
use super::target::Target;
use super::{ApiError, Oip, bad, body};

#[derive(Debug, Default, Deserialize)]
struct IndexRequest {
    ready: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
struct LoadRequest {
    parameters: Option<std::collections::BTreeMap<String, IgnoredAny>>,
}

pub(super) async fn index(State(oip): State<Oip>, map: HeaderMap, body: Body) -> Result<Response, ApiError> {
    let asked: IndexRequest = read(&oip, &map, body).await?;
    let only_ready = asked.ready.unwrap_or(false);
    let mut entries = oip.models.index();
    entries.retain(|entry| !only_ready || entry.state == "READY");
    Ok(Json(entries).into_response())
}

pub(super) async fn load(
    State(oip): State<Oip>,
    target: Target,
    map: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let asked: LoadRequest = read(&oip, &map, body).await?;
    allowed(&oip)?;
    let model = &target.model;
    if let Some(name) = asked.parameters.unwrap_or_default().keys().next() {
        let detail = format!(
            "failed to load '{model}': parameter `{name}` is not served; a model is loaded as its folder has it"
        );
        return Err(bad(detail));
    }
    match oip.models.load(model).await {
        Ok(()) => Ok(StatusCode::OK.into_response()),
        // The clients look for these words.
        Err(refused) => Err(failed("load", model, refused)),
    }
}

pub(super) async fn unload(
    State(oip): State<Oip>,
    target: Target,
    map: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    // `unload_dependents`, the only parameter there is, has nothing to act on here.
    let _: LoadRequest = read(&oip, &map, body).await?;
    allowed(&oip)?;
    let model = &target.model;
    match oip.models.unload(model).await {
        Ok(()) => Ok(StatusCode::OK.into_response()),
        Err(refused) => Err(failed("unload", model, refused)),
    }
}

fn allowed(oip: &Oip) -> Result<(), ApiError> {
    if oip.config.model_control {
        return Ok(());
    }
    let detail = "loading and unloading is switched off here (OIP_MODEL_CONTROL=on switches it on)";
    Err(ApiError::new(ErrorCode::MethodNotAllowed, detail))
}

fn failed(what: &str, model: &str, refused: Refused) -> ApiError {
    let (code, reason) = match refused {
        Refused::Unknown(reason) => (ErrorCode::UnknownModel, reason),
        Refused::Failed(reason) => (ErrorCode::ModelFailed, reason),
    };
    ApiError::new(code, format!("failed to {what} '{model}': {reason}"))
}

/// The clients send `{}`, nothing at all, or leave out even the length.
async fn read<T: Default + for<'a> Deserialize<'a>>(oip: &Oip, map: &HeaderMap, body: Body) -> Result<T, ApiError> {
    let whole = body::read(oip, map, body).await?;
    if whole.bytes.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(&whole.bytes)
        .map_err(|error| bad(format!("the JSON of the request cannot be used: {error}")))
}
