//! Tries against a receiver on loopback: what arrives, what its answer means, and what is never called.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::sync::Mutex;

use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::{HOST, LOCATION, USER_AGENT};
use axum::response::Response;
use serde_json::value::RawValue;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::*;

pub(super) const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const SECOND: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// What may go to loopback by plain HTTP.
pub(super) fn config() -> WebhookConfig {
    WebhookConfig {
        secrets: Secrets::parse(SECRET).unwrap(),
        allow_http: true,
        allow_private: true,
        allowed_hosts: vec![],
        timeout: Duration::from_secs(10),
        concurrency: 3,
    }
}

pub(super) fn callback(url: &str) -> Callback {
    let result = r#"{"job_id":"pump.7","outcome":"done","score":0.25,"finished_at":1700000000000}"#;
    Callback {
        job_id: "pump.7".to_owned(),
        ended_at: 1_700_000_000_000,
        url: url.to_owned(),
        attempt: 1,
        age: Duration::ZERO,
        result: Some(RawValue::from_string(result.to_owned()).unwrap()),
    }
}

type Reply = dyn Fn(&str) -> Response + Send + Sync;

/// Notes what reaches it and answers by the path.
pub(super) struct Receiver {
    pub(super) port: u16,
    seen: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
    _tasks: JoinSet<()>,
}

#[derive(Clone)]
struct Shared(Arc<Mutex<Vec<(HeaderMap, Bytes)>>>, Arc<Reply>);

impl Receiver {
    pub(super) async fn start(reply: impl Fn(&str) -> Response + Send + Sync + 'static) -> Self {
        let seen = Arc::default();
        let shared = Shared(Arc::clone(&seen), Arc::new(reply));
        let (port, tasks) = serve(Router::new().fallback(note).with_state(shared)).await;
        Self { port, seen, _tasks: tasks }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub(super) fn seen(&self) -> Vec<(HeaderMap, Bytes)> {
        self.seen.lock().unwrap().clone()
    }
}

async fn note(State(shared): State<Shared>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    shared.0.lock().unwrap().push((head.headers, body));
    shared.1(head.uri.path())
}

pub(super) async fn serve(router: Router) -> (u16, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
    (port, tasks)
}

pub(super) fn status(status: u16) -> Response {
    Response::builder().status(status).body(Body::from("seen")).unwrap()
}

/// Answers in turn; afterwards with nothing.
#[derive(Debug, Default)]
struct Scripted(Mutex<VecDeque<Vec<IpAddr>>>);

impl Scripted {
    fn new(answers: &[&[&str]]) -> Arc<Self> {
        let parse = |answer: &&[&str]| answer.iter().map(|address| address.parse().unwrap()).collect();
        Arc::new(Self(Mutex::new(answers.iter().map(parse).collect())))
    }

