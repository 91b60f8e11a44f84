//! A whole comparison: the workloads, the grid of stale snapshots, the course of single runs, and the goals.
//!
//! Owns what is run beside what and which of it answers which goal. Running is `runner`'s, showing is
//! `report`'s.

use serde::Serialize;

use super::analysis::{Overall, Row, overall, rows};
use super::engine::run;
use super::policy::catalog::{Tuned, make};
use super::runner::{Cell, Job, Speed, compare};
use super::watch::Moment;
use super::workload::catalog::{AVERAGED, Workload, staleness};
use super::workload::{Arrivals, Shape};
use super::world::{MAX_TIERS, World};

/// Policies whose decisions depend on a snapshot, and the two that show what is lost.
const STALE: [&str; 4] = ["always-fast", "threshold-5-edge", "slack-split-edge", "slack-split"];

/// A row at one point of the staleness grid.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct StaleRow {
    /// Delivery of a snapshot, in milliseconds.
    pub(crate) age_ms: u64,
    /// Isolates.
    pub(crate) isolates: u32,
    /// The figures.
    #[serde(flatten)]
    pub(crate) row: Row,
}

/// The course of one run.
#[derive(Debug, Clone)]
pub(crate) struct Course {
    /// The workload.
    pub(crate) workload: String,
    /// The policy.
    pub(crate) policy: &'static str,
    /// A moment a period.
    pub(crate) moments: Vec<Moment>,
}

/// What was asked of a comparison.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Asked {
    /// Seeds of each workload.
    pub(crate) seeds: usize,
    /// Arrivals of a run, about.
    pub(crate) jobs: usize,
    /// Policies, in order.
    pub(crate) policies: Vec<&'static str>,
    /// The system.
    pub(crate) system: String,
}

/// All that a comparison found.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Study {
    /// What was asked.
    pub(crate) asked: Asked,
    /// Seconds of one core for a million jobs under one policy.
    pub(crate) seconds_a_million: f64,
    /// Jobs simulated over all policies.
    pub(crate) simulated: u64,
    /// Each policy over the averaged workloads.
    pub(crate) overall: Vec<Overall>,
    /// Every workload with every policy.
    pub(crate) rows: Vec<Row>,
    /// The staleness grid.
    pub(crate) staleness: Vec<StaleRow>,
    /// Overall figures of `slack-split` at the worst point of the grid, and of `slack-split-edge` at the usual one.
    #[serde(skip)]
    pub(crate) courses: Vec<Course>,
}

/// Adds what a policy is compared with: the ends of the scale, and ours.
pub(crate) fn with_ends(mut policies: Vec<&'static str>) -> Vec<&'static str> {
    for end in ["always-accurate", "always-fast"] {
        if !policies.contains(&end) {
            policies.insert(0, end);
        }
    }
    policies
}

/// Runs a comparison; `step` is told of each run.
pub(crate) fn study(
    workloads: &[Workload],
    asked: Asked,
    grid: bool,
    threads: usize,
    step: &(dyn Fn() + Sync),
) -> Study {
    let job = Job { policies: &asked.policies, seeds: asked.seeds, jobs: asked.jobs, threads };
    let (cells, mut speed) = compare(workloads, &job, step);
    let staleness = if grid { stale(workloads, &asked, threads, &mut speed, step) } else { Vec::new() };
    Study {
        seconds_a_million: speed.seconds_a_million(),
        simulated: speed.jobs,
        overall: overall(&cells, &asked.policies, &families(&cells)),
        rows: rows(&cells, &asked.policies),
        staleness,
        courses: courses(workloads, asked.jobs),
        asked,
    }
}

/// The families whose mean counts: those of the goals, or what there is where none of them was run.
fn families(cells: &[Cell]) -> Vec<&str> {
    let there = |name: &&str| cells.iter().any(|cell| cell.workload.family == **name);
    let averaged: Vec<&str> = AVERAGED.into_iter().filter(there).collect();
    if !averaged.is_empty() {
        return averaged;
    }
    let mut all: Vec<&str> = Vec::new();
    for cell in cells {
        if !all.contains(&cell.workload.family.as_str()) {
            all.push(&cell.workload.family);
        }
    }
    all
}

/// How many runs a comparison makes, for a bar of progress.
pub(crate) fn runs(workloads: &[Workload], asked: &Asked, grid: bool) -> u64 {
    let grid = if grid { gridded(workloads).len() * staleness().len() * STALE.len() * grid_seeds(asked) } else { 0 };
    (workloads.len() * asked.policies.len() * asked.seeds + grid) as u64
}

/// The grid needs no more seeds than a difference of half a point does.
fn grid_seeds(asked: &Asked) -> usize {
    asked.seeds.min(8)
}

/// The workloads of the grid: the averaged ones at their usual load, one of each family.
fn gridded(workloads: &[Workload]) -> Vec<&Workload> {
    let wanted = ["W1 load 0.5", "W2 CV2 8, load 0.35", "W3 500 jobs/s2", "W4 MMPP"];
    let mut found: Vec<&Workload> =
        workloads.iter().filter(|workload| wanted.contains(&workload.title().as_str())).collect();
    found.extend(workloads.iter().filter(|w| ["W6", "W7"].contains(&w.family.as_str()) && w.name.ends_with("0.35")));
    found
}

fn stale(
    workloads: &[Workload],
    asked: &Asked,
    threads: usize,
    speed: &mut Speed,
    step: &(dyn Fn() + Sync),
) -> Vec<StaleRow> {
    let mut all = Vec::new();
    for delivery in staleness() {
        let there: Vec<Workload> = gridded(workloads)
            .into_iter()
            .map(|workload| {
                let mut workload = workload.clone();
                workload.world.delivery = delivery;
                workload
            })
            .collect();
        let job = Job { policies: &STALE, seeds: grid_seeds(asked), jobs: asked.jobs, threads };
        let (cells, took) = compare(&there, &job, step);
        speed.jobs += took.jobs;
        speed.took += took.took;
        let rows = rows(&cells, &STALE);
        all.extend(rows.into_iter().map(|row| StaleRow {
            age_ms: delivery.age_us / 1_000,
            isolates: delivery.isolates,
            row,
        }));
    }
    all
}

/// Single runs whose course is drawn: the herd, and a burst.
fn courses(workloads: &[Workload], jobs: usize) -> Vec<Course> {
    let Some(base) = workloads.first().map(|workload| &workload.world) else {
        return Vec::new();
    };
    let mut plain = base.clone();
    (plain.changes, plain.accuracies, plain.labels) = (Vec::new(), Vec::new(), None);
    let herd = World { delivery: super::world::Delivery { age_us: 50_000, ..plain.delivery }, ..plain.clone() };
    let steady = ("a steady load of 0.35", Shape::Poisson { load: 0.35 }, herd);
    let burst = ("bursts from 0.25 to 0.85", Shape::Switching { loads: [0.25, 0.85], sojourns: [5.0, 1.0] }, plain);
    let mut courses = Vec::new();
    for (name, shape, world) in [steady, burst] {
        let arrivals = Arrivals::new(&shape, &world, jobs.min(50_000), 3);
        for policy in ["threshold-5-edge", "slack-split-edge", "slack-split", "always-fast"] {
            let tuned = Tuned { threshold: 5, crowds: [8; 4], carries: [0.0; MAX_TIERS] };
            let outcome = run(&world, &arrivals, make(policy, &world, &tuned).as_mut(), 3, true);
            let moments = outcome.watch.map_or_else(Vec::new, |watch| watch.moments);
            courses.push(Course { workload: name.to_owned(), policy, moments });
        }
    }
    courses
}
