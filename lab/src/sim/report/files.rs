//! The study as JSON and CSV.

use serde_json::{Value, json};

use crate::sim::analysis::Row;
use crate::sim::goals::goals;
use crate::sim::study::Study;

/// Everything, as JSON.
///
/// # Errors
/// None that can come of a study.
pub(crate) fn json(study: &Study) -> anyhow::Result<String> {
    let mut value = serde_json::to_value(study)?;
    if let Value::Object(fields) = &mut value {
        fields.insert("goals".to_owned(), json!(goals(study)));
    }
    Ok(serde_json::to_string_pretty(&value)?)
}

const HEAD: [&str; 22] = [
    "age_ms",
    "isolates",
    "family",
    "workload",
    "policy",
    "effective",
    "effective_low",
    "effective_high",
    "bound",
    "gap_closed",
    "gap_closed_from_best",
    "attainment",
    "on_time_accuracy",
    "accuracy_drop",
    "burst_violations",
    "last_effective",
    "p50_ms",
    "p99_ms",
    "refused",
    "dear",
    "rebound",
    "turns_a_minute",
];

/// Every row, and those of the staleness grid, as CSV; an empty field is a figure that is not defined.
///
/// # Errors
/// None that can come of a study.
pub(crate) fn csv(study: &Study) -> anyhow::Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(HEAD)?;
    for row in &study.rows {
        writer.write_record(record("", "", row))?;
    }
    for row in &study.staleness {
        writer.write_record(record(&row.age_ms.to_string(), &row.isolates.to_string(), &row.row))?;
    }
    Ok(String::from_utf8(writer.into_inner()?)?)
}

fn record(age: &str, isolates: &str, row: &Row) -> Vec<String> {
    let maybe = |figure: Option<f64>| figure.map_or_else(String::new, |figure| format!("{figure:.6}"));
    let figures = [
        Some(row.effective.mean),
        Some(row.effective.low),
        Some(row.effective.high),
        Some(row.bound.mean),
        row.gap_closed.map(|closed| closed.mean),
        row.gap_closed_from_best.map(|closed| closed.mean),
        Some(row.attainment),
        Some(row.on_time_accuracy),
        Some(row.accuracy_drop),
        row.burst_violations,
        Some(row.last_effective),
        Some(row.p50_ms),
        Some(row.p99_ms),
        Some(row.refused),
        Some(row.dear),
        Some(row.rebound),
        Some(row.turns_a_minute),
    ];
    let names = [age, isolates, &row.family, &row.workload, row.policy].map(str::to_owned);
    names.into_iter().chain(figures.into_iter().map(maybe)).collect()
}
