//! What a process measures of one task for its plan: arrivals, deadlines, keepers, shares, and how
//! often predictions came true.
//!
//! Counts only, bounded in memory, with the moment as an argument. What is made of the numbers is
//! `planner`'s.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use shared::reading::Priority;

/// Readings of which deadline and class are remembered.
const RECENT: usize = 256;
/// How long a keeper of snapshots counts that sent nothing more.
const KEEPER_SEEN: Duration = Duration::from_secs(10);
/// More keepers than this are not told apart.
const MOST_KEEPERS: usize = 4_096;
/// The memory of the arrival rate, in seconds.
const RATE_MEMORY: f64 = 1.0;
/// The memory of peaks of it, in seconds.
const PEAK_MEMORY: f64 = 60.0;
/// A rate over less than this would be noise, in seconds.
const SHORTEST: f64 = 0.05;
/// The memory of the arrivals' dispersion, in periods.
const DISPERSION_MEMORY: f64 = 40.0;
/// Decisions in a period that make a share worth believing.
const SHARE_SAMPLES: u32 = 20;
/// Predictions behind which the correction is moved.
const KAPPA_SAMPLES: f64 = 50.0;

/// Arrivals of a task, from a total that only grows.
#[derive(Debug)]
pub(super) struct Arrivals {
    total: Option<(u64, Instant)>,
    rate: f64,
    last: f64,
    peak: f64,
    mean: f64,
    square: f64,
}

impl Arrivals {
    pub(super) const fn new() -> Self {
        Self { total: None, rate: 0.0, last: 0.0, peak: 0.0, mean: 0.0, square: 0.0 }
    }

    /// Takes in how many have arrived so far.
    pub(super) fn saw(&mut self, total: u64, now: Instant) {
        let Some((before, at)) = self.total else {
            self.total = Some((total, now));
            return;
        };
        let passed = now.saturating_duration_since(at).as_secs_f64();
        // What comes in between two looks of one moment is counted with the next.
        if passed < SHORTEST {
            return;
        }
        self.total = Some((total, now));
        let came = to_f64(total.saturating_sub(before));
        let weight = 1.0 - (-passed / RATE_MEMORY).exp();
        self.last = came / passed;
        self.rate += weight * (self.last - self.rate);
        self.peak = self.last.max(self.peak * (-passed / PEAK_MEMORY).exp());
        let weight = 1.0 / DISPERSION_MEMORY;
        self.mean += weight * (came - self.mean);
        self.square += weight * (came * came - self.square);
    }

    /// Arrivals a second.
    pub(super) const fn rate(&self) -> f64 {
        self.rate
    }

    /// Arrivals a second in the last period alone.
    pub(super) const fn last(&self) -> f64 {
        self.last
    }

    /// The highest of such rates lately.
    pub(super) const fn peak(&self) -> f64 {
        self.peak
    }

    /// Index of dispersion of the counts of a period: variance over mean; 1 where too little came.
    pub(super) fn idc(&self) -> f64 {
        if self.mean < 1.0 {
            return 1.0;
        }
        ((self.square - self.mean * self.mean) / self.mean).clamp(1.0, 1_000.0)
    }
}

/// What recent readings asked for.
#[derive(Debug, Default)]
pub(super) struct Recent {
    // The deadline in milliseconds; `u64::MAX` for none.
    seen: VecDeque<(u64, Priority)>,
}

impl Recent {
    pub(super) fn saw(&mut self, deadline: Option<Duration>, class: Priority) {
        if self.seen.len() == RECENT {
            self.seen.pop_front();
        }
        let ms = deadline.map_or(u64::MAX, |left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
        self.seen.push_back((ms, class));
    }

    /// The deadline at a quantile in percent; none where nothing was seen, or most have none there.
    pub(super) fn deadline(&self, percent: usize) -> Option<Duration> {
        let mut deadlines: Vec<u64> = self.seen.iter().map(|(ms, _)| *ms).collect();
        deadlines.sort_unstable();
        let at = deadlines.len().saturating_sub(1) * percent / 100;
        deadlines.get(at).filter(|ms| **ms != u64::MAX).map(|ms| Duration::from_millis(*ms))
    }

    /// Shares of the classes, in the order of `Priority::ALL`.
    pub(super) fn classes(&self) -> [f32; 3] {
        if self.seen.is_empty() {
            return [0.0, 1.0, 0.0];
        }
        Priority::ALL.map(|class| {
            let of = self.seen.iter().filter(|(_, seen)| *seen == class).count();
            to_f32(to_f64(of as u64) / to_f64(self.seen.len() as u64))
        })
    }
}

/// Keepers of snapshots: isolates of the edge that sent something lately.
#[derive(Debug, Default)]
pub(super) struct Keepers(HashMap<u64, Instant>);

impl Keepers {
    pub(super) fn saw(&mut self, keeper: u64, now: Instant) {
        if self.0.len() < MOST_KEEPERS || self.0.contains_key(&keeper) {
            self.0.insert(keeper, now);
        }
    }

