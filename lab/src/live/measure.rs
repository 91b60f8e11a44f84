//! Each model alone on the stack: a run's time, what the stack adds, what it carries, where it is right.
//!
//! Owns what the stair's loads and the simulator's system are made of. The service's own counters
//! say what runs took; the rows say the rest.

use std::collections::HashMap;

use anyhow::{Context, ensure};
use indicatif::ProgressBar;
use serde::Serialize;

use super::args::LiveArgs;
use super::drive::{Drive, Ended, Row};
use super::stack::{BATCH, Stack};
use super::{DEAR, TIERS};

/// Rows of the first look at a model, and at what rate a second.
const LOOK: (usize, f64) = (40, 20.0);
/// The idle load, as a share of what one run at a time would carry, and its highest rate a second.
const IDLE: (f64, f64) = (0.25, 100.0);
/// The saturating load, in seconds of the model's own work.
const FULL_S: f64 = 4.0;
/// Rows of the saturating load: at least, and at most.
const FULL_ROWS: (f64, f64) = (300.0, 1_500.0);
/// The saturating load's rate: as many times what one run at a time would carry, at most so many a second. More than
/// HTTP takes in would show how the edge gives up, not what a model carries.
const FULL: (f64, f64) = (4.0, 400.0);
/// Of the rows of the saturating load, the first and last so many are not counted.
const EDGE_SHARE: f64 = 0.1;

/// One model alone.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Alone {
    /// Its tier.
    pub(crate) tier: &'static str,
    /// A run of one row, in milliseconds.
    pub(crate) single_ms: f64,
    /// Rows in a run under saturation, mean.
    pub(crate) batch: f64,
    /// Such a run, in milliseconds.
    pub(crate) batch_ms: f64,
    /// Jobs a second that the stack settles with this model alone.
    pub(crate) carries: f64,
    /// From when a job should be sent to its result, idle, half of all within; milliseconds.
    pub(crate) idle_p50_ms: f64,
    /// The same, 99 of 100.
    pub(crate) idle_p99_ms: f64,
    /// Of the cycles, how many it is right on, 0 to 1.
    pub(crate) accuracy: f64,
    /// Standard deviation of an idle job's time over its mean, without the slowest twentieth.
    pub(crate) noise: f64,
}

/// All models alone.
#[derive(Debug, Serialize)]
pub(crate) struct Measured {
    /// Cheapest first.
    pub(crate) models: Vec<Alone>,
    /// Number of cycles.
    pub(crate) cycles: usize,
    /// Is each tier right on a cycle?
    #[serde(skip)]
    pub(crate) right: HashMap<String, [bool; TIERS.len()]>,
}

/// Rows, runs and time of a model's runs so far.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Runs {
    rows: f64,
    runs: f64,
    /// Each row counts its whole run, in microseconds.
    row_us: f64,
}

impl Runs {
    fn of(metrics: &str, model: &str) -> Self {
        let label = format!("model=\"{}.{model}\"", super::TASK);
        let sum = |name: &str| -> f64 {
            let lines = metrics.lines().filter(|line| line.starts_with(name) && line.contains(&label));
            lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
        };
        Self {
            rows: sum("nv_inference_count"),
            runs: sum("nv_inference_exec_count"),
            row_us: sum("nv_inference_compute_infer_duration_us"),
        }
    }

    /// Mean rows of a run, and mean time of one in milliseconds, since then.
    fn since(self, then: Self) -> Option<(f64, f64)> {
        let (rows, runs) = (self.rows - then.rows, self.runs - then.runs);
        (rows > 0.0 && runs > 0.0).then(|| (rows / runs, (self.row_us - then.row_us) / rows / 1e3))
    }
}

/// Seconds that measuring takes, about.
pub(crate) const ABOUT_S: u64 = 60;

