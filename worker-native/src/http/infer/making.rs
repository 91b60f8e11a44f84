//! One text or series under way: its place among those at once, its steps, its answer, its log line.
//!
//! Everything hangs on this one value: whoever drops it (a handler whose caller left, a stream that
//! is no longer read) ends the work at once, frees the place, and the engine skips the step that
//! still waits. No task of its own goes on behind it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use shared::policy::Reason;
use shared::problem::{ErrorCode, Problem};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Caller;
use crate::app::App;
use crate::clock::now_ms;
use crate::engine::index::Task;
use crate::engine::repository::Kind;
use crate::engine::{Card, ModelVersion, PoolError};
use crate::generate::{Chosen, Finish, MAX_SEED, Output, Run, Step, What, Wish};
use crate::http::error::ApiError;
use crate::http::rim::Applied;
use crate::routing::DecisionRecord;
use crate::telemetry::metrics::Metrics;

/// A text or a series under way.
#[derive(Debug)]
pub(in crate::http) struct Making {
    request_id: String,
    sensor_id: Option<String>,
    unit: Option<String>,
    version: Arc<ModelVersion>,
    metrics: Metrics,
    run: Run,
    seed: Option<u64>,
    fallback: bool,
    decision: DecisionRecord,
    started: Instant,
    deadline: Instant,
    failed: Option<ErrorCode>,
    _place: OwnedSemaphorePermit,
}

/// Characters read and made.
#[derive(Debug, Serialize)]
struct Tokens {
    prompt: usize,
    generated: usize,
}

/// The answer of a task that makes texts or series.
#[derive(Debug, Serialize)]
pub(in crate::http) struct Answer<'a> {
    request_id: &'a str,
    task: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sensor_id: Option<&'a str>,
    #[serde(flatten)]
    made: Made<'a>,
    finish_reason: Option<Finish>,
    tokens_per_second: f64,
    model_used: &'a str,
    model_version: u32,
    fallback: bool,
    tier: Option<&'a str>,
    latency_ms: f64,
    timestamp: u64,
    decision: &'a DecisionRecord,
}

/// What was made, also where it did not come to its end.
#[derive(Debug, Serialize)]
struct Made<'a> {
    output: Output,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens: Option<Tokens>,
    #[serde(skip_serializing_if = "Option::is_none")]
    steps: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
}

/// What answers and why, as a stream tells it.
#[derive(Debug, Serialize)]
pub(in crate::http) struct Decided<'a> {
    task: &'a str,
    model: &'a str,
    model_version: u32,
    tier: Option<&'a str>,
    fallback: bool,
    decision: &'a DecisionRecord,
}

/// A problem document with what was made before.
#[derive(Debug, Serialize)]
pub(in crate::http) struct Broken<'a> {
    #[serde(flatten)]
    problem: Problem<'a>,
    #[serde(flatten)]
    made: Made<'a>,
}

impl Making {
    /// Takes a place and prepares the first step.
    pub(super) fn begin(
        caller: &Caller,
        task: &Task,
        wish: Wish,
        chosen: Chosen,
        seed: Option<u64>,
    ) -> Result<Self, ApiError> {
        let (run, seed, unit) = match (&wish.what, &task.folder.kind) {
            (What::Text(text), Kind::Generation(generation)) => {
                let seed = text.seed.or(seed).unwrap_or_else(random_seed);
                (Run::text(generation, text, seed), Some(seed), None)
            }
            (What::Series(series), Kind::Forecast(forecast)) => {
                let unit = Some(forecast.unit.clone()).filter(|unit| !unit.is_empty());
                (Run::series(forecast, series), None, unit)
            }
            _ => return Err(ApiError::new(ErrorCode::Internal, "the request was checked against another task")),
        };
        let longest = caller.app.config.http.stream_timeout;
        let wait = wish.deadline_ms.map_or(longest, |ms| Duration::from_millis(ms).min(longest));
        let place = place(&caller.app)?;
        let waiting = chosen.version.pool().map_or(0, |pool| pool.waiting());
        let reason = if chosen.pinned { Reason::CallerPinned } else { Reason::PolicyFixed };
        let decision = DecisionRecord {
            by: "native".to_owned(),
            tier: chosen.version.card().tier.clone(),
            reason: reason.name().to_owned(),
            depth: u32::try_from(waiting).unwrap_or(u32::MAX),
            accuracy: chosen.version.card().training_accuracy,
            ..DecisionRecord::default()
        };
        Ok(Self {
            request_id: caller.request_id.clone(),
            sensor_id: wish.sensor_id,
            unit,
            version: chosen.version,
            metrics: caller.app.metrics.clone(),
            run,
            seed,
            fallback: chosen.fallback,
            decision,
            started: caller.started,
            deadline: caller.started + wait,
            failed: None,
            _place: place,
        })
    }

