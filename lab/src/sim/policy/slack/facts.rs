//! What a planner reckons from snapshots: rates, peaks, deadlines, classes.

use std::collections::VecDeque;

use shared::reading::Priority;

use crate::sim::policy::Seen;
use crate::sim::world::{Class, World};

/// The arrival rate is smoothed over this time, in microseconds, as `Tuning::memory_us` has it.
const MEMORY_US: f64 = 1e6;
/// For so long a period's rate counts as one that may come again, in microseconds.
const PEAK_US: u64 = 60_000_000;

/// The load as it was seen.
#[derive(Debug)]
pub(super) struct Load {
    /// Arrivals a second, smoothed.
    pub(super) rate: f64,
    /// Index of dispersion of the arrivals' counts, smoothed.
    pub(super) dispersion: f64,
    last_us: u64,
    /// The rates of the last minute's periods.
    peaks: VecDeque<f32>,
}

impl Default for Load {
    fn default() -> Self {
        Self { rate: 0.0, dispersion: 1.0, last_us: 0, peaks: VecDeque::new() }
    }
}

impl Load {
    /// Takes a snapshot in; the time since the one before, in microseconds.
    pub(super) fn see(&mut self, seen: &Seen, period_us: u64) -> f64 {
        let elapsed = seen.at_us.saturating_sub(self.last_us) as f64;
        self.last_us = seen.at_us;
        if elapsed <= 0.0 {
            return elapsed;
        }
        let arrived: u32 = seen.arrived.iter().sum();
        let rate = f64::from(arrived) * 1e6 / elapsed;
        let fresh = if self.rate > 0.0 { 1.0 - (-elapsed / MEMORY_US).exp() } else { 1.0 };
        self.rate += fresh * (rate - self.rate);
        self.dispersion += fresh * (seen.dispersion.max(0.1) - self.dispersion);
        while self.peaks.len() >= (PEAK_US / period_us.max(1)).max(1) as usize {
            self.peaks.pop_front();
        }
        self.peaks.push_back(rate as f32);
        elapsed
    }

    /// The last period's rate.
    pub(super) fn last(&self) -> Option<f32> {
        self.peaks.back().copied()
    }

    /// The highest rate of the last minute's periods.
    pub(super) fn peak(&self) -> Option<f32> {
        self.peaks.iter().copied().reduce(f32::max)
    }
}

/// The class of urgency whose value is the simulated one's.
pub(super) fn priority(class: &Class) -> Priority {
    match class.value {
        value if value >= 2.0 => Priority::High,
        value if value <= 0.5 => Priority::Low,
        _ => Priority::Normal,
    }
}

/// The deadline below which that share of recent arrivals has theirs, in microseconds.
pub(super) fn deadline_at(seen: &Seen, world: &World, share: f64) -> f32 {
    let mut classes: Vec<(u64, f64)> = world
        .classes
        .iter()
        .zip(seen.arrived_classes)
        .map(|(class, jobs)| (class.deadline_us, f64::from(jobs)))
        .collect();
    classes.sort_by_key(|(deadline, _)| *deadline);
    let total: f64 = classes.iter().map(|(_, jobs)| jobs).sum();
    let mut sum = 0.0;
    let reached = classes.iter().find(|(_, jobs)| {
        sum += jobs;
        sum >= share * total
    });
    reached.map_or(0.0, |(deadline, _)| *deadline as f32)
}
