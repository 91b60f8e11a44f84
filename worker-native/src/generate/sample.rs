//! Which character comes next: greedy, or drawn by the model's probabilities and a seed.
//!
//! Whole numbers, basic float64 operations and a portable `exp` only, and a generator of random
//! numbers of our own in ten lines: what a seed gives must not change with the processor, the
//! standard library or a crate's next release.

/// Largest seed: every whole number up to it is exact in JSON readers that know float64 only (RFC 8259 §6).
pub const MAX_SEED: u64 = (1 << 53) - 1;

/// `SplitMix64` (Steele, Lea, Flood, OOPSLA 2014, doi 10.1145/2660193.2660195).
#[derive(Debug, Clone)]
struct SplitMix64(u64);

impl SplitMix64 {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// At least 0, below 1, in steps of 2^-53.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit into a float64 exactly")]
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Chooses characters, one draw a step.
#[derive(Debug, Clone)]
pub(super) struct Sampler {
    random: SplitMix64,
    temperature: f64,
}

impl Sampler {
    /// With temperature 0 the likeliest character is taken and the seed has no part.
    pub(super) const fn new(temperature: f64, seed: u64) -> Self {
        Self { random: SplitMix64(seed), temperature }
    }

    /// The id of the next character, from its log-probabilities up to a constant; never id 0.
    ///
    /// The chance of id `i` is `exp(logits[i] / temperature)`, divided by the sum over all ids from 1.
    /// Of equally likely ones, greedy takes the lowest id.
    pub(super) fn pick(&mut self, logits: &[f32]) -> Result<usize, String> {
        if let Some(bad) = logits.iter().find(|logit| !logit.is_finite()) {
            return Err(format!("the model's output has {bad} among its logits"));
        }
        let mut best = (0, f64::NEG_INFINITY);
        for (id, logit) in logits.iter().enumerate().skip(1) {
            if f64::from(*logit) > best.1 {
                best = (id, f64::from(*logit));
            }
        }
        if best.0 == 0 {
            return Err(format!("the model's output has {} logits, too few to choose from", logits.len()));
        }
        // One draw a step in any case: the state then depends on the number of steps only.
        let drawn = self.random.unit();
        if self.temperature <= 0.0 {
            return Ok(best.0);
        }
        let weights: Vec<f64> =
            logits.iter().skip(1).map(|logit| libm::exp((f64::from(*logit) - best.1) / self.temperature)).collect();
        let mut left = drawn * weights.iter().sum::<f64>();
        for (id, weight) in (1..).zip(&weights) {
            if left < *weight {
                return Ok(id);
            }
            left -= weight;
        }
        // Rounding can leave a rest past the last weight.
        Ok(best.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_the_published_one() {
        // From the reference implementation, https://prng.di.unimi.it/splitmix64.c, seed 1234567.
        let mut random = SplitMix64(1_234_567);
        let first: Vec<u64> = (0..3).map(|_| random.next()).collect();
        assert_eq!(first, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
        assert!((0..10_000).map(|_| random.unit()).all(|unit| (0.0..1.0).contains(&unit)));
    }

    #[test]
    fn characters_come_as_often_as_their_probabilities_say() {
        // ln of 0.5, 0.3, 0.15, 0.05; id 0 would be the likeliest by far.
        let chances = [0.5_f64, 0.3, 0.15, 0.05];
        #[expect(clippy::cast_possible_truncation, reason = "logits are float32")]
        let logits: Vec<f32> = std::iter::once(9.0).chain(chances.map(|chance| chance.ln() as f32)).collect();
        let draws = 100_000;
        let mut sampler = Sampler::new(1.0, 7);
        let mut counts = [0_u32; 5];
        for _ in 0..draws {
            counts[sampler.pick(&logits).unwrap()] += 1;
        }
        assert_eq!(counts[0], 0, "id 0 is never produced");
        // Pearson's test, 3 degrees of freedom: 16.27 is exceeded once in a thousand.
        let misfit: f64 = chances
            .iter()
            .zip(&counts[1..])
            .map(|(chance, count)| {
                let expected = chance * f64::from(draws);
                (f64::from(*count) - expected).powi(2) / expected
            })
            .sum();
        assert!(misfit < 16.27, "{counts:?}: {misfit}");
    }

    #[test]
    fn temperature_sharpens_and_flattens() {
        let logits = [0.0, 1.0, 0.0];
        let share_of_first = |temperature: f64| {
            let mut sampler = Sampler::new(temperature, 1);
            let first = (0..10_000).filter(|_| sampler.pick(&logits).unwrap() == 1).count();
            f64::from(u32::try_from(first).unwrap()) / 10_000.0
        };
        for temperature in [0.25_f64, 0.5, 1.0, 2.0] {
            let wanted = 1.0 / (1.0 + (-1.0 / temperature).exp());
            let got = share_of_first(temperature);
            assert!((got - wanted).abs() < 0.02, "temperature {temperature}: {got} and not {wanted}");
        }
        assert_eq!(share_of_first(0.0), 1.0);
        assert_eq!(share_of_first(f64::MIN_POSITIVE), 1.0);
    }

    #[test]
    fn greedy_takes_the_likeliest_and_of_equals_the_first() {
        let mut sampler = Sampler::new(0.0, 3);
        assert_eq!(sampler.pick(&[9.0, 1.0, 2.0, 2.0]), Ok(2));
        assert_eq!(sampler.pick(&[0.0, f32::MIN]), Ok(1));
    }

    #[test]
    fn an_output_that_is_no_choice_is_an_error() {
        let mut sampler = Sampler::new(1.0, 3);
        assert!(sampler.pick(&[0.0, f32::NAN]).unwrap_err().contains("NaN"));
        assert!(sampler.pick(&[0.0, f32::INFINITY]).unwrap_err().contains("inf"));
        assert!(sampler.pick(&[0.0]).unwrap_err().contains("1 logits"));
        assert!(sampler.pick(&[]).is_err());
    }
}
