//! Readings of a class that the plan sheds: turned away by the service and by the edge, before anything is stored.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::Response;
use reqwest::Client;
use serde_json::{Value, json};
use shared::policy::{Mode, Plan};
use shared::snapshot::{Snapshot, TaskLoad, TierLoad};
use tokio::task::JoinSet;
use worker_native::config::{Config, Source};

use crate::support::edge::Edge;
use crate::support::native::Native;
use crate::support::origin::{Origin, Seen};
use crate::support::readings::{get, header, post, read, result_of};
use crate::support::redis::Redis;
use crate::support::until;

const TASK: &str = "hydraulic-accumulator";

/// A snapshot by which a task sheds these shares of its classes, young for as long as a test lasts.
fn shedding(task: &str, reject: [f32; 3], seq: u64) -> String {
    let plan = Plan { mode: Mode::Saturated, upper: 0, reject, period_us: 60e6, ..Plan::default() };
    let tiers = vec![TierLoad { tier: "fast".to_owned(), accuracy: Some(0.9), ..TierLoad::default() }];
    let load = TaskLoad { task: task.to_owned(), tiers, plan: Some(plan) };
    Snapshot { boot: 0xf, seq, at: seq, tasks: vec![load] }.to_text()
}

/// Tells the plan of a process that there is none of, over and over, as a process that lives would.
async fn plan_from_elsewhere(redis: &Redis, reject: [f32; 3]) -> JoinSet<()> {
    let env = [("REDIS_URL".to_owned(), redis.url())].into_iter().collect();
    let config = Config::read(Source::new(env, None).unwrap()).unwrap();
    let queue = worker_native::queue::open(&config.queue).unwrap();
    let mut teller = JoinSet::new();
    teller.spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        for seq in 1.. {
            ticks.tick().await;
            queue.set_fact(TASK, "routing", "plan", Some(&shedding(TASK, reject, seq))).await.unwrap();
        }
    });
    teller
}

fn reading(priority: &str) -> Value {
    json!({"task": TASK, "features": crate::engine::sample(TASK, "ridge"), "priority": priority})
}

/// A hand-in or a call under a key.
async fn keyed(url: &str, key: &str, reading: &Value) -> reqwest::Response {
    Client::new().post(url).header("idempotency-key", key).json(reading).send().await.unwrap()
}

/// The refusal says when to come back, exactly and in whole seconds.
async fn is_shed(response: reqwest::Response) -> Value {
    let seconds = header(&response, "retry-after").map(|seconds| seconds.parse::<u64>().unwrap());
    let (status, problem) = read(response).await;
    assert_eq!((status, &problem["code"]), (429, &json!("load-shed")), "{problem}");
    let after_ms = problem["retry_after_ms"].as_u64().unwrap();
    assert_eq!(seconds, Some(after_ms.div_ceil(1_000).max(1)), "{problem}");
    problem
}

