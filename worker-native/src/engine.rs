//! Models in memory: which there are, and one batched pool for each version.
//!
//! Owns loading, validation, warm-up and running; ONNX Runtime is known in `runtime` only. It
//! does not decide which model answers: that is `routing`'s. All sessions end before the runtime's
//! environment does ([`Engine::shut_down`]), or the library complains while the process exits.

pub mod answer;
mod batcher;
mod pool;
pub mod repository;
mod runtime;
#[cfg_attr(not(test), expect(dead_code, reason = "the pool does not ask it yet"))]
mod trees;

use std::path::Path;
use std::sync::Arc;

use shared::catalog::{Catalog, CatalogModel, CatalogTask};

pub use answer::Answer;
pub use pool::{Pool, PoolError};

use crate::config::ModelsConfig;
use repository::Repository;
pub(crate) use runtime::Runtime;

/// Every model of the repository, loaded and warm.
#[derive(Debug)]
pub struct Engine {
    catalog: Arc<Catalog>,
    pools: Vec<Arc<Pool>>,
    // Kept so that the library outlives the sessions.
    _runtime: Runtime,
}

/// How long a closing engine waits before it wakes its workers again.
const WAKE_AGAIN: std::time::Duration = std::time::Duration::from_millis(50);

/// Why the engine cannot start.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The runtime's library is missing or does not fit.
    #[error("{0}")]
    Runtime(String),
    /// The model repository cannot be used.
    #[error("the model repository {dir} cannot be used:\n  - {}", faults.join("\n  - "))]
    Repository {
        /// The folder.
        dir: String,
        /// Everything that is wrong with it.
        faults: Vec<String>,
    },
}

impl Engine {
    /// Reads the repository, loads every version of every model, and warms each up.
    ///
    /// Blocking: call it off the async runtime's threads. `progress` hears of each loaded version.
    ///
    /// # Errors
    /// [`EngineError`] with every fault of the repository and of its models at once.
    pub fn load(
        config: &ModelsConfig,
        tasks: &tokio_util::task::TaskTracker,
        progress: &dyn Fn(&Pool),
    ) -> Result<Self, EngineError> {
        let fail = |faults| EngineError::Repository { dir: config.dir.display().to_string(), faults };
        let repository = Repository::read(&config.dir).map_err(fail)?;
        let catalog = Arc::new(catalog(&repository, config.default_task.as_deref()).map_err(fail)?);
        let runtime = Runtime::open(config.onnxruntime.as_deref()).map_err(EngineError::Runtime)?;
        let mut pools = Vec::new();
        let mut faults = Vec::new();
        for folder in &repository.tasks {
            for model in &folder.models {
                for version in model.versions.keys() {
                    let (reading, sha256) = pool::facts(&folder.schema, model, *version);
                    let file = model.file(*version);
                    match Pool::load(&runtime, config, &folder.schema, (reading, &sha256), &file, tasks) {
                        Ok(pool) => {
                            progress(&pool);
                            pools.push(Arc::new(pool));
                        }
                        Err(fault) => faults.push(format!("{}: {fault}", file.display())),
                    }
                }
            }
        }
        if faults.is_empty() { Ok(Self { catalog, pools, _runtime: runtime }) } else { Err(fail(faults)) }
    }

    /// The slow picture, for validation and for the edge.
    #[must_use]
    pub const fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// All loaded versions.
    #[must_use]
    pub fn pools(&self) -> &[Arc<Pool>] {
        &self.pools
    }

    /// The pool of one version of one model.
    #[must_use]
    pub fn pool(&self, task: &str, model: &str, version: u32) -> Option<&Arc<Pool>> {
        self.pools.iter().find(|pool| {
            let card = pool.card();
            card.task == task && card.model == model && card.version == version
        })
    }

    /// Ends all pools and waits for their threads and tasks; then the runtime can go.
    pub async fn shut_down(&self, tasks: &tokio_util::task::TaskTracker) {
        for pool in &self.pools {
            pool.close();
        }
        tasks.close();
        // A submitter that was just under way may have kept the queue open past the first wake-up: wake again.
        while tokio::time::timeout(WAKE_AGAIN, tasks.wait()).await.is_err() {
            for pool in &self.pools {
                pool.close();
            }
        }
    }
}

fn catalog(repository: &Repository, default_task: Option<&str>) -> Result<Catalog, Vec<String>> {
    let tasks: Vec<CatalogTask> = repository
        .tasks
        .iter()
        .map(|folder| CatalogTask {
            schema: folder.schema.clone(),
            models: folder
                .models
                .iter()
                .map(|model| CatalogModel {
                    name: model.name.clone(),
                    description: model.description.clone(),
                    tier: model.tier.clone(),
                    default_version: model.default_version,
                    versions: model.versions.keys().copied().collect(),
                })
                .collect(),
        })
        .collect();
    if let Some(name) = default_task
        && !tasks.iter().any(|task| task.schema.name == name)
    {
        return Err(vec![format!("DEFAULT_TASK={name}: there is no such task")]);
    }
    let mut catalog = Catalog { etag: String::new(), default_task: default_task.map(str::to_owned), tasks };
    let text = serde_json::to_string(&catalog).map_err(|error| vec![error.to_string()])?;
    catalog.etag = sha256_hex(text.as_bytes()).chars().take(16).collect();
    Ok(catalog)
}

/// The SHA-256 of some bytes, in lower-case hex.
fn sha256_hex(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads a whole file and checks its SHA-256.
fn read_checked(path: &Path, sha256: &str) -> Result<Vec<u8>, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    let found = sha256_hex(&bytes);
    if found != sha256 {
        return Err(format!("its sha256 is {found}, model.toml says {sha256}: the file was changed or is not whole"));
    }
    Ok(bytes)
}
