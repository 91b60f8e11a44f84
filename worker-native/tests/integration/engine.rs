//! The models of this repository, through the real ONNX Runtime, against their originals.

use std::collections::BTreeMap;

use serde_json::Value;
use tokio_util::task::TaskTracker;
use worker_native::config::{Config, ModelsConfig, Source};
use worker_native::engine::{Engine, Pool};

use crate::support::{root, tool};

fn config() -> ModelsConfig {
    let models = root().join("models");
    let env = BTreeMap::from([
        ("MODEL_DIR".to_owned(), models.to_str().unwrap().to_owned()),
        ("ORT_DYLIB_PATH".to_owned(), tool("ORT_DYLIB_PATH")),
        ("MODEL_SESSIONS".to_owned(), "2".to_owned()),
    ]);
    Config::read(Source::new(env, None).unwrap()).unwrap().models
}

/// What scikit-learn said: written beside each model by `models/train/run`.
fn parity(task: &str, model: &str) -> (Vec<Vec<f32>>, Vec<Vec<f64>>) {
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

// One test: a process can make the runtime's environment only once.
#[tokio::test(flavor = "multi_thread")]
async fn every_model_answers_as_its_original_alone_and_among_neighbours() {
    let tasks = TaskTracker::new();
    let engine = tokio::task::block_in_place(|| Engine::load(&config(), &tasks, &|_| {})).unwrap();
    assert!(engine.pools().len() >= 7, "three pump models, two valve models, two leak models");
    for pool in engine.pools() {
        let (task, model) = (&pool.card().task, &pool.card().model);
        let (inputs, outputs) = parity(task, model);
        assert!(!inputs.is_empty());
        for (input, want) in inputs.iter().zip(&outputs) {
            compare(pool, input, want, &engine).await;
        }
        let together: Vec<_> = inputs.iter().cycle().take(64).map(|input| pool.predict(input.clone())).collect();
        for (answer, want) in futures_util::future::join_all(together).await.into_iter().zip(outputs.iter().cycle()) {
            check(pool, &answer.unwrap(), want, &engine);
        }
    }
    engine.shut_down(&tasks).await;
    let pool = &engine.pools()[0];
    assert!(pool.predict(sample(&pool.card().task, &pool.card().model)).await.is_err(), "closed");
}

async fn compare(pool: &Pool, input: &[f32], want: &[f64], engine: &Engine) {
    check(pool, &pool.predict(input.to_vec()).await.unwrap(), want, engine);
}

fn check(pool: &Pool, answer: &worker_native::engine::Answer, want: &[f64], engine: &Engine) {
    let card = pool.card();
    let got: Vec<f64> = match (&answer.score, &answer.probabilities) {
        (Some(score), None) => vec![f64::from(*score)],
        (None, Some(probabilities)) => {
            let classes = &engine.catalog().task(&card.task).unwrap().schema.classes;
            classes.iter().map(|class| f64::from(probabilities[class])).collect()
        }
        other => panic!("neither score nor probabilities: {other:?}"),
    };
    assert_eq!(got.len(), want.len());
    for (got, want) in got.iter().zip(want) {
        let within = 1e-5 * want.abs().max(1.0);
        assert!((got - want).abs() <= within, "{}/{}: {got} and not {want}", card.task, card.model);
    }
}
