//! What a pool counts: how many, how long waited, how long run, in which batch sizes.
//!
//! Plain atomics, written by the workers and read by whoever shows them; figures of one moment may
//! differ by the request that is under way.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::telemetry::metrics::ModelMetrics;

/// Buckets of a [`Histogram`]: each twice the one before, from 1 us to over an hour.
const BUCKETS: usize = 32;

/// A histogram of durations in powers of two microseconds.
#[derive(Debug)]
pub(super) struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    nanos: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: std::array::from_fn(|_| AtomicU64::new(0)), nanos: AtomicU64::new(0) }
    }
}

impl Histogram {
    fn record(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = usize::try_from(micros.checked_ilog2().map_or(0, |log| log + 1)).unwrap_or(BUCKETS);
        if let Some(count) = self.buckets.get(bucket.min(BUCKETS - 1)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn view(&self) -> Times {
        let counts: Vec<u64> = self.buckets.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let count: u64 = counts.iter().sum();
        Times {
            count,
            total_ns: self.nanos.load(Ordering::Relaxed),
            p50_us: quantile(&counts, count, 50),
            p99_us: quantile(&counts, count, 99),
        }
    }
}

/// The upper edge of the bucket that holds a quantile, in microseconds.
fn quantile(counts: &[u64], count: u64, percent: u64) -> u64 {
    let rank = (count * percent).div_ceil(100).max(1);
    let mut seen = 0;
    for (bucket, in_bucket) in counts.iter().enumerate() {
        seen += in_bucket;
        if seen >= rank {
            return 1 << bucket;
        }
    }
    0
}

/// How long something took, over the life of a pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Times {
    /// How often.
    pub count: u64,
    /// Together, in nanoseconds.
    pub total_ns: u64,
    /// Half took at most this, rounded up to a power of two microseconds.
    pub p50_us: u64,
    /// 99 of 100 took at most this, rounded up likewise.
    pub p99_us: u64,
}

/// Runs of one batch size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct BatchSize {
    /// Rows in the run.
    pub size: usize,
    /// How many runs.
    pub count: u64,
    /// Their time together, in nanoseconds.
    pub run_ns: u64,
}

/// Runs of one batch size, as they are counted.
#[derive(Debug, Default)]
struct Size {
    count: AtomicU64,
    nanos: AtomicU64,
    // Squares of microseconds: what the spread around a line is taken from.
    squares: AtomicU64,
}

impl Size {
    fn ran(&self, took: Duration) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        let square = u64::from(micros(took)).saturating_mul(u64::from(micros(took)));
        self.squares.fetch_add(square, Ordering::Relaxed);
    }
}

/// A pool's figures at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct StatsView {
    /// Workers that run a batch now.
    pub in_use: usize,
    /// Requests answered with rows.
    pub requests: u64,
    /// Rows answered.
    pub rows: u64,
    /// Runs of the model.
    pub batches: u64,
    /// Rows whose run failed.
    pub failed: u64,
    /// Rows turned away because the queue was full.
    pub refused: u64,
    /// Rows whose deadline passed while they waited; never started.
    pub expired: u64,
    /// Rows whose caller left before they were started.
    pub cancelled: u64,
    /// Runs that the watchdog ended.
    pub stopped: u64,
    /// Workers that did not come back and were replaced.
    pub lost: u64,
    /// From submission to the start of the run.
    pub wait: Times,
    /// The runs.
    pub run: Times,
    /// Runs by batch size, ascending.
    pub batch_sizes: Vec<BatchSize>,
    /// Microseconds of one worker for each row, smoothed.
    pub service_us: u32,
    /// Unix milliseconds of the last answer; 0 before the first.
    pub last_run_ms: u64,
}

/// A pool's counters.
#[derive(Debug)]
pub(super) struct Stats {
    pub(super) in_use: AtomicUsize,
    requests: AtomicU64,
    rows: AtomicU64,
    failed: AtomicU64,
    refused: AtomicU64,
    expired: AtomicU64,
    cancelled: AtomicU64,
    pub(super) stopped: AtomicU64,
    pub(super) lost: AtomicU64,
    wait: Histogram,
    run: Histogram,
    sizes: Vec<Size>,
    service_us: AtomicU32,
    // What a run is taken to last at least when a deadline is near.
    hope_us: AtomicU32,
    last_run_ms: AtomicU64,
    pub(super) metrics: Option<ModelMetrics>,
}

fn add(counter: &AtomicU64, rows: usize) {
    counter.fetch_add(rows as u64, Ordering::Relaxed);
}

impl Stats {
    /// Nothing counted yet; the warm-up's time of one reading is the first estimate.
    pub(super) fn new(max_batch: usize, per_reading: Duration, metrics: Option<ModelMetrics>) -> Self {
        Self {
            in_use: AtomicUsize::new(0),
            requests: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            expired: AtomicU64::new(0),
            cancelled: AtomicU64::new(0),
            stopped: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            wait: Histogram::default(),
            run: Histogram::default(),
            sizes: (0..=max_batch).map(|_| Default::default()).collect(),
            service_us: AtomicU32::new(micros(per_reading)),
            hope_us: AtomicU32::new(micros(per_reading)),
            last_run_ms: AtomicU64::new(0),
            metrics,
        }
    }

    pub(super) fn refused(&self, rows: usize) {
        add(&self.refused, rows);
    }

    pub(super) fn expired(&self, rows: usize) {
        add(&self.expired, rows);
    }

    pub(super) fn cancelled(&self, rows: usize) {
        add(&self.cancelled, rows);
    }

    pub(super) fn failed(&self, rows: usize) {
        add(&self.failed, rows);
    }

