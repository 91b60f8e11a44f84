//! What a queue tells of its jobs: one by its id, all results in order, the numbers of a task, and every change.
//!
//! Owns these promises; nothing here changes a job.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::value::RawValue;
use tokio::sync::broadcast;

use super::{Depths, QueueError};
use crate::queue::job::{Entry, JobState, Outcome};

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
    pub(in crate::queue) position: u64,
    /// What was listed last there.
    pub(in crate::queue) listed: Vec<String>,
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
