//! The commands for model files: what they write, what they refuse to write, what scripts can read.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use prost::Message as _;
use worker_native::onnx::proto::ModelProto;

use crate::support::{root, tool};

fn fixture(name: &str) -> PathBuf {
    root().join("worker-native/tests/fixtures").join(name)
}

fn models(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_infer-router"));
    command.arg("models").args(arguments).env("ORT_DYLIB_PATH", tool("ORT_DYLIB_PATH")).output().unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[test]
fn every_slow_export_is_rewritten_and_answers_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.onnx");
    for (name, exact) in [
        ("stock_iforest", true),
        ("stock_lof", false),
        ("zipmap_logreg", true),
        ("zipmap_logreg_names", true),
        ("mlp_fixed_reshape", true),
    ] {
        let (file, rows) = (fixture(&format!("{name}.onnx")), fixture(&format!("{name}.json")));
        let ran = models(&["optimize", text(&file), "-o", text(&out), "--rows", text(&rows), "--no-bench", "--json"]);
        assert!(ran.status.success(), "{name}: {ran:?}");
        let report = json(&ran);
        assert_eq!(report["written"], text(&out));
        assert!(report["parity"]["rows"].as_u64().unwrap() > 2_000, "{report}");
        assert_eq!(report["parity"]["largest_difference"].as_f64() == Some(0.0), exact, "{name}: {report}");
        std::fs::remove_file(&out).unwrap();
    }
}

/// The stock outlier factor with its stored rows changed.
fn other_points(dir: &Path, change: fn(usize, f32) -> f32) -> PathBuf {
    let mut model = ModelProto::decode(std::fs::read(fixture("stock_lof.onnx")).unwrap().as_slice()).unwrap();
    let tensors = &mut model.graph.as_mut().unwrap().initializer;
    let points = tensors.iter_mut().find(|tensor| tensor.name() == "Sc_Scancst").unwrap();
    let values = worker_native::onnx::graph::values_f32(points).unwrap();
    points.raw_data = None;
    points.float_data = values.into_iter().enumerate().map(|(index, value)| change(index, value)).collect();
    let file = dir.join("model.onnx");
    std::fs::write(&file, model.encode_to_vec()).unwrap();
    file
}

#[test]
fn distances_are_computed_in_the_fastest_way_that_answers_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let way = |change| {
        let ran = models(&["optimize", text(&other_points(dir.path(), change)), "--no-bench", "--json"]);
        assert!(ran.status.success(), "{ran:?}");
        json(&ran)["distances"].clone()
    };
    assert_eq!(way(|_, value| value), "cdist");
    assert_eq!(way(|_, value| value + 1_000.0), "cdist", "both sides are moved to the middle");
    // Two clouds far apart: the middle is near neither, and CDist loses the small distances.
    assert_eq!(way(|index, value| if index % 14 < 7 { value } else { value + 5_000.0 }), "exact");
}

#[test]
fn what_answers_differently_is_not_written() {
    // Two classes of one name: a map has one value for both, the tensor that would take its place has two.
    let mut model = ModelProto::decode(std::fs::read(fixture("zipmap_logreg.onnx")).unwrap().as_slice()).unwrap();
    let nodes = &mut model.graph.as_mut().unwrap().node;
    let zip_map = nodes.iter_mut().find(|node| node.op_type() == "ZipMap").unwrap();
    zip_map.attribute[0].ints = vec![0, 0, 2];
    let original = model.encode_to_vec();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("model.onnx");
    std::fs::write(&file, &original).unwrap();
    let ran = models(&["optimize", text(&file), "--json", "--in-place"]);
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    let report = json(&ran);
    assert!(report["written"].is_null() && report["parity"]["worst"]["output"].is_string(), "{report}");
    assert!(String::from_utf8_lossy(&ran.stderr).contains("nothing was written"), "{ran:?}");
    assert_eq!(std::fs::read(&file).unwrap(), original);
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1, "a draft was left behind");
}

#[test]
fn the_input_is_replaced_only_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("model.onnx");
    let original = std::fs::read(fixture("zipmap_logreg.onnx")).unwrap();
    std::fs::write(&file, &original).unwrap();
    let ran = models(&["optimize", text(&file), "-o", text(&file)]);
    assert!(!ran.status.success() && String::from_utf8_lossy(&ran.stderr).contains("--in-place"), "{ran:?}");
    assert!(models(&["optimize", text(&file), "--no-bench"]).status.success());
    assert_eq!(std::fs::read(&file).unwrap(), original);
    let beside = std::fs::read(dir.path().join("model.optimized.onnx")).unwrap();
    assert!(models(&["optimize", text(&file), "--no-bench", "--in-place"]).status.success());
    assert_eq!(std::fs::read(&file).unwrap(), beside);
    // A second time there is nothing to do.
    let again = models(&["optimize", text(&file), "--in-place"]);
    assert!(String::from_utf8_lossy(&again.stdout).contains("Nothing to rewrite"), "{again:?}");
}

#[test]
fn the_gain_is_measured() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.onnx");
    let ran = models(&["optimize", text(&fixture("stock_iforest.onnx")), "-o", text(&out), "--json"]);
    let report = json(&ran);
    for number in ["load_ms", "batch_1_us", "batch_256_us"] {
        let (before, after) = (report["before"][number].as_f64().unwrap(), report["after"][number].as_f64().unwrap());
        assert!(after < before, "{number}: {before} -> {after}");
    }
}

#[test]
fn inspect_says_what_is_in_a_file() {
    let ran = models(&["inspect", text(&fixture("stock_iforest.onnx")), "--json"]);
    let picture = json(&ran);
    assert_eq!(picture["inputs"][0]["type"], "float[?, 7]");
    assert_eq!((picture["operators"]["Sum"].as_u64(), picture["ensembles"][0]["trees"].as_u64()), (Some(1), Some(20)));
    assert!(picture["advice"][0].as_str().unwrap().contains("models optimize"), "{picture}");
    let said = models(&["inspect", text(&fixture("zipmap_logreg.onnx"))]);
    assert!(String::from_utf8_lossy(&said.stdout).contains("seq(map(int64, float[..]))"), "{said:?}");
    let ran = models(&["inspect", text(&fixture("stock_iforest.json"))]);
    assert!(String::from_utf8_lossy(&ran.stderr).contains("no ONNX model"), "{ran:?}");
}

#[test]
fn validate_tells_every_fault_and_fails() {
    let good = models(&["validate", text(&root().join("models"))]);
    assert!(good.status.success(), "{good:?}");
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("task/model/1")).unwrap();
    std::fs::write(dir.path().join("task/task.toml"), "nonsense = 1\n").unwrap();
    let ran = models(&["validate", text(dir.path()), "--json"]);
    assert_eq!(ran.status.code(), Some(1));
    assert!(json(&ran)["faults"][0].as_str().unwrap().contains("task.toml"), "{ran:?}");
}
