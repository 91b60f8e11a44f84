//! The paths over HTTP, with the documents that clients see.

use std::io::Read;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use axum::response::Response;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::super::HEADER_LENGTH;
use super::fake::{Fake, app, app_of};
use super::framing::body;

async fn send(settings: &[(&str, &str)], request: Request<Body>) -> Response {
    app(settings).oneshot(request).await.unwrap()
}

async fn bytes(response: Response) -> Vec<u8> {
    response.into_body().collect().await.unwrap().to_bytes().to_vec()
}

async fn json_of(response: Response) -> Value {
    assert_eq!(response.headers()[header::CACHE_CONTROL], "no-transform");
    let bytes = bytes(response).await;
    serde_json::from_slice(&bytes).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&bytes)))
}

async fn get(path: &str) -> (StatusCode, Value) {
    let response = send(&[], Request::get(path).body(Body::empty()).unwrap()).await;
    (response.status(), json_of(response).await)
}

async fn post(settings: &[(&str, &str)], path: &str, body: &str) -> (StatusCode, Value) {
    let response = send(settings, Request::post(path).body(Body::from(body.to_owned())).unwrap()).await;
    let status = response.status();
    let bytes = bytes(response).await;
    (status, if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() })
}

fn simple_request() -> Value {
    let input =
        |name: &str, value: i32| json!({"name": name, "shape": [1, 16], "datatype": "INT32", "data": vec![value; 16]});
    json!({"id": "42", "inputs": [input("INPUT0", 5), input("INPUT1", 3)]})
}

