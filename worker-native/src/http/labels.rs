//! A label in `POST /feedback`: was the answer to this request right?
//!
//! Owns the body's form and the answer. What counts as evidence is `rollout`'s. The other form of
//! that path, a statement about a model, is `super::feedback`'s.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value};
use shared::catalog::Catalog;
use shared::ids::is_id;
use shared::problem::ErrorCode;
use shared::reading::{Fault, MAX_FAULTS, pointer};
use shared::schema::TaskSchema;

use super::error::ApiError;
use crate::rollout::Rollout;
use crate::rollout::ledger::{Answered, Found, Ledger};

/// `{"request_id" or "job_id": …, "label" or "correct": …}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    id: String,
    truth: Truth,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Truth {
    Label(String),
    Correct(bool),
}

/// What became of a label.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Counted {
    /// The id it was sent for.
    pub id: String,
    /// Did it count? Not where the answer was labelled before.
    pub counted: bool,
    /// Was the answer right? Not told again where it was labelled before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correct: Option<bool>,
    /// The answer's task, model, version and arm.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub answered_by: Option<AnsweredBy>,
}

/// What gave the answer that was labelled.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct AnsweredBy {
    /// The task's name.
    pub task: String,
    /// The model's name.
    pub model: String,
    /// The version.
    pub model_version: u32,
    /// The arm's name; `default` outside a rollout.
    pub arm: String,
    /// Did this label take the canary out of traffic?
    pub rolled_back: bool,
}

/// Reads a body of `POST /feedback`, as far as it is a label: none where it names no request and no job.
///
/// # Errors
/// Every fault of the label.
pub fn parse(body: &[u8]) -> Result<Option<Label>, ApiError> {
    let Ok(Value::Object(map)) = serde_json::from_slice::<Value>(body) else { return Ok(None) };
    if !map.contains_key("request_id") && !map.contains_key("job_id") {
        return Ok(None);
    }
    let mut faults: Vec<Fault> = map
        .keys()
        .filter(|name| !["request_id", "job_id", "label", "correct"].contains(&name.as_str()))
        .take(MAX_FAULTS)
        .map(|name| {
            let shown: String = name.chars().take(64).collect();
            let detail = format!("`{shown}` is not known here; known are request_id or job_id, label or correct");
            Fault::new(pointer(&[&shown]), "unexpected", detail)
        })
        .collect();
    let id = either(&map, ["request_id", "job_id"], &mut faults).and_then(|(name, value)| match value {
        Value::String(id) if is_id(id) => Some(id.clone()),
        _ => {
            faults.push(Fault::new(
                pointer(&[name]),
                "wrong_type",
                format!("`{name}` must be an id as an answer gave it"),
            ));
            None
        }
    });
    let truth = either(&map, ["label", "correct"], &mut faults).and_then(|(name, value)| match (name, value) {
        ("label", Value::String(label)) => Some(Truth::Label(label.clone())),
        // Classes such as 73, 80, 100 are names that look like numbers.
        ("label", Value::Number(label)) => Some(Truth::Label(label.to_string())),
        ("correct", Value::Bool(correct)) => Some(Truth::Correct(*correct)),
        _ => {
            let detail = "`label` must be a class, or `normal` or `anomaly`; `correct` must be true or false";
            faults.push(Fault::new(pointer(&[name]), "wrong_type", detail));
            None
        }
    });
    match (id, truth) {
        (Some(id), Some(truth)) if faults.is_empty() => Ok(Some(Label { id, truth })),
        _ => Err(invalid(faults)),
    }
}

/// The one of two members that is there.
fn either<'a>(
    map: &'a Map<String, Value>,
    names: [&'a str; 2],
    faults: &mut Vec<Fault>,
) -> Option<(&'a str, &'a Value)> {
    let given = |name| map.get(name).filter(|value| !value.is_null()).map(|value| (name, value));
    let [first, second] = names;
    match (given(first), given(second)) {
        (Some(only), None) | (None, Some(only)) => Some(only),
        (None, None) => {
            let detail = format!("`{first}` or `{second}` is missing");
            faults.push(Fault::new(pointer(&[first]), "missing", detail));
            None
        }
        (Some(_), Some(_)) => {
            let detail = format!("`{first}` and `{second}` are given; send one of them");
            faults.push(Fault::new(pointer(&[second]), "unexpected", detail));
            None
        }
    }
}

/// Counts a label for the version that gave the answer, once.
///
/// # Errors
/// The answer is not known in this process, or the label is none of its task's.
pub fn count(
    label: Label,
    catalog: &Catalog,
    ledger: &Ledger,
    rollout_of: impl FnOnce(&str, &str) -> Option<Arc<Rollout>>,
    now_ms: u64,
) -> Result<Counted, ApiError> {
    let mut correct = false;
    let found = ledger.take_if(&label.id, now_ms, |answered| {
        correct = judge(&label.truth, answered, catalog.task(&answered.task).map(|task| &task.schema))?;
        Ok::<_, ApiError>(())
    })?;
    let answered = match found {
        Found::Answered(answered) => answered,
        Found::Labelled => return Ok(Counted { id: label.id, counted: false, correct: None, answered_by: None }),
        Found::Unknown => {
            let detail = format!(
                "no answer `{}` is kept here: the newest {} are, for an hour, by the process that gave them",
                label.id,
                crate::rollout::ledger::CAPACITY
            );
            return Err(ApiError::new(ErrorCode::NotFound, detail));
        }
    };
    let rollout = rollout_of(&answered.task, &answered.model);
    let rolled_back = rollout.and_then(|rollout| rollout.labelled(&answered.assignment, correct, now_ms));
    let answered_by = AnsweredBy {
        task: answered.task.to_string(),
        model: answered.model.to_string(),
        model_version: answered.assignment.version,
        arm: answered.assignment.arm.to_string(),
        rolled_back: rolled_back.is_some(),
    };
    Ok(Counted { id: label.id, counted: true, correct: Some(correct), answered_by: Some(answered_by) })
}

/// Was the answer right? A misspelt class would count against the version, so it is a fault.
fn judge(truth: &Truth, answered: &Answered, schema: Option<&TaskSchema>) -> Result<bool, ApiError> {
    let label = match truth {
        Truth::Correct(correct) => return Ok(*correct),
        Truth::Label(label) => label,
    };
    let words = schema.map(TaskSchema::labels).unwrap_or_default();
    match &answered.prediction {
        Some(prediction) if words.contains(&label.as_str()) => Ok(**prediction == **label),
        Some(_) if !words.is_empty() => {
            let detail = format!("`label` is none of task `{}`'s: {}", answered.task, words.join(", "));
            Err(invalid(vec![Fault::new("#/label", "not_a_value", detail)]))
        }
        Some(_) | None => {
            let detail = format!("answers of task `{}` are no classes; send `correct`", answered.task);
            Err(invalid(vec![Fault::new("#/label", "unexpected", detail)]))
        }
    }
}

fn invalid(faults: Vec<Fault>) -> ApiError {
    let plural = if faults.len() == 1 { "" } else { "s" };
    let detail = format!("{} fault{plural} in the label", faults.len());
    ApiError { faults, ..ApiError::new(ErrorCode::InvalidReading, detail) }
}

#[cfg(test)]
mod tests;
