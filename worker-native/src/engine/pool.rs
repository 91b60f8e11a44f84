//! One model version, warm, with its workers.
//!
//! Loading proves what serving relies on: the output has the promised columns, its first axis is
//! the batch, a batched reading gives what it gives alone. The time of the largest batch chooses
//! the lane.

use std::path::Path;
use std::time::{Duration, Instant};

use shared::schema::{FieldKind, TaskSchema};
use tokio_util::task::TaskTracker;

use super::answer::{Answer, Card};
use super::batcher::{Batcher, Refused, ServiceTime, drain_on_runtime, drain_on_thread, run_split};
use super::read_checked;
use super::repository::ModelFolder;
use super::runtime::{OrtRunner, Runtime};
use crate::config::ModelsConfig;

/// A batch that takes longer would hold a runtime thread from its other work.
const FAST_LANE_LIMIT: Duration = Duration::from_micros(250);

/// One model version and the workers that run it.
#[derive(Debug)]
pub struct Pool {
    card: Card,
    batcher: Batcher,
    /// What the warm-up found, for the log.
    pub warm_up: WarmUp,
}

/// What the warm-up found.
#[derive(Debug, Clone, Copy)]
pub struct WarmUp {
    /// From the file to the last worker's start.
    pub load: Duration,
    /// The largest batch's run.
    pub largest_batch: Duration,
    /// Run by threads of its own instead of the async runtime.
    pub own_threads: bool,
}

/// Why a pool gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// As many readings wait as may.
    #[error("as many readings wait for this model as may (MODEL_MAX_WAITING)")]
    Full,
    /// The process is shutting down.
    #[error("the model is being unloaded")]
    Closed,
    /// The model failed on this reading.
    #[error("{0}")]
    Failed(String),
}

impl Pool {
    /// Loads, checks, warms up and starts the workers.
    pub(super) fn load(
        runtime: &Runtime,
        config: &ModelsConfig,
        schema: &TaskSchema,
        (card, sha256): (Card, &str),
        file: &Path,
        tasks: &TaskTracker,
    ) -> Result<Self, String> {
        let started = Instant::now();
        let bytes = read_checked(file, sha256)?;
        let open = || runtime.session(&bytes, schema.width(), card.output.name());
        let mut first = open()?;
        let (single, largest_batch) = warm_up(&mut first, &card, schema, config.max_batch)?;
        let own_threads = largest_batch > FAST_LANE_LIMIT;
        let service = ServiceTime::starting_at(single);
        let batcher = Batcher::new(config.max_waiting, config.max_batch, service);
        let mut runners = vec![first];
        while runners.len() < config.sessions {
            runners.push(open()?);
        }
        for (i, runner) in runners.into_iter().enumerate() {
            start(runner, &batcher, own_threads, format!("{}-{i}", card.model), tasks)?;
        }
        let warm_up = WarmUp { load: started.elapsed(), largest_batch, own_threads };
        Ok(Self { card, batcher, warm_up })
    }

    /// Which model this is and how its output reads.
    #[must_use]
    pub const fn card(&self) -> &Card {
        &self.card
    }

    /// Readings that wait for a worker.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.batcher.waiting()
    }

    /// Microseconds of one worker per reading, smoothed.
    #[must_use]
    pub fn service_us(&self) -> u32 {
        self.batcher.service_us()
    }

    /// Runs one validated reading; the caller brings its own deadline and drops the future when it passes.
    ///
    /// # Errors
    /// [`PoolError`]; `Full` and `Closed` at once.
    pub async fn predict(&self, features: Vec<f32>) -> Result<Answer, PoolError> {
        let row = self.batcher.submit(features).map_err(|refused| match refused {
            Refused::Full => PoolError::Full,
            Refused::Closed => PoolError::Closed,
        })?;
        let row = row.await.map_err(|_| PoolError::Closed)?.map_err(|error| PoolError::Failed(error.to_string()))?;
        self.card.read(&row).map_err(PoolError::Failed)
    }

    pub(super) fn close(&self) {
        self.batcher.close();
    }
}

