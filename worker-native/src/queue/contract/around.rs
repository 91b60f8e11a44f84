//! What a queue keeps around its jobs: dead letters, callbacks that are due, idempotency keys, facts about models.
//!
//! Owns these promises; the way of jobs is `super`'s.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::value::RawValue;

use super::{QueueError, Stored};
use crate::queue::job::{AttemptError, Entry};

/// A job that was given up, kept with its reading until somebody decides.
#[derive(Debug)]
pub struct DeadLetter {
    /// The job.
    pub job_id: String,
    /// As it was handed in, or why that cannot be read.
    pub entry: Result<Entry, String>,
    /// The result shown for it.
    pub result: Box<RawValue>,
    /// Every try.
    pub failures: Vec<AttemptError>,
    /// When it was given up, in Unix milliseconds.
    pub died_at: u64,
}

/// Jobs that were given up.
///
/// # Errors
/// [`QueueError`] everywhere.
#[async_trait]
pub trait DeadLetters: Send + Sync {
    /// Dead letters of a task, newest first, from position `skip`.
    async fn dead(&self, task: &str, skip: usize, limit: usize) -> Result<Vec<DeadLetter>, QueueError>;

    /// One dead letter.
    async fn dead_letter(&self, task: &str, job_id: &str) -> Result<Option<DeadLetter>, QueueError>;

    /// Hands dead letters in again, as new jobs under their old ids and without a deadline; `false` where there is
    /// none of that id. Their old results are gone with the same step.
    async fn requeue(&self, task: &str, job_ids: &[String]) -> Result<Vec<bool>, QueueError>;

    /// Drops dead letters for good; `false` where there is none of that id. Their results stay as long as others do.
    async fn drop_dead(&self, task: &str, job_ids: &[String]) -> Result<Vec<bool>, QueueError>;
}

/// A result that somebody wants to be told of.
#[derive(Debug, Clone)]
pub struct Callback {
    /// The job.
    pub job_id: String,
    /// When the job ended, in Unix milliseconds of the queue's clock: a job that is handed in again ends again, and
    /// calls back once for each ending.
    pub ended_at: u64,
    /// Where to.
    pub url: String,
    /// Which try this is; 1 is the first.
    pub attempt: u32,
    /// How long ago the job ended.
    pub age: Duration,
    /// The result, unless it has expired meanwhile.
    pub result: Option<Box<RawValue>>,
}

/// Callbacks that are due, since the settlement of their job.
///
/// # Errors
/// [`QueueError`] everywhere.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// Takes up to `limit` callbacks that are due; they are due again after `lease`, unless they are done by then.
    async fn callbacks(&self, task: &str, limit: usize, lease: Duration) -> Result<Vec<Callback>, QueueError>;

    /// A callback needs no more tries; `note` is kept with the job's result for as long as that is. Nothing happens
    /// where the job has been handed in again meanwhile: its next ending has a callback of its own.
    async fn callback_done(&self, task: &str, callback: &Callback, note: &str) -> Result<(), QueueError>;

    /// A callback is to be tried again after `delay`; `note` says why. Nothing happens where it needs no more tries.
    async fn callback_later(
        &self,
        task: &str,
        callback: &Callback,
        delay: Duration,
        note: &str,
    ) -> Result<(), QueueError>;
}

/// What is known under an idempotency key of a call that is answered at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// Nothing: the call is the caller's to make, and to finish.
    New,
    /// The same call is being made.
    InFlight,
    /// It was made, and answered so.
    Replayed(Stored),
    /// The key was used for another call.
    Conflict,
}

/// Idempotency keys of calls that are answered at once.
///
/// # Errors
/// [`QueueError`] everywhere.
#[async_trait]
pub trait Replays: Send + Sync {
    /// Begins a call under a key; it counts as being made for `patience`.
    async fn begin(&self, task: &str, key: &str, fingerprint: &str, patience: Duration) -> Result<Begun, QueueError>;

    /// Keeps the answer of a call for `IDEMPOTENCY_TTL_SECONDS`, or, without one, forgets the call.
    async fn finish(&self, task: &str, key: &str, fingerprint: &str, answer: Option<Stored>) -> Result<(), QueueError>;
}

/// A shared fact to be set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewFact {
    /// The task.
    pub task: String,
    /// What it is a fact of, as [`Facts::facts`] asks for it.
    pub name: String,
    /// The model, the tier, or whatever tells it from others under that name.
    pub field: String,
    /// The value; none removes the fact.
    pub value: Option<String>,
}

/// Facts about a task's models that all processes share.
///
/// # Errors
/// [`QueueError`] everywhere.
#[async_trait]
pub trait Facts: Send + Sync {
    /// All facts under `name`: model or tier to value.
    async fn facts(&self, task: &str, name: &str) -> Result<Vec<(String, String)>, QueueError>;

    /// Sets a shared fact, or removes it.
    async fn set_fact(&self, task: &str, name: &str, field: &str, value: Option<&str>) -> Result<(), QueueError>;

    /// Sets or removes facts of any tasks in as few writes as the store allows; of two for one field the later counts.
    ///
    /// What is set of a task under one name is one step; the tasks are not. A task that cannot be written keeps no other
    /// from being.
    async fn set_facts(&self, facts: Vec<NewFact>) -> Result<(), QueueError>;
}
