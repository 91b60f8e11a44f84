//! What many seeds say together: means with paired bootstrap intervals.
//!
//! All policies meet the same arrivals under one seed, so a resample of seeds is taken for all of
//! them at once, and differences and ratios are formed inside it.

use serde::Serialize;

use super::rng::Rng;

/// Resamples of a bootstrap.
const RESAMPLES: usize = 2_000;

/// A mean and its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Interval {
    /// The figure from all seeds.
    pub(crate) mean: f64,
    /// 2.5 % of the resamples are below.
    pub(crate) low: f64,
    /// 2.5 % of the resamples are above.
    pub(crate) high: f64,
}

/// Any figure made from seeds, with its interval: `figure` gets the numbers of a resample of seeds.
pub(crate) fn bootstrap(seeds: usize, figure: impl Fn(&[usize]) -> f64) -> Interval {
    let all: Vec<usize> = (0..seeds).collect();
    let mean = figure(&all);
    if seeds < 2 {
        return Interval { mean, low: mean, high: mean };
    }
    let mut rng = Rng::new(seeds as u64, 0xb007);
    let mut drawn = vec![0; seeds];
    let mut figures: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            for place in &mut drawn {
                *place = (rng.unit() * seeds as f64) as usize;
            }
            figure(&drawn)
        })
        .filter(|figure| figure.is_finite())
        .collect();
    figures.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let place = (share * figures.len() as f64) as usize;
        figures.get(place.min(figures.len().saturating_sub(1))).copied().unwrap_or(mean)
    };
    Interval { mean, low: at(0.025), high: at(0.975) }
}

/// The mean of some numbers at the chosen places.
pub(crate) fn mean_at(numbers: &[f64], places: &[usize]) -> f64 {
    places.iter().map(|place| numbers[*place]).sum::<f64>() / places.len().max(1) as f64
}

/// The mean of all numbers.
pub(crate) fn mean(numbers: impl IntoIterator<Item = f64>) -> f64 {
    let (mut sum, mut count) = (0.0, 0_u32);
    for number in numbers {
        sum += number;
        count += 1;
    }
    sum / f64::from(count.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_holds_the_mean_and_narrows_with_seeds() {
        let mut rng = Rng::new(1, 1);
        let numbers: Vec<f64> = (0..400).map(|_| rng.unit()).collect();
        let of = |n: usize| bootstrap(n, |places| mean_at(&numbers, places));
        let (few, many) = (of(20), of(400));
        assert!(few.low < few.mean && few.mean < few.high);
        assert!(many.high - many.low < few.high - few.low);
        // The width of a mean of 400 uniform numbers: 2 · 1.96 · sqrt(1/12/400).
        assert!(((many.high - many.low) / 0.0566 - 1.0).abs() < 0.15);
        assert_eq!(of(1).low, of(1).high);
    }

    #[test]
    fn pairing_takes_out_what_the_seeds_have_in_common() {
        let mut rng = Rng::new(2, 1);
        let base: Vec<f64> = (0..30).map(|_| rng.unit()).collect();
        let better: Vec<f64> = base.iter().map(|x| x + 0.01).collect();
        let difference = bootstrap(30, |places| mean_at(&better, places) - mean_at(&base, places));
        assert!((difference.low - 0.01).abs() < 1e-9 && (difference.high - 0.01).abs() < 1e-9);
    }
}
