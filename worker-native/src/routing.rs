//! Which model version answers a reading, on the native side.
//!
//! The choice itself is `shared::policy`'s. This module brings it the live numbers, weighs the
//! edge's advice (a tier it names is taken unless its short queue has grown long meanwhile), and
//! turns a tier into a model version.

pub mod feed;
pub mod snapshots;

use std::sync::Arc;

use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};
use shared::catalog::{CatalogTask, ModelType};
use shared::headers;
use shared::policy::{Decision, Draws, JobSpec, Moment, Policy, Reason, route};
use shared::reading::Request;

use crate::engine::ModelVersion;
use crate::engine::index::{Index, Model, Task};
use crate::rollout::{Assignment, Rollout};
use snapshots::Snapshots;

/// Why a model was chosen, and on which numbers; kept with the job.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DecisionRecord {
    /// Which side decided: `edge` or `native`.
    pub by: String,
    /// The tier; none for a model that serves no tier.
    pub tier: Option<String>,
    /// The name of a [`shared::policy::Reason`].
    pub reason: String,
    /// The backlog seen, in jobs.
    pub depth: u32,
    /// The chosen model's accuracy as seen.
    pub accuracy: Option<f32>,
    /// Age of the edge's snapshot; none when the native side decided on live numbers.
    pub snapshot_age_ms: Option<u64>,
}

/// The version that is to answer, and why.
#[derive(Debug)]
pub struct Routed {
    /// The model version.
    pub version: Arc<ModelVersion>,
    /// The version's part in its model's rollout.
    pub assignment: Assignment,
    /// The model's rollout.
    pub rollout: Arc<Rollout>,
    /// The tier the reading counts under in the backlog.
    pub lane: String,
    /// The caller's version, or the tier's model, is not here; another one answers.
    pub fallback: bool,
    /// Why.
    pub decision: DecisionRecord,
}

/// Why no version was found.
#[derive(Debug, PartialEq, Eq)]
pub enum NoVersion {
    /// A strict caller named a version that is not here.
    Unknown(String),
    /// What would answer is not loaded.
    Unavailable(String),
}

/// The edge's advice, as far as it can be used.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Advice {
    tier: Option<String>,
    reason: Option<String>,
    depth: Option<u32>,
    snapshot_age_ms: Option<u64>,
}

impl Advice {
    /// Did the edge see that the caller named a model? A wish in the query is for the native side only.
    fn pinned(&self) -> bool {
        self.tier.is_some() && self.reason.as_deref() == Some(Reason::CallerPinned.name())
    }

    /// Reads the edge's headers; what cannot be read counts as not sent.
    #[must_use]
    pub fn from_headers(map: &HeaderMap) -> Self {
        let text = |name: &str| map.get(name).and_then(|value| value.to_str().ok());
        Self {
            tier: text(headers::ROUTE).filter(|tier| *tier != headers::ROUTE_AUTO).map(str::to_owned),
            reason: text(headers::ROUTE_REASON).filter(|reason| shared::ids::is_name(reason)).map(str::to_owned),
            depth: text(headers::ROUTE_DEPTH).and_then(|depth| depth.parse().ok()),
            snapshot_age_ms: text(headers::ROUTE_SNAPSHOT_AGE).and_then(|age| age.parse().ok()),
        }
    }
}

