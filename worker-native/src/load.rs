//! `infer-router load`: replays the rows of a CSV to an edge, open loop, and tells what became of each.
//!
//! Reads as the story of a run. Owns nothing itself: `args` what is asked, `source`,
//! `mapping` and `labels` the file, `pace` the starts, `send` and `replay` the requests,
//! `answer` and `tally` the results, `report` the telling. A refused row is a result; only
//! arguments, a file or a URL that cannot be used make the run an error.

mod answer;
mod args;
mod labels;
mod mapping;
mod pace;
mod progress;
mod readings;
mod replay;
mod report;
#[cfg(test)]
mod samples;
mod send;
mod source;
mod tally;

use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use shared::catalog::{Catalog, CatalogTask};

pub use args::LoadArgs;
use args::Mode;
use labels::Labels;
use mapping::{Mapping, Wishes};
use pace::Pace;
use progress::Collector;
use readings::Readings;
use report::Run;
use send::Service;
use source::Table;
use tally::Tally;

/// Rate of a replay that names neither a rate nor a trace, in readings a second.
const DEFAULT_RATE: f64 = 50.0;

/// Replays the rows and prints the report.
///
/// # Errors
/// When the arguments, a file or the URL cannot be used, with every fault that can be told at once.
/// Refused and failed rows are no error.
pub async fn run(args: LoadArgs) -> Result<()> {
    let table = Table::open(&args.csv, args.delimiter)?;
    let service = Service::new(&args.url, args.mode, Duration::from_millis(args.timeout_ms))?;
    let catalog = service.catalog().await?;
    let task = task(args.task.as_deref(), &catalog)?;
    let readings = plan(&args, table, task).map_err(|faults| tell(&faults))?;
    let planned = readings.count()?;
    let pace = pace(&args, planned)?;

    let intended_rate = pace.mean_rate(planned);
    let mut collector = Collector::new(planned, Tally::new(args.label.is_some()), args.json.is_some(), args.quiet);
    let mut open = VecDeque::new();
    let concurrency = usize::try_from(args.concurrency).unwrap_or(usize::MAX);
    let shots = readings.shots()?;
    let sent = replay::send_all(&service, shots, pace, concurrency, &mut collector, &mut open).await;
    // The bar must be gone before an error is printed over it.
    let sent = sent.inspect_err(|_| collector.finish())?;
    let reading_back = Instant::now();
    if args.mode == Mode::Jobs {
        collector.reading_back(&open);
        let wait = Duration::from_secs(args.wait_s);
        let back = replay::read_back(&service, open, wait, &mut collector).await;
        back.inspect_err(|_| collector.finish())?;
    }
    collector.finish();

    let run = Run {
        task: task.schema.name.clone(),
        url: service.url().to_owned(),
        planned,
        interrupted: sent.interrupted,
        intended_rate,
        achieved_rate: rate_of(collector.sent, sent.sending),
        duration_s: sent.answering.max(sent.sending).as_secs_f64(),
        read_back_s: reading_back.elapsed().as_secs_f64(),
        summary: collector.tally.summary(),
    };
    report::print(&run, args.mode)?;
    if let (Some(path), Some(mut answers)) = (&args.json, collector.answers) {
        answers.sort_by_key(|answer| answer.row);
        report::write_json(path, &args, &run, &answers)?;
    }
    Ok(())
}

/// The task named, else the only one, else the catalog's default.
fn task<'c>(name: Option<&str>, catalog: &'c Catalog) -> Result<&'c CatalogTask> {
    let there_are = || format!("there are: {}", catalog.task_names());
    match (name, catalog.tasks.as_slice(), &catalog.default_task) {
        (Some(name), ..) => {
            catalog.task(name).ok_or_else(|| anyhow!("--task {name}: the service has no such task; {}", there_are()))
        }
        (None, [only], _) => Ok(only),
        (None, _, Some(default)) => catalog.task(default).ok_or_else(|| anyhow!("--task is needed; {}", there_are())),
        (None, _, None) => Err(anyhow!("--task is needed; {}", there_are())),
    }
}

/// Checks columns, fields, labels and model together, so that every fault is told at once.
fn plan(args: &LoadArgs, table: Table, task: &CatalogTask) -> Result<Readings, Vec<String>> {
    let mut faults = Vec::new();
    let group_by = args.group_by.as_deref().map(|name| table.column(name)).transpose();
    let group_by = group_by.unwrap_or_else(|fault| {
        faults.push(fault);
        None
    });
    let wishes =
        Wishes { map: &args.map, constant: &args.constant, scale: &args.scale, grouped: args.group_by.is_some() };
    let mapping = Mapping::resolve(&wishes, &table, &task.schema);
    let labels = labels(args, &table, task);
    if let Some(model) = &args.model
        && task.model(model).is_none()
    {
        faults.push(format!("--model {model}: task `{}` has: {}", task.schema.name, task.model_names()));
    }
    match (mapping, labels) {
        (Ok(mapping), Ok(labels)) if faults.is_empty() => {
            Ok(Readings::new(args, table, group_by, mapping, labels, task))
        }
        (mapping, labels) => {
            faults.extend(mapping.err().into_iter().flatten());
            faults.extend(labels.err().into_iter().flatten());
            Err(faults)
        }
    }
}

fn labels(args: &LoadArgs, table: &Table, task: &CatalogTask) -> Result<Option<Labels>, Vec<String>> {
    let Some(name) = &args.label else { return Ok(None) };
    match (&args.labels, &args.group_by) {
        (Some(path), Some(key)) => {
            let other = Table::open(path, None).map_err(|error| vec![format!("--labels: {error:#}")])?;
            Labels::joined(name, key, &args.label_map, &other, &task.schema).map(Some)
        }
        _ => Labels::in_table(name, &args.label_map, table, &task.schema).map(Some),
    }
}

fn pace(args: &LoadArgs, planned: u64) -> Result<Pace> {
    let Some(path) = &args.trace else { return Ok(Pace::Even { per_s: args.rate.unwrap_or(DEFAULT_RATE) }) };
    let offsets = read_trace(path, args.spread)?;
    let pace = Pace::of_trace(offsets, args.speed.unwrap_or(1.0));
    match args.rate {
        Some(rate) => pace.scaled_to(rate, planned).map_err(|fault| anyhow!("--trace {}: {fault}", path.display())),
        None => Ok(pace),
    }
}

fn read_trace(path: &Path, spread: bool) -> Result<Vec<f64>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read the trace {}", path.display()))?;
    let mut offsets = pace::parse_trace(&text).map_err(|fault| anyhow!("--trace {}: {fault}", path.display()))?;
    if spread {
        pace::spread_ticks(&mut offsets);
    }
    Ok(offsets)
}

/// Requests that left a second: gaps, not requests, fill the time between the first and the last.
fn rate_of(sent: u64, sending: Duration) -> Option<f64> {
    (sent > 1 && !sending.is_zero()).then(|| to_f64(sent - 1) / sending.as_secs_f64())
}

/// A count as a float: exact up to 2^53, more readings than anyone replays.
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn to_f64(count: impl TryInto<u64>) -> f64 {
    count.try_into().unwrap_or(u64::MAX) as f64
}

fn tell(faults: &[String]) -> anyhow::Error {
    let lines: String = faults.iter().map(|fault| format!("\n  - {fault}")).collect();
    let count = faults.len();
    anyhow!("{count} fault{} before anything was sent:{lines}", if count == 1 { "" } else { "s" })
}
