//! The repository as it is now, taken in while requests are served.
//!
//! A changed version is loaded beside the old one and takes its place when it is warm; the old
//! one answers what waits for it and goes. What fails to load leaves the old one where it is.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::Engine;
use super::index::{Index, Model, NotFound, Task, catalog};
use super::loader::Spec;
use super::repository::{ModelFolder, Repository, TaskFolder};
use super::version::ModelVersion;
use crate::rollout::{ModelVersions, Rollout, RolloutConfig};

/// Why a version that an operator took away is not there.
const UNLOADED: &str = "it was unloaded; POST /models/{name}/load brings it back";

/// What a look at the repository changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Reloaded {
    /// Versions that are new or were replaced.
    pub loaded: Vec<String>,
    /// Versions that are gone.
    pub removed: Vec<String>,
    /// Versions that stayed as they were.
    pub unchanged: usize,
    /// Everything that is wrong with the repository.
    pub faults: Vec<String>,
}

impl Engine {
    /// Looks at the repository again and takes in what changed.
    pub async fn reload(&self) -> Reloaded {
        let dir = self.loader.config.dir.clone();
        match tokio::task::spawn_blocking(move || Repository::read(&dir)).await {
            Ok(repository) => self.take_in(repository).await,
            Err(error) => Reloaded { faults: vec![error.to_string()], ..Reloaded::default() },
        }
    }

    pub(super) async fn take_in(&self, repository: Repository) -> Reloaded {
        let _alone = self.reloading.lock().await;
        let old = self.index();
        let readable = repository.readable;
        let mut report = Reloaded { faults: repository.faults, ..Reloaded::default() };
        if !readable && !old.tasks.is_empty() {
            // The folder is away for a moment, as in a swap of two: what serves goes on.
            tracing::error!(
                faults = report.faults.join("; "),
                "the model repository cannot be read; what serves goes on"
            );
            return report;
        }
        let mut tasks = BTreeMap::new();
        for folder in repository.tasks {
            let mut models = BTreeMap::new();
            for model in &folder.models {
                if let Some(taken) = self.take_in_model(&old, &folder, model, &mut report).await {
                    models.insert(model.name.clone(), taken);
                }
            }
            if let Some(before) = old.tasks.get(&folder.name).filter(|_| outdated(&folder, &models)) {
                let name = &folder.name;
                report
                    .faults
                    .push(format!("{name}: task.toml changed and not all of its models fit; all stays as it was"));
                tasks.insert(name.clone(), before.clone());
                continue;
            }
            if !models.is_empty() {
                tasks.insert(folder.name.clone(), Task { folder: Arc::new(folder), models });
            }
        }
        keep_faulty(&old, &mut tasks, &self.loader.config.dir);
        let default_task = self.loader.config.default_task.as_deref();
        if let Some(name) = default_task.filter(|name| !tasks.contains_key(*name)) {
            report.faults.push(format!("DEFAULT_TASK={name}: there is no such task"));
        }
        let models: Vec<ModelVersions> =
            tasks.values().flat_map(|task| task.models.values()).map(|model| model.plan.0.clone()).collect();
        report.faults.extend(self.loader.config.canary.faults(&models));
        for fault in &mut report.faults {
            *fault = self.loader.without_dir(fault);
        }
        let catalog = Arc::new(catalog(&tasks, default_task));
        let new = Arc::new(Index { tasks, catalog, faults: report.faults.clone() });
        self.index.store(Arc::clone(&new));
        self.retire(&old, &new, &mut report);
        for fault in &report.faults {
            tracing::error!(fault, "the model repository has a fault");
        }
        if !report.loaded.is_empty() || !report.removed.is_empty() || old.catalog.etag != new.catalog.etag {
            self.changes.send_modify(|changes| *changes += 1);
        }
        report
    }

