//! Which policy is in force: as set at run time for a task or for all, else as configured.
//!
//! What was put lies with the queue's shared facts, so that it survives restarts and holds in every
//! process; the edges hear of it in the snapshot. Owns the order of precedence and the bounds of what
//! may be set; what the policies do is `shared::policy`'s.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use shared::policy::{Cascade, DEFAULT_CASCADE_BELOW, Policy, PolicyKind, Tuning};

use crate::config::RoutingConfig;
use crate::queue::{Facts, QueueError};

/// The place of what holds for every task; no task can have this name.
pub const EVERY_TASK: &str = "*";
/// Name of the shared facts of routing, and the field of the policy that was put.
pub(super) const FACTS: &str = "routing";
const FIELD: &str = "policy";

/// Where a policy comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum From {
    /// Nobody set one.
    Default,
    /// `ROUTING_POLICY` and its like.
    Setting,
    /// `PUT /v1/policy`, for every task.
    All,
    /// `PUT /v1/policy`, for this task.
    Task,
}

/// The constants of `slack-split` that may be set while it runs.
///
/// What is stored may have been put by a later version: names that are not known here are passed over. Those of a caller
/// are refused where the body is read.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Knobs {
    /// The share of the workers' time to plan with.
    pub headroom: f32,
    /// The share of what the deadline leaves that the backlog may fill.
    pub fill: f32,
    /// How much of the backlog's error one period corrects.
    pub gain: f32,
    /// Standard deviations of the arrivals' count to plan for.
    pub z: f32,
    /// The fastest rise of the dearer tier's share, a second.
    pub rise: f32,
    /// The share of exploration.
    pub exploration: f32,
    /// The deadline of jobs that name none, for the backlog that is aimed at, in milliseconds.
    pub patience_ms: u32,
}

impl Default for Knobs {
    fn default() -> Self {
        let Tuning { headroom, fill, gain, z, rise, epsilon, .. } = Tuning::default();
        Self { headroom, fill, gain, z, rise, exploration: epsilon, patience_ms: 1_000 }
    }
}

impl Knobs {
    /// The constants to plan with.
    #[must_use]
    pub fn tuning(&self) -> Tuning {
        #[expect(clippy::cast_precision_loss, reason = "an hour of milliseconds at most")]
        let patience_us = self.patience_ms as f32 * 1_000.0;
        Tuning {
            headroom: self.headroom,
            fill: self.fill,
            gain: self.gain,
            z: self.z,
            rise: self.rise,
            epsilon: self.exploration,
            patience_us,
            // Whoever wants no exploration wants none after an alarm either.
            alarm_epsilon: if self.exploration > 0.0 { Tuning::default().alarm_epsilon } else { 0.0 },
            ..Tuning::default()
        }
    }

    /// What is out of its bounds: the knob's name, and what it accepts.
    fn faults(&self) -> Vec<(&'static str, &'static str)> {
        let checks = [
            ("headroom", (0.1..=1.0).contains(&self.headroom), "from 0.1 to 1"),
            ("fill", (0.05..=1.0).contains(&self.fill), "from 0.05 to 1"),
            ("gain", (0.01..=1.0).contains(&self.gain), "from 0.01 to 1"),
            ("z", (0.0..=5.0).contains(&self.z), "from 0 to 5"),
            ("rise", (0.001..=100.0).contains(&self.rise), "from 0.001 to 100"),
            ("exploration", (0.0..=1.0).contains(&self.exploration), "from 0 to 1"),
            ("patience_ms", (1..=3_600_000).contains(&self.patience_ms), "from 1 to 3600000"),
        ];
        checks.into_iter().filter(|(_, good, _)| !good).map(|(name, _, accepted)| (name, accepted)).collect()
    }
}

/// Which answers are asked again of a dearer tier, as it is put and stored.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CascadeKnobs {
    /// Those with a confidence under this, 0..=1.
    pub below: f32,
    /// What becomes of those that failed, or do not tell a confidence.
    pub fail: CascadeFail,
}

/// What becomes of an answer that failed, or does not tell its confidence.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CascadeFail {
    /// A dearer tier is asked.
    #[default]
    Accurate,
    /// It stands.
    Fast,
}

impl Default for CascadeKnobs {
    fn default() -> Self {
        Self { below: DEFAULT_CASCADE_BELOW, fail: CascadeFail::default() }
    }
}

