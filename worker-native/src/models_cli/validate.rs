//! `infer-router models validate`: the model repository as the service would load it.
//!
//! Owns only how it is told: what a fault is decides `engine`, which loads every version here as
//! `serve` does, warm-up and timing included.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use tokio_util::task::TaskTracker;

use super::{Defaults, print, table};
use crate::config::{Config, Source};
use crate::engine::{Engine, EngineError, ModelVersion, WarmUp};

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
    versions: Vec<Line>,
    faults: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Line {
    name: String,
    version: u32,
    backend: &'static str,
    #[serde(flatten)]
    warm_up: WarmUp,
}

/// Loads the repository and tells what was found.
///
/// # Errors
/// Every fault of the repository at once.
pub(super) async fn run(args: ValidateArgs, defaults: Defaults) -> Result<()> {
    let dir = args.dir.or(defaults.model_dir).unwrap_or_else(|| PathBuf::from("models"));
    let mut report = Report { dir: dir.display().to_string(), versions: vec![], faults: vec![] };
    let settings = [("MODEL_DIR", Some(dir)), ("ORT_DYLIB_PATH", defaults.onnxruntime)];
    let mut env = BTreeMap::from([("MODEL_SESSIONS".to_owned(), "1".to_owned())]);
    for (name, path) in settings {
        let Some(path) = path else { continue };
        let text = path.into_os_string().into_string().ok().context("a path must be UTF-8")?;
        env.insert(name.to_owned(), text);
    }
    let config = Config::read(Source::new(env, None)?)?;
    let tasks = TaskTracker::new();
    match Engine::load(&config.models, &tasks).await {
        Ok(engine) => {
            let index = engine.index();
            report.versions = index.versions().filter_map(|version| line(version)).collect();
            report.faults.clone_from(&index.faults);
            engine.shut_down(&tasks).await;
        }
        Err(EngineError::Repository { faults, .. }) => report.faults = faults,
        Err(error @ EngineError::Runtime(_)) => return Err(error.into()),
    }
    print(&if args.json { serde_json::to_string_pretty(&report)? } else { for_eyes(&report) })?;
    if report.faults.is_empty() {
        return Ok(());
    }
    bail!("the model repository {} has faults:\n  - {}", report.dir, report.faults.join("\n  - "))
}

fn line(version: &ModelVersion) -> Option<Line> {
    let (card, pool) = (version.card(), version.pool()?);
    let name = format!("{}.{}", card.task, card.model);
    Some(Line { name, version: card.version, backend: pool.view().backend, warm_up: pool.warm_up })
}

fn for_eyes(report: &Report) -> String {
    let mut table =
        table(&["model", "version", "backend", "load ms", "one reading us", "largest batch", "its run us", "lane"]);
    for line in &report.versions {
        let warm_up = line.warm_up;
        table.add_row([
            line.name.clone(),
            line.version.to_string(),
            line.backend.to_owned(),
            format!("{:.1}", warm_up.load_ms),
            format!("{:.1}", warm_up.single_us),
            warm_up.max_batch.to_string(),
            format!("{:.1}", warm_up.largest_us),
            if warm_up.own_threads { "own threads" } else { "runtime" }.to_owned(),
        ]);
    }
    let counted = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let (versions, faults) = (counted(report.versions.len(), "version"), counted(report.faults.len(), "fault"));
    format!("{}\n{table}\n{versions}, {faults}", report.dir)
}
