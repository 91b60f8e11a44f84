//! One task of the repository: `task.toml`, and the models in its folder.

use std::path::Path;

use serde::Deserialize;
use shared::ids::is_name;
use shared::schema::TaskSchema;

use super::{ModelFolder, folder_name, folders, read_model, read_toml};

/// One task with its models.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskFolder {
    /// The task's name, the same as its folder's.
    pub name: String,
    /// A short title for people.
    pub title: String,
    /// One or two sentences for people.
    pub description: String,
    /// Names of the tiers in order of cost, cheapest first.
    pub tiers: Vec<String>,
    /// What it takes and gives.
    pub kind: Kind,
    /// Its models in alphabetical order.
    pub models: Vec<ModelFolder>,
}

/// What a task takes and gives.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// Readings, which the edge knows as well.
    Reading(TaskSchema),
    /// The next values of a series, one after the other.
    Forecast(Forecast),
    /// A text, one character after the other.
    Generation(Generation),
    /// Tensors as the model's file says, by the Open Inference Protocol only.
    Tensor,
}

// The kinds that `shared` does not know.
const FORECAST: &str = "forecast";
const GENERATION: &str = "generation";
const TENSOR: &str = "tensor";

impl Kind {
    /// The name in `task.toml`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Reading(schema) => schema.kind.name(),
            Self::Forecast(_) => FORECAST,
            Self::Generation(_) => GENERATION,
            Self::Tensor => TENSOR,
        }
    }
}

/// A series whose next values are asked for.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forecast {
    /// Values the model looks at.
    pub window: usize,
    /// Fewest values a request must bring; a shorter window is filled with the first one.
    pub min_history: usize,
    /// Most values a request may ask for.
    pub max_steps: usize,
    /// Values given where the request does not say.
    pub default_steps: usize,
    /// Physical unit.
    #[serde(default)]
    pub unit: String,
    /// Smallest accepted value.
    pub min: Option<f64>,
    /// Largest accepted value.
    pub max: Option<f64>,
    /// Seconds between two values, for people.
    pub interval_seconds: Option<f64>,
}

/// A text that is continued character by character.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generation {
    /// Characters by token id; id 0 is padding and stands for unknown ones, and is never produced.
    pub alphabet: Vec<char>,
    /// Tokens the model looks at.
    pub window: usize,
    /// Most characters a request may ask for.
    pub max_new_tokens: usize,
    /// Characters given where the request does not say.
    pub default_new_tokens: usize,
    /// The model was trained on lower-case text.
    #[serde(default)]
    pub lowercase: bool,
}

/// Keys of every `task.toml`, and of a reading's.
const TASK_KEYS: [&str; 12] = [
    "name",
    "title",
    "description",
    "kind",
    "tiers",
    "classes",
    "normal",
    "fields",
    "target",
    "replay",
    "forecast",
    "generation",
];

const FIELD_KEYS: [&str; 10] =
    ["name", "unit", "description", "type", "length", "min", "max", "values", "default", "max_length"];
const TARGET_KEYS: [&str; 3] = ["name", "unit", "tolerance"];

