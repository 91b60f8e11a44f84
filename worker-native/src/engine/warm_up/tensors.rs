//! A first run of models that take any tensors.
//!
//! Nothing is known of what they like, so they are tried with zeros (texts with `0`). A model that
//! refuses zeros is served all the same, but never in batches: only a run can show that its rows
//! do not mix.

use std::time::{Duration, Instant};

use super::super::backend::Runner;
use super::super::tensor::{Data, DataType, Signature, Tensor, TensorSpec};
use super::Timing;

/// Where nothing could be measured.
const UNKNOWN: Duration = Duration::from_millis(1);

/// Tries a model; gives the most rows it may get in one run (0: its first axis is no batch), and its times.
pub(in crate::engine) fn try_out(
    runner: &mut dyn Runner,
    signature: &Signature,
    cap: Option<usize>,
    label: &str,
) -> (usize, Timing) {
    let unbatched = |took| (0, Timing { max_batch: 1, single: took, largest: took });
    let Ok((alone, single)) = run(runner, signature, 1) else {
        tracing::warn!(model = label, "it refuses a first run with zeros; it is served, but not in batches");
        return unbatched(UNKNOWN);
    };
    let Some(cap) = cap else { return unbatched(single) };
    for rows in [2, 3] {
        let same = run(runner, signature, rows).is_ok_and(|(outputs, _)| {
            outputs.len() == alone.len()
                && outputs.iter().zip(&alone).all(|(batch, alone)| {
                    batch.rows() == rows && batch.rows_of(0..1).is_some_and(|first| first.data == alone.data)
                })
        });
        if !same {
            tracing::warn!(
                model = label,
                rows,
                "a row in a batch gives another answer than alone; it is not served in batches"
            );
            return unbatched(single);
        }
    }
    let largest = run(runner, signature, cap).map_or(UNKNOWN, |(_, took)| took);
    (cap, Timing { max_batch: cap, single, largest })
}

fn run(runner: &mut dyn Runner, signature: &Signature, rows: usize) -> Result<(Vec<Tensor>, Duration), ()> {
    let inputs: Vec<Tensor> = signature.inputs.iter().map(|input| zeros(input, rows)).collect();
    let first = runner.run_tensors(&inputs).map_err(drop)?;
    let started = Instant::now();
    drop(runner.run_tensors(&inputs));
    Ok((first, started.elapsed()))
}

/// A tensor of zeros with `rows` rows; other open axes have length 1.
fn zeros(spec: &TensorSpec, rows: usize) -> Tensor {
    let shape: Vec<usize> = spec
        .shape
        .iter()
        .enumerate()
        .map(|(i, axis)| if *axis < 0 { if i == 0 { rows } else { 1 } } else { usize::try_from(*axis).unwrap_or(1) })
        .collect();
    let count = shape.iter().product();
    let data = match spec.data_type {
        DataType::Bool => Data::Bool(vec![false; count]),
        DataType::Uint8 => Data::Uint8(vec![0; count]),
        DataType::Uint16 => Data::Uint16(vec![0; count]),
        DataType::Uint32 => Data::Uint32(vec![0; count]),
        DataType::Uint64 => Data::Uint64(vec![0; count]),
        DataType::Int8 => Data::Int8(vec![0; count]),
        DataType::Int16 => Data::Int16(vec![0; count]),
        DataType::Int32 => Data::Int32(vec![0; count]),
        DataType::Int64 => Data::Int64(vec![0; count]),
        DataType::Fp16 => Data::Fp16(vec![0; count]),
        DataType::Fp32 => Data::Fp32(vec![0.0; count]),
        DataType::Fp64 => Data::Fp64(vec![0.0; count]),
        DataType::Bytes => Data::Bytes(vec![b"0".to_vec(); count]),
    };
    Tensor { name: spec.name.clone(), shape, data }
}
