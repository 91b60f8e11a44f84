//! The truth of a reading, in the words of its task.
//!
//! Owns where a label is found (the same file, or another one joined on the group's key), what its
//! value means, and when a prediction equals it. Counting hits is [`super::tally`]'s.

use std::collections::HashMap;

use anyhow::Result;
use shared::schema::{TaskKind, TaskSchema};

use super::args::Pair;
use super::source::{Group, Table};

/// Finds the truth of each group.
#[derive(Debug, Clone)]
pub(super) struct Labels {
    place: Place,
    /// What a value means, by the value's canonical form.
    meaning: HashMap<String, String>,
}

#[derive(Debug, Clone)]
enum Place {
    Column(usize),
    /// Label by the group's canonical key.
    Joined(HashMap<String, String>),
}

/// The truth of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Label {
    /// One of the task's classes.
    Class(String),
    /// No class of the task; the file's own text.
    Unknown(String),
    /// The cell is empty, or the other file has no such key.
    Absent,
}

impl Labels {
    /// Labels in the column of that name in the file itself.
    ///
    /// # Errors
    /// Every fault in words.
    pub(super) fn in_table(name: &str, map: &[Pair], table: &Table, schema: &TaskSchema) -> Result<Self, Vec<String>> {
        let mut faults = Vec::new();
        let meaning = meaning(map, schema, &mut faults);
        match table.column(name) {
            Ok(column) if faults.is_empty() => Ok(Self { place: Place::Column(column), meaning }),
            Ok(_) => Err(faults),
            Err(fault) => Err([vec![fault], faults].concat()),
        }
    }

    /// Labels in another file, joined on the column that groups the rows.
    ///
    /// # Errors
    /// Every fault in words, a file that cannot be read among them.
    pub(super) fn joined(
        name: &str,
        key: &str,
        map: &[Pair],
        other: &Table,
        schema: &TaskSchema,
    ) -> Result<Self, Vec<String>> {
        let mut faults = Vec::new();
        let meaning = meaning(map, schema, &mut faults);
        let mut column = |name| other.column(name).map_err(|fault| faults.push(fault)).ok();
        let (key, value) = (column(key), column(name));
        let (Some(key), Some(value), true) = (key, value, faults.is_empty()) else { return Err(faults) };
        let mut labels = HashMap::new();
        let rows = other.groups(None).map_err(|error| vec![format!("{error:#}")])?;
        for group in rows {
            let group = group.map_err(|error| vec![format!("{error:#}")])?;
            for row in &group.rows {
                if let (Some(key), Some(value)) = (row.get(key), row.get(value)) {
                    labels.entry(canonical(key)).or_insert_with(|| value.to_owned());
                }
            }
        }
        Ok(Self { place: Place::Joined(labels), meaning })
    }

    /// The truth of a group.
    pub(super) fn of(&self, group: &Group) -> Label {
        let text = match &self.place {
            Place::Column(column) => group.rows.first().and_then(|row| row.get(*column)),
            Place::Joined(labels) => {
                group.key.as_deref().and_then(|key| labels.get(&canonical(key))).map(String::as_str)
            }
        };
        match text.map(str::trim) {
            None | Some("") => Label::Absent,
            Some(text) => self
                .meaning
                .get(&canonical(text))
                .map_or_else(|| Label::Unknown(text.to_owned()), |class| Label::Class(class.clone())),
        }
    }
}

/// What each value means: the classes themselves, and what the map adds or redefines.
fn meaning(map: &[Pair], schema: &TaskSchema, faults: &mut Vec<String>) -> HashMap<String, String> {
    if schema.kind == TaskKind::Regression {
        faults
            .push(format!("--label: task `{}` answers with a number, and labels are compared as classes", schema.name));
    }
    let classes: Vec<String> = schema.labels().into_iter().map(str::to_owned).collect();
    let mut meaning: HashMap<String, String> = classes.iter().map(|class| (canonical(class), class.clone())).collect();
    for pair in map {
        match classes.iter().find(|class| canonical(class) == canonical(&pair.right)) {
            Some(class) => {
                meaning.insert(canonical(&pair.left), class.clone());
            }
            None => faults.push(format!(
                "--label-map {pair}: `{}` is not a class of task `{}`; they are: {}",
                pair.right,
                schema.name,
                classes.join(", ")
            )),
        }
    }
    meaning
}