impl CascadeKnobs {
    /// The same for `shared::policy`.
    #[must_use]
    pub fn cascade(&self) -> Cascade {
        Cascade { below: self.below, fail_accurate: self.fail == CascadeFail::Accurate }
    }
}

/// A policy as it is put and stored; as with [`Knobs`], names that are not known are passed over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Put {
    /// Goes up with each change of the same place: the time of it, in Unix milliseconds, or one more than the last.
    #[serde(default)]
    pub version: u64,
    /// When it was put, in Unix milliseconds.
    #[serde(default)]
    pub at: u64,
    /// The policy's name.
    pub policy: String,
    /// Backlog at which the policies that count it step one tier down.
    pub queue_threshold: u32,
    /// Accuracy below which `adaptive-threshold` leaves a tier.
    pub accuracy_floor: f32,
    /// What `slack-split` plans with.
    #[serde(default)]
    pub slack_split: Knobs,
    /// Which answers are asked again of a dearer tier; none for those that policy and settings leave alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cascade: Option<CascadeKnobs>,
}

impl Put {
    /// What cannot be: the field's path, and what it accepts.
    #[must_use]
    pub fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        if PolicyKind::from_name(&self.policy).is_none() {
            let names = PolicyKind::ALL.map(PolicyKind::name).join(", ");
            faults.push(("policy".to_owned(), format!("one of {names}, or null")));
        }
        if !(1..=1_000_000).contains(&self.queue_threshold) {
            faults.push(("queue_threshold".to_owned(), "from 1 to 1000000".to_owned()));
        }
        if !(0.0..=1.0).contains(&self.accuracy_floor) {
            faults.push(("accuracy_floor".to_owned(), "from 0 to 1".to_owned()));
        }
        let knobs = self.slack_split.faults().into_iter();
        faults.extend(knobs.map(|(name, accepted)| (format!("slack_split/{name}"), accepted.to_owned())));
        if self.cascade.is_some_and(|cascade| !(0.0..=1.0).contains(&cascade.below)) {
            faults.push(("cascade/below".to_owned(), "from 0 to 1".to_owned()));
        }
        faults
    }

    fn in_force(&self, from: From) -> Option<InForce> {
        let kind = PolicyKind::from_name(&self.policy)?;
        let policy = Policy { kind, queue_threshold: self.queue_threshold, accuracy_floor: self.accuracy_floor };
        let cascade = self.cascade;
        Some(InForce { policy, knobs: self.slack_split, cascade, version: self.version, at: Some(self.at), from })
    }
}

/// The policy that holds for a task.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InForce {
    /// The policy.
    pub policy: Policy,
    /// What `slack-split` plans with.
    pub knobs: Knobs,
    /// What was set of asking again, if the policy asks at all.
    pub cascade: Option<CascadeKnobs>,
    /// Which change this is; 0 for what is configured.
    pub version: u64,
    /// When it was put, in Unix milliseconds.
    pub at: Option<u64>,
    /// Where it comes from.
    pub from: From,
}

impl InForce {
    /// Which answers are asked again; none under policies that ask none.
    #[must_use]
    pub fn cascade(&self) -> Option<CascadeKnobs> {
        match self.policy.kind {
            PolicyKind::Cascade => Some(self.cascade.unwrap_or_default()),
            PolicyKind::SlackSplit => self.cascade,
            PolicyKind::AlwaysFast
            | PolicyKind::AlwaysAccurate
            | PolicyKind::QueueThreshold
            | PolicyKind::AdaptiveThreshold => None,
        }
    }
}

/// The policies of all tasks; what was put last as this process knows it.
#[derive(Debug)]
pub struct Policies {
    configured: InForce,
    put: ArcSwap<BTreeMap<String, Put>>,
    // What is stored and cannot be used, by place, so that it is told once and not at each look.
    unusable: Mutex<BTreeMap<String, String>>,
}

impl Policies {
    /// What is configured, and nothing put yet.
    #[must_use]
    pub fn new(config: &RoutingConfig) -> Self {
        let from = if config.policy_set { From::Setting } else { From::Default };
        let knobs = Knobs { exploration: config.exploration, ..Knobs::default() };
        let fail = if config.cascade_fail_accurate { CascadeFail::Accurate } else { CascadeFail::Fast };
        let cascade = match (config.cascade_below, config.policy.kind) {
            (Some(below), _) => Some(CascadeKnobs { below, fail }),
            (None, PolicyKind::Cascade) => Some(CascadeKnobs { fail, ..CascadeKnobs::default() }),
            (None, _) => None,
        };
        let configured = InForce { policy: config.policy, knobs, cascade, version: 0, at: None, from };
        Self { configured, put: ArcSwap::default(), unusable: Mutex::default() }
    }

