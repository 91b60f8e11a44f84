//! `/v1/infer` and `/v1/infer/stream` with the real models: order of events, cuts, leavers, limits.

use std::path::Path;

use futures_util::future::join_all;
use reqwest::Client;
use serde_json::{Value, json};

use crate::support::edge::Edge;
use crate::support::events::{Event, Events, send};
use crate::support::native::Native;
use crate::support::readings::{anomalous, get, header, normal, post, read};
use crate::support::redis::Redis;
use crate::support::{root, until};

const INFER: &str = "/v1/infer";
const STREAM: &str = "/v1/infer/stream";

fn names(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.name.as_str()).collect()
}

fn steps(events: &[Event]) -> Vec<&Event> {
    events.iter().filter(|event| event.name == "step").collect()
}

/// The text of all steps together.
fn text(events: &[Event]) -> String {
    steps(events).iter().map(|step| step.data["text"].as_str().unwrap()).collect()
}

fn prompt(tokens: usize, seed: u64) -> Value {
    json!({"prompt": "the camera ", "params": {"max_new_tokens": tokens, "seed": seed, "temperature": 0.7}})
}

fn series(steps: usize) -> Value {
    let history: Vec<f64> = (0..60).map(|i| 80.0 + f64::from(i % 7)).collect();
    json!({"task": "machine-temperature", "input": history, "params": {"steps": steps}})
}

async fn start(settings: &[(&str, &str)]) -> (Redis, Native) {
    let redis = Redis::start().await;
    let native = Native::start(&redis.url(), settings).await;
    (redis, native)
}

/// Models that are asked for more steps than a test waits for.
fn long_models(dir: &Path) {
    let copied = std::process::Command::new("cp").arg("-r").arg(root().join("models/char-lm")).arg(dir).status();
    assert!(copied.unwrap().success());
    let path = dir.join("char-lm/task.toml");
    let task = std::fs::read_to_string(&path).unwrap();
    assert!(task.contains("max_new_tokens = 1024"));
    std::fs::write(&path, task.replace("max_new_tokens = 1024", "max_new_tokens = 16384")).unwrap();
}

async fn rows(native: &Native) -> u64 {
    let (_, stats) = get(&native.url("/pool/stats")).await;
    let text = stats.to_string();
    let pools = stats["pools"].as_array().unwrap_or_else(|| panic!("no pools: {text}"));
    let pool = pools.iter().find(|pool| pool["task"] == "char-lm").unwrap_or_else(|| panic!("no char-lm: {text}"));
    pool["rows"].as_u64().unwrap()
}

#[tokio::test]
async fn a_text_is_the_same_at_once_and_step_by_step() {
    let (_redis, native) = start(&[]).await;
    let (status, whole) = read(post(&native.url(INFER), &prompt(40, 7)).await).await;
    assert_eq!(status, 200, "{whole}");
    assert_eq!(
        (&whole["task"], &whole["model_used"], &whole["tier"]),
        (&json!("char-lm"), &json!("causal_conv"), &json!("fast"))
    );
    assert_eq!(whole["tokens"], json!({"prompt": 11, "generated": 40}));
    assert_eq!((&whole["finish_reason"], &whole["seed"]), (&json!("length"), &json!(7)));
    assert!(whole["tokens_per_second"].as_f64().unwrap() > 0.0);
    assert_eq!(whole["output"].as_str().unwrap().chars().count(), 40);

    let events = Events::open(&native.url(STREAM), &prompt(40, 7), None).await.all().await;
    assert_eq!(names(&events)[..2], ["accepted", "decision"]);
    assert_eq!(names(&events)[2..42], ["step"; 40]);
    assert_eq!(names(&events)[42..], ["result"]);
    assert_eq!((&events[0].data["seed"], events[0].retry.as_deref()), (&json!(7), Some("3000")));
    assert_eq!((&events[1].data["model"], &events[1].data["model_version"]), (&json!("causal_conv"), &json!(1)));
    let indices: Vec<u64> = steps(&events).iter().map(|step| step.data["index"].as_u64().unwrap()).collect();
    assert_eq!(indices, (0..40).collect::<Vec<u64>>());
    assert_eq!(text(&events), whole["output"].as_str().unwrap());
    let result = &events[42].data;
    for field in ["output", "tokens", "finish_reason", "seed", "model_used", "task"] {
        assert_eq!(result[field], whole[field], "{field}");
    }
    assert_eq!(result["request_id"], events[0].data["request_id"]);
}

