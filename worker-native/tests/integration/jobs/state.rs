//! A job's state, calling it off, and where its result is sent.

use axum::body::Body;
use axum::response::Response;
use serde_json::json;

use super::{ENDLESS, api, delete, hand_in, path, post_with, reading, rig, turns};
use crate::support::models::Caller;
use crate::support::native::Native;
use crate::support::origin::Origin;
use crate::support::readings::{get, read, result_of};
use crate::support::redis::Redis;
use crate::support::until;

#[tokio::test]
async fn a_job_that_waits_says_so_and_can_be_called_off() {
    let redis = Redis::start().await;
    let native = api(&redis, &[]).await;
    let mut body = reading();
    body["deadline_ms"] = json!(60_000);
    body["priority"] = json!("high");
    let receipt = hand_in(&native, &body).await;
    assert_eq!(receipt["priority"], "high");
    assert!(receipt["deadline_at"].as_u64().unwrap() > 1_700_000_000_000, "{receipt}");
    let url = native.url(path(&receipt));
    let (status, job) = get(&url).await;
    assert_eq!((status, &job["state"], &job["attempt"]), (200, &json!("queued"), &json!(0)), "{job}");
    assert!(job["waited_ms"].is_u64() && job.get("result").is_none() && job.get("failures").is_none(), "{job}");

    let (status, told) = delete(&url).await;
    assert_eq!(status, 200, "{told}");
    assert_eq!(told, json!({"job_id": receipt["job_id"], "state": "cancelled", "was_running": false}));
    let (_, job) = get(&url).await;
    assert_eq!((&job["state"], &job["result"]["outcome"]), (&json!("cancelled"), &json!("cancelled")), "{job}");
    assert!(job.get("attempt").is_none() && job.get("waited_ms").is_none(), "{job}");
    let (status, problem) = delete(&url).await;
    assert_eq!((status, &problem["code"]), (409, &json!("job-ended")), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("cancelled"), "{problem}");
    for unknown in ["pump-anomaly.nope", "fortune.1", "x"] {
        assert_eq!(delete(&native.url(&format!("/v1/jobs/{unknown}"))).await.0, 404, "{unknown}");
    }
    let (_, listed) = get(&native.url("/results?outcome=cancelled")).await;
    assert_eq!((&listed["count"], &listed["results"][0]["job_id"]), (&json!(1), &receipt["job_id"]), "{listed}");
    assert_eq!(get(&native.url("/results?outcome=done")).await.1["count"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_runs_is_called_off_and_the_next_one_is_run() {
    let (redis, models) = (Redis::start().await, rig());
    let native = models.serve(&redis, &[("LEASE_MS", "300"), ("MODEL_MAX_RUN_MS", "60000")]).await;
    let receipt = hand_in(&native, &turns(ENDLESS)).await;
    let url = native.url(path(&receipt));
    until("the run", || async {
        let (_, job) = get(&url).await;
        (job["state"] == "running" && job["attempt"] == 1).then_some(())
    })
    .await;
    let (status, told) = delete(&url).await;
    assert_eq!((status, &told["was_running"]), (200, &json!(true)), "{told}");
    assert_eq!(get(&url).await.1["state"], "cancelled");
    let text = reqwest::get(native.url("/metrics")).await.unwrap().text().await.unwrap();
    assert!(text.contains(r#"router_jobs_settled_total{task="rig",outcome="cancelled"} 1"#), "{text}");
    assert!(text.contains(r#"router_jobs_lost_total{task="rig"} 0"#), "{text}");
    // The consumer hears of it when it renews the lease, and stops waiting for the run.
    until("the consumer to let go", || async {
        let lines = native.log_lines();
        lines
            .iter()
            .any(|line| line["message"].as_str().unwrap_or_default().starts_with("job called off"))
            .then_some(())
    })
    .await;
    // The model itself hangs on until it is interrupted: that is what another worker of it is for.
    let caller = Caller::new(native.url(""));
    assert_eq!(caller.pool("looping", 1).await["alive"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_deadline_passes_while_it_runs_was_started() {
    let (redis, models) = (Redis::start().await, rig());
    let native = models.serve(&redis, &[("MODEL_MAX_RUN_MS", "60000")]).await;
    let mut reading = turns(ENDLESS);
    reading["deadline_ms"] = json!(1_500);
    let receipt = hand_in(&native, &reading).await;
    let result = result_of(&native.url(""), &receipt).await;
    assert_eq!((&result["outcome"], &result["attempts"]), (&json!("expired"), &json!(1)), "{result}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tries_that_came_to_nothing_are_shown_with_their_errors() {
    let (redis, models) = (Redis::start().await, rig());
    let settings = [("MODEL_MAX_RUN_MS", "20"), ("RETRY_BASE_MS", "60000"), ("RETRY_MAX_MS", "60000")];
    let native = models.serve(&redis, &settings).await;
    let receipt = hand_in(&native, &turns(ENDLESS)).await;
    let url = native.url(path(&receipt));
    let job = until("the first try's end", || async {
        let (_, job) = get(&url).await;
        (job["state"] == "retrying").then_some(job)
    })
    .await;
    assert_eq!(job["attempt"], 1, "{job}");
    let failure = &job["failures"][0];
    assert_eq!(failure["attempt"], 1, "{job}");
    assert!(!failure["error"].as_str().unwrap().is_empty() && failure["at"].is_u64(), "{job}");
    let text = reqwest::get(native.url("/metrics")).await.unwrap().text().await.unwrap();
    assert!(text.contains(r#"router_jobs_retried_total{task="rig"} 1"#), "{text}");
    assert_eq!(delete(&url).await.1["was_running"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callback_is_judged_at_hand_in_and_sent_at_the_end() {
    let redis = Redis::start().await;
    let plain = api(&redis, &[]).await;
    let with = |url: &str| {
        let mut body = reading();
        body["callback_url"] = json!(url);
        body
    };
    let (status, problem) = read(post_with(&plain.url("/data"), &with("https://a.example/x"), &[]).await).await;
    assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!("#/callback_url")), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("WEBHOOK_SECRET"), "{problem}");

    let receiver = Origin::start(|_| Response::new(Body::empty())).await;
    let settings = [
        ("WEBHOOK_SECRET", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"),
        ("WEBHOOK_ALLOW_HTTP", "true"),
        ("WEBHOOK_ALLOW_PRIVATE", "true"),
    ];
    let native = Native::start(&redis.url(), &settings).await;
    for wrong in ["ftp://127.0.0.1/x", "http://169.254.169.254/latest", "no url"] {
        let (status, problem) = read(post_with(&native.url("/data"), &with(wrong), &[]).await).await;
        assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!("#/callback_url")), "{wrong}: {problem}");
    }
    let url = format!("http://127.0.0.1:{}/hook", receiver.port);
    let (status, problem) = read(post_with(&native.url("/predict"), &with(&url), &[]).await).await;
    assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!("#/callback_url")), "{problem}");

    let receipt = hand_in(&native, &with(&url)).await;
    assert_eq!(result_of(&native.url(""), &receipt).await["outcome"], "done");
    let seen = until("the callback", || async { receiver.seen().pop() }).await;
    let id = seen.header("webhook-id").unwrap();
    assert_eq!(id.rsplit_once('.').map(|(job, _)| job), receipt["job_id"].as_str(), "{id}");
    until("the callback's note", || async {
        get(&native.url(path(&receipt))).await.1["callback"].is_string().then_some(())
    })
    .await;
}
