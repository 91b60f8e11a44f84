//! From the bytes of a body to a validated reading, or to every fault in it.
//!
//! Owns the forms of a reading (`docs/api.md`), the choice of the task a body means, and the words
//! for each fault. It keeps values as raw JSON until the field that wants them is known, so that
//! each fault (even a number too large for a float, or a name given twice) points to its field.
//! What is done with a reading is the caller's.

mod choose;
pub mod json;
mod priority;
mod values;

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::catalog::{Catalog, CatalogModel, CatalogTask, ModelType};
use crate::ids::is_id;
use crate::problem::ErrorCode;
use crate::schema::TaskSchema;
use json::Object;
pub use json::pointer;
pub use priority::Priority;

/// Most faults told in one answer; a thousand wrong numbers need not be a thousand lines.
pub const MAX_FAULTS: usize = 64;

/// One thing wrong with a body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// JSON Pointer to the field, in its URI fragment form (RFC 6901 §6).
    pub pointer: String,
    /// `missing`, `unexpected`, `duplicate`, `wrong_type`, `wrong_length`, `not_finite`,
    /// `out_of_range`, `not_a_value` or `conflict`.
    pub code: &'static str,
    /// What is wrong and what would be right.
    pub detail: String,
}

impl Fault {
    /// A fault at a pointer.
    #[must_use]
    pub fn new(pointer: impl Into<String>, code: &'static str, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), code, detail: detail.into() }
    }
}

/// Why a body cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The public code, with the status.
    pub code: ErrorCode,
    /// One sentence for the problem's `detail`.
    pub detail: String,
    /// Every fault with its field; empty where the body as a whole is at fault.
    pub faults: Vec<Fault>,
}

impl Rejection {
    fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), faults: vec![] }
    }

    fn invalid(task: Option<&str>, mut faults: Vec<Fault>) -> Self {
        let count = faults.len();
        let place = task.map_or_else(|| "the body".to_owned(), |task| format!("task `{task}`"));
        let mut detail = format!("{count} fault{} for {place}", if count == 1 { "" } else { "s" });
        if count > MAX_FAULTS {
            faults.truncate(MAX_FAULTS);
            detail.push_str(&format!(", the first {MAX_FAULTS} listed"));
        }
        Self { code: ErrorCode::InvalidReading, detail, faults }
    }
}

/// What the model gets of a reading.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// The feature vector: [`crate::schema::TaskSchema::width`] finite numbers.
    Features(Vec<f32>),
    /// The text of a text task: from 1 to [`crate::schema::Field::max_text_bytes`] bytes, none of them NUL.
    Text(String),
}

/// A validated body: which task, what was asked of it, and the input for the model.
#[derive(Debug, Clone, PartialEq)]
pub struct Request<'c> {
    /// The task the reading belongs to.
    pub task: &'c CatalogTask,
    /// Who measured, where told.
    pub sensor_id: Option<String>,
    /// When it was measured, in Unix seconds, where told.
    pub timestamp: Option<f64>,
    /// A model or tier the caller wants.
    pub model_name: Option<String>,
    /// What the model must have been made with. Without a `model_name` it is for the native side to choose one.
    pub model_type: Option<ModelType>,
    /// A version the caller wants.
    pub model_version: Option<u32>,
    /// With `strict`, an unknown version is an error instead of the default version.
    pub strict: bool,
    /// How long the caller can wait, in milliseconds.
    pub deadline_ms: Option<u64>,
    /// The least accuracy the caller can live with, 0..=1.
    pub min_accuracy: Option<f32>,
    /// How urgent it is as a job.
    pub priority: Option<Priority>,
    /// Where a job's result is to be sent; that it is a URL at all is for the native side to say.
    pub callback_url: Option<String>,
    /// The reading itself.
    pub input: Input,
}

/// Longest deadline taken, in milliseconds: one day.
pub const MAX_DEADLINE_MS: u64 = 86_400_000;

/// Longest callback URL taken, in bytes.
pub const MAX_URL_BYTES: usize = 2_048;

