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
    /// The fields, in the order of the plain `features` vector.
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
    /// Number or category.
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
}

/// The type of a field's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FieldKind {
    /// A number within `min..=max`.
    Number,
    /// One of `values`.
    Category,
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

impl TaskSchema {
    /// Length of the feature vector: numbers a reading becomes.
    #[must_use]
    pub fn width(&self) -> usize {
        self.fields.iter().map(|field| field.length).sum()
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
        match self.kind {
            TaskKind::Classification if self.classes.len() < 2 => {
                faults.push("classes: a classification needs at least two".to_owned());
            }
            TaskKind::Anomaly if !self.classes.is_empty() => {
                faults.push("classes: an anomaly task has none".to_owned());
            }
            TaskKind::Classification | TaskKind::Anomaly => {}
        }
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
}

impl Field {
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
        }
        faults
    }
}

#[cfg(test)]
pub(crate) mod samples {
    use super::{Field, FieldKind, TaskKind, TaskSchema};

    pub(crate) fn number(name: &str, min: f64, max: f64) -> Field {
        Field {
            name: name.to_owned(),
            unit: String::new(),
            description: String::new(),
            kind: FieldKind::Number,
            length: 1,
            min: Some(min),
            max: Some(max),
            values: vec![],
            default: None,
        }
    }

    pub(crate) fn pump() -> TaskSchema {
        let state = Field {
            kind: FieldKind::Category,
            min: None,
            max: None,
            values: vec!["normal".to_owned(), "idle".to_owned()],
            default: Some("normal".to_owned()),
            ..number("operational_state", 0.0, 1.0)
        };
        TaskSchema {
            name: "pump".to_owned(),
            title: String::new(),
            description: String::new(),
            kind: TaskKind::Anomaly,
            tiers: vec!["fast".to_owned(), "accurate".to_owned()],
            classes: vec![],
            normal: vec![],
            fields: vec![number("temperature", -40.0, 200.0), number("pressure", 0.0, 50.0), state],
        }
    }

    pub(crate) fn cycle() -> TaskSchema {
        TaskSchema {
            name: "cycle".to_owned(),
            kind: TaskKind::Classification,
            classes: vec!["bad".to_owned(), "good".to_owned()],
            normal: vec!["good".to_owned()],
            fields: vec![
                Field { length: 3, ..number("PS1", 0.0, 250.0) },
                Field { length: 3, ..number("FS1", -1.0, 50.0) },
            ],
            ..pump()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sound_schemas_have_no_faults() {
        assert_eq!(samples::pump().faults(), Vec::<String>::new());
        assert_eq!(samples::cycle().faults(), Vec::<String>::new());
        assert_eq!(samples::cycle().width(), 6);
    }

    #[test]
    fn every_contradiction_is_named_at_once() {
        let mut schema = samples::cycle();
        schema.name = "a=b".to_owned();
        schema.tiers = vec!["fast".to_owned(), "fast".to_owned(), "auto".to_owned()];
        schema.normal = vec!["fine".to_owned()];
        schema.fields[0].min = Some(300.0);
        schema.fields[1].name = "PS1".to_owned();
        assert_eq!(schema.faults().len(), 6, "{:#?}", schema.faults());
    }
}
