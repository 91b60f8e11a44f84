//! The model repository on disk: `task.toml`, `model.toml`, and which versions there are.
//!
//! Owns the files' format (`models/README.md`) and its faults; it opens no ONNX file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use shared::ids::is_name;
use shared::schema::{TaskKind, TaskSchema};

/// All tasks of a repository, by name.
#[derive(Debug)]
pub struct Repository {
    /// The tasks in alphabetical order.
    pub tasks: Vec<TaskFolder>,
}

/// One task with its models.
#[derive(Debug)]
pub struct TaskFolder {
    /// What the task accepts.
    pub schema: TaskSchema,
    /// Its models in alphabetical order.
    pub models: Vec<ModelFolder>,
}

/// One model: `model.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelFolder {
    /// The model's name, the same as its folder's.
    pub name: String,
    /// What it is, for people.
    #[serde(default)]
    pub description: String,
    /// The tier it serves.
    pub tier: Option<String>,
    /// The version that answers unless the caller names one.
    pub default_version: u32,
    /// What its output tensor means.
    pub output: Output,
    #[serde(rename = "versions")]
    raw_versions: BTreeMap<String, VersionFacts>,
    /// What is known of each version; its file is `<version>/model.onnx`.
    #[serde(skip)]
    pub versions: BTreeMap<u32, VersionFacts>,
    #[serde(skip)]
    dir: PathBuf,
}

/// What a model's output tensor means.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Output {
    /// `[rows, classes]`: probabilities in the order of the task's classes.
    Probabilities {
        /// The tensor's name.
        name: String,
    },
    /// `[rows, 1]`: the higher, the more anomalous.
    Score {
        /// The tensor's name.
        name: String,
        /// Anomalous above this.
        threshold: f32,
        /// P(anomaly) = 1 / (1 + exp(-slope (score - threshold))), from validation data (Platt 1999).
        slope: f32,
    },
}

impl Output {
    /// The tensor's name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Probabilities { name } | Self::Score { name, .. } => name,
        }
    }
}

/// Provenance of one version; what is only for people is not read here.
#[derive(Debug, Clone, Deserialize)]
pub struct VersionFacts {
    /// Accuracy on held-out data, 0..=1.
    pub accuracy: Option<f32>,
    /// SHA-256 of the file, in hex.
    pub sha256: String,
}

impl ModelFolder {
    /// The file of a version.
    #[must_use]
    pub fn file(&self, version: u32) -> PathBuf {
        self.dir.join(version.to_string()).join("model.onnx")
    }
}

const TASK_KEYS: [&str; 9] = ["name", "title", "description", "kind", "tiers", "classes", "normal", "fields", "replay"];

