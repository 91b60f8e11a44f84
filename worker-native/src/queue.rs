//! The queue of accepted jobs: what it promises (`contract`), what lies in it (`job`), and its two backends.
//!
//! `redis` is for several processes, with `spool` before it where it must not be missed; `sqlite` is for one alone. What runs the jobs is `consumer`'s.

pub mod contract;
pub mod job;
pub(crate) mod link;
pub mod redis;
pub mod spool;
pub mod sqlite;

pub use contract::{
    AWAITED_TTL, Begun, Belief, Bound, Callback, Cancelled, Change, Counts, DeadLetter, DeadLetters, Depths, Enqueued,
    Facts, Full, JobBook, JobQueue, Labelled, Labels, NewFact, NewJob, NewLabel, Once, Outbox, Queue, QueueError,
    Replays, ResultsFilter, ResultsMark, ResultsPage, Retry, Settled, Settlement, Stored, Tended,
};
pub use job::{AttemptError, Claimed, Entry, JobState, Outcome, Priority, ResultRecord, Ticket};
pub use redis::RedisQueue;
pub use spool::SpoolingQueue;
pub use sqlite::SqliteQueue;

use std::sync::Arc;

use crate::config::QueueConfig;

/// The queue that the configuration asks for.
///
/// # Errors
/// [`QueueError`] when it cannot be used as configured: a URL or file that is no good. A Redis that is away is no error
/// here.
pub fn open(config: &QueueConfig) -> Result<Arc<dyn Queue>, QueueError> {
    if !config.is_shared() {
        return Ok(Arc::new(SqliteQueue::open(config)?));
    }
    let redis = Arc::new(RedisQueue::open(config)?);
    if config.spool_max_bytes > 0 { Ok(Arc::new(SpoolingQueue::open(redis, config)?)) } else { Ok(redis) }
}
