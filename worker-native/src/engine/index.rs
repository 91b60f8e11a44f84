//! Which versions there are, at one moment: replaced whole when the repository changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use shared::catalog::{Catalog, CatalogModel, CatalogTask};

use super::loader::sha256_hex;
use super::repository::{Kind, ModelFolder, TaskFolder};
use super::version::ModelVersion;
use crate::rollout::{ModelVersions, Rollout, RolloutConfig};

/// One model with its versions.
#[derive(Debug, Clone)]
pub struct Model {
    /// What `model.toml` says.
    pub folder: Arc<ModelFolder>,
    /// The version that answers unless the caller names one.
    pub default_version: u32,
    /// Its versions, ascending.
    pub versions: BTreeMap<u32, Arc<ModelVersion>>,
    /// How they share the traffic that names none, and how they do.
    pub rollout: Arc<Rollout>,
    // What the rollout was made of: one that did not change keeps its evidence.
    pub(super) plan: (ModelVersions, RolloutConfig),
}

/// One task with its models.
#[derive(Debug, Clone)]
pub struct Task {
    /// What `task.toml` says.
    pub folder: Arc<TaskFolder>,
    /// Its models by name.
    pub models: BTreeMap<String, Model>,
}

/// All tasks.
#[derive(Debug)]
pub struct Index {
    /// Tasks by name.
    pub tasks: BTreeMap<String, Task>,
    /// What the edge is told: the tasks that take readings.
    pub catalog: Arc<Catalog>,
    /// What is wrong with the repository; what it concerns is not served, or in its former state.
    pub faults: Vec<String>,
}

/// What a public name can mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotFound {
    /// No model of that name.
    Unknown,
    /// Several tasks have one; the names that tell them apart.
    Ambiguous(Vec<String>),
    /// The model has no such version; those it has.
    Version(Vec<u32>),
}

impl Index {
    pub(super) fn empty() -> Self {
        let catalog = Catalog { etag: String::new(), default_task: None, tasks: vec![] };
        Self { tasks: BTreeMap::new(), catalog: Arc::new(catalog), faults: vec![] }
    }

    /// The model of a task.
    #[must_use]
    pub fn model(&self, task: &str, model: &str) -> Option<&Model> {
        self.tasks.get(task)?.models.get(model)
    }

    /// One version of a model.
    #[must_use]
    pub fn version(&self, task: &str, model: &str, version: u32) -> Option<&Arc<ModelVersion>> {
        self.model(task, model)?.versions.get(&version)
    }

    /// All versions.
    pub fn versions(&self) -> impl Iterator<Item = &Arc<ModelVersion>> {
        self.tasks.values().flat_map(|task| task.models.values()).flat_map(|model| model.versions.values())
    }

    /// The model of a public name: `<task>.<model>`, or `<model>` where only one task has it.
    ///
    /// # Errors
    /// [`NotFound`].
    pub fn find(&self, name: &str) -> Result<(&Task, &Model), NotFound> {
        if let Some((task, model)) = name.split_once('.') {
            let task = self.tasks.get(task).ok_or(NotFound::Unknown)?;
            return task.models.get(model).map(|model| (task, model)).ok_or(NotFound::Unknown);
        }
        let having = self.tasks.values().filter_map(|task| Some((task, task.models.get(name)?)));
        match having.collect::<Vec<_>>().as_slice() {
            [] => Err(NotFound::Unknown),
            [only] => Ok(*only),
            several => Err(NotFound::Ambiguous(
                several.iter().map(|(task, model)| format!("{}.{}", task.folder.name, model.folder.name)).collect(),
            )),
        }
    }

    /// The version of a public name; the default one where none is named.
    ///
    /// # Errors
    /// [`NotFound`].
    pub fn find_version(&self, name: &str, version: Option<u32>) -> Result<&Arc<ModelVersion>, NotFound> {
        let (_, model) = self.find(name)?;
        let found = model.versions.get(&version.unwrap_or(model.default_version));
        found.ok_or_else(|| NotFound::Version(model.versions.keys().copied().collect()))
    }
}

/// Makes the picture for the edge.
pub(super) fn catalog(tasks: &BTreeMap<String, Task>, default_task: Option<&str>) -> Catalog {
    let readings = tasks.values().filter_map(|task| match &task.folder.kind {
        Kind::Reading(schema) => {
            Some(CatalogTask { schema: schema.clone(), models: task.models.values().map(catalog_model).collect() })
        }
        Kind::Forecast(_) | Kind::Generation(_) | Kind::Tensor => None,
    });
    let tasks: Vec<CatalogTask> = readings.collect();
    let default_task = default_task.filter(|name| tasks.iter().any(|task| task.schema.name == *name));
    let mut catalog = Catalog { etag: String::new(), default_task: default_task.map(str::to_owned), tasks };
    // Strings and numbers in memory: writing them cannot fail, and an empty text would still be a tag.
    let text = serde_json::to_string(&catalog).unwrap_or_default();
    catalog.etag = sha256_hex(text.as_bytes()).chars().take(16).collect();
    catalog
}

fn catalog_model(model: &Model) -> CatalogModel {
    CatalogModel {
        name: model.folder.name.clone(),
        description: model.folder.description.clone(),
        tier: model.folder.tier.clone(),
        model_type: model.folder.model_type,
        default_version: model.default_version,
        versions: model.versions.keys().copied().collect(),
    }
}
