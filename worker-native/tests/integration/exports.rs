//! What scikit-learn's own exporter writes is served as it is: ZipMap's lists of maps, forests, boosting, regressors.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::Value;
use shared::reading::Input;
use tokio_util::task::TaskTracker;
use worker_native::engine::{Answer, Engine, ModelVersion, Prediction};

use crate::engine::config;
use crate::support::models::sha256_hex;
use crate::support::root;

fn fixture(name: &str) -> (Vec<u8>, Value) {
    let at = |kind: &str| root().join("worker-native/tests/fixtures").join(format!("{name}.{kind}"));
    (fs::read(at("onnx")).unwrap(), serde_json::from_str(&fs::read_to_string(at("json")).unwrap()).unwrap())
}

fn numbers(row: &Value) -> Vec<f32> {
    match row {
        Value::Array(row) => serde_json::from_value(Value::Array(row.clone())).unwrap(),
        one => vec![serde_json::from_value(one.clone()).unwrap()],
    }
}

/// A task of the fixture's width, with the export as its one model.
fn add(dir: &Path, name: &str) {
    let (file, said) = fixture(name);
    let task = name.replace('_', "-");
    let model = dir.join(&task).join("export");
    fs::create_dir_all(model.join("1")).unwrap();
    fs::write(model.join("1/model.onnx"), &file).unwrap();
    let classes: Vec<String> = said["classes"]
        .as_array()
        .map(|classes| classes.iter().map(|class| class.to_string().trim_matches('"').to_owned()).collect())
        .unwrap_or_default();
    let (kind, output) = if classes.is_empty() { ("regression", "value") } else { ("classification", "probabilities") };
    let mut text = format!("name = \"{task}\"\nkind = \"{kind}\"\ntiers = [\"fast\"]\n");
    if !classes.is_empty() {
        writeln!(text, "classes = {classes:?}").unwrap();
    }
    for i in 0..numbers(&said["inputs"][0]).len() {
        writeln!(text, "[[fields]]\nname = \"x{i}\"\ntype = \"number\"").unwrap();
    }
    fs::write(dir.join(&task).join("task.toml"), text).unwrap();
    let text = format!(
        "name = \"export\"\ntype = \"sklearn\"\ntier = \"fast\"\ndefault_version = 1\n\
         [output]\nkind = \"{output}\"\nname = {}\n[versions.1]\nsha256 = \"{}\"\n",
        said["output"],
        sha256_hex(&file)
    );
    fs::write(model.join("model.toml"), text).unwrap();
}

/// An answer's numbers, in the order in which scikit-learn gives them.
fn given(version: &ModelVersion, answer: &Answer) -> Vec<f32> {
    match answer.prediction {
        Prediction::Value(value) => vec![value],
        Prediction::Class(_) => version.card().probabilities(answer),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_exports_answer_as_scikit_learn_does() {
    let dir = tempfile::tempdir().unwrap();
    let names = [
        "zipmap_logreg",
        "zipmap_logreg_names",
        "rf_classifier",
        "gbc",
        "hgb",
        "decision_tree_regressor",
        "extra_trees_regressor",
    ];
    names.iter().for_each(|name| add(dir.path(), name));
    let tasks = TaskTracker::new();
    let engine = Engine::load(&config(dir.path(), &[("MODEL_SESSIONS", "1")]), &tasks).await.unwrap();
    assert_eq!(engine.index().faults, Vec::<String>::new());
    for name in names {
        let (_, said) = fixture(name);
        let version = engine.version(&name.replace('_', "-"), "export", 1).unwrap();
        let rows = said["inputs"].as_array().unwrap().iter().zip(said["outputs"].as_array().unwrap());
        let asked = rows.map(|(input, want)| (Input::Features(numbers(input)), numbers(want)));
        let mut compared = 0;
        for (input, want) in asked {
            let row = version.row(input.clone(), None).await.unwrap();
            let answer = row.card.read(&row.values, &input).unwrap();
            let got = given(&version, &answer);
            assert_eq!(got.len(), want.len(), "{name}");
            for (got, want) in got.iter().zip(&want) {
                assert!((got - want).abs() <= 1e-4 * want.abs().max(1.0), "{name}: {got} and not {want}");
            }
            compared += 1;
        }
        assert!(compared >= 8, "{name}: {compared} rows");
    }
    engine.shut_down(&tasks).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_mixes_rows_up_is_refused_with_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    add(dir.path(), "mlp_fixed_reshape");
    let fault = Engine::load(&config(dir.path(), &[]), &TaskTracker::new()).await.unwrap_err().to_string();
    assert!(fault.contains("mlp-fixed-reshape.export v1") && fault.contains("models optimize"), "{fault}");
}