/// Chooses the model version for one reading.
///
/// # Errors
/// [`NoVersion`].
pub fn choose(
    index: &Index,
    snapshots: &Snapshots,
    policy: &Policy,
    (request, request_id): (&Request<'_>, &str),
    advice: &Advice,
) -> Result<Routed, NoVersion> {
    let name = request.task.schema.name.as_str();
    let gone = || NoVersion::Unavailable(format!("task `{name}` is not served any more"));
    let task = index.tasks.get(name).ok_or_else(gone)?;
    let named = request.model_name.as_deref().and_then(|name| request.task.model(name));
    let (model, decision, replaced) = match named {
        Some(named) => {
            let model = task.models.get(&named.name).ok_or_else(gone)?;
            (model, pinned_decision(request.task, model, snapshots, advice), false)
        }
        None => decide(task, snapshots, policy, (request, request_id), advice)?,
    };
    let key = request.sensor_id.as_deref().unwrap_or(request_id);
    let (version, assignment, fallback) = version_of(model, request, key)?;
    let dearest = request.task.schema.tiers.last().cloned().unwrap_or_default();
    let lane = model.folder.tier.clone().unwrap_or(dearest);
    Ok(Routed {
        version,
        assignment,
        rollout: Arc::clone(&model.rollout),
        lane,
        fallback: fallback || replaced,
        decision,
    })
}

fn pinned_decision(task: &CatalogTask, model: &Model, snapshots: &Snapshots, advice: &Advice) -> DecisionRecord {
    let load = snapshots.load(&task.schema.name);
    let accuracy = model.folder.tier.as_deref().and_then(|tier| load.accuracy_of(tier));
    DecisionRecord {
        by: if advice.pinned() { "edge" } else { "native" }.to_owned(),
        tier: model.folder.tier.clone(),
        reason: Reason::CallerPinned.name().to_owned(),
        depth: load.depth(),
        accuracy,
        snapshot_age_ms: advice.snapshot_age_ms,
    }
}

/// The model by the policy or the edge's advice, and whether it stands in for one that is not served now.
fn decide<'t>(
    task: &'t Task,
    snapshots: &Snapshots,
    policy: &Policy,
    (request, request_id): (&Request<'_>, &str),
    advice: &Advice,
) -> Result<(&'t Model, DecisionRecord, bool), NoVersion> {
    let schema = &request.task.schema;
    let load = snapshots.load(&schema.name);
    let job = JobSpec {
        pinned_tier: None,
        deadline_ms: request.deadline_ms,
        min_accuracy: request.min_accuracy,
        class: request.priority.unwrap_or_default(),
    };
    let moment = Moment { draws: Draws::of_job(request_id.as_bytes(), 0), ..Moment::default() };
    let own = route(policy, &load, &job, &moment);
    let advised = advice.tier.as_deref().and_then(|tier| schema.tier_index(tier));
    let mut decision = match (advised, &advice.reason) {
        (Some(tier), Some(reason)) if !is_outdated(reason, tier, own) => DecisionRecord {
            by: "edge".to_owned(),
            tier: advice.tier.clone(),
            reason: reason.clone(),
            depth: advice.depth.unwrap_or_default(),
            accuracy: load.tiers.get(tier).and_then(|load| load.accuracy),
            snapshot_age_ms: advice.snapshot_age_ms,
        },
        _ => DecisionRecord {
            by: "native".to_owned(),
            tier: schema.tiers.get(own.tier).cloned(),
            reason: own.reason.name().to_owned(),
            depth: own.depth,
            accuracy: own.accuracy,
            snapshot_age_ms: None,
        },
    };
    let wanted = decision.tier.as_deref().and_then(|tier| schema.tier_index(tier)).unwrap_or_default();
    let model = nearest(task, &schema.tiers, wanted, request.model_type).ok_or_else(|| {
        NoVersion::Unavailable(format!("no model of task `{}` is loaded now; GET /models says why", schema.name))
    })?;
    let replaced = model.folder.tier != decision.tier;
    if replaced {
        decision.tier = model.folder.tier.clone();
        decision.accuracy = decision.tier.as_deref().and_then(|tier| load.accuracy_of(tier));
    }
    // A model of the type that was asked for is what the caller wanted, not a substitute.
    Ok((model, decision, replaced && request.model_type.is_none()))
}

/// The model of a tier, where it can be served and is of the type; else that of the nearest cheaper tier, then of a
/// dearer one, then one without a tier.
fn nearest<'t>(task: &'t Task, tiers: &[String], wanted: usize, model_type: Option<ModelType>) -> Option<&'t Model> {
    let fits = |model: &&Model| {
        let servable = model.versions.get(&model.default_version).is_some_and(|version| version.is_servable());
        servable && (model_type.is_none() || model.folder.model_type == model_type)
    };
    let of_tier =
        |tier: &String| task.models.values().find(|model| model.folder.tier.as_ref() == Some(tier)).filter(fits);
    let (cheaper, dearer) = tiers.split_at_checked(wanted + 1).unwrap_or((tiers, &[]));
    let by_tier = cheaper.iter().rev().chain(dearer).find_map(of_tier);
    by_tier.or_else(|| task.models.values().filter(|model| model.folder.tier.is_none()).find(fits))
}

