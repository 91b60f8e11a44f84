//! A rollout as `GET /models` shows it: plan, arms, evidence, verdict, shadow, roll-back.
//!
//! Owns the form only; every number is read from [`super::state`].

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use super::evidence::{Evidence, Standing, Verdict};
use super::plan::Limits;
use super::shadow::ShadowView;
use super::state::{Counts, RolledBack, Rollout};

/// One model's rollout, now.
#[derive(Debug, Serialize)]
pub struct RolloutView {
    /// `none`, `canary` or `arms`.
    pub plan: &'static str,
    /// The version that answers what the plan does not give away.
    pub default_version: u32,
    /// Its part of the traffic that names no version, in percent.
    pub default_percent: f64,
    /// The other versions in traffic; the limits of a comparison are beside its evidence.
    pub arms: Vec<ArmView>,
    /// Set while the plan is out of traffic.
    pub rolled_back: Option<RolledBack>,
    /// The version that runs beside.
    pub shadow: Option<ShadowView>,
    /// What was counted of each version in this process, whatever brought it the readings.
    pub versions: BTreeMap<u32, VersionView>,
}

/// One arm of a plan.
#[derive(Debug, Serialize)]
pub struct ArmView {
    /// The arm's name.
    pub arm: String,
    /// The version that answers for it.
    pub version: u32,
    /// Its part of the traffic as planned, in percent; 0 while it is rolled back.
    pub percent: f64,
    /// What it is held to.
    pub limits: Limits,
    /// What may be said of it beside the default version.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Share of labelled answers that were right.
    pub accuracy: Standing,
    /// Share of runs in which the model failed.
    pub failures: Standing,
    /// Median run time of the newest runs in milliseconds.
    pub median_ms: Standing,
}

/// What was counted of one version since the process started.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct VersionView {
    /// Runs.
    pub runs: u64,
    /// Runs in which the model failed.
    pub failures: u64,
    /// Answers that got a label.
    pub labels: u64,
    /// Of these: right.
    pub correct: u64,
}

impl Rollout {
    /// The rollout as it is now.
    #[must_use]
    pub fn view(&self) -> RolloutView {
        let rolled_back = self.state().rolled_back;
        let arms = self.picture(|arm, percent, evidence| {
            let none = Evidence::new(self.limits);
            let evidence = evidence.unwrap_or(&none);
            let [accuracy, failures, median_ms] = evidence.standings();
            ArmView {
                arm: arm.arm.to_string(),
                version: arm.version,
                percent: if rolled_back.is_some() { 0.0 } else { percent },
                limits: self.limits,
                verdict: evidence.verdict(),
                accuracy,
                failures,
                median_ms,
            }
        });
        RolloutView {
            plan: match (self.is_canary, arms.is_empty()) {
                (true, _) => "canary",
                (false, false) => "arms",
                (false, true) => "none",
            },
            default_version: self.default_version,
            default_percent: 100.0 - arms.iter().map(|arm| arm.percent).sum::<f64>(),
            arms,
            rolled_back,
            shadow: self.shadow.as_ref().map(|shadow| shadow.view()),
            versions: self.counts.iter().map(|(version, counts)| (*version, counts.view())).collect(),
        }
    }
}

impl Counts {
    fn view(&self) -> VersionView {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        VersionView {
            runs: read(&self.runs),
            failures: read(&self.failures),
            labels: read(&self.labels),
            correct: read(&self.correct),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::task::TaskTracker;

    use super::super::ModelVersions;
    use super::super::plan::{Canary, RolloutConfig, ShadowPlan};
    use super::super::state::Run;
    use super::*;

    #[test]
    fn everything_is_shown() {
        let model =
            ModelVersions { task: "t".to_owned(), model: "m".to_owned(), versions: vec![1, 2, 3], default_version: 1 };
        let config = RolloutConfig {
            canary: Some(Canary { version: 2, percent: 25.0, limits: Limits::default() }),
            shadow: Some(ShadowPlan { version: 3, percent: 50.0 }),
            ..RolloutConfig::default()
        };
        let rollout = Rollout::new(&model, &config, &TaskTracker::new());
        let canary = (0..).map(|key| rollout.assign(&key.to_string())).find(|found| found.version == 2).unwrap();
        rollout.ran(&canary, Run::Ended { ms: 4.0 }, 1);
        rollout.ran(&canary, Run::Failed, 1);
        rollout.labelled(&canary, true, 1);

        let view = serde_json::to_value(rollout.view()).unwrap();
        assert_eq!(view["plan"], "canary");
        assert_eq!(view["default_percent"], 75.0);
        assert_eq!(view["versions"]["2"], serde_json::json!({"runs": 2, "failures": 1, "labels": 1, "correct": 1}));
        let arm = &view["arms"][0];
        assert_eq!(
            (&arm["verdict"], &arm["arm"], &arm["limits"]["min_samples"]),
            (&"undecided".into(), &"canary".into(), &100.into())
        );
        assert_eq!((&arm["failures"]["canary"], &arm["median_ms"]["canary"]), (&0.5.into(), &4.0.into()));
        assert_eq!(
            (&arm["accuracy"]["canary_samples"], &arm["accuracy"]["within"]),
            (&1.into(), &serde_json::Value::Null)
        );
        assert_eq!((&view["shadow"]["version"], &view["rolled_back"]), (&3.into(), &serde_json::Value::Null));

        rollout.roll_back("seen enough", 9).unwrap();
        let view = serde_json::to_value(rollout.view()).unwrap();
        assert_eq!((&view["rolled_back"]["by"], &view["default_percent"]), (&"operator".into(), &100.0.into()));
        assert_eq!(view["arms"][0]["percent"], 0.0);
    }

    #[test]
    fn a_model_without_a_plan_shows_its_counts() {
        let model =
            ModelVersions { task: "t".to_owned(), model: "m".to_owned(), versions: vec![1], default_version: 1 };
        let rollout = Rollout::new(&model, &RolloutConfig::default(), &TaskTracker::new());
        let view = rollout.view();
        assert_eq!((view.plan, view.default_percent, view.arms.len()), ("none", 100.0, 0));
        assert_eq!(view.versions[&1], VersionView { runs: 0, failures: 0, labels: 0, correct: 0 });
    }
}
