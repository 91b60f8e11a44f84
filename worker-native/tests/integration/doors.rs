//! Wrong input of every kind, at both doors: a precise error, and nothing taken in.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::edge::Edge;
use crate::support::native::Native;
use crate::support::readings::{body, get, header, normal, post, post_text, read};
use crate::support::redis::Redis;
use crate::support::until;

/// A body that must be refused, with status, code and the faults' pointers.
struct Wrong {
    body: String,
    status: u16,
    code: &'static str,
    pointers: &'static [&'static str],
}

/// A body as text, from text or from JSON.
struct Body(String);

impl From<&str> for Body {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<Value> for Body {
    fn from(value: Value) -> Self {
        Self(value.to_string())
    }
}

fn wrong(body: impl Into<Body>, status: u16, code: &'static str, pointers: &'static [&'static str]) -> Wrong {
    Wrong { body: body.into().0, status, code, pointers }
}

fn with(name: &str, value: Value) -> Value {
    let mut reading = normal();
    reading[name] = value;
    body(&reading)
}

fn wrong_bodies() -> Vec<Wrong> {
    let mut missing = normal();
    missing.as_object_mut().unwrap().remove("pressure");
    let invalid = "invalid-reading";
    vec![
        wrong("", 400, "invalid-json", &[]),
        wrong("{", 400, "invalid-json", &[]),
        wrong("[1,2]", 400, "invalid-json", &[]),
        wrong(r#"{"features":[NaN]}"#, 400, "invalid-json", &[]),
        wrong("[".repeat(50_000), 400, "invalid-json", &[]),
        wrong(r#"{"sensor_id":"a"}"#, 422, invalid, &["#/sensor_data"]),
        wrong(body(&missing), 422, invalid, &["#/sensor_data/pressure"]),
        wrong(with("humidity", json!(1)), 422, invalid, &["#/sensor_data/humidity"]),
        wrong(with("pressure", json!("high")), 422, invalid, &["#/sensor_data/pressure"]),
        wrong(with("pressure", json!(null)), 422, invalid, &["#/sensor_data/pressure"]),
        wrong(with("pressure", json!(1e30)), 422, invalid, &["#/sensor_data/pressure"]),
        wrong(
            with("pressure", json!("X")).to_string().replace("\"X\"", "1e999"),
            422,
            invalid,
            &["#/sensor_data/pressure"],
        ),
        wrong(with("operational_state", json!("asleep")), 422, invalid, &["#/sensor_data/operational_state"]),
        wrong(json!({"task": "hydraulic-valve", "features": [1, 2]}), 422, invalid, &["#/features"]),
        wrong(json!({"task": "pump-anomaly", "features": "many"}), 422, invalid, &["#/features"]),
        wrong(json!({"features": [1], "sensor_data": {}, "task": "pump-anomaly"}), 422, invalid, &["#/features"]),
        wrong(
            json!({"sensor_data": normal(), "deadline_ms": -5, "sensor_id": "a b"}),
            422,
            invalid,
            &["#/sensor_id", "#/deadline_ms"],
        ),
        wrong(json!({"sensor_data": normal(), "task": "fortune"}), 404, "unknown-task", &[]),
        wrong(json!({"sensor_data": normal(), "model_name": "crystal_ball"}), 404, "unknown-model", &[]),
        wrong(
            json!({"sensor_data": normal(), "model_name": "lof", "model_version": 99, "strict": true}),
            404,
            "unknown-version",
            &[],
        ),
    ]
}

async fn check_door(base: &str) {
    for path in ["/predict", "/data", "/v1/jobs"] {
        for case in wrong_bodies() {
            let response = post_text(&format!("{base}{path}"), case.body.clone()).await;
            let shown: String = case.body.chars().take(80).collect();
            assert_eq!(
                header(&response, "content-type").as_deref(),
                Some("application/problem+json"),
                "{path} {shown}"
            );
            let id = header(&response, "x-request-id");
            let (status, problem) = read(response).await;
            assert_eq!((status, &problem["code"]), (case.status, &json!(case.code)), "{base}{path} {shown}: {problem}");
            assert_eq!(problem["status"], case.status);
            assert_eq!(problem["request_id"].as_str(), id.as_deref());
            let pointers: Vec<&str> = problem["errors"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|fault| fault["pointer"].as_str().unwrap())
                .collect();
            assert_eq!(pointers, case.pointers, "{path} {shown}: {problem}");
        }
        check_envelope(base, path).await;
    }
    let client = reqwest::Client::new();
    let put = client.put(format!("{base}/predict")).send().await.unwrap();
    assert_eq!(header(&put, "allow").as_deref(), Some("POST"));
    assert_eq!(read(put).await.1["code"], "method-not-allowed");
    assert_eq!(get(&format!("{base}/no/such/path")).await.1["code"], "not-found");
    assert_eq!(get(&format!("{base}/v1/jobs/pump-anomaly.nope")).await.1["code"], "not-found");
    assert_eq!(get(&format!("{base}/results?limit=0&colour=red")).await.1["code"], "invalid-query");
    assert_eq!(get(&format!("{base}/results?task=fortune")).await.1["code"], "unknown-task");
    check_feedback(base).await;
}

async fn check_envelope(base: &str, path: &str) {
    let url = format!("{base}{path}");
    let client = reqwest::Client::new();
    let text =
        client.post(&url).header("content-type", "text/plain").body(body(&normal()).to_string()).send().await.unwrap();
    let (status, problem) = read(text).await;
    assert_eq!((status, &problem["code"]), (415, &json!("unsupported-media-type")));
    let none = client.post(&url).body(body(&normal()).to_string()).send().await.unwrap();
    assert_eq!(none.status(), 415);
    let zipped = client.post(&url).header("content-type", "application/json").header("content-encoding", "gzip");
    assert_eq!(zipped.body(body(&normal()).to_string()).send().await.unwrap().status(), 415);
    let large = format!("{{\"x\":\"{}\"}}", "y".repeat(300_000));
    let (status, problem) = read(post_text(&url, large).await).await;
    assert_eq!((status, &problem["code"]), (413, &json!("payload-too-large")));
}

async fn check_feedback(base: &str) {
    let url = format!("{base}/feedback");
    for (statement, pointers) in [
        (json!({}), vec!["#/model", "#/accuracy"]),
        (json!({"model": "lof", "accuracy": 1.5}), vec!["#/accuracy"]),
        (json!({"model": 3, "accuracy": "good", "mood": 1}), vec!["#/mood", "#/model", "#/accuracy"]),
        (json!({"model": "accurate", "accuracy": 0.5}), vec!["#/task"]),
    ] {
        let (status, problem) = read(post(&url, &statement).await).await;
        assert_eq!(status, 422, "{statement} {problem}");
        let found: Vec<&str> =
            problem["errors"].as_array().unwrap().iter().map(|fault| fault["pointer"].as_str().unwrap()).collect();
        assert_eq!(found, pointers, "{statement}");
    }
    let (status, _) = read(post(&url, &json!({"model": "crystal_ball", "accuracy": 0.5})).await).await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn the_native_door_refuses_what_is_wrong_and_takes_nothing_in() {
    let redis = Redis::start().await;
    let native = Native::start(&redis.url(), &[]).await;
    check_door(&native.url("")).await;
    assert_eq!(get(&native.url("/results?limit=100")).await.1["count"], 0);
}

#[tokio::test]
async fn the_edge_door_refuses_the_same_in_the_same_words() {
    let redis = Redis::start().await;
    let native = Native::start(&redis.url(), &[]).await;
    let edge = Edge::start(native.port, &[]);
    // Cold: the origin behind it must say it. Warm: the edge says it itself.
    let (status, _) = read(post(&edge.url("/predict"), &with("pressure", json!("high"))).await).await;
    assert_eq!(status, 422);
    warm_up(&edge).await;
    check_door(&edge.url("")).await;
    assert_eq!(get(&edge.url("/results?limit=100")).await.1["count"], 0);
    let refused_at_edge = |line: &Value| line["path"] == "/data" && line["code"] == "invalid-reading";
    assert!(!native.log_lines().iter().any(refused_at_edge), "a warm edge asks nobody about a broken reading");
}

async fn warm_up(edge: &Edge) {
    until("a decision of the edge", || async {
        let (_, answer) = read(post(&edge.url("/predict"), &body(&normal())).await).await;
        (answer["decision"]["by"] == "edge").then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_edge_wants_to_know_the_length_before_it_reads() {
    let redis = Redis::start().await;
    let native = Native::start(&redis.url(), &[]).await;
    let edge = Edge::start(native.port, &[]);
    let address = edge.url("").replace("http://", "");
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = "POST /data HTTP/1.1\r\nhost: edge\r\ncontent-type: application/json\r\n\
                   transfer-encoding: chunked\r\nconnection: close\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 411"), "{answer}");
    assert!(answer.contains("length-required"), "{answer}");
}

#[tokio::test]
async fn an_unknown_version_falls_back_and_says_so() {
    let redis = Redis::start().await;
    let native = Native::start(&redis.url(), &[]).await;
    let body = json!({"sensor_data": normal(), "model_name": "lof", "model_version": 99});
    let (status, answer) = read(post(&native.url("/predict"), &body).await).await;
    assert_eq!((status, &answer["fallback"], &answer["model_version"]), (200, &json!(true), &json!(1)));
}

#[tokio::test]
async fn every_answer_carries_the_snapshot_and_the_catalog_has_a_tag() {
    let redis = Redis::start().await;
    let native = Native::start(&redis.url(), &[]).await;
    for path in ["/", "/health", "/livez", "/readyz", "/results", "/v1/snapshot", "/no/such/path"] {
        let response = reqwest::get(native.url(path)).await.unwrap();
        let text = header(&response, "x-infer-snapshot").unwrap_or_else(|| panic!("no snapshot on {path}"));
        let snapshot = shared::snapshot::Snapshot::from_text(&text).unwrap();
        assert_eq!(snapshot.tasks.len(), 5, "{path}: {text}");
    }
    let one = post(&native.url("/predict"), &body(&normal())).await;
    let text = header(&one, "x-infer-snapshot").unwrap();
    assert!(text.contains("pump-anomaly=fast:0:") && text.len() <= 512, "{text}");
    let catalog = reqwest::get(native.url("/v1/catalog")).await.unwrap();
    let tag = header(&catalog, "etag").unwrap();
    assert!(tag.contains(&header(&catalog, "x-infer-catalog").unwrap()));
    let again =
        reqwest::Client::new().get(native.url("/v1/catalog")).header("if-none-match", tag).send().await.unwrap();
    assert_eq!(again.status(), 304);
}

#[tokio::test]
async fn half_a_request_holds_no_connection_for_ever() {
    let redis = Redis::start().await;
    let native = Native::start(&redis.url(), &[("HEADER_TIMEOUT_MS", "100")]).await;
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", native.port)).await.unwrap();
    stream.write_all(b"POST /data HTTP/1.1\r\nhost: x\r\ncontent-le").await.unwrap();
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(crate::support::LIMIT, stream.read_to_end(&mut rest)).await;
    assert!(closed.is_ok(), "the connection is still open");
}

#[tokio::test]
async fn a_malformed_chunk_and_a_path_that_is_no_text_are_told_in_our_words() {
    let redis = Redis::start().await;
    let native = Native::start(&redis.url(), &[]).await;
    let ask = |request: &'static str| async move {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", native.port)).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let chunk = ask("POST /data HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         transfer-encoding: chunked\r\nconnection: close\r\n\r\nZZ\r\n")
    .await;
    assert!(chunk.starts_with("HTTP/1.1 400") && chunk.contains("invalid-json"), "{chunk}");
    let path = ask("GET /v1/jobs/%FF HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(path.starts_with("HTTP/1.1 404") && path.contains("problem+json"), "{path}");
}
