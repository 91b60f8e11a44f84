//! Tree ensembles without ONNX Runtime: a small, exact kernel for the graphs that it knows.
//!
//! A tree model answers in a microsecond, and most of what ONNX Runtime takes for it is the way in and out. Here a
//! graph becomes flat arrays once (`read`, `flat`, `load`), and eight descents run side by side without a branch
//! that the processor would have to guess (`run`). The few elementwise operators around the trees run as a list of
//! steps (`program`). Sums are taken in float32 in the trees' order, as ONNX Runtime takes them, so that scores
//! agree to the last bit before `exp` and to 1e-6 after it.
//!
//! This owns no fallback and no routing: a graph that it cannot answer exactly is refused with a reason, and the
//! caller asks ONNX Runtime, which stays the reference (`oracle` in the tests).

mod flat;
mod load;
#[cfg(test)]
mod oracle;
mod program;
mod read;
mod run;
#[cfg(test)]
mod tests;

pub(crate) use program::Scratch;
use program::{Program, TILE_ROWS};

/// A larger file is not looked into: decoded messages take many times their bytes.
const MAX_BYTES: usize = 64 << 20;

/// A tree model, ready to run; immutable, to be shared by all workers.
#[derive(Debug)]
pub(crate) struct TreeModel {
    program: Program,
}

impl TreeModel {
    /// Reads the graph behind `output` of an ONNX file.
    ///
    /// # Errors
    /// The reason, when this graph is not one the kernel can answer exactly; another runtime may still run it.
    pub(crate) fn load(model: &[u8], output: &str) -> Result<Self, String> {
        load::program(model, output, MAX_BYTES).map(|program| Self { program })
    }

    /// Columns of the input.
    pub(crate) fn width(&self) -> usize {
        self.program.width()
    }

    /// Columns of the output.
    pub(crate) fn columns(&self) -> usize {
        self.program.columns()
    }

    /// Appends `rows` × [`columns`](Self::columns) values to `out`, for `rows` × [`width`](Self::width) values of
    /// `features`; rows that `features` is too short for are left out.
    ///
    /// Nothing is allocated once `scratch` has seen this model and `out` has room.
    pub(crate) fn run(&self, scratch: &mut Scratch, rows: usize, features: &[f32], out: &mut Vec<f32>) {
        let wanted = rows.saturating_mul(self.width()).min(features.len());
        let features = features.get(..wanted).unwrap_or_default();
        for tile in features.chunks(self.width() * TILE_ROWS) {
            self.program.run(scratch, tile, out);
        }
    }
}
