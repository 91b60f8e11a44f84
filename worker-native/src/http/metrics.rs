//! `GET /metrics`: what this process counts, for Prometheus and its like.
//!
//! Gathers what other parts keep at the moment of the scrape; names and types are
//! `crate::telemetry::metrics`'s.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use shared::problem::ErrorCode;

use super::error::ApiError;
use crate::app::App;
use crate::telemetry::metrics::{self, LoadedVersion, Observed, QueueDepth};

pub(super) async fn metrics(State(app): State<App>) -> Result<Response, ApiError> {
    let text = app.metrics.encode(&observed(&app)).map_err(|error| {
        ApiError::caused(ErrorCode::Internal, "the log has the cause under this request id", &error)
    })?;
    Ok(([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}

fn observed(app: &App) -> Observed {
    let mut queue = Vec::new();
    for task in &app.engine.catalog().tasks {
        let load = app.snapshots.load(&task.schema.name);
        for (tier, load) in task.schema.tiers.iter().zip(&load.tiers) {
            let jobs = u64::from(load.depth);
            queue.push(QueueDepth { task: task.schema.name.clone(), tier: tier.clone(), jobs });
        }
    }
    let index = app.engine.index();
    let loaded = index.versions().filter(|version| version.is_ready()).map(|version| {
        let card = version.card();
        LoadedVersion { task: card.task.clone(), model: card.model.clone(), version: card.version }
    });
    Observed { uptime: app.started.elapsed(), queue, loaded: loaded.collect(), cache: app.cache.stats() }
}
