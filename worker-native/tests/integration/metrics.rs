//! `GET /metrics` of the running service: what happened is counted, and the text is OpenMetrics.

use serde_json::json;

use crate::support::native::Native;
use crate::support::readings::{body, get, normal, post, read};
use crate::support::redis::Redis;

/// The metrics as text; checks what every scrape must be.
async fn scrape(native: &Native) -> String {
    let response = reqwest::get(native.url("/metrics")).await.unwrap();
    assert_eq!(response.status(), 200);
    let media_type = response.headers()["content-type"].to_str().unwrap();
    assert_eq!(media_type, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let text = response.text().await.unwrap();
    assert!(text.ends_with("\n# EOF\n"), "{text}");
    text
}

/// The value of a series, by name and labels as written; 0 where there is none yet.
fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.parse().unwrap())
}

#[tokio::test]
async fn what_happened_is_counted() {
    let redis = Redis::start().await;
    let native = Native::start(&redis.url(), &[]).await;
    let before = scrape(&native).await;
    let versions = before.lines().filter(|line| line.starts_with("loaded_model_versions{")).count();
    let (_, health) = get(&native.url("/health")).await;
    assert_eq!(json!(versions), health["models_loaded"]);
    assert!(value(&before, "inference_active_connections") >= 1.0, "this very scrape's");
    assert!(value(&before, "process_memory_bytes") > 1e6 || !cfg!(target_os = "linux"));

    let (status, answer) = read(post(&native.url("/predict"), &body(&normal())).await).await;
    assert_eq!(status, 200, "{answer}");
    for _ in 0..2 {
        let (status, _) = read(post(&native.url("/predict"), &json!({"sensor_data": {}})).await).await;
        assert_eq!(status, 422);
    }
    let after = scrape(&native).await;
    let grown = |series: &str| value(&after, series) - value(&before, series);
    let (tier, decision) = (answer["tier"].as_str().unwrap(), &answer["decision"]);
    let labels = format!(r#"task="pump-anomaly",tier="{tier}",reason={},by={}"#, decision["reason"], decision["by"]);
    assert_eq!(grown(&format!("router_decisions_total{{{labels}}}")), 1.0, "{labels} in:\n{after}");
    let refused: f64 = after
        .lines()
        .filter_map(|line| line.strip_prefix("inference_errors_4xx_total{")?.rsplit(' ').next()?.parse::<f64>().ok())
        .sum();
    assert_eq!(refused, 2.0, "{after}");
    assert!(value(&after, "process_uptime_seconds") > value(&before, "process_uptime_seconds"));
}

#[tokio::test]
async fn a_worker_can_be_scraped_too() {
    let redis = Redis::start().await;
    let native = Native::start(&redis.url(), &[("ROLE", "worker")]).await;
    assert!(scrape(&native).await.contains("# TYPE loaded_model_versions gauge"));
}
