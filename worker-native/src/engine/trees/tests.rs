//! The kernel against ONNX Runtime, on the repository's models, on scikit-learn's exports and on random forests.

mod build;
mod forests;
mod hostile;
mod speed;

use std::path::{Path, PathBuf};

use super::oracle::Oracle;
use super::read::{Mode, RawNode};
use prost::Message as _;

use super::*;
use crate::onnx::graph;
use crate::onnx::rewrite::{self, Distances};

use forests::Forest;

/// A tree model with the output that is compared.
const FILES: [(&str, &str); 9] = [
    ("../models/pump-anomaly/isolation_forest/1/model.onnx", "score"),
    ("../models/hydraulic-leak/hist_gradient_boosting/1/model.onnx", "probabilities"),
    ("tests/fixtures/decision_tree_regressor.onnx", "variable"),
    ("tests/fixtures/extra_trees_regressor.onnx", "variable"),
    ("tests/fixtures/gbc.onnx", "probabilities"),
    ("tests/fixtures/gbc_binary.onnx", "probabilities"),
    ("tests/fixtures/hgb.onnx", "probabilities"),
    ("tests/fixtures/hgb_binary.onnx", "probabilities"),
    ("tests/fixtures/rf_classifier.onnx", "probabilities"),
];

/// An isolation forest as it is exported, which only `onnx::rewrite` makes one ensemble of.
const STOCK_FOREST: &str = "tests/fixtures/stock_iforest.onnx";

fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

fn read_file(file: &str) -> Vec<u8> {
    std::fs::read(path(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// [`STOCK_FOREST`] with its trees in one ensemble.
fn fused_forest() -> Vec<u8> {
    let stock = graph::decode(&read_file(STOCK_FOREST), MAX_BYTES).unwrap();
    let (fused, done) = rewrite::optimize(stock, Distances::Exact);
    assert!(done.trees > 0, "{done:?}");
    fused.encode_to_vec()
}

/// Rows, and what the library a file was exported from answers to them.
#[derive(serde::Deserialize)]
struct Sample {
    output: String,
    inputs: Vec<Vec<f32>>,
    outputs: Vec<Vec<f32>>,
}

/// Xorshift: the same rows on every machine.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 11) % sides as u64).unwrap()
    }

    fn share(&mut self) -> f32 {
        self.roll(1 << 24) as f32 / (1 << 24) as f32
    }
}

/// The thresholds of each column of the first ensemble.
fn thresholds(model: &[u8], width: usize) -> Vec<Vec<f32>> {
    let model = graph::decode(model, MAX_BYTES).unwrap();
    let nodes = &model.graph.as_ref().unwrap().node;
    let ensemble = nodes.iter().find(|node| read::is_ensemble(node)).unwrap();
    let raw = read::ensemble(ensemble, usize::from(ensemble.op_type() == "TreeEnsembleClassifier")).unwrap();
    let mut columns = vec![Vec::new(); width];
    for node in raw.nodes {
        if let RawNode::Branch { feature, threshold, .. } = node {
            columns[feature as usize].push(threshold);
        }
    }
    columns
}

/// Rows around the thresholds, on them, one step beside them, and with NaN and infinities.
fn rows(thresholds: &[Vec<f32>], count: usize, dice: &mut Dice) -> Vec<f32> {
    let mut values = Vec::new();
    for _ in 0..count {
        // Half of the rows are plain, so that both ways through the kernel are taken.
        let plain = dice.roll(2) == 0;
        for column in thresholds {
            let near = if column.is_empty() { 0.0 } else { column[dice.roll(column.len())] };
            values.push(match dice.roll(if plain { 12 } else { 16 }) {
                0 => near,
                1 => near.next_up(),
                2 => near.next_down(),
                3 => -0.0,
                4..=7 => near + dice.share() - 0.5,
                8..=11 => near * (0.5 + dice.share()),
                12 => f32::INFINITY,
                13 => f32::NEG_INFINITY,
                _ => f32::NAN,
            });
        }
    }
    values
}

fn best(row: &[f32]) -> usize {
    (0..row.len()).rev().max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap()
}

/// Compares kernel and oracle on `count` rows; `exact` asks for the same bits.
fn agree(name: &str, model: &[u8], output: &str, count: usize, exact: bool) {
    let trees = TreeModel::load(model, output).unwrap_or_else(|reason| panic!("{name}: {reason}"));
    let (width, columns) = (trees.width(), trees.columns());
    let mut oracle = Oracle::open(model, output, width).unwrap();
    let features = rows(&thresholds(model, width), count, &mut Dice(0x2545_f491_4f6c_dd1d));
    let (mut scratch, mut ours) = (Scratch::default(), Vec::new());
    trees.run(&mut scratch, count, &features, &mut ours);
    assert_eq!(ours.len(), count * columns, "{name}");
    let theirs = oracle.run(&features);
    assert_eq!(theirs.len(), ours.len(), "{name}");
    for (row, (ours, theirs)) in ours.chunks(columns).zip(theirs.chunks(columns)).enumerate() {
        let input = &features[row * width..(row + 1) * width];
        for (a, b) in ours.iter().zip(theirs) {
            let same = a.to_bits() == b.to_bits() || !exact && (a - b).abs() <= 1e-6 * b.abs().max(1.0);
            assert!(same, "{name}: row {row}: {ours:?}, not {theirs:?}, for {input:?}");
        }
        assert_eq!(best(ours), best(theirs), "{name}: row {row}: {ours:?}, not {theirs:?}");
    }
    // Alone and in any batch a row gives the same bits.
    for size in [1, 7, 9, 64] {
        let mut again = Vec::new();
        for batch in features.chunks(size * width).take(40) {
            trees.run(&mut scratch, batch.len() / width, batch, &mut again);
        }
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&again), bits(&ours[..again.len()]), "{name}: batches of {size}");
    }
}

