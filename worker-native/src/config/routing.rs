//! The settings of routing.

use std::time::Duration;

use shared::policy::{DEFAULT_ACCURACY_FLOOR, DEFAULT_QUEUE_THRESHOLD, Policy, PolicyKind, Tuning};

use super::source::Reader;
use super::{millis, to_u32};

/// How decisions are made.
#[derive(Debug, Clone)]
pub struct RoutingConfig {
    /// Policy where the edge gave no advice.
    pub policy: Policy,
    /// Did somebody choose the policy, and be it the default one?
    pub policy_set: bool,
    /// The share of readings that `slack-split` sends to a tier so that its accuracy stays known.
    pub exploration: f32,
    /// The confidence below which a dearer tier is asked as well, where somebody set it.
    pub cascade_below: Option<f32>,
    /// Is a dearer tier asked as well where an answer failed, or does not tell its confidence?
    pub cascade_fail_accurate: bool,
    /// How often load and accuracies are read from the queue's store.
    pub snapshot_interval: Duration,
}

pub(super) fn read(read: &mut Reader) -> RoutingConfig {
    let mut kinds: Vec<&str> = PolicyKind::ALL.iter().map(|kind| kind.name()).collect();
    // What `adaptive-threshold` was called.
    kinds.push("adaptive");
    let policy = read.one_of(
        "ROUTING_POLICY",
        PolicyKind::SlackSplit.name(),
        &kinds,
        "how a tier is chosen where the edge gave no advice, or advice from before a burst",
    );
    RoutingConfig {
        policy_set: read.is_set("ROUTING_POLICY"),
        policy: Policy {
            kind: PolicyKind::from_name(&policy).unwrap_or(PolicyKind::SlackSplit),
            queue_threshold: to_u32(read.number(
                "QUEUE_THRESHOLD",
                u64::from(DEFAULT_QUEUE_THRESHOLD),
                1..=1_000_000,
                "backlog, in jobs, at which the policy steps one tier down",
            )),
            accuracy_floor: read.ratio(
                "ACCURACY_FLOOR",
                DEFAULT_ACCURACY_FLOOR,
                "accuracy, measured or stated, below which `adaptive-threshold` leaves a tier",
            ),
        },
        exploration: read.ratio(
            "ROUTING_EXPLORATION",
            Tuning::default().epsilon,
            "share of the readings that `slack-split` sends to the tier of which least is known; 0 explores never",
        ),
        cascade_below: read.optional_ratio(
            "CASCADE_BELOW",
            "confidence below which an answer is asked again of a dearer tier, under `cascade` and `slack-split`; not \
             set: 0.8 under `cascade`, and `slack-split` asks none",
        ),
        cascade_fail_accurate: read.one_of(
            "CASCADE_FAIL",
            "accurate",
            &["accurate", "fast"],
            "an answer that failed, or does not tell its confidence: `accurate` asks a dearer tier, `fast` does not",
        ) == "accurate",
        snapshot_interval: millis(read.number(
            "SNAPSHOT_INTERVAL_MS",
            250,
            10..=60_000,
            "how often load and accuracies are read from Redis, or from QUEUE_FILE",
        )),
    }
}
