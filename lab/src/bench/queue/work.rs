//! The work that every queue is given: a mean of seven numbers a job, and its result kept. One process hands jobs in,
//! one runs them; each is this binary again, so that they share nothing but the queue.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::{Args, ValueEnum};
use shared::reading::Input;
use worker_native::config::{Config, QueueConfig, Source};
use worker_native::queue::{self, Claimed, Entry, NewJob, Outcome, Priority, Queue, Settlement};
use worker_native::routing::DecisionRecord;

const TASK: &str = "bench";
const READINGS: u64 = 64;
/// Jobs of one hand-in, as BullMQ's script does it.
const BULK: u64 = 500;
/// Jobs claimed and settled at once, and how many such groups are under way.
const GROUP: usize = 256;
const LOOPS: usize = 4;

/// Which half of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Half {
    /// Hands jobs in.
    Enqueue,
    /// Runs them.
    Run,
    /// Both, in one process: for a queue that belongs to one.
    Both,
}

#[derive(Debug, Args)]
pub(crate) struct WorkArgs {
    /// Which half.
    #[arg(value_enum)]
    pub(crate) half: Half,
    /// A Redis URL, or the path of a file.
    pub(crate) queue: String,
    /// How many jobs.
    pub(crate) jobs: u64,
}

/// Does one half; says `ready`, waits for a line, works, and tells the seconds it took.
///
/// # Errors
/// What keeps it from its work.
pub(crate) fn run(args: &WorkArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let queue = queue::open(&config(&args.queue)?)?;
        queue.counts(TASK).await.context("the queue does not answer")?;
        say("ready")?;
        std::io::stdin().read_line(&mut String::new())?;
        let started = Instant::now();
        match args.half {
            Half::Enqueue => enqueue(&queue, args.jobs).await?,
            Half::Run => run_jobs(&queue, args.jobs).await?,
            Half::Both => tokio::try_join!(enqueue(&queue, args.jobs), run_jobs(&queue, args.jobs)).map(|_| ())?,
        }
        say(&started.elapsed().as_secs_f64().to_string())
    })
}

fn say(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

fn config(queue: &str) -> anyhow::Result<QueueConfig> {
    let is_url = queue.contains("://");
    let mut settings = BTreeMap::from([
        ("QUEUE_MAX_DEPTH".to_owned(), "100000000".to_owned()),
        ("QUEUE_MAX_BYTES".to_owned(), (1u64 << 40).to_string()),
        // A machine that is busy with one thing at a time may make a command wait.
        ("REDIS_TIMEOUT_MS".to_owned(), "60000".to_owned()),
    ]);
    settings.insert(if is_url { "REDIS_URL" } else { "QUEUE_FILE" }.to_owned(), queue.to_owned());
    let source = Source::new(settings, None)?;
    Ok(Config::read(source)?.queue)
}

fn entry(i: u64) -> Entry {
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let features = (0..7).map(|k| ((i % READINGS) * 7 + k) as f32 / 448.0).collect();
    Entry {
        job_id: Entry::new_id(TASK),
        request_id: format!("r{i}"),
        task: TASK.to_owned(),
        sensor_id: Some(format!("s{}", i % READINGS)),
        timestamp: Some(1_670_000_000.0),
        lane: "fast".to_owned(),
        model: "mean".to_owned(),
        model_version: 1,
        fallback: false,
        pinned: false,
        decision: DecisionRecord::default(),
        accepted_at: 0,
        deadline_at: None,
        priority: Priority::Normal,
        tenant: None,
        callback: None,
        awaited: false,
        input: Input::Features(features),
    }
}

/// Hands jobs in, a few bulks at once.
pub(crate) async fn enqueue(queue: &Arc<dyn Queue>, jobs: u64) -> anyhow::Result<()> {
    let next = AtomicU64::new(0);
    let one = || async {
        loop {
            let from = next.fetch_add(BULK, Ordering::Relaxed);
            if from >= jobs {
                return anyhow::Ok(());
            }
            let bulk =
                (from..jobs.min(from + BULK)).map(|i| NewJob { entry: entry(i), left: None, room: None, once: None });
            queue.enqueue(TASK, bulk.collect()).await?;
        }
    };
    tokio::try_join!(one(), one(), one()).map(|_| ())
}

/// Runs jobs until so many are settled.
pub(crate) async fn run_jobs(queue: &Arc<dyn Queue>, jobs: u64) -> anyhow::Result<()> {
    let settled = Arc::new(AtomicU64::new(0));
    let mut loops = tokio::task::JoinSet::new();
    for i in 0..LOOPS {
        let (queue, settled) = (Arc::clone(queue), Arc::clone(&settled));
        loops.spawn(async move { run_loop(&queue, &format!("c{i}"), &settled, jobs).await });
    }
    while let Some(ended) = loops.join_next().await {
        ended??;
    }
    Ok(())
}

async fn run_loop(queue: &Arc<dyn Queue>, consumer: &str, settled: &AtomicU64, jobs: u64) -> anyhow::Result<()> {
    while settled.load(Ordering::Relaxed) < jobs {
        let claimed = queue.claim(TASK, consumer, GROUP).await?;
        if claimed.is_empty() {
            queue.wait(TASK, Duration::from_millis(20)).await?;
            continue;
        }
        let results = claimed.into_iter().map(settlement).collect::<anyhow::Result<Vec<_>>>()?;
        let firsts = queue.settle(TASK, results).await?.iter().filter(|settled| settled.first).count();
        settled.fetch_add(firsts as u64, Ordering::Relaxed);
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "seven numbers")]
fn settlement(job: Claimed) -> anyhow::Result<Settlement> {
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
