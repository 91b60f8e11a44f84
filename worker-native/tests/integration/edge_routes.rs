//! What of a request reaches the origin through the edge, and what does not.

use std::io::Write;
use std::sync::Mutex;
use std::time::Duration;

use axum::body::Body;
use axum::http::Response;
use reqwest::Client;
use serde_json::json;
use tokio::net::TcpListener;

use crate::support::edge::Edge;
use crate::support::origin::{Origin, Seen, stream};
use crate::support::readings::{get, post, post_text, read};
use crate::support::{LIMIT, until};

/// Bytes that are neither text nor JSON.
fn tensors() -> Vec<u8> {
    let mut body = br#"{"inputs":[]}"#.to_vec();
    body.extend((0..=255).cycle().take(5_000));
    body
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn ok(_: &Seen) -> Response<Body> {
    Response::new(Body::from("{}"))
}

#[tokio::test]
async fn tensors_and_their_answer_pass_byte_for_byte_with_their_headers() {
    let answer = gzipped(&tensors());
    let origin = Origin::start({
        let answer = answer.clone();
        move |_| {
            let response = Response::builder().header("inference-header-content-length", "13");
            let response = response.header("content-type", "application/octet-stream");
            response.header("content-encoding", "gzip").body(Body::from(answer.clone())).unwrap()
        }
    })
    .await;
    let edge = Edge::start(origin.port, &[]);
    let request = Client::new().post(edge.url("/v2/models/pump-anomaly.autoencoder/versions/1/infer?a=%20b"));
    let request = request.header("inference-header-content-length", "13").header("content-encoding", "deflate");
    // A caller's own advice does not get through here either.
    let request = request.header("accept-encoding", "gzip").header("x-route", "accurate").header("x-request-id", "r-1");
    let response = request.body(tensors()).send().await.unwrap();

    let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    assert_eq!(response.status(), 200);
    assert_eq!(header("inference-header-content-length").as_deref(), Some("13"));
    assert_eq!(header("content-encoding").as_deref(), Some("gzip"));
    assert_eq!(header("content-type").as_deref(), Some("application/octet-stream"));
    assert_eq!(response.bytes().await.unwrap(), answer);

    let seen = origin.seen().pop().unwrap();
    assert_eq!(seen.target, "/v2/models/pump-anomaly.autoencoder/versions/1/infer?a=%20b");
    assert_eq!(seen.body, tensors());
    assert_eq!(seen.header("content-length"), Some("5013"), "not chunked on the way");
    assert_eq!(seen.header("inference-header-content-length"), Some("13"));
    assert_eq!((seen.header("content-encoding"), seen.header("accept-encoding")), (Some("deflate"), Some("gzip")));
    assert_eq!((seen.header("x-request-id"), seen.header("x-route")), (Some("r-1"), None));
}

#[tokio::test]
async fn a_stream_flows_as_it_comes_and_outlives_the_time_limit() {
    let (chunks, receiver) = tokio::sync::mpsc::unbounded_channel();
    let receiver = Mutex::new(Some(receiver));
    let origin =
        Origin::start(move |seen| match receiver.lock().unwrap().take_if(|_| seen.target == "/v1/infer/stream") {
            Some(chunks) => {
                Response::builder().header("content-type", "text/event-stream").body(stream(chunks)).unwrap()
            }
            None => ok(seen),
        })
        .await;
    let limit = Duration::from_millis(500);
    let edge = Edge::start(origin.port, &[("INFER_TIMEOUT_MS", "500")]);
    assert_eq!(get(&edge.url("/livez")).await.0, 200);
    // A stream held back would be waited for without an end.
    let client = Client::builder().timeout(LIMIT).build().unwrap();
    let request = client.post(edge.url("/v1/infer/stream")).header("last-event-id", "7");
    let request = request.header("content-type", "application/json").header("accept", "text/event-stream");
    let mut response = request.body("{}").send().await.unwrap();
    assert_eq!(response.status(), 200);
    // Each chunk is here before the next one is sent, so nothing holds it back.
    chunks.send("id: 8\ndata: one\n\n").unwrap();
    assert_eq!(response.chunk().await.unwrap().unwrap(), "id: 8\ndata: one\n\n");
    // Not a guess: the limit has to pass.
    tokio::time::sleep(limit + limit / 5).await;
    chunks.send("id: 9\ndata: two\n\n").unwrap();
    assert_eq!(response.chunk().await.unwrap().unwrap(), "id: 9\ndata: two\n\n");
    drop(chunks);
    assert_eq!(response.chunk().await.unwrap(), None);
    let seen = origin.seen().pop().unwrap();
    assert_eq!((seen.header("last-event-id"), seen.header("accept")), (Some("7"), Some("text/event-stream")));
}

#[tokio::test]
async fn tensors_without_an_answer_are_a_504_in_the_protocols_own_words() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let edge = Edge::start(silent.local_addr().unwrap().port(), &[("INFER_TIMEOUT_MS", "150")]);
    let response = Client::new().post(edge.url("/v2/models/m/infer")).body(tensors()).send().await.unwrap();
    let (status, problem) = read(response).await;
    assert_eq!((status, &problem["code"]), (504, &json!("origin-timeout")), "{problem}");
    assert_eq!(problem["error"], problem["detail"]);
}

