//! From the end of a job to its one visible result.

use tokio_util::sync::CancellationToken;

use super::{Backoff, Failure};
use crate::app::App;
use crate::clock::now_ms;
use crate::engine::Answer;
use crate::queue::{Entry, Outcome, QueueError, ResultRecord, Settled};

/// What was known when the job left the queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Departure {
    /// Unsettled jobs of the task.
    pub(super) depth: u32,
    /// The model's accuracy.
    pub(super) accuracy: Option<f32>,
}

/// Stores what became of a job and acknowledges it; logs it once.
pub(super) async fn settle(
    app: &App,
    entry: &Entry,
    stream_id: &str,
    attempt: u32,
    departure: Departure,
    result: Result<Answer, Failure>,
    shutdown: &CancellationToken,
) {
    let (outcome, answer, error) = match result {
        Ok(answer) => (Outcome::Done, Some(answer), None),
        Err(Failure::Failed(text)) => (Outcome::Failed, None, Some(text)),
        Err(Failure::Expired) => (Outcome::Expired, None, Some("the deadline passed before it started".to_owned())),
        Err(Failure::Dead(text)) => (Outcome::Dead, None, Some(text)),
        Err(Failure::Leave(text)) => {
            tracing::warn!(
                request_id = %entry.request_id, job_id = %entry.job_id, attempt, reason = %text,
                "job left unsettled; it is claimed again after its lease"
            );
            return;
        }
    };
    // A job that expired or was given up was claimed once more than it was started.
    let attempts =
        if matches!(outcome, Outcome::Expired | Outcome::Dead) { attempt.saturating_sub(1) } else { attempt };
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
    let stored =
        store(app, shutdown, || app.queue.settle(&entry.task, &entry.job_id, &entry.lane, stream_id, outcome, &json))
            .await;
    let Some(settled) = stored else {
        tracing::warn!(job_id = %entry.job_id, "job not settled before the shutdown; another consumer runs it again");
        return;
    };
    app.snapshots.set_depths(&entry.task, &settled.depths);
    let error = record.error.as_deref().unwrap_or_default();
    tracing::info!(
        request_id = %entry.request_id, job_id = %entry.job_id, task = %entry.task, model = %entry.model,
        version = entry.model_version, tier = entry.decision.tier.as_deref().unwrap_or_default(),
        outcome = outcome.name(), attempt, latency_ms, queue_depth = departure.depth, first = settled.first, error,
        "job settled"
    );
}

/// Sets an entry that nobody can read aside, so that it does not come back for ever.
pub(super) async fn unreadable(app: &App, task: &str, stream_id: &str, fault: &str, shutdown: &CancellationToken) {
    let job_id = format!("{task}.unreadable-{stream_id}");
    let record = serde_json::json!({
        "job_id": job_id, "task": task, "outcome": Outcome::Dead, "error": fault, "finished_at": now_ms(),
    });
    let json = record.to_string();
    // Its lane cannot be read either: the dearest tier's count takes it.
    let lane = app.snapshots.load(task).tiers.last().map(|tier| tier.tier.clone()).unwrap_or_default();
    let stored = store(app, shutdown, || app.queue.settle(task, &job_id, &lane, stream_id, Outcome::Dead, &json)).await;
    tracing::error!(%task, stream_id, fault, stored = stored.is_some(), "an unreadable queue entry was set aside as dead");
}

/// Tries until Redis has it; gives up only when the process is to end.
///
/// The job was run: to run it again because Redis blinked would be a waste, and harmless.
async fn store<F>(app: &App, shutdown: &CancellationToken, settle: impl Fn() -> F) -> Option<Settled>
where
    F: Future<Output = Result<Settled, QueueError>>,
{
    let mut backoff = Backoff::default();
    loop {
        match settle().await {
            Ok(settled) => return Some(settled),
            Err(error) => {
                let pause = backoff.next();
                if backoff.is_first() {
                    tracing::warn!(%error, draining = app.is_draining(), "a result cannot be stored yet");
                }
                if shutdown.is_cancelled() {
                    return None;
                }
                tokio::time::sleep(pause).await;
            }
        }
    }
}
