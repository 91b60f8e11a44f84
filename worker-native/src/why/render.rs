//! A decision for eyes: the story, a table of the tiers, the figures.

use comfy_table::{Cell, CellAlignment, Color, ContentArrangement, Table, presets};
use serde_json::Value;

use crate::client::plain;

const BOLD: &str = "\u{1b}[1m";
const GREEN: &str = "\u{1b}[32m";
const RED: &str = "\u{1b}[31m";
const PLAIN: &str = "\u{1b}[0m";

/// All of it; with colours for a terminal only.
pub(super) fn story(answer: &Value, colours: bool) -> String {
    let painted = |colour: &str, text: &str| {
        if colours { format!("{colour}{text}{PLAIN}") } else { text.to_owned() }
    };
    let sentences: Vec<&str> = answer["story"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut told = vec![painted(
        BOLD,
        &format!("{} ({}, {})", plain(&answer["id"]), plain(&answer["task"]), plain(&answer["state"])),
    )];
    if let Some((last, before)) = sentences.split_last() {
        told.extend(before.iter().map(|sentence| (*sentence).to_owned()));
        let colour = match answer["on_time"].as_bool() {
            Some(true) => GREEN,
            Some(false) => RED,
            None => "",
        };
        told.push(if colour.is_empty() { (*last).to_owned() } else { painted(colour, last) });
    }
    told.extend(tiers(answer).map(|table| format!("\n{table}")));
    let figures = figures(answer);
    if !figures.is_empty() {
        told.push(String::new());
        told.extend(figures);
    }
    told.join("\n")
}

/// The tiers beside each other; none where no numbers were kept.
fn tiers(answer: &Value) -> Option<Table> {
    let tiers = answer["weighed"]["tiers"].as_array().filter(|tiers| !tiers.is_empty())?;
    let decision = &answer["decision"];
    let ran = decision["tier"].as_str();
    let cascade = &decision["cascade"];
    let first = cascade["from"]["tier"].as_str().filter(|_| cascade["outcome"] == "escalated");
    let chosen = decision["hinted"].as_str().or(first).or(ran);
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["tier", "done in", "in time", "accuracy", ""]);
    for tier in tiers {
        let name = tier["tier"].as_str();
        let moved = decision["hinted"].is_string();
        let note = match (name == chosen, name == ran) {
            (true, true) if moved => "chosen, ran",
            (true, true) | (true, false) => "chosen",
            (false, true) => "ran",
            (false, false) => "",
        };
        let percent = |value: &Value| {
            let text = value.as_f64().map(|value| format!("{:.1} %", value * 100.0)).unwrap_or_default();
            Cell::new(text).set_alignment(CellAlignment::Right)
        };
        // Colours are left out by the table itself where nobody sees them.
        let shown = if note.is_empty() {
            Cell::new(plain(&tier["tier"]))
        } else {
            Cell::new(plain(&tier["tier"])).fg(Color::Green)
        };
        table.add_row([
            shown,
            Cell::new(millis(&tier["completion_ms"])).set_alignment(CellAlignment::Right),
            percent(&tier["on_time"]),
            percent(&tier["accuracy"]),
            Cell::new(note),
        ]);
    }
    Some(table)
}

fn figures(answer: &Value) -> Vec<String> {
    let (decision, weighed, end) = (&answer["decision"], &answer["weighed"], &answer["end"]);
    let lines = [
        ("request", plain(&answer["request_id"])),
        ("job", plain(&answer["job_id"])),
        ("decided by", plain(&decision["by"])),
        ("reason", plain(&decision["reason"])),
        ("policy", joined(&weighed["policy"], &weighed["policy_version"], " version ")),
        ("mode", plain(&decision["mode"])),
        ("backlog", plain(&decision["depth"])),
        ("snapshot age", with(&decision["snapshot_age_ms"], " ms")),
        ("share", short(&decision["share"])),
        ("propensity", short(&decision["propensity"])),
        ("deadline", with(&weighed["deadline_ms"], " ms")),
        ("class", plain(&weighed["priority"])),
        ("model", joined(&end["model"], &end["model_version"], " v")),
        ("outcome", plain(&end["outcome"])),
        ("latency", with(&end["latency_ms"], " ms")),
        ("starts", plain(&end["attempts"])),
        ("known from", plain(&answer["found_in"])),
    ];
    lines.into_iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| format!("{name:<14}{value}")).collect()
}

/// Milliseconds, with more digits where there are few of them.
fn millis(value: &Value) -> String {
    match value.as_f64() {
        Some(ms) if ms < 10.0 => format!("{ms:.2} ms"),
        Some(ms) => format!("{ms:.1} ms"),
        None => String::new(),
    }
}

/// A share to four digits: what else there is of a float32 is noise.
fn short(value: &Value) -> String {
    value.as_f64().map(|value| ((value * 1e4).round() / 1e4).to_string()).unwrap_or_default()
}

fn with(value: &Value, unit: &str) -> String {
    if value.is_null() { String::new() } else { format!("{value}{unit}") }
}

fn joined(one: &Value, other: &Value, between: &str) -> String {
    let one = plain(one);
    if one.is_empty() { one } else { format!("{one}{between}{}", plain(other)) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer() -> Value {
        json!({
            "id": "t.1", "request_id": "r", "job_id": "t.1", "task": "t", "state": "done", "found_in": "result",
            "story": ["`accurate` was chosen.", "It went well."], "on_time": true,
            "decision": {"by": "edge", "tier": "fast", "hinted": "accurate", "reason": "split_dear", "depth": 12,
                "share": 0.4_f32, "propensity": 0.4_f32, "snapshot_age_ms": 132},
            "weighed": {"policy": "slack-split", "policy_version": 3, "deadline_ms": 100, "priority": "normal", "tiers": [
                {"tier": "fast", "completion_ms": 3.1, "on_time": 1.0, "accuracy": 0.9},
                {"tier": "accurate", "completion_ms": 41.04, "on_time": 0.98},
            ]},
            "end": {"outcome": "done", "model": "trees", "model_version": 2, "latency_ms": 4.0},
        })
    }

    #[test]
    fn a_decision_is_told_with_its_table_and_figures() {
        let told = story(&answer(), false);
        let row = |parts: &[&str]| told.lines().any(|line| parts.iter().all(|part| line.contains(part)));
        assert!(row(&["fast", "3.10 ms", "100.0 %", "90.0 %", "ran"]), "{told}");
        assert!(row(&["accurate", "41.0 ms", "98.0 %", "chosen"]), "{told}");
        for line in ["t.1 (t, done)", "It went well.", "policy        slack-split version 3", "share         0.4"] {
            assert!(told.lines().any(|told| told == line), "{line} in:\n{told}");
        }
        assert!(!told.contains('\u{1b}') && !told.contains("starts"), "{told}");
        let coloured = story(&answer(), true);
        assert!(coloured.contains(&format!("{GREEN}It went well.{PLAIN}")), "{coloured}");
    }

    #[test]
    fn a_decision_without_numbers_is_told_all_the_same() {
        let told = story(&json!({"id": "t.1", "task": "t", "state": "queued", "story": ["So it was."]}), false);
        assert_eq!(told, "t.1 (t, queued)\nSo it was.");
    }
}
