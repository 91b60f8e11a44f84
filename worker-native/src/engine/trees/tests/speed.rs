//! How fast the kernel is beside ONNX Runtime, in one process, over changing rows.
//!
//! `cargo test --release -p worker-native --lib trees::tests::speed -- --ignored --nocapture`

use std::time::Instant;

use super::*;

/// More rows than a branch predictor remembers: one row again and again looks up to three times faster.
const ROWS: usize = 16_384;

/// Microseconds a call, the best of five rounds.
fn time(mut call: impl FnMut(&[f32]), features: &[f32], step: usize) -> f64 {
    let round = |call: &mut dyn FnMut(&[f32])| {
        let started = Instant::now();
        features.chunks_exact(step).for_each(&mut *call);
        started.elapsed().as_secs_f64() * 1e6 / (features.len() / step) as f64
    };
    (0..5).map(|_| round(&mut call)).fold(f64::INFINITY, f64::min)
}

#[test]
#[ignore = "a measurement: wants a release build and a quiet machine"]
fn beside_onnx_runtime() {
    let extra = path("../target/tree-speed");
    let mut files: Vec<_> = FILES.iter().map(|(file, output)| (path(file), (*output).to_owned())).collect();
    for entry in std::fs::read_dir(extra).into_iter().flatten() {
        let path = entry.unwrap().path();
        // Further models to measure: OUTPUT.NAME.onnx.
        let output = path.file_name().unwrap().to_str().unwrap().split('.').next().unwrap().to_owned();
        files.push((path, output));
    }
    println!("{:<34} {:>5} {:>9} {:>9} {:>6}", "model", "batch", "ours us", "ORT us", "times");
    for (file, output) in files {
        let model = std::fs::read(&file).unwrap();
        agree(&file.to_string_lossy(), &model, &output, 2000, false);
        let trees = TreeModel::load(&model, &output).unwrap();
        let width = trees.width();
        let mut oracle = Oracle::open(&model, &output, width).unwrap();
        let mut dice = Dice(99);
        let thresholds = thresholds(&model, width);
        let near = |dice: &mut Dice, column: usize| {
            let column = &thresholds[column];
            if column.is_empty() { 0.0 } else { column[dice.roll(column.len())] + dice.share() - 0.5 }
        };
        let features: Vec<f32> = (0..ROWS * width).map(|i| near(&mut dice, i % width)).collect();
        let (mut scratch, mut out) = (Scratch::default(), Vec::new());
        for batch in [1, 256] {
            let ours = |features: &[f32]| {
                out.clear();
                trees.run(&mut scratch, batch, features, &mut out);
                std::hint::black_box(&out);
            };
            let ours = time(ours, &features, batch * width);
            let theirs = time(|features| drop(std::hint::black_box(oracle.run(features))), &features, batch * width);
            let name = file.ancestors().nth(2).and_then(Path::file_name).unwrap().to_string_lossy().into_owned();
            let name = format!("{name}/{}", file.file_stem().unwrap().to_string_lossy());
            println!("{name:<34} {batch:>5} {ours:>9.2} {theirs:>9.2} {:>6.1}", theirs / ours);
        }
    }
}