impl Repository {
    /// Reads all tasks and models below `dir`; a folder without `task.toml` is no task.
    ///
    /// # Errors
    /// Every fault, each with its file and key.
    pub fn read(dir: &Path) -> Result<Self, Vec<String>> {
        let folders = folders(dir).map_err(|error| vec![format!("{error}; set MODEL_DIR to the model repository")])?;
        let mut faults = Vec::new();
        let mut tasks = Vec::new();
        for folder in folders.iter().filter(|folder| folder.join("task.toml").is_file()) {
            match read_task(folder) {
                Ok(task) => tasks.push(task),
                Err(found) => faults.extend(found),
            }
        }
        if tasks.is_empty() && faults.is_empty() {
            faults.push("no task found: a task is a folder with a task.toml".to_owned());
        }
        if faults.is_empty() { Ok(Self { tasks }) } else { Err(faults) }
    }
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

fn read_task(dir: &Path) -> Result<TaskFolder, Vec<String>> {
    let path = dir.join("task.toml");
    let at = |fault: &str| format!("{}: {fault}", path.display());
    let table: toml::Table = read_toml(&path).map_err(|fault| vec![fault])?;
    let mut faults: Vec<String> = table
        .keys()
        .filter(|key| !TASK_KEYS.contains(&key.as_str()))
        .map(|key| at(&format!("`{key}` is not known; known are {}", TASK_KEYS.join(", "))))
        .collect();
    let schema: TaskSchema = match table.try_into() {
        Ok(schema) => schema,
        Err(error) => {
            faults.push(at(&error.to_string()));
            return Err(faults);
        }
    };
    faults.extend(schema.faults().iter().map(|fault| at(fault)));
    if schema.name != folder_name(dir) {
        faults.push(at(&format!("name {:?} must be the folder's name {:?}", schema.name, folder_name(dir))));
    }
    let mut models: Vec<ModelFolder> = Vec::new();
    let model_dirs = folders(dir).map_err(|error| vec![at(&error.to_string())])?;
    for model_dir in model_dirs.iter().filter(|folder| folder.join("model.toml").is_file()) {
        match read_model(model_dir, &schema) {
            Ok(model) => models.push(model),
            Err(found) => faults.extend(found),
        }
    }
    for tier in &schema.tiers {
        let serving = models.iter().filter(|model| model.tier.as_ref() == Some(tier)).count();
        if serving != 1 && faults.is_empty() {
            faults.push(at(&format!("tier {tier:?} is served by {serving} models; exactly one must name it")));
        }
    }
    if faults.is_empty() { Ok(TaskFolder { schema, models }) } else { Err(faults) }
}

fn read_model(dir: &Path, schema: &TaskSchema) -> Result<ModelFolder, Vec<String>> {
    let path = dir.join("model.toml");
    let at = |fault: String| format!("{}: {fault}", path.display());
    let mut model: ModelFolder = read_toml(&path).map_err(|fault| vec![fault])?;
    let mut faults = Vec::new();
    dir.clone_into(&mut model.dir);
    if model.name != folder_name(dir) || !is_name(&model.name) {
        faults.push(at(format!("name {:?} must be the folder's name, of letters, digits, `_`, `-`", model.name)));
    }
    if let Some(tier) = &model.tier
        && schema.tier_index(tier).is_none()
    {
        faults.push(at(format!("tier {tier:?} is not one of the task's tiers: {}", schema.tiers.join(", "))));
    }
    if schema.tier_index(&model.name).is_some() && model.tier.as_deref() != Some(&model.name) {
        faults.push(at(format!("the model {:?} has the name of a tier it does not serve", model.name)));
    }
    match (&model.output, schema.kind) {
        (Output::Probabilities { .. }, TaskKind::Classification) => {}
        (Output::Score { threshold, slope, .. }, TaskKind::Anomaly) => {
            if !threshold.is_finite() || !slope.is_finite() || *slope <= 0.0 {
                faults.push(at("output: threshold must be finite and slope above 0".to_owned()));
            }
        }
        (Output::Probabilities { .. }, TaskKind::Anomaly) => {
            faults.push(at("output: an anomaly task needs kind = \"score\"".to_owned()));
        }
        (Output::Score { .. }, TaskKind::Classification) => {
            faults.push(at("output: a classification needs kind = \"probabilities\"".to_owned()));
        }
        (Output::Probabilities { .. } | Output::Score { .. }, TaskKind::Regression) => {
            faults.push(at("output: neither probabilities nor a score answer a regression".to_owned()));
        }
    }
    for (name, facts) in std::mem::take(&mut model.raw_versions) {
        if facts.accuracy.is_some_and(|accuracy| !(0.0..=1.0).contains(&accuracy)) {
            faults.push(at(format!("versions.{name}: accuracy must be from 0 to 1")));
        }
        match name.parse::<u32>() {
            Ok(version) if version >= 1 => drop(model.versions.insert(version, facts)),
            Ok(_) | Err(_) => faults.push(at(format!("versions.{name}: a version is a whole number from 1"))),
        }
    }
    if !model.versions.contains_key(&model.default_version) {
        faults.push(at(format!("default_version {} is not one of the versions", model.default_version)));
    }
    if faults.is_empty() { Ok(model) } else { Err(faults) }
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

    fn repository(task: &str, model: &str) -> Result<Repository, Vec<String>> {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("task/m")).unwrap();
        fs::write(dir.path().join("task/task.toml"), task).unwrap();
        fs::write(dir.path().join("task/m/model.toml"), model).unwrap();
        Repository::read(dir.path())
    }

    #[test]
    fn a_sound_repository_is_read() {
        let repository = repository(TASK, MODEL).unwrap();
        let model = &repository.tasks[0].models[0];
        assert!(model.file(1).ends_with("task/m/1/model.onnx"));
        assert_eq!(model.versions[&1].accuracy, Some(0.9));
    }

    #[test]
    fn every_fault_is_named_with_its_file() {
        let task = TASK.replace("\"task\"", "\"other\"").replace("classes", "clases");
        let faults =
            repository(&task, &MODEL.replace("= 1", "= 2").replace("\"fast\"", "\"slow\"")).unwrap_err().join("\n");
        for word in ["clases", "at least two", "folder's name", "default_version 2", "\"slow\"", "model.toml"] {
            assert!(faults.contains(word), "{word} missing in:\n{faults}");
        }
    }

    #[test]
    fn a_tier_without_a_model_is_a_fault() {
        let faults = repository(TASK, &MODEL.replace("tier = \"fast\"", "")).unwrap_err().join("\n");
        assert!(faults.contains("served by 0 models"), "{faults}");
    }

    #[test]
    fn a_missing_folder_says_what_to_set() {
        let faults = Repository::read(Path::new("/nowhere")).unwrap_err().join("\n");
        assert!(faults.contains("MODEL_DIR"), "{faults}");
    }
}
