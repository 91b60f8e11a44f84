//! The metrics of routing: the plan in force, what workers made of it, and how true its predictions are.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use shared::policy::Mode;
use shared::reading::Priority;

use super::families::{Count, Declaring, Number};
use super::queue::TaskLabels;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModeLabels {
    task: String,
    mode: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BoundLabels {
    task: String,
    hinted: String,
    tier: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClassLabels {
    task: String,
    class: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PredictedLabels {
    task: String,
    /// The tenth that the prediction lies in, by its lower end.
    predicted: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CascadeLabels {
    task: String,
    outcome: &'static str,
}

/// A task's plan at one moment.
#[derive(Debug, Clone, Default)]
pub struct PlanState {
    /// The task.
    pub task: String,
    /// How much is known.
    pub mode: Mode,
    /// The share of the dearer tier in use.
    pub share: f64,
    /// The share of exploration.
    pub exploration: f64,
}

#[derive(Debug)]
pub(super) struct RoutingFamilies {
    mode: Family<ModeLabels, Count>,
    split: Family<TaskLabels, Number>,
    exploration: Family<TaskLabels, Number>,
    bound: Family<BoundLabels, Counter>,
    cascaded: Family<CascadeLabels, Counter>,
    shed: Family<ClassLabels, Counter>,
    predicted: Family<PredictedLabels, Counter>,
    in_time: Family<PredictedLabels, Counter>,
}

const TENTHS: [&str; 10] = ["0.0", "0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9"];

impl RoutingFamilies {
    pub(super) fn declare(to: &mut Declaring<'_>) -> Self {
        Self {
            mode: to.add("router_mode", "1 for the mode that routing is in, 0 for the others"),
            split: to.add("router_split", "The planned share of the dearer tier in use"),
            exploration: to.add("router_exploration", "The share sent to a tier so that its accuracy stays known"),
            bound: to.add("router_bound_jobs", "Jobs by the tier that was advised and the tier that they ran on"),
            cascaded: to.add("router_cascade_answers", "First answers under a cascade, by what became of them"),
            shed: to.add("router_shed", "Readings turned away as part of the share of their class that is shed"),
            predicted: to.add("router_on_time_predicted", "Jobs whose chance to be in time was predicted"),
            in_time: to.add("router_on_time_met", "Those of them that were in time"),
        }
    }

    /// Tells the plans, and of no other tasks.
    pub(super) fn set(&self, plans: &[PlanState]) {
        self.mode.clear();
        self.split.clear();
        self.exploration.clear();
        for plan in plans {
            for mode in Mode::ALL {
                let labels = ModeLabels { task: plan.task.clone(), mode: mode.name() };
                self.mode.get_or_create(&labels).set(u64::from(mode == plan.mode));
            }
            let labels = TaskLabels { task: plan.task.clone() };
            self.split.get_or_create(&labels).set(plan.share);
            self.exploration.get_or_create(&labels).set(plan.exploration);
        }
    }

    pub(super) fn bound(&self, task: &str, hinted: &str, tier: &str) {
        let labels = BoundLabels { task: task.to_owned(), hinted: hinted.to_owned(), tier: tier.to_owned() };
        self.bound.get_or_create(&labels).inc();
    }

    pub(super) fn cascaded(&self, task: &str, outcome: &'static str) {
        self.cascaded.get_or_create(&CascadeLabels { task: task.to_owned(), outcome }).inc();
    }

    pub(super) fn shed(&self, task: &str, class: Priority) {
        self.shed.get_or_create(&ClassLabels { task: task.to_owned(), class: class.name() }).inc();
    }

    pub(super) fn on_time(&self, task: &str, predicted: f32, in_time: bool) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped, and a NaN is 0")]
        let tenth = (predicted.clamp(0.0, 1.0) * 10.0) as usize;
        let Some(predicted) = TENTHS.get(tenth.min(TENTHS.len() - 1)) else { return };
        let labels = PredictedLabels { task: task.to_owned(), predicted };
        self.predicted.get_or_create(&labels).inc();
        self.in_time.get_or_create(&labels).inc_by(u64::from(in_time));
    }
}
