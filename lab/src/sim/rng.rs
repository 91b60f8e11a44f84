//! Randomness of the simulator: streams with a seed, and numbers that belong to a job.
//!
//! What belongs to a job (its isolate, its class, whether it is labelled) is a hash of the job, not
//! the next number of a stream: so every policy meets the very same jobs.

pub(crate) use shared::policy::draw::mix;

/// Salts of the numbers that belong to a job.
pub(crate) mod salt {
    /// Is the answer labelled?
    pub(crate) const LABELLED: u64 = 1;
    /// Is the answer right?
    pub(crate) const CORRECT: u64 = 2;
    /// The policy's own draw.
    pub(crate) const ROUTE: u64 = 3;
    /// Does an isolate get a snapshot?
    pub(crate) const LOST: u64 = 4;
    /// Which isolate does a job come to?
    pub(crate) const ISOLATE: u64 = 12;
}

/// A stream of random numbers.
#[derive(Debug)]
pub(crate) struct Rng(fastrand::Rng);

impl Rng {
    /// The stream of a seed; different `salt`s give independent streams.
    pub(crate) fn new(seed: u64, salt: u64) -> Self {
        Self(fastrand::Rng::with_seed(mix(seed ^ mix(salt))))
    }

    /// Uniform over 0 (included) to 1 (excluded).
    pub(crate) fn unit(&mut self) -> f64 {
        self.0.f64()
    }

    /// Exponential with mean 1.
    pub(crate) fn exponential(&mut self) -> f64 {
        -(1.0 - self.unit()).ln()
    }

    /// Standard normal, by Box and Muller.
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Gamma with the given shape and mean 1 (Marsaglia and Tsang 2000).
    pub(crate) fn gamma(&mut self, shape: f64) -> f64 {
        // Below 1 the method needs one more: G(shape) = G(shape + 1) · U^(1/shape).
        let boost = if shape < 1.0 { self.unit().max(f64::MIN_POSITIVE).powf(1.0 / shape) } else { 1.0 };
        let d = if shape < 1.0 { shape + 1.0 } else { shape } - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            if v > 0.0 && (1.0 - self.unit()).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return d * v * boost / shape;
            }
        }
    }
}

/// Uniform over 0 to 1, of a job and a purpose.
pub(crate) fn of_job(seed: u64, job: u32, salt: u64) -> f64 {
    let bits = mix(mix(seed ^ salt.rotate_left(32)) ^ u64::from(job));
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(mut draw: impl FnMut() -> f64) -> (f64, f64) {
        let draws: Vec<f64> = (0..200_000).map(|_| draw()).collect();
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / draws.len() as f64;
        (mean, variance)
    }

    #[test]
    fn gamma_has_the_mean_and_the_variance_asked_for() {
        for shape in [0.125, 0.5, 1.0, 4.0] {
            let mut rng = Rng::new(1, 2);
            let (mean, variance) = moments(|| rng.gamma(shape));
            assert!((mean - 1.0).abs() < 0.03, "{shape}: {mean}");
            assert!((variance * shape - 1.0).abs() < 0.06, "{shape}: {variance}");
        }
    }

    #[test]
    fn a_jobs_numbers_are_uniform_and_its_own() {
        let (mean, variance) = moments({
            let mut job = 0;
            move || {
                job += 1;
                of_job(7, job, 3)
            }
        });
        assert!((mean - 0.5).abs() < 0.005 && (variance - 1.0 / 12.0).abs() < 0.002);
        assert_eq!(of_job(7, 5, 3), of_job(7, 5, 3));
        assert_ne!(of_job(7, 5, 3), of_job(7, 5, 4));
    }
}
