//! What `model.toml` says of versions in traffic: `[canary]`, `[[arms]]`, `[shadow]`.
//!
//! Owns the form and its faults. The file is read by `engine::repository`; what is in force at run
//! time is `super::state`'s.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use shared::ids::is_name;

use super::assign::DEFAULT_ARM;

/// Most arms of one model: each has evidence of its own.
pub const MAX_ARMS: usize = 16;

/// How one model's versions share the traffic that names no version; empty: the default version has it all.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RolloutConfig {
    /// A new version on trial.
    pub canary: Option<Canary>,
    /// Versions compared side by side; not beside a canary.
    pub arms: Vec<Arm>,
    /// A version that runs beside and never answers.
    pub shadow: Option<ShadowPlan>,
}

/// `[canary]`: a version that gets part of the traffic and is taken out when it does worse.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Canary {
    /// The version on trial.
    pub version: u32,
    /// Its part of the traffic that names no version, in percent, 0..=100.
    pub percent: f64,
    /// When it is taken out.
    #[serde(flatten)]
    pub limits: Limits,
}

/// How much worse a version may do, and how sure a verdict must be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// A version that keeps to all limits is called worse with at most a probability of one less this.
    pub confidence: f64,
    /// Fewest observations on each side before any verdict; the test learns from them what to expect.
    pub min_samples: u32,
    /// Accuracy it may lose, as a share: 0.02 is two points.
    pub max_accuracy_drop: f64,
    /// How many times as long a run may take.
    pub max_latency_ratio: f64,
    /// How much more often the model may fail, as a share of its runs.
    pub max_failure_rise: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            confidence: 0.99,
            min_samples: 100,
            max_accuracy_drop: 0.02,
            max_latency_ratio: 1.5,
            max_failure_rise: 0.01,
        }
    }
}

/// `[[arms]]`: one version with a weight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arm {
    /// The arm's name.
    pub name: String,
    /// The version that answers for it.
    pub version: u32,
    /// Its part of the traffic that names no version, in percent; the default version has the rest.
    pub weight: f64,
}

/// `[shadow]`: a version that runs beside the one that answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShadowPlan {
    /// The version that runs beside.
    pub version: u32,
    /// The part of the keys it sees, in percent.
    #[serde(default = "all")]
    pub percent: f64,
}

const fn all() -> f64 {
    100.0
}

impl RolloutConfig {
    /// Everything that is wrong with it, each with its key.
    #[must_use]
    pub fn faults(&self, versions: &[u32], default_version: u32) -> Vec<String> {
        let mut faults = Faults { versions, default_version, found: vec![] };
        if let Some(canary) = &self.canary {
            faults.version("canary", canary.version);
            faults.percent("canary.percent", canary.percent);
            faults.limits(&canary.limits);
            if !self.arms.is_empty() {
                faults.say("canary and arms: a model has one or the other; keep one".to_owned());
            }
        }
        faults.arms(&self.arms);
        if let Some(shadow) = &self.shadow {
            faults.version("shadow", shadow.version);
            faults.percent("shadow.percent", shadow.percent);
        }
        faults.found
    }
}

struct Faults<'a> {
    versions: &'a [u32],
    default_version: u32,
    found: Vec<String>,
}

