//! The policies that are compared: names, what they are, and how they are made for a workload.

use super::Policy;
use super::fixed::{Dequeue, Fixed, SlackFit};
use super::gears::{Gears, Proteus, Rule};
use super::slack::{Ablation, SlackSplit};
use super::threshold::{AtEdge, AtWorker};
use crate::sim::world::{MAX_TIERS, World};

/// What was tuned for a workload, on seeds that are not scored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Tuned {
    /// The best threshold of a grid, in jobs.
    pub(crate) threshold: usize,
    /// Of `slackfit`, `slackfit-filled`, `maxacc` and `maxbatch`: where more wait, what a full batch makes late is dropped.
    pub(crate) crowds: [usize; 4],
    /// What each tier alone carries with less than 1 % of violations, in jobs a second (Poisson).
    pub(crate) carries: [f64; MAX_TIERS],
}

/// A policy's entry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// What it is.
    pub(crate) what: &'static str,
    /// Ours and not a rival.
    pub(crate) ours: bool,
    /// Run where nobody names policies.
    pub(crate) usual: bool,
}

const fn rival(name: &'static str, what: &'static str) -> Entry {
    Entry { name, what, ours: false, usual: true }
}

const fn ours(name: &'static str, what: &'static str, usual: bool) -> Entry {
    Entry { name, what, ours: true, usual }
}

/// All policies, in the order of the tables.
pub(crate) const ALL: [Entry; 22] = [
    rival("always-fast", "the fastest tier for all"),
    rival("always-accurate", "the most accurate tier for all"),
    rival("threshold-5-edge", "accurate while at most 5 wait in the snapshot; workers obey"),
    rival("threshold-5", "accurate while at most 5 wait when a worker is free"),
    rival("threshold-tuned", "the same with the best threshold of a grid, for each workload"),
    rival("model-switching", "HotCloud'20: the best model for the last second's rate"),
    rival("slackfit", "SuperServe's rule, fresh, at the worker"),
    rival("slackfit-filled", "the same; short batches on the most accurate tier that fits"),
    rival("maxacc", "SuperServe's MaxAcc, fresh, at the worker"),
    rival("maxbatch", "SuperServe's MaxBatch, fresh, at the worker"),
    rival("proteus-2", "Proteus for two tiers: workers and shares by plan, batches that wait"),
    rival("jellyfish-2", "Jellyfish: the most accurate tier that carries the rate within half of the deadline"),
    rival("cascade-gear", "CascadeServe's gears every 100 ms, no cascade"),
    ours("slack-split-edge", "our split at the edge; workers obey", true),
    ours("slack-split", "our split at the edge, bound again at the worker", true),
    ours("worker-only", "our binding at the worker alone; the edge hints at nothing", true),
    ours("no-protection", "slack-split without protecting what waits behind (ablation)", false),
    ours("no-up-bind", "slack-split that never gives a dearer tier than hinted (ablation)", false),
    ours("no-down-bind", "slack-split that never gives a cheaper tier than hinted (ablation)", false),
    ours("no-fade", "slack-split-edge that trusts an old snapshot as a young one (ablation)", false),
    ours("no-random", "slack-split-edge with a rule in place of a share (ablation)", false),
    ours("static-accuracy", "slack-split that learns no accuracy (ablation)", false),
];

/// SuperServe's rules by name.
pub(crate) const FITS: [(&str, Dequeue); 4] = [
    ("slackfit", Dequeue::SlackFit),
    ("slackfit-filled", Dequeue::SlackFitFilled),
    ("maxacc", Dequeue::MaxAcc),
    ("maxbatch", Dequeue::MaxBatch),
];

/// The entry of a name.
pub(crate) fn entry(name: &str) -> Option<&'static Entry> {
    ALL.iter().find(|entry| entry.name == name)
}

/// A policy for a run.
pub(crate) fn make(name: &str, world: &World, tuned: &Tuned) -> Box<dyn Policy + Send> {
    let dearest = world.tiers.len().saturating_sub(1);
    let slack = |ablation| -> Box<dyn Policy + Send> { Box::new(SlackSplit::new(world, ablation)) };
    let crowd = FITS.iter().position(|fit| fit.0 == name).map_or(usize::MAX, |place| tuned.crowds[place]);
    match name {
        "always-accurate" => Box::new(Fixed { tier: dearest }),
        "threshold-5-edge" => Box::new(AtEdge { threshold: 5 }),
        "threshold-5" => Box::new(AtWorker { threshold: 5 }),
        "threshold-tuned" => Box::new(AtWorker { threshold: tuned.threshold }),
        "model-switching" => Box::new(Gears::new(Rule::ModelSwitching { carries: tuned.carries })),
        "cascade-gear" => Box::new(Gears::new(Rule::CascadeGear { carries: tuned.carries })),
        "jellyfish-2" => Box::new(Gears::new(Rule::Jellyfish)),
        "slackfit" | "slackfit-filled" | "maxacc" | "maxbatch" => {
            let fit = FITS.iter().find(|fit| fit.0 == name).map_or(Dequeue::SlackFit, |fit| fit.1);
            Box::new(SlackFit::new(fit, world, crowd))
        }
        "proteus-2" => Box::new(Proteus::new()),
        "slack-split-edge" => slack(Ablation::EdgeOnly),
        "slack-split" => slack(Ablation::None),
        "worker-only" => slack(Ablation::WorkerOnly),
        "no-protection" => slack(Ablation::NoProtection),
        "no-up-bind" => slack(Ablation::NoUpBind),
        "no-down-bind" => slack(Ablation::NoDownBind),
        "no-fade" => slack(Ablation::NoFade),
        "no-random" => slack(Ablation::NoRandom),
        "static-accuracy" => slack(Ablation::StaticAccuracy),
        _ => Box::new(Fixed { tier: 0 }),
    }
}
