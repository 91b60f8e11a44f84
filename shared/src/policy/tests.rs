use proptest::prelude::*;

use super::*;
use crate::snapshot::TierLoad;

/// Tiers as (depth, service_us, accuracy), cheapest first.
fn load(tiers: &[(u32, Option<u32>, Option<f32>)]) -> TaskLoad {
    let tiers = tiers
        .iter()
        .enumerate()
        .map(|(i, (depth, service_us, accuracy))| TierLoad {
            tier: format!("t{i}"),
            depth: *depth,
            service_us: *service_us,
            accuracy: *accuracy,
            ..TierLoad::default()
        })
        .collect();
    TaskLoad { task: "task".to_owned(), tiers, plan: None }
}

fn check(kind: PolicyKind, load: &TaskLoad, job: JobSpec, want: (usize, Reason)) {
    let policy = Policy { kind, ..Policy::default() };
    let decision = route(&policy, load, &job, &Moment::default());
    assert_eq!((decision.tier, decision.reason), want, "{kind:?} {load:?} {job:?}");
}

const ANY: JobSpec = JobSpec { pinned_tier: None, deadline_ms: None, min_accuracy: None, class: Priority::Normal };

#[test]
fn fixed_policies_look_at_nothing() {
    let busy = load(&[(900, None, Some(0.1)), (900, None, Some(0.1))]);
    check(PolicyKind::AlwaysFast, &busy, ANY, (0, Reason::PolicyFixed));
    check(PolicyKind::AlwaysAccurate, &busy, ANY, (1, Reason::PolicyFixed));
}

#[test]
fn the_threshold_is_inclusive_and_counts_the_whole_backlog() {
    let kind = PolicyKind::QueueThreshold;
    check(kind, &load(&[(2, None, None), (2, None, None)]), ANY, (1, Reason::QueueShort));
    check(kind, &load(&[(2, None, None), (3, None, None)]), ANY, (0, Reason::QueueLong));
    let three = |depth| load(&[(depth, None, None), (0, None, None), (0, None, None)]);
    check(kind, &three(4), ANY, (2, Reason::QueueShort));
    check(kind, &three(5), ANY, (1, Reason::QueueLong));
    check(kind, &three(10), ANY, (0, Reason::QueueLong));
}

#[test]
fn adaptive_leaves_a_dear_model_that_is_wrong() {
    let kind = PolicyKind::AdaptiveThreshold;
    check(kind, &load(&[(0, None, Some(0.8)), (0, None, Some(0.97))]), ANY, (1, Reason::QueueShort));
    check(kind, &load(&[(0, None, Some(0.8)), (0, None, Some(0.4))]), ANY, (0, Reason::AccuracyLow));
    check(kind, &load(&[(0, None, None), (0, None, Some(0.4))]), ANY, (0, Reason::AccuracyLow));
    check(kind, &load(&[(0, None, Some(0.3)), (0, None, Some(0.4))]), ANY, (0, Reason::AccuracyLow));
    check(kind, &load(&[(0, None, Some(0.9)), (0, None, Some(0.7))]), ANY, (0, Reason::AccuracyLow));
    check(kind, &load(&[(0, None, Some(0.9)), (0, None, None)]), ANY, (1, Reason::QueueShort));
    check(kind, &load(&[(5, None, Some(0.9)), (0, None, Some(0.99))]), ANY, (0, Reason::QueueLong));
}

#[test]
fn adaptive_minds_deadline_and_asked_accuracy() {
    let kind = PolicyKind::AdaptiveThreshold;
    let slow = load(&[(0, Some(100), Some(0.8)), (4, Some(5_000), Some(0.97))]);
    check(kind, &slow, JobSpec { deadline_ms: Some(25), ..ANY }, (1, Reason::QueueShort));
    check(kind, &slow, JobSpec { deadline_ms: Some(24), ..ANY }, (0, Reason::DeadlineTight));
    let long = load(&[(9, None, Some(0.8)), (0, None, Some(0.97))]);
    check(kind, &long, JobSpec { min_accuracy: Some(0.9), ..ANY }, (1, Reason::AccuracyAsked));
    check(kind, &long, JobSpec { min_accuracy: Some(0.99), ..ANY }, (0, Reason::QueueLong));
}

#[test]
fn a_pinned_tier_is_taken_and_a_wrong_one_is_not() {
    let idle = load(&[(0, None, None), (0, None, None)]);
    check(PolicyKind::AdaptiveThreshold, &idle, JobSpec { pinned_tier: Some(0), ..ANY }, (0, Reason::CallerPinned));
    check(PolicyKind::AdaptiveThreshold, &idle, JobSpec { pinned_tier: Some(7), ..ANY }, (1, Reason::QueueShort));
    check(PolicyKind::AdaptiveThreshold, &load(&[]), ANY, (0, Reason::LoadUnknown));
}

#[test]
fn every_kind_is_found_by_its_name() {
    for kind in PolicyKind::ALL {
        assert_eq!(PolicyKind::from_name(kind.name()), Some(kind));
    }
    assert_eq!(PolicyKind::from_name("adaptive"), Some(PolicyKind::AdaptiveThreshold));
}

fn any_load() -> impl Strategy<Value = TaskLoad> {
    proptest::collection::vec((any::<u32>(), any::<Option<u32>>(), any::<Option<f32>>()), 0..5)
        .prop_map(|tiers| load(&tiers))
}

fn any_policy() -> impl Strategy<Value = Policy> {
    (0..PolicyKind::ALL.len(), any::<u32>(), any::<f32>()).prop_map(|(kind, queue_threshold, accuracy_floor)| Policy {
        kind: PolicyKind::ALL[kind],
        queue_threshold,
        accuracy_floor,
    })
}

proptest! {
    #[test]
    fn every_input_gives_a_tier_that_exists(
        policy in any_policy(), load in any_load(), pinned in any::<Option<usize>>(),
        deadline_ms in any::<Option<u64>>(), min_accuracy in any::<Option<f32>>(),
    ) {
        let job = JobSpec { pinned_tier: pinned, deadline_ms, min_accuracy, ..ANY };
        let decision = route(&policy, &load, &job, &Moment::default());
        prop_assert!(decision.tier < load.tiers.len().max(1));
        prop_assert_eq!(decision, route(&policy, &load, &job, &Moment::default()));
    }

    #[test]
    fn more_backlog_never_means_a_dearer_tier(
        kind in 0..PolicyKind::ALL.len(), depth in 0u32..100, more in 0u32..100,
        accuracies in proptest::collection::vec(proptest::option::of(0.0f32..1.0), 1..5),
    ) {
        let policy = Policy { kind: PolicyKind::ALL[kind], ..Policy::default() };
        let at = |depth| {
            let tiers: Vec<_> = accuracies.iter().enumerate().map(|(i, a)| (if i == 0 { depth } else { 0 }, None, *a)).collect();
            route(&policy, &load(&tiers), &ANY, &Moment::default()).tier
        };
        prop_assert!(at(depth + more) <= at(depth));
    }
}
