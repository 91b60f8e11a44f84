//! Fast first, and a dearer tier where that answer is in doubt: the answers, what is told of them, what labels teach.

use reqwest::Client;
use serde_json::{Value, json};

use crate::engine::parity;
use crate::support::edge::Edge;
use crate::support::native::Native;
use crate::support::readings::{get, post, read, result_of};
use crate::support::redis::Redis;
use crate::support::until;

const TASK: &str = "pump-anomaly";
const FAST: &str = "isolation_forest";
const ACCURATE: &str = "autoencoder";

/// Readings whose answers the models' originals gave: the cheap model is sure of the one and says `anomaly`, unsure of
/// the other and says `normal`, where the dear one is sure of `anomaly`.
const SURE: usize = 1;
const DOUBTFUL: usize = 6;

fn reading(number: usize) -> Value {
    json!({"task": TASK, "features": parity(TASK, FAST).0[number]})
}

/// The queue in a file or in Redis; what it lies in goes with it.
struct Rig {
    native: Native,
    _redis: Option<Redis>,
    _folder: tempfile::TempDir,
}

impl Rig {
    async fn start(in_redis: bool, settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let redis = if in_redis { Some(Redis::start().await) } else { None };
        let file = folder.path().join("queue.sqlite").to_str().unwrap().to_owned();
        let own: &[(&str, &str)] = if in_redis { &[] } else { &[("QUEUE_FILE", &file)] };
        let url = redis.as_ref().map(Redis::url).unwrap_or_default();
        let native = Native::start(&url, &[own, settings].concat()).await;
        Self { native, _redis: redis, _folder: folder }
    }
}

