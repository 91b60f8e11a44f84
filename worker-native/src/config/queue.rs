//! The settings of the queue: where it is, and what it promises.

use std::path::PathBuf;
use std::time::Duration;

use super::source::{Reader, Secret};
use super::{millis, to_u32};
use crate::queue::link::Address;

/// Where the queue is, and its promises.
#[derive(Debug, Clone)]
pub struct QueueConfig {
    /// Where Redis is; may hold a password. Empty: the queue is the file.
    pub redis_url: Secret,
    /// The queue's file where there is no Redis.
    pub file: PathBuf,
    /// What a commit to the file waits for.
    pub file_sync: FileSync,
    /// How long a step on the queue's file, or the spool's, may take.
    pub file_timeout: Duration,
    /// Where jobs wait that Redis could not take.
    pub spool_file: PathBuf,
    /// Their size in bytes; zero is no spool.
    pub spool_max_bytes: u64,
    /// First part of every key.
    pub prefix: String,
    /// Jobs a task may have accepted and unsettled.
    pub max_depth: u32,
    /// Their size in bytes.
    pub max_bytes: u64,
    /// One tenant's share of the two, in percent.
    pub tenant_max_percent: u32,
    /// Flows (a class of one tenant's jobs) of a task that Redis keeps apart; more tenants share one.
    pub tenant_max_lines: u32,
    /// Longest wait that is promised; zero is no bound.
    pub max_wait: Duration,
    /// What a normal job's age lacks to that of an urgent one; five times that for a low one.
    pub priority_step: Duration,
    /// A job whose consumer does not renew it for this long is given to another.
    pub lease: Duration,
    /// How often a job may be started; then it is set aside as `dead`.
    pub max_attempts: u32,
    /// Pause before the second start; it doubles for each further one.
    pub retry_base: Duration,
    /// Longest pause between two starts.
    pub retry_max: Duration,
    /// How long a result can be read by its job id.
    pub result_ttl: Duration,
    /// Results kept for `/results`, for each task.
    pub history: u32,
    /// How long a dead letter is kept.
    pub dead_ttl: Duration,
    /// Dead letters kept, for each task.
    pub dead_max: u32,
    /// How long an idempotency key is remembered.
    pub idempotency_ttl: Duration,
    /// How long an answer that was given at once can be labelled.
    pub label_ttl: Duration,
    /// Such answers kept beside the queue, for each task.
    pub label_records: u32,
    /// Jobs one consumer claims at once.
    pub claim_batch: u32,
    /// Jobs one consumer holds at once, running or about to.
    pub concurrency: u32,
    /// How long a Redis command may take before the caller is told 503.
    pub command_timeout: Duration,
    /// Start also with a Redis that would lose jobs.
    pub accept_loss: bool,
}

/// What a commit to a file of ours waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSync {
    /// The disk: what was answered outlives a loss of power.
    Full,
    /// The operating system: what was answered outlives the process; a loss of power may take back the last of it.
    Normal,
}

impl QueueConfig {
    /// Is the queue in Redis, and not in a file?
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        !self.redis_url.is_empty()
    }
}

