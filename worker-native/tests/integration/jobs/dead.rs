//! Jobs that were given up: listed with their errors, handed in again, dropped; over HTTP and from a terminal.

use std::process::{Command, Output};

use serde_json::{Value, json};

use super::{ENDLESS, delete, hand_in, path, rig, turns};
use crate::support::models::Models;
use crate::support::native::Native;
use crate::support::readings::{get, post, read, result_of};
use crate::support::redis::Redis;
use crate::support::until;

/// A service on which a run of any length fails, and the ids of jobs that were given up on it, the latest first.
async fn with_dead(redis: &Redis, models: &Models, count: usize) -> (Native, Vec<String>) {
    let settings = [("MODEL_MAX_RUN_MS", "20"), ("MAX_ATTEMPTS", "2"), ("RETRY_BASE_MS", "1")];
    let native = models.serve(redis, &settings).await;
    let mut ids = Vec::new();
    for i in 0..count {
        let mut body = turns(ENDLESS + 1e6 * i as f64);
        body["sensor_id"] = json!(format!("s{i}"));
        let receipt = hand_in(&native, &body).await;
        assert_eq!(result_of(&native.url(""), &receipt).await["outcome"], "dead");
        ids.insert(0, receipt["job_id"].as_str().unwrap().to_owned());
    }
    (native, ids)
}

fn ids_of(list: &Value) -> Vec<String> {
    let letters = list["dead"].as_array().unwrap_or_else(|| panic!("{list}"));
    letters.iter().map(|letter| letter["job_id"].as_str().unwrap().to_owned()).collect()
}