    async fn take_in_model(
        &self,
        old: &Index,
        folder: &TaskFolder,
        model: &ModelFolder,
        report: &mut Reloaded,
    ) -> Option<Model> {
        let mut versions = BTreeMap::new();
        for (version, facts) in &model.versions {
            let spec = Spec::new(folder, model, *version, facts);
            let before = old.version(&folder.name, &model.name, *version);
            if let Some(same) = before.filter(|before| before.spec == spec && !before.has_failed() && !before.is_dead())
            {
                report.unchanged += 1;
                versions.insert(*version, Arc::clone(same));
                continue;
            }
            let label = spec.label();
            match self.bring_up(spec, before).await {
                Ok(taken) => {
                    report.loaded.push(label);
                    versions.insert(*version, taken);
                }
                Err(fault) => {
                    // The old one goes on; without one the version is not there.
                    let stays = before.map_or("", |_| "; the version before it goes on serving");
                    report.faults.push(format!("{fault}{stays}"));
                    versions.extend(before.map(|before| (*version, Arc::clone(before))));
                }
            }
        }
        let wanted = self.loader.config.default_version.filter(|version| model.versions.contains_key(version));
        let wanted = wanted.unwrap_or(model.default_version);
        let default_version = match versions.get(&wanted) {
            Some(_) => wanted,
            // Any version is better than none: the newest that can be served.
            None => {
                let (newest, _) = versions.last_key_value()?;
                let name = format!("{}.{}", folder.name, model.name);
                report.faults.push(format!("{name}: its default version cannot be served, version {newest} answers"));
                *newest
            }
        };
        let plan = self.plan(folder, model, default_version, &versions);
        let kept = old.model(&folder.name, &model.name).filter(|before| before.plan == plan);
        let rollout = kept.map_or_else(
            || Arc::new(Rollout::new(&plan.0, &plan.1, &self.loader.tasks)),
            |before| Arc::clone(&before.rollout),
        );
        Some(Model { folder: Arc::new(model.clone()), default_version, versions, rollout, plan })
    }

    /// What a model's rollout is made of: its own plan, or the canary of the settings.
    fn plan(
        &self,
        folder: &TaskFolder,
        model: &ModelFolder,
        default_version: u32,
        versions: &BTreeMap<u32, Arc<ModelVersion>>,
    ) -> (ModelVersions, RolloutConfig) {
        let (task, name) = (folder.name.clone(), model.name.clone());
        let versions: Vec<u32> = versions.keys().copied().collect();
        let known = ModelVersions { task, model: name, versions, default_version };
        let mut config = self.loader.config.canary.apply(&known, model.rollout());
        // A version that could not be loaded gets no traffic; one that became the default is compared with nothing.
        let served = |version: u32| known.versions.contains(&version) && version != default_version;
        config.canary = config.canary.filter(|canary| served(canary.version));
        config.arms.retain(|arm| served(arm.version));
        config.shadow = config.shadow.filter(|shadow| served(shadow.version));
        (known, config)
    }

    /// Makes a version, and loads it where it is to be in memory.
    async fn bring_up(&self, spec: Spec, before: Option<&Arc<ModelVersion>>) -> Result<Arc<ModelVersion>, String> {
        let label = spec.label();
        let version = ModelVersion::new(spec, Arc::clone(&self.loader)).map_err(|fault| format!("{label}: {fault}"))?;
        if before.is_some_and(|before| before.is_withdrawn()) {
            version.unload(true, UNLOADED);
        } else if self.loader.config.load_all || before.is_some_and(|before| before.is_ready()) {
            version.load().await?;
        }
        Ok(Arc::new(version))
    }

    /// Lets go of what the new index no longer has.
    fn retire(&self, old: &Index, new: &Index, report: &mut Reloaded) {
        for gone in old.versions() {
            let spec = &gone.spec;
            match new.version(&spec.task, &spec.model, spec.version) {
                Some(stays) if Arc::ptr_eq(stays, gone) => {}
                Some(successor) => gone.hand_over(successor),
                None => {
                    report.removed.push(spec.label());
                    gone.unload(true, "it is no longer in the model repository");
                    let card = gone.card();
                    self.metrics().retire(&card.task, &card.model, card.version, card.tier.as_deref());
                }
            }
        }
    }

