//! Page-Hinkley's test for errors that become more frequent, in river's form with a threshold of 10.
//!
//! S <- max(0, 0.9999 S + x - mean - 0.005), alarm at S >= 10 after 30 samples, then it begins anew. Early and cheap to be
//! wrong: an alarm only raises exploration. At a steady error rate of 0.1 it is wrong about once in 2,000 labels.

use serde::{Deserialize, Serialize};

/// S at which it alarms.
const THRESHOLD: f64 = 10.0;
/// Rises of the error rate that are not worth an alarm.
const DELTA: f64 = 0.005;
/// What S keeps from sample to sample.
const KEEP: f64 = 0.9999;
/// Samples before it may alarm.
const LEAST: u64 = 30;

/// The test's state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct PageHinkley {
    n: u64,
    mean: f64,
    sum: f64,
}

impl PageHinkley {
    /// Takes in a sample, 1 for an error and 0 for none; `true` at an alarm.
    pub fn add(&mut self, x: f64) -> bool {
        self.n += 1;
        self.mean += (x - self.mean) / super::posterior::to_f64(self.n);
        self.sum = (KEEP * self.sum + x - self.mean - DELTA).max(0.0);
        let alarm = self.n >= LEAST && self.sum >= THRESHOLD;
        if alarm {
            *self = Self::default();
        }
        alarm
    }

    pub(super) fn is_sane(&self) -> bool {
        (0.0..=1.0).contains(&self.mean) && (0.0..=THRESHOLD + 1.0).contains(&self.sum)
    }
}