/// Text as it is compared: numbers by value, so that `0.0` is `0`, everything else as it stands.
pub(super) fn canonical(text: &str) -> String {
    let text = text.trim();
    match text.parse::<f64>() {
        // Adding zero makes -0 a 0.
        Ok(number) if number.is_finite() => (number + 0.0).to_string(),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{pairs, schema as no_fields, table};
    use super::*;

    fn schema(classes: &[&str]) -> TaskSchema {
        TaskSchema {
            kind: if classes.is_empty() { TaskKind::Anomaly } else { TaskKind::Classification },
            classes: classes.iter().map(|class| (*class).to_owned()).collect(),
            ..no_fields(vec![])
        }
    }

    fn found(labels: &Labels, table: &Table, group_by: Option<usize>) -> Vec<String> {
        let groups = table.groups(group_by).unwrap().map(|group| labels.of(&group.unwrap()));
        groups
            .map(|label| match label {
                Label::Class(class) => class,
                Label::Unknown(text) => format!("?{text}"),
                Label::Absent => "-".to_owned(),
            })
            .collect()
    }

    #[test]
    fn numbers_compare_as_numbers() {
        let (_file, table) = table("x,anomaly\n1,0.0\n2,1\n3,\n4,2.0\n5,1.00\n");
        let labels = Labels::in_table("anomaly", &pairs("0=normal,1.0=anomaly"), &table, &schema(&[])).unwrap();
        assert_eq!(found(&labels, &table, None), ["normal", "anomaly", "-", "?2.0", "anomaly"]);
    }

    #[test]
    fn several_values_may_mean_one_class_and_classes_mean_themselves() {
        let (_file, table) = table("leak\n0\n1\n2\nleak\n");
        let labels =
            Labels::in_table("leak", &pairs("0=none,1=leak,2=leak"), &table, &schema(&["none", "leak"])).unwrap();
        assert_eq!(found(&labels, &table, None), ["none", "leak", "leak", "leak"]);
        let (_file, table) = super::super::samples::table("v\n73\n100.0\n");
        let labels = Labels::in_table("v", &[], &table, &schema(&["73", "100"])).unwrap();
        assert_eq!(found(&labels, &table, None), ["73", "100"]);
    }

    #[test]
    fn another_file_is_joined_on_the_groups_key() {
        let (_file, rows) = table("cycle,x\n1,a\n1,b\n2,c\n3,d\n");
        let (_other_file, other) = table("valve,cycle\n100,1.0\n73,2\n");
        let labels = Labels::joined("valve", "cycle", &[], &other, &schema(&["73", "100"])).unwrap();
        assert_eq!(found(&labels, &rows, Some(0)), ["100", "73", "-"]);
    }

    #[test]
    fn a_number_is_no_class() {
        let (_file, table) = table("x,y\n1,2\n");
        let wear = TaskSchema { kind: TaskKind::Regression, ..schema(&[]) };
        let faults = Labels::in_table("y", &[], &table, &wear).unwrap_err();
        assert!(faults.concat().contains("answers with a number"), "{faults:?}");
    }

    #[test]
    fn unknown_columns_and_classes_are_faults_together() {
        let (_file, table) = table("a\n1\n");
        let faults = Labels::in_table("b", &pairs("0=fine"), &table, &schema(&[])).unwrap_err();
        assert_eq!(faults.len(), 2);
        assert!(faults[1].contains("normal, anomaly"), "{faults:?}");
        assert_eq!(Labels::joined("b", "c", &[], &table, &schema(&[])).unwrap_err().len(), 2);
    }
}
