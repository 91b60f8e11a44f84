//! What a run is worth: every offered job is counted once, by the moment it came.
//!
//! Owns sums and counts of the jobs that arrive inside the scored window. A job that is answered
//! long after the window counts as what it is: late. A job's answer is worth its value times the
//! tier's true accuracy, not a coin's toss: the same mean with less noise.

use super::queue::Claimed;
use super::workload::Arrivals;
use super::world::{MAX_TIERS, World};

/// Length of the windows for the largest drop of accuracy, in microseconds.
const WINDOW_US: u64 = 10_000_000;
/// A bin of the histogram of answer times, in microseconds.
const BIN_US: u64 = 100;
const BINS: usize = 20_000;

/// How a job ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Ending {
    /// By a tier that is right this often.
    Answered {
        /// The tier.
        tier: usize,
        /// When the worker was done, in microseconds.
        finished_us: u64,
        /// When the answer was there, in microseconds.
        answered_us: u64,
        /// The tier's true accuracy for this job.
        right: f64,
    },
    /// Dropped because it could not be in time.
    Expired,
    /// Refused at the edge.
    Refused,
}

/// Sums over a window of time.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Sums {
    /// Jobs offered.
    pub(crate) offered: u64,
    /// Answered in time.
    pub(crate) on_time: u64,
    /// Value offered.
    pub(crate) value: f64,
    /// Value times accuracy of what was answered in time.
    pub(crate) gained: f64,
    /// Accuracy of what was answered in time, summed.
    pub(crate) accuracy: f64,
}

/// Counts and sums of one run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Score {
    /// The whole scored window.
    pub(crate) all: Sums,
    /// Arrivals inside a burst's first seconds.
    pub(crate) bursts: Sums,
    /// The last part of the window, after labels had time to tell.
    pub(crate) last: Sums,
    /// Answered too late.
    pub(crate) late: u64,
    /// Dropped.
    pub(crate) expired: u64,
    /// Refused at the edge.
    pub(crate) refused: u64,
    /// Answered, by tier.
    pub(crate) by_tier: [u64; MAX_TIERS],
    /// Answered by another tier than hinted.
    pub(crate) rebound: u64,
    /// Changes of direction of the published split.
    pub(crate) turns: u64,
    windows: Vec<Sums>,
    times: Vec<u32>,
    from_us: u64,
    until_us: u64,
    last_from_us: u64,
    burst_spans: Vec<(u64, u64)>,
    last_split: Option<f64>,
    rising: Option<bool>,
}

impl Score {
    /// Nothing scored yet.
    pub(crate) fn new(_world: &World, arrivals: &Arrivals) -> Self {
        let span = arrivals.until_us.saturating_sub(arrivals.from_us);
        Self {
            all: Sums::default(),
            bursts: Sums::default(),
            last: Sums::default(),
            late: 0,
            expired: 0,
            refused: 0,
            by_tier: [0; MAX_TIERS],
            rebound: 0,
            turns: 0,
            windows: vec![Sums::default(); (span / WINDOW_US) as usize],
            times: vec![0; BINS],
            from_us: arrivals.from_us,
            until_us: arrivals.until_us,
            last_from_us: arrivals.last_from_us,
            burst_spans: arrivals.bursts.clone(),
            last_split: None,
            rising: None,
        }
    }

    /// A job is offered.
    pub(crate) fn offer(&mut self, job: &Claimed) {
        let value = f64::from(job.value);
        self.each(job, |sums| {
            sums.offered += 1;
            sums.value += value;
        });
    }

    /// A job ends.
    pub(crate) fn end(&mut self, job: &Claimed, ending: Ending) {
        if !self.inside(job) {
            return;
        }
        match ending {
            Ending::Expired => self.expired += 1,
            Ending::Refused => self.refused += 1,
            Ending::Answered { tier, finished_us, answered_us, right } => {
                self.by_tier[tier] += 1;
                self.rebound += u64::from(tier != usize::from(job.hint));
                let bin = (answered_us - job.arrived_us) / BIN_US;
                self.times[(bin as usize).min(BINS - 1)] += 1;
                if finished_us > job.finish_by_us {
                    self.late += 1;
                    return;
                }
                let gained = f64::from(job.value) * right;
                self.each(job, |sums| {
                    sums.on_time += 1;
                    sums.gained += gained;
                    sums.accuracy += right;
                });
            }
        }
    }

    /// The split that was published at a moment.
    pub(crate) fn split(&mut self, at_us: u64, split: Option<f64>) {
        if at_us < self.from_us || at_us >= self.until_us {
            return;
        }
        if let (Some(before), Some(now)) = (self.last_split, split)
            && before != now
        {
            let rising = now > before;
            self.turns += u64::from(self.rising.is_some_and(|was| was != rising));
            self.rising = Some(rising);
        }
        self.last_split = split;
    }

    /// The time below which a share of all answers came, in milliseconds.
    pub(crate) fn answer_ms(&self, share: f64) -> f64 {
        let total: u64 = self.times.iter().map(|count| u64::from(*count)).sum();
        let wanted = (total as f64 * share).ceil().max(1.0) as u64;
        let mut sum = 0;
        let bin = self.times.iter().position(|count| {
            sum += u64::from(*count);
            sum >= wanted
        });
        bin.map_or(f64::NAN, |bin| (bin + 1) as f64 * BIN_US as f64 / 1_000.0)
    }

    /// Mean time of all answers, in milliseconds.
    #[cfg(test)]
    pub(crate) fn mean_answer_ms(&self) -> f64 {
        let middle = |bin: usize| (bin as f64 + 0.5) * BIN_US as f64 / 1_000.0;
        let sum: f64 = self.times.iter().enumerate().map(|(bin, count)| f64::from(*count) * middle(bin)).sum();
        sum / self.times.iter().map(|count| f64::from(*count)).sum::<f64>()
    }

    /// Best minus worst mean accuracy of what was answered in time, over windows of 10 s.
    pub(crate) fn accuracy_drop(&self, best: f64) -> f64 {
        let means = self.windows.iter().filter(|sums| sums.on_time > 0);
        let worst = means.map(|sums| sums.accuracy / sums.on_time as f64).fold(best, f64::min);
        best - worst
    }

    /// Length of the scored window, in seconds.
    pub(crate) fn seconds(&self) -> f64 {
        self.until_us.saturating_sub(self.from_us) as f64 / 1e6
    }

    const fn inside(&self, job: &Claimed) -> bool {
        job.arrived_us >= self.from_us && job.arrived_us < self.until_us
    }

    fn each(&mut self, job: &Claimed, add: impl Fn(&mut Sums)) {
        if !self.inside(job) {
            return;
        }
        add(&mut self.all);
        if job.arrived_us >= self.last_from_us {
            add(&mut self.last);
        }
        if self.burst_spans.iter().any(|(from, until)| (*from..*until).contains(&job.arrived_us)) {
            add(&mut self.bursts);
        }
        if let Some(window) = self.windows.get_mut(((job.arrived_us - self.from_us) / WINDOW_US) as usize) {
            add(window);
        }
    }
}

impl Sums {
    /// Effective accuracy over all offered value, 0 to 1.
    pub(crate) fn effective(&self) -> f64 {
        self.gained / self.value.max(f64::MIN_POSITIVE)
    }

    /// Share answered in time.
    pub(crate) fn attainment(&self) -> f64 {
        self.on_time as f64 / self.offered.max(1) as f64
    }
}
