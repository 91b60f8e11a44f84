//! A queue with the spool before it: what the queue cannot take now is kept, and handed over when it can.
//!
//! Only hand-ins are kept. Claims, settlements and all else go straight to the queue, and fail while it is away.
//! While the spool holds jobs, new ones go behind them: order is kept, and callers do not wait for a queue that is
//! known to be away.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use redis::{ErrorKind, RedisError};
use serde_json::value::RawValue;
use tokio::sync::{Notify, broadcast};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Appended, Spool, replay};
use crate::clock::now_ms;
use crate::config::QueueConfig;
use crate::queue::contract::{
    Begun, Callback, Cancelled, Change, Counts, DeadLetter, DeadLetters, Depths, Enqueued, Facts, JobBook, JobQueue,
    Labelled, Labels, NewFact, NewJob, NewLabel, Outbox, Queue, QueueError, Replays, ResultsFilter, ResultsMark,
    ResultsPage, Retry, Settled, Settlement, Stored, Tended,
};
use crate::queue::job::{Claimed, Entry, JobState, Ticket};

/// A queue and its spool; cheap to clone.
#[derive(Debug, Clone)]
pub struct SpoolingQueue(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    inner: Arc<Inner>,
    tasks: TaskTracker,
    closed: CancellationToken,
    replays: std::sync::Once,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.closed.cancel();
    }
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) queue: Arc<dyn Queue>,
    pub(super) spool: Spool,
    /// Rung when the spool got something.
    pub(super) filled: Notify,
    /// The queue's last word on each task's backlog.
    depths: Mutex<HashMap<String, Depths>>,
}

impl SpoolingQueue {
    /// Puts the spool of the configuration before a queue.
    ///
    /// # Errors
    /// [`QueueError::File`] when `SPOOL_FILE` cannot be used.
    pub fn open(queue: Arc<dyn Queue>, config: &QueueConfig) -> Result<Self, QueueError> {
        let spool = Spool::open(&config.spool_file, config.spool_max_bytes, config.file_sync, config.file_timeout)?;
        Ok(Self::with(queue, spool))
    }

    pub(super) fn with(queue: Arc<dyn Queue>, spool: Spool) -> Self {
        if spool.waiting() > 0 {
            tracing::info!(jobs = spool.waiting(), "jobs from an earlier run wait in the spool");
        }
        let inner = Arc::new(Inner { queue, spool, filled: Notify::new(), depths: Mutex::default() });
        let (tasks, closed) = (TaskTracker::new(), CancellationToken::new());
        let queue = Self(Arc::new(Handle { inner, tasks, closed, replays: std::sync::Once::new() }));
        if tokio::runtime::Handle::try_current().is_ok() {
            queue.replay();
        }
        queue
    }

    /// Ends the handing over and closes the spool's file; what it holds is there when it is opened again.
    pub async fn close(&self) {
        self.0.closed.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
        self.spool().close().await;
    }

    /// Jobs that wait in the spool.
    #[must_use]
    pub fn spooled(&self) -> u64 {
        self.0.inner.spool.waiting()
    }

    /// Sees to it that what the spool holds is handed over.
    fn replay(&self) {
        self.0.replays.call_once(|| {
            let (inner, closed) = (Arc::clone(&self.0.inner), self.0.closed.clone());
            self.0.tasks.spawn(async move {
                closed.run_until_cancelled(replay::run(&inner)).await;
            });
        });
    }

    fn queue(&self) -> &dyn Queue {
        &*self.0.inner.queue
    }

    fn spool(&self) -> &Spool {
        &self.0.inner.spool
    }

    async fn keep(&self, task: &str, jobs: &[NewJob], cause: QueueError) -> Result<Vec<Enqueued>, QueueError> {
        let was_empty = self.spooled() == 0;
        match self.spool().append(task, jobs).await? {
            Appended::Full => Err(cause),
            Appended::Kept(mut answers) => {
                if was_empty {
                    tracing::warn!(task, %cause, "jobs wait in the spool until the queue can take them");
                }
                self.replay();
                self.0.inner.filled.notify_one();
                for answer in &mut answers {
                    if let Enqueued::Accepted(spooled) = answer {
                        *spooled = sum(self.known_depths(task), spooled);
                    }
                }
                Ok(answers)
            }
        }
    }

    fn known_depths(&self, task: &str) -> Depths {
        let known = self.0.inner.depths.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(task).cloned().unwrap_or_default()
    }

    fn learn_depths(&self, task: &str, depths: &Depths) {
        let mut known = self.0.inner.depths.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get_mut(task) {
            Some(known) => known.clone_from(depths),
            None => drop(known.insert(task.to_owned(), depths.clone())),
        }
    }
}