    fn card(&self) -> &Arc<Card> {
        self.version.card()
    }

    /// Loads the model where it is not loaded, so that a stream begins only where it can go on.
    pub(in crate::http) async fn ready(&mut self) -> Result<(), ApiError> {
        let acquired = tokio::time::timeout_at(self.deadline.into(), self.version.acquire()).await;
        let acquired = acquired.unwrap_or(Err(PoolError::Expired { run: None }));
        acquired.map(drop).map_err(|error| self.fail(error))
    }

    /// Makes one step.
    pub(in crate::http) async fn step(&mut self) -> Result<Step, ApiError> {
        let row = self.version.row(self.run.input(), Some(self.deadline)).await;
        let step = row.and_then(|row| self.run.take(&row.values).map_err(PoolError::Failed));
        if step.is_ok() {
            self.metrics.tokens(1);
        }
        step.map_err(|error| self.fail(error))
    }

    fn fail(&mut self, error: PoolError) -> ApiError {
        let error = ApiError::from(error);
        self.failed = Some(error.code);
        error
    }

    /// Has it come to its end?
    pub(in crate::http) const fn is_over(&self) -> bool {
        self.run.finish().is_some()
    }

    /// Where the random numbers of a text begin.
    pub(in crate::http) const fn seed(&self) -> Option<u64> {
        self.seed
    }

    /// The digest of the model's file.
    pub(in crate::http) fn file(&self) -> &str {
        &self.card().sha256
    }

    /// For headers and log.
    pub(in crate::http) fn applied(&self) -> Applied {
        Applied { task: self.card().task.clone(), decision: Some(self.decision.clone()), job_id: None }
    }

    /// What answers and why.
    pub(in crate::http) fn decided(&self) -> Decided<'_> {
        let card = self.card();
        Decided {
            task: &card.task,
            model: &card.model,
            model_version: card.version,
            tier: card.tier.as_deref(),
            fallback: self.fallback,
            decision: &self.decision,
        }
    }

    /// The answer at the end.
    pub(in crate::http) fn answer(&self) -> Answer<'_> {
        let card = self.card();
        let took = self.started.elapsed().as_secs_f64();
        // At most 16,384 steps: exact in a float64.
        let steps = f64::from(u32::try_from(self.run.steps()).unwrap_or(u32::MAX));
        Answer {
            request_id: &self.request_id,
            task: &card.task,
            sensor_id: self.sensor_id.as_deref(),
            made: self.made(),
            finish_reason: self.run.finish(),
            tokens_per_second: (steps / took.max(1e-6) * 10.0).round() / 10.0,
            model_used: &card.model,
            model_version: card.version,
            fallback: self.fallback,
            tier: card.tier.as_deref(),
            latency_ms: (took * 1e6).round() / 1e3,
            timestamp: now_ms(),
            decision: &self.decision,
        }
    }

    fn made(&self) -> Made<'_> {
        let generated = self.run.steps();
        let prompt = self.run.prompt_tokens();
        Made {
            output: self.run.output(),
            unit: self.unit.as_deref(),
            tokens: prompt.map(|prompt| Tokens { prompt, generated }),
            steps: if prompt.is_none() { Some(generated) } else { None },
            seed: self.seed,
        }
    }

    /// An error that came after the first steps, with what was made before it.
    pub(in crate::http) fn broken<'a>(&'a self, error: &'a ApiError, path: &'a str) -> Broken<'a> {
        let problem = Problem::new(error.code, &error.detail, path, &error.faults, &self.request_id);
        Broken { problem, made: self.made() }
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        let (card, took) = (self.card(), self.started.elapsed());
        let ended = match (self.failed, self.run.finish()) {
            (Some(code), _) => {
                self.version.metrics().failed();
                code.name()
            }
            (None, Some(finish)) => {
                self.version.metrics().answered(took);
                finish.name()
            }
            // Neither answered nor failed.
            (None, None) => "left",
        };
        let took_ms = took.as_secs_f64() * 1_000.0;
        tracing::info!(
            request_id = %self.request_id, task = %card.task, model = %card.model, version = card.version,
            steps = self.run.steps(), took_ms, ended, "generation ended"
        );
    }
}

/// A place among the texts, series and streams under way at once.
pub(in crate::http) fn place(app: &App) -> Result<OwnedSemaphorePermit, ApiError> {
    let streams: Arc<Semaphore> = Arc::clone(&app.streams);
    streams.try_acquire_owned().map_err(|_| {
        let detail = "as many texts, series and streams are under way as may be (STREAM_MAX_ACTIVE)";
        ApiError::new(ErrorCode::Overloaded, detail)
    })
}

fn random_seed() -> u64 {
    // The lower half of a version 4 UUID is random but for its two highest bits.
    uuid::Uuid::new_v4().as_u64_pair().1 & MAX_SEED
}
