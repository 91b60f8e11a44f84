//! What was accepted is answered, whoever dies.

use serde_json::{Value, json};

use crate::support::native::Native;
use crate::support::proxy::HoldingProxy;
use crate::support::readings::{body, get, normal, post, read, result_of};
use crate::support::redis::Redis;
use crate::support::until;

/// What Redis sees of the settle script: its hash.
fn settle_hash() -> &'static str {
    worker_native::queue::redis::scripts::SETTLE.hash()
}

#[tokio::test]
async fn a_consumer_killed_between_claim_and_acknowledgement_loses_no_job() {
    let redis = Redis::start().await;
    let api = Native::start(&redis.url(), &[("ROLE", "api")]).await;
    let (status, receipt) = read(post(&api.url("/data"), &body(&normal())).await).await;
    assert_eq!(status, 202, "{receipt}");

    let proxy = HoldingProxy::start(redis.port, settle_hash()).await;
    let mut doomed = Native::start(&proxy.url(), &[("ROLE", "worker"), ("LEASE_MS", "500")]).await;
    until("the doomed consumer's try to settle", || async { proxy.has_held().then_some(()) }).await;
    let mut connection = redis.connection().await;
    let pending: Vec<Value> = pending(&mut connection).await;
    assert_eq!(pending.len(), 1, "claimed and not acknowledged: {pending:?}");
    doomed.process.kill();

    let _heir = Native::start(&redis.url(), &[("ROLE", "worker"), ("LEASE_MS", "500")]).await;
    let result = result_of(&api.url(""), &receipt).await;
    assert_eq!((&result["outcome"], &result["attempts"]), (&json!("done"), &json!(2)));
    let (_, results) = get(&api.url("/results?limit=100")).await;
    assert_eq!(results["count"], 1, "one visible result: {results}");
    assert!(self::pending(&mut connection).await.is_empty());
    let length: u64 =
        redis::cmd("XLEN").arg("ir:{pump-anomaly}:flow:normal").query_async(&mut connection).await.unwrap();
    let depth: Vec<i64> =
        redis::cmd("HVALS").arg("ir:{pump-anomaly}:depth").query_async(&mut connection).await.unwrap();
    assert_eq!((length, depth.iter().sum::<i64>()), (0, 0));
}

/// Hands a reading in again and again, until it is accepted.
async fn accepted_job(native: &Native) -> Value {
    until("an accepted job", || async {
        let (status, receipt) = read(post(&native.url("/data"), &body(&normal())).await).await;
        (status == 202).then_some(receipt)
    })
    .await
}

async fn pending(connection: &mut redis::aio::MultiplexedConnection) -> Vec<Value> {
    let mut command = redis::cmd("XPENDING");
    command.arg("ir:{pump-anomaly}:flow:normal").arg("consumers").arg("-").arg("+").arg(10);
    let entries: Vec<(String, String, u64, u64)> = command.query_async(connection).await.unwrap();
    entries.into_iter().map(|entry| json!(entry)).collect()
}

#[tokio::test]
async fn jobs_survive_a_crash_of_redis_and_the_service_comes_back_by_itself() {
    let mut redis = Redis::start().await;
    let api = Native::start(&redis.url(), &[("ROLE", "api")]).await;
    let (_, receipt) = read(post(&api.url("/data"), &body(&normal())).await).await;

    redis.stop();
    let refused = post(&api.url("/data"), &body(&normal())).await;
    assert!(refused.headers().contains_key("retry-after"));
    let (status, problem) = read(refused).await;
    assert_eq!((status, &problem["code"]), (503, &json!("queue-unavailable")));
    let (status, problem) = read(post(&api.url("/predict"), &body(&normal())).await).await;
    assert_eq!((status, &problem["code"]), (503, &json!("model-unavailable")), "{problem}");
    assert_eq!(get(&api.url("/readyz")).await.0, 503);
    assert_eq!(get(&api.url("/livez")).await.0, 200);

    redis.crash_and_restart().await;
    let _worker = Native::start(&redis.url(), &[("ROLE", "worker")]).await;
    assert_eq!(result_of(&api.url(""), &receipt).await["outcome"], "done");
    until("the API to be ready again", || async { (get(&api.url("/readyz")).await.0 == 200).then_some(()) }).await;
}

#[tokio::test]
async fn a_consumer_outlives_redis() {
    let mut redis = Redis::start().await;
    let native = Native::start(&redis.url(), &[]).await;
    redis.stop();
    let (status, answer) = read(post(&native.url("/predict"), &body(&normal())).await).await;
    assert_eq!((status, &answer["prediction"]), (200, &json!("normal")), "synchronous answers need no Redis");
    let warned = |line: &Value| line["message"].as_str().is_some_and(|text| text.contains("queue cannot be used"));
    until("the warning", || async { native.log_lines().iter().any(warned).then_some(()) }).await;
    redis.crash_and_restart().await;
    let receipt = accepted_job(&native).await;
    assert_eq!(result_of(&native.url(""), &receipt).await["outcome"], "done");
}

