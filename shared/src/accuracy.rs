//! What is believed of a model version's accuracy, learned from labels that come late, out of order and for some answers only.
//!
//! Owns the arithmetic: the posterior (`posterior`), forgetting by the time of the job, weights against the bias of
//! routing, and the two detectors of drift (`page_hinkley`, `adwin`). It refuses to own where the state lies and when a
//! label counts: callers bring labels, each once, and the time, and keep the two texts that the state is.

mod adwin;
mod page_hinkley;
mod posterior;

use serde::{Deserialize, Serialize};

pub use adwin::Adwin;
pub use page_hinkley::PageHinkley;
pub use posterior::{Evidence, Posterior, Prior};

/// The version of the state's texts; others are not read.
const FORMAT: u32 = 1;
/// How long an alarm raises exploration, in milliseconds.
pub const ALARM_MS: u64 = 300_000;
/// Highest weight against the bias of routing: an answer that had one chance in more than so many counts as this.
pub const CLIP: f64 = 20.0;

/// How labels are weighed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// After so many milliseconds an answer's label counts half.
    pub half_life_ms: f64,
    /// How many labels the training report's accuracy counts as.
    pub prior_weight: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { half_life_ms: 1_800_000.0, prior_weight: 20.0 }
    }
}

/// Whether one answer was right.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Label {
    /// When the answer was asked for, in Unix milliseconds; forgetting goes by it.
    pub job_ms: u64,
    /// Was the answer right?
    pub correct: bool,
    /// The chance that the version had to be chosen, as logged with the decision; none where the choice was not drawn.
    pub propensity: Option<f64>,
}

impl Label {
    /// The inverse of the propensity, clipped ([`CLIP`]); 1 where the choice was not drawn.
    #[must_use]
    pub fn weight(&self) -> f64 {
        match self.propensity {
            Some(propensity) if propensity > 0.0 => (1.0 / propensity).clamp(1.0, CLIP),
            Some(_) => CLIP,
            None => 1.0,
        }
    }
}

/// What a label brought to light.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Drift {
    /// Errors became more frequent (Page-Hinkley).
    pub alarm: bool,
    /// What is older differs from what is newer, and no longer counts (ADWIN).
    pub cut: bool,
}

/// The part of the state that is read often; small.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Head {
    v: u32,
    labels: u64,
    correct: u64,
    evidence: Evidence,
    last_ms: u64,
    alarms: u64,
    cuts: u64,
    window: u64,
    explore_until_ms: u64,
}

/// The part that only the next label needs: a few kilobytes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Tail {
    v: u32,
    labels: u64,
    page_hinkley: PageHinkley,
    adwin: Adwin,
}

/// A belief about one model version's accuracy, as its labels made it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Belief {
    head: Head,
    page_hinkley: PageHinkley,
    adwin: Adwin,
}

impl Belief {
    /// Takes a label in. A job time after `now_ms` counts as now: a clock that is ahead must not make all else old.
    pub fn learn(&mut self, label: &Label, settings: &Settings, now_ms: u64) -> Drift {
        let job_ms = label.job_ms.min(now_ms);
        let mut one = Evidence::default();
        one.add(label.weight(), label.correct, job_ms, settings.half_life_ms);
        self.head.labels += 1;
        self.head.correct += u64::from(label.correct);
        self.head.last_ms = self.head.last_ms.max(now_ms);
        self.head.evidence.merge(&one, settings.half_life_ms);
        let alarm = self.page_hinkley.add(if label.correct { 0.0 } else { 1.0 });
        let cut = self.adwin.add(!label.correct, &one, settings.half_life_ms);
        if cut {
            self.head.cuts += 1;
            self.head.evidence = self.adwin.evidence(settings.half_life_ms);
        }
        self.head.window = self.adwin.width();
        self.head.alarms += u64::from(alarm);
        if alarm || cut {
            self.head.explore_until_ms = self.head.explore_until_ms.max(now_ms.saturating_add(ALARM_MS));
        }
        Drift { alarm, cut }
    }

