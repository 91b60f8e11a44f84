//! What a queue promises, in words; every backend keeps it, and one suite of tests holds each to it.
//!
//! - A job that was accepted (202) is durable before the answer goes out, and is started at least once, unless its
//!   deadline passes or it is cancelled first.
//! - A job has one visible result: the first settlement wins, later ones change nothing.
//! - A job leaves the queue only in the step that stores its result. A consumer that dies before leaves it to
//!   another, after the lease; one that is slow keeps it, as long as it renews.
//! - Every step is atomic: a caller that dies, or a connection that breaks, leaves it done or not done.
//! - The backlog is counted where jobs come and go, in the same step: it is exact.
//!
//! In other words: at-least-once execution, exactly one visible result.
//!
//! Times are the queue's own (Redis's clock, or this machine's for a file): what callers give and get are durations,
//! so that processes whose clocks differ agree on deadlines and leases.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::value::RawValue;
use tokio::sync::broadcast;

use super::job::{AttemptError, Claimed, Entry, JobState, Outcome, Ticket};
pub use labels::{Belief, Labelled, Labels, NewLabel};

mod labels;

/// Jobs of a task by lane (the tier they count under).
pub type Depths = BTreeMap<String, u32>;

/// A queue with everything around it, on one backend.
pub trait Queue: JobQueue + JobBook + DeadLetters + Outbox + Replays + Facts + Labels {}

impl<T: JobQueue + JobBook + DeadLetters + Outbox + Replays + Facts + Labels> Queue for T {}

/// Why the queue did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum QueueError {
    /// Redis cannot be reached, did not answer in time, or takes no writes (full, read-only, not persisting).
    #[error("Redis: {0}")]
    Unavailable(#[from] ::redis::RedisError),
    /// The queue's file cannot be used (disk full, read-only, damaged).
    #[error("the queue's file: {0}")]
    File(#[from] Arc<rusqlite::Error>),
    /// The queue has been shut down.
    #[error("the queue is closed")]
    Closed,
    /// What is stored is not what we wrote there.
    #[error("a queue entry cannot be read: {0}")]
    Corrupt(String),
}

/// A job to be handed in.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// The job.
    pub entry: Entry,
    /// Time left until its deadline.
    pub left: Option<Duration>,
    /// Unsettled jobs of the task at which this one would wait too long; it is refused there, whatever `max_depth` is.
    pub room: Option<u32>,
    /// Handed in under this key before? Then the answer of that time is given again.
    pub once: Option<Once>,
}

/// A hand-in that counts once, however often it is sent (draft-ietf-httpapi-idempotency-key-header).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Once {
    /// The caller's key, made one with the tenant: letters and digits.
    pub key: String,
    /// Of method, path and body: the same key with another one is a conflict.
    pub fingerprint: String,
    /// What to answer when it comes again.
    pub answer: Stored,
}

/// An answer kept for a repetition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: String,
}

/// What became of a hand-in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Enqueued {
    /// Stored; unsettled jobs afterwards. A job id that is there already is not stored twice and counts as accepted.
    Accepted(Depths),
    /// Its key was used before, for the same request.
    Replayed(Stored),
    /// Its key was used before, for another request.
    Conflict,
    /// There is no room; nothing was stored.
    Full(Full),
}

/// Which bound left no room for a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Full {
    /// The bound.
    pub bound: Bound,
    /// Unsettled jobs of the task.
    pub depth: u32,
    /// Bytes of the task's unsettled jobs.
    pub bytes: u64,
}

/// What bounds a task's queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// `QUEUE_MAX_DEPTH`: unsettled jobs.
    Jobs,
    /// `QUEUE_MAX_BYTES`: their size.
    Bytes,
    /// [`NewJob::room`]: it would wait too long.
    Wait,
    /// `TENANT_MAX_PERCENT`: one tenant's share of the other bounds.
    Tenant,
}

