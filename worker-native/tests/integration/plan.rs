//! `slack-split` on the real stack: the plan follows the load, workers look at jobs again, modes are told.

use std::sync::Arc;

use serde_json::{Value, json};
use worker_native::config::{Config, Source};
use worker_native::queue::Queue;

use crate::support::edge::Edge;
use crate::support::native::Native;
use crate::support::readings::{get, post, read, result_of};
use crate::support::redis::Redis;
use crate::support::until;

// The tiers of this one differ in accuracy; where they do not, the cheap one is best.
const TASK: &str = "hydraulic-accumulator";

fn reading(deadline_ms: Option<u64>) -> Value {
    json!({"task": TASK, "features": crate::engine::sample(TASK, "ridge"), "deadline_ms": deadline_ms})
}

/// The queue, as another process would open it.
fn queue_on(redis: &Redis) -> Arc<dyn Queue> {
    let env = [("REDIS_URL".to_owned(), redis.url())].into_iter().collect();
    let config = Config::read(Source::new(env, None).unwrap()).unwrap();
    worker_native::queue::open(&config.queue).unwrap()
}

/// Says, as a worker would that measured it, how long runs of a tier take: microseconds, by the size of the batch.
async fn tell_profile(redis: &Redis, tier: &str, profile: &str) {
    let queue = queue_on(redis);
    queue.set_fact(TASK, "profile", tier, Some(profile)).await.unwrap();
}

/// Hands readings in at once, with a second to answer; gives the receipts.
async fn burst(url: &str, readings: usize) -> Vec<Value> {
    let (client, reading) = (reqwest::Client::new(), reading(Some(1_000)));
    let hand_in = || async { read(client.post(url).json(&reading).send().await.unwrap()).await.1 };
    futures_util::future::join_all((0..readings).map(|_| hand_in())).await
}

async fn plan_of(native: &Native) -> Value {
    let (_, snapshot) = get(&native.url("/v1/snapshot")).await;
    let tasks = snapshot["tasks"].as_array().unwrap();
    tasks.iter().find(|task| task["task"] == TASK).map(|task| task["plan"].clone()).unwrap()
}

