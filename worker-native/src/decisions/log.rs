//! The log of decisions: a file with one JSON line for each reading that was offered, written behind the answers.
//!
//! A file begins with a line of the kind `log`; a line `tiers` before a task's first reading tells what its tiers were
//! believed to be, and again when that changes; a line `case` is one reading. One such line is enough to offer the
//! reading again in a simulation. No line has the reading itself, its sensor or its tenant. What comes faster than it
//! can be written is dropped and counted. Owns the format and the file's bounds.

mod file;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use shared::policy::draw;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Case;
use crate::app::App;
use crate::clock::now_ms;
use crate::config::DecisionsConfig;
pub use file::LogFile;

/// The format's version: a reader refuses one it does not know.
pub const VERSION: u32 = 1;
/// Cases that may wait to be written; what comes behind them is dropped.
const WAITING: usize = 8_192;
/// Most bytes that are put together for one write.
const PART: usize = 64 << 10;
/// How often a task's tiers are told again, if they changed.
const TELL_AGAIN: Duration = Duration::from_secs(10);
/// So that the sample is not the same as what other draws from the id choose.
const SALT: u64 = 0x6465_6369_7369_6f6e;

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Line {
    /// What follows was written by one process.
    Log(Head),
    /// What is believed of a task's tiers from here on.
    Tiers(Tiers),
    /// One offered reading.
    Case(Box<Case>),
}

/// The first line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// [`VERSION`].
    pub version: u32,
    /// Who wrote it.
    pub service: String,
    /// When, in Unix milliseconds.
    pub at: u64,
    /// The share of the readings that is logged.
    pub sample: f32,
}

/// A task's tiers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tiers {
    /// The task.
    pub task: String,
    /// When, in Unix milliseconds.
    pub at: u64,
    /// The policy in force.
    pub policy: String,
    /// Which change of it; 0 for what is configured.
    pub policy_version: u64,
    /// Workers that run the task's jobs, in all processes.
    pub workers: u32,
    /// Cheapest first.
    pub tiers: Vec<Tier>,
}

/// One of them. A run of `b` readings takes `alpha_us + b * beta_us` microseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tier {
    /// Its name.
    pub tier: String,
    /// Its model's accuracy, 0..=1.
    pub accuracy: Option<f32>,
    /// Microseconds of a run, whatever its size.
    pub alpha_us: f32,
    /// Microseconds more for each reading.
    pub beta_us: f32,
    /// Standard deviation of a run's time, in microseconds.
    pub sd_us: f32,
    /// Most readings in a run.
    pub cap: u32,
    /// Were these times measured? If not, they are a guess.
    pub measured: bool,
}

/// The way into the log.
#[derive(Debug)]
pub struct Log {
    way: Option<mpsc::Sender<Arc<Case>>>,
    cases: Mutex<Option<mpsc::Receiver<Arc<Case>>>>,
    sample: f32,
    dropped: AtomicU64,
}

impl Log {
    /// A log that nobody writes yet; one without a file takes nothing.
    #[must_use]
    pub(super) fn new(config: &DecisionsConfig) -> Self {
        let (way, cases) = config.log.is_some().then(|| mpsc::channel(WAITING)).unzip();
        Self { way, cases: Mutex::new(cases), sample: config.sample, dropped: AtomicU64::new(0) }
    }

    /// Is a request in the sample? The same ones are in every process.
    pub(super) fn wants(&self, request_id: &str) -> bool {
        self.way.is_some() && draw::fraction(draw::hash64(request_id.as_bytes(), SALT)) < self.sample
    }

