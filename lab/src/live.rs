//! `lab live`: policies compared on the real stack, through the edge, on labelled cycles; and the simulator beside it.
//!
//! Reads as the story of a comparison. `stack` starts the programs, `measure` looks at each model
//! alone, `stair` draws the arrivals, `drive` sends them, `score` counts, `twin` simulates the same,
//! `report` and `picture` show it. Building and making the models is `script/bench live`'s.

mod args;
mod drive;
mod measure;
mod picture;
mod report;
mod score;
mod stack;
mod stair;
mod twin;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

pub(crate) use args::LiveArgs;
use drive::{Drive, Row};
use measure::Measured;
use score::{Figures, Point};
use stack::Stack;
use stair::{Stair, Step};
use twin::Expected;

use crate::bench::facts;
use crate::sim::report::png::Painter;

/// The task of the cycles.
const TASK: &str = "hydraulic-valve";
/// Its tiers with their models, cheapest first.
const TIERS: [(&str, &str); 2] = [("fast", "logreg"), ("accurate", "rocket")];
/// The dearest tier.
const DEAR: &str = "accurate";
/// Before a run that counts, so many seconds of an idle load: connections, snapshots and first runs are there.
const WARM_UP_S: f64 = 2.0;
/// The load of the warm-up, as a share of what the accurate model carries.
const WARM_UP_LOAD: f64 = 0.2;
/// A load that is sent later than this is not the load that was planned, in milliseconds.
const SENT_LATE_MS: f64 = 20.0;
/// What the fast tier must carry, as a share of the highest load, for the models to be the bound.
const ROOM: f64 = 1.2;

/// The circumstances, as the report tells them.
#[derive(Debug, Serialize)]
struct Setup {
    commit: String,
    cores: usize,
    load_average: String,
    store: &'static str,
    deadline_ms: u32,
    step_s: u32,
    seed: u64,
}

/// One policy's run.
#[derive(Debug, Serialize)]
struct Run {
    policy: &'static str,
    steps: Vec<Figures>,
    overall: Figures,
    reasons: BTreeMap<String, usize>,
    expected: Vec<Expected>,
    expected_overall: Expected,
    curve: Vec<Point>,
}

/// All that was found.
#[derive(Debug, Serialize)]
struct Found {
    setup: Setup,
    measured: Measured,
    steps: Vec<Step>,
    runs: Vec<Run>,
    notes: Vec<String>,
}

/// Compares, prints, writes.
///
/// # Errors
/// When a program or file is not there, or the stack does not answer.
pub(crate) fn run(args: &LiveArgs) -> anyhow::Result<()> {
    let setup = Setup {
        commit: args.commit.clone(),
        cores: facts::cores(),
        load_average: facts::load_average(),
        store: if args.redis.is_some() { "Redis" } else { "a SQLite file" },
        deadline_ms: args.deadline_ms,
        step_s: args.step_s(),
        seed: args.seed,
    };
    let policies = args.policies();
    let a_run = u64::from(args.step_s()) * args.loads.len() as u64 + WARM_UP_S as u64;
    let bar = ProgressBar::new(measure::ABOUT_S + a_run * policies.len() as u64);
    bar.set_style(ProgressStyle::with_template("{msg:24} {wide_bar:.green} {elapsed} of about {len} s")?);

    let measured = measure::measure(args, &bar)?;
    bar.set_position(measure::ABOUT_S);
    let capacity = measured.dear().map_or(0.0, |dear| dear.carries);
    ensure!(capacity > 0.0, "the accurate model carries nothing");
    let stair = Stair::new(&args.loads, capacity, f64::from(args.step_s()), measured.cycles, args.seed);
    let (_dir, trace) = drive::trace_file(&stair)?;

    let mut notes = Vec::new();
    let mut runs = Vec::new();
    for (i, policy) in policies.iter().copied().enumerate() {
        bar.set_message(policy);
        bar.set_position(measure::ABOUT_S + a_run * i as u64);
        let rows = drive_policy(args, policy, &stair, &trace, capacity, &measured, &bar)
            .with_context(|| format!("under {policy}"))?;
        runs.push(judge(args, policy, &rows, &stair, &measured));
    }
    bar.finish_and_clear();
    remarks(&mut notes, &measured, &stair, &runs);
    let found = Found { setup, measured, steps: stair.steps, runs, notes };
    crate::print(&report::text(&found))?;
    write(args, &found)
}

