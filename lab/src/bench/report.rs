//! What a section found, as Markdown for people and as JSON for machines.

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use serde_json::{Value, json};

use super::facts::Machine;

/// A figure that the project promises, and what was measured.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Goal {
    goal: String,
    measured: String,
    met: bool,
}

/// What one section found.
#[derive(Debug)]
pub(crate) struct Section {
    title: &'static str,
    tables: Vec<(String, Table)>,
    notes: Vec<String>,
    goals: Vec<Goal>,
    data: Value,
}

impl Section {
    pub(crate) fn new(title: &'static str) -> Self {
        Self { title, tables: vec![], notes: vec![], goals: vec![], data: json!({}) }
    }

    /// Adds a table with its heading row.
    pub(crate) fn table(&mut self, caption: impl Into<String>, header: &[&str], rows: Vec<Vec<String>>) {
        let mut table = Table::new();
        table.load_preset(presets::ASCII_MARKDOWN).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(header);
        table.add_rows(rows);
        self.tables.push((caption.into(), table));
    }

    /// Adds a line below the tables.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Says whether a promised figure is kept.
    pub(crate) fn goal(&mut self, goal: impl Into<String>, measured: impl Into<String>, met: bool) {
        self.goals.push(Goal { goal: goal.into(), measured: measured.into(), met });
    }

    /// Keeps a figure for the JSON.
    pub(crate) fn keep(&mut self, name: &str, value: impl Serialize) {
        self.data[name] = serde_json::to_value(value).unwrap_or(Value::Null);
    }

    pub(crate) fn text(&self) -> String {
        let mut parts = vec![format!("\n## {}", self.title)];
        parts.extend(self.tables.iter().map(|(caption, table)| format!("{caption}\n\n{table}")));
        if !self.notes.is_empty() {
            parts.push(format!("- {}", self.notes.join("\n- ")));
        }
        parts.join("\n\n")
    }
}

/// All promised figures in one table.
pub(crate) fn goals(sections: &[Section]) -> String {
    let mut all = Section::new("Goals");
    let rows = sections.iter().flat_map(|section| &section.goals);
    let rows = rows.map(|goal| {
        let met = if goal.met { "met" } else { "missed" };
        vec![goal.goal.clone(), goal.measured.clone(), met.to_owned()]
    });
    all.table("What is promised, and what this run measured:", &["goal", "measured", ""], rows.collect());
    all.text()
}

/// Everything, for machines.
pub(crate) fn json(machine: &Machine, sections: &[Section]) -> String {
    let mut all = json!({ "machine": machine });
    for section in sections {
        let mut data = section.data.clone();
        data["notes"] = json!(section.notes);
        data["goals"] = json!(section.goals);
        all[section.title] = data;
    }
    format!("{all:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_markdown_and_its_goals_are_told() {
        let mut section = Section::new("Trees");
        section.table("Runs:", &["who", "us"], vec![vec!["native".to_owned(), "0.9".to_owned()]]);
        section.note("one thread");
        section.goal("3 times", "7 times", true);
        let text = section.text();
        for part in ["## Trees", "| who    | us  |", "| native | 0.9 |", "- one thread"] {
            assert!(text.contains(part), "{part} missing in:\n{text}");
        }
        assert!(goals(&[section]).contains("| 3 times | 7 times  | met |"));
    }
}
