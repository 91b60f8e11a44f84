//! What can be seen of a running system: the load that snapshots carry, and the course of a run for charts.

use super::policy::Seen;
use super::queue::Queue;
use super::world::{MAX_CLASSES, MAX_TIERS, World};

/// Snapshots kept; the oldest that an isolate may ask for is age / period + 16 back.
const KEPT: usize = 256;
/// Arrivals are counted in slices of this length for their dispersion, in microseconds.
const SLICE_US: u64 = 10_000;

/// A moment of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// When, in microseconds.
    pub(crate) at_us: u64,
    /// The most work that waited since the last moment, as hinted, in microseconds of one worker.
    pub(crate) peak_work_us: f64,
    /// Jobs that came since the last moment.
    pub(crate) arrived: u32,
    /// Jobs answered since the last moment, and those by the dearest tier.
    pub(crate) answered: (u32, u32),
}

/// Counters between two snapshots.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Workers believed to live.
    pub(crate) alive: usize,
    /// The course of the run, a moment a period.
    pub(crate) moments: Vec<Moment>,
    snapshots: Vec<Seen>,
    seq: u64,
    running: [u32; MAX_TIERS],
    arrived: [u32; MAX_TIERS],
    arrived_classes: [u32; MAX_CLASSES],
    answered: [u32; MAX_TIERS],
    per_job_us: [f64; MAX_TIERS],
    /// Work that waits or runs, as hinted or bound.
    work_us: f64,
    peak_work_us: f64,
    slice: u64,
    in_slice: u32,
    slices: [f64; 3],
    busy_workers: u32,
    busy_us: f64,
    busy_since: u64,
    ticked_at: u64,
}

impl Watch {
    /// Nothing seen yet.
    pub(crate) fn new(world: &World) -> Self {
        let mut per_job_us = [0.0; MAX_TIERS];
        for (cost, tier) in per_job_us.iter_mut().zip(&world.tiers) {
            *cost = tier.per_job_us();
        }
        Self {
            alive: world.workers,
            moments: Vec::new(),
            snapshots: vec![Seen::default(); KEPT],
            seq: 0,
            running: [0; MAX_TIERS],
            arrived: [0; MAX_TIERS],
            arrived_classes: [0; MAX_CLASSES],
            answered: [0; MAX_TIERS],
            per_job_us,
            work_us: 0.0,
            peak_work_us: 0.0,
            slice: 0,
            in_slice: 0,
            slices: [0.0; 3],
            busy_workers: 0,
            busy_us: 0.0,
            busy_since: 0,
            ticked_at: 0,
        }
    }

    /// The snapshot of that number, if it is still kept.
    pub(crate) fn seen(&self, seq: u64) -> Option<&Seen> {
        self.snapshots.get(seq as usize % KEPT).filter(|seen| seen.seq == seq && seq > 0)
    }

    /// A job came.
    pub(crate) fn arrived(&mut self, now_us: u64, tier: usize, class: usize) {
        self.arrived[tier] += 1;
        self.arrived_classes[class] += 1;
        let slice = now_us / SLICE_US;
        if slice != self.slice {
            self.close_slices(slice);
        }
        self.in_slice += 1;
    }

    /// Jobs were claimed that are meant for a tier.
    pub(crate) fn running_more(&mut self, tier: usize, jobs: u32) {
        self.running[tier] += jobs;
    }

    /// Claimed jobs were given back or dropped.
    pub(crate) fn running_less(&mut self, tier: usize, jobs: u32) {
        self.running[tier] = self.running[tier].saturating_sub(jobs);
    }

    /// A claimed job runs on another tier than it was counted for.
    pub(crate) fn rebound(&mut self, from: usize, to: usize) {
        self.running_less(from, 1);
        self.running_more(to, 1);
    }

    /// Jobs were answered.
    pub(crate) fn finished(&mut self, tier: usize, jobs: usize) {
        self.running_less(tier, jobs as u32);
        self.answered[tier] += jobs as u32;
    }

    /// More or fewer workers run something from now on.
    pub(crate) fn busy(&mut self, now_us: u64, change: i32) {
        self.busy_us += f64::from(self.busy_workers) * now_us.saturating_sub(self.busy_since) as f64;
        self.busy_since = now_us;
        self.busy_workers = self.busy_workers.saturating_add_signed(change);
    }

    /// The work in the queue, as hinted.
    pub(crate) fn look(&mut self, queue: &Queue) {
        self.work_us = queue.waiting().iter().zip(&self.per_job_us).map(|(jobs, cost)| f64::from(*jobs) * cost).sum();
        self.peak_work_us = self.peak_work_us.max(self.work_us);
    }

    /// Makes the next snapshot.
    pub(crate) fn tick(&mut self, now_us: u64, queue: &Queue, pace: f64) -> Seen {
        self.busy(now_us, 0);
        self.close_slices(now_us / SLICE_US);
        let time = now_us.saturating_sub(self.ticked_at) as f64 * self.alive as f64;
        let [count, sum, squares] = std::mem::take(&mut self.slices);
        let mean = sum / f64::max(count, 1.0);
        let variance = (squares / f64::max(count, 1.0) - mean * mean).max(0.0);
        self.seq += 1;
        let seen = Seen {
            seq: self.seq,
            at_us: now_us,
            alive: self.alive,
            waiting: *queue.waiting(),
            running: self.running,
            arrived: std::mem::take(&mut self.arrived),
            arrived_classes: std::mem::take(&mut self.arrived_classes),
            answered: std::mem::take(&mut self.answered),
            dispersion: if mean > 0.0 { variance / mean } else { 1.0 },
            oldest_us: queue.oldest_us(now_us),
            pace,
            busy: if time > 0.0 { std::mem::take(&mut self.busy_us) / time } else { 0.0 },
        };
        self.ticked_at = now_us;
        self.snapshots[self.seq as usize % KEPT] = seen;
        seen
    }

    /// Adds a moment to the course of the run.
    pub(crate) fn remember(&mut self, seen: &Seen, keep: bool) {
        let peak_work_us = std::mem::replace(&mut self.peak_work_us, self.work_us);
        if !keep {
            return;
        }
        let dearest = self.per_job_us.iter().rposition(|cost| *cost > 0.0).unwrap_or(0);
        self.moments.push(Moment {
            at_us: seen.at_us,
            peak_work_us,
            arrived: seen.arrived.iter().sum(),
            answered: (seen.answered.iter().sum(), seen.answered[dearest]),
        });
    }

    fn close_slices(&mut self, until: u64) {
        // Slices without any arrival count as well.
        let empty = until.saturating_sub(self.slice).saturating_sub(1).min(1_000) as f64;
        let jobs = f64::from(self.in_slice);
        self.slices[0] += 1.0 + empty;
        self.slices[1] += jobs;
        self.slices[2] += jobs * jobs;
        self.slice = until;
        self.in_slice = 0;
    }
}
