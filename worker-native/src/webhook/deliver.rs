//! The loop of tries: takes callbacks that are due, sends them, and tells the outbox what came of it.
//!
//! Owns how many are under way at once, when a failed one is tried again, and when it is given up. A process that dies
//! between the receiver's answer and the outbox's note leaves the callback to be sent again, under the same id:
//! delivery is at least once.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Verdict, Webhooks};
use crate::app::App;
use crate::queue::{Callback, Outbox, QueueError};
use crate::telemetry::metrics::{Metrics, WebhookOutcome};

/// From one look for callbacks that are due to the next, where the last found few.
const LOOK: Duration = Duration::from_secs(1);
/// What a lease has beyond the longest try: time to tell the outbox.
const LEASE_MARGIN: Duration = Duration::from_secs(10);
/// First and longest pause between two tries to tell it.
const NOTE_PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Pauses after the first try, the second and so on, in seconds; after one more try it is given up.
const SCHEDULE: [u64; 9] = [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];
/// A pause is longer by up to this share, by chance, so that callbacks that failed together do not return together.
const JITTER: f64 = 0.2;

/// Sends callbacks until shutdown; what is under way then is finished.
pub async fn run(app: App, shutdown: CancellationToken) {
    if !app.webhooks.are_on() {
        // Those that other processes took on stay with the queue until one comes that can sign.
        return shutdown.cancelled().await;
    }
    let outbox: Arc<dyn Outbox> = app.queue.clone();
    let courier = Courier::new(outbox, app.webhooks.clone(), app.metrics.clone(), shutdown);
    let tasks = || app.engine.catalog().tasks.iter().map(|task| task.schema.name.clone()).collect();
    courier.run(tasks).await;
}

/// What happens next to a callback.
#[derive(Debug, Clone, PartialEq)]
enum Next {
    Done { outcome: WebhookOutcome, note: String },
    Again { after: Duration, note: String },
}

/// What follows from a try; `chance` is from 0 to 1.
fn next(attempt: u32, verdict: Verdict, chance: f64) -> Next {
    let (why, not_before) = match verdict {
        Verdict::Delivered(status) => {
            let note = format!("delivered: status {status}, try {attempt}");
            return Next::Done { outcome: WebhookOutcome::Delivered, note };
        }
        Verdict::Never(why) => {
            return Next::Done { outcome: WebhookOutcome::GivenUp, note: format!("given up at try {attempt}: {why}") };
        }
        Verdict::Later { why, not_before } => (why, not_before),
    };
    let pause = usize::try_from(attempt).ok().and_then(|tried| SCHEDULE.get(tried.saturating_sub(1)));
    let Some(pause) = pause else {
        return Next::Done { outcome: WebhookOutcome::GivenUp, note: format!("given up after try {attempt}: {why}") };
    };
    // The receiver may ask for more time, not for less: its tries would be over sooner.
    let pause = Duration::from_secs(*pause).max(not_before);
    let after = pause.mul_f64(1.0 + JITTER * chance.clamp(0.0, 1.0));
    Next::Again { after, note: format!("try {attempt} failed: {why}; the next in {} s", after.as_secs()) }
}

#[derive(Debug, Clone)]
struct Courier(Arc<Parts>);

struct Parts {
    outbox: Arc<dyn Outbox>,
    webhooks: Webhooks,
    metrics: Metrics,
    shutdown: CancellationToken,
    concurrency: usize,
    lease: Duration,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("webhooks", &self.webhooks).finish_non_exhaustive()
    }
}

impl Courier {
    fn new(outbox: Arc<dyn Outbox>, webhooks: Webhooks, metrics: Metrics, shutdown: CancellationToken) -> Self {
        let config = webhooks.config();
        let (concurrency, lease) = (config.concurrency.max(1), config.timeout + LEASE_MARGIN);
        Self(Arc::new(Parts { outbox, webhooks, metrics, shutdown, concurrency, lease }))
    }

