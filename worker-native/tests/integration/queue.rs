//! The queue's promises, one test each, against real Redis.

use std::collections::BTreeMap;

use worker_native::config::{Config, QueueConfig, Source};
use worker_native::queue::{Claimed, Depths, Enqueued, Entry, Outcome, RedisQueue, ResultsFilter};
use worker_native::routing::DecisionRecord;

use crate::support::redis::Redis;
use crate::support::until;

const TASK: &str = "pump-anomaly";

fn config(redis: &Redis, settings: &[(&str, &str)]) -> QueueConfig {
    let mut env: BTreeMap<String, String> =
        settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    env.insert("REDIS_URL".to_owned(), redis.url());
    Config::read(Source::new(env, None).unwrap()).unwrap().queue
}

fn entry(lane: &str) -> Entry {
    Entry {
        job_id: Entry::new_id(TASK),
        request_id: "r".to_owned(),
        task: TASK.to_owned(),
        sensor_id: Some("s".to_owned()),
        timestamp: None,
        lane: lane.to_owned(),
        model: "m".to_owned(),
        model_version: 1,
        fallback: false,
        pinned: false,
        decision: DecisionRecord::default(),
        accepted_at: 1,
        deadline_at: None,
        input: shared::reading::Input::Features(vec![1.5, -2.5]),
    }
}

fn depths(pairs: &[(&str, u32)]) -> Depths {
    pairs.iter().map(|(lane, depth)| ((*lane).to_owned(), *depth)).collect()
}

#[tokio::test]
async fn an_accepted_job_is_claimed_once_whole_and_counted_until_it_is_settled() {
    let redis = Redis::start().await;
    let queue = RedisQueue::open(&config(&redis, &[])).unwrap();
    let mut connection = queue.claim_connection().unwrap();
    let (first, second) = (entry("fast"), entry("accurate"));
    assert_eq!(queue.enqueue(&first).await.unwrap(), Enqueued::Accepted(depths(&[("fast", 1)])));
    queue.enqueue(&second).await.unwrap();
    assert_eq!(queue.job(TASK, &first.job_id).await.unwrap().unwrap().state, "queued");

    // The first claim finds no group and makes it; what was there before is in it.
    assert!(queue.claim(&mut connection, TASK, "c1").await.unwrap().is_empty());
    let claimed = queue.claim(&mut connection, TASK, "c1").await.unwrap();
    let entries: Vec<&Entry> = claimed.iter().map(|job| job.entry.as_ref().unwrap()).collect();
    assert_eq!(entries, [&first, &second]);
    assert!(queue.claim(&mut connection, TASK, "c2").await.unwrap().is_empty(), "claimed once");
    assert_eq!(queue.depths(TASK).await.unwrap(), depths(&[("fast", 1), ("accurate", 1)]));

    let settled = queue.settle(TASK, &claimed[0], Outcome::Done, &result(&first, 5)).await.unwrap();
    assert!(settled.first);
    assert_eq!(settled.depths, depths(&[("fast", 0), ("accurate", 1)]));
    assert_eq!(queue.job(TASK, &first.job_id).await.unwrap().unwrap().state, "done");
}

#[tokio::test]
async fn a_job_has_one_result_and_is_counted_off_once() {
    let redis = Redis::start().await;
    let queue = RedisQueue::open(&config(&redis, &[])).unwrap();
    let (job, claimed) = claimed_job(&queue).await;
    assert!(queue.settle(TASK, &claimed, Outcome::Done, &result(&job, 1)).await.unwrap().first);
    // Also when the first result has expired in the meantime.
    let mut raw = redis.connection().await;
    let () = redis::cmd("DEL").arg(format!("ir:{{{TASK}}}:job:{}", job.job_id)).query_async(&mut raw).await.unwrap();
    let again = queue.settle(TASK, &claimed, Outcome::Done, &result(&job, 2)).await.unwrap();
    assert!(!again.first);
    assert_eq!(again.depths, depths(&[("fast", 0)]));
    assert_eq!(finished(&queue, &ResultsFilter { limit: 10, ..ResultsFilter::default() }).await, [1]);
}

#[tokio::test]
async fn a_group_lost_between_claim_and_settlement_costs_neither_result_nor_count() {
    let redis = Redis::start().await;
    let queue = RedisQueue::open(&config(&redis, &[])).unwrap();
    let (job, claimed) = claimed_job(&queue).await;
    let mut destroy = redis::cmd("XGROUP");
    destroy.arg("DESTROY").arg(format!("ir:{{{TASK}}}:stream")).arg("consumers");
    let _: i64 = destroy.query_async(&mut redis.connection().await).await.unwrap();
    let settled = queue.settle(TASK, &claimed, Outcome::Done, &result(&job, 1)).await.unwrap();
    assert_eq!((settled.first, settled.depths), (true, depths(&[("fast", 0)])));
}

#[tokio::test]
async fn a_job_given_back_is_not_charged_with_a_start() {
    let redis = Redis::start().await;
    let queue = RedisQueue::open(&config(&redis, &[("LEASE_MS", "100")])).unwrap();
    let (_, mut claimed) = claimed_job(&queue).await;
    for _ in 0..2 {
        assert_eq!(claimed.attempt, 1);
        queue.give_back(TASK, "c1", &claimed).await.unwrap();
        claimed = until("the end of the lease", || async { queue.reclaim(TASK, "c1").await.unwrap().pop() }).await;
    }
    // Not given back: the next claim is a second start.
    let taken = until("the end of the lease", || async { queue.reclaim(TASK, "c1").await.unwrap().pop() }).await;
    assert_eq!(taken.attempt, 2);
}

