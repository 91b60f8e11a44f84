//! The model repository on disk: `task.toml`, `model.toml`, and which versions there are.
//!
//! Owns reading the files and their faults; the words of the format are `docs/models.md`'s. It opens
//! no ONNX file. What is faulty is left out and told: the rest can still be served.

mod task;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use shared::catalog::ModelType;
use shared::ids::is_name;
use shared::schema::{TaskKind, TaskSchema};

use super::runtime::Provider;
use crate::rollout::RolloutConfig;
use crate::rollout::plan::{Arm, Canary, ShadowPlan};
pub use task::{Forecast, Generation, Kind, TaskFolder};

/// All tasks of a repository, and what is wrong with it.
#[derive(Debug, Default)]
pub struct Repository {
    /// The tasks in alphabetical order.
    pub tasks: Vec<TaskFolder>,
    /// Every fault, each with its file and key; what it concerns is left out.
    pub faults: Vec<String>,
    /// Could its folder be read at all?
    pub readable: bool,
}

/// One model: `model.toml`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelFolder {
    /// The model's name, the same as its folder's.
    pub name: String,
    /// What it is, for people.
    #[serde(default)]
    pub description: String,
    /// The tier it serves.
    pub tier: Option<String>,
    /// What it was made with.
    #[serde(rename = "type")]
    pub model_type: Option<ModelType>,
    /// The version that answers unless the caller names one.
    pub default_version: u32,
    /// What its output tensor means; none for a `tensor` task.
    pub output: Option<Meaning>,
    /// What computes it.
    #[serde(default)]
    pub backend: BackendChoice,
    /// The execution provider of ONNX Runtime.
    #[serde(default)]
    pub(super) provider: Provider,
    /// Sessions of each version; `MODEL_SESSIONS` where not said.
    pub sessions: Option<usize>,
    /// Threads inside one run; 1 where not said.
    pub intra_threads: Option<usize>,
    /// Most rows in one run; measured where not said.
    pub max_batch: Option<usize>,
    /// A version on trial.
    pub canary: Option<Canary>,
    /// Versions compared side by side.
    #[serde(default)]
    pub arms: Vec<Arm>,
    /// A version that runs beside and never answers.
    pub shadow: Option<ShadowPlan>,
    #[serde(rename = "versions")]
    raw_versions: BTreeMap<String, VersionFacts>,
    /// What is known of each version; its file is `<version>/model.onnx`.
    #[serde(skip)]
    pub versions: BTreeMap<u32, VersionFacts>,
    #[serde(skip)]
    dir: PathBuf,
}

/// What computes a model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendChoice {
    /// The faster of those that can, as measured at warm-up.
    #[default]
    Auto,
    /// ONNX Runtime.
    Ort,
    /// The native kernel for tree ensembles; an error where it cannot.
    Native,
}

/// What a model's output tensor means.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Meaning {
    /// `[rows, classes]`: probabilities in the order of the task's classes.
    Probabilities {
        /// The tensor's name.
        name: String,
        /// A tensor `[rows, width]`: how much each number of the reading weighed.
        contributions: Option<String>,
    },
    /// `[rows, 1]`: the higher, the more anomalous.
    Score {
        /// The tensor's name.
        name: String,
        /// Anomalous above this.
        threshold: f32,
        /// P(anomaly) = 1 / (1 + exp(-slope (score - threshold))), from validation data (Platt 1999).
        slope: f32,
        /// A tensor `[rows, width]`: how much each number of the reading weighed.
        contributions: Option<String>,
    },
    /// `[rows, 1]`: the number itself.
    Value {
        /// The tensor's name.
        name: String,
    },
    /// `[rows, 1]`: the next value of a series.
    Next {
        /// The tensor's name.
        name: String,
    },
    /// `[rows, alphabet]`: log-probabilities of the next character, up to a constant.
    Logits {
        /// The tensor's name.
        name: String,
    },
}

// `loader` is the last to use the former name.
pub(super) use Meaning as Output;

impl Meaning {
    /// The tensor's name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Probabilities { name, .. }
            | Self::Score { name, .. }
            | Self::Value { name }
            | Self::Next { name }
            | Self::Logits { name } => name,
        }
    }

    /// The name of the tensor that says how much each number of the reading weighed.
    #[must_use]
    pub fn contributions(&self) -> Option<&str> {
        match self {
            Self::Probabilities { contributions, .. } | Self::Score { contributions, .. } => contributions.as_deref(),
            Self::Value { .. } | Self::Next { .. } | Self::Logits { .. } => None,
        }
    }

    const fn kind(&self) -> &'static str {
        match self {
            Self::Probabilities { .. } => "probabilities",
            Self::Score { .. } => "score",
            Self::Value { .. } => "value",
            Self::Next { .. } => "next",
            Self::Logits { .. } => "logits",
        }
    }
}

