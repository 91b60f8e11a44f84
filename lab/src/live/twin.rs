//! The simulator on the arrivals of the real run: what it says each policy should have come to.
//!
//! Owns the translation of what was measured into the simulator's system. One worker runs all tiers
//! in turn, as the accurate model's only thread does; the real fast model has a thread of its own
//! beside it, which the simulator does not know.

use serde::Serialize;

use super::args::LiveArgs;
use super::measure::Measured;
use super::stair::Stair;
use crate::sim::engine::run;
use crate::sim::policy::catalog::{Tuned, make};
use crate::sim::runner::Figures;
use crate::sim::workload::{Arrival, Arrivals};
use crate::sim::world::{Class, Delivery, MAX_TIERS, Tier, World};

/// How often the service makes a snapshot, in microseconds: its default.
const PERIOD_US: u64 = 250_000;
/// The real threshold's default, which the simulator's policy has as well.
const THRESHOLD: usize = 5;

/// What the simulator says of some rows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Expected {
    /// Right and in time, of all offered, 0 to 1.
    pub(crate) effective: f64,
    /// In time, of all offered.
    pub(crate) attainment: f64,
    /// By the accurate tier, of those answered.
    pub(crate) dear: f64,
    /// 99 of 100 answers within, in milliseconds.
    pub(crate) p99_ms: f64,
}

/// The measured system as the simulator has it.
pub(crate) fn world(measured: &Measured, args: &LiveArgs, accuracies: &[f64]) -> World {
    let tiers = measured.models.iter().zip(accuracies).map(|(alone, accuracy)| {
        let (alpha_ms, beta_ms, cap) = alone.line();
        Tier { alpha_us: 1e3 * alpha_ms, beta_us: 1e3 * beta_ms, cap, accuracy: *accuracy }
    });
    let around_us = (1e3 * measured.around_ms()) as u64;
    World {
        tiers: tiers.collect(),
        workers: 1,
        classes: vec![Class { share: 1.0, deadline_us: 1_000 * u64::from(args.deadline_ms), value: 1.0 }],
        net_in_us: around_us,
        net_out_us: 0,
        noise: measured.dear().map_or(0.0, |dear| dear.noise.min(0.5)),
        // A snapshot is taken along by the answers to readings: one isolate, at once.
        delivery: Delivery { period_us: PERIOD_US, age_us: 1_000, isolates: 1, lost: 0.0 },
        ..World::reference()
    }
}

/// The simulator's name of a policy.
pub(crate) fn name(policy: &str) -> &str {
    if policy == "queue-threshold" { "threshold-5-edge" } else { policy }
}

/// A policy on the stair: at each step, and over all.
pub(crate) fn expect(policy: &str, world: &World, stair: &Stair, seed: u64) -> (Vec<Expected>, Expected) {
    let us = |ms: f64| (1e3 * ms) as u64;
    let jobs = stair.offsets_ms.iter().map(|at| Arrival { at_us: us(*at), isolate: 0, class: 0 }).collect();
    let until_us = us(1e3 * stair.seconds()) + 1;
    let mut arrivals = Arrivals { jobs, from_us: 0, until_us, last_from_us: until_us, bursts: Vec::new() };
    let tuned = Tuned { threshold: THRESHOLD, crowds: [usize::MAX; 4], carries: [0.0; MAX_TIERS] };
    // The window only says which jobs are scored: each run is the same.
    let mut within = |from_us, until_us| {
        (arrivals.from_us, arrivals.until_us, arrivals.last_from_us) = (from_us, until_us, until_us);
        let outcome = run(world, &arrivals, make(name(policy), world, &tuned).as_mut(), seed, false);
        let found = Figures::of(&outcome, world);
        Expected { effective: found.effective, attainment: found.attainment, dear: found.dear, p99_ms: found.p99_ms }
    };
    let steps = stair.steps.iter().map(|step| within(us(step.from_ms), us(step.until_ms))).collect();
    (steps, within(0, until_us))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_the_scale_do_what_they_must() {
        let world = World { workers: 1, ..World::reference() };
        let stair = Stair::new(&[0.3, 4.0], world.capacity(1), 20.0, 100, 1);
        let (fast, _) = expect("always-fast", &world, &stair, 1);
        assert!(fast[0].effective > 0.899 && fast[0].dear == 0.0, "{fast:?}");
        let (dear, all) = expect("always-accurate", &world, &stair, 1);
        assert!(dear[0].effective > 0.96 && dear[1].attainment < 0.5, "{dear:?}");
        assert!(all.effective > dear[1].effective && all.effective < dear[0].effective);
        let (ours, _) = expect("slack-split", &world, &stair, 1);
        assert!(ours[0].effective > 0.95 && ours[1].effective > 0.85, "{ours:?}");
    }
}
