//! `infer-router doctor`: is everything as it must be for jobs to be safe, and what is to be changed?
//!
//! Owns the checks and their words. It changes nothing. [`preflight`] is the part of it that `serve` runs before it
//! starts.

mod file;
mod finding;
mod judge;
mod models;
pub mod preflight;
mod redis;
mod server;
mod tasks;
mod topology;

use crate::config::Config;
use crate::engine::repository::{Kind, Repository};
use finding::Report;
pub use finding::{Finding, State};

/// What to look at, and how to tell it.
#[derive(Debug, Clone, Copy)]
pub struct Wish {
    /// JSON instead of a table.
    pub json: bool,
    /// Load every model and let it answer.
    pub models: bool,
}

/// Runs every check; gives the report, and whether it is free of faults.
///
/// # Errors
/// The report cannot be made into JSON.
pub async fn examine(config: &Config, wish: Wish) -> anyhow::Result<(String, bool)> {
    let mut findings = if config.queue.is_shared() {
        let dir = config.models.dir.clone();
        let repository = tokio::task::spawn_blocking(move || Repository::read(&dir)).await?;
        let names: Vec<String> = repository
            .tasks
            .iter()
            .filter(|task| matches!(task.kind, Kind::Reading(_)))
            .map(|task| task.name.clone())
            .collect();
        redis::look(&config.queue, &names).await
    } else {
        let file = config.queue.file.clone();
        tokio::task::spawn_blocking(move || file::look(&file)).await?
    };
    if wish.models {
        findings.extend(models::look(&config.models).await);
    }
    let report = Report::new(redis::kind(&config.queue), findings);
    let text = if wish.json { serde_json::to_string_pretty(&report)? } else { report.table() };
    Ok((text, !report.has_faults()))
}
