//! `GET /v1/accuracy`: what is believed of every version, why, and whether readings still look like the training data.
//!
//! As of the last refresh, every `SNAPSHOT_INTERVAL_MS`; needs no store to be reachable. What is believed is
//! `crate::learning`'s; this only tells it.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use shared::accuracy::disagreement_bound;

use crate::app::App;
use crate::clock::now_ms;
use crate::engine::index::{Model, Task};
use crate::learning::inputs::FieldDrift;
use crate::learning::pairs::PairView;

#[derive(Debug, Serialize)]
struct TaskView {
    task: String,
    models: Vec<BelievedModel>,
    /// Of two tiers' models on one reading.
    pairs: Vec<PairView>,
    inputs: Vec<FieldDrift>,
}

#[derive(Debug, Serialize)]
struct BelievedModel {
    model: String,
    tier: Option<String>,
    /// Stated by somebody; holds until taken back.
    pinned: Option<f32>,
    versions: Vec<VersionView>,
    /// Of the shadow version and the one that answers; none without a shadow.
    disagreement: Option<Disagreement>,
}

#[derive(Debug, Serialize)]
struct VersionView {
    version: u32,
    /// Is it the one that routing goes by?
    default: bool,
    /// What is believed, and where it comes from: `pinned`, `labels`, `training` or `unknown`.
    accuracy: Option<f32>,
    source: &'static str,
    mean: f64,
    interval: (f64, f64),
    labels: u64,
    correct: u64,
    n_eff: f64,
    prior: PriorView,
    drift: DriftView,
    last_label_age_ms: Option<u64>,
    /// Why what is stored cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
}

#[derive(Debug, Serialize)]
struct PriorView {
    accuracy: f64,
    labels: f64,
}

#[derive(Debug, Serialize)]
struct DriftView {
    /// Is exploration raised?
    exploring: bool,
    alarms: u64,
    cuts: u64,
    window: u64,
}

#[derive(Debug, Serialize)]
struct Disagreement {
    version: u32,
    compared: u64,
    disagreed: u64,
    /// The two accuracies differ by no more than this (95 %).
    bound: Option<f64>,
}

pub(super) async fn accuracy(State(app): State<App>) -> Response {
    let (index, now) = (app.engine.index(), now_ms());
    let tasks = index.tasks.iter().map(|(name, task)| view(&app, name, task, now));
    Json(serde_json::json!({"at": now, "tasks": tasks.collect::<Vec<_>>()})).into_response()
}

fn view(app: &App, name: &str, task: &Task, now: u64) -> TaskView {
    let models = task.models.values().map(|model| model_view(app, name, model, now)).collect();
    TaskView {
        task: name.to_owned(),
        models,
        pairs: app.learning.pairs.view(name),
        inputs: app.learning.inputs.view(name),
    }
}

fn model_view(app: &App, task: &str, model: &Model, now: u64) -> BelievedModel {
    let pinned = app.learning.pinned(task, &model.folder.name);
    let versions = model.versions.keys().map(|version| version_view(app, (task, model, *version), pinned, now));
    let disagreement = model.rollout.view().shadow.map(|shadow| {
        let disagreed = shadow.compared.saturating_sub(shadow.agreed);
        let bound = disagreement_bound(disagreed, shadow.compared);
        Disagreement { version: shadow.version, compared: shadow.compared, disagreed, bound }
    });
    BelievedModel {
        model: model.folder.name.clone(),
        tier: model.folder.tier.clone(),
        pinned,
        versions: versions.collect(),
        disagreement,
    }
}

fn version_view(app: &App, (task, model, version): (&str, &Model, u32), pinned: Option<f32>, now: u64) -> VersionView {
    let learning = &app.learning;
    let name = model.folder.name.as_str();
    let trained = model.versions.get(&version).and_then(|version| version.card().training_accuracy);
    let seen = learning.belief(task, name, version).unwrap_or_default();
    let (prior, belief) = (learning.prior(trained), &seen.belief);
    let posterior = belief.posterior(&prior, learning.settings(), now);
    let default = version == model.default_version;
    // A statement is about what answers.
    let pinned = pinned.filter(|_| default);
    let accuracy = pinned.or_else(|| learning.accuracy((task, name, version), trained, now));
    let source = match (pinned, belief.labels(), trained) {
        (Some(_), ..) => "pinned",
        (None, 1.., _) => "labels",
        (None, 0, Some(_)) => "training",
        (None, 0, None) => "unknown",
    };
    VersionView {
        version,
        default,
        accuracy,
        source,
        mean: posterior.mean(),
        interval: posterior.interval(),
        labels: belief.labels(),
        correct: belief.correct(),
        n_eff: posterior.n_eff,
        prior: PriorView { accuracy: prior.mean(), labels: prior.weight() },
        drift: DriftView {
            exploring: belief.is_alarmed(now),
            alarms: belief.alarms(),
            cuts: belief.cuts(),
            window: belief.window(),
        },
        last_label_age_ms: belief.last_label_ms().map(|last| now.saturating_sub(last)),
        fault: seen.fault,
    }
}
