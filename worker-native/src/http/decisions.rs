//! `GET /v1/decisions/{id}`: why this tier, for a job's id or a request's.
//!
//! Owns the answer's form; where a decision is found is `crate::decisions::find`'s, its words are `story`'s.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use shared::ids::is_id;
use shared::problem::ErrorCode;

use super::error::ApiError;
use super::rim::Applied;
use crate::app::App;
use crate::decisions::{Case, find, story};

#[derive(Debug, Serialize)]
struct View<'a> {
    id: &'a str,
    state: &'a str,
    found_in: &'static str,
    story: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_time: Option<bool>,
    #[serde(flatten)]
    case: &'a Case,
}

pub(super) async fn decision(
    State(app): State<App>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let Path(id) = id.map_err(|error| ApiError::new(ErrorCode::NotFound, format!("no such id: {error}")))?;
    let found = if is_id(&id) { find::find(&app, &id).await? } else { None };
    let found = found.ok_or_else(|| {
        let detail = format!(
            "no decision `{id}` is known: of a job it is as long as its result, by its job id; of other answers for {} s \
             at the most, by their request id",
            app.config.queue.label_ttl.as_secs()
        );
        ApiError::new(ErrorCode::NotFound, detail)
    })?;
    let case = &*found.case;
    let view = View {
        id: &id,
        state: &found.state,
        found_in: found.from,
        story: story::tell(case),
        on_time: case.is_on_time(),
        case,
    };
    let mut response = Json(view).into_response();
    response.extensions_mut().insert(Applied { task: case.task.clone(), ..Applied::default() });
    Ok(response)
}