#[tokio::test]
async fn a_text_ends_before_its_stop_text() {
    let (_redis, native) = start(&[]).await;
    let (_, whole) = read(post(&native.url(INFER), &prompt(200, 3)).await).await;
    let whole = whole["output"].as_str().unwrap();
    // Some characters from the middle, as a caller would find them.
    let stop: String = whole.chars().skip(60).take(3).collect();
    let wanted = &whole[..whole.find(&stop).unwrap()];
    let mut body = prompt(200, 3);
    body["params"]["stop"] = json!([stop.to_uppercase(), "\u{0}"]);
    let (_, stopped) = read(post(&native.url(INFER), &body).await).await;
    assert_eq!((stopped["output"].as_str().unwrap(), &stopped["finish_reason"]), (wanted, &json!("stop")));
    let events = Events::open(&native.url(STREAM), &body, None).await.all().await;
    assert_eq!(text(&events), wanted, "nothing of the stop text was sent");
    assert_eq!(events.last().unwrap().data["finish_reason"], "stop");
}

#[tokio::test]
async fn a_series_goes_on_and_tells_its_unit() {
    let (_redis, native) = start(&[]).await;
    let (status, whole) = read(post(&native.url(INFER), &series(12)).await).await;
    assert_eq!((status, &whole["steps"], &whole["unit"]), (200, &json!(12), &json!("degF")));
    assert_eq!((&whole["tier"], &whole["decision"]["reason"]), (&json!("fast"), &json!("policy_fixed")));
    let values = whole["output"].as_array().unwrap();
    assert!(values.len() == 12 && values.iter().all(|value| (60.0..100.0).contains(&value.as_f64().unwrap())));
    let events = Events::open(&native.url(STREAM), &series(12), None).await.all().await;
    let streamed: Vec<Value> = steps(&events).iter().map(|step| step.data["value"].clone()).collect();
    assert_eq!(&streamed, values);

    let mut accurate = series(2);
    accurate["task"] = Value::Null;
    accurate["model"] = json!("machine-temperature.hist_gradient_boosting");
    let (status, other) = read(post(&native.url(INFER), &accurate).await).await;
    assert_eq!((status, &other["tier"]), (200, &json!("accurate")), "{other}");
    assert_eq!(other["decision"]["reason"], "caller_pinned");
}

#[tokio::test]
async fn concurrent_texts_share_runs_and_each_is_what_it_is_alone() {
    let (_redis, native) = start(&[]).await;
    let url = native.url(INFER);
    let output = async |seed: u64| read(post(&url, &prompt(64, seed)).await).await.1["output"].clone();
    let mut alone = Vec::new();
    for seed in 0..12 {
        alone.push(output(seed).await);
    }
    assert_ne!(alone[0], alone[1], "the seed counts");
    let before = get(&native.url("/pool/stats")).await.1.to_string();
    assert_eq!(join_all((0..12).map(output)).await, alone);
    let (_, stats) = get(&native.url("/pool/stats")).await;
    let pool = stats["pools"].as_array().unwrap().iter().find(|pool| pool["task"] == "char-lm").unwrap();
    let shared = pool["batch_sizes"].as_array().unwrap().iter().any(|size| size["size"].as_u64() > Some(1));
    assert!(shared, "no two texts were in one run: {pool}, before: {before}");
}

#[tokio::test]
async fn a_stream_goes_on_after_every_event() {
    let (_redis, native) = start(&[]).await;
    let url = native.url(STREAM);
    // Without a seed of the caller's: the id carries the one that was drawn.
    let text_body = json!({"prompt": "it is ", "params": {"max_new_tokens": 9, "stop": "zzz"}});
    let readings = json!({"task": "pump-anomaly", "input": [normal(), {"temperature": 1}, anomalous()]});
    for body in [text_body, series(5), readings, json!({"sensor_data": normal()})] {
        let events = Events::open(&url, &body, None).await.all().await;
        assert_eq!(events.last().unwrap().name, "result", "{events:?}");
        let produced: Vec<&Event> = steps(&events);
        for (at, event) in events.iter().enumerate() {
            if event.name == "result" {
                assert_eq!(send(&url, &body, Some(&event.id)).await.status(), 204, "nothing is left");
                continue;
            }
            let seen = steps(&events[..=at]).len();
            let rest = Events::open(&url, &body, Some(&event.id)).await.all().await;
            assert_eq!(rest[0].data["resumed_after"], seen);
            let ids = |steps: &[&Event]| steps.iter().map(|step| step.id.clone()).collect::<Vec<_>>();
            assert_eq!(ids(&steps(&rest)), ids(&produced[seen..]), "after {}", event.id);
            let outputs = (&rest.last().unwrap().data["output"], &events.last().unwrap().data["output"]);
            assert_eq!(outputs.0, outputs.1);
            if event.data.get("text").is_some() {
                assert_eq!(text(&rest), text(&events[at + 1..]));
            }
        }
    }
}

