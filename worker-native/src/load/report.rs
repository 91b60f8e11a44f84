//! Tells the result: tables on standard output, and the file of `--json`.
//!
//! Writes through [`Write`], so that a closed pipe (`| head`) ends the report quietly. What is
//! counted is [`super::tally`]'s.

use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::Path;

use anyhow::{Context, Result};
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

use super::answer::{Answer, Outcome};
use super::args::{LoadArgs, Mode};
use super::tally::{Accuracy, Share, Spread, Summary};
use super::to_f64;

/// Most different reasons told in the table; the file has all.
const MAX_FAULTS: usize = 20;
/// Most classes a confusion table is drawn for.
const MAX_CLASSES: usize = 8;

/// How the replay went, next to what became of its rows.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Run {
    pub(super) task: String,
    pub(super) url: String,
    /// Readings the replay had.
    pub(super) planned: u64,
    /// Ctrl-C ended it before the last reading.
    pub(super) interrupted: bool,
    /// Readings a second: meant, and reached by the requests that left.
    pub(super) intended_rate: Option<f64>,
    pub(super) achieved_rate: Option<f64>,
    /// From the first intended start to the last answer of a reading's own request.
    pub(super) duration_s: f64,
    /// How long results were read back after that (jobs mode).
    pub(super) read_back_s: f64,
    #[serde(flatten)]
    pub(super) summary: Summary,
}

/// Prints the tables.
///
/// # Errors
/// When standard output cannot be written, unless its reader has gone.
pub(super) fn print(run: &Run, mode: Mode) -> Result<()> {
    let text = render(run, mode);
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("cannot write the report"),
        _ => Ok(()),
    }
}

/// Writes the file of `--json`.
///
/// # Errors
/// When it cannot be written.
pub(super) fn write_json(path: &Path, args: &LoadArgs, run: &Run, answers: &[Answer]) -> Result<()> {
    #[derive(Serialize)]
    struct Document<'a> {
        args: &'a LoadArgs,
        summary: &'a Run,
        answers: &'a [Answer],
    }
    let write = || -> io::Result<()> {
        let mut out = BufWriter::new(File::create(path)?);
        serde_json::to_writer(&mut out, &Document { args, summary: run, answers })?;
        out.write_all(b"\n")?;
        out.flush()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

fn render(run: &Run, mode: Mode) -> String {
    let summary = &run.summary;
    let mut out = format!("{} at {}, {mode} mode\n", run.task, run.url);
    out.push_str(&format!(
        "{} rows = {} answered + {} refused + {} failed\n",
        summary.rows, summary.answered, summary.refused, summary.failed
    ));
    if run.interrupted {
        out.push_str(&format!("interrupted: {} of {} rows were begun\n", summary.rows, run.planned));
    }
    let rate = |rate: Option<f64>| rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}"));
    out.push_str(&format!(
        "rate: {}/s intended, {}/s reached, over {:.1} s",
        rate(run.intended_rate),
        rate(run.achieved_rate),
        run.duration_s
    ));
    if mode == Mode::Jobs {
        out.push_str(&format!("; results read back in {:.1} s", run.read_back_s));
    }
    out.push('\n');
    for table in tables(summary, mode) {
        out.push_str(&format!("\n{table}\n"));
    }
    if summary.labels_absent > 0 {
        out.push_str(&format!("\n{} rows have no label.\n", summary.labels_absent));
    }
    if !summary.labels_unknown.is_empty() {
        let told: Vec<String> =
            summary.labels_unknown.iter().take(MAX_FAULTS).map(|(text, count)| format!("{text:?} ({count})")).collect();
        out.push_str(&format!("\nLabels that are no class, name them in --label-map: {}\n", told.join(", ")));
    }
    out
}

fn tables(summary: &Summary, mode: Mode) -> Vec<Table> {
    let mut tables = vec![counts(summary), latencies(summary, mode)];
    if summary.answered > 0 {
        tables.push(shares(summary));
    }
    if let Some(accuracy) = summary.accuracy.as_ref().filter(|accuracy| accuracy.classes.len() <= MAX_CLASSES) {
        tables.push(confusion(accuracy));
    }
    if !summary.faults.is_empty() {
        tables.push(faults(summary));
    }
    tables
}

/// An empty table in Markdown, as reports are pasted; the first `texts` columns are text, the rest numbers.
fn table(header: &[&str], texts: usize) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header);
    for column in table.column_iter_mut().skip(texts) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn counts(summary: &Summary) -> Table {
    let mut table = table(&["rows by", "", "count", "share"], 2);
    let mut group = |title: &str, counts: Vec<(String, u64)>| {
        for (i, (name, count)) in counts.into_iter().enumerate() {
            let title = if i == 0 { title } else { "" };
            table.add_row([title.to_owned(), name, count.to_string(), percent(count, summary.rows)]);
        }
    };
    let outcomes = [summary.answered, summary.refused, summary.failed];
    group("outcome", Outcome::ALL.map(Outcome::name).map(str::to_owned).into_iter().zip(outcomes).collect());
    for (title, counts) in [
        ("HTTP status", &summary.by_status),
        ("job state", &summary.by_job_state),
        ("routing reason", &summary.by_reason),
        ("decided by", &summary.by_decider),
    ] {
        group(title, counts.iter().map(|(name, count)| (name.clone(), *count)).collect());
    }
    table
}

