//! Median and spread of repeated measurements.

use serde::Serialize;

/// Repeated measurements of one thing, in one unit.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Spread(Vec<f64>);

impl Spread {
    pub(crate) const fn new() -> Self {
        Self(vec![])
    }

    pub(crate) const fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// The middle one; of an even number, the mean of the middle two. 0 where nothing was measured.
    pub(crate) fn median(&self) -> f64 {
        let sorted = self.sorted();
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => 0.0,
            n if n % 2 == 1 => sorted[middle],
            _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
        }
    }

    pub(crate) fn min(&self) -> f64 {
        self.sorted().first().copied().unwrap_or_default()
    }

    pub(crate) fn max(&self) -> f64 {
        self.sorted().last().copied().unwrap_or_default()
    }

    /// This over that, turn by turn.
    pub(crate) fn over(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a / b).collect())
    }

    /// This less that, turn by turn.
    pub(crate) fn less(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a - b).collect())
    }

    /// `median (min to max)`, with so many decimals.
    pub(crate) fn show(&self, decimals: usize) -> String {
        if self.0.is_empty() {
            return "-".to_owned();
        }
        let (median, min, max) = (self.median(), self.min(), self.max());
        format!("{} ({} to {})", number(median, decimals), number(min, decimals), number(max, decimals))
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }
}

/// A number with thousands set apart.
pub(crate) fn number(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    let (whole, rest) = text.split_once('.').map_or((text.as_str(), ""), |(whole, rest)| (whole, rest));
    let digits = whole.trim_start_matches('-');
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let sign = if whole.starts_with('-') { "-" } else { "" };
    if rest.is_empty() { format!("{sign}{grouped}") } else { format!("{sign}{grouped}.{rest}") }
}

/// The value below which a share of the samples lies; sorts them. 0 where there is none.
pub(crate) fn quantile(samples: &mut [u32], share: f64) -> f64 {
    samples.sort_unstable();
    let rank = (samples.len() as f64 * share).ceil() as usize;
    samples.get(rank.saturating_sub(1)).copied().map_or(0.0, f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_are_compared_turn_by_turn() {
        let (a, b) = (Spread(vec![2.0, 8.0, 3.0]), Spread(vec![1.0, 2.0, 3.0]));
        assert_eq!((a.median(), a.min(), a.max()), (3.0, 2.0, 8.0));
        assert_eq!(a.over(&b).median(), 2.0);
        assert_eq!(a.less(&b).max(), 6.0);
        assert_eq!(Spread(vec![1.0, 2.0]).median(), 1.5);
        assert_eq!(a.show(1), "3.0 (2.0 to 8.0)");
    }

    #[test]
    fn numbers_and_quantiles_are_shown_as_read() {
        assert_eq!(number(-1_234_567.25, 1), "-1,234,567.2");
        assert_eq!(number(999.6, 0), "1,000");
        assert_eq!(quantile(&mut [4, 1, 3, 2], 0.5), 2.0);
        assert_eq!(quantile(&mut [4, 1, 3, 2], 0.99), 4.0);
        assert_eq!(quantile(&mut [], 0.5), 0.0);
    }
}
