//! Does a version take more than its share of time? Asked of two quantiles, so outliers count once.
//!
//! The null hypothesis: the canary's run time over `max_latency_ratio` is stochastically not above
//! the stable one. Then for every threshold the canary's share of runs within it is at least the
//! stable side's, and that is a comparison of two rates. The thresholds are the stable side's
//! median and 95th percentile, frozen after the learning phase; whatever they are, the test holds,
//! because both sides are compared with them at the same time: load that slows both is no evidence.
//! The mean of the two pieces of evidence is evidence (Vovk and Wang, "E-values", Annals of
//! Statistics 49(3), 2021), so the second question costs a factor of two, no second error.

use super::Side;
use super::rates::{RateTest, Tally, whole};

/// Newest run times kept a side, for thresholds and for show.
const KEPT: usize = 512;

/// The newest run times of one side, in milliseconds.
#[derive(Debug, Default)]
struct Recent {
    ms: Vec<f64>,
    next: usize,
    total: f64,
}

impl Recent {
    fn push(&mut self, ms: f64) {
        if self.ms.len() < KEPT {
            self.ms.push(ms);
        } else if let Some(oldest) = self.ms.get_mut(self.next) {
            *oldest = ms;
            self.next = (self.next + 1) % KEPT;
        }
        self.total += 1.0;
    }

    fn within(&self, threshold: f64, ratio: f64) -> Tally {
        let mut tally = (0.0, 0.0);
        for ms in &self.ms {
            *(if ms / ratio <= threshold { &mut tally.0 } else { &mut tally.1 }) += 1.0;
        }
        Tally::new(tally.0, tally.1)
    }

    fn quantile(&self, quantile: f64) -> Option<f64> {
        let mut sorted = self.ms.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        // Nearest rank: a value that was measured.
        #[expect(clippy::cast_precision_loss, reason = "at most KEPT")]
        let rank = whole((sorted.len() as f64 * quantile).ceil()).max(1) - 1;
        sorted.get(usize::try_from(rank).ok()?).copied()
    }
}

/// The two thresholds and what is known about them.
#[derive(Debug)]
struct Thresholds {
    median: (f64, RateTest),
    tail: (f64, RateTest),
}

/// Run times from the first on: learning, then testing.
#[derive(Debug)]
pub(super) struct Times {
    fewest: f64,
    ratio: f64,
    stable: Recent,
    canary: Recent,
    test: Option<Thresholds>,
}

impl Times {
    pub(super) fn new(fewest: f64, ratio: f64) -> Self {
        Self { fewest, ratio, stable: Recent::default(), canary: Recent::default(), test: None }
    }

    /// Takes in a run time; what is no time is left out.
    pub(super) fn observe(&mut self, side: Side, ms: f64) {
        if !ms.is_finite() || ms < 0.0 {
            return;
        }
        let (recent, scaled) = match side {
            Side::Stable => (&mut self.stable, ms),
            Side::Canary => (&mut self.canary, ms / self.ratio),
        };
        recent.push(ms);
        match &mut self.test {
            Some(test) => {
                for (threshold, rates) in [&mut test.median, &mut test.tail] {
                    rates.observe(side, scaled <= *threshold);
                }
            }
            None if self.stable.total >= self.fewest && self.canary.total >= self.fewest => {
                let threshold = |quantile| {
                    let at = self.stable.quantile(quantile)?;
                    let learned = (self.stable.within(at, 1.0), self.canary.within(at, self.ratio));
                    Some((at, RateTest::new(learned.0, learned.1, 0.0)))
                };
                self.test = threshold(0.5).zip(threshold(0.95)).map(|(median, tail)| Thresholds { median, tail });
            }
            None => {}
        }
    }

    /// Logarithm of the evidence against the null hypothesis; exact from `floor` up.
    pub(super) fn ln_worse(&self, floor: f64) -> f64 {
        let Some(test) = &self.test else { return f64::NEG_INFINITY };
        let (median, tail) = (test.median.1.ln_worse(floor), test.tail.1.ln_worse(floor));
        let highest = median.max(tail);
        if highest < floor || highest == f64::NEG_INFINITY {
            // A mean is not above the higher of the two.
            return highest;
        }
        highest + (f64::midpoint((median - highest).exp(), (tail - highest).exp())).ln()
    }

    /// Logarithm of the evidence that the canary keeps to the ratio at both thresholds; exact from `floor` up.
    pub(super) fn ln_within(&self, floor: f64) -> f64 {
        let Some(test) = &self.test else { return f64::NEG_INFINITY };
        test.median.1.ln_within(floor).min(test.tail.1.ln_within(floor))
    }

    /// A quantile of the newest run times, in milliseconds.
    pub(super) fn quantile(&self, side: Side, quantile: f64) -> Option<f64> {
        match side {
            Side::Stable => self.stable.quantile(quantile),
            Side::Canary => self.canary.quantile(quantile),
        }
    }

    /// Observations of the stable side and of the canary.
    pub(super) fn samples(&self) -> (u64, u64) {
        (whole(self.stable.total), whole(self.canary.total))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXACT: f64 = f64::NEG_INFINITY;

    fn filled(ratio: f64, stable: impl Fn(u32) -> f64, canary: impl Fn(u32) -> f64) -> Times {
        let mut times = Times::new(100.0, ratio);
        for index in 0..1_000 {
            times.observe(Side::Stable, stable(index));
            times.observe(Side::Canary, canary(index));
        }
        times
    }

    #[test]
    fn quantiles_are_values_that_were_measured_and_the_newest() {
        let times = filled(1.5, f64::from, |_| f64::NAN);
        assert_eq!((times.quantile(Side::Stable, 0.5), times.quantile(Side::Canary, 0.5)), (Some(743.0), None));
        assert_eq!(times.samples(), (1_000, 0));
    }

    #[test]
    fn an_outlier_is_no_evidence_and_a_slow_tail_is() {
        let steady = |index: u32| 10.0 + f64::from(index * 7 % 20) / 10.0;
        let huge = filled(1.5, steady, |index| if index == 500 { 1e9 } else { steady(index) });
        assert!(huge.ln_worse(EXACT) < 0.0, "{}", huge.ln_worse(EXACT));
        let tail = filled(1.5, steady, |index| if index % 5 == 0 { 100.0 } else { steady(index) });
        assert!(tail.ln_worse(EXACT) > 5.0, "{}", tail.ln_worse(EXACT));
        let slow = filled(1.5, steady, |index| 2.0 * steady(index));
        assert!(slow.ln_worse(EXACT) > 5.0, "{}", slow.ln_worse(EXACT));
    }

    #[test]
    fn load_that_slows_both_is_no_evidence() {
        let loaded = |index: u32| (10.0 + f64::from(index * 7 % 20) / 10.0) * if index > 300 { 8.0 } else { 1.0 };
        let times = filled(1.5, loaded, loaded);
        assert!(times.ln_worse(EXACT) < 1.0, "{}", times.ln_worse(EXACT));
    }

    #[test]
    fn a_canary_within_the_ratio_is_shown_to_be() {
        let steady = |index: u32| 10.0 + f64::from(index * 7 % 20) / 10.0;
        let times = filled(1.5, steady, |index| 1.1 * steady(index));
        assert!(times.ln_within(EXACT) > 4.7, "{}", times.ln_within(EXACT));
    }
}
