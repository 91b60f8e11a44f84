//! Hand-ins while Redis is away: with the spool on they are accepted, kept, and handed over when it is back.

use serde_json::{Value, json};

use crate::support::native::Native;
use crate::support::readings::{body, get, normal, post, read, result_of};
use crate::support::redis::Redis;
use crate::support::until;

#[tokio::test]
async fn what_is_accepted_while_redis_is_away_is_answered_when_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("spool.sqlite");
    let settings = [("ROLE", "api"), ("SPOOL_FILE", spool.to_str().unwrap()), ("SPOOL_MAX_BYTES", "1000000")];
    let mut redis = Redis::start().await;
    let mut api = Native::start(&redis.url(), &settings).await;
    let mut receipts = vec![hand_in(&api).await];
    redis.stop();
    for _ in 0..5 {
        receipts.push(hand_in(&api).await);
    }
    let (status, job) = get(&api.url(receipts[1]["location"].as_str().unwrap())).await;
    assert_eq!((status, &job["state"]), (200, &json!("queued")), "{job}");
    assert_eq!(get(&api.url("/v1/jobs/pump-anomaly.00000000000000000000000000000000")).await.0, 503);
    // Not even the end of the process takes them back.
    api.process.kill();
    let api = Native::start(&redis.url(), &settings).await;
    receipts.push(hand_in(&api).await);

    redis.crash_and_restart().await;
    let _worker = Native::start(&redis.url(), &[("ROLE", "worker")]).await;
    for receipt in &receipts {
        assert_eq!(result_of(&api.url(""), receipt).await["outcome"], "done");
    }
    let (_, listed) = get(&api.url("/results?limit=100")).await;
    assert_eq!(listed["count"], 7, "none is lost, none is there twice: {listed}");
    receipts.push(hand_in(&api).await);
    assert_eq!(result_of(&api.url(""), &receipts[7]).await["outcome"], "done");
}

#[tokio::test]
async fn a_full_spool_refuses_as_if_there_were_none() {
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("spool.sqlite");
    let settings = [("ROLE", "api"), ("SPOOL_FILE", spool.to_str().unwrap()), ("SPOOL_MAX_BYTES", "3000")];
    let mut redis = Redis::start().await;
    let api = Native::start(&redis.url(), &settings).await;
    redis.stop();
    hand_in(&api).await;
    let (status, problem) = until("a refusal", || async {
        let answer = read(post(&api.url("/data"), &body(&normal())).await).await;
        (answer.0 != 202).then_some(answer)
    })
    .await;
    assert_eq!((status, &problem["code"]), (503, &json!("queue-unavailable")), "{problem}");
}

async fn hand_in(api: &Native) -> Value {
    let (status, receipt) = read(post(&api.url("/data"), &body(&normal())).await).await;
    assert_eq!(status, 202, "{receipt}");
    receipt
}