    /// How many were heard of lately.
    pub(super) fn count(&mut self, now: Instant) -> usize {
        self.0.retain(|_, at| now.saturating_duration_since(*at) < KEEPER_SEEN);
        self.0.len()
    }
}

/// How many decisions of a period went to the cheaper and to the dearer tier in use.
#[derive(Debug, Default)]
pub(super) struct Shares {
    cheap: u32,
    dear: u32,
}

impl Shares {
    pub(super) const fn saw(&mut self, dear: bool) {
        let count = if dear { &mut self.dear } else { &mut self.cheap };
        *count = count.saturating_add(1);
    }

    /// The share of the dearer one since this was asked for last; none where too few came, which then count on.
    pub(super) fn take(&mut self) -> Option<f32> {
        let all = self.cheap.saturating_add(self.dear);
        if all < SHARE_SAMPLES {
            return None;
        }
        let share = f64::from(self.dear) / f64::from(all);
        *self = Self::default();
        Some(to_f32(share))
    }
}

/// How often predicted chances to be in time came true, and the correction learned from it.
#[derive(Debug)]
pub(super) struct Reliability {
    predicted: f64,
    hits: f64,
    jobs: f64,
    kappa: f64,
}

impl Reliability {
    pub(super) const fn new() -> Self {
        Self { predicted: 0.0, hits: 0.0, jobs: 0.0, kappa: 1.0 }
    }

    /// A job with this predicted chance was in time, or not. What was likely to be late says nothing here: a higher
    /// correction makes it less likely still.
    pub(super) fn saw(&mut self, predicted: f32, hit: bool) {
        if !(0.5..=1.0).contains(&predicted) {
            return;
        }
        self.predicted += f64::from(predicted);
        self.hits += if hit { 1.0 } else { 0.0 };
        self.jobs += 1.0;
        if self.jobs >= KAPPA_SAMPLES {
            let off = (self.hits - self.predicted) / self.jobs;
            self.kappa = (self.kappa * (0.1 * off).exp()).clamp(0.2, 5.0);
            *self = Self { kappa: self.kappa, ..Self::new() };
        }
    }

    /// The correction of the chance on time; 1 where nothing was learned.
    pub(super) const fn kappa(&self) -> f64 {
        self.kappa
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of one process stay below 2^53")]
const fn to_f64(count: u64) -> f64 {
    count as f64
}

#[expect(clippy::cast_possible_truncation, reason = "shares are kept as float32")]
const fn to_f32(value: f64) -> f32 {
    value as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_follows_what_comes_and_an_even_stream_has_no_dispersion() {
        let start = Instant::now();
        let mut arrivals = Arrivals::new();
        for period in 0..200_u64 {
            arrivals.saw(period * 25, start + Duration::from_millis(250) * u32::try_from(period).unwrap());
        }
        assert!((arrivals.rate() - 100.0).abs() < 0.1, "{}", arrivals.rate());
        assert!((1.0..2.0).contains(&arrivals.idc()), "{}", arrivals.idc());
    }

    #[test]
    fn bursts_show_as_dispersion() {
        let start = Instant::now();
        let mut arrivals = Arrivals::new();
        let mut total = 0;
        for period in 0..400_u32 {
            total += if period % 10 == 0 { 200 } else { 0 };
            arrivals.saw(total, start + Duration::from_millis(250) * period);
        }
        assert!(arrivals.idc() > 100.0, "{}", arrivals.idc());
    }

    #[test]
    fn deadlines_are_those_of_the_urgent_tenth() {
        let mut recent = Recent::default();
        assert_eq!((recent.deadline(10), recent.classes()), (None, [0.0, 1.0, 0.0]));
        for i in 0..100_u64 {
            let urgent = i % 5 == 0;
            let class = if urgent { Priority::High } else { Priority::Normal };
            recent.saw(Some(Duration::from_millis(if urgent { 50 } else { 1_000 })), class);
        }
        assert_eq!(recent.deadline(10), Some(Duration::from_millis(50)));
        assert_eq!(recent.deadline(50), Some(Duration::from_secs(1)));
        assert_eq!(recent.classes(), [0.2, 0.8, 0.0]);
        for _ in 0..RECENT {
            recent.saw(None, Priority::Low);
        }
        assert_eq!((recent.deadline(10), recent.classes()[2]), (None, 1.0));
    }

    #[test]
    fn keepers_are_forgotten_and_bounded() {
        let now = Instant::now();
        let mut keepers = Keepers::default();
        (0..10_000).for_each(|keeper| keepers.saw(keeper, now));
        assert_eq!(keepers.count(now), MOST_KEEPERS);
        assert_eq!(keepers.count(now + KEEPER_SEEN), 0);
    }

    #[test]
    fn predictions_that_are_too_hopeful_lower_the_correction() {
        let mut reliability = Reliability::new();
        for i in 0..1_000 {
            reliability.saw(0.9, i % 2 == 0);
            reliability.saw(0.1, true);
        }
        assert!(reliability.kappa() < 0.6, "{}", reliability.kappa());
    }

    #[test]
    fn a_share_of_few_is_none() {
        let mut shares = Shares::default();
        (0..10).for_each(|_| shares.saw(true));
        assert_eq!(shares.take(), None);
        (0..30).for_each(|_| shares.saw(false));
        assert_eq!(shares.take(), Some(0.25));
        assert_eq!(shares.take(), None);
    }
}
