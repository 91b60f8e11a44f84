//! `GET|PUT /v1/policy`: which policy is in force for each task, and another one at run time.
//!
//! `{"policy": "queue-threshold", "queue_threshold": 8}` holds for every task, with `"task"` for one; `"policy": null`
//! takes back what was put. It is kept with the queue, and the edges hear of it with their next answer.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use shared::problem::ErrorCode;
use shared::reading::{Fault, pointer};

use super::body;
use super::error::ApiError;
use crate::app::App;
use crate::clock::now_ms;
use crate::routing::feed;
use crate::routing::policies::{CascadeKnobs, EVERY_TASK, From, InForce, Knobs, Put};

/// The policy of one task.
#[derive(Debug, Serialize)]
struct View<'a> {
    task: &'a str,
    policy: &'static str,
    queue_threshold: u32,
    accuracy_floor: f32,
    slack_split: Knobs,
    cascade: Option<CascadeKnobs>,
    from: From,
    version: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<u64>,
}

impl<'a> View<'a> {
    fn of(task: &'a str, in_force: InForce) -> Self {
        let cascade = in_force.cascade();
        let InForce { policy, knobs, version, at, from, .. } = in_force;
        Self {
            task,
            policy: policy.kind.name(),
            queue_threshold: policy.queue_threshold,
            accuracy_floor: policy.accuracy_floor,
            slack_split: knobs,
            cascade,
            from,
            version,
            at,
        }
    }
}

/// What may be sent.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    #[serde(default)]
    task: Option<String>,
    // Twice optional: a missing policy is a fault, null takes back.
    #[serde(default, deserialize_with = "present")]
    policy: Option<Option<String>>,
    #[serde(default)]
    queue_threshold: Option<u32>,
    #[serde(default)]
    accuracy_floor: Option<f32>,
    #[serde(default, deserialize_with = "known_knobs")]
    slack_split: Option<Knobs>,
    // Twice optional: where it is missing the settings hold, null asks nothing again.
    #[serde(default, deserialize_with = "known_cascade")]
    cascade: Option<Option<CascadeKnobs>>,
}

fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::<String>::deserialize(deserializer).map(Some)
}

/// A caller's knobs; unlike those that are stored, none may have a name that is not known here.
fn known_knobs<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Knobs>, D::Error> {
    Option::<Map<String, Value>>::deserialize(deserializer)?.map(|sent| known("slack_split", sent)).transpose()
}

/// Likewise of a cascade.
fn known_cascade<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Option<CascadeKnobs>>, D::Error> {
    Option::<Map<String, Value>>::deserialize(deserializer)?.map(|sent| known("cascade", sent)).transpose().map(Some)
}

fn known<T: Default + Serialize + DeserializeOwned, E: serde::de::Error>(
    of: &str,
    sent: Map<String, Value>,
) -> Result<T, E> {
    let known = serde_json::to_value(T::default()).map_err(E::custom)?;
    if let Some(name) = sent.keys().find(|name| known.get(name.as_str()).is_none()) {
        let names: Vec<&str> = known.as_object().into_iter().flat_map(Map::keys).map(String::as_str).collect();
        return Err(E::custom(format!("`{of}` has no `{name}`; it has: {}", names.join(", "))));
    }
    serde_json::from_value(Value::Object(sent)).map_err(E::custom)
}

pub(super) async fn show(State(app): State<App>) -> Response {
    view(&app)
}

fn view(app: &App) -> Response {
    let catalog = app.engine.catalog();
    let names = catalog.tasks.iter().map(|task| task.schema.name.as_str());
    let tasks: Vec<_> = names.map(|name| View::of(name, app.policies.of(name))).collect();
    Json(serde_json::json!({"tasks": tasks})).into_response()
}

pub(super) async fn put(State(app): State<App>, map: HeaderMap, body: Body) -> Result<Response, ApiError> {
    let bytes = body::read(&app.config.http, &map, body).await?;
    shared::reading::check_json(&bytes)?;
    let wish: Wish = serde_json::from_slice(&bytes).map_err(|error| wrong(vec![], &error.to_string()))?;
    let place = match wish.task.as_deref() {
        None => EVERY_TASK,
        Some(task) if app.engine.catalog().task(task).is_some() => task,
        Some(task) => {
            let known = app.engine.catalog().task_names();
            let detail = format!("no task `{task}` takes readings; these do: {known}");
            return Err(ApiError::new(ErrorCode::UnknownTask, detail));
        }
    };
    let base = app.policies.base();
    let wanted = match wish.policy {
        None => return Err(wrong(vec![], "`policy` is missing: a policy's name, or null to take back what was put")),
        Some(None) => None,
        Some(Some(policy)) => Some(Put {
            policy,
            queue_threshold: wish.queue_threshold.unwrap_or(base.queue_threshold),
            accuracy_floor: wish.accuracy_floor.unwrap_or(base.accuracy_floor),
            slack_split: wish.slack_split.unwrap_or(base.slack_split),
            cascade: wish.cascade.unwrap_or(base.cascade),
            ..base
        }),
    };
    let faults = wanted.as_ref().map(Put::faults).unwrap_or_default();
    if !faults.is_empty() {
        let fault = |(path, accepted): (String, String)| {
            let parts: Vec<&str> = path.split('/').collect();
            Fault::new(pointer(&parts), "out_of_range", format!("`{path}` is not accepted; accepted: {accepted}"))
        };
        let text = format!("{} of the values cannot be", faults.len());
        return Err(wrong(faults.into_iter().map(fault).collect(), &text));
    }
    tracing::warn!(place, policy = ?wanted, "an operator puts a policy");
    app.policies.put(app.queue.as_ref(), place, wanted, now_ms()).await?;
    // The answer's own snapshot tells the new one; other processes hear of it with their next look.
    if let Err(error) = feed::refresh(&app).await {
        tracing::warn!(%error, "the policy is stored; it holds with the next look at the queue's store that succeeds");
    }
    Ok(view(&app))
}

fn wrong(faults: Vec<Fault>, fault: &str) -> ApiError {
    let detail = format!(
        "the body must be {{\"policy\": NAME or null}}, with `task`, `queue_threshold`, `accuracy_floor`, `slack_split` \
         and `cascade` where wanted: {fault}"
    );
    let faults = if faults.is_empty() { vec![Fault::new("#", "wrong_type", detail.clone())] } else { faults };
    ApiError { faults, ..ApiError::new(ErrorCode::InvalidReading, detail) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Wish, String> {
        serde_json::from_str(body).map_err(|error| error.to_string())
    }

    #[test]
    fn a_name_that_is_not_known_is_refused_and_named() {
        let top = read(r#"{"policy": "slack-split", "fil": 0.5}"#).unwrap_err();
        assert!(top.contains("`fil`"), "{top}");
        let knob = read(r#"{"policy": "slack-split", "slack_split": {"fil": 0.5}}"#).unwrap_err();
        assert!(knob.contains("`slack_split` has no `fil`") && knob.contains("patience_ms"), "{knob}");
        let kind = read(r#"{"policy": "slack-split", "slack_split": {"fill": "half"}}"#).unwrap_err();
        assert!(kind.contains("half"), "{kind}");
        let wish = read(r#"{"policy": "slack-split", "slack_split": {"fill": 0.25}}"#).unwrap();
        assert_eq!(wish.slack_split, Some(Knobs { fill: 0.25, ..Knobs::default() }));
        assert_eq!(read(r#"{"policy": null, "slack_split": null}"#).unwrap().slack_split, None);
    }
}
