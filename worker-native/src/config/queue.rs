//! The settings of Redis and of the queue's promises.

use std::time::Duration;

use super::source::Reader;
use super::{millis, to_u32};

/// Redis and the promises of the queue.
#[derive(Debug, Clone)]
pub struct QueueConfig {
    /// Where Redis is; may hold a password, so it is never printed.
    pub redis_url: String,
    /// First part of every key.
    pub prefix: String,
    /// Jobs a task may have accepted and unsettled; beyond it 503.
    pub max_depth: u32,
    /// A job not settled for this long is given to another consumer.
    pub lease: Duration,
    /// How often a job may be started; then it is set aside as `dead`.
    pub max_attempts: u32,
    /// How long a result can be read by its job id.
    pub result_ttl: Duration,
    /// Results kept for `/results`, for each task.
    pub history: u32,
    /// Jobs one consumer claims at once.
    pub claim_batch: u32,
    /// How long a Redis command may take before the caller is told 503.
    pub command_timeout: Duration,
}

pub(super) fn read(read: &mut Reader) -> QueueConfig {
    QueueConfig {
        redis_url: read.secret("REDIS_URL", "redis://127.0.0.1:6379", "where Redis is"),
        prefix: read.text("QUEUE_PREFIX", "ir", "first part of every Redis key; two deployments on one Redis need two"),
        max_depth: to_u32(read.number(
            "QUEUE_MAX_DEPTH",
            100_000,
            1..=100_000_000,
            "jobs a task may have accepted and unsettled; beyond it 503",
        )),
        lease: millis(read.number(
            "LEASE_MS",
            15_000,
            100..=3_600_000,
            "a job not settled for this long is given to another consumer",
        )),
        max_attempts: to_u32(read.number(
            "MAX_ATTEMPTS",
            5,
            1..=100,
            "how often a job may be started before it is set aside as dead",
        )),
        result_ttl: Duration::from_secs(read.number(
            "RESULT_TTL_SECONDS",
            86_400,
            1..=31_536_000,
            "how long a result can be read by its job id",
        )),
        history: to_u32(read.number(
            "RESULTS_HISTORY",
            10_000,
            1..=1_000_000,
            "results kept for /results, for each task",
        )),
        claim_batch: to_u32(read.number("CLAIM_BATCH", 64, 1..=1_000, "jobs one consumer claims at once")),
        command_timeout: millis(read.number(
            "REDIS_TIMEOUT_MS",
            500,
            10..=60_000,
            "how long a Redis command may take before the caller is told 503",
        )),
    }
}
