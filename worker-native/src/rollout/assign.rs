//! Which share of the traffic a key falls into: sticky, and the same in every process.
//!
//! Pure. A key (sensor id, else request id) becomes a number in `[0, 1)` by a hash that is part of
//! the contract: restarts and other processes place the same sensor the same way. Each model and
//! each use has a salt of its own, so that the sensors of one canary are not those of the next.

use std::sync::Arc;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// The arm's name of whatever answers outside a plan.
pub const DEFAULT_ARM: &str = "default";

/// Which version answers, and for which side of a comparison it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The version that is to answer.
    pub version: u32,
    /// The arm's name: `default`, `stable`, `canary`, or an arm's own.
    pub arm: Arc<str>,
    /// Which side of the evidence it feeds: 0 is the default version's; none where nothing is compared.
    pub(super) slot: Option<usize>,
    /// The comparison it belongs to; evidence of an older one is not mixed in.
    pub(super) epoch: u64,
}

impl Assignment {
    /// Of an answer whose model has no rollout here.
    #[must_use]
    pub fn outside(version: u32) -> Self {
        Self { version, arm: DEFAULT_ARM.into(), slot: None, epoch: 0 }
    }

    /// Is it one side of a comparison?
    #[must_use]
    pub const fn is_compared(&self) -> bool {
        self.slot.is_some()
    }
}

/// What places keys for one model and one use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Salt(u64);

impl Salt {
    /// The salt of one use (`canary`, `arms`, `shadow`) at one model.
    #[must_use]
    pub fn new(task: &str, model: &str, purpose: &str) -> Self {
        // A slash stands in no name, so no two triples write the same text.
        Self(xxh3_64(format!("{task}/{model}/{purpose}").as_bytes()))
    }

    /// Where a key falls, in `[0, 1)`; uniform over keys.
    #[must_use]
    pub fn place(self, key: &str) -> f64 {
        let top = xxh3_64_with_seed(key.as_bytes(), self.0) >> 11;
        #[expect(clippy::cast_precision_loss, reason = "53 bits are exact in a double")]
        let place = top as f64 / (1_u64 << 53) as f64;
        place
    }
}

/// One arm's part of the traffic: the places below `until` that no earlier share has.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Share {
    pub(super) arm: Arc<str>,
    pub(super) version: u32,
    pub(super) until: f64,
}

/// Shares in the order given; each part is in percent, and what is left is nobody's.
///
/// A share that grows takes from the end of its range on, so the first share (a canary's only one) loses no key then.
pub(super) fn shares<'a>(parts: impl Iterator<Item = (&'a Arc<str>, u32, f64)>) -> Vec<Share> {
    let mut until = 0.0;
    parts
        .map(|(arm, version, percent)| {
            until += percent / 100.0;
            Share { arm: Arc::clone(arm), version, until }
        })
        .collect()
}

/// The index of the share that has a place.
pub(super) fn find(shares: &[Share], place: f64) -> Option<usize> {
    shares.iter().position(|share| place < share.until)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEYS: u32 = 100_000;

    fn taken(salt: Salt, percent: f64) -> f64 {
        let count = (0..KEYS).filter(|key| salt.place(&format!("sensor-{key}")) < percent / 100.0).count();
        f64::from(u32::try_from(count).unwrap())
    }

    #[test]
    fn shares_are_within_binomial_bounds() {
        for percent in [0.0, 0.5, 1.0, 10.0, 33.0, 50.0, 90.0, 100.0] {
            for model in ["a", "b", "c"] {
                let share = percent / 100.0;
                let expected = f64::from(KEYS) * share;
                // Four standard deviations: one run in 16,000 would fail by chance, and the keys are fixed.
                let bound = 4.0 * (expected * (1.0 - share)).sqrt();
                let found = taken(Salt::new("task", model, "canary"), percent);
                assert!((found - expected).abs() <= bound, "{model} {percent} %: {found} of {KEYS}");
            }
        }
    }

    #[test]
    fn models_and_uses_place_keys_independently() {
        let salts = [("t", "a", "canary"), ("t", "b", "canary"), ("u", "a", "canary"), ("t", "a", "shadow")]
            .map(|(task, model, purpose)| Salt::new(task, model, purpose));
        for (index, one) in salts.iter().enumerate() {
            for other in &salts[index + 1..] {
                let both = (0..KEYS)
                    .map(|key| format!("sensor-{key}"))
                    .filter(|key| one.place(key) < 0.1 && other.place(key) < 0.1)
                    .count();
                let (both, expected) = (f64::from(u32::try_from(both).unwrap()), f64::from(KEYS) * 0.01);
                assert!((both - expected).abs() <= 4.0 * (expected * 0.99).sqrt(), "{one:?} {other:?}: {both}");
            }
        }
    }

    #[test]
    fn the_hash_is_a_contract() {
        // Other numbers here would move every sensor at the next update.
        let salt = Salt::new("pump-anomaly", "autoencoder", "canary");
        let places = ["pump-1", "pump-2", ""].map(|key| (salt.place(key) * 1e6).floor());
        assert_eq!(places, PLACES);
    }
    const PLACES: [f64; 3] = [362_402.0, 438_289.0, 167_324.0];

    proptest! {
        #[test]
        fn a_higher_percent_moves_no_key_out(key in ".*", low in 0.0..=100.0_f64, more in 0.0..=100.0_f64) {
            let arm: Arc<str> = "canary".into();
            let at = |percent| shares(std::iter::once((&arm, 2, percent)));
            let place = Salt::new("t", "m", "canary").place(&key);
            prop_assert!((0.0..1.0).contains(&place));
            prop_assert_eq!(place, Salt::new("t", "m", "canary").place(&key));
            if find(&at(low), place).is_some() {
                prop_assert!(find(&at((low + more).min(100.0)), place).is_some());
            }
            prop_assert!(find(&at(0.0), place).is_none());
            prop_assert!(find(&at(100.0), place).is_some());
        }

        #[test]
        fn arms_divide_the_places_without_gap(place in 0.0..1.0_f64, first in 0.0..50.0_f64, second in 0.0..50.0_f64) {
            let (b, c): (Arc<str>, Arc<str>) = ("b".into(), "c".into());
            let parts = shares([(&b, 2, first), (&c, 3, second)].into_iter());
            let expected = if place < first / 100.0 {
                Some(0)
            } else if place < parts[1].until {
                Some(1)
            } else {
                None
            };
            prop_assert_eq!(find(&parts, place), expected);
            prop_assert!((parts[1].until - (first + second) / 100.0).abs() < 1e-12);
        }
    }
}
