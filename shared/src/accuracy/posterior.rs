//! From weighted labels to a Beta posterior: its mean, its interval, and what it is worth in labels.
//!
//! Forgetting goes by the time of the job and so does not hang on the order in which labels arrive: a label weighs
//! 2^(-(t - t_job)/h). Weights against the bias of routing multiply that. Sums are kept as of the newest job time.

use serde::{Deserialize, Serialize};

/// Sums over labels with `d` the forgetting and `v` the weight against bias of each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Sum of d v.
    weight: f64,
    /// Sum of d v over the labels that said "right".
    right: f64,
    /// Sum of d v v, for the worth of unequal weights.
    square: f64,
    /// The job time that the forgetting is reckoned from, in Unix milliseconds.
    at_ms: u64,
}

/// A count as a number; exact up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "counts of labels and milliseconds are far below 2^53")]
pub(super) const fn to_f64(count: u64) -> f64 {
    count as f64
}

impl Evidence {
    /// Takes in a label of a job of that time.
    pub fn add(&mut self, weight: f64, right: bool, job_ms: u64, half_life_ms: f64) {
        let right = if right { weight } else { 0.0 };
        self.merge(&Self { weight, right, square: weight * weight, at_ms: job_ms }, half_life_ms);
    }

    /// Takes in other labels; the same in any order.
    pub fn merge(&mut self, other: &Self, half_life_ms: f64) {
        let at_ms = self.at_ms.max(other.at_ms);
        let (one, two) = (self.at(at_ms, half_life_ms), other.at(at_ms, half_life_ms));
        let (weight, right, square) = (one.weight + two.weight, one.right + two.right, one.square + two.square);
        *self = Self { weight, right, square, at_ms };
    }

    /// As it stands at a time; a time before the newest job changes nothing.
    #[must_use]
    pub fn at(&self, now_ms: u64, half_life_ms: f64) -> Self {
        let age = to_f64(now_ms.saturating_sub(self.at_ms));
        let left = (-age / half_life_ms.max(1.0)).exp2();
        let (weight, right, square) = (self.weight * left, self.right * left, self.square * left);
        Self { weight, right, square, at_ms: self.at_ms.max(now_ms) }
    }

    /// What the labels are worth: (sum d v)^2 / sum d v^2, Kish's effective sample size of unequal weights times what
    /// forgetting leaves. With equal weights it is the sum of d, which saturates at label rate times h / ln 2.
    #[must_use]
    pub fn n_eff(&self) -> f64 {
        if self.square > 0.0 { self.weight * self.weight / self.square } else { 0.0 }
    }

    /// The weighted share of right answers (Hájek's estimator); none without labels.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (self.weight > 0.0).then(|| (self.right / self.weight).clamp(0.0, 1.0))
    }

    /// Can these sums have come from labels? What is stored may have been written by anybody.
    pub(super) fn is_sane(&self) -> bool {
        let all = [self.weight, self.right, self.square];
        all.iter().all(|sum| sum.is_finite() && (0.0..1e15).contains(sum)) && self.right <= self.weight * 1.000_001
    }
}

/// What is believed before the first label.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prior {
    mean: f64,
    weight: f64,
}

impl Prior {
    /// An accuracy that counts as so many labels; without one the uniform distribution, Beta(1, 1).
    #[must_use]
    pub fn new(accuracy: Option<f64>, weight: f64) -> Self {
        match accuracy.filter(|accuracy| accuracy.is_finite()) {
            // Beta needs both sides positive.
            Some(accuracy) => Self { mean: accuracy.clamp(0.001, 0.999), weight: weight.max(0.1) },
            None => Self { mean: 0.5, weight: 2.0 },
        }
    }

    /// The accuracy.
    #[must_use]
    pub const fn mean(&self) -> f64 {
        self.mean
    }

    /// How many labels it counts as.
    #[must_use]
    pub const fn weight(&self) -> f64 {
        self.weight
    }
}

/// Beta(alpha, beta).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Posterior {
    /// Pseudo-labels that said "right".
    pub alpha: f64,
    /// And "wrong".
    pub beta: f64,
    /// What the labels are worth, without the prior.
    pub n_eff: f64,
}

