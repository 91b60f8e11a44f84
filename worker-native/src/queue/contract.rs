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

mod around;
mod book;
mod labels;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::job::{AttemptError, Claimed, Entry, Outcome, Ticket};
pub use around::{Begun, Callback, DeadLetter, DeadLetters, Facts, NewFact, Outbox, Replays};
pub use book::{Change, Counts, JobBook, ResultsFilter, ResultsMark, ResultsPage};
pub use labels::{Belief, Labelled, Labels, NewLabel};

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
    /// The queue's file did not answer in time: its disk stalls. What was asked may still be done; asked again, jobs
    /// are told apart by their ids and idempotency keys.
    #[error("the queue's file: no answer within {} ms; what was asked may still be done", .0.as_millis())]
    Slow(Duration),
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
    /// Time left until its deadline, at the moment it is handed in: what it waits for on its way is taken off.
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

    /// Hands back what is claimed under a consumer's name without its knowledge: what it was given no longer than
    /// `within` ago and has not among `held`. Such claims are those whose answer was lost on its way; none of them counts
    /// as a start, and none that is still under way gives out jobs afterwards. Gives the number of jobs handed back.
    async fn release_unknown(
        &self,
        task: &str,
        consumer: &str,
        held: &[Ticket],
        within: Duration,
    ) -> Result<u64, QueueError>;

    /// Ends a job, whatever it is doing, with a result of the outcome `cancelled`.
    async fn cancel(&self, task: &str, job_id: &str, result: &str) -> Result<Cancelled, QueueError>;

    /// Looks after a task: finds what was lost and counts it, forgets consumers and tenants that are gone.
    async fn tend(&self, task: &str) -> Result<Tended, QueueError>;

    /// Takes a consumer that ends off the books; its jobs, if it has any, stay claimed until their lease ends.
    async fn leave(&self, task: &str, consumer: &str) -> Result<(), QueueError>;

    /// Would the queue take a job of each of these tasks now? Asked by a write, since a full or read-only store still
    /// answers reads.
    async fn check_writable(&self, tasks: &[&str]) -> Result<(), QueueError>;
}

/// What looking after a task brought to light.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tended {
    /// Unsettled jobs that are gone from the store without a settlement: somebody deleted them.
    pub lost: u64,
    /// Consumer groups that had to be made again.
    pub groups_remade: u64,
}
