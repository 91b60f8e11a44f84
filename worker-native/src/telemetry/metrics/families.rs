//! The declaration of every metric: name, help, type and labels.
//!
//! A new metric is one field, one line in [`Families::declare`], and one row in `docs/metrics.md`.
//! The library adds `_total` to the name of each counter.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::{Metric, Registry};

use super::learning::LearningFamilies;
use super::queue::QueueFamilies;
use super::routing::RoutingFamilies;

/// A gauge of whole numbers, and one of others.
pub(super) type Count = Gauge<u64, AtomicU64>;
pub(super) type Number = Gauge<f64, AtomicU64>;
/// A histogram for each model version.
type Histograms = Family<ModelLabels, Histogram, fn() -> Histogram>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ModelLabels {
    pub(super) task: String,
    pub(super) model: String,
    pub(super) version: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RequestLabels {
    pub(super) task: String,
    pub(super) model: String,
    pub(super) version: u32,
    /// Empty for a model that serves no tier, which Prometheus reads as no label.
    pub(super) tier: String,
}

/// Triton's own labels; with its names go its label names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OipLabels {
    /// `<task>.<model>`, the name under which the Open Inference Protocol knows it.
    pub(super) model: String,
    pub(super) version: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct TierLabels {
    pub(super) task: String,
    pub(super) tier: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct TaskModelLabels {
    pub(super) task: String,
    pub(super) model: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct CodeLabels {
    pub(super) code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct CacheLabels {
    pub(super) level: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct DecisionLabels {
    pub(super) task: String,
    pub(super) tier: String,
    pub(super) reason: &'static str,
    pub(super) by: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ResultLabels {
    pub(super) result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ArmLabels {
    pub(super) task: String,
    pub(super) model: String,
    pub(super) arm: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ShadowLabels {
    pub(super) task: String,
    pub(super) model: String,
    pub(super) agreed: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct WebhookLabels {
    pub(super) task: String,
    pub(super) outcome: &'static str,
}

/// A sum that somebody else keeps: set when scraped, and told as the counter it is.
#[derive(Debug, Clone, Default)]
pub(super) struct Kept(Counter);

impl Kept {
    pub(super) fn set(&self, sum: u64) {
        self.0.inner().store(sum, Ordering::Relaxed);
    }
}

impl TypedMetric for Kept {
    const TYPE: MetricType = MetricType::Counter;
}

impl EncodeMetric for Kept {
    fn encode(&self, encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        self.0.encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

/// A sum under exactly its name. OpenMetrics wants `_total` on a counter, and Triton's names have none: the type is
/// `unknown`, and `rate()` works all the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Sum(Counter);

impl Sum {
    pub(super) fn add(&self, by: u64) {
        self.0.inc_by(by);
    }
}

impl TypedMetric for Sum {
    const TYPE: MetricType = MetricType::Unknown;
}

impl EncodeMetric for Sum {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        encoder.encode_gauge(&self.0.get())
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[derive(Debug)]
pub(super) struct Families {
    pub(super) requests: Family<RequestLabels, Counter>,
    pub(super) errors_4xx: Family<CodeLabels, Counter>,
    pub(super) errors_5xx: Family<CodeLabels, Counter>,
    pub(super) request_duration: Histograms,
    pub(super) batch_size: Histograms,
    pub(super) queue_depth: Family<TierLabels, Count>,
    pub(super) active_batches: Gauge,
    pub(super) active_connections: Gauge,
    pub(super) tokens: Counter,
    pub(super) tokens_per_second: Number,
    pub(super) loaded: Family<ModelLabels, Count>,
    pub(super) cache_hits: Family<CacheLabels, Kept>,
    pub(super) cache_misses: Kept,
    pub(super) cache_entries: Count,
    pub(super) cache_bytes: Count,
    pub(super) cache_redis_up: Count,
    pub(super) cache_redis_errors: Kept,
    pub(super) decisions: Family<DecisionLabels, Counter>,
    pub(super) decisions_logged: Family<ResultLabels, Counter>,
    pub(super) canary: Family<ArmLabels, Counter>,
    pub(super) shadow: Family<ShadowLabels, Counter>,
    pub(super) rollbacks: Family<TaskModelLabels, Counter>,
    pub(super) queue: QueueFamilies,
    pub(super) routing: RoutingFamilies,
    pub(super) learning: LearningFamilies,
    pub(super) webhook_tries: Family<WebhookLabels, Counter>,
    pub(super) uptime: Number,
    pub(super) cpu: Number,
    pub(super) memory: Count,
    pub(super) nv_success: Family<OipLabels, Sum>,
    pub(super) nv_failure: Family<OipLabels, Sum>,
    pub(super) nv_inferences: Family<OipLabels, Sum>,
    pub(super) nv_executions: Family<OipLabels, Sum>,
    pub(super) nv_request_us: Family<OipLabels, Sum>,
    pub(super) nv_queue_us: Family<OipLabels, Sum>,
    pub(super) nv_compute_us: Family<OipLabels, Sum>,
}

impl Families {
    /// Declares everything; what the system does not tell (`process`) is left out.
    pub(super) fn declare(registry: &mut Registry, process: bool) -> Self {
        let mut to = Declaring(registry);
        let families = Self {
            requests: to.add("inference_requests", "Readings that a model version answered or failed"),
            errors_4xx: to.add("inference_errors_4xx", "Requests refused by the caller's fault"),
            errors_5xx: to.add("inference_errors_5xx", "Requests failed by ours"),
            request_duration: to.add_as(
                "inference_request_duration_ms",
                "From the request to its answer, in milliseconds",
                Family::new_with_constructor(durations),
            ),
            batch_size: to.add_as(
                "inference_batch_size",
                "Readings in one run of a model",
                Family::new_with_constructor(batches),
            ),
            queue_depth: to.add("inference_queue_depth", "The backlog as the router sees it"),
            active_batches: to.add("inference_active_batches", "Batches that run now"),
            active_connections: to.add("inference_active_connections", "Connections open now"),
            tokens: to.add("inference_tokens", "Tokens produced"),
            tokens_per_second: to.add("inference_tokens_per_second", "Tokens produced a second since the last scrape"),
            loaded: to.add("loaded_model_versions", "1 for each loaded model version"),
            cache_hits: to.add("inference_cache_hits", "Answers without a run of the model"),
            cache_misses: to.add("inference_cache_misses", "Runs of a model that the cache could not save"),
            cache_entries: to.add("router_cache_entries", "Rows in memory"),
            cache_bytes: to.add("router_cache_bytes", "Bytes of memory counted against the cache's limit"),
            cache_redis_up: to.add("router_cache_redis_up", "1 while the cache uses Redis"),
            cache_redis_errors: to.add("router_cache_redis_errors", "Failed commands and unreadable values"),
            decisions: to.add("router_decisions", "Decisions by tier, reason and side"),
            decisions_logged: to.add("router_decision_log_lines", "Decisions for the log, by what came of them"),
            canary: to.add("router_canary_requests", "Requests assigned to an arm of a canary"),
            shadow: to.add("router_shadow_runs", "Runs of shadow versions"),
            rollbacks: to.add("router_rollbacks", "Canaries taken back"),
            queue: QueueFamilies::declare(&mut to),
            routing: RoutingFamilies::declare(&mut to),
            learning: LearningFamilies::declare(&mut to),
            webhook_tries: to.add("router_webhook_tries", "Tries to send a result to where its caller asked"),
            uptime: to.add("process_uptime_seconds", "Time since the process started"),
            cpu: Number::default(),
            memory: Count::default(),
            nv_success: to.add("nv_inference_request_success", "Successful inference requests"),
            nv_failure: to.add("nv_inference_request_failure", "Failed inference requests"),
            nv_inferences: to.add("nv_inference_count", "Inferences performed, without cached ones"),
            nv_executions: to.add("nv_inference_exec_count", "Runs of the model"),
            nv_request_us: to.add("nv_inference_request_duration_us", "Time from request to answer, summed"),
            nv_queue_us: to.add("nv_inference_queue_duration_us", "Time requests waited for a run, summed"),
            nv_compute_us: to.add("nv_inference_compute_infer_duration_us", "Time requests spent in runs, summed"),
        };
        if process {
            let cpu = "Processor time since the last scrape, in percent of one core";
            to.add_as("process_cpu_percent", cpu, families.cpu.clone());
            to.add_as("process_memory_bytes", "Resident memory", families.memory.clone());
        }
        families
    }

    /// Takes the series of one model version away.
    pub(super) fn retire(&self, labels: &ModelLabels, tier: Option<&str>) {
        self.requests.remove(&labels.with_tier(tier));
        self.request_duration.remove(labels);
        self.batch_size.remove(labels);
        let oip = labels.oip();
        let sums = [
            &self.nv_success,
            &self.nv_failure,
            &self.nv_inferences,
            &self.nv_executions,
            &self.nv_request_us,
            &self.nv_queue_us,
            &self.nv_compute_us,
        ];
        for family in sums {
            family.remove(&oip);
        }
    }
}

impl ModelLabels {
    pub(super) fn with_tier(&self, tier: Option<&str>) -> RequestLabels {
        let Self { task, model, version } = self.clone();
        RequestLabels { task, model, version, tier: tier.unwrap_or_default().to_owned() }
    }

    pub(super) fn oip(&self) -> OipLabels {
        OipLabels { model: format!("{}.{}", self.task, self.model), version: self.version }
    }
}

pub(super) struct Declaring<'r>(&'r mut Registry);

impl Declaring<'_> {
    pub(super) fn add<M: Metric + Clone + Default>(&mut self, name: &str, help: &str) -> M {
        self.add_as(name, help, M::default())
    }

    fn add_as<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M {
        // The registry puts the full stop.
        self.0.register(name, help, metric.clone());
        metric
    }
}

/// From 0.1 ms, an answer from the cache, to 26 s: twice as much each time.
fn durations() -> Histogram {
    Histogram::new(exponential_buckets(0.1, 2.0, 19))
}

/// 1, 2, 4, … 512 readings.
fn batches() -> Histogram {
    Histogram::new(exponential_buckets(1.0, 2.0, 10))
}