#[tokio::test]
async fn what_is_for_operators_or_too_much_stays_outside() {
    let origin = Origin::start(ok).await;
    let edge = Edge::start(origin.port, &[("MAX_BODY_BYTES", "4096")]);
    for path in [
        "/models/autoencoder/load",
        "/models/m/unload",
        "/v2/repository/models/m/load",
        "/pool/stats",
        "/info",
        "/v1/dead",
        "/v1/dead/t.1",
        "/v1/dead/requeue",
        "/v1/dead/drop",
    ] {
        let (status, problem) = read(post(&edge.url(path), &json!({})).await).await;
        assert_eq!(status, 404, "{path}");
        assert!(problem["detail"].as_str().unwrap().contains("own port"), "{problem}");
        assert_eq!(problem["error"].is_string(), path.starts_with("/v2/"), "{problem}");
        assert_eq!(get(&edge.url(path)).await.0, 404, "{path}");
    }
    let big = Client::new().post(edge.url("/v2/models/m/infer")).body(tensors()).send().await.unwrap();
    assert_eq!(read(big).await.0, 413);
    let form = Client::new().post(edge.url("/predict/batch")).body("{}").send().await.unwrap();
    assert_eq!(read(form).await.0, 415);
    let (status, problem) = read(Client::new().delete(edge.url("/v2")).send().await.unwrap()).await;
    assert_eq!((status, &problem["error"]), (405, &problem["detail"]), "{problem}");
    assert!(origin.seen().is_empty(), "{:?}", origin.seen());
}

#[tokio::test]
async fn what_there_is_passes() {
    let origin = Origin::start(ok).await;
    let edge = Edge::start(origin.port, &[]);
    let pages = ["/models", "/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/m/config", "/v2/models/stats"];
    for path in pages {
        assert_eq!(get(&edge.url(path)).await.0, 200, "{path}");
    }
    for path in ["/predict/batch", "/v1/infer", "/v2/models/m/infer"] {
        assert_eq!(post(&edge.url(path), &json!({"a": 1})).await.status(), 200, "{path}");
    }
    // As the Python client sends it: no body at all.
    assert_eq!(Client::new().post(edge.url("/v2/repository/index")).send().await.unwrap().status(), 200);
    let seen: Vec<String> = origin.seen().iter().map(|seen| format!("{} {}", seen.method, seen.target)).collect();
    assert_eq!(seen.len(), pages.len() + 4, "{seen:?}");
    assert!(seen.contains(&"POST /v2/repository/index".to_owned()), "{seen:?}");
}

#[tokio::test]
async fn what_is_said_of_a_job_passes_both_ways() {
    let origin = Origin::start(|seen| {
        let response = Response::builder().header("retry-after", "17").header("idempotency-replayed", "true");
        let status = if seen.method == "DELETE" { 409 } else { 202 };
        response.header("location", "/v1/jobs/t.1").status(status).body(Body::from("{}")).unwrap()
    })
    .await;
    let edge = Edge::start(origin.port, &[]);
    let client = Client::new();
    let request = client.post(edge.url("/data?priority=high&callback_url=https%3A%2F%2Fa.example%2F"));
    let request = request.header("idempotency-key", "\"k-1\"").header("x-tenant", "team-a").json(&json!({"a": 1}));
    let response = request.send().await.unwrap();
    let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
    assert_eq!((response.status().as_u16(), header("retry-after").as_str()), (202, "17"));
    assert_eq!((header("idempotency-replayed").as_str(), header("location").as_str()), ("true", "/v1/jobs/t.1"));
    let seen = origin.seen().pop().unwrap();
    assert_eq!((seen.header("idempotency-key"), seen.header("x-tenant")), (Some("\"k-1\""), Some("team-a")));
    assert_eq!(seen.target, "/data?priority=high&callback_url=https%3A%2F%2Fa.example%2F");

    let ended = client.delete(edge.url("/v1/jobs/t.1")).send().await.unwrap();
    assert_eq!(ended.status(), 409);
    let seen = origin.seen().pop().unwrap();
    assert_eq!((seen.method.as_str(), seen.target.as_str(), seen.body.len()), ("DELETE", "/v1/jobs/t.1", 0));
    for path in ["/data", "/v1/jobs", "/v1/dead/t.1", "/v1/jobs/t.1/events"] {
        let status = client.delete(edge.url(path)).send().await.unwrap().status().as_u16();
        assert_eq!(status, if path == "/v1/dead/t.1" { 404 } else { 405 }, "{path}");
    }
}

