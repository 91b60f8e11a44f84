//! The slow picture: tasks, their schemas, models and versions.
//!
//! Built by the native side from the model repository, sent to the edge as JSON with an entity
//! tag. The edge validates with it; without it the edge forwards and the native side validates.

use serde::{Deserialize, Serialize};

use crate::schema::TaskSchema;

mod wire;

/// All tasks a deployment answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Catalog {
    /// Entity tag: changes with the content.
    pub etag: String,
    /// The task of a body that names none and fits several.
    pub default_task: Option<String>,
    /// Every task, by name in alphabetical order.
    pub tasks: Vec<CatalogTask>,
}

/// One task with the models that answer it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CatalogTask {
    /// Name, fields, tiers and classes.
    pub schema: TaskSchema,
    /// The task's models, by name in alphabetical order.
    pub models: Vec<CatalogModel>,
}

/// One model of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CatalogModel {
    /// The model's name, unique in its task.
    pub name: String,
    /// What it is, for people.
    #[serde(default)]
    pub description: String,
    /// The tier it serves; without one it is reachable by name only.
    pub tier: Option<String>,
    /// The version that answers unless the caller names one.
    pub default_version: u32,
    /// All versions, ascending.
    pub versions: Vec<u32>,
}

impl Catalog {
    /// Reads the JSON of `GET /v1/catalog`, as deriving does, but with the small reader of readings: the derived code
    /// would be a tenth of the edge's wasm.
    ///
    /// # Errors
    /// The name of the first field that is missing or of another type.
    pub fn from_json(text: &str) -> Result<Self, &'static str> {
        wire::catalog(text)
    }

    /// The task of that name.
    #[must_use]
    pub fn task(&self, name: &str) -> Option<&CatalogTask> {
        self.tasks.iter().find(|task| task.schema.name == name)
    }

    /// Names of all tasks, for messages.
    #[must_use]
    pub fn task_names(&self) -> String {
        let names: Vec<&str> = self.tasks.iter().map(|task| task.schema.name.as_str()).collect();
        names.join(", ")
    }
}

impl CatalogTask {
    /// The model a caller means: a model's name, or a tier's name for the model serving it.
    #[must_use]
    pub fn model(&self, name_or_tier: &str) -> Option<&CatalogModel> {
        self.models.iter().find(|model| model.name == name_or_tier).or_else(|| self.model_of_tier(name_or_tier))
    }

    /// The model that serves a tier.
    #[must_use]
    pub fn model_of_tier(&self, tier: &str) -> Option<&CatalogModel> {
        self.models.iter().find(|model| model.tier.as_deref() == Some(tier))
    }

    /// Names of all models and tiers, for messages.
    #[must_use]
    pub fn model_names(&self) -> String {
        let names: Vec<String> = self
            .models
            .iter()
            .map(|model| match &model.tier {
                Some(tier) => format!("{} ({tier})", model.name),
                None => model.name.clone(),
            })
            .collect();
        names.join(", ")
    }
}