fn start(
    runner: OrtRunner,
    batcher: &Batcher,
    own_threads: bool,
    name: String,
    tasks: &TaskTracker,
) -> Result<(), String> {
    let intake = batcher.intake();
    if !own_threads {
        tasks.spawn(drain_on_runtime(runner, intake));
        return Ok(());
    }
    // The token makes the tracker wait for the thread as it waits for tasks.
    let token = tasks.token();
    std::thread::Builder::new()
        .name(name)
        .spawn(move || {
            drain_on_thread(runner, &intake);
            drop(token);
        })
        .map(drop)
        .map_err(|error| format!("a worker thread cannot be started: {error}"))
}

/// Runs batches of 1, 2, 3 and the largest size; gives the time of one reading and of the largest batch.
fn warm_up(
    runner: &mut OrtRunner,
    card: &Card,
    schema: &TaskSchema,
    max_batch: usize,
) -> Result<(Duration, Duration), String> {
    let samples: Vec<Vec<f32>> = (0..max_batch).map(|i| sample(schema, i)).collect();
    let mut run = |rows: usize| -> Result<(Vec<Vec<f32>>, Duration), String> {
        let features: Vec<f32> = samples.iter().take(rows).flatten().copied().collect();
        let started = Instant::now();
        let outputs =
            run_split(runner, rows, &features).map_err(|error| format!("a batch of {rows} fails: {error}"))?;
        Ok((outputs, started.elapsed()))
    };
    let (alone, _) = run(1)?;
    for row in &alone {
        card.read(row)?;
    }
    for rows in [2, 3, max_batch].into_iter().filter(|rows| *rows <= max_batch) {
        let (outputs, _) = run(rows)?;
        let same = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-4 * a.abs().max(1.0);
        let first = outputs.first().zip(alone.first());
        if !first.is_some_and(|(a, b)| a.len() == b.len() && a.iter().zip(b).all(same)) {
            return Err(format!(
                "a reading in a batch of {rows} gives another answer than alone; its output's first axis is not the batch's"
            ));
        }
    }
    // The first run of a size also allocates, and others use this machine too: the best of three more.
    let mut best = |rows: usize| -> Result<Duration, String> {
        let times: Vec<Duration> = (0..3).map(|_| run(rows).map(|(_, time)| time)).collect::<Result<_, _>>()?;
        Ok(times.into_iter().min().unwrap_or_default())
    };
    Ok((best(1)?, best(max_batch)?))
}

/// A reading within the accepted ranges, another one for each `i`.
fn sample(schema: &TaskSchema, i: usize) -> Vec<f32> {
    let mut features = Vec::with_capacity(schema.width());
    for (f, field) in schema.fields.iter().enumerate() {
        for step in 0..field.length {
            features.push(match field.kind {
                FieldKind::Category => 0.0,
                FieldKind::Text => continue,
                FieldKind::Number => {
                    let min = field.min.unwrap_or(0.0);
                    let max = field.max.unwrap_or(min + 1.0).max(min);
                    // Scattered over the range by the golden ratio, without randomness.
                    #[expect(clippy::cast_precision_loss, reason = "small counters")]
                    let share = ((i * 31 + f * 7 + step) as f64 * 0.618_033_988_749).fract();
                    #[expect(clippy::cast_possible_truncation, reason = "the schema's ranges fit float32")]
                    let value = (max - min).mul_add(share, min) as f32;
                    value
                }
            });
        }
    }
    features
}

/// The facts a pool needs of a version: how its output reads, and its file's hash.
pub(super) fn facts(schema: &TaskSchema, model: &ModelFolder, version: u32) -> (Card, String) {
    let facts = model.versions.get(&version);
    let card = Card {
        task: schema.name.clone(),
        model: model.name.clone(),
        version,
        tier: model.tier.clone(),
        output: model.output.clone(),
        classes: schema.classes.clone(),
        normal: schema.normal.clone(),
        training_accuracy: facts.and_then(|facts| facts.accuracy),
    };
    (card, facts.map(|facts| facts.sha256.clone()).unwrap_or_default())
}
