//! From the ending of a claimed job to its one visible result, or to its next try.

use std::time::Duration;

use tokio::time::Instant;

use super::{Backoff, Consumer};
use crate::clock::now_ms;
use crate::decisions::End;
use crate::engine::Answer;
use crate::queue::{AttemptError, Claimed, Entry, Outcome, QueueError, ResultRecord, Retry, Settled, Settlement};

/// Tries remembered with a job, the last ones.
const MAX_FAILURES: usize = 20;
/// Longest error text kept with a job, in characters.
const MAX_ERROR: usize = 500;
/// How long a result that cannot be stored is kept in memory: behind that another consumer has run the job.
const STORE_FOR: Duration = Duration::from_secs(600);

/// What was known when the job left the queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Departure {
    /// Unsettled jobs of the task.
    pub(super) depth: u32,
    /// The model's accuracy.
    pub(super) accuracy: Option<f32>,
    /// When it was claimed.
    pub(super) claimed_at: Instant,
}

/// Why a job has no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// It cannot be answered; another try would end the same.
    Failed(String),
    /// The model failed on it or hung; another try may go better.
    Broken(String),
    /// It was not begun: what it needs is not here or not free.
    Unstarted(String),
    /// Its deadline passed before it ended.
    Expired {
        /// Had it begun to run?
        started: bool,
    },
    /// Started too often without an end.
    Dead(String),
}

/// What became of a claimed job.
pub(super) type Ending = Result<Answer, Failure>;

/// How a job ended, for the log of decisions.
fn end_of(job: &Claimed, record: &ResultRecord) -> End {
    End {
        outcome: record.outcome.name().to_owned(),
        model: record.model.clone(),
        model_version: record.model_version,
        latency_ms: record.latency_ms,
        waited_ms: Some(whole_ms(job.waited)),
        attempts: Some(record.attempts),
        error: record.error.clone(),
    }
}

impl Consumer {
    /// Settles a job, or puts it aside for another try.
    pub(super) async fn end(&self, job: &Claimed, entry: &Entry, departure: Departure, ending: Ending) {
        let mut failures = job.failures.clone();
        let mut failed = |text: &str| {
            let error = text.chars().take(MAX_ERROR).collect();
            if failures.len() >= MAX_FAILURES {
                failures.remove(0);
            }
            failures.push(AttemptError { attempt: job.attempt, at: now_ms(), error });
        };
        // A job that was given up before it began was claimed once more than it was started.
        let unstarted = matches!(ending, Err(Failure::Expired { started: false } | Failure::Dead(_)));
        let attempts = job.attempt.saturating_sub(u32::from(unstarted));
        let (outcome, answer, error) = match ending {
            Ok(answer) => (Outcome::Done, Some(answer), None),
            Err(Failure::Expired { .. }) => {
                (Outcome::Expired, None, Some("the deadline passed before it ended".to_owned()))
            }
            Err(Failure::Failed(text)) => {
                failed(&text);
                (Outcome::Failed, None, Some(text))
            }
            Err(Failure::Dead(text)) => {
                failed(&text);
                (Outcome::Dead, None, Some(text))
            }
            Err(Failure::Broken(text)) if job.attempt >= self.app.config.queue.max_attempts => {
                failed(&text);
                (Outcome::Dead, None, Some(format!("failed {} times, last: {text}", job.attempt)))
            }
            Err(Failure::Broken(text)) => {
                failed(&text);
                return self.try_again(job, entry, (true, failures), &text).await;
            }
            Err(Failure::Unstarted(text)) => return self.try_again(job, entry, (false, failures), &text).await,
        };
        let record = ResultRecord { attempts, ..self.record(job, entry, departure, outcome, answer, error) };
        let Some(result) = to_json(&record) else { return };
        let settlement = Settlement { ticket: job.ticket.clone(), outcome, result, awaited: entry.awaited, failures };
        let storing = Instant::now();
        let stored = self.store(settlement).await;
        self.settling.took(storing.elapsed());
        let Some(settled) = stored else {
            tracing::warn!(job_id = %entry.job_id, "job not settled in time; another consumer runs it again");
            return;
        };
        self.app.snapshots.set_depths(&entry.task, &settled.depths);
        if settled.first {
            self.app.metrics.settled(&self.task, outcome.name());
            self.learn(job, entry, outcome);
            self.app.decisions.ended(entry, || end_of(job, &record));
        }
        let error = record.error.as_deref().unwrap_or_default();
        tracing::info!(
            request_id = %entry.request_id, job_id = %entry.job_id, task = %entry.task, model = %entry.model,
            version = entry.model_version, tier = entry.decision.tier.as_deref().unwrap_or_default(),
            outcome = outcome.name(), attempts = record.attempts, latency_ms = record.latency_ms,
            queue_depth = departure.depth, first = settled.first, error, "job settled"
        );
    }

    /// Did the chance that was predicted come true? Only jobs that a model answered, or that ran out of time, tell.
    fn learn(&self, job: &Claimed, entry: &Entry, outcome: Outcome) {
        let told = matches!(outcome, Outcome::Done | Outcome::Expired) && job.attempt <= 1;
        // What was predicted of another tier than the one that ran says nothing of this one.
        let moved = entry.decision.hinted.is_some() && entry.decision.hinted != entry.decision.tier;
        let kept = !moved && entry.decision.escalated().is_none();
        if let Some(predicted) = entry.decision.on_time.filter(|_| told && kept) {
            let in_time = outcome == Outcome::Done;
            self.app.metrics.on_time(&self.task, predicted, in_time);
            self.app.planner.ended(&self.task, predicted, in_time);
        }
    }

