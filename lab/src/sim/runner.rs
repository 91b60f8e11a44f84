//! Runs every policy on every workload and seed, on all cores, and gathers the figures.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::bound;
use super::engine::{Outcome, run};
use super::policy::catalog::make;
use super::tune::tune;
use super::workload::Arrivals;
use super::workload::catalog::Workload;
use super::world::World;

/// The figures of one run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Figures {
    /// Effective accuracy over all offered value, 0 to 1.
    pub(crate) effective: f64,
    /// Share answered in time.
    pub(crate) attainment: f64,
    /// Mean accuracy of what was answered in time.
    pub(crate) on_time_accuracy: f64,
    /// Largest drop of accuracy in a window of 10 s, below the dearest tier's.
    pub(crate) accuracy_drop: f64,
    /// Share not answered in time, of the arrivals in a burst's first seconds; NaN without bursts.
    pub(crate) burst_violations: f64,
    /// Effective accuracy of the same arrivals; NaN without bursts.
    pub(crate) burst_effective: f64,
    /// Effective accuracy of the last third.
    pub(crate) last_effective: f64,
    /// Half of all answers came within, in milliseconds.
    pub(crate) p50_ms: f64,
    /// 99 of 100 answers came within, in milliseconds.
    pub(crate) p99_ms: f64,
    /// Share refused at the edge.
    pub(crate) refused: f64,
    /// Share answered by the dearest tier.
    pub(crate) dear: f64,
    /// Share answered by another tier than hinted.
    pub(crate) rebound: f64,
    /// Changes of direction of the published split, a minute.
    pub(crate) turns_a_minute: f64,
}

impl Figures {
    /// What a run's score says.
    pub(crate) fn of(outcome: &Outcome, world: &World) -> Self {
        let score = &outcome.score;
        let answered: u64 = score.by_tier.iter().sum();
        let offered = score.all.offered.max(1) as f64;
        let best = world.tiers.iter().map(|tier| tier.accuracy).fold(0.0, f64::max);
        let burst = score.bursts.offered > 0;
        Self {
            effective: score.all.effective(),
            attainment: score.all.attainment(),
            on_time_accuracy: score.all.accuracy / score.all.on_time.max(1) as f64,
            accuracy_drop: score.accuracy_drop(best),
            burst_violations: if burst { 1.0 - score.bursts.attainment() } else { f64::NAN },
            burst_effective: if burst { score.bursts.effective() } else { f64::NAN },
            last_effective: score.last.effective(),
            p50_ms: score.answer_ms(0.5),
            p99_ms: score.answer_ms(0.99),
            refused: score.refused as f64 / offered,
            dear: score.by_tier[world.tiers.len() - 1] as f64 / answered.max(1) as f64,
            rebound: score.rebound as f64 / answered.max(1) as f64,
            turns_a_minute: score.turns as f64 * 60.0 / score.seconds().max(1e-9),
        }
    }
}

/// All runs of one workload.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    /// The workload.
    pub(crate) workload: Workload,
    /// The bound of each seed.
    pub(crate) bounds: Vec<f64>,
    /// By policy, then by seed.
    pub(crate) runs: Vec<Vec<Figures>>,
}

/// What to run.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    /// Names of policies.
    pub(crate) policies: &'a [&'static str],
    /// Seeds, from 0.
    pub(crate) seeds: usize,
    /// Arrivals a run, about.
    pub(crate) jobs: usize,
    /// Cores to use.
    pub(crate) threads: usize,
}

/// How long simulating took.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Speed {
    /// Simulated jobs, over all policies.
    pub(crate) jobs: u64,
    /// Time of all cores, added.
    pub(crate) took: Duration,
}

impl Speed {
    /// Seconds of one core for a million jobs.
    pub(crate) fn seconds_a_million(&self) -> f64 {
        self.took.as_secs_f64() * 1e6 / self.jobs.max(1) as f64
    }
}

/// What one workload and seed gave: its bound, its figures by policy, its jobs.
type Unit = (f64, Vec<Figures>, u64);

/// Runs all; `step` is told of each run that is done.
pub(crate) fn compare(workloads: &[Workload], job: &Job<'_>, step: &(dyn Fn() + Sync)) -> (Vec<Cell>, Speed) {
    let tuned = spread(workloads.len(), job.threads, &|at| tune(&workloads[at], job.jobs.min(40_000)));
    let simulated = Mutex::new(Speed::default());
    let units: Vec<Unit> = spread(workloads.len() * job.seeds, job.threads, &|at| {
        let (workload, seed) = (&workloads[at / job.seeds], at % job.seeds);
        let jobs = workload.jobs.unwrap_or(job.jobs);
        let arrivals = Arrivals::new(&workload.shape, &workload.world, jobs, seed as u64);
        let bound = bound::effective(&workload.world, &arrivals);
        let begun = Instant::now();
        let figures = job.policies.iter().map(|name| {
            let mut policy = make(name, &workload.world, &tuned[at / job.seeds]);
            let outcome = run(&workload.world, &arrivals, policy.as_mut(), seed as u64, false);
            step();
            Figures::of(&outcome, &workload.world)
        });
        let figures: Vec<Figures> = figures.collect();
        if let Ok(mut speed) = simulated.lock() {
            speed.jobs += (arrivals.jobs.len() * job.policies.len()) as u64;
            speed.took += begun.elapsed();
        }
        (bound, figures, arrivals.jobs.len() as u64)
    });
    let cells = workloads.iter().zip(units.chunks(job.seeds.max(1))).map(|(workload, units)| Cell {
        workload: workload.clone(),
        bounds: units.iter().map(|unit| unit.0).collect(),
        runs: (0..job.policies.len()).map(|policy| units.iter().map(|unit| unit.1[policy]).collect()).collect(),
    });
    let cells = cells.collect();
    (cells, simulated.into_inner().unwrap_or_default())
}

/// Does `of(0)` to `of(n - 1)` on some threads; results in that order.
fn spread<T: Send>(n: usize, threads: usize, of: &(dyn Fn(usize) -> T + Sync)) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let mut done: Vec<(usize, T)> = std::thread::scope(|scope| {
        let work = || {
            let mut done = Vec::new();
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                if at >= n {
                    return done;
                }
                done.push((at, of(at)));
            }
        };
        let threads: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        let joined =
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        joined.flatten().collect()
    });
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}