fn sum(mut depths: Depths, more: &Depths) -> Depths {
    for (lane, jobs) in more {
        let depth = depths.entry(lane.clone()).or_default();
        *depth = depth.saturating_add(*jobs);
    }
    depths
}

fn behind_others() -> QueueError {
    QueueError::Unavailable(RedisError::from((ErrorKind::Io, "the spool is full, and its jobs go first")))
}

#[async_trait]
impl JobQueue for SpoolingQueue {
    async fn enqueue(&self, task: &str, jobs: Vec<NewJob>) -> Result<Vec<Enqueued>, QueueError> {
        if jobs.iter().any(|job| job.entry.awaited) {
            // Nothing is promised to a caller who waits; it is told at once.
            return self.queue().enqueue(task, jobs).await;
        }
        if self.spooled() > 0 {
            return self.keep(task, &jobs, behind_others()).await;
        }
        match self.queue().enqueue(task, jobs.clone()).await {
            Ok(answers) => {
                let depths = answers.iter().rev().find_map(|answer| match answer {
                    Enqueued::Accepted(depths) => Some(depths),
                    Enqueued::Replayed(_) | Enqueued::Conflict | Enqueued::Full(_) => None,
                });
                if let Some(depths) = depths {
                    self.learn_depths(task, depths);
                }
                Ok(answers)
            }
            // It may have them all the same: then handing them over changes nothing.
            Err(cause @ QueueError::Unavailable(_)) => self.keep(task, &jobs, cause).await,
            Err(error) => Err(error),
        }
    }

    async fn claim(&self, task: &str, consumer: &str, limit: usize) -> Result<Vec<Claimed>, QueueError> {
        self.queue().claim(task, consumer, limit).await
    }

    async fn wait(&self, task: &str, up_to: Duration) -> Result<(), QueueError> {
        self.queue().wait(task, up_to).await
    }

    async fn reclaim(&self, task: &str, consumer: &str, limit: usize) -> Result<Vec<Claimed>, QueueError> {
        self.queue().reclaim(task, consumer, limit).await
    }

    async fn renew(&self, task: &str, consumer: &str, tickets: &[Ticket]) -> Result<Vec<bool>, QueueError> {
        self.queue().renew(task, consumer, tickets).await
    }

    async fn settle(&self, task: &str, settlements: Vec<Settlement>) -> Result<Vec<Settled>, QueueError> {
        self.queue().settle(task, settlements).await
    }

    async fn retry(&self, task: &str, consumer: &str, retries: Vec<Retry>) -> Result<Vec<bool>, QueueError> {
        self.queue().retry(task, consumer, retries).await
    }

    async fn release(&self, task: &str, consumer: &str, tickets: &[Ticket]) -> Result<(), QueueError> {
        self.queue().release(task, consumer, tickets).await
    }

    async fn release_unknown(
        &self,
        task: &str,
        consumer: &str,
        held: &[Ticket],
        within: Duration,
    ) -> Result<u64, QueueError> {
        self.queue().release_unknown(task, consumer, held, within).await
    }

    /// A job that waits in the spool goes over first: where it ends, its result is kept.
    async fn cancel(&self, task: &str, job_id: &str, result: &str) -> Result<Cancelled, QueueError> {
        if let Some(job) = self.spool().find(job_id).await?.filter(|job| job.task == task) {
            let taken = replay::hand_over(self.queue(), &[job]).await?;
            if taken.is_empty() {
                return Err(behind_others());
            }
            self.spool().forget(taken).await?;
        }
        self.queue().cancel(task, job_id, result).await
    }

    async fn tend(&self, task: &str) -> Result<Tended, QueueError> {
        self.queue().tend(task).await
    }

    async fn leave(&self, task: &str, consumer: &str) -> Result<(), QueueError> {
        self.queue().leave(task, consumer).await
    }

    async fn check_writable(&self, tasks: &[&str]) -> Result<(), QueueError> {
        match self.queue().check_writable(tasks).await {
            Err(cause @ QueueError::Unavailable(_)) => {
                if self.spool().has_room().await? {
                    Ok(())
                } else {
                    Err(cause)
                }
            }
            outcome => outcome,
        }
    }
}

#[async_trait]
impl JobBook for SpoolingQueue {
    async fn job(&self, task: &str, job_id: &str) -> Result<Option<JobState>, QueueError> {
        // First here, then there: what is handed over in between is there.
        let spooled = self.spool().find(job_id).await?.filter(|job| job.task == task);
        let known = self.queue().job(task, job_id).await;
        match (known, spooled) {
            (Ok(Some(state)), _) => Ok(Some(state)),
            (Ok(None) | Err(QueueError::Unavailable(_)), Some(job)) => {
                let waited = Duration::from_millis(now_ms().saturating_sub(job.job.entry.accepted_at));
                Ok(Some(JobState { state: "queued".to_owned(), waited: Some(waited), ..JobState::default() }))
            }
            (known, _) => known,
        }
    }

