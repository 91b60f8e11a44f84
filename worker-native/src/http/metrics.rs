//! `GET /metrics`: what this process counts, for Prometheus and its like.
//!
//! Gathers what other parts keep at the moment of the scrape; names and types are
//! `crate::telemetry::metrics`'s.

use std::collections::BTreeSet;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use shared::catalog::CatalogTask;
use shared::problem::ErrorCode;

use super::error::ApiError;
use crate::admission::Sight;
use crate::app::App;
use crate::clock::now_ms;
use crate::queue::Depths;
use crate::telemetry::metrics::{
    self, BelievedAccuracy, InputDrift, LoadedVersion, Observed, PlanState, QueueDepth, QueueState, TierState,
};

pub(super) async fn metrics(State(app): State<App>) -> Result<Response, ApiError> {
    let text = app.metrics.encode(&observed(&app)).map_err(|error| {
        ApiError::caused(ErrorCode::Internal, "the log has the cause under this request id", &error)
    })?;
    Ok(([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}

fn observed(app: &App) -> Observed {
    let (mut queue, mut plans) = (Vec::new(), Vec::new());
    for task in &app.engine.catalog().tasks {
        let load = app.snapshots.load(&task.schema.name);
        if let Some(plan) = &load.plan {
            let (share, exploration) = (f64::from(plan.x0), f64::from(plan.epsilon));
            plans.push(PlanState { task: task.schema.name.clone(), mode: plan.mode, share, exploration });
        }
        for (tier, load) in task.schema.tiers.iter().zip(&load.tiers) {
            let jobs = u64::from(load.depth);
            queue.push(QueueDepth { task: task.schema.name.clone(), tier: tier.clone(), jobs });
        }
    }
    let queues = app.engine.catalog().tasks.iter().filter_map(|task| state_of(app, task)).collect();
    let index = app.engine.index();
    let loaded = index.versions().filter(|version| version.is_ready()).map(|version| {
        let card = version.card();
        LoadedVersion { task: card.task.clone(), model: card.model.clone(), version: card.version }
    });
    let accuracies = index.versions().filter_map(|version| {
        let (card, now_ms) = (version.card(), now_ms());
        let of = (card.task.as_str(), card.model.as_str(), card.version);
        let accuracy = app.learning.accuracy(of, card.training_accuracy, now_ms)?;
        let (task, model) = (card.task.clone(), card.model.clone());
        Some(BelievedAccuracy { task, model, version: card.version, accuracy: accuracy.into() })
    });
    let inputs = index.tasks.keys().flat_map(|task| {
        let fields = app.learning.inputs.view(task).into_iter();
        fields.filter_map(|field| Some(InputDrift { task: task.clone(), psi: field.psi?, field: field.field }))
    });
    Observed {
        uptime: app.started.elapsed(),
        queue,
        queues,
        plans,
        loaded: loaded.collect(),
        cache: app.cache.stats(),
        accuracies: accuracies.collect(),
        inputs: inputs.collect(),
    }
}

/// A task's queue as last read; none before the first time.
fn state_of(app: &App, task: &CatalogTask) -> Option<QueueState> {
    let Sight { counts, .. } = app.admission.sight(&task.schema.name)?;
    // Jobs may count under a tier that the task has had before.
    let tiers: BTreeSet<&String> = task.schema.tiers.iter().chain(counts.depths.keys()).collect();
    let jobs = |of: &Depths, tier: &String| u64::from(of.get(tier).copied().unwrap_or_default());
    let backlog: u64 = counts.depths.values().map(|jobs| u64::from(*jobs)).sum();
    let seconds = match backlog {
        0 => Some(0.0),
        backlog => app.admission.drain_time(&task.schema.name, backlog).map(|time| time.as_secs_f64()),
    };
    let tiers = tiers.into_iter().map(|tier| TierState {
        tier: tier.clone(),
        backlog: jobs(&counts.depths, tier),
        inflight: jobs(&counts.running, tier),
    });
    Some(QueueState { task: task.schema.name.clone(), tiers: tiers.collect(), seconds, dead: counts.dead })
}
