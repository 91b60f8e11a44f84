//! The models of this repository, through the real ONNX Runtime, against their originals.

use std::collections::BTreeMap;

use serde_json::Value;
use shared::reading::Input;
use tokio_util::task::TaskTracker;
use worker_native::config::{Config, ModelsConfig, Source};
use worker_native::engine::{Answer, Card, Engine};

use crate::support::{root, tool};

mod repository;

pub(crate) fn config(models: &std::path::Path, settings: &[(&str, &str)]) -> ModelsConfig {
    let mut env = BTreeMap::from([
        ("MODEL_DIR".to_owned(), models.to_str().unwrap().to_owned()),
        ("ORT_DYLIB_PATH".to_owned(), tool("ORT_DYLIB_PATH")),
        ("MODEL_SESSIONS".to_owned(), "2".to_owned()),
    ]);
    env.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    Config::read(Source::new(env, None).unwrap()).unwrap().models
}

/// What scikit-learn said: written beside each model by `models/train/run`.
pub(crate) fn parity(task: &str, model: &str) -> (Vec<Vec<f32>>, Vec<Vec<f64>>) {
    let path = root().join(format!("models/{task}/{model}/1/parity.json"));
    let parity: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    (
        serde_json::from_value(parity["inputs"].clone()).unwrap(),
        serde_json::from_value(parity["outputs"].clone()).unwrap(),
    )
}

/// A reading that the task accepts.
pub(crate) fn sample(task: &str, model: &str) -> Vec<f32> {
    parity(task, model).0.swap_remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_model_answers_as_its_original_alone_and_among_neighbours() {
    let tasks = TaskTracker::new();
    let engine = Engine::load(&config(&root().join("models"), &[]), &tasks).await.unwrap();
    let index = engine.index();
    assert_eq!(index.faults, Vec::<String>::new());
    let versions: Vec<_> = index.versions().filter(|version| has_parity(version.card())).collect();
    assert!(versions.len() >= 7, "three pump models, two valve models, two leak models");
    for version in &versions {
        let (task, model) = (&version.card().task, &version.card().model);
        let (inputs, outputs) = parity(task, model);
        assert!(!inputs.is_empty());
        for (input, want) in inputs.iter().zip(&outputs) {
            check(version.card(), &version.predict(&Input::Features(input.clone()), None).await.unwrap(), want);
        }
        let readings: Vec<Input> = inputs.iter().cycle().take(64).cloned().map(Input::Features).collect();
        let together = readings.iter().map(|reading| version.predict(reading, None));
        for (answer, want) in futures_util::future::join_all(together).await.into_iter().zip(outputs.iter().cycle()) {
            check(version.card(), &answer.unwrap(), want);
        }
    }
    engine.shut_down(&tasks).await;
    let card = versions[0].card();
    let reading = Input::Features(sample(&card.task, &card.model));
    assert!(versions[0].predict(&reading, None).await.is_err(), "closed");
}

fn has_parity(card: &Card) -> bool {
    // Other kinds of tasks have tests of their own.
    ["pump-anomaly", "hydraulic-valve", "hydraulic-leak"].contains(&card.task.as_str())
}

fn check(card: &Card, answer: &Answer, want: &[f64]) {
    let got: Vec<f64> = match &answer.score {
        Some(score) => vec![f64::from(*score)],
        None => card.probabilities(answer).into_iter().map(f64::from).collect(),
    };
    assert_eq!(got.len(), want.len());
    for (got, want) in got.iter().zip(want) {
        let within = 1e-5 * want.abs().max(1.0);
        assert!((got - want).abs() <= within, "{}/{}: {got} and not {want}", card.task, card.model);
    }
}
