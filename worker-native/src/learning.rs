//! What is learned from labels: which answer a label means, that it counts once, and what is then believed.
//!
//! The arithmetic is `shared::accuracy`'s, the store the queue's (`Labels`). A belief is read, reckoned on and written
//! back on the condition that nobody did so meanwhile; with the write the answer counts as labelled. So every process
//! reckons the same, on every backend, and a label is one step of the store. Evidence on versions in a trial is
//! `rollout`'s, and what routing makes of an accuracy is `routing`'s.

pub mod answers;
pub mod inputs;
pub mod pairs;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use shared::accuracy::{Belief, Drift, Label, Posterior, Prior, Settings};

use crate::config::LearningConfig;
use crate::queue::{self, Labelled, NewLabel, Queue, QueueError};
use crate::rollout::{Known, ledger};
use inputs::Inputs;
use pairs::Pairs;

/// How often a label is reckoned again because another process was first.
const TRIES: u32 = 100;

/// What came of a label.
#[derive(Debug, Clone, PartialEq)]
pub enum Counting {
    /// It counted, and this is believed now.
    Counted(Belief, Drift),
    /// The answer was labelled before.
    Before,
    /// Others were always first; it did not count.
    Busy,
}

/// A belief as last read.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    head: String,
    /// What the head says; what cannot be read counts as nothing.
    pub belief: Belief,
    /// Why it cannot be read.
    pub fault: Option<String>,
}

type Line = Arc<tokio::sync::Mutex<queue::Belief>>;

/// This process's part in learning.
#[derive(Debug)]
pub struct Learning {
    config: LearningConfig,
    /// What each version's belief was after this process's last label; one label of a version at a time.
    lines: Mutex<HashMap<(String, String), Line>>,
    /// What was seen of readings.
    pub inputs: Inputs,
    /// What came of readings that two tiers answered.
    pub pairs: Pairs,
    /// Stated accuracies, by task and model.
    pins: RwLock<HashMap<String, BTreeMap<String, f32>>>,
    /// By task and version.
    seen: RwLock<HashMap<String, BTreeMap<String, Seen>>>,
}

/// What a version's belief goes by.
#[must_use]
pub fn version_key(model: &str, version: u32) -> String {
    format!("{model}/{version}")
}

impl Learning {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(config: &LearningConfig) -> Self {
        Self {
            config: config.clone(),
            lines: Mutex::default(),
            inputs: Inputs::default(),
            pairs: Pairs::new(config.pair_share),
            pins: RwLock::default(),
            seen: RwLock::default(),
        }
    }

    /// Takes in the stated accuracies of a task as they were read.
    pub fn set_pins(&self, task: &str, pins: BTreeMap<String, f32>) {
        self.pins.write().unwrap_or_else(PoisonError::into_inner).insert(task.to_owned(), pins);
    }

    /// What somebody stated of a model, as last read.
    #[must_use]
    pub fn pinned(&self, task: &str, model: &str) -> Option<f32> {
        self.pins.read().unwrap_or_else(PoisonError::into_inner).get(task)?.get(model).copied()
    }

