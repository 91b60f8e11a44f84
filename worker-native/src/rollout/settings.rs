//! The settings `CANARY_VERSION` and `CANARY_PERCENT`: a canary without an edit of `model.toml`.
//!
//! Owns what their text means. A model's own `[canary]` or `[[arms]]` goes before.

use std::collections::BTreeMap;

use super::ModelVersions;
use super::plan::{Canary, Limits, RolloutConfig};

/// What the two settings say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CanarySetting {
    version: Wanted,
    percent: f64,
}

#[derive(Debug, Clone, Default, PartialEq)]
enum Wanted {
    #[default]
    None,
    /// This version of every model that has it.
    Everywhere(u32),
    /// By `<task>/<model>`.
    Named(BTreeMap<String, u32>),
}

impl CanarySetting {
    /// Reads `CANARY_VERSION` (`2`, or `task/model=2,task/other=3`; empty is none) and `CANARY_PERCENT`.
    ///
    /// # Errors
    /// Every fault, each with its setting.
    pub fn read(version: &str, percent: f64) -> Result<Self, Vec<String>> {
        let mut faults = Vec::new();
        if !(0.0..=100.0).contains(&percent) {
            faults.push(format!("CANARY_PERCENT={percent}: it must be from 0 to 100"));
        }
        let version = version.trim();
        let wanted = if version.is_empty() {
            Wanted::None
        } else if let Ok(everywhere) = version.parse() {
            Wanted::Everywhere(everywhere)
        } else {
            let mut named = BTreeMap::new();
            for part in version.split(',').map(str::trim) {
                let pair =
                    part.split_once('=').and_then(|(name, version)| Some((name.trim(), version.trim().parse().ok()?)));
                match pair {
                    Some((name, version)) if name.split('/').count() == 2 => {
                        if named.insert(name.to_owned(), version).is_some() {
                            faults.push(format!("CANARY_VERSION: {name} is given twice"));
                        }
                    }
                    _ => {
                        faults.push(format!("CANARY_VERSION: {part:?} must be a version, or <task>/<model>=<version>"))
                    }
                }
            }
            Wanted::Named(named)
        };
        if faults.is_empty() { Ok(Self { version: wanted, percent }) } else { Err(faults) }
    }

    /// What does not fit the models there are.
    #[must_use]
    pub fn faults(&self, models: &[ModelVersions]) -> Vec<String> {
        let known = |model: &&ModelVersions, version: u32| model.versions.contains(&version);
        match &self.version {
            Wanted::None => vec![],
            Wanted::Everywhere(version) => {
                let found = models.iter().any(|model| known(&model, *version));
                if found { vec![] } else { vec![format!("CANARY_VERSION={version}: no model has this version")] }
            }
            Wanted::Named(named) => {
                let fits = |name: &str, version| {
                    models.iter().any(|model| {
                        name.split_once('/') == Some((&model.task, &model.model))
                            && known(&model, version)
                            && model.default_version != version
                    })
                };
                let wrong = named.iter().filter(|(name, version)| !fits(name, **version));
                wrong.map(|(name, version)| {
                    format!("CANARY_VERSION: {name}={version} must be a model there is, and a version it has that is not its default_version")
                })
                .collect()
            }
        }
    }

    /// The model's plan with the canary of the settings, where it has no canary and no arms of its own.
    #[must_use]
    pub fn apply(&self, model: &ModelVersions, config: RolloutConfig) -> RolloutConfig {
        if config.canary.is_some() || !config.arms.is_empty() {
            return config;
        }
        let version = match &self.version {
            Wanted::None => None,
            Wanted::Everywhere(version) => Some(*version),
            Wanted::Named(named) => named.get(&format!("{}/{}", model.task, model.model)).copied(),
        };
        // A model whose default it is already, or that does not have it, is not meant by "everywhere".
        let version = version.filter(|version| *version != model.default_version && model.versions.contains(version));
        let canary = version.map(|version| Canary { version, percent: self.percent, limits: Limits::default() });
        RolloutConfig { canary, ..config }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(task: &str, model: &str, versions: &[u32], default_version: u32) -> ModelVersions {
        ModelVersions { task: task.to_owned(), model: model.to_owned(), versions: versions.to_vec(), default_version }
    }

    fn canary_of(setting: &CanarySetting, model: &ModelVersions) -> Option<(u32, f64)> {
        setting.apply(model, RolloutConfig::default()).canary.map(|canary| (canary.version, canary.percent))
    }

    #[test]
    fn a_plain_version_is_for_every_model_that_has_it() {
        let setting = CanarySetting::read(" 2 ", 5.0).unwrap();
        assert_eq!(canary_of(&setting, &model("t", "a", &[1, 2], 1)), Some((2, 5.0)));
        assert_eq!(canary_of(&setting, &model("t", "b", &[1, 2], 2)), None);
        assert_eq!(canary_of(&setting, &model("t", "c", &[1], 1)), None);
        assert!(setting.faults(&[model("t", "a", &[1, 2], 1)]).is_empty());
        assert!(setting.faults(&[model("t", "a", &[1], 1)])[0].contains("no model has"));
    }

    #[test]
    fn named_models_only_and_they_must_be_there() {
        let setting = CanarySetting::read("t/a=2, u/b=3", 10.0).unwrap();
        let models = [model("t", "a", &[1, 2], 1), model("u", "b", &[1, 3], 1), model("t", "b", &[1, 3], 1)];
        assert_eq!(models.each_ref().map(|model| canary_of(&setting, model)), [Some((2, 10.0)), Some((3, 10.0)), None]);
        assert!(setting.faults(&models).is_empty());
        assert_eq!(setting.faults(&models[1..]).len(), 1);
        assert_eq!(setting.faults(&[model("t", "a", &[1, 2], 2), model("u", "b", &[1], 1)]).len(), 2);
    }

    #[test]
    fn a_plan_in_model_toml_goes_before() {
        let setting = CanarySetting::read("2", 5.0).unwrap();
        let own = Canary { version: 3, percent: 1.0, limits: Limits::default() };
        let config = RolloutConfig { canary: Some(own), ..RolloutConfig::default() };
        assert_eq!(setting.apply(&model("t", "a", &[1, 2, 3], 1), config.clone()), config);
        assert_eq!(canary_of(&CanarySetting::read("", 5.0).unwrap(), &model("t", "a", &[1, 2], 1)), None);
    }

    #[test]
    fn every_fault_of_the_text_is_told() {
        let faults = CanarySetting::read("a=2,t/a=x,t/a=2,t/a=3", 101.0).unwrap_err();
        assert_eq!(faults.len(), 4, "{faults:?}");
    }
}