pub(super) fn read(read: &mut Reader) -> QueueConfig {
    let redis_url = read.secret(
        "REDIS_URL",
        "",
        "where Redis is: redis://, rediss://, redis+sentinel:// or redis+cluster://; without it the queue is QUEUE_FILE",
    );
    if !redis_url.is_empty()
        && let Err(fault) = Address::parse(&redis_url)
    {
        read.fault(&fault.to_string());
    }
    QueueConfig {
        redis_url,
        file: PathBuf::from(read.text(
            "QUEUE_FILE",
            "data/queue.sqlite",
            "the queue's file where there is no REDIS_URL; for one process alone",
        )),
        file_sync: match read
            .one_of(
                "QUEUE_FILE_SYNC",
                "full",
                &["full", "normal"],
                "when a write to QUEUE_FILE or SPOOL_FILE is done: full (on the disk) or normal (with the operating system: a loss of power may take back the last jobs)",
            )
            .as_str()
        {
            "normal" => FileSync::Normal,
            _ => FileSync::Full,
        },
        file_timeout: millis(read.number(
            "QUEUE_FILE_TIMEOUT_MS",
            5_000,
            100..=600_000,
            "how long a step on QUEUE_FILE or SPOOL_FILE may take, on a disk that stalls, before the caller is told 503",
        )),
        spool_file: PathBuf::from(read.text(
            "SPOOL_FILE",
            "data/spool.sqlite",
            "where jobs wait that Redis cannot take, with SPOOL_MAX_BYTES; for one process alone",
        )),
        spool_max_bytes: read.number(
            "SPOOL_MAX_BYTES",
            0,
            0..=1 << 40,
            "size of the jobs that wait in SPOOL_FILE while Redis is away; beyond it 503; 0 keeps none",
        ),
        prefix: read.text("QUEUE_PREFIX", "ir", "first part of every Redis key; two deployments on one Redis need two"),
        max_depth: to_u32(read.number(
            "QUEUE_MAX_DEPTH",
            100_000,
            1..=100_000_000,
            "jobs a task may have accepted and unsettled; beyond it 503",
        )),
        max_bytes: read.number(
            "QUEUE_MAX_BYTES",
            1 << 30,
            1_024..=1 << 40,
            "size of a task's unsettled jobs; beyond it 503",
        ),
        tenant_max_percent: to_u32(read.number(
            "TENANT_MAX_PERCENT",
            80,
            1..=100,
            "what one tenant may hold of QUEUE_MAX_DEPTH and QUEUE_MAX_BYTES; beyond it 429",
        )),
        tenant_max_lines: to_u32(read.number(
            "TENANT_MAX_LINES",
            1_000,
            1..=100_000,
            "lines, one for each class and tenant with jobs, that a task has in Redis; tenants beyond share one",
        )),
        max_wait: millis(read.number(
            "QUEUE_MAX_WAIT_MS",
            0,
            0..=86_400_000,
            "a job that would wait longer, as the queue drains now, is refused with 503; 0 takes all that fit",
        )),
        priority_step: millis(read.number(
            "PRIORITY_STEP_MS",
            10_000,
            0..=3_600_000,
            "how much longer a normal job waits before it goes ahead of a new urgent one; five times that for a low one",
        )),
        lease: millis(read.number(
            "LEASE_MS",
            15_000,
            100..=3_600_000,
            "a job whose consumer does not renew it for this long is given to another; a live one renews every third",
        )),
        max_attempts: to_u32(read.number(
            "MAX_ATTEMPTS",
            5,
            1..=100,
            "how often a job may be started before it is set aside as dead",
        )),
        retry_base: millis(read.number(
            "RETRY_BASE_MS",
            500,
            1..=3_600_000,
            "pause before a failed job's second start; it doubles for each further one",
        )),
        retry_max: millis(read.number(
            "RETRY_MAX_MS",
            60_000,
            1..=86_400_000,
            "longest pause between two starts of a job",
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
            "results kept for /results, for each task; none longer than RESULT_TTL_SECONDS",
        )),
        dead_ttl: Duration::from_secs(read.number(
            "DEAD_TTL_SECONDS",
            604_800,
            1..=31_536_000,
            "how long a dead letter is kept",
        )),
        dead_max: to_u32(read.number(
            "DEAD_MAX",
            10_000,
            1..=1_000_000,
            "dead letters kept, for each task; beyond it the oldest goes",
        )),
        idempotency_ttl: Duration::from_secs(read.number(
            "IDEMPOTENCY_TTL_SECONDS",
            86_400,
            1..=31_536_000,
            "how long an Idempotency-Key is remembered",
        )),
        label_ttl: Duration::from_secs(read.number(
            "LABEL_TTL_SECONDS",
            3_600,
            1..=31_536_000,
            "how long an answer to a call can be labelled by its request id; jobs can be by their job id, as long as their result is kept",
        )),
        label_records: to_u32(read.number(
            "LABEL_RECORDS",
            100_000,
            8..=10_000_000,
            "answers kept beside the queue for labels, for each task; the oldest go first",
        )),
        claim_batch: to_u32(read.number("CLAIM_BATCH", 64, 1..=1_000, "jobs one consumer claims at once")),
        concurrency: to_u32(read.number(
            "CONSUMER_CONCURRENCY",
            256,
            1..=10_000,
            "jobs of a task that one process holds at once, running or about to",
        )),
        command_timeout: millis(read.number(
            "REDIS_TIMEOUT_MS",
            500,
            10..=60_000,
            "how long a Redis command may take before the caller is told 503",
        )),
        accept_loss: read.flag(
            "ACCEPT_LOSS",
            false,
            "true starts also with a Redis that would lose jobs (it evicts, has no append-only file, is a replica); see doctor",
        ),
    }
}
