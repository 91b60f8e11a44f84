//! A reading's answer by way of the queue, for processes that run no models (`ROLE=api`).
//!
//! The reading becomes a job of the highest class with the caller's deadline, and the caller waits for its result. At
//! the deadline the job is cancelled, so that nobody runs what nobody waits for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, broadcast};

use super::{Asked, Given};
use crate::app::App;
use crate::cache::CacheStatus;
use crate::clock::now_ms;
use crate::engine::{Answer, PoolError, RunFacts};
use crate::learning::answers;
use crate::queue::{Cancelled, Change, Enqueued, Entry, NewJob, Outcome, Priority, QueueError};
use crate::routing::DecisionRecord;

/// A change that went unheard is found by looking.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How long before the deadline the queue is told: the answer must be out by then.
const BEFORE: Duration = Duration::from_millis(5);

/// How long after the deadline the answer may wait to learn where the time went.
const AFTER: Duration = Duration::from_millis(20);

type Waiting = Arc<Mutex<HashMap<String, Arc<Notify>>>>;

/// Callers that wait for the results of jobs, by task.
#[derive(Debug, Default)]
pub struct Waiters {
    tasks: Mutex<HashMap<String, Waiting>>,
}

/// One caller's place; it is free again when this goes.
struct Waiter {
    jobs: Waiting,
    job_id: String,
    changed: Arc<Notify>,
}

impl Drop for Waiter {
    fn drop(&mut self) {
        lock(&self.jobs).remove(&self.job_id);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Waiters {
    /// A place for a job that is not handed in yet: whatever happens to it from now on is heard.
    async fn join(&self, app: &App, task: &str, job_id: &str) -> Result<Waiter, QueueError> {
        let changed = Arc::new(Notify::new());
        let known = lock(&self.tasks).get(task).map(Arc::clone);
        let jobs = match known {
            Some(jobs) => jobs,
            None => self.listen(app, task).await?,
        };
        lock(&jobs).insert(job_id.to_owned(), Arc::clone(&changed));
        Ok(Waiter { jobs, job_id: job_id.to_owned(), changed })
    }

    async fn listen(&self, app: &App, task: &str) -> Result<Waiting, QueueError> {
        let changes = app.queue.watch(task).await?;
        let mut tasks = lock(&self.tasks);
        // Two callers may have come at once: the first one's listener is enough.
        if let Some(jobs) = tasks.get(task) {
            return Ok(Arc::clone(jobs));
        }
        let jobs = Waiting::default();
        tasks.insert(task.to_owned(), Arc::clone(&jobs));
        app.background.spawn(pass_on(changes, Arc::clone(&jobs)));
        Ok(jobs)
    }
}

/// Wakes callers when their jobs change, as long as the queue tells.
async fn pass_on(mut changes: broadcast::Receiver<Change>, jobs: Waiting) {
    loop {
        match changes.recv().await {
            Ok(Change::Jobs(ids)) => {
                let jobs = lock(&jobs);
                ids.iter().filter_map(|id| jobs.get(id)).for_each(|changed| changed.notify_one());
            }
            Ok(Change::Unknown) | Err(RecvError::Lagged(_)) => {
                lock(&jobs).values().for_each(|changed| changed.notify_one());
            }
            Err(RecvError::Closed) => return,
        }
    }
}

/// Answers one reading by way of the queue, at the deadline at the latest.
pub(super) async fn answer(app: &App, asked: &Asked<'_>) -> Result<Given, PoolError> {
    let longest = app.config.http.predict_timeout;
    let deadline = asked.deadline.unwrap_or_else(|| Instant::now() + longest);
    let entry = entry(app, asked, deadline);
    let (task, job_id) = (entry.task.clone(), entry.job_id.clone());
    // A caller that goes away, or gives up on a hand-in that is still under way, takes its job along.
    let abandoned = Abandoned { app, task: &task, job_id: &job_id, armed: true };
    let told = tokio::time::timeout_at(deadline.into(), hand_in_and_wait(app, entry, deadline)).await;
    match told {
        Ok(Ok(Some(told))) => {
            abandoned.disarm();
            told.into_given(app, asked)
        }
        Ok(Err(error)) => {
            if error == PoolError::Full {
                abandoned.disarm();
            }
            Err(error)
        }
        Ok(Ok(None)) | Err(_) => {
            abandoned.disarm();
            expire(app, asked, &task, &job_id).await
        }
    }
}

/// The result of a job handed in now; none when the deadline came first.
async fn hand_in_and_wait(app: &App, entry: Entry, deadline: Instant) -> Result<Option<Told>, PoolError> {
    let task = entry.task.clone();
    let waiter = app.waiters.join(app, &task, &entry.job_id).await.map_err(|error| unreachable_workers(&error))?;
    let left = deadline.saturating_duration_since(Instant::now());
    let job = NewJob { entry, left: Some(left), room: None, once: None };
    match app.queue.enqueue(&task, vec![job]).await.map_err(|error| unreachable_workers(&error))?.pop() {
        Some(Enqueued::Accepted(depths)) => app.snapshots.set_depths(&task, &depths),
        Some(Enqueued::Full(_)) => return Err(PoolError::Full),
        _ => return Err(PoolError::Failed("the queue gave no answer to a hand-in".to_owned())),
    }
    Ok(wait(app, &waiter, &task, deadline).await)
}

/// Cancels the job of a caller that did not stay.
struct Abandoned<'a> {
    app: &'a App,
    task: &'a str,
    job_id: &'a str,
    armed: bool,
}

impl Abandoned<'_> {
    fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for Abandoned<'_> {
    fn drop(&mut self) {
        if self.armed {
            let (app, task, job_id) = (self.app.clone(), self.task.to_owned(), self.job_id.to_owned());
            self.app.background.spawn(async move { drop(cancel(&app, &task, &job_id).await) });
        }
    }
}

