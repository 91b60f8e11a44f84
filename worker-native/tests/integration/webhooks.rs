//! A job's result reaches whoever asked for it, signed, also past a killed process.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use axum::body::Body;
use axum::response::Response;
use serde_json::{Value, json};
use shared::reading::Input;
use worker_native::config::{Config, Source};
use worker_native::queue::{Enqueued, Entry, JobBook, JobQueue, NewJob, RedisQueue};

use crate::support::native::Native;
use crate::support::origin::{Origin, Seen};
use crate::support::proxy::HoldingProxy;
use crate::support::redis::Redis;
use crate::support::{root, tool, until};

const TASK: &str = "pump-anomaly";
const SECRETS: [&str; 2] = ["whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"];
const WRONG: &str = "whsec_bm90IHRoZSBzZWNyZXQgb2YgdGhpcyB0ZXN0";

fn queue(redis: &Redis) -> RedisQueue {
    // A busy disk must not make Redis look as if it were away.
    let env = [("REDIS_URL", redis.url()), ("REDIS_TIMEOUT_MS", "10000".to_owned())];
    let env = env.map(|(name, value)| (name.to_owned(), value)).into();
    RedisQueue::open(&Config::read(Source::new(env, None).unwrap()).unwrap().queue).unwrap()
}

/// A service that may call loopback.
async fn service(redis_url: &str, secrets: &str) -> Native {
    let settings = [
        ("WEBHOOK_SECRET", secrets),
        ("WEBHOOK_ALLOW_HTTP", "true"),
        ("WEBHOOK_ALLOW_PRIVATE", "true"),
        // With it goes the lease of a callback, which a test waits for.
        ("WEBHOOK_TIMEOUT_MS", "2000"),
        // Nothing listens there: whoever asked it would deliver nothing.
        ("HTTP_PROXY", "http://127.0.0.1:1"),
        ("http_proxy", "http://127.0.0.1:1"),
        ("ALL_PROXY", "http://127.0.0.1:1"),
    ];
    Native::start(redis_url, &settings).await
}

/// Is it a message of that job's? Its id goes on with the time of the ending.
fn is_of(seen: &Seen, job_id: &str) -> bool {
    let ending = seen.header("webhook-id").and_then(|id| id.strip_prefix(job_id)?.strip_prefix('.'));
    ending.is_some_and(|ending| ending.parse::<u64>().is_ok())
}

/// Hands a job in whose result is to be sent there; gives its id.
async fn hand_in(queue: &RedisQueue, url: &str) -> String {
    let input = Input::Features(vec![45.3, 2.8, 6.5, 152.0, 87.5, 0.75, 0.0]);
    let entry = Entry::new(TASK, "fast", ("isolation_forest", 1), input);
    let entry = Entry { callback: Some(url.to_owned()), ..entry };
    let job_id = entry.job_id.clone();
    let accepted = queue.enqueue(TASK, vec![NewJob { entry, left: None, room: None, once: None }]).await.unwrap();
    assert!(matches!(accepted[..], [Enqueued::Accepted(_)]), "{accepted:?}");
    job_id
}

async fn receiver() -> Origin {
    Origin::start(|_| Response::builder().status(204).body(Body::empty()).unwrap()).await
}

/// What is noted of a job's callback, once it begins so.
async fn noted(queue: &RedisQueue, job_id: &str, beginning: &str) -> String {
    until("the callback's note", || async {
        let state = queue.job(TASK, job_id).await.unwrap()?;
        state.callback.filter(|note| note.starts_with(beginning))
    })
    .await
}

fn verify(seen: &Seen, secrets: &[&str]) {
    let headers: BTreeMap<_, _> =
        seen.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    let body = std::str::from_utf8(&seen.body).unwrap();
    let given = json!({"headers": headers, "body": body, "secrets": secrets, "wrong": WRONG});
    let script = root().join("worker-native/tests/python/verify_webhook.py");
    let mut command = Command::new(tool("WEBHOOKS_PYTHON"));
    command.arg(script).env("PYTHONDONTWRITEBYTECODE", "1");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let started = command.spawn();
    let mut child = started.unwrap_or_else(|error| panic!("{command:?}: {error}; script/bootstrap standardwebhooks"));
    child.stdin.take().unwrap().write_all(given.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{error}");
    assert_eq!(out.lines().filter(|line| line.starts_with("PASS ")).count(), 2 * secrets.len() + 1, "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reference_library_accepts_a_callback_and_nothing_else() {
    let redis = Redis::start().await;
    let (queue, receiver) = (queue(&redis), receiver().await);
    let native = service(&redis.url(), &SECRETS.join(",")).await;
    let job_id = hand_in(&queue, &format!("http://127.0.0.1:{}/hook", receiver.port)).await;
    assert_eq!(noted(&queue, &job_id, "delivered").await, "delivered: status 204, try 1");
    let seen = receiver.seen();
    let [seen] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("POST", "/hook"));
    assert!(is_of(seen, &job_id), "{seen:?}");
    tokio::task::block_in_place(|| verify(seen, &SECRETS));

    let event: Value = serde_json::from_slice(&seen.body).unwrap();
    let (_, job) = crate::support::readings::get(&native.url(&format!("/v1/jobs/{job_id}"))).await;
    assert_eq!(event["type"], "job.done", "{event}");
    assert_eq!(event["data"], job["result"]);
    let metrics = reqwest::get(native.url("/metrics")).await.unwrap().text().await.unwrap();
    let series = r#"router_webhook_tries_total{task="pump-anomaly",outcome="delivered"} 1"#;
    assert!(metrics.contains(series), "{metrics}");
}

#[tokio::test]
async fn a_process_that_cannot_sign_leaves_callbacks_to_one_that_can() {
    let redis = Redis::start().await;
    let (queue, receiver) = (queue(&redis), receiver().await);
    let _unsigned = service(&redis.url(), "").await;
    let job_id = hand_in(&queue, &format!("http://127.0.0.1:{}/", receiver.port)).await;
    until("the result", || async { queue.job(TASK, &job_id).await.unwrap()?.result }).await;
    let _signing = service(&redis.url(), SECRETS[0]).await;
    assert_eq!(noted(&queue, &job_id, "delivered").await, "delivered: status 204, try 1");
    assert_eq!(receiver.seen().len(), 1);
}

#[tokio::test]
async fn a_callback_whose_sender_was_killed_is_sent_again_under_its_id() {
    let redis = Redis::start().await;
    let (queue, receiver) = (queue(&redis), receiver().await);
    // The receiver has it, and the note of that never arrives.
    let note = worker_native::queue::redis::scripts::CALLBACK.hash();
    let proxy = HoldingProxy::start(redis.port, note).await;
    let mut doomed = service(&proxy.url(), SECRETS[0]).await;
    let job_id = hand_in(&queue, &format!("http://127.0.0.1:{}/", receiver.port)).await;
    until("the doomed sender's note", || async { proxy.has_held().then_some(()) }).await;
    doomed.process.kill();
    let _heir = service(&redis.url(), SECRETS[0]).await;
    assert_eq!(noted(&queue, &job_id, "delivered").await, "delivered: status 204, try 2");
    let seen = receiver.seen();
    let [first, second] = &seen[..] else { panic!("{} calls", seen.len()) };
    assert!(is_of(first, &job_id), "{first:?}");
    assert_eq!(first.header("webhook-id"), second.header("webhook-id"));
    assert_eq!(first.body, second.body);
}