/// Measures every model on a stack of its own.
///
/// # Errors
/// When the stack does not run, or a model does not answer.
pub(crate) fn measure(args: &LiveArgs, bar: &ProgressBar) -> anyhow::Result<Measured> {
    let cycles = count_cycles(args)?;
    let stack = Stack::start(args, "slack-split")?;
    let mut right: HashMap<String, [bool; TIERS.len()]> = HashMap::new();
    let mut models = Vec::new();
    for (place, (tier, model)) in TIERS.into_iter().enumerate() {
        bar.set_message(format!("{tier} alone"));
        let (alone, rows) =
            alone(args, &stack, tier, model, cycles, bar).with_context(|| format!("the {tier} model alone"))?;
        for row in &rows {
            right.entry(row.cycle.clone()).or_default()[place] = row.correct;
        }
        models.push(alone);
    }
    Ok(Measured { models, cycles, right })
}

fn alone(
    args: &LiveArgs,
    stack: &Stack,
    tier: &'static str,
    model: &str,
    cycles: usize,
    bar: &ProgressBar,
) -> anyhow::Result<(Alone, Vec<Row>)> {
    let drive = |passes, rate| Drive { passes, trace: None, rate, model: Some(model), deadline_ms: None };
    let runs = || anyhow::Ok(Runs::of(&stack.metrics()?, model));
    let told = "the service's metrics tell no runs of it";
    let before = runs()?;
    drive((1, LOOK.0.min(cycles)), LOOK.1).run(args, stack, bar)?;
    let (_, look_ms) = runs()?.since(before).context(told)?;
    let carried = 1e3 / look_ms.max(1e-3);

    let before = runs()?;
    let idle = drive((1, cycles), (IDLE.0 * carried).min(IDLE.1)).run(args, stack, bar)?;
    let (_, single_ms) = runs()?.since(before).context(told)?;
    let answered = idle.iter().filter(|row| row.ended == Ended::Answered).count();
    ensure!(answered == idle.len(), "{answered} of {} jobs were answered without load", idle.len());

    let wanted = (FULL_S * carried).clamp(FULL_ROWS.0, FULL_ROWS.1);
    let times = (wanted / cycles as f64).ceil().max(1.0) as usize;
    let before = runs()?;
    let full = drive((times, wanted as usize / times), (FULL.0 * carried).min(FULL.1)).run(args, stack, bar)?;
    let (batch, batch_ms) = runs()?.since(before).context(told)?;

    let mut took: Vec<f64> = idle.iter().map(|row| row.took_ms).collect();
    took.sort_by(f64::total_cmp);
    let alone = Alone {
        tier,
        single_ms,
        batch,
        batch_ms,
        carries: settled_rate(&full).context("too few jobs were answered under load")?,
        idle_p50_ms: super::score::quantile(&took, 0.5),
        idle_p99_ms: super::score::quantile(&took, 0.99),
        accuracy: idle.iter().filter(|row| row.correct).count() as f64 / idle.len() as f64,
        noise: spread(&took),
    };
    Ok((alone, idle))
}

/// Jobs a second between the ends of the answered rows, without the first and the last tenth.
fn settled_rate(rows: &[Row]) -> Option<f64> {
    let mut ends: Vec<f64> =
        rows.iter().filter(|row| row.ended == Ended::Answered).map(|row| row.offset_ms + row.took_ms).collect();
    ends.sort_by(f64::total_cmp);
    let cut = (EDGE_SHARE * ends.len() as f64) as usize;
    let inner = ends.get(cut..ends.len().checked_sub(cut)?)?;
    let span_ms = inner.last()? - inner.first()?;
    (inner.len() > 20 && span_ms > 0.0).then(|| (inner.len() - 1) as f64 * 1e3 / span_ms)
}

/// Standard deviation over mean of sorted figures, without the highest twentieth.
fn spread(sorted: &[f64]) -> f64 {
    let kept = sorted.get(..sorted.len() - sorted.len() / 20).unwrap_or_default();
    let mean = kept.iter().sum::<f64>() / kept.len().max(1) as f64;
    let square = kept.iter().map(|took| (took - mean).powi(2)).sum::<f64>() / kept.len().max(1) as f64;
    if mean > 0.0 { square.sqrt() / mean } else { 0.0 }
}

