//! What a simulated system is made of: tiers, workers, classes of jobs, snapshots, and what goes wrong when.
//!
//! Owns plain descriptions. Arrivals are `workload`'s, what happens is `engine`'s.

/// Most tiers a simulated task may have.
pub(crate) const MAX_TIERS: usize = 4;
/// Most classes of jobs.
pub(crate) const MAX_CLASSES: usize = 6;
/// Most workers; idle ones are bits of one word.
pub(crate) const MAX_WORKERS: usize = 64;

/// One model: what a batch costs and how often it is right.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Tier {
    /// Fixed part of a batch, in microseconds.
    pub(crate) alpha_us: f64,
    /// Cost of each row of a batch, in microseconds.
    pub(crate) beta_us: f64,
    /// Largest batch.
    pub(crate) cap: usize,
    /// Share of right answers, 0 to 1.
    pub(crate) accuracy: f64,
}

impl Tier {
    /// Duration of a batch of `n` rows, `n` at most the cap, in microseconds.
    pub(crate) fn batch_us(&self, n: usize) -> f64 {
        if n == 0 { 0.0 } else { self.alpha_us + self.beta_us * n as f64 }
    }

    /// Duration of `n` rows in as few batches as the cap allows, in microseconds.
    pub(crate) fn many_us(&self, n: usize) -> f64 {
        n.div_ceil(self.cap.max(1)) as f64 * self.alpha_us + self.beta_us * n as f64
    }

    /// Time of one worker that a job costs in full batches, in microseconds.
    pub(crate) fn per_job_us(&self) -> f64 {
        self.batch_us(self.cap) / self.cap as f64
    }

    /// The largest batch that is over within `us`, up to the cap; 0 when not even one row is.
    pub(crate) fn fits(&self, us: f64) -> usize {
        if us < self.batch_us(1) {
            return 0;
        }
        let rows = (us - self.alpha_us) / self.beta_us.max(1e-9);
        (rows.floor().max(1.0) as usize).min(self.cap)
    }
}

/// A kind of job.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Class {
    /// Share of all arrivals, 0 to 1; shares add up to 1.
    pub(crate) share: f64,
    /// From the arrival at the edge to the last moment an answer helps, in microseconds.
    pub(crate) deadline_us: u64,
    /// What a right answer in time is worth.
    pub(crate) value: f64,
}

/// What may change about a worker.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Change {
    /// It dies; what it ran comes back to the queue later.
    Die,
    /// It takes this many times as long as its profile says.
    Pace(f64),
}

/// How load reaches the edge.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Delivery {
    /// Between two snapshots, in microseconds.
    pub(crate) period_us: u64,
    /// From a snapshot's making until an isolate has it, in microseconds.
    pub(crate) age_us: u64,
    /// Isolates that share the arrivals evenly, at random.
    pub(crate) isolates: u32,
    /// Share of snapshots that an isolate never gets.
    pub(crate) lost: f64,
}

/// Answers whose truth becomes known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Labels {
    /// Share of answers.
    pub(crate) share: f64,
    /// From the answer to its label, in microseconds.
    pub(crate) delay_us: u64,
}

/// A whole system, but for its arrivals.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct World {
    /// Cheapest first.
    pub(crate) tiers: Vec<Tier>,
    /// Number of workers; each has every tier unless `dedicated` says otherwise.
    pub(crate) workers: usize,
    /// The one tier of each worker, where pools are dedicated.
    pub(crate) dedicated: Option<Vec<usize>>,
    /// Kinds of jobs.
    pub(crate) classes: Vec<Class>,
    /// From the edge into the queue, in microseconds.
    pub(crate) net_in_us: u64,
    /// From a worker to who asked, in microseconds.
    pub(crate) net_out_us: u64,
    /// Relative standard deviation of a batch's duration; uniform around the profile.
    pub(crate) noise: f64,
    /// From a moment on (microseconds), a tier is right this often.
    pub(crate) accuracies: Vec<(u64, usize, f64)>,
    /// What happens to which worker, when (microseconds).
    pub(crate) changes: Vec<(u64, usize, Change)>,
    /// How load reaches the edge.
    pub(crate) delivery: Delivery,
    /// Labels, where there are any.
    pub(crate) labels: Option<Labels>,
    /// Until a dead worker's jobs are handed out again, and until it counts as dead, in microseconds.
    pub(crate) lease_us: u64,
}

