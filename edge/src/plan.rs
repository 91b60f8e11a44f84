//! What to do with one body: turn it away, or send it on with which advice.
//!
//! Pure: the bytes, what the isolate remembers and the clock go in, a [`Plan`] comes out. Whatever
//! the edge does not know for sure it leaves to the origin, which checks and decides again anyway.

use shared::headers::SHARE_UNITS;
use shared::policy::{self, Draws, JobSpec, Mode, Moment, Reason};
use shared::problem::ErrorCode;
use shared::reading::{self, Priority, Rejection, Request};
use shared::snapshot::TaskLoad;
use shared::snapshot::cache::{Sight, SnapshotCache};

use crate::catalog::Known;
use crate::config::EdgeConfig;

/// What to do with one body.
#[derive(Debug, PartialEq)]
pub(crate) struct Plan {
    /// Send it on, or say why not.
    pub(crate) outcome: Result<Forward, Rejection>,
    /// What this rests on is no longer fresh: refresh it behind the answer.
    pub(crate) refresh: bool,
}

/// How to send a body on.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Forward {
    /// The task it is for, where known.
    pub(crate) task: Option<String>,
    /// How long the caller can wait, where known.
    pub(crate) deadline_ms: Option<u64>,
    /// The advice; none leaves the decision to the origin.
    pub(crate) advice: Option<Advice>,
    /// How urgent it is.
    pub(crate) class: Priority,
    /// Its class is being shed: when to come back, in milliseconds. Not for what may be a repetition, which only the
    /// origin can know.
    pub(crate) shed_ms: Option<u32>,
}

/// The edge's decision.
#[derive(Debug, PartialEq)]
pub(crate) struct Advice {
    /// The tier's name.
    pub(crate) tier: String,
    /// Why this one.
    pub(crate) reason: Reason,
    /// The backlog it is based on, in jobs.
    pub(crate) depth: u32,
    /// How old the snapshot is, in milliseconds.
    pub(crate) snapshot_age_ms: u64,
    /// How much was known.
    pub(crate) mode: Mode,
    /// With which probability a reading like this one gets this tier, in 1/[`SHARE_UNITS`].
    pub(crate) propensity: u16,
    /// The share of the dearer tier that was aimed at, likewise.
    pub(crate) share: u16,
}

/// Plans what to do with a body; the draws of its decision come from the request's id, as they do at the origin.
pub(crate) fn plan(
    (body, request_id): (&[u8], &str),
    known: Option<&Known>,
    snapshots: &SnapshotCache,
    config: &EdgeConfig,
    now_ms: u64,
) -> Plan {
    let Some(known) = known else {
        // No refresh: the answer to this very request names the catalog to fetch.
        let outcome = reading::check_json(body).map(|()| Forward::default());
        return Plan { outcome, refresh: false };
    };
    match reading::parse(body, &known.catalog) {
        Ok(request) => decide(&request, Draws::of_job(request_id.as_bytes(), 0), snapshots, config, now_ms),
        Err(rejection) => judge(rejection, known.age_ms, config),
    }
}

/// Is a rejection by the kept catalog one that the origin would repeat?
fn judge(rejection: Rejection, age_ms: u64, config: &EdgeConfig) -> Plan {
    let stale = age_ms > config.freshness.fresh_ms;
    let forward = match rejection.code {
        // Not JSON is not JSON by any catalog.
        ErrorCode::InvalidJson => return Plan { outcome: Err(rejection), refresh: false },
        // A task or model may have been added since; only the origin can say that a name does not exist.
        ErrorCode::UnknownTask | ErrorCode::UnknownModel => true,
        // A schema may have changed since, so without a recent word of the origin the edge turns nothing away.
        _ => age_ms > config.freshness.usable_ms,
    };
    Plan { outcome: if forward { Ok(Forward::default()) } else { Err(rejection) }, refresh: stale && !forward }
}

fn decide(request: &Request<'_>, draws: Draws, snapshots: &SnapshotCache, config: &EdgeConfig, now_ms: u64) -> Plan {
    let sent = snapshots.sent(&request.task.schema.name);
    let (load, refresh) = match snapshots.sight(&request.task.schema.name, now_ms, config.freshness) {
        Sight::Fresh(load, age_ms) => (Some((load, age_ms)), false),
        Sight::Stale(load, age_ms) => (Some((load, age_ms)), true),
        Sight::Blind => (None, true),
    };
    let advised = load.and_then(|(load, age_ms)| advise(request, load, Moment { age_ms, sent, draws }, config));
    let (advice, shed_ms) = advised.map_or((None, None), |(advice, shed_ms)| (Some(advice), shed_ms));
    let forward = Forward {
        task: Some(request.task.schema.name.clone()),
        deadline_ms: request.deadline_ms,
        advice,
        class: request.priority.unwrap_or_default(),
        shed_ms,
    };
    Plan { outcome: Ok(forward), refresh }
}

/// The advice for a reading, and when it had better come back where its class is being shed; none where the snapshot does
/// not know the tiers it would speak of.
fn advise(
    request: &Request<'_>,
    load: &TaskLoad,
    moment: Moment,
    config: &EdgeConfig,
) -> Option<(Advice, Option<u32>)> {
    let pinned_tier = match &request.model_name {
        // Which models of that type there are, and which of them serves a tier, only the origin knows for sure.
        None if request.model_type.is_some() => return None,
        None => None,
        // A model without a tier is reached by name only: there is nothing to advise.
        Some(name) => {
            let tier = request.task.model(name)?.tier.as_deref()?;
            Some(load.tiers.iter().position(|load| load.tier == tier)?)
        }
    };
    let job = JobSpec {
        pinned_tier,
        deadline_ms: request.deadline_ms,
        min_accuracy: request.min_accuracy,
        class: request.priority.unwrap_or_default(),
    };
    let decision = policy::route(&config.policy, load, &job, &moment);
    let tier = load.tiers.get(decision.tier)?.tier.clone();
    let advice = Advice {
        tier,
        reason: decision.reason,
        depth: decision.depth,
        snapshot_age_ms: moment.age_ms,
        mode: decision.mode,
        propensity: parts(decision.propensity),
        share: parts(decision.share),
    };
    Some((advice, decision.shed_ms()))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped, and a NaN is 0")]
fn parts(share: f32) -> u16 {
    (share.clamp(0.0, 1.0) * f32::from(SHARE_UNITS) + 0.5) as u16
}

#[cfg(test)]
mod tests;