#[test]
fn trained_models_are_answered_as_onnx_runtime_answers_them() {
    for (file, output) in FILES {
        agree(file, &read_file(file), output, 10_000, false);
    }
    agree(STOCK_FOREST, &fused_forest(), "scores", 10_000, false);
}

#[test]
fn exports_are_answered_as_scikit_learn_answers() {
    let exports = FILES.into_iter().filter(|(file, _)| file.contains("fixtures")).map(|(file, _)| file);
    let mut models: Vec<_> = exports.map(|file| (file, read_file(file))).collect();
    models.push((STOCK_FOREST, fused_forest()));
    for (file, model) in models {
        let sample: Sample = serde_json::from_slice(&read_file(&file.replace(".onnx", ".json"))).unwrap();
        let trees = TreeModel::load(&model, &sample.output).unwrap();
        let mut ours = Vec::new();
        trees.run(&mut Scratch::default(), sample.inputs.len(), &sample.inputs.concat(), &mut ours);
        let theirs = sample.outputs.concat();
        assert_eq!(ours.len(), theirs.len(), "{file}");
        // The library computes in float64, the export in float32.
        for (place, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
            assert!((ours - theirs).abs() <= 1e-4, "{file}: value {place} is {ours}, not {theirs}");
        }
    }
}

#[test]
fn every_mode_aggregate_and_transform_is_onnx_runtimes() {
    use Mode::{Eq, Gt, Gte, Leq, Lt, Neq};
    let mut seed = 7;
    for modes in [&[Leq][..], &[Lt], &[Gte], &[Gt], &[Eq], &[Neq], &[Leq, Lt, Gte, Gt, Eq, Neq]] {
        for missing in [false, true] {
            for aggregate in ["SUM", "AVERAGE", "MIN", "MAX"] {
                seed += 1;
                let all_targets = seed % 3 == 0;
                let forest = Forest { modes, missing, seed, all_targets, ..Forest::default() };
                for targets in [1, 3] {
                    let name = format!("{modes:?} {missing} {aggregate} {targets}");
                    let base = all_targets || targets == 1 || matches!(aggregate, "MIN" | "MAX");
                    agree(&name, &forest.regressor(targets, aggregate, "NONE", base), "Y", 200, true);
                    agree(&format!("v5 {name}"), &forest.by_position(targets, aggregate), "Y", 200, true);
                }
            }
        }
    }
    let forest = Forest::default();
    for transform in ["NONE", "LOGISTIC", "SOFTMAX"] {
        let exact = transform == "NONE";
        agree(transform, &forest.regressor(1, "SUM", transform, false), "Y", 2000, true);
        agree(transform, &forest.regressor(4, "SUM", transform, true), "Y", 2000, exact);
        agree(transform, &forest.classifier(3, transform, true), "Y", 2000, exact);
        agree(transform, &forest.classifier(2, transform, false), "Y", 2000, exact);
    }
    let deep = Forest { trees: 19, depth: 40, ..Forest::default() };
    agree("deep", &deep.regressor(1, "SUM", "NONE", true), "Y", 2000, true);
    let single = Forest { trees: 3, depth: 0, ..Forest::default() };
    agree("leaves only", &single.regressor(2, "SUM", "NONE", true), "Y", 100, true);
    let wide = Forest { width: 300, ..Forest::default() };
    agree("wide", &wide.regressor(1, "AVERAGE", "NONE", true), "Y", 1000, true);
}

#[test]
fn operators_around_the_trees_are_onnx_runtimes() {
    for (name, chain, columns) in forests::chains() {
        let model = Forest::default().between(&chain, columns);
        agree(name, &model, "out", 2000, false);
    }
}

#[test]
fn other_graphs_are_refused_for_a_stated_reason() {
    let refused = |model: &[u8], output: &str, reason: &str| {
        let said = TreeModel::load(model, output).map(|_| ()).unwrap_err();
        assert!(said.contains(reason), "{said:?} does not say {reason:?}");
    };
    refused(&read_file(FILES[0].0), "nothing", "no output \"nothing\"");
    refused(&read_file("tests/fixtures/gbc.onnx"), "label", "labels");
    refused(&fused_forest(), "label", "Less (making \"predict_C01\") is not known");
    refused(&read_file("../models/pump-anomaly/autoencoder/1/model.onnx"), "score", "leaves float32");
    refused(&read_file("../models/hydraulic-leak/logreg/1/model.onnx"), "probabilities", "Gemm");
    let forest = Forest::default();
    refused(&forest.regressor(1, "SUM", "PROBIT", false), "Y", "PROBIT");
    refused(&forest.regressor(3, "SUM", "SOFTMAX_ZERO", false), "Y", "SOFTMAX_ZERO");
    refused(
        &Forest { trees: 2, all_targets: false, ..Forest::default() }.regressor(3, "SUM", "NONE", true),
        "Y",
        "base value",
    );
    refused(b"nonsense", "Y", "no ONNX model");
}
