//! Brings what other processes know into this one's picture, and tells them what this one knows.
//!
//! Shared facts live beside the queue, for each task: the backlog (`depth`), pinned accuracies
//! (`accuracy`, by model), what labels taught (`beliefs`, by version), service times (`service`, by tier) and profiles
//! (`profile`, by tier), and what `planner` and `policies` agree on (`routing`; of every task: what was put for all, and
//! what processes tell of themselves). What a round has to tell is written at its end, of all tasks at once.

use std::collections::BTreeMap;
use std::time::Instant;

use futures_util::future::join_all;
use shared::catalog::CatalogTask;
use shared::policy::Profile;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::clock::now_ms;
use crate::queue::{NewFact, QueueError};
use crate::rollout;
use crate::routing::planner::{self, Learned};
use crate::routing::policies;

/// Name of the shared facts that pin accuracies, by model.
pub const ACCURACY: &str = "accuracy";
const SERVICE: &str = "service";
/// Name of the shared facts that tell how long runs take by the size of their batch, by tier.
const PROFILE: &str = "profile";
/// A profile is told again where one of its numbers moved by more than this share.
const MOVED: f32 = 0.05;

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
/// The first [`QueueError`], after all tasks were looked at.
pub async fn refresh(app: &App) -> Result<(), QueueError> {
    let index = app.engine.index();
    app.snapshots.sync(&index.catalog);
    // Side by side: a round over all tasks must be short against its period, and one that cannot be read (a shard that is
    // down) must not keep the others from being.
    let all = async {
        let facts = app.queue.facts(policies::EVERY_TASK, policies::FACTS).await?;
        app.policies.heard(policies::EVERY_TASK, policies::field(&facts));
        app.planner.heard(&facts, Instant::now());
        Ok(())
    };
    let tasks = join_all(index.catalog.tasks.iter().map(|task| look(app, task)));
    let (mut outcome, tasks) = tokio::join!(all, tasks);
    let mut told = Vec::new();
    for looked in tasks {
        match looked {
            Ok(facts) => told.extend(facts),
            Err(error) => outcome = outcome.and(Err(error)),
        }
    }
    if app.config.queue.is_shared() {
        told.extend(app.planner.presence(Instant::now()));
    }
    outcome.and(app.queue.set_facts(told).await)
}

/// Reads one task's shared facts.
///
/// # Errors
/// [`QueueError`].
pub async fn refresh_task(app: &App, task: &CatalogTask) -> Result<(), QueueError> {
    let told = look(app, task).await?;
    app.queue.set_facts(told).await
}

