//! Dead letters for eyes.

use std::fmt::Write;

use anyhow::Result;
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;

use crate::client::plain;

/// A list as a table.
pub(super) fn list(answer: &Value, now_ms: u64) -> String {
    let letters = answer["dead"].as_array().map(Vec::as_slice).unwrap_or_default();
    if letters.is_empty() {
        return "no dead letters".to_owned();
    }
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["job", "model", "sensor", "tries", "given up", "last error"]);
    for letter in letters {
        let model = match (&letter["model"], &letter["model_version"]) {
            (Value::String(model), version) => format!("{model} v{version}"),
            _ => String::new(),
        };
        let died = letter["died_at"].as_u64().map(|at| ago(now_ms.saturating_sub(at))).unwrap_or_default();
        let cells = [plain(&letter["job_id"]), model, plain(&letter["sensor_id"]), plain(&letter["attempts"]), died];
        table.add_row(cells.into_iter().chain([plain(&letter["error"])]));
    }
    table.to_string()
}

/// One dead letter, line by line.
pub(super) fn one(letter: &Value) -> Result<String> {
    let mut told = String::new();
    let names = ["job_id", "task", "model", "model_version", "tier", "sensor_id", "tenant", "priority"];
    for name in names.into_iter().chain(["accepted_at", "died_at", "attempts"]) {
        let value = plain(&letter[name]);
        if !value.is_empty() {
            writeln!(told, "{name:<14} {value}")?;
        }
    }
    writeln!(told, "{:<14} {}", "reading", letter["reading"])?;
    for failure in letter["failures"].as_array().into_iter().flatten() {
        writeln!(
            told,
            "{:<14} at {}: {}",
            format!("try {}", failure["attempt"]),
            failure["at"],
            plain(&failure["error"])
        )?;
    }
    write!(told, "{:<14} {}", "result", letter["result"])?;
    Ok(told)
}

/// What was done with how many.
pub(super) fn handled(answer: &Value) -> String {
    let counted = ["requeued", "dropped"].into_iter().find_map(|what| Some((what, answer[what].as_u64()?)));
    let (what, count) = counted.unwrap_or(("handled", 0));
    let mut told = format!("{what} {count}");
    if answer["more"] == true {
        told.push_str("; the filter fits further ones");
    }
    for id in answer["missing"].as_array().into_iter().flatten() {
        told.push_str(&format!("\nno dead letter: {}", plain(id)));
    }
    told
}

fn ago(ms: u64) -> String {
    let seconds = ms / 1_000;
    match seconds {
        0..=119 => format!("{seconds} s ago"),
        120..=7_199 => format!("{} min ago", seconds / 60),
        7_200..=172_799 => format!("{} h ago", seconds / 3_600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn letters_are_told_in_lines() {
        let letter = json!({
            "job_id": "t.1", "task": "t", "model": "lof", "model_version": 2, "sensor_id": null, "died_at": 1_000,
            "attempts": 3, "error": "it hung", "reading": {"features": [1.5]}, "result": {"outcome": "dead"},
            "failures": [{"attempt": 3, "at": 900, "error": "it hung"}],
        });
        let table = list(&json!({"count": 1, "dead": [letter]}), 181_000);
        for part in ["t.1", "lof v2", "3 min ago", "it hung"] {
            assert!(table.contains(part), "{part} in:\n{table}");
        }
        assert_eq!(list(&json!({"count": 0, "dead": []}), 0), "no dead letters");
        let whole = one(&letter).unwrap();
        for line in ["job_id         t.1", r#"reading        {"features":[1.5]}"#, "try 3          at 900: it hung"] {
            assert!(whole.lines().any(|told| told == line), "{line} in:\n{whole}");
        }
        assert!(!whole.contains("sensor_id"), "{whole}");
    }

    #[test]
    fn what_was_done_is_counted() {
        let done = json!({"requeued": 2, "job_ids": ["t.1", "t.2"], "missing": ["t.3"], "more": true});
        assert_eq!(handled(&done), "requeued 2; the filter fits further ones\nno dead letter: t.3");
    }
}
