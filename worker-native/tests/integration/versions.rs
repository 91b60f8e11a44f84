//! Versions in traffic, over HTTP: canary, arms, shadow, labels, and what a caller may name.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::models::{Caller, Models};
use crate::support::native::Native;
use crate::support::readings::result_of;
use crate::support::redis::Redis;
use crate::support::until;

const MODEL: &str = "sentiment.tfidf_logreg";
/// Version 1 calls it positive, version 2 negative.
const DISPUTED: &str = "good sound but poor battery";
const CANARY: &str = "[canary]\nversion = 1\npercent = 50\nmin_samples = 20";

/// The service on `sentiment`, its `tfidf_logreg` with more tables.
async fn start(tables: &str, settings: &[(&str, &str)]) -> (Redis, Models, Native, Caller) {
    let (redis, models) = (Redis::start().await, Models::of(&["sentiment"]));
    models.append("sentiment", "tfidf_logreg", tables);
    let native = models.serve(&redis, settings).await;
    let caller = Caller::new(native.url(""));
    (redis, models, native, caller)
}

fn body(sensor: usize) -> Value {
    json!({"task": "sentiment", "text": DISPUTED, "sensor_id": format!("s-{sensor}"), "model_name": "tfidf_logreg"})
}

async fn ask(caller: &Caller, sensor: usize) -> Value {
    let (status, answer) = caller.post("/predict", &body(sensor)).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

/// Version and arm of each sensor.
async fn shares(caller: &Caller, sensors: usize) -> Vec<(u64, Value)> {
    let asked = (0..sensors).map(|sensor| ask(caller, sensor));
    let answers = futures_util::future::join_all(asked).await;
    answers.iter().map(|answer| (answer["model_version"].as_u64().unwrap(), answer["arm"].clone())).collect()
}

async fn label(caller: &Caller, answer: &Value, correct: bool) -> Value {
    let (status, counted) =
        caller.post("/feedback", &json!({"request_id": answer["request_id"], "correct": correct})).await;
    assert_eq!((status, &counted["counted"]), (200, &json!(true)), "{counted}");
    counted
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_has_its_share_by_sensor_and_its_answers_are_its_own() {
    let (_redis, _models, _native, caller) = start(CANARY, &[]).await;
    let first = shares(&caller, 200).await;
    let canary = first.iter().filter(|share| **share == (1, json!("canary"))).count();
    assert_eq!(canary + first.iter().filter(|share| **share == (2, json!("stable"))).count(), 200, "{first:?}");
    // Four standard deviations of 200 tosses; which sensors these are is fixed.
    assert!((72..=128).contains(&canary), "{canary}");
    assert_eq!(first, shares(&caller, 200).await, "a sensor stays where it is");
    let sensor_of = |version| first.iter().position(|share| share.0 == version).unwrap();
    assert_eq!(ask(&caller, sensor_of(1)).await["prediction"], "positive");
    assert_eq!(ask(&caller, sensor_of(2)).await["prediction"], "negative");
    let named = json!({"task": "sentiment", "text": DISPUTED, "model_name": "tfidf_logreg", "model_version": 1});
    let (_, named) = caller.post("/predict", &named).await;
    assert_eq!((&named["model_version"], &named["arm"]), (&json!(1), &Value::Null), "named, and no part of the trial");
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_take_a_worse_canary_out_of_traffic_in_every_process() {
    let (redis, models, _native, caller) = start(CANARY, &[]).await;
    let mut gone = None;
    for sensor in 0..400 {
        let answer = ask(&caller, sensor).await;
        let counted = label(&caller, &answer, answer["arm"] == "stable").await;
        assert_eq!((&counted["arm"], &counted["model_version"]), (&answer["arm"], &answer["model_version"]));
        if counted["rolled_back"] == true {
            gone = Some(counted);
            break;
        }
    }
    assert_eq!(gone.expect("a canary that is always wrong goes")["arm"], "canary");
    let rollout = caller.model(MODEL).await["rollout"].clone();
    let reason = rollout["rolled_back"]["reason"].as_str().unwrap_or_else(|| panic!("{rollout}"));
    assert!(reason.starts_with("accuracy 0.0000 beside 1.0000"), "{reason}");
    assert_eq!((&rollout["arms"][0]["percent"], &rollout["default_percent"]), (&json!(0.0), &json!(100.0)));
    assert!(shares(&caller, 50).await.iter().all(|share| *share == (2, Value::Null)));
    let metrics = caller.text("/metrics").await;
    let series = "router_rollbacks_total{task=\"sentiment\",model=\"tfidf_logreg\"} 1";
    assert!(metrics.lines().any(|line| line == series), "{metrics}");
    // Another process hears of it.
    let other = models.serve(&redis, &[]).await;
    let other = Caller::new(other.url(""));
    until("the roll-back in the other process", || async {
        Some(other.model(MODEL).await["rollout"]["rolled_back"].clone()).filter(Value::is_object)
    })
    .await;
    assert!(shares(&other, 50).await.iter().all(|share| share.0 == 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn arms_divide_the_traffic_and_are_only_compared() {
    let tables = "[[arms]]\nname = \"old\"\nversion = 1\nweight = 30";
    let (_redis, _models, _native, caller) = start(tables, &[]).await;
    let mut counts = BTreeMap::new();
    for (version, arm) in shares(&caller, 300).await {
        *counts.entry((version, arm.as_str().unwrap_or_default().to_owned())).or_insert(0) += 1;
    }
    assert_eq!(counts.len(), 2, "{counts:?}");
    let old = counts[&(1, "old".to_owned())];
    assert!((58..=122).contains(&old), "30 % of 300, four deviations to each side: {old}");
    assert_eq!(counts[&(2, String::new())], 300 - old);
    for sensor in 0..150 {
        let answer = ask(&caller, sensor).await;
        label(&caller, &answer, answer["arm"] != "old").await;
    }
    let rollout = caller.model(MODEL).await["rollout"].clone();
    assert_eq!((&rollout["plan"], &rollout["rolled_back"]), (&json!("arms"), &Value::Null));
    assert_eq!(rollout["arms"][0]["accuracy"]["canary"], 0.0, "{rollout}");
    assert!(rollout["versions"]["1"]["labels"].as_u64().unwrap() > 20, "{rollout}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_may_name_a_version_in_body_and_query() {
    let (_redis, _models, _native, caller) = start("", &[]).await;
    let asked = |query: &'static str, version: Value, strict: bool| {
        let caller = &caller;
        async move {
            let mut body = json!({"task": "sentiment", "text": DISPUTED, "model_name": "tfidf_logreg"});
            if !version.is_null() {
                body["model_version"] = version;
            }
            if strict {
                body["strict"] = json!(true);
            }
            let (status, answer) = caller.post(&format!("/predict{query}"), &body).await;
            (status, answer["model_version"].clone(), answer["fallback"].clone(), answer["code"].clone())
        }
    };
    let answered = |version: u32, fallback: bool| (200, json!(version), json!(fallback), Value::Null);
    let unknown = (404, Value::Null, Value::Null, json!("unknown-version"));
    assert_eq!(asked("", json!(1), false).await, answered(1, false));
    assert_eq!(asked("", json!("v1"), false).await, answered(1, false));
    assert_eq!(asked("?model_version=1", Value::Null, false).await, answered(1, false));
    assert_eq!(asked("?model_version=1", json!(2), false).await, answered(2, false), "the body goes before");
    assert_eq!(asked("", json!(99), false).await, answered(2, true));
    assert_eq!(asked("?model_version=99", Value::Null, false).await, answered(2, true));
    assert_eq!(asked("", json!(99), true).await, unknown);
    assert_eq!(asked("?model_version=99&strict=true", Value::Null, false).await, unknown);
    let both = json!({"task": "sentiment", "text": DISPUTED, "model_name": "tfidf_logreg"});
    let (status, problem) = caller.post("/predict?model_type=onnx", &both).await;
    assert_eq!((status, &problem["code"]), (404, &json!("unknown-model")), "a scikit-learn model and not: {problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_is_compared_and_never_answers() {
    let (_redis, _models, _native, caller) = start("[shadow]\nversion = 1\npercent = 100", &[]).await;
    for sensor in 0..20 {
        // Each text another: answers from the cache are not shadowed.
        let text = if sensor % 2 == 0 { format!("{DISPUTED}{}", " ".repeat(sensor)) } else { "x".repeat(sensor) };
        let body = json!({"task": "sentiment", "text": text, "model_name": "tfidf_logreg"});
        let (status, answer) = caller.post("/predict", &body).await;
        assert_eq!((status, &answer["model_version"], &answer["arm"]), (200, &json!(2), &Value::Null), "{answer}");
    }
    let shadow = until("all comparisons", || async {
        let shadow = caller.model(MODEL).await["rollout"]["shadow"].clone();
        let number = |name: &str| shadow[name].as_u64().unwrap();
        (number("compared") + number("failed") + number("dropped") == 20).then_some(shadow)
    })
    .await;
    assert_eq!((&shadow["version"], &shadow["failed"]), (&json!(1), &json!(0)));
    assert_eq!(shadow["disagreements"], Value::Null, "other callers' request ids stay with the operators");
    let (_, rollout) = caller.get("/models/tfidf_logreg/rollout").await;
    let disagreements = rollout["shadow"]["disagreements"].as_array().unwrap();
    assert!(!disagreements.is_empty(), "{shadow}");
    for disagreement in disagreements {
        assert_eq!(disagreement["answered"]["prediction"], "negative", "{disagreement}");
        assert_eq!(disagreement["shadow"]["prediction"], "positive", "{disagreement}");
    }
    let compared = shadow["compared"].as_u64().unwrap();
    assert_eq!(compared - shadow["agreed"].as_u64().unwrap(), disagreements.len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_changes_a_rollout_by_hand() {
    let (_redis, _models, _native, caller) = start(CANARY, &[]).await;
    let at = "/models/tfidf_logreg/rollout";
    let (status, view) = caller.post(at, &json!({"percent": 0})).await;
    assert_eq!((status, &view["arms"][0]["percent"]), (200, &json!(0.0)), "{view}");
    let versions = |shares: Vec<(u64, Value)>| shares.into_iter().map(|(version, _)| version).collect::<Vec<_>>();
    assert_eq!(versions(shares(&caller, 8).await), vec![2; 8]);
    caller.post(at, &json!({"percent": 100})).await;
    assert_eq!(versions(shares(&caller, 8).await), vec![1; 8]);
    let (_, view) = caller.post(at, &json!({"roll_back": "it smells"})).await;
    assert_eq!((&view["rolled_back"]["by"], &view["rolled_back"]["reason"]), (&json!("operator"), &json!("it smells")));
    assert_eq!(versions(shares(&caller, 8).await), vec![2; 8]);
    caller.post(at, &json!({"resume": true})).await;
    assert_eq!(versions(shares(&caller, 8).await), vec![1; 8]);
    for bad in [json!({"percent": 101}), json!({"resume": false}), json!({}), json!({"percent": 1, "resume": true})] {
        assert_eq!(caller.post(at, &bad).await.0, 422, "{bad}");
    }
    assert_eq!(caller.post("/models/nobody/rollout", &json!({"resume": true})).await.0, 404);
    assert_eq!(
        caller.post("/models/word_letter_logreg/rollout", &json!({"resume": true})).await.0,
        422,
        "it has no plan"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_make_a_canary_and_jobs_get_it_too() {
    let settings = [("CANARY_VERSION", "sentiment/tfidf_logreg=1"), ("CANARY_PERCENT", "100")];
    let (_redis, _models, native, caller) = start("", &settings).await;
    assert_eq!(shares(&caller, 5).await, vec![(1, json!("canary")); 5]);
    let (status, receipt) = caller.post("/data", &body(1)).await;
    assert_eq!((status, &receipt["model_version"]), (202, &json!(1)), "{receipt}");
    let result = result_of(&native.url(""), &receipt).await;
    assert_eq!((&result["model_version"], &result["prediction"]), (&json!(1), &json!("positive")), "{result}");
    let (status, counted) = caller.post("/feedback", &json!({"job_id": receipt["job_id"], "label": "negative"})).await;
    assert_eq!((status, &counted["arm"], &counted["correct"]), (200, &json!("canary"), &json!(false)), "{counted}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_for_an_answer_under_an_older_plan_is_no_evidence_in_the_new_one() {
    let (_redis, models, _native, caller) = start(CANARY, &[("MODEL_POLL_MS", "0")]).await;
    let mut old = Vec::new();
    for sensor in 0..60 {
        old.push(ask(&caller, sensor).await);
    }
    models.edit("sentiment", "tfidf_logreg", |text| text.replace("min_samples = 20", "min_samples = 21"));
    let (status, loaded) = caller.post("/models/tfidf_logreg/load", &json!({})).await;
    assert_eq!(status, 200, "{loaded}");
    for answer in &old {
        label(&caller, answer, false).await;
    }
    let rollout = caller.model(MODEL).await["rollout"].clone();
    assert_eq!(rollout["arms"][0]["accuracy"]["canary_samples"], 0, "{rollout}");
    assert_eq!(rollout["arms"][0]["accuracy"]["stable_samples"], 0, "{rollout}");
    assert_eq!(rollout["arms"][0]["limits"]["min_samples"], 21);
}

/// A canary whose runs do not end is as bad as one whose runs fail, whoever gives up first.
async fn a_hanging_canary_goes(deadline_ms: u64, refusal: u16) {
    let (redis, models) = (Redis::start().await, Models::of(&[]));
    models.add_rig("regression", "");
    models.append("rig", "looping", "[canary]\nversion = 2\npercent = 50\nmin_samples = 10");
    let native = models
        .serve(&redis, &[("MODEL_MAX_RUN_MS", "150"), ("CACHE_BACKEND", "off"), ("PREDICT_TIMEOUT_MS", "20000")])
        .await;
    let caller = Caller::new(native.url(""));
    let ask = async |sensor: usize, x: f64| {
        // Only a reading that hangs is in a hurry: a busy test machine may be slow with the others.
        let deadline_ms = if x > 1.0 { deadline_ms } else { 10_000 };
        let body = json!({"features": [x], "sensor_id": format!("s-{sensor}"), "deadline_ms": deadline_ms});
        caller.post("/predict", &body).await
    };
    // Which sensors are whose is fixed.
    let (mut canary, mut stable) = (None, None);
    for sensor in 0.. {
        let (status, answer) = ask(sensor, 1.0).await;
        assert_eq!(status, 200, "{answer}");
        *(if answer["arm"] == "canary" { &mut canary } else { &mut stable }) = Some(sensor);
        if canary.is_some() && stable.is_some() {
            break;
        }
    }
    let (canary, stable) = (canary.unwrap(), stable.unwrap());
    for round in 0..60 {
        // The comparison wants both sides.
        assert_eq!(ask(stable, 1.0).await.0, 200);
        let (status, answer) = ask(canary, 1e12).await;
        if caller.model("rig.looping").await["rollout"]["rolled_back"].is_object() {
            break;
        }
        // The first run holds a thread of the runtime, which may come to the deadline late.
        assert!(status == refusal || round == 0, "{answer}");
        caller.pool_when("looping", 2, "an idle worker", |pool| pool["in_use"] == 0).await;
    }
    let rollout = caller.model("rig.looping").await["rollout"].clone();
    assert!(rollout["rolled_back"].is_object(), "{rollout}");
    let (status, answer) = ask(canary, 1.0).await;
    assert_eq!((status, &answer["model_version"]), (200, &json!(1)), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_whose_runs_are_interrupted_goes() {
    a_hanging_canary_goes(10_000, 500).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_whose_callers_all_time_out_goes() {
    a_hanging_canary_goes(50, 504).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_became_the_default_is_compared_with_nothing() {
    let (_redis, _models, _native, caller) = start(CANARY, &[("DEFAULT_MODEL_VERSION", "1")]).await;
    assert_eq!(shares(&caller, 20).await, vec![(1, Value::Null); 20]);
    assert_eq!(caller.model(MODEL).await["rollout"]["plan"], "none");
}
