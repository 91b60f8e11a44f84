//! The loop that runs queued jobs: claim, infer, settle.
//!
//! One of the three places that turn a failure into an outcome (`settle`). A job is acknowledged
//! nowhere else, so whatever goes wrong between claim and settle (a panic, a kill, Redis away)
//! leaves the job to be claimed again after its lease.

mod settle;

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::clock::now_ms;
use crate::engine::PoolError;
use crate::queue::redis::ClaimConnection;
use crate::queue::{Claimed, Entry, QueueError};
use settle::{Departure, settle};

/// Longest pause between two tries while Redis is away.
const MAX_BACKOFF: Duration = Duration::from_secs(2);

/// Runs the jobs of one task until shutdown; what was claimed by then is still settled.
pub async fn run(app: App, task: String, shutdown: CancellationToken) {
    let consumer = format!("{}-{}", std::process::id(), uuid::Uuid::new_v4().simple());
    tracing::info!(%task, %consumer, "consumer started");
    let mut connection = None;
    let mut backoff = Backoff::default();
    let mut reclaim_at = tokio::time::Instant::now();
    while !shutdown.is_cancelled() {
        let reclaim = tokio::time::Instant::now() >= reclaim_at;
        if reclaim {
            // A third of the lease: a dead consumer's job restarts soon after its lease ends.
            reclaim_at += (app.config.queue.lease / 3).max(Duration::from_millis(50));
        }
        match take(&app, &mut connection, &task, &consumer, reclaim).await {
            Ok(claimed) => {
                backoff.reset();
                if !claimed.is_empty() {
                    work(&app, &task, claimed, &shutdown).await;
                }
            }
            Err(error) => {
                let pause = backoff.next();
                if backoff.is_first() {
                    tracing::warn!(%task, %error, "redis cannot be used; the consumer tries again until it can");
                }
                connection = None;
                shutdown.run_until_cancelled(tokio::time::sleep(pause)).await;
            }
        }
    }
    tracing::info!(%task, %consumer, "consumer stopped");
}

/// Takes jobs that lost their consumer, when it is time for that, and new ones otherwise.
async fn take(
    app: &App,
    connection: &mut Option<ClaimConnection>,
    task: &str,
    consumer: &str,
    reclaim: bool,
) -> Result<Vec<Claimed>, QueueError> {
    if reclaim {
        let reclaimed = app.queue.reclaim(task, consumer).await?;
        if !reclaimed.is_empty() {
            tracing::info!(%task, jobs = reclaimed.len(), "took over jobs whose lease ended");
            return Ok(reclaimed);
        }
    }
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(app.queue.claim_connection()?),
    };
    app.queue.claim(connection, task, consumer).await
}

async fn work(app: &App, task: &str, claimed: Vec<Claimed>, shutdown: &CancellationToken) {
    // Read once for all of them: they leave the queue at the same moment.
    match app.queue.depths(task).await {
        Ok(depths) => app.snapshots.set_depths(task, &depths),
        Err(error) => tracing::debug!(%task, %error, "the backlog stays as last known"),
    }
    let load = app.snapshots.load(task);
    let mut running: FuturesUnordered<_> =
        claimed.into_iter().map(|job| run_job(app, task, job, &load, shutdown)).collect();
    while running.next().await.is_some() {}
}

async fn run_job(app: &App, task: &str, job: Claimed, load: &shared::snapshot::TaskLoad, shutdown: &CancellationToken) {
    let accuracy_of = |tier: &str| load.tiers.iter().find(|load| load.tier == tier).and_then(|load| load.accuracy);
    let departure = Departure { depth: load.depth(), accuracy: None };
    let entry = match &job.entry {
        Ok(entry) => entry,
        Err(fault) => return settle::unreadable(app, task, &job.stream_id, fault, shutdown).await,
    };
    let departure = Departure { accuracy: entry.decision.tier.as_deref().and_then(accuracy_of), ..departure };
    let result = if job.attempt > app.config.queue.max_attempts {
        Err(Failure::Dead(format!("started {} times without an end", job.attempt - 1)))
    } else if entry.deadline_at.is_some_and(|deadline| now_ms() >= deadline) {
        Err(Failure::Expired)
    } else {
        infer(app, entry).await
    };
    settle(app, entry, &job.stream_id, job.attempt, departure, result, shutdown).await;
}

/// Why a job has no answer.
#[derive(Debug)]
enum Failure {
    /// The model failed on it; another try would as well.
    Failed(String),
    /// Its deadline passed before it started.
    Expired,
    /// Started too often without an end.
    Dead(String),
    /// Not the job's fault and not final: leave it for another try.
    Leave(String),
}

async fn infer(app: &App, entry: &Entry) -> Result<crate::engine::Answer, Failure> {
    let pool = app
        .engine
        .pool(&entry.task, &entry.model, entry.model_version)
        .ok_or_else(|| Failure::Leave(format!("{} v{} is not loaded here", entry.model, entry.model_version)))?;
    let width = app.engine.catalog().task(&entry.task).map(|task| task.schema.width());
    if width != Some(entry.features.len()) {
        return Err(Failure::Failed("the task's schema has changed since the job was accepted".to_owned()));
    }
    pool.predict(entry.features.clone()).await.map_err(|error| match error {
        PoolError::Failed(text) => Failure::Failed(text),
        PoolError::Full | PoolError::Closed => Failure::Leave(error.to_string()),
    })
}

/// Doubling pauses while Redis is away.
#[derive(Debug, Default)]
struct Backoff {
    failures: u32,
}

impl Backoff {
    fn next(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        Duration::from_millis(50 << self.failures.min(6)).min(MAX_BACKOFF)
    }

    const fn is_first(&self) -> bool {
        self.failures == 1
    }

    const fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_limit_and_start_over() {
        let mut backoff = Backoff::default();
        let pauses: Vec<u128> = (0..8).map(|_| backoff.next().as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1_600, 2_000, 2_000, 2_000]);
        backoff.reset();
        assert_eq!(backoff.next().as_millis(), 100);
        assert!(backoff.is_first());
    }
}
