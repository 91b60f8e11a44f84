//! From the end of a job to its one visible result.

use tokio::time::Instant;

use super::{Backoff, Consumer, Ending, Failure};
use crate::clock::now_ms;
use crate::queue::{Claimed, Entry, Outcome, ResultRecord, Settled};

/// What was known when the job left the queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Departure {
    /// Unsettled jobs of the task.
    pub(super) depth: u32,
    /// The model's accuracy.
    pub(super) accuracy: Option<f32>,
}

/// Stores what became of a job and acknowledges it; logs it once.
pub(super) async fn settle(consumer: &Consumer, job: &Claimed, entry: &Entry, departure: Departure, ending: Ending) {
    let (outcome, answer, error) = match ending {
        Ok(answer) => (Outcome::Done, Some(answer), None),
        Err(Failure::Failed(text)) => (Outcome::Failed, None, Some(text)),
        Err(Failure::Expired) => (Outcome::Expired, None, Some("the deadline passed before it started".to_owned())),
        Err(Failure::Dead(text)) => (Outcome::Dead, None, Some(text)),
    };
    // A job that expired or was given up was claimed once more than it was started.
    let unstarted = matches!(outcome, Outcome::Expired | Outcome::Dead);
    let attempts = if unstarted { job.attempt.saturating_sub(1) } else { job.attempt };
    let finished_at = now_ms();
    #[expect(clippy::cast_precision_loss, reason = "milliseconds within a job's life are exact in a double")]
    let latency_ms = finished_at.saturating_sub(entry.accepted_at) as f64;
    let record = ResultRecord {
        job_id: entry.job_id.clone(),
        request_id: entry.request_id.clone(),
        task: entry.task.clone(),
        sensor_id: entry.sensor_id.clone(),
        outcome,
        answer,
        model: entry.model.clone(),
        model_version: entry.model_version,
        fallback: entry.fallback,
        tier: entry.decision.tier.clone(),
        reason: entry.decision.reason.clone(),
        decided_by: entry.decision.by.clone(),
        latency_ms,
        queue_depth: departure.depth,
        model_accuracy: departure.accuracy,
        attempts,
        accepted_at: entry.accepted_at,
        finished_at,
        error,
    };
    let json = match serde_json::to_string(&record) {
        Ok(json) => json,
        Err(error) => {
            tracing::error!(job_id = %entry.job_id, %error, "a result cannot be written as JSON");
            return;
        }
    };
    let Some(settled) = store(consumer, job, outcome, &json).await else {
        tracing::warn!(job_id = %entry.job_id, "job not settled in time; another consumer runs it again");
        return;
    };
    consumer.app.snapshots.set_depths(&entry.task, &settled.depths);
    let error = record.error.as_deref().unwrap_or_default();
    tracing::info!(
        request_id = %entry.request_id, job_id = %entry.job_id, task = %entry.task, model = %entry.model,
        version = entry.model_version, tier = entry.decision.tier.as_deref().unwrap_or_default(),
        outcome = outcome.name(), attempts, latency_ms, queue_depth = departure.depth, first = settled.first, error,
        "job settled"
    );
}

/// Sets an entry that nobody could read aside, so that it does not come back for ever.
pub(super) async fn unreadable(consumer: &Consumer, job: &Claimed, fault: &str) {
    let record = serde_json::json!({
        "job_id": job.job_id, "task": consumer.task, "outcome": Outcome::Dead, "error": fault, "finished_at": now_ms(),
    });
    let stored = store(consumer, job, Outcome::Dead, &record.to_string()).await.is_some();
    tracing::error!(task = %consumer.task, job_id = %job.job_id, fault, stored, "an unreadable queue entry was set aside as dead");
}

/// Tries until Redis has it, for as long as the job is still this consumer's.
///
/// The job was run: to run it again because Redis blinked would be a waste, and harmless.
async fn store(consumer: &Consumer, job: &Claimed, outcome: Outcome, json: &str) -> Option<Settled> {
    let give_up = Instant::now() + consumer.app.config.queue.lease;
    let mut backoff = Backoff::default();
    loop {
        match consumer.app.queue.settle(&consumer.task, job, outcome, json).await {
            Ok(settled) => return Some(settled),
            Err(error) => {
                let pause = backoff.next();
                if backoff.is_first() {
                    tracing::warn!(job_id = %job.job_id, %error, "a result cannot be stored yet");
                }
                if consumer.shutdown.is_cancelled() || Instant::now() >= give_up {
                    return None;
                }
                tokio::time::sleep(pause).await;
            }
        }
    }
}
