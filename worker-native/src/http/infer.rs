//! `POST /v1/infer`: an answer now, from a task of any kind.
//!
//! A reading is handed to `/predict`; a text or a series is made step by step (`making`). Which it
//! is, and what is asked for, is `generate`'s to say.

pub(super) mod making;
pub(super) mod readings;

use std::time::Instant;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Method, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Json, response::Result};
use shared::problem::ErrorCode;
use shared::reading::json;

use super::body;
use super::error::ApiError;
use super::idempotency::{self, Repeatable};
use super::rim::RequestId;
use crate::app::App;
use crate::generate::{self, Target};
use making::Making;
use readings::Readings;

/// What a body asks for, checked.
#[derive(Debug)]
pub(super) enum Plan {
    /// One reading or several.
    Readings(Readings),
    /// A text or a series.
    Making(Box<Making>),
}

/// One request, as far as every part of it needs it.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) app: App,
    pub(super) request_id: String,
    pub(super) headers: HeaderMap,
    pub(super) started: Instant,
}

pub(super) async fn infer(
    State(app): State<App>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let caller = Caller { app, request_id, headers, started: Instant::now() };
    let bytes = body::read(&caller.app.config.http, &caller.headers, body).await?;
    let tenant = idempotency::tenant(&caller.headers)?;
    let once = Repeatable::read(&caller.headers, (&method, &uri), tenant.as_deref(), &bytes)?;
    match plan(&caller, &bytes, None)? {
        Plan::Readings(readings) => {
            let only = readings.only()?;
            readings.answer(&caller, only, once).await
        }
        Plan::Making(mut making) => {
            while !making.is_over() {
                making.step().await?;
            }
            let mut response = Json(making.answer()).into_response();
            response.extensions_mut().insert(making.applied());
            Ok(response)
        }
    }
}

/// Reads a body and finds what answers it; a text's random numbers begin at `seed` where the body names no other.
pub(super) fn plan(caller: &Caller, bytes: &[u8], seed: Option<u64>) -> Result<Plan, ApiError> {
    let object = json::body(bytes).map_err(|detail| ApiError::new(ErrorCode::InvalidJson, detail))?;
    let index = caller.app.engine.index();
    match generate::target(&index, &object)? {
        Target::Readings { task, model } => Ok(Plan::Readings(Readings::read(&object, task, model.as_deref())?)),
        Target::Generating { task, wish, model } => {
            let chosen = generate::model(task, model.as_deref(), &wish)?;
            Ok(Plan::Making(Box::new(Making::begin(caller, task, *wish, chosen, seed)?)))
        }
    }
}
