//! What a decision weighed beside what it came to: what the reading asked for, and what each tier promised.
//!
//! Owns the record only, which travels with a job and is told by `crate::decisions`; the numbers are the policy's.

use serde::{Deserialize, Serialize};
use shared::policy::{Decision, Policy};
use shared::reading::{Priority, Request};
use shared::snapshot::TaskLoad;

/// What was known of a reading and of the tiers when its tier was chosen.
///
/// The tiers are as the service saw them when it took the reading in, also where the edge decided.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Weighed {
    /// The name of a [`shared::policy::PolicyKind`].
    pub policy: String,
    /// Which change of the policy this is; 0 for what is configured.
    #[serde(default)]
    pub policy_version: u64,
    /// How long the caller can wait, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// The least accuracy the caller can live with, 0..=1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_accuracy: Option<f32>,
    /// How urgent it is.
    #[serde(default)]
    pub priority: Priority,
    /// The task's tiers, cheapest first.
    #[serde(default)]
    pub tiers: Vec<Alternative>,
}

/// What a tier promised.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Alternative {
    /// The tier.
    pub tier: String,
    /// When it would be done, in milliseconds from the decision; none under policies that predict nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_ms: Option<f32>,
    /// Its chance to be done by the deadline, 0..=1; none without a deadline, or a prediction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_time: Option<f32>,
    /// Its model's accuracy as seen, 0..=1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f32>,
}

impl Weighed {
    /// What `own`, the service's decision by this load, weighed.
    pub(super) fn new(policy: &Policy, load: &TaskLoad, request: &Request<'_>, own: &Decision) -> Self {
        let policy = load.plan.as_ref().and_then(|plan| plan.policy.as_ref()).unwrap_or(policy);
        let alternative = |(at, tier): (usize, &shared::snapshot::TierLoad)| {
            let completion = own.completion_us.get(at).copied().filter(|us| us.is_finite() && *us > 0.0);
            let chance = own.on_time.get(at).copied().filter(|_| completion.is_some() && request.deadline_ms.is_some());
            Alternative {
                tier: tier.tier.clone(),
                // To the microsecond, and to 1/10000: more digits would be noise.
                completion_ms: completion.map(|us| us.round() / 1e3),
                on_time: chance.filter(|chance| chance.is_finite()).map(|chance| (chance * 1e4).round() / 1e4),
                accuracy: tier.accuracy,
            }
        };
        Self {
            policy: policy.kind.name().to_owned(),
            policy_version: 0,
            deadline_ms: request.deadline_ms,
            min_accuracy: request.min_accuracy,
            priority: request.priority.unwrap_or_default(),
            tiers: load.tiers.iter().enumerate().map(alternative).collect(),
        }
    }

    /// What a tier promised.
    #[must_use]
    pub fn of(&self, tier: &str) -> Option<&Alternative> {
        self.tiers.iter().find(|alternative| alternative.tier == tier)
    }
}