#[tokio::test]
async fn an_id_of_another_stream_is_refused() {
    let (_redis, native) = start(&[]).await;
    let url = native.url(STREAM);
    let events = Events::open(&url, &prompt(5, 1), None).await.all().await;
    let id = &events[4].id;
    let other_body = prompt(5, 2);
    let far = id.replacen(".3.", ".4000.", 1);
    assert_ne!(&far, id);
    let series_body = series(3);
    for (body, id) in [(&other_body, id.as_str()), (&prompt(5, 1), "1.2"), (&prompt(5, 1), &far), (&series_body, id)] {
        let (status, problem) = read(send(&url, body, Some(id)).await).await;
        assert_eq!((status, &problem["code"]), (422, &json!("invalid-reading")), "{id}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains("Last-Event-ID"), "{problem}");
    }
}

#[tokio::test]
async fn what_is_wrong_before_the_first_event_is_an_ordinary_problem() {
    let (_redis, native) = start(&[]).await;
    let wrong = [
        (json!({"prompt": 3}), 422, "invalid-reading", "#/prompt"),
        (json!({"prompt": "a", "params": {"max_new_tokens": 0}}), 422, "invalid-reading", "#/params/max_new_tokens"),
        (json!({"task": "char-lm", "prompt": "a", "input": "b"}), 422, "invalid-reading", "#/input"),
        (json!({"task": "machine-temperature", "input": [1, 2]}), 422, "invalid-reading", "#/input"),
        (json!({"sensor_data": {"temperature": 1}}), 422, "invalid-reading", "#/sensor_data/vibration"),
        (json!({"task": "pump-anomaly", "input": [1, 2]}), 422, "invalid-reading", "#/input"),
        (json!({"input": normal(), "params": {"steps": 3}}), 422, "invalid-reading", "#/params"),
        (json!({"task": "fortune", "prompt": "a"}), 404, "unknown-task", ""),
        (json!({"prompt": "a", "model": "crystal_ball"}), 404, "unknown-model", ""),
        (json!({"prompt": "a", "model_version": 9, "strict": true}), 404, "unknown-version", ""),
        (json!({"input": normal(), "model": "crystal_ball"}), 404, "unknown-model", ""),
    ];
    for path in [INFER, STREAM] {
        for (body, status, code, pointer) in &wrong {
            let response = post(&native.url(path), body).await;
            assert_eq!(header(&response, "content-type").as_deref(), Some("application/problem+json"), "{body}");
            let (got, problem) = read(response).await;
            assert_eq!((got, &problem["code"]), (*status, &json!(code)), "{path} {body}: {problem}");
            assert_eq!(
                problem["errors"][0]["pointer"].as_str().unwrap_or_default(),
                *pointer,
                "{path} {body}: {problem}"
            );
        }
        let text = Client::new().post(native.url(path)).body("{}").send().await.unwrap();
        assert_eq!(read(text).await.1["code"], "unsupported-media-type");
    }
    let (status, fallback) = read(post(&native.url(INFER), &json!({"prompt": "a", "model_version": 9})).await).await;
    assert_eq!((status, &fallback["fallback"], &fallback["model_version"]), (200, &json!(true), &json!(1)));
}

#[tokio::test]
async fn a_task_is_found_by_its_name_its_model_or_the_prompt_alone() {
    let models = crate::oip::repository();
    long_models(models.path());
    std::fs::rename(models.path().join("char-lm"), models.path().join("other-lm")).unwrap();
    let path = models.path().join("other-lm/task.toml");
    let task = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, task.replace("name = \"char-lm\"", "name = \"other-lm\"")).unwrap();
    long_models(models.path());
    let dir = models.path().to_str().unwrap().to_owned();
    let (_redis, native) = start(&[("MODEL_DIR", dir.as_str())]).await;
    let ask = async |body: Value| read(post(&native.url(INFER), &body).await).await;
    let short = json!({"max_new_tokens": 2});
    for (body, task) in [
        (json!({"task": "char-lm", "prompt": "a", "params": short}), "char-lm"),
        (json!({"task": "other-lm", "input": "a", "model": "fast", "params": short}), "other-lm"),
        (json!({"model": "other-lm.causal_conv", "text": "a", "params": short}), "other-lm"),
    ] {
        let (status, answer) = ask(body).await;
        assert_eq!((status, &answer["task"]), (200, &json!(task)), "{answer}");
    }
    for (body, word) in [
        (json!({"prompt": "a"}), "char-lm, other-lm"),
        (json!({"prompt": "a", "model": "causal_conv"}), "char-lm, other-lm"),
        (json!({"prompt": "a", "model": "other-lm.causal_conv", "task": "char-lm"}), "`other-lm`"),
        (json!({"task": "examples", "input": [1]}), "/v2/models/"),
    ] {
        let (status, problem) = ask(body).await;
        assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!("#/task")), "{problem}");
        assert!(problem["errors"][0]["detail"].as_str().unwrap().contains(word), "{problem}");
    }
}

