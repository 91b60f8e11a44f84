//! Brings what other processes know into this one's picture, and tells them what this one knows.
//!
//! Shared facts live beside the queue, for each task: the backlog (`depth`), pinned accuracies
//! (`accuracy`, by model), what labels taught (`beliefs`, by version) and service times (`service`, by tier).

use std::collections::BTreeMap;
use std::time::Instant;

use shared::catalog::CatalogTask;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::clock::now_ms;
use crate::queue::QueueError;
use crate::rollout;

/// Name of the shared facts that pin accuracies, by model.
pub const ACCURACY: &str = "accuracy";
const SERVICE: &str = "service";

/// Refreshes the picture until shutdown; says once when Redis goes away and once when it is back.
pub async fn run(app: App, shutdown: CancellationToken) {
    let mut ticks = tokio::time::interval(app.config.routing.snapshot_interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut reachable = true;
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        match refresh(&app).await {
            Ok(()) if !reachable => {
                reachable = true;
                tracing::info!("the queue is back; load and accuracies are read again");
            }
            Ok(()) => {}
            Err(error) if reachable => {
                reachable = false;
                tracing::warn!(%error, "the queue cannot be used; load and accuracies stay as last read");
            }
            Err(_) => {}
        }
    }
}

/// Reads all shared facts once.
///
/// # Errors
/// [`QueueError`] at the first task that cannot be read.
pub async fn refresh(app: &App) -> Result<(), QueueError> {
    let index = app.engine.index();
    app.snapshots.sync(&index.catalog);
    for task in &index.catalog.tasks {
        refresh_task(app, task).await?;
    }
    Ok(())
}

/// Reads one task's shared facts.
///
/// # Errors
/// [`QueueError`].
pub async fn refresh_task(app: &App, task: &CatalogTask) -> Result<(), QueueError> {
    let name = &task.schema.name;
    let counts = app.queue.counts(name).await?;
    app.snapshots.set_depths(name, &counts.depths);
    app.admission.saw(name, &counts, Instant::now());
    share_rollouts(app, name).await?;
    app.learning.took(name, &app.queue.beliefs(name).await?);
    let stated = app.queue.facts(name, ACCURACY).await?;
    let pins = stated.into_iter().filter_map(|(model, accuracy)| Some((model, accuracy.parse().ok()?)));
    app.learning.set_pins(name, pins.collect());
    let service: BTreeMap<String, String> = app.queue.facts(name, SERVICE).await?.into_iter().collect();
    for tier in &task.schema.tiers {
        let Some(model) = task.model_of_tier(tier) else { continue };
        let own = app.engine.version(name, &model.name, model.default_version);
        let measured = own.as_ref().and_then(|version| version.service_us());
        let service_us = service.get(tier).and_then(|text| text.parse().ok()).or(measured);
        let trained = own.and_then(|version| version.card().training_accuracy);
        let pin = app.learning.pinned(name, &model.name);
        let learned = || app.learning.accuracy((name, &model.name, model.default_version), trained, now_ms());
        let accuracy = pin.or_else(learned);
        app.snapshots.set_facts(name, tier, service_us, accuracy);
        if let Some(measured) = measured.filter(|_| app.config.role.consumes()) {
            let measured = measured.to_string();
            // Told only when it changed: this runs four times a second.
            if service.get(tier) != Some(&measured) {
                app.queue.set_fact(name, SERVICE, tier, Some(&measured)).await?;
            }
        }
    }
    Ok(())
}

/// Brings the state of the task's rollouts to other processes, and theirs here: a roll-back is one for all.
async fn share_rollouts(app: &App, task: &str) -> Result<(), QueueError> {
    let index = app.engine.index();
    let Some(found) = index.tasks.get(task) else { return Ok(()) };
    let planned: Vec<_> =
        found.models.values().filter_map(|model| Some((&model.rollout, model.rollout.fact_field()?))).collect();
    if planned.is_empty() {
        return Ok(());
    }
    let stored: BTreeMap<String, String> = app.queue.facts(task, rollout::FACTS).await?.into_iter().collect();
    for (rollout, field) in planned {
        match rollout.reconcile(stored.get(&field).map(String::as_str)) {
            Ok(Some(text)) => app.queue.set_fact(task, rollout::FACTS, &field, Some(&text)).await?,
            Ok(None) => {}
            Err(error) => tracing::warn!(task, field, error, "the state of a rollout in Redis cannot be read"),
        }
    }
    Ok(())
}
