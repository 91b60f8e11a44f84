//! The loop that runs queued jobs: claim, infer, settle.
//!
//! One of the three places that turn a failure into an outcome (`settle`). A job is acknowledged
//! nowhere else, so whatever goes wrong between claim and settle (a panic, a kill, Redis away)
//! leaves the job to be claimed again after its lease.

mod settle;

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use shared::reading::Input;
use shared::schema::TaskSchema;
use shared::snapshot::TaskLoad;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::answering::{self, Asked};
use crate::app::App;
use crate::clock::now_ms;
use crate::engine::{Answer, PoolError};
use crate::queue::redis::ClaimConnection;
use crate::queue::{Claimed, Entry, QueueError};
use crate::routing::DecisionRecord;
use settle::{Departure, settle, unreadable};

/// Longest pause between two tries while Redis cannot be used.
const MAX_BACKOFF: Duration = Duration::from_secs(2);
/// From this start on a job runs alone: if it is what kills its consumers, it takes no neighbours with it.
const SUSPECT_ATTEMPT: u32 = 3;
/// How often a reading that found its model's queue full tries again.
const FULL_PAUSE: Duration = Duration::from_millis(5);

/// One consumer of one task's jobs.
#[derive(Debug)]
struct Consumer {
    app: App,
    task: String,
    name: String,
    shutdown: CancellationToken,
}

/// Runs the jobs of one task until shutdown; what was claimed by then is still settled.
pub async fn run(app: App, task: String, shutdown: CancellationToken) {
    let name = format!("{}-{}", std::process::id(), uuid::Uuid::new_v4().simple());
    tracing::info!(%task, consumer = %name, "consumer started");
    let consumer = Consumer { app, task, name, shutdown };
    consumer.consume().await;
    let Consumer { app, task, name, .. } = consumer;
    if let Err(error) = app.queue.leave(&task, &name).await {
        tracing::debug!(%task, %error, "the consumer's name stays in the group");
    }
    tracing::info!(%task, consumer = %name, "consumer stopped");
}

impl Consumer {
    async fn consume(&self) {
        let mut connection = None;
        let mut backoff = Backoff::default();
        let mut reclaim_at = Instant::now();
        while !self.shutdown.is_cancelled() {
            match self.take(&mut connection, &mut reclaim_at).await {
                Ok(claimed) => {
                    backoff.reset();
                    self.work(claimed).await;
                }
                Err(error) => {
                    let pause = backoff.next();
                    if backoff.is_first() {
                        tracing::warn!(task = %self.task, %error, "redis cannot be used; the consumer tries again until it can");
                    }
                    connection = None;
                    self.shutdown.run_until_cancelled(tokio::time::sleep(pause)).await;
                }
            }
        }
    }

    /// Takes jobs that lost their consumer, when it is time for that, and new ones otherwise.
    async fn take(
        &self,
        connection: &mut Option<ClaimConnection>,
        reclaim_at: &mut Instant,
    ) -> Result<Vec<Claimed>, QueueError> {
        let queue = &self.app.queue;
        if Instant::now() >= *reclaim_at {
            let reclaimed = queue.reclaim(&self.task, &self.name).await?;
            if !reclaimed.is_empty() {
                // There may be more: looked at again as soon as these are done.
                tracing::info!(task = %self.task, jobs = reclaimed.len(), "took over jobs whose lease ended");
                return Ok(reclaimed);
            }
            // A third of the lease: a dead consumer's job restarts soon after its lease ends.
            *reclaim_at = Instant::now() + (self.app.config.queue.lease / 3).max(Duration::from_millis(50));
        }
        let connection = match connection {
            Some(connection) => connection,
            None => connection.insert(queue.claim_connection()?),
        };
        queue.claim(connection, &self.task, &self.name).await
    }

    async fn work(&self, claimed: Vec<Claimed>) {
        if claimed.is_empty() {
            return;
        }
        // Read once for all of them: they leave the queue at the same moment.
        match self.app.queue.depths(&self.task).await {
            Ok(depths) => self.app.snapshots.set_depths(&self.task, &depths),
            Err(error) => tracing::debug!(task = %self.task, %error, "the backlog stays as last known"),
        }
        let load = self.app.snapshots.load(&self.task);
        let (suspects, others): (Vec<_>, Vec<_>) = claimed.into_iter().partition(|job| job.attempt >= SUSPECT_ATTEMPT);
        let mut running: FuturesUnordered<_> = others.iter().map(|job| self.run_job(job, &load)).collect();
        while running.next().await.is_some() {}
        for job in &suspects {
            self.run_job(job, &load).await;
        }
    }

    async fn run_job(&self, job: &Claimed, load: &TaskLoad) {
        let exhausted = job.attempt > self.app.config.queue.max_attempts;
        let entry = match &job.entry {
            Ok(entry) => entry,
            Err(fault) if exhausted => return unreadable(self, job, fault).await,
            // A consumer of a newer version may be able to read it.
            Err(fault) => {
                return tracing::warn!(task = %self.task, stream_id = %job.stream_id, fault, "an entry cannot be read");
            }
        };
        let stand_in = self.stand_in(entry);
        let entry = stand_in.as_ref().unwrap_or(entry);
        let accuracy = entry.decision.tier.as_deref().and_then(|tier| load.accuracy_of(tier));
        let departure = Departure { depth: load.depth(), accuracy };
        let ending = if exhausted {
            Ok(Err(Failure::Dead(format!("started {} times without an end", job.attempt - 1))))
        } else if entry.deadline_at.is_some_and(|deadline| now_ms() >= deadline) {
            Ok(Err(Failure::Expired))
        } else {
            self.infer(entry).await
        };
        match ending {
            Ok(ending) => settle(self, job, entry, departure, ending).await,
            Err(Left { reason, started }) => self.leave(job, entry, &reason, started).await,
        }
    }

