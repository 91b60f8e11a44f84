//! One model version, warm, with its workers: the thing that answers.
//!
//! Owns the workers and their queue. Loading it is `loader`'s, replacing it `version`'s.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use shared::policy::Profile;
use tokio_util::task::TaskTracker;

use super::answer::Card;
use super::backend::{Backend, RunError, Runner};
use super::batcher::{Batch, Batcher, Begun, Input, Ran, Refused, RunFacts};
use super::lanes::{Worker, drain_on_runtime, drain_on_thread};
use super::profile::Fit;
use super::stats::{Stats, StatsView};
use super::tensor::{Signature, Tensor, element_count};
use super::watchdog::{Seen, Watch};

/// One loaded model version and the workers that run it.
#[derive(Debug)]
pub struct Pool {
    pub(super) name: String,
    pub(super) card: Arc<Card>,
    pub(super) backend: Arc<dyn Backend>,
    pub(super) signature: Arc<Signature>,
    pub(super) batcher: Batcher,
    pub(super) stats: Arc<Stats>,
    pub(super) workers: usize,
    pub(super) watches: Mutex<Vec<Arc<Watch>>>,
    pub(super) tasks: TaskTracker,
    pub(super) fit: Mutex<Fit>,
    /// What the warm-up found.
    pub warm_up: WarmUp,
}

/// What the warm-up found.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct WarmUp {
    /// From the file to the last worker's start, in milliseconds.
    pub load_ms: f64,
    /// One reading's run, in microseconds.
    pub single_us: f64,
    /// The largest batch's run, in microseconds.
    pub largest_us: f64,
    /// Most rows in one run.
    pub max_batch: usize,
    /// Run by threads of its own instead of the async runtime.
    pub own_threads: bool,
}

/// A pool at one moment, as `GET /pool/stats` shows it.
#[derive(Debug, Clone, Serialize)]
pub struct PoolView {
    /// What computes: `onnxruntime` or `native-trees`.
    pub backend: &'static str,
    /// Workers, each with a session of its own.
    pub size: usize,
    /// Workers that wait for readings.
    pub available: usize,
    /// Rows that wait for a worker.
    pub waiting: usize,
    /// Since it was loaded.
    #[serde(flatten)]
    pub stats: StatsView,
    /// What the warm-up found.
    pub warm_up: WarmUp,
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
    /// The deadline passed before the answer was there.
    #[error("the deadline passed {}", if run.is_some() { "while the model ran" } else { "while the reading waited for the model" })]
    Expired {
        /// The run, where it had begun, with what it took by then.
        run: Option<RunFacts>,
    },
    /// The input does not fit the model.
    #[error("{0}")]
    Invalid(String),
    /// The model failed on this reading.
    #[error("{0}")]
    Failed(String),
    /// The version is not loaded and will not be by itself; the text says why.
    #[error("{0}")]
    Unavailable(String),
    /// It was turned away before it came to a pool, as part of the share of its class that is shed.
    #[error("{detail}")]
    Shed {
        /// What its caller is told.
        detail: String,
        /// When to come back, in milliseconds.
        after_ms: u32,
    },
}

impl From<RunError> for PoolError {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Invalid(text) => Self::Invalid(text),
            RunError::Failed(text) => Self::Failed(text),
            RunError::Expired => Self::Expired { run: None },
        }
    }
}

/// Why a request was not run by this pool.
pub(super) enum NotRun {
    /// The pool closes: the input for the one that follows.
    Closed(Input),
    /// Final.
    Failed(PoolError),
}

fn start_thread(name: &str, tasks: &TaskTracker, worker: Worker, batch: Batch) -> Result<(), String> {
    // The token makes the tracker wait for the thread as it waits for tasks.
    let token = tasks.token();
    std::thread::Builder::new()
        .name(name.chars().take(15).collect())
        .spawn(move || {
            drain_on_thread(worker, batch);
            drop(token);
        })
        .map(drop)
        .map_err(|error| format!("a worker thread cannot be started: {error}"))
}

