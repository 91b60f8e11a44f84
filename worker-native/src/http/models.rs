//! `GET /models`, `POST /models/{name}/load|unload`, `GET /pool/stats`, `GET /info`: the engine for operators.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use shared::problem::ErrorCode;

use super::error::ApiError;
use crate::app::App;
use crate::engine::index::{Model, NotFound, Task};
use crate::engine::repository::Kind;
use crate::engine::{LoadError, ModelVersion};

pub(super) async fn list(State(app): State<App>) -> Response {
    let index = app.engine.index();
    let models: Vec<Value> =
        index.tasks.values().flat_map(|task| task.models.values().map(|model| model_view(task, model))).collect();
    let loaded = index.versions().filter(|version| version.is_ready()).count();
    Json(json!({"count": models.len(), "versions_loaded": loaded, "models": models, "faults": index.faults}))
        .into_response()
}

fn model_view(task: &Task, model: &Model) -> Value {
    let versions: Vec<Value> = model.versions.values().map(|version| version_view(version)).collect();
    let folder = &model.folder;
    json!({
        "name": folder.name, "task": task.folder.name, "public_name": format!("{}.{}", task.folder.name, folder.name),
        "description": folder.description, "kind": kind_name(&task.folder.kind), "tier": folder.tier,
        "type": folder.model_type, "default_version": model.default_version, "versions": versions,
        "rollout": rollout_view(model),
    })
}

/// How the versions do, without the single disagreements: they name other callers' requests, and this page passes the
/// edge. `GET /models/{name}/rollout` has them.
fn rollout_view(model: &Model) -> Value {
    let mut view = serde_json::to_value(model.rollout.view()).unwrap_or_default();
    if let Some(Value::Object(shadow)) = view.get_mut("shadow") {
        shadow.remove("disagreements");
    }
    view
}

fn version_view(version: &ModelVersion) -> Value {
    let card = version.card();
    let pool = version.pool();
    let tensors = version.signature().map(|signature| {
        let show = |specs: &[crate::engine::tensor::TensorSpec]| -> BTreeMap<String, String> {
            specs.iter().map(|spec| (spec.name.clone(), spec.describe())).collect()
        };
        json!({"inputs": show(&signature.inputs), "outputs": show(&signature.outputs)})
    });
    let state = version.state();
    json!({
        "version": card.version, "state": state.state, "reason": state.reason, "accuracy": card.training_accuracy.map(|accuracy| (f64::from(accuracy) * 1e4).round() / 1e4),
        "sha256": card.sha256, "tensors": tensors, "service_us": version.service_us(),
        "warm_up": pool.as_ref().map(|pool| pool.warm_up),
    })
}

const fn kind_name(kind: &Kind) -> &'static str {
    match kind {
        Kind::Reading(schema) => match schema.kind {
            shared::schema::TaskKind::Anomaly => "anomaly",
            shared::schema::TaskKind::Classification => "classification",
            shared::schema::TaskKind::Regression => "regression",
        },
        Kind::Forecast(_) => "forecast",
        Kind::Generation(_) => "generation",
        Kind::Tensor => "tensor",
    }
}

pub(super) async fn load(
    State(app): State<App>,
    name: Result<Path<String>, PathRejection>,
    query: Result<Query<BTreeMap<String, String>>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, ApiError> {
    let (name, version) = named(name, query)?;
    match app.engine.load_public(&name, version).await {
        Ok(()) => Ok(Json(json!({"name": name, "version": version, "state": "ready"})).into_response()),
        Err(LoadError::NotFound(error)) => Err(not_found(&name, &error)),
        Err(LoadError::Failed(fault)) => {
            Err(ApiError::new(ErrorCode::ModelUnavailable, format!("failed to load `{name}`: {fault}")))
        }
    }
}

pub(super) async fn unload(
    State(app): State<App>,
    name: Result<Path<String>, PathRejection>,
    query: Result<Query<BTreeMap<String, String>>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, ApiError> {
    let (name, version) = named(name, query)?;
    app.engine.unload_public(&name, version).map_err(|error| not_found(&name, &error))?;
    Ok(Json(json!({"name": name, "version": version, "state": "unloaded"})).into_response())
}

fn named(
    name: Result<Path<String>, PathRejection>,
    query: Result<Query<BTreeMap<String, String>>, axum::extract::rejection::QueryRejection>,
) -> Result<(String, Option<u32>), ApiError> {
    let Path(name) = name.map_err(|error| ApiError::new(ErrorCode::UnknownModel, error.to_string()))?;
    let Query(query) = query.map_err(|error| ApiError::new(ErrorCode::InvalidQuery, error.to_string()))?;
    let mut version = None;
    for (key, value) in &query {
        version = (key == "version").then(|| value.parse().ok().filter(|version| *version >= 1)).flatten();
        if version.is_none() {
            let detail = format!("cannot use `{key}={value}`; there is: version (a whole number from 1)");
            return Err(ApiError::new(ErrorCode::InvalidQuery, detail));
        }
    }
    Ok((name, version))
}

/// The words for a public name that means nothing here.
pub(super) fn not_found(name: &str, error: &NotFound) -> ApiError {
    match error {
        NotFound::Unknown => {
            ApiError::new(ErrorCode::UnknownModel, format!("no model `{name}`; GET /models lists them"))
        }
        NotFound::Ambiguous(names) => {
            let detail = format!("several tasks have a model `{name}`; name one of {}", names.join(", "));
            ApiError::new(ErrorCode::UnknownModel, detail)
        }
        NotFound::Version(versions) => {
            let versions: Vec<String> = versions.iter().map(u32::to_string).collect();
            let detail = format!("model `{name}` has no such version; it has: {}", versions.join(", "));
            ApiError::new(ErrorCode::UnknownVersion, detail)
        }
    }
}

pub(super) async fn pools(State(app): State<App>) -> Response {
    let index = app.engine.index();
    let pools: Vec<Value> = index
        .versions()
        .filter_map(|version| Some((version.card(), version.pool()?)))
        .map(|(card, pool)| {
            let mut view =
                json!({"task": card.task, "model": card.model, "version": card.version, "alive": pool.is_alive()});
            if let (Value::Object(to), Ok(Value::Object(from))) = (&mut view, serde_json::to_value(pool.view())) {
                to.extend(from);
            }
            view
        })
        .collect();
    Json(json!({"count": pools.len(), "pools": pools})).into_response()
}

pub(super) async fn info(State(app): State<App>) -> Response {
    let config = &app.config;
    let settings: BTreeMap<&str, &str> =
        config.settings.iter().map(|setting| (setting.name, setting.value.as_str())).collect();
    Json(json!({
        "name": "Infer Router", "version": env!("CARGO_PKG_VERSION"), "uptime_s": app.started.elapsed().as_secs(),
        "role": format!("{:?}", config.role).to_lowercase(),
        "tasks": app.engine.index().tasks.keys().collect::<Vec<_>>(),
        "limits": {
            "max_body_bytes": config.http.max_body_bytes, "max_connections": config.http.max_connections,
            "predict_timeout_ms": config.http.predict_timeout.as_millis(), "max_waiting_rows": config.models.max_waiting,
            "max_batch": config.models.max_batch,
        },
        // Secrets are shown as set or not, as `--print-config` does.
        "settings": settings,
    }))
    .into_response()
}
