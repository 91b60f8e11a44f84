//! What serves a tier in this process: the version that its model gives a sensor, and the work that waits already.
//!
//! For whoever puts another tier in the place of the chosen one: the binding at the claim, and the cascade behind an
//! answer.

use std::sync::Arc;

use shared::snapshot::{TaskLoad, TierLoad};

use crate::engine::Pool;
use crate::engine::index::{Model, Task};
use crate::rollout::Assignment;

/// The model that serves a tier.
#[must_use]
pub fn model_of<'t>(task: &'t Task, tier: &str) -> Option<&'t Model> {
    task.models.values().find(|model| model.folder.tier.as_deref() == Some(tier))
}

/// The version that a model's rollout gives a key, else its default one; none where neither can be served.
#[must_use]
pub fn version_for(model: &Model, key: &str) -> Option<Assignment> {
    let is_servable = |version: &u32| model.versions.get(version).is_some_and(|version| version.is_servable());
    let assigned = model.rollout.assign(key);
    if is_servable(&assigned.version) {
        return Some(assigned);
    }
    Some(model.default_version).filter(is_servable).map(|version| model.rollout.pinned(version))
}

/// What a job takes on the cheapest tier in full runs, in microseconds; infinite without tiers.
#[must_use]
pub fn cheapest_us(load: &TaskLoad) -> f32 {
    load.tiers.iter().map(|tier| tier.profile().server_us()).fold(f32::INFINITY, f32::min)
}

/// Work that waits in this process's pools already, in microseconds until a worker is free.
#[must_use]
pub fn ahead_us(task: &Task, load: &TaskLoad) -> f32 {
    pools(task, load).fold(0.0, |sum, (tier, pool)| {
        let waiting = u32::try_from(pool.waiting()).unwrap_or(u32::MAX);
        let workers = u32::try_from(pool.workers()).unwrap_or(u32::MAX).max(1);
        sum + tier.profile().batch_us(waiting.div_ceil(workers))
    })
}

/// About what is left of the runs that go on where no worker is free, in microseconds: half a run, which may be a full one.
#[must_use]
pub fn running_us(task: &Task, load: &TaskLoad) -> f32 {
    let busy = pools(task, load).filter(|(_, pool)| pool.is_busy()).map(|(tier, _)| tier.profile());
    busy.map(|profile| profile.batch_us(profile.cap()) / 2.0).sum()
}

fn pools<'t>(task: &'t Task, load: &'t TaskLoad) -> impl Iterator<Item = (&'t TierLoad, Arc<Pool>)> {
    task.models.values().filter_map(|model| {
        let tier = load.tiers.iter().find(|tier| model.folder.tier.as_ref() == Some(&tier.tier))?;
        Some((tier, model.versions.get(&model.default_version)?.pool()?))
    })
}
