use std::rc::Rc;

use shared::catalog::Catalog;
use shared::policy::{Policy, PolicyKind, Profile};
use shared::snapshot::cache::Freshness;
use shared::snapshot::{Snapshot, TierLoad};

use super::*;
use crate::config::OriginAt;

const NOW: u64 = 100_000;
const GOOD: &str = r#"{"sensor_data":{"pressure":6.5}}"#;
const WRONG: &str = r#"{"sensor_data":{"pressure":"high"}}"#;

fn config() -> EdgeConfig {
    EdgeConfig {
        policy: Policy::default(),
        freshness: Freshness { fresh_ms: 1_000, usable_ms: 10_000 },
        max_body_bytes: 1_024,
        predict_timeout_ms: 2_000,
        infer_timeout_ms: 30_000,
        jobs_timeout_ms: 1_000,
        origin: OriginAt::Binding,
    }
}

fn known(age_ms: u64) -> Known {
    let catalog: Catalog = serde_json::from_value(serde_json::json!({
        "etag": "e", "default_task": "pump", "tasks": [{
            "schema": {
                "name": "pump", "kind": "anomaly", "tiers": ["fast", "accurate"],
                "fields": [{"name": "pressure", "type": "number", "min": 0.0, "max": 50.0}],
            },
            "models": [
                {"name": "cheap", "tier": "fast", "type": "sklearn", "default_version": 1, "versions": [1]},
                {"name": "dear", "tier": "accurate", "default_version": 1, "versions": [1]},
                {"name": "odd", "tier": null, "default_version": 1, "versions": [1]},
            ],
        }],
    }))
    .unwrap();
    Known { catalog: Rc::new(catalog), age_ms }
}

/// A cache that heard of a backlog `age_ms` ago.
fn seen(depth: u32, age_ms: u64) -> SnapshotCache {
    let mut cache = SnapshotCache::new();
    let text = format!("v=1;e=1;s=1;t=1;pump=fast:0:100:8000,accurate:{depth}:1000:9000");
    cache.merge(&Snapshot::from_text(&text).unwrap(), NOW - age_ms);
    cache
}

fn planned(body: &str, catalog_age_ms: u64, snapshots: &SnapshotCache) -> Plan {
    plan((body.as_bytes(), "r"), Some(&known(catalog_age_ms)), snapshots, &config(), NOW)
}

fn advice(body: &str, snapshots: &SnapshotCache) -> Option<(String, Reason)> {
    planned(body, 0, snapshots).outcome.unwrap().advice.map(|advice| (advice.tier, advice.reason))
}

#[test]
fn the_backlog_seen_decides() {
    let plan = planned(GOOD, 0, &seen(9, 200));
    let advice = plan.outcome.unwrap().advice.unwrap();
    assert_eq!((advice.tier.as_str(), advice.reason), ("fast", Reason::QueueLong));
    assert_eq!((advice.depth, advice.snapshot_age_ms, plan.refresh), (9, 200, false));
    assert_eq!(super::tests::advice(GOOD, &seen(0, 0)), Some(("accurate".to_owned(), Reason::QueueShort)));
}

#[test]
fn an_old_snapshot_is_used_and_refreshed_and_a_very_old_one_is_not_used() {
    let stale = planned(GOOD, 0, &seen(9, 5_000));
    assert!(stale.refresh && stale.outcome.unwrap().advice.is_some());
    let blind = planned(GOOD, 0, &seen(9, 10_001));
    assert!(blind.refresh);
    let forward = blind.outcome.unwrap();
    assert_eq!((forward.task.as_deref(), forward.advice), (Some("pump"), None));
}