/// Has the queue grown long since the edge saw it short?
///
/// In a burst no answer, and so no snapshot, comes back to the edge before many readings have left it. Only advice that
/// rests on a short queue is overruled, and only towards the cheaper tier.
fn is_outdated(reason: &str, advised: usize, own: Decision) -> bool {
    reason == Reason::QueueShort.name() && own.reason == Reason::QueueLong && own.tier < advised
}

/// The version that was named, or the one that the rollout gives this key.
fn version_of(
    model: &Model,
    request: &Request<'_>,
    key: &str,
) -> Result<(Arc<ModelVersion>, Assignment, bool), NoVersion> {
    let find = |version| model.versions.get(&version).map(Arc::clone);
    let name = &model.folder.name;
    let assignment = match request.model_version {
        Some(named) => model.rollout.pinned(named),
        None => model.rollout.assign(key),
    };
    if let Some(version) = find(assignment.version).filter(|version| named_or_servable(request, version)) {
        return Ok((version, assignment, false));
    }
    if request.strict && request.model_version.is_some() {
        let versions: Vec<String> = model.versions.keys().map(u32::to_string).collect();
        return Err(NoVersion::Unknown(format!(
            "model `{name}` has no version {}; it has: {}",
            assignment.version,
            versions.join(", ")
        )));
    }
    let missing = || NoVersion::Unavailable(format!("model `{name}` has no version that can be served"));
    let version = find(model.default_version).ok_or_else(missing)?;
    Ok((version, model.rollout.pinned(model.default_version), true))
}

/// A version that the rollout chose must be one that answers; one that the caller named is told to be unavailable.
fn named_or_servable(request: &Request<'_>, version: &ModelVersion) -> bool {
    request.model_version.is_some() || version.is_servable()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_short_queue_that_has_grown_long_is_overruled() {
        let own = |tier, reason| Decision { tier, reason, depth: 9, ..Decision::default() };
        let check = |reason: Reason, own| is_outdated(reason.name(), 1, own);
        assert!(check(Reason::QueueShort, own(0, Reason::QueueLong)));
        assert!(!check(Reason::QueueShort, own(1, Reason::QueueShort)));
        assert!(!check(Reason::QueueShort, own(0, Reason::AccuracyLow)));
        assert!(!check(Reason::PolicyFixed, own(0, Reason::QueueLong)));
        assert!(!check(Reason::AccuracyAsked, own(0, Reason::QueueLong)));
    }

    #[test]
    fn advice_that_cannot_be_read_counts_as_not_sent() {
        let mut map = HeaderMap::new();
        map.insert(headers::ROUTE, "auto".parse().unwrap());
        map.insert(headers::ROUTE_DEPTH, "-3".parse().unwrap());
        map.insert(headers::ROUTE_REASON, "a reason; with spaces".parse().unwrap());
        assert_eq!(Advice::from_headers(&map), Advice::default());
        map.insert(headers::ROUTE, "fast".parse().unwrap());
        map.insert(headers::ROUTE_REASON, "queue_long".parse().unwrap());
        let advice = Advice::from_headers(&map);
        assert_eq!((advice.tier.as_deref(), advice.reason.as_deref()), (Some("fast"), Some("queue_long")));
    }
}
