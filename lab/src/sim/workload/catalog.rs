//! The workloads W1 to W12: which shape, on which system, and what goes wrong.
//!
//! W5 (Azure code) and W8 (Twitter) are left out: their data is not to be had here. Loads are
//! shares of what all workers carry with the fast tier alone.

use std::path::Path;
use std::sync::Arc;

use super::Shape;
use super::trace;
use crate::sim::world::{Change, Class, Delivery, Labels, World};

/// One cell of the comparison: a shape on a system.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Workload {
    /// The family: W1 to W12, or `trace`.
    pub(crate) family: String,
    /// Which of the family.
    pub(crate) name: String,
    /// Who comes when.
    pub(crate) shape: Shape,
    /// The system.
    pub(crate) world: World,
    /// Arrivals, where the workload needs a number of its own.
    pub(crate) jobs: Option<usize>,
}

impl Workload {
    /// Family and name.
    pub(crate) fn title(&self) -> String {
        format!("{} {}", self.family, self.name)
    }

    /// Can accuracy be gained at all? In overload all time goes to the fastest tier, and only who is dropped differs.
    pub(crate) fn has_choice(&self) -> bool {
        self.shape.load() <= 1.0
    }

    /// About how long its arrivals take, in microseconds.
    fn length_us(&self, jobs: usize) -> u64 {
        let jobs = self.jobs.unwrap_or(jobs);
        (jobs as f64 * 1e6 / (self.shape.load() * self.world.capacity(0))) as u64
    }
}

impl Shape {
    /// Mean load.
    pub(crate) fn load(&self) -> f64 {
        match self {
            Self::Poisson { load } | Self::Bursty { load, .. } | Self::Trace { load, .. } => *load,
            Self::Ramp { from, to, .. } => (to + 1.5 * from) / 2.5,
            Self::Switching { loads, sojourns } => {
                (loads[0] * sojourns[0] + loads[1] * sojourns[1]) / (sojourns[0] + sojourns[1])
            }
        }
    }
}

/// What each family is, for the help and the report.
pub(crate) const FAMILIES: [(&str, &str); 10] = [
    ("W1", "Poisson, load 0.1 to 1.1 of what the fast tier carries"),
    ("W2", "bursty: one fifth even, the rest Gamma with CV2 2, 4, 8"),
    ("W3", "a ramp from 0.3 to 0.9, at 250, 500 and 5,000 jobs/s each second"),
    ("W4", "switching between 0.25 and 0.85, for 5 s and 1 s in the mean (MMPP)"),
    ("W6", "Azure's LLM conversations, recorded"),
    ("W7", "Mooncake's conversations, recorded"),
    ("W9", "half of the workers die in the middle"),
    ("W10", "the accurate tier loses 15 points after a third; 10 % of labels, 30 s late"),
    ("W11", "one worker takes twice as long"),
    ("W12", "bursty, deadlines of 50, 200 and 1,000 ms, and every fifth job worth twice as much"),
];

/// The workloads whose goals are an average over W1 to W7.
pub(crate) const AVERAGED: [&str; 6] = ["W1", "W2", "W3", "W4", "W6", "W7"];