    async fn run(&self, tasks: impl Fn() -> Vec<String>) {
        let mut flying = JoinSet::new();
        let mut look_at = Instant::now();
        let mut was_away = false;
        for turn in 0_usize.. {
            let now = Instant::now();
            if flying.len() < self.0.concurrency && now >= look_at {
                let mut tasks = tasks();
                // Each look begins with another task, so that none takes every place every time.
                let first = turn.checked_rem(tasks.len()).unwrap_or(0);
                tasks.rotate_left(first);
                match self.take(&tasks, &mut flying).await {
                    Ok(more) => {
                        was_away = false;
                        look_at = if more { now } else { now + LOOK };
                    }
                    Err(error) => {
                        if !was_away {
                            tracing::warn!(%error, "callbacks wait until the queue can be used");
                        }
                        was_away = true;
                        look_at = Instant::now() + LOOK;
                    }
                }
            }
            tokio::select! {
                biased;
                () = self.0.shutdown.cancelled() => break,
                Some(ended) = flying.join_next() => note_panic(ended),
                () = tokio::time::sleep_until(look_at), if flying.len() < self.0.concurrency => {}
            }
        }
        while let Some(ended) = flying.join_next().await {
            note_panic(ended);
        }
    }

    /// Starts as many as there are places for; may there be more?
    async fn take(&self, tasks: &[String], flying: &mut JoinSet<()>) -> Result<bool, QueueError> {
        let mut more = false;
        for task in tasks {
            let free = self.0.concurrency.saturating_sub(flying.len());
            if free == 0 {
                return Ok(true);
            }
            let due = self.0.outbox.callbacks(task, free, self.0.lease).await?;
            more |= due.len() >= free;
            let until = Instant::now() + self.0.lease;
            for callback in due {
                let courier = self.clone();
                let task = task.clone();
                flying.spawn(async move { courier.deliver(&task, callback, until).await });
            }
        }
        Ok(more)
    }

    async fn deliver(&self, task: &str, callback: Callback, until: Instant) {
        let Parts { webhooks, metrics, .. } = &*self.0;
        let (job_id, attempt) = (&callback.job_id, callback.attempt);
        let next = next(attempt, webhooks.send(&callback).await, fastrand::f64());
        match &next {
            Next::Done { outcome: WebhookOutcome::Delivered, .. } => {
                metrics.webhook(task, WebhookOutcome::Delivered);
                tracing::debug!(task, job_id, attempt, "callback delivered");
            }
            Next::Done { outcome, note } => {
                metrics.webhook(task, *outcome);
                tracing::warn!(task, job_id, attempt, note, "callback given up");
            }
            Next::Again { note, .. } => {
                metrics.webhook(task, WebhookOutcome::Failed);
                tracing::info!(task, job_id, attempt, note, "callback failed");
            }
        }
        self.note(task, &callback, &next, until).await;
    }

    /// Tells the outbox, again and again until the lease ends: untold, the callback would be sent once more.
    async fn note(&self, task: &str, callback: &Callback, next: &Next, until: Instant) {
        let job_id = &callback.job_id;
        let (mut pause, longest) = NOTE_PAUSES;
        loop {
            let told = match next {
                Next::Done { note, .. } => self.0.outbox.callback_done(task, callback, note).await,
                Next::Again { after, note } => self.0.outbox.callback_later(task, callback, *after, note).await,
            };
            let Err(error) = told else { return };
            if self.0.shutdown.is_cancelled() || Instant::now() + pause >= until {
                tracing::warn!(task, job_id, %error, "a callback's outcome could not be noted; it is sent once more");
                return;
            }
            self.0.shutdown.run_until_cancelled(tokio::time::sleep(pause)).await;
            pause = (pause * 2).min(longest);
        }
    }
}

fn note_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a callback's try ended; it is due again when its lease ends");
    }
}

#[cfg(test)]
mod tests;
