//! The service's metrics: every name declared once, typed, and told as OpenMetrics text.
//!
//! Labels come from the model repository and from lists in the code, never from a request, so that
//! no caller can make the set of series grow. Who serves readings keeps a [`ModelMetrics`], whose
//! counters are atomics; what others keep anyway comes in with [`Observed`] when somebody scrapes.
//! What each name means to an operator is `docs/metrics.md`'s.

mod families;
mod learning;
mod model;
mod queue;
mod routing;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use shared::accuracy::Drift;
use shared::policy::Reason;
use shared::reading::Priority;

pub use learning::{BelievedAccuracy, InputDrift};
pub use model::ModelMetrics;
pub use queue::{QueueState, TierState};
pub use routing::PlanState;

use super::process::{self, Usage};
use crate::cache::CacheStats;
use families::{
    ArmLabels, CacheLabels, CodeLabels, DecisionLabels, Families, ModelLabels, ResultLabels, ShadowLabels,
    TaskModelLabels, TierLabels, WebhookLabels,
};

/// The media type of [`Metrics::encode`]'s text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A rate over less than this would be noise; the last one stands.
const SHORTEST_RATE: Duration = Duration::from_millis(500);

/// The reasons a decision can have; any other name, which only a newer edge can send, counts as `other`.
const REASONS: [Reason; Reason::ALL.len()] = Reason::ALL;

/// The service's metrics; cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    families: Families,
    /// One scrape at a time: it clears and fills what is read from elsewhere.
    scrape: Mutex<Scrape>,
}

#[derive(Debug)]
struct Scrape {
    registry: Registry,
    rated: Rated,
}

/// What rates are taken from: the state at the end of the last interval.
#[derive(Debug)]
struct Rated {
    at: Duration,
    cpu: Duration,
    tokens: u64,
}

/// Numbers that other parts keep, read when somebody scrapes.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// How long the process runs.
    pub uptime: Duration,
    /// The backlog of each task and tier.
    pub queue: Vec<QueueDepth>,
    /// The queue of each task.
    pub queues: Vec<QueueState>,
    /// The plan of each task.
    pub plans: Vec<PlanState>,
    /// Every loaded model version.
    pub loaded: Vec<LoadedVersion>,
    /// What the cache did and holds.
    pub cache: CacheStats,
    /// What is believed of every version whose accuracy is known.
    pub accuracies: Vec<BelievedAccuracy>,
    /// How far readings are from the training data.
    pub inputs: Vec<InputDrift>,
}

/// The backlog of one tier.
#[derive(Debug, Clone)]
pub struct QueueDepth {
    /// The task.
    pub task: String,
    /// The tier.
    pub tier: String,
    /// Jobs accepted and not yet settled.
    pub jobs: u64,
}

/// One loaded model version.
#[derive(Debug, Clone)]
pub struct LoadedVersion {
    /// The task.
    pub task: String,
    /// The model.
    pub model: String,
    /// The version.
    pub version: u32,
}

/// What came of one try of a callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebhookOutcome {
    /// The receiver has it.
    Delivered,
    /// It is tried again.
    Failed,
    /// It is not.
    GivenUp,
}

impl WebhookOutcome {
    const fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::GivenUp => "given_up",
        }
    }
}

/// Counts as one while it lives: an open connection, a batch that runs.
#[derive(Debug)]
#[must_use = "it counts only while it is kept"]
pub struct Active(Gauge);