const FIELDS: [&str; 14] = [
    "task",
    "sensor_id",
    "timestamp",
    "features",
    "sensor_data",
    "text",
    "model_name",
    "model_type",
    "model_version",
    "strict",
    "deadline_ms",
    "min_accuracy",
    "priority",
    "callback_url",
];

/// Which form the reading came in.
#[derive(Clone, Copy)]
enum Form<'a> {
    Features(&'a RawValue),
    Named(&'a RawValue),
    Text(&'a RawValue),
}

/// Parses and validates one body against the catalog.
///
/// # Errors
/// A [`Rejection`] with code `invalid-json` when the bytes are no JSON object, `unknown-task`
/// when the task named is not in the catalog, `unknown-model` when the model is not in the task,
/// and `invalid-reading` with every fault otherwise.
pub fn parse<'c>(body: &[u8], catalog: &'c Catalog) -> Result<Request<'c>, Rejection> {
    let object = json::body(body).map_err(|detail| Rejection::new(ErrorCode::InvalidJson, detail))?;
    let mut faults = Vec::new();
    check_names(&object, &mut faults);

    let sensor_id = object.read(&mut faults, "sensor_id", "a string of 1 to 128 letters, digits or `._:-`", |v| {
        json::string(v).filter(|id| is_id(id)).map(Cow::into_owned)
    });
    let timestamp = object.read(&mut faults, "timestamp", "Unix time in seconds, at least 0", |v| {
        json::number(v).ok().filter(|t| t.is_finite() && *t >= 0.0)
    });
    let model_name = object
        .read(&mut faults, "model_name", "the name of a model or a tier", |v| json::string(v).map(Cow::into_owned));
    let model_type = object.read(&mut faults, "model_type", "one of sklearn, onnx", |v| {
        json::string(v).and_then(|name| ModelType::from_name(&name))
    });
    let model_version = object.read(&mut faults, "model_version", "a whole number from 1", |v| {
        let text = json::string(v);
        let number = text.as_deref().unwrap_or_else(|| v.get());
        number.strip_prefix('v').unwrap_or(number).parse::<u32>().ok().filter(|n| *n >= 1)
    });
    let strict = object.read(&mut faults, "strict", "true or false", |v| serde_json::from_str(v.get()).ok());
    let deadline_ms = object.read(&mut faults, "deadline_ms", "whole milliseconds from 1 to 86400000", |v| {
        v.get().parse::<u64>().ok().filter(|ms| (1..=MAX_DEADLINE_MS).contains(ms))
    });
    let min_accuracy = object.read(&mut faults, "min_accuracy", "a number from 0 to 1", |v| {
        json::number(v).ok().filter(|a| (0.0..=1.0).contains(a)).map(to_f32)
    });
    let priority = object.read(&mut faults, "priority", "one of high, normal, low", |v| {
        json::string(v).and_then(|name| Priority::from_name(&name))
    });
    let callback_url = object.read(&mut faults, "callback_url", "a URL of at most 2048 bytes", |v| {
        json::string(v).filter(|url| (1..=MAX_URL_BYTES).contains(&url.len())).map(Cow::into_owned)
    });
    let task_name = object.read(&mut faults, "task", "the name of a task", |v| json::string(v).map(Cow::into_owned));
    let form = read_form(&object, &mut faults);

    let task = match (&task_name, &form) {
        (Some(name), _) => catalog.task(name).ok_or_else(|| {
            Rejection::new(
                ErrorCode::UnknownTask,
                format!("no task `{name}` takes readings; these do: {} (all tasks: GET /models)", catalog.task_names()),
            )
        })?,
        (None, Some(form)) => match choose::task(form, model_name.as_deref(), catalog) {
            Ok(task) => task,
            Err(fault) => {
                faults.push(fault);
                return Err(Rejection::invalid(None, faults));
            }
        },
        (None, None) => return Err(Rejection::invalid(None, faults)),
    };
    let input = match form {
        Some(form) => values::read(&task.schema, form, &mut faults),
        None => Input::Features(vec![]),
    };
    if !faults.is_empty() {
        return Err(Rejection::invalid(Some(&task.schema.name), faults));
    }
    check_model(task, model_name.as_deref(), model_type)?;
    Ok(Request {
        task,
        sensor_id,
        timestamp,
        model_name,
        model_type,
        model_version,
        strict: strict.unwrap_or(false),
        deadline_ms,
        min_accuracy,
        priority,
        callback_url,
        input,
    })
}

