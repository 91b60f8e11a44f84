//! What a tier costs and how often it is right.
//!
//! Owns the affine model of service time, `S(b) = alpha + beta * b` for a batch of `b`; measuring
//! it is the native service's.

use super::math::{larger, number, within};

/// Most tiers of one task.
pub const MAX_TIERS: usize = 16;
/// What a service time of which only the mean is known is multiplied by.
const MEAN_MARGIN: f32 = 1.5;
/// No run takes longer than this, in microseconds: a bound against absurd profiles.
const LONGEST_US: f32 = 1e10;

/// Service time of one tier on one worker: a batch of `b` takes `alpha_us + beta_us * b`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Profile {
    /// What a run costs whatever its batch, in microseconds.
    pub alpha_us: f32,
    /// What one more reading in the batch costs, in microseconds.
    pub beta_us: f32,
    /// Standard deviation of what is measured around the line, in microseconds.
    pub sd_us: f32,
    /// Largest batch; 0 counts as 1.
    pub cap: u16,
}

impl Profile {
    /// The profile of a tier of which only the mean time of a reading is known, with a margin of a half.
    #[must_use]
    pub const fn from_mean(service_us: f32) -> Self {
        Self { alpha_us: 0.0, beta_us: service_us * MEAN_MARGIN, sd_us: service_us * 0.5, cap: 1 }
    }

    /// The largest batch, at least 1.
    #[must_use]
    pub const fn cap(&self) -> u32 {
        if self.cap == 0 { 1 } else { self.cap as u32 }
    }

    /// Time of one worker for `n` readings, in microseconds, in as few batches as hold them.
    #[must_use]
    pub const fn batch_us(&self, n: u32) -> f32 {
        let batches = number(n.div_ceil(self.cap()));
        within(batches * self.alpha_us + number(n) * self.beta_us, 0.0, LONGEST_US)
    }

    /// Time of one worker for one reading of a full batch, in microseconds: `s = S(B) / B`; at least 0.001.
    #[must_use]
    pub const fn server_us(&self) -> f32 {
        larger(self.batch_us(self.cap()) / number(self.cap()), 1e-3)
    }

    /// The standard deviation of one run, in microseconds.
    #[must_use]
    pub const fn sd(&self) -> f32 {
        within(self.sd_us, 0.0, LONGEST_US)
    }
}

impl Default for Profile {
    /// Free of cost: what is unknown is in nobody's way.
    fn default() -> Self {
        Self { alpha_us: 0.0, beta_us: 0.0, sd_us: 0.0, cap: 1 }
    }
}

/// A tier as planning and binding see it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct TierModel {
    /// Its service time.
    pub profile: Profile,
    /// How often it is right, 0..=1; none where nothing is known.
    pub accuracy: Option<f32>,
    /// Labels behind the accuracy, in effective number: what has faded counts less.
    pub n_eff: f32,
}

/// The accuracies to reckon with: what is unknown is taken `gap` above the next cheaper tier (or below the next dearer).
///
/// What stands behind the last of `known` is 0.
#[must_use]
pub(crate) fn ranked(known: &[Option<f32>], gap: f32) -> [f32; MAX_TIERS] {
    /// A share of right answers for a task of which nothing at all is known.
    const START: f32 = 0.5;
    let usable = |value: Option<f32>| value.filter(|value| (0.0..=1.0).contains(value));
    let first = known.iter().enumerate().find_map(|(at, value)| Some((at, usable(*value)?)));
    let (at, start) = first.unwrap_or((0, START));
    let mut last = start - gap * number(u32::try_from(at).unwrap_or(0)) - gap;
    let mut ranked = [0.0; MAX_TIERS];
    for (value, place) in known.iter().zip(&mut ranked) {
        last = usable(*value).unwrap_or(last + gap);
        *place = within(last, 0.0, 1.0);
    }
    ranked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_over_the_cap_is_several_batches() {
        let slow = Profile { alpha_us: 4_000.0, beta_us: 5_000.0, sd_us: 0.0, cap: 8 };
        assert_eq!((slow.batch_us(0), slow.batch_us(8), slow.batch_us(9)), (0.0, 44_000.0, 53_000.0));
        assert_eq!(slow.server_us(), 5_500.0);
    }

    #[test]
    fn absurd_profiles_have_times_all_the_same() {
        for value in [f32::NAN, f32::INFINITY, -1.0, f32::MAX] {
            let profile = Profile { alpha_us: value, beta_us: value, sd_us: value, cap: 0 };
            for time in [profile.batch_us(u32::MAX), profile.server_us(), profile.sd()] {
                assert!((0.0..=LONGEST_US).contains(&time), "{value}: {time}");
            }
        }
    }

    #[test]
    fn unknown_accuracies_stand_beside_the_known_ones() {
        let mut known = [None; MAX_TIERS];
        assert_eq!(ranked(&known, 0.05)[..2], [0.5, 0.55]);
        known[1] = Some(0.9);
        assert!((ranked(&known, 0.05)[0] - 0.85).abs() < 1e-6);
        known[0] = Some(f32::NAN);
        assert!((ranked(&known, 0.05)[2] - 0.95).abs() < 1e-6);
    }
}