#[tokio::test]
async fn an_entry_that_nobody_can_read_is_set_aside_as_dead() {
    let redis = Redis::start().await;
    let native = Native::start(&redis.url(), &[("LEASE_MS", "100"), ("MAX_ATTEMPTS", "1")]).await;
    let mut connection = redis.connection().await;
    let mut known = redis::cmd("SADD");
    let _: u32 = known.arg("ir:{pump-anomaly}:flows").arg("normal").query_async(&mut connection).await.unwrap();
    let mut command = redis::cmd("XADD");
    command.arg("ir:{pump-anomaly}:flow:normal").arg("*").arg("job").arg("not json").arg("features").arg("abc");
    let _: String = command.query_async(&mut connection).await.unwrap();
    let result = until("the dead entry", || async {
        let (_, results) = get(&native.url("/results?task=pump-anomaly")).await;
        (results["count"] == 1).then(|| results["results"][0].clone())
    })
    .await;
    assert_eq!(result["outcome"], "dead");
    let (_, receipt) = read(post(&native.url("/data"), &body(&normal())).await).await;
    assert_eq!(result_of(&native.url(""), &receipt).await["outcome"], "done", "the queue goes on");
}

#[tokio::test]
async fn a_redis_that_takes_no_writes_is_told_and_found_again() {
    let redis = Redis::start().await;
    let native = Native::start(&redis.url(), &[]).await;
    let mut admin = redis.connection().await;
    let set = |name: &'static str, value: &'static str| {
        let mut command = redis::cmd("CONFIG");
        command.arg("SET").arg(name).arg(value);
        command
    };
    let () = set("maxmemory", "1").query_async(&mut admin).await.unwrap();
    let (status, problem) = read(post(&native.url("/data"), &body(&normal())).await).await;
    assert_eq!((status, &problem["code"]), (503, &json!("queue-unavailable")));
    assert!(problem["detail"].as_str().unwrap().contains("refuses to write"), "{problem}");
    assert_eq!(get(&native.url("/readyz")).await.0, 503, "a ping would still be answered");
    let () = set("maxmemory", "0").query_async(&mut admin).await.unwrap();
    assert_eq!(get(&native.url("/readyz")).await.0, 200);
}

#[tokio::test]
async fn a_refused_password_is_not_for_ever() {
    let redis = Redis::start().await;
    let url = redis.url().replace("redis://", "redis://:secret@");
    let mut admin = redis.connection().await;
    let password = |value: &'static str| {
        let mut command = redis::cmd("CONFIG");
        command.arg("SET").arg("requirepass").arg(value);
        command
    };
    let () = password("secret").query_async(&mut admin).await.unwrap();
    let native = Native::start(&url, &[]).await;
    accepted_job(&native).await;
    // Changed while it runs: who is connected stays, who connects again is refused.
    let () = password("another").query_async(&mut admin).await.unwrap();
    let mut kill = redis::cmd("CLIENT");
    kill.arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"]);
    let _: u64 = kill.query_async(&mut admin).await.unwrap();
    until("the refusal", || async {
        (post(&native.url("/data"), &body(&normal())).await.status() == 503).then_some(())
    })
    .await;
    let () = password("secret").query_async(&mut admin).await.unwrap();
    let receipt = accepted_job(&native).await;
    assert_eq!(result_of(&native.url(""), &receipt).await["outcome"], "done");
}

#[tokio::test]
async fn an_expired_job_is_never_started() {
    let redis = Redis::start().await;
    let api = Native::start(&redis.url(), &[("ROLE", "api")]).await;
    let mut late = body(&normal());
    late["deadline_ms"] = json!(1);
    let (_, receipt) = read(post(&api.url("/data"), &late).await).await;
    let _worker = Native::start(&redis.url(), &[("ROLE", "worker")]).await;
    let result = result_of(&api.url(""), &receipt).await;
    assert_eq!((&result["outcome"], &result["prediction"]), (&json!("expired"), &Value::Null));
}

#[tokio::test]
async fn sigterm_drains_and_ends_with_success() {
    let redis = Redis::start().await;
    let native = Native::start(&redis.url(), &[]).await;
    let (_, receipt) = read(post(&native.url("/data"), &body(&normal())).await).await;
    result_of(&native.url(""), &receipt).await;
    let (status, last) = native.terminate().await;
    assert!(status.success(), "{status}");
    assert!(last.contains("\"stopped\""), "{last}");
}