    /// The policy of a task.
    #[must_use]
    pub fn of(&self, task: &str) -> InForce {
        let put = self.put.load();
        let of = |place: &str, from| put.get(place).and_then(|put| put.in_force(from));
        of(task, From::Task).or_else(|| of(EVERY_TASK, From::All)).unwrap_or(self.configured)
    }

    /// What a change of a place begins with where it does not say otherwise.
    #[must_use]
    pub fn base(&self) -> Put {
        let Policy { kind, queue_threshold, accuracy_floor } = self.configured.policy;
        let policy = kind.name().to_owned();
        let (slack_split, cascade) = (self.configured.knobs, self.configured.cascade);
        Put { version: 0, at: 0, policy, queue_threshold, accuracy_floor, slack_split, cascade }
    }

    /// Takes in what the shared facts of a place say.
    ///
    /// A policy that cannot be used, such as one of a later version, changes nothing: what was heard before it holds on.
    pub(super) fn heard(&self, place: &str, stored: Option<&str>) {
        let put = stored.map(usable).transpose();
        if !self.is_news(place, stored.filter(|_| put.is_err())) {
            return;
        }
        let put = match put {
            Ok(put) => put,
            Err(fault) => {
                tracing::warn!(place, fault, "a stored policy cannot be used here; the one before it holds on");
                return;
            }
        };
        let known = self.put.load();
        if known.get(place) == put.as_ref() {
            return;
        }
        if let Some(put) = &put {
            tracing::info!(place, policy = put.policy, version = put.version, "another policy is in force");
        } else {
            tracing::info!(place, "the policy that was put is taken back");
        }
        self.put.rcu(|known| {
            let mut known = BTreeMap::clone(known);
            match &put {
                Some(put) => known.insert(place.to_owned(), put.clone()),
                None => known.remove(place),
            };
            known
        });
    }

    /// Notes the unusable text of a place, or that there is none; false where the same text was noted before.
    fn is_news(&self, place: &str, unusable: Option<&str>) -> bool {
        // Texts only: a panic elsewhere leaves them usable.
        let mut noted = self.unusable.lock().unwrap_or_else(PoisonError::into_inner);
        let known = match unusable {
            None => {
                noted.remove(place);
                return true;
            }
            Some(text) => noted.insert(place.to_owned(), text.to_owned()),
        };
        known.as_deref() != unusable
    }

    /// Puts a policy for a place, or takes it back; it holds in this process at once, in others with their next look.
    ///
    /// # Errors
    /// [`QueueError`]: then nothing is changed here.
    pub async fn put(
        &self,
        facts: &(impl Facts + ?Sized),
        place: &str,
        put: Option<Put>,
        now_ms: u64,
    ) -> Result<(), QueueError> {
        let stored = facts.facts(place, FACTS).await?;
        let stored = stored.iter().find(|(field, _)| field == FIELD).map(|(_, text)| text.as_str());
        let before = stored.and_then(|text| serde_json::from_str::<Put>(text).ok()).map_or(0, |put| put.version);
        // A policy that was taken back must not give its number to the next: the clock keeps it going up.
        let version = before.saturating_add(1).max(now_ms);
        let put = put.map(|put| Put { version, at: now_ms, ..put });
        let text = put.as_ref().and_then(|put| serde_json::to_string(put).ok());
        facts.set_fact(place, FACTS, FIELD, text.as_deref()).await?;
        self.heard(place, text.as_deref());
        Ok(())
    }
}

/// The policy of a stored text, or why it cannot be used.
fn usable(text: &str) -> Result<Put, String> {
    let put: Put = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let accepts = |(field, accepted): (String, String)| format!("`{field}` must be {accepted}");
    put.faults().into_iter().next().map_or(Ok(put), |fault| Err(accepts(fault)))
}

/// The policy among the facts of a place.
pub(super) fn field(facts: &[(String, String)]) -> Option<&str> {
    facts.iter().find(|(field, _)| field == FIELD).map(|(_, text)| text.as_str())
}

#[cfg(test)]
mod tests;