#[test]
fn a_model_the_caller_names_is_advised_by_its_tier() {
    let pinned = |name| format!(r#"{{"sensor_data":{{"pressure":1}},"model_name":"{name}"}}"#);
    let busy = seen(99, 0);
    let expected = Some(("accurate".to_owned(), Reason::CallerPinned));
    assert_eq!(advice(&pinned("dear"), &busy), expected);
    assert_eq!(advice(&pinned("accurate"), &busy), expected);
    assert_eq!(advice(&pinned("odd"), &busy), None);
}

#[test]
fn a_type_alone_is_no_advice_and_beside_a_name_no_hindrance() {
    let typed = |rest: &str| format!(r#"{{"sensor_data":{{"pressure":1}},"model_type":"sklearn"{rest}}}"#);
    let idle = seen(0, 0);
    let outcome = planned(&typed(""), 0, &idle).outcome;
    assert_eq!(outcome.map(|forward| (forward.task, forward.advice)), Ok((Some("pump".to_owned()), None)));
    assert_eq!(advice(&typed(r#","model_name":"cheap""#), &idle), Some(("fast".to_owned(), Reason::CallerPinned)));
    // Only the origin can say that there is none of that type.
    let unknown = planned(&typed("").replace("sklearn", "onnx"), 0, &idle).outcome;
    assert_eq!(unknown, Ok(Forward::default()));
}

#[test]
fn without_a_catalog_only_json_is_checked() {
    let plan = |body: &str| super::plan((body.as_bytes(), "r"), None, &seen(0, 0), &config(), NOW);
    assert_eq!(plan(WRONG).outcome, Ok(Forward::default()));
    assert_eq!(plan("[1]").outcome.unwrap_err().code, ErrorCode::InvalidJson);
}

#[test]
fn names_the_catalog_lacks_are_for_the_origin_to_judge() {
    for body in
        [r#"{"task":"new","features":[1]}"#, r#"{"sensor_data":{"pressure":1},"task":"pump","model_name":"new"}"#]
    {
        assert_eq!(planned(body, 0, &seen(0, 0)).outcome, Ok(Forward::default()), "{body}");
    }
}

#[test]
fn a_reading_is_turned_away_only_by_a_catalog_lately_confirmed() {
    let cache = seen(0, 0);
    let fresh = planned(WRONG, 1_000, &cache);
    assert_eq!((fresh.outcome.unwrap_err().faults.len(), fresh.refresh), (1, false));
    let stale = planned(WRONG, 1_001, &cache);
    assert!(stale.outcome.is_err() && stale.refresh);
    assert_eq!(planned(WRONG, 10_001, &cache).outcome, Ok(Forward::default()));
    assert!(planned("{", 10_001, &cache).outcome.is_err());
}

#[test]
fn a_snapshot_that_knows_no_tiers_gives_no_advice() {
    let mut cache = SnapshotCache::new();
    let load = TaskLoad { task: "pump".to_owned(), tiers: vec![], plan: None };
    cache.merge(&Snapshot { boot: 1, seq: 1, at: 1, tasks: vec![load] }, NOW);
    assert_eq!(advice(GOOD, &cache), None);
}

/// A cache that heard a plan `age_ms` ago, by which the dearer tier gets that share.
fn planned_share(share: f32, age_ms: u64) -> SnapshotCache {
    shedding(share, [0.0; 3], age_ms)
}

/// The same, with the shares of the classes that are shed.
fn shedding(share: f32, reject: [f32; 3], age_ms: u64) -> SnapshotCache {
    let tier = |tier: &str, us: f32, accuracy| TierLoad {
        tier: tier.to_owned(),
        accuracy: Some(accuracy),
        measured: Some(Profile { alpha_us: us, beta_us: us, sd_us: 0.0, cap: 8 }),
        ..TierLoad::default()
    };
    let plan = policy::Plan {
        mode: Mode::Normal,
        rate: 10.0,
        workers: 4.0,
        x0: share,
        x_inf: share,
        reject,
        ..policy::Plan::default()
    };
    let tiers = vec![tier("fast", 100.0, 0.8), tier("accurate", 1_000.0, 0.95)];
    let load = TaskLoad { task: "pump".to_owned(), tiers, plan: Some(plan) };
    let mut cache = SnapshotCache::new();
    // By way of the wire, as it comes from the origin.
    let text = Snapshot { boot: 1, seq: 1, at: 1, tasks: vec![load] }.to_text();
    cache.merge(&Snapshot::from_text(&text).unwrap(), NOW - age_ms);
    cache
}

#[test]
fn the_plan_decides_and_an_old_one_says_so() {
    let mode = |age_ms| {
        let advice = planned(GOOD, 0, &planned_share(1.0, age_ms)).outcome.unwrap().advice.unwrap();
        (advice.tier, advice.mode)
    };
    assert_eq!(mode(0), ("accurate".to_owned(), Mode::Normal));
    assert_eq!(mode(1_000).1, Mode::Stale);
    assert_eq!(mode(9_000).1, Mode::Blind);
    assert_eq!(advice(GOOD, &planned_share(0.0, 0)), Some(("fast".to_owned(), Reason::SplitCheap)));
}

#[test]
fn the_draw_is_the_requests_own_and_the_share_comes_out() {
    let cache = planned_share(0.3, 0);
    let dear = |id: usize| {
        let plan = plan((GOOD.as_bytes(), &format!("request-{id}")), Some(&known(0)), &cache, &config(), NOW);
        let advice = plan.outcome.unwrap().advice.unwrap();
        assert_eq!(advice.share, 3_000);
        let dear = advice.tier == "accurate";
        assert!(dear == (advice.propensity == 3_000) || advice.reason == Reason::Explored, "{advice:?}");
        dear
    };
    let first: Vec<bool> = (0..1_000).map(dear).collect();
    assert_eq!(first, (0..1_000).map(dear).collect::<Vec<_>>(), "the same request is decided the same way");
    let share = first.iter().filter(|dear| **dear).count();
    assert!((250..=350).contains(&share), "{share}");
}

#[test]
fn only_the_class_that_a_young_plan_sheds_is_to_come_back() {
    let shed_ms = |class: &str, reject, age_ms| {
        let body = format!(r#"{{"sensor_data":{{"pressure":6.5}},"priority":"{class}"}}"#);
        planned(&body, 0, &shedding(1.0, reject, age_ms)).outcome.unwrap().shed_ms
    };
    let low = [0.0, 0.0, 1.0];
    assert!(shed_ms("low", low, 0).is_some_and(|after_ms| after_ms > 0));
    assert_eq!((shed_ms("normal", low, 0), shed_ms("high", low, 0)), (None, None));
    assert_eq!(shed_ms("low", low, 501), None, "a burst that may be over");
    assert!(shed_ms("high", [1.0; 3], 0).is_some());
    // What would be late even alone is tried: profiles may be wrong.
    let late = r#"{"sensor_data":{"pressure":6.5},"model_name":"dear","deadline_ms":1}"#;
    assert_eq!(planned(late, 0, &shedding(1.0, [0.0; 3], 0)).outcome.unwrap().shed_ms, None);
}

#[test]
fn a_policy_in_the_plan_overrules_the_setting() {
    let mut cache = planned_share(1.0, 0);
    let Sight::Fresh(load, _) = cache.sight("pump", NOW, config().freshness) else { panic!("it is fresh") };
    let policy = Policy { kind: PolicyKind::AlwaysFast, ..Policy::default() };
    let plan = load.plan.map(|plan| policy::Plan { policy: Some(policy), ..plan });
    let tasks = vec![TaskLoad { plan, ..load.clone() }];
    cache.merge(&Snapshot { boot: 1, seq: 2, at: 2, tasks }, NOW);
    assert_eq!(advice(GOOD, &cache), Some(("fast".to_owned(), Reason::PolicyFixed)));
}
