//! The queue's clock: milliseconds that never go back, over restarts as well.
//!
//! Time of day at the start, and from then on the time that passed: a clock that is set while the queue runs ends no
//! lease and no deadline. Where the time of day has fallen behind what the file has seen (a machine without a clock
//! of its own, just switched on), the file's time goes on. Owns no timers.

use std::sync::Arc;
use std::time::{Duration, Instant};

/// Milliseconds since 1970, roughly; never less than before.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The clock of a file that was last written at `seen`.
pub(in crate::queue) fn from(seen: u64) -> Clock {
    let (start, began) = (crate::clock::now_ms().max(seen), Instant::now());
    Arc::new(move || start.saturating_add(ms(began.elapsed())))
}

/// A duration in milliseconds.
pub(in crate::queue) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A number of ours as SQLite keeps it.
pub(in crate::queue) fn stored(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A stored number, which is never below zero where we wrote it.
pub(in crate::queue) fn number(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}
