use super::super::plan::{Arm, Canary, ShadowPlan};
use super::*;

fn model() -> ModelVersions {
    ModelVersions { task: "t".to_owned(), model: "m".to_owned(), versions: vec![1, 2, 3], default_version: 1 }
}

fn canary(percent: f64) -> Rollout {
    let canary = Canary { version: 2, percent, limits: Limits::default() };
    let shadow = ShadowPlan { version: 3, percent: 100.0 };
    let config = RolloutConfig { canary: Some(canary), shadow: Some(shadow), ..RolloutConfig::default() };
    Rollout::new(&model(), &config, &TaskTracker::new())
}

fn versions(rollout: &Rollout) -> BTreeMap<u32, u32> {
    let mut versions = BTreeMap::new();
    for key in 0..1_000 {
        *versions.entry(rollout.assign(&format!("s{key}")).version).or_default() += 1;
    }
    versions
}

/// A key of each side.
fn keys(rollout: &Rollout) -> (String, String) {
    let key = |version| (0..).map(|key| format!("s{key}")).find(|key| rollout.assign(key).version == version);
    (key(1).unwrap(), key(2).unwrap())
}

/// Labels until the canary goes; all its answers are wrong.
fn break_canary(rollout: &Rollout, now_ms: u64) -> RolledBack {
    let (stable, bad) = keys(rollout);
    (0..1_000)
        .find_map(|_| {
            let by_stable = rollout.labelled(&rollout.assign(&stable), true, now_ms);
            by_stable.or_else(|| rollout.labelled(&rollout.assign(&bad), false, now_ms))
        })
        .expect("a canary that is always wrong goes")
}

#[test]
fn without_a_plan_the_default_version_answers_and_runs_are_counted() {
    let rollout = Rollout::new(&model(), &RolloutConfig::default(), &TaskTracker::new());
    let assignment = rollout.assign("s");
    assert_eq!((assignment.version, &*assignment.arm), (1, "default"));
    assert!(rollout.ran(&assignment, Run::Failed, 1).is_none());
    assert_eq!(rollout.counts[&1].failures.load(Ordering::Relaxed), 1);
    assert!(rollout.resume(1).is_err() && rollout.roll_back("x", 1).is_err() && rollout.set_percent(1.0, 1).is_err());
    assert_eq!((rollout.fact_field(), rollout.export()), (None, None));
}

#[test]
fn a_canary_that_is_always_wrong_goes_and_can_come_back() {
    let rollout = canary(50.0);
    let (_, bad) = keys(&rollout);
    let before = rollout.assign(&bad);
    let rolled_back = break_canary(&rollout, 5);
    assert_eq!((rolled_back.at, rolled_back.by), (5, By::Test));
    assert!(rolled_back.reason.starts_with("accuracy 0.0000 beside 1.0000"), "{}", rolled_back.reason);
    let finding = rolled_back.finding.unwrap();
    assert!(finding.confidence >= 0.99 && (101..130).contains(&finding.canary_samples), "{finding:?}");
    assert_eq!(versions(&rollout), BTreeMap::from([(1, 1_000)]));
    assert!(rollout.labelled(&before, false, 6).is_none(), "rolled back once");

    rollout.resume(7).unwrap();
    assert_eq!(rollout.assign(&bad).version, 2);
    // A label of an answer from before the return says nothing about the new comparison.
    rollout.labelled(&before, false, 8);
    let samples = rollout.picture(|_, _, evidence| evidence.unwrap().standings()[0].canary_samples);
    assert_eq!(samples, [0]);
    rollout.labelled(&rollout.assign(&bad), false, 8);
    assert_eq!(rollout.picture(|_, _, evidence| evidence.unwrap().standings()[0].canary_samples), [1]);
}

#[test]
fn a_version_the_caller_named_is_no_evidence() {
    let rollout = canary(50.0);
    for _ in 0..1_000 {
        rollout.labelled(&rollout.pinned(1), true, 1);
        assert!(rollout.labelled(&rollout.pinned(2), false, 1).is_none());
    }
    assert_eq!(rollout.counts[&2].labels.load(Ordering::Relaxed), 1_000);
    assert_eq!(rollout.counts[&1].correct.load(Ordering::Relaxed), 1_000);
}