async fn predict(native: &Native, reading: &Value) -> Value {
    let (status, answer) = read(post(&native.url("/predict"), reading).await).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

async fn put(native: &Native, wish: &Value) {
    let (status, told) = read(Client::new().put(native.url("/v1/policy")).json(wish).send().await.unwrap()).await;
    assert_eq!(status, 200, "{told}");
}

fn assert_escalated(answer: &Value, model: &str) {
    let (decision, cascade) = (&answer["decision"], &answer["decision"]["cascade"]);
    assert_eq!((&answer[model], &answer["tier"]), (&json!(ACCURATE), &json!("accurate")), "{answer}");
    assert_eq!(answer["prediction"], "anomaly", "{answer}");
    assert_eq!((&decision["tier"], &decision["reason"]), (&json!("accurate"), &json!("cascade")), "{answer}");
    assert_eq!((&cascade["outcome"], &cascade["below"]), (&json!("escalated"), &json!(0.8)), "{answer}");
    let from = &cascade["from"];
    assert_eq!(
        (&from["tier"], &from["model"], &from["version"]),
        (&json!("fast"), &json!(FAST), &json!(1)),
        "{answer}"
    );
    assert_eq!(from["prediction"], "normal", "{answer}");
    assert!((from["confidence"].as_f64().unwrap() - 0.5904).abs() < 1e-3, "{answer}");
}

fn assert_kept(answer: &Value, model: &str, outcome: &str) {
    assert_eq!((&answer[model], &answer["tier"]), (&json!(FAST), &json!("fast")), "{answer}");
    assert_eq!(answer["decision"]["cascade"]["outcome"], outcome, "{answer}");
}

/// Both hops as they are told of later.
async fn assert_told(native: &Native, id: &Value) {
    let url = native.url(&format!("/v1/decisions/{}", id.as_str().unwrap()));
    let told = until("a decision to be known", || async {
        let (status, told) = get(&url).await;
        (status == 200).then_some(told)
    })
    .await;
    assert_eq!((&told["end"]["model"], &told["decision"]["tier"]), (&json!(ACCURATE), &json!("accurate")), "{told}");
    assert_eq!(told["decision"]["cascade"]["from"]["model"], FAST, "{told}");
    let story: Vec<&str> = told["story"].as_array().unwrap().iter().map(|told| told.as_str().unwrap()).collect();
    assert!(story[0].starts_with("`fast` was chosen"), "{story:?}");
    let second =
        "`fast` said `normal` with a confidence of 59 %, less than the 80 % asked for, so a dearer tier was asked too.";
    assert!(story.contains(&second), "{story:?}");
    assert!(story.last().unwrap().starts_with("`autoencoder` version 1 answered"), "{story:?}");
}

async fn answers_at_once_and_jobs(in_redis: bool) {
    let rig = Rig::start(in_redis, &[("ROUTING_POLICY", "cascade")]).await;
    let native = &rig.native;
    // The second time each hop's row comes from the cache.
    for _ in 0..2 {
        assert_escalated(&predict(native, &reading(DOUBTFUL)).await, "model_used");
        assert_kept(&predict(native, &reading(SURE)).await, "model_used", "confident");
    }
    let answer = predict(native, &reading(DOUBTFUL)).await;
    assert_eq!(answer["cache"], "HIT", "{answer}");
    assert_told(native, &answer["request_id"]).await;

    let (status, doubtful) = read(post(&native.url("/v1/jobs"), &reading(DOUBTFUL)).await).await;
    assert_eq!((status, &doubtful["model"]), (202, &json!(FAST)), "{doubtful}");
    let result = result_of(&native.url(""), &doubtful).await;
    assert_escalated(&result, "model");
    assert_eq!((&result["model_version"], &result["hinted_tier"]), (&json!(1), &json!("fast")), "{result}");
    assert_told(native, &doubtful["job_id"]).await;
    let (_, sure) = read(post(&native.url("/v1/jobs"), &reading(SURE)).await).await;
    let result = result_of(&native.url(""), &sure).await;
    assert_kept(&result, "model", "confident");
    assert!(result.get("hinted_tier").is_none(), "{result}");

    // What the caller names is what answers.
    let mut named = reading(DOUBTFUL);
    named["model_name"] = json!("fast");
    let answer = predict(native, &named).await;
    assert_eq!((&answer["model_used"], answer["decision"].get("cascade")), (&json!(FAST), None), "{answer}");
    let text = reqwest::get(native.url("/metrics")).await.unwrap().text().await.unwrap();
    for (outcome, count) in [("escalated", 4), ("confident", 3)] {
        let line = format!("router_cascade_answers_total{{task=\"{TASK}\",outcome=\"{outcome}\"}} {count}\n");
        assert!(text.contains(&line), "{line} not in:\n{text}");
    }
}

#[tokio::test]
async fn an_answer_in_doubt_is_asked_again_and_a_sure_one_is_not() {
    answers_at_once_and_jobs(true).await;
}

#[tokio::test]
async fn the_same_with_the_queue_in_a_file() {
    answers_at_once_and_jobs(false).await;
}

#[tokio::test]
async fn every_door_asks_again_and_a_number_is_never_asked_again() {
    let rig = Rig::start(false, &[("ROUTING_POLICY", "cascade"), ("CASCADE_BELOW", "1")]).await;
    let native = &rig.native;
    let readings = json!({"readings": [reading(DOUBTFUL), reading(SURE)]});
    let (status, batch) = read(post(&native.url("/predict/batch"), &readings).await).await;
    assert_eq!((status, &batch["succeeded"]), (200, &json!(2)), "{batch}");
    for answer in batch["predictions"].as_array().unwrap() {
        assert_eq!(answer["decision"]["cascade"]["outcome"], "escalated", "{answer}");
    }
    let (status, proba) = read(post(&native.url("/predict_proba"), &reading(DOUBTFUL)).await).await;
    assert_eq!((status, &proba["model_used"]), (200, &json!(ACCURATE)), "{proba}");
    assert!(proba["probabilities"][1].as_f64().unwrap() > 0.99, "the dear model's: {proba}");
    let tensor = json!({"inputs": [{
        "name": "features", "datatype": "FP32", "shape": [1, 7], "data": parity(TASK, FAST).0[DOUBTFUL],
    }]});
    let (status, row) = read(post(&native.url(&format!("/v2/models/{TASK}/infer")), &tensor).await).await;
    assert_eq!(status, 200, "{row}");
    assert!(row.to_string().contains("pump-anomaly.autoencoder v1"), "{row}");
    let number = json!({"task": "hydraulic-accumulator", "features": parity("hydraulic-accumulator", "ridge").0[0]});
    let answer = predict(native, &number).await;
    assert_eq!((&answer["tier"], &answer["decision"]["cascade"]["outcome"]), (&json!("fast"), &json!("untold")));
}

#[tokio::test]
async fn the_first_answer_is_kept_where_the_second_cannot_come() {
    let rig = Rig::start(false, &[("ROUTING_POLICY", "cascade")]).await;
    let native = &rig.native;
    // Both rows are in the cache now: the first answer takes no time, and what is left is too little for the second.
    assert_escalated(&predict(native, &reading(DOUBTFUL)).await, "model_used");
    let mut hurried = reading(DOUBTFUL);
    hurried["deadline_ms"] = json!(4);
    let answer = until("an answer within four milliseconds", || async {
        let (status, answer) = read(post(&native.url("/predict"), &hurried).await).await;
        (status == 200).then_some(answer)
    })
    .await;
    assert_kept(&answer, "model_used", "late");

    let unload = native.url(&format!("/models/{TASK}.{ACCURATE}/unload"));
    assert_eq!(post(&unload, &json!({})).await.status(), 200);
    let answer = predict(native, &reading(DOUBTFUL)).await;
    assert_kept(&answer, "model_used", "failed");
    assert!(answer["decision"]["cascade"]["why"].as_str().unwrap().contains("`accurate`"), "{answer}");
    let (_, receipt) = read(post(&native.url("/v1/jobs"), &reading(DOUBTFUL)).await).await;
    assert_kept(&result_of(&native.url(""), &receipt).await, "model", "failed");
}

#[tokio::test]
async fn a_cascade_comes_and_goes_at_run_time_and_holds_at_the_edge() {
    let redis = Redis::start().await;
    let native = Native::start(&redis.url(), &[]).await;
    let edge = Edge::start(native.port, &[]);
    // What an edge says that had the cheap tier by the split.
    let advised = || async {
        let request = Client::new().post(native.url("/predict")).json(&reading(DOUBTFUL));
        let request = request.header("x-route", "fast").header("x-route-reason", "split_cheap");
        let (status, answer) = read(request.send().await.unwrap()).await;
        assert_eq!(status, 200, "{answer}");
        answer
    };
    let plain = advised().await;
    assert_eq!((&plain["tier"], plain["decision"].get("cascade")), (&json!("fast"), None), "{plain}");

    put(&native, &json!({"task": TASK, "policy": "slack-split", "cascade": {"below": 0.8}})).await;
    let beside = advised().await;
    assert_eq!(
        (&beside["tier"], &beside["decision"]["reason"]),
        (&json!("accurate"), &json!("split_cheap")),
        "{beside}"
    );
    assert_eq!(beside["decision"]["cascade"]["outcome"], "escalated", "{beside}");

    put(&native, &json!({"task": TASK, "policy": "cascade", "cascade": {"below": 0.0, "fail": "fast"}})).await;
    let (_, policies) = get(&native.url("/v1/policy")).await;
    let shown = policies["tasks"].as_array().unwrap().iter().find(|task| task["task"] == TASK).unwrap();
    assert_eq!(shown["cascade"], json!({"below": 0.0, "fail": "fast"}), "{shown}");
    assert_kept(&predict(&native, &reading(DOUBTFUL)).await, "model_used", "confident");

    put(&native, &json!({"task": TASK, "policy": "cascade"})).await;
    until("the edge to start on the cheap tier", || async {
        let (_, answer) = read(post(&edge.url("/predict"), &reading(DOUBTFUL)).await).await;
        let decision = &answer["decision"];
        if decision["by"] != "edge" || decision["reason"] != "cascade" {
            return None;
        }
        assert_escalated(&answer, "model_used");
        Some(())
    })
    .await;
    put(&native, &json!({"task": TASK, "policy": "slack-split", "cascade": null})).await;
    assert_eq!(advised().await["decision"].get("cascade"), None);
    let wrong = json!({"task": TASK, "policy": "cascade", "cascade": {"below": 1.5}});
    let (status, problem) = read(Client::new().put(native.url("/v1/policy")).json(&wrong).send().await.unwrap()).await;
    assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!("#/cascade/below")), "{problem}");
}