    /// The job for another version, where its own is not in the repository and did not come within a lease.
    ///
    /// A process that has the version may only be a poll ahead of this one; if there is none, the job would wait for
    /// ever and count in the backlog.
    fn stand_in(&self, entry: &Entry) -> Option<Entry> {
        let index = self.app.engine.index();
        let lease = u64::try_from(self.app.config.queue.lease.as_millis()).unwrap_or(u64::MAX);
        let waited = now_ms().saturating_sub(entry.accepted_at);
        if waited <= lease || index.version(&entry.task, &entry.model, entry.model_version).is_some() {
            return None;
        }
        let task = index.tasks.get(&entry.task)?;
        let tier = entry.decision.tier.as_ref();
        let of_tier = || task.models.values().find(|model| model.folder.tier.as_ref() == tier);
        let model = task.models.get(&entry.model).or_else(of_tier).or_else(|| task.models.values().next())?;
        let decision = DecisionRecord { tier: model.folder.tier.clone(), ..entry.decision.clone() };
        // Pinned: what stands in is no evidence in a trial.
        let (name, model_version) = (model.folder.name.clone(), model.default_version);
        Some(Entry { model: name, model_version, fallback: true, pinned: true, decision, ..entry.clone() })
    }

    async fn infer(&self, entry: &Entry) -> Result<Ending, Left> {
        let index = self.app.engine.index();
        let version = index
            .version(&entry.task, &entry.model, entry.model_version)
            .ok_or_else(|| Left::unstarted(format!("{} v{} is not here", entry.model, entry.model_version)))?;
        let schema = index.catalog.task(&entry.task).map(|task| &task.schema);
        if !schema.is_some_and(|schema| fits(schema, &entry.input)) {
            return Ok(Err(Failure::Failed("the task's schema has changed since the job was accepted".to_owned())));
        }
        let model = index.model(&entry.task, &entry.model);
        let Some(rollout) = model.map(|model| &model.rollout) else {
            return Err(Left::unstarted(format!("model {} is not here", entry.model)));
        };
        let assignment =
            if entry.pinned { rollout.pinned(entry.model_version) } else { rollout.planned(entry.model_version) };
        let patience = std::time::Instant::now() + self.app.config.queue.lease + self.app.config.models.max_run;
        let own = self.deadline_of(entry).filter(|own| *own <= patience);
        let deadline = own.unwrap_or(patience);
        let asked = Asked {
            version,
            assignment: &assignment,
            rollout,
            input: &entry.input,
            deadline: Some(deadline),
            request_id: &entry.request_id,
            job_id: Some(&entry.job_id),
            sensor_id: entry.sensor_id.as_deref(),
        };
        // Half the lease: behind it the job would soon be somebody else's.
        let give_up = Instant::now() + self.app.config.queue.lease / 2;
        loop {
            match answering::answer(&self.app, asked).await {
                Ok(given) => return Ok(Ok(given.answer)),
                Err(PoolError::Full) if Instant::now() < give_up => tokio::time::sleep(FULL_PAUSE).await,
                Err(PoolError::Failed(text) | PoolError::Invalid(text)) => return Ok(Err(Failure::Failed(text))),
                Err(PoolError::Expired { .. }) if own.is_some() => return Ok(Err(Failure::Expired)),
                // The lease is over, and the watchdog would have ended the run: a model that hangs must not hold up
                // the task's other jobs.
                Err(error @ PoolError::Expired { run }) => {
                    return Err(Left { reason: error.to_string(), started: run.is_some() });
                }
                Err(error @ (PoolError::Full | PoolError::Closed | PoolError::Unavailable(_))) => {
                    return Err(Left::unstarted(error.to_string()));
                }
            }
        }
    }

    /// The job's deadline on this process's clock.
    fn deadline_of(&self, entry: &Entry) -> Option<std::time::Instant> {
        let left = entry.deadline_at?.saturating_sub(now_ms());
        std::time::Instant::now().checked_add(Duration::from_millis(left))
    }

    /// Leaves a job to be claimed again; a start that came to nothing counts as one only where the model had begun.
    async fn leave(&self, job: &Claimed, entry: &Entry, reason: &str, started: bool) {
        let given_back = !started && self.app.queue.give_back(&self.task, &self.name, job).await.is_ok();
        tracing::warn!(
            request_id = %entry.request_id, job_id = %entry.job_id, attempt = job.attempt, reason, given_back,
            "job left unsettled; it is claimed again after its lease"
        );
    }
}

/// Is the reading still one of the task's?
fn fits(schema: &TaskSchema, input: &Input) -> bool {
    match input {
        Input::Features(features) => schema.text_field().is_none() && schema.width() == features.len(),
        Input::Text(_) => schema.text_field().is_some(),
    }
}

/// Why a job has no answer.
#[derive(Debug)]
enum Failure {
    /// The model failed on it; another try would as well.
    Failed(String),
    /// Its deadline passed before it ended.
    Expired,
    /// Started too often without an end.
    Dead(String),
}

/// What became of a job.
type Ending = Result<Answer, Failure>;

/// Why a job has no end here: not final, so it is left for another try.
#[derive(Debug)]
struct Left {
    reason: String,
    // Had the model begun? Then it may be the job's fault.
    started: bool,
}

impl Left {
    const fn unstarted(reason: String) -> Self {
        Self { reason, started: false }
    }
}

/// Doubling pauses while Redis cannot be used.
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