#[test]
fn a_job_that_was_assigned_elsewhere_counts_for_its_arm() {
    let rollout = canary(50.0);
    let (stable, bad) = keys(&rollout);
    assert_eq!(rollout.planned(1), rollout.assign(&stable));
    assert_eq!(rollout.planned(2), rollout.assign(&bad));
    assert_eq!(rollout.planned(3), rollout.pinned(3));
    rollout.roll_back("by hand", 1).unwrap();
    assert_eq!(rollout.planned(2), rollout.pinned(2));
}

#[test]
fn the_percent_can_be_changed_and_nobody_leaves_when_it_grows() {
    let rollout = canary(10.0);
    let keys: Vec<String> = (0..1_000).map(|key| format!("s{key}")).collect();
    let inside: Vec<&String> = keys.iter().filter(|key| rollout.assign(key).version == 2).collect();
    assert!((70..130).contains(&inside.len()), "{}", inside.len());
    rollout.set_percent(30.0, 1).unwrap();
    assert!(inside.iter().all(|key| rollout.assign(key).version == 2));
    rollout.set_percent(0.0, 2).unwrap();
    assert_eq!(versions(&rollout), BTreeMap::from([(1, 1_000)]));
    assert!(rollout.set_percent(f64::NAN, 3).is_err());
}

#[test]
fn arms_share_the_traffic_and_are_never_rolled_back_by_the_test() {
    let arm = |name: &str, version, weight| Arm { name: name.to_owned(), version, weight };
    let config = RolloutConfig { arms: vec![arm("b", 2, 30.0), arm("c", 3, 20.0)], ..RolloutConfig::default() };
    let rollout = Rollout::new(&model(), &config, &TaskTracker::new());
    let found = versions(&rollout);
    for (version, expected) in [(1, 500), (2, 300), (3, 200)] {
        assert!(found[&version].abs_diff(expected) < 65, "{found:?}");
    }
    let (stable, bad) = keys(&rollout);
    for _ in 0..500 {
        rollout.labelled(&rollout.assign(&stable), true, 1);
        assert!(rollout.labelled(&rollout.assign(&bad), false, 1).is_none());
    }
    let verdicts = rollout.picture(|arm, _, evidence| (arm.version, evidence.unwrap().worse().is_some()));
    assert_eq!(verdicts, [(2, true), (3, false)]);
    rollout.roll_back("enough seen", 2).unwrap();
    assert_eq!(versions(&rollout), BTreeMap::from([(1, 1_000)]));
}

#[test]
fn a_roll_back_reaches_other_processes_and_outlives_this_one() {
    let (one, other) = (canary(50.0), canary(50.0));
    assert_eq!(one.reconcile(None), Ok(None), "nothing is stored as long as all is as configured");
    break_canary(&one, 5);
    let stored = one.reconcile(None).unwrap().unwrap();
    assert_eq!(other.reconcile(Some(&stored)), Ok(None));
    assert_eq!(versions(&other), BTreeMap::from([(1, 1_000)]));
    assert_eq!(one.reconcile(Some(&stored)), Ok(None), "told once");

    // The other machine's clock is behind; its change still is the later one.
    other.resume(2).unwrap();
    let newer = other.reconcile(Some(&stored)).unwrap().unwrap();
    assert_eq!(one.reconcile(Some(&newer)), Ok(None));
    assert_eq!(versions(&one).len(), 2);
    assert!(one.reconcile(Some("no JSON")).is_err());
    assert_eq!(one.state(), other.state());
}

#[test]
fn another_canary_does_not_inherit_a_roll_back() {
    let one = canary(50.0);
    let next = Canary { version: 3, percent: 1.0, limits: Limits::default() };
    let next = RolloutConfig { canary: Some(next), ..RolloutConfig::default() };
    let next = Rollout::new(&model(), &next, &TaskTracker::new());
    assert_eq!(one.fact_field().as_deref(), Some("m:1:canary=2"));
    assert_ne!(one.fact_field(), next.fact_field());
}

#[test]
fn the_shadow_does_not_run_beside_itself() {
    let rollout = canary(50.0);
    assert_eq!(rollout.shadow("s", 1).map(|shadow| shadow.version()), Some(3));
    assert!(rollout.shadow("s", 3).is_none());
}

#[test]
fn a_long_reason_is_cut_at_a_letter() {
    let reason = canary(1.0).roll_back(&"é".repeat(400), 1).unwrap().reason;
    assert!(reason.len() <= MAX_REASON && reason.ends_with('é'));
}
