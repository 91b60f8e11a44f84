//! Other people's queues: their own script, and BullMQ's part of it alone.
//!
//! Their code lies outside the repository (`../shared/peers/queue`), and so do their environments; here is only how
//! they are called and what they say.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;
use serde::Serialize;

use crate::bench::service::Redis;

/// The port of the script's own Redis.
const PORT: u16 = 6390;

/// Where they are.
#[derive(Debug)]
pub(super) struct Theirs {
    pub(super) folder: PathBuf,
    pub(super) home: PathBuf,
}

/// Jobs a second of one queue.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Rate {
    pub(super) name: String,
    pub(super) enqueue: f64,
    pub(super) end_to_end: f64,
}

/// What one run of the script said.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Run {
    pub(super) queues: Vec<Rate>,
    /// Pipelined XADD of one reading, by redis-benchmark.
    pub(super) raw_xadd: Option<f64>,
}

impl Theirs {
    /// All of them, one after the other, each with so many jobs.
    ///
    /// # Errors
    /// When the script cannot be run; a queue that is not installed is missing from the answer.
    pub(super) fn run(&self, jobs: u64) -> anyhow::Result<Run> {
        let free = TcpListener::bind(("127.0.0.1", PORT));
        drop(free.with_context(|| format!("the port {PORT} of their Redis is taken"))?);
        let mut command = Command::new(self.folder.join("run"));
        command.arg(jobs.to_string()).env("PEERS_HOME", &self.home).env("PYTHONDONTWRITEBYTECODE", "1");
        let done = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {command:?}"))?;
        let run = read(&String::from_utf8_lossy(&done.stdout));
        let said = || format!("their script says nothing of use: {}", String::from_utf8_lossy(&done.stderr));
        anyhow::ensure!(!run.queues.is_empty(), said());
        Ok(run)
    }

    /// BullMQ alone, as the script calls it, on a Redis of ours.
    ///
    /// # Errors
    /// When it is not installed, or fails.
    pub(super) fn bullmq(&self, redis: &Redis, jobs: u64) -> anyhow::Result<Rate> {
        let (script, place) = ("bullmq_bench.mjs", self.home.join("bullmq"));
        anyhow::ensure!(place.join("node_modules/bullmq").is_dir(), "it is not installed");
        // Node looks for packages beside the script.
        fs::copy(self.folder.join(script), place.join(script))?;
        let mut command = Command::new("node");
        command.arg(script).arg(jobs.to_string()).arg(redis.url()).current_dir(&place).stdin(Stdio::null());
        let done = command.output().context("cannot run node")?;
        let run = read(&String::from_utf8_lossy(&done.stdout));
        let said = || format!("it says nothing of use: {}", String::from_utf8_lossy(&done.stderr));
        run.queues.into_iter().next().with_context(said)
    }

    /// Which versions are installed, as a line of text.
    pub(super) fn versions(&self) -> String {
        let mut found = Vec::new();
        let package = fs::read(self.home.join("bullmq/node_modules/bullmq/package.json")).unwrap_or_default();
        let package: serde_json::Value = serde_json::from_slice(&package).unwrap_or_default();
        if let Some(version) = package["version"].as_str() {
            found.push(format!("BullMQ {version}"));
        }
        for name in ["arq", "celery", "rq"] {
            found.extend(python_package(&self.home.join(format!("queue-{name}")), name));
        }
        found.join(", ")
    }
}

/// `name version` of a package in a Python environment.
fn python_package(environment: &Path, name: &str) -> Option<String> {
    let lib = fs::read_dir(environment.join("lib")).ok()?.flatten().next()?;
    let packages = fs::read_dir(lib.path().join("site-packages")).ok()?.flatten();
    let names = packages.filter_map(|entry| entry.file_name().into_string().ok());
    let version = names.into_iter().find_map(|found| {
        let rest = found.strip_prefix(name)?.strip_prefix('-')?;
        rest.strip_suffix(".dist-info").map(str::to_owned)
    });
    Some(format!("{name} {}", version?))
}

/// What the script prints: `bullmq    jobs=10000 enqueue=15152/s end_to_end=6013/s`, one line a queue, and at last
/// redis-benchmark's `…: 326264.28 requests per second, …`.
fn read(text: &str) -> Run {
    let mut run = Run::default();
    for line in text.lines() {
        let value = |name: &str| {
            let word = line.split_whitespace().find_map(|word| word.strip_prefix(name))?;
            word.strip_suffix("/s")?.parse().ok().filter(|rate| *rate > 0.0)
        };
        if let (Some(enqueue), Some(end_to_end)) = (value("enqueue="), value("end_to_end=")) {
            let name = line.split_whitespace().next().unwrap_or_default().to_owned();
            run.queues.push(Rate { name, enqueue, end_to_end });
        } else if let Some((before, _)) = line.split_once(" requests per second") {
            run.raw_xadd = before.rsplit(' ').next().and_then(|rate| rate.parse().ok());
        }
    }
    run
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn their_lines_are_read() {
        let run = read(
            "rq failed\nceleryNote\narq       jobs=10 enqueue=3000/s end_to_end=900/s done=10\n\
             bullmq    jobs=10000 enqueue=15152/s end_to_end=6013/s\n\
             raw redis: XADD s * p {\"a\":[0.1]}: 326264.28 requests per second, p50=0.703 msec\n",
        );
        let rate = |name: &str, enqueue, end_to_end| Rate { name: name.to_owned(), enqueue, end_to_end };
        assert_eq!(run.queues, [rate("arq", 3_000.0, 900.0), rate("bullmq", 15_152.0, 6_013.0)]);
        assert_eq!(run.raw_xadd, Some(326_264.28));
        assert_eq!(read("bullmq jobs=0 enqueue=Infinity/s end_to_end=NaN/s\nnothing"), Run::default());
    }
}
