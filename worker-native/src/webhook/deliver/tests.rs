//! The loop against an outbox in memory and a receiver on loopback.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use axum::Router;
use axum::routing::post;
use tokio::sync::{Barrier, Notify, watch};

use super::*;
use crate::webhook::tests::{Receiver, callback, config, serve, status};

/// Only a broken loop needs longer.
const LIMIT: Duration = Duration::from_secs(20);

/// What the loop told.
#[derive(Debug, Clone, PartialEq)]
enum Told {
    Done(String, String),
    Later(String, Duration),
}

#[derive(Debug)]
struct Memory {
    due: Mutex<VecDeque<(String, Callback)>>,
    told: watch::Sender<Vec<Told>>,
    /// So many calls fail first.
    failing: AtomicUsize,
    taken: AtomicUsize,
    /// The most that were taken and not told, had every look been given what it asked for.
    most_open: AtomicUsize,
}

impl Memory {
    fn new(due: Vec<(&str, Callback)>) -> Arc<Self> {
        let due = due.into_iter().map(|(task, callback)| (task.to_owned(), callback)).collect();
        let (told, _) = watch::channel(vec![]);
        let (failing, taken, most_open) = Default::default();
        Arc::new(Self { due: Mutex::new(due), told, failing, taken, most_open })
    }

    fn fails(&self) -> Result<(), QueueError> {
        let failing = self.failing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if failing.is_ok() { Err(QueueError::Closed) } else { Ok(()) }
    }

    async fn told(&self, number: usize) -> Vec<Told> {
        let mut told = self.told.subscribe();
        let told = tokio::time::timeout(LIMIT, told.wait_for(|told| told.len() >= number));
        told.await.unwrap_or_else(|_| panic!("only {:?}", self.told.borrow())).unwrap().clone()
    }
}

#[async_trait]
impl Outbox for Memory {
    async fn callbacks(&self, task: &str, limit: usize, lease: Duration) -> Result<Vec<Callback>, QueueError> {
        self.fails()?;
        assert!(lease > config().timeout);
        let open = self.taken.load(Ordering::SeqCst) - self.told.borrow().len();
        self.most_open.fetch_max(open + limit, Ordering::SeqCst);
        let mut due = self.due.lock().unwrap();
        let (of_task, others) = due.drain(..).partition::<Vec<_>, _>(|(of, _)| of == task);
        let mut of_task = of_task.into_iter();
        let taken: Vec<_> = of_task.by_ref().take(limit).map(|(_, callback)| callback).collect();
        self.taken.fetch_add(taken.len(), Ordering::SeqCst);
        due.extend(of_task.chain(others));
        Ok(taken)
    }

    async fn callback_done(&self, task: &str, callback: &Callback, note: &str) -> Result<(), QueueError> {
        self.fails()?;
        let job_id = &callback.job_id;
        self.told.send_modify(|told| told.push(Told::Done(format!("{task}/{job_id}"), note.to_owned())));
        Ok(())
    }

    async fn callback_later(
        &self,
        task: &str,
        callback: &Callback,
        delay: Duration,
        _: &str,
    ) -> Result<(), QueueError> {
        self.fails()?;
        let job_id = &callback.job_id;
        self.told.send_modify(|told| told.push(Told::Later(format!("{task}/{job_id}"), delay)));
        Ok(())
    }
}

/// The loop over tasks `a` and `b`, until it is dropped or the token is cancelled.
fn start(outbox: &Arc<Memory>) -> (JoinSet<()>, CancellationToken, Metrics) {
    let (shutdown, metrics) = (CancellationToken::new(), Metrics::default());
    let webhooks = Webhooks::new(&config()).unwrap();
    let courier = Courier::new(outbox.clone(), webhooks, metrics.clone(), shutdown.clone());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { courier.run(|| vec!["a".to_owned(), "b".to_owned()]).await });
    (tasks, shutdown, metrics)
}

fn named(job_id: &str, url: &str) -> Callback {
    Callback { job_id: job_id.to_owned(), ..callback(url) }
}

#[test]
fn tries_follow_the_schedule_and_end() {
    let failed = |seconds| Verdict::Later { why: "status 500".to_owned(), not_before: Duration::from_secs(seconds) };
    for (tried, pause) in SCHEDULE.into_iter().enumerate() {
        let attempt = u32::try_from(tried).unwrap() + 1;
        for (chance, factor) in [(0.0, 1.0), (0.5, 1.1), (1.0, 1.2)] {
            let Next::Again { after, note } = next(attempt, failed(0), chance) else { panic!("given up at {attempt}") };
            assert_eq!(after, Duration::from_secs(pause).mul_f64(factor));
            assert!(note.contains("status 500") && note.contains(&format!("try {attempt} ")), "{note}");
        }
    }
    for attempt in [10, 11, u32::MAX] {
        let Next::Done { outcome, note } = next(attempt, failed(0), 0.0) else { panic!("no end at {attempt}") };
        assert_eq!((outcome, note), (WebhookOutcome::GivenUp, format!("given up after try {attempt}: status 500")));
    }
}

