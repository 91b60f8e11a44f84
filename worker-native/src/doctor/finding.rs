//! What a check found, and how it is told: to scripts as JSON, to people as a table.

use std::collections::BTreeMap;

use comfy_table::{Cell, Color};
use serde::Serialize;

/// How well something is, from good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// It could not be looked at.
    Unknown,
    /// It works, and could be better.
    Warn,
    /// It must be changed.
    Fault,
}

impl State {
    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unknown => "unknown",
            Self::Warn => "warn",
            Self::Fault => "fault",
        }
    }

    const fn colour(self) -> Color {
        match self {
            Self::Ok => Color::Green,
            Self::Unknown => Color::Cyan,
            Self::Warn => Color::Yellow,
            Self::Fault => Color::Red,
        }
    }
}

/// What one check found at one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check's name.
    pub check: &'static str,
    /// What was looked at: a server, a task, a file, a model; empty where there is only one.
    pub place: String,
    /// How well it is.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What to change, or how to look by hand; none where nothing is to be done.
    pub change: Option<String>,
    /// Would jobs that were accepted be lost by it? Then `serve` does not start.
    pub loses_jobs: bool,
}

impl Finding {
    fn new(state: State, check: &'static str, found: impl Into<String>) -> Self {
        Self { check, place: String::new(), state, found: found.into(), change: None, loses_jobs: false }
    }

    pub(super) fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(State::Ok, check, found)
    }

    pub(super) fn unknown(check: &'static str, found: impl Into<String>, by_hand: impl Into<String>) -> Self {
        Self { change: Some(by_hand.into()), ..Self::new(State::Unknown, check, found) }
    }

    pub(super) fn warn(check: &'static str, found: impl Into<String>, change: impl Into<String>) -> Self {
        Self { change: Some(change.into()), ..Self::new(State::Warn, check, found) }
    }

    pub(super) fn fault(check: &'static str, found: impl Into<String>, change: impl Into<String>) -> Self {
        Self { change: Some(change.into()), ..Self::new(State::Fault, check, found) }
    }

    /// A fault by which accepted jobs would be lost.
    pub(super) fn loss(check: &'static str, found: impl Into<String>, change: impl Into<String>) -> Self {
        Self { loses_jobs: true, ..Self::fault(check, found, change) }
    }

    pub(super) fn at(mut self, place: &str) -> Self {
        place.clone_into(&mut self.place);
        self
    }

    /// In one line, for logs and refusals.
    pub(super) fn line(&self) -> String {
        let place = if self.place.is_empty() { String::new() } else { format!(" ({})", self.place) };
        let change = self.change.as_ref().map(|change| format!("; to change: {change}")).unwrap_or_default();
        format!("{}{place}: {}{change}", self.check, self.found)
    }
}

/// All that was found.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// The worst state there is.
    state: State,
    /// How many findings of each state.
    counts: BTreeMap<&'static str, usize>,
    /// Where the queue is: `single`, `sentinel`, `cluster` or `file`.
    queue: &'static str,
    findings: Vec<Finding>,
}

impl Report {
    pub(super) fn new(queue: &'static str, findings: Vec<Finding>) -> Self {
        let mut counts = BTreeMap::from([State::Ok, State::Unknown, State::Warn, State::Fault].map(|s| (s.name(), 0)));
        for finding in &findings {
            *counts.entry(finding.state.name()).or_default() += 1;
        }
        let state = findings.iter().map(|finding| finding.state).max().unwrap_or(State::Ok);
        Self { state, counts, queue, findings }
    }

    pub(super) fn has_faults(&self) -> bool {
        self.state == State::Fault
    }

    /// For people: what is to be done stands last, where the eye is when the table has scrolled by.
    pub(super) fn table(&self) -> String {
        let mut table = comfy_table::Table::new();
        table.load_preset(comfy_table::presets::UTF8_FULL_CONDENSED);
        table.set_content_arrangement(comfy_table::ContentArrangement::Dynamic);
        table.set_header(["check", "where", "state", "what was found", "what to change"]);
        for finding in &self.findings {
            table.add_row([
                Cell::new(finding.check),
                Cell::new(&finding.place),
                Cell::new(finding.state.name()).fg(finding.state.colour()),
                Cell::new(&finding.found),
                Cell::new(finding.change.as_deref().unwrap_or_default()),
            ]);
        }
        let counted = |state: State| self.counts.get(state.name()).copied().unwrap_or_default();
        let (faults, warnings) = (counted(State::Fault), counted(State::Warn));
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        let unknown = counted(State::Unknown);
        let unknown = if unknown == 0 { String::new() } else { format!(", {unknown} unknown") };
        format!("{table}\n{faults} fault{}, {warnings} warning{}{unknown}", plural(faults), plural(warnings))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_is_as_bad_as_its_worst_finding() {
        assert!(!Report::new("file", vec![]).has_faults());
        let findings = vec![Finding::ok("a", ""), Finding::warn("b", "", ""), Finding::unknown("c", "", "")];
        let report = Report::new("single", findings);
        assert_eq!((report.state, report.has_faults()), (State::Warn, false));
        let report =
            Report::new("single", vec![Finding::loss("a", "gone", "bring it back").at("x:1"), Finding::ok("b", "")]);
        assert!(report.has_faults() && report.table().contains("1 fault, 0 warnings"), "{}", report.table());
        assert_eq!(report.findings[0].line(), "a (x:1): gone; to change: bring it back");
    }
}
