//! The queue of accepted jobs, shared by all processes through Redis.
//!
//! Its promises, each held by a test:
//! - A job that was accepted (202) is stored before the answer goes out, and runs at least once.
//! - A job has one visible result: the first settlement wins, later ones change nothing.
//! - A job is acknowledged only in the step that stores its result; a consumer that dies before
//!   leaves it to another, after the lease.
//! - The backlog is counted where jobs come and go, in the same step; it is exact.
//!
//! In other words: at-least-once execution, exactly one visible result.

pub mod entry;
mod link;
pub mod redis;
mod results;

pub use entry::{Claimed, Entry, JobState, Outcome, ResultRecord};
pub use redis::RedisQueue;

use std::collections::BTreeMap;

/// Unsettled jobs of a task by tier.
pub type Depths = BTreeMap<String, u32>;

/// Why the queue did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// Redis cannot be reached, did not answer in time, or takes no writes (full, read-only, not persisting).
    #[error("Redis: {0}")]
    Unavailable(#[from] ::redis::RedisError),
    /// What Redis holds is not what we wrote there.
    #[error("a queue entry cannot be read: {0}")]
    Corrupt(String),
}

/// What became of a hand-in.
#[derive(Debug, PartialEq, Eq)]
pub enum Enqueued {
    /// Stored; the backlog afterwards.
    Accepted(Depths),
    /// As many jobs are unsettled as may be; nothing was stored.
    Full {
        /// Unsettled jobs of the task.
        depth: u32,
    },
}

/// What became of a settlement.
#[derive(Debug, PartialEq, Eq)]
pub struct Settled {
    /// Was this the job's first result? Later ones are dropped.
    pub first: bool,
    /// The backlog afterwards.
    pub depths: Depths,
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
}
