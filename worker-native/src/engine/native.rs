//! The native kernel for tree ensembles as a backend: rows by the kernel, tensors by ONNX Runtime.
//!
//! The kernel answers one output of one kind of graph. Whoever asks for tensors wants all outputs,
//! so each worker has a session as well, which also is the oracle that the loader holds it against.

use std::sync::Arc;

use super::backend::{Backend, Rows, RunError, Runner, StopSwitch};
use super::runtime::OrtBackend;
use super::tensor::{Signature, Tensor};
use super::trees::{Scratch, TreeModel};

/// A tree ensemble in our own form, with the file it came from.
#[derive(Debug)]
pub(super) struct NativeTrees {
    trees: Arc<TreeModel>,
    ort: OrtBackend,
    signature: Signature,
}

impl NativeTrees {
    pub(super) fn new(trees: Arc<TreeModel>, ort: OrtBackend, max_batch: usize) -> Self {
        let signature = Signature { max_batch, ..ort.signature.clone() };
        Self { trees, ort, signature }
    }
}

impl Backend for NativeTrees {
    fn name(&self) -> &'static str {
        "native-trees"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn open(&self) -> Result<Box<dyn Runner>, String> {
        Ok(Box::new(TreeRunner { ort: Some(self.ort.open()?), ..TreeRunner::rows_only(Arc::clone(&self.trees)) }))
    }

    fn release(&self) {
        self.ort.release();
    }
}

/// The kernel with its buffers.
pub(super) struct TreeRunner {
    trees: Arc<TreeModel>,
    scratch: Scratch,
    ort: Option<Box<dyn Runner>>,
}

impl TreeRunner {
    /// A runner that takes rows only.
    pub(super) fn rows_only(trees: Arc<TreeModel>) -> Self {
        Self { trees, scratch: Scratch::default(), ort: None }
    }
}

impl Runner for TreeRunner {
    fn run_rows(&mut self, rows: Rows<'_>, out: &mut Vec<f32>) -> Result<(), RunError> {
        let Rows::Features { rows, values } = rows else {
            return Err(RunError::Invalid("trees take numbers, not texts".to_owned()));
        };
        if values.len() != rows * self.trees.width() {
            return Err(RunError::Invalid(format!("{} numbers a row are wanted", self.trees.width())));
        }
        self.trees.run(&mut self.scratch, rows, values, out);
        Ok(())
    }

    fn run_tensors(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
        match &mut self.ort {
            Some(ort) => ort.run_tensors(inputs),
            None => Err(RunError::Failed("this runner takes rows only".to_owned())),
        }
    }

    fn stop_switch(&self) -> Option<Arc<dyn StopSwitch>> {
        self.ort.as_ref().and_then(|ort| ort.stop_switch())
    }
}