impl Posterior {
    pub(super) fn new(prior: &Prior, evidence: &Evidence) -> Self {
        let n_eff = evidence.n_eff();
        let mean = evidence.mean().unwrap_or(prior.mean);
        Self {
            alpha: prior.weight * prior.mean + n_eff * mean,
            beta: prior.weight * (1.0 - prior.mean) + n_eff * (1.0 - mean),
            n_eff,
        }
    }

    /// The mean.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.alpha / (self.alpha + self.beta)
    }

    /// The equal-tailed 95 % interval, to 1e-9: by bisection of the distribution function.
    #[must_use]
    pub fn interval(&self) -> (f64, f64) {
        (self.quantile(0.025), self.quantile(0.975))
    }

    fn quantile(&self, share: f64) -> f64 {
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..32 {
            let middle = (low + high) / 2.0;
            if below(middle, self.alpha, self.beta) < share { low = middle } else { high = middle }
        }
        (low + high) / 2.0
    }
}

/// The distribution function of Beta(a, b): the regularised incomplete beta function, by its continued fraction
/// (Numerical Recipes, 3rd edition, 6.4).
fn below(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (1.0 - x).ln()).exp();
    if x < (a + 1.0) / (a + b + 2.0) {
        front * fraction(x, a, b) / a
    } else {
        1.0 - front * fraction(1.0 - x, b, a) / b
    }
}

/// Lentz's method; converges in about the root of the larger of a and b steps where x is on the side it is called for.
fn fraction(x: f64, a: f64, b: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let off_zero = |value: f64| if value.abs() < TINY { TINY } else { value };
    let (mut c, mut d) = (1.0, 1.0 / off_zero(1.0 - (a + b) * x / (a + 1.0)));
    let mut product = d;
    for step in 1..=2_000_u32 {
        let m = f64::from(step);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / off_zero(1.0 + even * d);
        c = off_zero(1.0 + even / c);
        product *= c * d;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / off_zero(1.0 + odd * d);
        c = off_zero(1.0 + odd / c);
        product *= c * d;
        if (c * d - 1.0).abs() < 1e-13 {
            break;
        }
    }
    product
}

/// The logarithm of the gamma function for x > 0: Stirling's series behind 8, the recurrence before it.
fn ln_gamma(mut x: f64) -> f64 {
    let mut shift = 0.0;
    while x < 8.0 {
        shift -= x.ln();
        x += 1.0;
    }
    let inverse = 1.0 / (x * x);
    let series = (1.0 / 12.0 - inverse * (1.0 / 360.0 - inverse * (1.0 / 1_260.0 - inverse / 1_680.0))) / x;
    shift + (x - 0.5) * x.ln() - x + 0.5 * std::f64::consts::TAU.ln() + series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distribution_function_is_that_of_known_cases() {
        for x in [0.01, 0.2, 0.5, 0.93] {
            assert!((below(x, 1.0, 1.0) - x).abs() < 1e-10, "uniform at {x}");
            assert!((below(x, 3.0, 1.0) - x.powi(3)).abs() < 1e-10, "x^3 at {x}");
            assert!((below(x, 1.0, 4.0) - (1.0 - (1.0 - x).powi(4))).abs() < 1e-10, "1-(1-x)^4 at {x}");
        }
        // R: qbeta(c(.025, .975), 18, 2) and qbeta(c(.025, .975), 950, 50).
        let (low, high) = Posterior { alpha: 18.0, beta: 2.0, n_eff: 0.0 }.interval();
        assert!((low - 0.739_7).abs() < 1e-3 && (high - 0.987_0).abs() < 1e-3, "{low} {high}");
        let (low, high) = Posterior { alpha: 950.0, beta: 50.0, n_eff: 0.0 }.interval();
        assert!((low - 0.935_7).abs() < 1e-3 && (high - 0.962_6).abs() < 1e-3, "{low} {high}");
        assert!((ln_gamma(5.0) - 24.0_f64.ln()).abs() < 1e-10);
    }
}
