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
    /// The tier it serves; without one it is reachable by name or type only.
    pub tier: Option<String>,
    /// What it was made with; none where that is not known.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub model_type: Option<ModelType>,
    /// The version that answers unless the caller names one.
    pub default_version: u32,
    /// All versions, ascending.
    pub versions: Vec<u32>,
}

/// What a model was made with, as callers name it in `model_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelType {
    /// Trained with scikit-learn, and exported.
    Sklearn,
    /// Any other ONNX model.
    Onnx,
}

impl ModelType {
    /// All types, for messages and tests.
    pub const ALL: [Self; 2] = [Self::Sklearn, Self::Onnx];

    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sklearn => "sklearn",
            Self::Onnx => "onnx",
        }
    }

    /// The type of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|model_type| model_type.name() == name)
    }
}

impl Catalog {
    /// Reads the JSON of `GET /v1/catalog`, as deriving does, but with the small reader of readings: the derived code
    /// would be a tenth of the edge's wasm.
    ///
    /// Unlike deriving it leaves out tasks of a kind it does not know, or with a field of such a type: an older edge
    /// goes on with the tasks it knows. A model's type that it does not know counts as not told.
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
        // As `GET /models` names it: with its task.
        let own = name_or_tier.strip_prefix(&self.schema.name).and_then(|rest| rest.strip_prefix('.'));
        let name_or_tier = own.unwrap_or(name_or_tier);
        self.models.iter().find(|model| model.name == name_or_tier).or_else(|| self.model_of_tier(name_or_tier))
    }

    /// The model that serves a tier.
    #[must_use]
    pub fn model_of_tier(&self, tier: &str) -> Option<&CatalogModel> {
        self.models.iter().find(|model| model.tier.as_deref() == Some(tier))
    }

    /// Names of all models with their tiers and types, for messages.
    #[must_use]
    pub fn model_names(&self) -> String {
        let names: Vec<String> = self.models.iter().map(CatalogModel::label).collect();
        names.join(", ")
    }
}

impl CatalogModel {
    /// `name (tier, type)`, with what is known of the two.
    fn label(&self) -> String {
        let known = [self.tier.as_deref(), self.model_type.map(ModelType::name)];
        let known: Vec<&str> = known.into_iter().flatten().collect();
        if known.is_empty() { self.name.clone() } else { format!("{} ({})", self.name, known.join(", ")) }
    }
}
