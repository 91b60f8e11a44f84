//! Requests that count once: `Idempotency-Key`, with jobs and with calls that are answered at once.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use serde_json::json;
use tokio::task::JoinSet;

use super::{ENDLESS, api, post_with, reading, rig, turns};
use crate::support::models::Caller;
use crate::support::native::Native;
use crate::support::readings::{get, header, read};
use crate::support::redis::Redis;
use crate::support::until;

const KEY: &str = "idempotency-key";

/// The backlog of the task that these readings are of.
async fn depth(native: &Native) -> u64 {
    let (_, snapshot) = get(&native.url("/v1/snapshot")).await;
    let mut tasks = snapshot["tasks"].as_array().unwrap().iter();
    tasks.find(|task| task["task"] == "pump-anomaly").unwrap()["depth"].as_u64().unwrap()
}

#[tokio::test]
async fn a_hand_in_sent_again_is_the_same_job() {
    let redis = Redis::start().await;
    let (native, other) = (api(&redis, &[]).await, api(&redis, &[]).await);
    let first = post_with(&native.url("/data?priority=low"), &reading(), &[(KEY, "\"order-66\"")]).await;
    assert_eq!(header(&first, "idempotency-replayed"), None);
    let (location, (status, receipt)) = (header(&first, "location"), read(first).await);
    assert_eq!((status, &receipt["priority"]), (202, &json!("low")), "{receipt}");
    // To another process, and with the key written plainly.
    let again = post_with(&other.url("/data?priority=low"), &reading(), &[(KEY, "order-66")]).await;
    assert_eq!(header(&again, "idempotency-replayed").as_deref(), Some("true"));
    assert_eq!(header(&again, "content-type").as_deref(), Some("application/json"));
    assert_eq!(header(&again, "x-infer-task").as_deref(), Some("pump-anomaly"));
    assert_eq!((header(&again, "location"), read(again).await), (location, (202, receipt.clone())));

    for (path, body) in [
        ("/data?priority=low", json!({"sensor_id": "another", "sensor_data": reading()["sensor_data"]})),
        ("/data?priority=high", reading()),
        ("/v1/jobs?priority=low", reading()),
    ] {
        let (status, problem) = read(post_with(&native.url(path), &body, &[(KEY, "order-66")]).await).await;
        assert_eq!((status, &problem["code"]), (422, &json!("idempotency-conflict")), "{path} {problem}");
    }
    let theirs =
        post_with(&native.url("/data?priority=low"), &reading(), &[(KEY, "order-66"), ("x-tenant", "b")]).await;
    let (status, theirs) = read(theirs).await;
    assert_eq!(status, 202, "{theirs}");
    assert_ne!(theirs["job_id"], receipt["job_id"], "another tenant's key is another key");
    assert_eq!(get(&native.url(theirs["location"].as_str().unwrap())).await.1["state"], "queued");
    until("two jobs in the backlog", || async { (depth(&native).await == 2).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_under_one_key_are_one_job() {
    let redis = Redis::start().await;
    let native = api(&redis, &[]).await;
    let (url, reading) = (native.url("/data"), reading());
    let answers = join_all((0..32).map(|_| async { read(post_with(&url, &reading, &[(KEY, "k")]).await).await })).await;
    let ids: BTreeSet<String> = answers
        .iter()
        .map(|(status, receipt)| {
            assert_eq!(*status, 202, "{receipt}");
            receipt["job_id"].to_string()
        })
        .collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    until("the one job in the metrics", || async {
        let text = reqwest::get(native.url("/metrics")).await.unwrap().text().await.unwrap();
        let line = |series: &str| text.lines().any(|line| line == series);
        let told = line(r#"router_hand_ins_total{task="pump-anomaly",result="accepted"} 1"#)
            && line(r#"router_hand_ins_total{task="pump-anomaly",result="replayed"} 31"#);
        let backlog =
            ["fast", "accurate"].map(|tier| format!(r#"router_backlog_jobs{{task="pump-anomaly",tier="{tier}"}} 1"#));
        (told && backlog.iter().filter(|series| line(series)).count() == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn headers_that_cannot_be_used_are_told() {
    let redis = Redis::start().await;
    let native = api(&redis, &[]).await;
    for path in ["/data", "/v1/jobs", "/predict", "/v1/infer"] {
        for (name, value) in [(KEY, "\"open"), (KEY, "two words"), ("x-tenant", "a/b"), ("x-tenant", &"x".repeat(65))] {
            let (status, problem) = read(post_with(&native.url(path), &reading(), &[(name, value)]).await).await;
            assert_eq!((status, &problem["code"]), (400, &json!("invalid-header")), "{path} {name}: {problem}");
            assert!(problem["detail"].as_str().unwrap().contains(name), "{problem}");
        }
    }
    assert_eq!(depth(&native).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_answered_at_once_is_made_once() {
    let mut redis = Redis::start().await;
    let native = Native::start(&redis.url(), &[]).await;
    let asked = async |path: &str, key: &str| post_with(&native.url(path), &reading(), &[(KEY, key)]).await;
    for path in ["/predict", "/v1/infer"] {
        let key = format!("call{}", path.len());
        let (status, answer) = read(asked(path, &key).await).await;
        assert_eq!(status, 200, "{answer}");
        let again = asked(path, &key).await;
        assert_eq!(header(&again, "idempotency-replayed").as_deref(), Some("true"));
        assert_eq!(read(again).await, (200, answer.clone()), "its id and its times, too");
        let other = post_with(&native.url(path), &json!({"sensor_data": {}}), &[(KEY, &key)]).await;
        assert_eq!(read(other).await.0, 422, "what is wrong has no task, and its key is not looked at");
        let mut body = reading();
        body["sensor_id"] = json!("another");
        let (status, problem) = read(post_with(&native.url(path), &body, &[(KEY, &key)]).await).await;
        assert_eq!((status, &problem["code"]), (422, &json!("idempotency-conflict")), "{problem}");
    }
    // A failure did nothing: its key is free.
    let body =
        json!({"sensor_data": reading()["sensor_data"], "model_name": "lof", "model_version": 9, "strict": true});
    for _ in 0..2 {
        let (status, problem) = read(post_with(&native.url("/predict"), &body, &[(KEY, "f")]).await).await;
        assert_eq!((status, &problem["code"]), (404, &json!("unknown-version")), "{problem}");
    }
    redis.stop();
    let (status, problem) = read(asked("/predict", "new").await).await;
    assert_eq!((status, &problem["code"]), (503, &json!("queue-unavailable")), "{problem}");
    assert_eq!(read(post_with(&native.url("/predict"), &reading(), &[]).await).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_goes_on_when_its_caller_leaves_and_is_in_flight_until_then() {
    let (redis, models) = (Redis::start().await, rig());
    let native = models.serve(&redis, &[("MODEL_MAX_RUN_MS", "60000"), ("PREDICT_TIMEOUT_MS", "60000")]).await;
    let caller = Caller::new(native.url(""));
    // As long as it takes to see it running and to be refused: how many turns that is, the machine says.
    let mut count = 3e6;
    loop {
        let (url, body, key) = (native.url("/predict"), turns(count), format!("k{count}"));
        let before = caller.pool("looping", 1).await["rows"].as_u64();
        let mut first = JoinSet::new();
        first.spawn(async move { post_with(&url, &body, &[(KEY, &key)]).await });
        let sent = until("the run", || async {
            let pool = caller.pool("looping", 1).await;
            (pool["in_use"] == 1 || pool["rows"].as_u64() > before).then_some(())
        });
        sent.await;
        // The caller leaves.
        first.shutdown().await;
        let again = async || post_with(&native.url("/predict"), &turns(count), &[(KEY, &format!("k{count}"))]).await;
        let second = again().await;
        if second.status() == 200 {
            assert!(count < ENDLESS, "no run is long enough to be seen");
            count *= 4.0;
            continue;
        }
        assert_eq!(super::seconds(&second), 1);
        let (status, problem) = read(second).await;
        assert_eq!((status, &problem["code"]), (409, &json!("idempotency-in-flight")), "{problem}");
        let answer = until("the answer that nobody waited for", || async {
            let answer = again().await;
            (answer.status() == 200).then_some(answer)
        })
        .await;
        assert_eq!(header(&answer, "idempotency-replayed").as_deref(), Some("true"));
        assert_eq!(read(answer).await.1["prediction"], count);
        return;
    }
}
