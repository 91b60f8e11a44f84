//! `infer-router models validate`: the model repository as the service would read it.
//!
//! Owns only how faults are told: what a fault is decides `engine`, with the function that `serve` uses.

use std::path::PathBuf;

use anyhow::{Result, bail};
use serde::Serialize;

use super::print;
use crate::engine::repository::Repository;

/// Arguments of `models validate`.
#[derive(Debug, clap::Args)]
pub(super) struct ValidateArgs {
    /// The model repository; without it MODEL_DIR, else ./models.
    dir: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    dir: String,
    tasks: usize,
    models: usize,
    versions: usize,
    faults: Vec<String>,
}

/// Checks the repository.
///
/// # Errors
/// Every fault of the repository at once.
pub(super) fn run(args: ValidateArgs, default: Option<PathBuf>) -> Result<()> {
    let dir = args.dir.or(default).unwrap_or_else(|| PathBuf::from("models"));
    let mut report = Report { dir: dir.display().to_string(), tasks: 0, models: 0, versions: 0, faults: Vec::new() };
    match Repository::read(&dir) {
        Ok(repository) => {
            let models = || repository.tasks.iter().flat_map(|task| &task.models);
            report.tasks = repository.tasks.len();
            report.models = models().count();
            report.versions = models().map(|model| model.versions.len()).sum();
        }
        Err(faults) => report.faults = faults,
    }
    if args.json {
        print(&serde_json::to_string_pretty(&report)?)?;
    }
    if report.faults.is_empty() {
        if !args.json {
            let Report { dir, tasks, models, versions, .. } = &report;
            print(&format!("{dir}: {tasks} tasks, {models} models, {versions} versions, no fault"))?;
        }
        return Ok(());
    }
    bail!("the model repository {} cannot be used:\n  - {}", report.dir, report.faults.join("\n  - "))
}
