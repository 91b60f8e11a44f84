//! The edge when what is behind it is down, slow, or unknown.

use serde_json::json;
use tokio::net::TcpListener;

use crate::support::edge::Edge;
use crate::support::native::Native;
use crate::support::readings::{body, get, header, normal, post, read};
use crate::support::redis::{Redis, free_port};
use crate::support::until;

#[tokio::test]
async fn an_origin_that_is_down_is_a_503_that_says_when_to_try_again() {
    let edge = Edge::start(free_port(), &[]);
    for path in ["/predict", "/data"] {
        let response = post(&edge.url(path), &body(&normal())).await;
        assert!(header(&response, "retry-after").is_some(), "{path}");
        let (status, problem) = read(response).await;
        assert_eq!((status, &problem["code"]), (503, &json!("origin-unavailable")), "{problem}");
    }
    assert_eq!(get(&edge.url("/results")).await.0, 503);
    assert_eq!(get(&edge.url("/health")).await.0, 503);
    let (status, root) = get(&edge.url("/")).await;
    assert_eq!((status, &root["name"]), (200, &json!("Infer Router")));
}

#[tokio::test]
async fn an_origin_that_never_answers_is_a_504_within_the_timeout() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let edge = Edge::start(port, &[("PREDICT_TIMEOUT_MS", "150"), ("JOBS_TIMEOUT_MS", "150")]);
    for path in ["/predict", "/data"] {
        let (status, problem) = read(post(&edge.url(path), &body(&normal())).await).await;
        assert_eq!((status, &problem["code"]), (504, &json!("origin-timeout")), "{problem}");
    }
}

#[tokio::test]
async fn the_edge_recovers_with_its_origin() {
    let redis = Redis::start().await;
    let port = free_port();
    let edge = Edge::start(port, &[]);
    assert_eq!(post(&edge.url("/predict"), &body(&normal())).await.status(), 503);
    let text = port.to_string();
    let _native = Native::start(&redis.url(), &[("API_PORT", &text)]).await;
    until("an answer", || async {
        (post(&edge.url("/predict"), &body(&normal())).await.status() == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_snapshot_too_old_to_use_leaves_every_decision_to_the_origin() {
    let redis = Redis::start().await;
    let native = Native::start(&redis.url(), &[]).await;
    let edge = Edge::start(native.port, &[("SNAPSHOT_FRESH_MS", "0"), ("SNAPSHOT_USABLE_MS", "0")]);
    for _ in 0..5 {
        // Every answer brings a snapshot; two milliseconds later it is over its age.
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        let (status, answer) = read(post(&edge.url("/predict"), &body(&normal())).await).await;
        assert_eq!((status, &answer["decision"]["by"]), (200, &json!("native")), "{answer}");
    }
}

#[tokio::test]
async fn a_stale_snapshot_is_still_used_and_refreshed_behind_the_answer() {
    let redis = Redis::start().await;
    let native = Native::start(&redis.url(), &[("LOG_LEVEL", "debug")]).await;
    let edge = Edge::start(native.port, &[("SNAPSHOT_FRESH_MS", "0"), ("SNAPSHOT_USABLE_MS", "600000")]);
    let stale = until("a decision on a stale snapshot", || async {
        let (_, answer) = read(post(&edge.url("/predict"), &body(&normal())).await).await;
        let age = answer["decision"]["snapshot_age_ms"].as_u64().unwrap_or(0);
        (answer["decision"]["by"] == "edge" && age >= 1).then_some(answer)
    })
    .await;
    assert_eq!(stale["decision"]["reason"], "split_dear");
    until("the refresh", || async {
        native.log_lines().iter().any(|line| line["path"] == "/v1/snapshot").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_wrong_setting_is_named_by_the_edge_and_no_reading_is_taken() {
    let redis = Redis::start().await;
    let native = Native::start(&redis.url(), &[]).await;
    let edge = Edge::start(native.port, &[("QUEUE_THRESHOLD", "many"), ("EDGE_POLICY", "psychic")]);
    let (status, problem) = read(post(&edge.url("/data"), &body(&normal())).await).await;
    assert_eq!(status, 500, "{problem}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("QUEUE_THRESHOLD") && detail.contains("EDGE_POLICY"), "{detail}");
    let (status, health) = get(&edge.url("/health")).await;
    assert_eq!(status, 503, "{health}");
}

#[tokio::test]
async fn a_panic_fails_its_own_request_only() {
    let redis = Redis::start().await;
    // A threshold out of reach: the neighbours' tier is the edge's decision alone.
    let native = Native::start(&redis.url(), &[("QUEUE_THRESHOLD", "1000")]).await;
    let edge = Edge::start_panicking(native.port);
    until("a decision of the edge", || async {
        let (_, answer) = read(post(&edge.url("/predict"), &body(&normal())).await).await;
        (answer["decision"]["by"] == "edge").then_some(())
    })
    .await;
    let asked = (0..12).map(|i| {
        let path = if i % 4 == 0 { "/__panic" } else { "/predict" };
        let url = edge.url(path);
        async move { (path, read(post(&url, &body(&normal())).await).await) }
    });
    for (path, (status, answer)) in futures_util::future::join_all(asked).await {
        if path == "/__panic" {
            assert_eq!((status, &answer["code"]), (500, &json!("internal")), "{answer}");
            assert!(answer["request_id"].is_string());
        } else {
            assert_eq!(
                (status, &answer["decision"]["by"]),
                (200, &json!("edge")),
                "a neighbour lost its state: {answer}"
            );
        }
    }
    let shipped = Edge::start(native.port, &[]);
    assert_eq!(post(&shipped.url("/__panic"), &json!({})).await.status(), 404, "the route is in the test's build only");
}

#[tokio::test]
async fn wasm_decides_bit_for_bit_as_native_code_does() {
    let edge = Edge::start_panicking(free_port());
    let response = post(&edge.url("/__selfcheck"), &json!({})).await;
    let digest = response.text().await.unwrap();
    assert_eq!(digest, format!("{:016x}", shared::policy::selfcheck::selfcheck()));
}
