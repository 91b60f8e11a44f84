//! What rivals need to know beforehand: thresholds and rates, found by simulation on seeds of their own.

use super::engine::run;
use super::policy::Policy;
use super::policy::catalog::{FITS, Tuned};
use super::policy::fixed::{Fixed, SlackFit};
use super::policy::threshold::AtWorker;
use super::workload::catalog::Workload;
use super::workload::{Arrivals, Shape};
use super::world::{MAX_TIERS, World};

/// Seeds for tuning; scored seeds count from 0.
const SEED: u64 = 1 << 40;
/// Thresholds that are tried; 93 is the closed form of routing.md 4.9 for the reference system.
const GRID: [usize; 14] = [0, 1, 2, 3, 5, 8, 12, 16, 24, 32, 48, 64, 93, 128];
/// Backlogs from which SuperServe's rules drop early, that are tried.
const CROWDS: [usize; 4] = [8, 64, 256, usize::MAX];
/// Model-Switching's limit on violations.
const VIOLATIONS: f64 = 0.01;

/// Tunes the rivals for a workload.
pub(crate) fn tune(workload: &Workload, jobs: usize) -> Tuned {
    let jobs = workload.jobs.unwrap_or(jobs).min(jobs);
    let world = &workload.world;
    let runs: Vec<Arrivals> = (0..2).map(|i| Arrivals::new(&workload.shape, world, jobs, SEED + i)).collect();
    Tuned {
        threshold: best(world, &runs, &GRID, |threshold| AtWorker { threshold }),
        crowds: FITS.map(|(_, fit)| best(world, &runs, &CROWDS, |crowd| SlackFit::new(fit, world, crowd))),
        carries: carries(world, jobs),
    }
}

/// The number of a grid with which a policy has the highest effective accuracy.
fn best<P: Policy>(world: &World, runs: &[Arrivals], grid: &[usize], make: impl Fn(usize) -> P) -> usize {
    let score = |number: usize| -> f64 {
        let of = |arrivals: &Arrivals| run(world, arrivals, &mut make(number), SEED, false).score.all.effective();
        runs.iter().map(of).sum()
    };
    let scores = grid.iter().map(|number| (score(*number), *number));
    scores.fold((f64::MIN, 5), |best, next| if next.0 > best.0 { next } else { best }).1
}

fn carries(world: &World, jobs: usize) -> [f64; MAX_TIERS] {
    let mut steady = world.clone();
    steady.changes.clear();
    steady.accuracies.clear();
    let mut carries = [0.0; MAX_TIERS];
    for (tier, carried) in carries.iter_mut().enumerate().take(world.tiers.len()) {
        let full = world.capacity(tier);
        let holds = |load: f64| {
            let shape = Shape::Poisson { load: load * full / world.capacity(0) };
            let arrivals = Arrivals::new(&shape, &steady, jobs.min((load * full * 20.0) as usize).max(1_000), SEED);
            run(&steady, &arrivals, &mut Fixed { tier }, SEED, false).score.all.attainment() >= 1.0 - VIOLATIONS
        };
        let (mut low, mut high) = (0.0, 1.2);
        for _ in 0..7 {
            let middle = f64::midpoint(low, high);
            if holds(middle) {
                low = middle;
            } else {
                high = middle;
            }
        }
        *carried = low * full;
    }
    carries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tier_carries_less_than_its_capacity_and_more_than_half() {
        let world = World::reference();
        let carries = carries(&world, 20_000);
        for (tier, carried) in carries.iter().enumerate().take(2) {
            let share = carried / world.capacity(tier);
            // A little over 1: a short run ends before its queue is too long.
            assert!((0.5..1.05).contains(&share), "{tier}: {share}");
        }
    }
}
