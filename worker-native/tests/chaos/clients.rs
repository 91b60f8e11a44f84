//! Callers who hand jobs in, one after the other, and do not rest until each has its 202.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::Client;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::args::Args;
use crate::support::readings::{body, normal};

/// How long one job may take to be accepted.
const PATIENCE: Duration = Duration::from_secs(60);

/// What came of handing in.
#[derive(Debug, Default)]
pub(crate) struct HandedIn {
    /// The id of each job that was answered with 202.
    pub(crate) ids: Vec<String>,
    /// Answers that had been given before: the first one never came.
    pub(crate) replayed: usize,
    /// Answers that refused, and were asked again.
    pub(crate) refused: usize,
    /// Calls without any answer.
    pub(crate) unanswered: usize,
}

#[derive(Debug)]
pub(crate) struct Clients {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    next: AtomicUsize,
    accepted: AtomicUsize,
    handed_in: Mutex<HandedIn>,
    doors: Vec<String>,
    jobs: usize,
    rate: f64,
    begun: Instant,
}

impl Clients {
    pub(crate) fn start(args: &Args, doors: Vec<String>) -> Self {
        let shared = Arc::new(Shared {
            next: AtomicUsize::new(0),
            accepted: AtomicUsize::new(0),
            handed_in: Mutex::default(),
            doors,
            jobs: args.jobs,
            rate: args.rate,
            begun: Instant::now(),
        });
        let mut tasks = JoinSet::new();
        for number in 0..args.clients {
            let random = fastrand::Rng::with_seed(args.seed.wrapping_add(number as u64));
            tasks.spawn(hand_in_all(Arc::clone(&shared), random));
        }
        Self { shared, tasks }
    }

    /// Waits until so many jobs have been accepted.
    pub(crate) async fn accepted(&self, count: usize) {
        while self.shared.accepted.load(Ordering::SeqCst) < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn finish(self) -> HandedIn {
        self.tasks.join_all().await;
        std::mem::take(&mut self.shared.handed_in.lock().unwrap())
    }
}

impl Shared {
    /// Was the job accepted?
    fn note(&self, asked: Asked) -> bool {
        let mut handed_in = self.handed_in.lock().unwrap();
        match asked {
            Asked::Accepted { id, replayed } => {
                handed_in.ids.push(id);
                handed_in.replayed += usize::from(replayed);
                self.accepted.fetch_add(1, Ordering::SeqCst);
                return true;
            }
            Asked::Refused => handed_in.refused += 1,
            Asked::Unanswered => handed_in.unanswered += 1,
        }
        false
    }
}

async fn hand_in_all(shared: Arc<Shared>, mut random: fastrand::Rng) {
    let client = Client::builder().timeout(Duration::from_secs(5)).build().unwrap();
    loop {
        let number = shared.next.fetch_add(1, Ordering::SeqCst);
        if number >= shared.jobs {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "a number of jobs is exact in a double")]
        let due = Duration::from_secs_f64(number as f64 / shared.rate);
        tokio::time::sleep(due.saturating_sub(shared.begun.elapsed())).await;
        hand_in(&shared, &client, number, &mut random).await;
    }
}

/// Hands one job in, under one key at any door, until it is accepted.
async fn hand_in(shared: &Shared, client: &Client, number: usize, random: &mut fastrand::Rng) {
    let mut text = body(&normal());
    text["sensor_id"] = format!("chaos-{}", number % 50).into();
    let (text, end) = (text.to_string(), Instant::now() + PATIENCE);
    loop {
        let door = random.choice(&shared.doors).unwrap();
        let call = client.post(format!("{door}/v1/jobs")).header("content-type", "application/json");
        let call = call.header("idempotency-key", format!("\"chaos-{number}\"")).body(text.clone());
        let asked = ask(call).await;
        if shared.note(asked) {
            return;
        }
        assert!(Instant::now() < end, "nobody takes job {number}");
        tokio::time::sleep(Duration::from_millis(random.u64(5..50))).await;
    }
}

enum Asked {
    Accepted { id: String, replayed: bool },
    Refused,
    Unanswered,
}

async fn ask(call: reqwest::RequestBuilder) -> Asked {
    let Ok(answer) = call.send().await else { return Asked::Unanswered };
    let (status, replayed) = (answer.status(), answer.headers().contains_key("idempotency-replayed"));
    // The head may have come and the rest not.
    let Ok(receipt) = answer.json::<Value>().await else { return Asked::Unanswered };
    if status == 202 {
        let id = receipt["job_id"].as_str().expect("a job id in a receipt").to_owned();
        return Asked::Accepted { id, replayed };
    }
    assert!(matches!(status.as_u16(), 409 | 429 | 503), "{status}: {receipt}");
    Asked::Refused
}
