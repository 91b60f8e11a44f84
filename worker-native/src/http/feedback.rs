//! `POST /feedback`: a statement about a model's accuracy, which moves the decisions. Labels are `labels`'s.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::catalog::{Catalog, CatalogModel, CatalogTask};
use shared::problem::ErrorCode;
use shared::reading::{Fault, MAX_FAULTS, pointer, unknown_model};

use super::body;
use super::error::ApiError;
use super::labels;
use super::rim::Applied;
use crate::app::App;
use crate::clock::now_ms;
use crate::learning::answers;
use crate::rollout::ledger::Found;
use crate::routing::feed;

/// `{"model":"accurate","accuracy":0.45}` pins; `{"model":"accurate","accuracy":null}` unpins.
#[derive(Debug, Deserialize)]
struct Raw {
    task: Option<Value>,
    model: Option<Value>,
    // Twice optional: a missing accuracy is a fault, null is a wish.
    #[serde(default, deserialize_with = "present")]
    accuracy: Option<Value>,
    #[serde(flatten)]
    rest: serde_json::Map<String, Value>,
}

fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// What is held true of a model from now on.
#[derive(Debug, Serialize)]
struct Standing<'a> {
    task: &'a str,
    model: &'a str,
    tier: Option<&'a str>,
    accuracy: Option<f32>,
    pinned: bool,
}

struct Statement {
    task: Option<String>,
    model: String,
    accuracy: Option<f64>,
}

pub(super) async fn feedback(State(app): State<App>, map: HeaderMap, body: Body) -> Result<Response, ApiError> {
    let bytes = body::read(&app.config.http, &map, body).await?;
    shared::reading::check_json(&bytes)?;
    if let Some(label) = labels::parse(&bytes)? {
        return label_answer(&app, label).await;
    }
    let raw: Raw = serde_json::from_slice(&bytes)
        .map_err(|error| ApiError::new(ErrorCode::InvalidJson, format!("the body cannot be read: {error}")))?;
    let statement = check(raw)?;
    let catalog = app.engine.catalog();
    let (task, model) = find(&catalog, &statement)?;
    let text = statement.accuracy.map(|accuracy| accuracy.to_string());
    app.queue.set_fact(&task.schema.name, feed::ACCURACY, &model.name, text.as_deref()).await?;
    // The next decision of this process already knows; others hear of it with their next refresh.
    feed::refresh_task(&app, task).await?;
    let trained = app.engine.version(&task.schema.name, &model.name, model.default_version);
    let accuracy = match statement.accuracy {
        #[expect(clippy::cast_possible_truncation, reason = "from 0 to 1, and kept as float32 everywhere else")]
        Some(stated) => Some(stated as f32),
        None => {
            let trained = trained.and_then(|version| version.card().training_accuracy);
            app.learning.accuracy((&task.schema.name, &model.name, model.default_version), trained, now_ms())
        }
    };
    let standing = Standing {
        task: &task.schema.name,
        model: &model.name,
        tier: model.tier.as_deref(),
        accuracy,
        pinned: statement.accuracy.is_some(),
    };
    let mut response = Json(standing).into_response();
    let applied = Applied { task: task.schema.name.clone(), ..Applied::default() };
    response.extensions_mut().insert(applied);
    Ok(response)
}

async fn label_answer(app: &App, label: labels::Label) -> Result<Response, ApiError> {
    let now_ms = now_ms();
    let found = match app.ledger.find(label.id(), now_ms) {
        Found::Answered(known) => Some(known),
        Found::Labelled => return Ok(Json(labels::Counted::not(label)).into_response()),
        Found::Unknown => answers::find(app, label.id(), now_ms).await?,
    };
    let known = found.ok_or_else(|| labels::unknown(&label, app.config.queue.label_ttl))?;
    let index = app.engine.index();
    let rollout_of = |task: &str, model: &str| index.model(task, model).map(|model| Arc::clone(&model.rollout));
    let trained = |task: &str, model: &str, version: u32| {
        index.version(task, model, version).and_then(|version| version.card().training_accuracy)
    };
    let id = label.id().to_owned();
    let store = labels::Store { learning: &app.learning, queue: &*app.queue };
    let counted = labels::count(label, &known, &index.catalog, store, (rollout_of, trained), now_ms).await?;
    app.ledger.labelled(&id);
    if let Some(by) = &counted.answered_by {
        app.metrics.label(&by.task, &by.model, counted.correct == Some(true));
        app.metrics.drift(&by.task, &by.model, by.learned.drift);
        if by.rolled_back {
            app.metrics.rollback(&by.task, &by.model);
        }
        if let Some(first) = &by.first {
            app.metrics.drift(&by.task, &first.model, first.learned.drift);
            if first.rolled_back {
                app.metrics.rollback(&by.task, &first.model);
            }
        }
    }
    Ok(Json(counted).into_response())
}