/// How a job ends.
#[derive(Debug, Clone)]
pub struct Settlement {
    /// What its claim gave.
    pub ticket: Ticket,
    /// What became of it. A `dead` job is kept as a dead letter in the same step.
    pub outcome: Outcome,
    /// The result as it is shown, in JSON.
    pub result: String,
    /// A caller waits for it: it is kept for [`AWAITED_TTL`] only, and not listed.
    pub awaited: bool,
    /// Why earlier tries failed, the last one included; kept with a dead letter.
    pub failures: Vec<AttemptError>,
}

/// How long a result is kept that a caller waits for.
pub const AWAITED_TTL: Duration = Duration::from_secs(60);

/// What became of a settlement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// Was this the job's first result? Later ones are dropped.
    pub first: bool,
    /// Unsettled jobs afterwards.
    pub depths: Depths,
}

/// A job to be tried again later.
#[derive(Debug, Clone)]
pub struct Retry {
    /// What its claim gave.
    pub ticket: Ticket,
    /// How long to wait.
    pub delay: Duration,
    /// Does the try count? Not where the model never began.
    pub charged: bool,
    /// Why this try came to nothing, with those before it.
    pub failures: Vec<AttemptError>,
}

/// What became of a cancellation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cancelled {
    /// There is no such job, or its result has expired.
    Unknown,
    /// It has ended before, so.
    Ended(String),
    /// It has ended now; a run that is under way comes to nothing.
    Done {
        /// Was it under way?
        running: bool,
    },
}

/// The way of jobs: every transition is one atomic step.
///
/// # Errors
/// [`QueueError`] everywhere; what was asked may then have been done or not, and asking again is harmless.
#[async_trait]
pub trait JobQueue: Send + Sync + std::fmt::Debug {
    /// Stores jobs of one task, each on its own merits; one answer a job, in order.
    ///
    /// Refused are: a key used before (answered again, or a conflict), then what exceeds a bound.
    async fn enqueue(&self, task: &str, jobs: Vec<NewJob>) -> Result<Vec<Enqueued>, QueueError>;

    /// Claims up to `limit` jobs for a consumer; does not wait.
    ///
    /// Order: priority classes by the age of their oldest job plus a handicap (`high` 0, `normal` `PRIORITY_STEP_MS`,
    /// `low` five times that), so that every job comes first at last; one claim in twenty starts with the lowest class
    /// that waits. Within a class tenants take turns; within a tenant first come, first served. Jobs whose deadline
    /// has passed are given out as well, with nothing left: they are settled, never started.
    async fn claim(&self, task: &str, consumer: &str, limit: usize) -> Result<Vec<Claimed>, QueueError>;

    /// Waits until there may be something to claim, `up_to` at the longest.
    async fn wait(&self, task: &str, up_to: Duration) -> Result<(), QueueError>;

    /// Takes over jobs whose lease ended without renewal; each counts as a start of its own.
    async fn reclaim(&self, task: &str, consumer: &str, limit: usize) -> Result<Vec<Claimed>, QueueError>;

    /// Begins the lease of claimed jobs anew; `false` for a job that is not this consumer's any more.
    async fn renew(&self, task: &str, consumer: &str, tickets: &[Ticket]) -> Result<Vec<bool>, QueueError>;

    /// Stores results and takes the jobs out of the queue; with it the counters, the history, the dead letter and the
    /// callback that is due.
    async fn settle(&self, task: &str, settlements: Vec<Settlement>) -> Result<Vec<Settled>, QueueError>;

    /// Puts claimed jobs aside until their delay is over; `false` for a job that is not this consumer's any more.
    async fn retry(&self, task: &str, consumer: &str, retries: Vec<Retry>) -> Result<Vec<bool>, QueueError>;

    /// Hands claimed jobs back, to be claimed by anyone at once and before others; the claim does not count as a start.
    async fn release(&self, task: &str, consumer: &str, tickets: &[Ticket]) -> Result<(), QueueError>;

    /// Ends a job, whatever it is doing, with a result of the outcome `cancelled`.
    async fn cancel(&self, task: &str, job_id: &str, result: &str) -> Result<Cancelled, QueueError>;

    /// Looks after a task: finds what was lost and counts it, forgets consumers and tenants that are gone.
    async fn tend(&self, task: &str) -> Result<Tended, QueueError>;

