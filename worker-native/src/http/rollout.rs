//! `GET|POST /models/{name}/rollout`: how a model's versions do, and an operator's hand on it.
//!
//! `{"percent": 25}` gives the canary another share, `{"roll_back": "why"}` takes the plan out of traffic,
//! `{"resume": true}` puts it back. What changed is told to the other processes with the next refresh.

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use shared::problem::ErrorCode;
use shared::reading::Fault;

use super::body;
use super::error::ApiError;
use super::models::not_found;
use crate::app::App;
use crate::clock::now_ms;
use crate::engine::index::{Index, Model};
use crate::routing::feed;

/// One change.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Change {
    Percent(f64),
    RollBack(String),
    Resume(bool),
}

pub(super) async fn show(
    State(app): State<App>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let index = app.engine.index();
    Ok(Json(find(&index, name)?.rollout.view()).into_response())
}

pub(super) async fn change(
    State(app): State<App>,
    name: Result<Path<String>, PathRejection>,
    map: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let bytes = body::read(&app.config.http, &map, body).await?;
    shared::reading::check_json(&bytes)?;
    let index = app.engine.index();
    let model = find(&index, name)?;
    let change: Change = serde_json::from_slice(&bytes).map_err(|error| wrong(&error.to_string()))?;
    let done = match change {
        Change::Percent(percent) => model.rollout.set_percent(percent, now_ms()),
        Change::RollBack(why) => model.rollout.roll_back(&why, now_ms()).map(drop),
        Change::Resume(true) => model.rollout.resume(now_ms()),
        Change::Resume(false) => Err("`resume` must be true".to_owned()),
    };
    done.map_err(|fault| ApiError::new(ErrorCode::InvalidReading, fault))?;
    tracing::warn!(model = model.folder.name, body = %String::from_utf8_lossy(&bytes), "an operator changed a rollout");
    // It holds here at once; where Redis is away the others hear of it when it is back.
    if let Err(error) = feed::refresh(&app).await {
        tracing::warn!(%error, "the change of a rollout is not yet told to other processes");
    }
    Ok(Json(model.rollout.view()).into_response())
}

fn find(index: &Index, name: Result<Path<String>, PathRejection>) -> Result<&Model, ApiError> {
    let Path(name) = name.map_err(|error| ApiError::new(ErrorCode::UnknownModel, error.to_string()))?;
    index.find(&name).map(|(_, model)| model).map_err(|error| not_found(&name, &error))
}

fn wrong(fault: &str) -> ApiError {
    let detail = format!(
        "the body must be one of {{\"percent\": 0 to 100}}, {{\"roll_back\": \"why\"}}, {{\"resume\": true}}: {fault}"
    );
    let faults = vec![Fault::new("#", "wrong_type", detail.clone())];
    ApiError { faults, ..ApiError::new(ErrorCode::InvalidReading, detail) }
}
