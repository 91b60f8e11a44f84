//! Answers over HTTP: kept ones, identical ones at once, batches, probabilities, numbers and explanations.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::edge::Edge;
use crate::support::models::{Caller, Models};
use crate::support::native::Native;
use crate::support::readings::{anomalous, body, normal};
use crate::support::redis::Redis;
use crate::support::until;

async fn start(tasks: &[&str], settings: &[(&str, &str)]) -> (Redis, Models, Native, Caller) {
    let (redis, models) = (Redis::start().await, Models::of(tasks));
    // What is measured here is what is answered, not how fast a busy test machine is.
    let settings: Vec<_> = [("PREDICT_TIMEOUT_MS", "20000")].into_iter().chain(settings.iter().copied()).collect();
    let native = models.serve(&redis, &settings).await;
    let caller = Caller::new(native.url(""));
    (redis, models, native, caller)
}

fn pump(model: &str) -> Value {
    json!({"sensor_data": normal(), "model_name": model})
}

fn text(text: &str) -> Value {
    json!({"task": "sentiment", "text": text, "model_name": "tfidf_logreg"})
}

async fn answer(caller: &Caller, body: &Value) -> Value {
    let (status, answer) = caller.post("/predict", body).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_kept_and_a_thousand_identical_readings_at_once_run_once() {
    let (_redis, _models, _native, caller) = start(&["pump-anomaly"], &[]).await;
    let body = pump("lof");
    let answers = join_all((0..1_000).map(|_| answer(&caller, &body))).await;
    let misses = answers.iter().filter(|answer| answer["cache"] == "MISS").count();
    assert_eq!(misses, 1);
    assert!(answers.iter().all(|answer| answer["score"] == answers[0]["score"]));
    let pool = caller.pool("lof", 1).await;
    assert_eq!((&pool["rows"], &pool["batches"]), (&json!(1), &json!(1)), "{pool}");
    assert_eq!(answer(&caller, &body).await["cache"], "HIT");
    assert_eq!(answer(&caller, &pump("isolation_forest")).await["cache"], "MISS", "another model's answer is another");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_cache_each_reading_runs() {
    let (_redis, _models, _native, caller) = start(&["sentiment"], &[("CACHE_BACKEND", "off")]).await;
    for _ in 0..2 {
        assert_eq!(answer(&caller, &text("fine")).await["cache"], "OFF");
    }
    assert_eq!(caller.pool("tfidf_logreg", 2).await["rows"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_threshold_and_a_changed_file_meet_no_old_answer() {
    let (_redis, models, _native, caller) = start(&["pump-anomaly", "sentiment"], &[("MODEL_POLL_MS", "0")]).await;
    let before = answer(&caller, &pump("isolation_forest")).await;
    assert_eq!((&before["prediction"], &before["cache"]), (&json!("normal"), &json!("MISS")));
    // Every score is above it.
    models.edit("pump-anomaly", "isolation_forest", |text| {
        let line = text.lines().find(|line| line.starts_with("threshold")).unwrap().to_owned();
        text.replace(&line, "threshold = -1000.0")
    });
    let disputed = text("good sound but poor battery");
    let second = answer(&caller, &disputed).await;
    assert_eq!((&second["prediction"], &second["cache"]), (&json!("negative"), &json!("MISS")));
    // Two files of one signature change places.
    let first = models.model("sentiment", "tfidf_logreg").join("1/model.onnx");
    models.replace_file("sentiment", "tfidf_logreg", 2, &first);
    for model in ["pump-anomaly.isolation_forest", "tfidf_logreg"] {
        let (status, loaded) = caller.post(&format!("/models/{model}/load"), &json!({})).await;
        assert_eq!(status, 200, "{loaded}");
    }
    let after = answer(&caller, &pump("isolation_forest")).await;
    assert_eq!((&after["prediction"], &after["score"]), (&json!("anomaly"), &before["score"]), "{after}");
    let second = answer(&caller, &disputed).await;
    assert_eq!((&second["prediction"], &second["cache"]), (&json!("positive"), &json!("MISS")), "{second}");
    assert_eq!(second["model_version"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_share_answers_over_redis_and_do_without_it() {
    let settings = [("CACHE_BACKEND", "redis"), ("CACHE_REDIS_WORTH_US", "0"), ("CACHE_REDIS_TIMEOUT_MS", "5000")];
    let (mut redis, models, _native, first) = start(&["sentiment"], &settings).await;
    let other = models.serve(&redis, &settings).await;
    let second = Caller::new(other.url(""));
    let asked = std::sync::atomic::AtomicUsize::new(0);
    // Both connect and store behind their answers: asked anew until it has come round.
    let shared = until("an answer that the other process computed", || async {
        let body = text(&format!("number {}", asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed)));
        let computed = answer(&first, &body).await;
        assert_eq!(computed["cache"], "MISS");
        let found = answer(&second, &body).await;
        assert_eq!(found["probabilities"], computed["probabilities"]);
        (found["cache"] == "HIT").then_some(body)
    })
    .await;
    redis.stop();
    for caller in [&first, &second] {
        assert_eq!(answer(caller, &shared).await["cache"], "HIT", "memory goes on");
        assert_eq!(answer(caller, &text("redis is gone")).await["cache"], "MISS");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn probabilities_are_told_where_there_are_any() {
    let (_redis, _models, _native, caller) = start(&["pump-anomaly", "sentiment", "hydraulic-accumulator"], &[]).await;
    for (body, classes) in [(text("I love it"), ["negative", "positive"]), (pump("lof"), ["normal", "anomaly"])] {
        let (status, told) = caller.post("/predict_proba", &body).await;
        assert_eq!((status, &told["classes"]), (200, &json!(classes)), "{told}");
        let shares: Vec<f64> = serde_json::from_value(told["probabilities"].clone()).unwrap();
        assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-5, "{told}");
        let likeliest = usize::from(shares[1] > shares[0]);
        assert_eq!(told["prediction"], classes[likeliest], "{told}");
    }
    let features = crate::engine::sample("hydraulic-accumulator", "ridge");
    let body = json!({"task": "hydraulic-accumulator", "features": features});
    let (status, problem) = caller.post("/predict_proba", &body).await;
    assert_eq!((status, &problem["code"]), (422, &json!("invalid-reading")), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("/predict"), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_tells_each_reading_and_each_fault_with_its_place() {
    let (_redis, _models, _native, caller) = start(&["pump-anomaly"], &[]).await;
    let mut wrong = body(&normal());
    wrong["sensor_data"]["pressure"] = json!("high");
    let readings = json!({"readings": [body(&normal()), body(&anomalous()), wrong, {"features": [1]}, 7]});
    let (status, told) = caller.post("/predict/batch", &readings).await;
    assert_eq!(status, 200, "{told}");
    let count = |name: &str| told[name].as_u64().unwrap();
    assert_eq!((count("total_samples"), count("succeeded"), count("failed")), (5, 2, 3), "{told}");
    assert_eq!((count("anomalies_detected"), &told["anomaly_rate"]), (1, &json!(0.5)));
    let predictions = told["predictions"].as_array().unwrap();
    let request = told["request_id"].as_str().unwrap();
    for (i, prediction) in predictions.iter().enumerate() {
        assert_eq!(prediction["index"], i);
        let id = if i < 2 { &prediction["request_id"] } else { &prediction["error"]["request_id"] };
        assert_eq!(*id, format!("{request}:{i}"));
    }
    assert_eq!((&predictions[0]["prediction"], &predictions[1]["prediction"]), (&json!("normal"), &json!("anomaly")));
    let fault = &predictions[2]["error"];
    assert_eq!((&fault["code"], &fault["status"]), (&json!("invalid-reading"), &json!(422)));
    assert_eq!(fault["errors"][0]["pointer"], "#/readings/2/sensor_data/pressure");
    assert!(predictions[3]["error"]["errors"][0]["pointer"].as_str().unwrap().starts_with("#/readings/3"));
    assert_eq!(predictions[4]["error"]["code"], "invalid-json");
    // An element can be labelled like an answer of its own.
    let (status, counted) =
        caller.post("/feedback", &json!({"request_id": format!("{request}:1"), "label": "anomaly"})).await;
    assert_eq!((status, &counted["correct"]), (200, &json!(true)), "{counted}");

    for body in [
        json!({"readings": []}),
        json!({"readings": body(&normal())}),
        json!({}),
        json!({"readings": [body(&normal())], "mood": 1}),
    ] {
        let (status, problem) = caller.post("/predict/batch", &body).await;
        assert_eq!((status, &problem["code"]), (422, &json!("invalid-reading")), "{body}: {problem}");
        assert_eq!(problem["errors"][0]["pointer"], "#/readings", "{problem}");
    }
    let (status, problem) = caller.post("/predict/batch", &json!([body(&normal())])).await;
    assert_eq!((status, &problem["code"]), (400, &json!("invalid-json")), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_readings_fit_a_queue_that_holds_few() {
    let (_redis, _models, _native, caller) = start(&["pump-anomaly"], &[("MODEL_MAX_WAITING", "64")]).await;
    let usual = crate::engine::sample("pump-anomaly", "isolation_forest");
    let readings: Vec<Value> = (0..2_000_u16)
        .map(|i| {
            let mut features = usual.clone();
            features[0] += f32::from(i) / 4_096.0;
            json!({"task": "pump-anomaly", "features": features, "model_name": "isolation_forest"})
        })
        .collect();
    let (status, told) = caller.post("/predict/batch", &json!({"readings": readings})).await;
    assert_eq!((status, &told["succeeded"], &told["failed"]), (200, &json!(2_000), &json!(0)));
    let pool = caller.pool("isolation_forest", 1).await;
    assert_eq!((&pool["rows"], &pool["refused"]), (&json!(2_000), &json!(0)));
    assert!(pool["batches"].as_u64().unwrap() < 2_000, "{pool}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_model_was_made_with_can_be_chosen() {
    let (_redis, _models, _native, caller) = start(&["pump-anomaly"], &[]).await;
    for (name, models) in [("onnx", vec!["autoencoder"]), ("sklearn", vec!["isolation_forest", "lof"])] {
        let told = answer(&caller, &json!({"sensor_data": normal(), "model_type": name})).await;
        let used = told["model_used"].as_str().unwrap();
        assert!(models.contains(&used), "{told}");
        assert_eq!(told["fallback"], false, "it is what was asked for");
        let (_, by_query) =
            caller.post(&format!("/predict?model_type={name}"), &json!({"sensor_data": normal()})).await;
        assert_eq!(by_query["model_used"], used);
    }
    let (status, problem) = caller.post("/predict", &json!({"sensor_data": normal(), "model_type": "torch"})).await;
    assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!("#/model_type")), "{problem}");
    let (status, problem) = caller.post("/predict?model_type=torch", &json!({"sensor_data": normal()})).await;
    assert_eq!((status, &problem["code"]), (400, &json!("invalid-query")), "{problem}");
    let (status, problem) = caller.post("/predict?model_type=onnx", &pump("isolation_forest")).await;
    assert_eq!((status, &problem["code"]), (404, &json!("unknown-model")), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_odd_field_is_named_with_its_distance() {
    let (_redis, models, _native, caller) = start(&["pump-anomaly"], &[("MODEL_POLL_MS", "50")]).await;
    let mut odd = normal();
    odd["vibration"] = json!(14.0);
    let told = answer(&caller, &json!({"sensor_data": odd, "model_name": "autoencoder"})).await;
    assert_eq!(told["prediction"], "anomaly", "{told}");
    let fields = told["fields"].as_array().unwrap();
    let field = fields.iter().find(|field| field["field"] == "vibration").unwrap_or_else(|| panic!("{told}"));
    assert!(field["deviation"].as_f64().unwrap() > 3.0, "{field}");
    let words = told["explanation"].as_str().unwrap();
    assert!(words.contains("vibration = 14 (") && words.contains("deviations above its mean"), "{words}");
    // What is usual is read again when it changes, though the model's file stays.
    let forest = json!({"sensor_data": odd, "model_name": "isolation_forest"});
    assert_eq!(answer(&caller, &forest).await["fields"][0]["field"], "vibration");
    std::fs::remove_file(models.model("pump-anomaly", "isolation_forest").join("1/profile.json")).unwrap();
    until("the forest without a profile", || async {
        answer(&caller, &forest).await["fields"].is_null().then_some(())
    })
    .await;
    let usual = answer(&caller, &pump("autoencoder")).await;
    assert!(usual["fields"].as_array().is_none_or(|fields| fields.iter().all(|field| field["deviation"].is_null())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_is_answered_at_both_doors() {
    let (_redis, _models, native, caller) = start(&["hydraulic-accumulator"], &[]).await;
    let edge = Edge::start(native.port, &[]);
    let edge = Caller::new(edge_url(&edge));
    let features = crate::engine::sample("hydraulic-accumulator", "ridge");
    let body = json!({"task": "hydraulic-accumulator", "features": features, "model_name": "ridge"});
    let told = answer(&caller, &body).await;
    let number = told["prediction"].as_f64().unwrap_or_else(|| panic!("{told}"));
    assert!((50.0..200.0).contains(&number), "bar: {number}");
    assert_eq!((&told["is_anomaly"], &told["confidence"]), (&json!(false), &Value::Null));
    assert!(told["explanation"].as_str().unwrap().contains(" bar"), "{told}");
    let through = until("a decision of the edge", || async {
        Some(answer(&edge, &body).await).filter(|told| told["decision"]["by"] == "edge")
    })
    .await;
    assert_eq!(through["prediction"], told["prediction"]);
    let (status, receipt) = edge.post("/data", &body).await;
    assert_eq!(status, 202, "{receipt}");
    let result = crate::support::readings::result_of(&native.url(""), &receipt).await;
    assert_eq!(result["prediction"], told["prediction"], "{result}");
}

fn edge_url(edge: &Edge) -> String {
    edge.url("").trim_end_matches('/').to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_of_a_slow_run_keeps_its_own_deadline() {
    let (redis, models) = (Redis::start().await, Models::of(&[]));
    models.add_rig("regression", "");
    let native = models.serve(&redis, &[("MODEL_MAX_RUN_MS", "1500"), ("PREDICT_TIMEOUT_MS", "20000")]).await;
    let caller = Caller::new(native.url(""));
    let long = json!({"features": [1e12]});
    let leader = caller.post("/predict", &long);
    let follower = async {
        caller.pool_when("looping", 1, "the leader's run", |pool| pool["in_use"] == 1).await;
        let started = std::time::Instant::now();
        let (status, _) = caller.post("/predict", &json!({"features": [1e12], "deadline_ms": 20})).await;
        (status, started.elapsed())
    };
    let ((status, problem), (followed, took)) = tokio::join!(leader, follower);
    assert_eq!((status, &problem["code"]), (500, &json!("model-failed")), "{problem}");
    assert_eq!(followed, 504);
    assert!(took < Duration::from_millis(1_300), "{took:?}");
}
