//! A simulated worker: what it holds, what it runs, how fast it seems to itself.

use super::policy::{Batches, Bench};
use super::queue::{Claimed, Queue};
use super::world::World;

/// How much of each new duration goes into the pace a worker believes in.
const PACE_GAIN: f64 = 0.1;

/// One worker.
#[derive(Debug)]
pub(crate) struct Worker {
    /// Does it live?
    pub(crate) alive: bool,
    /// Grows when it dies: what was begun before does not end.
    pub(crate) life: u32,
    /// The one tier it has, where pools are dedicated.
    pub(crate) only: Option<usize>,
    /// How many times longer than the profile its batches take.
    pub(crate) true_pace: f64,
    /// What it has measured of that.
    pub(crate) pace: f64,
    /// Claimed and not in any batch yet.
    pub(crate) held: Vec<Claimed>,
    /// When it will look again, if it waits.
    pub(crate) wakes_at: Option<u64>,
    /// Jobs of the batches to run; those before `at` are done.
    todo: Vec<Claimed>,
    runs: Vec<(u8, u16)>,
    at: usize,
    run: usize,
    taken: Vec<bool>,
}

impl Worker {
    /// A worker with nothing to do.
    pub(crate) fn new(only: Option<usize>) -> Self {
        Self {
            alive: true,
            life: 0,
            only,
            true_pace: 1.0,
            pace: 1.0,
            held: Vec::with_capacity(64),
            wakes_at: None,
            todo: Vec::with_capacity(64),
            runs: Vec::with_capacity(16),
            at: 0,
            run: 0,
            taken: Vec::with_capacity(64),
        }
    }

    /// Has it neither a batch nor a job?
    pub(crate) fn rests(&self) -> bool {
        !self.has_run() && self.held.is_empty()
    }

    /// Is there a batch to run?
    pub(crate) fn has_run(&self) -> bool {
        self.run < self.runs.len()
    }

    /// The batch to run: its tier and its jobs.
    pub(crate) fn running(&self) -> (usize, &[Claimed]) {
        let (tier, jobs) = self.runs[self.run];
        (usize::from(tier), &self.todo[self.at..self.at + usize::from(jobs)])
    }

    /// The batch is done.
    pub(crate) fn next_run(&mut self) {
        self.at += usize::from(self.runs[self.run].1);
        self.run += 1;
    }

    /// Takes the batches of a decision out of what it holds: all, or the first only.
    pub(crate) fn take(&mut self, out: &Batches, first_only: bool) {
        self.taken.clear();
        self.taken.resize(self.held.len(), false);
        for place in &out.expired {
            self.taken[usize::from(*place)] = true;
        }
        self.todo.clear();
        self.runs.clear();
        (self.at, self.run) = (0, 0);
        let runs = if first_only { &out.runs[..out.runs.len().min(1)] } else { &out.runs[..] };
        let jobs: usize = runs.iter().map(|(_, jobs)| usize::from(*jobs)).sum();
        for place in &out.order[..jobs] {
            let place = usize::from(*place);
            debug_assert!(!self.taken[place], "a job in two batches");
            self.taken[place] = true;
            self.todo.push(self.held[place]);
        }
        self.runs.extend_from_slice(runs);
        let mut place = 0;
        self.held.retain(|_| {
            place += 1;
            !self.taken[place - 1]
        });
    }

    /// A batch took so many times what its profile says.
    pub(crate) fn measure(&mut self, ratio: f64) {
        self.pace += PACE_GAIN * (ratio - self.pace);
    }

    /// It dies.
    pub(crate) fn stop(&mut self) {
        self.alive = false;
        self.life += 1;
    }

    /// What a dead worker had and did not finish.
    pub(crate) fn surrender(&mut self) -> Vec<Claimed> {
        let mut lost = self.todo.split_off(self.at);
        lost.append(&mut self.held);
        self.runs.clear();
        (self.at, self.run) = (0, 0);
        self.todo.clear();
        lost.sort_unstable_by_key(|job| (job.finish_by_us, job.job));
        lost
    }
}

/// What a free worker knows of itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Free {
    /// Now, in microseconds.
    pub(crate) now_us: u64,
    /// Which worker.
    pub(crate) worker: usize,
    /// How many times longer than its profile its batches take.
    pub(crate) pace: f64,
    /// The one tier it has, where pools are dedicated.
    pub(crate) only: Option<usize>,
    /// Workers believed to live.
    pub(crate) alive: usize,
}

impl Free {
    /// With the queue before it.
    pub(crate) const fn bench<'a>(self, queue: &'a Queue, world: &'a World) -> Bench<'a> {
        let Self { now_us, worker, pace, only, alive } = self;
        Bench { now_us, worker, pace, only, alive, queue, world }
    }
}
