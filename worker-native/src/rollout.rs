//! Versions in traffic: canary, A/B arms, shadow, and the automatic way back.
//!
//! Owns which version answers a reading that names none, the evidence on how the versions do, and
//! the decision to take a canary out of traffic. It runs no model, reads no clock and talks to no
//! store: callers bring runs, labels and the time, and carry its state to other processes
//! (`docs/versions.md`). The tier is `crate::routing`'s choice and is made before.

pub mod assign;
pub mod evidence;
pub mod facts;
pub mod ledger;
pub mod plan;
pub mod settings;
pub mod shadow;
pub mod state;
pub mod view;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio_util::task::TaskTracker;

pub use assign::Assignment;
pub use ledger::{Answered, Ledger};
pub use plan::RolloutConfig;
pub use settings::CanarySetting;
pub use state::{RolledBack, Rollout, Run};

/// Name of the shared facts that hold what other processes must know of rollouts.
pub const FACTS: &str = "rollout";

/// One model as the rollouts need to know it.
#[derive(Debug, Clone)]
pub struct ModelVersions {
    /// The task's name.
    pub task: String,
    /// The model's name.
    pub model: String,
    /// Its versions.
    pub versions: Vec<u32>,
    /// The version that answers unless a plan says otherwise.
    pub default_version: u32,
}

/// The rollouts of all models; fixed at start.
#[derive(Debug, Default)]
pub struct Rollouts(BTreeMap<String, BTreeMap<String, Arc<Rollout>>>);

impl Rollouts {
    /// One rollout a model, from plans that were found free of faults; a model without a plan has one too.
    ///
    /// Shadow runs are tracked by `tasks`.
    #[must_use]
    pub fn new(models: impl IntoIterator<Item = (ModelVersions, RolloutConfig)>, tasks: &TaskTracker) -> Self {
        let mut all: BTreeMap<String, BTreeMap<String, Arc<Rollout>>> = BTreeMap::new();
        for (model, config) in models {
            let rollout = Arc::new(Rollout::new(&model, &config, tasks));
            all.entry(model.task).or_default().insert(model.model, rollout);
        }
        Self(all)
    }

    /// The rollout of one model.
    #[must_use]
    pub fn of(&self, task: &str, model: &str) -> Option<&Arc<Rollout>> {
        self.0.get(task)?.get(model)
    }

    /// All rollouts of a task, by model name.
    pub fn of_task(&self, task: &str) -> impl Iterator<Item = &Arc<Rollout>> {
        self.0.get(task).into_iter().flat_map(BTreeMap::values)
    }
}
