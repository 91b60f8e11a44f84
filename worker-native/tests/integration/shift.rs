//! Under load the answers shift from accurate to fast, and back when the queue is short again.

use serde_json::json;

use crate::support::edge::Edge;
use crate::support::native::Native;
use crate::support::readings::{get, post, read, result_of};
use crate::support::redis::Redis;
use crate::support::until;

#[tokio::test]
async fn a_queue_over_the_threshold_shifts_answers_to_fast_and_back() {
    let redis = Redis::start().await;
    // No consumer at first: the backlog grows job by job, whatever this machine can do.
    // The origin's policy holds at the edge, too.
    let policy = ("ROUTING_POLICY", "adaptive-threshold");
    let api = Native::start(&redis.url(), &[("ROLE", "api"), policy]).await;
    let edge = Edge::start(api.port, &[("QUEUE_THRESHOLD", "99")]);
    let reading = json!({"task": "hydraulic-leak", "features": crate::engine::sample("hydraulic-leak", "logreg")});

    let mut receipts = Vec::new();
    for _ in 0..9 {
        let (status, receipt) = read(post(&edge.url("/data"), &reading).await).await;
        assert_eq!(status, 202, "{receipt}");
        receipts.push(receipt);
    }
    let tiers: Vec<&str> = receipts.iter().map(|receipt| receipt["tier"].as_str().unwrap()).collect();
    assert_eq!(tiers, ["accurate", "accurate", "accurate", "accurate", "accurate", "fast", "fast", "fast", "fast"]);

    let _worker = Native::start(&redis.url(), &[("ROLE", "worker"), policy]).await;
    for (receipt, tier) in receipts.iter().zip(&tiers) {
        let result = result_of(&edge.url(""), receipt).await;
        assert_eq!((&result["outcome"], result["tier"].as_str()), (&json!("done"), Some(*tier)));
    }
    let (_, results) = get(&edge.url("/results?task=hydraulic-leak&limit=20")).await;
    let reasons: Vec<&str> =
        results["results"].as_array().unwrap().iter().map(|result| result["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons.iter().filter(|reason| **reason == "queue_long").count(), 4, "{reasons:?}");

    // The API process hears of the empty queue from Redis, the edge from the API's answers.
    until("an accurate answer again", || async {
        let (_, receipt) = read(post(&edge.url("/data"), &reading).await).await;
        (receipt["tier"] == "accurate" && receipt["decision"]["reason"] == "queue_short").then_some(())
    })
    .await;
}

#[tokio::test]
async fn advice_from_before_a_burst_is_overruled() {
    let redis = Redis::start().await;
    let api = Native::start(&redis.url(), &[("ROLE", "api"), ("ROUTING_POLICY", "queue-threshold")]).await;
    let reading = json!({"task": "hydraulic-leak", "features": crate::engine::sample("hydraulic-leak", "logreg")});
    let mut tiers = Vec::new();
    for _ in 0..7 {
        let request = reqwest::Client::new().post(api.url("/data")).json(&reading);
        let request = request.header("x-route", "accurate").header("x-route-reason", "queue_short");
        let (_, receipt) = read(request.send().await.unwrap()).await;
        tiers.push((receipt["tier"].clone(), receipt["decision"]["by"].clone()));
    }
    assert_eq!(tiers[4], (json!("accurate"), json!("edge")));
    assert_eq!(tiers[5], (json!("fast"), json!("native")));
}

#[tokio::test]
async fn the_edge_is_advice_only_and_a_lie_breaks_nothing() {
    let redis = Redis::start().await;
    let native = Native::start(&redis.url(), &[]).await;
    let reading =
        json!({"task": "hydraulic-accumulator", "features": crate::engine::sample("hydraulic-accumulator", "ridge")});
    let ask = |route: &'static str, reason: &'static str| {
        let request = reqwest::Client::new().post(native.url("/predict")).json(&reading);
        let request = request.header("x-route", route).header("x-route-reason", reason).header("x-route-depth", "many");
        async move { read(request.send().await.unwrap()).await }
    };
    let (status, advised) = ask("fast", "queue_long").await;
    assert_eq!((status, &advised["tier"], &advised["decision"]["by"]), (200, &json!("fast"), &json!("edge")));
    let (status, lied) = ask("the-best-one", "because").await;
    assert_eq!((status, &lied["tier"], &lied["decision"]["by"]), (200, &json!("accurate"), &json!("native")));
}