    /// How labels are weighed.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.config.settings
    }

    /// What is believed before the first label, by the accuracy of the training report.
    #[must_use]
    pub fn prior(&self, trained: Option<f32>) -> Prior {
        Prior::new(trained.map(f64::from), self.config.settings.prior_weight)
    }

    /// Counts a label, once in all processes, and learns from it; `correct` is none where it says nothing of the answer
    /// that it teaches about ([`crate::rollout::Answered::teaches`]).
    ///
    /// # Errors
    /// [`QueueError`]; the label may then have counted or not, and sending it again is harmless.
    pub async fn count(
        &self,
        queue: &dyn Queue,
        known: &Known,
        correct: Option<bool>,
        now_ms: u64,
    ) -> Result<Counting, QueueError> {
        let answered = &known.answered;
        let (model, version, propensity) = answered.teaches();
        let (task, version) = (answered.task.to_string(), version_key(model, version));
        let label = correct.map(|correct| Label { job_ms: known.at, correct, propensity: propensity.map(f64::from) });
        let line = {
            let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(lines.entry((task.clone(), version.clone())).or_default())
        };
        let mut stored = line.lock().await;
        for attempt in 0..TRIES {
            let mut belief = read(&task, &version, &stored);
            let drift = label.map(|label| belief.learn(&label, &self.config.settings, now_ms)).unwrap_or_default();
            let (head, tail) = belief.to_texts();
            let after = queue::Belief { head, tail };
            let label = NewLabel {
                answer: known.name.clone(),
                remember: self.config.remember(known.is_job),
                version: version.clone(),
                before: stored.head.clone(),
                after: after.clone(),
            };
            match queue.label(&task, &label).await? {
                Labelled::Counted => {
                    self.see(&task, &version, &after.head);
                    *stored = after;
                    return Ok(Counting::Counted(belief, drift));
                }
                Labelled::Before => return Ok(Counting::Before),
                Labelled::Moved(now) => *stored = now,
            }
            if attempt > 1 {
                tokio::time::sleep(Duration::from_micros(fastrand::u64(0..2_000))).await;
            }
        }
        Ok(Counting::Busy)
    }

    /// Takes in the beliefs of a task as they were read; there are no others.
    pub fn took(&self, task: &str, heads: &[(String, String)]) {
        for (version, head) in heads {
            self.see(task, version, head);
        }
        let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(seen) = seen.get_mut(task) {
            seen.retain(|version, _| heads.iter().any(|(known, _)| known == version));
        }
    }

    fn see(&self, task: &str, version: &str, head: &str) {
        let known = self.with(task, version, |seen| seen.head == head);
        if known == Some(true) {
            return;
        }
        let (belief, fault) = match Belief::from_head(head) {
            Ok(belief) => (belief, None),
            Err(fault) => {
                tracing::warn!(
                    task,
                    version,
                    fault,
                    "what is believed of a version cannot be read; it is learned anew"
                );
                (Belief::default(), Some(fault))
            }
        };
        let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        let task = seen.entry(task.to_owned()).or_default();
        task.insert(version.to_owned(), Seen { head: head.to_owned(), belief, fault });
    }

    fn with<T>(&self, task: &str, version: &str, look: impl FnOnce(&Seen) -> T) -> Option<T> {
        let seen = self.seen.read().unwrap_or_else(PoisonError::into_inner);
        seen.get(task)?.get(version).map(look)
    }

    /// What is believed of a version, as last read; none where it has no label.
    #[must_use]
    pub fn belief(&self, task: &str, model: &str, version: u32) -> Option<Seen> {
        self.with(task, &version_key(model, version), Seen::clone)
    }

    /// The posterior of a version; none where it has no label.
    #[must_use]
    pub fn posterior(
        &self,
        (task, model, version): (&str, &str, u32),
        trained: Option<f32>,
        now_ms: u64,
    ) -> Option<Posterior> {
        let of = |seen: &Seen| seen.belief.posterior(&self.prior(trained), &self.config.settings, now_ms);
        let labelled = |seen: &Seen| (seen.belief.labels() > 0).then(|| of(seen));
        self.with(task, &version_key(model, version), labelled).flatten()
    }

    /// What a version's labels are worth, in labels of this moment.
    #[must_use]
    pub fn n_eff(&self, of: (&str, &str, u32), now_ms: u64) -> f32 {
        #[expect(clippy::cast_possible_truncation, reason = "a number of labels")]
        let n_eff = self.posterior(of, None, now_ms).map_or(0.0, |posterior| posterior.n_eff as f32);
        n_eff
    }

    /// Has a detector raised exploration for a version?
    #[must_use]
    pub fn is_alarmed(&self, (task, model, version): (&str, &str, u32), now_ms: u64) -> bool {
        self.with(task, &version_key(model, version), |seen| seen.belief.is_alarmed(now_ms)) == Some(true)
    }

    /// What routing is to believe of a version's accuracy: the posterior's mean, else the training report.
    #[must_use]
    pub fn accuracy(&self, of: (&str, &str, u32), trained: Option<f32>, now_ms: u64) -> Option<f32> {
        #[expect(clippy::cast_possible_truncation, reason = "from 0 to 1, and kept as float32 everywhere else")]
        let learned = self.posterior(of, trained, now_ms).map(|posterior| posterior.mean() as f32);
        learned.or(trained)
    }
}

/// A stored belief; what cannot be read is nothing.
fn read(task: &str, version: &str, stored: &queue::Belief) -> Belief {
    if stored.head.is_empty() {
        return Belief::default();
    }
    Belief::from_texts(&stored.head, &stored.tail).unwrap_or_else(|fault| {
        tracing::warn!(task, version, fault, "what was believed of a version cannot be read; it is learned anew");
        Belief::default()
    })
}

impl LearningConfig {
    /// How long it is remembered that an answer was labelled: for as long as anything can find the answer, and a while.
    fn remember(&self, is_job: bool) -> Duration {
        let kept = if is_job { self.result_ttl.max(self.label_ttl) } else { self.label_ttl };
        kept.max(Duration::from_millis(ledger::KEEP_MS)) + Duration::from_secs(60)
    }
}

#[cfg(test)]
mod tests;