    /// Hands a case over, if it is in the sample; does not wait.
    pub(super) fn write(&self, case: Arc<Case>) {
        if !self.wants(&case.request_id) {
            return;
        }
        if self.way.as_ref().is_some_and(|way| way.try_send(case).is_err()) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Writes the log until it is closed.
#[derive(Debug)]
pub struct Writer {
    closing: CancellationToken,
    tasks: TaskTracker,
}

impl Writer {
    /// Opens the file and begins; does nothing where no log is wanted.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn start(app: &App) -> anyhow::Result<Self> {
        let writer = Self { closing: CancellationToken::new(), tasks: TaskTracker::new() };
        let config = &app.config.decisions;
        let cases = app.decisions.log.cases.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let (Some(path), Some(cases)) = (&config.log, cases) {
            let shown = path.display();
            let file = LogFile::open(PathBuf::clone(path), config.max_bytes)
                .with_context(|| format!("DECISION_LOG={shown} cannot be opened; name a file that can be written"))?;
            writer.tasks.spawn(run(app.clone(), file, cases, writer.closing.clone()));
        }
        writer.tasks.close();
        Ok(writer)
    }

    /// Writes what was handed over by now, and ends.
    pub async fn close(self, limit: Duration) {
        self.closing.cancel();
        if tokio::time::timeout(limit, self.tasks.wait()).await.is_err() {
            tracing::warn!("the end of the decision log could not be written in time");
        }
    }
}

async fn run(app: App, mut file: LogFile, mut cases: mpsc::Receiver<Arc<Case>>, closing: CancellationToken) {
    let mut some = Vec::new();
    let mut told = BTreeMap::new();
    let mut works = true;
    loop {
        let goes_on = closing.run_until_cancelled(cases.recv_many(&mut some, 256)).await.is_some();
        if !goes_on {
            // What comes from now on is dropped; what waits is written.
            cases.close();
            while let Ok(case) = cases.try_recv() {
                some.push(case);
            }
        }
        let mut lines = some.drain(..).peekable();
        while lines.peek().is_some() {
            if file.is_full() {
                told.clear();
            }
            let mut text = String::new();
            let mut count = 0;
            while text.len() < PART
                && let Some(case) = lines.next()
            {
                if file.is_fresh() && count == 0 {
                    push(&mut text, &Line::Log(head(&app)));
                }
                let tiers = tiers(&app, &case.task, &mut told);
                tiers.into_iter().for_each(|tiers| push(&mut text, &Line::Tiers(tiers)));
                push(&mut text, &Line::Case(Box::new(Case::clone(&case))));
                count += 1;
            }
            let written;
            (file, written) = match tokio::task::spawn_blocking(move || file.append(text.as_bytes())).await {
                Ok(done) => done,
                // The file went with the panic.
                Err(error) => return tracing::error!(%error, "the decision log ends: its writer failed"),
            };
            if let (Err(error), true) = (&written, works) {
                tracing::warn!(%error, "decisions cannot be logged; what comes meanwhile is lost to the log");
            }
            works = written.is_ok();
            app.metrics.decisions_logged(if works { "written" } else { "failed" }, count);
        }
        app.metrics.decisions_logged("dropped", app.decisions.log.dropped.swap(0, Ordering::Relaxed));
        if !goes_on {
            return;
        }
    }
}

fn push(text: &mut String, line: &Line) {
    match serde_json::to_string(line) {
        Ok(line) => {
            text.push_str(&line);
            text.push('\n');
        }
        Err(error) => tracing::debug!(%error, "a decision cannot be written"),
    }
}

fn head(app: &App) -> Head {
    let service = concat!("infer-router ", env!("CARGO_PKG_VERSION")).to_owned();
    Head { version: VERSION, service, at: now_ms(), sample: app.config.decisions.sample }
}

/// What is believed of a task's tiers, where that was not told, or has changed since.
fn tiers(app: &App, task: &str, told: &mut BTreeMap<String, (Tiers, Instant)>) -> Option<Tiers> {
    let before = told.get(task);
    if before.is_some_and(|(_, at)| at.elapsed() < TELL_AGAIN) {
        return None;
    }
    let (load, in_force) = (app.snapshots.load(task), app.policies.of(task));
    let tier = |tier: &shared::snapshot::TierLoad| {
        let profile = tier.profile();
        Tier {
            tier: tier.tier.clone(),
            accuracy: tier.accuracy,
            alpha_us: profile.alpha_us,
            beta_us: profile.beta_us,
            sd_us: profile.sd_us,
            cap: u32::from(profile.cap),
            measured: tier.measured.is_some(),
        }
    };
    let now = Tiers {
        task: task.to_owned(),
        at: now_ms(),
        policy: in_force.policy.kind.name().to_owned(),
        policy_version: in_force.version,
        workers: load.plan.map_or(1, |plan| whole(plan.workers).max(1)),
        tiers: load.tiers.iter().map(tier).collect(),
    };
    let same = before.is_some_and(|(before, _)| Tiers { at: now.at, ..before.clone() } == now);
    told.insert(task.to_owned(), (now.clone(), Instant::now()));
    (!same).then_some(now)
}

/// A number of workers, which a plan keeps with its fractions.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast of a float keeps to the range")]
fn whole(workers: f32) -> u32 {
    workers.round() as u32
}

#[cfg(test)]
mod tests;
