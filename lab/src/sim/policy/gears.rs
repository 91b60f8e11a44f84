//! Rules that follow the arrival rate: one tier for all jobs until the next look at the load.
//!
//! Model-Switching, CascadeServe's gears (without its cascade) and Jellyfish. All get the load and
//! the queue fresh, and switch at the worker: no job that waits is bound to yesterday's choice.

use super::batching::{drop_lost, serve};
use super::{Batches, Bench, Choice, EdgeJob, Picture, Policy};
use crate::sim::queue::Claimed;
use crate::sim::world::World;

/// CascadeServe's α: no upward change while the rate is below so many times the backlog.
const GUARD: f64 = 8.0;
/// Jellyfish's and Proteus's headroom.
pub(crate) const HEADROOM: f64 = 1.05;

/// Which rule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Rule {
    /// The dearest tier while the last second's rate is below the largest it carries with 1 % of violations.
    ModelSwitching {
        /// That rate of each tier, in jobs a second.
        carries: [f64; super::MAX_TIERS],
    },
    /// The same rates, looked at each 100 ms, with a guard on the backlog.
    CascadeGear {
        /// As above.
        carries: [f64; super::MAX_TIERS],
    },
    /// The most accurate tier with a batch that is over in half of the deadline and carries the rate.
    Jellyfish,
}

/// A rule and the load it sees.
#[derive(Debug)]
pub(crate) struct Gears {
    rule: Rule,
    window: Window,
    tier: usize,
    batch: usize,
    smooth: f64,
    /// What waited when a worker was last free.
    waiting: usize,
}

/// Arrivals of the last full window.
#[derive(Debug)]
pub(crate) struct Window {
    length_us: u64,
    started_us: u64,
    count: u32,
}

impl Window {
    /// Windows of that length.
    pub(crate) const fn new(length_us: u64) -> Self {
        Self { length_us, started_us: 0, count: 0 }
    }

    /// Counts an arrival; at the end of a window, the window's rate in jobs a second.
    pub(crate) fn count(&mut self, now_us: u64) -> Option<f64> {
        let over = now_us.saturating_sub(self.started_us) >= self.length_us;
        let passed = (now_us.saturating_sub(self.started_us)) / self.length_us.max(1);
        let rate = over.then(|| f64::from(self.count) * 1e6 / (passed.max(1) * self.length_us) as f64);
        if over {
            self.started_us += passed * self.length_us;
            self.count = 0;
        }
        self.count += 1;
        rate
    }
}

impl Gears {
    /// A rule that has seen nothing: it begins with the fastest tier.
    pub(crate) fn new(rule: Rule) -> Self {
        let length_us = if matches!(rule, Rule::CascadeGear { .. }) { 100_000 } else { 1_000_000 };
        Self { rule, window: Window::new(length_us), tier: 0, batch: usize::MAX, smooth: 0.0, waiting: 0 }
    }

    fn follow(&mut self, rate: f64, world: &World) {
        let best_of = |carries: &[f64]| (0..world.tiers.len()).rev().find(|tier| rate <= carries[*tier]).unwrap_or(0);
        match &self.rule {
            Rule::ModelSwitching { carries } => self.tier = best_of(carries),
            Rule::CascadeGear { carries } => {
                let best = best_of(carries);
                if best <= self.tier || rate >= GUARD * self.waiting as f64 {
                    self.tier = best;
                }
            }
            Rule::Jellyfish => {
                self.smooth = if self.smooth > 0.0 { 0.5 * (self.smooth + rate) } else { rate };
                let half = world.shortest_deadline_us() as f64 / 2.0;
                let needed = HEADROOM * self.smooth / world.workers as f64;
                let carried = |tier: usize| {
                    let spec = &world.tiers[tier];
                    let batch = spec.fits(half);
                    (batch > 0 && batch as f64 * 1e6 / spec.batch_us(batch) >= needed).then_some((tier, batch))
                };
                let choice = (0..world.tiers.len()).rev().find_map(carried);
                (self.tier, self.batch) = choice.unwrap_or((0, usize::MAX));
            }
        }
    }
}

impl Policy for Gears {
    fn edge(&mut self, job: EdgeJob, _picture: Picture<'_>, world: &World) -> Choice {
        if let Some(rate) = self.window.count(job.now_us) {
            self.follow(rate, world);
        }
        Choice::sure(0)
    }

    fn claim(&mut self, bench: &Bench<'_>, _held: usize) -> usize {
        self.waiting = bench.queue.len(None);
        bench.world.tiers[self.tier].cap.min(self.batch)
    }

