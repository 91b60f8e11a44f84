//! The shapes of load: steady, bursty, ramping, switching, or as recorded.
//!
//! A load is a share of what all workers carry with the fastest tier alone in full batches.

use std::sync::Arc;

use crate::sim::rng::Rng;
use crate::sim::world::World;

/// How long the first part of a burst is, in microseconds.
const FIRST_US: u64 = 10_000_000;

/// A shape of load.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Shape {
    /// Independent arrivals.
    Poisson {
        /// Mean load.
        load: f64,
    },
    /// One fifth at even distances, the rest with Gamma distances (SuperServe's bursty trace).
    Bursty {
        /// Mean load.
        load: f64,
        /// Squared coefficient of variation of the Gamma distances.
        cv2: f64,
    },
    /// Poisson; the load stays, climbs, stays, and falls back at once.
    Ramp {
        /// Load before.
        from: f64,
        /// Load after.
        to: f64,
        /// Growth, in jobs a second, a second.
        climb: f64,
    },
    /// Poisson that switches between two loads; sojourns are exponential.
    Switching {
        /// The low load and the high.
        loads: [f64; 2],
        /// Mean sojourn in each, in seconds.
        sojourns: [f64; 2],
    },
    /// A recorded trace, compressed to the load, beginning at a random place and going around.
    Trace {
        /// Offsets in milliseconds, spread over their ticks.
        offsets_ms: Arc<[f64]>,
        /// Mean load.
        load: f64,
    },
}

/// Times of arrival, in microseconds, and where bursts begin.
#[derive(Debug, Default)]
pub(crate) struct Made {
    /// In order.
    pub(crate) times: Vec<u64>,
    /// From and until.
    pub(crate) bursts: Vec<(u64, u64)>,
}

impl Shape {
    /// About `jobs` arrivals.
    pub(crate) fn times(&self, world: &World, jobs: usize, seed: u64) -> Made {
        let mut rng = Rng::new(seed, 0xa771_4a15);
        let full = world.capacity(0);
        match self {
            Self::Poisson { load } => {
                let mut at = 0.0;
                let times = (0..jobs).map(|_| {
                    at += rng.exponential() / (load * full);
                    micros(at)
                });
                Made { times: times.collect(), bursts: Vec::new() }
            }
            Self::Bursty { load, cv2 } => bursty(&mut rng, load * full, *cv2, jobs),
            Self::Ramp { from, to, climb } => ramp(&mut rng, from * full, to * full, *climb, jobs),
            Self::Switching { loads, sojourns } => switching(&mut rng, loads.map(|load| load * full), sojourns, jobs),
            Self::Trace { offsets_ms, load } => recorded(&mut rng, offsets_ms, load * full, jobs),
        }
    }
}

fn micros(seconds: f64) -> u64 {
    (seconds * 1e6) as u64
}

fn bursty(rng: &mut Rng, rate: f64, cv2: f64, jobs: usize) -> Made {
    let seconds = jobs as f64 / rate;
    let even = 0.2 * rate;
    let mut times: Vec<u64> = (0..(even * seconds) as u64).map(|i| micros((i as f64 + 0.5) / even)).collect();
    let mut at = 0.0;
    loop {
        at += rng.gamma(1.0 / cv2) / (0.8 * rate);
        if at >= seconds {
            break;
        }
        times.push(micros(at));
    }
    times.sort_unstable();
    Made { times, bursts: Vec::new() }
}

/// Half of the jobs before and while it climbs, the others after; a fifth of the time low again.
fn ramp(rng: &mut Rng, low: f64, high: f64, climb: f64, jobs: usize) -> Made {
    let climbing = (high - low) / climb;
    let steady = (jobs as f64 - climbing * (low + high) / 2.0).max(jobs as f64 * 0.4);
    // `high` for `hold`, `low` for `hold` before, and for half of it after.
    let hold = steady / (high + 1.5 * low);
    let end = 2.5 * hold + climbing;
    let rate = |at: f64| match at {
        at if at < hold => low,
        at if at < hold + climbing => low + (at - hold) * climb,
        at if at < 2.0 * hold + climbing => high,
        _ => low,
    };
    let times = thinned(rng, high, end, rate);
    let (from, until) = (micros(hold), micros(2.0 * hold + climbing));
    Made { times, bursts: vec![(from, until.min(from + FIRST_US))] }
}

