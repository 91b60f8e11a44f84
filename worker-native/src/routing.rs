//! Which pool answers a reading, on the native side.
//!
//! The choice itself is `shared::policy`'s. This module brings it the live numbers, weighs the
//! edge's advice (a tier it names is taken unless its short queue has grown long meanwhile), and
//! turns a tier into a model version.

pub mod feed;
pub mod snapshots;

use std::sync::Arc;

use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};
use shared::catalog::{CatalogModel, CatalogTask};
use shared::headers;
use shared::policy::{Decision, JobSpec, Policy, Reason, route};
use shared::reading::Request;

use crate::engine::{Engine, Pool};
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

/// The pool that is to answer, and why.
#[derive(Debug)]
pub struct Routed {
    /// The model version.
    pub pool: Arc<Pool>,
    /// The tier the reading counts under in the backlog.
    pub lane: String,
    /// The caller's version is not here; the default version answers.
    pub fallback: bool,
    /// Why.
    pub decision: DecisionRecord,
}

/// Why no pool was found.
#[derive(Debug, PartialEq, Eq)]
pub enum NoPool {
    /// A strict caller named a version that is not here.
    UnknownVersion(String),
    /// The catalog names a model that no pool serves: our fault.
    NotLoaded(String),
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
/// [`NoPool`].
pub fn choose(
    engine: &Engine,
    snapshots: &Snapshots,
    policy: &Policy,
    request: &Request<'_>,
    advice: &Advice,
) -> Result<Routed, NoPool> {
    let task = request.task;
    let pinned = request.model_name.as_deref().and_then(|name| task.model(name));
    let (model, decision) = match pinned {
        Some(model) => (model, pinned_decision(task, model, snapshots, advice)),
        None => decide(task, snapshots, policy, request, advice)?,
    };
    let (pool, fallback) = pool_of(engine, task, model, request)?;
    let dearest = task.schema.tiers.last().cloned().unwrap_or_default();
    Ok(Routed { pool, lane: model.tier.clone().unwrap_or(dearest), fallback, decision })
}

fn pinned_decision(task: &CatalogTask, model: &CatalogModel, snapshots: &Snapshots, advice: &Advice) -> DecisionRecord {
    let load = snapshots.load(&task.schema.name);
    let accuracy = model.tier.as_deref().and_then(|tier| load.accuracy_of(tier));
    DecisionRecord {
        by: if advice.tier.is_some() { "edge" } else { "native" }.to_owned(),
        tier: model.tier.clone(),
        reason: Reason::CallerPinned.name().to_owned(),
        depth: load.depth(),
        accuracy,
        snapshot_age_ms: advice.snapshot_age_ms,
    }
}

fn decide<'t>(
    task: &'t CatalogTask,
    snapshots: &Snapshots,
    policy: &Policy,
    request: &Request<'_>,
    advice: &Advice,
) -> Result<(&'t CatalogModel, DecisionRecord), NoPool> {
    let load = snapshots.load(&task.schema.name);
    let job = JobSpec { pinned_tier: None, deadline_ms: request.deadline_ms, min_accuracy: request.min_accuracy };
    let own = route(policy, &load, &job);
    let advised = advice.tier.as_deref().and_then(|tier| task.schema.tier_index(tier));
    let decision = match (advised, &advice.reason) {
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
            tier: task.schema.tiers.get(own.tier).cloned(),
            reason: own.reason.name().to_owned(),
            depth: own.depth,
            accuracy: own.accuracy,
            snapshot_age_ms: None,
        },
    };
    let tier = decision.tier.as_deref().unwrap_or_default();
    let model = task.model_of_tier(tier).ok_or_else(|| NoPool::NotLoaded(format!("tier {tier}")))?;
    Ok((model, decision))
}

/// Has the queue grown long since the edge saw it short?
///
/// In a burst no answer, and so no snapshot, comes back to the edge before many readings have left it. Only advice that
/// rests on a short queue is overruled, and only towards the cheaper tier.
fn is_outdated(reason: &str, advised: usize, own: Decision) -> bool {
    reason == Reason::QueueShort.name() && own.reason == Reason::QueueLong && own.tier < advised
}

fn pool_of(
    engine: &Engine,
    task: &CatalogTask,
    model: &CatalogModel,
    request: &Request<'_>,
) -> Result<(Arc<Pool>, bool), NoPool> {
    let find = |version| engine.pool(&task.schema.name, &model.name, version).map(Arc::clone);
    let wanted = request.model_version.unwrap_or(model.default_version);
    if let Some(pool) = find(wanted) {
        return Ok((pool, false));
    }
    if request.strict {
        let versions: Vec<String> = model.versions.iter().map(u32::to_string).collect();
        return Err(NoPool::UnknownVersion(format!(
            "model `{}` has no version {wanted}; it has: {}",
            model.name,
            versions.join(", ")
        )));
    }
    let pool = find(model.default_version).ok_or_else(|| NoPool::NotLoaded(model.name.clone()))?;
    Ok((pool, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_short_queue_that_has_grown_long_is_overruled() {
        let own = |tier, reason| Decision { tier, reason, depth: 9, accuracy: None };
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