/// Labels so far, and how many were right, of the task's models at a process.
async fn believed(native: &Native, model: &str) -> Value {
    let (_, all) = get(&native.url("/v1/accuracy")).await;
    let tasks = all["tasks"].as_array().unwrap();
    let mut models = tasks.iter().flat_map(|task| task["models"].as_array().unwrap());
    let found = models.find(|one| one["model"] == model).unwrap();
    found["versions"][0]["labels"].clone()
}

async fn label(native: &Native, label: &Value) -> Value {
    until("an answer to be known", || async {
        let (status, counted) = read(post(&native.url("/feedback"), label).await).await;
        (status == 200).then_some(counted)
    })
    .await
}

/// The second answer was right, the first was wrong: the one is told, the other learned.
fn assert_taught(counted: &Value, labels: u64) {
    assert_eq!((&counted["counted"], &counted["correct"]), (&json!(true), &json!(true)), "{counted}");
    assert_eq!((&counted["model"], &counted["accuracy"]["labels"]), (&json!(ACCURATE), &json!(0)), "{counted}");
    let first = &counted["first"];
    assert_eq!((&first["model"], &first["correct"]), (&json!(FAST), &json!(false)), "{counted}");
    assert_eq!(first["accuracy"]["labels"], labels, "{counted}");
}

