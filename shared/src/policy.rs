//! Which tier should answer one reading, given the load and the accuracies.
//!
//! Three pure functions, in the order in which a job meets them: [`plan()`] splits the load once for
//! all keepers, [`route`] decides for one job from what a keeper knows, and [`bind()`] decides again
//! at the worker, where the queue is seen as it is. Under a cascade [`cascade::again`] says of an
//! answer whether a dearer tier is asked as well. Owns the decisions only: reading queues, caching
//! and forwarding are the callers'. Total: whatever is unknown, stale or absurd is an input,
//! and the same arguments always give the same answer, at the edge, in the native service and in `lab`.

mod admit;
pub mod bind;
pub mod cascade;
mod decision;
pub mod draw;
mod estimate;
mod hull;
mod math;
pub mod plan;
pub mod profile;
pub mod selfcheck;
mod split;
mod steady;
mod threshold;

pub use bind::{Batches, Behind, Claimed, bind};
pub use cascade::{Cascade, DEFAULT_CASCADE_BELOW};
pub use decision::{Decision, Mode, Reason};
pub use draw::Draws;
pub use plan::{Observations, Plan, Tuning, plan};
pub use profile::{MAX_TIERS, Profile, TierModel};

use crate::reading::Priority;
use crate::snapshot::TaskLoad;

/// How tiers are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyKind {
    /// The cheapest tier, always.
    AlwaysFast,
    /// The dearest tier, always.
    AlwaysAccurate,
    /// The dearest tier while the backlog is short; one tier cheaper for each threshold's worth of it.
    QueueThreshold,
    /// Like `queue-threshold`, but no tier whose accuracy does not earn its cost.
    AdaptiveThreshold,
    /// A planned share of the jobs for the dearer tier, those with most slack first; without a plan, as the one before.
    SlackSplit,
    /// The cheapest tier for all; the worker asks a dearer one where that answer is not sure enough ([`cascade`]).
    Cascade,
}

impl PolicyKind {
    /// All kinds, for help texts and tests. A position is a number on the wire: new ones come last.
    pub const ALL: [Self; 6] = [
        Self::AlwaysFast,
        Self::AlwaysAccurate,
        Self::QueueThreshold,
        Self::AdaptiveThreshold,
        Self::SlackSplit,
        Self::Cascade,
    ];

    /// The name used in configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AlwaysFast => "always-fast",
            Self::AlwaysAccurate => "always-accurate",
            Self::QueueThreshold => "queue-threshold",
            Self::AdaptiveThreshold => "adaptive-threshold",
            Self::SlackSplit => "slack-split",
            Self::Cascade => "cascade",
        }
    }

    /// The kind of that name; `adaptive` is what `adaptive-threshold` was called.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        if name == "adaptive" {
            return Some(Self::AdaptiveThreshold);
        }
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// A policy with its parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Policy {
    /// How tiers are chosen.
    pub kind: PolicyKind,
    /// Backlog, in jobs, at which the policies that count it step one tier down; at least 1.
    pub queue_threshold: u32,
    /// Below this measured accuracy `adaptive-threshold` does not trust a tier, 0..=1.
    pub accuracy_floor: f32,
}

/// `QUEUE_THRESHOLD` where nobody sets it.
pub const DEFAULT_QUEUE_THRESHOLD: u32 = 5;
/// A model that is right less than half the time is no better than a coin for two classes.
pub const DEFAULT_ACCURACY_FLOOR: f32 = 0.5;

impl Default for Policy {
    fn default() -> Self {
        Self {
            kind: PolicyKind::SlackSplit,
            queue_threshold: DEFAULT_QUEUE_THRESHOLD,
            accuracy_floor: DEFAULT_ACCURACY_FLOOR,
        }
    }
}

/// What one reading asks for.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct JobSpec {
    /// The tier the caller named, by position.
    pub pinned_tier: Option<usize>,
    /// How long the caller can wait, in milliseconds.
    pub deadline_ms: Option<u64>,
    /// The least accuracy the caller can live with, 0..=1.
    pub min_accuracy: Option<f32>,
    /// How urgent it is; also what a right answer in time is worth ([`value_of`]).
    pub class: Priority,
}

/// What a right answer in time is worth, by class; 1 for a usual job.
#[must_use]
pub const fn value_of(class: Priority) -> f32 {
    match class {
        Priority::High => 2.0,
        Priority::Normal => 1.0,
        Priority::Low => 0.5,
    }
}

/// What is known at the moment of a decision beside the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moment {
    /// Age of the picture, in milliseconds.
    pub age_ms: u64,
    /// Jobs of this task that this keeper has sent since the picture was made.
    pub sent: u32,
    /// The numbers that stand for chance.
    pub draws: Draws,
}

/// Chooses the tier for one reading; `load` lists the task's tiers, cheapest first.
///
/// A plan that names a policy overrules `policy`: what is set at run time holds at every keeper. A load without
/// tiers gives tier 0 with [`Reason::LoadUnknown`]; tiers behind the [`MAX_TIERS`]th are only taken where they are pinned
/// or by the policies without a plan.
#[must_use]
pub fn route(policy: &Policy, load: &TaskLoad, job: &JobSpec, moment: &Moment) -> Decision {
    let because = |choice| threshold::because(load, choice);
    let Some(dearest) = load.tiers.len().checked_sub(1) else {
        return because((0, Reason::LoadUnknown));
    };
    let policy = load.plan.as_ref().and_then(|plan| plan.policy.as_ref()).unwrap_or(policy);
    let pinned = job.pinned_tier.filter(|tier| *tier <= dearest);
    match (policy.kind, pinned, &load.plan) {
        (PolicyKind::SlackSplit, _, Some(plan)) => split::decide(plan, load, job, pinned, moment),
        (_, Some(tier), _) => because((tier, Reason::CallerPinned)),
        (PolicyKind::AlwaysFast, ..) => because((0, Reason::PolicyFixed)),
        (PolicyKind::AlwaysAccurate, ..) => because((dearest, Reason::PolicyFixed)),
        (PolicyKind::QueueThreshold, ..) => because(threshold::by_depth(policy, load, dearest)),
        (PolicyKind::AdaptiveThreshold, ..) => because(threshold::adapt(policy, load, dearest, job)),
        (PolicyKind::Cascade, ..) => cascade::start(load, job, moment),
        (PolicyKind::SlackSplit, _, None) => {
            Decision { mode: Mode::Blind, ..because(threshold::adapt(policy, load, dearest, job)) }
        }
    }
}

#[cfg(test)]
mod tests;
