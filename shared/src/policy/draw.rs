//! Randomness as an argument: numbers from a job's id, or spread evenly by the golden ratio.
//!
//! The policy never draws; the same id and salt give the same numbers on every side, so that a
//! decision can be repeated from its log.

/// The fractional part of the golden ratio in 1/2^64: multiples of it fill the circle most evenly (Weyl).
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The numbers behind one decision, each evenly spread over all of `u64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Draws {
    /// Compared with the probability of the dearer tier.
    pub split: u64,
    /// Compared with the share of exploration.
    pub explore: u64,
    /// Chooses a point of the accuracies' posteriors.
    pub sample: u64,
    /// Compared with the share that is refused; also the jitter of when to come back.
    pub admit: u64,
}

impl Draws {
    /// The draws of a job, from its id.
    #[must_use]
    pub const fn of_job(id: &[u8], salt: u64) -> Self {
        Self::from_hash(hash64(id, salt))
    }

    /// The draws of one evenly spread number.
    #[must_use]
    pub const fn from_hash(hash: u64) -> Self {
        Self { split: hash, explore: mix(hash ^ 1), sample: mix(hash ^ 2), admit: mix(hash ^ 3) }
    }

    /// The draws of the `step`-th job of one keeper: of any run of jobs nearly the exact share is under a probability.
    #[must_use]
    pub const fn stepped(start: u64, step: u64) -> Self {
        let split = start.wrapping_add(step.wrapping_mul(GOLDEN));
        let rest = mix(start ^ mix(step));
        Self { split, explore: mix(rest ^ 1), sample: mix(rest ^ 2), admit: mix(rest ^ 3) }
    }
}

/// A hash of bytes: FNV-1a, finished with the mixer of SplitMix64.
///
/// Not against opponents: who may choose ids may choose draws.
#[must_use]
pub const fn hash64(bytes: &[u8], salt: u64) -> u64 {
    let mut hash = 0xCBF2_9CE4_8422_2325 ^ mix(salt);
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        hash = (hash ^ *first as u64).wrapping_mul(0x0000_0100_0000_01B3);
        rest = tail;
    }
    mix(hash)
}

/// One step of SplitMix64 (Steele, Lea, Flood 2014).
#[must_use]
pub const fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(GOLDEN);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A draw as a number in 0..1, of 24 bits.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "24 bits fit")]
pub const fn fraction(draw: u64) -> f32 {
    (draw >> 40) as f32 / 16_777_216.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_stays_what_it_is() {
        // The first output of SplitMix64 from 0, as published with it.
        assert_eq!(mix(0), 0xE220_A839_7B1D_CDAF);
        let vectors = [(&b""[..], 0), (b"a", 0), (b"a", 1), (b"hydraulic-valve.0192", 7)];
        let hashes = vectors.map(|(bytes, salt)| hash64(bytes, salt));
        let reference = vectors.map(|(bytes, salt)| {
            let start = 0xCBF2_9CE4_8422_2325 ^ mix(salt);
            mix(bytes.iter().fold(start, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01B3)))
        });
        assert_eq!(hashes, reference);
        assert!(hashes.iter().enumerate().all(|(i, hash)| !hashes[..i].contains(hash)));
    }

    #[test]
    fn fractions_are_even_and_below_one() {
        assert!(fraction(u64::MAX) < 1.0);
        let mut tenths = [0_u32; 10];
        for id in 0..10_000_u32 {
            let at = fraction(Draws::of_job(&id.to_le_bytes(), 3).split) * 10.0;
            tenths[crate::policy::math::count(at) as usize] += 1;
        }
        assert!(tenths.iter().all(|count| (900..1_100).contains(count)), "{tenths:?}");
    }

    #[test]
    fn steps_of_the_golden_ratio_give_nearly_the_exact_share() {
        for share in [0.1_f32, 0.33, 0.9] {
            let under = (0..200).filter(|step| fraction(Draws::stepped(99, *step).split) < share).count();
            #[expect(clippy::cast_precision_loss, reason = "at most 200")]
            let off = (under as f32 - 200.0 * share).abs();
            assert!(off <= 3.0, "{share}: {off}");
        }
    }
}