/// Has the task a model of that name or tier, and of that type?
fn check_model(task: &CatalogTask, name: Option<&str>, model_type: Option<ModelType>) -> Result<(), Rejection> {
    let typed = |model: &CatalogModel| model_type.is_none() || model.model_type == model_type;
    match (name, model_type) {
        (Some(name), _) => match (task.model(name), model_type) {
            (Some(model), _) if typed(model) => Ok(()),
            (Some(_), Some(model_type)) => Err(lacks(task, &format!("model `{name}` of type `{}`", model_type.name()))),
            _ => Err(unknown_model(task, name)),
        },
        (None, Some(model_type)) if !task.models.iter().any(typed) => {
            Err(lacks(task, &format!("model of type `{}`", model_type.name())))
        }
        (None, _) => Ok(()),
    }
}

/// The rejection where a task has no model of a type, or the named one is of another.
#[must_use]
pub fn unknown_type(task: &CatalogTask, name: Option<&str>, model_type: ModelType) -> Rejection {
    let of_type = format!("of type `{}`", model_type.name());
    lacks(task, &name.map_or_else(|| format!("model {of_type}"), |name| format!("model `{name}` {of_type}")))
}

/// The rejection for a model or tier that a task does not have.
#[must_use]
pub fn unknown_model(task: &CatalogTask, name: &str) -> Rejection {
    lacks(task, &format!("model or tier `{name}`"))
}

fn lacks(task: &CatalogTask, what: &str) -> Rejection {
    let detail = format!("task `{}` has no {what}; it has: {}", task.schema.name, task.model_names());
    Rejection::new(ErrorCode::UnknownModel, detail)
}

/// What is wrong with an input that came by another way than a body, such as a row of a tensor; none where it fits.
#[must_use]
pub fn input_fault(schema: &TaskSchema, input: &Input) -> Option<String> {
    values::fault(schema, input)
}

/// Checks a body as far as that goes without a catalog: is it a JSON object at all?
///
/// # Errors
/// `invalid-json`, in the same words as [`parse`].
pub fn check_json(body: &[u8]) -> Result<(), Rejection> {
    json::body(body).map(|_| ()).map_err(|detail| Rejection::new(ErrorCode::InvalidJson, detail))
}

fn check_names(object: &Object<'_>, faults: &mut Vec<Fault>) {
    for name in &object.duplicates {
        faults.push(Fault::new(json::pointer(&[name]), "duplicate", format!("`{name}` is given twice")));
    }
    for (name, _) in &object.entries {
        if !FIELDS.contains(&name.as_ref()) {
            let detail = format!("`{name}` is not known here; known are: {}", FIELDS.join(", "));
            faults.push(Fault::new(json::pointer(&[name]), "unexpected", detail));
        }
    }
}

fn read_form<'a>(object: &Object<'a>, faults: &mut Vec<Fault>) -> Option<Form<'a>> {
    let given = |name| object.get(name).filter(|raw| raw.get() != "null");
    let forms =
        [given("sensor_data").map(Form::Named), given("features").map(Form::Features), given("text").map(Form::Text)];
    let mut forms = forms.into_iter().flatten();
    let form = forms.next();
    if let (Some(_), Some(second)) = (form, forms.next()) {
        let detail = "give one of `sensor_data`, `features` and `text`, not several";
        faults.push(Fault::new(json::pointer(&[second.name()]), "conflict", detail));
        return None;
    }
    if form.is_none() {
        let detail =
            "give the reading as `sensor_data` (an object of fields), `features` (an array) or `text` (a string)";
        faults.push(Fault::new("#/sensor_data", "missing", detail));
    }
    form
}

impl Form<'_> {
    /// The name the form has in a body.
    const fn name(self) -> &'static str {
        match self {
            Self::Features(_) => "features",
            Self::Named(_) => "sensor_data",
            Self::Text(_) => "text",
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "models take float32; the caller checks the range first")]
const fn to_f32(value: f64) -> f32 {
    value as f32
}

#[cfg(test)]
mod tests;
