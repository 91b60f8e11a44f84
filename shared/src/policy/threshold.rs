//! The policies that count the backlog: `queue-threshold` and `adaptive-threshold`.
//!
//! They need neither a plan nor profiles. What they must not see is a snapshot that many keepers
//! share and that is old: all of them then step up and down at once (docs/routing.md).

use super::{Decision, JobSpec, Policy, Reason};
use crate::snapshot::{TaskLoad, TierLoad};

/// One tier cheaper for each whole threshold of backlog.
pub(super) fn by_depth(policy: &Policy, load: &TaskLoad, dearest: usize) -> (usize, Reason) {
    let steps = load.depth() / policy.queue_threshold.max(1);
    let tier = dearest.saturating_sub(usize::try_from(steps).unwrap_or(usize::MAX));
    (tier, if tier == dearest { Reason::QueueShort } else { Reason::QueueLong })
}

/// Like [`by_depth`], but no tier whose accuracy does not earn its cost, and minding what the job asks for.
pub(super) fn adapt(policy: &Policy, load: &TaskLoad, dearest: usize, job: &JobSpec) -> (usize, Reason) {
    let tiers = load.tiers.as_slice();
    let mut choice = by_depth(policy, load, dearest);

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

/// The decision for a tier and a reason, with what the load says of both.
pub(super) fn because(load: &TaskLoad, (tier, reason): (usize, Reason)) -> Decision {
    let accuracy = load.tiers.get(tier).and_then(|tier| tier.accuracy);
    Decision { tier, reason, depth: load.depth(), accuracy, ..Decision::default() }
}

/// Is a tier's accuracy above the floor and above that of every cheaper tier? Unknown counts as yes.
fn earns_its_cost(policy: &Policy, tiers: &[TierLoad], tier: usize) -> bool {
    let known = |tier: usize| tiers.get(tier).and_then(|tier| tier.accuracy).filter(|accuracy| accuracy.is_finite());
    let Some(accuracy) = known(tier) else {
        return true;
    };
    accuracy >= policy.accuracy_floor && (0..tier).all(|cheaper| known(cheaper).is_none_or(|other| accuracy >= other))
}

/// Does a tier's known accuracy reach what was asked for?
pub(super) fn reaches(tiers: &[TierLoad], tier: usize, asked: f32) -> bool {
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
