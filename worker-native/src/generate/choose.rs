//! Which task and model a body means, where that may be one that makes texts or series.

use std::sync::Arc;

use shared::problem::ErrorCode;
use shared::reading::json::{Object, pointer, string};
use shared::reading::{Fault, Rejection};

use super::{Wish, invalid, wish};
use crate::engine::ModelVersion;
use crate::engine::index::{Index, Model, Task};
use crate::engine::repository::Kind;

/// Where a body goes.
#[derive(Debug)]
pub enum Target<'i> {
    /// To a task that takes readings, or one that cannot be told yet: the reading's own rules say which.
    Readings {
        /// The task, where the body's model tells it.
        task: Option<&'i str>,
        /// The model or tier of that task, without the task's name before it.
        model: Option<String>,
    },
    /// To a task that makes texts or series.
    Generating {
        /// The task.
        task: &'i Task,
        /// What is asked of it.
        wish: Box<Wish>,
        /// The model or tier asked for.
        model: Option<String>,
    },
}

/// The version that is to answer, and why.
#[derive(Debug, Clone)]
pub struct Chosen {
    /// The version.
    pub version: Arc<ModelVersion>,
    /// The caller named a version that is not here; the default one answers.
    pub fallback: bool,
    /// The caller named the model or the tier.
    pub pinned: bool,
}

/// Where a body goes; what it asks for is checked where that is a text or a series.
///
/// # Errors
/// A rejection with every fault; `unknown-task` and `unknown-model` where a name says nothing here.
pub fn target<'i>(index: &'i Index, body: &Object<'_>) -> Result<Target<'i>, Rejection> {
    let mut faults = Vec::new();
    let mut name = |field: &str, wanted: &str| {
        body.read(&mut faults, field, wanted, |raw| string(raw).map(std::borrow::Cow::into_owned))
    };
    let task = name("task", "the name of a task");
    let model = name("model", "the name of a model or a tier");
    let also = name("model_name", "the name of a model or a tier");
    if model.is_some() && also.is_some() {
        let detail = "give one of `model` and `model_name`, not both";
        faults.push(Fault::new(pointer(&["model_name"]), "conflict", detail));
    }
    if !faults.is_empty() {
        return Err(Rejection { detail: "the body names neither task nor model".to_owned(), ..invalid("?", faults) });
    }
    let model = model.or(also);
    let public = model.as_deref().filter(|name| name.contains('.')).and_then(|name| index.find(name).ok());
    let bare = public.map(|(_, model)| model.folder.name.clone()).or_else(|| model.clone());
    let task = match (&task, public) {
        (Some(named), Some((meant, _))) if *named != meant.folder.name => {
            let detail = format!("`model` is of task `{}`, `task` is `{named}`", meant.folder.name);
            return Err(invalid(named, vec![Fault::new(pointer(&["task"]), "conflict", detail)]));
        }
        (Some(named), _) => Some(index.tasks.get(named).ok_or_else(|| unknown_task(index, named))?),
        (None, Some((meant, _))) => Some(meant),
        (None, None) => by_form(index, body, model.as_deref())?,
    };
    let Some(task) = task else { return Ok(Target::Readings { task: None, model: bare }) };
    let name = task.folder.name.as_str();
    let wish = match &task.folder.kind {
        Kind::Reading(_) => return Ok(Target::Readings { task: Some(name), model: bare }),
        Kind::Generation(generation) => wish::text(name, generation, body)?,
        Kind::Forecast(forecast) => wish::series(name, forecast, body)?,
        Kind::Tensor => {
            let detail = format!("task `{name}` takes tensors: POST /v2/models/<model>/infer");
            return Err(invalid(name, vec![Fault::new(pointer(&["task"]), "wrong_type", detail)]));
        }
    };
    Ok(Target::Generating { task, wish: Box::new(wish), model: bare })
}

fn unknown_task(index: &Index, name: &str) -> Rejection {
    let names: Vec<&str> = index.tasks.keys().map(String::as_str).collect();
    let detail = format!("task `{name}` is not here; there are: {}", names.join(", "));
    Rejection { code: ErrorCode::UnknownTask, detail, faults: vec![] }
}