    /// Takes a consumer that ends off the books; its jobs, if it has any, stay claimed until their lease ends.
    async fn leave(&self, task: &str, consumer: &str) -> Result<(), QueueError>;

    /// Would the queue take a job now? Asked by a write, since a full or read-only store still answers reads.
    async fn check_writable(&self) -> Result<(), QueueError>;
}

/// What looking after a task brought to light.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tended {
    /// Unsettled jobs that are gone from the store without a settlement: somebody deleted them.
    pub lost: u64,
    /// Consumer groups that had to be made again.
    pub groups_remade: u64,
}

/// A task's queue in numbers; exact, as of one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counts {
    /// Unsettled jobs.
    pub depths: Depths,
    /// Those of them that a consumer holds.
    pub running: Depths,
    /// Those of them that wait for another try.
    pub delayed: u64,
    /// Their size.
    pub bytes: u64,
    /// Jobs settled since the queue began.
    pub settled: u64,
    /// Those of them that no model ran to their end: expired or cancelled. They say nothing of how fast work is done.
    pub unrun: u64,
    /// Jobs known to have been lost, since the queue began.
    pub lost: u64,
    /// Dead letters kept.
    pub dead: u64,
}

/// Which results to list.
#[derive(Debug, Clone, Default)]
pub struct ResultsFilter {
    /// At most so many, newest first.
    pub limit: usize,
    /// Of this task only.
    pub task: Option<String>,
    /// Of this sensor only.
    pub sensor_id: Option<String>,
    /// Finished at or after this, in Unix milliseconds.
    pub since: Option<u64>,
    /// With this outcome only.
    pub outcome: Option<Outcome>,
}

/// How far the order of settlement may differ from that of the finishing times, in milliseconds: consumers' clocks
/// differ, and a result that could not be stored at once is stored with the time at which it was there.
const DISORDER_MS: u64 = 600_000;

impl ResultsFilter {
    /// Is nothing wanted that was settled before a result of that finishing time? Then a listing ends.
    #[must_use]
    pub fn ends_before(&self, finished_at: u64) -> bool {
        self.since.is_some_and(|since| finished_at.saturating_add(DISORDER_MS) < since)
    }
}

/// Where a listing of all of a task's results goes on; its inside is the backend's.
#[derive(Debug, Clone, Default)]
pub struct ResultsMark {
    /// Its place in the listing.
    pub(super) position: u64,
    /// What was listed last there.
    pub(super) listed: Vec<String>,
}

/// A part of a task's results.
#[derive(Debug, Default)]
pub struct ResultsPage {
    /// The latest settled first; fewer than asked for where some have expired.
    pub results: Vec<Box<RawValue>>,
    /// Where the next page begins; none after the last one.
    pub next: Option<ResultsMark>,
}

/// A job changed its state: whoever watches it reads it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// These jobs did.
    Jobs(Arc<[String]>),
    /// Any may have: changes were missed.
    Unknown,
}

/// What is known about jobs.
///
/// # Errors
/// [`QueueError`] everywhere.
#[async_trait]
pub trait JobBook: Send + Sync {
    /// A job's state; `None` for an id that never was, or whose result has expired.
    async fn job(&self, task: &str, job_id: &str) -> Result<Option<JobState>, QueueError>;

    /// An unsettled job as it was handed in; `None` once it has ended, or where it is gone.
    async fn entry(&self, task: &str, job_id: &str) -> Result<Option<Entry>, QueueError>;

    /// The newest results of some tasks, newest first.
    async fn results(&self, tasks: &[&str], filter: &ResultsFilter) -> Result<Vec<Box<RawValue>>, QueueError>;

    /// All results of a task, page by page: the latest settled first, from `after` on. Each is listed once, and what
    /// comes while the listing goes on is not.
    async fn results_page(
        &self,
        task: &str,
        after: Option<&ResultsMark>,
        limit: usize,
    ) -> Result<ResultsPage, QueueError>;

    /// The task's numbers.
    async fn counts(&self, task: &str) -> Result<Counts, QueueError>;