#[tokio::test]
async fn the_service_turns_away_the_class_that_is_shed_and_stores_nothing() {
    let redis = Redis::start().await;
    let native = Native::start(&redis.url(), &[]).await;
    let url = |path: &str| native.url(path);
    let first = keyed(&url("/v1/jobs"), "before", &reading("low")).await;
    let (status, receipt) = read(first).await;
    assert_eq!(status, 202, "{receipt}");
    result_of(&url(""), &receipt).await;
    let called = read(keyed(&url("/predict"), "called", &reading("low")).await).await;
    assert_eq!(called.0, 200, "{called:?}");

    let _teller = plan_from_elsewhere(&redis, [0.0, 0.0, 1.0]).await;
    until("the plan to hold", || async {
        let (status, _) = read(post(&url("/predict"), &reading("low")).await).await;
        (status == 429).then_some(())
    })
    .await;
    let hand_ins = |text: &str, result: &str| {
        let series = format!(r#"router_hand_ins_total{{task="{TASK}",result="{result}"}} "#);
        text.lines().find_map(|line| line.strip_prefix(&series)).map_or(0, |count| count.parse::<u64>().unwrap())
    };

    let problem = is_shed(post(&url("/v1/jobs"), &reading("low")).await).await;
    let (_, told) = get(&url(&format!("/v1/decisions/{}", problem["request_id"].as_str().unwrap()))).await;
    assert_eq!((&told["state"], &told["end"]["error"]), (&json!("shed"), &problem["detail"]), "{told}");
    is_shed(keyed(&url("/data"), "new", &reading("low")).await).await;
    is_shed(keyed(&url("/predict"), "new", &reading("low")).await).await;
    let (status, batch) =
        read(post(&url("/predict/batch"), &json!({"readings": [reading("low"), reading("normal")]})).await).await;
    let (shed, answered) = (&batch["predictions"][0]["error"], &batch["predictions"][1]["prediction"]);
    assert_eq!((status, &shed["code"], &batch["succeeded"]), (200, &json!("load-shed"), &json!(1)), "{batch}");
    assert!(shed["retry_after_ms"].is_u64() && !answered.is_null(), "{batch}");

    // What came before under its key is answered as then; under the same key another is another.
    let again = keyed(&url("/v1/jobs"), "before", &reading("low")).await;
    assert_eq!(header(&again, "idempotency-replayed").as_deref(), Some("true"));
    assert_eq!(read(again).await, (202, receipt));
    assert_eq!(read(keyed(&url("/predict"), "called", &reading("low")).await).await, called);
    let mut another = reading("low");
    another["deadline_ms"] = json!(60_000);
    assert_eq!(keyed(&url("/v1/jobs"), "before", &another).await.status(), 422);

    for class in ["normal", "high"] {
        assert_eq!(post(&url("/v1/jobs"), &reading(class)).await.status(), 202, "{class}");
    }
    let text = reqwest::get(url("/metrics")).await.unwrap().text().await.unwrap();
    assert_eq!((hand_ins(&text, "shed"), hand_ins(&text, "accepted")), (2, 3), "{text}");
    assert!(text.contains(&format!(r#"router_shed_total{{task="{TASK}",class="low"}} "#)), "{text}");
    assert!(!text.contains(&format!(r#"router_shed_total{{task="{TASK}",class="high"}}"#)), "{text}");
}

#[tokio::test]
async fn the_edge_turns_it_away_without_asking_and_leaves_repetitions_to_the_service() {
    let seq = Arc::new(AtomicU64::new(1));
    let answer = move |seen: &Seen| {
        let text = shedding("pump", [0.0, 0.0, 1.0], seq.fetch_add(1, Ordering::Relaxed));
        let response = Response::builder().header("x-infer-catalog", "e1").header("x-infer-snapshot", text);
        let body = match seen.target.as_str() {
            "/v1/catalog" => json!({"etag": "e1", "default_task": null, "tasks": [{
                "schema": {"name": "pump", "kind": "anomaly", "tiers": ["fast"],
                    "fields": [{"name": "pressure", "type": "number", "min": 0.0, "max": 50.0}]},
                "models": [{"name": "m", "tier": "fast", "type": "sklearn", "default_version": 1, "versions": [1]}],
            }]}),
            _ => json!({}),
        };
        response.body(Body::from(body.to_string())).unwrap()
    };
    let origin = Origin::start(answer).await;
    let edge = Edge::start(origin.port, &[("SNAPSHOT_USABLE_MS", "600000"), ("SNAPSHOT_FRESH_MS", "60000")]);
    let reading = |priority: &str| json!({"task": "pump", "features": [6.5], "priority": priority});
    until("the edge to know the plan", || async {
        (post(&edge.url("/data"), &reading("low")).await.status() == 429).then_some(())
    })
    .await;

    let count = origin.seen().len();
    for path in ["/data", "/v1/jobs", "/predict"] {
        let problem = is_shed(post(&edge.url(path), &reading("low")).await).await;
        assert_eq!(problem["instance"], path);
    }
    assert_eq!(origin.seen().len(), count, "nothing is forwarded");
    for class in ["normal", "high"] {
        assert_eq!(post(&edge.url("/data"), &reading(class)).await.status(), 200, "{class}");
    }
    assert_eq!(keyed(&edge.url("/data"), "k", &reading("low")).await.status(), 200, "it may be a repetition");
    assert_eq!(origin.seen().len(), count + 3);
}
