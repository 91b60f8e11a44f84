//! One model's rollout at run time: the plan in force, the evidence, and the way back.
//!
//! Owns the change from "on trial" to "rolled back" and back; telling other processes is `relay`'s.
//! Reading the plan takes no lock ([`Rollout::assign`]); observations and changes share one, so an
//! observation counts for the plan it was made under or not at all.

mod relay;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use tokio_util::task::TaskTracker;

use super::ModelVersions;
use super::assign::{Assignment, DEFAULT_ARM, Salt, Share, find, shares};
use super::evidence::{Evidence, Finding, Side};
use super::facts::SharedState;
use super::plan::{Limits, RolloutConfig};
use super::shadow::Shadow;

// One count for all rollouts: an observation made under a plan that was since replaced must find no plan of its number.
static EPOCHS: AtomicU64 = AtomicU64::new(1);

/// Longest reason of a roll-back by hand that is kept, in bytes.
const MAX_REASON: usize = 512;

/// Who took a plan out of traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// The test.
    Test,
    /// A person.
    Operator,
}

/// Why and when a plan was taken out of traffic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RolledBack {
    /// Unix milliseconds.
    pub at: u64,
    /// Who did it.
    pub by: By,
    /// In words.
    pub reason: String,
    /// The test's numbers.
    pub finding: Option<Finding>,
}

/// How one run of a model ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Run {
    /// Well, in so many milliseconds.
    Ended {
        /// What the run itself took, without waiting.
        ms: f64,
    },
    /// Well, in a batch whose time is taken in with another of its readings.
    Shared,
    /// The model failed. A full queue, a deadline or a shutdown is no run.
    Failed,
}

/// The plan as readings meet it; replaced whole.
#[derive(Debug)]
struct InForce {
    epoch: u64,
    shares: Vec<Share>,
    state: SharedState,
}

/// What was counted of one version since the process started, whatever brought it the readings.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) runs: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) labels: AtomicU64,
    pub(super) correct: AtomicU64,
}

/// One arm of the plan as configured.
#[derive(Debug)]
pub(super) struct PlannedArm {
    pub(super) arm: Arc<str>,
    pub(super) version: u32,
    pub(super) percent: f64,
}

/// One model's rollout.
#[derive(Debug)]
pub struct Rollout {
    pub(super) task: Arc<str>,
    pub(super) model: Arc<str>,
    pub(super) default_version: u32,
    pub(super) arms: Vec<PlannedArm>,
    // The name under which the default version is compared: `stable` beside a canary.
    pub(super) default_arm: Arc<str>,
    pub(super) is_canary: bool,
    pub(super) limits: Limits,
    pub(super) counts: BTreeMap<u32, Counts>,
    pub(super) shadow: Option<Arc<Shadow>>,
    outside: Arc<str>,
    salt: Salt,
    now: ArcSwap<InForce>,
    evidence: Mutex<Vec<Evidence>>,
}

impl Rollout {
    /// The rollout of one model, its plan in force as configured and nothing observed.
    #[must_use]
    pub fn new(model: &ModelVersions, config: &RolloutConfig, tasks: &TaskTracker) -> Self {
        let canary = config.canary.as_ref().map(|canary| PlannedArm {
            arm: "canary".into(),
            version: canary.version,
            percent: canary.percent,
        });
        let named = config.arms.iter().map(|arm| PlannedArm {
            arm: arm.name.as_str().into(),
            version: arm.version,
            percent: arm.weight,
        });
        let is_canary = canary.is_some();
        let arms: Vec<PlannedArm> = canary.into_iter().chain(named).collect();
        let salt = |purpose| Salt::new(&model.task, &model.model, purpose);
        let state = SharedState::new(0, arms.first().filter(|_| is_canary).map(|arm| arm.percent), None);
        let limits = config.canary.as_ref().map(|canary| canary.limits).unwrap_or_default();
        let shadow = config.shadow.as_ref().map(|plan| Arc::new(Shadow::new(plan, salt("shadow"), tasks.clone())));
        let rollout = Self {
            task: model.task.as_str().into(),
            model: model.model.as_str().into(),
            default_version: model.default_version,
            default_arm: if is_canary { "stable" } else { DEFAULT_ARM }.into(),
            outside: DEFAULT_ARM.into(),
            is_canary,
            limits,
            counts: model.versions.iter().map(|version| (*version, Counts::default())).collect(),
            shadow,
            salt: salt(if is_canary { "canary" } else { "arms" }),
            now: ArcSwap::from_pointee(InForce { epoch: 0, shares: vec![], state: state.clone() }),
            evidence: Mutex::new(vec![]),
            arms,
        };
        rollout.put_in_force(&mut rollout.locked(), state);
        rollout
    }

