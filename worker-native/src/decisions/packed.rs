//! A call's case in a third of its size, for the store: arrays in place of named fields.
//!
//! What the record beside it says anyway (ids, task, model, what a cascade did) is left out.

use serde::{Deserialize, Serialize};
use shared::reading::Priority;

use super::{Case, End};
use crate::routing::{Alternative, DecisionRecord, Weighed};

// By, tier, reason, depth, accuracy, snapshot's age, mode, propensity, share, on time, hinted.
type Decision = (
    String,
    Option<String>,
    String,
    u32,
    Option<f32>,
    Option<u64>,
    Option<String>,
    Option<f32>,
    Option<f32>,
    Option<f32>,
    Option<String>,
);
// Tier, completion, on time, accuracy.
type Tier = (String, Option<f32>, Option<f32>, Option<f32>);
// Policy, its version, deadline, least accuracy, class, tiers.
type Given = (String, u64, Option<u64>, Option<f32>, Priority, Vec<Tier>);
// Outcome, latency, error.
type Ended = (String, f64, Option<String>);

/// When, what was decided, what was weighed, how it ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Packed(u64, Decision, Option<Given>, Option<Ended>);

impl From<&Case> for Packed {
    fn from(case: &Case) -> Self {
        let Case { decision, weighed, end, .. } = case.clone();
        let decided = (
            decision.by,
            decision.tier,
            decision.reason,
            decision.depth,
            decision.accuracy,
            decision.snapshot_age_ms,
            decision.mode,
            decision.propensity,
            decision.share,
            decision.on_time,
            decision.hinted,
        );
        let given = weighed.map(|given| {
            let tier = |tier: Alternative| (tier.tier, tier.completion_ms, tier.on_time, tier.accuracy);
            let tiers = given.tiers.into_iter().map(tier).collect();
            (given.policy, given.policy_version, given.deadline_ms, given.min_accuracy, given.priority, tiers)
        });
        Self(case.at, decided, given, end.map(|end| (end.outcome, end.latency_ms, end.error)))
    }
}

impl Packed {
    /// The case again, with what its record says.
    #[must_use]
    pub fn into_case(self, (request_id, task): (&str, &str), (model, model_version): (&str, u32)) -> Case {
        let Self(at, decided, given, ended) = self;
        let (by, tier, reason, depth, accuracy, snapshot_age_ms, mode, propensity, share, on_time, hinted) = decided;
        let weighed = given.map(|(policy, policy_version, deadline_ms, min_accuracy, priority, tiers)| {
            let tier =
                |(tier, completion_ms, on_time, accuracy)| Alternative { tier, completion_ms, on_time, accuracy };
            let tiers = tiers.into_iter().map(tier).collect();
            Weighed { policy, policy_version, deadline_ms, min_accuracy, priority, tiers }
        });
        let end = ended.map(|(outcome, latency_ms, error)| End {
            outcome,
            model: model.to_owned(),
            model_version,
            latency_ms,
            error,
            ..End::default()
        });
        Case {
            request_id: request_id.to_owned(),
            job_id: None,
            task: task.to_owned(),
            at,
            decision: DecisionRecord {
                by,
                tier,
                reason,
                depth,
                accuracy,
                snapshot_age_ms,
                mode,
                propensity,
                share,
                on_time,
                hinted,
                cascade: None,
            },
            weighed,
            end,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_the_same_unpacked_and_small_packed() {
        let tier = |tier: &str, completion, accuracy| Alternative {
            tier: tier.to_owned(),
            completion_ms: Some(completion),
            on_time: Some(0.9987),
            accuracy: Some(accuracy),
        };
        let case = Case {
            request_id: "715f261b-e736-4f72-a17a-be6739a8b26f".to_owned(),
            job_id: None,
            task: "pump-anomaly".to_owned(),
            at: 1_795_270_794_816,
            decision: DecisionRecord {
                by: "native".to_owned(),
                tier: Some("fast".to_owned()),
                reason: "split_cheap".to_owned(),
                depth: 12,
                accuracy: Some(0.9495),
                mode: Some("normal".to_owned()),
                propensity: Some(0.4123),
                share: Some(0.4123),
                on_time: Some(0.9987),
                ..DecisionRecord::default()
            },
            weighed: Some(Weighed {
                policy: "slack-split".to_owned(),
                deadline_ms: Some(100),
                tiers: vec![tier("fast", 3.125, 0.897), tier("accurate", 41.02, 0.9495)],
                ..Weighed::default()
            }),
            end: Some(End {
                outcome: "done".to_owned(),
                model: "autoencoder".to_owned(),
                model_version: 3,
                latency_ms: 4.021,
                ..End::default()
            }),
        };
        let text = serde_json::to_string(&Packed::from(&case)).unwrap();
        assert!(text.len() < 300, "{} bytes: {text}", text.len());
        let packed: Packed = serde_json::from_str(&text).unwrap();
        assert_eq!(packed.into_case((&case.request_id, &case.task), ("autoencoder", 3)), case);
    }
}
