//! What a task accepts: its fields, their ranges, and the kind of answer.
//!
//! A schema is configuration (`models/<task>/task.toml`) and travels to the edge in the catalog.
//! Reading files is the native side's work; checking values against the schema is
//! [`crate::reading`]'s.

use serde::{Deserialize, Serialize};

use crate::ids::is_name;

/// One question with one input schema and one kind of answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskSchema {
    /// The task's name, as callers send it in `task`.
    pub name: String,
    /// A short title for people.
    #[serde(default)]
    pub title: String,
    /// One or two sentences for people.
    #[serde(default)]
    pub description: String,
    /// What kind of answer the task's models give.
    pub kind: TaskKind,
    /// Names of the tiers in order of cost, cheapest first.
    pub tiers: Vec<String>,
    /// Class names in the order of the models' probability columns; empty for anomaly tasks.
    #[serde(default)]
    pub classes: Vec<String>,
    /// Classes that are no anomaly.
    #[serde(default)]
    pub normal: Vec<String>,
    /// What a regression's number is; none for other kinds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// The fields, in the order of the plain `features` vector. A text task has exactly one, its text.
    pub fields: Vec<Field>,
}

/// The kind of answer a task's models give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskKind {
    /// A score with a threshold: `normal` or `anomaly`.
    Anomaly,
    /// One of the task's classes, with probabilities.
    Classification,
    /// A number.
    Regression,
}

/// What the models of an anomaly task answer: all is well, or not.
pub const ANOMALY_LABELS: [&str; 2] = ["normal", "anomaly"];

impl TaskKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Anomaly, Self::Classification, Self::Regression];

    /// The name in `task.toml` and in the catalog.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Anomaly => "anomaly",
            Self::Classification => "classification",
            Self::Regression => "regression",
        }
    }

    /// The kind with a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// The number that a regression's models predict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// What the number is, e.g. `remaining_life`.
    pub name: String,
    /// Physical unit, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unit: String,
    /// How far a prediction may be off, in the target's unit, and still count as right where accuracy is measured;
    /// finite and above 0. Without it a regression has no measured accuracy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<f64>,
}

/// One field of a reading.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Field {
    /// The field's name in the named form.
    pub name: String,
    /// Physical unit, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unit: String,
    /// What it measures, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Number, category or text.
    #[serde(rename = "type")]
    pub kind: FieldKind,
    /// How many numbers the field holds; more than one means an array.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub length: usize,
    /// Smallest accepted number, inclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// Largest accepted number, inclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// A category's values; the tensor holds the index.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
    /// A category's value where the named form leaves the field out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// Longest text accepted, in bytes of UTF-8; see [`Field::max_text_bytes`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_length: Option<usize>,
}

/// The type of a field's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FieldKind {
    /// A number within `min..=max`.
    Number,
    /// One of `values`.
    Category,
    /// A text of 1 to `max_length` bytes of UTF-8 without NUL: ONNX Runtime takes strings as C does, up to the first
    /// NUL.
    Text,
}

