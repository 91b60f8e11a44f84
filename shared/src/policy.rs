//! Which tier should answer one reading, given the load and the accuracies.
//!
//! Owns the decision only: reading queues, caching and forwarding are the callers'. Total and
//! pure: whatever is unknown, stale or absurd is an input, and the same arguments always give the
//! same [`Decision`], at the edge, in the native service and in `lab`.

use crate::snapshot::{TaskLoad, TierLoad};

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
    Adaptive,
}

impl PolicyKind {
    /// All kinds, for help texts and tests.
    pub const ALL: [Self; 4] = [Self::AlwaysFast, Self::AlwaysAccurate, Self::QueueThreshold, Self::Adaptive];

    /// The name used in configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AlwaysFast => "always-fast",
            Self::AlwaysAccurate => "always-accurate",
            Self::QueueThreshold => "queue-threshold",
            Self::Adaptive => "adaptive",
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// A policy with its parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Policy {
    /// How tiers are chosen.
    pub kind: PolicyKind,
    /// Backlog, in jobs, at which the policy steps one tier down; at least 1.
    pub queue_threshold: u32,
    /// Below this measured accuracy `adaptive` does not trust a tier, 0..=1.
    pub accuracy_floor: f32,
}

/// `QUEUE_THRESHOLD` where nobody sets it.
pub const DEFAULT_QUEUE_THRESHOLD: u32 = 5;
/// A model that is right less than half the time is no better than a coin for two classes.
pub const DEFAULT_ACCURACY_FLOOR: f32 = 0.5;

impl Default for Policy {
    fn default() -> Self {
        Self {
            kind: PolicyKind::Adaptive,
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
}

/// Why a tier was chosen; its name is also log field and header value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The caller named the model or the tier.
    CallerPinned,
    /// The policy always takes this tier.
    PolicyFixed,
    /// The backlog is below the threshold: time for the dear model.
    QueueShort,
    /// The backlog is at or over the threshold.
    QueueLong,
    /// A dearer tier's measured accuracy is below the floor, or below that of a cheaper one.
    AccuracyLow,
    /// A dearer tier would have missed the caller's deadline.
    DeadlineTight,
    /// A cheaper tier would have missed the accuracy the caller asked for.
    AccuracyAsked,
    /// Load and accuracy are unknown: the cheap path adds the least load.
    LoadUnknown,
}

impl Reason {
    /// The name used in headers, logs and answers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::CallerPinned => "caller_pinned",
            Self::PolicyFixed => "policy_fixed",
            Self::QueueShort => "queue_short",
            Self::QueueLong => "queue_long",
            Self::AccuracyLow => "accuracy_low",
            Self::DeadlineTight => "deadline_tight",
            Self::AccuracyAsked => "accuracy_asked",
            Self::LoadUnknown => "load_unknown",
        }
    }
}

/// A tier, why, and the numbers it was based on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decision {
    /// Position of the tier, cheapest first.
    pub tier: usize,
    /// Why this one.
    pub reason: Reason,
    /// The backlog seen, in jobs.
    pub depth: u32,
    /// The chosen tier's accuracy as seen.
    pub accuracy: Option<f32>,
}

/// Chooses the tier for one reading; `load` lists the task's tiers, cheapest first.
///
/// A load without tiers gives tier 0 with [`Reason::LoadUnknown`].
#[must_use]
pub fn route(policy: &Policy, load: &TaskLoad, job: &JobSpec) -> Decision {
    let tiers = load.tiers.as_slice();
    let depth = load.depth();
    let because = |tier: usize, reason| Decision {
        tier,
        reason,
        depth,
        accuracy: tiers.get(tier).and_then(|tier| tier.accuracy),
    };
    let Some(dearest) = tiers.len().checked_sub(1) else {
        return because(0, Reason::LoadUnknown);
    };
    if let Some(tier) = job.pinned_tier.filter(|tier| *tier <= dearest) {
        return because(tier, Reason::CallerPinned);
    }
    match policy.kind {
        PolicyKind::AlwaysFast => because(0, Reason::PolicyFixed),
        PolicyKind::AlwaysAccurate => because(dearest, Reason::PolicyFixed),
        PolicyKind::QueueThreshold => {
            let tier = tier_by_depth(policy, depth, dearest);
            because(tier, depth_reason(tier, dearest))
        }
        PolicyKind::Adaptive => {
            let (tier, reason) = adapt(policy, tiers, depth, dearest, job);
            because(tier, reason)
        }
    }
}

/// One tier cheaper for each whole threshold of backlog.
fn tier_by_depth(policy: &Policy, depth: u32, dearest: usize) -> usize {
    let steps = depth / policy.queue_threshold.max(1);
    dearest.saturating_sub(usize::try_from(steps).unwrap_or(usize::MAX))
}

const fn depth_reason(tier: usize, dearest: usize) -> Reason {
    if tier == dearest { Reason::QueueShort } else { Reason::QueueLong }
}

fn adapt(policy: &Policy, tiers: &[TierLoad], depth: u32, dearest: usize, job: &JobSpec) -> (usize, Reason) {
    let by_depth = tier_by_depth(policy, depth, dearest);
    let mut choice = (by_depth, depth_reason(by_depth, dearest));

    let earns = |tier: usize| earns_its_cost(policy, tiers, tier);
    if !earns(choice.0) {
        choice = ((0..choice.0).rev().find(|tier| earns(*tier)).unwrap_or(0), Reason::AccuracyLow);
    }
    if let Some(asked) = job.min_accuracy
        && !reaches(tiers, choice.0, asked)
        && let Some(tier) = (choice.0..tiers.len()).find(|tier| reaches(tiers, *tier, asked))
    {
        choice = (tier, Reason::AccuracyAsked);
    }
    if let Some(deadline_ms) = job.deadline_ms
        && !in_time(tiers, choice.0, deadline_ms)
        && choice.0 > 0
    {
        let tier = (0..choice.0).rev().find(|tier| in_time(tiers, *tier, deadline_ms)).unwrap_or(0);
        choice = (tier, Reason::DeadlineTight);
    }
    choice
}

/// Is a tier's accuracy above the floor and above that of every cheaper tier? Unknown counts as yes.
fn earns_its_cost(policy: &Policy, tiers: &[TierLoad], tier: usize) -> bool {
    let known = |tier: usize| tiers.get(tier).and_then(|tier| tier.accuracy).filter(|accuracy| accuracy.is_finite());
    let Some(accuracy) = known(tier) else {
        return true;
    };
    accuracy >= policy.accuracy_floor && (0..tier).all(|cheaper| known(cheaper).is_none_or(|other| accuracy >= other))
}

fn reaches(tiers: &[TierLoad], tier: usize, asked: f32) -> bool {
    tiers.get(tier).and_then(|tier| tier.accuracy).is_some_and(|accuracy| accuracy >= asked)
}

/// Would a reading that waits behind the whole backlog still be answered in time?
///
/// Every waiting job counts with its own tier's service time and one session: on the safe side,
/// because batching and further workers only make it sooner. An unknown service time counts as 0.
fn in_time(tiers: &[TierLoad], tier: usize, deadline_ms: u64) -> bool {
    let service_us = |tier: &TierLoad| u64::from(tier.service_us.unwrap_or(0));
    let own = tiers.get(tier).map_or(0, service_us);
    let wait = tiers
        .iter()
        .fold(0_u64, |sum, tier| sum.saturating_add(service_us(tier).saturating_mul(u64::from(tier.depth))));
    wait.saturating_add(own) <= deadline_ms.saturating_mul(1_000)
}

#[cfg(test)]
mod tests;
