//! The runs that a consumer has started and that have not ended: when a worker will be free for the next.
//!
//! Reckoned from what runs are expected to take; a run that ends says so at once. Which run is next is `bench`'s.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// A run is handed to its worker so long before the worker is free: waking up and handing over take their time.
pub(super) const LEAD: Duration = Duration::from_millis(2);
/// The rest of a run that takes longer than expected, as a part of what was expected: no others are piled up behind it.
const OVERDUE: u32 = 4;
/// The least such rest.
const LEAST: Duration = Duration::from_micros(100);

#[derive(Debug)]
struct Run {
    tier: String,
    since: Instant,
    expected: Duration,
}

impl Run {
    fn rest(&self, now: Instant) -> Duration {
        let rest = self.expected.saturating_sub(now.saturating_duration_since(self.since));
        if rest.is_zero() { (self.expected / OVERDUE).max(LEAST) } else { rest }
    }
}

#[derive(Debug, Default)]
struct Runs {
    serial: u64,
    going: BTreeMap<u64, Run>,
}

/// The runs of one consumer.
#[derive(Debug, Default)]
pub(super) struct Going {
    runs: Mutex<Runs>,
    ended: Notify,
}

/// A run that is going on; it has ended when the last of these is gone.
#[derive(Debug)]
pub(super) struct Started {
    going: Arc<Going>,
    serial: u64,
}

impl Drop for Started {
    fn drop(&mut self) {
        self.going.runs().going.remove(&self.serial);
        self.going.ended.notify_one();
    }
}

impl Going {
    fn runs(&self) -> MutexGuard<'_, Runs> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a run that starts.
    pub(super) fn start(self: &Arc<Self>, tier: &str, expected: Duration, now: Instant) -> Arc<Started> {
        let mut runs = self.runs();
        runs.serial += 1;
        let serial = runs.serial;
        runs.going.insert(serial, Run { tier: tier.to_owned(), since: now, expected });
        Arc::new(Started { going: Arc::clone(self), serial })
    }

    /// How long until one of so many workers is free; with a tier, one of that tier's own.
    pub(super) fn free_in(&self, tier: Option<&str>, workers: usize, now: Instant) -> Duration {
        let mut loads = vec![Duration::ZERO; workers.max(1)];
        let runs = self.runs();
        for run in runs.going.values().filter(|run| tier.is_none_or(|tier| run.tier == tier)) {
            if let Some(least) = loads.iter_mut().min() {
                *least += run.rest(now);
            }
        }
        loads.into_iter().min().unwrap_or_default()
    }

    /// Returns when a run has ended since this was asked for last.
    pub(super) async fn ended(&self) {
        self.ended.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn a_worker_is_free_when_what_it_was_given_should_have_ended() {
        let (going, now) = (Arc::new(Going::default()), Instant::now());
        assert_eq!(going.free_in(None, 2, now), Duration::ZERO);
        let first = going.start("fast", 10 * MS, now);
        assert_eq!(going.free_in(None, 2, now), Duration::ZERO);
        let second = going.start("accurate", 40 * MS, now);
        assert_eq!(going.free_in(None, 2, now + 4 * MS), 6 * MS);
        let third = going.start("fast", 10 * MS, now);
        assert_eq!(going.free_in(None, 2, now), 20 * MS);
        assert_eq!(going.free_in(Some("fast"), 1, now), 20 * MS);
        assert_eq!(going.free_in(Some("accurate"), 2, now), Duration::ZERO);
        drop((first, third));
        assert_eq!((going.free_in(None, 2, now), going.free_in(None, 1, now)), (Duration::ZERO, 40 * MS));
        drop(second);
        assert_eq!(going.free_in(None, 1, now), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_that_takes_too_long_is_not_taken_for_ended() {
        let (going, now) = (Arc::new(Going::default()), Instant::now());
        let run = going.start("accurate", 16 * MS, now);
        assert_eq!(going.free_in(None, 1, now + 15 * MS), MS);
        assert_eq!(going.free_in(None, 1, now + 900 * MS), 4 * MS);
        let other = Arc::clone(&run);
        drop(run);
        assert!(going.free_in(None, 1, now) > Duration::ZERO, "the last of its jobs has not ended");
        drop(other);
        going.ended().await;
        assert_eq!(going.free_in(None, 1, now), Duration::ZERO);
    }
}