/// Reads one task's shared facts; what is to be told of it is returned.
async fn look(app: &App, task: &CatalogTask) -> Result<Vec<NewFact>, QueueError> {
    let name = &task.schema.name;
    let mut news = Vec::new();
    let mut tell = |of: &str, field: &str, value: String| {
        news.push(NewFact { task: name.clone(), name: of.to_owned(), field: field.to_owned(), value: Some(value) });
    };
    let counts = app.queue.counts(name).await?;
    app.snapshots.set_depths(name, &counts.depths);
    app.admission.saw(name, &counts, Instant::now());
    share_rollouts(app, name).await?;
    app.learning.took(name, &app.queue.beliefs(name).await?);
    let stated = app.queue.facts(name, ACCURACY).await?;
    let pins = stated.into_iter().filter_map(|(model, accuracy)| Some((model, accuracy.parse().ok()?)));
    app.learning.set_pins(name, pins.collect());
    let service: BTreeMap<String, String> = app.queue.facts(name, SERVICE).await?.into_iter().collect();
    let profiles: BTreeMap<String, String> = app.queue.facts(name, PROFILE).await?.into_iter().collect();
    let (mut alarmed, mut versions) = (false, Vec::new());
    for tier in &task.schema.tiers {
        let Some(model) = task.model_of_tier(tier) else { continue };
        let own = app.engine.version(name, &model.name, model.default_version);
        let measured = own.as_ref().and_then(|version| version.service_us());
        let told = profiles.get(tier).and_then(|text| profile_from(text));
        // Who runs the model knows best; who does not believes those who do.
        let ran = own.as_ref().filter(|_| app.config.role.consumes()).and_then(|version| version.profile());
        let warm = || own.as_ref().and_then(|version| version.profile());
        app.snapshots.set_profile(name, tier, ran.or(told).or_else(warm));
        if let Some(ran) = ran.filter(|ran| told.is_none_or(|told| has_moved(*ran, told))) {
            tell(PROFILE, tier, profile_text(ran));
        }
        let service_us = service.get(tier).and_then(|text| text.parse().ok()).or(measured);
        let trained = own.and_then(|version| version.card().training_accuracy);
        let pin = app.learning.pinned(name, &model.name);
        let of = (name.as_str(), model.name.as_str(), model.default_version);
        let learned = || app.learning.accuracy(of, trained, now_ms());
        let accuracy = pin.or_else(learned);
        app.snapshots.set_facts(name, tier, service_us, accuracy);
        // A statement is not learned: labels are not counted towards it.
        let labels = if pin.is_some() { 0.0 } else { app.learning.n_eff(of, now_ms()) };
        app.snapshots.set_labels(name, tier, labels);
        alarmed |= app.learning.is_alarmed(of, now_ms());
        versions.push((model.name.as_str(), model.default_version));
        if let Some(measured) = measured.filter(|_| app.config.role.consumes()) {
            let measured = measured.to_string();
            // Told only when it changed: this runs four times a second.
            if service.get(tier) != Some(&measured) {
                tell(SERVICE, tier, measured);
            }
        }
    }
    let routing = app.queue.facts(name, policies::FACTS).await?;
    app.policies.heard(name, policies::field(&routing));
    let ends = versions.first().zip(versions.last()).filter(|_| versions.len() > 1);
    let disagreement = ends.and_then(|(cheap, dear)| app.learning.pairs.bound(name, *cheap, *dear));
    let learned = Learned { alarmed, disagreement };
    if let Some(plan) = planner::step(app, task, (&counts, learned), &routing) {
        tell(policies::FACTS, planner::PLAN, plan);
    }
    Ok(news)
}

/// A profile as it is shared: microseconds, and the largest batch.
fn profile_text(profile: Profile) -> String {
    let Profile { alpha_us, beta_us, sd_us, cap } = profile;
    format!("{alpha_us:.1}:{beta_us:.2}:{sd_us:.1}:{cap}")
}

/// What [`profile_text`] made; none for anything else.
fn profile_from(text: &str) -> Option<Profile> {
    let mut parts = text.split(':');
    let time = |part: Option<&str>| part?.parse::<f32>().ok().filter(|time| time.is_finite() && *time >= 0.0);
    let (alpha_us, beta_us, sd_us) = (time(parts.next())?, time(parts.next())?, time(parts.next())?);
    Some(Profile { alpha_us, beta_us, sd_us, cap: parts.next()?.parse().ok()? })
}

/// Told only where it changed: this runs four times a second.
fn has_moved(now: Profile, told: Profile) -> bool {
    let moved = |now: f32, told: f32| (now - told).abs() > MOVED * told.abs() + 0.5;
    let full = |profile: &Profile| profile.batch_us(profile.cap());
    now.cap != told.cap || moved(now.batch_us(1), told.batch_us(1)) || moved(full(&now), full(&told))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_told_when_it_moved() {
        let profile = Profile { alpha_us: 40.0, beta_us: 12.5, sd_us: 3.0, cap: 32 };
        assert_eq!(profile_from(&profile_text(profile)), Some(profile));
        assert!(!has_moved(Profile { beta_us: 12.6, ..profile }, profile));
        assert!(has_moved(Profile { beta_us: 14.0, ..profile }, profile));
        for wrong in ["", "1:2:3", "NaN:1:1:8", "-1:1:1:8", "1:1:1:-8"] {
            assert_eq!(profile_from(wrong), None, "{wrong}");
        }
    }
}