/// Provenance of one version; what is only for people is not read here.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct VersionFacts {
    /// Accuracy on held-out data, 0..=1.
    pub accuracy: Option<f32>,
    /// SHA-256 of the file, in hex.
    pub sha256: String,
    #[serde(flatten)]
    rest: toml::Table,
}

/// What a version's record may say besides, for people.
const FOR_PEOPLE: [&str; 9] =
    ["samples", "evaluation", "trained_with", "data", "seed", "command", "regimes", "loss", "notes"];

impl ModelFolder {
    /// The file of a version.
    #[must_use]
    pub fn file(&self, version: u32) -> PathBuf {
        self.dir.join(version.to_string()).join("model.onnx")
    }

    /// How its versions share the traffic that names none.
    #[must_use]
    pub fn rollout(&self) -> RolloutConfig {
        RolloutConfig { canary: self.canary.clone(), arms: self.arms.clone(), shadow: self.shadow.clone() }
    }

    /// The profile of a version's training data; it need not be there.
    #[must_use]
    pub fn profile(&self, version: u32) -> PathBuf {
        self.dir.join(version.to_string()).join("profile.json")
    }
}

impl Repository {
    /// Reads all tasks and models below `dir`; a folder without `task.toml` is no task.
    #[must_use]
    pub fn read(dir: &Path) -> Self {
        let mut repository = Self::default();
        let folders = match folders(dir) {
            Ok(folders) => folders,
            Err(error) => {
                repository.faults.push(format!("{}: {error}; set MODEL_DIR to the model repository", dir.display()));
                return repository;
            }
        };
        repository.readable = true;
        for folder in &folders {
            if !folder.join("task.toml").is_file() {
                repository.faults.extend(forgotten(folder));
                continue;
            }
            if let Some(task) = task::read(folder, &mut repository.faults) {
                repository.tasks.push(task);
            }
        }
        if repository.tasks.is_empty() && repository.faults.is_empty() {
            repository.faults.push("no task found: a task is a folder with a task.toml".to_owned());
        }
        repository
    }
}

/// A folder that looks like a task and has no `task.toml`.
fn forgotten(folder: &Path) -> Option<String> {
    let models = folders(folder).ok()?;
    models
        .iter()
        .any(|model| model.join("model.toml").is_file())
        .then(|| format!("{}: it has models and no task.toml", folder.display()))
}

fn folders(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            folders.push(path);
        }
    }
    folders.sort();
    Ok(folders)
}

fn folder_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

fn read_toml<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
}

fn read_model(dir: &Path, kind: &Kind, tiers: &[String]) -> Result<ModelFolder, Vec<String>> {
    let path = dir.join("model.toml");
    let at = |fault: String| format!("{}: {fault}", path.display());
    let mut model: ModelFolder = read_toml(&path).map_err(|fault| vec![fault])?;
    let mut faults = Vec::new();
    dir.clone_into(&mut model.dir);
    if model.name != folder_name(dir) || !is_name(&model.name) {
        faults.push(at(format!("name {:?} must be the folder's name, of letters, digits, `_`, `-`", model.name)));
    }
    if let Some(tier) = &model.tier
        && !tiers.contains(tier)
    {
        faults.push(at(format!("tier {tier:?} is not one of the task's tiers: {}", tiers.join(", "))));
    }
    if tiers.contains(&model.name) && model.tier.as_deref() != Some(&model.name) {
        faults.push(at(format!("the model {:?} has the name of a tier it does not serve", model.name)));
    }
    faults.extend(output_fault(model.output.as_ref(), kind).map(at));
    for (key, value, most) in [
        ("sessions", model.sessions, 256),
        ("intra_threads", model.intra_threads, 256),
        ("max_batch", model.max_batch, 4_096),
    ] {
        if value.is_some_and(|value| !(1..=most).contains(&value)) {
            faults.push(at(format!("{key} must be from 1 to {most}")));
        }
    }
    for folder in folders(dir).unwrap_or_default() {
        let name = folder_name(&folder);
        if folder.join("model.onnx").is_file() && !model.raw_versions.contains_key(name) {
            faults.push(at(format!("folder {name}/ has a model.onnx and no [versions.{name}]")));
        }
    }
    for (name, facts) in std::mem::take(&mut model.raw_versions) {
        for key in facts.rest.keys().filter(|key| !FOR_PEOPLE.contains(&key.as_str())) {
            let known = FOR_PEOPLE.join(", ");
            faults.push(at(format!("versions.{name}: `{key}` is not known; known are accuracy, sha256, {known}")));
        }
        if facts.accuracy.is_some_and(|accuracy| !(0.0..=1.0).contains(&accuracy)) {
            faults.push(at(format!("versions.{name}: accuracy must be from 0 to 1")));
        }
        match name.parse::<u32>() {
            Ok(version) if version >= 1 => {
                drop(model.versions.insert(version, VersionFacts { rest: toml::Table::new(), ..facts }))
            }
            Ok(_) | Err(_) => faults.push(at(format!("versions.{name}: a version is a whole number from 1"))),
        }
    }
    if !model.versions.contains_key(&model.default_version) {
        faults.push(at(format!("default_version {} is not one of the versions", model.default_version)));
    }
    let versions: Vec<u32> = model.versions.keys().copied().collect();
    faults.extend(model.rollout().faults(&versions, model.default_version).into_iter().map(at));
    if faults.is_empty() { Ok(model) } else { Err(faults) }
}

