//! From runs to figures that can be shown: means with intervals, and how much of the gap to the bound is closed.

use serde::Serialize;

use super::runner::{Cell, Figures};
use super::stats::{Interval, bootstrap, mean, mean_at};

/// Below this distance between the best single tier and the bound (0.1 point) there is nothing to close.
const NOTHING_TO_CLOSE: f64 = 0.001;

/// One policy on one workload.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    /// The family of the workload.
    pub(crate) family: String,
    /// Its name.
    pub(crate) workload: String,
    /// The policy.
    pub(crate) policy: &'static str,
    /// Effective accuracy over all offered value.
    pub(crate) effective: Interval,
    /// The clairvoyant bound on it.
    pub(crate) bound: Interval,
    /// Share of the gap between always-fast and the bound that is closed; nothing where there is no gap.
    pub(crate) gap_closed: Option<Interval>,
    /// The same from the better of always-fast and always-accurate.
    pub(crate) gap_closed_from_best: Option<Interval>,
    /// Difference in effective accuracy to `slack-split`, paired by seed.
    pub(crate) against_ours: Option<Interval>,
    /// Share answered in time.
    pub(crate) attainment: f64,
    /// Mean accuracy of what was answered in time.
    pub(crate) on_time_accuracy: f64,
    /// Largest drop of accuracy over windows of 10 s.
    pub(crate) accuracy_drop: f64,
    /// Share not answered in time in the first 10 s of a burst; nothing without bursts.
    pub(crate) burst_violations: Option<f64>,
    /// Effective accuracy there.
    pub(crate) burst_effective: Option<f64>,
    /// Effective accuracy of the last third.
    pub(crate) last_effective: f64,
    /// Median answer time, in milliseconds.
    pub(crate) p50_ms: f64,
    /// 99th percentile, in milliseconds.
    pub(crate) p99_ms: f64,
    /// Share refused at the edge.
    pub(crate) refused: f64,
    /// Share answered by the dearest tier.
    pub(crate) dear: f64,
    /// Share answered by another tier than hinted.
    pub(crate) rebound: f64,
    /// Changes of direction of the published split, a minute.
    pub(crate) turns_a_minute: f64,
}

/// A policy over several workloads.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Overall {
    /// The policy.
    pub(crate) policy: &'static str,
    /// Mean over the workloads of the share of the gap that is closed; each family counts once.
    pub(crate) gap_closed: Interval,
    /// The least of all families.
    pub(crate) least: f64,
    /// Of each family.
    pub(crate) families: Vec<(String, f64)>,
}

/// The place of a policy in the runs.
fn place(policies: &[&'static str], name: &str) -> Option<usize> {
    policies.iter().position(|policy| *policy == name)
}

/// All rows, workload by workload.
pub(crate) fn rows(cells: &[Cell], policies: &[&'static str]) -> Vec<Row> {
    cells.iter().flat_map(|cell| (0..policies.len()).map(move |at| row(cell, policies, at))).collect()
}

fn row(cell: &Cell, policies: &[&'static str], at: usize) -> Row {
    let runs = &cell.runs[at];
    let seeds = runs.len();
    let all = |figure: fn(&Figures) -> f64| mean(runs.iter().map(figure));
    let effective: Vec<f64> = runs.iter().map(|run| run.effective).collect();
    let known = |number: f64| Some(number).filter(|number| number.is_finite());
    let ours = place(policies, "slack-split").filter(|ours| *ours != at);
    Row {
        family: cell.workload.family.clone(),
        workload: cell.workload.name.clone(),
        policy: policies[at],
        effective: bootstrap(seeds, |places| mean_at(&effective, places)),
        bound: bootstrap(seeds, |places| mean_at(&cell.bounds, places)),
        gap_closed: interval(seeds, |places| closed(cell, policies, at, places, false)),
        gap_closed_from_best: interval(seeds, |places| closed(cell, policies, at, places, true)),
        against_ours: ours.map(|ours| {
            let theirs: Vec<f64> = cell.runs[ours].iter().map(|run| run.effective).collect();
            bootstrap(seeds, |places| mean_at(&effective, places) - mean_at(&theirs, places))
        }),
        attainment: all(|run| run.attainment),
        on_time_accuracy: all(|run| run.on_time_accuracy),
        accuracy_drop: all(|run| run.accuracy_drop),
        burst_violations: known(all(|run| run.burst_violations)),
        burst_effective: known(all(|run| run.burst_effective)),
        last_effective: all(|run| run.last_effective),
        p50_ms: all(|run| run.p50_ms),
        p99_ms: all(|run| run.p99_ms),
        refused: all(|run| run.refused),
        dear: all(|run| run.dear),
        rebound: all(|run| run.rebound),
        turns_a_minute: all(|run| run.turns_a_minute),
    }
}

fn interval(seeds: usize, figure: impl Fn(&[usize]) -> f64) -> Option<Interval> {
    Some(bootstrap(seeds, figure)).filter(|interval| interval.mean.is_finite())
}

/// The share of the gap that a policy closes, over a resample of seeds; NaN where there is none.
fn closed(cell: &Cell, policies: &[&'static str], at: usize, places: &[usize], from_best: bool) -> f64 {
    let effective = |policy: usize| mean(places.iter().map(|place| cell.runs[policy][*place].effective));
    let fast = place(policies, "always-fast").map_or(f64::NAN, effective);
    let accurate = place(policies, "always-accurate").filter(|_| from_best).map_or(f64::NEG_INFINITY, effective);
    let base = fast.max(accurate);
    let gap = mean_at(&cell.bounds, places) - base;
    if gap < NOTHING_TO_CLOSE { f64::NAN } else { (effective(at) - base) / gap }
}

/// Each policy over the workloads of some families; those without a choice (overload) are shown, not averaged.
pub(crate) fn overall(cells: &[Cell], policies: &[&'static str], families: &[&str]) -> Vec<Overall> {
    let seeds = cells.first().map_or(0, |cell| cell.bounds.len());
    let of = |at: usize| {
        let family = |name: &str, places: &[usize]| {
            let cells = cells.iter().filter(|cell| cell.workload.family == name && cell.workload.has_choice());
            mean(cells.map(|cell| closed(cell, policies, at, places, false)).filter(|closed| closed.is_finite()))
        };
        let there: Vec<&str> =
            families.iter().copied().filter(|name| cells.iter().any(|cell| cell.workload.family == *name)).collect();
        let all: Vec<usize> = (0..seeds).collect();
        let each: Vec<(String, f64)> = there.iter().map(|name| ((*name).to_owned(), family(name, &all))).collect();
        Overall {
            policy: policies[at],
            gap_closed: bootstrap(seeds, |places| mean(there.iter().map(|name| family(name, places)))),
            least: each.iter().map(|(_, closed)| *closed).fold(f64::INFINITY, f64::min),
            families: each,
        }
    };
    (0..policies.len()).map(of).collect()
}
