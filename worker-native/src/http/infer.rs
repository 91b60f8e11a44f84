//! `POST /v1/infer`: an answer now, from a task of any kind.
//!
//! A reading is handed to `/predict`; a text or a series is made step by step (`session`). Which it
//! is, and what is asked for, is `generate`'s to say.

pub(super) mod readings;
pub(super) mod session;

use std::time::Instant;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::{Json, response::Result};
use shared::problem::ErrorCode;
use shared::reading::json;

use super::body;
use super::error::ApiError;
use super::rim::RequestId;
use crate::app::App;
use crate::generate::{self, Target};
use readings::Readings;
use session::Session;

/// What a body asks for, checked.
#[derive(Debug)]
pub(super) enum Plan {
    /// One reading or several.
    Readings(Readings),
    /// A text or a series.
    Making(Box<Session>),
}

/// One request, as far as every part of it needs it.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) app: App,
    pub(super) request_id: String,
    pub(super) headers: HeaderMap,
    pub(super) started: Instant,
}

pub(super) async fn infer(
    State(app): State<App>,
    Extension(RequestId(request_id)): Extension<RequestId>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let asked = Asked { app, request_id, headers, started: Instant::now() };
    let bytes = body::read(&asked.app.config.http, &asked.headers, body).await?;
    match plan(&asked, &bytes, None)? {
        Plan::Readings(readings) => {
            let only = readings.only()?;
            readings.answer(&asked, only).await
        }
        Plan::Making(mut session) => {
            while !session.is_over() {
                session.step().await?;
            }
            let mut response = Json(session.answer()).into_response();
            response.extensions_mut().insert(session.applied());
            Ok(response)
        }
    }
}

/// Reads a body and finds what answers it; a text's random numbers begin at `seed` where the body names no other.
pub(super) fn plan(asked: &Asked, bytes: &[u8], seed: Option<u64>) -> Result<Plan, ApiError> {
    let object = json::body(bytes).map_err(|detail| ApiError::new(ErrorCode::InvalidJson, detail))?;
    let index = asked.app.engine.index();
    match generate::target(&index, &object)? {
        Target::Readings { task, model } => Ok(Plan::Readings(Readings::read(&object, task, model.as_deref())?)),
        Target::Generating { task, wish, model } => {
            let chosen = generate::model(task, model.as_deref(), &wish)?;
            Ok(Plan::Making(Box::new(Session::begin(asked, task, *wish, chosen, seed)?)))
        }
    }
}
