//! The model repository: does it read, do the files fit their digests, does every version answer?
//!
//! Owns only how it is told: `engine` loads every version as `serve` does, which runs a made-up reading alone and in a
//! batch before it calls a version good.

use tokio_util::task::TaskTracker;

use super::finding::Finding;
use crate::config::ModelsConfig;
use crate::engine::{Engine, EngineError, ModelVersion};

/// Loads every version and says which answer.
pub(super) async fn look(config: &ModelsConfig) -> Vec<Finding> {
    // One session each is enough to see that it answers, and all of them, whatever `serve` loads at start.
    let config = ModelsConfig { sessions: 1, load_all: true, ..config.clone() };
    let tasks = TaskTracker::new();
    match Engine::load(&config, &tasks).await {
        Ok(engine) => {
            let index = engine.index();
            let versions = index.versions().map(|version| answers(version));
            let findings = index.faults.iter().map(|said| fault(said)).chain(versions).collect();
            engine.shut_down(&tasks).await;
            findings
        }
        Err(EngineError::Repository { dir, faults }) if faults.is_empty() => {
            vec![fault(&format!("{dir} has nothing that can be served"))]
        }
        Err(EngineError::Repository { faults, .. }) => faults.iter().map(|said| fault(said)).collect(),
        Err(EngineError::Runtime(said)) => vec![Finding::fault("model", said, "set ORT_DYLIB_PATH")],
    }
}

fn fault(said: &str) -> Finding {
    Finding::fault("model", said, "docs/models.md tells what a model repository must hold")
}

fn answers(version: &ModelVersion) -> Finding {
    let card = version.card();
    let place = format!("{}.{}:{}", card.task, card.model, card.version);
    let finding = match version.pool() {
        Some(pool) => {
            let facts = pool.warm_up;
            let found =
                format!("answers a made-up reading in {:.0} µs; batches of up to {}", facts.single_us, facts.max_batch);
            Finding::ok("model", found)
        }
        None => fault("it is not in memory"),
    };
    finding.at(&place)
}
