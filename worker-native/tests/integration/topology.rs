//! Redis as sentinels and clusters give it, and over TLS: the same service, with another `REDIS_URL`.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::native::Native;
use crate::support::readings::{body, get, normal, post, read, result_of};
use crate::support::redis::Redis;
use crate::support::redis_cluster::RedisCluster;
use crate::support::redis_sentinel::RedisSentinel;
use crate::support::until;

/// Hands a reading in, again where the queue is away; gives the receipt.
async fn accepted(native: &Native) -> Value {
    until("an accepted job", || async {
        let (status, receipt) = read(post(&native.url("/data"), &body(&normal())).await).await;
        (status == 202).then_some(receipt)
    })
    .await
}

/// Every accepted job has one result, `done`. A job whose answer was lost on the way (503) may be there as well.
async fn all_settled_once(native: &Native, receipts: &[Value]) {
    for receipt in receipts {
        assert_eq!(result_of(&native.url(""), receipt).await["outcome"], "done");
    }
    let ids = |list: &[Value]| list.iter().map(|one| one["job_id"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    let (_, shown) = get(&native.url("/results?limit=1000")).await;
    let shown = ids(shown["results"].as_array().unwrap());
    let once: BTreeSet<&String> = shown.iter().collect();
    assert_eq!(once.len(), shown.len(), "one visible result each");
    let missing: Vec<String> = ids(receipts).into_iter().filter(|id| !once.contains(id)).collect();
    assert!(missing.is_empty(), "accepted, and not in the history: {missing:?}");
}

/// Nothing is on the books that is not in the queue.
async fn books_are_empty(native: &Native) {
    until("an empty backlog", || async {
        let (_, load) = get(&native.url("/v1/snapshot")).await;
        load["tasks"].as_array().unwrap().iter().all(|task| task["depth"] == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_cluster_takes_jobs_and_gives_their_results() {
    let mut cluster = RedisCluster::start().await;
    let native = Native::start(&cluster.url(), &[("CACHE_BACKEND", "redis"), ("CACHE_REDIS_WORTH_US", "0")]).await;
    let mut receipts = Vec::new();
    for _ in 0..20 {
        receipts.push(accepted(&native).await);
    }
    cluster.crash_and_restart().await;
    receipts.push(accepted(&native).await);
    all_settled_once(&native, &receipts).await;
    let held = cluster.sizes().await;
    assert!(held.iter().filter(|keys| **keys > 0).count() > 1, "tasks share the masters: {held:?}");
    let (status, health) = get(&native.url("/readyz")).await;
    assert_eq!((status, &health["queue"]["writable"]), (200, &json!(true)));
}

#[tokio::test]
async fn every_master_of_a_cluster_that_holds_a_task_is_asked_whether_it_takes_jobs() {
    let cluster = RedisCluster::start().await;
    let native = Native::start(&cluster.url(), &[("ROLE", "api")]).await;
    let (_, load) = get(&native.url("/v1/snapshot")).await;
    let tasks: Vec<&str> =
        load["tasks"].as_array().unwrap().iter().map(|task| task["task"].as_str().unwrap()).collect();
    assert!(tasks.len() > 1, "{load}");
    for task in tasks {
        for (limit, status) in [("1", 503), ("0", 200)] {
            cluster.configure_master_of(&format!("ir:{{{task}}}:"), "maxmemory", limit).await;
            assert_eq!(get(&native.url("/readyz")).await.0, status, "the master of {task} with a maxmemory of {limit}");
        }
    }
}

#[tokio::test]
async fn a_slot_that_moves_to_another_master_loses_no_job() {
    let cluster = RedisCluster::start().await;
    let api = Native::start(&cluster.url(), &[("ROLE", "api")]).await;
    let mut receipts = Vec::new();
    for _ in 0..50 {
        receipts.push(accepted(&api).await);
    }
    let _worker = Native::start(&cluster.url(), &[("ROLE", "worker"), ("LEASE_MS", "500")]).await;
    for _ in 0..3 {
        let moved = cluster.move_slot_of("ir:{pump-anomaly}:");
        let handed_in = async {
            for _ in 0..20 {
                receipts.push(accepted(&api).await);
            }
        };
        tokio::join!(moved, handed_in);
    }
    all_settled_once(&api, &receipts).await;
    books_are_empty(&api).await;
}

#[tokio::test]
async fn a_failover_under_sentinels_is_followed_and_loses_no_replicated_job() {
    let mut redis = RedisSentinel::start().await;
    let native = Native::start(&redis.url(), &[("LEASE_MS", "500")]).await;
    let mut receipts = Vec::new();
    for _ in 0..30 {
        receipts.push(accepted(&native).await);
    }
    let mut wait = redis::cmd("WAIT");
    wait.arg(2).arg(5_000);
    let replicas: u32 = wait.query_async(&mut redis.master().await).await.unwrap();
    assert_eq!(replicas, 2, "replication is asynchronous: what follows is about jobs that the replicas have");

    redis.fail_over().await;
    let since = Instant::now();
    receipts.push(accepted(&native).await);
    assert!(since.elapsed() < Duration::from_secs(10), "resumed after {:?}", since.elapsed());
    all_settled_once(&native, &receipts).await;
    books_are_empty(&native).await;
}

#[tokio::test]
async fn tls_with_a_certificate_of_ones_own_works_and_a_stranger_s_is_refused() {
    let redis = Redis::start_tls().await;
    let native = Native::start(&redis.tls_url(), &[("CACHE_BACKEND", "redis")]).await;
    let receipt = accepted(&native).await;
    assert_eq!(result_of(&native.url(""), &receipt).await["outcome"], "done");

    // Without its authority named, the certificate is nobody's.
    let url = redis.tls_url();
    let stranger = Native::start(url.split_once('?').unwrap().0, &[]).await;
    assert_eq!(get(&stranger.url("/readyz")).await.0, 503);
    assert_eq!(post(&stranger.url("/data"), &body(&normal())).await.status(), 503);
}