#[tokio::test]
async fn a_burst_shifts_the_plan_to_fast_and_its_end_shifts_it_back() {
    let redis = Redis::start().await;
    // Nobody works at first, and what a worker would need is told: a burst is then the same on every machine.
    tell_profile(&redis, "fast", "1000:800:0:8").await;
    tell_profile(&redis, "accurate", "4000:5000:0:8").await;
    let api = Native::start(&redis.url(), &[("ROLE", "api")]).await;
    let edge = Edge::start(api.port, &[]);
    let first = read(post(&edge.url("/data"), &reading(Some(1_000))).await).await.1;
    assert_eq!((&first["tier"], &first["decision"]["reason"]), (&json!("accurate"), &json!("split_dear")), "{first}");

    let plan = until("a plan that spares the accurate tier", || async {
        burst(&edge.url("/data"), 40).await;
        let plan = plan_of(&api).await;
        (plan["share"].as_f64().unwrap() < 0.5).then_some(plan)
    })
    .await;
    let fast = until("a reading for the fast tier", || async {
        let receipts = burst(&edge.url("/data"), 5).await;
        receipts.into_iter().find(|receipt| receipt["tier"] == "fast" && receipt["decision"]["by"] == "edge")
    })
    .await;
    let reason = fast["decision"]["reason"].as_str().unwrap();
    assert!(["split_cheap", "deadline_tight", "price_high", "saturated"].contains(&reason), "{fast}");
    assert_eq!((&plan["lower"], &plan["policy"]), (&json!("fast"), &json!("slack-split")));

    let _worker = Native::start(&redis.url(), &[("ROLE", "worker")]).await;
    until("the plan of an idle task", || async {
        let plan = plan_of(&api).await;
        (plan["share"].as_f64().unwrap() > 0.95 && plan["upper"] == "accurate").then_some(())
    })
    .await;
    until("an accurate answer again", || async {
        let (_, receipt) = read(post(&edge.url("/data"), &reading(None)).await).await;
        (receipt["tier"] == "accurate" && receipt["decision"]["by"] == "edge").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_worker_looks_at_queued_jobs_again_and_the_backlog_stays_exact() {
    let redis = Redis::start().await;
    let api = Native::start(&redis.url(), &[("ROLE", "api")]).await;
    // Of this task the accurate model takes longer on every machine.
    let valve = |more: Value| {
        let features = crate::engine::sample("hydraulic-valve", "logreg");
        let mut body = json!({"task": "hydraulic-valve", "features": features});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let mut receipts = Vec::new();
    for _ in 0..6 {
        receipts.push(read(post(&api.url("/data"), &valve(json!({"deadline_ms": 600_000}))).await).await.1);
    }
    // What the caller asked for by name stays.
    let pinned = valve(json!({"model_name": "accurate"}));
    let pinned = read(post(&api.url("/data"), &pinned).await).await.1;
    assert!(receipts.iter().all(|receipt| receipt["tier"] == "accurate"), "{receipts:?}");
    let statement = json!({"task": "hydraulic-valve", "model": "accurate", "accuracy": 0.3});
    assert_eq!(post(&api.url("/feedback"), &statement).await.status().as_u16(), 200);

    let worker = Native::start(&redis.url(), &[("ROLE", "worker")]).await;
    for receipt in &receipts {
        let result = result_of(&api.url(""), receipt).await;
        assert_eq!((&result["outcome"], &result["tier"]), (&json!("done"), &json!("fast")), "{result}");
        assert_eq!(result["hinted_tier"], "accurate");
        assert_ne!(result["model"], receipt["model"]);
    }
    let result = result_of(&api.url(""), &pinned).await;
    assert_eq!((&result["outcome"], &result["tier"]), (&json!("done"), &json!("accurate")), "{result}");
    // Settled under the lane they were accepted with: nothing is left over in any.
    until("an empty backlog", || async {
        let (_, snapshot) = get(&api.url("/v1/snapshot")).await;
        let tasks = snapshot["tasks"].as_array().unwrap();
        tasks.iter().all(|task| task["depth"] == 0).then_some(())
    })
    .await;
    let metrics = reqwest::get(worker.url("/metrics")).await.unwrap().text().await.unwrap();
    let bound = r#"router_bound_jobs_total{task="hydraulic-valve",hinted="accurate",tier="fast"} 6"#;
    assert!(metrics.contains(bound), "{metrics}");
}

#[tokio::test]
async fn a_job_that_nothing_can_do_in_time_is_not_started() {
    let redis = Redis::start().await;
    // As if the machine had been slow: the first picture of a worker is what it measured itself, so the deadline is one
    // that no machine keeps.
    let api = Native::start(&redis.url(), &[("ROLE", "api")]).await;
    let hopeless = read(post(&api.url("/data"), &reading(Some(1))).await).await.1;
    let fine = read(post(&api.url("/data"), &reading(Some(600_000))).await).await.1;
    let _worker = Native::start(&redis.url(), &[("ROLE", "worker")]).await;
    let expired = result_of(&api.url(""), &hopeless).await;
    assert_eq!((&expired["outcome"], &expired["attempts"]), (&json!("expired"), &json!(0)), "{expired}");
    assert_eq!(result_of(&api.url(""), &fine).await["outcome"], "done");
}

#[tokio::test]
async fn every_process_publishes_the_same_plan() {
    let redis = Redis::start().await;
    tell_profile(&redis, "fast", "1000:800:0:8").await;
    tell_profile(&redis, "accurate", "4000:5000:0:8").await;
    let one = Native::start(&redis.url(), &[("ROLE", "api")]).await;
    let other = Native::start(&redis.url(), &[("ROLE", "api")]).await;
    until("a split, which one process alone has the readings for", || async {
        burst(&one.url("/data"), 40).await;
        let (here, there) = (plan_of(&one).await, plan_of(&other).await);
        let share = |plan: &Value| plan["share"].as_f64().unwrap();
        (share(&here) < 0.9 && (share(&here) - share(&there)).abs() < 0.02).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_plan_is_made_on_when_its_maker_is_gone() {
    let redis = Redis::start().await;
    let queue = queue_on(&redis);
    // Which run of which process made it.
    let maker = || async {
        let facts = queue.facts(TASK, "routing").await.unwrap();
        let plan = facts.into_iter().find(|(field, _)| field == "plan")?.1;
        Some(shared::snapshot::Snapshot::from_text(&plan).unwrap().boot)
    };
    let one = Native::start(&redis.url(), &[("ROLE", "api")]).await;
    let first = until("a plan", maker).await;
    let _other = Native::start(&redis.url(), &[("ROLE", "api")]).await;
    let lines = || async {
        let facts = queue.facts("*", "routing").await.unwrap();
        let lines: Vec<_> = facts.iter().filter(|(field, _)| field.starts_with("process.")).collect();
        (lines.len() == 2).then_some(())
    };
    until("both to tell of themselves", lines).await;
    assert_eq!(maker().await, Some(first), "who came second follows");
    drop(one);
    until("a plan of the other", || async { maker().await.filter(|boot| *boot != first) }).await;
}

#[tokio::test]
async fn the_edges_mode_and_numbers_are_kept_with_the_job() {
    let redis = Redis::start().await;
    tell_profile(&redis, "fast", "1000:800:0:8").await;
    tell_profile(&redis, "accurate", "4000:5000:0:8").await;
    let api = Native::start(&redis.url(), &[("ROLE", "api")]).await;
    let request = reqwest::Client::new().post(api.url("/data")).json(&reading(Some(600_000)));
    let request = request.header("x-route", "fast").header("x-route-reason", "split_cheap");
    let request = request.header("x-route-mode", "1").header("x-route-propensity", "7500");
    let request = request.header("x-route-share", "2500").header("x-route-snapshot-age-ms", "1900");
    let (status, receipt) = read(request.send().await.unwrap()).await;
    assert_eq!(status, 202, "{receipt}");
    let decision = &receipt["decision"];
    assert_eq!((&decision["by"], &decision["mode"]), (&json!("edge"), &json!("stale")), "{receipt}");
    assert_eq!((&decision["share"], &decision["snapshot_age_ms"]), (&json!(0.25), &json!(1_900)));
    assert_eq!(decision["propensity"], 0.75);
    let metrics = reqwest::get(api.url("/metrics")).await.unwrap().text().await.unwrap();
    assert!(metrics.contains(r#"router_mode{task="hydraulic-accumulator",mode="normal"} 1"#), "{metrics}");
}
