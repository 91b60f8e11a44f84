//! The way of a reading: edge, queue, model, results.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::edge::Edge;
use crate::support::native::Native;
use crate::support::readings::{anomalous, body, get, header, normal, post, read, result_of};
use crate::support::redis::Redis;
use crate::support::until;

#[tokio::test]
async fn a_reading_handed_to_the_edge_is_found_in_results_with_one_request_id() {
    let redis = Redis::start().await;
    let native = Native::start(&redis.url(), &[]).await;
    let edge = Edge::start(native.port, &[]);

    let response = reqwest::Client::new()
        .post(edge.url("/data"))
        .header("x-request-id", "night-shift-1")
        .json(&body(&normal()))
        .send()
        .await
        .unwrap();
    assert_eq!(header(&response, "x-request-id").as_deref(), Some("night-shift-1"));
    assert_eq!(header(&response, "x-infer-snapshot"), None, "what is between edge and origin stays there");
    let location = header(&response, "location");
    let (status, receipt) = read(response).await;
    assert_eq!(status, 202, "{receipt}");
    assert_eq!(location.as_deref(), receipt["location"].as_str());

    let result = result_of(&edge.url(""), &receipt).await;
    assert_eq!(result["outcome"], "done", "{result}");
    assert_eq!(result["prediction"], "normal");
    let (_, results) = get(&edge.url("/results?limit=5&sensor_id=sensor-01&task=pump-anomaly")).await;
    assert_eq!(results["count"], 1);
    let listed = &results["results"][0];
    assert_eq!(listed, &result);
    for field in ["sensor_id", "model", "model_version", "tier", "latency_ms", "queue_depth", "model_accuracy"] {
        assert!(!listed[field].is_null(), "{field} in {listed}");
    }
    until("both log lines under the one request id", || async {
        let lines = native.log_lines();
        let says = |message: &str| {
            lines.iter().any(|line| line["request_id"] == "night-shift-1" && line["message"] == message)
        };
        (says("request") && says("job settled")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_two_example_readings_come_out_right_in_all_three_models() {
    let redis = Redis::start().await;
    let native = Native::start(&redis.url(), &[]).await;
    let edge = Edge::start(native.port, &[]);
    for model in ["isolation_forest", "lof", "autoencoder"] {
        for (reading, prediction) in [(normal(), "normal"), (anomalous(), "anomaly")] {
            let body = json!({"sensor_data": reading, "model_name": model});
            let (status, answer) = read(post(&edge.url("/predict"), &body).await).await;
            assert_eq!(status, 200, "{answer}");
            assert_eq!((&answer["prediction"], &answer["model_used"]), (&json!(prediction), &json!(model)));
            assert_eq!(answer["is_anomaly"], prediction == "anomaly");
            assert_eq!(answer["decision"]["reason"], "caller_pinned");
        }
    }
}

#[tokio::test]
async fn thirty_two_first_requests_to_a_cold_edge_are_all_answered() {
    let redis = Redis::start().await;
    let native = Native::start(&redis.url(), &[]).await;
    let edge = Edge::start(native.port, &[]);
    let asked = (0..32).map(|i| {
        let path = if i % 2 == 0 { "/predict" } else { "/data" };
        let url = edge.url(path);
        async move { (path, post(&url, &body(&normal())).await.status().as_u16()) }
    });
    for (path, status) in join_all(asked).await {
        assert_eq!(status, if path == "/predict" { 200 } else { 202 }, "{path}");
    }
    until("all jobs' results", || async {
        let (_, results) = get(&edge.url("/results?limit=100")).await;
        (results["count"] == 16).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_cold_edge_leaves_the_decision_to_the_origin_and_a_warm_one_decides() {
    let redis = Redis::start().await;
    let native = Native::start(&redis.url(), &[]).await;
    let edge = Edge::start(native.port, &[]);
    let (_, cold) = read(post(&edge.url("/predict"), &body(&normal())).await).await;
    assert_eq!(cold["decision"]["by"], "native");
    // The catalog arrives behind the first answer.
    let warm = until("a decision of the edge", || async {
        let (_, answer) = read(post(&edge.url("/predict"), &body(&normal())).await).await;
        (answer["decision"]["by"] == "edge").then_some(answer)
    })
    .await;
    assert_eq!((&warm["decision"]["reason"], &warm["decision"]["mode"]), (&json!("split_dear"), &json!("normal")));
    assert!(warm["decision"]["propensity"].is_number() && warm["decision"]["share"].is_number(), "{warm}");
    assert!(warm["decision"]["snapshot_age_ms"].is_u64(), "{warm}");
}

#[tokio::test]
async fn a_statement_about_the_accurate_model_moves_the_decisions_and_its_withdrawal_moves_them_back() {
    let redis = Redis::start().await;
    let native = Native::start(&redis.url(), &[("ROUTING_POLICY", "adaptive")]).await;
    let edge = Edge::start(native.port, &[]);
    let leak = crate::engine::sample("hydraulic-leak", "logreg");
    let reading = json!({"task": "hydraulic-leak", "features": leak});
    let tier_of_next = || async {
        let (status, receipt) = read(post(&edge.url("/data"), &reading).await).await;
        assert_eq!(status, 202, "{receipt}");
        let result = result_of(&edge.url(""), &receipt).await;
        (result["tier"].clone(), result["reason"].clone())
    };
    assert_eq!(tier_of_next().await, (json!("accurate"), json!("queue_short")));

    let state = |accuracy: Value| json!({"task": "hydraulic-leak", "model": "accurate", "accuracy": accuracy});
    let (status, said) = read(post(&edge.url("/feedback"), &state(json!(0.4))).await).await;
    assert_eq!((status, &said["pinned"], &said["accuracy"]), (200, &json!(true), &json!(0.4)));
    assert_eq!(tier_of_next().await, (json!("fast"), json!("accuracy_low")));
    assert_eq!(tier_of_next().await, (json!("fast"), json!("accuracy_low")));

    let (status, said) = read(post(&edge.url("/feedback"), &state(Value::Null)).await).await;
    assert_eq!((status, &said["pinned"]), (200, &json!(false)));
    assert_eq!(tier_of_next().await, (json!("accurate"), json!("queue_short")));
}

#[tokio::test]
async fn a_statement_moves_the_plan_as_well() {
    let redis = Redis::start().await;
    let native = Native::start(&redis.url(), &[]).await;
    let edge = Edge::start(native.port, &[]);
    let leak = crate::engine::sample("hydraulic-accumulator", "ridge");
    let reading = json!({"task": "hydraulic-accumulator", "features": leak});
    let state = |accuracy: Value| json!({"task": "hydraulic-accumulator", "model": "accurate", "accuracy": accuracy});
    let tier_is = |tier: &'static str| {
        let (edge, reading) = (&edge, &reading);
        async move {
            until("that tier", || async {
                let (_, answer) = read(post(&edge.url("/predict"), reading).await).await;
                (answer["tier"] == tier && answer["decision"]["by"] == "edge").then_some(())
            })
            .await;
        }
    };
    tier_is("accurate").await;
    let (status, _) = read(post(&edge.url("/feedback"), &state(json!(0.4))).await).await;
    assert_eq!(status, 200);
    tier_is("fast").await;
    let (_, snapshot) = get(&native.url("/v1/snapshot")).await;
    let tasks = snapshot["tasks"].as_array().unwrap();
    let leak = tasks.iter().find(|task| task["task"] == "hydraulic-accumulator").unwrap();
    assert_eq!((&leak["plan"]["upper"], &leak["plan"]["policy"]), (&json!("fast"), &json!("slack-split")));
    read(post(&edge.url("/feedback"), &state(Value::Null)).await).await;
    tier_is("accurate").await;
}
