//! The metrics of one loaded model version, resolved once, for those who serve its readings.
//!
//! Each method is some atomic additions; the two histograms take a lock of their own for as long as
//! an addition takes. Nothing here looks a label up.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use super::Active;
use super::families::{Families, ModelLabels, Sum};

/// Handles to the series of one model version; cheap to clone.
#[derive(Debug, Clone)]
pub struct ModelMetrics {
    requests: Counter,
    request_duration: Histogram,
    batch_size: Histogram,
    active_batches: Gauge,
    success: Sum,
    failure: Sum,
    inferences: Sum,
    executions: Sum,
    request_us: Sum,
    queue_us: Sum,
    compute_us: Sum,
}

impl ModelMetrics {
    pub(super) fn new(families: &Families, labels: &ModelLabels, tier: Option<&str>) -> Self {
        let oip = labels.oip();
        Self {
            requests: families.requests.get_or_create_owned(&labels.with_tier(tier)),
            request_duration: families.request_duration.get_or_create_owned(labels),
            batch_size: families.batch_size.get_or_create_owned(labels),
            active_batches: families.active_batches.clone(),
            success: families.nv_success.get_or_create_owned(&oip),
            failure: families.nv_failure.get_or_create_owned(&oip),
            inferences: families.nv_inferences.get_or_create_owned(&oip),
            executions: families.nv_executions.get_or_create_owned(&oip),
            request_us: families.nv_request_us.get_or_create_owned(&oip),
            queue_us: families.nv_queue_us.get_or_create_owned(&oip),
            compute_us: families.nv_compute_us.get_or_create_owned(&oip),
        }
    }

    /// A request was answered, from the cache or by a run; `took` is from the request to its answer.
    pub fn answered(&self, took: Duration) {
        self.requests.inc();
        self.success.add(1);
        self.request_us.add(micros(took));
        self.request_duration.observe(took.as_secs_f64() * 1_000.0);
    }

    /// A request that this version was to answer failed: no run, or a run that failed, or no answer in time.
    pub fn failed(&self) {
        self.requests.inc();
        self.failure.add(1);
    }

    /// A reading waited so long until its run began.
    pub fn waited(&self, time: Duration) {
        self.queue_us.add(micros(time));
    }

    /// A batch runs, for as long as the result is kept.
    pub fn batch(&self) -> Active {
        Active::new(&self.active_batches)
    }

    /// A batch of `rows` readings ran for `took`. As in Triton, each of its readings counts the whole run's time.
    pub fn ran(&self, rows: usize, took: Duration) {
        let rows = u32::try_from(rows).unwrap_or(u32::MAX);
        self.executions.add(1);
        self.inferences.add(u64::from(rows));
        self.compute_us.add(micros(took).saturating_mul(u64::from(rows)));
        self.batch_size.observe(f64::from(rows));
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
