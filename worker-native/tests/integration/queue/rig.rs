//! A queue of one backend to test, and short ways to use it.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde_json::{Value, json};
use shared::reading::Input;
use tempfile::TempDir;
use tokio::sync::Mutex;
use worker_native::config::{Config, Source};
use worker_native::queue::{
    Claimed, Counts, Depths, Enqueued, Entry, JobState, NewJob, Once, Outcome, Priority, Queue, QueueError,
    ResultsFilter, Settled, Settlement, Stored, Ticket,
};

use crate::support::redis::Redis;
use crate::support::redis_cluster::RedisCluster;
use crate::support::until;

pub(crate) const TASK: &str = "pump-anomaly";
/// For jobs that shall not come back by themselves during a test.
pub(crate) const LONG: Duration = Duration::from_secs(3_600);
/// Settings under which leases end soon: nothing waits for them but `until`.
pub(crate) const SHORT_LEASE: (&str, &str) = ("LEASE_MS", "100");
/// Settings under which no lease ends during a test.
pub(crate) const LONG_LEASE: (&str, &str) = ("LEASE_MS", "3600000");

/// Where a queue lies.
#[async_trait]
pub(crate) trait Backend: Debug + Send + Sync + Sized + 'static {
    /// Starts it, empty.
    async fn start() -> Self;

    /// The settings that lead there.
    fn settings(&self) -> Vec<(&'static str, String)>;
}

/// A Redis of its own.
#[derive(Debug)]
pub(crate) struct OnRedis(pub(crate) Redis);

#[async_trait]
impl Backend for OnRedis {
    async fn start() -> Self {
        Self(Redis::start().await)
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        vec![("REDIS_URL", self.0.url())]
    }
}

/// A file of its own.
#[derive(Debug)]
pub(crate) struct OnSqlite(TempDir);

#[async_trait]
impl Backend for OnSqlite {
    async fn start() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        vec![("QUEUE_FILE", self.0.path().join("queue.sqlite").display().to_string())]
    }
}

/// Keys of its own on a cluster, which tests that run at the same time share: one takes seconds to form.
#[derive(Debug)]
pub(crate) struct OnCluster {
    cluster: Arc<RedisCluster>,
    prefix: String,
}

#[async_trait]
impl Backend for OnCluster {
    async fn start() -> Self {
        static CLUSTER: Mutex<Weak<RedisCluster>> = Mutex::const_new(Weak::new());
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let mut shared = CLUSTER.lock().await;
        let cluster = match shared.upgrade() {
            Some(cluster) => cluster,
            None => Arc::new(RedisCluster::start().await),
        };
        *shared = Arc::downgrade(&cluster);
        Self { cluster, prefix: format!("ir{}", STARTED.fetch_add(1, Ordering::Relaxed)) }
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        vec![("REDIS_URL", self.cluster.url()), ("QUEUE_PREFIX", self.prefix.clone())]
    }
}

/// An open queue; behaves like it.
#[derive(Debug)]
pub(crate) struct Rig<B> {
    pub(crate) backend: B,
    queue: Option<Arc<dyn Queue>>,
}

impl<B: Backend> Rig<B> {
    /// A fresh queue with some settings, all others as they come. Leases are long unless said otherwise.
    pub(crate) async fn start(settings: &[(&str, &str)]) -> Self {
        let backend = B::start().await;
        let queue = Some(open(&backend, settings).unwrap());
        Self { backend, queue }
    }

    /// Closes the queue and opens it again, as another process would that comes after this one.
    pub(crate) async fn reopen(&mut self, settings: &[(&str, &str)]) {
        self.queue = None;
        self.queue = Some(until("the queue to open again", || async { open(&self.backend, settings).ok() }).await);
    }

    pub(crate) fn shared(&self) -> Arc<dyn Queue> {
        Arc::clone(self.queue.as_ref().unwrap())
    }

    /// Another handle on the same data, where the backend is for several processes.
    pub(crate) fn beside(&self, settings: &[(&str, &str)]) -> Arc<dyn Queue> {
        open(&self.backend, settings).unwrap()
    }

    pub(crate) async fn hand_in(&self, job: NewJob) -> Enqueued {
        let task = job.entry.task.clone();
        let mut answers = self.enqueue(&task, vec![job]).await.unwrap();
        assert_eq!(answers.len(), 1);
        answers.remove(0)
    }

    /// Hands an entry in, which must be accepted.
    pub(crate) async fn accept(&self, entry: Entry) -> Entry {
        let answer = self.hand_in(new(entry.clone())).await;
        assert!(matches!(answer, Enqueued::Accepted(_)), "{answer:?}");
        entry
    }

    /// Hands entries in at one moment, all of which must be accepted.
    pub(crate) async fn accept_all(&self, entries: Vec<Entry>) {
        for some in entries.chunks(500) {
            let answers = self.enqueue(TASK, some.iter().cloned().map(new).collect()).await.unwrap();
            assert_eq!(answers.len(), some.len());
            assert!(answers.iter().all(|answer| matches!(answer, Enqueued::Accepted(_))), "{answers:?}");
        }
    }

    /// Claims one job, which must be there.
    pub(crate) async fn take(&self, consumer: &str) -> Claimed {
        let mut claimed = self.claim(TASK, consumer, 1).await.unwrap();
        assert_eq!(claimed.len(), 1, "a job to claim");
        claimed.remove(0)
    }

    /// Hands one in and claims it.
    pub(crate) async fn held_by(&self, consumer: &str) -> (Entry, Claimed) {
        let entry = self.accept(entry()).await;
        let claimed = self.take(consumer).await;
        assert_eq!(claimed.ticket.job_id, entry.job_id);
        (entry, claimed)
    }