impl World {
    /// The reference system: 4 shared workers, a deadline of 100 ms, two tiers.
    pub(crate) fn reference() -> Self {
        let tier = |alpha_us, beta_us, accuracy| Tier { alpha_us, beta_us, cap: 8, accuracy };
        Self {
            tiers: vec![tier(1_000.0, 800.0, 0.90), tier(4_000.0, 5_000.0, 0.97)],
            workers: 4,
            dedicated: None,
            classes: vec![Class { share: 1.0, deadline_us: 100_000, value: 1.0 }],
            net_in_us: 1_000,
            net_out_us: 1_000,
            noise: 0.05,
            accuracies: Vec::new(),
            changes: Vec::new(),
            delivery: Delivery { period_us: 250_000, age_us: 50_000, isolates: 64, lost: 0.0 },
            labels: None,
            lease_us: 1_000_000,
        }
    }

    /// Jobs a second that all workers carry with one tier in full batches.
    pub(crate) fn capacity(&self, tier: usize) -> f64 {
        self.tiers.get(tier).map_or(0.0, |tier| self.workers as f64 * 1e6 / tier.per_job_us())
    }

    /// How often a tier is right at a moment.
    pub(crate) fn accuracy(&self, tier: usize, at_us: u64) -> f64 {
        let changed = self.accuracies.iter().rev().find(|(from, of, _)| *of == tier && *from <= at_us);
        changed.map_or_else(|| self.tiers[tier].accuracy, |(_, _, accuracy)| *accuracy)
    }

    /// The shortest deadline of any class, in microseconds.
    pub(crate) fn shortest_deadline_us(&self) -> u64 {
        self.classes.iter().map(|class| class.deadline_us).min().unwrap_or(0)
    }

    /// Time of all live workers between two moments, in microseconds of a worker at its profile's pace.
    pub(crate) fn capacity_between(&self, from_us: u64, until_us: u64) -> f64 {
        (0..self.workers)
            .map(|worker| {
                let (mut sum, mut at, mut speed) = (0.0, from_us, 1.0);
                for (when, _, change) in self.changes.iter().filter(|(_, of, _)| *of == worker) {
                    let when = (*when).clamp(at, until_us);
                    sum += (when - at) as f64 * speed;
                    at = when;
                    speed = match change {
                        Change::Die => 0.0,
                        Change::Pace(pace) => 1.0 / pace,
                    };
                }
                sum + until_us.saturating_sub(at) as f64 * speed
            })
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_is_the_worked_example() {
        let world = World::reference();
        assert!((world.tiers[0].per_job_us() - 925.0).abs() < 1e-9);
        assert!((world.tiers[1].per_job_us() - 5_500.0).abs() < 1e-9);
        assert_eq!(world.capacity(0).round(), 4_324.0);
        assert_eq!(world.capacity(1).round(), 727.0);
        assert_eq!(world.tiers[1].fits(20_000.0), 3);
        assert_eq!(world.tiers[1].fits(8_999.0), 0);
    }

    #[test]
    fn dead_and_slow_workers_carry_less() {
        let mut world = World::reference();
        world.changes = vec![(500, 0, Change::Die), (0, 1, Change::Pace(2.0))];
        assert!((world.capacity_between(0, 1_000) - (500.0 + 500.0 + 2_000.0)).abs() < 1e-9);
        assert!((world.capacity_between(800, 1_000) - (0.0 + 100.0 + 400.0)).abs() < 1e-9);
    }
}