    /// Changes of a task's jobs, from now on. Only what was watched before a change is sure to hear of it: watch
    /// first, then read.
    async fn watch(&self, task: &str) -> Result<broadcast::Receiver<Change>, QueueError>;
}

/// A job that was given up, kept with its reading until somebody decides.
#[derive(Debug)]
pub struct DeadLetter {
    /// The job.
    pub job_id: String,
    /// As it was handed in, or why that cannot be read.
    pub entry: Result<Entry, String>,
    /// The result shown for it.
    pub result: Box<RawValue>,
    /// Every try.
    pub failures: Vec<AttemptError>,
    /// When it was given up, in Unix milliseconds.
    pub died_at: u64,
}

/// Jobs that were given up.
///
/// # Errors
/// [`QueueError`] everywhere.
#[async_trait]
pub trait DeadLetters: Send + Sync {
    /// Dead letters of a task, newest first, from position `skip`.
    async fn dead(&self, task: &str, skip: usize, limit: usize) -> Result<Vec<DeadLetter>, QueueError>;

    /// One dead letter.
    async fn dead_letter(&self, task: &str, job_id: &str) -> Result<Option<DeadLetter>, QueueError>;

    /// Hands dead letters in again, as new jobs under their old ids and without a deadline; `false` where there is
    /// none of that id. Their old results are gone with the same step.
    async fn requeue(&self, task: &str, job_ids: &[String]) -> Result<Vec<bool>, QueueError>;

    /// Drops dead letters for good; `false` where there is none of that id. Their results stay as long as others do.
    async fn drop_dead(&self, task: &str, job_ids: &[String]) -> Result<Vec<bool>, QueueError>;
}

/// A result that somebody wants to be told of.
#[derive(Debug, Clone)]
pub struct Callback {
    /// The job.
    pub job_id: String,
    /// Where to.
    pub url: String,
    /// Which try this is; 1 is the first.
    pub attempt: u32,
    /// How long ago the job ended.
    pub age: Duration,
    /// The result, unless it has expired meanwhile.
    pub result: Option<Box<RawValue>>,
}

/// Callbacks that are due, since the settlement of their job.
///
/// # Errors
/// [`QueueError`] everywhere.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// Takes up to `limit` callbacks that are due; they are due again after `lease`, unless they are done by then.
    async fn callbacks(&self, task: &str, limit: usize, lease: Duration) -> Result<Vec<Callback>, QueueError>;

    /// A callback needs no more tries; `note` is kept with the job's result for as long as that is.
    async fn callback_done(&self, task: &str, job_id: &str, note: &str) -> Result<(), QueueError>;

    /// A callback is to be tried again after `delay`; `note` says why.
    async fn callback_later(&self, task: &str, job_id: &str, delay: Duration, note: &str) -> Result<(), QueueError>;
}

/// What is known under an idempotency key of a call that is answered at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// Nothing: the call is the caller's to make, and to finish.
    New,
    /// The same call is being made.
    InFlight,
    /// It was made, and answered so.
    Replayed(Stored),
    /// The key was used for another call.
    Conflict,
}

/// Idempotency keys of calls that are answered at once.
///
/// # Errors
/// [`QueueError`] everywhere.
#[async_trait]
pub trait Replays: Send + Sync {
    /// Begins a call under a key; it counts as being made for `patience`.
    async fn begin(&self, task: &str, key: &str, fingerprint: &str, patience: Duration) -> Result<Begun, QueueError>;

    /// Keeps the answer of a call for `IDEMPOTENCY_TTL_SECONDS`, or, without one, forgets the call.
    async fn finish(&self, task: &str, key: &str, fingerprint: &str, answer: Option<Stored>) -> Result<(), QueueError>;
}

/// Facts about a task's models that all processes share.
///
/// # Errors
/// [`QueueError`] everywhere.
#[async_trait]
pub trait Facts: Send + Sync {
    /// All facts under `name`: model or tier to value.
    async fn facts(&self, task: &str, name: &str) -> Result<Vec<(String, String)>, QueueError>;

    /// Sets a shared fact, or removes it.
    async fn set_fact(&self, task: &str, name: &str, field: &str, value: Option<&str>) -> Result<(), QueueError>;
}