    /// What is believed at a time, from a prior and the labels.
    #[must_use]
    pub fn posterior(&self, prior: &Prior, settings: &Settings, now_ms: u64) -> Posterior {
        Posterior::new(prior, &self.head.evidence.at(now_ms, settings.half_life_ms))
    }

    /// Labels so far, those that are forgotten included.
    #[must_use]
    pub const fn labels(&self) -> u64 {
        self.head.labels
    }

    /// Those of them that said "right".
    #[must_use]
    pub const fn correct(&self) -> u64 {
        self.head.correct
    }

    /// When the last label came, in Unix milliseconds; none before the first.
    #[must_use]
    pub fn last_label_ms(&self) -> Option<u64> {
        (self.head.labels > 0).then_some(self.head.last_ms)
    }

    /// How often errors became more frequent, as Page-Hinkley saw it.
    #[must_use]
    pub const fn alarms(&self) -> u64 {
        self.head.alarms
    }

    /// How often ADWIN cut off what is older.
    #[must_use]
    pub const fn cuts(&self) -> u64 {
        self.head.cuts
    }

    /// Is exploration raised at a time?
    #[must_use]
    pub const fn is_alarmed(&self, now_ms: u64) -> bool {
        now_ms < self.head.explore_until_ms
    }

    /// Labels in ADWIN's window: those since what is believed last changed.
    #[must_use]
    pub const fn window(&self) -> u64 {
        self.head.window
    }

    /// The two texts of the state: the part that is read often, and the part that only the next label needs.
    #[must_use]
    pub fn to_texts(&self) -> (String, String) {
        let head = Head { v: FORMAT, ..self.head };
        let (page_hinkley, adwin) = (self.page_hinkley, self.adwin.clone());
        let tail = Tail { v: FORMAT, labels: self.head.labels, page_hinkley, adwin };
        // Numbers only, and finite: they are always JSON.
        (serde_json::to_string(&head).unwrap_or_default(), serde_json::to_string(&tail).unwrap_or_default())
    }

    /// The belief without its detectors, as far as reading it needs.
    ///
    /// # Errors
    /// Why the text is not one of ours.
    pub fn from_head(head: &str) -> Result<Self, String> {
        let head: Head = serde_json::from_str(head).map_err(|error| error.to_string())?;
        if head.v != FORMAT {
            return Err(format!("its format is {}, this version reads {FORMAT}", head.v));
        }
        if !head.evidence.is_sane() || head.correct > head.labels {
            return Err("its numbers do not fit each other".to_owned());
        }
        // The number is the text's.
        Ok(Self { head: Head { v: 0, ..head }, ..Self::default() })
    }

    /// The whole belief. A tail that cannot be read, or is another head's, is as good as none: the detectors begin anew.
    ///
    /// # Errors
    /// Why the head is not one of ours.
    pub fn from_texts(head: &str, tail: &str) -> Result<Self, String> {
        let mut belief = Self::from_head(head)?;
        let fits = |tail: &Tail| tail.v == FORMAT && tail.labels == belief.head.labels;
        let tail = serde_json::from_str::<Tail>(tail).ok().filter(fits);
        if let Some(tail) = tail.filter(|tail| tail.page_hinkley.is_sane() && tail.adwin.is_sane()) {
            (belief.page_hinkley, belief.adwin) = (tail.page_hinkley, tail.adwin);
        }
        Ok(belief)
    }
}

/// The most that two models' accuracies can differ when they disagreed on so many of so many readings: the upper end of
/// Wilson's 95 % interval of the disagreement rate. Needs no labels, since where both say the same both are right or both
/// wrong: |a1 - a2| <= d. None without a pair.
#[must_use]
pub fn disagreement_bound(disagreed: u64, compared: u64) -> Option<f64> {
    if compared == 0 {
        return None;
    }
    let n = posterior::to_f64(compared);
    let rate = posterior::to_f64(disagreed.min(compared)) / n;
    // The 97.5th percentile of the normal distribution.
    let z = 1.959_964;
    let centre = rate + z * z / (2.0 * n);
    let spread = z * (rate * (1.0 - rate) / n + z * z / (4.0 * n * n)).sqrt();
    Some(((centre + spread) / (1.0 + z * z / n)).min(1.0))
}

#[cfg(test)]
mod tests;
