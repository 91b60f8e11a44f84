//! A label in `POST /feedback`: was the answer to this request right?
//!
//! Owns the body's form and the answer. What counts as evidence is `rollout`'s, what is believed
//! then `learning`'s. The other form of that path, a statement about a model, is `super::feedback`'s.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};
use shared::accuracy::{Belief, Drift};
use shared::catalog::Catalog;
use shared::ids::is_id;
use shared::problem::ErrorCode;
use shared::reading::{Fault, MAX_FAULTS, pointer};
use shared::schema::TaskSchema;

use super::error::ApiError;
use crate::learning::{Counting, Learning};
use crate::queue::Queue;
use crate::rollout::{Answered, Assignment, Known, Rollout};

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
#[derive(Debug, PartialEq, Serialize)]
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
#[derive(Debug, PartialEq, Serialize)]
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
    /// What is believed of the version now.
    #[serde(rename = "accuracy")]
    pub learned: Learned,
    /// What answered before it and was in doubt: the label teaches of this one. None where nothing did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<FirstAnsweredBy>,
}

/// What gave a first answer, which another tier answered after.
#[derive(Debug, PartialEq, Serialize)]
pub struct FirstAnsweredBy {
    /// The model's name.
    pub model: String,
    /// The version.
    pub model_version: u32,
    /// Was that answer right? None where the label does not say.
    pub correct: Option<bool>,
    /// Did this label take its model's canary out of traffic?
    pub rolled_back: bool,
    /// What is believed of the version now.
    #[serde(rename = "accuracy")]
    pub learned: Learned,
}

/// What is believed of a version's accuracy.
#[derive(Debug, PartialEq, Serialize)]
pub struct Learned {
    /// The posterior's mean.
    pub mean: f64,
    /// Its 95 % interval.
    pub interval: (f64, f64),
    /// Labels so far.
    pub labels: u64,
    /// What they are worth now, in labels of this moment.
    pub n_eff: f64,
    /// What this label brought to light.
    #[serde(skip)]
    pub drift: Drift,
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

impl Label {
    /// The request id or job id of the answer.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl Counted {
    /// Of an answer that was labelled before.
    pub(super) fn not(label: Label) -> Self {
        Self { id: label.id, counted: false, correct: None, answered_by: None }
    }
}

/// Nothing is known of the answer.
pub(super) fn unknown(label: &Label, kept: Duration) -> ApiError {
    let detail = format!(
        "no answer `{}` is kept: jobs are as long as their result, by their job id; other answers for {} s at the most",
        label.id,
        kept.as_secs()
    );
    ApiError::new(ErrorCode::NotFound, detail)
}

/// Where labels count.
#[derive(Debug, Clone, Copy)]
pub(super) struct Store<'a> {
    pub(super) learning: &'a Learning,
    pub(super) queue: &'a dyn Queue,
}

/// Counts a label for the version that gave the answer, once.
///
/// # Errors
/// The label is none of its task's, or the queue's store cannot be used.
pub(super) async fn count(
    label: Label,
    known: &Known,
    catalog: &Catalog,
    Store { learning, queue }: Store<'_>,
    (rollout_of, trained): (impl Fn(&str, &str) -> Option<Arc<Rollout>>, impl Fn(&str, &str, u32) -> Option<f32>),
    now_ms: u64,
) -> Result<Counted, ApiError> {
    let answered = &known.answered;
    let schema = catalog.task(&answered.task).map(|task| &task.schema);
    let correct = judge(&label.truth, answered, schema)?;
    let first_correct = judge_first(&label.truth, answered, correct, schema);
    let taught = if answered.first.is_some() { first_correct } else { Some(correct) };
    let (belief, drift) = match learning.count(queue, known, taught, now_ms).await? {
        Counting::Counted(belief, drift) => (belief, drift),
        Counting::Before => return Ok(Counted::not(label)),
        Counting::Busy => {
            let detail = "too many labels of this version come at once; this one did not count, try again";
            return Err(ApiError::new(ErrorCode::Overloaded, detail));
        }
    };
    let (task, model, version) = (&*answered.task, &*answered.model, answered.assignment.version);
    let evidence = |model: &str, assignment: &Assignment, correct: bool| {
        rollout_of(task, model).is_some_and(|rollout| rollout.labelled(assignment, correct, now_ms).is_some())
    };
    let learned = |(model, version): (&str, u32), belief: &Belief, drift| {
        let posterior = belief.posterior(&learning.prior(trained(task, model, version)), learning.settings(), now_ms);
        let (mean, interval, n_eff) = (posterior.mean(), posterior.interval(), posterior.n_eff);
        Learned { mean, interval, labels: belief.labels(), n_eff, drift }
    };
    let rolled_back = evidence(model, &answered.assignment, correct);
    // Each model's versions are compared on the readings that they answered, whoever answered after them.
    let first = answered.first.as_ref().map(|first| FirstAnsweredBy {
        model: first.model.to_string(),
        model_version: first.assignment.version,
        correct: first_correct,
        rolled_back: first_correct.is_some_and(|correct| evidence(&first.model, &first.assignment, correct)),
        learned: learned((&first.model, first.assignment.version), &belief, drift),
    });
    let own = match &first {
        Some(_) => {
            let seen = learning.belief(task, model, version).unwrap_or_default();
            learned((model, version), &seen.belief, Drift::default())
        }
        None => learned((model, version), &belief, drift),
    };
    let answered_by = AnsweredBy {
        task: task.to_owned(),
        model: model.to_owned(),
        model_version: version,
        arm: answered.assignment.arm.to_string(),
        rolled_back,
        learned: own,
        first,
    };
    Ok(Counted { id: label.id, counted: true, correct: Some(correct), answered_by: Some(answered_by) })
}

/// Was the first answer right, where another came after it? None where the label does not say.
fn judge_first(truth: &Truth, answered: &Answered, correct: bool, schema: Option<&TaskSchema>) -> Option<bool> {
    let first = answered.first.as_ref()?.prediction.as_deref()?;
    let last = answered.prediction.as_deref()?;
    match truth {
        Truth::Label(label) => Some(first == label),
        Truth::Correct(_) if first == last => Some(correct),
        // The first said otherwise: of two words it is right where the last one is wrong. Of more, only its being wrong
        // could be told, and counting that alone would make it look worse than it is.
        Truth::Correct(_) => (schema.map(TaskSchema::labels)?.len() == 2).then_some(!correct),
    }
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
