//! The models as this protocol sees them: the one place where it meets the engine.
//!
//! Owns two small traits, so that the handlers are tested without a model, and a task, which has
//! no file of its own, can be answered under its name like a model.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Instant;

use futures_util::future::BoxFuture;
use serde::Serialize;

use crate::engine::PoolError;
use crate::engine::tensor::{Signature, Tensor};

/// All models that can be asked for by name.
pub trait Models: Debug + Send + Sync {
    /// Would a request sent now be answered? False while the process drains.
    fn ready(&self) -> bool;

    /// One version of a model, loaded or not; `version` none: the default one.
    ///
    /// # Errors
    /// [`Missing`].
    fn find(&self, name: &str, version: Option<u32>) -> Result<Arc<dyn Version>, Missing>;

    /// The versions of a model that may be asked for; empty where the model is unknown.
    fn versions(&self, name: &str) -> Vec<u32>;

    /// Every version of every model of the repository.
    fn index(&self) -> Vec<IndexEntry>;

    /// Loads a model and returns once it answers, or says why it cannot.
    fn load<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), Refused>>;

    /// Takes a model out of service and returns once it is, or says why it cannot.
    fn unload<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), Refused>>;
}

/// Why a name leads to no version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// No such model, or it has no such version.
    Unknown,
    /// Several models are called so; the names that tell them apart.
    Ambiguous(Vec<String>),
}

/// Why a model was not loaded or unloaded; the text is for the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// There is no such model.
    Unknown(String),
    /// It is there, and something is wrong with it.
    Failed(String),
}

/// One version of one model.
pub trait Version: Debug + Send + Sync {
    /// Its number.
    fn number(&self) -> u32;

    /// Would it answer a request sent now, if need be after loading?
    fn ready(&self) -> bool;

    /// What it takes and gives; a version that loads by itself is loaded first.
    ///
    /// # Errors
    /// [`PoolError`] where it is not loaded and will not be by itself.
    fn signature(&self) -> BoxFuture<'_, Result<Arc<Signature>, PoolError>>;

    /// Runs the model. The tensors fit its signature; where it has a batch, all have the same number of rows, at least one.
    fn infer(&self, inputs: Vec<Tensor>, deadline: Option<Instant>) -> BoxFuture<'_, Result<Vec<Tensor>, PoolError>>;

    /// What it did since it was loaded.
    fn stats(&self) -> Stats;
}

/// One version in the repository's index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IndexEntry {
    /// The name to ask for it.
    pub name: String,
    /// Its version, in digits.
    pub version: String,
    /// `READY`, `UNAVAILABLE`, `LOADING` or `UNLOADING`.
    pub state: &'static str,
    /// Why it is in that state; empty where there is nothing to say.
    pub reason: String,
}

/// How often something happened, and how long it took in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// How often.
    pub count: u64,
    /// Nanoseconds in all.
    pub ns: u64,
}

/// What one version did. The load tool of Triton reads every member without a check, so none may be left out.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    /// When the last request was answered, in Unix milliseconds; 0 for never.
    pub last_inference_ms: u64,
    /// Rows answered.
    pub inference_count: u64,
    /// Runs of the model.
    pub execution_count: u64,
    /// Counts and times of requests.
    pub times: Times,
    /// Runs by their number of rows.
    pub batches: Vec<Batch>,
}

impl Tally {
    const fn plus(self, other: Self) -> Self {
        Self { count: self.count.saturating_add(other.count), ns: self.ns.saturating_add(other.ns) }
    }
}

impl Stats {
    /// The figures of two together.
    #[must_use]
    pub fn plus(mut self, other: Self) -> Self {
        let (a, b) = (self.times, other.times);
        self.last_inference_ms = self.last_inference_ms.max(other.last_inference_ms);
        self.inference_count = self.inference_count.saturating_add(other.inference_count);
        self.execution_count = self.execution_count.saturating_add(other.execution_count);
        self.times = Times {
            success: a.success.plus(b.success),
            fail: a.fail.plus(b.fail),
            queue: a.queue.plus(b.queue),
            compute_input: a.compute_input.plus(b.compute_input),
            compute_infer: a.compute_infer.plus(b.compute_infer),
            compute_output: a.compute_output.plus(b.compute_output),
            cache_hit: a.cache_hit.plus(b.cache_hit),
            cache_miss: a.cache_miss.plus(b.cache_miss),
        };
        for batch in other.batches {
            match self.batches.iter_mut().find(|known| known.size == batch.size) {
                Some(known) => known.infer = known.infer.plus(batch.infer),
                None => self.batches.push(batch),
            }
        }
        self
    }
}

/// Counts and times of requests, by part.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Times {
    /// Requests answered, whole.
    pub success: Tally,
    /// Requests failed, whole.
    pub fail: Tally,
    /// Waiting for a worker.
    pub queue: Tally,
    /// Putting rows together.
    pub compute_input: Tally,
    /// The model's run.
    pub compute_infer: Tally,
    /// Taking the answers apart.
    pub compute_output: Tally,
    /// Answered from the cache.
    pub cache_hit: Tally,
    /// Looked for in the cache in vain.
    pub cache_miss: Tally,
}

/// Runs of one number of rows.
#[derive(Debug, Clone, Copy)]
pub struct Batch {
    /// Rows.
    pub size: u64,
    /// The runs of that size.
    pub infer: Tally,
}
