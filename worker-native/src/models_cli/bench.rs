//! How fast is a model? Owns how that is measured.
//!
//! Runs rotate through many rows: a tree model that sees one row again and again looks up to three times as fast as
//! it is, since the processor learns its way by heart. The fastest of many blocks counts; what is slower was
//! disturbed.

use std::ops::Range;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::rows::Rows;
use crate::onnx::oracle::{Loaded, Oracle};

/// For one batch size of one model; a block is about as long as a process runs undisturbed on a busy machine.
const BUDGET: Duration = Duration::from_millis(400);
const BLOCKS: u32 = 100;

/// What a model costs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Cost {
    /// Length of the file.
    pub(super) file_bytes: usize,
    /// To open a session, in milliseconds.
    pub(super) load_ms: f64,
    /// A run of one row, in microseconds.
    pub(super) batch_1_us: Option<f64>,
    /// A run of 256 rows, in microseconds.
    pub(super) batch_256_us: Option<f64>,
}

/// Opens a model and says how long it took.
///
/// # Errors
/// As [`Oracle::load`].
pub(super) fn load(oracle: &Oracle, model: &[u8]) -> Result<(Loaded, Duration), String> {
    let start = Instant::now();
    let loaded = oracle.load(model)?;
    Ok((loaded, start.elapsed()))
}

/// Microseconds for one run of so many rows; `None` where the model insists on another number.
///
/// # Errors
/// A model that does not run.
pub(super) fn run_us(model: &mut Loaded, rows: &Rows, batch: usize) -> Result<Option<f64>, String> {
    if model.fixed_rows().is_some_and(|fixed| fixed != batch) || batch == 0 || rows.count < batch {
        return Ok(None);
    }
    let mut next = 0;
    let mut turn = || {
        let start = if next + batch <= rows.count { next } else { 0 };
        next = start + batch;
        Range { start, end: next }
    };
    // The first runs find memory and plan it.
    let mut once = Duration::MAX;
    for _ in 0..10 {
        let start = Instant::now();
        model.spin(&rows.feeds, turn())?;
        once = once.min(start.elapsed());
    }
    let block = (BUDGET / BLOCKS).as_secs_f64() / once.as_secs_f64().max(1e-7);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, and clamped to 1..=100000")]
    let runs = block.clamp(1.0, 100_000.0) as u32;
    let mut best = f64::INFINITY;
    for _ in 0..BLOCKS {
        let start = Instant::now();
        for _ in 0..runs {
            model.spin(&rows.feeds, turn())?;
        }
        best = best.min(start.elapsed().as_secs_f64() / f64::from(runs));
    }
    Ok(Some(best * 1e6))
}
