//! Results as files, and a listing that stands still while results come.

use serde_json::Value;
use worker_native::config::{Config, Source};
use worker_native::queue::{JobBook, JobQueue, Outcome, RedisQueue, Settlement};

use super::{api, delete, hand_in, path, reading};
use crate::support::native::Native;
use crate::support::readings::{get, header, result_of};
use crate::support::redis::Redis;

async fn file(native: &Native, query: &str) -> (String, String) {
    let response = reqwest::get(native.url(&format!("/results?{query}"))).await.unwrap();
    assert_eq!(response.status(), 200);
    (header(&response, "content-type").unwrap(), response.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn results_are_exported_in_every_format() {
    let redis = Redis::start().await;
    let native = Native::start(&redis.url(), &[]).await;
    for i in 0..12 {
        let mut body = reading();
        body["sensor_id"] = format!("pump-{}", i % 3).into();
        let receipt = hand_in(&native, &body).await;
        result_of(&native.url(""), &receipt).await;
    }
    let (kind, text) = file(&native, "format=ndjson").await;
    assert_eq!(kind, "application/x-ndjson");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 12);
    assert!(lines.windows(2).all(|pair| pair[0]["finished_at"].as_u64() >= pair[1]["finished_at"].as_u64()));
    let (kind, text) = file(&native, "format=json&sensor_id=pump-1").await;
    assert_eq!(kind, "application/json");
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&document["count"], document["results"].as_array().unwrap().len()), (&4.into(), 4));
    let (kind, text) = file(&native, "format=csv&limit=5&task=pump-anomaly").await;
    assert!(kind.starts_with("text/csv"), "{kind}");
    let mut table = csv::Reader::from_reader(text.as_bytes());
    let head = table.headers().unwrap().clone();
    let rows: Vec<csv::StringRecord> = table.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 5);
    let cell = |name: &str| &rows[0][head.iter().position(|column| column == name).unwrap()];
    assert_eq!((cell("outcome"), cell("task"), cell("prediction")), ("done", "pump-anomaly", "normal"));
    assert_eq!(cell("job_id"), lines[0]["job_id"].as_str().unwrap());
    assert_eq!(file(&native, "format=ndjson&outcome=dead").await.1, "");
    let since = lines[3]["finished_at"].as_u64().unwrap();
    let (_, text) = file(&native, &format!("format=ndjson&since={since}")).await;
    assert!((4..=12).contains(&text.lines().count()), "{text}");
    let (status, problem) = get(&native.url("/results?format=ndjson&limit=10001")).await;
    assert_eq!(status, 400, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("limit (1 to 10000)"), "{problem}");
}

#[tokio::test]
async fn an_export_without_redis_is_refused_before_it_begins() {
    let mut redis = Redis::start().await;
    let native = api(&redis, &[]).await;
    let receipt = hand_in(&native, &reading()).await;
    assert_eq!(delete(&native.url(path(&receipt))).await.0, 200);
    redis.stop();
    let (status, problem) = get(&native.url("/results?format=csv")).await;
    assert_eq!((status, problem["code"].as_str()), (503, Some("queue-unavailable")));
}

#[tokio::test]
async fn a_listing_tells_each_result_once_while_others_come() {
    const TASK: &str = "pump-anomaly";
    let redis = Redis::start().await;
    let native = api(&redis, &[("REDIS_TIMEOUT_MS", "10000")]).await;
    // A busy disk must not make Redis look as if it were away.
    let env = [("REDIS_URL", redis.url()), ("REDIS_TIMEOUT_MS", "10000".to_owned())];
    let env = env.map(|(name, value)| (name.to_owned(), value)).into();
    let queue = RedisQueue::open(&Config::read(Source::new(env, None).unwrap()).unwrap().queue).unwrap();
    let settle = async |count: usize| {
        let mut ids = Vec::new();
        for _ in 0..count {
            hand_in(&native, &reading()).await;
            let claimed = queue.claim(TASK, "c", 1).await.unwrap();
            let ticket = claimed[0].ticket.clone();
            let result = format!(r#"{{"job_id":"{}","outcome":"done","finished_at":1}}"#, ticket.job_id);
            ids.push(ticket.job_id.clone());
            let settlement = Settlement { ticket, outcome: Outcome::Done, result, awaited: false, failures: vec![] };
            queue.settle(TASK, vec![settlement]).await.unwrap();
        }
        ids
    };
    let mut there: Vec<String> = settle(14).await;
    // None, fewer, as many and more than a page come between two pages.
    for arrivals in [0, 1, 4, 9] {
        let (mut mark, mut told, mut new) = (None, Vec::new(), Vec::new());
        loop {
            let page = queue.results_page(TASK, mark.as_ref(), 4).await.unwrap();
            assert!(page.results.len() <= 4);
            told.extend(page.results.iter().map(|result| {
                let result: Value = serde_json::from_str(result.get()).unwrap();
                result["job_id"].as_str().unwrap().to_owned()
            }));
            mark = page.next;
            if mark.is_none() {
                break;
            }
            new.extend(settle(arrivals).await);
        }
        told.reverse();
        assert_eq!(told, there, "with {arrivals} between two pages: each once, and the newest first");
        there.extend(new);
    }
}
