//! Decisions as they can be asked for later: what was decided for a reading, on which numbers, and how it ended.
//!
//! A job carries its decision along, into its result; so any process can tell of it for as long as the result is kept.
//! What a process answers at once it keeps in memory, and writes beside the queue with its answers (`learning::answers`).
//! Owns the record of one offered reading and where it goes: memory and log. Who decides is `routing`'s, the words are
//! `story`'s, finding one by its id is `find`'s.

pub mod find;
pub mod log;
pub mod packed;
pub mod story;

use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache as Store;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::clock::millis;
use crate::config::DecisionsConfig;
use crate::engine::{Card, PoolError};
use crate::queue::{Entry, Outcome};
use crate::routing::{DecisionRecord, Routed, Weighed};
use log::Log;

/// Readings kept in memory, and for how long: about 1 KB each.
const RECENT: u64 = 10_000;
const KEEP: Duration = Duration::from_secs(3_600);
/// The outcome of a job that there was no room for; it is no [`Outcome`], since it was never accepted.
pub const REFUSED: &str = "refused";
/// The outcome of a reading that was turned away as part of the share of its class that is shed; likewise.
pub const SHED: &str = "shed";

/// One offered reading: what it asked for, what was decided, how it ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// The request.
    pub request_id: String,
    /// The job, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
    /// The task.
    pub task: String,
    /// When the service had it, in Unix milliseconds.
    pub at: u64,
    /// The decision; its tier is the one that a worker bound the job to, where one did.
    pub decision: DecisionRecord,
    /// What was weighed; none of a job of an older process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weighed: Option<Weighed>,
    /// How it ended; none before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<End>,
}

/// How a reading ended.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// The name of an [`Outcome`], [`REFUSED`] or [`SHED`].
    pub outcome: String,
    /// The model that answered or was to.
    #[serde(default)]
    pub model: String,
    /// Its version.
    #[serde(default)]
    pub model_version: u32,
    /// From acceptance to the end, in milliseconds.
    #[serde(default)]
    pub latency_ms: f64,
    /// The part of it before a worker took the job, in milliseconds; none for what was answered at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waited_ms: Option<f64>,
    /// How often it was started; none for what was answered at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// Why there is no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What a job's result says of its decision.
#[derive(Debug, Deserialize)]
struct Told {
    job_id: String,
    #[serde(default)]
    request_id: String,
    task: String,
    #[serde(default)]
    accepted_at: u64,
    outcome: Outcome,
    decision: DecisionRecord,
    #[serde(default)]
    weighed: Option<Weighed>,
    #[serde(default)]
    model: String,
    #[serde(default)]
    model_version: u32,
    #[serde(default)]
    latency_ms: f64,
    #[serde(default)]
    attempts: Option<u32>,
    #[serde(default)]
    error: Option<String>,
}

impl Case {
    /// Of a job that has not ended.
    #[must_use]
    pub fn of_job(entry: &Entry) -> Self {
        Self {
            request_id: entry.request_id.clone(),
            job_id: Some(entry.job_id.clone()),
            task: entry.task.clone(),
            at: entry.accepted_at,
            decision: entry.decision.clone(),
            weighed: entry.weighed.clone(),
            end: None,
        }
    }

    /// Of a job that has; none where its result does not tell, as one from before results told.
    #[must_use]
    pub fn of_result(result: &RawValue) -> Option<Self> {
        let told: Told = serde_json::from_str(result.get()).ok()?;
        let end = End {
            outcome: told.outcome.name().to_owned(),
            model: told.model,
            model_version: told.model_version,
            latency_ms: told.latency_ms,
            waited_ms: None,
            attempts: told.attempts,
            error: told.error,
        };
        Some(Self {
            request_id: told.request_id,
            job_id: Some(told.job_id),
            task: told.task,
            at: told.accepted_at,
            decision: told.decision,
            weighed: told.weighed,
            end: Some(end),
        })
    }

