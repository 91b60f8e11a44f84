//! What a policy is in the simulator: a planner's turn, a decision at the edge, a worker's choice.
//!
//! Owns the seam. What a policy may see is what a real one could see, and no more: the edge a
//! snapshot of some age, a worker what it claimed and what waits behind it.

pub(crate) mod batching;
pub(crate) mod catalog;
pub(crate) mod fixed;
pub(crate) mod gears;
pub(crate) mod slack;
pub(crate) mod threshold;

use super::queue::{Claimed, Queue};
use super::world::{MAX_CLASSES, MAX_TIERS, World};

/// What the planner sees, and what a snapshot carries.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Seen {
    /// Which snapshot, from 1.
    pub(crate) seq: u64,
    /// When it was made, in microseconds.
    pub(crate) at_us: u64,
    /// Workers believed to live.
    pub(crate) alive: usize,
    /// Jobs that wait, by hinted tier.
    pub(crate) waiting: [u32; MAX_TIERS],
    /// Jobs claimed and not finished, by the tier they run on (or are hinted to).
    pub(crate) running: [u32; MAX_TIERS],
    /// Jobs that came since the last snapshot, by hinted tier.
    pub(crate) arrived: [u32; MAX_TIERS],
    /// The same by class.
    pub(crate) arrived_classes: [u32; MAX_CLASSES],
    /// Jobs answered since the last snapshot, by the tier that answered.
    pub(crate) answered: [u32; MAX_TIERS],
    /// Variance over mean of the arrivals in slices of 10 ms since the last snapshot.
    pub(crate) dispersion: f64,
    /// The longest that any job has waited, in microseconds.
    pub(crate) oldest_us: u64,
    /// Share of the live workers' time that was busy since the last snapshot.
    pub(crate) busy: f64,
    /// How fast the live workers are, as they measure it: below 1 where one is slower than its profile.
    pub(crate) pace: f64,
}

/// A job at the edge.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EdgeJob {
    /// Which job.
    pub(crate) job: u32,
    /// Its class.
    pub(crate) class: usize,
    /// Now, in microseconds.
    pub(crate) now_us: u64,
    /// The run's seed, for numbers that belong to the job.
    pub(crate) seed: u64,
}

/// What an isolate knows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Picture<'a> {
    /// The newest snapshot it has got.
    pub(crate) seen: Option<&'a Seen>,
    /// That snapshot's age, in microseconds.
    pub(crate) age_us: u64,
    /// What this isolate has sent since, by tier.
    pub(crate) sent: &'a [u32; MAX_TIERS],
}

/// The edge's decision.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Choice {
    /// The tier the job is meant for.
    pub(crate) tier: usize,
    /// The chance that it got this tier.
    pub(crate) propensity: f64,
    /// Refused: it never enters the queue.
    pub(crate) refused: bool,
}

impl Choice {
    /// A tier for sure.
    pub(crate) const fn sure(tier: usize) -> Self {
        Self { tier, propensity: 1.0, refused: false }
    }
}

/// What a worker knows when it is free.
#[derive(Debug)]
pub(crate) struct Bench<'a> {
    /// Now, in microseconds.
    pub(crate) now_us: u64,
    /// Which worker.
    pub(crate) worker: usize,
    /// How many times longer than its profile this worker's batches have been taking.
    pub(crate) pace: f64,
    /// The one tier it has, where pools are dedicated.
    pub(crate) only: Option<usize>,
    /// Workers believed to live, this one included.
    pub(crate) alive: usize,
    /// What waits behind the jobs it holds.
    pub(crate) queue: &'a Queue,
    /// The system.
    pub(crate) world: &'a World,
}

/// What a worker will do with the jobs it holds; places in the slice it was given.
#[derive(Debug, Default)]
pub(crate) struct Batches {
    /// Cannot be answered in time any more.
    pub(crate) expired: Vec<u16>,
    /// Tier and number of jobs of each batch, in order.
    pub(crate) runs: Vec<(u8, u16)>,
    /// The jobs of all batches, one after the other.
    pub(crate) order: Vec<u16>,
    /// Do nothing, and look again at this moment or when a job comes.
    pub(crate) wait_until_us: Option<u64>,
}

impl Batches {
    /// Forgets all, keeps the room.
    pub(crate) fn clear(&mut self) {
        self.expired.clear();
        self.runs.clear();
        self.order.clear();
        self.wait_until_us = None;
    }

    /// Adds a batch of jobs that stand one after the other.
    pub(crate) fn run(&mut self, tier: usize, jobs: std::ops::Range<usize>) {
        if !jobs.is_empty() {
            self.runs.push((tier as u8, jobs.len() as u16));
            self.order.extend(jobs.map(|place| place as u16));
        }
    }
}

/// A label that became known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Label {
    /// Now, in microseconds.
    pub(crate) now_us: u64,
    /// When the job came, in microseconds.
    pub(crate) job_us: u64,
    /// The tier that answered.
    pub(crate) tier: usize,
    /// Was it right?
    pub(crate) correct: bool,
    /// The chance with which the edge chose that tier; none where a worker did.
    pub(crate) propensity: Option<f64>,
}

/// A routing policy.
pub(crate) trait Policy {
    /// Looks at the whole system, once a period; `Picture::seen` is what it saw.
    fn tick(&mut self, _seen: &Seen, _world: &World) {}

    /// Chooses a job's tier at the edge.
    fn edge(&mut self, job: EdgeJob, picture: Picture<'_>, world: &World) -> Choice;

    /// How many jobs a free worker wants to hold; it holds `held`.
    fn claim(&mut self, bench: &Bench<'_>, held: usize) -> usize;

    /// The lane of the queue from which a free worker claims its next job; it holds `held`.
    fn pick(&mut self, bench: &Bench<'_>, _held: &[Claimed]) -> Option<usize> {
        bench.queue.most_urgent(bench.only)
    }

    /// What a free worker does with what it holds, most urgent first.
    fn work(&mut self, held: &[Claimed], bench: &Bench<'_>, out: &mut Batches);

    /// After a batch: are the jobs not yet run bound anew (kept), or is the plan carried out?
    fn binds_anew(&self) -> bool {
        false
    }

    /// A label.
    fn label(&mut self, _label: Label) {}

    /// The share of the dearest tier that is published, where the policy has one.
    fn split(&self) -> Option<f64> {
        None
    }
}
