//! `GET|PUT /v1/policy`: another policy at run time, in every process and at the edge, over restarts.

use reqwest::Client;
use serde_json::{Value, json};

use crate::support::edge::Edge;
use crate::support::native::Native;
use crate::support::readings::{get, post, read};
use crate::support::redis::Redis;
use crate::support::until;

const TASK: &str = "hydraulic-accumulator";

fn reading() -> Value {
    json!({"task": TASK, "features": crate::engine::sample(TASK, "ridge")})
}

async fn put(url: &str, body: &Value) -> (u16, Value) {
    read(Client::new().put(url).json(body).send().await.unwrap()).await
}

/// The policy of the task as a process shows it.
async fn shown(native: &Native) -> Value {
    let (status, policies) = get(&native.url("/v1/policy")).await;
    assert_eq!(status, 200, "{policies}");
    policies["tasks"].as_array().unwrap().iter().find(|task| task["task"] == TASK).cloned().unwrap()
}

async fn edge_decides(edge: &Edge, tier: &str, reason: &str) {
    until("such a decision of the edge", || async {
        let (_, answer) = read(post(&edge.url("/predict"), &reading()).await).await;
        let decision = &answer["decision"];
        (decision["by"] == "edge" && answer["tier"] == tier && decision["reason"] == reason).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_policy_that_is_put_reaches_the_edge_and_outlives_the_process() {
    let redis = Redis::start().await;
    let native = Native::start(&redis.url(), &[]).await;
    let other = Native::start(&redis.url(), &[("ROUTING_POLICY", "slack-split")]).await;
    let edge = Edge::start(native.port, &[("EDGE_POLICY", "always-accurate")]);
    // Once the edge has seen a snapshot, what the origin has in force holds, and not the edge's own setting.
    edge_decides(&edge, "accurate", "split_dear").await;
    assert_eq!((&shown(&native).await["from"], &shown(&other).await["from"]), (&json!("default"), &json!("setting")));

    let (status, policies) = put(&native.url("/v1/policy"), &json!({"policy": "always-fast"})).await;
    assert_eq!(status, 200, "{policies}");
    edge_decides(&edge, "fast", "policy_fixed").await;
    until("the other process to hear of it", || async { (shown(&other).await["from"] == "all").then_some(()) }).await;

    let wish = json!({"task": TASK, "policy": "queue-threshold", "queue_threshold": 7});
    assert_eq!(put(&native.url("/v1/policy"), &wish).await.0, 200);
    let task = shown(&native).await;
    assert_eq!(
        (&task["policy"], &task["queue_threshold"], &task["from"]),
        (&json!("queue-threshold"), &json!(7), &json!("task"))
    );
    let first = task["version"].as_u64().unwrap();
    edge_decides(&edge, "accurate", "queue_short").await;

    drop(native);
    let native = Native::start(&redis.url(), &[]).await;
    assert_eq!(
        (&shown(&native).await["policy"], &shown(&native).await["version"]),
        (&json!("queue-threshold"), &json!(first))
    );
    assert_eq!(put(&native.url("/v1/policy"), &json!({"task": TASK, "policy": null})).await.0, 200);
    assert_eq!(shown(&native).await["policy"], "always-fast");
    assert_eq!(put(&native.url("/v1/policy"), &json!({"policy": null})).await.0, 200);
    assert_eq!(
        (&shown(&native).await["policy"], &shown(&native).await["from"]),
        (&json!("slack-split"), &json!("default"))
    );
}

#[tokio::test]
async fn a_wrong_policy_changes_nothing_and_every_fault_is_told() {
    let redis = Redis::start().await;
    let native = Native::start(&redis.url(), &[]).await;
    let edge = Edge::start(native.port, &[]);
    let url = native.url("/v1/policy");
    let before = shown(&native).await;
    let wish = json!({
        "policy": "clever", "queue_threshold": 0, "accuracy_floor": 2.0, "slack_split": {"headroom": 7.0, "patience_ms": 0},
    });
    let (status, problem) = put(&url, &wish).await;
    assert_eq!((status, problem["errors"].as_array().unwrap().len()), (422, 5), "{problem}");
    for wrong in [json!({}), json!({"policy": 5}), json!({"policy": "always-fast", "colour": "red"}), json!([])] {
        let (status, problem) = put(&url, &wrong).await;
        assert!((400..500).contains(&status), "{wrong}: {problem}");
    }
    let (status, problem) = put(&url, &json!({"policy": "always-fast", "task": "no-such-task"})).await;
    assert_eq!(status, 404, "{problem}");
    assert_eq!(shown(&native).await, before);
    let (status, _) = put(&edge.url("/v1/policy"), &json!({"policy": "always-fast"})).await;
    assert_eq!(status, 404, "not through the edge");
}