    /// Looks at the repository again and loads all versions of a model, or the one named.
    ///
    /// # Errors
    /// What is wrong, for the caller; `None` where there is no such model.
    pub async fn load_public(&self, name: &str, version: Option<u32>) -> Result<(), LoadError> {
        let report = self.reload().await;
        let index = self.index();
        let found = match index.find(name) {
            Ok((_, model)) => model,
            // It may be there and faulty: then the fault is the answer.
            Err(NotFound::Unknown) if report.faults.iter().any(|fault| mentions(fault, name)) => {
                return Err(LoadError::Failed(faults_of(&report.faults, name)));
            }
            Err(error) => return Err(LoadError::NotFound(error)),
        };
        let wanted = |number: &u32| version.is_none_or(|version| version == *number);
        let mut any = false;
        let mut failed = Vec::new();
        for (_, one) in found.versions.iter().filter(|(number, _)| wanted(number)) {
            any = true;
            failed.extend(one.load().await.err());
        }
        self.changes.send_modify(|changes| *changes += 1);
        failed.push(faults_of(&report.faults, name));
        failed.retain(|fault| !fault.is_empty());
        if !failed.is_empty() {
            return Err(LoadError::Failed(failed.join("; ")));
        }
        if any { Ok(()) } else { Err(LoadError::NotFound(NotFound::Version(found.versions.keys().copied().collect()))) }
    }

    /// Takes all versions of a model from memory, or the one named; they come back by [`Engine::load_public`] only.
    ///
    /// # Errors
    /// [`NotFound`].
    pub fn unload_public(&self, name: &str, version: Option<u32>) -> Result<(), NotFound> {
        let index = self.index();
        let (_, model) = index.find(name)?;
        if let Some(version) = version.filter(|version| !model.versions.contains_key(version)) {
            tracing::debug!(name, version, "an unknown version was to be unloaded");
            return Err(NotFound::Version(model.versions.keys().copied().collect()));
        }
        for (_, one) in model.versions.iter().filter(|(number, _)| version.is_none_or(|version| version == **number)) {
            one.unload(true, UNLOADED);
        }
        self.changes.send_modify(|changes| *changes += 1);
        Ok(())
    }
}

/// Why a model was not loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadError {
    /// There is no such model or version.
    NotFound(NotFound),
    /// It is there and cannot be used.
    Failed(String),
}

/// Does a fault speak of a model, by its public name or its folder's path?
fn mentions(fault: &str, name: &str) -> bool {
    // `lof` is not meant by a fault of `my_lof`.
    let whole = |(at, _): (usize, &str)| {
        let before = fault.get(..at).and_then(|before| before.chars().next_back());
        !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '-'))
    };
    let path = format!("{}/", name.replace('.', "/"));
    fault.match_indices(&format!("{name} ")).any(whole) || fault.match_indices(&path).any(whole)
}

fn faults_of(faults: &[String], name: &str) -> String {
    let own: Vec<&str> = faults.iter().filter(|fault| mentions(fault, name)).map(String::as_str).collect();
    own.join("; ")
}

/// Does a version that stayed answer another schema than the task has now? Readings would be checked by the one and
/// run by the other.
fn outdated(folder: &TaskFolder, models: &BTreeMap<String, Model>) -> bool {
    models.values().flat_map(|model| model.versions.values()).any(|version| version.spec.kind != folder.kind)
}

/// A task or model whose files turned faulty goes on as it was, for as long as its folder is there.
fn keep_faulty(old: &Index, tasks: &mut BTreeMap<String, Task>, dir: &std::path::Path) {
    for (name, before) in &old.tasks {
        if is_gone(&dir.join(name).join("task.toml")) {
            continue;
        }
        let Some(task) = tasks.get_mut(name) else {
            tasks.insert(name.clone(), before.clone());
            continue;
        };
        for (model, before) in &before.models {
            let same_kind = before.versions.values().all(|version| version.spec.kind == task.folder.kind);
            let there = !is_gone(&dir.join(name).join(model).join("model.toml"));
            if !task.models.contains_key(model) && there && same_kind {
                task.models.insert(model.clone(), before.clone());
            }
        }
    }
}

/// Is a file not there? One that cannot be looked at for another reason counts as there.
fn is_gone(path: &std::path::Path) -> bool {
    matches!(path.try_exists(), Ok(false))
}