    /// The version that answers unless the plan says otherwise.
    #[must_use]
    pub const fn default_version(&self) -> u32 {
        self.default_version
    }

    /// Is a version on trial?
    #[must_use]
    pub const fn is_canary(&self) -> bool {
        self.is_canary
    }

    /// The version that answers a reading that names none; `key` is its sensor id, else its request id.
    #[must_use]
    pub fn assign(&self, key: &str) -> Assignment {
        if self.arms.is_empty() {
            return self.pinned(self.default_version);
        }
        let now = self.now.load();
        if now.state.rolled_back.is_some() {
            return self.pinned(self.default_version);
        }
        let (version, arm, slot) = match find(&now.shares, self.salt.place(key)) {
            Some(index) => now
                .shares
                .get(index)
                .map_or((self.default_version, &self.default_arm, 0), |share| (share.version, &share.arm, index + 1)),
            None => (self.default_version, &self.default_arm, 0),
        };
        Assignment { version, arm: Arc::clone(arm), slot: Some(slot), epoch: now.epoch }
    }

    /// The assignment of a version that the caller chose: it is counted, and is no evidence.
    #[must_use]
    pub fn pinned(&self, version: u32) -> Assignment {
        Assignment { version, arm: Arc::clone(&self.outside), slot: None, epoch: 0 }
    }

    /// The assignment of a job that the plan gave this version, perhaps in another process.
    ///
    /// A job carries its version and not its arm. For a version that the caller named, use [`Self::pinned`].
    #[must_use]
    pub fn planned(&self, version: u32) -> Assignment {
        let now = self.now.load();
        if self.arms.is_empty() || now.state.rolled_back.is_some() {
            return self.pinned(version);
        }
        let arm = self.arms.iter().position(|arm| arm.version == version);
        let (arm, slot) = match arm {
            Some(index) => (self.arms.get(index).map_or(&self.outside, |arm| &arm.arm), index + 1),
            None if version == self.default_version => (&self.default_arm, 0),
            None => return self.pinned(version),
        };
        Assignment { version, arm: Arc::clone(arm), slot: Some(slot), epoch: now.epoch }
    }

    /// The runner beside an answer, where this key is to be shadowed and the shadow is not what answers.
    #[must_use]
    pub fn shadow(&self, key: &str, answered_by: u32) -> Option<&Arc<Shadow>> {
        self.shadow.as_ref().filter(|shadow| shadow.version() != answered_by && shadow.covers(key))
    }

    /// Takes in how a run ended; says so if that is what takes the canary out of traffic.
    ///
    /// The readings of one batch share a run: its time is taken in once ([`Run::Shared`] for the others), or the test
    /// believes itself surer than it is.
    pub fn ran(&self, assignment: &Assignment, run: Run, now_ms: u64) -> Option<RolledBack> {
        if let Some(counts) = self.counts.get(&assignment.version) {
            counts.runs.fetch_add(1, Ordering::Relaxed);
            counts.failures.fetch_add(u64::from(run == Run::Failed), Ordering::Relaxed);
        }
        self.observe(assignment, now_ms, |evidence, side| match run {
            Run::Ended { ms } => evidence.ran(side, ms),
            Run::Shared => evidence.shared(side),
            Run::Failed => evidence.failed(side),
        })
    }

    /// Takes in whether an answer was right; says so if that is what takes the canary out of traffic.
    pub fn labelled(&self, assignment: &Assignment, correct: bool, now_ms: u64) -> Option<RolledBack> {
        if let Some(counts) = self.counts.get(&assignment.version) {
            counts.labels.fetch_add(1, Ordering::Relaxed);
            counts.correct.fetch_add(u64::from(correct), Ordering::Relaxed);
        }
        self.observe(assignment, now_ms, |evidence, side| evidence.labelled(side, correct))
    }

    fn observe(
        &self,
        assignment: &Assignment,
        now_ms: u64,
        mut take_in: impl FnMut(&mut Evidence, Side),
    ) -> Option<RolledBack> {
        let slot = assignment.slot?;
        let mut all = self.locked();
        let now = self.now.load();
        if now.epoch != assignment.epoch || now.state.rolled_back.is_some() {
            return None;
        }
        if let Some(index) = slot.checked_sub(1) {
            take_in(all.get_mut(index)?, Side::Canary);
        } else {
            all.iter_mut().for_each(|evidence| take_in(evidence, Side::Stable));
        }
        let finding = if self.is_canary { all.first()?.worse()? } else { return None };
        let rolled_back = RolledBack { at: now_ms, by: By::Test, reason: finding.to_string(), finding: Some(finding) };
        tracing::warn!(
            task = %self.task, model = %self.model, version = self.arms.first().map_or(0, |arm| arm.version),
            reason = rolled_back.reason, "canary rolled back; the default version answers for it"
        );
        let state = SharedState::new(later(&now.state, now_ms), now.state.percent, Some(rolled_back.clone()));
        self.put_in_force(&mut all, state);
        Some(rolled_back)
    }