#[tokio::test]
async fn events_of_a_job_flow_as_they_come() {
    let (chunks, receiver) = tokio::sync::mpsc::unbounded_channel();
    let receiver = Mutex::new(Some(receiver));
    let origin =
        Origin::start(move |seen| match receiver.lock().unwrap().take_if(|_| seen.target == "/v1/jobs/t.1/events") {
            Some(chunks) => {
                Response::builder().header("content-type", "text/event-stream").body(stream(chunks)).unwrap()
            }
            None => ok(seen),
        })
        .await;
    let limit = Duration::from_millis(500);
    let edge = Edge::start(origin.port, &[("JOBS_TIMEOUT_MS", "500")]);
    let client = Client::builder().timeout(LIMIT).build().unwrap();
    let request = client.get(edge.url("/v1/jobs/t.1/events")).header("last-event-id", "3");
    let mut response = request.send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    chunks.send("id: 4\ndata: {}\n\n").unwrap();
    assert_eq!(response.chunk().await.unwrap().unwrap(), "id: 4\ndata: {}\n\n");
    // Not a guess: the limit has to pass.
    tokio::time::sleep(limit + limit / 5).await;
    chunks.send("id: end\ndata: {}\n\n").unwrap();
    assert_eq!(response.chunk().await.unwrap().unwrap(), "id: end\ndata: {}\n\n");
    drop(chunks);
    assert_eq!(response.chunk().await.unwrap(), None);
    assert_eq!(origin.seen().pop().unwrap().header("last-event-id"), Some("3"));
}

/// A catalog with a task of a kind this edge cannot know.
fn newer(seen: &Seen) -> Response<Body> {
    let response = Response::builder().header("x-infer-catalog", "e1");
    let response = response.header("x-infer-snapshot", "v=1;e=1;s=1;t=1;sentiment=fast:0:100:9000");
    let body = match seen.target.as_str() {
        "/v1/catalog" => json!({"etag": "e1", "default_task": null, "tasks": [
            {"schema": {"name": "later", "kind": "telepathy", "tiers": 3}},
            {"schema": {"name": "sentiment", "kind": "classification", "tiers": ["fast"], "classes": ["bad", "good"],
                "fields": [{"name": "text", "type": "text", "max_length": 20}]},
             "models": [{"name": "words", "tier": "fast", "type": "sklearn", "default_version": 1, "versions": [1]}]},
        ]}),
        _ => json!({}),
    };
    response.body(Body::from(body.to_string())).unwrap()
}

#[tokio::test]
async fn a_text_is_judged_and_advised_beside_a_task_of_a_later_version() {
    let origin = Origin::start(newer).await;
    let edge = Edge::start(origin.port, &[("SNAPSHOT_USABLE_MS", "600000"), ("SNAPSHOT_FRESH_MS", "60000")]);
    let body = "{ \"text\":\"I \\u2665 it\" }";
    let route = || origin.seen().last().unwrap().header("x-route").map(str::to_owned);
    until("the edge's own advice", || async {
        assert_eq!(post_text(&edge.url("/predict_proba"), body.to_owned()).await.status(), 200);
        (route().as_deref() == Some("fast")).then_some(())
    })
    .await;
    let seen = origin.seen().pop().unwrap();
    assert_eq!((seen.target.as_str(), seen.body.as_ref()), ("/predict_proba", body.as_bytes()));

    let count = origin.seen().len();
    let (status, problem) = read(post(&edge.url("/data"), &json!({"text": "x".repeat(21)})).await).await;
    assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!("#/text")), "{problem}");
    assert_eq!(origin.seen().len(), count, "a wrong text goes no further");
    // Whom a type means, and what a later task takes, the origin says.
    let typed = json!({"text": "fine", "model_type": "sklearn"});
    let later = json!({"task": "later", "features": [1]});
    for body in [typed, later] {
        assert_eq!(post(&edge.url("/predict"), &body).await.status(), 200, "{body}");
        assert_eq!(route().as_deref(), Some("auto"), "{body}");
    }
}
