//! The engine's models, and its tasks, under this protocol's names.
//!
//! A model is asked for as `<task>.<model>`, or as `<model>` where only one task has it. A task
//! that takes readings has a name of its own: what is sent to it goes the way of `/predict`, so
//! the policy chooses the model row by row.

mod task;

use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::engine::{Batch, IndexEntry, Missing, Models, Refused, Stats, Tally, Times, Version};
use crate::app::App;
use crate::engine::index::NotFound;
use crate::engine::tensor::{Signature, Tensor};
use crate::engine::{LoadError, ModelVersion, PoolError, VersionState};

/// All models of the engine, and its tasks.
#[derive(Debug)]
pub(in crate::http) struct EngineModels(pub(in crate::http) App);

impl Models for EngineModels {
    fn ready(&self) -> bool {
        !self.0.is_draining() && self.0.engine.is_serving()
    }

    fn find(&self, name: &str, version: Option<u32>) -> Result<Arc<dyn Version>, Missing> {
        let index = self.0.engine.index();
        if let Some(routed) = task::Routed::find(&self.0, &index, name).filter(|_| version.is_none_or(|one| one == 1)) {
            return Ok(Arc::new(routed));
        }
        match index.find_version(name, version) {
            Ok(version) => Ok(Arc::new(One(Arc::clone(version)))),
            Err(NotFound::Ambiguous(names)) => Err(Missing::Ambiguous(names)),
            Err(NotFound::Unknown | NotFound::Version(_)) => Err(Missing::Unknown),
        }
    }

    fn versions(&self, name: &str) -> Vec<u32> {
        let index = self.0.engine.index();
        if task::Routed::find(&self.0, &index, name).is_some() {
            return vec![1];
        }
        index.find(name).map(|(_, model)| model.versions.keys().copied().collect()).unwrap_or_default()
    }

    fn index(&self) -> Vec<IndexEntry> {
        let index = self.0.engine.index();
        let entry = |version: &Arc<ModelVersion>| {
            let (card, state) = (version.card(), version.state());
            let shown = match state.state {
                VersionState::Ready => "READY",
                VersionState::Loading => "LOADING",
                VersionState::Unloaded | VersionState::Failed => "UNAVAILABLE",
            };
            IndexEntry {
                name: format!("{}.{}", card.task, card.model),
                version: card.version.to_string(),
                state: shown,
                reason: state.reason,
            }
        };
        index.versions().map(entry).collect()
    }

    fn load<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), Refused>> {
        async move {
            self.0.engine.load_public(name, None).await.map_err(|error| match error {
                LoadError::NotFound(error) => Refused::Unknown(unknown(name, &error)),
                LoadError::Failed(fault) => Refused::Failed(fault),
            })
        }
        .boxed()
    }

    fn unload<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), Refused>> {
        let done = self.0.engine.unload_public(name, None);
        async move { done.map_err(|error| Refused::Unknown(unknown(name, &error))) }.boxed()
    }
}

fn unknown(name: &str, error: &NotFound) -> String {
    super::super::models::not_found(name, error).detail
}

/// One version of one model.
#[derive(Debug)]
struct One(Arc<ModelVersion>);

impl Version for One {
    fn number(&self) -> u32 {
        self.0.card().version
    }

    fn ready(&self) -> bool {
        self.0.is_servable()
    }

    fn signature(&self) -> BoxFuture<'_, Result<Arc<Signature>, PoolError>> {
        async { Ok(Arc::clone(self.0.acquire().await?.signature())) }.boxed()
    }

    fn infer(&self, inputs: Vec<Tensor>, deadline: Option<Instant>) -> BoxFuture<'_, Result<Vec<Tensor>, PoolError>> {
        async move {
            let started = Instant::now();
            let outputs = self.0.infer(inputs, deadline).await;
            match &outputs {
                Ok(_) => self.0.metrics().answered(started.elapsed()),
                Err(_) => self.0.metrics().failed(),
            }
            outputs
        }
        .boxed()
    }

    fn stats(&self) -> Stats {
        stats_of(&self.0)
    }
}

/// What a version did since it was loaded.
fn stats_of(version: &ModelVersion) -> Stats {
    let Some(pool) = version.pool() else { return Stats::default() };
    let stats = pool.view().stats;
    let tally = |times: crate::engine::Times| Tally { count: times.count, ns: times.total_ns };
    let (queue, compute_infer) = (tally(stats.wait), tally(stats.run));
    Stats {
        last_inference_ms: stats.last_run_ms,
        inference_count: stats.rows,
        execution_count: stats.batches,
        times: Times {
            success: Tally { count: stats.requests, ns: queue.ns.saturating_add(compute_infer.ns) },
            fail: Tally { count: stats.failed, ns: 0 },
            queue,
            compute_infer,
            ..Times::default()
        },
        batches: stats
            .batch_sizes
            .iter()
            .map(|batch| Batch { size: batch.size as u64, infer: Tally { count: batch.count, ns: batch.run_ns } })
            .collect(),
    }
}
