//! Pools under operators' hands and under bad luck: figures, unloading, drop-ins, callers that leave, runs that hang.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use worker_native::config::{Config, Source};
use worker_native::queue::{JobQueue, RedisQueue};

use crate::support::models::{Caller, Models};
use crate::support::native::Native;
use crate::support::readings::{body, normal, result_of};
use crate::support::redis::Redis;
use crate::support::until;

/// The rig alone: a run as long as the reading says.
async fn rig(kind: &str, settings: &[(&str, &str)]) -> (Redis, Models, Native, Caller) {
    let (redis, models) = (Redis::start().await, Models::of(&[]));
    models.add_rig(kind, "");
    let native = models.serve(&redis, settings).await;
    let caller = Caller::new(native.url(""));
    (redis, models, native, caller)
}

fn turns(count: f64) -> Value {
    json!({"task": "rig", "features": [count]})
}

async fn depth(caller: &Caller) -> Value {
    caller.get("/v1/snapshot").await.1["tasks"][0]["depth"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_figures_of_a_pool_are_what_happened() {
    let (redis, models) = (Redis::start().await, Models::of(&["sentiment"]));
    let native = models.serve(&redis, &[("MODEL_SESSIONS", "2")]).await;
    let caller = Caller::new(native.url(""));
    for i in 0..5 {
        let body = json!({"task": "sentiment", "text": format!("text {i}"), "model_name": "tfidf_logreg"});
        assert_eq!(caller.post("/predict", &body).await.0, 200);
    }
    let (_, pools) = caller.get("/pool/stats").await;
    assert_eq!(pools["count"], 3, "{pools}");
    // A worker is free a moment after its answer is out.
    let pool = caller.pool_when("tfidf_logreg", 2, "its workers to be free", |pool| pool["in_use"] == 0).await;
    let expected = [
        ("task", json!("sentiment")),
        ("alive", json!(true)),
        ("backend", json!("onnxruntime")),
        ("size", json!(2)),
        ("available", json!(2)),
        ("in_use", json!(0)),
        ("waiting", json!(0)),
        ("requests", json!(5)),
        ("rows", json!(5)),
        ("batches", json!(5)),
        ("failed", json!(0)),
        ("refused", json!(0)),
        ("expired", json!(0)),
        ("cancelled", json!(0)),
        ("stopped", json!(0)),
        ("lost", json!(0)),
    ];
    for (name, value) in expected {
        assert_eq!(pool[name], value, "{name} in {pool}");
    }
    assert_eq!((&pool["batch_sizes"][0]["size"], &pool["batch_sizes"][0]["count"]), (&json!(1), &json!(5)), "{pool}");
    for times in ["wait", "run"] {
        assert_eq!(pool[times]["count"], 5, "{pool}");
        assert!(pool[times]["total_ns"].as_u64().unwrap() > 0 && pool[times]["p99_us"].as_u64().unwrap() > 0);
    }
    for name in ["service_us", "last_run_ms"] {
        assert!(pool[name].as_u64().unwrap() > 0, "{name} in {pool}");
    }
    assert!(pool["warm_up"]["max_batch"].as_u64().unwrap() >= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unloaded_model_is_stood_in_for_until_none_is_left() {
    let (redis, models) = (Redis::start().await, Models::of(&["pump-anomaly"]));
    let native = models.serve(&redis, &[]).await;
    let caller = Caller::new(native.url(""));
    let reading = json!({"sensor_data": normal(), "min_accuracy": 0.0});
    let (_, before) = caller.post("/predict", &reading).await;
    assert_eq!(before["fallback"], false);
    let steps = if before["tier"] == "accurate" {
        [("autoencoder", "isolation_forest"), ("isolation_forest", "lof")]
    } else {
        [("isolation_forest", "autoencoder"), ("autoencoder", "lof")]
    };
    for (gone, next) in steps {
        let (status, told) = caller.post(&format!("/models/{gone}/unload"), &json!({})).await;
        assert_eq!((status, &told["state"]), (200, &json!("unloaded")));
        let model = caller.model(&format!("pump-anomaly.{gone}")).await;
        assert_eq!(model["versions"][0]["state"], "unloaded", "{model}");
        assert!(model["versions"][0]["reason"].as_str().unwrap().contains("/load"), "{model}");
        let (status, told) = caller.post("/predict", &reading).await;
        assert_eq!((status, &told["model_used"], &told["fallback"]), (200, &json!(next), &json!(true)), "{told}");
        // Who wants this one is told that it is not there.
        let (status, problem) = caller.post("/predict", &json!({"sensor_data": normal(), "model_name": gone})).await;
        assert_eq!((status, &problem["code"]), (503, &json!("model-unavailable")), "{problem}");
        assert_eq!(caller.get("/readyz").await.0, 200);
    }
    assert_eq!(caller.post("/models/pump-anomaly.lof/unload", &json!({})).await.0, 200);
    let (status, problem) = caller.post("/predict", &reading).await;
    assert_eq!((status, &problem["code"]), (503, &json!("model-unavailable")), "{problem}");
    for (path, wanted) in [("/readyz", 503), ("/health", 503), ("/v2/health/ready", 503), ("/livez", 200)] {
        let status = reqwest::get(native.url(path)).await.unwrap().status();
        assert_eq!(status, wanted, "{path}");
    }
    let used = before["model_used"].as_str().unwrap();
    let (status, told) = caller.post(&format!("/models/{used}/load"), &json!({})).await;
    assert_eq!((status, &told["state"]), (200, &json!("ready")), "{told}");
    assert_eq!(caller.get("/readyz").await.0, 200);
    let (_, after) = caller.post("/predict", &reading).await;
    assert_eq!((&after["model_used"], &after["fallback"]), (&before["model_used"], &json!(false)));
    assert_eq!(caller.post("/models/no-such-model/unload", &json!({})).await.0, 404);
    assert_eq!(caller.post("/models/lof/load?version=9", &json!({})).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_took_away_stays_away_when_its_file_changes() {
    let (redis, models) = (Redis::start().await, Models::of(&["pump-anomaly"]));
    let native = models.serve(&redis, &[("MODEL_POLL_MS", "0")]).await;
    let caller = Caller::new(native.url(""));
    assert_eq!(caller.post("/models/lof/unload", &json!({})).await.0, 200);
    models.edit("pump-anomaly", "lof", |text| text.replace("slope = ", "slope = 1"));
    // Any load looks at the whole repository.
    assert_eq!(caller.post("/models/autoencoder/load", &json!({})).await.0, 200);
    let state = async || caller.model("pump-anomaly.lof").await["versions"][0]["state"].clone();
    assert_eq!(state().await, "unloaded");
    assert_eq!(caller.post("/models/lof/load", &json!({})).await.0, 200);
    assert_eq!(state().await, "ready");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fault_of_one_model_is_not_told_of_another_whose_name_ends_alike() {
    let (redis, models) = (Redis::start().await, Models::of(&["pump-anomaly"]));
    let from = models.model("pump-anomaly", "lof");
    let to = models.model("pump-anomaly", "my_lof");
    assert!(std::process::Command::new("cp").arg("-r").arg(from).arg(&to).status().unwrap().success());
    models.edit("pump-anomaly", "my_lof", |text| text.replace("name = \"lof\"", "name = \"my_lof\""));
    std::fs::write(to.join("1/model.onnx"), "no model").unwrap();
    let native = models.serve(&redis, &[("MODEL_POLL_MS", "0")]).await;
    let caller = Caller::new(native.url(""));
    let (status, told) = caller.post("/models/lof/load", &json!({})).await;
    assert_eq!(status, 200, "{told}");
    let (status, problem) = caller.post("/models/my_lof/load", &json!({})).await;
    assert_eq!(status, 503, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("my_lof"), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_leaves_leaves_no_count_behind() {
    let (_redis, _models, native, caller) = rig("regression", &[("MODEL_MAX_RUN_MS", "500")]).await;
    let mut streams = Vec::new();
    // One runs, the others wait.
    for i in 0..3 {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", native.port)).await.unwrap();
        let body = turns(1e12 + f64::from(i) * 1e9).to_string();
        let head = format!(
            "POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        streams.push(stream);
        caller.pool_when("looping", 1, "the run", |pool| pool["in_use"] == 1).await;
    }
    until("all three in the count", || async { (depth(&caller).await == 3).then_some(()) }).await;
    drop(streams);
    until("nobody in the count", || async { (depth(&caller).await == 0).then_some(()) }).await;
    let idle = |pool: &Value| pool["available"] == pool["size"] && pool["waiting"] == 0 && pool["stopped"] == 1;
    let pool = caller.pool_when("looping", 1, "an idle pool", idle).await;
    assert_eq!((&pool["cancelled"], &pool["rows"]), (&json!(2), &json!(0)), "{pool}");
    assert_eq!(caller.post("/predict", &turns(3.0)).await.1["prediction"], 3.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_passes_in_the_queue_and_the_reading_never_runs() {
    let (_redis, _models, _native, caller) = rig("regression", &[("MODEL_MAX_RUN_MS", "1500")]).await;
    let long = turns(1e12);
    let blocking = caller.post("/predict", &long);
    let hurried = async {
        caller.pool_when("looping", 1, "the long run", |pool| pool["in_use"] == 1).await;
        let started = Instant::now();
        let (status, problem) = caller.post("/predict", &json!({"features": [5.0], "deadline_ms": 1})).await;
        assert_eq!((status, &problem["code"]), (504, &json!("deadline-exceeded")), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains("waited"), "{problem}");
        started.elapsed()
    };
    let (blocked, took) = tokio::join!(blocking, hurried);
    assert_eq!(blocked.0, 500, "{}", blocked.1);
    assert!(took < Duration::from_millis(1_000), "{took:?}");
    let pool = caller.pool_when("looping", 1, "the expired reading", |pool| pool["waiting"] == 0).await;
    assert_eq!((&pool["expired"], &pool["rows"], &pool["stopped"]), (&json!(1), &json!(0), &json!(1)), "{pool}");
    assert_eq!(depth(&caller).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_hangs_is_interrupted_and_the_pool_serves_on() {
    let settings = [("MODEL_MAX_RUN_MS", "2000"), ("OIP_TIMEOUT_MS", "200")];
    let (_redis, _models, native, caller) = rig("tensor", &settings).await;
    let infer = async |turns: f64| {
        let input = json!({"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [turns]});
        caller.post("/v2/models/rig.looping/infer", &json!({"inputs": [input]})).await
    };
    let started = Instant::now();
    let (status, problem) = infer(1e12).await;
    assert_eq!(status, 504, "{problem}");
    assert!(started.elapsed() < Duration::from_millis(1_800), "{:?}", started.elapsed());
    // While it hangs the rest of the service answers.
    assert_eq!(reqwest::get(native.url("/livez")).await.unwrap().status(), 200);
    let pool = caller.pool_when("looping", 1, "the interruption", |pool| pool["in_use"] == 0).await;
    assert_eq!((&pool["stopped"], &pool["lost"], &pool["failed"]), (&json!(1), &json!(0), &json!(1)), "{pool}");
    let (status, answer) = infer(3.0).await;
    assert_eq!((status, &answer["outputs"][0]["data"]), (200, &json!([3.0])), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_hangs_ends_and_the_jobs_behind_it_are_done() {
    let (_redis, _models, native, caller) =
        rig("regression", &[("MODEL_MAX_RUN_MS", "300"), ("MAX_ATTEMPTS", "2"), ("RETRY_BASE_MS", "1")]).await;
    let (status, hanging) = caller.post("/data", &turns(1e12)).await;
    assert_eq!(status, 202, "{hanging}");
    let (_, next) = caller.post("/data", &turns(2.0)).await;
    let ended = result_of(&native.url(""), &hanging).await;
    assert_eq!((&ended["outcome"], &ended["attempts"]), (&json!("dead"), &json!(2)), "{ended}");
    let result = result_of(&native.url(""), &next).await;
    assert_eq!((&result["outcome"], &result["prediction"]), (&json!("done"), &json!(2.0)), "{result}");
}

#[tokio::test(flavor = "multi_thread")]
async fn models_and_tasks_are_dropped_in_while_it_serves() {
    let (redis, models) = (Redis::start().await, Models::of(&["pump-anomaly"]));
    let aside = tempfile::tempdir().unwrap();
    let lof = models.model("pump-anomaly", "lof");
    let copy = |from: &std::path::Path, to: &std::path::Path| {
        assert!(std::process::Command::new("cp").arg("-r").arg(from).arg(to).status().unwrap().success());
    };
    copy(&lof, aside.path());
    std::fs::remove_dir_all(&lof).unwrap();
    let native = models.serve(&redis, &[("MODEL_POLL_MS", "50")]).await;
    let caller = Caller::new(native.url(""));
    let named = json!({"sensor_data": normal(), "model_name": "lof"});
    assert_eq!(caller.post("/predict", &named).await.0, 404);
    copy(&aside.path().join("lof"), &lof);
    until("the new model's answer", || async { (caller.post("/predict", &named).await.0 == 200).then_some(()) }).await;

    let text = json!({"task": "sentiment", "text": "I love this system"});
    assert_eq!(caller.post("/data", &text).await.1["code"], "unknown-task");
    models.add("sentiment");
    let answer = until("the new task's answer", || async {
        let (status, answer) = caller.post("/predict", &text).await;
        (status == 200).then_some(answer)
    })
    .await;
    assert_eq!(answer["prediction"], "positive", "{answer}");
    let (status, receipt) = caller.post("/data", &text).await;
    assert_eq!(status, 202, "{receipt}");
    assert_eq!(result_of(&native.url(""), &receipt).await["prediction"], "positive");
    assert_eq!(caller.post("/predict", &body(&normal())).await.0, 200, "what was there goes on");
    let (_, models) = caller.get("/models").await;
    assert_eq!(models["faults"], json!([]), "{models}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_for_an_unloaded_model_waits_until_it_is_back() {
    let (redis, models) = (Redis::start().await, Models::of(&["pump-anomaly"]));
    let native = models.serve(&redis, &[("LEASE_MS", "300"), ("MAX_ATTEMPTS", "1")]).await;
    let caller = Caller::new(native.url(""));
    assert_eq!(caller.post("/models/lof/unload", &json!({})).await.0, 200);
    let (status, receipt) = caller.post("/data", &json!({"sensor_data": normal(), "model_name": "lof"})).await;
    assert_eq!(status, 202, "{receipt}");
    let left = || {
        let lines = native.log_lines();
        lines.iter().filter(|line| line["message"].as_str().unwrap_or_default().starts_with("job put aside")).count()
    };
    // Not in a busy loop, and it is no start of the job's.
    let started = Instant::now();
    until("three tries", || async { (left() >= 3).then_some(()) }).await;
    assert!(started.elapsed() >= Duration::from_millis(400), "{:?}", started.elapsed());
    assert_eq!(caller.post("/models/lof/load", &json!({})).await.0, 200);
    let result = result_of(&native.url(""), &receipt).await;
    assert_eq!((&result["outcome"], &result["attempts"], &result["model"]), (&json!("done"), &json!(1), &json!("lof")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_version_is_gone_for_good_is_answered_by_another() {
    let (redis, models) = (Redis::start().await, Models::of(&["sentiment"]));
    let api = models.serve(&redis, &[("ROLE", "api"), ("MODEL_POLL_MS", "0")]).await;
    let caller = Caller::new(api.url(""));
    let hand_in = async |model: &str| {
        let body = json!({"task": "sentiment", "text": "easy to use", "model_name": model, "model_version": 1});
        let (status, receipt) = caller.post("/data", &body).await;
        assert_eq!((status, &receipt["model_version"]), (202, &json!(1)), "{receipt}");
        receipt
    };
    let (version, model) = (hand_in("tfidf_logreg").await, hand_in("word_letter_logreg").await);
    models.edit("sentiment", "tfidf_logreg", |text| {
        let (head, tail) = text.split_once("[versions.1]").unwrap();
        format!("{head}[versions.2]{}", tail.split_once("[versions.2]").unwrap().1)
    });
    std::fs::remove_dir_all(models.model("sentiment", "tfidf_logreg").join("1")).unwrap();
    std::fs::remove_dir_all(models.model("sentiment", "word_letter_logreg")).unwrap();
    let _worker = models.serve(&redis, &[("ROLE", "worker"), ("LEASE_MS", "300")]).await;
    for receipt in [version, model] {
        let result = result_of(&api.url(""), &receipt).await;
        assert_eq!((&result["outcome"], &result["prediction"]), (&json!("done"), &json!("positive")), "{result}");
        let by = (&result["model"], &result["model_version"], &result["fallback"]);
        assert_eq!(by, (&json!("tfidf_logreg"), &json!(2), &json!(true)), "{result}");
    }
    until("an empty backlog", || async { (depth(&caller).await == 0).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_ended_two_workers_runs_alone_and_its_neighbours_are_not_charged() {
    let (redis, models) = (Redis::start().await, Models::of(&[]));
    models.add_rig("regression", "");
    let api = models.serve(&redis, &[("ROLE", "api")]).await;
    let caller = Caller::new(api.url(""));
    let mut ids = Vec::new();
    for count in [1e12, 2.0, 3.0] {
        let (_, receipt) = caller.post("/data", &turns(count)).await;
        ids.push(receipt["job_id"].as_str().unwrap().to_owned());
    }
    // Two consumers that are never heard of again.
    let settings = [("REDIS_URL", redis.url()), ("LEASE_MS", "100".to_owned())];
    let settings = settings.map(|(name, value)| (name.to_owned(), value)).into();
    let queue = RedisQueue::open(&Config::read(Source::new(settings, None).unwrap()).unwrap().queue).unwrap();
    assert_eq!(queue.claim("rig", "first", 10).await.unwrap().len(), 3);
    until("the end of the lease", || async {
        (queue.reclaim("rig", "second", 10).await.unwrap().len() == 3).then_some(())
    })
    .await;
    let _worker = models.serve(&redis, &[("ROLE", "worker"), ("LEASE_MS", "300")]).await;
    let state = async |id: &str| caller.get(&format!("/v1/jobs/{id}")).await.1;
    until("the suspect's third start", || async {
        let suspect = state(&ids[0]).await;
        (suspect["state"] == "running" && suspect["attempt"] == 3).then_some(())
    })
    .await;
    for id in &ids[1..] {
        until("a neighbour that waits, as often started as before", || async {
            let neighbour = state(id).await;
            (neighbour["state"] == "queued" && neighbour["attempt"] == 2).then_some(())
        })
        .await;
    }
}
