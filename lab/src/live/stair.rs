//! When jobs come: one Poisson stream that climbs a stair of loads, drawn once for all policies.
//!
//! Owns the offsets and which step each belongs to. Sending is `drive`'s.

use std::fmt::Write;
use std::path::Path;

use anyhow::Context;
use serde::Serialize;

use crate::sim::rng::Rng;

/// One load, and how long it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Step {
    /// Share of what the accurate model carries.
    pub(crate) load: f64,
    /// Jobs a second.
    pub(crate) rate: f64,
    /// From the begin, in milliseconds.
    pub(crate) from_ms: f64,
    /// The first moment of the next step.
    pub(crate) until_ms: f64,
}

/// All arrivals of a run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stair {
    /// In order of time.
    pub(crate) steps: Vec<Step>,
    /// Milliseconds from the first arrival, which is at 0; ascending.
    pub(crate) offsets_ms: Vec<f64>,
    /// How often the cycles are replayed, and how many of them each time: their product is the number of arrivals.
    pub(crate) passes: (usize, usize),
}

impl Stair {
    /// Draws the arrivals of `loads` times `capacity` jobs a second, `step_s` seconds each; `cycles` are there.
    pub(crate) fn new(loads: &[f64], capacity: f64, step_s: f64, cycles: usize, seed: u64) -> Self {
        let mut draws = Rng::new(seed, 0x0057_a125);
        let mut offsets_ms: Vec<f64> = Vec::new();
        let mut steps = Vec::with_capacity(loads.len());
        for (i, load) in loads.iter().enumerate() {
            let (rate, from_ms) = (load * capacity, 1e3 * step_s * i as f64);
            let until_ms = from_ms + 1e3 * step_s;
            let mut at = from_ms;
            loop {
                at += 1e3 * draws.exponential() / rate;
                if at >= until_ms {
                    break;
                }
                offsets_ms.push(at);
            }
            steps.push(Step { load: *load, rate, from_ms, until_ms });
        }
        // The file is replayed whole times, so a few of the last arrivals may be too many.
        let times = offsets_ms.len().div_ceil(cycles.max(1)).max(1);
        let passes = (times, offsets_ms.len() / times);
        offsets_ms.truncate(passes.0 * passes.1);
        let first = offsets_ms.first().copied().unwrap_or(0.0);
        offsets_ms.iter_mut().for_each(|at| *at -= first);
        Self { steps, offsets_ms, passes }
    }

    /// The step of a moment; what is behind the last belongs to it.
    pub(crate) fn step_of(&self, at_ms: f64) -> usize {
        self.steps.iter().position(|step| at_ms < step.until_ms).unwrap_or(self.steps.len().saturating_sub(1))
    }

    /// How long it takes, in seconds.
    pub(crate) fn seconds(&self) -> f64 {
        self.steps.last().map_or(0.0, |step| step.until_ms / 1e3)
    }

    /// Writes it as `infer-router load --trace` reads it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let mut text = String::new();
        for at in &self.offsets_ms {
            writeln!(text, "{at:.3}")?;
        }
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_has_its_rate_and_the_passes_fill_it() {
        let stair = Stair::new(&[0.5, 2.0], 100.0, 60.0, 662, 1);
        assert!(stair.offsets_ms.is_sorted());
        assert_eq!(stair.offsets_ms[0], 0.0);
        assert_eq!(stair.passes.0 * stair.passes.1, stair.offsets_ms.len());
        assert!(stair.passes.1 <= 662);
        let slow = stair.offsets_ms.iter().filter(|at| stair.step_of(**at) == 0).count();
        assert!((2_700..3_300).contains(&slow), "{slow} of 3000");
        let fast = stair.offsets_ms.len() - slow;
        assert!((11_600..12_400).contains(&fast), "{fast} of 12000");
        assert_eq!(stair, Stair::new(&[0.5, 2.0], 100.0, 60.0, 662, 1));
        assert_ne!(stair.offsets_ms, Stair::new(&[0.5, 2.0], 100.0, 60.0, 662, 2).offsets_ms);
    }
}