impl Active {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Declares all metrics; each is at zero, or has no series yet.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let families = Families::declare(&mut registry, process::usage().is_some());
        let rated = Rated { at: Duration::ZERO, cpu: Duration::ZERO, tokens: 0 };
        Self(Arc::new(Inner { families, scrape: Mutex::new(Scrape { registry, rated }) }))
    }

    /// The metrics of one loaded model version; `tier` is that of its model. Made once when it is loaded, and kept with
    /// it.
    #[must_use]
    pub fn model(&self, task: &str, model: &str, version: u32, tier: Option<&str>) -> ModelMetrics {
        let labels = ModelLabels { task: task.to_owned(), model: model.to_owned(), version };
        ModelMetrics::new(&self.0.families, &labels, tier)
    }

    /// Takes the series of an unloaded model version away, so that reloads do not add up for ever. Loaded again, it
    /// begins at zero. Call it when no pool of that version is left: handles made before go on counting unseen.
    pub fn retire(&self, task: &str, model: &str, version: u32, tier: Option<&str>) {
        let labels = ModelLabels { task: task.to_owned(), model: model.to_owned(), version };
        self.0.families.retire(&labels, tier);
    }

    /// A request ended with this error code, one of [`shared::problem::ErrorCode`]; `status` is the HTTP status.
    pub fn error(&self, status: u16, code: &'static str) {
        let families = &self.0.families;
        let family = match status {
            400..=499 => &families.errors_4xx,
            500..=599 => &families.errors_5xx,
            _ => return,
        };
        family.get_or_create(&CodeLabels { code }).inc();
    }

    /// A decision was made; `task` and `tier` are of the catalog, `reason` may be the edge's word.
    pub fn decision(&self, task: &str, tier: Option<&str>, reason: &str, by_edge: bool) {
        let known = REASONS.iter().map(|known| known.name()).find(|known| *known == reason);
        let labels = DecisionLabels {
            task: task.to_owned(),
            tier: tier.unwrap_or_default().to_owned(),
            reason: known.unwrap_or("other"),
            by: if by_edge { "edge" } else { "native" },
        };
        self.0.families.decisions.get_or_create(&labels).inc();
    }

    /// A request was assigned to an arm of a model's canary: to the new version, or to the stable one.
    pub fn canary(&self, task: &str, model: &str, canary: bool) {
        let arm = if canary { "canary" } else { "stable" };
        let labels = ArmLabels { task: task.to_owned(), model: model.to_owned(), arm };
        self.0.families.canary.get_or_create(&labels).inc();
    }

    /// A shadow ran; `agreed` is none where the two answers could not be compared.
    pub fn shadow(&self, task: &str, model: &str, agreed: Option<bool>) {
        let agreed = match agreed {
            Some(true) => "yes",
            Some(false) => "no",
            None => "unknown",
        };
        let labels = ShadowLabels { task: task.to_owned(), model: model.to_owned(), agreed };
        self.0.families.shadow.get_or_create(&labels).inc();
    }

    /// A model's canary was taken back.
    pub fn rollback(&self, task: &str, model: &str) {
        let labels = TaskModelLabels { task: task.to_owned(), model: model.to_owned() };
        self.0.families.rollbacks.get_or_create(&labels).inc();
    }

    /// A label counted.
    pub fn label(&self, task: &str, model: &str, correct: bool) {
        self.0.families.learning.label(task, model, correct);
    }

    /// What a label brought to light of a model.
    pub fn drift(&self, task: &str, model: &str, drift: Drift) {
        self.0.families.learning.drift(task, model, drift);
    }

    /// So many answers were not written for labels.
    pub fn records_skipped(&self, answers: u64) {
        self.0.families.learning.skipped(answers);
    }

    /// So many decisions were `written` to the log, `dropped` since it could not keep up, or lost as it `failed`.
    pub fn decisions_logged(&self, result: &'static str, lines: u64) {
        self.0.families.decisions_logged.get_or_create(&ResultLabels { result }).inc_by(lines);
    }

    /// A callback was tried; `task` is of the catalog.
    pub fn webhook(&self, task: &str, outcome: WebhookOutcome) {
        let labels = WebhookLabels { task: task.to_owned(), outcome: outcome.name() };
        self.0.families.webhook_tries.get_or_create(&labels).inc();
    }

    /// A job was handed in to a task of the catalog; `result` says what became of that.
    pub fn hand_in(&self, task: &str, result: &'static str) {
        self.0.families.queue.hand_in(task, result);
    }

    /// A reading of a task of the catalog was turned away, as part of the share of its class that is shed.
    pub fn shed(&self, task: &str, class: Priority) {
        self.0.families.routing.shed(task, class);
    }

    /// A worker bound a job that was to run on one tier to the same or to another; both are of the catalog.
    pub fn bound(&self, task: &str, hinted: &str, tier: &str) {
        self.0.families.routing.bound(task, hinted, tier);
    }

    /// A cascade was in force for an answer of a task of the catalog; `outcome` is one of [`crate::routing::Hop`].
    pub fn cascaded(&self, task: &str, outcome: &'static str) {
        self.0.families.routing.cascaded(task, outcome);
    }

    /// A job of a task of the catalog whose chance to be in time was predicted has ended.
    pub fn on_time(&self, task: &str, predicted: f32, in_time: bool) {
        self.0.families.routing.on_time(task, predicted, in_time);
    }

    /// A job got its result, one of [`crate::queue::Outcome`].
    pub fn settled(&self, task: &str, outcome: &'static str) {
        self.0.families.queue.settled(task, outcome);
    }

    /// A job was put aside for another try.
    pub fn retried(&self, task: &str) {
        self.0.families.queue.retried(task);
    }

    /// So many jobs were found to be gone; told as zero, the series begins.
    pub fn lost(&self, task: &str, jobs: u64) {
        self.0.families.queue.lost(task, jobs);
    }

    /// A model produced so many tokens.
    pub fn tokens(&self, count: u64) {
        self.0.families.tokens.inc_by(count);
    }

    /// A connection is open, for as long as the result is kept.
    pub fn connection(&self) -> Active {
        Active::new(&self.0.families.active_connections)
    }

    /// All metrics as OpenMetrics text, for [`CONTENT_TYPE`].
    ///
    /// # Errors
    /// When a metric cannot be written; none of ours is known to do so.
    pub fn encode(&self, observed: &Observed) -> Result<String, std::fmt::Error> {
        let mut scrape = self.0.scrape.lock().unwrap_or_else(PoisonError::into_inner);
        let families = &self.0.families;
        families.queue_depth.clear();
        for depth in &observed.queue {
            let labels = TierLabels { task: depth.task.clone(), tier: depth.tier.clone() };
            families.queue_depth.get_or_create(&labels).set(depth.jobs);
        }
        families.queue.set(&observed.queues);
        families.routing.set(&observed.plans);
        families.learning.set(&observed.accuracies, &observed.inputs);
        families.loaded.clear();
        for version in &observed.loaded {
            let (task, model) = (version.task.clone(), version.model.clone());
            families.loaded.get_or_create(&ModelLabels { task, model, version: version.version }).set(1);
        }
        set_cache(families, &observed.cache);
        set_process(families, &mut scrape.rated, observed.uptime, process::usage());
        let mut text = String::with_capacity(16_384);
        prometheus_client::encoding::text::encode(&mut text, &scrape.registry)?;
        Ok(text)
    }
}

