//! What is known of a version beside the default version, and whether that is enough for a verdict.
//!
//! Pure, and small whatever the traffic. Owns the verdict's rule: three questions (accuracy,
//! failures, run time), each with an anytime-valid test, so that it may be asked after every
//! observation. What follows from a verdict is `super::state`'s.
//!
//! The chance that a version within all limits is ever called worse is at most `1 - confidence`:
//! each question may spend a third of it (Bonferroni). A version is fine once all three are shown
//! to be within their limits, each at `confidence`; all must be shown, so nothing is divided there.

mod rates;
#[cfg(test)]
mod simulation;
mod times;

use serde::{Deserialize, Serialize};

use super::plan::Limits;
use rates::Rates;
use times::Times;

/// The two sides of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The default version.
    Stable,
    /// The version it is compared with.
    Canary,
}

/// What was found to be worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Criterion {
    /// Share of labelled answers that were right.
    Accuracy,
    /// Share of runs in which the model failed.
    Failures,
    /// Median of the run time in milliseconds.
    MedianLatency,
    /// 95th percentile of the run time in milliseconds.
    TailLatency,
}

/// Why a version was called worse; the numbers are in the criterion's unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// What is worse.
    pub what: Criterion,
    /// The default version's number.
    pub stable: f64,
    /// The other version's number.
    pub canary: f64,
    /// The limit that is broken, as in `model.toml`.
    pub limit: f64,
    /// Observations of the default version.
    pub stable_samples: u64,
    /// Observations of the other version.
    pub canary_samples: u64,
    /// One less the chance of so much evidence against a version within its limits, at any time.
    pub confidence: f64,
}

/// What may be said of a version.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// Not enough is known.
    Undecided,
    /// Shown to be within all limits.
    Fine,
    /// Shown to break a limit.
    Worse(Finding),
}

/// Where one question stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Standing {
    /// The default version's number, once there is one.
    pub stable: Option<f64>,
    /// The other version's number.
    pub canary: Option<f64>,
    /// Observations of the default version.
    pub stable_samples: u64,
    /// Observations of the other version.
    pub canary_samples: u64,
    /// Is the limit shown to be kept (`true`), shown to be broken (`false`), or neither?
    pub within: Option<bool>,
}

/// The evidence on one version beside the default version.
#[derive(Debug)]
pub struct Evidence {
    limits: Limits,
    accuracy: Rates,
    // A success counts as a hit, so that a lower share is worse, as with accuracy.
    runs: Rates,
    times: Times,
}

/// How many questions share the chance of a wrong verdict.
const QUESTIONS: f64 = 3.0;

