//! One version of one model, whether it is loaded or not: the handle that requests hold.
//!
//! Owns its state and the swap of its pool. A request that meets a pool in the moment it closes
//! goes on to the pool that follows; a version that loads by itself is loaded once, however many
//! ask for it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwapOption;
use futures_util::{StreamExt, stream};
use serde::Serialize;
use shared::policy::Profile;
use shared::reading;

use super::answer::{Answer, Card};
use super::batcher::{Input, Output, Ran, RunFacts};
use super::loader::{Loader, Spec};
use super::pool::{NotRun, Pool, PoolError};
use super::repository::Meaning;
use super::tensor::{Signature, Tensor};
use crate::cache::KeyBase;
use crate::clock::now_ms;
use crate::telemetry::metrics::ModelMetrics;

/// Times that a request may meet a closing pool: more than one reload in the life of a request is odd, forty a fault.
const MOST_SWAPS: usize = 40;

/// What a version is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum VersionState {
    /// Not in memory.
    Unloaded,
    /// Being loaded.
    Loading,
    /// Serving.
    Ready,
    /// Could not be loaded.
    Failed,
}

/// State and the reason for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StateView {
    /// What it is doing.
    pub state: VersionState,
    /// Why, where that is worth a word.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// One reading's row of output.
#[derive(Debug, Clone)]
pub struct Row {
    /// The numbers as the model gave them.
    pub values: Vec<f32>,
    /// The run that gave them.
    pub run: RunFacts,
    /// What reads them.
    pub card: Arc<Card>,
}

/// The pool and the state, which a load under way sets when it ends, whether somebody still waits for it or not.
#[derive(Debug)]
struct Slot {
    pool: ArcSwapOption<Pool>,
    state: Mutex<StateView>,
    // Taken by an operator: it does not come back by itself. Changed under the state's lock.
    withdrawn: AtomicBool,
}

impl Slot {
    fn state(&self) -> MutexGuard<'_, StateView> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_state(&self, state: VersionState, reason: impl Into<String>) {
        *self.state() = StateView { state, reason: reason.into() };
    }

    /// A load has ended; the pool serves unless the version was taken away meanwhile.
    fn loaded(&self, pool: Arc<Pool>) -> Result<(), String> {
        let mut state = self.state();
        if self.withdrawn.load(Ordering::Relaxed) {
            pool.close();
            return Err("it was unloaded while it was being loaded".to_owned());
        }
        self.pool.store(Some(pool));
        *state = StateView { state: VersionState::Ready, reason: String::new() };
        Ok(())
    }
}

/// One version of one model.
#[derive(Debug)]
pub struct ModelVersion {
    pub(super) spec: Spec,
    card: Arc<Card>,
    key_base: KeyBase,
    metrics: ModelMetrics,
    slot: Arc<Slot>,
    // The one that took its place in the index: requests that still hold this one go on there.
    successor: ArcSwapOption<ModelVersion>,
    loading: Arc<tokio::sync::Mutex<()>>,
    loader: Arc<Loader>,
    last_used_ms: AtomicU64,
}

impl ModelVersion {
    pub(super) fn new(spec: Spec, loader: Arc<Loader>) -> Result<Self, String> {
        let card = Arc::new(spec.card()?);
        let output = card.output.as_ref().map(Meaning::name).unwrap_or_default();
        let contributions = card.output.as_ref().and_then(Meaning::contributions).unwrap_or_default();
        let key_base = KeyBase::new(&card.task, &card.model, card.version, &[&card.sha256, output, contributions]);
        let metrics = loader.metrics.model(&card.task, &card.model, card.version, card.tier.as_deref());
        let state = Mutex::new(StateView { state: VersionState::Unloaded, reason: String::new() });
        let slot = Arc::new(Slot { pool: ArcSwapOption::empty(), state, withdrawn: AtomicBool::new(false) });
        Ok(Self {
            spec,
            card,
            key_base,
            metrics,
            slot,
            successor: ArcSwapOption::empty(),
            loading: Arc::default(),
            loader,
            last_used_ms: AtomicU64::new(now_ms()),
        })
    }