    pub(super) fn waited(&self, time: Duration) {
        self.wait.record(time);
        if let Some(metrics) = &self.metrics {
            metrics.waited(time);
        }
    }

    pub(super) fn ran(&self, rows: usize, requests: usize, took: Duration) {
        add(&self.requests, requests);
        add(&self.rows, rows);
        self.run.record(took);
        if let Some(metrics) = &self.metrics {
            metrics.ran(rows, took);
        }
        // A request of more rows than a batch may have runs alone, and counts as the largest.
        if let Some(size) = self.sizes.get(rows.min(self.sizes.len().saturating_sub(1))) {
            size.ran(took);
        }
        self.smooth(took, rows);
        self.last_run_ms.store(crate::clock::now_ms(), Ordering::Relaxed);
    }

    pub(super) fn service_us(&self) -> u32 {
        self.service_us.load(Ordering::Relaxed)
    }

    /// What was counted by batch size, from size 0 up: runs, their microseconds together, and the squares of those.
    pub(super) fn sizes(&self) -> impl Iterator<Item = [u64; 3]> {
        self.sizes.iter().map(|size| {
            let nanos = size.nanos.load(Ordering::Relaxed);
            [size.count.load(Ordering::Relaxed), nanos / 1_000, size.squares.load(Ordering::Relaxed)]
        })
    }

    /// The time of all runs together, in nanoseconds.
    pub(super) fn run_ns(&self) -> u64 {
        self.run.nanos.load(Ordering::Relaxed)
    }

    /// Would a run that begins now end after the deadline?
    ///
    /// Each time the estimate alone says so, it shrinks by an eighth: only a run can show that the model has become
    /// quick again, so after one that took long (a machine that stood still) some must be tried.
    pub(super) fn ends_after(&self, deadline: Instant) -> bool {
        let now = Instant::now();
        let hope = self.hope_us.load(Ordering::Relaxed);
        let late = now + Duration::from_micros(u64::from(hope)) > deadline;
        if late && now < deadline {
            self.hope_us.store(hope - hope / 8, Ordering::Relaxed);
        }
        late
    }

    /// Exponential smoothing with weight 1/8, as for round-trip times (RFC 6298 §2).
    fn smooth(&self, took: Duration, rows: usize) {
        let rows = u32::try_from(rows).unwrap_or(u32::MAX).max(1);
        let new = i64::from(micros(took / rows));
        let old = i64::from(self.service_us());
        let smoothed = old + (new - old) / 8;
        // Two workers may race here; losing one sample of a smoothed figure harms nobody.
        let smoothed = u32::try_from(smoothed).unwrap_or(u32::MAX).max(1);
        self.service_us.store(smoothed, Ordering::Relaxed);
        self.hope_us.store(smoothed, Ordering::Relaxed);
    }

    pub(super) fn view(&self) -> StatsView {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let batch_sizes: Vec<BatchSize> = self
            .sizes
            .iter()
            .enumerate()
            .map(|(size, runs)| BatchSize { size, count: read(&runs.count), run_ns: read(&runs.nanos) })
            .filter(|batch| batch.count > 0)
            .collect();
        StatsView {
            in_use: self.in_use.load(Ordering::Relaxed),
            requests: read(&self.requests),
            rows: read(&self.rows),
            batches: batch_sizes.iter().map(|batch| batch.count).sum(),
            failed: read(&self.failed),
            refused: read(&self.refused),
            expired: read(&self.expired),
            cancelled: read(&self.cancelled),
            stopped: read(&self.stopped),
            lost: read(&self.lost),
            wait: self.wait.view(),
            run: self.run.view(),
            batch_sizes,
            service_us: self.service_us(),
            last_run_ms: read(&self.last_run_ms),
        }
    }
}

fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_time_follows_what_is_measured() {
        let stats = Stats::new(32, Duration::from_micros(800), None);
        for _ in 0..60 {
            stats.ran(16, 16, Duration::from_micros(1_600));
        }
        assert!((100..=110).contains(&stats.service_us()), "{}", stats.service_us());
        let view = stats.view();
        assert_eq!((view.rows, view.batches, view.requests), (960, 60, 960));
        assert_eq!(view.batch_sizes, [BatchSize { size: 16, count: 60, run_ns: 60 * 1_600_000 }]);
    }

    #[test]
    fn quantiles_are_the_upper_edges_of_their_buckets() {
        let histogram = Histogram::default();
        for _ in 0..98 {
            histogram.record(Duration::from_micros(5));
        }
        histogram.record(Duration::from_micros(900));
        histogram.record(Duration::from_millis(900));
        let times = histogram.view();
        assert_eq!((times.count, times.p50_us, times.p99_us), (100, 8, 1_024));
        assert_eq!(Histogram::default().view(), Times::default());
    }

    #[test]
    fn a_run_that_cannot_end_in_time_is_not_begun() {
        let stats = Stats::new(1, Duration::from_secs(1), None);
        assert!(stats.ends_after(Instant::now() + Duration::from_millis(500)));
        assert!(!stats.ends_after(Instant::now() + Duration::from_secs(60)));
    }

    #[test]
    fn one_long_run_does_not_turn_all_readings_away_for_ever() {
        let stats = Stats::new(1, Duration::from_micros(50), None);
        stats.ran(1, 1, Duration::from_secs(600));
        let turned_away = (0..200).take_while(|_| stats.ends_after(Instant::now() + Duration::from_secs(2))).count();
        assert!((5..60).contains(&turned_away), "{turned_away}");
        assert!(stats.service_us() > 60_000_000, "what others are told is what was measured");
    }
}