/// Does the output's meaning go with the kind of the task?
fn output_fault(output: Option<&Meaning>, kind: &Kind) -> Option<String> {
    let wanted = match kind {
        Kind::Tensor => {
            return output
                .map(|_| "output: a tensor task's models have none, all their outputs are answered".to_owned());
        }
        Kind::Forecast(_) => "next",
        Kind::Generation(_) => "logits",
        Kind::Reading(TaskSchema { kind, .. }) => match kind {
            TaskKind::Anomaly => "score",
            TaskKind::Classification => "probabilities",
            TaskKind::Regression => "value",
        },
    };
    let Some(output) = output else { return Some(format!("output: missing; this task needs kind = {wanted:?}")) };
    if output.kind() != wanted {
        return Some(format!("output: kind {:?}, this task needs {wanted:?}", output.kind()));
    }
    match output {
        Meaning::Score { threshold, slope, .. } if !threshold.is_finite() || !slope.is_finite() || *slope <= 0.0 => {
            Some("output: threshold must be finite and slope above 0".to_owned())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const TASK: &str = r#"
        name = "task"
        kind = "classification"
        tiers = ["fast"]
        classes = ["a", "b"]
        [[fields]]
        name = "x"
        type = "number"
    "#;
    const MODEL: &str = r#"
        name = "m"
        tier = "fast"
        default_version = 1
        [output]
        kind = "probabilities"
        name = "p"
        [versions.1]
        accuracy = 0.9
        sha256 = "00"
    "#;

    fn repository(task: &str, model: &str) -> Repository {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("task/m")).unwrap();
        fs::write(dir.path().join("task/task.toml"), task).unwrap();
        fs::write(dir.path().join("task/m/model.toml"), model).unwrap();
        Repository::read(dir.path())
    }

    #[test]
    fn a_sound_repository_is_read() {
        let repository = repository(TASK, MODEL);
        assert_eq!(repository.faults, Vec::<String>::new());
        let model = &repository.tasks[0].models[0];
        assert!(model.file(1).ends_with("task/m/1/model.onnx"));
        assert_eq!(model.versions[&1].accuracy, Some(0.9));
    }

    #[test]
    fn every_fault_is_named_with_its_file() {
        let task = TASK.replace("\"task\"", "\"other\"").replace("classes", "clases");
        let faults = repository(&task, &MODEL.replace("= 1", "= 2").replace("\"fast\"", "\"slow\"")).faults.join("\n");
        for word in ["clases", "at least two", "folder's name", "default_version 2", "\"slow\"", "model.toml"] {
            assert!(faults.contains(word), "{word} missing in:\n{faults}");
        }
    }

    #[test]
    fn a_tier_without_a_model_is_a_fault() {
        let faults = repository(TASK, &MODEL.replace("tier = \"fast\"", "")).faults.join("\n");
        assert!(faults.contains("served by 0 models"), "{faults}");
    }

    #[test]
    fn a_missing_folder_says_what_to_set() {
        let faults = Repository::read(Path::new("/nowhere")).faults.join("\n");
        assert!(faults.contains("MODEL_DIR"), "{faults}");
    }
}
