//! What runs a model: the one seam between batching and the libraries that compute.
//!
//! A backend opens runners; a runner belongs to one worker and is never shared. `runtime` has ONNX
//! Runtime's, `native` that of the kernel for tree ensembles (`trees`).

use std::sync::Arc;

use super::tensor::{Signature, Tensor};

/// Opens runners of one model file.
pub(super) trait Backend: Send + Sync + std::fmt::Debug {
    /// `onnxruntime` or `native-trees`.
    fn name(&self) -> &'static str;

    /// What the file takes and gives.
    fn signature(&self) -> &Signature;

    /// Opens one more runner.
    ///
    /// # Errors
    /// A message about the model, for the operator.
    fn open(&self) -> Result<Box<dyn Runner>, String>;

    /// The pool has the runners it wants: what only opening needs can be let go.
    fn release(&self) {}
}

/// Readings of a batch, in the form the model takes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rows<'a> {
    /// Numbers, row after row.
    Features { rows: usize, values: &'a [f32] },
    /// One text a row.
    Texts(&'a [String]),
}

impl Rows<'_> {
    /// How many readings.
    pub(super) const fn count(&self) -> usize {
        match self {
            Self::Features { rows, .. } => *rows,
            Self::Texts(texts) => texts.len(),
        }
    }
}

/// Runs batches of one model; used by one worker at a time.
pub(super) trait Runner: Send {
    /// Runs readings; adds `columns` numbers for each to `out`, row after row.
    fn run_rows(&mut self, rows: Rows<'_>, out: &mut Vec<f32>) -> Result<(), RunError>;

    /// Runs named tensors as they are; gives all outputs.
    fn run_tensors(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError>;

    /// What ends a run that takes too long, where the backend can be interrupted.
    fn stop_switch(&self) -> Option<Arc<dyn StopSwitch>> {
        None
    }
}

/// Ends a runner's run from another thread.
pub(super) trait StopSwitch: Send + Sync + std::fmt::Debug {
    /// Ends the run under way; it returns an error as soon as the library looks.
    fn stop(&self);
    /// Makes the next run possible again.
    fn reset(&self);
}

/// Why a run gave no rows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// The input does not fit the model: the caller's fault.
    #[error("{0}")]
    Invalid(String),
    /// The model or the library failed, in the library's own words.
    #[error("{0}")]
    Failed(String),
    /// The deadline passed while it waited; it was never started.
    #[error("the deadline passed while the reading waited for the model")]
    Expired,
}
