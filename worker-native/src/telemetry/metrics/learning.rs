//! The metrics of what is learned: labels, beliefs, drift.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use shared::accuracy::Drift;

use super::families::{Declaring, ModelLabels, Number};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LabelLabels {
    task: String,
    model: String,
    correct: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DriftLabels {
    task: String,
    model: String,
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FieldLabels {
    task: String,
    field: String,
}

/// What is believed of a version's accuracy.
#[derive(Debug, Clone)]
pub struct BelievedAccuracy {
    /// The task.
    pub task: String,
    /// The model.
    pub model: String,
    /// The version.
    pub version: u32,
    /// The accuracy, 0 to 1.
    pub accuracy: f64,
}

/// How far a field of a task's readings is from the training data.
#[derive(Debug, Clone)]
pub struct InputDrift {
    /// The task.
    pub task: String,
    /// The field, as `task.toml` names it.
    pub field: String,
    /// The population stability index.
    pub psi: f64,
}

#[derive(Debug)]
pub(super) struct LearningFamilies {
    labels: Family<LabelLabels, Counter>,
    accuracy: Family<ModelLabels, Number>,
    drifts: Family<DriftLabels, Counter>,
    skipped: Counter,
    inputs: Family<FieldLabels, Number>,
}

impl LearningFamilies {
    pub(super) fn declare(to: &mut Declaring<'_>) -> Self {
        Self {
            labels: to.add("router_labels", "Labels that counted"),
            accuracy: to.add("router_accuracy", "What is believed of a version's accuracy"),
            drifts: to.add("router_drifts", "Changes of a version's accuracy that its labels showed"),
            skipped: to.add("router_label_records_skipped", "Answers that other processes cannot find for a label"),
            inputs: to.add("router_input_drift", "Population stability index of a field against the training data"),
        }
    }

    pub(super) fn label(&self, task: &str, model: &str, correct: bool) {
        let correct = if correct { "yes" } else { "no" };
        let labels = LabelLabels { task: task.to_owned(), model: model.to_owned(), correct };
        self.labels.get_or_create(&labels).inc();
    }

    pub(super) fn drift(&self, task: &str, model: &str, drift: Drift) {
        for (kind, _) in [("alarm", drift.alarm), ("cut", drift.cut)].into_iter().filter(|(_, seen)| *seen) {
            let labels = DriftLabels { task: task.to_owned(), model: model.to_owned(), kind };
            self.drifts.get_or_create(&labels).inc();
        }
    }

    pub(super) fn skipped(&self, answers: u64) {
        self.skipped.inc_by(answers);
    }

    /// Shows these and no others.
    pub(super) fn set(&self, accuracies: &[BelievedAccuracy], inputs: &[InputDrift]) {
        self.accuracy.clear();
        for BelievedAccuracy { task, model, version, accuracy } in accuracies {
            let labels = ModelLabels { task: task.clone(), model: model.clone(), version: *version };
            self.accuracy.get_or_create(&labels).set(*accuracy);
        }
        self.inputs.clear();
        for InputDrift { task, field, psi } in inputs {
            let labels = FieldLabels { task: task.clone(), field: field.clone() };
            self.inputs.get_or_create(&labels).set(*psi);
        }
    }
}
