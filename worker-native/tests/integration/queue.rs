//! The queue's promises, one test each, against real Redis.

use std::collections::BTreeMap;

use worker_native::config::{Config, QueueConfig, Source};
use worker_native::queue::{Depths, Enqueued, Entry, Outcome, RedisQueue, ResultsFilter};
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
        decision: DecisionRecord::default(),
        accepted_at: 1,
        deadline_at: None,
        features: vec![1.5, -2.5],
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

    let stream_id = &claimed[0].stream_id;
    let settled =
        queue.settle(TASK, &first.job_id, "fast", stream_id, Outcome::Done, r#"{"finished_at":5}"#).await.unwrap();
    assert!(settled.first);
    assert_eq!(settled.depths, depths(&[("fast", 0), ("accurate", 1)]));
    assert_eq!(queue.job(TASK, &first.job_id).await.unwrap().unwrap().state, "done");
}

#[tokio::test]
async fn a_job_has_one_result_and_is_counted_off_once() {
    let redis = Redis::start().await;
    let queue = RedisQueue::open(&config(&redis, &[])).unwrap();
    let mut connection = queue.claim_connection().unwrap();
    let job = entry("fast");
    queue.claim(&mut connection, TASK, "c1").await.unwrap();
    queue.enqueue(&job).await.unwrap();
    let id = queue.claim(&mut connection, TASK, "c1").await.unwrap()[0].stream_id.clone();
    let settle = |json: &'static str| queue.settle(TASK, &job.job_id, "fast", &id, Outcome::Done, json);
    assert!(settle(r#"{"finished_at":1}"#).await.unwrap().first);
    let again = settle(r#"{"finished_at":2}"#).await.unwrap();
    assert!(!again.first);
    assert_eq!(again.depths, depths(&[("fast", 0)]));
    let filter = ResultsFilter { limit: 10, ..ResultsFilter::default() };
    let results = queue.results(&[TASK], &filter).await.unwrap();
    let texts: Vec<&str> = results.iter().map(|result| result.get()).collect();
    assert_eq!(texts, [r#"{"finished_at":1}"#]);
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