fn set_cache(families: &Families, stats: &CacheStats) {
    let levels = [("memory", stats.memory_hits), ("redis", stats.redis_hits), ("joined", stats.joined)];
    for (level, hits) in levels {
        families.cache_hits.get_or_create(&CacheLabels { level }).set(hits);
    }
    families.cache_misses.set(stats.misses);
    families.cache_redis_errors.set(stats.redis_errors);
    families.cache_entries.set(stats.entries);
    families.cache_bytes.set(stats.bytes);
    families.cache_redis_up.set(u64::from(stats.redis_up == Some(true)));
}

fn set_process(families: &Families, rated: &mut Rated, uptime: Duration, usage: Option<Usage>) {
    families.uptime.set(uptime.as_secs_f64());
    if let Some(usage) = usage {
        families.memory.set(usage.memory);
    }
    let passed = uptime.saturating_sub(rated.at);
    if passed < SHORTEST_RATE {
        return;
    }
    let tokens = families.tokens.get();
    // A count of tokens within one interval is far below 2^53.
    #[expect(clippy::cast_precision_loss, reason = "see above")]
    let new_tokens = tokens.saturating_sub(rated.tokens) as f64;
    families.tokens_per_second.set(new_tokens / passed.as_secs_f64());
    let cpu = usage.map_or(rated.cpu, |usage| usage.cpu);
    families.cpu.set(100.0 * cpu.saturating_sub(rated.cpu).as_secs_f64() / passed.as_secs_f64());
    *rated = Rated { at: uptime, cpu, tokens };
}

#[cfg(test)]
mod tests;