fn latencies(summary: &Summary, mode: Mode) -> Table {
    let mut table = table(&["milliseconds", "rows", "p50", "p95", "p99", "max"], 1);
    let answered = match mode {
        Mode::Jobs => "start to 202",
        Mode::Predict => "start to answer",
    };
    for (name, spread) in [
        (answered, &summary.latency_ms),
        ("start to refusal", &summary.refused_latency_ms),
        ("start to giving up", &summary.failed_latency_ms),
        ("start to request leaving", &summary.start_delay_ms),
        ("service's own latency", &summary.service_latency_ms),
    ] {
        if let Some(spread) = spread {
            table.add_row(spread_cells(name, spread, 2));
        }
    }
    if let Some(depth) = &summary.queue_depth {
        table.add_row(spread_cells("queue depth (jobs)", depth, 0));
    }
    table
}

fn spread_cells(name: &str, spread: &Spread, digits: usize) -> Vec<String> {
    let Spread { count, p50, p95, p99, max, .. } = spread;
    let mut cells = vec![name.to_owned(), count.to_string()];
    cells.extend([p50, p95, p99, max].map(|value| format!("{value:.digits$}")));
    cells
}

fn shares(summary: &Summary) -> Table {
    let header = ["model (version)", "tier", "rows", "share", "labelled", "correct", "accuracy", "balanced"];
    let mut table = table(&header, 2);
    let mut add = |name: String, tier: &str, rows: u64, accuracy: Option<&Accuracy>| {
        let mut cells = vec![name, tier.to_owned(), rows.to_string(), percent(rows, summary.answered)];
        match accuracy {
            Some(Accuracy { labelled, correct, accuracy, balanced, .. }) => {
                cells.extend([labelled.to_string(), correct.to_string()]);
                cells.extend([accuracy, balanced].map(|value| format!("{value:.4}")));
            }
            None => cells.extend(["0", "-", "-", "-"].map(str::to_owned)),
        }
        table.add_row(cells);
    };
    for Share { model, version, tier, rows, accuracy } in &summary.by_model {
        let version = version.map(|version| format!(" ({version})")).unwrap_or_default();
        let name = format!("{}{version}", model.as_deref().unwrap_or("unknown"));
        add(name, tier.as_deref().unwrap_or("-"), *rows, accuracy.as_ref());
    }
    // A tier of one model would repeat that model's row.
    let several = |tier: &Option<String>| summary.by_model.iter().filter(|share| share.tier == *tier).count() > 1;
    for Share { tier, rows, accuracy, .. } in summary.by_tier.iter().filter(|share| several(&share.tier)) {
        add("all of the tier".to_owned(), tier.as_deref().unwrap_or("-"), *rows, accuracy.as_ref());
    }
    add("all".to_owned(), "", summary.answered, summary.accuracy.as_ref());
    table
}

fn confusion(accuracy: &Accuracy) -> Table {
    let mut header = vec!["label \\ prediction"];
    header.extend(accuracy.classes.iter().map(String::as_str));
    let mut table = table(&header, 1);
    for (class, row) in accuracy.classes.iter().zip(&accuracy.confusion) {
        table.add_row(std::iter::once(class.clone()).chain(row.iter().map(u64::to_string)));
    }
    table
}

fn faults(summary: &Summary) -> Table {
    let mut table = table(&["count", "share", "reason", "field", "first such row"], 5);
    for fault in summary.faults.iter().take(MAX_FAULTS) {
        table.add_row([
            fault.count.to_string(),
            percent(fault.count, summary.rows),
            format!("{}: {}", fault.outcome.name(), fault.reason),
            fault.pointer.clone().unwrap_or_default(),
            fault.example.clone(),
        ]);
    }
    let hidden = summary.faults.len().saturating_sub(MAX_FAULTS);
    if hidden > 0 {
        table.add_row(["", "", &format!("and {hidden} more reasons, see --json"), "", ""]);
    }
    table
}

/// A share of the whole in percent; all and none only where it is exactly so.
fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    let percent = to_f64(part) * 100.0 / to_f64(whole);
    let shown = if part < whole { percent.min(99.9) } else { percent };
    format!("{:.1} %", if part > 0 { shown.max(0.1) } else { shown })
}

#[cfg(test)]
mod tests {
    use super::super::tally::Tally;
    use super::*;

    #[test]
    fn shares_do_not_round_to_all_or_nothing() {
        assert_eq!(percent(9_999, 10_000), "99.9 %");
        assert_eq!(percent(1, 100_000), "0.1 %");
        assert_eq!(percent(0, 5), "0.0 %");
        assert_eq!(percent(5, 5), "100.0 %");
        assert_eq!(percent(0, 0), "-");
    }

    #[test]
    fn the_report_tells_the_sum_the_models_and_every_reason() {
        let mut tally = Tally::default();
        let mut answer = Answer::new(1, None);
        answer.label = Some("leak".to_owned());
        answer.read_response(
            200,
            br#"{"prediction":"leak","model_used":"logreg","model_version":1,"tier":"fast"}"#,
            false,
        );
        answer.latency_ms = Some(1.25);
        tally.add(&answer);
        let mut refused = Answer::new(2, None);
        refused.read_response(503, br#"{"code":"queue-full","detail":"the queue holds 5"}"#, false);
        tally.add(&refused);
        let run = Run {
            task: "hydraulic-leak".to_owned(),
            url: "http://x".to_owned(),
            planned: 3,
            interrupted: true,
            intended_rate: Some(50.0),
            achieved_rate: None,
            duration_s: 1.0,
            read_back_s: 0.0,
            summary: tally.summary(),
        };
        let text = render(&run, Mode::Predict);
        for part in [
            "2 rows = 1 answered + 1 refused + 0 failed",
            "interrupted: 2 of 3",
            "50.0/s intended, -/s reached",
            "logreg (1)",
            "1.0000",
            "1.25",
            "refused: queue-full",
            "row 2: the queue holds 5",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
    }
}
