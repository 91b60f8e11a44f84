//! Is one Bernoulli rate lower than another by more than a margin? A test that may be asked at any time.
//!
//! Universal inference, run sequentially (Wasserman, Ramdas, Balakrishnan, "Universal inference",
//! PNAS 117(29), 2020, section 8). The evidence is a ratio: how well a forecast made before each
//! observation did, over how well the best pair of rates does that the null hypothesis allows,
//! chosen in hindsight. Whatever pair is true, the denominator is at least its likelihood, and the
//! forecast over the true likelihood is a martingale that starts at 1. By Ville's inequality the
//! ratio ever reaches `1/a` with probability at most `a`: exact, for any rates, any division of
//! the traffic, any number of looks. The one assumption is that outcomes of a side are independent
//! with one rate.
//!
//! The forecast of a side is `(h + k) / (h + k + m + j)`: the Krichevsky-Trofimov estimate
//! (a Beta prior of one half each) after `h` hits and `m` misses, and the `k` hits and `j` misses
//! since. `h` and `m` come from a learning phase that the test does not count: that costs
//! `min_samples` observations and saves about `ln(n / min_samples) / 2` nats a side.

use super::Side;

/// Most observations of the learning phase that count in the forecast, so that it can still follow.
const MAX_LEARNED: f64 = 400.0;
/// Halvings to find the null hypothesis' best pair: beyond this a double does not change.
const HALVINGS: u32 = 50;

/// Hits and misses; doubles, since all that is done with them is arithmetic (exact up to 2^53).
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    hits: f64,
    misses: f64,
}

impl Tally {
    /// So many hits and misses.
    pub(super) const fn new(hits: f64, misses: f64) -> Self {
        Self { hits, misses }
    }

    fn add(&mut self, hit: bool) {
        if hit {
            self.hits += 1.0;
        } else {
            self.misses += 1.0;
        }
    }

    fn total(self) -> f64 {
        self.hits + self.misses
    }

    fn rate(self) -> f64 {
        if self.total() > 0.0 { self.hits / self.total() } else { 0.0 }
    }

    fn ln_likelihood(self, rate: f64) -> f64 {
        let term = |count: f64, share: f64| if count > 0.0 { count * share.ln() } else { 0.0 };
        term(self.hits, rate) + term(self.misses, 1.0 - rate)
    }

    /// Derivative of the log-likelihood at a rate.
    fn slope(self, rate: f64) -> f64 {
        let term = |count: f64, share: f64| if count > 0.0 { count / share } else { 0.0 };
        term(self.hits, rate) - term(self.misses, 1.0 - rate)
    }
}

/// One side of the test: its forecast, and how the forecast did.
#[derive(Debug, Clone, Copy)]
struct Forecast {
    learned: Tally,
    seen: Tally,
    // Sum of the logarithms of what the forecast gave to what then came.
    ln_gain: f64,
}

impl Forecast {
    fn new(learned: Tally) -> Self {
        let scale = (MAX_LEARNED / learned.total().max(1.0)).min(1.0);
        let learned = Tally::new(learned.hits.mul_add(scale, 0.5), learned.misses.mul_add(scale, 0.5));
        Self { learned, seen: Tally::default(), ln_gain: 0.0 }
    }

    fn observe(&mut self, hit: bool) {
        let total = self.learned.total() + self.seen.total();
        let hits = self.learned.hits + self.seen.hits;
        self.ln_gain += (if hit { hits } else { total - hits } / total).ln();
        self.seen.add(hit);
    }
}

/// The test of two rates, after their learning phase.
#[derive(Debug, Clone, Copy)]
pub(super) struct RateTest {
    stable: Forecast,
    canary: Forecast,
    margin: f64,
}

impl RateTest {
    /// A test that has seen nothing, with forecasts from a learning phase.
    pub(super) fn new(stable: Tally, canary: Tally, margin: f64) -> Self {
        Self { stable: Forecast::new(stable), canary: Forecast::new(canary), margin }
    }

    pub(super) fn observe(&mut self, side: Side, hit: bool) {
        match side {
            Side::Stable => self.stable.observe(hit),
            Side::Canary => self.canary.observe(hit),
        }
    }

    /// Logarithm of the evidence against "the canary's rate is at least the stable one less the margin".
    ///
    /// Exact from `floor` up; below it the result is below it, and may be too high.
    pub(super) fn ln_worse(&self, floor: f64) -> f64 {
        let (stable, canary) = (self.stable.seen.rate(), self.canary.seen.rate());
        if canary >= stable - self.margin {
            // The best pair of all is one that the null hypothesis allows: there is no evidence.
            return f64::NEG_INFINITY;
        }
        self.ln_ratio((canary + self.margin, stable), floor)
    }