#[tokio::test]
async fn a_shutdown_cuts_a_stream_at_the_drain_timeout() {
    let models = tempfile::tempdir().unwrap();
    long_models(models.path());
    let dir = models.path().to_str().unwrap().to_owned();
    let (_redis, native) = start(&[("MODEL_DIR", dir.as_str()), ("DRAIN_TIMEOUT_MS", "50")]).await;
    let mut events = Events::open(&native.url(STREAM), &prompt(16_384, 1), None).await;
    while events.next().await.unwrap().name != "step" {}
    let (status, last) = native.terminate().await;
    assert!(status.success() && last.contains("stopped"), "{last}");
}

#[tokio::test]
async fn a_reading_gets_the_answer_of_predict_in_both_forms() {
    let (_redis, native) = start(&[]).await;
    let (_, predicted) =
        read(post(&native.url("/predict"), &json!({"sensor_data": anomalous(), "model_name": "lof"})).await).await;
    let same = ["prediction", "is_anomaly", "score", "model_used", "explanation", "task"];
    for body in [
        json!({"input": anomalous(), "model": "lof"}),
        json!({"sensor_data": anomalous(), "model": "pump-anomaly.lof"}),
    ] {
        let (status, inferred) = read(post(&native.url(INFER), &body).await).await;
        assert_eq!(status, 200, "{inferred}");
        let events = Events::open(&native.url(STREAM), &body, None).await.all().await;
        assert_eq!(names(&events), ["accepted", "decision", "step", "result"]);
        assert_eq!(events[1].data["model"], "lof");
        for field in same {
            for answer in [&inferred, &events[2].data["answer"], &events[3].data] {
                assert_eq!(answer[field], predicted[field], "{field} of {answer}");
            }
        }
    }
}

#[tokio::test]
async fn a_bad_reading_among_several_is_an_error_at_its_place() {
    let (_redis, native) = start(&[]).await;
    let body = json!({"task": "pump-anomaly", "input": [normal(), {"temperature": 1}, anomalous()], "model": "lof"});
    let events = Events::open(&native.url(STREAM), &body, None).await.all().await;
    assert_eq!(names(&events), ["accepted", "decision", "step", "step", "step", "result"]);
    assert_eq!(events[2].data["answer"]["prediction"], "normal");
    assert_eq!(events[3].data["error"]["code"], "invalid-reading");
    assert!(events[3].data["error"]["errors"][0]["pointer"].as_str().unwrap().starts_with("#/input/1/"));
    assert_eq!(events[4].data["answer"]["prediction"], "anomaly");
    let result = &events[5].data;
    assert_eq!((&result["total_samples"], &result["succeeded"], &result["failed"]), (&json!(3), &json!(2), &json!(1)));
    assert_eq!(result["anomalies_detected"], 1);
    let (status, problem) = read(post(&native.url(INFER), &body).await).await;
    assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!("#/input")), "{problem}");
}

#[tokio::test]
async fn who_leaves_ends_the_work_and_frees_the_place() {
    let models = tempfile::tempdir().unwrap();
    long_models(models.path());
    let dir = models.path().to_str().unwrap().to_owned();
    let (_redis, native) = start(&[("MODEL_DIR", dir.as_str()), ("STREAM_MAX_ACTIVE", "1")]).await;
    let mut events = Events::open(&native.url(STREAM), &prompt(16_384, 1), None).await;
    while events.next().await.unwrap().name != "step" {}

    let refused = post(&native.url(STREAM), &prompt(4, 1)).await;
    assert_eq!(header(&refused, "retry-after").as_deref(), Some("1"));
    let (status, problem) = read(refused).await;
    assert_eq!((status, &problem["code"]), (503, &json!("overloaded")), "{problem}");
    assert_eq!(post(&native.url(INFER), &prompt(4, 1)).await.status(), 503);

    drop(events);
    until("the freed place", || async {
        (post(&native.url(INFER), &prompt(50, 1)).await.status() == 200).then_some(())
    })
    .await;
    let left = until("the log line of the stream that was left", || async {
        native.log_lines().into_iter().find(|line| line["message"] == "generation ended")
    })
    .await;
    assert_eq!(left["ended"], "left", "{left}");
    assert!(left["steps"].as_u64().unwrap() < 16_384, "{left}");
    // The one worker runs in turn: whatever the stream had asked for was run before the text above.
    let before = rows(&native).await;
    assert_eq!(post(&native.url(INFER), &prompt(50, 2)).await.status(), 200);
    assert_eq!(rows(&native).await, before + 50, "somebody still makes steps");

    // The same of a caller that waits for the whole text.
    let (url, long) = (native.url(INFER), prompt(16_384, 1));
    let begun = rows(&native).await;
    let taken = until("steps of the long text", || async { (rows(&native).await > begun + 5).then_some(()) });
    tokio::select! {
        answer = post(&url, &long) => panic!("answered before its caller left: {answer:?}"),
        () = taken => {}
    }
    until("the place freed again", || async { (post(&url, &prompt(1, 1)).await.status() == 200).then_some(()) }).await;
    let before = rows(&native).await;
    assert_eq!(post(&url, &prompt(50, 2)).await.status(), 200);
    assert_eq!(rows(&native).await, before + 50, "somebody still makes steps");
}