#[tokio::test]
async fn a_label_teaches_of_the_first_answer_at_any_process() {
    let redis = Redis::start().await;
    let settings = [("ROUTING_POLICY", "cascade")];
    let here = Native::start(&redis.url(), &settings).await;
    let there = Native::start(&redis.url(), &[("ROUTING_POLICY", "cascade"), ("ROLE", "api")]).await;
    let answer = predict(&here, &reading(DOUBTFUL)).await;
    assert_taught(&label(&here, &json!({"request_id": answer["request_id"], "label": "anomaly"})).await, 1);
    // At another process, by what was written behind the answer.
    let answer = predict(&here, &reading(DOUBTFUL)).await;
    assert_taught(&label(&there, &json!({"request_id": answer["request_id"], "correct": true})).await, 2);
    // Of a job by its result, and by its request.
    let (_, receipt) = read(post(&here.url("/v1/jobs"), &reading(DOUBTFUL)).await).await;
    result_of(&here.url(""), &receipt).await;
    assert_taught(&label(&there, &json!({"job_id": receipt["job_id"], "label": "anomaly"})).await, 3);
    let again = label(&there, &json!({"request_id": receipt["request_id"], "label": "anomaly"})).await;
    assert_eq!(again["counted"], false, "{again}");
    // By way of the queue: the worker asks again, and the API knows both answers.
    let answer = predict(&there, &reading(DOUBTFUL)).await;
    assert_escalated(&answer, "model_used");
    assert_taught(&label(&there, &json!({"request_id": answer["request_id"], "label": "anomaly"})).await, 4);
    // An answer that stood teaches of its own model, as ever.
    let sure = predict(&here, &reading(SURE)).await;
    let counted = label(&there, &json!({"request_id": sure["request_id"], "label": "anomaly"})).await;
    assert_eq!((&counted["model"], counted.get("first")), (&json!(FAST), None), "{counted}");
    assert_eq!(counted["accuracy"]["labels"], 5, "{counted}");
    assert_eq!(believed(&there, ACCURATE).await, 0);
    assert_told(&there, &answer["request_id"]).await;
}
