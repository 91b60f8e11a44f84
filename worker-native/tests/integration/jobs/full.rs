//! A queue without room: which bound, by how much, when to come back; and what was let in stays.

use serde_json::{Value, json};

use super::{api, hand_in, path, post_with, reading, rig, seconds, turns};
use crate::support::native::Native;
use crate::support::readings::{get, read};
use crate::support::redis::Redis;
use crate::support::until;

/// A hand-in that must be refused.
async fn refused(native: &Native, reading: &Value, headers: &[(&str, &str)], code: &str) -> String {
    let response = post_with(&native.url("/data"), reading, headers).await;
    assert!((1..=300).contains(&seconds(&response)));
    let (status, problem) = read(response).await;
    let wanted = if code == "tenant-queue-full" { 429 } else { 503 };
    assert_eq!((status, &problem["code"]), (wanted, &json!(code)), "{problem}");
    problem["detail"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn each_bound_is_named_with_its_numbers_and_refuses_what_does_not_fit() {
    let redis = Redis::start().await;
    let native = api(&redis, &[("QUEUE_MAX_DEPTH", "3"), ("QUEUE_PREFIX", "jobs")]).await;
    let first = hand_in(&native, &reading()).await;
    for _ in 0..2 {
        hand_in(&native, &reading()).await;
    }
    let detail = refused(&native, &reading(), &[], "queue-full").await;
    assert!(detail.contains("has 3 unsettled jobs of 3 (QUEUE_MAX_DEPTH)"), "{detail}");
    assert_eq!(super::delete(&native.url(path(&first))).await.0, 200);
    hand_in(&native, &reading()).await;
    refused(&native, &reading(), &[], "queue-full").await;

    let native = api(&redis, &[("QUEUE_MAX_BYTES", "1024"), ("QUEUE_PREFIX", "bytes")]).await;
    hand_in(&native, &reading()).await;
    let mut detail = None;
    for _ in 0..3 {
        let response = post_with(&native.url("/data"), &reading(), &[]).await;
        if response.status() == 503 {
            detail = read(response).await.1["detail"].as_str().map(str::to_owned);
            break;
        }
    }
    assert!(detail.as_ref().is_some_and(|detail| detail.contains("(QUEUE_MAX_BYTES)")), "{detail:?}");

    let share = [("QUEUE_MAX_DEPTH", "10"), ("TENANT_MAX_PERCENT", "20"), ("QUEUE_PREFIX", "tenants")];
    let native = api(&redis, &share).await;
    let a = [("x-tenant", "team-a")];
    for _ in 0..2 {
        assert_eq!(post_with(&native.url("/data"), &reading(), &a).await.status(), 202);
    }
    let detail = refused(&native, &reading(), &a, "tenant-queue-full").await;
    for part in ["`team-a` has its 20 %", "2 jobs", "TENANT_MAX_PERCENT"] {
        assert!(detail.contains(part), "{part} in {detail}");
    }
    assert_eq!(post_with(&native.url("/data"), &reading(), &[("x-tenant", "team-b")]).await.status(), 202);
    assert_eq!(post_with(&native.url("/data"), &reading(), &[]).await.status(), 202);
    let text = reqwest::get(native.url("/metrics")).await.unwrap().text().await.unwrap();
    assert!(text.contains(r#"router_hand_ins_total{task="pump-anomaly",result="full_tenant"} 1"#), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_would_miss_its_deadline_is_refused_at_the_door() {
    let (redis, models) = (Redis::start().await, rig());
    let settings = [
        ("CONSUMER_CONCURRENCY", "1"),
        ("CLAIM_BATCH", "1"),
        ("CACHE_BACKEND", "off"),
        ("SNAPSHOT_INTERVAL_MS", "50"),
        ("MODEL_MAX_RUN_MS", "60000"),
    ];
    let native = models.serve(&redis, &settings).await;
    let urgent = |ms: u64| json!({"task": "rig", "features": [1.0], "deadline_ms": ms});
    // How many jobs wait for how long, the machine says: enough that one of them waits at every look.
    let detail = until("a refusal", || async {
        for _ in 0..20 {
            hand_in(&native, &turns(20_000.0)).await;
        }
        let response = post_with(&native.url("/data"), &urgent(1), &[]).await;
        if response.status() == 202 {
            return None;
        }
        assert!((1..=300).contains(&seconds(&response)));
        let (status, problem) = read(response).await;
        assert_eq!((status, &problem["code"]), (503, &json!("queue-full")), "{problem}");
        problem["detail"].as_str().map(str::to_owned)
    })
    .await;
    for part in ["would wait about", "others, and may wait 1 ms (its deadline_ms)", "nothing was stored"] {
        assert!(detail.contains(part), "{part} in {detail}");
    }
    // What may wait, may come.
    let mut high = urgent(1);
    high["priority"] = json!("high");
    for welcome in [turns(1.0), high, urgent(86_400_000)] {
        hand_in(&native, &welcome).await;
    }
    let text = reqwest::get(native.url("/metrics")).await.unwrap().text().await.unwrap();
    let seconds = text.lines().find_map(|line| line.strip_prefix(r#"router_backlog_seconds{task="rig"} "#));
    assert!(seconds.unwrap().parse::<f64>().unwrap() >= 0.0, "{text}");
    let (_, snapshot) = get(&native.url("/v1/snapshot")).await;
    assert!(snapshot["tasks"][0]["depth"].as_u64().is_some(), "{snapshot}");
}