#[tokio::test]
async fn a_late_settlement_hides_no_newer_result() {
    let redis = Redis::start().await;
    let queue = RedisQueue::open(&config(&redis, &[])).unwrap();
    let mut connection = queue.claim_connection().unwrap();
    queue.claim(&mut connection, TASK, "c1").await.unwrap();
    // The last one was run long before it could be stored.
    for finished_at in [1_000_100, 1_000_200, 1_000_300, 1_000_000] {
        let job = entry("fast");
        queue.enqueue(&job).await.unwrap();
        let claimed = queue.claim(&mut connection, TASK, "c1").await.unwrap().remove(0);
        queue.settle(TASK, &claimed, Outcome::Done, &result(&job, finished_at)).await.unwrap();
    }
    let since = ResultsFilter { limit: 10, since: Some(1_000_200), ..ResultsFilter::default() };
    assert_eq!(finished(&queue, &since).await, [1_000_300, 1_000_200]);
}

#[tokio::test]
async fn a_consumer_that_ends_leaves_the_group_unless_it_holds_jobs() {
    let redis = Redis::start().await;
    let queue = RedisQueue::open(&config(&redis, &[])).unwrap();
    let mut connection = queue.claim_connection().unwrap();
    for name in ["idle", "busy"] {
        queue.claim(&mut connection, TASK, name).await.unwrap();
        queue.claim(&mut connection, TASK, name).await.unwrap();
    }
    queue.enqueue(&entry("fast")).await.unwrap();
    assert_eq!(queue.claim(&mut connection, TASK, "busy").await.unwrap().len(), 1);
    queue.leave(TASK, "idle").await.unwrap();
    queue.leave(TASK, "busy").await.unwrap();
    let mut info = redis::cmd("XINFO");
    info.arg("CONSUMERS").arg(format!("ir:{{{TASK}}}:stream")).arg("consumers");
    let left: Vec<BTreeMap<String, redis::Value>> = info.query_async(&mut redis.connection().await).await.unwrap();
    let names: Vec<String> = left.iter().map(|one| redis::from_redis_value_ref(&one["name"]).unwrap()).collect();
    assert_eq!(names, ["busy"]);
}

/// One job, handed in and claimed by `c1`.
async fn claimed_job(queue: &RedisQueue) -> (Entry, Claimed) {
    let mut connection = queue.claim_connection().unwrap();
    let job = entry("fast");
    // The first claim makes the group.
    queue.claim(&mut connection, TASK, "c1").await.unwrap();
    queue.enqueue(&job).await.unwrap();
    let claimed = queue.claim(&mut connection, TASK, "c1").await.unwrap().remove(0);
    (job, claimed)
}

/// A stored result, as far as the listing looks at it.
fn result(job: &Entry, finished_at: u64) -> String {
    serde_json::json!({"job_id": job.job_id, "finished_at": finished_at}).to_string()
}

/// The finishing times of the results listed.
async fn finished(queue: &RedisQueue, filter: &ResultsFilter) -> Vec<u64> {
    let results = queue.results(&[TASK], filter).await.unwrap();
    let values = results.iter().map(|result| serde_json::from_str::<serde_json::Value>(result.get()).unwrap());
    values.map(|value| value["finished_at"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn a_full_queue_takes_nothing_more() {
    let redis = Redis::start().await;
    let queue = RedisQueue::open(&config(&redis, &[("QUEUE_MAX_DEPTH", "2")])).unwrap();
    queue.enqueue(&entry("fast")).await.unwrap();
    queue.enqueue(&entry("accurate")).await.unwrap();
    let third = entry("fast");
    assert_eq!(queue.enqueue(&third).await.unwrap(), Enqueued::Full { depth: 2 });
    assert!(queue.job(TASK, &third.job_id).await.unwrap().is_none(), "nothing was stored");
}

#[tokio::test]
async fn an_unsettled_job_goes_to_another_consumer_after_its_lease_and_counts_its_starts() {
    let redis = Redis::start().await;
    let patient = RedisQueue::open(&config(&redis, &[("LEASE_MS", "3600000")])).unwrap();
    let queue = RedisQueue::open(&config(&redis, &[("LEASE_MS", "100")])).unwrap();
    let mut connection = queue.claim_connection().unwrap();
    queue.claim(&mut connection, TASK, "c1").await.unwrap();
    queue.enqueue(&entry("fast")).await.unwrap();
    let claimed = queue.claim(&mut connection, TASK, "c1").await.unwrap();
    assert_eq!(claimed[0].attempt, 1);
    assert!(patient.reclaim(TASK, "c2").await.unwrap().is_empty(), "the lease is not over");
    let taken = until("the end of the lease", || async {
        let mut taken = queue.reclaim(TASK, "c2").await.unwrap();
        taken.pop()
    })
    .await;
    assert_eq!((taken.attempt, &taken.stream_id), (2, &claimed[0].stream_id));
}

#[tokio::test]
async fn after_a_loss_of_all_data_the_group_is_made_again() {
    let redis = Redis::start().await;
    let queue = RedisQueue::open(&config(&redis, &[])).unwrap();
    let mut connection = queue.claim_connection().unwrap();
    queue.claim(&mut connection, TASK, "c1").await.unwrap();
    let () = redis::cmd("FLUSHALL").query_async(&mut redis.connection().await).await.unwrap();
    assert!(queue.reclaim(TASK, "c1").await.unwrap().is_empty());
    queue.enqueue(&entry("fast")).await.unwrap();
    let claimed = until("the job", || {
        let mut connection = queue.claim_connection().unwrap();
        let queue = &queue;
        async move { queue.claim(&mut connection, TASK, "c1").await.unwrap().pop() }
    })
    .await;
    assert_eq!(claimed.attempt, 1);
}