impl Pool {
    /// Starts the workers.
    pub(super) fn start(&self, runners: Vec<Box<dyn Runner>>) -> Result<(), String> {
        for runner in runners {
            self.start_worker(runner, self.warm_up.own_threads)?;
        }
        Ok(())
    }

    fn start_worker(&self, runner: Box<dyn Runner>, own_thread: bool) -> Result<(), String> {
        let watch = Arc::new(Watch::new(runner.stop_switch()));
        let worker = Worker { runner, intake: self.batcher.intake(), watch: Arc::clone(&watch) };
        self.watches().push(watch);
        if own_thread {
            return start_thread(&self.name, &self.tasks, worker, Batch::default());
        }
        let (name, tasks) = (self.name.clone(), self.tasks.clone());
        self.tasks.spawn(async move {
            if let Some((worker, batch)) = drain_on_runtime(worker).await
                && let Err(error) = start_thread(&name, &tasks, worker, batch)
            {
                tracing::error!(model = name, error, "a worker whose run was interrupted is lost");
            }
        });
        Ok(())
    }

    /// Does a run go on that holds a thread of the async runtime?
    pub(super) fn holds_runtime(&self) -> bool {
        !self.warm_up.own_threads && self.watches().iter().any(|watch| watch.is_running())
    }

    fn watches(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Watch>>> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks after runs that hang.
    pub(super) fn look_after(&self, now: Instant, limit: Duration) {
        let watches = self.watches().clone();
        for watch in watches {
            match watch.look(now, limit) {
                Seen::Well => {}
                Seen::Stopped => {
                    self.stats.stopped.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    tracing::warn!(model = %self.name, limit_ms = limit.as_millis(), "a run was interrupted after MODEL_MAX_RUN_MS");
                }
                Seen::Lost => self.replace(&watch),
            }
        }
    }

    /// A lost worker's place is taken by one on a thread of its own: what hung once may hang again.
    fn replace(&self, lost: &Arc<Watch>) {
        self.stats.lost.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.stats.in_use.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        self.watches().retain(|watch| !Arc::ptr_eq(watch, lost));
        let replaced = self.backend.open().and_then(|runner| self.start_worker(runner, true));
        match replaced {
            Ok(()) => {
                tracing::error!(model = %self.name, "a worker does not come back from a run; another takes its place")
            }
            Err(error) => {
                tracing::error!(model = %self.name, error, "a worker does not come back from a run and cannot be replaced")
            }
        }
    }

    /// Workers that do not come back and were not replaced leave the pool without any.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.watches().iter().any(|watch| !watch.is_given_up())
    }

    /// What the file takes and gives.
    #[must_use]
    pub const fn signature(&self) -> &Arc<Signature> {
        &self.signature
    }

