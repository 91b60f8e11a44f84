//! What every part of the service works with, built once at start.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::admission::Admission;
use crate::answering::remote::Waiters;
use crate::cache::Cache;
use crate::config::Config;
use crate::decisions::Decisions;
use crate::engine::Engine;
use crate::learning::Learning;
use crate::queue::Queue;
use crate::rollout::Ledger;
use crate::routing::planner::Planner;
use crate::routing::policies::Policies;
use crate::routing::snapshots::Snapshots;
use crate::telemetry::metrics::Metrics;
use crate::webhook::Webhooks;

/// The service's parts; cheap to clone.
#[derive(Debug, Clone)]
pub struct App(Arc<Parts>);

/// The parts behind an [`App`].
#[derive(Debug)]
pub struct Parts {
    /// As checked at start.
    pub config: Config,
    /// The models.
    pub engine: Arc<Engine>,
    /// The jobs.
    pub queue: Arc<dyn Queue>,
    /// Results sent to where callers asked.
    pub webhooks: Webhooks,
    /// Rows computed before.
    pub cache: Cache,
    /// What operators watch.
    pub metrics: Metrics,
    /// What answered which request, for labels that come later.
    pub ledger: Ledger,
    /// What labels have taught.
    pub learning: Learning,
    /// Load and accuracy.
    pub snapshots: Snapshots,
    /// How the load is split.
    pub planner: Planner,
    /// Which policy is in force.
    pub policies: Policies,
    /// What was decided, for who asks later.
    pub decisions: Decisions,
    /// Who still fits into the queue.
    pub admission: Admission,
    /// Places for texts and series in the making.
    pub streams: Arc<Semaphore>,
    /// Places for those who watch a job.
    pub watchers: Arc<Semaphore>,
    /// Callers that wait for a worker's answer.
    pub waiters: Waiters,
    /// Calls that go on when their callers have left; a shutdown waits for them.
    pub calls: TaskTracker,
    /// What goes on behind answers; ends with the process.
    pub background: TaskTracker,
    /// When the process started.
    pub started: Instant,
    draining: AtomicBool,
    losses: OnceLock<Vec<&'static str>>,
}

impl std::ops::Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl App {
    /// Puts the parts together.
    #[must_use]
    pub fn new(config: Config, engine: Arc<Engine>, queue: Arc<dyn Queue>, webhooks: Webhooks, cache: Cache) -> Self {
        let boot = uuid::Uuid::new_v4().as_u64_pair().0;
        let snapshots = Snapshots::new(&engine.catalog(), boot);
        let policies = Policies::new(&config.routing);
        let draining = AtomicBool::new(false);
        let streams = Arc::new(Semaphore::new(config.http.stream_max_active));
        let watchers = Arc::new(Semaphore::new(config.http.watch_max_active));
        let admission = Admission::new(config.queue.max_wait);
        let learning = Learning::new(&config.learning);
        let decisions = Decisions::new(&config.decisions);
        let (metrics, started) = (engine.metrics().clone(), Instant::now());
        Self(Arc::new(Parts {
            config,
            engine,
            queue,
            webhooks,
            cache,
            metrics,
            ledger: Ledger::default(),
            learning,
            snapshots,
            planner: Planner::new(boot),
            policies,
            decisions,
            admission,
            streams,
            watchers,
            waiters: Waiters::default(),
            calls: TaskTracker::new(),
            background: TaskTracker::new(),
            started,
            draining,
            losses: OnceLock::new(),
        }))
    }

    /// Is the process on its way out? Then it is not ready, but still answers.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Checks of the queue's Redis by which it would lose jobs, found only after the start.
    #[must_use]
    pub fn losses(&self) -> &[&'static str] {
        self.losses.get().map_or(&[], Vec::as_slice)
    }

    /// Says which they are; once.
    pub fn found_losses(&self, checks: Vec<&'static str>) {
        self.losses.get_or_init(|| checks);
    }

    /// Says that the process is on its way out.
    pub fn start_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }
}
