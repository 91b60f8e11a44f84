//! Why a reading got its tier: told by every process, on a terminal, and in the log of decisions.

use std::process::{Command, Output};

use reqwest::Client;
use serde_json::{Value, json};
use worker_native::decisions::log::Line;
use worker_native::decisions::{Case, REFUSED};

use crate::support::edge::Edge;
use crate::support::native::{BINARY, Native};
use crate::support::readings::{body, get, normal, post, read, result_of};
use crate::support::redis::Redis;
use crate::support::until;

async fn decision(base: &str, id: &Value) -> (u16, Value) {
    get(&format!("{base}/v1/decisions/{}", id.as_str().unwrap())).await
}

/// A reading with a deadline far away.
fn patient() -> Value {
    let mut reading = body(&normal());
    reading["deadline_ms"] = json!(60_000);
    reading
}

/// Until it is known: what other processes answered is written behind the answers.
async fn known(base: &str, id: &Value) -> Value {
    until("a decision to be known", || async {
        let (status, told) = decision(base, id).await;
        (status == 200).then_some(told)
    })
    .await
}

fn story(told: &Value) -> String {
    let sentences = told["story"].as_array().unwrap().iter().map(|sentence| sentence.as_str().unwrap());
    sentences.collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn a_jobs_decision_is_told_by_every_process_before_its_end_and_after() {
    let redis = Redis::start().await;
    let api = [("ROLE", "api")];
    let (here, there) = (Native::start(&redis.url(), &api).await, Native::start(&redis.url(), &api).await);
    let (status, receipt) = read(post(&here.url("/v1/jobs"), &patient()).await).await;
    assert_eq!(status, 202, "{receipt}");
    for (native, id) in [(&here, "job_id"), (&here, "request_id"), (&there, "job_id")] {
        let (status, told) = decision(&native.url(""), &receipt[id]).await;
        assert_eq!((status, &told["state"], &told["found_in"]), (200, &json!("queued"), &json!("queue")), "{told}");
        assert_eq!((&told["job_id"], &told["decision"]), (&receipt["job_id"], &receipt["decision"]), "{told}");
        assert_eq!((&told["weighed"]["deadline_ms"], told.get("end")), (&json!(60_000), None), "{told}");
        assert!(story(&told).ends_with("It has not ended yet."), "{told}");
    }
    assert_eq!(decision(&there.url(""), &receipt["request_id"]).await.0, 404, "it is not answered yet");

    let worker = Native::start(&redis.url(), &[]).await;
    let edge = Edge::start(here.port, &[]);
    let result = result_of(&there.url(""), &receipt).await;
    for base in [here.url(""), there.url(""), worker.url(""), edge.url("")] {
        let (status, told) = decision(&base, &receipt["job_id"]).await;
        assert_eq!((status, &told["state"], &told["found_in"]), (200, &json!("done"), &json!("result")), "{told}");
        assert_eq!((&told["on_time"], &told["end"]["model"]), (&json!(true), &result["model"]), "{told}");
        assert_eq!((&told["decision"], &told["weighed"]), (&result["decision"], &result["weighed"]), "{told}");
        let tiers = told["weighed"]["tiers"].as_array().unwrap();
        assert_eq!(tiers.iter().map(|tier| &tier["tier"]).collect::<Vec<_>>(), ["fast", "accurate"], "{told}");
        assert!(story(&told).contains("in time: the deadline was 60000 ms"), "{told}");
        let by_request = known(&base, &receipt["request_id"]).await;
        assert_eq!((&by_request["end"], &by_request["found_in"]), (&told["end"], &json!("result")), "{by_request}");
    }
    for unknown in ["pump-anomaly.nope", "nobody"] {
        let (status, problem) = decision(&edge.url(""), &json!(unknown)).await;
        assert_eq!((status, &problem["code"]), (404, &json!("not-found")), "{problem}");
    }
}

#[tokio::test]
async fn an_answer_given_at_once_is_told_by_its_process_and_then_by_others() {
    let redis = Redis::start().await;
    let (here, there) = (Native::start(&redis.url(), &[]).await, Native::start(&redis.url(), &[]).await);
    let (status, answer) = read(post(&here.url("/predict"), &patient()).await).await;
    assert_eq!(status, 200, "{answer}");
    let id = &answer["request_id"];
    let (status, own) = decision(&here.url(""), id).await;
    assert_eq!((status, &own["found_in"], &own["state"]), (200, &json!("memory"), &json!("done")), "{own}");
    assert_eq!((&own["decision"], &own["end"]["model"]), (&answer["decision"], &answer["model_used"]), "{own}");
    let others = known(&there.url(""), id).await;
    assert_eq!(others["found_in"], "store", "{others}");
    for part in ["decision", "weighed", "end", "at", "story", "on_time"] {
        assert_eq!(others[part], own[part], "{part}");
    }
}

#[tokio::test]
async fn a_job_that_was_called_off_takes_its_decision_along() {
    let redis = Redis::start().await;
    let api = Native::start(&redis.url(), &[("ROLE", "api")]).await;
    let (_, receipt) = read(post(&api.url("/v1/jobs"), &patient()).await).await;
    let url = api.url(receipt["location"].as_str().unwrap());
    let (status, told) = read(Client::new().delete(&url).send().await.unwrap()).await;
    assert_eq!(status, 200, "{told}");
    let (status, told) = decision(&api.url(""), &receipt["job_id"]).await;
    assert_eq!((status, &told["state"], &told["decision"]), (200, &json!("cancelled"), &receipt["decision"]), "{told}");
    assert!(told.get("on_time").is_none() && story(&told).contains("It was called off."), "{told}");
}

fn why(native: &Native, args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } =
        Command::new(BINARY).arg("why").args(args).args(["--url", &native.url("")]).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_tells_it_as_a_story() {
    let folder = tempfile::tempdir().unwrap();
    let native = Native::start("", &[("QUEUE_FILE", folder.path().join("q.sqlite").to_str().unwrap())]).await;
    let (_, receipt) = read(post(&native.url("/data"), &patient()).await).await;
    result_of(&native.url(""), &receipt).await;
    let id = receipt["job_id"].as_str().unwrap();
    let (code, told, error) = why(&native, &[id]);
    assert_eq!(code, Some(0), "{error}");
    for part in [id, "was chosen by the service", "The policy was", "accurate", "outcome       done", "in time"] {
        assert!(told.contains(part), "{part} in:\n{told}");
    }
    assert!(!told.contains('\u{1b}'), "no colours where nobody sees them: {told}");
    let (code, json, _) = why(&native, &[id, "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &json["job_id"]), (Some(0), &receipt["job_id"]));
    let (code, out, error) = why(&native, &["nobody"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(error.contains("404 (not-found)"), "{error}");
    assert_eq!(why(&native, &["../models"]).0, Some(1));
    assert_eq!(why(&native, &[]).0, Some(2), "usage");
}

fn lines(path: &std::path::Path) -> Vec<Line> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

fn cases(lines: &[Line]) -> Vec<&Case> {
    let mut cases = vec![];
    for line in lines {
        if let Line::Case(case) = line {
            cases.push(&**case);
        }
    }
    cases
}

#[tokio::test]
async fn every_offered_reading_is_a_line_in_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let (file, log) = (folder.path().join("q.sqlite"), folder.path().join("decisions.jsonl"));
    let settings = [("QUEUE_FILE", file.to_str().unwrap()), ("DECISION_LOG", log.to_str().unwrap())];
    let native = Native::start("", &settings).await;
    let (_, answer) = read(post(&native.url("/predict"), &patient()).await).await;
    let (_, receipt) = read(post(&native.url("/data"), &patient()).await).await;
    let result = result_of(&native.url(""), &receipt).await;
    let (status, _) = read(post(&native.url("/data"), &json!({"nonsense": 1})).await).await;
    assert_eq!(status, 422, "no decision was made for it");
    let (status, _) = native.terminate().await;
    assert!(status.success(), "{status}");

    let lines = lines(&log);
    assert!(matches!(&lines[0], Line::Log(head) if head.version == 1 && head.sample == 1.0), "{:?}", lines[0]);
    let Line::Tiers(tiers) = &lines[1] else { panic!("{:?}", lines[1]) };
    assert_eq!((tiers.task.as_str(), tiers.tiers.len()), ("pump-anomaly", 2));
    let cases = cases(&lines);
    assert_eq!(cases.len(), 2, "{cases:?}");
    let job = cases.iter().find(|case| case.job_id.is_some()).unwrap();
    assert_eq!(json!(job.job_id), receipt["job_id"]);
    let logged: Value = serde_json::from_str(&serde_json::to_string(job).unwrap()).unwrap();
    assert_eq!((&logged["decision"], &logged["weighed"]), (&result["decision"], &result["weighed"]));
    assert_eq!(logged["at"], result["accepted_at"]);
    let end = job.end.as_ref().unwrap();
    assert_eq!((end.outcome.as_str(), json!(end.latency_ms)), ("done", result["latency_ms"].clone()));
    assert!(end.waited_ms.unwrap() <= end.latency_ms && end.attempts == Some(1), "{end:?}");
    let call = cases.iter().find(|case| case.job_id.is_none()).unwrap();
    assert_eq!(json!(call.request_id), answer["request_id"]);
    assert_eq!(call.weighed.as_ref().unwrap().deadline_ms, Some(60_000));
    assert!(!std::fs::read_to_string(&log).unwrap().contains("sensor-01"), "no line says who measured");
}

#[tokio::test]
async fn what_was_refused_is_in_the_log_and_told_and_drops_are_counted() {
    let redis = Redis::start().await;
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("decisions.jsonl");
    let settings = [("ROLE", "api"), ("QUEUE_MAX_DEPTH", "1"), ("DECISION_LOG", log.to_str().unwrap())];
    let native = Native::start(&redis.url(), &settings).await;
    let (status, _) = read(post(&native.url("/data"), &patient()).await).await;
    assert_eq!(status, 202);
    let (status, problem) = read(post(&native.url("/data"), &patient()).await).await;
    assert_eq!(status, 503, "{problem}");
    let (status, told) = decision(&native.url(""), &problem["request_id"]).await;
    assert_eq!((status, &told["state"], &told["on_time"]), (200, &json!(REFUSED), &json!(false)), "{told}");
    let text = until("the line to be counted", || async {
        let text = reqwest::get(native.url("/metrics")).await.unwrap().text().await.unwrap();
        text.contains(r#"router_decision_log_lines_total{result="written"} 1"#).then_some(text)
    })
    .await;
    assert!(text.contains(r#"router_decision_log_lines_total{result="dropped"} 0"#), "{text}");
    let lines = lines(&log);
    let cases = cases(&lines);
    assert_eq!((cases.len(), cases[0].end.as_ref().unwrap().outcome.as_str()), (1, REFUSED), "{cases:?}");
}

#[tokio::test]
async fn a_log_that_cannot_be_opened_is_told_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let (file, log) = (folder.path().join("q.sqlite"), folder.path().join("gone/decisions.jsonl"));
    let mut command = Command::new(BINARY);
    command.arg("serve").current_dir(crate::support::root()).env("MODEL_DIR", "models").env("API_PORT", "0");
    command.env("QUEUE_FILE", &file).env("DECISION_LOG", &log).env("MODEL_SESSIONS", "1");
    let Output { status, stderr, .. } = command.output().unwrap();
    let error = String::from_utf8(stderr).unwrap();
    assert!(status.code() == Some(1) && error.contains("DECISION_LOG="), "{status}: {error}");
}