#[test]
fn a_receiver_gets_more_time_where_it_asks_and_never_less() {
    let after = |attempt, asked| match next(attempt, Verdict::Later { why: String::new(), not_before: asked }, 0.0) {
        Next::Again { after, .. } => after.as_secs(),
        Next::Done { note, .. } => panic!("{note}"),
    };
    assert_eq!(after(1, Duration::from_secs(60)), 60);
    assert_eq!(after(2, Duration::from_secs(60)), 300);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_callback_ends_as_its_receiver_answers() {
    let receiver = Receiver::start(|path| status(path.trim_start_matches('/').parse().unwrap())).await;
    let outbox = Memory::new(vec![
        ("a", named("1", &receiver.url("/200"))),
        ("b", named("2", &receiver.url("/500"))),
        ("a", named("3", &receiver.url("/410"))),
        ("a", named("4", "ftp://127.0.0.1/")),
        ("b", Callback { attempt: 10, ..named("5", &receiver.url("/500")) }),
    ]);
    let (_tasks, _, metrics) = start(&outbox);
    let told = outbox.told(5).await;
    let note = |id: &str| {
        let of = |told: &Told| matches!(told, Told::Done(job, _) if job == id).then(|| told.clone());
        match told.iter().find_map(of) {
            Some(Told::Done(_, note)) => note,
            other => panic!("{id}: {other:?} of {told:?}"),
        }
    };
    assert_eq!(note("a/1"), "delivered: status 200, try 1");
    assert!(note("a/3").starts_with("given up at try 1: status 410"), "{}", note("a/3"));
    assert!(note("a/4").contains("not ftp:"), "{}", note("a/4"));
    assert!(note("b/5").starts_with("given up after try 10"), "{}", note("b/5"));
    let later = told.iter().find_map(|told| match told {
        Told::Later(job, delay) if job == "b/2" => Some(*delay),
        Told::Later(..) | Told::Done(..) => None,
    });
    assert!(later.is_some_and(|delay| (5..=6).contains(&delay.as_secs())), "{later:?}");
    let text = metrics.encode(&Default::default()).unwrap();
    for line in [
        r#"router_webhook_tries_total{task="a",outcome="delivered"} 1"#,
        r#"router_webhook_tries_total{task="b",outcome="failed"} 1"#,
        r#"router_webhook_tries_total{task="a",outcome="given_up"} 2"#,
        r#"router_webhook_tries_total{task="b",outcome="given_up"} 1"#,
    ] {
        assert!(text.contains(line), "{line} is not in:\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_many_and_no_more_are_under_way_at_once() {
    let together = Arc::new(Barrier::new(3));
    // Three must come before one is answered.
    let router = Router::new().fallback(post(async move || {
        together.wait().await;
    }));
    let (port, _server) = serve(router).await;
    let url = format!("http://127.0.0.1:{port}/");
    let due = (0..9).map(|number| (["a", "b"][number % 2], named(&number.to_string(), &url))).collect();
    let outbox = Memory::new(due);
    let (_tasks, ..) = start(&outbox);
    let told = outbox.told(9).await;
    assert!(told.iter().all(|told| matches!(told, Told::Done(_, note) if note.starts_with("delivered"))), "{told:?}");
    assert_eq!(outbox.most_open.load(Ordering::SeqCst), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_with_many_callbacks_leaves_places_to_others() {
    let receiver = Receiver::start(|_| status(200)).await;
    // So many that a pause between two looks for each three would take longer than the limit.
    let mut due: Vec<_> = (0..90).map(|number| ("a", named(&number.to_string(), &receiver.url("/")))).collect();
    due.push(("b", named("late", &receiver.url("/"))));
    let outbox = Memory::new(due);
    let (_tasks, ..) = start(&outbox);
    let told = outbox.told(91).await;
    let place = told.iter().position(|told| matches!(told, Told::Done(job, _) if job == "b/late"));
    assert!(place.is_some_and(|place| place < 30), "{place:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_is_away_costs_time_and_no_second_call() {
    let receiver = Receiver::start(|_| status(200)).await;
    let outbox = Memory::new(vec![("a", named("1", &receiver.url("/")))]);
    // The first look, and then, after the second, three tries to tell; `b` is asked in between or not.
    outbox.failing.store(1, Ordering::SeqCst);
    let (_tasks, ..) = start(&outbox);
    outbox.told(1).await;
    let again = Memory::new(vec![("a", named("2", &receiver.url("/")))]);
    let courier =
        Courier::new(again.clone(), Webhooks::new(&config()).unwrap(), Metrics::default(), CancellationToken::new());
    again.failing.store(3, Ordering::SeqCst);
    let callback = named("2", &receiver.url("/"));
    courier.deliver("a", callback, Instant::now() + LIMIT).await;
    assert_eq!(again.told(1).await, [Told::Done("a/2".to_owned(), "delivered: status 200, try 1".to_owned())]);
    assert_eq!(receiver.seen().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_finishes_what_is_under_way_and_takes_no_more() {
    let (arrived, answer) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let router = Router::new().fallback(post({
        let (arrived, answer) = (arrived.clone(), answer.clone());
        async move || {
            arrived.notify_one();
            answer.notified().await;
        }
    }));
    let (port, _server) = serve(router).await;
    let url = format!("http://127.0.0.1:{port}/");
    let outbox = Memory::new(vec![("a", named("1", &url))]);
    let (mut tasks, shutdown, _) = start(&outbox);
    tokio::time::timeout(LIMIT, arrived.notified()).await.unwrap();
    shutdown.cancel();
    outbox.due.lock().unwrap().push_back(("a".to_owned(), named("2", &url)));
    answer.notify_one();
    tokio::time::timeout(LIMIT, tasks.join_next()).await.unwrap().unwrap().unwrap();
    assert_eq!(*outbox.told.borrow(), [Told::Done("a/1".to_owned(), "delivered: status 200, try 1".to_owned())]);
    assert_eq!(outbox.due.lock().unwrap().len(), 1);
}