#[tokio::test]
async fn a_deadline_ends_a_stream_with_an_error_and_what_was_made() {
    let models = tempfile::tempdir().unwrap();
    long_models(models.path());
    let dir = models.path().to_str().unwrap().to_owned();
    let (_redis, native) = start(&[("MODEL_DIR", dir.as_str()), ("STREAM_TIMEOUT_MS", "400")]).await;
    let mut sooner = prompt(16_384, 1);
    sooner["deadline_ms"] = json!(300);
    for body in [sooner, prompt(16_384, 1)] {
        let events = Events::open(&native.url(STREAM), &body, None).await.all().await;
        let last = events.last().unwrap();
        assert_eq!((last.name.as_str(), &last.data["code"]), ("error", &json!("deadline-exceeded")), "{last:?}");
        let made = steps(&events).len();
        assert!(made > 0 && made < 16_384);
        assert_eq!(last.data["output"].as_str().unwrap(), text(&events));
        assert_eq!(last.data["tokens"]["generated"], made);
        assert_eq!(last.id, steps(&events).last().unwrap().id, "who connects again goes on from there");
        let (status, problem) = read(post(&native.url(INFER), &body).await).await;
        assert_eq!((status, &problem["code"]), (504, &json!("deadline-exceeded")));
    }
}

#[tokio::test]
async fn what_is_produced_is_counted() {
    let (_redis, native) = start(&[]).await;
    assert_eq!(post(&native.url(INFER), &prompt(30, 1)).await.status(), 200);
    Events::open(&native.url(STREAM), &prompt(12, 1), None).await.all().await;
    let metrics = reqwest::get(native.url("/metrics")).await.unwrap().text().await.unwrap();
    let value = |name: &str| metrics.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    assert_eq!(value("inference_tokens_total "), Some("42"), "{metrics}");
    let requests = r#"inference_requests_total{task="char-lm",model="causal_conv",version="1",tier="fast"} "#;
    assert_eq!(value(requests), Some("2"), "{metrics}");
}

#[tokio::test]
async fn the_edge_passes_both_on_as_they_come() {
    let models = tempfile::tempdir().unwrap();
    long_models(models.path());
    let dir = models.path().to_str().unwrap().to_owned();
    let (_redis, native) = start(&[("MODEL_DIR", dir.as_str())]).await;
    let edge = Edge::start(native.port, &[]);
    let (status, whole) = read(post(&edge.url(INFER), &prompt(30, 5)).await).await;
    assert_eq!(status, 200, "{whole}");
    let events = Events::open(&edge.url(STREAM), &prompt(30, 5), None).await.all().await;
    assert_eq!(text(&events), whole["output"].as_str().unwrap());
    let rest = Events::open(&edge.url(STREAM), &prompt(30, 5), Some(&events[11].id)).await.all().await;
    assert_eq!(text(&rest), text(&events[12..]), "the edge passes Last-Event-ID on");
    let (status, problem) = read(post(&edge.url(STREAM), &json!({"prompt": 3})).await).await;
    assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!("#/prompt")));

    // A step arrives while the text is still being made, and the origin hears of it when the caller leaves.
    let mut long = Events::open(&edge.url(STREAM), &prompt(16_384, 1), None).await;
    while long.next().await.unwrap().name != "step" {}
    drop(long);
    until("the origin to hear that the caller left", || async {
        native.log_lines().into_iter().find(|line| line["ended"] == "left")
    })
    .await;
}