/// The result; none when the deadline came first.
async fn wait(app: &App, waiter: &Waiter, task: &str, deadline: Instant) -> Option<Told> {
    let deadline = deadline.checked_sub(BEFORE).unwrap_or(deadline);
    loop {
        let look = (Instant::now() + LOOK_AGAIN).min(deadline);
        let timed_out = tokio::time::timeout_at(look.into(), waiter.changed.notified()).await.is_err();
        if timed_out && Instant::now() >= deadline {
            return None;
        }
        // A queue that cannot be read now may be read by the deadline.
        if let Ok(Some(told)) = look_up(app, task, &waiter.job_id).await {
            return Some(told);
        }
    }
}

async fn look_up(app: &App, task: &str, job_id: &str) -> Result<Option<Told>, QueueError> {
    let Some(state) = app.queue.job(task, job_id).await? else { return Ok(None) };
    let Some(result) = state.result else { return Ok(None) };
    serde_json::from_str(result.get()).map(Some).map_err(|error| QueueError::Corrupt(error.to_string()))
}

/// The deadline has come: what would still run it is told, and where the time went is found.
async fn expire(app: &App, asked: &Asked<'_>, task: &str, job_id: &str) -> Result<Given, PoolError> {
    // The answer must not wait for a slow queue; the job is called off all the same.
    let (own, name, id) = (app.clone(), task.to_owned(), job_id.to_owned());
    let cancelled = app.background.spawn(async move { cancel(&own, &name, &id).await });
    let Ok(Ok(cancelled)) = tokio::time::timeout(AFTER, cancelled).await else {
        return Err(PoolError::Expired { run: None });
    };
    match cancelled {
        Ok(Cancelled::Done { running: true }) => {
            // How long it ran is not known here; that it ran is.
            let run = RunFacts { took: Duration::ZERO, first: false };
            Err(PoolError::Expired { run: Some(run) })
        }
        Ok(Cancelled::Ended(_)) => match look_up(app, task, job_id).await {
            Ok(Some(told)) => told.into_given(app, asked),
            _ => Err(PoolError::Expired { run: None }),
        },
        // Where it cannot be cancelled it expires by itself.
        _ => Err(PoolError::Expired { run: None }),
    }
}

async fn cancel(app: &App, task: &str, job_id: &str) -> Result<Cancelled, QueueError> {
    let record = serde_json::json!({
        "job_id": job_id, "task": task, "outcome": Outcome::Cancelled, "finished_at": now_ms(),
        "error": "the caller's deadline passed",
    });
    app.queue.cancel(task, job_id, &record.to_string()).await
}

fn entry(app: &App, asked: &Asked<'_>, deadline: Instant) -> Entry {
    let card = asked.version.card();
    let left = u64::try_from(deadline.saturating_duration_since(Instant::now()).as_millis()).unwrap_or(u64::MAX);
    let decision = asked.decision.cloned().unwrap_or_else(|| DecisionRecord {
        by: "native".to_owned(),
        tier: card.tier.clone(),
        ..DecisionRecord::default()
    });
    let dearest = || {
        let catalog = app.engine.catalog();
        catalog.task(&card.task).and_then(|task| task.schema.tiers.last().cloned()).unwrap_or_default()
    };
    let lane = card.tier.clone().unwrap_or_else(dearest);
    let entry = Entry::new(&card.task, &lane, (&card.model, card.version), asked.input.clone());
    Entry {
        request_id: asked.request_id.to_owned(),
        sensor_id: asked.sensor_id.map(str::to_owned),
        pinned: !asked.assignment.is_compared(),
        binding: asked.binding,
        decision,
        deadline_at: Some(entry.accepted_at.saturating_add(left)),
        priority: Priority::High,
        awaited: true,
        ..entry
    }
}

fn unreachable_workers(error: &QueueError) -> PoolError {
    tracing::debug!(%error, "a reading cannot be handed to a worker");
    PoolError::Unavailable(
        "this process runs no models (ROLE=api), and the queue to those that do cannot be used".to_owned(),
    )
}

/// What a result says.
#[derive(Deserialize)]
struct Told {
    outcome: Outcome,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    model_version: Option<u32>,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    decision: Option<DecisionRecord>,
    #[serde(flatten)]
    answer: Option<Answer>,
}

impl Told {
    fn into_given(self, app: &App, asked: &Asked<'_>) -> Result<Given, PoolError> {
        let error = self.error.unwrap_or_default();
        match (self.outcome, self.answer) {
            (Outcome::Done, Some(answer)) => {
                let card = asked.version.card();
                // Another version may have stood in.
                let model = self.model.as_deref().unwrap_or(&card.model);
                let by = self.model_version.and_then(|version| app.engine.version(&card.task, model, version));
                let card = Arc::clone(by.as_ref().map_or(card, |version| version.card()));
                let cascaded = self.decision.and_then(|decision| decision.cascade).map(|cascaded| *cascaded);
                let mut given = Given { cascaded, ..Given::new(answer, card, CacheStatus::Off) };
                given.assignment = given
                    .escalated()
                    .map(|_| answers::assignment(app, &given.card.task, &given.card.model, given.card.version, false));
                Ok(given)
            }
            (Outcome::Failed, _) => Err(PoolError::Invalid(error)),
            (Outcome::Expired | Outcome::Cancelled, _) => Err(PoolError::Expired { run: None }),
            (Outcome::Done | Outcome::Dead, _) => Err(PoolError::Failed(error)),
        }
    }
}