impl Evidence {
    /// No evidence yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let fewest = f64::from(limits.min_samples);
        Self {
            limits,
            accuracy: Rates::new(fewest, limits.max_accuracy_drop),
            runs: Rates::new(fewest, limits.max_failure_rise),
            times: Times::new(fewest, limits.max_latency_ratio),
        }
    }

    /// Takes in a run that ended well; `ms` is what the model's run took, in milliseconds.
    pub fn ran(&mut self, side: Side, ms: f64) {
        self.runs.observe(side, true);
        self.times.observe(side, ms);
    }

    /// Takes in a reading that ran well with others: the run's time is taken in once, by another.
    pub fn shared(&mut self, side: Side) {
        self.runs.observe(side, true);
    }

    /// Takes in a run in which the model failed.
    pub fn failed(&mut self, side: Side) {
        self.runs.observe(side, false);
    }

    /// Takes in whether an answer was right.
    pub fn labelled(&mut self, side: Side, correct: bool) {
        self.accuracy.observe(side, correct);
    }

    /// The limit that is shown to be broken, if one is; cheap enough to ask after every observation.
    #[must_use]
    pub fn worse(&self) -> Option<Finding> {
        let floor = self.ln_broken();
        let found = |ln_evidence: f64| (ln_evidence >= floor).then_some(ln_evidence);
        if let Some(ln_evidence) = found(self.accuracy.ln_worse(floor)) {
            return Some(self.finding(Criterion::Accuracy, &self.accuracy_standing(), ln_evidence));
        }
        if let Some(ln_evidence) = found(self.runs.ln_worse(floor)) {
            return Some(self.finding(Criterion::Failures, &self.failures_standing(), ln_evidence));
        }
        let ln_evidence = found(self.times.ln_worse(floor))?;
        let median = self.times_standing(0.5);
        let slow = |standing: &Standing| Some(standing.canary? > standing.stable? * self.limits.max_latency_ratio);
        // The test is one; the words are for people, who know a slow model from one with a slow tail.
        if slow(&median) == Some(true) {
            return Some(self.finding(Criterion::MedianLatency, &median, ln_evidence));
        }
        Some(self.finding(Criterion::TailLatency, &self.times_standing(0.95), ln_evidence))
    }

    /// What may be said by now.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self.worse() {
            Some(finding) => Verdict::Worse(finding),
            None if self.standings().iter().all(|standing| standing.within == Some(true)) => Verdict::Fine,
            None => Verdict::Undecided,
        }
    }

    /// Where the three questions stand: accuracy, share of failed runs, median run time in milliseconds.
    #[must_use]
    pub fn standings(&self) -> [Standing; 3] {
        [self.accuracy_standing(), self.failures_standing(), self.times_standing(0.5)]
    }

    /// Logarithm of the evidence that shows a limit to be broken.
    fn ln_broken(&self) -> f64 {
        (QUESTIONS / (1.0 - self.limits.confidence)).ln()
    }

    fn within(&self, ln_worse: impl Fn(f64) -> f64, ln_within: impl Fn(f64) -> f64) -> Option<bool> {
        let (broken, kept) = (self.ln_broken(), (1.0 / (1.0 - self.limits.confidence)).ln());
        match (ln_worse(broken) >= broken, ln_within(kept) >= kept) {
            (true, _) => Some(false),
            (false, true) => Some(true),
            (false, false) => None,
        }
    }

    fn accuracy_standing(&self) -> Standing {
        let within = self.within(|floor| self.accuracy.ln_worse(floor), |floor| self.accuracy.ln_within(floor));
        standing(|side| self.accuracy.share(side), self.accuracy.samples(), within)
    }

    fn failures_standing(&self) -> Standing {
        let within = self.within(|floor| self.runs.ln_worse(floor), |floor| self.runs.ln_within(floor));
        standing(|side| self.runs.share(side).map(|share| 1.0 - share), self.runs.samples(), within)
    }

    fn times_standing(&self, quantile: f64) -> Standing {
        let within = self.within(|floor| self.times.ln_worse(floor), |floor| self.times.ln_within(floor));
        standing(|side| self.times.quantile(side, quantile), self.times.samples(), within)
    }

    fn finding(&self, what: Criterion, standing: &Standing, ln_evidence: f64) -> Finding {
        Finding {
            what,
            stable: standing.stable.unwrap_or_default(),
            canary: standing.canary.unwrap_or_default(),
            limit: match what {
                Criterion::Accuracy => self.limits.max_accuracy_drop,
                Criterion::Failures => self.limits.max_failure_rise,
                Criterion::MedianLatency | Criterion::TailLatency => self.limits.max_latency_ratio,
            },
            stable_samples: standing.stable_samples,
            canary_samples: standing.canary_samples,
            confidence: 1.0 - (QUESTIONS * (-ln_evidence).exp()).min(1.0),
        }
    }
}

fn standing(of: impl Fn(Side) -> Option<f64>, samples: (u64, u64), within: Option<bool>) -> Standing {
    Standing {
        stable: of(Side::Stable),
        canary: of(Side::Canary),
        stable_samples: samples.0,
        canary_samples: samples.1,
        within,
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { stable, canary, limit, stable_samples, canary_samples, confidence, .. } = self;
        match self.what {
            Criterion::Accuracy => write!(f, "accuracy {canary:.4} beside {stable:.4}, a drop of {limit} is allowed")?,
            Criterion::Failures => {
                write!(f, "share of failed runs {canary:.4} beside {stable:.4}, a rise of {limit} is allowed")?;
            }
            Criterion::MedianLatency | Criterion::TailLatency => {
                let name = if self.what == Criterion::TailLatency { "95th percentile" } else { "median" };
                write!(f, "{name} of the run time {canary:.3} ms beside {stable:.3} ms, {limit} times is allowed")?;
            }
        }
        write!(f, " ({canary_samples} and {stable_samples} observations, confidence {confidence:.4})")
    }
}