    fn record(
        &self,
        job: &Claimed,
        entry: &Entry,
        departure: Departure,
        outcome: Outcome,
        answer: Option<Answer>,
        error: Option<String>,
    ) -> ResultRecord {
        ResultRecord {
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
            hinted_tier: entry
                .decision
                .hinted
                .clone()
                .or_else(|| entry.decision.escalated().map(|cascaded| cascaded.from.tier.clone())),
            reason: entry.decision.reason.clone(),
            decided_by: entry.decision.by.clone(),
            decision: entry.decision.clone(),
            weighed: entry.weighed.clone(),
            propensity: entry.decision.propensity_of_the_answer(),
            pinned: entry.pinned,
            latency_ms: whole_ms(job.waited + departure.claimed_at.elapsed()),
            queue_depth: departure.depth,
            model_accuracy: departure.accuracy,
            attempts: job.attempt,
            accepted_at: entry.accepted_at,
            finished_at: now_ms(),
            error,
        }
    }

    /// Puts a job aside for its next start, or hands it back where this process is on its way out.
    async fn try_again(
        &self,
        job: &Claimed,
        entry: &Entry,
        (charged, failures): (bool, Vec<AttemptError>),
        reason: &str,
    ) {
        let ticket = job.ticket.clone();
        let queue = &self.app.queue;
        let put_aside = if !charged && self.shutdown.is_cancelled() {
            queue.release(&self.task, &self.name, &[ticket]).await.map(|()| vec![true])
        } else {
            let delay = if charged { self.pause_after(failures.len()) } else { self.pause_of(job.waited) };
            // Whoever waits for it hears of its end no later than that.
            let delay = job.left.map_or(delay, |left| delay.min(left));
            queue.retry(&self.task, &self.name, vec![Retry { ticket, delay, charged, failures }]).await
        };
        if charged && put_aside.as_ref().is_ok_and(|was_ours| was_ours.contains(&true)) {
            self.app.metrics.retried(&self.task);
        }
        let error = put_aside.err().map(|error| error.to_string());
        tracing::warn!(
            request_id = %entry.request_id, job_id = %entry.job_id, attempt = job.attempt, charged, reason, error,
            "job put aside for another try"
        );
    }

    /// The pause after so many failed tries: doubled for each after the first, with "equal jitter" (half fixed, half
    /// random), so that jobs that failed together do not come back together.
    fn pause_after(&self, failures: usize) -> Duration {
        let config = &self.app.config.queue;
        let doublings = u32::try_from(failures.saturating_sub(1)).unwrap_or(u32::MAX).min(20);
        let pause = config.retry_base.saturating_mul(1 << doublings).min(config.retry_max);
        pause.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// The pause of a job that could not be started: a quarter of its age, so that a model that stays away is asked for
    /// more and more rarely.
    fn pause_of(&self, age: Duration) -> Duration {
        let config = &self.app.config.queue;
        let pause = (age / 4).max(config.retry_base).min(config.retry_max.max(config.retry_base));
        pause.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// Sets an entry that nobody could read aside, so that it does not come back for ever.
    pub(super) async fn bury_unreadable(&self, job: &Claimed, fault: &str) {
        let (job_id, outcome) = (&job.ticket.job_id, Outcome::Dead);
        let record = serde_json::json!({
            "job_id": job_id, "task": self.task, "outcome": outcome, "error": fault, "finished_at": now_ms(),
        });
        let failures = vec![AttemptError { attempt: job.attempt, at: now_ms(), error: fault.to_owned() }];
        let ticket = job.ticket.clone();
        let settlement = Settlement { ticket, outcome, result: record.to_string(), awaited: false, failures };
        let stored = self.store(settlement).await;
        if stored.as_ref().is_some_and(|settled| settled.first) {
            self.app.metrics.settled(&self.task, outcome.name());
        }
        let stored = stored.is_some();
        tracing::error!(task = %self.task, job_id, fault, stored, "an unreadable queue entry was set aside as dead");
    }

    /// Tries until the queue has it: the job was run, and to run it again because Redis blinked would be a waste.
    async fn store(&self, settlement: Settlement) -> Option<Settled> {
        let give_up = Instant::now() + STORE_FOR;
        let mut backoff = Backoff::default();
        loop {
            match self.app.queue.settle(&self.task, vec![settlement.clone()]).await {
                Ok(mut settled) => return settled.pop(),
                Err(error) => {
                    let pause = backoff.next();
                    if backoff.is_first() {
                        let job_id = &settlement.ticket.job_id;
                        tracing::warn!(job_id, %error, "a result cannot be stored yet");
                    }
                    if matches!(error, QueueError::Closed) || Instant::now() >= give_up {
                        return None;
                    }
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }
}

fn to_json(record: &ResultRecord) -> Option<String> {
    match serde_json::to_string(record) {
        Ok(json) => Some(json),
        Err(error) => {
            tracing::error!(job_id = %record.job_id, %error, "a result cannot be written as JSON");
            None
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds within a job's life are exact in a double")]
fn whole_ms(duration: Duration) -> f64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX) as f64
}