const fn one() -> usize {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
const fn is_one(length: &usize) -> bool {
    *length == 1
}

/// Most numbers one reading may have, over all tasks: bounds memory for each reading in flight.
pub const MAX_WIDTH: usize = 16_384;

/// Longest text, in bytes, where the schema does not say.
pub const DEFAULT_TEXT_BYTES: usize = 10_000;

/// Longest text a schema may allow, in bytes: what a body holds where nobody sets `MAX_BODY_BYTES`.
pub const MAX_TEXT_BYTES: usize = 262_144;

impl TaskSchema {
    /// Length of the feature vector: numbers a reading becomes. 0 for a text task, whose readings have no numbers.
    #[must_use]
    pub fn width(&self) -> usize {
        self.fields.iter().map(Field::width).sum()
    }

    /// The one field of a text task; none where readings are numbers.
    #[must_use]
    pub fn text_field(&self) -> Option<&Field> {
        self.fields.iter().find(|field| field.kind == FieldKind::Text)
    }

    /// Position of a tier's name, cheapest first.
    #[must_use]
    pub fn tier_index(&self, tier: &str) -> Option<usize> {
        self.tiers.iter().position(|name| name == tier)
    }

    /// The fields' names with their lengths, for messages.
    #[must_use]
    pub fn field_names(&self) -> String {
        let shown = |field: &Field| match field.length {
            1 => field.name.clone(),
            length => format!("{}[{length}]", field.name),
        };
        self.fields.iter().map(shown).collect::<Vec<_>>().join(", ")
    }

    /// Every contradiction in the schema, in words; empty when it can be used.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        // One letter would be taken for a field of the snapshot's text.
        if !is_name(&self.name) || self.name.len() < 2 {
            faults.push(format!("name {:?}: use 2 to 64 letters, digits, `_`, `-`", self.name));
        }
        if self.fields.is_empty() {
            faults.push("fields: at least one is needed".to_owned());
        }
        if self.width() > MAX_WIDTH {
            faults.push(format!("fields: {} numbers a reading, at most {MAX_WIDTH}", self.width()));
        }
        if self.tiers.is_empty() {
            faults.push("tiers: at least one is needed, cheapest first".to_owned());
        }
        for (i, tier) in self.tiers.iter().enumerate() {
            if !is_name(tier) || tier == crate::headers::ROUTE_AUTO {
                faults.push(format!("tiers[{i}] {tier:?}: use letters, digits, `_`, `-`, and not `auto`"));
            }
            if self.tier_index(tier) != Some(i) {
                faults.push(format!("tiers[{i}] {tier:?}: named twice"));
            }
        }
        faults.extend(self.kind_faults());
        for class in &self.normal {
            if !self.classes.contains(class) {
                faults.push(format!("normal: {class:?} is not one of the classes"));
            }
        }
        for (i, field) in self.fields.iter().enumerate() {
            faults.extend(field.faults().into_iter().map(|fault| format!("fields[{i}] {:?}: {fault}", field.name)));
            if self.fields.iter().position(|other| other.name == field.name) != Some(i) {
                faults.push(format!("fields[{i}] {:?}: named twice", field.name));
            }
        }
        faults
    }

    /// The words that predictions come from, in the order of the probabilities; none for a regression.
    #[must_use]
    pub fn labels(&self) -> Vec<&str> {
        match self.kind {
            TaskKind::Anomaly => ANOMALY_LABELS.to_vec(),
            TaskKind::Classification => self.classes.iter().map(String::as_str).collect(),
            TaskKind::Regression => vec![],
        }
    }

    /// What does not go together with the kind of answer.
    fn kind_faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        match self.kind {
            TaskKind::Classification if self.classes.len() < 2 => {
                faults.push("classes: a classification needs at least two".to_owned());
            }
            TaskKind::Anomaly if !self.classes.is_empty() => {
                faults.push("classes: an anomaly task has none".to_owned());
            }
            TaskKind::Regression if !self.classes.is_empty() => {
                faults.push("classes: a regression has none, it answers with a number".to_owned());
            }
            TaskKind::Classification | TaskKind::Anomaly | TaskKind::Regression => {}
        }
        if let Some(target) = &self.target {
            if self.kind != TaskKind::Regression {
                faults.push("target: only a regression has one".to_owned());
            }
            if target.name.is_empty() {
                faults.push("target: a name is needed".to_owned());
            }
            if let Some(tolerance) = target.tolerance
                && !(tolerance.is_finite() && tolerance > 0.0)
            {
                faults.push(format!("target: tolerance {tolerance} must be a number above 0"));
            }
        }
        if self.text_field().is_some() && (self.fields.len() != 1 || self.kind != TaskKind::Classification) {
            faults.push("fields: a task with a text is a classification and has no other field".to_owned());
        }
        faults
    }
}

impl Field {
    /// How many numbers of the feature vector the field fills.
    const fn width(&self) -> usize {
        match self.kind {
            FieldKind::Number | FieldKind::Category => self.length,
            FieldKind::Text => 0,
        }
    }

    /// Longest text the field takes, in bytes.
    #[must_use]
    pub fn max_text_bytes(&self) -> usize {
        self.max_length.unwrap_or(DEFAULT_TEXT_BYTES)
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.name.is_empty() {
            faults.push("a name is needed".to_owned());
        }
        if self.length == 0 {
            faults.push("length must be at least 1".to_owned());
        }
        match self.kind {
            FieldKind::Number => {
                if let (Some(min), Some(max)) = (self.min, self.max)
                    && min >= max
                {
                    faults.push(format!("min {min} must be below max {max}"));
                }
                if self.default.is_some() || !self.values.is_empty() {
                    faults.push("`values` and `default` are for categories".to_owned());
                }
            }
            FieldKind::Category => {
                if self.values.is_empty() || self.length != 1 {
                    faults.push("a category needs `values` and has length 1".to_owned());
                }
                if let Some(default) = &self.default
                    && !self.values.contains(default)
                {
                    faults.push(format!("default {default:?} is not one of the values"));
                }
            }
            FieldKind::Text => {
                let Self { length, min, max, values, default, .. } = self;
                if *length != 1 || min.is_some() || max.is_some() || !values.is_empty() || default.is_some() {
                    faults.push("a text has no `length`, `min`, `max`, `values` or `default`".to_owned());
                }
                if !(1..=MAX_TEXT_BYTES).contains(&self.max_text_bytes()) {
                    faults.push(format!("max_length must be from 1 to {MAX_TEXT_BYTES} bytes"));
                }
            }
        }
        if self.max_length.is_some() && self.kind != FieldKind::Text {
            faults.push("`max_length` is for texts".to_owned());
        }
        faults
    }
}

#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tests;