    /// Does every worker run something?
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.stats.in_use.load(std::sync::atomic::Ordering::Relaxed) >= self.workers
    }

    /// Rows that wait for a worker.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.batcher.waiting()
    }

    /// Microseconds of one worker for each reading, smoothed.
    #[must_use]
    pub fn service_us(&self) -> u32 {
        self.stats.service_us()
    }

    /// How long runs take by the size of their batch, as counted so far.
    #[must_use]
    pub fn profile(&self) -> Profile {
        self.fit.lock().unwrap_or_else(PoisonError::into_inner).update(&self.stats, Instant::now())
    }

    /// The time of all runs together, in nanoseconds.
    #[must_use]
    pub fn run_ns(&self) -> u64 {
        self.stats.run_ns()
    }

    /// Workers, each with a session of its own.
    #[must_use]
    pub const fn workers(&self) -> usize {
        self.workers
    }

    /// The pool's figures.
    #[must_use]
    pub fn view(&self) -> PoolView {
        let stats = self.stats.view();
        PoolView {
            backend: self.backend.name(),
            size: self.workers,
            available: self.workers.saturating_sub(stats.in_use),
            waiting: self.waiting(),
            stats,
            warm_up: self.warm_up,
        }
    }

    /// Runs one request of at most a batch's rows; answered at the deadline at the latest.
    pub(super) async fn run(&self, input: Input, deadline: Option<Instant>) -> Result<Ran, NotRun> {
        let begun = Begun::default();
        let reply = self.batcher.submit(input, deadline, &begun).map_err(|refused| match refused {
            Refused::Full => NotRun::Failed(PoolError::Full),
            Refused::Closed(input) => NotRun::Closed(input),
        })?;
        let reply = match deadline {
            None => reply.await,
            Some(deadline) => tokio::time::timeout_at(deadline.into(), reply)
                .await
                .map_err(|_| NotRun::Failed(PoolError::Expired { run: begun.run() }))?,
        };
        let reply = reply.map_err(|_| NotRun::Failed(PoolError::Closed))?;
        reply.map_err(|error| NotRun::Failed(error.into()))
    }

    /// Runs named tensors as they are, in runs of at most a batch.
    pub(super) fn chunks(&self, tensors: Vec<Tensor>) -> Result<Vec<Input>, PoolError> {
        self.check(&tensors)?;
        let max_batch = self.signature.max_batch;
        let rows = tensors.first().map_or(0, Tensor::rows);
        if max_batch == 0 || rows <= max_batch {
            return Ok(vec![Input::Tensors { rows: if max_batch == 0 { 1 } else { rows }, tensors }]);
        }
        let mut chunks = Vec::with_capacity(rows.div_ceil(max_batch));
        for start in (0..rows).step_by(max_batch) {
            let range = start..(start + max_batch).min(rows);
            let part: Option<Vec<Tensor>> = tensors.iter().map(|tensor| tensor.rows_of(range.clone())).collect();
            let tensors =
                part.ok_or_else(|| PoolError::Invalid("a tensor's shape does not fit its elements".to_owned()))?;
            chunks.push(Input::Tensors { rows: range.len(), tensors });
        }
        Ok(chunks)
    }

    /// Do the tensors fit the model? Checked before they wait, so that no request can fail its neighbours' batch.
    fn check(&self, tensors: &[Tensor]) -> Result<(), PoolError> {
        let invalid = |text: String| Err(PoolError::Invalid(text));
        for spec in &self.signature.inputs {
            let Some(given) = tensors.iter().find(|tensor| tensor.name == spec.name) else {
                return invalid(format!("input `{}` is missing: {}", spec.name, spec.describe()));
            };
            if !spec.takes(given.data.data_type(), &given.shape) {
                let axes: Vec<String> = given.shape.iter().map(usize::to_string).collect();
                let sent = format!("{}[{}]", given.data.data_type().name(), axes.join(","));
                return invalid(format!("input `{}` is {sent}, the model takes {}", spec.name, spec.describe()));
            }
            if element_count(&given.shape) != Some(given.data.len()) {
                return invalid(format!(
                    "input `{}` has {} elements, its shape says otherwise",
                    spec.name,
                    given.data.len()
                ));
            }
        }
        if let Some(unknown) =
            tensors.iter().find(|given| !self.signature.inputs.iter().any(|spec| spec.name == given.name))
        {
            let known: Vec<&str> = self.signature.inputs.iter().map(|spec| spec.name.as_str()).collect();
            return invalid(format!("the model has no input `{}`; it has: {}", unknown.name, known.join(", ")));
        }
        let rows = tensors.first().map_or(0, Tensor::rows);
        if self.signature.max_batch > 0 && (rows == 0 || tensors.iter().any(|tensor| tensor.rows() != rows)) {
            return invalid("all inputs must have the same number of rows, at least one".to_owned());
        }
        Ok(())
    }

    pub(super) fn close(&self) {
        self.batcher.close();
    }
}
