//! A roll-back reaches other processes and later ones, through real Redis.

use std::collections::BTreeMap;

use tokio_util::task::TaskTracker;
use worker_native::config::{Config, Source};
use worker_native::queue::{Facts, RedisQueue};
use worker_native::rollout::plan::{Canary, Limits, RolloutConfig};
use worker_native::rollout::{FACTS, ModelVersions, Rollout, Run};

use crate::support::redis::Redis;

const TASK: &str = "pump-anomaly";

fn queue(redis: &Redis) -> RedisQueue {
    let env = BTreeMap::from([("REDIS_URL".to_owned(), redis.url())]);
    RedisQueue::open(&Config::read(Source::new(env, None).unwrap()).unwrap().queue).unwrap()
}

/// The rollout of one process.
fn process() -> Rollout {
    let model =
        ModelVersions { task: TASK.to_owned(), model: "m".to_owned(), versions: vec![1, 2], default_version: 1 };
    let canary = Canary { version: 2, percent: 50.0, limits: Limits::default() };
    let config = RolloutConfig { canary: Some(canary), ..RolloutConfig::default() };
    Rollout::new(&model, &config, &TaskTracker::new())
}

/// What the feed does at every refresh.
async fn refresh(queue: &RedisQueue, rollout: &Rollout) {
    let stored: BTreeMap<String, String> = queue.facts(TASK, FACTS).await.unwrap().into_iter().collect();
    let field = rollout.fact_field().unwrap();
    if let Some(text) = rollout.reconcile(stored.get(&field).map(String::as_str)).unwrap() {
        queue.set_fact(TASK, FACTS, &field, Some(&text)).await.unwrap();
    }
}

fn in_traffic(rollout: &Rollout) -> bool {
    (0..100).any(|key| rollout.assign(&format!("s{key}")).version == 2)
}

#[tokio::test]
async fn a_canary_that_fails_in_one_process_leaves_all_and_stays_out_after_a_restart() {
    let mut redis = Redis::start().await;
    let (one, other) = (process(), process());
    refresh(&queue(&redis), &one).await;
    assert!(in_traffic(&one) && in_traffic(&other));

    let rollout = &one;
    let gone = (0..5_000_u64).find_map(|index| {
        let assignment = rollout.assign(&format!("s{index}"));
        let run = if assignment.version == 2 { Run::Failed } else { Run::Ended { ms: 1.0 } };
        rollout.ran(&assignment, run, index)
    });
    assert!(gone.unwrap().reason.contains("failed runs"));
    refresh(&queue(&redis), &one).await;
    refresh(&queue(&redis), &other).await;
    assert!(!in_traffic(&one) && !in_traffic(&other));

    redis.crash_and_restart().await;
    let later = process();
    let queue = queue(&redis);
    refresh(&queue, &later).await;
    assert!(!in_traffic(&later), "the roll-back outlives processes and Redis");

    later.resume(1).unwrap();
    refresh(&queue, &later).await;
    refresh(&queue, &one).await;
    assert!(in_traffic(&later) && in_traffic(&one));
}