fn count_cycles(args: &LiveArgs) -> anyhow::Result<usize> {
    let mut rows =
        csv::Reader::from_path(&args.labels).with_context(|| format!("cannot read {}", args.labels.display()))?;
    let column =
        rows.headers()?.iter().position(|name| name == "cycle").context("the labels have no column `cycle`")?;
    let mut seen = std::collections::HashSet::new();
    for row in rows.records() {
        seen.insert(row?.get(column).unwrap_or_default().to_owned());
    }
    ensure!(!seen.is_empty(), "{} has no rows", args.labels.display());
    Ok(seen.len())
}

impl Measured {
    /// The model of the dearest tier.
    pub(crate) fn dear(&self) -> Option<&Alone> {
        self.models.iter().find(|alone| alone.tier == DEAR)
    }

    /// What a job costs besides its model's run, idle, in milliseconds: the way there, the queue, the settlement.
    pub(crate) fn around_ms(&self) -> f64 {
        self.models.first().map_or(0.0, |fast| (fast.idle_p50_ms - fast.single_ms).max(0.0))
    }
}

impl Alone {
    /// A run of `b` rows takes `alpha + beta·b`, in milliseconds; and the largest run seen to pay.
    pub(crate) fn line(&self) -> (f64, f64, usize) {
        if self.batch < 1.5 {
            // One row a run, also when many wait.
            return (0.0, self.batch_ms.max(self.single_ms), 1);
        }
        let beta = ((self.batch_ms - self.single_ms) / (self.batch - 1.0)).max(1e-4);
        ((self.single_ms - beta).max(0.0), beta, BATCH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alone(single_ms: f64, batch: f64, batch_ms: f64) -> Alone {
        Alone {
            tier: "fast",
            single_ms,
            batch,
            batch_ms,
            carries: 0.0,
            idle_p50_ms: 0.0,
            idle_p99_ms: 0.0,
            accuracy: 1.0,
            noise: 0.0,
        }
    }

    #[test]
    fn two_batch_sizes_give_a_line_and_one_gives_a_constant() {
        assert_eq!(alone(3.0, 5.0, 11.0).line(), (1.0, 2.0, BATCH));
        assert_eq!(alone(7.0, 1.0, 7.5).line(), (0.0, 7.5, 1));
    }

    #[test]
    fn runs_are_read_from_the_metrics_by_model() {
        let line = |name: &str, model: &str, version: u32, value: u32| {
            format!("nv_inference_{name}{{model=\"{model}\",version=\"{version}\"}} {value}\n")
        };
        let metrics = [
            line("count", "pump.rocket", 1, 10),
            line("count", "hydraulic-valve.rocket", 1, 30),
            line("count", "hydraulic-valve.rocket", 2, 10),
            line("exec_count", "hydraulic-valve.rocket", 1, 8),
            line("compute_infer_duration_us", "hydraulic-valve.rocket", 1, 80_000),
        ];
        let runs = Runs::of(&metrics.concat(), "rocket");
        assert_eq!(runs, Runs { rows: 40.0, runs: 8.0, row_us: 80_000.0 });
        assert_eq!(runs.since(Runs::default()), Some((5.0, 2.0)));
        assert_eq!(runs.since(runs), None);
    }

    #[test]
    fn what_is_carried_is_told_by_the_middle_of_a_backlog() {
        let row = |i: u32| Row {
            offset_ms: f64::from(i),
            cycle: String::new(),
            ended: Ended::Answered,
            correct: true,
            dear: true,
            rebound: false,
            reason: String::new(),
            took_ms: 9.0 * f64::from(i) + 5.0,
            late_sent_ms: 0.0,
        };
        let rate = settled_rate(&(0..200).map(row).collect::<Vec<_>>()).unwrap();
        assert!((rate - 100.0).abs() < 1e-9, "{rate}");
        assert_eq!(settled_rate(&(0..10).map(row).collect::<Vec<_>>()), None);
    }
}