    /// Takes the plan out of traffic by hand.
    ///
    /// # Errors
    /// The model has no plan.
    pub fn roll_back(&self, reason: &str, now_ms: u64) -> Result<RolledBack, String> {
        self.has_plan()?;
        let mut end = reason.len().min(MAX_REASON);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        let reason = reason.get(..end).unwrap_or_default().to_owned();
        let rolled_back = RolledBack { at: now_ms, by: By::Operator, reason, finding: None };
        let mut all = self.locked();
        let state = self.state();
        let state = SharedState::new(later(&state, now_ms), state.percent, Some(rolled_back.clone()));
        self.put_in_force(&mut all, state);
        Ok(rolled_back)
    }

    /// Puts the plan back in traffic after a roll-back, with nothing observed.
    ///
    /// # Errors
    /// The model has no plan.
    pub fn resume(&self, now_ms: u64) -> Result<(), String> {
        self.has_plan()?;
        let mut all = self.locked();
        let state = self.state();
        self.put_in_force(&mut all, SharedState::new(later(&state, now_ms), state.percent, None));
        Ok(())
    }

    /// Gives the canary another part of the traffic. The comparison starts again: mixed with the old division, a
    /// change of the traffic over time would look like a difference between the versions (Simpson's paradox).
    ///
    /// # Errors
    /// The model has no canary, it is rolled back, or the percent is not from 0 to 100.
    pub fn set_percent(&self, percent: f64, now_ms: u64) -> Result<(), String> {
        if !self.is_canary {
            return Err(format!(
                "model `{}` has no canary; give it one in model.toml or by CANARY_VERSION",
                self.model
            ));
        }
        if !(0.0..=100.0).contains(&percent) {
            return Err(format!("percent is {percent}, accepted is from 0 to 100"));
        }
        let mut all = self.locked();
        let state = self.state();
        if state.rolled_back.is_some() {
            return Err("the plan is rolled back: resume it first".to_owned());
        }
        let state = SharedState::new(later(&state, now_ms), Some(percent), None);
        self.put_in_force(&mut all, state);
        Ok(())
    }

    /// The shared part of the state, now.
    #[must_use]
    pub fn state(&self) -> SharedState {
        self.now.load().state.clone()
    }

    /// The plan's arms as they are in force, with the end of each one's share, and the evidence beside them.
    pub(super) fn picture<T>(&self, look: impl Fn(&PlannedArm, f64, Option<&Evidence>) -> T) -> Vec<T> {
        let all = self.locked();
        let percent = self.now.load().state.percent;
        let in_force = |arm: &PlannedArm| if self.is_canary { percent.unwrap_or(arm.percent) } else { arm.percent };
        self.arms.iter().enumerate().map(|(index, arm)| look(arm, in_force(arm), all.get(index))).collect()
    }

    fn has_plan(&self) -> Result<(), String> {
        if self.arms.is_empty() {
            return Err(format!("model `{}` has no canary and no arms", self.model));
        }
        Ok(())
    }

    /// The only place where the plan in force changes. The lock is the proof that no observation is under way.
    fn put_in_force(&self, all: &mut MutexGuard<'_, Vec<Evidence>>, state: SharedState) {
        let epoch = EPOCHS.fetch_add(1, Ordering::Relaxed);
        let percent =
            |arm: &PlannedArm| if self.is_canary { state.percent.unwrap_or(arm.percent) } else { arm.percent };
        let shares = shares(self.arms.iter().map(|arm| (&arm.arm, arm.version, percent(arm))));
        // The evidence that took a plan out stays to be looked at.
        if state.rolled_back.is_none() {
            **all = self.arms.iter().map(|_| Evidence::new(self.limits)).collect();
        }
        self.now.store(Arc::new(InForce { epoch, shares, state }));
    }

    fn locked(&self) -> MutexGuard<'_, Vec<Evidence>> {
        // Numbers only: a panic elsewhere leaves at worst one observation half counted.
        self.evidence.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A time for a change that is after the state it replaces, even where another machine's clock was ahead.
fn later(state: &SharedState, now_ms: u64) -> u64 {
    now_ms.max(state.changed_at.saturating_add(1))
}

#[cfg(test)]
mod tests;