fn check(raw: Raw) -> Result<Statement, ApiError> {
    let mut faults = Vec::new();
    for name in raw.rest.keys().take(MAX_FAULTS) {
        let shown: String = name.chars().take(64).collect();
        let detail = format!("`{shown}` is not known here; known are task, model, accuracy");
        faults.push(Fault::new(pointer(&[&shown]), "unexpected", detail));
    }
    let task = match raw.task {
        None | Some(Value::Null) => None,
        Some(Value::String(task)) => Some(task),
        Some(_) => {
            faults.push(Fault::new("#/task", "wrong_type", "`task` must be the name of a task"));
            None
        }
    };
    let model = match raw.model {
        Some(Value::String(model)) => Some(model),
        Some(_) => {
            faults.push(Fault::new("#/model", "wrong_type", "`model` must be the name of a model or a tier"));
            None
        }
        None => {
            faults.push(Fault::new("#/model", "missing", "`model` is missing: the name of a model or a tier"));
            None
        }
    };
    let mut accuracy = None;
    match raw.accuracy {
        Some(Value::Null) => {}
        Some(Value::Number(number)) => {
            accuracy = number.as_f64().filter(|accuracy| (0.0..=1.0).contains(accuracy));
            if accuracy.is_none() {
                let detail = format!("`accuracy` is {number}, accepted is from 0 to 1");
                faults.push(Fault::new("#/accuracy", "out_of_range", detail));
            }
        }
        Some(_) => {
            faults.push(Fault::new("#/accuracy", "wrong_type", "`accuracy` must be a number from 0 to 1, or null"))
        }
        None => {
            let detail = "`accuracy` is missing: a number from 0 to 1, or null to go back to what was measured";
            faults.push(Fault::new("#/accuracy", "missing", detail));
        }
    }
    match model {
        Some(model) if faults.is_empty() => Ok(Statement { task, model, accuracy }),
        _ => {
            let plural = if faults.len() == 1 { "" } else { "s" };
            let detail = format!("{} fault{plural} in the statement", faults.len());
            Err(ApiError { faults, ..ApiError::new(ErrorCode::InvalidReading, detail) })
        }
    }
}

/// The model meant: of the task named, of the default task, or of the one task that has it.
fn find<'a>(catalog: &'a Catalog, statement: &Statement) -> Result<(&'a CatalogTask, &'a CatalogModel), ApiError> {
    let named = statement.task.as_deref().or(catalog.default_task.as_deref());
    if let Some(name) = named {
        let task = catalog.task(name).ok_or_else(|| {
            ApiError::new(
                ErrorCode::UnknownTask,
                format!("no task `{name}` takes readings; these do: {}", catalog.task_names()),
            )
        })?;
        let found = task.model(&statement.model).map(|model| (task, model));
        if found.is_some() || statement.task.is_some() {
            return found.ok_or_else(|| unknown_model(task, &statement.model).into());
        }
    }
    let mut having = catalog.tasks.iter().filter_map(|task| task.model(&statement.model).map(|model| (task, model)));
    match (having.next(), having.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => {
            let detail = format!("no task has a model or tier `{}`", statement.model);
            Err(ApiError::new(ErrorCode::UnknownModel, detail))
        }
        (Some(_), Some(_)) => {
            let tasks = catalog.tasks.iter().filter(|task| task.model(&statement.model).is_some());
            let names: Vec<&str> = tasks.map(|task| task.schema.name.as_str()).collect();
            let detail =
                format!("several tasks have a model or tier `{}`; name one: {}", statement.model, names.join(", "));
            let fault = Fault::new("#/task", "missing", detail.clone());
            Err(ApiError { faults: vec![fault], ..ApiError::new(ErrorCode::InvalidReading, detail) })
        }
    }
}