/// The task of a body that names none: the one that takes a prompt, or the one that has the model; else none.
fn by_form<'i>(index: &'i Index, body: &Object<'_>, model: Option<&str>) -> Result<Option<&'i Task>, Rejection> {
    if body.get("prompt").is_none_or(|raw| raw.get() == "null") {
        // A model that only a task of texts or series has says which; anything else is the reading's to find out.
        let found = model.and_then(|name| index.find(name).ok()).map(|(task, _)| task);
        return Ok(found.filter(|task| is_generating(task)));
    }
    let mut fitting: Vec<&Task> =
        index.tasks.values().filter(|task| matches!(task.folder.kind, Kind::Generation(_))).collect();
    let has = |task: &&Task| model.is_none_or(|name| model_of(task, name).is_some());
    if fitting.len() > 1 && fitting.iter().any(has) {
        fitting.retain(has);
    }
    match fitting.as_slice() {
        [only] => Ok(Some(only)),
        [] => {
            let detail = "no task here goes on from a prompt; GET /v1/catalog lists those that take readings";
            Err(Rejection { code: ErrorCode::UnknownTask, detail: detail.to_owned(), faults: vec![] })
        }
        several => {
            let names: Vec<&str> = several.iter().map(|task| task.folder.name.as_str()).collect();
            let detail = format!("several tasks go on from a prompt, name one: {}", names.join(", "));
            Err(invalid("?", vec![Fault::new(pointer(&["task"]), "missing", detail)]))
        }
    }
}

fn is_generating(task: &Task) -> bool {
    matches!(task.folder.kind, Kind::Generation(_) | Kind::Forecast(_))
}

/// The model of a name or a tier.
fn model_of<'t>(task: &'t Task, name: &str) -> Option<&'t Model> {
    let of_tier = || task.models.values().find(|model| model.folder.tier.as_deref() == Some(name));
    task.models.get(name).or_else(of_tier)
}

/// The version that answers: of the model or tier asked for, else of the cheapest tier that can be served now.
///
/// # Errors
/// `unknown-model`, `unknown-version` for a strict caller, and `model-unavailable` where nothing is loaded.
pub fn model(task: &Task, name: Option<&str>, wish: &Wish) -> Result<Chosen, Rejection> {
    let refused = |code, detail| Rejection { code, detail, faults: vec![] };
    let model = match name {
        Some(name) => model_of(task, name).ok_or_else(|| {
            let names: Vec<&str> = task.models.keys().map(String::as_str).chain(tiers(task)).collect();
            let detail =
                format!("task `{}` has no model or tier `{name}`; it has: {}", task.folder.name, names.join(", "));
            refused(ErrorCode::UnknownModel, detail)
        })?,
        None => cheapest(task).ok_or_else(|| {
            let detail = format!("no model of task `{}` is loaded now; GET /models says why", task.folder.name);
            refused(ErrorCode::ModelUnavailable, detail)
        })?,
    };
    let pinned = name.is_some();
    let wanted = wish.model_version.unwrap_or(model.default_version);
    if let Some(version) = model.versions.get(&wanted) {
        return Ok(Chosen { version: Arc::clone(version), fallback: false, pinned });
    }
    let name = &model.folder.name;
    if wish.strict {
        let versions: Vec<String> = model.versions.keys().map(u32::to_string).collect();
        let detail = format!("model `{name}` has no version {wanted}; it has: {}", versions.join(", "));
        return Err(refused(ErrorCode::UnknownVersion, detail));
    }
    let version = model.versions.get(&model.default_version);
    let version = version.ok_or_else(|| {
        refused(ErrorCode::ModelUnavailable, format!("model `{name}` has no version that can be served"))
    })?;
    Ok(Chosen { version: Arc::clone(version), fallback: true, pinned })
}

fn tiers(task: &Task) -> impl Iterator<Item = &str> {
    task.folder.tiers.iter().map(String::as_str)
}

fn cheapest(task: &Task) -> Option<&Model> {
    let servable =
        |model: &&Model| model.versions.get(&model.default_version).is_some_and(|version| version.is_servable());
    let of_tier =
        |tier: &str| task.models.values().find(|model| model.folder.tier.as_deref() == Some(tier)).filter(servable);
    tiers(task)
        .find_map(of_tier)
        .or_else(|| task.models.values().filter(|model| model.folder.tier.is_none()).find(servable))
}