#[tokio::test]
async fn the_server_and_its_models_say_what_they_are() {
    let (status, server) = get("/v2").await;
    assert_eq!((status, &server["name"]), (StatusCode::OK, &json!("infer-router")));
    assert!(server["version"].is_string());
    assert!(server["extensions"].as_array().unwrap().contains(&json!("binary_tensor_data")));
    let named = send(&[("OIP_SERVER_NAME", "triton")], Request::get("/v2").body(Body::empty()).unwrap()).await;
    assert_eq!(json_of(named).await["name"], "triton");
    assert_eq!(get("/v2/health/live?a=1&b=2").await, (StatusCode::OK, json!({"live": true})));
    let draining = app_of(Fake::draining(true), &[]);
    let draining = draining.oneshot(Request::get("/v2/health/ready").body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(draining.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(get("/v2/health/ready").await, (StatusCode::OK, json!({"ready": true})));
    assert_eq!(get("/v2/models/simple/ready").await, (StatusCode::OK, json!({"name": "simple", "ready": true})));
    let tensor = |name: &str| json!({"name": name, "datatype": "INT32", "shape": [-1, 16]});
    let model = json!({
        "name": "simple", "versions": ["1"], "platform": "onnxruntime_onnx",
        "inputs": [tensor("INPUT0"), tensor("INPUT1")], "outputs": [tensor("OUTPUT0"), tensor("OUTPUT1")],
    });
    assert_eq!(get("/v2/models/simple").await, (StatusCode::OK, model.clone()));
    assert_eq!(get("/v2/models/simple/versions/1").await, (StatusCode::OK, model));
    assert_eq!(get("/v2/models/every%20type").await.1["name"], "every type");
}

#[tokio::test]
async fn a_configuration_leaves_the_batch_out_of_its_shapes() {
    let (_, config) = get("/v2/models/simple_string/config").await;
    assert_eq!(config["max_batch_size"], 8);
    assert_eq!(config["input"][0], json!({"name": "INPUT0", "data_type": "TYPE_STRING", "dims": [16]}));
    assert_eq!(config["model_transaction_policy"], json!({"decoupled": false}));
    assert!(config["dynamic_batching"].is_object());
    let (_, config) = get("/v2/models/every%20type/config").await;
    assert_eq!((&config["max_batch_size"], &config["output"][0]["dims"]), (&json!(0), &json!([-1, -1])));
    assert!(config.get("dynamic_batching").is_none());
}

#[tokio::test]
async fn statistics_have_every_member_that_the_load_tool_reads() {
    let (status, all) = get("/v2/models/stats").await;
    assert_eq!(status, StatusCode::OK);
    let all = all["model_stats"].as_array().unwrap().clone();
    assert!(all.len() > 3);
    let (_, one) = get("/v2/models/simple/versions/1/stats").await;
    assert_eq!(one["model_stats"].as_array().unwrap().len(), 1);
    assert_eq!(get("/v2/models/simple/stats").await.1, one);
    for stat in all.iter().chain(one["model_stats"].as_array().unwrap()) {
        assert_eq!(stat["version"], "1");
        for part in
            ["success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss"]
        {
            let tally = &stat["inference_stats"][part];
            assert!(tally["count"].is_u64() && tally["ns"].is_u64(), "{part}: {stat}");
        }
        for part in ["compute_input", "compute_infer", "compute_output"] {
            assert!(stat["batch_stats"][0][part]["count"].is_u64(), "{stat}");
        }
    }
}

#[tokio::test]
async fn unknown_models_and_paths_are_told_in_the_words_clients_look_for() {
    for (path, words) in [
        ("/v2/models/x", "Request for unknown model: 'x' is not found"),
        ("/v2/models/a%20b/config", "Request for unknown model: 'a b' is not found"),
        ("/v2/models/simple/versions/2", "Request for unknown model: 'simple' version 2 is not found"),
        ("/v2/models/simple/versions/+1/ready", "Request for unknown model: 'simple' version +1 is not found"),
        (
            "/v2/models/simple/versions/99999999999/stats",
            "Request for unknown model: 'simple' version 99999999999 is not found",
        ),
        ("/v2/models/x/stats", "Request for unknown model: 'x' is not found"),
        ("/v2/models/twice", "Request for unknown model: 'twice' is not one model: ask for a.twice or b.twice"),
    ] {
        let (status, problem) = get(path).await;
        assert_eq!((status, &problem["error"]), (StatusCode::NOT_FOUND, &json!(words)), "{path}");
        assert_eq!((&problem["status"], &problem["detail"]), (&json!(404), &problem["error"]));
    }
    let (status, problem) = post(&[], "/v2/models/x/infer", "{}").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(problem["error"], "Request for unknown model: 'x' is not found");
    let (status, problem) = get("/v2/models/%FF").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(problem["error"].as_str().unwrap().contains("UTF-8"));
    assert!(crate::http::oip::owns("/v2") && crate::http::oip::owns("/v2/none"));
    assert!(!crate::http::oip::owns("/v2x") && !crate::http::oip::owns("/v1/v2"));
}

#[tokio::test]
async fn json_goes_in_and_json_comes_out() {
    let (status, answer) = post(&[], "/v2/models/simple/infer", &simple_request().to_string()).await;
    assert_eq!(status, StatusCode::OK);
    let output =
        |name: &str, value: i32| json!({"name": name, "datatype": "INT32", "shape": [1, 16], "data": vec![value; 16]});
    let want = json!({
        "model_name": "simple", "model_version": "1", "id": "42", "outputs": [output("OUTPUT0", 8), output("OUTPUT1", 2)],
    });
    assert_eq!(answer, want);
    let mut request = simple_request();
    request.as_object_mut().unwrap().remove("id");
    let (_, answer) = post(&[], "/v2/models/simple/versions/1/infer", &request.to_string()).await;
    assert!(answer.get("id").is_none());
}

#[tokio::test]
async fn binary_goes_in_and_comes_out_in_the_order_asked_for() {
    let tail: Vec<u8> = [5_i32; 16].iter().chain(&[3; 16]).flat_map(|value| value.to_le_bytes()).collect();
    let input = |name: &str| json!({"name": name, "shape": [1, 16], "datatype": "INT32", "parameters": {"binary_data_size": 64}});
    let head = json!({
        "inputs": [input("INPUT0"), input("INPUT1")], "parameters": {"binary_data_output": true},
        "outputs": [{"name": "OUTPUT1"}, {"name": "OUTPUT0", "parameters": {"binary_data": false}}],
    });
    let (bytes_in, length) = body(&head, &tail);
    let request =
        Request::post("/v2/models/simple/infer").header(HEADER_LENGTH, length).body(Body::from(bytes_in)).unwrap();
    let response = send(&[], request).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/octet-stream");
    let split: usize = response.headers()[HEADER_LENGTH].to_str().unwrap().parse().unwrap();
    let bytes = bytes(response).await;
    let (json, tail) = bytes.split_at(split);
    let answer: Value = serde_json::from_slice(json).unwrap();
    assert_eq!(answer["outputs"][0]["parameters"], json!({"binary_data_size": 64}));
    assert_eq!(
        (&answer["outputs"][0]["name"], &answer["outputs"][1]["data"]),
        (&json!("OUTPUT1"), &json!(vec![8; 16]))
    );
    let values: Vec<u8> = [2_i32; 16].iter().flat_map(|value| value.to_le_bytes()).collect();
    assert_eq!(tail, values);
}

#[tokio::test]
async fn packed_requests_are_unpacked_and_answers_packed_where_it_pays() {
    let input = |name: &str| json!({"name": name, "shape": [50, 16], "datatype": "INT32", "data": vec![1; 800]});
    let plain = json!({"inputs": [input("INPUT0"), input("INPUT1")]}).to_string();
    for packing in [super::super::compress::Packing::Gzip, super::super::compress::Packing::Deflate] {
        let ask = |body: Vec<u8>| {
            let request = Request::post("/v2/models/simple/infer").header(header::CONTENT_ENCODING, packing.name());
            request.header(header::ACCEPT_ENCODING, packing.name()).body(Body::from(body)).unwrap()
        };
        let response = send(&[], ask(packing.pack(plain.as_bytes()).unwrap())).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[header::CONTENT_ENCODING], packing.name());
        let packed = bytes(response).await;
        let mut json = String::new();
        match packing.name() {
            "gzip" => flate2::read::GzDecoder::new(packed.as_slice()).read_to_string(&mut json).unwrap(),
            _ => flate2::read::ZlibDecoder::new(packed.as_slice()).read_to_string(&mut json).unwrap(),
        };
        let answer: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(answer["outputs"][0]["data"], json!(vec![2; 800]));
        let small = send(&[], ask(packing.pack(simple_request().to_string().as_bytes()).unwrap())).await;
        assert!(small.headers().get(header::CONTENT_ENCODING).is_none());
        // The limit is on what comes out, not on what is sent.
        let limit = &[("OIP_MAX_BODY_BYTES", "1024")];
        let response = send(limit, ask(packing.pack(plain.as_bytes()).unwrap())).await;
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }
}

#[tokio::test]
async fn errors_are_problems_with_an_error() {
    for (path, header, body, status, words) in [
        ("/v2/models/simple/infer", "", "{".to_owned(), 400, "cannot be used"),
        ("/v2/models/simple/infer", "x", simple_request().to_string(), 400, "length of the JSON"),
        ("/v2/models/simple/infer", "+5", simple_request().to_string(), 400, "length of the JSON"),
        ("/v2/models/simple/infer", "9999", simple_request().to_string(), 400, "the body has"),
        ("/v2/models/simple/infer", "0", simple_request().to_string(), 400, "needs a model with one input"),
        ("/v2/models/fails/infer", "0", "12345678".to_owned(), 500, "the log has the cause"),
    ] {
        let mut request = Request::post(path);
        if !header.is_empty() {
            request = request.header(HEADER_LENGTH, header);
        }
        let response = send(&[], request.body(Body::from(body)).unwrap()).await;
        assert_eq!(response.status().as_u16(), status, "{words}");
        let problem = json_of(response).await;
        assert!(problem["error"].as_str().unwrap().contains(words), "{problem}");
        assert_eq!((&problem["status"], &problem["instance"]), (&json!(status), &json!(path)));
    }
    let twice = Request::post("/v2/models/simple/infer").header(HEADER_LENGTH, "5").header(HEADER_LENGTH, "5");
    assert_eq!(send(&[], twice.body(Body::empty()).unwrap()).await.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_raw_body_is_answered_in_binary() {
    let request =
        Request::post("/v2/models/floats/infer").header(HEADER_LENGTH, 0).body(Body::from(vec![1_u8; 16])).unwrap();
    let response = send(&[], request).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(bytes(response).await.ends_with(&[1; 16]));
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_no_longer_than_it_said_and_the_service_allows() {
    for (timeout, words) in [(250_000_u64, "within 250 ms"), (u64::MAX, "within 7000 ms"), (0, "within 7000 ms")] {
        let input = json!({"name": "x", "shape": [1, 2, 1], "datatype": "FP32", "data": [1, 2]});
        let body = json!({"inputs": [input], "parameters": {"timeout": timeout}}).to_string();
        let (status, problem) = post(&[("OIP_TIMEOUT_MS", "7000")], "/v2/models/slow/infer", &body).await;
        assert_eq!(status, StatusCode::GATEWAY_TIMEOUT);
        assert!(problem["error"].as_str().unwrap().contains(words), "{problem}");
    }
}

#[tokio::test]
async fn the_index_takes_any_body_and_models_are_controlled_where_it_is_allowed() {
    for body in ["", "{}", " ", r#"{"ready":true}"#, r#"{"ready":false}"#] {
        let (status, index) = post(&[], "/v2/repository/index", body).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let entry = json!({"name": "simple", "version": "1", "state": "READY", "reason": ""});
        assert!(index.as_array().unwrap().contains(&entry), "{index}");
    }
    assert_eq!(post(&[], "/v2/repository/index", "[").await.0, StatusCode::BAD_REQUEST);
    let (status, problem) = post(&[], "/v2/repository/models/simple/unload", "{}").await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(problem["error"].as_str().unwrap().contains("OIP_MODEL_CONTROL=on"));

    let on = &[("OIP_MODEL_CONTROL", "on")];
    let app = app(on);
    let call = async |path: &str, body: &'static str| {
        let response = app.clone().oneshot(Request::post(path).body(Body::from(body)).unwrap()).await.unwrap();
        (response.status(), String::from_utf8(bytes(response).await).unwrap())
    };
    let unload = r#"{"parameters":{"unload_dependents":false}}"#;
    assert_eq!(call("/v2/repository/models/simple/unload", unload).await.0, StatusCode::OK);
    assert!(!call("/v2/repository/index", r#"{"ready":true}"#).await.1.contains(r#""simple""#));
    assert!(call("/v2/repository/index", "").await.1.contains("UNAVAILABLE"));
    let ready =
        app.clone().oneshot(Request::get("/v2/models/simple/ready").body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(ready.status(), StatusCode::SERVICE_UNAVAILABLE);
    let (status, said) = call("/v2/models/simple/infer", "{}").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(said.contains("Request for unknown model: 'simple' is not at ready state: "), "{said}");
    assert_eq!(call("/v2/repository/models/simple/load", "").await.0, StatusCode::OK);
    assert!(call("/v2/repository/index", r#"{"ready":true}"#).await.1.contains(r#""simple""#));
    let (status, said) = call("/v2/repository/models/none/load", "{}").await;
    assert!(status == StatusCode::NOT_FOUND && said.contains("failed to load 'none'"), "{said}");
    let (status, said) = call("/v2/repository/models/fails/load", "{}").await;
    assert!(status.is_server_error() && said.contains("failed to load 'fails': its file was changed"), "{said}");
    let (status, said) = call("/v2/repository/models/simple/load", r#"{"parameters":{"config":"{}"}}"#).await;
    assert!(status == StatusCode::BAD_REQUEST && said.contains("failed to load 'simple'"), "{said}");
}
