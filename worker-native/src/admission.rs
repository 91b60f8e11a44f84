//! Who still fits into a task's queue: how fast it drains, and what that means for one more job.
//!
//! Owns the drain rate and the times predicted from it; the queue itself counts, and refuses in the step that would
//! store. A rate is only believed where it was seen: while jobs wait, what is settled in a second is what the consumers
//! can do; while none waits it is what came in, which says nothing but "at least so much". Pure: the time comes from
//! the caller.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::queue::{Counts, Priority};

/// Time constant of the smoothed rate, in seconds.
const TIME_CONSTANT: f64 = 2.0;
/// The time constant is longer where so many jobs are not settled within it: one job more or less is no trend.
const SETTLEMENTS: f64 = 8.0;
/// But not longer than this, in seconds.
const LONGEST_CONSTANT: f64 = 30.0;
/// Shortest interval that is measured; a shorter one is joined with the next.
const SHORTEST: Duration = Duration::from_millis(20);
/// Longest and shortest time that a caller is told to stay away, in seconds.
const STAY_AWAY: std::ops::RangeInclusive<f64> = 1.0..=300.0;

/// What is known of how tasks' queues drain.
#[derive(Debug, Default)]
pub struct Admission {
    max_wait: Option<Duration>,
    tasks: Mutex<HashMap<String, Drain>>,
}

/// A task's queue as last seen.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sight {
    /// Its numbers.
    pub counts: Counts,
    /// Jobs that it settles in a second while there is work; none until that was seen.
    pub rate: Option<f64>,
}

/// Jobs that were run to an end.
const fn ran(counts: &Counts) -> u64 {
    counts.settled.saturating_sub(counts.unrun)
}

#[derive(Debug)]
struct Drain {
    at: Instant,
    counts: Counts,
    /// Jobs settled and seconds passed, both fading: their quotient is the rate.
    settled: f64,
    seconds: f64,
}

impl Drain {
    fn rate(&self) -> Option<f64> {
        (self.settled > 0.0).then(|| self.settled / self.seconds)
    }

    fn see(&mut self, counts: &Counts, now: Instant) {
        let passed = now.saturating_duration_since(self.at);
        if passed < SHORTEST {
            return;
        }
        // What expired or was cancelled costs no run: a queue that only expires does not drain fast.
        match ran(counts).checked_sub(ran(&self.counts)) {
            Some(settled) => {
                let (settled, seconds) = (to_f64(settled), passed.as_secs_f64());
                let rate = self.rate();
                let busy = waiting(&self.counts) > 0 && waiting(counts) > 0;
                // Without this a rate that fell while consumers were away would keep work out, and so never rise again.
                let faster = rate.is_some_and(|rate| settled / seconds > rate);
                if busy || faster {
                    let constant = rate.map_or(TIME_CONSTANT, |rate| SETTLEMENTS / rate);
                    let constant = constant.clamp(TIME_CONSTANT, LONGEST_CONSTANT);
                    // What was learnt slowly must not weigh more than what a quick queue shows now.
                    let weight = (constant / self.seconds).min(1.0) * (-seconds / constant).exp();
                    self.settled = self.settled.mul_add(weight, settled);
                    self.seconds = self.seconds.mul_add(weight, seconds);
                }
            }
            // The counts began anew: the queue lost its data.
            None => (self.settled, self.seconds) = (0.0, 0.0),
        }
        (self.at, self.counts) = (now, counts.clone());
    }
}

impl Admission {
    /// Knows nothing yet; `max_wait` is the longest wait that is promised, zero for none.
    #[must_use]
    pub fn new(max_wait: Duration) -> Self {
        Self { max_wait: (!max_wait.is_zero()).then_some(max_wait), tasks: Mutex::default() }
    }

    fn tasks(&self) -> MutexGuard<'_, HashMap<String, Drain>> {
        // Plain numbers: a panic elsewhere cannot have left them half written.
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in a task's numbers.
    pub fn saw(&self, task: &str, counts: &Counts, now: Instant) {
        let mut tasks = self.tasks();
        match tasks.get_mut(task) {
            Some(drain) => drain.see(counts, now),
            None => {
                let drain = Drain { at: now, counts: counts.clone(), settled: 0.0, seconds: 0.0 };
                tasks.insert(task.to_owned(), drain);
            }
        }
    }

    /// What is known of a task's queue; none before its numbers were read.
    pub fn sight(&self, task: &str) -> Option<Sight> {
        self.tasks().get(task).map(|drain| Sight { counts: drain.counts.clone(), rate: drain.rate() })
    }

    /// Unsettled jobs of the task at which one more would wait too long: longer than promised, or than its own
    /// deadline. None where that is not bounded, or not known; urgent jobs do not wait behind all others.
    ///
    /// `at_need` is how many jobs a second the consumers can settle where they must: while they use the time there is for
    /// dearer models, the rate that is seen says nothing of that.
    pub fn room(&self, task: &str, priority: Priority, left: Option<Duration>, at_need: Option<f64>) -> Option<u32> {
        let longest = self.longest(left).filter(|_| priority != Priority::High)?;
        let rate = self.tasks().get(task)?.rate()?.max(at_need.unwrap_or_default());
        Some(to_u32((rate * longest.as_secs_f64()).floor().max(1.0)))
    }

    /// The longest wait that a job may have.
    pub fn longest(&self, left: Option<Duration>) -> Option<Duration> {
        left.into_iter().chain(self.max_wait).min()
    }

    /// How long so many jobs take; none where the rate is not known.
    pub fn drain_time(&self, task: &str, jobs: u64) -> Option<Duration> {
        let rate = self.tasks().get(task)?.rate()?;
        Some(Duration::try_from_secs_f64(to_f64(jobs) / rate).unwrap_or(Duration::MAX))
    }

    /// Whole seconds after which so many jobs are gone, up to a fifth more or less (`luck`, 0 to 1), so that those who
    /// were turned away together do not come back together. None where the rate is not known.
    pub fn retry_after(&self, task: &str, jobs: u64, luck: f64) -> Option<u32> {
        let seconds = self.drain_time(task, jobs)?.as_secs_f64() * luck.mul_add(0.4, 0.8);
        Some(to_u32(seconds.round().clamp(*STAY_AWAY.start(), *STAY_AWAY.end())))
    }
}

/// Jobs that nobody has claimed and that could be.
fn waiting(counts: &Counts) -> u64 {
    let sum = |jobs: &crate::queue::Depths| jobs.values().map(|jobs| u64::from(*jobs)).sum::<u64>();
    sum(&counts.depths).saturating_sub(sum(&counts.running)).saturating_sub(counts.delayed)
}

#[expect(clippy::cast_precision_loss, reason = "counts of jobs stay far below 2^53")]
const fn to_f64(count: u64) -> f64 {
    count as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, and is not negative")]
const fn to_u32(value: f64) -> u32 {
    value as u32
}

#[cfg(test)]
mod tests;
