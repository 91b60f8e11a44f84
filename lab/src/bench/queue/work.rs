//! The work that every queue is given: a mean of seven numbers a job, and its result kept. One process hands jobs in,
//! one runs them; each is this binary again, so that they share nothing but the queue.
//!
//! Owns the command, the queue's settings, a job and its result. What is done with them is `halves`'s; who starts such
//! a process, and what it costs, is `child`'s.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::{Args, ValueEnum};
use shared::reading::Input;
use worker_native::config::{Config, QueueConfig, Source};
use worker_native::queue::{self, Claimed, Entry, NewJob, Outcome, Settlement};

use super::halves;

pub(super) const TASK: &str = "bench";
const READINGS: u64 = 64;
/// Nothing that is measured takes as long; a queue that lost a job would be waited for without end.
const LIMIT: Duration = Duration::from_secs(900);

/// Which part of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Half {
    /// Hands jobs in, many at once.
    Enqueue,
    /// Runs them.
    Run,
    /// Both, in one process: for a queue that belongs to one.
    Both,
    /// Hands a bulk in, runs as many, and again: the backlog stays as it is.
    Steady,
    /// Hands jobs in one by one, from many callers at once.
    EnqueueSingly,
    /// Runs jobs, and settles them one by one, many at once.
    SettleSingly,
}

impl Half {
    /// The name on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

#[derive(Debug, Args)]
pub(crate) struct WorkArgs {
    /// Which part.
    #[arg(value_enum)]
    pub(crate) half: Half,
    /// A Redis URL, or the path of a file.
    pub(crate) queue: String,
    /// How many jobs.
    pub(crate) jobs: u64,
    /// A setting of the queue, as NAME=VALUE; may be given again.
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) set: Vec<String>,
}

/// Does its part; says `ready`, waits for a line, works, and tells the seconds it took and, on a line of its own, how
/// often it claimed jobs.
///
/// # Errors
/// What keeps it from its work.
pub(crate) fn run(args: &WorkArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let queue = queue::open(&config(&args.queue, &args.set)?)?;
        queue.counts(TASK).await.context("the queue does not answer")?;
        say("ready")?;
        std::io::stdin().read_line(&mut String::new())?;
        let started = Instant::now();
        let done = tokio::time::timeout(LIMIT, halves::work(queue, args.half, args.jobs)).await;
        let claims = done.with_context(|| format!("the work was not done after {} s", LIMIT.as_secs()))??;
        say(&started.elapsed().as_secs_f64().to_string())?;
        say(&claims.to_string())
    })
}

fn say(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

/// A queue at a URL or in a file, without bounds, with these settings (`NAME=VALUE`) over the defaults.
///
/// # Errors
/// When a setting is none.
pub(crate) fn config(queue: &str, more: &[String]) -> anyhow::Result<QueueConfig> {
    let is_url = queue.contains("://");
    let mut settings = BTreeMap::from([
        ("QUEUE_MAX_DEPTH".to_owned(), "100000000".to_owned()),
        ("QUEUE_MAX_BYTES".to_owned(), (1u64 << 40).to_string()),
        // A machine that is busy with one thing at a time may make a command wait.
        ("REDIS_TIMEOUT_MS".to_owned(), "60000".to_owned()),
    ]);
    settings.insert(if is_url { "REDIS_URL" } else { "QUEUE_FILE" }.to_owned(), queue.to_owned());
    for setting in more {
        let (name, value) = setting.split_once('=').with_context(|| format!("{setting} is no NAME=VALUE"))?;
        settings.insert(name.to_owned(), value.to_owned());
    }
    let source = Source::new(settings, None)?;
    Ok(Config::read(source)?.queue)
}

fn entry(i: u64) -> Entry {
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let features = (0..7).map(|k| ((i % READINGS) * 7 + k) as f32 / 448.0).collect();
    Entry {
        request_id: format!("r{i}"),
        sensor_id: Some(format!("s{}", i % READINGS)),
        timestamp: Some(1_670_000_000.0),
        ..Entry::new(TASK, "fast", ("mean", 1), Input::Features(features))
    }
}

/// The job of a number.
pub(super) fn new_job(i: u64) -> NewJob {
    NewJob { entry: entry(i), left: None, room: None, once: None }
}

/// Runs a job.
///
/// # Errors
/// When it is none of ours.
#[expect(clippy::cast_precision_loss, reason = "seven numbers")]
pub(super) fn settlement(job: Claimed) -> anyhow::Result<Settlement> {
    let entry = job.entry.map_err(anyhow::Error::msg)?;
    let Input::Features(features) = &entry.input else { anyhow::bail!("no numbers") };
    let score = features.iter().sum::<f32>() / features.len() as f32;
    let result = format!(
        r#"{{"job_id":"{}","outcome":"done","finished_at":{},"sensor_id":"{}","score":{score}}}"#,
        entry.job_id,
        worker_native::clock::now_ms(),
        entry.sensor_id.as_deref().unwrap_or_default(),
    );
    Ok(Settlement { ticket: job.ticket, outcome: Outcome::Done, result, awaited: false, failures: vec![] })
}