    /// Which model this is and how its output reads.
    #[must_use]
    pub const fn card(&self) -> &Arc<Card> {
        &self.card
    }

    /// What the keys of its cached rows begin with.
    #[must_use]
    pub const fn key_base(&self) -> &KeyBase {
        &self.key_base
    }

    /// Its metrics.
    #[must_use]
    pub const fn metrics(&self) -> &ModelMetrics {
        &self.metrics
    }

    /// What it is doing, and why.
    #[must_use]
    pub fn state(&self) -> StateView {
        self.slot.state().clone()
    }

    /// Is it in memory and serving?
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.slot.pool.load().as_ref().is_some_and(|pool| pool.is_alive())
    }

    /// Would a request sent now be run, if need be after loading?
    #[must_use]
    pub fn is_servable(&self) -> bool {
        self.is_ready()
            || (self.loads_by_itself() && self.state().state != VersionState::Failed)
            || self.successor.load().as_ref().is_some_and(|successor| successor.is_servable())
    }

    fn loads_by_itself(&self) -> bool {
        !self.loader.config.load_all && !self.slot.withdrawn.load(Ordering::Relaxed)
    }

    /// The pool, where it is loaded.
    #[must_use]
    pub fn pool(&self) -> Option<Arc<Pool>> {
        self.slot.pool.load_full()
    }

    /// What the file takes and gives; none while it is not loaded.
    #[must_use]
    pub fn signature(&self) -> Option<Arc<Signature>> {
        self.pool().map(|pool| Arc::clone(pool.signature()))
    }

    /// Microseconds of one worker for each reading; none while it is not loaded.
    #[must_use]
    pub fn service_us(&self) -> Option<u32> {
        self.slot.pool.load().as_ref().map(|pool| pool.service_us())
    }

    /// How long runs take by the size of their batch; none while it is not loaded.
    #[must_use]
    pub fn profile(&self) -> Option<Profile> {
        self.slot.pool.load().as_ref().map(|pool| pool.profile())
    }

    /// The pool, loaded first where the version loads by itself; many that ask wait for one load.
    ///
    /// # Errors
    /// [`PoolError::Unavailable`].
    pub async fn acquire(&self) -> Result<Arc<Pool>, PoolError> {
        if let Some(pool) = self.pool() {
            return Ok(pool);
        }
        if let Some(successor) = self.successor.load_full() {
            return Box::pin(successor.acquire()).await;
        }
        if !self.loads_by_itself() {
            return Err(self.unavailable());
        }
        let alone = Arc::clone(&self.loading).lock_owned().await;
        if let Some(pool) = self.pool() {
            return Ok(pool);
        }
        // A file that failed a moment ago fails again: it is tried anew when the repository changes.
        if self.state().state == VersionState::Failed {
            return Err(self.unavailable());
        }
        // The fault is kept in the state, where `unavailable` reads it.
        drop(self.load_alone(alone).await);
        if let Some(pool) = self.pool() {
            return Ok(pool);
        }
        // A newer file may have come during the load: then this one's pool was closed at once.
        match self.successor.load_full() {
            Some(successor) => Box::pin(successor.acquire()).await,
            None => Err(self.unavailable()),
        }
    }

    /// Why it cannot be served now.
    pub(crate) fn unavailable(&self) -> PoolError {
        let StateView { state, reason } = self.state();
        let label = self.spec.label();
        PoolError::Unavailable(match state {
            VersionState::Failed => format!("{label} cannot be loaded; GET /models says why"),
            VersionState::Loading => format!("{label} is being loaded; try again"),
            VersionState::Unloaded | VersionState::Ready if reason.is_empty() => format!("{label} is not loaded"),
            VersionState::Unloaded | VersionState::Ready => format!("{label} is not loaded: {reason}"),
        })
    }

    /// Loads it where it is not loaded; what an operator took away is back.
    ///
    /// # Errors
    /// What is wrong with the version.
    pub(super) async fn load(&self) -> Result<(), String> {
        {
            let _state = self.slot.state();
            self.slot.withdrawn.store(false, Ordering::Relaxed);
        }
        let alone = Arc::clone(&self.loading).lock_owned().await;
        if self.is_dead() {
            self.unload(false, "its workers do not come back");
        }
        if self.slot.pool.load().is_none() {
            return self.load_alone(alone).await;
        }
        self.check_file().await
    }

    /// Is the file still the one that `model.toml` speaks of? It goes on serving either way: the next start would not.
    async fn check_file(&self) -> Result<(), String> {
        let (loader, spec) = (Arc::clone(&self.loader), self.spec.clone());
        let checked = tokio::task::spawn_blocking(move || {
            let fault = spec.check_file().err();
            fault.map(|fault| loader.without_dir(&format!("{}: {fault}; what is loaded goes on serving", spec.label())))
        });
        checked.await.map_err(|error| error.to_string())?.map_or(Ok(()), Err)
    }

    /// Loads on a thread of its own, to the end: a caller whose deadline is shorter than the load leaves it loaded for
    /// the next one.
    async fn load_alone(&self, alone: tokio::sync::OwnedMutexGuard<()>) -> Result<(), String> {
        self.slot.set_state(VersionState::Loading, "");
        let (loader, spec, card) = (Arc::clone(&self.loader), self.spec.clone(), Arc::clone(&self.card));
        let (slot, metrics) = (Arc::clone(&self.slot), self.metrics.clone());
        self.last_used_ms.store(now_ms(), Ordering::Relaxed);
        // Loading blocks for as long as the model is large.
        let loaded = tokio::task::spawn_blocking(move || {
            let loaded = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| loader.load(&spec, card, metrics)))
                .unwrap_or_else(|_| Err("loading it panicked; the log has the cause".to_owned()));
            let ended = loaded.map_err(|fault| loader.without_dir(&format!("{}: {fault}", spec.label())));
            match ended {
                Ok(pool) => {
                    log_loaded(&spec, &pool);
                    let pool = Arc::new(pool);
                    loader.watch(&pool);
                    let served = slot.loaded(pool);
                    drop(alone);
                    served
                }
                Err(fault) => {
                    slot.set_state(VersionState::Failed, fault.clone());
                    drop(alone);
                    Err(fault)
                }
            }
        });
        loaded.await.unwrap_or_else(|error| Err(error.to_string()))
    }

    /// Takes it from memory: what waits is still answered.
    pub(super) fn unload(&self, withdrawn: bool, reason: &str) {
        let gone = {
            let mut state = self.slot.state();
            self.slot.withdrawn.store(withdrawn, Ordering::Relaxed);
            *state = StateView { state: VersionState::Unloaded, reason: reason.to_owned() };
            self.slot.pool.swap(None)
        };
        if let Some(pool) = gone {
            pool.close();
        }
    }

    /// Was it taken from memory by an operator?
    pub(super) fn is_withdrawn(&self) -> bool {
        self.slot.withdrawn.load(Ordering::Relaxed)
    }

    /// Is it in memory with no worker left? Then only a new load helps.
    pub(super) fn is_dead(&self) -> bool {
        self.slot.pool.load().as_ref().is_some_and(|pool| !pool.is_alive())
    }

    /// Could it not be loaded?
    pub(super) fn has_failed(&self) -> bool {
        self.state().state == VersionState::Failed
    }

    /// Its successor is in the index; what waits here is still answered here.
    pub(super) fn hand_over(&self, successor: &Arc<Self>) {
        self.successor.store(Some(Arc::clone(successor)));
        // For good: a load that is under way must leave no pool behind that nobody looks after.
        self.unload(true, "a newer file took its place");
    }

    /// Milliseconds since the last request.
    pub(super) fn idle_ms(&self) -> u64 {
        now_ms().saturating_sub(self.last_used_ms.load(Ordering::Relaxed))
    }

    /// Runs one validated reading.
    ///
    /// # Errors
    /// [`PoolError`]; at the deadline at the latest.
    pub async fn predict(&self, input: &reading::Input, deadline: Option<Instant>) -> Result<Answer, PoolError> {
        let Row { values, card, .. } = self.row(input.clone(), deadline).await?;
        card.read(&values, input).map_err(PoolError::Failed)
    }

    /// Runs one validated reading; gives its row as the model said it, and the card that reads it: a newer file may
    /// have taken this version's place meanwhile.
    ///
    /// # Errors
    /// [`PoolError`]; at the deadline at the latest.
    pub async fn row(&self, input: reading::Input, deadline: Option<Instant>) -> Result<Row, PoolError> {
        let input = match input {
            reading::Input::Features(values) => Input::Features { rows: 1, values },
            reading::Input::Text(text) => Input::Texts(vec![text]),
        };
        match self.submit(input, deadline).await? {
            (Ran { output: Output::Rows(values), run }, card) => Ok(Row { values, run, card }),
            (Ran { output: Output::Tensors(_), .. }, _) => {
                Err(PoolError::Failed("rows were wanted, tensors came".to_owned()))
            }
        }
    }

    /// Runs named tensors, in runs of at most a batch; gives all outputs.
    ///
    /// # Errors
    /// [`PoolError`]; `Invalid` where they do not fit the model.
    pub async fn infer(&self, tensors: Vec<Tensor>, deadline: Option<Instant>) -> Result<Vec<Tensor>, PoolError> {
        let pool = self.acquire().await?;
        let runs = pool.chunks(tensors)?.into_iter().map(|chunk| self.submit(chunk, deadline));
        // As many as keep the workers busy: all at once would fill the queue, which is everybody's.
        let mut outputs = stream::iter(runs).buffered(2 * pool.workers.max(1));
        let mut joined: Vec<Tensor> = Vec::new();
        while let Some(output) = outputs.next().await {
            let (Ran { output: Output::Tensors(part), .. }, _) = output? else {
                return Err(PoolError::Failed("tensors were wanted, rows came".to_owned()));
            };
            if joined.is_empty() {
                joined = part;
            } else if joined.len() != part.len()
                || !joined.iter_mut().zip(&part).all(|(whole, part)| whole.append_rows(part))
            {
                return Err(PoolError::Failed("the model's outputs differ between batches".to_owned()));
            }
        }
        Ok(joined)
    }

    async fn submit(&self, mut input: Input, deadline: Option<Instant>) -> Result<(Ran, Arc<Card>), PoolError> {
        self.last_used_ms.store(now_ms(), Ordering::Relaxed);
        for _ in 0..MOST_SWAPS {
            let pool = match deadline {
                None => self.acquire().await?,
                // Loading may take longer than the caller has.
                Some(deadline) => tokio::time::timeout_at(deadline.into(), self.acquire())
                    .await
                    .map_err(|_| PoolError::Expired { run: None })??,
            };
            match pool.run(input, deadline).await {
                Ok(ran) => return Ok((ran, Arc::clone(&pool.card))),
                Err(NotRun::Failed(error)) => return Err(error),
                Err(NotRun::Closed(back)) => {
                    if self.slot.pool.load().as_ref().is_some_and(|current| Arc::ptr_eq(current, &pool)) {
                        return Err(PoolError::Closed);
                    }
                    input = back;
                }
            }
        }
        Err(PoolError::Closed)
    }
}

fn log_loaded(spec: &Spec, pool: &Pool) {
    let warm_up = pool.warm_up;
    tracing::info!(
        task = %spec.task, model = %spec.model, version = spec.version, backend = pool.backend.name(),
        workers = pool.workers, load_ms = warm_up.load_ms, single_us = warm_up.single_us,
        max_batch = warm_up.max_batch, largest_us = warm_up.largest_us, own_threads = warm_up.own_threads,
        "model loaded"
    );
}