/// Keys of the inner tables that nobody knows: a misspelt `min` would be a limit that is not there.
fn unknown_inside(table: &toml::Table) -> Vec<String> {
    let fields = table.get("fields").and_then(toml::Value::as_array).into_iter().flatten();
    let fields = fields.enumerate().map(|(i, field)| (format!("fields[{i}]"), field, FIELD_KEYS.as_slice()));
    let target = table.get("target").map(|target| ("target".to_owned(), target, TARGET_KEYS.as_slice()));
    fields
        .chain(target)
        .flat_map(|(place, inner, known)| {
            let keys = inner.as_table().into_iter().flat_map(toml::Table::keys);
            keys.filter(|key| !known.contains(&key.as_str()))
                .map(|key| format!("{place}: `{key}` is not known; known are {}", known.join(", ")))
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Every kind of task.
const KINDS: [&str; 6] = ["anomaly", "classification", "regression", FORECAST, GENERATION, TENSOR];

/// What the tasks that take no readings say.
#[derive(Debug, Deserialize)]
struct Plain {
    name: String,
    #[serde(default)]
    title: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    tiers: Vec<String>,
    forecast: Option<Forecast>,
    generation: Option<Generation>,
}

/// Reads one task; what is faulty is left out and told.
pub(super) fn read(dir: &Path, faults: &mut Vec<String>) -> Option<TaskFolder> {
    let path = dir.join("task.toml");
    let at = |fault: &str| format!("{}: {fault}", path.display());
    let table: toml::Table = read_toml(&path).map_err(|fault| faults.push(fault)).ok()?;
    let before = faults.len();
    let unknown = table.keys().filter(|key| !TASK_KEYS.contains(&key.as_str()));
    faults.extend(unknown.map(|key| at(&format!("`{key}` is not known; known are {}", TASK_KEYS.join(", ")))));
    faults.extend(unknown_inside(&table).iter().map(|fault| at(fault)));
    let kind = table.get("kind").and_then(toml::Value::as_str).unwrap_or_default().to_owned();
    if !KINDS.contains(&kind.as_str()) {
        faults.push(at(&format!("kind {kind:?} is not known; known are {}", KINDS.join(", "))));
        return None;
    }
    let task = match kind.as_str() {
        FORECAST | GENERATION | TENSOR => table.try_into().map(|plain| native(&kind, plain)),
        _ => table.try_into().map(|schema| Ok(reading(schema))),
    };
    let mut task = match task {
        Ok(Ok(task)) => task,
        Ok(Err(fault)) => {
            faults.push(at(&fault));
            return None;
        }
        Err(error) => {
            faults.push(at(&error.to_string()));
            return None;
        }
    };
    faults.extend(task.faults().iter().map(|fault| at(fault)));
    if task.name != folder_name(dir) {
        faults.push(at(&format!("name {:?} must be the folder's name {:?}", task.name, folder_name(dir))));
    }
    let sound = faults.len() == before;
    let model_dirs = folders(dir).map_err(|error| faults.push(at(&error.to_string()))).ok()?;
    for model_dir in model_dirs.iter().filter(|folder| folder.join("model.toml").is_file()) {
        match read_model(model_dir, &task.kind, &task.tiers) {
            Ok(model) => task.models.push(model),
            Err(found) => faults.extend(found),
        }
    }
    let all_read = faults.len() == before;
    for tier in &task.tiers {
        let serving = task.models.iter().filter(|model| model.tier.as_ref() == Some(tier)).count();
        if serving != 1 && all_read {
            faults.push(at(&format!("tier {tier:?} is served by {serving} models; exactly one must name it")));
        }
    }
    if all_read && task.models.is_empty() {
        faults.push(at("it has no model that can be served"));
    }
    (sound && !task.models.is_empty()).then_some(task)
}

fn reading(schema: TaskSchema) -> TaskFolder {
    TaskFolder {
        name: schema.name.clone(),
        title: schema.title.clone(),
        description: schema.description.clone(),
        tiers: schema.tiers.clone(),
        kind: Kind::Reading(schema),
        models: vec![],
    }
}

fn native(kind: &str, plain: Plain) -> Result<TaskFolder, String> {
    let missing = || format!("a task of kind {kind:?} needs a table [{kind}]");
    let kind = match kind {
        FORECAST => Kind::Forecast(plain.forecast.ok_or_else(missing)?),
        GENERATION => Kind::Generation(plain.generation.ok_or_else(missing)?),
        _ => Kind::Tensor,
    };
    let Plain { name, title, description, tiers, .. } = plain;
    Ok(TaskFolder { name, title, description, tiers, kind, models: vec![] })
}

/// Most values a request of a forecast or a generation may bring or ask for.
const MOST: usize = 16_384;

impl TaskFolder {
    /// Every contradiction in the task, in words.
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut bound = |key: &str, value: usize, least: usize, most: usize| {
            if !(least..=most).contains(&value) {
                faults.push(format!("{key} is {value}, it must be from {least} to {most}"));
            }
        };
        match &self.kind {
            Kind::Reading(schema) => return schema.faults(),
            Kind::Tensor => {}
            Kind::Forecast(forecast) => {
                bound("forecast.window", forecast.window, 1, MOST);
                bound("forecast.min_history", forecast.min_history, 1, forecast.window.max(1));
                bound("forecast.max_steps", forecast.max_steps, 1, MOST);
                bound("forecast.default_steps", forecast.default_steps, 1, forecast.max_steps.max(1));
            }
            Kind::Generation(generation) => {
                bound("generation.window", generation.window, 1, MOST);
                bound("generation.alphabet", generation.alphabet.len(), 2, 4_096);
                bound("generation.max_new_tokens", generation.max_new_tokens, 1, MOST);
                bound(
                    "generation.default_new_tokens",
                    generation.default_new_tokens,
                    1,
                    generation.max_new_tokens.max(1),
                );
            }
        }
        if !is_name(&self.name) || self.name.len() < 2 {
            faults.push(format!("name {:?}: use 2 to 64 letters, digits, `_`, `-`", self.name));
        }
        for (i, tier) in self.tiers.iter().enumerate() {
            if !is_name(tier) || self.tiers.iter().position(|other| other == tier) != Some(i) {
                faults.push(format!("tiers[{i}] {tier:?}: use letters, digits, `_`, `-`, each name once"));
            }
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read_one(task: &str, model: &str) -> (Option<TaskFolder>, String) {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("series");
        fs::create_dir_all(dir.join("m")).unwrap();
        fs::write(dir.join("task.toml"), task).unwrap();
        fs::write(dir.join("m/model.toml"), model).unwrap();
        let mut faults = Vec::new();
        (read(&dir, &mut faults), faults.join("\n"))
    }

    const SERIES: &str = "name = 'series'\nkind = 'forecast'\ntiers = ['fast']\n[forecast]\nwindow = 4\nmin_history = 2\n\
                            max_steps = 9\ndefault_steps = 3\n";
    const MODEL: &str = "name = 'm'\ntier = 'fast'\ndefault_version = 1\n[output]\nkind = 'next'\nname = 'next'\n\
                         [versions.1]\nsha256 = '00'\n";

    #[test]
    fn a_forecast_is_read() {
        let (task, faults) = read_one(SERIES, MODEL);
        assert_eq!(faults, "");
        let task = task.unwrap();
        assert!(matches!(&task.kind, Kind::Forecast(forecast) if forecast.window == 4), "{task:?}");
        assert_eq!(task.kind.name(), "forecast");
        assert_eq!(task.models.len(), 1);
    }

    #[test]
    fn a_tensor_task_needs_no_tiers_and_its_model_no_output() {
        let bare = "name = 'm'\ndefault_version = 1\n[versions.1]\nsha256 = '00'\n";
        let (task, faults) = read_one("name = 'series'\nkind = 'tensor'\n", bare);
        assert_eq!((task.unwrap().kind, faults.as_str()), (Kind::Tensor, ""));
        let (task, faults) = read_one("name = 'series'\nkind = 'tensor'\n", MODEL);
        assert!(task.is_none() && faults.contains("have none"), "{faults}");
    }

    #[test]
    fn what_does_not_fit_is_told_and_left_out() {
        let (task, faults) = read_one(&SERIES.replace("min_history = 2", "min_history = 5"), MODEL);
        assert!(task.is_none() && faults.contains("forecast.min_history is 5, it must be from 1 to 4"), "{faults}");
        let (task, faults) = read_one(SERIES, &MODEL.replace("'next'", "'logits'"));
        assert!(task.is_none() && faults.contains("this task needs \"next\""), "{faults}");
        let misspelt = "name = 'series'\nkind = 'regression'\ntiers = ['fast']\n[[fields]]\nname = 'x'\ntype = 'number'\nmni = 1\n";
        let (task, faults) = read_one(misspelt, &MODEL.replace("'next'", "'value'"));
        assert!(task.is_none() && faults.contains("fields[0]: `mni` is not known"), "{faults}");
        let (task, faults) = read_one("name = 'series'\nkind = 'generation'\n", MODEL);
        assert!(task.is_none() && faults.contains("needs a table [generation]"), "{faults}");
    }
}
