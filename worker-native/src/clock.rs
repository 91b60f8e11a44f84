//! The one place that asks for the time of day, and how a duration is told.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A duration in milliseconds, to the microsecond: more digits would be noise.
pub(crate) fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// Unix time in milliseconds.
#[must_use]
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
}
