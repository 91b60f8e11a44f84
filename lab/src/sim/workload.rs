//! Who comes when: the arrivals of a run, made from a shape, a system and a seed.
//!
//! Owns the shapes' names and what is the same for all of them: classes, isolates, the scored
//! window. Which shape a workload has and what goes wrong in it is `catalog`'s.

pub(crate) mod catalog;
pub(crate) mod shape;
pub(crate) mod trace;

use super::rng::{of_job, salt};
use super::world::World;
pub(crate) use shape::Shape;

/// Salt of a job's class; `rng::salt` has the others.
const CLASS: u64 = 11;
/// Share of a run's length that is not scored, at most [`WARM_UP_US`].
const WARM_UP: f64 = 0.1;
const WARM_UP_US: u64 = 3_000_000;

/// One job's arrival at the edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// When, in microseconds.
    pub(crate) at_us: u64,
    /// The isolate it comes to.
    pub(crate) isolate: u16,
    /// Its class.
    pub(crate) class: u8,
}

/// All arrivals of a run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Arrivals {
    /// In order of time.
    pub(crate) jobs: Vec<Arrival>,
    /// Jobs that come before this are not scored (microseconds).
    pub(crate) from_us: u64,
    /// Nor those that come at this moment or later.
    pub(crate) until_us: u64,
    /// Where the last part of the window begins.
    pub(crate) last_from_us: u64,
    /// The first seconds of each burst.
    pub(crate) bursts: Vec<(u64, u64)>,
}

impl Arrivals {
    /// The arrivals of a shape: about `jobs` of them.
    pub(crate) fn new(shape: &Shape, world: &World, jobs: usize, seed: u64) -> Self {
        let made = shape.times(world, jobs, seed);
        let length_us = made.times.last().map_or(0, |last| last + 1);
        let jobs = made.times.iter().enumerate().map(|(job, at_us)| Arrival {
            at_us: *at_us,
            isolate: (of_job(seed, job as u32, salt::ISOLATE) * f64::from(world.delivery.isolates)) as u16,
            class: class_of(world, of_job(seed, job as u32, CLASS)),
        });
        Self {
            jobs: jobs.collect(),
            from_us: ((length_us as f64 * WARM_UP) as u64).min(WARM_UP_US),
            until_us: length_us,
            last_from_us: length_us - length_us / 3,
            bursts: made.bursts,
        }
    }

    /// Mean arrivals a second.
    #[cfg(test)]
    pub(crate) fn rate(&self) -> f64 {
        self.jobs.len() as f64 * 1e6 / self.until_us.max(1) as f64
    }
}

fn class_of(world: &World, draw: f64) -> u8 {
    let mut sum = 0.0;
    let place = world.classes.iter().position(|class| {
        sum += class.share;
        draw < sum
    });
    place.unwrap_or(world.classes.len().saturating_sub(1)) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_are_the_same_for_the_same_seed_only() {
        let world = World::reference();
        let make = |seed| Arrivals::new(&Shape::Bursty { load: 0.5, cv2: 8.0 }, &world, 20_000, seed);
        assert_eq!(make(1), make(1));
        assert_ne!(make(1), make(2));
        let arrivals = make(1);
        assert!(arrivals.jobs.is_sorted_by_key(|job| job.at_us));
        assert!(arrivals.jobs.iter().all(|job| job.isolate < 64));
        assert!((arrivals.rate() / (0.5 * world.capacity(0)) - 1.0).abs() < 0.1, "{}", arrivals.rate());
    }
}
