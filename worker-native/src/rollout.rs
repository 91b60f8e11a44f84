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

pub use assign::Assignment;
pub use ledger::{Answered, First, Known, Ledger};
pub use plan::RolloutConfig;
pub use settings::CanarySetting;
pub use state::{Rollout, Run};

/// Name of the shared facts that hold what other processes must know of rollouts.
pub const FACTS: &str = "rollout";

/// One model as the rollouts need to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
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
