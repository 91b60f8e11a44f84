//! Which model version answers a reading, on the native side.
//!
//! The choice itself is `shared::policy`'s. This module brings it the live numbers, weighs the
//! edge's advice (a tier it names is taken unless its short queue has grown long meanwhile), and
//! turns a tier into a model version.

mod cascaded;
pub mod feed;
mod meters;
pub mod planner;
pub mod policies;
mod presence;
mod record;
pub mod snapshots;
pub mod tiers;
mod weighed;

use std::sync::Arc;

use shared::catalog::ModelType;
use shared::policy::{Decision, Draws, JobSpec, Moment, Policy, Reason, route};
use shared::reading::Request;
use shared::snapshot::TaskLoad;

use crate::answering::Given;
use crate::engine::ModelVersion;
use crate::engine::index::{Index, Model, Task};
use crate::rollout::{Assignment, Rollout};
pub use cascaded::{Cascaded, FirstAnswer, Hop};
pub use record::{Advice, Binding, DecisionRecord};
use snapshots::Snapshots;
pub use weighed::{Alternative, Weighed};

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
    /// What a worker may still change.
    pub binding: Binding,
    /// What was weighed.
    pub weighed: Weighed,
    /// Its class is being shed: when the caller should come back, in milliseconds.
    pub shed_ms: Option<u32>,
}

/// A decision on its way to its version.
#[derive(Debug)]
struct Decided {
    record: DecisionRecord,
    weighed: Weighed,
    shed_ms: Option<u32>,
}

impl Routed {
    /// Takes in who answered, and what a cascade made of it.
    pub fn took(&mut self, given: Option<&Given>) {
        if let Some(given) = given {
            let last = given.card.tier.as_deref();
            let first = given.escalated().map_or(last, |cascaded| Some(&cascaded.from.tier));
            self.decision.answered_by(first);
            self.decision.took(given.cascaded.as_ref(), last);
        }
    }
}

/// Why no version was found.
#[derive(Debug, PartialEq, Eq)]
pub enum NoVersion {
    /// A strict caller named a version that is not here.
    Unknown(String),
    /// What would answer is not loaded.
    Unavailable(String),
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
    let (model, decided, replaced) = match named {
        Some(named) => {
            let model = task.models.get(&named.name).ok_or_else(gone)?;
            (model, pinned_decision((request, request_id), model, (snapshots, policy), advice), false)
        }
        None => decide(task, snapshots, policy, (request, request_id), advice)?,
    };
    let Decided { record: mut decision, weighed, shed_ms } = decided;
    // A chance to be in time is nothing to learn from where there is no deadline.
    decision.on_time = decision.on_time.filter(|_| request.deadline_ms.is_some());
    let key = request.sensor_id.as_deref().unwrap_or(request_id);
    let (version, assignment, fallback) = version_of(model, request, key)?;
    let dearest = request.task.schema.tiers.last().cloned().unwrap_or_default();
    let lane = model.folder.tier.clone().unwrap_or(dearest);
    let explored = decision.reason == Reason::Explored.name();
    let wished = named.is_some() || request.model_type.is_some() || request.model_version.is_some();
    let binding = Binding {
        movable: !(wished || explored || fallback || replaced) && decision.tier.is_some(),
        min_accuracy: request.min_accuracy,
    };
    Ok(Routed {
        version,
        assignment,
        rollout: Arc::clone(&model.rollout),
        lane,
        fallback: fallback || replaced,
        decision,
        binding,
        weighed,
        shed_ms,
    })
}