    /// Of a reading that was answered at once, or was not: by which model, or why not; `took` is what that took.
    #[must_use]
    pub fn of_call(
        (request_id, task): (&str, &str),
        routed: &Routed,
        given: Result<&Card, &PoolError>,
        (at, took): (u64, Duration),
    ) -> Self {
        let failed = given.err();
        let card = given.unwrap_or_else(|_| routed.version.card());
        let outcome = match failed {
            None => Outcome::Done.name(),
            Some(PoolError::Expired { .. }) => Outcome::Expired.name(),
            Some(PoolError::Full | PoolError::Closed | PoolError::Unavailable(_)) => REFUSED,
            Some(PoolError::Shed { .. }) => SHED,
            Some(PoolError::Invalid(_) | PoolError::Failed(_)) => Outcome::Failed.name(),
        };
        let end = End {
            outcome: outcome.to_owned(),
            model: card.model.clone(),
            model_version: card.version,
            latency_ms: millis(took),
            waited_ms: None,
            attempts: None,
            error: failed.map(ToString::to_string),
        };
        Self {
            request_id: request_id.to_owned(),
            job_id: None,
            task: task.to_owned(),
            at,
            decision: routed.decision.clone(),
            weighed: Some(routed.weighed.clone()),
            end: Some(end),
        }
    }

    /// The same with its end.
    #[must_use]
    pub fn ended(self, end: End) -> Self {
        Self { end: Some(end), ..self }
    }

    /// Was it answered by its deadline? None before its end, and for one that somebody called off.
    #[must_use]
    pub fn is_on_time(&self) -> Option<bool> {
        let end = self.end.as_ref().filter(|end| end.outcome != Outcome::Cancelled.name())?;
        let deadline = self.weighed.as_ref().and_then(|weighed| weighed.deadline_ms);
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of a deadline are far below 2^53")]
        let in_time = deadline.is_none_or(|ms| end.latency_ms <= ms as f64);
        Some(end.outcome == Outcome::Done.name() && in_time)
    }
}

/// Where this process's decisions go.
#[derive(Debug)]
pub struct Decisions {
    recent: Store<String, Arc<Case>>,
    /// The log of decisions.
    pub log: Log,
}

impl Decisions {
    /// Nothing was decided yet.
    #[must_use]
    pub fn new(config: &DecisionsConfig) -> Self {
        let recent = Store::builder().max_capacity(RECENT).time_to_live(KEEP).build();
        Self { recent, log: Log::new(config) }
    }

    /// A reading was answered at once, or refused: nobody else keeps what was decided for it.
    pub fn tell(&self, case: Case) {
        let case = Arc::new(case);
        self.recent.insert(case.request_id.clone(), Arc::clone(&case));
        self.log.write(case);
    }

    /// A job was accepted: its own records tell of it, by its id.
    pub fn accepted(&self, case: Case) {
        self.recent.insert(case.request_id.clone(), Arc::new(case));
    }

    /// A job was not accepted; `outcome` is [`REFUSED`] or [`SHED`].
    pub fn refused(&self, case: Case, outcome: &'static str, error: &str) {
        let end = End { outcome: outcome.to_owned(), error: Some(error.to_owned()), ..End::default() };
        // There is no such job.
        self.tell(Case { job_id: None, ..case.ended(end) });
    }

    /// A job ended here: its result tells of it, and the log.
    pub fn ended(&self, entry: &Entry, end: impl FnOnce() -> End) {
        // Whoever waits for it tells of it.
        if self.log.wants(&entry.request_id) && !entry.awaited {
            self.log.write(Arc::new(Case::of_job(entry).ended(end())));
        }
    }

    /// What this process knows of a request.
    #[must_use]
    pub fn recent(&self, request_id: &str) -> Option<Arc<Case>> {
        self.recent.get(request_id)
    }
}

#[cfg(test)]
mod tests;
