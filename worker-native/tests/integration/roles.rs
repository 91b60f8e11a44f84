//! Processes of different roles: the API answers at once by way of the queue, workers run.

use std::time::Instant;

use serde_json::json;

use crate::support::native::Native;
use crate::support::readings::{anomalous, body, get, normal, post, read};
use crate::support::redis::Redis;
use crate::support::until;

#[tokio::test]
async fn a_process_without_models_answers_at_once_through_the_queue() {
    let redis = Redis::start().await;
    let api = Native::start(&redis.url(), &[("ROLE", "api")]).await;
    let _worker = Native::start(&redis.url(), &[("ROLE", "worker")]).await;
    let alone = Native::start(&redis.url(), &[("QUEUE_PREFIX", "other")]).await;
    for reading in [normal(), anomalous()] {
        let mut wanted = body(&reading);
        wanted["model_name"] = json!("accurate");
        let (status, mut by_queue) = read(post(&api.url("/predict"), &wanted).await).await;
        assert_eq!(status, 200, "{by_queue}");
        let (_, mut here) = read(post(&alone.url("/predict"), &wanted).await).await;
        for answer in [&mut by_queue, &mut here] {
            for name in ["request_id", "latency_ms", "timestamp", "cache", "queue_depth", "decision"] {
                answer.as_object_mut().unwrap().remove(name);
            }
        }
        assert_eq!(by_queue, here);
    }
    let (status, batch) =
        read(post(&api.url("/predict/batch"), &json!({"readings": [body(&normal()), body(&anomalous())]})).await).await;
    assert_eq!((status, &batch["succeeded"], &batch["anomalies_detected"]), (200, &json!(2), &json!(1)));
    let (_, listed) = get(&api.url("/results")).await;
    assert_eq!(listed["count"], 0, "nobody asked for a job: {listed}");
    let (_, pools) = get(&api.url("/pool/stats")).await;
    assert!(!pools.to_string().contains("\"in_use\":1"), "{pools}");
}

#[tokio::test]
async fn without_a_worker_the_caller_is_answered_at_the_deadline_and_nothing_stays_behind() {
    let redis = Redis::start().await;
    let api = Native::start(&redis.url(), &[("ROLE", "api")]).await;
    let mut wanted = body(&normal());
    wanted["deadline_ms"] = json!(300);
    let started = Instant::now();
    let (status, problem) = read(post(&api.url("/predict"), &wanted).await).await;
    assert_eq!((status, &problem["code"]), (504, &json!("deadline-exceeded")), "{problem}");
    assert_eq!(problem["stage"], "waiting");
    assert!(started.elapsed().as_millis() >= 290, "not before the deadline");
    let depth = until("an empty backlog", || async {
        let mut connection = redis.connection().await;
        let depth: Vec<i64> =
            redis::cmd("HVALS").arg("ir:{pump-anomaly}:depth").query_async(&mut connection).await.unwrap();
        (depth.iter().sum::<i64>() == 0).then_some(depth)
    });
    depth.await;
    let (_, listed) = get(&api.url("/results")).await;
    assert_eq!(listed["count"], 0, "nobody asked for a job: {listed}");
    // A worker that comes later finds nothing to run.
    let worker = Native::start(&redis.url(), &[("ROLE", "worker")]).await;
    let (_, answer) = read(post(&api.url("/predict"), &body(&normal())).await).await;
    assert_eq!(answer["prediction"], "normal");
    let settled = worker.log_lines().iter().filter(|line| line["message"] == "job settled").count();
    assert_eq!(settled, 1);
}

#[tokio::test]
async fn a_caller_waits_for_a_worker_that_comes_late() {
    let redis = Redis::start().await;
    let api = Native::start(&redis.url(), &[("ROLE", "api"), ("PREDICT_TIMEOUT_MS", "60000")]).await;
    let url = api.url("/predict");
    let asked = async { read(post(&url, &body(&normal())).await).await };
    let come = async {
        // It waits in the queue until somebody comes.
        until("the job", || async {
            let length: u64 = redis::cmd("XLEN")
                .arg("ir:{pump-anomaly}:flow:high")
                .query_async(&mut redis.connection().await)
                .await
                .unwrap();
            (length == 1).then_some(())
        })
        .await;
        Native::start(&redis.url(), &[("ROLE", "worker")]).await
    };
    let ((status, answer), _worker) = tokio::join!(asked, come);
    assert_eq!((status, &answer["prediction"]), (200, &json!("normal")), "{answer}");
}