    /// Logarithm of the evidence against "the canary's rate is at most the stable one less the margin"; as above.
    pub(super) fn ln_within(&self, floor: f64) -> f64 {
        let (stable, canary) = (self.stable.seen.rate(), self.canary.seen.rate());
        if canary <= stable - self.margin {
            return f64::NEG_INFINITY;
        }
        self.ln_ratio((stable.max(self.margin), (canary + self.margin).min(1.0)), floor)
    }

    /// The evidence where the null hypothesis' best pair lies on its border, the stable rate from `low` to `high`.
    ///
    /// The log-likelihood is concave along the border, so its slope changes sign once.
    fn ln_ratio(&self, (mut low, mut high): (f64, f64), floor: f64) -> f64 {
        let (stable, canary) = (self.stable.seen, self.canary.seen);
        let ratio_at = |rate: f64| {
            let likelihood = stable.ln_likelihood(rate) + canary.ln_likelihood((rate - self.margin).clamp(0.0, 1.0));
            self.stable.ln_gain + self.canary.ln_gain - likelihood
        };
        // Any pair that the null hypothesis allows bounds the evidence from above; nearly always that is enough.
        let weight = canary.total() / (stable.total() + canary.total()).max(1.0);
        let bound =
            ratio_at((stable.rate() * (1.0 - weight) + (canary.rate() + self.margin) * weight).clamp(low, high));
        if bound < floor {
            return bound;
        }
        for _ in 0..HALVINGS {
            let middle = f64::midpoint(low, high);
            if stable.slope(middle) + canary.slope(middle - self.margin) > 0.0 {
                low = middle;
            } else {
                high = middle;
            }
        }
        ratio_at(f64::midpoint(low, high))
    }
}

/// Two rates from their first observation on: learning, then testing.
#[derive(Debug)]
pub(super) struct Rates {
    fewest: f64,
    margin: f64,
    stable: Tally,
    canary: Tally,
    test: Option<RateTest>,
}

impl Rates {
    pub(super) const fn new(fewest: f64, margin: f64) -> Self {
        let none = Tally::new(0.0, 0.0);
        Self { fewest, margin, stable: none, canary: none, test: None }
    }

    pub(super) fn observe(&mut self, side: Side, hit: bool) {
        match side {
            Side::Stable => self.stable.add(hit),
            Side::Canary => self.canary.add(hit),
        }
        if let Some(test) = &mut self.test {
            test.observe(side, hit);
        } else if self.stable.total() >= self.fewest && self.canary.total() >= self.fewest {
            self.test = Some(RateTest::new(self.stable, self.canary, self.margin));
        }
    }

    pub(super) fn ln_worse(&self, floor: f64) -> f64 {
        self.test.as_ref().map_or(f64::NEG_INFINITY, |test| test.ln_worse(floor))
    }

    pub(super) fn ln_within(&self, floor: f64) -> f64 {
        self.test.as_ref().map_or(f64::NEG_INFINITY, |test| test.ln_within(floor))
    }

    /// The share of hits so far, learning included.
    pub(super) fn share(&self, side: Side) -> Option<f64> {
        let tally = self.of(side);
        (tally.total() > 0.0).then(|| tally.rate())
    }

    /// Observations of the stable side and of the canary.
    pub(super) fn samples(&self) -> (u64, u64) {
        (whole(self.stable.total()), whole(self.canary.total()))
    }

    const fn of(&self, side: Side) -> Tally {
        match side {
            Side::Stable => self.stable,
            Side::Canary => self.canary,
        }
    }
}