async fn last_error(native: &Native) -> String {
    let (_, list) = get(&native.url("/v1/dead?limit=1")).await;
    list["dead"][0]["error"].as_str().unwrap_or_else(|| panic!("{list}")).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_listed_shown_and_dropped() {
    let (redis, models) = (Redis::start().await, rig());
    let (native, ids) = with_dead(&redis, &models, 4).await;
    let list = async |query: &str| ids_of(&get(&native.url(&format!("/v1/dead{query}"))).await.1);
    assert_eq!(list("").await, ids);
    assert_eq!(list("?limit=2&skip=1").await, ids[1..3]);
    let error = last_error(&native).await;
    let part: String = error.chars().take_while(char::is_ascii_alphanumeric).collect();
    assert_eq!(list(&format!("?task=rig&model=looping&error={part}")).await, ids, "{error}");
    assert_eq!(list("?model=another").await, [""; 0]);
    assert_eq!(list("?error=of%20another%20kind").await, [""; 0]);
    let (_, all) = get(&native.url("/v1/dead")).await;
    let letter = &all["dead"][1];
    assert_eq!((&letter["sensor_id"], &letter["attempts"], &letter["tier"]), (&json!("s2"), &json!(2), &json!("fast")));
    let since = letter["died_at"].as_u64().unwrap();
    assert_eq!(list(&format!("?since={since}")).await, ids[..2]);
    assert_eq!(get(&native.url("/v1/dead?since=soon")).await.0, 400);
    assert_eq!(get(&native.url("/v1/dead?task=fortune")).await.1["code"], "unknown-task");

    let (status, whole) = get(&native.url(&format!("/v1/dead/{}", ids[0]))).await;
    assert_eq!((status, whole["failures"].as_array().unwrap().len()), (200, 2), "{whole}");
    assert_eq!(whole["reading"]["features"][0].as_f64().unwrap() as f32, (ENDLESS + 3e6) as f32);
    assert_eq!((&whole["job_id"], &whole["result"]["outcome"]), (&json!(ids[0]), &json!("dead")), "{whole}");

    let url = native.url(&format!("/v1/dead/{}", ids[3]));
    assert_eq!(delete(&url).await, (200, json!({"job_id": ids[3], "dropped": true})));
    assert_eq!((delete(&url).await.0, get(&url).await.0), (404, 404));
    let body = json!({"ids": [ids[2], ids[3], "no-such-task.1"]});
    let (status, told) = read(post(&native.url("/v1/dead/drop"), &body).await).await;
    assert_eq!((status, &told["dropped"], &told["job_ids"]), (200, &json!(1), &json!([ids[2]])), "{told}");
    assert_eq!(told["missing"], json!(["no-such-task.1", ids[3]]), "{told}");
    assert_eq!(list("").await, ids[..2]);
    assert_eq!(get(&native.url(&format!("/v1/jobs/{}", ids[2]))).await.1["state"], "dead", "its result stands");
    for wrong in [json!({}), json!({"ids": []}), json!({"all": true, "colour": "red"})] {
        let (status, problem) = read(post(&native.url("/v1/dead/drop"), &wrong).await).await;
        assert_eq!((status, &problem["code"]), (422, &json!("invalid-reading")), "{wrong}: {problem}");
    }
    until("their number in the metrics", || async {
        let text = reqwest::get(native.url("/metrics")).await.unwrap().text().await.unwrap();
        text.lines().any(|line| line == r#"router_dead_letters{task="rig"} 2"#).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_handed_in_again_are_jobs_again() {
    let (redis, models) = (Redis::start().await, rig());
    let (native, ids) = with_dead(&redis, &models, 3).await;
    assert!(native.terminate().await.0.success());
    // Nobody runs them yet, so what was handed in can be seen.
    let api = models.serve(&redis, &[("ROLE", "api")]).await;
    let error = last_error(&api).await;
    let requeue = async |body: Value| read(post(&api.url("/v1/dead/requeue"), &body).await).await;
    let (status, told) = requeue(json!({"task": "rig", "error": error, "limit": 2})).await;
    assert_eq!((status, &told["requeued"], &told["more"]), (200, &json!(2), &json!(true)), "{told}");
    assert_eq!(told["job_ids"], json!(ids[..2]), "the newest first");
    for id in &ids[..2] {
        let (_, job) = get(&api.url(&format!("/v1/jobs/{id}"))).await;
        assert_eq!((&job["state"], &job["attempt"]), (&json!("queued"), &json!(0)), "{job}");
    }
    assert_eq!(ids_of(&get(&api.url("/v1/dead")).await.1), ids[2..]);
    let (_, told) = requeue(json!({"ids": [ids[0]]})).await;
    assert_eq!((&told["requeued"], &told["missing"]), (&json!(0), &json!([ids[0]])), "{told}");
    assert_eq!(get(&api.url("/results?limit=10")).await.1["count"], 1, "their old results are gone");

    let settings = [("ROLE", "worker"), ("MODEL_MAX_RUN_MS", "20"), ("MAX_ATTEMPTS", "1")];
    let _worker = models.serve(&redis, &settings).await;
    for id in &ids[..2] {
        let result = result_of(&api.url(""), &json!({"location": format!("/v1/jobs/{id}")})).await;
        assert_eq!(
            (&result["outcome"], &result["attempts"]),
            (&json!("dead"), &json!(1)),
            "a life of its own: {result}"
        );
    }
}

fn dlq(native: &Native, args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_infer-router"));
    let Output { status, stdout, stderr } =
        command.arg("dlq").args(args).args(["--url", &native.url("")]).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_does_the_same() {
    let (redis, models) = (Redis::start().await, rig());
    let (native, ids) = with_dead(&redis, &models, 3).await;
    let (code, table, _) = dlq(&native, &["list"]);
    assert_eq!(code, Some(0));
    for part in ["looping v1", "s2", "last error"] {
        assert!(table.contains(part), "{part} in:\n{table}");
    }
    let (code, json, _) = dlq(&native, &["list", "--json", "--limit", "1"]);
    assert_eq!((code, ids_of(&serde_json::from_str(&json).unwrap())), (Some(0), ids[..1].to_vec()));
    let (code, whole, _) = dlq(&native, &["show", &ids[1]]);
    assert!(code == Some(0) && whole.contains("try 2") && whole.contains("features"), "{whole}");
    let (code, out, error) = dlq(&native, &["show", "rig.nope"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(error.contains("404 (not-found)"), "{error}");
    let (code, told, _) = dlq(&native, &["drop", &ids[2]]);
    assert_eq!((code, told.trim()), (Some(0), "dropped 1"));
    let (code, told, error) = dlq(&native, &["requeue", &ids[2]]);
    assert_eq!(code, Some(1), "{told}{error}");
    assert!(told.contains("requeued 0") && error.contains("1 of them was no dead letter"), "{told}{error}");
    let (code, told, _) = dlq(&native, &["drop", "--all", "--json"]);
    assert_eq!((code, &serde_json::from_str::<Value>(&told).unwrap()["dropped"]), (Some(0), &json!(2)));
    assert_eq!(dlq(&native, &["list"]).1.trim(), "no dead letters");
    assert_eq!(dlq(&native, &["requeue"]).0, Some(2), "usage");
    let (code, _, error) = dlq(&native, &["list", "--task", "fortune"]);
    assert!(code == Some(1) && error.contains("unknown-task"), "{error}");
    assert_eq!(get(&native.url(path(&json!({"location": format!("/v1/jobs/{}", ids[0])})))).await.1["state"], "dead");
}