    async fn entry(&self, task: &str, job_id: &str) -> Result<Option<Entry>, QueueError> {
        // In the same order as its state.
        let spooled = self.spool().find(job_id).await?.filter(|job| job.task == task).map(|job| job.job.entry);
        match (self.queue().entry(task, job_id).await, spooled) {
            (Ok(None) | Err(QueueError::Unavailable(_)), Some(entry)) => Ok(Some(entry)),
            (known, _) => known,
        }
    }

    async fn results(&self, tasks: &[&str], filter: &ResultsFilter) -> Result<Vec<Box<RawValue>>, QueueError> {
        self.queue().results(tasks, filter).await
    }

    async fn results_page(
        &self,
        task: &str,
        after: Option<&ResultsMark>,
        limit: usize,
    ) -> Result<ResultsPage, QueueError> {
        self.queue().results_page(task, after, limit).await
    }

    async fn counts(&self, task: &str) -> Result<Counts, QueueError> {
        let counts = self.queue().counts(task).await?;
        self.learn_depths(task, &counts.depths);
        let (spooled, bytes) = self.spool().counts(task).await?;
        Ok(Counts { depths: sum(counts.depths, &spooled), bytes: counts.bytes.saturating_add(bytes), ..counts })
    }

    async fn watch(&self, task: &str) -> Result<broadcast::Receiver<Change>, QueueError> {
        self.queue().watch(task).await
    }
}

#[async_trait]
impl DeadLetters for SpoolingQueue {
    async fn dead(&self, task: &str, skip: usize, limit: usize) -> Result<Vec<DeadLetter>, QueueError> {
        self.queue().dead(task, skip, limit).await
    }

    async fn dead_letter(&self, task: &str, job_id: &str) -> Result<Option<DeadLetter>, QueueError> {
        self.queue().dead_letter(task, job_id).await
    }

    async fn requeue(&self, task: &str, job_ids: &[String]) -> Result<Vec<bool>, QueueError> {
        self.queue().requeue(task, job_ids).await
    }

    async fn drop_dead(&self, task: &str, job_ids: &[String]) -> Result<Vec<bool>, QueueError> {
        self.queue().drop_dead(task, job_ids).await
    }
}

#[async_trait]
impl Outbox for SpoolingQueue {
    async fn callbacks(&self, task: &str, limit: usize, lease: Duration) -> Result<Vec<Callback>, QueueError> {
        self.queue().callbacks(task, limit, lease).await
    }

    async fn callback_done(&self, task: &str, callback: &Callback, note: &str) -> Result<(), QueueError> {
        self.queue().callback_done(task, callback, note).await
    }

    async fn callback_later(
        &self,
        task: &str,
        callback: &Callback,
        delay: Duration,
        note: &str,
    ) -> Result<(), QueueError> {
        self.queue().callback_later(task, callback, delay, note).await
    }
}

#[async_trait]
impl Replays for SpoolingQueue {
    async fn begin(&self, task: &str, key: &str, fingerprint: &str, patience: Duration) -> Result<Begun, QueueError> {
        self.queue().begin(task, key, fingerprint, patience).await
    }

    async fn finish(&self, task: &str, key: &str, fingerprint: &str, answer: Option<Stored>) -> Result<(), QueueError> {
        self.queue().finish(task, key, fingerprint, answer).await
    }
}

#[async_trait]
impl Facts for SpoolingQueue {
    async fn facts(&self, task: &str, name: &str) -> Result<Vec<(String, String)>, QueueError> {
        self.queue().facts(task, name).await
    }

    async fn set_fact(&self, task: &str, name: &str, field: &str, value: Option<&str>) -> Result<(), QueueError> {
        self.queue().set_fact(task, name, field, value).await
    }

    async fn set_facts(&self, facts: Vec<NewFact>) -> Result<(), QueueError> {
        self.queue().set_facts(facts).await
    }
}

#[async_trait]
impl Labels for SpoolingQueue {
    async fn keep_answers(&self, task: &str, answers: Vec<(String, String)>) -> Result<(), QueueError> {
        self.queue().keep_answers(task, answers).await
    }

    async fn kept_answer(&self, task: &str, id: &str) -> Result<Option<String>, QueueError> {
        self.queue().kept_answer(task, id).await
    }

    async fn label(&self, task: &str, label: &NewLabel) -> Result<Labelled, QueueError> {
        self.queue().label(task, label).await
    }

    async fn beliefs(&self, task: &str) -> Result<Vec<(String, String)>, QueueError> {
        self.queue().beliefs(task).await
    }
}