fn pinned_decision(
    (request, request_id): (&Request<'_>, &str),
    model: &Model,
    (snapshots, policy): (&Snapshots, &Policy),
    advice: &Advice,
) -> Decided {
    let schema = &request.task.schema;
    let load = snapshots.load(&schema.name);
    let tier = model.folder.tier.as_deref();
    let position = tier.and_then(|tier| schema.tier_index(tier));
    let own = own_decision(policy, snapshots, &load, (request, request_id), position);
    let accuracy = tier.and_then(|tier| load.accuracy_of(tier));
    let record = DecisionRecord {
        by: if advice.pinned() { "edge" } else { "native" }.to_owned(),
        tier: model.folder.tier.clone(),
        reason: Reason::CallerPinned.name().to_owned(),
        depth: load.depth(),
        accuracy,
        snapshot_age_ms: advice.snapshot_age_ms(),
        on_time: position.and_then(|position| record::on_time(&load, &own, position)),
        ..DecisionRecord::default()
    };
    Decided { record, weighed: Weighed::new(policy, &load, request, &own), shed_ms: own.shed_ms() }
}

/// What the policy says here and now, with the draws that the edge has for the same request.
fn own_decision(
    policy: &Policy,
    snapshots: &Snapshots,
    load: &TaskLoad,
    (request, request_id): (&Request<'_>, &str),
    pinned_tier: Option<usize>,
) -> Decision {
    let job = JobSpec {
        pinned_tier,
        deadline_ms: request.deadline_ms,
        min_accuracy: request.min_accuracy,
        class: request.priority.unwrap_or_default(),
    };
    let age = snapshots.plan_age(&load.task).unwrap_or_default();
    let moment = Moment {
        age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
        draws: Draws::of_job(request_id.as_bytes(), 0),
        ..Moment::default()
    };
    route(policy, load, &job, &moment)
}

/// The model by the policy or the edge's advice, and whether it stands in for one that is not served now.
fn decide<'t>(
    task: &'t Task,
    snapshots: &Snapshots,
    policy: &Policy,
    (request, request_id): (&Request<'_>, &str),
    advice: &Advice,
) -> Result<(&'t Model, Decided, bool), NoVersion> {
    let schema = &request.task.schema;
    let load = snapshots.load(&schema.name);
    let own = own_decision(policy, snapshots, &load, (request, request_id), None);
    let advised = advice.tier().and_then(|tier| schema.tier_index(tier)).zip(advice.reason());
    let mut decision = match advised {
        Some((tier, reason)) if !is_outdated(reason, tier, &own) => advice.record(&load, tier, reason, &own),
        _ => DecisionRecord {
            by: "native".to_owned(),
            tier: schema.tiers.get(own.tier).cloned(),
            reason: own.reason.name().to_owned(),
            depth: own.depth,
            accuracy: own.accuracy,
            mode: Some(own.mode.name().to_owned()),
            propensity: Some(own.propensity),
            share: Some(own.share),
            on_time: record::on_time(&load, &own, own.tier),
            ..DecisionRecord::default()
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
    let weighed = Weighed::new(policy, &load, request, &own);
    let decided = Decided { record: decision, weighed, shed_ms: own.shed_ms() };
    Ok((model, decided, replaced && request.model_type.is_none()))
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

/// Has the load grown since the edge saw it?
///
/// In a burst no answer, and so no snapshot, comes back to the edge before many readings have left it. Both sides draw
/// the same numbers for a request, so that a cheaper tier here says that the picture changed, and not that chance fell
/// otherwise. Only advice that rests on the load is overruled, and only towards the cheaper tier.
fn is_outdated(reason: &str, advised: usize, own: &Decision) -> bool {
    let by_load = [Reason::QueueShort, Reason::SplitDear].map(Reason::name).contains(&reason);
    let now = matches!(
        own.reason,
        Reason::QueueLong | Reason::SplitCheap | Reason::PriceHigh | Reason::DeadlineTight | Reason::Saturated
    );
    by_load && now && own.tier < advised
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
    fn only_advice_that_rests_on_the_load_is_overruled_and_only_downwards() {
        let own = |tier, reason| Decision { tier, reason, depth: 9, ..Decision::default() };
        let check = |reason: Reason, own| is_outdated(reason.name(), 1, &own);
        assert!(check(Reason::QueueShort, own(0, Reason::QueueLong)));
        assert!(check(Reason::SplitDear, own(0, Reason::SplitCheap)));
        assert!(check(Reason::SplitDear, own(0, Reason::DeadlineTight)));
        assert!(!check(Reason::QueueShort, own(1, Reason::QueueShort)));
        assert!(!check(Reason::SplitDear, own(1, Reason::SplitDear)));
        assert!(!check(Reason::QueueShort, own(0, Reason::AccuracyLow)));
        assert!(!check(Reason::PolicyFixed, own(0, Reason::QueueLong)));
        assert!(!check(Reason::AccuracyAsked, own(0, Reason::QueueLong)));
        assert!(!check(Reason::Explored, own(0, Reason::SplitCheap)));
        assert!(!check(Reason::SplitCheap, own(0, Reason::SplitCheap)));
    }
}