/// A count as a whole number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts are whole, not negative, and small"
)]
pub(super) const fn whole(count: f64) -> u64 {
    count as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXACT: f64 = f64::NEG_INFINITY;

    fn test(stable: (f64, f64), canary: (f64, f64), margin: f64) -> RateTest {
        let mut test = RateTest::new(Tally::default(), Tally::default(), margin);
        for (side, (hits, misses)) in [(Side::Stable, stable), (Side::Canary, canary)] {
            (0..whole(hits)).for_each(|_| test.observe(side, true));
            (0..whole(misses)).for_each(|_| test.observe(side, false));
        }
        test
    }

    /// The null hypothesis' best pair, by looking at very many.
    fn best_by_search(test: &RateTest, allowed: impl Fn(f64, f64) -> bool) -> f64 {
        let mut best = f64::NEG_INFINITY;
        for p in 0..=1_000 {
            for q in 0..=1_000 {
                let (p, q) = (f64::from(p) / 1e3, f64::from(q) / 1e3);
                if allowed(p, q) {
                    best = best.max(test.stable.seen.ln_likelihood(p) + test.canary.seen.ln_likelihood(q));
                }
            }
        }
        best
    }

    #[test]
    fn the_denominator_is_the_null_hypothesis_best() {
        let margin = 0.02;
        for (stable, canary) in [((90.0, 10.0), (30.0, 20.0)), ((50.0, 0.0), (0.0, 20.0)), ((9.0, 1.0), (5.0, 5.0))] {
            let test = test(stable, canary, margin);
            let gain = test.stable.ln_gain + test.canary.ln_gain;
            let best = best_by_search(&test, |p, q| q >= p - margin - 1e-9);
            let found = gain - test.ln_worse(EXACT);
            assert!((found - best).abs() < 1e-3, "{stable:?} {canary:?}: {found} {best}");
        }
        for (stable, canary) in [((90.0, 10.0), (48.0, 2.0)), ((0.0, 20.0), (30.0, 0.0)), ((9.0, 1.0), (10.0, 0.0))] {
            let test = test(stable, canary, margin);
            let gain = test.stable.ln_gain + test.canary.ln_gain;
            let best = best_by_search(&test, |p, q| q <= p - margin + 1e-9);
            let found = gain - test.ln_within(EXACT);
            assert!((found - best).abs() < 1e-3, "{stable:?} {canary:?}: {found} {best}");
        }
    }

    #[test]
    fn the_short_way_never_hides_enough_evidence() {
        let exact = [30.0, 40.0, 50.0].map(|misses| test((950.0, 50.0), (200.0, misses), 0.02));
        for test in exact {
            let value = test.ln_worse(EXACT);
            for floor in [value - 3.0, value - 0.01, value + 0.01, value + 3.0] {
                let found = test.ln_worse(floor);
                assert_eq!(found >= floor, value >= floor, "{found} {value} {floor}");
            }
        }
    }

    #[test]
    fn evidence_is_one_sided() {
        let worse = test((95.0, 5.0), (50.0, 50.0), 0.02);
        assert!(worse.ln_worse(EXACT) > 10.0 && worse.ln_within(EXACT) == f64::NEG_INFINITY);
        let better = test((50.0, 50.0), (95.0, 5.0), 0.02);
        assert!(better.ln_within(EXACT) > 10.0 && better.ln_worse(EXACT) == f64::NEG_INFINITY);
        assert!(test((0.0, 0.0), (0.0, 0.0), 0.0).ln_worse(EXACT) == f64::NEG_INFINITY);
    }

    #[test]
    fn the_expected_evidence_under_the_null_is_at_most_one() {
        // All 2^12 sequences of six outcomes a side, at pairs on the border and within: no sampling, no luck.
        for (p, margin) in [(0.5_f64, 0.1_f64), (0.9, 0.05), (0.95, 0.02), (0.3, 0.0)] {
            for q in [p - margin, (p + 0.05).min(0.99)] {
                let mut expected = 0.0;
                for bits in 0_u32..1 << 12 {
                    let mut test = RateTest::new(Tally::new(8.0, 2.0), Tally::new(4.0, 6.0), margin);
                    let mut chance = 1.0;
                    for index in 0..12 {
                        let (side, rate) = if index % 2 == 0 { (Side::Stable, p) } else { (Side::Canary, q) };
                        let hit = bits >> index & 1 == 1;
                        chance *= if hit { rate } else { 1.0 - rate };
                        test.observe(side, hit);
                    }
                    expected += chance * test.ln_worse(EXACT).exp();
                }
                assert!(expected <= 1.0, "p {p} q {q}: {expected}");
            }
        }
    }

    #[test]
    fn nothing_is_said_before_both_sides_have_enough() {
        let mut rates = Rates::new(10.0, 0.02);
        (0..500).for_each(|_| rates.observe(Side::Stable, true));
        (0..9).for_each(|_| rates.observe(Side::Canary, false));
        assert!(rates.test.is_none());
        rates.observe(Side::Canary, false);
        assert_eq!(rates.ln_worse(EXACT), f64::NEG_INFINITY, "learned from, not counted");
        (0..30).for_each(|_| rates.observe(Side::Stable, true));
        (0..30).for_each(|_| rates.observe(Side::Canary, false));
        assert!(rates.ln_worse(EXACT) > 5.0);
        assert_eq!((rates.samples(), rates.share(Side::Canary)), ((530, 40), Some(0.0)));
    }
}
