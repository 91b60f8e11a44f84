//! Models in memory: which there are, and one batched pool for each loaded version.
//!
//! Owns loading, validation, warm-up, reloading and running; of the engine only `runtime` and what
//! is below it name `ort`. It does not decide which model answers: that is `routing`'s. All sessions end before the
//! process does ([`Engine::shut_down`]), or the library complains while it exits.

pub mod answer;
mod backend;
mod batcher;
#[doc(hidden)]
pub mod bench;
mod explain;
pub mod index;
mod lanes;
mod loader;
mod native;
mod pool;
mod profile;
mod reload;
pub mod repository;
mod runtime;
mod stats;
pub mod tensor;
mod trees;
mod version;
mod warm_up;
pub mod watch;
mod watchdog;

use std::sync::Arc;

use arc_swap::ArcSwap;
use shared::catalog::Catalog;
use tokio_util::task::TaskTracker;

pub use answer::{Answer, Card, Prediction};
pub use batcher::RunFacts;
pub use explain::{Usual, UsualField};
use index::Index;
use loader::Loader;
pub use pool::{Pool, PoolError, WarmUp};
pub use reload::LoadError;
use repository::Repository;
pub(crate) use runtime::Runtime;
pub use stats::Times;
pub use version::{ModelVersion, Row, VersionState};

use crate::config::ModelsConfig;
use crate::telemetry::metrics::Metrics;

/// Every model of the repository.
#[derive(Debug)]
pub struct Engine {
    index: ArcSwap<Index>,
    loader: Arc<Loader>,
    // Two rescans at once would load the same versions twice.
    reloading: tokio::sync::Mutex<()>,
    changes: tokio::sync::watch::Sender<u64>,
    // The repository's files just before it was read for the first time.
    seen: watch::Seen,
}

/// How long a closing engine waits before it wakes its workers again.
const WAKE_AGAIN: std::time::Duration = std::time::Duration::from_millis(50);

/// Why the engine cannot start.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The runtime's library is missing or does not fit.
    #[error("{0}")]
    Runtime(String),
    /// The model repository has nothing that can be served.
    #[error("the model repository {dir} has nothing that can be served:\n  - {}", faults.join("\n  - "))]
    Repository {
        /// The folder.
        dir: String,
        /// Everything that is wrong with it.
        faults: Vec<String>,
    },
}

impl Engine {
    /// Reads the repository and loads its versions, or leaves them to be loaded on first use.
    ///
    /// What is faulty is left out and told ([`Index::faults`]); the rest serves.
    ///
    /// # Errors
    /// [`EngineError`] when nothing is left, or the runtime cannot be used.
    pub async fn load(config: &ModelsConfig, tasks: &TaskTracker) -> Result<Self, EngineError> {
        let (library, dir) = (config.onnxruntime.clone(), config.dir.clone());
        // Looked at before it is read: what is dropped in while the models load is then found by the first poll.
        let opened = tokio::task::spawn_blocking(move || {
            (Runtime::open(library.as_deref()), watch::look_now(&dir), Repository::read(&dir))
        });
        let (runtime, seen, repository) = opened.await.map_err(|error| EngineError::Runtime(error.to_string()))?;
        let runtime = runtime.map_err(EngineError::Runtime)?;
        let loader = Arc::new(Loader {
            config: config.clone(),
            runtime,
            tasks: tasks.clone(),
            metrics: Metrics::new(),
            pools: Default::default(),
        });
        let engine = Self {
            index: ArcSwap::from_pointee(Index::empty()),
            loader,
            reloading: tokio::sync::Mutex::default(),
            changes: tokio::sync::watch::Sender::new(0),
            seen,
        };
        engine.take_in(repository).await;
        let index = engine.index();
        if !index.versions().any(|version| version.is_servable()) {
            let dir = config.dir.display().to_string();
            return Err(EngineError::Repository { dir, faults: index.faults.clone() });
        }
        Ok(engine)
    }

    /// What is counted of the models, and by the rest of the process.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.loader.metrics
    }

    /// Which versions there are now.
    #[must_use]
    pub fn index(&self) -> Arc<Index> {
        self.index.load_full()
    }

    /// The slow picture, for validation and for the edge.
    #[must_use]
    pub fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.index.load().catalog)
    }

    /// Sees a change whenever the catalog or the versions change.
    #[must_use]
    pub fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// One version of one model.
    #[must_use]
    pub fn version(&self, task: &str, model: &str, version: u32) -> Option<Arc<ModelVersion>> {
        self.index.load().version(task, model, version).map(Arc::clone)
    }

    /// Can anything be answered now?
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.index.load().versions().any(|version| version.is_servable())
    }

    /// Takes versions from memory that loaded by themselves and were not asked for long enough.
    pub fn evict_idle(&self) {
        let Some(after) = self.loader.config.idle.filter(|_| !self.loader.config.load_all) else { return };
        for version in self.index.load().versions() {
            if version.is_ready() && u128::from(version.idle_ms()) >= after.as_millis() {
                version
                    .unload(false, "nobody asked for it (MODEL_IDLE_SECONDS); it is loaded again when somebody does");
                tracing::info!(model = %version.spec.label(), "an unused model was taken from memory");
            }
        }
    }

    /// Ends all pools and waits for their threads and tasks; then the process can go.
    pub async fn shut_down(&self, tasks: &TaskTracker) {
        let close =
            || self.index.load().versions().for_each(|version| version.unload(true, "the service is shutting down"));
        let pools: Vec<Arc<Pool>> = self.index.load().versions().filter_map(|version| version.pool()).collect();
        close();
        tasks.close();
        // A submitter that was just under way may have kept the queue open past the first wake-up: wake again.
        while tokio::time::timeout(WAKE_AGAIN, tasks.wait()).await.is_err() {
            pools.iter().for_each(|pool| pool.close());
        }
    }
}