/// A Poisson process of changing rate, by thinning one of the highest rate.
fn thinned(rng: &mut Rng, highest: f64, end: f64, rate: impl Fn(f64) -> f64) -> Vec<u64> {
    let mut times = Vec::new();
    let mut at = 0.0;
    loop {
        at += rng.exponential() / highest;
        if at >= end {
            return times;
        }
        if rng.unit() * highest < rate(at) {
            times.push(micros(at));
        }
    }
}

fn switching(rng: &mut Rng, rates: [f64; 2], sojourns: &[f64; 2], jobs: usize) -> Made {
    let mut made = Made::default();
    let mean = (rates[0] * sojourns[0] + rates[1] * sojourns[1]) / (sojourns[0] + sojourns[1]);
    let end = jobs as f64 / mean;
    let (mut at, mut state) = (0.0, 0);
    while at < end {
        let until = (at + rng.exponential() * sojourns[state]).min(end);
        if state == 1 {
            made.bursts.push((micros(at), micros(until).min(micros(at) + FIRST_US)));
        }
        loop {
            at += rng.exponential() / rates[state];
            if at >= until {
                break;
            }
            made.times.push(micros(at));
        }
        at = until;
        state = 1 - state;
    }
    made
}

fn recorded(rng: &mut Rng, offsets_ms: &[f64], rate: f64, jobs: usize) -> Made {
    let (Some(first), Some(last)) = (offsets_ms.first(), offsets_ms.last()) else {
        return Made::default();
    };
    // Around the end goes one mean distance.
    let length = (last - first) * (1.0 + 1.0 / offsets_ms.len() as f64);
    let scale = offsets_ms.len() as f64 / (rate * length.max(f64::MIN_POSITIVE));
    let begin = (rng.unit() * offsets_ms.len() as f64) as usize;
    let times = (begin..begin + jobs).map(|place| {
        let round = (place / offsets_ms.len()) as f64;
        let offset = offsets_ms[place % offsets_ms.len()] - first + round * length;
        micros((offset - (offsets_ms[begin] - first)) * scale)
    });
    Made { times: times.collect(), bursts: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate_between(times: &[u64], from: f64, until: f64) -> f64 {
        times.iter().filter(|at| (micros(from)..micros(until)).contains(at)).count() as f64 / (until - from)
    }

    #[test]
    fn poisson_distances_have_a_variation_of_one_and_bursty_ones_more() {
        let world = World::reference();
        let cv2 = |shape: Shape| {
            let times = shape.times(&world, 50_000, 3).times;
            let distances: Vec<f64> = times.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
            let mean = distances.iter().sum::<f64>() / distances.len() as f64;
            distances.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / distances.len() as f64 / mean / mean
        };
        assert!((cv2(Shape::Poisson { load: 0.5 }) - 1.0).abs() < 0.05);
        // The even fifth between them takes some of the 8 away.
        assert!(cv2(Shape::Bursty { load: 0.5, cv2: 8.0 }) > 2.0);
    }

    #[test]
    fn a_ramp_climbs_and_a_switching_load_switches() {
        let world = World::reference();
        let made = Shape::Ramp { from: 0.3, to: 0.9, climb: 500.0 }.times(&world, 60_000, 3);
        let start = made.bursts[0].0 as f64 / 1e6;
        assert!((rate_between(&made.times, 0.0, start) / (0.3 * world.capacity(0)) - 1.0).abs() < 0.05);
        let top = start + 0.6 * world.capacity(0) / 500.0;
        assert!((rate_between(&made.times, top, top + 2.0) / (0.9 * world.capacity(0)) - 1.0).abs() < 0.05);
        let made = Shape::Switching { loads: [0.25, 0.85], sojourns: [5.0, 1.0] }.times(&world, 100_000, 3);
        let (from, until) = made.bursts[0];
        let rate = rate_between(&made.times, from as f64 / 1e6, until as f64 / 1e6);
        assert!((rate / (0.85 * world.capacity(0)) - 1.0).abs() < 0.15, "{rate}");
    }

    #[test]
    fn a_trace_keeps_its_shape_at_another_rate() {
        let offsets: Arc<[f64]> = (0..1_000).map(|i| f64::from(i * i)).collect();
        let shape = Shape::Trace { offsets_ms: offsets, load: 0.5 };
        let world = World::reference();
        let times = shape.times(&world, 3_000, 3).times;
        assert!(times.is_sorted());
        let rate = 3_000.0 * 1e6 / *times.last().unwrap() as f64;
        assert!((rate / (0.5 * world.capacity(0)) - 1.0).abs() < 0.1, "{rate}");
    }
}