impl Faults<'_> {
    fn say(&mut self, fault: String) {
        self.found.push(fault);
    }

    fn version(&mut self, at: &str, version: u32) {
        if !self.versions.contains(&version) {
            let known: Vec<String> = self.versions.iter().map(u32::to_string).collect();
            self.say(format!("{at}.version {version} is not one of the versions: {}", known.join(", ")));
        } else if version == self.default_version {
            self.say(format!("{at}.version {version} is the default_version; it must be another"));
        }
    }

    fn percent(&mut self, at: &str, percent: f64) {
        if !(0.0..=100.0).contains(&percent) {
            self.say(format!("{at} {percent} must be from 0 to 100"));
        }
    }

    fn limits(&mut self, limits: &Limits) {
        let mut must = |good: bool, key: &str, value: f64, rule: &str| {
            if !good {
                self.found.push(format!("canary.{key} {value} must be {rule}"));
            }
        };
        let share = |value: f64| (0.0..1.0).contains(&value);
        // Below one half a verdict would be a coin's; at 1 there is never one.
        let sure = limits.confidence >= 0.5 && limits.confidence < 1.0;
        must(sure, "confidence", limits.confidence, "at least 0.5 and below 1");
        must(limits.min_samples >= 10, "min_samples", f64::from(limits.min_samples), "at least 10");
        must(share(limits.max_accuracy_drop), "max_accuracy_drop", limits.max_accuracy_drop, "from 0 to below 1");
        must(share(limits.max_failure_rise), "max_failure_rise", limits.max_failure_rise, "from 0 to below 1");
        let ratio = limits.max_latency_ratio.is_finite() && limits.max_latency_ratio >= 1.0;
        must(ratio, "max_latency_ratio", limits.max_latency_ratio, "at least 1");
    }

    fn arms(&mut self, arms: &[Arm]) {
        if arms.len() > MAX_ARMS {
            self.say(format!("arms: {} are given, at most {MAX_ARMS} are taken", arms.len()));
        }
        let mut names = BTreeSet::from([DEFAULT_ARM]);
        for arm in arms {
            if !is_name(&arm.name) || !names.insert(&arm.name) {
                let rule = "a name of letters, digits, `_`, `-`, given once and not `default`";
                self.say(format!("arms: name {:?} must be {rule}", arm.name));
            }
            self.version(&format!("arms.{}", arm.name), arm.version);
            self.percent(&format!("arms.{}.weight", arm.name), arm.weight);
        }
        let sum: f64 = arms.iter().map(|arm| arm.weight).sum();
        if sum > 100.0 {
            self.say(format!("arms: the weights add up to {sum}, at most 100 is possible"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<RolloutConfig, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn a_canary_needs_a_version_and_a_percent_only() {
        let config = read("[canary]\nversion = 2\npercent = 10\n[shadow]\nversion = 3").unwrap();
        let canary = config.canary.as_ref().unwrap();
        assert_eq!((canary.version, canary.percent, canary.limits), (2, 10.0, Limits::default()));
        assert_eq!(config.shadow.as_ref().unwrap().percent, 100.0);
        assert!(config.faults(&[1, 2, 3], 1).is_empty());
        assert!(RolloutConfig::default().faults(&[1], 1).is_empty());
    }

    #[test]
    fn limits_are_read_beside_the_canary_and_misspellings_are_not() {
        let config = read("[canary]\nversion = 2\npercent = 0.5\nconfidence = 0.95\nmax_latency_ratio = 2").unwrap();
        let limits = config.canary.unwrap().limits;
        assert_eq!((limits.confidence, limits.max_latency_ratio, limits.min_samples), (0.95, 2.0, 100));
        for wrong in
            ["[canary]\nversion = 2\npercent = 1\nconfidense = 0.9", "[cannary]\nversion = 2", "[canary]\nversion = 2"]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_fault_is_named_with_its_key() {
        let text = "[canary]\nversion = 9\npercent = 101\nconfidence = 1\nmin_samples = 1\nmax_accuracy_drop = -0.1\n\
            max_latency_ratio = 0.5\nmax_failure_rise = 1\n[[arms]]\nname = \"b\"\nversion = 1\nweight = 60\n\
            [[arms]]\nname = \"b\"\nversion = 2\nweight = 60\n[[arms]]\nname = \"default\"\nversion = 2\nweight = 0\n\
            [shadow]\nversion = 1\npercent = nan";
        let faults = read(text).unwrap().faults(&[1, 2], 1).join("\n");
        for word in [
            "canary.version 9",
            "canary.percent 101",
            "canary.confidence",
            "canary.min_samples",
            "max_accuracy_drop",
            "max_latency_ratio",
            "max_failure_rise",
            "one or the other",
            "arms.b.version 1 is the default_version",
            "\"b\" must be",
            "\"default\" must be",
            "add up to 120",
            "shadow.version 1",
            "shadow.percent NaN",
        ] {
            assert!(faults.contains(word), "{word} missing in:\n{faults}");
        }
    }
}