    fn left(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

#[async_trait]
impl Lookup for Scripted {
    async fn addresses(&self, _host: &str) -> io::Result<Vec<IpAddr>> {
        Ok(self.0.lock().unwrap().pop_front().unwrap_or_default())
    }
}

fn why(verdict: Verdict) -> String {
    match verdict {
        Verdict::Later { why, .. } => why,
        Verdict::Delivered(_) | Verdict::Never(_) => panic!("{verdict:?}"),
    }
}

#[tokio::test]
async fn a_callback_arrives_signed() {
    let receiver = Receiver::start(|_| status(202)).await;
    let secrets = Secrets::parse(&format!("{SECRET} {SECOND}")).unwrap();
    let webhooks = Webhooks::new(&WebhookConfig { secrets: secrets.clone(), ..config() }).unwrap();
    let verdict = webhooks.send(&callback(&receiver.url("/hook?token=1"))).await;
    assert_eq!(verdict, Verdict::Delivered(202));
    let seen = receiver.seen();
    let [(headers, body)] = &seen[..] else { panic!("{seen:?}") };
    let header = |name: &str| headers[name].to_str().unwrap();
    assert_eq!(header("content-type"), "application/json");
    assert!(header(USER_AGENT.as_str()).starts_with("infer-router/"));
    assert_eq!(header(HOST.as_str()), format!("127.0.0.1:{}", receiver.port));
    assert_eq!(header("webhook-id"), "pump.7.1700000000000");
    let timestamp: u64 = header("webhook-timestamp").parse().unwrap();
    assert!(timestamp.abs_diff(crate::clock::now_ms() / 1000) < 60);
    assert_eq!(header("webhook-signature"), secrets.sign("pump.7.1700000000000", timestamp, body));
    assert_eq!(header("webhook-signature").split(' ').count(), 2);
    let event: serde_json::Value = serde_json::from_slice(body).unwrap();
    assert_eq!((&event["type"], &event["data"]["score"]), (&"job.done".into(), &0.25.into()));
}

#[tokio::test]
async fn a_refusal_is_told_and_never_with_what_the_receiver_wrote() {
    let receiver = Receiver::start(|path| {
        let mut response = status(path.trim_start_matches('/').parse().unwrap());
        response.headers_mut().insert("retry-after", "30".parse().unwrap());
        *response.body_mut() = Body::from("an inner secret");
        response
    })
    .await;
    let webhooks = Webhooks::new(&config()).unwrap();
    for (code, asked) in [(400, 0), (500, 0), (404, 0), (429, 30), (503, 30)] {
        let verdict = webhooks.send(&callback(&receiver.url(&format!("/{code}")))).await;
        let wanted = Verdict::Later { why: format!("status {code}"), not_before: Duration::from_secs(asked) };
        assert_eq!(verdict, wanted);
    }
    let verdict = webhooks.send(&callback(&receiver.url("/410"))).await;
    assert!(matches!(&verdict, Verdict::Never(why) if why.contains("410") && !why.contains("secret")), "{verdict:?}");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let inner = Receiver::start(|_| status(200)).await;
    let target = inner.url("/admin");
    let outer = Receiver::start(move |path| {
        let mut response = status(path.trim_start_matches('/').parse().unwrap());
        response.headers_mut().insert(LOCATION, target.parse().unwrap());
        response
    })
    .await;
    let webhooks = Webhooks::new(&config()).unwrap();
    for code in [301, 302, 303, 307, 308] {
        let why = why(webhooks.send(&callback(&outer.url(&format!("/{code}")))).await);
        assert!(why.contains("redirects are not followed"), "{why}");
    }
    assert_eq!((outer.seen().len(), inner.seen().len()), (5, 0));
}

#[tokio::test]
async fn a_name_that_leads_inside_is_not_called() {
    let inner = Receiver::start(|_| status(200)).await;
    let public_only = WebhookConfig { allow_private: false, ..config() };
    for (addresses, word) in [
        (&["127.0.0.1"][..], "127.0.0.1 is a loopback address"),
        (&["::ffff:127.0.0.1", "10.0.0.1"], "10.0.0.1 is a private address"),
        (&["169.254.169.254"], "metadata"),
        (&[], "no address"),
    ] {
        let webhooks = Webhooks::with_lookup(&public_only, Scripted::new(&[addresses])).unwrap();
        let url = format!("http://hooks.example.com:{}/", inner.port);
        webhooks.check(&url).unwrap();
        let why = why(webhooks.send(&callback(&url)).await);
        assert!(why.contains("hooks.example.com") && why.contains(word), "{why}");
    }
    assert!(inner.seen().is_empty());
}

#[tokio::test]
async fn a_name_that_changes_its_address_is_judged_at_every_try() {
    let inner = Receiver::start(|_| status(200)).await;
    let public_only = WebhookConfig { allow_private: false, ..config() };
    // Nothing answers at the first: it is only given out. The second is the attack.
    let lookup = Scripted::new(&[&["1.1.1.1"], &["127.0.0.1"], &["127.0.0.1", "1.1.1.1", "::1"]]);
    let callable = resolve::CallableOnly { lookup: lookup.clone(), allow_private: public_only.allow_private };
    let ask = async || {
        let found = reqwest::dns::Resolve::resolve(&callable, "rebind.example.com".parse().unwrap()).await;
        found.map(|found| found.map(|address| address.ip().to_string()).collect::<Vec<_>>())
    };
    assert_eq!(ask().await.unwrap(), ["1.1.1.1"]);
    assert!(ask().await.unwrap_err().to_string().contains("loopback"));
    assert_eq!(ask().await.unwrap(), ["1.1.1.1"]);

    // A try asks once, and calls what it was told: the second answer is for the second try.
    let lookup = Scripted::new(&[&["127.0.0.1"], &["169.254.169.254"], &["127.0.0.1"]]);
    let webhooks = Webhooks::with_lookup(&config(), lookup.clone()).unwrap();
    let url = format!("http://rebind.example.com:{}/", inner.port);
    assert_eq!(webhooks.send(&callback(&url)).await, Verdict::Delivered(200));
    assert_eq!(lookup.left(), 2);
    assert!(why(webhooks.send(&callback(&url)).await).contains("metadata"));
    assert_eq!(lookup.left(), 1);
    assert_eq!(inner.seen().len(), 1);
}

#[tokio::test]
async fn what_the_rules_forbid_now_is_given_up() {
    let receiver = Receiver::start(|_| status(200)).await;
    let webhooks = Webhooks::new(&WebhookConfig { allow_private: false, ..config() }).unwrap();
    let verdict = webhooks.send(&callback(&receiver.url("/"))).await;
    assert!(matches!(&verdict, Verdict::Never(why) if why.contains("loopback")), "{verdict:?}");
    assert!(receiver.seen().is_empty());
}

#[tokio::test]
async fn an_endless_answer_is_not_read_and_a_missing_one_is_not_waited_for() {
    let receiver = Receiver::start(|path| {
        let chunk = futures_util::stream::repeat_with(|| Ok::<_, io::Error>(Bytes::from_static(&[b'x'; 4096])));
        match path {
            "/endless" => Response::new(Body::from_stream(chunk)),
            _ => status(200),
        }
    })
    .await;
    let webhooks = Webhooks::new(&config()).unwrap();
    assert_eq!(webhooks.send(&callback(&receiver.url("/endless"))).await, Verdict::Delivered(200));

    // It accepts, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let hasty = Webhooks::new(&WebhookConfig { timeout: Duration::from_millis(50), ..config() }).unwrap();
    let silence = why(hasty.send(&callback(&format!("http://127.0.0.1:{port}/"))).await);
    assert_eq!(silence, "no answer within 50 ms");
    drop(silent);
    let closed = why(webhooks.send(&callback(&format!("http://127.0.0.1:{port}/?token=hidden"))).await);
    assert!(closed.contains("refused") && !closed.contains("hidden"), "{closed}");
}

#[tokio::test]
async fn https_is_not_spoken_to_what_speaks_http() {
    let receiver = Receiver::start(|_| status(200)).await;
    let webhooks = Webhooks::new(&config()).unwrap();
    let verdict = webhooks.send(&callback(&receiver.url("/").replace("http:", "https:"))).await;
    assert!(!why(verdict).is_empty());
    assert!(receiver.seen().is_empty());
}

#[test]
fn without_a_secret_there_are_no_callbacks() {
    let off = Webhooks::new(&WebhookConfig { secrets: Secrets::default(), ..config() }).unwrap();
    assert!(!off.are_on());
    assert!(off.check("https://example.com/").unwrap_err().contains("WEBHOOK_SECRET"));
    let on = Webhooks::new(&config()).unwrap();
    assert!(on.are_on());
    assert_eq!(on.check("https://example.com/"), Ok(()));
    assert!(on.check("ftp://example.com/").is_err());
}