    fn work(&mut self, held: &[Claimed], bench: &Bench<'_>, out: &mut Batches) {
        serve(self.tier, held, bench, out);
    }
}

/// Proteus for two tiers: how many workers have the dearest tier, decided every 10 s or when a burst comes.
///
/// Its batching waits: as long as the first job allows one row more.
#[derive(Debug)]
pub(crate) struct Proteus {
    window: Window,
    since_plan: u32,
    smooth: f64,
    dear_workers: usize,
    dear_share: f64,
    capacity: f64,
    alive: Option<usize>,
}

/// Seconds between two plans.
const PLAN_EVERY: u32 = 10;
/// Weight of the newest second: a centre of mass of 1.6.
const NEWEST: f64 = 1.0 / 2.6;

impl Proteus {
    /// A planner that has seen nothing: all workers have the fastest tier.
    pub(crate) const fn new() -> Self {
        Self {
            window: Window::new(1_000_000),
            since_plan: PLAN_EVERY,
            smooth: 0.0,
            dear_workers: 0,
            dear_share: 0.0,
            capacity: 0.0,
            alive: None,
        }
    }

    fn batch(tier: usize, world: &World) -> usize {
        world.tiers[tier].fits(world.shortest_deadline_us() as f64 / 2.0).max(1)
    }

    fn plan(&mut self, workers: usize, world: &World) {
        let dearest = world.tiers.len() - 1;
        let rate = |tier: usize| {
            let batch = Self::batch(tier, world);
            batch as f64 * 1e6 / world.tiers[tier].batch_us(batch)
        };
        let (dear, fast) = (rate(dearest), rate(0));
        let carried = |dear_workers: usize| dear_workers as f64 * dear + (workers - dear_workers) as f64 * fast;
        self.dear_workers = (0..=workers).rev().find(|n| carried(*n) >= HEADROOM * self.smooth).unwrap_or(0);
        self.capacity = carried(self.dear_workers);
        self.dear_share = (self.dear_workers as f64 * dear / self.smooth.max(1e-9)).min(1.0);
        self.since_plan = 0;
    }

    fn tier_of(&self, bench: &Bench<'_>) -> usize {
        // The first ones; those that die in the workloads are the last.
        if bench.worker < self.dear_workers { bench.world.tiers.len() - 1 } else { 0 }
    }
}

impl Policy for Proteus {
    fn tick(&mut self, seen: &super::Seen, world: &World) {
        if self.alive.replace(seen.alive).is_some_and(|before| before != seen.alive) {
            self.plan(seen.alive, world);
        }
    }

    fn edge(&mut self, job: EdgeJob, _picture: Picture<'_>, world: &World) -> Choice {
        if let Some(rate) = self.window.count(job.now_us) {
            self.smooth = if self.smooth > 0.0 { self.smooth + NEWEST * (rate - self.smooth) } else { rate };
            self.since_plan += 1;
            let burst = rate > self.capacity;
            if burst {
                self.smooth = self.smooth.max(rate);
            }
            if burst || self.since_plan >= PLAN_EVERY {
                self.plan(self.alive.unwrap_or(world.workers), world);
            }
        }
        let draw = crate::sim::rng::of_job(job.seed, job.job, crate::sim::rng::salt::ROUTE);
        Choice::sure(if draw < self.dear_share { world.tiers.len() - 1 } else { 0 })
    }

    fn pick(&mut self, bench: &Bench<'_>, _held: &[Claimed]) -> Option<usize> {
        let own = self.tier_of(bench);
        let shared = 0 < self.dear_workers && self.dear_workers < bench.alive;
        // Where nobody has the other tier any more, what waits for it is served with this one.
        let from = Some(own).filter(|own| shared || bench.queue.len(Some(*own)) > 0);
        bench.queue.most_urgent(from)
    }

    fn claim(&mut self, bench: &Bench<'_>, _held: usize) -> usize {
        Self::batch(self.tier_of(bench), bench.world)
    }

    fn work(&mut self, held: &[Claimed], bench: &Bench<'_>, out: &mut Batches) {
        let tier = self.tier_of(bench);
        let spec = &bench.world.tiers[tier];
        if drop_lost(tier, spec.cap, held, bench, out) {
            return;
        }
        let full = Self::batch(tier, bench.world);
        let next = spec.batch_us((held.len() + 1).min(spec.cap)) * bench.pace * (1.0 + 2.0 * bench.world.noise);
        let latest = held[0].finish_by_us.saturating_sub(next as u64);
        if held.len() >= full || bench.now_us >= latest {
            out.run(tier, 0..held.len().min(full));
        } else {
            out.wait_until_us = Some(latest);
        }
    }
}