/// A fresh stack under a policy, the whole stair.
fn drive_policy(
    args: &LiveArgs,
    policy: &str,
    stair: &Stair,
    trace: &Path,
    capacity: f64,
    measured: &Measured,
    bar: &ProgressBar,
) -> anyhow::Result<Vec<Row>> {
    let stack = Stack::start(args, policy)?;
    let rate = WARM_UP_LOAD * capacity;
    let rows = ((WARM_UP_S * rate) as usize).clamp(1, measured.cycles);
    let warm_up = Drive { passes: (1, rows), trace: None, rate, model: None, deadline_ms: Some(args.deadline_ms) };
    warm_up.run(args, &stack, bar).context("warming up")?;
    let drive = Drive {
        passes: stair.passes,
        trace: Some((trace, &stair.offsets_ms)),
        rate: 0.0,
        model: None,
        deadline_ms: Some(args.deadline_ms),
    };
    drive.run(args, &stack, bar)
}

fn judge(args: &LiveArgs, policy: &'static str, rows: &[Row], stair: &Stair, measured: &Measured) -> Run {
    let deadline_ms = f64::from(args.deadline_ms);
    let of_step = |place| rows.iter().filter(move |row| stair.step_of(row.offset_ms) == place);
    // The mean over the very cycles that were sent: no chance in which of them a run happened to get.
    let accuracies: Vec<f64> = (0..TIERS.len())
        .map(|tier| {
            let right = rows.iter().filter(|row| measured.right.get(&row.cycle).is_some_and(|right| right[tier]));
            right.count() as f64 / rows.len().max(1) as f64
        })
        .collect();
    let world = twin::world(measured, args, &accuracies);
    let (expected, expected_overall) = twin::expect(policy, &world, stair, args.seed);
    Run {
        policy,
        steps: (0..stair.steps.len()).map(|place| score::figures(of_step(place), deadline_ms)).collect(),
        overall: score::figures(rows.iter(), deadline_ms),
        reasons: score::reasons(rows),
        expected,
        expected_overall,
        curve: score::curve(rows, stair, deadline_ms),
    }
}

/// What a reader must know to trust the figures.
fn remarks(notes: &mut Vec<String>, measured: &Measured, stair: &Stair, runs: &[Run]) {
    let highest = stair.steps.iter().map(|step| step.rate).fold(0.0, f64::max);
    if let Some(fast) = measured.models.first()
        && fast.carries < ROOM * highest
    {
        notes.push(format!(
            "The stack carries {:.0} jobs a second with the fast model, the highest load is {highest:.0}: HTTP and the queue, not \
             the models, are the bound there. A dearer accurate model or a quieter machine helps.",
            fast.carries
        ));
    }
    for run in runs.iter().filter(|run| run.overall.sent_late_p99_ms > SENT_LATE_MS) {
        notes.push(format!(
            "Under {} the load itself was up to {:.0} ms late (99 of 100): the machine had no time for it, and the wait counts \
             against the policy.",
            run.policy, run.overall.sent_late_p99_ms
        ));
    }
}

fn write(args: &LiveArgs, found: &Found) -> anyhow::Result<()> {
    let put = |path: &Path, bytes: &[u8]| {
        std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
    };
    if let Some(path) = &args.json {
        put(path, &serde_json::to_vec_pretty(found)?)?;
    }
    if let Some(path) = &args.csv {
        put(path, &report::csv(found)?)?;
    }
    if let Some(folder) = &args.charts {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let svg = picture::picture(found);
        put(&folder.join("live.svg"), svg.as_bytes())?;
        put(&folder.join("live.png"), &Painter::new().png(&svg)?)?;
    }
    Ok(())
}