    /// Waits for a lease to end, and takes the job over.
    pub(crate) async fn take_over(&self, consumer: &str) -> Claimed {
        until("the end of a lease", || async { self.reclaim(TASK, consumer, 1).await.unwrap().pop() }).await
    }

    /// Waits for a job that can be claimed.
    pub(crate) async fn take_soon(&self, consumer: &str) -> Claimed {
        until("a job to claim", || async { self.claim(TASK, consumer, 1).await.unwrap().pop() }).await
    }

    pub(crate) async fn finish(&self, claimed: &Claimed, outcome: Outcome) -> Settled {
        let settlement = settlement(&claimed.ticket, outcome);
        let mut settled = self.settle(TASK, vec![settlement]).await.unwrap();
        assert_eq!(settled.len(), 1);
        settled.remove(0)
    }

    /// Settles a job as done, which must be its first settlement.
    pub(crate) async fn done(&self, claimed: &Claimed) {
        assert!(self.finish(claimed, Outcome::Done).await.first, "the first settlement of {}", claimed.ticket.job_id);
    }

    pub(crate) async fn state(&self, job_id: &str) -> JobState {
        self.job(TASK, job_id).await.unwrap().unwrap_or_else(|| panic!("nothing is known of {job_id}"))
    }

    pub(crate) async fn numbers(&self) -> Counts {
        self.counts(TASK).await.unwrap()
    }

    /// The ids that the listing gives, in its order.
    pub(crate) async fn listed(&self, filter: &ResultsFilter) -> Vec<String> {
        let results = self.results(&[TASK], filter).await.unwrap();
        let values = results.iter().map(|result| serde_json::from_str::<Value>(result.get()).unwrap());
        values.map(|value| value["job_id"].as_str().unwrap().to_owned()).collect()
    }
}

impl<B> Deref for Rig<B> {
    type Target = dyn Queue;

    fn deref(&self) -> &Self::Target {
        self.queue.as_deref().unwrap()
    }
}

fn open<B: Backend>(backend: &B, settings: &[(&str, &str)]) -> Result<Arc<dyn Queue>, QueueError> {
    // A command that takes longer would make a slow machine's test fail, not show a broken promise.
    let mut env = BTreeMap::from([("REDIS_TIMEOUT_MS", "10000".to_owned()), ("LEASE_MS", LONG_LEASE.1.to_owned())]);
    env.extend(backend.settings());
    env.extend(settings.iter().map(|(name, value)| (*name, (*value).to_owned())));
    let env = env.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    worker_native::queue::open(&Config::read(Source::new(env, None).unwrap()).unwrap().queue)
}

/// A job of the tier `fast`.
pub(crate) fn entry() -> Entry {
    let entry = Entry::new(TASK, "fast", ("m", 1), Input::Features(vec![1.5, -2.5]));
    Entry { sensor_id: Some("s".to_owned()), ..entry }
}

pub(crate) fn of_class(priority: Priority) -> Entry {
    Entry { priority, ..entry() }
}

pub(crate) fn of_tenant(tenant: &str) -> Entry {
    Entry { tenant: Some(tenant.to_owned()), ..entry() }
}

/// Handed in without deadline, bound or key.
pub(crate) fn new(entry: Entry) -> NewJob {
    NewJob { entry, left: None, room: None, once: None }
}

/// Handed in under a key; the answer names the job, as the real one does.
pub(crate) fn new_once(entry: Entry, key: &str, fingerprint: &str) -> NewJob {
    let answer = Stored { status: 202, body: format!("{{\"job_id\":\"{}\"}}", entry.job_id) };
    let once = Once { key: key.to_owned(), fingerprint: fingerprint.to_owned(), answer };
    NewJob { once: Some(once), ..new(entry) }
}

/// A result as the queue looks at it, and a word to know it by.
pub(crate) fn result(job_id: &str, outcome: Outcome, finished_at: u64, word: &str) -> String {
    json!({
        "job_id": job_id, "task": TASK, "sensor_id": "s", "outcome": outcome, "finished_at": finished_at, "word": word,
    })
    .to_string()
}

pub(crate) fn settlement(ticket: &Ticket, outcome: Outcome) -> Settlement {
    Settlement {
        ticket: ticket.clone(),
        outcome,
        result: result(&ticket.job_id, outcome, 1_000, "first"),
        awaited: false,
        failures: vec![],
    }
}

/// A tier's jobs and nothing else; tiers with none are as good as not there.
pub(crate) fn depths(pairs: &[(&str, u32)]) -> Depths {
    pairs.iter().filter(|(_, n)| *n > 0).map(|(lane, n)| ((*lane).to_owned(), *n)).collect()
}

/// Without the tiers that have none.
pub(crate) fn counted(depths: &Depths) -> Depths {
    depths.iter().filter(|(_, n)| **n > 0).map(|(lane, n)| (lane.clone(), *n)).collect()
}

/// The unsettled jobs after a hand-in that must have been accepted.
pub(crate) fn accepted(answer: Enqueued) -> Depths {
    match answer {
        Enqueued::Accepted(depths) => counted(&depths),
        other @ (Enqueued::Replayed(_) | Enqueued::Conflict | Enqueued::Full(_)) => panic!("{other:?}"),
    }
}

pub(crate) fn ids(claimed: &[Claimed]) -> Vec<&str> {
    claimed.iter().map(|one| one.ticket.job_id.as_str()).collect()
}

pub(crate) fn all() -> ResultsFilter {
    ResultsFilter { limit: 100_000, ..ResultsFilter::default() }
}

/// Lets time pass: until so long after a moment.
pub(crate) async fn passed(time: Duration, since: Instant) {
    until("time to pass", || async { (since.elapsed() > time).then_some(()) }).await;
}
