//! Whole rollouts, simulated with fixed seeds: how often a good canary goes, how soon a bad one does.
//!
//! The verdict is asked after every single observation, as in the service.

use super::super::plan::Limits;
use super::{Criterion, Evidence, Finding, Side, Verdict};

/// `SplitMix64` (Steele, Lea, Flood 2014): a few lines, so that no seed changes with a library.
struct Random(u64);

impl Random {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        f64::from(u32::try_from((z ^ (z >> 31)) >> 32).unwrap()) / f64::from(u32::MAX)
    }

    /// Log-normal: skewed, as run times are. `median` in ms, `sigma` of the logarithm.
    fn time(&mut self, median: f64, sigma: f64) -> f64 {
        // Box-Muller.
        let radius = (-2.0 * self.uniform().max(1e-12).ln()).sqrt();
        median * (sigma * radius * (std::f64::consts::TAU * self.uniform()).cos()).exp()
    }
}

/// How a version does.
#[derive(Clone, Copy)]
struct Nature {
    accuracy: f64,
    failures: f64,
    median_ms: f64,
}

const GOOD: Nature = Nature { accuracy: 0.95, failures: 0.002, median_ms: 10.0 };

/// One rollout of `readings`: the reading after which the canary went, and why.
fn rollout(seed: u64, share: f64, readings: u32, canary: Nature) -> Option<(u32, Finding)> {
    let mut random = Random(seed);
    let mut evidence = Evidence::new(Limits::default());
    for reading in 1..=readings {
        let (side, nature) = if random.uniform() < share { (Side::Canary, canary) } else { (Side::Stable, GOOD) };
        if random.uniform() < nature.failures {
            evidence.failed(side);
        } else {
            evidence.ran(side, random.time(nature.median_ms, 0.3));
            evidence.labelled(side, random.uniform() < nature.accuracy);
        }
        if let Some(finding) = evidence.worse() {
            return Some((reading, finding));
        }
    }
    None
}

/// How many of so many rollouts ended with the canary taken out.
fn taken_out(rollouts: u32, share: f64, readings: u32, canary: Nature) -> (u32, Vec<u32>, Vec<Criterion>) {
    let ended: Vec<(u32, Finding)> =
        (0..u64::from(rollouts)).filter_map(|seed| rollout(seed * 7_919 + 1, share, readings, canary)).collect();
    let mut after: Vec<u32> = ended.iter().map(|(reading, _)| *reading).collect();
    after.sort_unstable();
    (u32::try_from(ended.len()).unwrap(), after, ended.into_iter().map(|(_, finding)| finding.what).collect())
}

#[test]
fn an_equal_canary_stays() {
    // 1 % of 500 is 5; more than 12 would be chance once in 500 tries, and so would more than 7 of 200.
    for (share, rollouts, most) in [(0.5, 500, 12), (0.1, 200, 7)] {
        let (out, _, why) = taken_out(rollouts, share, 2_000, GOOD);
        println!("equal, share {share}: {out} of {rollouts} {why:?}");
        assert!(out <= most, "share {share}: {out} {why:?}");
    }
}

#[test]
fn a_canary_at_all_limits_at_once_stays() {
    let limits = Limits::default();
    let canary = Nature {
        accuracy: GOOD.accuracy - limits.max_accuracy_drop,
        failures: GOOD.failures + limits.max_failure_rise,
        median_ms: GOOD.median_ms * limits.max_latency_ratio,
    };
    let (out, _, why) = taken_out(500, 0.5, 2_000, canary);
    println!("at the limits: {out} of 500 {why:?}");
    assert!(out <= 12, "{out} {why:?}");
}

/// The canary of that nature goes in 95 % of 200 rollouts of so many readings, and for that reason.
fn goes(share: f64, readings: u32, canary: Nature, what: Criterion) {
    let (out, after, why) = taken_out(200, share, readings, canary);
    println!(
        "{what:?}, share {share}: {out} of 200 within {readings}; half by {:?}, 95 % by {:?}",
        after.get(99),
        after.get(189)
    );
    assert!(out >= 190, "{what:?}: {out} of 200");
    assert!(why.iter().filter(|found| **found == what).count() >= 190, "{why:?}");
}

#[test]
fn a_canary_five_points_less_accurate_goes() {
    goes(0.5, 11_000, Nature { accuracy: GOOD.accuracy - 0.05, ..GOOD }, Criterion::Accuracy);
}

#[test]
fn a_canary_twice_as_slow_goes() {
    goes(0.5, 2_000, Nature { median_ms: 2.0 * GOOD.median_ms, ..GOOD }, Criterion::MedianLatency);
    goes(0.1, 4_000, Nature { median_ms: 2.0 * GOOD.median_ms, ..GOOD }, Criterion::MedianLatency);
}

#[test]
fn a_canary_that_fails_goes() {
    goes(0.5, 2_000, Nature { failures: 0.1, ..GOOD }, Criterion::Failures);
}

#[test]
fn an_equal_canary_is_shown_to_be_fine() {
    let mut random = Random(5);
    let mut evidence = Evidence::new(Limits::default());
    let fine = (0..40_000_u32).find(|reading| {
        let side = if random.uniform() < 0.5 { Side::Canary } else { Side::Stable };
        evidence.ran(side, random.time(10.0, 0.3));
        evidence.labelled(side, random.uniform() < 0.95);
        reading % 500 == 0 && evidence.verdict() == Verdict::Fine
    });
    println!("fine after {fine:?}");
    assert!(fine.is_some());
    assert!(evidence.standings().iter().all(|standing| standing.within == Some(true)));
}
