//! The little mathematics of the policy, equal bit for bit on wasm32 and on native targets.
//!
//! `+ - * /`, `sqrt` and comparisons are exact everywhere; `exp` and `ln` of `std` are the
//! platform's, so they come from `libm`. `f32::max` and `f32::min` may return either zero where
//! both signs meet, so they are not used either. No function here returns a NaN.

/// `value` within `low..=high`; a NaN counts as `low`.
pub(crate) const fn within(value: f32, low: f32, high: f32) -> f32 {
    if value > low { if value < high { value } else { high } } else { low }
}

/// A share: `value` within 0 and 1.
pub(crate) const fn unit(value: f32) -> f32 {
    within(value, 0.0, 1.0)
}

/// The larger of two numbers that are no NaN.
pub(crate) const fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// The smaller of two numbers that are no NaN.
pub(crate) const fn smaller(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

/// `1 / (1 + e^-x)`.
pub(crate) fn logistic(x: f32) -> f32 {
    1.0 / (1.0 + libm::expf(-within(x, -40.0, 40.0)))
}

/// `ln(p / (1 - p))`, the inverse of [`logistic`]; its ends are cut at ±14.
pub(crate) fn logit(p: f32) -> f32 {
    let p = within(p, 1e-6, 1.0 - 1e-6);
    libm::logf(p / (1.0 - p))
}

/// `e^-x` of something that is not negative.
pub(crate) fn fade(x: f32) -> f32 {
    libm::expf(-within(x, 0.0, 80.0))
}

/// A count as a number.
#[expect(clippy::cast_precision_loss, reason = "counts of jobs: 24 bits are enough for any decision")]
pub(crate) const fn number(count: u32) -> f32 {
    count as f32
}

/// A number as a count, cut to what a count can hold.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates, and a NaN is 0")]
pub(crate) const fn count(number: f32) -> u32 {
    number as u32
}

/// Milliseconds as microseconds.
#[expect(clippy::cast_precision_loss, reason = "a time that needs more than 24 bits needs no microseconds")]
pub(crate) const fn micros(ms: u64) -> f32 {
    ms as f32 * 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_not_a_number() {
        for x in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 1e-40, 3.0] {
            assert!(logistic(x).is_finite() && logit(x).is_finite() && fade(x).is_finite() && unit(x).is_finite());
        }
    }

    #[test]
    fn logit_undoes_logistic() {
        for x in [-5.0, -0.3, 0.0, 2.5] {
            assert!((logit(logistic(x)) - x).abs() < 1e-3);
        }
    }
}