/// All workloads on a system; recorded ones where `traces` has them.
///
/// # Errors
/// When a trace is there and cannot be read.
pub(crate) fn all(base: &World, jobs: usize, traces: &Path) -> anyhow::Result<Vec<Workload>> {
    let mut all = Vec::new();
    let mut add = |family: &str, name: String, shape: Shape, world: World, jobs: Option<usize>| {
        all.push(Workload { family: family.to_owned(), name, shape, world, jobs });
    };
    for load in [0.1, 0.3, 0.5, 0.7, 0.9, 1.1] {
        add("W1", format!("load {load}"), Shape::Poisson { load }, base.clone(), None);
    }
    for load in [0.35, 0.6] {
        for cv2 in [2.0, 4.0, 8.0] {
            add("W2", format!("CV2 {cv2}, load {load}"), Shape::Bursty { load, cv2 }, base.clone(), None);
        }
    }
    for climb in [250.0, 500.0, 5_000.0] {
        let climb_by = climb * base.capacity(0) / World::reference().capacity(0);
        let shape = Shape::Ramp { from: 0.3, to: 0.9, climb: climb_by };
        add("W3", format!("{climb} jobs/s2"), shape, base.clone(), None);
    }
    let switching = Shape::Switching { loads: [0.25, 0.85], sojourns: [5.0, 1.0] };
    add("W4", "MMPP".to_owned(), switching, base.clone(), None);
    for (family, folder) in [("W6", "azure-llm-conv"), ("W7", "mooncake-conversation")] {
        let path = traces.join(folder).join("arrivals_ms.txt");
        if path.exists() {
            let offsets_ms = trace::read(&path)?;
            for load in [0.35, 0.6] {
                let shape = Shape::Trace { offsets_ms: Arc::clone(&offsets_ms), load };
                add(family, format!("{folder}, load {load}"), shape, base.clone(), None);
            }
        }
    }
    for workload in trouble(base, jobs) {
        all.push(workload);
    }
    Ok(all)
}

/// One recorded trace, at loads from easy to hard.
pub(crate) fn of_trace(base: &World, offsets_ms: &Arc<[f64]>) -> Vec<Workload> {
    let at = |load| Workload {
        family: "trace".to_owned(),
        name: format!("load {load}"),
        shape: Shape::Trace { offsets_ms: Arc::clone(offsets_ms), load },
        world: base.clone(),
        jobs: None,
    };
    [0.2, 0.35, 0.6, 0.8].map(at).to_vec()
}

/// Those in which something goes wrong, and the mixed one.
fn trouble(base: &World, jobs: usize) -> Vec<Workload> {
    let make = |family: &str, name: &str, shape, world| Workload {
        family: family.to_owned(),
        name: name.to_owned(),
        shape,
        world,
        jobs: None,
    };
    let mut die = make("W9", "half die", Shape::Poisson { load: 0.35 }, base.clone());
    let middle = die.length_us(jobs) / 2;
    die.world.changes = (base.workers.div_ceil(2)..base.workers).map(|worker| (middle, worker, Change::Die)).collect();

    let mut drift = make("W10", "drift", Shape::Poisson { load: 0.15 }, base.clone());
    // Labels come 30 s late, so this one has its own length: 120 s.
    drift.jobs = Some((120.0 * 0.15 * base.capacity(0)) as usize);
    if let Some(dearest) = base.tiers.len().checked_sub(1) {
        drift.world.accuracies = vec![(40_000_000, dearest, base.tiers[dearest].accuracy - 0.15)];
    }
    drift.world.labels = Some(Labels { share: 0.1, delay_us: 30_000_000 });

    let mut slow = make("W11", "one slow", Shape::Poisson { load: 0.5 }, base.clone());
    slow.world.changes = vec![(0, 0, Change::Pace(2.0))];

    let mut mixed = make("W12", "mixed", Shape::Bursty { load: 0.6, cv2: 4.0 }, base.clone());
    let kinds = [(0.5, 0.3), (2.0, 0.4), (10.0, 0.3)];
    let longest = base.shortest_deadline_us() as f64;
    mixed.world.classes = kinds
        .iter()
        .flat_map(|(times, share)| {
            let deadline_us = (longest * times) as u64;
            [(0.8, 1.0), (0.2, 2.0)].map(|(part, value)| Class { share: share * part, deadline_us, value })
        })
        .collect();
    vec![die, drift, slow, mixed]
}

/// The staleness grid: age in milliseconds and isolates.
pub(crate) fn staleness() -> Vec<Delivery> {
    let at = |age_ms: u64, isolates| Delivery {
        period_us: 250_000,
        age_us: age_ms * 1_000,
        isolates,
        lost: if age_ms == 0 { 0.0 } else { 0.1 },
    };
    [0, 50, 250, 1_000, 5_000].into_iter().flat_map(|age| [1, 8, 64].map(|isolates| at(age, isolates))).collect()
}
